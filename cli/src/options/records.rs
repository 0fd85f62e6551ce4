//! Options of the commands that write, read, find and delete records: `produce`, `consume`, `offsets`, `delete-records`.

use std::path::PathBuf;

use base::PartitionId;
use clap::{Args, ValueEnum};

use super::{Cluster, Listing, count};

pub const PRODUCE_EXAMPLES: &str = "Examples:
  seq 1000 | millstream produce numbers --bootstrap 127.0.0.1:9092
  printf 'k1\\tv1\\nk2\\tv2\\n' | millstream produce orders --keys --acks all --compression zstd --bootstrap 127.0.0.1:9092
  printf 'a:1,b:2|k|v\\n' | millstream produce orders --headers --keys --headers-delimiter '|' --key-separator '|' \\
      --json --bootstrap 127.0.0.1:9092";
pub const CONSUME_EXAMPLES: &str = "Examples:
  millstream consume orders --from-beginning --print key,value --bootstrap 127.0.0.1:9092
  millstream consume orders --partition 0 --offset 100 --max-messages 10 --json --bootstrap 127.0.0.1:9092
  millstream consume orders prices --group billing --isolation read_committed --bootstrap 127.0.0.1:9092
  millstream consume orders --from-beginning --until-end --bootstrap 127.0.0.1:9092 | wc -l";
pub const OFFSETS_EXAMPLES: &str = "Examples:
  millstream offsets orders --bootstrap 127.0.0.1:9092
  millstream offsets orders:0,2-4 prices --time earliest --bootstrap 127.0.0.1:9092
  millstream offsets orders --time 1700000000000 --json --bootstrap 127.0.0.1:9092";
pub const DELETE_RECORDS_EXAMPLES: &str = "Examples:
  millstream delete-records orders:0:1000 orders:1:1200 --bootstrap 127.0.0.1:9092
  millstream delete-records --offset-json-file below.json --bootstrap 127.0.0.1:9092";

/// `millstream produce`.
#[derive(Args)]
pub struct ProduceOptions {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Lines begin with the record's key
    #[arg(long)]
    pub keys: bool,
    /// What stands between key and value; implies --keys
    #[arg(long, value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// Lines begin with headers, before the key
    #[arg(long)]
    pub headers: bool,
    /// What stands behind the headers
    #[arg(long, value_name = "TEXT", default_value = "\\t")]
    pub headers_delimiter: String,
    /// What stands between two headers
    #[arg(long, value_name = "TEXT", default_value = ",")]
    pub headers_separator: String,
    /// What stands between a header's name and value
    #[arg(long, value_name = "TEXT", default_value = ":")]
    pub headers_key_separator: String,
    /// Keys, values and values of headers that are this text are null
    #[arg(long, value_name = "TEXT")]
    pub null_marker: Option<String>,
    /// Skip lines that lack a key or headers, with a word on stderr
    #[arg(long)]
    pub ignore_error: bool,
    /// Write to this partition, whatever the key
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<PartitionId>,
    /// Who must have a record before it counts: 0, 1 or all
    #[arg(long, value_name = "ACKS", default_value = "all", allow_negative_numbers = true)]
    pub acks: String,
    /// Codec: none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none")]
    pub compression: String,
    /// true or false: retries leave each record there once; true unless --acks forbids it
    #[arg(long, value_name = "BOOL", hide_possible_values = true)]
    pub idempotent: Option<bool>,
    /// Write all lines in one transaction, seen as a whole or not at all
    #[arg(long, value_name = "ID")]
    pub transactional_id: Option<String>,
    /// Wait for each record before the next line is read
    #[arg(long)]
    pub sync: bool,
    /// Print where each record was written, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Read lines from this file instead of stdin
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A setting of producer or connections by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// A part of a record that is printed; the variants have no help of their own, which would stretch that of `--print`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    // CreateTime:MS or LogAppendTime:MS
    Timestamp,
    // Partition:N
    Partition,
    // Offset:N
    Offset,
    // NAME:VALUE,NAME:VALUE
    Headers,
    Key,
    Value,
}

/// `millstream consume`.
#[derive(Args)]
pub struct ConsumeOptions {
    /// The topics
    #[arg(value_name = "TOPIC", required_unless_present = "include")]
    pub topics: Vec<String>,
    /// All topics whose whole name matches
    #[arg(long, value_name = "REGEX", conflicts_with = "topics")]
    pub include: Option<String>,
    /// Begin with the first record there is, not with the next to come
    #[arg(long, conflicts_with = "offset")]
    pub from_beginning: bool,
    /// Read this partition only; may be given many times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..), conflicts_with = "group")]
    pub partition: Vec<PartitionId>,
    /// Where to begin: earliest, latest, an offset, or -N for N records before the end
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true, conflicts_with = "group")]
    pub offset: Option<String>,
    /// Join this group and commit what was read
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = count::<u64>)]
    pub max_messages: Option<u64>,
    /// End when no record came for so long
    #[arg(long, value_name = "MS", value_parser = count::<i64>)]
    pub timeout_ms: Option<i64>,
    /// End at what is the end of the partitions now
    #[arg(long, conflicts_with = "group")]
    pub until_end: bool,
    /// Which records are seen: read_uncommitted or read_committed
    #[arg(long, value_name = "LEVEL", default_value = "read_uncommitted")]
    pub isolation: String,
    /// Some of timestamp,partition,offset,headers,key,value, in this order
    #[arg(
        long,
        value_name = "PARTS",
        value_enum,
        value_delimiter = ',',
        default_value = "value",
        hide_possible_values = true,
        conflicts_with = "json"
    )]
    pub print: Vec<Part>,
    /// What is printed between the parts
    #[arg(long, value_name = "TEXT", default_value = "\\t")]
    pub key_separator: String,
    /// What is printed after each record
    #[arg(long, value_name = "TEXT", default_value = "\\n")]
    pub line_separator: String,
    /// What is printed between two headers
    #[arg(long, value_name = "TEXT", default_value = ",")]
    pub headers_separator: String,
    /// What is printed for null
    #[arg(long, value_name = "TEXT", default_value = "null")]
    pub null_literal: String,
    /// One JSON object a line, with everything that is known of the record
    #[arg(long)]
    pub json: bool,
    /// A setting of the consumer or its connections by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `millstream offsets`.
#[derive(Args)]
pub struct OffsetsOptions {
    /// Topics, or some of their partitions as TOPIC:0,2,5-7; all topics, if none is given
    #[arg(value_name = "TOPIC[:PARTITIONS]")]
    pub topics: Vec<String>,
    /// earliest, latest, latest-stable, max-timestamp, or ms since 1970 [default: latest]
    #[arg(long, value_name = "SPEC", default_value = "latest", hide_default_value = true)]
    pub time: String,
    /// Leave out the topics that belong to the broker itself
    #[arg(long)]
    pub exclude_internal: bool,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// `millstream delete-records`.
#[derive(Args)]
pub struct DeleteRecordsOptions {
    /// Partitions and the first offset that is kept; -1 keeps nothing that is there now
    #[arg(value_name = "TOPIC:PARTITION:OFFSET", required_unless_present = "offset_json_file")]
    pub before: Vec<String>,
    /// A file of JSON as Kafka's tool takes it
    #[arg(long, value_name = "FILE", conflicts_with = "before")]
    pub offset_json_file: Option<PathBuf>,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}
