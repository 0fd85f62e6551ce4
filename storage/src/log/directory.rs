//! One data directory: its lock, its identity, its checkpoints and its partitions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Clock, Now, Rng, TopicPartition};
use uuid::Uuid;

use super::config::LogConfig;
use super::flusher::Flusher;
use super::partition::PartitionLog;
use super::types::{Durability, LogError, RecoveryReport};
use crate::files::Files;

/// How a [`LogDirectory`] opens and runs. Intervals carry Kafka's defaults.
#[derive(Clone)]
pub struct LogDirectoryOptions {
    /// What an acknowledged append survives.
    pub durability: Durability,
    /// Source of time for file times; everything else takes `now` as an argument.
    pub clock: Arc<dyn Clock>,
    /// Source of segment jitter and ids.
    pub rng: Rng,
    /// Of partitions that are there and were not given one yet.
    pub default_config: LogConfig,
    /// How many files may be open.
    pub open_files_max: usize,
    /// Appended batches of one partition kept in memory, at most.
    pub tail_partition_bytes: usize,
    /// Appended batches of all partitions kept in memory, at most.
    pub tail_total_bytes: usize,
    /// `log.retention.check.interval.ms`
    pub retention_check_interval_ms: i64,
    /// `log.flush.offset.checkpoint.interval.ms` and `log.flush.start.offset.checkpoint.interval.ms`
    pub offset_checkpoint_interval_ms: i64,
    /// `replica.high.watermark.checkpoint.interval.ms`
    pub high_watermark_checkpoint_interval_ms: i64,
    /// `log.cleaner.enable`
    pub cleaner_enable: bool,
    /// `log.cleaner.backoff.ms`
    pub cleaner_backoff_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`: memory of the cleaner's offset map.
    pub cleaner_dedupe_buffer_bytes: usize,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`
    pub producer_id_expiration_check_interval_ms: i64,
}

impl LogDirectoryOptions {
    /// Kafka's defaults, with durability `Power`.
    pub fn new(clock: Arc<dyn Clock>, rng: Rng) -> Self {
        Self {
            durability: Durability::Power,
            clock,
            rng,
            default_config: LogConfig::default(),
            open_files_max: 512,
            tail_partition_bytes: 1 << 20,
            tail_total_bytes: 16 << 20,
            retention_check_interval_ms: 300_000,
            offset_checkpoint_interval_ms: 60_000,
            high_watermark_checkpoint_interval_ms: 5_000,
            cleaner_enable: true,
            cleaner_backoff_ms: 15_000,
            cleaner_dedupe_buffer_bytes: 16 << 20,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
        }
    }
}

/// Identity of a data directory: `meta.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`
    pub cluster_id: String,
    /// `node.id`
    pub node_id: i32,
    /// `directory.id`
    pub directory_id: String,
}

/// What one step of the directory did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryStep {
    /// Whether anything was done.
    pub did_work: bool,
    /// When to call again, in ticks.
    pub next_wake_ticks_ms: i64,
}

/// One data directory: `.lock`, `meta.properties`, checkpoints, the clean-shutdown mark and the partitions.
pub struct LogDirectory {}

impl LogDirectory {
    /// Opens the directory at `path`, made if it is not there, and recovers what a crash left.
    ///
    /// # Errors
    /// `InUse` if another process holds it, `Corrupt` for a malformed checkpoint or `meta.properties`. A partition that
    /// cannot be opened is no error: see [`RecoveryReport::offline`].
    pub fn open(
        _files: Arc<dyn Files>,
        _path: impl Into<PathBuf>,
        _options: LogDirectoryOptions,
    ) -> Result<Self, LogError> {
        unimplemented!()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        unimplemented!()
    }

    /// What opening found.
    pub fn recovery_report(&self) -> &RecoveryReport {
        unimplemented!()
    }

    /// Identity; `None` in a new directory until [`LogDirectory::set_meta_properties`].
    pub fn meta_properties(&self) -> Option<MetaProperties> {
        unimplemented!()
    }

    /// Writes the identity, durably. A directory id is drawn if the given one is empty.
    ///
    /// # Errors
    /// `Invalid` if the directory has another cluster or node id already.
    pub fn set_meta_properties(&self, _properties: MetaProperties) -> Result<(), LogError> {
        unimplemented!()
    }

    /// The log of a partition, opened on first use; `None` if there is none.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn partition(&self, _partition: &TopicPartition) -> Result<Option<Arc<PartitionLog>>, LogError> {
        unimplemented!()
    }

    /// The log of a partition, made if it is not there (its folder comes with the first append), with that
    /// configuration from now on.
    ///
    /// # Errors
    /// `Invalid` if the partition is there with another topic id.
    pub fn create_partition(
        &self,
        _partition: &TopicPartition,
        _topic_id: Uuid,
        _config: LogConfig,
    ) -> Result<Arc<PartitionLog>, LogError> {
        unimplemented!()
    }

    /// Deletes a partition: its folder is renamed at once and removed after `file.delete.delay.ms`. `false` if there is
    /// none.
    ///
    /// # Errors
    /// When the folder cannot be renamed.
    pub fn delete_partition(&self, _partition: &TopicPartition, _now: Now) -> Result<bool, LogError> {
        unimplemented!()
    }

    /// All partitions, opened or not, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        unimplemented!()
    }

    /// The flusher of this directory.
    pub fn flusher(&self) -> &Arc<Flusher> {
        unimplemented!()
    }

    /// Does what is due: checkpoints, retention, deferred deletes, expiry of producers, and at most one cleaning.
    pub fn step(&self, _now: Now) -> DirectoryStep {
        unimplemented!()
    }

    /// Shuts down cleanly: everything is synced and marked, so that the next open scans nothing. Appends are refused
    /// afterwards.
    ///
    /// # Errors
    /// When something could not be written; the next open recovers then.
    pub fn close(&self) -> Result<(), LogError> {
        unimplemented!()
    }
}
