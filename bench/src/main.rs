//! `bench-streams`: the program under measurement. Without arguments it obeys the app protocol of `bench/README.md`; with a command it
//! measures by itself.

#![expect(
    clippy::disallowed_methods,
    reason = "measuring is about real time, and the harness is waited for as it asks"
)]

mod app;
mod cpu;
mod datasets;
mod embedded;
mod first_result;
mod growth;
mod latency;
mod pump;
mod settings;
mod ttd;
mod workloads;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workloads::Workload;

// The allocator that the README advises for services; the system's gives memory back later and costs more per call.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Workloads of the benchmarks. Without a command, orders come from BENCH_* variables (bench/README.md, "App protocol").
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Records through the topology test driver, no broker.
    Ttd {
        /// A workload of one input topic: wordcount, clicks, hopping-60, passthrough or sessions.
        #[arg(long)]
        workload: String,
        /// Records of a round.
        #[arg(long, default_value_t = 100_000)]
        n: u64,
        /// Rounds; the median counts.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// Record cache in bytes; 0 is off.
        #[arg(long)]
        cache: Option<String>,
        /// Stores in RocksDB (rocks) or in memory (mem).
        #[arg(long, default_value = "rocks", value_parser = ["rocks", "mem"])]
        store: String,
    },
    /// Paced latency with sender, application and reader in this process.
    Lat {
        /// wordcount, clicks, passthrough, or none, for producer, broker and consumer alone.
        #[arg(long, default_value = "clicks")]
        workload: String,
        /// Records a second.
        #[arg(long, default_value_t = 50_000)]
        rate: u64,
        /// Seconds measured.
        #[arg(long, default_value_t = 15)]
        seconds: u64,
        /// Seconds before that.
        #[arg(long, default_value_t = 5)]
        warmup: u64,
        /// Record cache in bytes; 0 is off.
        #[arg(long, default_value = "0")]
        cache: String,
        /// When a write counts as done: process or power.
        #[arg(long, default_value = "process", value_parser = ["process", "power"])]
        durability: String,
    },
    /// What a record costs as the input grows, each size with a broker of its own.
    Growth {
        /// Workloads, comma separated.
        #[arg(long, value_delimiter = ',', default_value = "clicks,hopping-60,sessions,streamjoin,enrich,fkjoin")]
        workloads: Vec<String>,
        /// Records of the main input, comma separated.
        #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
        sizes: Vec<u64>,
        /// Record cache in bytes; 0 is off.
        #[arg(long, default_value = "0")]
        cache: String,
    },
    /// Time from process start to the first result of a word count.
    FirstResult {
        /// Starts; the median counts.
        #[arg(long, default_value_t = 11)]
        runs: usize,
    },
    /// One start, for `first-result`.
    #[command(hide = true)]
    FirstResultOnce,
}

fn main() -> Result<()> {
    // Silent unless RUST_LOG asks for more: writing logs costs CPU time.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match Arguments::parse().command {
        None => app::run(),
        Some(Command::Ttd { workload, n, runs, cache, store }) => {
            ttd::run(Workload::named(&workload)?, n, runs.max(1), cache.as_deref(), store == "rocks")
        }
        Some(Command::Lat { workload, rate, seconds, warmup, cache, durability }) => {
            let workload = (workload != "none").then(|| Workload::named(&workload)).transpose()?;
            latency::run(latency::Plan { workload, rate, seconds, warmup, cache: &cache, durability: &durability })
        }
        Some(Command::Growth { workloads, sizes, cache }) => {
            let workloads = workloads.iter().map(|name| Workload::named(name)).collect::<Result<Vec<_>>>()?;
            growth::run(&workloads, &sizes, &cache)
        }
        Some(Command::FirstResult { runs }) => first_result::run(runs.max(1)),
        Some(Command::FirstResultOnce) => first_result::once(),
    }
}
