//! One transactional id as a pure state machine: (state, request, time) gives the record to append and the answer; the
//! state moves once the record is durable ([`Entry::apply`]).
//!
//! Invariant: at most one change is on its way to the log. Until it is there, everything else is answered
//! `CONCURRENT_TRANSACTIONS`, so that nobody acts on what a failure could still undo.
//!
//! Facts as in Kafka's `TransactionMetadata` and `TransactionCoordinator`.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{ProducerEpoch, ProducerId, Timestamp};
use protocol::api::ErrorCode;

use super::records::{TopicAndPartition, TransactionState, TransactionValue};

/// The highest epoch that a client gets to see; the one above is left for fencing.
pub const EPOCH_MAX: ProducerEpoch = i16::MAX - 1;

/// From this version of the transaction protocol on every end of a transaction raises the epoch (KIP-890).
pub const EPOCH_BUMPS: i16 = 2;

/// Who writes: a producer and its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
}

/// A new state of a transactional id, to be appended; `None` removes the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The transactional id.
    pub id: Arc<str>,
    /// Its new state.
    pub value: Option<TransactionValue>,
    last_epoch: ProducerEpoch,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is answered now.
    Answer(Result<Identity, ErrorCode>),
    /// The change is appended; the answer holds once it is durable.
    Write(Box<Change>, Result<Identity, ErrorCode>),
    /// It is to be asked again with a producer id that nobody has: epochs are used up, or the id is new.
    NeedsProducerId,
}

const fn refuse(error: ErrorCode) -> Decision {
    Decision::Answer(Err(error))
}

/// One transactional id.
#[derive(Clone, Debug)]
pub struct Entry {
    id: Arc<str>,
    value: TransactionValue,
    /// The epoch before the last raise, if its owner may not have heard of the raise; -1 none. Not on disk.
    last_epoch: ProducerEpoch,
    /// A change is on its way to the log.
    pending: bool,
    /// Partitions that still wait for the marker of the prepared end.
    unmarked: BTreeSet<TopicAndPartition>,
}

impl Entry {
    /// An id that is new: nothing of it is in the log, and its first change must be one of [`Entry::init`].
    pub fn new(id: Arc<str>, producer_id: ProducerId) -> Self {
        let value = TransactionValue {
            producer_id,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: -1,
            timeout_ms: 0,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            last_update_ms: -1,
            start_ms: -1,
            client_version: 0,
        };
        Self::from_log(id, value)
    }

    /// An id as its newest record describes it.
    pub fn from_log(id: Arc<str>, value: TransactionValue) -> Self {
        let unmarked = if value.state.is_prepared() { value.partitions.clone() } else { BTreeSet::new() };
        Self { id, value, last_epoch: -1, pending: false, unmarked }
    }

    /// Its durable state.
    pub fn value(&self) -> &TransactionValue {
        &self.value
    }

    /// Whether a change is on its way to the log.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// The identity under which its producer writes now.
    pub fn identity(&self) -> Identity {
        Identity { producer_id: self.value.producer_id, epoch: self.value.producer_epoch }
    }

    fn change(&mut self, last_epoch: ProducerEpoch, value: TransactionValue) -> Box<Change> {
        self.pending = true;
        Box::new(Change { id: Arc::clone(&self.id), value: Some(value), last_epoch })
    }

    /// The present state, to be changed: the producer's id of now is the previous one then.
    fn next(&self, state: TransactionState, now_ms: Timestamp) -> TransactionValue {
        TransactionValue {
            state,
            previous_producer_id: self.value.producer_id,
            last_update_ms: now_ms,
            ..self.value.clone()
        }
    }

