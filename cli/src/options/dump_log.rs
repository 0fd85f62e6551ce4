//! Options of `millstream dump-log`.

use std::path::PathBuf;

use clap::Args;

/// `millstream dump-log`.
#[derive(Args)]
pub struct DumpLogOptions {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// List the records of each batch, too
    #[arg(long)]
    pub records: bool,
    /// As --records, and say what the records of __consumer_offsets and __transaction_state mean
    #[arg(long)]
    pub decode: bool,
    /// Compare the offset and time indexes with their logs instead of listing anything
    #[arg(long, conflicts_with_all = ["records", "decode"])]
    pub check_indexes: bool,
    /// A data directory, the folder of one partition, or one of its files
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}
