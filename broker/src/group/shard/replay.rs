//! A shard from the records of its log, and what of it they must give back.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Now, Offset, PartitionId, ProducerId};

use super::{Group, Shard};
use crate::group::classic::{ClassicGroup, State};
use crate::group::config::GroupConfig;
use crate::group::consumer::ConsumerGroup;
use crate::group::consumer::records::ConsumerRecord;
use crate::group::environment::Cluster;
use crate::group::kind::Kind;
use crate::group::records::{GroupRecord, GroupValue, OffsetValue};
use crate::group::share::ShareGroup;
use crate::group::share::records::ShareGroupRecord;
use crate::group::streams::StreamsGroup;
use crate::group::streams::group::StreamsImage;
use crate::group::streams::records::StreamsRecord;

/// A shard's state that a replay must give back: see the invariant of [`super`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupImage {
    /// The group, unless it is between generations.
    pub group: Option<KindImage>,
    /// Its offsets.
    pub offsets: Vec<(Arc<str>, PartitionId, OffsetValue)>,
}

/// What a replay must give back of a group's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindImage {
    /// Of a classic group: its last completed generation.
    Classic(GroupValue),
    /// Of a consumer group: all but its timers.
    Consumer(Box<ConsumerGroup>),
    /// Of a share group: all but its timers.
    Share(Box<ShareGroup>),
    /// Of a streams group: all that is stored.
    Streams(Box<StreamsImage>),
}

impl Shard {
    /// A record of the log, read at start. `producer` is given for a batch of a transaction, whose offsets count once
    /// the transaction commits.
    pub fn replay(&mut self, record: GroupRecord, log_offset: Offset, producer: Option<ProducerId>, now: Now) {
        match record {
            GroupRecord::Offset { group: id, topic, partition, value } => {
                if value.is_none() && !self.groups.contains_key(&id) {
                    return;
                }
                let group = self.groups.entry(Arc::clone(&id)).or_insert_with(|| Group::simple(&id, now));
                if let Some(producer) = producer {
                    group.offsets.begin_pending(&topic, partition);
                    let record = GroupRecord::Offset { group: id, topic, partition, value };
                    self.transactions.entry(producer).or_default().push((log_offset, record));
                    return;
                }
                group.offsets.apply(&topic, partition, log_offset, value);
                if group.offsets.is_empty() && !group.written {
                    self.groups.remove(&id);
                }
            }
            GroupRecord::Group { group: id, value: Some(value) } => {
                let offsets = self.groups.remove(&id).map(|group| group.offsets).unwrap_or_default();
                let kind = Kind::Classic(ClassicGroup::from_value(Arc::clone(&id), &value, now));
                self.groups.insert(id, Group { offsets, written: true, ..Group::new(kind) });
            }
            GroupRecord::Group { group: id, value: None } => self.replay_removal(id, now),
            GroupRecord::Consumer { group: id, record: ConsumerRecord::Group(None) } => self.replay_removal(id, now),
            GroupRecord::Consumer { group: id, record } => self.replay_consumer(id, &record),
            GroupRecord::Share { group: id, record: ShareGroupRecord::Group(None) } => self.replay_removal(id, now),
            GroupRecord::Share { group: id, record } => self.replay_share(id, &record),
            GroupRecord::Streams { group: id, record: StreamsRecord::Group(None) } => self.replay_removal(id, now),
            GroupRecord::Streams { group: id, record } => self.replay_streams(id, &record),
        }
    }

    /// The record of a group itself is gone; its offsets have records of their own.
    fn replay_removal(&mut self, id: Arc<str>, now: Now) {
        let offsets = self.groups.remove(&id).map(|group| group.offsets).unwrap_or_default();
        if !offsets.is_empty() {
            let group = Group { offsets, ..Group::simple(&id, now) };
            self.groups.insert(id, group);
        }
    }

    /// A record of a consumer group: whatever else the group was before, it is one now. A removal makes no group.
    fn replay_consumer(&mut self, id: Arc<str>, record: &ConsumerRecord) {
        if record.is_removal() {
            if let Some(Group { kind: Kind::Consumer(group), .. }) = self.groups.get_mut(&id) {
                group.apply(record);
            }
            return;
        }
        let made = || Kind::Consumer(ConsumerGroup::new(Arc::clone(&id)));
        let group = self.groups.entry(Arc::clone(&id)).or_insert_with(|| Group::new(made()));
        if group.consumer().is_none() {
            group.kind = made();
        }
        group.written = true;
        if let Kind::Consumer(group) = &mut group.kind {
            group.apply(record);
        }
    }

