//! What callers of a log hand in and get back.

use std::fmt;

use base::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use protocol::api::Pieces;

use crate::error::{ErrorKind, StorageError};

/// The error of reads and of everything but appends.
pub type LogError = StorageError;

/// The four offsets of a partition. Order: `log_start <= last_stable <= high_watermark <= log_end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOffsets {
    /// First offset that may be read.
    pub log_start: Offset,
    /// First offset of the earliest open transaction, or the high watermark.
    pub last_stable: Offset,
    /// First offset that is not yet safe at the chosen durability.
    pub high_watermark: Offset,
    /// Offset of the next record.
    pub log_end: Offset,
}

impl LogOffsets {
    /// The only way to change them, so that the order is checked in one place.
    pub fn update(&mut self, change: impl FnOnce(&mut Self)) {
        let before = *self;
        change(self);
        assert!(self.log_start <= self.last_stable, "{before:?} became {self:?}");
        assert!(self.last_stable <= self.high_watermark, "{before:?} became {self:?}");
        assert!(self.high_watermark <= self.log_end, "{before:?} became {self:?}");
    }
}

/// What an acknowledged append survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: the high watermark moves over synced data only.
    #[default]
    Power,
    /// The end of the process: the high watermark moves with the write, as in Apache Kafka.
    Process,
}

/// Who appends; decides what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: everything is checked, exactly one batch.
    Client,
    /// A coordinator inside the broker: control batches are allowed, of producer state only the epochs are checked.
    Coordinator,
    /// A copy of what a leader has: nothing is checked but the CRC, offsets and epochs stay as they are.
    Replica,
}

/// How [`super::PartitionLog::append`] appends.
#[derive(Clone, Copy, Debug)]
pub struct AppendOptions {
    /// Who appends.
    pub origin: Origin,
    /// Written into every batch (not for `Replica`); lower than the newest known one is refused.
    pub leader_epoch: LeaderEpoch,
    /// The clock's reading: log append time, segment age, timestamp limits.
    pub now: Now,
    /// Transaction protocol of the writer: 2 (KIP-890) wants sequence 0 of a producer without state in a transaction,
    /// and a marker's epoch above that of the data. 0 otherwise.
    pub transaction_version: i16,
    /// How many markers the batch's producer had here ([`ProducerInfo::markers`], 0 for an unknown one) when it was found
    /// to be in a transaction. If there is another one by now, a batch that would begin a transaction is refused with
    /// [`AppendErrorKind::TransactionOvertaken`].
    pub markers_seen: Option<u32>,
}

impl AppendOptions {
    /// An append of a producer.
    pub fn client(leader_epoch: LeaderEpoch, now: Now) -> Self {
        Self { origin: Origin::Client, leader_epoch, now, transaction_version: 0, markers_seen: None }
    }

    /// An append of a coordinator.
    pub fn coordinator(leader_epoch: LeaderEpoch, now: Now) -> Self {
        Self { origin: Origin::Coordinator, ..Self::client(leader_epoch, now) }
    }

    /// A copy from a leader.
    pub fn replica(now: Now) -> Self {
        Self { origin: Origin::Replica, ..Self::client(-1, now) }
    }
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record. The append is safe once the high watermark is above it.
    pub last_offset: Offset,
    /// Log append time, or of a duplicate the batch's own timestamp; -1 for create time.
    pub log_append_time_ms: Timestamp,
    /// The batch was there already: nothing was written, the offsets are those of the first time.
    pub duplicate: bool,
    /// First offset that may be read.
    pub log_start_offset: Offset,
}

