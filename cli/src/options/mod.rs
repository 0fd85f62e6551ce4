//! The command line: what can be asked, the help that teaches it, and refusals that name the nearest known word.

mod broker;
mod configs;
mod dump_log;
mod groups;
mod perf;
mod records;
mod refusal;
mod topics;
mod topology;
mod transactions;

use std::ffi::OsString;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::report::Failure;

pub use broker::BrokerOptions;
pub use configs::{AlterConfigsOptions, ConfigsCommand, DescribeConfigsOptions, Resource};
pub use dump_log::DumpLogOptions;
pub use groups::{
    DeleteOffsetsOptions, DescribeGroupsOptions, GroupsCommand, ListGroupsOptions, NamedGroups, ResetOffsetsOptions,
};
pub use perf::{
    PerfCommand, PerfConsumeOptions, PerfEndToEndOptions, PerfLatencyOptions, PerfProduceOptions, ProbeOptions,
};
pub use records::{ConsumeOptions, DeleteRecordsOptions, OffsetsOptions, Part, ProduceOptions};
pub use topics::{
    AlterTopicOptions, CreateTopicOptions, DeleteTopicsOptions, DescribeTopicsOptions, ListTopicsOptions, TopicsCommand,
};
pub use topology::{DiffOptions, DrawOptions, PictureFormat, TopologyCommand};
pub use transactions::{
    AbortOptions, DescribeTransactionsOptions, FindHangingOptions, ListTransactionsOptions, ProducersOptions,
    TransactionsCommand,
};

#[derive(Parser)]
#[command(
    name = "millstream",
    version,
    about = "Stream processing with the broker built in",
    long_about = "Stream processing with the broker built in.\n\n\
        `broker` serves Kafka's protocol from one data directory, so that any Kafka client, and every program written\n\
        with Millstream, can use it. The other commands write and read records and look after topics, groups,\n\
        settings and transactions; those that take --bootstrap work against any Kafka cluster.",
    after_help = "Examples:\n  \
        millstream broker --listen 127.0.0.1:9092 --data ./data\n  \
        millstream topics create orders --partitions 4 --bootstrap 127.0.0.1:9092\n  \
        echo hello | millstream produce orders --bootstrap 127.0.0.1:9092\n  \
        millstream consume orders --from-beginning --max-messages 1 --bootstrap 127.0.0.1:9092\n  \
        millstream groups describe billing --bootstrap 127.0.0.1:9092\n  \
        millstream dump-log --json ./data\n\n\
        Set MILLSTREAM_LOG=info (or debug) to see more on stderr.",
    subcommand_required = true,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What was asked.
