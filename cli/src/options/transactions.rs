//! Options of `millstream transactions`.

use base::{Offset, PartitionId, ProducerId};
use clap::{Args, Subcommand};

use super::{Cluster, Listing};

/// `millstream transactions`.
#[derive(Subcommand)]
pub enum TransactionsCommand {
    /// Transactional ids, with their producers and states
    #[command(after_help = "Examples:\n\
        \x20 millstream transactions list --bootstrap 127.0.0.1:9092\n\
        \x20 millstream transactions list --state Ongoing --running-for-ms 60000 --bootstrap 127.0.0.1:9092")]
    List(ListTransactionsOptions),
    /// Where transactional ids stand, and the partitions of their open transactions
    #[command(after_help = "Examples:\n\
        \x20 millstream transactions describe orders-1 --bootstrap 127.0.0.1:9092")]
    Describe(DescribeTransactionsOptions),
    /// The producers that a partition remembers, and their open transactions
    #[command(after_help = "Examples:\n\
        \x20 millstream transactions describe-producers --topic orders --partition 0 --bootstrap 127.0.0.1:9092")]
    DescribeProducers(ProducersOptions),
    /// Open transactions that no coordinator knows: read_committed readers wait for them
    #[command(after_help = "Examples:\n\
        \x20 millstream transactions find-hanging --bootstrap 127.0.0.1:9092\n\
        \x20 millstream transactions find-hanging --topic orders --partition 0 --bootstrap 127.0.0.1:9092")]
    FindHanging(FindHangingOptions),
    /// End a hanging transaction of a partition, as an abort
    #[command(
        long_about = "Ends a transaction on one partition as an abort, without asking its coordinator: for one that `find-hanging`\n\
            shows. A transaction whose producer lives is ended by that producer.",
        after_help = "Examples:\n\
        \x20 millstream transactions abort --topic orders --partition 0 --start-offset 4711 --bootstrap 127.0.0.1:9092"
    )]
    Abort(AbortOptions),
}

/// `millstream transactions list`.
#[derive(Args)]
pub struct ListTransactionsOptions {
    /// Only those in this state (Ongoing, CompleteCommit, ..); may be given many times
    #[arg(long, value_name = "STATE")]
    pub state: Vec<String>,
    /// Only those of this producer id; may be given many times
    #[arg(long, value_name = "ID")]
    pub producer_id: Vec<ProducerId>,
    /// Only those whose transaction is open for longer
    #[arg(long, value_name = "MS")]
    pub running_for_ms: Option<i64>,
    /// Only those whose whole transactional id matches
    #[arg(long, value_name = "REGEX")]
    pub pattern: Option<String>,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// `millstream transactions describe`.
#[derive(Args)]
pub struct DescribeTransactionsOptions {
    /// Transactional ids
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// One partition of one topic.
#[derive(Args)]
pub struct OnePartition {
    /// The topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,
    /// The partition
    #[arg(long, value_name = "N")]
    pub partition: PartitionId,
}

/// `millstream transactions describe-producers`.
#[derive(Args)]
pub struct ProducersOptions {
    /// The partition
    #[command(flatten)]
    pub place: OnePartition,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// `millstream transactions find-hanging`.
#[derive(Args)]
pub struct FindHangingOptions {
    /// Look into this topic only; may be given many times
    #[arg(long, value_name = "TOPIC")]
    pub topic: Vec<String>,
    /// Look into this partition of the topic only
    #[arg(long, value_name = "N", requires = "topic")]
    pub partition: Option<PartitionId>,
    /// Only those whose last record is older
    #[arg(long, value_name = "MS", default_value_t = 900_000)]
    pub older_than_ms: i64,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// `millstream transactions abort`.
#[derive(Args)]
#[command(
    override_usage = "millstream transactions abort --topic <TOPIC> --partition <N> <WHICH> --bootstrap <HOST:PORT>",
    group(clap::ArgGroup::new("which").required(true).args(["start_offset", "producer_id"]))
)]
pub struct AbortOptions {
    /// The partition
    #[command(flatten)]
    pub place: OnePartition,
    /// First offset of the transaction, as describe-producers and find-hanging show it
    #[arg(long, value_name = "OFFSET")]
    pub start_offset: Option<Offset>,
    /// Its producer id
    #[arg(long, value_name = "ID")]
    pub producer_id: Option<ProducerId>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}
