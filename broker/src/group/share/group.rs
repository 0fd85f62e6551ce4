//! One share group, as its records give it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Timestamp;
use protocol::api::ErrorCode;

use super::records::{CurrentAssignment, MemberMetadata, ShareGroupRecord, StatePartitions};
use crate::group::consumer::group::FIRST_EPOCH;
use crate::group::consumer::records::{GroupEpoch, Partitions};
use crate::group::records::GroupRecord;
use crate::group::target_epoch::TargetEpoch;

/// Where a share group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members.
    Empty,
    /// It has members.
    Stable,
    /// Being deleted.
    Dead,
}

impl State {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A member of a share group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: Arc<str>,
    /// As it has introduced itself.
    pub metadata: MemberMetadata,
    /// What it reads.
    pub current: CurrentAssignment,
    /// When it counts as gone, in ticks.
    pub session_deadline: i64,
}

impl Member {
    pub(super) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            metadata: MemberMetadata::default(),
            current: CurrentAssignment::default(),
            session_deadline: i64::MAX,
        }
    }
}

/// A share group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroup {
    pub(super) id: Arc<str>,
    pub(super) epoch: i32,
    pub(super) metadata_hash: i64,
    pub(super) target_epoch: i32,
    pub(super) target_timestamp: Timestamp,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) targets: BTreeMap<Arc<str>, Partitions>,
    pub(super) state_partitions: StatePartitions,
    pub(super) dead: bool,
    /// Version of the cluster's topics when they were last looked up; not recorded.
    pub(super) known_version: Option<i64>,
}

impl ShareGroup {
    /// A group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            target_epoch: FIRST_EPOCH,
            target_timestamp: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            state_partitions: StatePartitions::default(),
            dead: false,
            known_version: None,
        }
    }

    /// Takes up one record, read from the log or just made. That of the group's removal is its holder's to take up.
    pub fn apply(&mut self, record: &ShareGroupRecord) {
        match record {
            ShareGroupRecord::Member { member_id, value: Some(value) } => {
                self.member_mut(member_id).metadata = value.clone();
            }
            ShareGroupRecord::Member { member_id, value: None } => {
                self.members.remove(member_id);
            }
            ShareGroupRecord::Group(value) => {
                let value = value.unwrap_or(GroupEpoch { epoch: FIRST_EPOCH, metadata_hash: 0 });
                (self.epoch, self.metadata_hash) = (value.epoch, value.metadata_hash);
            }
            ShareGroupRecord::TargetEpoch(value) => {
                let value = value.unwrap_or(TargetEpoch { epoch: FIRST_EPOCH, timestamp: 0 });
                (self.target_epoch, self.target_timestamp) = (value.epoch, value.timestamp);
            }
            ShareGroupRecord::Target { member_id, value } => {
                match value {
                    Some(value) => self.targets.insert(Arc::clone(member_id), value.clone()),
                    None => self.targets.remove(member_id),
                };
            }
            ShareGroupRecord::Current { member_id, value: Some(value) } => {
                self.member_mut(member_id).current = value.clone();
            }
            ShareGroupRecord::Current { member_id, value: None } => {
                if let Some(member) = self.members.get_mut(member_id) {
                    member.current = CurrentAssignment::default();
                }
            }
            ShareGroupRecord::StatePartitions(value) => self.state_partitions = value.clone().unwrap_or_default(),
        }
    }

    fn member_mut(&mut self, member_id: &Arc<str>) -> &mut Member {
        self.members.entry(Arc::clone(member_id)).or_insert_with(|| Member::new(Arc::clone(member_id)))
    }

    pub(super) fn push(&mut self, record: ShareGroupRecord, records: &mut Vec<ShareGroupRecord>) {
        self.apply(&record);
        records.push(record);
    }

    pub(super) fn to_write(&self, records: Vec<ShareGroupRecord>) -> Vec<GroupRecord> {
        let written = |record| GroupRecord::Share { group: Arc::clone(&self.id), record };
        records.into_iter().map(written).collect()
    }

    /// Where the group stands.
    pub fn state(&self) -> State {
        match (self.dead, self.members.is_empty()) {
            (true, _) => State::Dead,
            (false, true) => State::Empty,
            (false, false) => State::Stable,
        }
    }

    /// Whether requests can be answered now.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while the group is being deleted.
    pub fn check_alive(&self) -> Result<(), ErrorCode> {
        if self.dead { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(()) }
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

    /// The partitions whose share state is there.
    pub fn state_partitions(&self) -> &StatePartitions {
        &self.state_partitions
    }

    /// Whether some member wants `topic`.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.metadata.topic_names.contains(topic))
    }

    /// Marks the group as being deleted, or no longer so.
    pub fn set_dead(&mut self, dead: bool) {
        self.dead = dead;
    }

    /// When the first member counts as gone, in ticks.
    pub fn next_deadline(&self) -> Option<i64> {
        self.members.values().map(|member| member.session_deadline).min().filter(|at| *at != i64::MAX)
    }

    /// Starts all sessions anew, as after reading the log.
    pub fn start_sessions(&mut self, now_ticks: i64, session_timeout_ms: i64) {
        for member in self.members.values_mut() {
            member.session_deadline = now_ticks.saturating_add(session_timeout_ms);
        }
    }

    /// The group without its timers: what its records must give back.
    pub fn image(&self) -> Self {
        let mut image = Self { known_version: None, ..self.clone() };
        image.members.values_mut().for_each(|member| member.session_deadline = i64::MAX);
        image
    }

    /// Drops members that were silent for too long at `now_ticks`.
    pub fn expire(&mut self, now_ticks: i64) -> Vec<GroupRecord> {
        let due = self.members.values().filter(|member| member.session_deadline <= now_ticks);
        let due: BTreeSet<Arc<str>> = due.map(|member| Arc::clone(&member.id)).collect();
        if due.is_empty() {
            return Vec::new();
        }
        for id in &due {
            tracing::info!(group = %self.id, member = %id, "dropped: silent for too long");
        }
        self.fence(&due)
    }

    /// Members go; gives the records that say so.
    pub(super) fn fence(&mut self, ids: &BTreeSet<Arc<str>>) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for record in ids.iter().flat_map(removals) {
            self.push(record, &mut records);
        }
        let (epoch, metadata_hash) = (self.epoch.saturating_add(1), self.metadata_hash);
        self.push(ShareGroupRecord::Group(Some(GroupEpoch { epoch, metadata_hash })), &mut records);
        self.to_write(records)
    }

    /// Records that remove the whole group, its own last.
    pub fn removals(&self) -> Vec<GroupRecord> {
        let ids: BTreeSet<&Arc<str>> = self.members.keys().chain(self.targets.keys()).collect();
        let mut records: Vec<ShareGroupRecord> = ids.into_iter().flat_map(removals).collect();
        records.push(ShareGroupRecord::StatePartitions(None));
        records.push(ShareGroupRecord::TargetEpoch(None));
        records.push(ShareGroupRecord::Group(None));
        self.to_write(records)
    }
}

/// Records that remove a member; the order is Kafka's.
fn removals(id: &Arc<str>) -> [ShareGroupRecord; 3] {
    let member_id = || Arc::clone(id);
    [
        ShareGroupRecord::Current { member_id: member_id(), value: None },
        ShareGroupRecord::Target { member_id: member_id(), value: None },
        ShareGroupRecord::Member { member_id: member_id(), value: None },
    ]
}
