//! The partitions of a share group whose share state has been made: which are yet to be, and what the group's record says once they are, or
//! once they are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{Offset, PartitionId};
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::group::{ShareGroup, State};
use super::records::{ShareGroupRecord, TopicPartitions};
use crate::group::consumer::records::GroupEpoch;
use crate::group::environment::Cluster;
use crate::group::records::GroupRecord;
use crate::share::records::ShareKey;

/// Partitions whose share state is to be made, or has been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToInitialize {
    /// Term of the state.
    pub state_epoch: i32,
    /// Topic and partitions, with the name of the topic.
    pub topics: Vec<(Uuid, Arc<str>, BTreeSet<PartitionId>)>,
}

impl ToInitialize {
    /// The share partitions, each to begin at `start_offset`.
    pub fn keys(&self, group: &Arc<str>, start_offset: Offset) -> Vec<(ShareKey, Offset)> {
        let keys = self.topics.iter().flat_map(|(topic, _, partitions)| {
            let key =
                |partition: &PartitionId| ShareKey { group: Arc::clone(group), topic: *topic, partition: *partition };
            partitions.iter().map(move |partition| (key(partition), start_offset))
        });
        keys.collect()
    }
}

impl ShareGroup {
    /// Partitions of topics that members want, or a member that comes with `more`, whose share state is yet to be made.
    pub fn to_initialize(&self, more: &BTreeSet<Arc<str>>, cluster: &dyn Cluster) -> ToInitialize {
        let wanted: BTreeSet<&Arc<str>> =
            self.members.values().flat_map(|member| &member.metadata.topic_names).chain(more).collect();
        let missing = wanted.into_iter().filter_map(|name| {
            let (topic, count) = cluster.topic(name)?;
            let known = self.state_partitions.initialized.get(&topic);
            let is_missing = |partition: &PartitionId| known.is_none_or(|known| !known.partitions.contains(partition));
            let partitions: BTreeSet<PartitionId> = (0..count).filter(is_missing).collect();
            (!partitions.is_empty()).then(|| (topic, Arc::clone(name), partitions))
        });
        ToInitialize { state_epoch: self.epoch.saturating_add(1), topics: missing.collect() }
    }

    /// The share state of these partitions is there: the record of it, unless that was known.
    pub(super) fn note_initialized(&mut self, made: &ToInitialize, records: &mut Vec<ShareGroupRecord>) -> bool {
        if made.topics.is_empty() {
            return false;
        }
        let mut parts = self.state_partitions.clone();
        for (topic, name, partitions) in &made.topics {
            let known = parts
                .initialized
                .entry(*topic)
                .or_insert_with(|| TopicPartitions { name: Arc::clone(name), ..TopicPartitions::default() });
            known.partitions.extend(partitions);
            if let Some(initializing) = parts.initializing.get_mut(topic) {
                initializing.partitions.retain(|partition| !partitions.contains(partition));
            }
        }
        parts.initializing.retain(|_, topic| !topic.partitions.is_empty());
        let is_new = parts != self.state_partitions;
        if is_new {
            self.push(ShareGroupRecord::StatePartitions(Some(parts)), records);
        }
        is_new
    }

    /// Whether somebody who is no member may set or remove the start offsets.
    ///
    /// # Errors
    /// `NonEmptyGroup` while it has members.
    pub fn check_offsets_settable(&self) -> Result<(), ErrorCode> {
        self.check_alive()?;
        if self.state() == State::Empty { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// Start offsets of these partitions were set: a new epoch of the group, which is the term of their state.
    pub fn offsets_set(&mut self, made: &ToInitialize) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        let epoch = GroupEpoch { epoch: made.state_epoch.max(self.epoch), metadata_hash: self.metadata_hash };
        self.push(ShareGroupRecord::Group(Some(epoch)), &mut records);
        self.note_initialized(made, &mut records);
        self.to_write(records)
    }

    /// The share state of these topics is gone, or goes: the record of it, if there was some.
    pub fn forget_topics(&mut self, topics: &BTreeSet<Uuid>) -> Vec<GroupRecord> {
        let mut parts = self.state_partitions.clone();
        parts.initializing.retain(|topic, _| !topics.contains(topic));
        parts.initialized.retain(|topic, _| !topics.contains(topic));
        parts.deleting.retain(|topic, _| !topics.contains(topic));
        let mut records = Vec::new();
        if parts != self.state_partitions {
            self.push(ShareGroupRecord::StatePartitions(Some(parts)), &mut records);
        }
        self.to_write(records)
    }

    /// The share partitions of these topics, or of all, whose state is there or may be.
    pub fn state_keys(&self, only: Option<&BTreeSet<Uuid>>) -> Vec<ShareKey> {
        let topics = self.state_partitions.initialized.iter().chain(&self.state_partitions.initializing);
        let topics = topics.filter(|(topic, _)| only.is_none_or(|only| only.contains(*topic)));
        let keys = topics.flat_map(|(topic, known)| {
            known.partitions.iter().map(|partition| ShareKey {
                group: Arc::clone(&self.id),
                topic: *topic,
                partition: *partition,
            })
        });
        keys.collect()
    }
}
