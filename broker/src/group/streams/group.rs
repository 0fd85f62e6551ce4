//! One streams group, as its records give it. It is changed only by records, whether they are read from the log or have
//! just been made; `heartbeat.rs` makes most of them.
//!
//! ```text
//!   Empty --> NotReady --> Assigning --> Reconciling --> Stable
//!             topics are   tasks are     some members    all members have
//!             missing      to be given   are on the way  what they are to have
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Now, PartitionId, Timestamp};
use protocol::api::ErrorCode;
use protocol::api::streams_group_heartbeat::StreamsTopology;

use super::configure::{Configured, configure};
use super::member::{Member, MemberInfo};
use super::reconcile::{Current, MemberState, Owners};
use super::records::{GroupEpoch, StreamsRecord};
use super::tasks::{TaskId, Tasks};
use crate::group::records::GroupRecord;
use crate::group::target_epoch::TargetEpoch;

/// Where a streams group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Topics are missing or not as they must be.
    NotReady,
    /// Tasks are to be distributed for the group's epoch.
    Assigning,
    /// Some member does not have what it is to have yet.
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
            State::NotReady => "NotReady",
            State::Assigning => "Assigning",
            State::Reconciling => "Reconciling",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// What is stored of a streams group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsImage {
    written: GroupEpoch,
    target: (i32, Timestamp),
    topology: Option<StreamsTopology>,
    members: BTreeMap<Arc<str>, (MemberInfo, Current)>,
    targets: BTreeMap<Arc<str>, Tasks>,
}

/// A streams group.
#[derive(Clone, Debug)]
pub struct StreamsGroup {
    pub(super) id: Arc<str>,
    /// As it was written last.
    pub(super) written: GroupEpoch,
    pub(super) target_epoch: i32,
    pub(super) target_timestamp: Timestamp,
    pub(super) topology: Option<Arc<StreamsTopology>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) targets: BTreeMap<Arc<str>, Tasks>,
    /// What the topology asks of the topics as of a hash of them; not stored.
    pub(super) configured: Option<(i64, Arc<Configured>)>,
    /// When tasks are distributed to the first members, in ticks; not stored.
    pub(super) initial_delay_until: Option<i64>,
    /// Rises whenever a member with an endpoint gets other tasks; not stored.
    pub(super) endpoint_epoch: i32,
    /// Internal topics that could not be made: why, and until when (ticks) members are told; not stored.
    pub(super) creation_failures: BTreeMap<Arc<str>, (String, i64)>,
    /// The member that asked for all to shut down; not stored.
    pub(super) shutdown_requested_by: Option<Arc<str>>,
    dead: bool,
}

