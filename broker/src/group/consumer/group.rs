//! One consumer group, as its records give it.
//!
//! Invariants: every static member is a member; a partition has at most one owner, who has it assigned or has yet to give it up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::hash::HashMap;
use base::{PartitionId, Timestamp};
use uuid::Uuid;

use super::member::Member;
use super::records::{
    ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata, MemberState, Partitions, ResolvedRegex,
};
use super::topics::Known;
use crate::group::records::GroupRecord;
use crate::group::target_epoch::TargetEpoch;

/// Epoch of a group and of its assignment before anything has been written, as in Kafka.
pub const FIRST_EPOCH: i32 = 1;

/// Where a consumer group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// The target assignment is yet to be computed for the group's epoch.
    Assigning,
    /// Some member does not have its target assignment yet.
    Reconciling,
    /// All members have what they are to have.
    Stable,
    /// Being deleted.
    Dead,
}

impl State {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Assigning => "Assigning",
            State::Reconciling => "Reconciling",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    pub(super) id: Arc<str>,
    pub(super) epoch: i32,
    pub(super) metadata_hash: i64,
    pub(super) target_epoch: i32,
    pub(super) target_timestamp: Timestamp,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) targets: BTreeMap<Arc<str>, Partitions>,
    /// Who has each partition, or has yet to give it up.
    pub(super) owners: HashMap<(Uuid, PartitionId), Arc<str>>,
    pub(super) regexes: BTreeMap<Arc<str>, ResolvedRegex>,
    pub(super) dead: bool,
    pub(super) known: Known,
}

