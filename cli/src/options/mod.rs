//! The command line: what can be asked, the help that teaches it, and refusals that name the nearest known word.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::report::Failure;

#[derive(Parser)]
#[command(
    name = "millstream",
    version,
    about = "Stream processing with the broker built in",
    long_about = "Stream processing with the broker built in.\n\n\
        `broker` serves Kafka's protocol from one data directory, so that any Kafka client, and every program written\n\
        with Millstream, can use it. The other commands look into logs, topics and groups; those that take\n\
        --bootstrap work against any Kafka cluster.",
    after_help = "Examples:\n  \
        millstream broker --listen 127.0.0.1:9092 --data ./data\n  \
        millstream topics create orders --partitions 4 --bootstrap 127.0.0.1:9092\n  \
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
    /// List the record batches of log files
    #[command(
        long_about = "Lists the record batches of log files, one line each, in the order of the log.\n\n\
            DIR is a data directory or the folder of one partition; a broker may have it open.\n\
            Nothing is changed. Damage gives exit code 1 and is reported on stderr: a batch whose checksum is wrong is\n\
            listed as not `valid`; bytes that are no batch end the listing of their file.",
        after_help = "Examples:\n  \
            millstream dump-log ./data/orders-0\n  \
            millstream dump-log --json ./data | jq 'select(.valid | not)'"
    )]
    DumpLog(DumpLogOptions),
    /// List, create, describe and delete topics
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        millstream topics list --bootstrap 127.0.0.1:9092\n  \
        millstream topics create orders --partitions 4 --set cleanup.policy=compact --bootstrap 127.0.0.1:9092"
    )]
    Topics(TopicsCommand),
    /// List and describe consumer groups
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        millstream groups list --bootstrap 127.0.0.1:9092\n  \
        millstream groups describe billing --bootstrap 127.0.0.1:9092"
    )]
    Groups(GroupsCommand),
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
}

