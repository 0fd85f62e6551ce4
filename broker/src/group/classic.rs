//! One classic group as a pure state machine: requests and time in, records and answers out.
//!
//! ```text
//!            first member joins            all joined, or out of time
//!   Empty ------------------------> PreparingRebalance ----------------> CompletingRebalance
//!     ^                                ^   |   ^   ^                        |     |
//!     |  nobody is left                |   |   |   | join, leave, expiry    |     | the leader's assignment
//!     +--------------------------------|---+   |   +------------------------+     | is durable
//!                                      |       +---------------- Stable <--------+
//!   Dead: being deleted                    join, leave, expiry
//! ```
//!
//! Joins and syncs are named by tickets and answered through [`Output`]. What is written is exactly what a restart needs:
//! each completed generation once its leader has assigned, and the empty group. This file has the state and the other
//! requests; `join.rs` the way in; `rebalance.rs` the passage from generation to generation, and the timers. Knows no log and no wire format.
//!
//! Invariants: `leader` is a member, or there are no members; every entry of `static_members` is a member; a waiting
//! join exists only in `PreparingRebalance`, or in `Stable` while a static member's new id is being written; a waiting
//! sync exists only in `CompletingRebalance`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Now, Timestamp};
use bytes::Bytes;
use protocol::api::ErrorCode;

use super::config::GroupConfig;
use super::member::Member;
use super::output::{Continuation, JoinAnswer, JoinedMember, Output, SyncAnswer, Ticket};
use super::records::{GroupRecord, GroupValue};
use super::subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};

/// Where a classic group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Waiting for all members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// All members have their assignment.
    Stable,
    /// Being deleted.
    Dead,
}

impl State {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// When the join phase ends even if members are missing, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinTimer {
    /// First rebalance of an empty group: extended while members keep coming.
    Initial { at: i64, delay_ms: i64, remaining_ms: i64 },
    /// Any other rebalance.
    Rebalance { at: i64 },
}

impl JoinTimer {
    pub(super) fn at(self) -> i64 {
        match self {
            JoinTimer::Initial { at, .. } | JoinTimer::Rebalance { at } => at,
        }
    }
}

/// A JoinGroup, taken apart.
#[derive(Clone, Debug)]
pub struct Join {
    /// Where its answer goes.
    pub ticket: Ticket,
    /// Version of the request.
    pub version: i16,
    /// The member's id; empty for a new member.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// Client id of the connection.
    pub client_id: Arc<str>,
    /// Address of the connection.
    pub client_host: Arc<str>,
    /// How long the member may be silent.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// Kind of protocol.
    pub protocol_type: Arc<str>,
    /// What it offers, first choice first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// A UUID for the member's id, should it get a new one.
    pub fresh_uuid: Arc<str>,
}

/// A SyncGroup, taken apart.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Where its answer goes.
    pub ticket: Ticket,
    /// The member's id.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// The generation it joined.
    pub generation: i32,
    /// Kind of protocol, if the client says.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol, if the client says.
    pub protocol: Option<Arc<str>>,
    /// The leader's assignment; empty from followers.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// A classic group.
#[derive(Clone, Debug)]
pub struct ClassicGroup {
    pub(super) id: Arc<str>,
    pub(super) state: State,
    pub(super) previous_state: State,
    /// Wall clock; `None` when it was never known.
    pub(super) state_timestamp: Option<Timestamp>,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) generation: i32,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids handed out that have not joined yet, with the ticks at which they lapse.
    pub(super) pending: BTreeMap<Arc<str>, i64>,
    /// Members of the generation that have not synced yet.
    pub(super) pending_sync: BTreeSet<Arc<str>>,
    /// `None` when not known: not a consumer group, or a subscription that cannot be read.
    pub(super) subscribed_topics: Option<BTreeSet<Arc<str>>>,
    pub(super) new_member_added: bool,
    pub(super) assignment_in_flight: bool,
    pub(super) join_timer: Option<JoinTimer>,
    pub(super) sync_deadline: Option<i64>,
}

impl ClassicGroup {
    /// An empty group of generation 0, as the first lookup or a simple consumer's commit makes it.
    pub fn new(id: Arc<str>, now: Now) -> Self {
        Self {
            id,
            state: State::Empty,
            previous_state: State::Empty,
            state_timestamp: Some(now.wall_ms),
            protocol_type: None,
            generation: 0,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            subscribed_topics: None,
            new_member_added: false,
            assignment_in_flight: false,
            join_timer: None,
            sync_deadline: None,
        }
    }

