//! The partitions being read: where each stands, what is buffered of it, and whether it may be fetched.
//!
//! Invariant: `position <= fetch_position`; both are equal when nothing is buffered. A partition's serial number is
//! never used again and changes with every seek, so that an answer to an older question is recognised.

use std::collections::VecDeque;

use base::hash::HashMap;
use base::{LeaderEpoch, Offset, TopicPartition};
use uuid::Uuid;

use super::types::{Fetched, OffsetAndMetadata, OffsetSpec};
use crate::metadata::Metadata;

/// What a partition needs before it can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The group's committed offset.
    NeedsCommitted,
    /// An offset to be looked up.
    NeedsLookup(OffsetSpec),
    /// A decision of the owner: no policy says where to begin.
    NeedsSeek,
    /// A check whether the log was truncated below the position, since there is a new leader.
    NeedsValidation,
    /// Nothing.
    Ready,
}

/// One partition being read.
pub(crate) struct Partition {
    pub name: TopicPartition,
    pub serial: u64,
    pub phase: Phase,
    pub paused: bool,
    /// About to be given up: nothing is fetched or handed out any more.
    pub revoking: bool,
    /// Whether a question about its phase is under way.
    pub asking: bool,
    /// Node id and epoch of the leader.
    pub leader: Option<(i32, LeaderEpoch)>,
    pub topic_id: Uuid,
    /// Whether it is part of a fetch that is under way.
    pub fetching: bool,
    /// Not fetched before this tick, after a failure.
    pub not_before: i64,
    /// When it last gave something, counted in fetches: who gave least recently is asked first.
    pub last_served: u64,
    pub buffered: VecDeque<Fetched>,
    /// Whether it stands in the queue of partitions with something to hand out.
    pub queued: bool,
    pub position: Offset,
    pub position_epoch: LeaderEpoch,
    pub fetch_position: Offset,
    pub fetch_epoch: LeaderEpoch,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
}

impl Partition {
    fn new(name: TopicPartition, serial: u64, phase: Phase) -> Self {
        Self {
            name,
            serial,
            phase,
            paused: false,
            revoking: false,
            asking: false,
            leader: None,
            topic_id: Uuid::nil(),
            fetching: false,
            not_before: i64::MIN,
            last_served: 0,
            buffered: VecDeque::new(),
            queued: false,
            position: -1,
            position_epoch: -1,
            fetch_position: -1,
            fetch_epoch: -1,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
        }
    }

    pub fn is_fetchable(&self, now_ticks_ms: i64) -> bool {
        self.phase == Phase::Ready
            && !self.paused
            && !self.revoking
            && !self.fetching
            && self.buffered.is_empty()
            && self.leader.is_some()
            && self.not_before <= now_ticks_ms
    }

    pub fn buffered_bytes(&self) -> usize {
        self.buffered.iter().map(|fetched| fetched.batches.len()).sum()
    }

    /// Puts the position at `offset`; what is buffered is dropped.
    fn stand_at(&mut self, offset: Offset, epoch: LeaderEpoch) {
        self.buffered.clear();
        (self.position, self.position_epoch) = (offset, epoch);
        (self.fetch_position, self.fetch_epoch) = (offset, epoch);
    }

    fn learn_leader(&mut self, metadata: &Metadata) {
        let leader = metadata.leader_of(&self.name);
        if let Some(topic) = metadata.topic(&self.name.topic) {
            self.topic_id = topic.id;
        }
        let newer = matches!((self.leader, leader), (Some((_, old)), Some((_, new))) if new > old);
        if newer && self.phase == Phase::Ready && self.fetch_epoch >= 0 {
            self.phase = Phase::NeedsValidation;
        }
        // A partition between two leaders keeps being asked at the old one, which tells when there is a new one.
        if leader.is_some() || metadata.topic(&self.name.topic).is_none() {
            if leader != self.leader {
                self.not_before = i64::MIN;
            }
            self.leader = leader;
        }
    }
}

/// All partitions being read. An index stays with its partition until that is removed.
#[derive(Default)]
pub(crate) struct Partitions {
    slots: Vec<Option<Partition>>,
    free: Vec<usize>,
    by_name: HashMap<TopicPartition, usize>,
    by_id: HashMap<(Uuid, i32), usize>,
    next_serial: u64,
    /// Partitions with something to hand out, in turn.
    queue: VecDeque<usize>,
    /// Something changed that may make a partition fetchable.
    pub changed: bool,
    /// Some partition may be in a phase that needs something done.
    attention: bool,
}

impl Partitions {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether some partition may not be [`Phase::Ready`]. Looked at by every step, so that steps stay cheap.
    pub fn needs_attention(&self) -> bool {
        self.attention
    }

    /// Finds out whether every partition is ready; done at the end of a step.
    pub fn settle_attention(&mut self) {
        self.attention = self.attention && self.iter().any(|(_, partition)| partition.phase != Phase::Ready);
    }