/// `millstream broker`.
#[derive(Args)]
pub struct BrokerOptions {
    /// A file of broker properties by Kafka's names, such as Kafka's server.properties; the other options win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, port 0 takes any free port; may be given many times, then as NAME://HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Vec<String>,
    /// Directory of the data; one broker at a time has it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address that clients are told to come to, if not the one listened on; NAME://HOST:PORT for a certain listener
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Vec<String>,
    /// A broker property by Kafka's name, or durability=power|process; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// `millstream dump-log`.
#[derive(Args)]
pub struct DumpLogOptions {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// List the records of each batch, too
    #[arg(long)]
    pub records: bool,
    /// A data directory, or the folder of one partition
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
}

/// Which cluster.
#[derive(Args)]
pub struct Cluster {
    /// Brokers to start from, comma separated
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
}

/// `millstream topics`.
#[derive(Subcommand)]
pub enum TopicsCommand {
    /// Names of all topics
    #[command(after_help = "Examples:\n\
        \x20 millstream topics list --bootstrap 127.0.0.1:9092")]
    List(Cluster),
    /// Create a topic
    #[command(after_help = "Examples:\n\
        \x20 millstream topics create orders --bootstrap 127.0.0.1:9092\n\
        \x20 millstream topics create prices --partitions 4 --set cleanup.policy=compact --bootstrap 127.0.0.1:9092")]
    Create(CreateTopicOptions),
    /// Partitions, leaders and settings of topics
    #[command(after_help = "Examples:\n\
        \x20 millstream topics describe orders prices --bootstrap 127.0.0.1:9092")]
    Describe(NamedTopics),
    /// Delete topics, with all their records
    #[command(after_help = "Examples:\n\
        \x20 millstream topics delete orders --bootstrap 127.0.0.1:9092")]
    Delete(NamedTopics),
}

/// `millstream topics create`.
#[derive(Args)]
pub struct CreateTopicOptions {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    pub name: String,
    /// How many partitions; without it the broker's num.partitions
    #[arg(long, value_name = "N", value_parser = count::<i32>)]
    pub partitions: Option<i32>,
    /// How many replicas; without it the broker's default
    #[arg(long, value_name = "N", value_parser = count::<i16>)]
    pub replication_factor: Option<i16>,
    /// A setting of the topic by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Topics by name.
#[derive(Args)]
pub struct NamedTopics {
    /// Names of the topics
    #[arg(value_name = "TOPIC", required = true)]
    pub names: Vec<String>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `millstream groups`.
#[derive(Subcommand)]
pub enum GroupsCommand {
    /// All groups and their states
    #[command(after_help = "Examples:\n\
        \x20 millstream groups list --bootstrap 127.0.0.1:9092")]
    List(Cluster),
    /// Members of groups, their committed offsets and how far they are behind
    #[command(after_help = "Examples:\n\
        \x20 millstream groups describe billing --bootstrap 127.0.0.1:9092")]
    Describe(NamedGroups),
}

/// `millstream topology`.
#[derive(Subcommand)]
pub enum TopologyCommand {
    /// A picture of a topology, on stdout
    #[command(after_help = "Examples:\n\
        \x20 millstream topology draw topology.txt --format html > topology.html\n\
        \x20 millstream topology draw - --format dot < topology.txt | dot -Tpdf > topology.pdf")]
    Draw(DrawOptions),
    /// What becomes of each store and internal topic when NEW takes the place of OLD
    #[command(
        long_about = "Says of each store and internal topic what becomes of it when NEW takes the place of OLD:\n\
            same, renamed (its place is there under another name), new, orphaned (its place is gone), or misread\n\
            (its name is given to something else). Exit code 1 if anything that OLD keeps would be lost or misread,\n\
            with what to write so that it is not.",
        after_help = "Examples:\n\
        \x20 millstream topology diff running.txt next.txt\n\
        \x20 millstream topology diff running.txt next.txt --json | jq '.changes[] | select(.fate != \"same\")'"
    )]
    Diff(DiffOptions),
}

/// `millstream topology diff`.
#[derive(Args)]
pub struct DiffOptions {
    /// describe() of the topology that runs
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// describe() of the one to take its place
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `millstream topology draw`.
#[derive(Args)]
pub struct DrawOptions {
    /// The text of describe(); - reads stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to make of it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: PictureFormat,
}

/// Formats of pictures.
#[derive(Clone, Copy, ValueEnum)]
pub enum PictureFormat {
    /// A flowchart for Markdown pages
    Mermaid,
    /// A digraph for Graphviz
    Dot,
    /// A picture, complete in itself
    Svg,
    /// A page with the picture, a legend and the text
    Html,
}

/// Groups by name.
#[derive(Args)]
pub struct NamedGroups {
    /// Names of the groups
    #[arg(value_name = "GROUP", required = true)]
    pub names: Vec<String>,
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
            _ => Err(NotRun::Refused(refusal(&command, &arguments, &error))),
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

/// What is wrong, in the words of the parser but without its usage block; then the nearest known word or where to look.
fn refusal(root: &clap::Command, arguments: &[OsString], error: &clap::Error) -> Failure {
    let (command, path) = innermost(root, arguments);
    let look = format!("`{path} --help` explains all of them");
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let unknown = given(ContextKind::InvalidArg).unwrap_or_default();
            let known =
                command.get_arguments().filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
            let known: Vec<String> = known.chain(["--help".to_owned()]).collect();
            let what = if unknown.starts_with('-') { "option" } else { "argument" };
            Failure::usage(format!("unknown {what} {unknown} for `{path}`")).hint(&did_you_mean(unknown, &known, &look))
        }
        ErrorKind::InvalidSubcommand => {
            let unknown = given(ContextKind::InvalidSubcommand).unwrap_or_default();
            let known: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
            Failure::usage(format!("unknown command {unknown} for `{path}`"))
                .hint(&did_you_mean(unknown, &known, &look))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            Failure::usage(format!("`{path}` needs a command: {}", known.join(", "))).hint(&look)
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(missing)) => missing.join(", "),
                _ => String::new(),
            };
            Failure::usage(format!("`{path}` lacks {missing}")).hint(&look)
        }
        ErrorKind::InvalidValue if given(ContextKind::InvalidValue) == Some("") => {
            Failure::usage(format!("{} needs a value", given(ContextKind::InvalidArg).unwrap_or_default())).hint(&look)
        }
        ErrorKind::ArgumentConflict => {
            Failure::usage(format!("{} may be given once only", given(ContextKind::InvalidArg).unwrap_or_default()))
                .hint(&look)
        }
        ErrorKind::ValueValidation => {
            let option = given(ContextKind::InvalidArg).and_then(|option| option.split(' ').next()).unwrap_or_default();
            let value = given(ContextKind::InvalidValue).unwrap_or_default();
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            Failure::usage(format!("{option} {value}: {reason}")).hint(&look)
        }
        _ => {
            let text = error.to_string();
            let words = text.split("Usage:").next().unwrap_or(&text).trim_start_matches("error: ");
            let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| useful(line)).collect();
            Failure::usage(lines.first().copied().unwrap_or("the command line is not understood")).hint(&look)
        }
    }
}

fn useful(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("For more information")
}

fn did_you_mean(unknown: &str, known: &[String], otherwise: &str) -> String {
    let unknown = unknown.split('=').next().unwrap_or(unknown);
    match base::nearest(unknown, known.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => otherwise.to_owned(),
    }
}

/// The command that the arguments had come to, and how it is called.
fn innermost<'a>(root: &'a clap::Command, arguments: &[OsString]) -> (&'a clap::Command, String) {
    let mut command = root;
    let mut path = root.get_name().to_owned();
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        let Some(next) = command.find_subcommand(argument) else { break };
        command = next;
        path = format!("{path} {argument}");
    }
    (command, path)
}
