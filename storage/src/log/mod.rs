//! The segmented log: Kafka's files to the byte.
//!
//! One [`LogDirectory`] is one data directory; it holds a [`PartitionLog`] for each partition and one [`Flusher`] that
//! syncs them together. Knows no topics' configuration source, no leaders' election, no clients and no state stores.
//!
//! Invariant: `log_start <= last_stable <= high_watermark <= log_end`, and the high watermark moves only over what the
//! chosen [`Durability`] holds.

mod config;
mod directory;
mod flusher;
mod partition;
mod types;

pub use config::{
    CleanupPolicy, CompressionType, ConfigDefinition, ConfigType, LogConfig, TOPIC_CONFIGS, TimestampType,
};
pub use directory::{DirectoryStep, LogDirectory, LogDirectoryOptions, MetaProperties};
pub use flusher::{FlushStep, Flusher};
pub use partition::{Listener, PartitionLog};
pub use types::{
    AbortedTransaction, AppendError, AppendErrorKind, AppendInfo, AppendOptions, Durability, EpochEndOffset, LogError,
    LogOffsets, Origin, ProducerInfo, ReadInfo, ReadLimit, RecoveryReport, TimestampOffset, Truncation,
};
