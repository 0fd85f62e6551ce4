//! What compaction keeps: the newest offset of each key, the fate of transactions, and the batch that remains.
//!
//! Knows batches; no files and no segments. The rules are Kafka's (`Cleaner`, `CleanedTransactionMetadata`): `cleaner`
//! applies them to a log.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use base::hash::{FixedState, HashMap, HashSet};
use base::{Offset, ProducerEpoch, ProducerId, Timestamp};
use bytes::Bytes;
use hashbrown::HashTable;
use protocol::record::{BatchBuilder, BatchHeader, BuilderOptions, Compression, RecordBatch, RecordError};

use super::append::marker_of;
use super::txn_index::AbortedEntry;

/// Counted for each key besides its bytes.
const SLOT_BYTES: usize = 32;

struct Slot {
    start: usize,
    len: usize,
    offset: Offset,
}

/// The newest offset of each key of the dirty part of a log, in bounded memory. Keys are kept as they are: two keys are
/// never taken for one.
pub(super) struct OffsetMap {
    keys: Vec<u8>,
    slots: HashTable<Slot>,
    hasher: FixedState,
    bytes_max: usize,
    /// The last offset that was looked at.
    pub(super) latest: Offset,
}

impl OffsetMap {
    pub(super) fn new(bytes_max: usize) -> Self {
        let hasher = FixedState::default();
        Self { keys: Vec::new(), slots: HashTable::new(), hasher, bytes_max, latest: -1 }
    }

    /// Whether another batch may be taken; one always may.
    pub(super) fn has_room(&self) -> bool {
        self.slots.is_empty() || self.keys.len() + self.slots.len() * SLOT_BYTES < self.bytes_max
    }

    pub(super) fn put(&mut self, key: &[u8], offset: Offset) {
        let hash = self.hasher.hash_one(key);
        let keys = &self.keys;
        if let Some(slot) = self.slots.find_mut(hash, |slot| keys[slot.start..slot.start + slot.len] == *key) {
            slot.offset = offset;
            return;
        }
        let slot = Slot { start: self.keys.len(), len: key.len(), offset };
        self.keys.extend_from_slice(key);
        let (keys, hasher) = (&self.keys, &self.hasher);
        self.slots.insert_unique(hash, slot, |slot| hasher.hash_one(&keys[slot.start..slot.start + slot.len]));
    }

    fn get(&self, key: &[u8]) -> Option<Offset> {
        let hash = self.hasher.hash_one(key);
        let found = self.slots.find(hash, |slot| self.keys[slot.start..slot.start + slot.len] == *key);
        found.map(|slot| slot.offset)
    }
}

/// Follows the transactions of a log, batch by batch from its start, to tell aborted data and spent markers.
#[derive(Default)]
pub(super) struct CleanedTransactions {
    /// Aborted ones that lie ahead, by first offset.
    ahead: VecDeque<AbortedEntry>,
    /// Aborted ones under way, and whether a batch of theirs was met.
    aborted: HashMap<ProducerId, (AbortedEntry, bool)>,
    /// Producers of other transactions of which a batch was met.
    committed: HashSet<ProducerId>,
}

impl CleanedTransactions {
    pub(super) fn new(mut aborted: Vec<AbortedEntry>) -> Self {
        aborted.sort_by_key(|entry| entry.first_offset);
        Self { ahead: aborted.into(), ..Self::default() }
    }

    fn consume(&mut self, offset: Offset) {
        while let Some(entry) = self.ahead.front()
            && entry.first_offset <= offset
        {
            self.aborted.insert(entry.producer_id, (*entry, false));
            self.ahead.pop_front();
        }
    }

