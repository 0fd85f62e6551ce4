//! Options of `millstream perf`.

use clap::{Args, Subcommand};

use super::{Cluster, count};

/// `millstream perf`.
#[derive(Subcommand)]
pub enum PerfCommand {
    /// Throughput of a producer, and how long its records take to be acknowledged
    #[command(after_help = "Examples:\n\
        \x20 millstream perf produce load --records 1000000 --size 100 --bootstrap 127.0.0.1:9092\n\
        \x20 millstream perf produce load --records 60000 --size 1000 --rate 1000 --set compression.type=lz4 \\\n\
        \x20     --bootstrap 127.0.0.1:9092")]
    Produce(PerfProduceOptions),
    /// Throughput of a consumer
    #[command(after_help = "Examples:\n\
        \x20 millstream perf consume load --records 1000000 --bootstrap 127.0.0.1:9092")]
    Consume(PerfConsumeOptions),
    /// How long records take from producer to consumer at a fixed rate
    #[command(after_help = "Examples:\n\
        \x20 millstream perf end-to-end load --records 60000 --rate 1000 --bootstrap 127.0.0.1:9092")]
    EndToEnd(PerfEndToEndOptions),
    /// How long one record at a time takes: acks=all, no linger, the next one sent when the last has arrived
    #[command(after_help = "Examples:\n\
        \x20 millstream perf latency load --records 10000 --bootstrap 127.0.0.1:9092")]
    Latency(PerfLatencyOptions),
}

/// Which cluster, and how what was measured is shown.
#[derive(Args)]
pub struct PerfResult {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// What is sent one way and received at the other end.
#[derive(Args)]
pub struct ProbeOptions {
    /// The topic; records of others in it are not counted
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Bytes of each value, 16 at least
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(16..))]
    pub size: u32,
    /// A setting of producer, consumer or connections by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The cluster, and how the result is shown
    #[command(flatten)]
    pub result: PerfResult,
}

/// `millstream perf produce`.
#[derive(Args)]
pub struct PerfProduceOptions {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// How many records
    #[arg(long, value_name = "N", value_parser = count::<u64>)]
    pub records: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = count::<u32>)]
    pub size: u32,
    /// Records a second; as many as go without it
    #[arg(long, value_name = "N", value_parser = count::<u64>)]
    pub rate: Option<u64>,
    /// A setting of the producer or its connections by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The cluster, and how the result is shown
    #[command(flatten)]
    pub result: PerfResult,
}

/// `millstream perf consume`.
#[derive(Args)]
pub struct PerfConsumeOptions {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// How many records, from the beginning of the topic
    #[arg(long, value_name = "N", value_parser = count::<u64>)]
    pub records: u64,
    /// How long to wait for the next record before giving up
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = count::<i64>)]
    pub timeout_ms: i64,
    /// Join this group; without it all partitions are read outside any group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// A setting of the consumer or its connections by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The cluster, and how the result is shown
    #[command(flatten)]
    pub result: PerfResult,
}

/// `millstream perf end-to-end`.
#[derive(Args)]
pub struct PerfEndToEndOptions {
    /// How many records
    #[arg(long, value_name = "N", value_parser = count::<u64>)]
    pub records: u64,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = count::<u64>)]
    pub rate: u64,
    /// What is sent, and where
    #[command(flatten)]
    pub probe: ProbeOptions,
}

/// `millstream perf latency`.
#[derive(Args)]
pub struct PerfLatencyOptions {
    /// How many records are measured
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = count::<u64>)]
    pub records: u64,
    /// How many records are sent before that
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub warmup: u64,
    /// What is sent, and where
    #[command(flatten)]
    pub probe: ProbeOptions,
}
