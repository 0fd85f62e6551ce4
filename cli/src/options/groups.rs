//! Options of `millstream groups`.

use std::path::PathBuf;

use base::Offset;
use clap::{ArgGroup, Args, Subcommand};

use super::{Cluster, Listing};

/// `millstream groups`.
#[derive(Subcommand)]
pub enum GroupsCommand {
    /// All groups, with their types and states
    #[command(after_help = "Examples:\n\
        \x20 millstream groups list --bootstrap 127.0.0.1:9092\n\
        \x20 millstream groups list --state Empty --json --bootstrap 127.0.0.1:9092 | jq -r .group")]
    List(ListGroupsOptions),
    /// Members of groups, their committed offsets and how far they are behind
    #[command(after_help = "Examples:\n\
        \x20 millstream groups describe billing --bootstrap 127.0.0.1:9092\n\
        \x20 millstream groups describe --json --bootstrap 127.0.0.1:9092 | jq '.offsets[] | select(.lag > 1000)'")]
    Describe(DescribeGroupsOptions),
    /// Move the committed offsets of a group that has no members
    #[command(
        long_about = "Moves the committed offsets of a group that has no members. Without --execute the new offsets are only\n\
            shown, which --dry-run says aloud; --export prints them as CSV, which --from-file reads.",
        after_help = "Examples:\n\
        \x20 millstream groups reset-offsets billing --topic orders --to-earliest --dry-run --bootstrap 127.0.0.1:9092\n\
        \x20 millstream groups reset-offsets billing --all-topics --shift-by -100 --execute --bootstrap 127.0.0.1:9092\n\
        \x20 millstream groups reset-offsets billing --topic orders:0,2 --by-duration PT1H --execute --bootstrap 127.0.0.1:9092"
    )]
    ResetOffsets(ResetOffsetsOptions),
    /// Delete groups that have no members, with their offsets
    #[command(after_help = "Examples:\n\
        \x20 millstream groups delete billing --bootstrap 127.0.0.1:9092")]
    Delete(NamedGroups),
    /// Delete what a group has committed for topics that it does not read any more
    #[command(after_help = "Examples:\n\
        \x20 millstream groups delete-offsets billing --topic orders --topic prices:0 --bootstrap 127.0.0.1:9092")]
    DeleteOffsets(DeleteOffsetsOptions),
}

/// `millstream groups list`.
#[derive(Args)]
pub struct ListGroupsOptions {
    /// Only groups in this state (Stable, Empty, ..); may be given many times
    #[arg(long, value_name = "STATE")]
    pub state: Vec<String>,
    /// Only groups of this type (classic, consumer, streams, ..); may be given many times
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Vec<String>,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// `millstream groups describe`.
#[derive(Args)]
pub struct DescribeGroupsOptions {
    /// Names of the groups; all, if none is given
    #[arg(value_name = "GROUP")]
    pub names: Vec<String>,
    /// One JSON object for each group
    #[arg(long)]
    pub json: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
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

/// `millstream groups reset-offsets`.
#[derive(Args)]
#[command(
    override_usage = "millstream groups reset-offsets <GROUP> --topic <TOPIC>|--all-topics <WHERE> [OPTIONS] --bootstrap <HOST:PORT>",
    group(ArgGroup::new("to").required(true).args([
        "to_earliest", "to_latest", "to_current", "to_offset", "shift_by", "to_datetime", "by_duration", "from_file",
    ])),
    group(ArgGroup::new("how").args(["dry_run", "execute"]))
)]
pub struct ResetOffsetsOptions {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// A topic, or some of its partitions as TOPIC:0,2,5-7; may be given many times
    #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", conflicts_with = "all_topics")]
    pub topics: Vec<String>,
    /// All partitions that the group has committed offsets of
    #[arg(long)]
    pub all_topics: bool,
    /// To the first offset that is still there
    #[arg(long)]
    pub to_earliest: bool,
    /// To the end
    #[arg(long)]
    pub to_latest: bool,
    /// To what is committed now (to the end where nothing is)
    #[arg(long)]
    pub to_current: bool,
    /// To this offset, or the nearest that there is
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: Option<Offset>,
    /// By so many records forward, or back if negative
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub shift_by: Option<Offset>,
    /// To the first record from this time on: 2026-11-22T10:00:00.000, in UTC unless it ends in +01:00 or the like
    #[arg(long, value_name = "TIME")]
    pub to_datetime: Option<String>,
    /// To the first record of so long ago: P7D, PT1H30M
    #[arg(long, value_name = "DURATION")]
    pub by_duration: Option<String>,
    /// To what a file says: a line TOPIC,PARTITION,OFFSET for each partition, as --export prints them
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Show the new offsets, change nothing (the default)
    #[arg(long)]
    pub dry_run: bool,
    /// Commit the new offsets
    #[arg(long)]
    pub execute: bool,
    /// Print the new offsets as CSV
    #[arg(long, conflicts_with = "json")]
    pub export: bool,
    /// The cluster, and how it is shown
    #[command(flatten)]
    pub listing: Listing,
}

/// `millstream groups delete-offsets`.
#[derive(Args)]
pub struct DeleteOffsetsOptions {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// A topic, or some of its partitions as TOPIC:0,2,5-7; may be given many times
    #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", required = true)]
    pub topics: Vec<String>,
    /// The cluster
    #[command(flatten)]
    pub cluster: Cluster,
}
