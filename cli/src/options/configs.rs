//! Options of `millstream configs`.

use clap::{ArgGroup, Args, Subcommand};

use super::{Cluster, Listing};

/// `millstream configs`.
#[derive(Subcommand)]
pub enum ConfigsCommand {
    /// Settings of a topic, broker or group that differ from the defaults, or all of them
    #[command(after_help = "Examples:\n\
        \x20 millstream configs describe --topic orders --bootstrap 127.0.0.1:9092\n\
        \x20 millstream configs describe --broker 1 --all --json --bootstrap 127.0.0.1:9092")]
    Describe(DescribeConfigsOptions),
    /// Change settings; those not named stay as they are
    #[command(after_help = "Examples:\n\
        \x20 millstream configs alter --topic orders --set retention.ms=3600000 --bootstrap 127.0.0.1:9092\n\
        \x20 millstream configs alter --topic orders --delete retention.ms --bootstrap 127.0.0.1:9092\n\
        \x20 millstream configs alter --topic orders --append cleanup.policy=compact --bootstrap 127.0.0.1:9092")]
    Alter(AlterConfigsOptions),
}

/// Whose settings.
#[derive(Args)]
#[command(group(ArgGroup::new("resource").required(true).args(["topic", "broker", "broker_defaults", "group"])))]
pub struct Resource {
    /// A topic by name
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// A broker by its node id
    #[arg(long, value_name = "ID")]
    pub broker: Option<i32>,
    /// What all brokers have that set nothing of their own
    #[arg(long)]
    pub broker_defaults: bool,
    /// A group by name
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

/// `millstream configs describe`.
#[derive(Args)]
#[command(
    override_usage = "millstream configs describe --topic|--broker|--broker-defaults|--group <WHOSE> [OPTIONS] --bootstrap <HOST:PORT>"
)]
pub struct DescribeConfigsOptions {
    /// Whose settings
    #[command(flatten)]
    pub resource: Resource,
    /// Those at their defaults, too
    #[arg(long)]
    pub all: bool,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// `millstream configs alter`.
#[derive(Args)]
#[command(
    override_usage = "millstream configs alter --topic|--broker|--broker-defaults|--group <WHOSE> <CHANGE>... --bootstrap <HOST:PORT>",
    group(ArgGroup::new("change").required(true).multiple(true).args(["settings", "delete", "append", "subtract"]))
)]
pub struct AlterConfigsOptions {
    /// Whose settings
    #[command(flatten)]
    pub resource: Resource,
    /// A setting by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// A setting that goes back to its default; may be given many times
    #[arg(long, value_name = "KEY")]
    pub delete: Vec<String>,
    /// Adds to a setting that is a list; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    pub append: Vec<String>,
    /// Takes out of a setting that is a list; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    pub subtract: Vec<String>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}