    /// Whether the batch may go: data of an aborted transaction, or a marker of which no data is left. A marker that
    /// stays although its transaction was aborted gives the entry for the new transaction index.
    pub(super) fn may_discard(&mut self, batch: &RecordBatch) -> Result<(bool, Option<AbortedEntry>), RecordError> {
        let header = batch.header();
        self.consume(header.last_offset());
        if header.attributes.is_control() {
            let Some(marker) = marker_of(batch)? else { return Ok((header.record_count == 0, None)) };
            if marker.committed {
                return Ok((!self.committed.remove(&header.producer_id), None));
            }
            return Ok(match self.aborted.remove(&header.producer_id) {
                Some((entry, true)) => (false, Some(entry)),
                _ => (true, None),
            });
        }
        if !header.attributes.is_transactional() {
            return Ok((false, None));
        }
        if let Some((_, met)) = self.aborted.get_mut(&header.producer_id) {
            *met = true;
            return Ok((true, None));
        }
        self.committed.insert(header.producer_id);
        Ok((false, None))
    }
}

/// The last thing a known producer wrote: the batch that holds it must stay, emptied if need be.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastRecord {
    pub(super) epoch: ProducerEpoch,
    /// `None` after a marker.
    pub(super) data_offset: Option<Offset>,
}

/// What one round of cleaning works with.
pub(super) struct Round<'a> {
    pub(super) map: &'a OffsetMap,
    pub(super) producers: &'a HashMap<ProducerId, LastRecord>,
    pub(super) now_ms: Timestamp,
    pub(super) delete_retention_ms: i64,
}

/// What remains of a batch.
pub(super) enum Remains {
    /// All of it, byte for byte.
    All,
    /// This batch in its place.
    Some(Bytes),
    /// Nothing.
    Nothing,
}

impl Round<'_> {
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        self.producers.get(&header.producer_id).is_some_and(|last| match last.data_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.attributes.is_control() && header.producer_epoch == last.epoch,
        })
    }

    /// Decides about one batch. `may_discard` is what [`CleanedTransactions`] says about it.
    pub(super) fn filter(&self, batch: &RecordBatch, may_discard: bool) -> Result<Remains, RecordError> {
        let header = batch.header();
        let control = header.attributes.is_control();
        let horizon = header.delete_horizon();
        let discard = may_discard && (!control || horizon.is_some_and(|horizon| horizon <= self.now_ms));
        let keep_empty =
            (header.has_producer_id() && self.is_last_of_producer(header)) || header.last_offset() == self.map.latest;
        if discard && !keep_empty {
            return Ok(Remains::Nothing);
        }
        let records = batch.records()?;
        let mut kept = Vec::new();
        let mut tombstones = false;
        let mut count = 0;
        for record in &records {
            let record = record?;
            count += 1;
            let keeps = !discard
                && (control
                    || record.offset > self.map.latest
                    || record.key.is_some_and(|key| {
                        let newest = self.map.get(key).is_none_or(|newest| record.offset >= newest);
                        newest && (record.value.is_some() || horizon.is_none_or(|horizon| self.now_ms < horizon))
                    }));
            if keeps {
                tombstones |= !control && record.value.is_none();
                kept.push(record);
            }
        }
        let new_horizon = (tombstones || (may_discard && control)) && horizon.is_none();
        if kept.len() == count && count > 0 && !new_horizon {
            return Ok(Remains::All);
        }
        if kept.is_empty() {
            if !keep_empty {
                return Ok(Remains::Nothing);
            }
            if count == 0 {
                return Ok(Remains::All);
            }
        }
        let mut options = BuilderOptions {
            base_offset: header.base_offset,
            leader_epoch: header.leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.attributes.is_transactional(),
            control,
            log_append_time: header.attributes.is_log_append_time().then_some(header.max_timestamp),
            ..BuilderOptions::default()
        };
        let mut codec = header.attributes.codec()?;
        if kept.is_empty() {
            codec = Compression::None;
        } else if new_horizon {
            options.delete_horizon = Some(self.now_ms.saturating_add(self.delete_retention_ms));
        } else {
            options.delete_horizon = horizon;
        }
        let mut builder = BatchBuilder::new(codec, options);
        for record in &kept {
            builder.append_at(record.offset, record.timestamp, record.key, record.value, record.headers)?;
        }
        builder.set_last_offset(header.last_offset())?;
        if kept.is_empty() {
            builder.set_max_timestamp(header.max_timestamp);
        }
        Ok(Remains::Some(builder.build()?))
    }
}
