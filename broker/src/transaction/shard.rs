//! All transactional ids of one partition of `__transaction_state`, as a pure state machine: (state, request, now) gives
//! the record to append and the answer; replaying the records gives the state.
//!
//! Knows no log, no clock and no wire format.
//!
//! Invariant: after every record is stored, replaying them gives the same values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::hash::HashMap;
use base::{Now, ProducerId, Timestamp};
use protocol::api::ErrorCode;

use super::entry::{Change, Decision, Entry, Identity};
use super::records::{TopicAndPartition, TransactionValue};

/// Settings of the transaction coordinator.
#[derive(Clone, Copy, Debug)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: transactions that last too long are ended at least
    /// this far apart.
    pub abort_interval_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_interval_ms: i64,
}

/// The transactional ids of one partition of `__transaction_state`.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    entries: HashMap<Arc<str>, Entry>,
    /// Open transactions by the time at which they have lasted too long.
    timeouts: BTreeSet<(Timestamp, Arc<str>)>,
    /// When transactions were last ended for their age, in ticks.
    last_abort: Option<i64>,
    next_expiration: Option<i64>,
}

impl Shard {
    /// The transactional id, if it is known.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// All ids, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.entries.iter()
    }

    /// InitProducerId; see [`Entry::init`]. An id that is new gets the producer id `fresh`.
    pub fn init(
        &mut self,
        id: &Arc<str>,
        timeout_ms: i32,
        expected: Option<Identity>,
        fresh: Option<ProducerId>,
        now: Now,
    ) -> Decision {
        if let Some(entry) = self.entries.get_mut(id) {
            return entry.init(timeout_ms, expected, fresh, now.wall_ms);
        }
        let Some(fresh) = fresh else { return Decision::NeedsProducerId };
        let mut entry = Entry::new(Arc::clone(id), fresh);
        let decision = entry.init(timeout_ms, expected, None, now.wall_ms);
        if matches!(decision, Decision::Write(..)) {
            self.entries.insert(Arc::clone(id), entry);
        }
        decision
    }

    /// Adds partitions; see [`Entry::add`].
    pub fn add(
        &mut self,
        id: &str,
        identity: Identity,
        partitions: &BTreeSet<TopicAndPartition>,
        client_version: i16,
        now: Now,
    ) -> Decision {
        match self.entries.get_mut(id) {
            Some(entry) => entry.add(identity, partitions, client_version, now.wall_ms),
            None => Decision::Answer(Err(ErrorCode::InvalidProducerIdMapping)),
        }
    }

    /// Whether the partition is in the producer's open transaction; see [`Entry::verify`].
    ///
    /// # Errors
    /// Those of [`Entry::verify`]; `InvalidProducerIdMapping` for an unknown id.
    pub fn verify(&self, id: &str, identity: Identity, partition: &TopicAndPartition) -> Result<(), ErrorCode> {
        self.entries.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?.verify(identity, partition)
    }

    /// EndTxn of either protocol; see [`Entry::end`] and [`Entry::end_and_bump`].
    pub fn end(
        &mut self,
        id: &str,
        identity: Identity,
        commit: bool,
        bumps: bool,
        fresh: Option<ProducerId>,
        now: Now,
    ) -> Decision {
        match self.entries.get_mut(id) {
            None => Decision::Answer(Err(ErrorCode::InvalidProducerIdMapping)),
            Some(entry) if bumps => entry.end_and_bump(identity, commit, fresh, now.wall_ms),
            Some(entry) => entry.end(identity, commit, now.wall_ms),
        }
    }

    /// The record of a change is durable, or could not be written.
    pub fn stored(&mut self, change: &Change, result: Result<(), ErrorCode>) {
        let Some(entry) = self.entries.get_mut(&change.id) else { return };
        match (result, &change.value) {
            (Ok(()), Some(_)) => {
                let before = entry.times_out_at();
                entry.apply(change);
                let after = entry.times_out_at();
                if before != after {
                    self.reschedule(&change.id, before, after);
                }
            }
            (Ok(()), None) => {
                self.entries.remove(&change.id);
            }
            (Err(_), _) => {
                if entry.forget_change() {
                    self.entries.remove(&change.id);
                }
            }
        }
    }

    fn reschedule(&mut self, id: &Arc<str>, before: Option<Timestamp>, after: Option<Timestamp>) {
        if let Some(before) = before {
            self.timeouts.remove(&(before, Arc::clone(id)));
        }
        if let Some(after) = after {
            self.timeouts.insert((after, Arc::clone(id)));
        }
    }

    /// The partition has its marker of the end prepared under `identity`; gives the change that completes the
    /// transaction, if it was the last one.
    pub fn marked(
        &mut self,
        id: &str,
        identity: Identity,
        partition: &TopicAndPartition,
        now: Now,
    ) -> Option<Box<Change>> {
        let entry = self.entries.get_mut(id)?;
        entry.marked(identity, partition);
        entry.complete(now.wall_ms)
    }

    /// Completes a prepared end that has no partitions to mark.
    pub fn complete(&mut self, id: &str, now: Now) -> Option<Box<Change>> {
        self.entries.get_mut(id)?.complete(now.wall_ms)
    }

    /// Does what is due at `now`: ends transactions that have lasted too long, and forgets ids that nobody used.
    pub fn step(&mut self, now: Now, config: &TransactionConfig) -> Vec<Box<Change>> {
        let mut changes = Vec::new();
        if self.abort_due(now, config).is_some_and(|at| at <= now.ticks_ms) {
            self.last_abort = Some(now.ticks_ms);
            let due = self.timeouts.iter().take_while(|(at, _)| *at < now.wall_ms);
            let due: Vec<Arc<str>> = due.map(|(_, id)| Arc::clone(id)).collect();
            changes.extend(due.iter().filter_map(|id| self.entries.get_mut(id)?.time_out(now.wall_ms)));
        }
        if self.next_expiration.is_some_and(|at| at <= now.ticks_ms) {
            self.next_expiration = Some(now.ticks_ms.saturating_add(config.expiration_interval_ms));
            let before = now.wall_ms.saturating_sub(config.id_expiration_ms);
            changes.extend(self.entries.values_mut().filter_map(|entry| entry.expire(before)));
        }
        changes
    }

    /// When the oldest transaction is to be ended, in ticks.
    fn abort_due(&self, now: Now, config: &TransactionConfig) -> Option<i64> {
        let (at, _) = self.timeouts.first()?;
        let at = now.ticks_ms.saturating_add((at.saturating_add(1)).saturating_sub(now.wall_ms));
        let apart = self.last_abort.map_or(i64::MIN, |last| last.saturating_add(config.abort_interval_ms));
        Some(at.max(apart))
    }

    /// When [`Shard::step`] has something to do, in ticks.
    pub fn next_wake(&mut self, now: Now, config: &TransactionConfig) -> Option<i64> {
        if self.entries.is_empty() {
            return None;
        }
        let expiration =
            *self.next_expiration.get_or_insert(now.ticks_ms.saturating_add(config.expiration_interval_ms));
        self.abort_due(now, config).into_iter().chain([expiration]).min()
    }

    /// A record of the log, read at start.
    pub fn replay(&mut self, id: Arc<str>, value: Option<TransactionValue>) {
        let before = self.entries.get(&id).and_then(Entry::times_out_at);
        let after = match value {
            Some(value) => {
                let entry = Entry::from_log(Arc::clone(&id), value);
                let after = entry.times_out_at();
                self.entries.insert(Arc::clone(&id), entry);
                after
            }
            None => {
                self.entries.remove(&id);
                None
            }
        };
        self.reschedule(&id, before, after);
    }

    /// Ids whose transaction's end is decided, but not complete: what a restart goes on with.
    pub fn prepared(&self) -> Vec<Arc<str>> {
        let prepared = self.entries.iter().filter(|(_, entry)| entry.value().state.is_prepared());
        prepared.map(|(id, _)| Arc::clone(id)).collect()
    }

    /// What a replay of the log must give back.
    pub fn image(&self) -> BTreeMap<Arc<str>, TransactionValue> {
        let stored = self.entries.iter().filter(|(_, entry)| entry.value().producer_epoch != -1);
        stored.map(|(id, entry)| (Arc::clone(id), entry.value().clone())).collect()
    }
}