    /// The group as it was stored: stable with its members, whose sessions start anew, or empty.
    pub fn from_value(id: Arc<str>, value: &GroupValue, now: Now) -> Self {
        let mut group = Self::new(id, now);
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.previous_state = group.state;
        group.state_timestamp = (value.state_timestamp != -1).then_some(value.state_timestamp);
        group.protocol_type = (!value.protocol_type.is_empty()).then(|| Arc::clone(&value.protocol_type));
        group.generation = value.generation;
        group.protocol = value.protocol.clone();
        for stored in &value.members {
            let member = Member::from_value(stored, value.protocol.as_ref(), now.ticks_ms);
            if let Some(instance_id) = &member.instance_id {
                group.static_members.insert(Arc::clone(instance_id), Arc::clone(&member.id));
            }
            group.members.insert(Arc::clone(&member.id), member);
        }
        let leader = value.leader.clone().filter(|leader| group.members.contains_key(leader));
        group.leader = leader.or_else(|| group.members.keys().next().cloned());
        group.subscribed_topics = group.subscriptions();
        group
    }

    /// A stable group of these members, who share a protocol of this kind; they have yet to get their assignments.
    pub(super) fn stable(id: Arc<str>, generation: i32, protocol_type: &str, members: Vec<Member>, now: Now) -> Self {
        let mut group = Self::new(id, now);
        (group.state, group.previous_state) = (State::Stable, State::Stable);
        group.generation = generation;
        group.protocol_type = Some(Arc::from(protocol_type));
        for member in members {
            if let Some(instance_id) = &member.instance_id {
                group.static_members.insert(Arc::clone(instance_id), Arc::clone(&member.id));
            }
            group.members.insert(Arc::clone(&member.id), member);
        }
        group.leader = group.members.keys().next().cloned();
        group.protocol = group.select_protocol();
        group.subscribed_topics = group.subscriptions();
        group
    }

    /// Gives every member what `assignment` says.
    pub(super) fn assign<E>(&mut self, assignment: impl Fn(&Member) -> Result<Bytes, E>) -> Result<(), E> {
        for member in self.members.values_mut() {
            member.assignment = assignment(member)?;
        }
        Ok(())
    }

    /// The group as it is stored, with the assignments that its members have.
    pub fn to_value(&self) -> GroupValue {
        self.to_value_with(|member| member.assignment.clone())
    }