impl ConsumerGroup {
    /// A group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            target_epoch: FIRST_EPOCH,
            target_timestamp: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            targets: BTreeMap::new(),
            owners: HashMap::default(),
            regexes: BTreeMap::new(),
            dead: false,
            known: Known::default(),
        }
    }

    /// Takes up one record, read from the log or just made. That of the group's removal is its holder's to take up.
    pub fn apply(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::Group(value) => {
                let value = value.unwrap_or(GroupEpoch { epoch: FIRST_EPOCH, metadata_hash: 0 });
                (self.epoch, self.metadata_hash) = (value.epoch, value.metadata_hash);
            }
            ConsumerRecord::SubscribedPartitions => {}
            ConsumerRecord::Member { member_id, value } => self.apply_member(member_id, value.as_ref()),
            ConsumerRecord::TargetEpoch(value) => {
                let value = value.unwrap_or(TargetEpoch { epoch: FIRST_EPOCH, timestamp: 0 });
                (self.target_epoch, self.target_timestamp) = (value.epoch, value.timestamp);
            }
            ConsumerRecord::Target { member_id, value } => {
                match value {
                    Some(value) => self.targets.insert(Arc::clone(member_id), value.clone()),
                    None => self.targets.remove(member_id),
                };
            }
            ConsumerRecord::Current { member_id, value } => self.apply_current(member_id, value.as_ref()),
            ConsumerRecord::Regex { pattern, value } => {
                match value {
                    Some(value) => self.regexes.insert(Arc::clone(pattern), value.clone()),
                    None => self.regexes.remove(pattern),
                };
            }
        }
    }

    fn apply_member(&mut self, member_id: &Arc<str>, value: Option<&MemberMetadata>) {
        if let Some(member) = self.members.get(member_id)
            && let Some(instance_id) = &member.metadata.instance_id
            && self.static_members.get(instance_id) == Some(member_id)
        {
            self.static_members.remove(instance_id);
        }
        let Some(value) = value else {
            self.apply_current(member_id, None);
            self.members.remove(member_id);
            return;
        };
        if let Some(instance_id) = &value.instance_id {
            self.static_members.insert(Arc::clone(instance_id), Arc::clone(member_id));
        }
        self.member_mut(member_id).metadata = value.clone();
    }

    fn apply_current(&mut self, member_id: &Arc<str>, value: Option<&CurrentAssignment>) {
        // A removal of what compaction has removed already.
        if value.is_none() && !self.members.contains_key(member_id) {
            return;
        }
        let value = value.cloned().unwrap_or_default();
        let before = std::mem::replace(&mut self.member_mut(member_id).current, value.clone());
        for owned in owned(&before) {
            if self.owners.get(&owned) == Some(member_id) {
                self.owners.remove(&owned);
            }
        }
        self.owners.extend(owned(&value).map(|owned| (owned, Arc::clone(member_id))));
    }

    fn member_mut(&mut self, member_id: &Arc<str>) -> &mut Member {
        self.members.entry(Arc::clone(member_id)).or_insert_with(|| Member::new(Arc::clone(member_id)))
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where the group stands.
    pub fn state(&self) -> State {
        if self.dead {
            State::Dead
        } else if self.members.is_empty() {
            State::Empty
        } else if self.epoch > self.target_epoch {
            State::Assigning
        } else if self.members.values().all(|member| self.is_reconciled(member)) {
            State::Stable
        } else {
            State::Reconciling
        }
    }

    fn is_reconciled(&self, member: &Member) -> bool {
        member.current.state == MemberState::Stable && member.current.epoch == self.target_epoch
    }

    /// Rises with every change that asks for another assignment.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The group epoch that the target assignment was computed for.
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// What a member is to have; nothing before it was computed.
    pub fn target(&self, member_id: &str) -> Option<&Partitions> {
        self.targets.get(member_id)
    }

    /// Whether some member wants `topic`.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.wanted(&member.metadata).any(|name| name.as_ref() == topic))
    }

    /// Marks the group as being deleted, or no longer so.
    pub fn set_dead(&mut self, dead: bool) {
        self.dead = dead;
    }

    /// The next moment at which something must be done about a member, in ticks.
    pub fn next_deadline(&self) -> Option<i64> {
        self.members.values().map(Member::next_deadline).min().filter(|at| *at != i64::MAX)
    }

    /// Starts all sessions anew, as after reading the log.
    pub fn start_sessions(&mut self, now_ticks: i64, session_timeout_ms: i64) {
        for member in self.members.values_mut() {
            let classic = member.metadata.classic.as_ref();
            let timeout_ms = classic.map_or(session_timeout_ms, |classic| i64::from(classic.session_timeout_ms.max(0)));
            member.session_deadline = now_ticks.saturating_add(timeout_ms);
            let gives_up = member.current.state == MemberState::UnrevokedPartitions && classic.is_none();
            member.revocation_deadline =
                gives_up.then(|| now_ticks.saturating_add(i64::from(member.metadata.rebalance_timeout_ms.max(0))));
        }
    }

    /// The group without its timers: what its records must give back.
    pub fn image(&self) -> Self {
        let mut image = Self { known: Known::default(), ..self.clone() };
        for member in image.members.values_mut() {
            (member.session_deadline, member.revocation_deadline) = (i64::MAX, None);
            (member.join_deadline, member.sync_deadline) = (None, None);
        }
        image
    }

    /// Does what is due at `now_ticks`: members that were silent for too long, or that did not give up what they had to, go.
    pub fn expire(&mut self, now_ticks: i64) -> Vec<GroupRecord> {
        let due = self.members.values().filter(|member| member.next_deadline() <= now_ticks);
        let due: BTreeSet<Arc<str>> = due.map(|member| Arc::clone(&member.id)).collect();
        if due.is_empty() {
            return Vec::new();
        }
        for id in &due {
            tracing::info!(group = %self.id, member = %id, "dropped: silent for too long, or slow to give up partitions");
        }
        self.fence(&due)
    }

    /// Records that remove the whole group, its own last.
    pub fn removals(&self) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        let ids: BTreeSet<&Arc<str>> = self.members.keys().chain(self.targets.keys()).collect();
        for id in &ids {
            records.push(ConsumerRecord::Current { member_id: Arc::clone(id), value: None });
        }
        for id in &ids {
            records.push(ConsumerRecord::Target { member_id: Arc::clone(id), value: None });
        }
        records.push(ConsumerRecord::TargetEpoch(None));
        for id in self.members.keys() {
            records.push(ConsumerRecord::Member { member_id: Arc::clone(id), value: None });
        }
        for pattern in self.regexes.keys() {
            records.push(ConsumerRecord::Regex { pattern: Arc::clone(pattern), value: None });
        }
        records.push(ConsumerRecord::Group(None));
        records.into_iter().map(|record| GroupRecord::Consumer { group: Arc::clone(&self.id), record }).collect()
    }
}

/// The partitions that a member has, or has yet to give up.
fn owned(current: &CurrentAssignment) -> impl Iterator<Item = (Uuid, PartitionId)> {
    let parts = current.assigned.iter().chain(&current.pending_revocation);
    parts.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (*topic, *partition)))
}