    pub fn contains(&self, name: &TopicPartition) -> bool {
        self.by_name.contains_key(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &Partition)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Partition)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| Some((index, slot.as_mut()?)))
    }

    pub fn names(&self) -> Vec<TopicPartition> {
        let mut names: Vec<TopicPartition> = self.iter().map(|(_, partition)| partition.name.clone()).collect();
        names.sort();
        names
    }

    pub fn get(&self, name: &TopicPartition) -> Option<&Partition> {
        self.at(*self.by_name.get(name)?)
    }

    pub fn get_mut(&mut self, name: &TopicPartition) -> Option<&mut Partition> {
        let index = *self.by_name.get(name)?;
        self.at_mut(index)
    }

    pub fn at(&self, index: usize) -> Option<&Partition> {
        self.slots.get(index)?.as_ref()
    }

    pub fn at_mut(&mut self, index: usize) -> Option<&mut Partition> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// The partition an answer is about, which names its topic by id or by name.
    pub fn find(&self, topic_id: Uuid, name: &base::TopicName, partition: i32) -> Option<usize> {
        if !topic_id.is_nil() {
            return self.by_id.get(&(topic_id, partition)).copied();
        }
        self.by_name.get(&TopicPartition::new(name.clone(), partition)).copied()
    }

    /// Adds a partition unless it is there already.
    pub fn add(&mut self, name: TopicPartition, phase: Phase, metadata: &Metadata) {
        if self.by_name.contains_key(&name) {
            return;
        }
        self.next_serial += 1;
        let mut partition = Partition::new(name.clone(), self.next_serial, phase);
        partition.learn_leader(metadata);
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        if !partition.topic_id.is_nil() {
            self.by_id.insert((partition.topic_id, name.partition), index);
        }
        self.slots[index] = Some(partition);
        self.by_name.insert(name, index);
        (self.changed, self.attention) = (true, true);
    }

    pub fn remove(&mut self, name: &TopicPartition) {
        let Some(index) = self.by_name.remove(name) else { return };
        if let Some(partition) = self.slots[index].take() {
            self.by_id.remove(&(partition.topic_id, name.partition));
        }
        self.queue.retain(|queued| *queued != index);
        self.free.push(index);
        self.changed = true;
    }

    /// Takes in a newer state of the metadata.
    pub fn learn_leaders(&mut self, metadata: &Metadata) {
        let Self { slots, by_id, .. } = self;
        for (index, slot) in slots.iter_mut().enumerate() {
            let Some(partition) = slot else { continue };
            let before = partition.topic_id;
            partition.learn_leader(metadata);
            if before != partition.topic_id {
                by_id.remove(&(before, partition.name.partition));
                by_id.insert((partition.topic_id, partition.name.partition), index);
            }
        }
        (self.changed, self.attention) = (true, true);
    }

    /// Moves a partition to `offset`, ready to be fetched; answers to what was asked before no longer count.
    pub fn seek(&mut self, index: usize, offset: Offset, epoch: LeaderEpoch) {
        self.enter(index, Phase::Ready);
        if let Some(partition) = self.at_mut(index) {
            partition.stand_at(offset, epoch);
        }
    }

    /// Leaves the partition without position until `phase` is dealt with.
    pub fn enter(&mut self, index: usize, phase: Phase) {
        self.next_serial += 1;
        let serial = self.next_serial;
        let Some(partition) = self.at_mut(index) else { return };
        partition.serial = serial;
        partition.phase = phase;
        partition.asking = false;
        // A long poll of the old position need not end first.
        partition.fetching = false;
        partition.not_before = i64::MIN;
        partition.stand_at(-1, -1);
        (self.changed, self.attention) = (true, true);
    }

    pub fn index(&self, name: &TopicPartition) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Puts fetched batches behind those that are there.
    pub fn buffer(&mut self, index: usize, fetched: Fetched) {
        let Some(partition) = self.at_mut(index) else { return };
        (partition.fetch_position, partition.fetch_epoch) = (fetched.next_offset, fetched.leader_epoch);
        partition.buffered.push_back(fetched);
        self.enqueue(index);
    }

    /// Nothing to hand out up to `offset`: the position moves there once what is buffered before has been taken.
    pub fn skip_to(&mut self, index: usize, offset: Offset, epoch: LeaderEpoch) {
        let Some(partition) = self.at_mut(index) else { return };
        (partition.fetch_position, partition.fetch_epoch) = (offset, epoch);
        match partition.buffered.back_mut() {
            Some(last) => last.next_offset = offset,
            None => (partition.position, partition.position_epoch) = (offset, epoch),
        }
    }

    fn enqueue(&mut self, index: usize) {
        let Some(partition) = self.at_mut(index) else { return };
        let ready = !partition.buffered.is_empty() && !partition.paused && !partition.revoking;
        if ready && !partition.queued {
            partition.queued = true;
            self.queue.push_back(index);
        }
    }

    /// Sets or ends a pause.
    pub fn pause(&mut self, name: &TopicPartition, paused: bool) {
        let Some(index) = self.index(name) else { return };
        if let Some(partition) = self.at_mut(index) {
            partition.paused = paused;
        }
        self.enqueue(index);
        self.changed = true;
    }

    /// The next batches to hand out; the partition's position moves behind them.
    pub fn take(&mut self) -> Option<Fetched> {
        while let Some(index) = self.queue.pop_front() {
            let Some(partition) = self.at_mut(index) else { continue };
            partition.queued = false;
            if partition.paused || partition.revoking {
                continue;
            }
            let Some(fetched) = partition.buffered.pop_front() else { continue };
            partition.position = fetched.next_offset;
            partition.position_epoch = fetched.leader_epoch;
            if partition.buffered.is_empty() {
                self.changed = true;
            } else {
                self.enqueue(index);
            }
            return Some(fetched);
        }
        None
    }

    /// Bytes that stand in the way of further fetches; those of paused partitions do not.
    pub fn buffered_bytes(&self) -> usize {
        self.iter().filter(|(_, partition)| !partition.paused).map(|(_, partition)| partition.buffered_bytes()).sum()
    }

    /// Positions as they would be committed.
    pub fn positions(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let known = self.iter().filter_map(|(_, partition)| Some((partition.name.clone(), partition.to_commit()?)));
        known.collect()
    }
}

impl Partition {
    /// The position as it would be committed, if there is one.
    pub fn to_commit(&self) -> Option<OffsetAndMetadata> {
        (self.position >= 0).then(|| OffsetAndMetadata {
            offset: self.position,
            leader_epoch: self.position_epoch,
            metadata: String::new(),
        })
    }
}