#[derive(Subcommand)]
pub enum Command {
    /// Serve one data directory to Kafka clients
    #[command(
        long_about = "Serves one data directory to Kafka clients, until it is told to stop by Ctrl-C or SIGTERM.\n\n\
            The directory is made if it is not there. When the broker serves, it says in three lines where its data is,\n\
            how durable it is, and where it listens. Records acknowledged with acks=all survive a power cut;\n\
            --set durability=process trades that for speed, as Kafka does.",
        after_help = "Examples:\n  \
            millstream broker --listen 127.0.0.1:9092 --data ./data\n  \
            millstream broker --listen 0.0.0.0:9092 --advertise broker.example:9092 --data /var/lib/millstream\n  \
            millstream broker --config server.properties --set durability=process\n  \
            millstream broker --listen 127.0.0.1:9092 --listen LAN://0.0.0.0:9094 --advertise LAN://kafka.example:9094 --data d"
    )]
    Broker(BrokerOptions),
    /// List, create, describe, change and delete topics
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        millstream topics list --bootstrap 127.0.0.1:9092\n  \
        millstream topics create orders --partitions 4 --set cleanup.policy=compact --bootstrap 127.0.0.1:9092\n  \
        millstream topics alter orders --partitions 8 --bootstrap 127.0.0.1:9092"
    )]
    Topics(TopicsCommand),
    /// Write records, one for each line of stdin
    #[command(after_help = records::PRODUCE_EXAMPLES)]
    Produce(ProduceOptions),
    /// Print the records of topics
    #[command(after_help = records::CONSUME_EXAMPLES)]
    Consume(ConsumeOptions),
    /// List, describe, reset and delete groups and their offsets
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        millstream groups list --bootstrap 127.0.0.1:9092\n  \
        millstream groups describe billing --bootstrap 127.0.0.1:9092\n  \
        millstream groups reset-offsets billing --topic orders --to-earliest --dry-run --bootstrap 127.0.0.1:9092"
    )]
    Groups(GroupsCommand),
    /// Show and change the settings of topics, brokers and groups
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        millstream configs describe --topic orders --bootstrap 127.0.0.1:9092\n  \
        millstream configs alter --topic orders --set retention.ms=3600000 --bootstrap 127.0.0.1:9092"
    )]
    Configs(ConfigsCommand),
    /// Look into transactions, and end those that hang
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        millstream transactions list --bootstrap 127.0.0.1:9092\n  \
        millstream transactions find-hanging --topic orders --bootstrap 127.0.0.1:9092"
    )]
    Transactions(TransactionsCommand),
    /// Offsets of partitions: first, last, by time
    #[command(after_help = records::OFFSETS_EXAMPLES)]
    Offsets(OffsetsOptions),
    /// Delete the records of partitions below an offset
    #[command(after_help = records::DELETE_RECORDS_EXAMPLES)]
    DeleteRecords(DeleteRecordsOptions),
    /// Show what is in log, index and snapshot files
    #[command(
        long_about = "Shows what is in the files of logs, a line for each record batch or entry, in the order of the log.\n\n\
            PATH is a data directory, the folder of one partition, or one file of it: .log, .index, .timeindex, .txnindex,\n\
            .snapshot or leader-epoch-checkpoint. A broker may have it open; nothing is changed.\n\
            Damage gives exit code 1 and is reported on stderr: a batch whose checksum is wrong is listed as not `valid`;\n\
            bytes that are no batch end the listing of their file.",
        after_help = "Examples:\n  \
            millstream dump-log ./data/orders-0\n  \
            millstream dump-log --json ./data | jq 'select(.valid | not)'\n  \
            millstream dump-log ./data/orders-0/00000000000000000000.timeindex\n  \
            millstream dump-log --decode ./data/__consumer_offsets-0\n  \
            millstream dump-log --check-indexes ./data"
    )]
    DumpLog(DumpLogOptions),
    /// Measure throughput and latency of a cluster
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        millstream perf produce load --records 1000000 --size 100 --bootstrap 127.0.0.1:9092\n  \
        millstream perf latency load --records 10000 --bootstrap 127.0.0.1:9092"
    )]
    Perf(PerfCommand),
    /// Draw topologies, and compare them before a new one is started
    #[command(
        subcommand,
        long_about = "Reads what describe() of a topology printed, here or on the JVM. FILE may be - for stdin, and may be a log\n\
            in which the text stands.",
        after_help = "Examples:\n  \
            millstream topology draw topology.txt --format svg > topology.svg\n  \
            millstream topology diff running.txt next.txt && ./deploy"
    )]
    Topology(TopologyCommand),
    /// Completions of this command line for a shell, on stdout
    #[command(after_help = "Examples:\n  \
        source <(millstream completions bash)\n  \
        millstream completions zsh > ~/.zfunc/_millstream")]
    Completions(CompletionsOptions),
}

/// `millstream completions`.
#[derive(Args)]
pub struct CompletionsOptions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// The command line as a whole, for completions.
pub fn command_line() -> clap::Command {
    CommandLine::command()
}

/// Which cluster.
#[derive(Args)]
pub struct Cluster {
    /// Brokers to start from, comma separated
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
}

/// Which cluster, and how the lines that tell of it are shown.
#[derive(Args)]
pub struct Listing {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Why there is no command to run.
pub enum NotRun {
    /// Help or version was asked for: this text.
    Shown(String),
    /// The command line is wrong.
    Refused(Failure),
}

/// Reads the command line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, NotRun> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = CommandLine::command();
    let parsed =
        command.try_get_matches_from_mut(&arguments).and_then(|matches| CommandLine::from_arg_matches(&matches));
    match parsed {
        Ok(line) => Ok(line.command),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Err(NotRun::Shown(error.to_string())),
            _ => Err(NotRun::Refused(refusal::refusal(&command, &arguments, &error))),
        },
    }
}

/// One `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(&str, &str), Failure> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim(), value)),
        _ => {
            let key = if text.starts_with('=') { "KEY" } else { text };
            Err(Failure::usage(format!("--set {text} is not KEY=VALUE"))
                .hint(&format!("write it as --set {key}=VALUE")))
        }
    }
}

/// A number that must be at least 1.
fn count<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, &'static str> {
    match text.parse() {
        Ok(count) if count >= N::from(1) => Ok(count),
        _ => Err("must be a whole number from 1 on"),
    }
}

/// The host and the port of `HOST:PORT`, where the host may be an IPv6 address in brackets.
pub fn address<'a>(option: &str, given: &'a str) -> Result<(&'a str, u16), Failure> {
    let parsed = given.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parsed {
        Some((host, port)) if !host.is_empty() => Ok((host.trim_start_matches('[').trim_end_matches(']'), port)),
        _ => Err(Failure::usage(format!("{option} {given} is not HOST:PORT")).hint("write it as 127.0.0.1:9092")),
    }
}