/// Why an append was refused; each kind is one of Kafka's error codes (the number in the text).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendErrorKind {
    /// 2 `CORRUPT_MESSAGE`.
    CorruptMessage,
    /// 10 `MESSAGE_TOO_LARGE`.
    MessageTooLarge,
    /// 18 `RECORD_LIST_TOO_LARGE`: larger than a segment.
    RecordListTooLarge,
    /// 32 `INVALID_TIMESTAMP`.
    InvalidTimestamp,
    /// 45 `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    OutOfOrderSequence,
    /// 47 `INVALID_PRODUCER_EPOCH`.
    InvalidProducerEpoch,
    /// 48 `INVALID_TXN_STATE`.
    InvalidTransactionState,
    /// 52 `TRANSACTION_COORDINATOR_FENCED`.
    TransactionCoordinatorFenced,
    /// 48 `INVALID_TXN_STATE`, unless the transaction is looked up again: see [`AppendOptions::markers_seen`].
    TransactionOvertaken,
    /// 56 `KAFKA_STORAGE_ERROR`: the medium failed, or had failed earlier.
    Storage,
    /// 74 `FENCED_LEADER_EPOCH`.
    FencedLeaderEpoch,
    /// 76 `UNSUPPORTED_COMPRESSION_TYPE`.
    UnsupportedCompression,
    /// 87 `INVALID_RECORD`.
    InvalidRecord,
    /// -1 `UNKNOWN_SERVER_ERROR`: an undefined codec, offsets that do not follow the log's end.
    Unknown,
}

/// A refused append; nothing was written unless the kind is `Storage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendError {
    /// Which of Kafka's errors.
    pub kind: AppendErrorKind,
    /// Where and what.
    pub message: String,
    /// For each bad record its index in the batch and what is wrong with it.
    pub record_errors: Vec<(i32, String)>,
}

impl AppendError {
    /// An error without record errors.
    pub fn new(kind: AppendErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), record_errors: Vec::new() }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AppendError {}

impl From<StorageError> for AppendError {
    fn from(error: StorageError) -> Self {
        let kind = match error.kind() {
            ErrorKind::Corrupt => AppendErrorKind::CorruptMessage,
            _ => AppendErrorKind::Storage,
        };
        Self::new(kind, error.message())
    }
}

/// How far a read may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLimit {
    /// Everything: followers, and coordinators that load their own state.
    LogEnd,
    /// `read_uncommitted`.
    HighWatermark,
    /// `read_committed`; the answer lists aborted transactions.
    LastStable,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct ReadInfo {
    /// Batches from the one that holds the asked offset; the last may be cut in the middle by the size limit.
    pub records: Pieces,
    /// The partition's offsets when it was read.
    pub offsets: LogOffsets,
    /// For [`ReadLimit::LastStable`]: what is aborted in the range read.
    pub aborted: Option<Vec<AbortedTransaction>>,
}

/// One aborted transaction in a range of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Producer whose records are void from `first_offset` to its abort marker.
    pub producer_id: ProducerId,
    /// First offset of the transaction.
    pub first_offset: Offset,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The record's offset.
    pub offset: Offset,
    /// Leader epoch of its batch; -1 unknown.
    pub leader_epoch: LeaderEpoch,
}

/// Answer to a leader epoch lookup: the largest known epoch not above the asked one, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// Epoch; -1 if none is known.
    pub leader_epoch: LeaderEpoch,
    /// First offset after that epoch; -1 if none is known.
    pub end_offset: Offset,
}

/// What a partition knows of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Producer.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of its last record; -1 none.
    pub last_sequence: Sequence,
    /// Offset of its last record; -1 none.
    pub last_offset: Offset,
    /// Timestamp of its last batch.
    pub last_timestamp: Timestamp,
    /// Epoch of the coordinator that last wrote a marker; -1 none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction; -1 none.
    pub current_transaction_first_offset: Offset,
    /// How many transaction markers it got since the log was opened.
    pub markers: u32,
}

/// What recovery cut from one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Partition.
    pub partition: base::TopicPartition,
    /// The file that was cut, or `None` when whole segments after a cut one were dropped.
    pub file: String,
    /// First byte that was cut.
    pub position: u64,
    /// How many bytes.
    pub bytes: u64,
    /// First offset that is gone, which is the new end of the log.
    pub log_end: Offset,
    /// Why: a torn batch, a CRC that does not match, ...
    pub reason: String,
}

/// What opening a directory found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The directory had been closed: nothing was scanned.
    pub clean: bool,
    /// How many segments were scanned.
    pub segments_scanned: usize,
    /// What was cut.
    pub truncations: Vec<Truncation>,
    /// Partitions that could not be opened, and why; they are offline.
    pub offline: Vec<(base::TopicPartition, LogError)>,
}