    /// A record of a share group: whatever else the group was before, it is one now. A removal makes no group.
    fn replay_share(&mut self, id: Arc<str>, record: &ShareGroupRecord) {
        if record.is_removal() {
            if let Some(Group { kind: Kind::Share(group), .. }) = self.groups.get_mut(&id) {
                group.apply(record);
            }
            return;
        }
        let made = || Kind::Share(Box::new(ShareGroup::new(Arc::clone(&id))));
        let group = self.groups.entry(Arc::clone(&id)).or_insert_with(|| Group::new(made()));
        if group.share().is_none() {
            group.kind = made();
        }
        group.written = true;
        if let Kind::Share(group) = &mut group.kind {
            group.apply(record);
        }
    }

    /// A record of a streams group: whatever else the group was before, it is one now. A removal makes no group.
    fn replay_streams(&mut self, id: Arc<str>, record: &StreamsRecord) {
        if record.is_removal() {
            if let Some(Group { kind: Kind::Streams(group), .. }) = self.groups.get_mut(&id) {
                group.apply(record);
            }
            return;
        }
        let made = || Kind::Streams(Box::new(StreamsGroup::new(Arc::clone(&id))));
        let group = self.groups.entry(Arc::clone(&id)).or_insert_with(|| Group::new(made()));
        if group.streams().is_none() {
            group.kind = made();
        }
        group.written = true;
        if let Kind::Streams(group) = &mut group.kind {
            group.apply(record);
        }
    }

    /// The end of a producer's transaction: its offsets count (`commit`), or are dropped.
    pub fn replay_marker(&mut self, producer: ProducerId, commit: bool) {
        for (log_offset, record) in self.transactions.remove(&producer).unwrap_or_default() {
            self.end_pending(log_offset, record, commit);
        }
    }

    pub(super) fn end_pending(&mut self, log_offset: Offset, record: GroupRecord, commit: bool) {
        let GroupRecord::Offset { group: id, topic, partition, value } = record else { return };
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.offsets.finish_pending(&topic, partition, log_offset, value.filter(|_| commit));
        if group.offsets.is_empty() && !group.written && group.kind.is_vacant() {
            self.groups.remove(&id);
        }
    }

    /// All records have been replayed: starts the sessions of the members.
    pub fn loaded(&mut self, now: Now, config: &GroupConfig, cluster: &dyn Cluster) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            match self.groups.get_mut(&id).map(|group| &mut group.kind) {
                Some(Kind::Consumer(group)) => {
                    let config = config.consumer.with_settings(&cluster.group_settings(&id));
                    group.start_sessions(now.ticks_ms, config.session_timeout.ms);
                }
                Some(Kind::Share(group)) => {
                    let config = config.share.with_settings(&cluster.group_settings(&id));
                    group.start_sessions(now.ticks_ms, config.session_timeout.ms);
                }
                Some(Kind::Streams(group)) => group.start_sessions(now.ticks_ms, config.streams.session_timeout_ms),
                Some(Kind::Classic(_)) | None => {}
            }
            self.schedule(&id);
        }
    }

    /// What a replay of the log must give back.
    pub fn image(&self) -> BTreeMap<Arc<str>, GroupImage> {
        let mut image = BTreeMap::new();
        for (id, group) in &self.groups {
            let offsets: Vec<_> = group
                .offsets
                .iter()
                .map(|(topic, partition, value)| (Arc::clone(topic), partition, value.clone()))
                .collect();
            let group = match &group.kind {
                _ if !group.written => None,
                Kind::Classic(group) if matches!(group.state(), State::Empty | State::Stable) => {
                    Some(KindImage::Classic(GroupValue { state_timestamp: 0, ..group.to_value() }))
                }
                Kind::Classic(_) => None,
                Kind::Consumer(group) => Some(KindImage::Consumer(Box::new(group.image()))),
                Kind::Share(group) => Some(KindImage::Share(Box::new(group.image()))),
                Kind::Streams(group) => Some(KindImage::Streams(Box::new(group.image()))),
            };
            if group.is_some() || !offsets.is_empty() {
                image.insert(Arc::clone(id), GroupImage { group, offsets });
            }
        }
        image
    }
}