    /// InitProducerId: a plain one takes the id over from whoever has it; one of the producer itself (`expected`) goes on
    /// after an error. `fresh` is a producer id for the case that epochs are used up.
    pub fn init(
        &mut self,
        timeout_ms: i32,
        expected: Option<Identity>,
        fresh: Option<ProducerId>,
        now_ms: Timestamp,
    ) -> Decision {
        if self.pending {
            return refuse(ErrorCode::ConcurrentTransactions);
        }
        if expected.is_some_and(|expected| !self.may_be(expected)) {
            return refuse(ErrorCode::ProducerFenced);
        }
        match self.value.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                return refuse(ErrorCode::ConcurrentTransactions);
            }
            TransactionState::Ongoing => {
                let current = self.value.producer_epoch;
                // A zombie must not end the transaction of whoever took over from it.
                if expected.is_some_and(|e| e.epoch != current && e.epoch != self.last_epoch) {
                    return refuse(ErrorCode::ProducerFenced);
                }
                return Decision::Write(self.fence(now_ms), Err(ErrorCode::ConcurrentTransactions));
            }
            _ => {}
        }
        let epoch = self.value.producer_epoch;
        let mut value = TransactionValue {
            timeout_ms,
            partitions: BTreeSet::new(),
            start_ms: -1,
            ..self.next(TransactionState::Empty, now_ms)
        };
        let last_epoch = match expected {
            None if epoch >= EPOCH_MAX => {
                let Some(fresh) = fresh else { return Decision::NeedsProducerId };
                (value.producer_id, value.producer_epoch) = (fresh, 0);
                -1
            }
            Some(expected) if epoch >= EPOCH_MAX && expected.epoch == epoch => {
                let Some(fresh) = fresh else { return Decision::NeedsProducerId };
                (value.producer_id, value.producer_epoch) = (fresh, 0);
                epoch
            }
            None => {
                value.producer_epoch += 1;
                -1
            }
            Some(expected) if epoch == -1 || expected.epoch == epoch => {
                value.producer_epoch += 1;
                epoch
            }
            // Asked again: the answer had been lost.
            Some(expected) if expected.epoch == self.last_epoch => self.last_epoch,
            Some(_) => return refuse(ErrorCode::ProducerFenced),
        };
        let answer = Identity { producer_id: value.producer_id, epoch: value.producer_epoch };
        Decision::Write(self.change(last_epoch, value), Ok(answer))
    }

    /// Whether the producer id of `expected` is one that the id's owner may still believe in.
    fn may_be(&self, expected: Identity) -> bool {
        self.value.producer_epoch == -1
            || expected.producer_id == self.value.producer_id
            || expected.producer_id == self.value.previous_producer_id && expected.epoch >= EPOCH_MAX
    }

    /// Aborts the open transaction under a raised epoch, which fences its producer.
    fn fence(&mut self, now_ms: Timestamp) -> Box<Change> {
        let mut value = self.next(TransactionState::PrepareAbort, now_ms);
        // One above the highest that clients see is possible; the next initialisation takes another producer id then.
        value.producer_epoch = value.producer_epoch.saturating_add(1);
        let last_epoch = if value.client_version >= EPOCH_BUMPS { self.value.producer_epoch } else { -1 };
        self.change(last_epoch, value)
    }

    /// Adds partitions to the transaction, beginning one if none is open.
    pub fn add(
        &mut self,
        identity: Identity,
        partitions: &BTreeSet<TopicAndPartition>,
        client_version: i16,
        now_ms: Timestamp,
    ) -> Decision {
        if self.pending {
            return refuse(ErrorCode::ConcurrentTransactions);
        }
        if let Err(error) = self.check(identity) {
            return refuse(error);
        }
        if self.value.state.is_prepared() {
            return refuse(ErrorCode::ConcurrentTransactions);
        }
        let ongoing = self.value.state == TransactionState::Ongoing;
        if ongoing && partitions.is_subset(&self.value.partitions) {
            return Decision::Answer(Ok(identity));
        }
        let mut value = self.next(TransactionState::Ongoing, now_ms);
        if !ongoing {
            value.start_ms = now_ms;
            value.partitions.clear();
        }
        value.partitions.extend(partitions.iter().cloned());
        value.client_version = client_version;
        let last_epoch = self.last_epoch;
        Decision::Write(self.change(last_epoch, value), Ok(identity))
    }

    fn check(&self, identity: Identity) -> Result<(), ErrorCode> {
        if self.value.producer_id != identity.producer_id {
            Err(ErrorCode::InvalidProducerIdMapping)
        } else if self.value.producer_epoch != identity.epoch {
            Err(ErrorCode::ProducerFenced)
        } else {
            Ok(())
        }
    }

    /// Whether the partition is in the open transaction of that producer.
    ///
    /// # Errors
    /// `TransactionAbortable` if it is not; why it cannot be otherwise.
    pub fn verify(&self, identity: Identity, partition: &TopicAndPartition) -> Result<(), ErrorCode> {
        self.check(identity)?;
        if self.value.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let open = self.value.state == TransactionState::Ongoing && self.value.partitions.contains(partition);
        if open { Ok(()) } else { Err(ErrorCode::TransactionAbortable) }
    }

    /// EndTxn of a producer with the older protocol, which keeps its epoch.
    pub fn end(&mut self, identity: Identity, commit: bool, now_ms: Timestamp) -> Decision {
        if let Err(error) = self.check(identity) {
            return refuse(error);
        }
        if self.pending {
            return refuse(ErrorCode::ConcurrentTransactions);
        }
        match (self.value.state, commit) {
            (TransactionState::Ongoing, _) => Decision::Write(self.prepare(commit, 0, -1, now_ms), Ok(identity)),
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                refuse(ErrorCode::ConcurrentTransactions)
            }
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
                Decision::Answer(Ok(identity))
            }
            _ => refuse(ErrorCode::InvalidTxnState),
        }
    }

    /// EndTxn of a producer with the newer protocol (KIP-890): it goes on under the epoch that the answer gives. `fresh`
    /// is a producer id for the case that epochs are used up.
    pub fn end_and_bump(
        &mut self,
        identity: Identity,
        commit: bool,
        fresh: Option<ProducerId>,
        now_ms: Timestamp,
    ) -> Decision {
        if self.pending {
            return refuse(ErrorCode::ConcurrentTransactions);
        }
        let current = self.identity();
        let after_overflow = self.value.previous_producer_id == identity.producer_id
            && identity.epoch == EPOCH_MAX
            && current.epoch == 0
            && current.producer_id != identity.producer_id;
        if current.producer_id != identity.producer_id && !after_overflow {
            return refuse(ErrorCode::InvalidProducerIdMapping);
        }
        // The answer to the last end was lost, and the producer asks again.
        let repeated = after_overflow || identity.epoch.checked_add(1) == Some(current.epoch);
        let may_repeat = !matches!(self.value.state, TransactionState::Empty | TransactionState::Ongoing);
        let is_current = identity.epoch == current.epoch && !self.value.state.is_prepared();
        if !(is_current || repeated && may_repeat) {
            return refuse(ErrorCode::ProducerFenced);
        }
        match (self.value.state, commit, repeated) {
            (TransactionState::PrepareCommit, true, _) | (TransactionState::PrepareAbort, false, _) => {
                return refuse(ErrorCode::ConcurrentTransactions);
            }
            (TransactionState::CompleteCommit, true, true) | (TransactionState::CompleteAbort, false, true) => {
                return Decision::Answer(Ok(current));
            }
            (TransactionState::Ongoing, ..)
            // Nothing was written: the abort only raises the epoch.
            | (TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort, false, false) => {}
            _ => return refuse(ErrorCode::InvalidTxnState),
        }
        let next_id = match (current.epoch >= EPOCH_MAX, fresh) {
            (false, _) => -1,
            (true, Some(fresh)) => fresh,
            (true, None) => return Decision::NeedsProducerId,
        };
        let answer = match next_id {
            -1 => Identity { epoch: current.epoch + 1, ..current },
            next => Identity { producer_id: next, epoch: 0 },
        };
        Decision::Write(self.prepare(commit, EPOCH_BUMPS, next_id, now_ms), Ok(answer))
    }

    fn prepare(&mut self, commit: bool, client_version: i16, next_id: ProducerId, now_ms: Timestamp) -> Box<Change> {
        let state = if commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        let mut value = self.next(state, now_ms);
        if self.value.state != TransactionState::Ongoing {
            value.start_ms = now_ms;
        }
        value.client_version = client_version;
        value.next_producer_id = next_id;
        let mut last_epoch = self.last_epoch;
        if client_version >= EPOCH_BUMPS {
            last_epoch = value.producer_epoch;
            value.producer_epoch = value.producer_epoch.saturating_add(1);
        }
        self.change(last_epoch, value)
    }

    /// When the open transaction has lasted too long; `None` without one.
    pub fn times_out_at(&self) -> Option<Timestamp> {
        (self.value.state == TransactionState::Ongoing)
            .then(|| self.value.start_ms.saturating_add(i64::from(self.value.timeout_ms)))
    }

    /// Aborts a transaction that has lasted too long.
    pub fn time_out(&mut self, now_ms: Timestamp) -> Option<Box<Change>> {
        (!self.pending && self.times_out_at().is_some_and(|at| at < now_ms)).then(|| self.fence(now_ms))
    }

    /// Removes the id if nothing happened to it since before `before`.
    pub fn expire(&mut self, before: Timestamp) -> Option<Box<Change>> {
        let state = self.value.state;
        if self.pending
            || matches!(state, TransactionState::Ongoing)
            || state.is_prepared()
            || self.value.last_update_ms > before
        {
            return None;
        }
        self.pending = true;
        Some(Box::new(Change { id: Arc::clone(&self.id), value: None, last_epoch: -1 }))
    }

    /// The change is durable.
    pub fn apply(&mut self, change: &Change) {
        self.pending = false;
        if let Some(value) = &change.value {
            self.value = value.clone();
            self.last_epoch = change.last_epoch;
            self.unmarked = if value.state.is_prepared() { value.partitions.clone() } else { BTreeSet::new() };
        }
    }

    /// The change could not be written. Whether the id goes with it, since nothing of it is in the log.
    pub fn forget_change(&mut self) -> bool {
        self.pending = false;
        self.value.producer_epoch == -1
    }

    /// Partitions that still wait for the marker of the prepared end.
    pub fn unmarked(&self) -> &BTreeSet<TopicAndPartition> {
        &self.unmarked
    }

    /// The partition has its marker, of the end that was prepared under `identity`.
    pub fn marked(&mut self, identity: Identity, partition: &TopicAndPartition) {
        if self.identity() == identity {
            self.unmarked.remove(partition);
        }
    }

    /// Completes a prepared end once all markers are written.
    pub fn complete(&mut self, now_ms: Timestamp) -> Option<Box<Change>> {
        if self.pending || !self.unmarked.is_empty() {
            return None;
        }
        let state = match self.value.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            TransactionState::PrepareAbort => TransactionState::CompleteAbort,
            _ => return None,
        };
        let mut value = self.next(state, now_ms);
        value.partitions.clear();
        if value.next_producer_id != -1 {
            value.producer_id = value.next_producer_id;
            value.next_producer_id = -1;
            value.producer_epoch = 0;
        }
        let last_epoch = self.last_epoch;
        Some(self.change(last_epoch, value))
    }
}
