//! The log of one partition: append, read, the four offsets.

use std::sync::Arc;

use base::{LeaderEpoch, Now, Offset, ProducerId, Timestamp, TopicPartition};
use protocol::api::Pieces;
use uuid::Uuid;

use super::config::LogConfig;
use super::types::{
    AppendError, AppendInfo, AppendOptions, EpochEndOffset, LogError, LogOffsets, ProducerInfo, ReadInfo, ReadLimit,
    TimestampOffset,
};

/// Called, outside all locks of the log, when the high watermark, the last stable offset or the log start has moved.
pub type Listener = Arc<dyn Fn() + Send + Sync>;

/// The log of one partition. One appender at a time (a lock inside); readers never wait for it.
pub struct PartitionLog {}

impl PartitionLog {
    /// Topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        unimplemented!()
    }

    /// Id of the topic; nil for a directory from before topic ids.
    pub fn topic_id(&self) -> Uuid {
        unimplemented!()
    }

    /// Appends one batch (`Client`) or several (`Coordinator`, `Replica`).
    ///
    /// On return it is readable up to [`ReadLimit::LogEnd`]. It is safe once [`LogOffsets::high_watermark`] is above
    /// [`AppendInfo::last_offset`]: at once under `Process`, after the flusher's next step under `Power`.
    ///
    /// # Errors
    /// Kafka's; nothing was written unless the kind is `Storage`.
    pub fn append(&self, _records: &Pieces, _options: AppendOptions) -> Result<AppendInfo, AppendError> {
        unimplemented!()
    }

    /// Reads at most `max_bytes` from the batch that holds `from`. With `min_one_batch` the first batch comes whole
    /// however large it is; otherwise the last one may be cut.
    ///
    /// # Errors
    /// `OutOfRange` if `from` is below the log start or above the log end.
    pub fn read(
        &self,
        _from: Offset,
        _max_bytes: usize,
        _limit: ReadLimit,
        _min_one_batch: bool,
    ) -> Result<ReadInfo, LogError> {
        unimplemented!()
    }

    /// The four offsets; a few nanoseconds.
    pub fn offsets(&self) -> LogOffsets {
        unimplemented!()
    }

    /// The first record at or after `timestamp` below `limit`; `None` if there is none.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn offset_for_timestamp(
        &self,
        _timestamp: Timestamp,
        _limit: ReadLimit,
    ) -> Result<Option<TimestampOffset>, LogError> {
        unimplemented!()
    }

    /// The first record with the largest timestamp; `None` in an empty log.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        unimplemented!()
    }

    /// Where `epoch`, or the largest known one below it, ends.
    pub fn leader_epoch_end_offset(&self, _epoch: LeaderEpoch) -> EpochEndOffset {
        unimplemented!()
    }

    /// The newest leader epoch; -1 if none is known.
    pub fn latest_leader_epoch(&self) -> LeaderEpoch {
        unimplemented!()
    }

    /// Takes note that this node leads with `epoch` from the log end on.
    ///
    /// # Errors
    /// When the checkpoint cannot be written.
    pub fn start_leader_epoch(&self, _epoch: LeaderEpoch) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Moves the log start to `before` (to the high watermark for -1); returns the new log start.
    ///
    /// # Errors
    /// `OutOfRange` if `before` is above the high watermark.
    pub fn delete_records(&self, _before: Offset) -> Result<Offset, LogError> {
        unimplemented!()
    }

    /// Drops everything from `offset` on; for followers.
    ///
    /// # Errors
    /// When the files cannot be changed; the log is poisoned then.
    pub fn truncate_to(&self, _offset: Offset) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Drops everything and goes on at `offset`; for followers whose leader no longer has what they need.
    ///
    /// # Errors
    /// When the files cannot be changed; the log is poisoned then.
    pub fn truncate_fully_and_start_at(&self, _offset: Offset) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Bounds the high watermark by what the replicas have; `i64::MAX`, the initial value, leaves it to durability.
    pub fn set_replicated_end(&self, _offset: Offset) {
        unimplemented!()
    }

    /// Takes another configuration, from the next append on.
    pub fn update_config(&self, _config: LogConfig) {
        unimplemented!()
    }

    /// The configuration.
    pub fn config(&self) -> Arc<LogConfig> {
        unimplemented!()
    }

    /// Sum of the sizes of all segments.
    pub fn size_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// What is known of one producer.
    pub fn producer(&self, _producer_id: ProducerId) -> Option<ProducerInfo> {
        unimplemented!()
    }

    /// What is known of all producers, by id.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        unimplemented!()
    }

    /// Adds a listener; see [`Listener`].
    pub fn on_advance(&self, _listener: Listener) {
        unimplemented!()
    }

    /// Why appends are refused since a write or a sync failed; `None` while all is well.
    pub fn failure(&self) -> Option<LogError> {
        unimplemented!()
    }

    /// Removes what retention allows now; [`super::LogDirectory::step`] calls it. Returns how many segments went.
    ///
    /// # Errors
    /// When the files cannot be changed.
    pub fn apply_retention(&self, _now: Now) -> Result<usize, LogError> {
        unimplemented!()
    }
}