impl StreamsGroup {
    /// A group without members.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            written: never_written(),
            target_epoch: 0,
            target_timestamp: 0,
            topology: None,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            configured: None,
            initial_delay_until: None,
            endpoint_epoch: 0,
            creation_failures: BTreeMap::new(),
            shutdown_requested_by: None,
            dead: false,
        }
    }

    /// Takes up one record, read from the log or just made. That of the group's removal is its holder's to take up.
    pub fn apply(&mut self, record: &StreamsRecord) {
        match record {
            StreamsRecord::Group(value) => self.written = value.clone().unwrap_or_else(never_written),
            StreamsRecord::Member { member_id, value: Some(value) } => {
                self.members.entry(Arc::clone(member_id)).or_default().info = value.clone();
            }
            StreamsRecord::Member { member_id, value: None } => {
                self.members.remove(member_id);
                if self.members.is_empty() {
                    self.shutdown_requested_by = None;
                }
            }
            StreamsRecord::TargetEpoch(value) => {
                let value = value.unwrap_or(TargetEpoch { epoch: 0, timestamp: 0 });
                (self.target_epoch, self.target_timestamp) = (value.epoch, value.timestamp);
            }
            StreamsRecord::Target { member_id, value: Some(value) } => {
                self.targets.insert(Arc::clone(member_id), value.clone());
            }
            StreamsRecord::Target { member_id, value: None } => {
                self.targets.remove(member_id);
            }
            StreamsRecord::Current { member_id, value: Some(value) } => {
                self.members.entry(Arc::clone(member_id)).or_default().current = value.clone();
            }
            StreamsRecord::Current { member_id, value: None } => {
                if let Some(member) = self.members.get_mut(member_id) {
                    member.current = Default::default();
                }
            }
            StreamsRecord::Topology(value) => {
                self.topology = value.clone().map(Arc::new);
                self.configured = None;
            }
        }
    }

    /// Applies records that have just been made, and gives them to be written.
    pub(super) fn take(&mut self, records: Vec<StreamsRecord>) -> Vec<GroupRecord> {
        records.iter().for_each(|record| self.apply(record));
        self.to_write(records)
    }

    fn to_write(&self, records: Vec<StreamsRecord>) -> Vec<GroupRecord> {
        let written = |record| GroupRecord::Streams { group: Arc::clone(&self.id), record };
        records.into_iter().map(written).collect()
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where the group stands.
    pub fn state(&self) -> State {
        let validated =
            self.topology.as_ref().is_some_and(|topology| topology.epoch == self.written.validated_topology_epoch);
        if self.dead {
            State::Dead
        } else if self.members.is_empty() {
            State::Empty
        } else if !validated {
            State::NotReady
        } else if self.written.epoch > self.target_epoch {
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

    /// Rises with every change that asks for another distribution of tasks.
    pub fn epoch(&self) -> i32 {
        self.written.epoch
    }

    /// The group epoch that the tasks were distributed for.
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// What the application is.
    pub fn topology(&self) -> Option<&StreamsTopology> {
        self.topology.as_deref()
    }

    /// Number of partitions of each internal topic; `None` while topics are not as they must be.
    pub fn internal_topics(&self, partitions: &dyn Fn(&str) -> Option<i32>) -> Option<BTreeMap<Arc<str>, i32>> {
        let configured = configure(self.topology.as_ref()?, partitions).ok()?;
        configured.missing.is_empty().then_some(configured.internal_topics)
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<str>, &Member)> {
        self.members.iter()
    }

    /// What a member is to have; nothing before that was decided.
    pub fn target(&self, member_id: &str) -> Option<&Tasks> {
        self.targets.get(member_id)
    }

    /// Whether the application reads `topic`, while it has members.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        !self.members.is_empty() && self.subtopology_of(topic).is_some()
    }

    /// The subtopology that reads `topic`.
    fn subtopology_of(&self, topic: &str) -> Option<&Arc<str>> {
        let topology = self.topology.as_ref()?;
        let reader = topology.subtopologies.iter().find(|subtopology| {
            let repartition = subtopology.repartition_source_topics.iter().map(|topic| &topic.name);
            subtopology.source_topics.iter().chain(repartition).any(|source| &**source == topic)
        })?;
        Some(&reader.subtopology_id)
    }

    /// Which processes have which tasks.
    pub(super) fn owners(&self) -> Owners {
        let mut owners = Owners::default();
        for member in self.members.values() {
            owners.add(&member.info.process_id, &member.current);
        }
        owners
    }

    /// Marks the group as being deleted, or no longer so.
    pub fn set_dead(&mut self, dead: bool) {
        self.dead = dead;
    }

    /// Whether requests of members can be answered now.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while the group is being deleted.
    pub fn check_alive(&self) -> Result<(), ErrorCode> {
        if self.dead { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(()) }
    }

    /// Whether offsets of these partitions may be committed by whoever names this member and epoch. An older epoch will do
    /// for tasks that the member has had since then.
    ///
    /// # Errors
    /// As the answer to the commit.
    pub fn check_commit<'a>(
        &self,
        member_id: &str,
        epoch: i32,
        partitions: impl IntoIterator<Item = (&'a str, PartitionId)>,
    ) -> Result<(), ErrorCode> {
        self.check_alive()?;
        // An operator or an application without membership, while nobody is at work.
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let current = &member.current;
        match epoch.cmp(&current.epoch) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(ErrorCode::StaleMemberEpoch),
            std::cmp::Ordering::Less => {
                let had_then = |(topic, partition): (&str, PartitionId)| {
                    let task = TaskId::new(Arc::clone(self.subtopology_of(topic)?), partition);
                    let given = current.assigned.active.get(&task).or_else(|| current.to_revoke.active.get(&task))?;
                    (epoch >= *given).then_some(())
                };
                partitions.into_iter().try_for_each(had_then).ok_or(ErrorCode::StaleMemberEpoch)
            }
        }
    }

    /// Whether offsets may be read by whoever names this member and epoch; no member and no epoch may always.
    ///
    /// # Errors
    /// As the answer to the request.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id.filter(|_| epoch >= 0) else { return Ok(()) };
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// The next moment at which something must be done, in ticks.
    pub fn next_deadline(&self) -> Option<i64> {
        let members = self.members.values();
        let members =
            members.flat_map(|member| member.revocation_deadline.into_iter().chain([member.session_deadline]));
        members.chain(self.initial_delay_until).min()
    }

    /// It has no members.
    pub fn is_vacant(&self) -> bool {
        self.members.is_empty()
    }

    /// What its records must give back.
    pub fn image(&self) -> StreamsImage {
        StreamsImage {
            written: self.written.clone(),
            target: (self.target_epoch, self.target_timestamp),
            topology: self.topology.as_deref().cloned(),
            members: self
                .members
                .iter()
                .map(|(id, member)| (Arc::clone(id), (member.info.clone(), member.current.clone())))
                .collect(),
            targets: self.targets.clone(),
        }
    }

    /// Starts all sessions anew, as after reading the log.
    pub fn start_sessions(&mut self, now_ticks: i64, session_timeout_ms: i64) {
        for member in self.members.values_mut() {
            member.session_deadline = now_ticks.saturating_add(session_timeout_ms);
            member.revocation_deadline = (member.current.state == MemberState::UnrevokedTasks)
                .then(|| now_ticks.saturating_add(i64::from(member.info.rebalance_timeout_ms.max(0))));
        }
    }

    /// Does what is due: members that were silent for too long, or that did not give up what they had to, go; tasks are
    /// given to the first members once they have waited for others.
    pub fn expire(&mut self, now: Now) -> Vec<GroupRecord> {
        let due = |member: &Member| {
            member.session_deadline <= now.ticks_ms || member.revocation_deadline.is_some_and(|at| at <= now.ticks_ms)
        };
        let due: Vec<Arc<str>> =
            self.members.iter().filter(|(_, member)| due(member)).map(|(id, _)| Arc::clone(id)).collect();
        for id in &due {
            tracing::info!(group = %self.id, member = %id, "a silent member of a streams group is dropped");
        }
        let removals = self.without(&due);
        let mut records = self.take(removals);
        if self.initial_delay_until.is_some_and(|at| at <= now.ticks_ms) {
            self.initial_delay_until = None;
            if !self.members.is_empty() && self.written.epoch > self.target_epoch {
                let targets = self.distribute(now.wall_ms);
                records.extend(self.take(targets));
            }
        }
        records
    }

    /// Records that remove members, and with them tasks become free.
    pub(super) fn without(&self, members: &[Arc<str>]) -> Vec<StreamsRecord> {
        let mut records = Vec::new();
        for id in members {
            let member_id = || Arc::clone(id);
            records.push(StreamsRecord::Current { member_id: member_id(), value: None });
            records.push(StreamsRecord::Target { member_id: member_id(), value: None });
            records.push(StreamsRecord::Member { member_id: member_id(), value: None });
        }
        if !members.is_empty() {
            let epoch = self.written.epoch.saturating_add(1);
            records.push(StreamsRecord::Group(Some(GroupEpoch { epoch, ..self.written.clone() })));
        }
        records
    }

    /// Records that remove the whole group, its own near the end.
    pub fn removals(&self) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        let ids: BTreeSet<&Arc<str>> = self.members.keys().chain(self.targets.keys()).collect();
        for id in &ids {
            records.push(StreamsRecord::Current { member_id: Arc::clone(id), value: None });
        }
        for id in &ids {
            records.push(StreamsRecord::Target { member_id: Arc::clone(id), value: None });
        }
        records.push(StreamsRecord::TargetEpoch(None));
        for id in &ids {
            records.push(StreamsRecord::Member { member_id: Arc::clone(id), value: None });
        }
        records.push(StreamsRecord::Group(None));
        records.push(StreamsRecord::Topology(None));
        self.to_write(records)
    }

    /// Notes which internal topics could not be made, for members to be told until `until`, in ticks.
    pub fn note_creation_failures(&mut self, failures: Vec<(Arc<str>, String)>, until: i64) {
        self.creation_failures.extend(failures.into_iter().map(|(topic, reason)| (topic, (reason, until))));
    }

    /// Records could not be written: members must join anew, so that what they have is written again.
    pub fn forget_members(&mut self) {
        self.members.clear();
        self.targets.clear();
        self.topology = None;
        self.configured = None;
    }
}

fn never_written() -> GroupEpoch {
    GroupEpoch { epoch: 0, metadata_hash: 0, validated_topology_epoch: -1, assignment_configs: BTreeMap::new() }
}
