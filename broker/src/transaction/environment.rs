//! What the transaction coordinator needs of the broker around it: the log of `__transaction_state`, the partitions that
//! get markers, producer ids, and time.

use base::{Now, Offset, PartitionId, ProducerId};
use bytes::Bytes;
use protocol::api::ErrorCode;

use super::entry::Identity;
use super::records::TopicAndPartition;

/// Where transactional ids and their transactions are kept.
pub const STATE_TOPIC: &str = "__transaction_state";

/// Told once something is durable, or why it will not be.
pub type Done<T> = Box<dyn FnOnce(Result<T, ErrorCode>) + Send>;

/// The end of a producer's transaction on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Where it is written.
    pub partition: TopicAndPartition,
    /// The producer, with the epoch that the marker carries.
    pub identity: Identity,
    /// Whether the transaction was committed.
    pub commit: bool,
    /// Leader epoch of the coordinator's partition.
    pub coordinator_epoch: i32,
    /// The transaction protocol: with 2 the marker's epoch is above that of the data.
    pub transaction_version: i16,
}

/// The broker, as the transaction coordinator sees it.
pub trait TransactionEnvironment: Send + Sync {
    /// The present moment.
    fn now(&self) -> Now;

    /// Number of partitions of `__transaction_state`; `None` while the topic does not exist.
    fn partitions(&self) -> Option<i32>;

    /// Has `__transaction_state` made, if it does not exist; it may come later than this returns.
    ///
    /// # Errors
    /// When it cannot be made now.
    fn create_topic(&self) -> Result<(), ErrorCode>;

    /// Level of the feature `transaction.version`.
    fn transaction_version(&self) -> i16;

    /// Leader epoch of a partition of `__transaction_state`.
    fn leader_epoch(&self, partition: PartitionId) -> i32;

    /// Appends a batch to a partition of `__transaction_state`. `done` is called once, when the batch is durable or has
    /// failed; perhaps before this returns, on any thread, and for one partition in the order of the appends.
    fn append(&self, partition: PartitionId, batch: Bytes, done: Done<Offset>);

    /// Whole batches of a partition of `__transaction_state` from the one that holds `from` on, up to the end of the log
    /// or some bound of bytes; empty at the end.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn read(&self, partition: PartitionId, from: Offset) -> Result<Bytes, ErrorCode>;

    /// Writes a marker; `done` is called once, when it is durable or has failed, perhaps before this returns.
    fn write_marker(&self, marker: &Marker, done: Done<()>);

    /// A producer id that nobody has; `done` is called once, perhaps before this returns.
    fn take_producer_id(&self, done: Done<ProducerId>);

    /// Sees to it that the coordinator is stepped at `ticks_ms` at the latest.
    fn wake_at(&self, ticks_ms: i64);
}
