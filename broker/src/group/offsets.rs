//! The committed offsets of one group.
//!
//! An entry holds what is durable and, beside it, how many commits are on their way: an offset is read only once a power
//! cut cannot take it back, yet a deletion must also cover commits that are still being written.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Offset, PartitionId, Timestamp};

use super::records::{GroupRecord, OffsetValue};

/// What is known of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    committed: Option<OffsetValue>,
    /// Position in the shard's log of the record that `committed` comes from.
    log_offset: Offset,
    /// Commits and removals appended, not yet durable.
    in_flight: u32,
    /// Commits of open transactions.
    pending: u32,
}

impl Entry {
    fn is_vacant(&self) -> bool {
        self.committed.is_none() && self.in_flight == 0 && self.pending == 0
    }
}

/// The offsets of one group, by topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<PartitionId, Entry>>,
}

impl Offsets {
    fn entry(&mut self, topic: &Arc<str>, partition: PartitionId) -> &mut Entry {
        self.topics.entry(Arc::clone(topic)).or_default().entry(partition).or_default()
    }

    fn find(&self, topic: &str, partition: PartitionId) -> Option<&Entry> {
        self.topics.get(topic)?.get(&partition)
    }

    fn tidy(&mut self, topic: &str, partition: PartitionId) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            if partitions.get(&partition).is_some_and(Entry::is_vacant) {
                partitions.remove(&partition);
            }
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// The durable commit of a partition.
    pub fn get(&self, topic: &str, partition: PartitionId) -> Option<&OffsetValue> {
        self.find(topic, partition)?.committed.as_ref()
    }

    /// An open transaction holds a commit for the partition.
    pub fn is_pending(&self, topic: &str, partition: PartitionId) -> bool {
        self.find(topic, partition).is_some_and(|entry| entry.pending > 0)
    }

    /// All durable commits.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, PartitionId, &OffsetValue)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().filter_map(move |(partition, entry)| Some((topic, *partition, entry.committed.as_ref()?)))
        })
    }

    /// Nothing is committed, nor about to be.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Commits are being written, or belong to open transactions.
    pub fn has_open_commits(&self) -> bool {
        self.topics.values().flat_map(BTreeMap::values).any(|entry| entry.in_flight > 0 || entry.pending > 0)
    }

    /// Commits are being written.
    pub fn are_being_written(&self) -> bool {
        self.topics.values().flat_map(BTreeMap::values).any(|entry| entry.in_flight > 0)
    }

    /// Something is committed for the partition, or about to be.
    pub fn contains(&self, topic: &str, partition: PartitionId) -> bool {
        self.find(topic, partition).is_some()
    }

    /// A record for the partition has been appended.
    pub fn begin(&mut self, topic: &Arc<str>, partition: PartitionId) {
        self.entry(topic, partition).in_flight += 1;
    }

    /// The record is durable at `log_offset` of the shard's log (`Some`), or was not written.
    pub fn finish(&mut self, topic: &Arc<str>, partition: PartitionId, stored: Option<(Offset, Option<OffsetValue>)>) {
        let entry = self.entry(topic, partition);
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if let Some((log_offset, value)) = stored {
            self.apply(topic, partition, log_offset, value);
        }
        self.tidy(topic, partition);
    }

    /// A record read from the shard's log, or found durable.
    pub fn apply(&mut self, topic: &Arc<str>, partition: PartitionId, log_offset: Offset, value: Option<OffsetValue>) {
        let entry = self.entry(topic, partition);
        entry.committed = value;
        entry.log_offset = log_offset;
        self.tidy(topic, partition);
    }

    /// A transaction holds a commit for the partition.
    pub fn begin_pending(&mut self, topic: &Arc<str>, partition: PartitionId) {
        self.entry(topic, partition).pending += 1;
    }

    /// The transaction ended; with `value` it was committed. A later commit outside of the transaction stays.
    pub fn finish_pending(
        &mut self,
        topic: &Arc<str>,
        partition: PartitionId,
        log_offset: Offset,
        value: Option<OffsetValue>,
    ) {
        let entry = self.entry(topic, partition);
        entry.pending = entry.pending.saturating_sub(1);
        if value.is_some() && (entry.committed.is_none() || log_offset > entry.log_offset) {
            entry.committed = value;
            entry.log_offset = log_offset;
        }
        self.tidy(topic, partition);
    }

    /// Records that remove the partitions `chosen` says, commits on their way included. Those of open transactions
    /// alone have nothing to remove yet.
    pub fn removals(
        &self,
        group: &Arc<str>,
        mut chosen: impl FnMut(&str, PartitionId, Option<&OffsetValue>) -> bool,
    ) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (topic, partitions) in &self.topics {
            for (partition, entry) in partitions {
                let exists = entry.committed.is_some() || entry.in_flight > 0;
                if exists && chosen(topic, *partition, entry.committed.as_ref()) {
                    records.push(GroupRecord::Offset {
                        group: Arc::clone(group),
                        topic: Arc::clone(topic),
                        partition: *partition,
                        value: None,
                    });
                }
            }
        }
        records
    }

    /// Whether a commit made at `base` (or with an expiry of its own) has lived its time.
    pub fn is_expired(value: &OffsetValue, base: Timestamp, now: Timestamp, retention_ms: i64) -> bool {
        match value.expire_timestamp {
            Some(at) => now >= at,
            None => now.saturating_sub(base) >= retention_ms,
        }
    }
}
