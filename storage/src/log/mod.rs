//! The segmented log: Kafka's files to the byte.
//!
//! One [`LogDirectory`] is one data directory; it holds a [`PartitionLog`] for each partition and one [`Flusher`] that
//! syncs them together. Knows no topics' configuration source, no leaders' election, no clients and no state stores.
//!
//! Invariant: `log_start <= last_stable <= high_watermark <= log_end`, and the high watermark moves only over what the
//! chosen [`Durability`] holds.

mod append;
mod checkpoint;
mod claim;
mod cleaner;
mod compaction;
mod config;
mod deferred;
mod directory;
mod dump;
mod dump_files;
mod duties;
mod file_cache;
mod flusher;
mod index;
mod leader_epochs;
mod partition;
mod partitions;
mod producer_state;
mod read;
mod recovery;
mod retention;
mod scan;
mod segment;
mod tail;
mod transactions;
mod txn_index;
mod types;

pub use claim::ClaimedDirectory;
pub use config::{
    CleanupPolicy, CompressionType, ConfigDefinition, ConfigType, LogConfig, TOPIC_CONFIGS, TimestampType,
};
pub use directory::{DirectorySettings, DirectoryStep, LogDirectory, LogDirectoryOptions, MetaProperties};
pub use dump::{Dump, DumpedBatch, DumpedBytes, dump, dump_file};
pub use dump_files::{DumpedEntry, check_index, dump_entries};
pub use flusher::{FlushStep, Flusher};
pub use partition::{Listener, PartitionLog};
pub use types::{
    AbortedTransaction, AppendError, AppendErrorKind, AppendInfo, AppendOptions, Durability, EpochEndOffset, LogError,
    LogOffsets, Origin, ProducerInfo, ReadInfo, ReadLimit, RecoveryReport, TimestampOffset, Truncation,
};