    pub(super) fn to_value_with(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_deref();
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp.unwrap_or(-1),
            members: self.members.values().map(|member| member.to_value(protocol, assignment(member))).collect(),
        }
    }

    pub(super) fn record(&self, value: GroupValue) -> GroupRecord {
        GroupRecord::Group { group: Arc::clone(&self.id), value: Some(value) }
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where the group stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Number of the current generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Kind of protocol; `None` for a group that never had a member.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The protocol selected for the current generation.
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Some ids were handed out and are expected to join.
    pub fn has_pending_members(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether `member_id` (of instance `instance_id`) is a member.
    ///
    /// # Errors
    /// `UnknownMemberId`, or `FencedInstanceId` when the instance has come back under another id.
    pub fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        let Some(instance_id) = instance_id else {
            return if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        match self.static_members.get(instance_id) {
            None => Err(ErrorCode::UnknownMemberId),
            Some(current) if current.as_ref() != member_id => Err(ErrorCode::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    /// SyncGroup. The answer comes through `out`, now or later.
    pub fn sync(&mut self, sync: Sync, now: Now, out: &mut Output) {
        let ticket = sync.ticket;
        if let Err(error) = self.start_sync(sync, now, out) {
            out.syncs.push((ticket, SyncAnswer::error(error)));
        }
    }

    fn start_sync(&mut self, sync: Sync, now: Now, out: &mut Output) -> Result<(), ErrorCode> {
        let differs = |given: &Option<Arc<str>>, own: &Option<Arc<str>>| given.is_some() && given != own;
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let member = self.members.get_mut(&sync.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        match self.state {
            State::Empty | State::Dead => return Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => return Err(ErrorCode::RebalanceInProgress),
            State::Stable => {
                member.touch(now.ticks_ms);
                out.syncs.push((sync.ticket, self.sync_answer(&sync.member_id)));
            }
            State::CompletingRebalance => {
                member.touch(now.ticks_ms);
                if let Some(earlier) = member.sync.replace(sync.ticket) {
                    out.syncs.push((earlier, SyncAnswer::error(ErrorCode::RebalanceInProgress)));
                }
                if self.leader.as_ref() == Some(&sync.member_id) && !self.assignment_in_flight {
                    let assignments: BTreeMap<_, _> = sync.assignments.into_iter().collect();
                    let value = self.to_value_with(|member| assignments.get(&member.id).cloned().unwrap_or_default());
                    out.records.push(self.record(value));
                    out.continuation = Some(Continuation::Assignment {
                        group: Arc::clone(&self.id),
                        generation: self.generation,
                        assignments,
                    });
                    self.assignment_in_flight = true;
                }
            }
        }
        self.pending_sync.remove(&sync.member_id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
        Ok(())
    }

    /// Heartbeat.
    pub fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now.ticks_ms);
        }
        if self.state == State::PreparingRebalance { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
    }

    /// LeaveGroup of several members, each named by id, or by instance alone (removal by an operator).
    pub fn leave(
        &mut self,
        leaving: &[(Arc<str>, Option<Arc<str>>)],
        now: Now,
        config: &GroupConfig,
        out: &mut Output,
    ) -> Vec<ErrorCode> {
        let (mut any, mut members_left) = (false, false);
        let mut results = Vec::with_capacity(leaving.len());
        for (member_id, instance_id) in leaving {
            let result = self.leaving_id(member_id, instance_id.as_ref());
            if let Ok(id) = &result {
                any = true;
                if self.pending.remove(id).is_none() {
                    members_left |= self.remove_member(id, out);
                }
            }
            results.push(result.err().unwrap_or(ErrorCode::None));
        }
        if any {
            self.after_removal(members_left, now, config, out);
        }
        results
    }

    fn leaving_id(&self, member_id: &Arc<str>, instance_id: Option<&Arc<str>>) -> Result<Arc<str>, ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if member_id.is_empty() {
            let by_instance = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            return by_instance.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if self.pending.contains_key(member_id) {
            return Ok(Arc::clone(member_id));
        }
        self.check_member(member_id, instance_id.map(AsRef::as_ref))?;
        Ok(Arc::clone(member_id))
    }

    /// Whether a commit of offsets may be taken from whoever names this member and generation.
    ///
    /// # Errors
    /// As the answer to the commit.
    pub fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now.ticks_ms);
        }
        Ok(())
    }

    /// As [`ClassicGroup::check_commit`], for offsets in a transaction: without member and generation nothing is checked,
    /// and a rebalance does not matter.
    ///
    /// # Errors
    /// As the answer to the commit.
    pub fn check_transactional_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if generation < 0 && (self.state == State::Empty || member_id.is_empty() && instance_id.is_none()) {
            return Ok(());
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now.ticks_ms);
        }
        Ok(())
    }

    /// Whether offsets of `topic` are in use by members.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    /// Its members are consumers.
    pub fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Marks the group as being deleted, or no longer so.
    pub fn set_dead(&mut self, dead: bool) {
        self.state = if dead { State::Dead } else { State::Empty };
    }

    /// The topics of all members' subscriptions.
    pub(super) fn subscriptions(&self) -> Option<BTreeSet<Arc<str>>> {
        let mut topics = BTreeSet::new();
        if self.protocol_type.is_none() || !self.is_consumer() && !self.members.is_empty() {
            return None;
        }
        for member in self.members.values() {
            let metadata = member.metadata(Some(self.protocol.as_deref()?));
            subscribed_topics(&metadata, &mut topics).ok()?;
        }
        Some(topics)
    }

    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref();
        let joined = |member: &Member| JoinedMember {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(joined).collect()
    }

    pub(super) fn join_answer(&self, member_id: &Arc<str>, members: Vec<JoinedMember>) -> JoinAnswer {
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| Arc::from("")),
            skip_assignment: false,
            member_id: Arc::clone(member_id),
            members,
        }
    }

    pub(super) fn sync_answer(&self, member_id: &str) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(member_id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }
}
