//! Options of `millstream topics`.

use clap::{Args, Subcommand};

use super::{Cluster, Listing, count};

/// `millstream topics`.
#[derive(Subcommand)]
pub enum TopicsCommand {
    /// Names of all topics
    #[command(after_help = "Examples:\n\
        \x20 millstream topics list --bootstrap 127.0.0.1:9092")]
    List(ListTopicsOptions),
    /// Create a topic
    #[command(after_help = "Examples:\n\
        \x20 millstream topics create orders --bootstrap 127.0.0.1:9092\n\
        \x20 millstream topics create prices --partitions 4 --set cleanup.policy=compact --bootstrap 127.0.0.1:9092")]
    Create(CreateTopicOptions),
    /// Partitions, leaders and settings of topics
    #[command(after_help = "Examples:\n\
        \x20 millstream topics describe orders prices --bootstrap 127.0.0.1:9092\n\
        \x20 millstream topics describe --json --bootstrap 127.0.0.1:9092 | jq .name")]
    Describe(DescribeTopicsOptions),
    /// Add partitions to a topic, or change its settings
    #[command(after_help = "Examples:\n\
        \x20 millstream topics alter orders --partitions 8 --bootstrap 127.0.0.1:9092\n\
        \x20 millstream topics alter orders --set retention.ms=3600000 --delete max.message.bytes --bootstrap 127.0.0.1:9092")]
    Alter(AlterTopicOptions),
    /// Delete topics, with all their records
    #[command(after_help = "Examples:\n\
        \x20 millstream topics delete orders --bootstrap 127.0.0.1:9092")]
    Delete(DeleteTopicsOptions),
}

/// `millstream topics list`.
#[derive(Args)]
pub struct ListTopicsOptions {
    /// Leave out the topics that belong to the broker itself
    #[arg(long)]
    pub exclude_internal: bool,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
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
    /// Succeed if there is a topic of that name already
    #[arg(long)]
    pub if_not_exists: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `millstream topics describe`.
#[derive(Args)]
pub struct DescribeTopicsOptions {
    /// Names of the topics; all, if none is given
    #[arg(value_name = "TOPIC")]
    pub names: Vec<String>,
    /// One JSON object for each topic
    #[arg(long)]
    pub json: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `millstream topics alter`.
#[derive(Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true).args(["partitions", "settings", "delete"])))]
pub struct AlterTopicOptions {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    pub name: String,
    /// How many partitions it is to have; there must be fewer now
    #[arg(long, value_name = "N", value_parser = count::<i32>)]
    pub partitions: Option<i32>,
    /// A setting of the topic by Kafka's name; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// A setting that goes back to its default; may be given many times
    #[arg(long, value_name = "KEY")]
    pub delete: Vec<String>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `millstream topics delete`.
#[derive(Args)]
pub struct DeleteTopicsOptions {
    /// Names of the topics
    #[arg(value_name = "TOPIC", required = true)]
    pub names: Vec<String>,
    /// Succeed for topics that are not there
    #[arg(long)]
    pub if_exists: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}
