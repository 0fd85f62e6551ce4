//! One partition this broker leads: its log, its leader epoch, and who waits for it to advance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::{LeaderEpoch, Now, Offset, TopicPartition};
use parking_lot::Mutex;
use protocol::api::{ErrorCode, Pieces};
use storage::log::{AppendError, AppendErrorKind, AppendInfo, AppendOptions, LogOffsets, PartitionLog};
use uuid::Uuid;

use crate::waiters::{Delayed, Ticket, Waiters, Watchers};

/// The leader's side of one partition.
pub struct Partition {
    /// Which one.
    pub topic_partition: TopicPartition,
    /// Identity of the topic.
    pub topic_id: Uuid,
    /// Term in which this broker leads it.
    pub leader_epoch: LeaderEpoch,
    log: Arc<PartitionLog>,
    deleted: AtomicBool,
    watchers: Watchers,
}

impl Partition {
    /// Takes the lead of a log.
    pub(crate) fn new(
        topic_partition: TopicPartition,
        topic_id: Uuid,
        leader_epoch: LeaderEpoch,
        log: Arc<PartitionLog>,
    ) -> Arc<Self> {
        let partition = Arc::new(Self {
            topic_partition,
            topic_id,
            leader_epoch,
            log,
            deleted: AtomicBool::new(false),
            watchers: Watchers::default(),
        });
        let weak: Weak<Self> = Arc::downgrade(&partition);
        partition.log.on_advance(Arc::new(move || {
            if let Some(partition) = weak.upgrade() {
                partition.watchers.notify(&partition);
            }
        }));
        partition
    }

    /// The log.
    pub fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }

    /// The four offsets.
    pub fn offsets(&self) -> LogOffsets {
        self.log.offsets()
    }

    /// Appends what a producer sent; `transaction_version` and `markers_seen` as in [`AppendOptions`].
    ///
    /// # Errors
    /// Kafka's.
    pub fn append_from_client(
        &self,
        records: &Pieces,
        transaction_version: i16,
        markers_seen: Option<u32>,
        now: Now,
    ) -> Result<AppendInfo, AppendError> {
        let options = AppendOptions::client(self.leader_epoch, now);
        self.log.append(records, AppendOptions { transaction_version, markers_seen, ..options })
    }

    /// Appends what a coordinator of this broker wrote; committed once the high watermark is above the last offset.
    /// `transaction_version` and `markers_seen` as in [`AppendOptions`].
    ///
    /// # Errors
    /// Kafka's.
    pub fn append_from_coordinator(
        &self,
        records: &Pieces,
        transaction_version: i16,
        markers_seen: Option<u32>,
        now: Now,
    ) -> Result<AppendInfo, AppendError> {
        let options = AppendOptions::coordinator(self.leader_epoch, now);
        self.log.append(records, AppendOptions { transaction_version, markers_seen, ..options })
    }

    /// Whether the topic is gone; what waits here must be answered.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The topic is gone: everyone who waits is told.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.watchers.notify(self);
    }

    /// Hangs a delayed request on this partition; look at the partition once more afterwards.
    pub fn watch(&self, delayed: Arc<dyn Delayed>) {
        self.watchers.add(delayed);
    }

    /// The broker has closed: who waits here is let go.
    pub(crate) fn let_go(&self) {
        self.watchers.close();
    }

    /// How the wait for everything below `end_offset` to be committed stands; `None` while it must go on.
    pub fn committed(&self, end_offset: Offset) -> Option<Result<(), ErrorCode>> {
        if self.offsets().high_watermark >= end_offset {
            Some(Ok(()))
        } else if self.is_deleted() {
            Some(Err(ErrorCode::UnknownTopicOrPartition))
        } else if self.log.failure().is_some() {
            Some(Err(ErrorCode::KafkaStorageError))
        } else {
            None
        }
    }

    /// Calls `done` once everything below `end_offset` is committed, or with an error when the log fails, the topic goes
    /// or the deadline passes (`REQUEST_TIMED_OUT`). May call it before returning. Runs on whatever thread made the
    /// progress, without locks held.
    pub fn when_committed(
        self: &Arc<Self>,
        waiters: &Arc<Waiters>,
        end_offset: Offset,
        deadline_ticks_ms: i64,
        done: impl FnOnce(Result<(), ErrorCode>) + Send + 'static,
    ) {
        if let Some(result) = self.committed(end_offset) {
            return done(result);
        }
        let ticket = waiters.ticket(deadline_ticks_ms);
        let wait = Arc::new(CommitWait {
            end_offset,
            ticket,
            waiters: Arc::clone(waiters),
            done: Mutex::new(Some(Box::new(done))),
        });
        waiters.add(ticket, wait.clone());
        self.watch(wait.clone());
        wait.advanced(self);
    }
}

type Done = Box<dyn FnOnce(Result<(), ErrorCode>) + Send>;

struct CommitWait {
    end_offset: Offset,
    ticket: Ticket,
    waiters: Arc<Waiters>,
    done: Mutex<Option<Done>>,
}

impl CommitWait {
    fn finish(&self, result: Result<(), ErrorCode>) {
        let done = self.done.lock().take();
        if let Some(done) = done {
            self.waiters.remove(self.ticket);
            done(result);
        }
    }
}

impl Delayed for CommitWait {
    fn advanced(&self, partition: &Partition) {
        if let Some(result) = partition.committed(self.end_offset) {
            self.finish(result);
        }
    }

    fn expire(&self, _now: Now) {
        self.finish(Err(ErrorCode::RequestTimedOut));
    }

    fn is_done(&self) -> bool {
        self.done.lock().is_none()
    }
}

/// Kafka's code for a refused append.
pub fn append_error_code(kind: AppendErrorKind) -> ErrorCode {
    match kind {
        AppendErrorKind::CorruptMessage => ErrorCode::CorruptMessage,
        AppendErrorKind::MessageTooLarge => ErrorCode::MessageTooLarge,
        AppendErrorKind::RecordListTooLarge => ErrorCode::RecordListTooLarge,
        AppendErrorKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        AppendErrorKind::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        AppendErrorKind::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        AppendErrorKind::InvalidTransactionState | AppendErrorKind::TransactionOvertaken => ErrorCode::InvalidTxnState,
        AppendErrorKind::TransactionCoordinatorFenced => ErrorCode::TransactionCoordinatorFenced,
        AppendErrorKind::Storage => ErrorCode::KafkaStorageError,
        AppendErrorKind::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
        AppendErrorKind::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
        AppendErrorKind::InvalidRecord => ErrorCode::InvalidRecord,
        AppendErrorKind::Unknown => ErrorCode::UnknownServerError,
    }
}
