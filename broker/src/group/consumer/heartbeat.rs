//! ConsumerGroupHeartbeat: a member joins, says what it wants and has, learns what it is to have, leaves.
//!
//! Every check comes before the first change, so that a refused heartbeat leaves no trace.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;

use super::config::ConsumerConfig;
use super::group::ConsumerGroup;
use super::member::{JOIN_EPOCH, LEAVE_STATIC_EPOCH, Member};
use super::reconcile::{Step, step};
use super::records::{
    AssignedPartitions, ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata, MemberState, Partitions,
};
use super::topics::compile;
use crate::group::environment::Cluster;
use crate::group::records::GroupRecord;

/// A heartbeat, taken apart. What the member does not repeat is `None`.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// The member's id.
    pub member_id: Arc<str>,
    /// Its epoch; 0 to join, -1 to leave, -2 to leave as a static member that comes back.
    pub epoch: i32,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// How long the member may take to give partitions up, in ms.
    pub rebalance_timeout_ms: Option<i32>,
    /// Client id of the connection.
    pub client_id: Arc<str>,
    /// Address of the connection.
    pub client_host: Arc<str>,
    /// Topics it wants, by name.
    pub topic_names: Option<BTreeSet<Arc<str>>>,
    /// Topics it wants, by regular expression; an empty one takes it back.
    pub topic_regex: Option<Arc<str>>,
    /// `group.remote.assignor`.
    pub assignor: Option<Arc<str>>,
    /// What it has.
    pub owned: Option<Partitions>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The member's id.
    pub member_id: Arc<str>,
    /// Its epoch now.
    pub epoch: i32,
    /// When it is to come again, in ms; 0 for one that leaves.
    pub heartbeat_interval_ms: i32,
    /// What it may read; `None` when it knows.
    pub assignment: Option<AssignedPartitions>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What clients go by.
    pub code: ErrorCode,
    /// What people read.
    pub message: String,
}

impl Refusal {
    /// A refusal that says why.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

impl Heartbeat {
    /// It repeats everything, as a member does that is not sure what the coordinator knows.
    fn is_full(&self) -> bool {
        self.rebalance_timeout_ms.is_some()
            && (self.topic_names.is_some() || self.topic_regex.is_some())
            && self.owned.is_some()
    }
}

impl ConsumerGroup {
    /// A heartbeat of a member that joins or goes on; gives the records of what it changed.
    ///
    /// # Errors
    /// As the answer; nothing has changed then.
    pub fn heartbeat(
        &mut self,
        beat: &Heartbeat,
        cluster: &dyn Cluster,
        now: Now,
        config: &ConsumerConfig,
    ) -> Result<(Answer, Vec<GroupRecord>), Refusal> {
        self.check_alive()?;
        self.check_room(&beat.member_id, config.max_size)?;
        let replaced = self.check_member(beat)?;
        self.check_regex(beat)?;

        let mut records = Vec::new();
        if let Some(replaced) = replaced {
            self.replace(&replaced, &beat.member_id, &mut records);
        }
        let before = self.members.get(&beat.member_id).cloned().unwrap_or_else(|| Member::new(beat.member_id.clone()));
        let metadata = updated(&before.metadata, beat);
        let names_changed = metadata.topic_names != before.metadata.topic_names;
        let regex_changed = metadata.topic_regex != before.metadata.topic_regex;
        if metadata != before.metadata || !self.members.contains_key(&beat.member_id) {
            let record = ConsumerRecord::Member { member_id: beat.member_id.clone(), value: Some(metadata) };
            self.push(record, &mut records);
        }
        let pattern = self.members.get(&beat.member_id).and_then(|member| member.metadata.topic_regex.as_ref());
        // One that is new to the group stands for no topic yet.
        let is_new = pattern.is_some_and(|pattern| !self.regexes.contains_key(pattern));
        let wants_changed = names_changed || regex_changed;
        self.update_epoch(wants_changed, names_changed || !is_new, cluster, &mut records);
        self.update_target(now, config, &mut records);
        self.advance(&beat.member_id, beat.owned.as_ref(), wants_changed, now, &mut records);
        let answer = self.answer(beat, &before.current, now, config);
        let brought = is_new.then_some(before.metadata.topic_regex.is_some());
        self.resolve_regexes(brought, cluster, config.regex_refresh_interval_ms, now, &mut records);
        Ok((answer, self.to_write(records)))
    }

    /// A heartbeat of a member that leaves.
    ///
    /// # Errors
    /// As the answer; nothing has changed then.
    pub fn leave(&mut self, beat: &Heartbeat) -> Result<(Answer, Vec<GroupRecord>), Refusal> {
        self.check_alive()?;
        let id = match &beat.instance_id {
            Some(instance_id) => self.check_instance(instance_id, &beat.member_id)?,
            None if self.members.contains_key(&beat.member_id) => Arc::clone(&beat.member_id),
            None => return Err(unknown(&self.id, &beat.member_id)),
        };
        let answer =
            Answer { member_id: Arc::clone(&id), epoch: beat.epoch, heartbeat_interval_ms: 0, assignment: None };
        if beat.epoch != LEAVE_STATIC_EPOCH {
            return Ok((answer, self.fence(&BTreeSet::from([id]))));
        }
        let mut records = Vec::new();
        let mut current = self.members.get(&id).map(|member| member.current.clone()).unwrap_or_default();
        current.epoch = LEAVE_STATIC_EPOCH;
        current.pending_revocation.clear();
        current.assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|since| *since = 0);
        self.push(ConsumerRecord::Current { member_id: id, value: Some(current) }, &mut records);
        Ok((answer, self.to_write(records)))
    }

    /// LeaveGroup, by which an operator removes members, named by id or by instance alone: one result for each.
    pub fn remove_members(&mut self, leaving: &[(Arc<str>, Option<Arc<str>>)]) -> (Vec<ErrorCode>, Vec<GroupRecord>) {
        let mut ids = BTreeSet::new();
        let mut find = |(member_id, instance_id): &(Arc<str>, Option<Arc<str>>)| {
            self.check_alive()?;
            let id = match instance_id {
                Some(instance_id) if member_id.is_empty() => {
                    self.static_members.get(instance_id).cloned().ok_or(ErrorCode::UnknownMemberId)?
                }
                Some(instance_id) => self.check_instance(instance_id, member_id).map_err(|refusal| refusal.code)?,
                None => {
                    self.members.get(member_id).map(|member| member.id.clone()).ok_or(ErrorCode::UnknownMemberId)?
                }
            };
            ids.insert(id);
            Ok(())
        };
        let results = leaving.iter().map(|named| find(named).err().unwrap_or(ErrorCode::None)).collect();
        let records = if ids.is_empty() { Vec::new() } else { self.fence(&ids) };
        (results, records)
    }

    pub(super) fn check_room(&self, member_id: &Arc<str>, max_size: usize) -> Result<(), Refusal> {
        if self.members.len() < max_size || self.members.contains_key(member_id) {
            return Ok(());
        }
        let text = format!("group {} is full: group.consumer.max.size is {max_size}", self.id);
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, text))
    }

    /// Gives the member whose place a returning static member takes, if any.
    fn check_member(&self, beat: &Heartbeat) -> Result<Option<Arc<str>>, Refusal> {
        let joins = beat.epoch == JOIN_EPOCH;
        let Some(instance_id) = &beat.instance_id else {
            match self.members.get(&beat.member_id) {
                Some(member) => self.check_epoch(member, beat)?,
                None if joins => {}
                None => return Err(unknown(&self.id, &beat.member_id)),
            }
            return Ok(None);
        };
        if !joins {
            let id = self.check_instance(instance_id, &beat.member_id)?;
            if let Some(member) = self.members.get(&id) {
                self.check_epoch(member, beat)?;
            }
            return Ok(None);
        }
        let Some(holder) = self.static_members.get(instance_id).and_then(|id| self.members.get(id)) else {
            return Ok(None);
        };
        if !holder.is_away() && holder.metadata.classic.is_none() {
            let text = format!("instance id {instance_id} of group {} belongs to member {}", self.id, holder.id);
            return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, text));
        }
        Ok(Some(Arc::clone(&holder.id)))
    }

    /// The member of this instance, which must be the one that is named.
    pub(super) fn check_instance(&self, instance_id: &Arc<str>, member_id: &str) -> Result<Arc<str>, Refusal> {
        match self.static_members.get(instance_id) {
            None => Err(Refusal::new(
                ErrorCode::UnknownMemberId,
                format!("group {} has no member of instance id {instance_id}", self.id),
            )),
            Some(id) if id.as_ref() != member_id => Err(Refusal::new(
                ErrorCode::FencedInstanceId,
                format!(
                    "member {member_id} of instance id {instance_id} was replaced by member {id} of group {}",
                    self.id
                ),
            )),
            Some(id) => Ok(Arc::clone(id)),
        }
    }

    /// A member that has not heard of its new epoch may repeat itself, as long as it has nothing that was taken from it.
    fn check_epoch(&self, member: &Member, beat: &Heartbeat) -> Result<(), Refusal> {
        let current = &member.current;
        let restarts = beat.owned.as_ref().is_some_and(Partitions::is_empty);
        let fits = if beat.epoch == JOIN_EPOCH {
            true
        } else if current.state == MemberState::Unknown && !restarts {
            false
        } else if beat.epoch == current.epoch {
            true
        } else {
            beat.epoch == current.previous_epoch
                && beat.epoch < current.epoch
                && beat.owned.as_ref().is_some_and(|owned| is_part_of(owned, &current.assigned))
        };
        if fits {
            return Ok(());
        }
        let text = format!(
            "member {} of group {} is in epoch {}, not in {}: it must give up all its partitions and join again",
            member.id, self.id, current.epoch, beat.epoch
        );
        Err(Refusal::new(ErrorCode::FencedMemberEpoch, text))
    }

    fn check_regex(&self, beat: &Heartbeat) -> Result<(), Refusal> {
        let Some(pattern) = beat.topic_regex.as_ref().filter(|pattern| !pattern.is_empty()) else { return Ok(()) };
        if self.regexes.contains_key(pattern) {
            return Ok(());
        }
        compile(pattern).map(|_| ()).map_err(|error| {
            let text = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}");
            Refusal::new(ErrorCode::InvalidRegularExpression, text)
        })
    }

    /// A static member comes back under another id: it gets the place, with what the place had and is to have.
    pub(super) fn replace(&mut self, replaced: &Arc<str>, member_id: &Arc<str>, records: &mut Vec<ConsumerRecord>) {
        let Some(old) = self.members.get(replaced).cloned() else { return };
        let target = self.targets.get(replaced).cloned().unwrap_or_default();
        for record in removals(replaced) {
            self.push(record, records);
        }
        let member_id = || Arc::clone(member_id);
        self.push(ConsumerRecord::Member { member_id: member_id(), value: Some(old.metadata) }, records);
        self.push(ConsumerRecord::Target { member_id: member_id(), value: Some(target) }, records);
        let current = CurrentAssignment { epoch: JOIN_EPOCH, previous_epoch: JOIN_EPOCH, ..old.current };
        self.push(ConsumerRecord::Current { member_id: member_id(), value: Some(current) }, records);
    }

    /// Raises the group's epoch if what a member wants has changed and can be told (`is_known`) already, or the topics of the
    /// group are others than before.
    pub(super) fn update_epoch(
        &mut self,
        wants_changed: bool,
        is_known: bool,
        cluster: &dyn Cluster,
        records: &mut Vec<ConsumerRecord>,
    ) {
        if wants_changed {
            records.extend(self.forget_regexes());
        }
        if self.look_up(cluster, wants_changed) || wants_changed && is_known {
            self.raise_epoch(records);
        }
    }

    pub(super) fn raise_epoch(&mut self, records: &mut Vec<ConsumerRecord>) {
        let (epoch, metadata_hash) = (self.epoch.saturating_add(1), self.hash_of_topics());
        self.push(ConsumerRecord::Group(Some(GroupEpoch { epoch, metadata_hash })), records);
    }

    /// The member's next step towards its target; `owned` is what it says to have.
    pub(super) fn advance(
        &mut self,
        member_id: &Arc<str>,
        owned: Option<&Partitions>,
        subscription_changed: bool,
        now: Now,
        records: &mut Vec<ConsumerRecord>,
    ) {
        let none = Partitions::new();
        let Some(member) = self.members.get(member_id) else { return };
        let next = step(
            &Step {
                current: &member.current,
                target_epoch: self.target_epoch,
                target: self.targets.get(member_id).unwrap_or(&none),
                subscribed: &self.wanted_ids(&member.metadata),
                subscription_changed,
                owned,
            },
            |topic, partition| self.owners.contains_key(&(topic, partition)),
        );
        if next == member.current {
            return;
        }
        let patience = i64::from(member.metadata.rebalance_timeout_ms.max(0));
        // One of the classic protocol is waited for when it is to join and to sync, not in between.
        let gives_up = next.state == MemberState::UnrevokedPartitions && member.metadata.classic.is_none();
        self.push(ConsumerRecord::Current { member_id: Arc::clone(member_id), value: Some(next) }, records);
        if let Some(member) = self.members.get_mut(member_id) {
            member.revocation_deadline = gives_up.then(|| now.ticks_ms.saturating_add(patience));
        }
    }

    fn answer(&mut self, beat: &Heartbeat, before: &CurrentAssignment, now: Now, config: &ConsumerConfig) -> Answer {
        let mut answer = Answer {
            member_id: Arc::clone(&beat.member_id),
            epoch: beat.epoch,
            heartbeat_interval_ms: i32::try_from(config.heartbeat_interval.ms).unwrap_or(i32::MAX),
            assignment: None,
        };
        if let Some(member) = self.members.get_mut(&beat.member_id) {
            member.session_deadline = now.ticks_ms.saturating_add(config.session_timeout.ms);
            (member.join_deadline, member.sync_deadline) = (None, None); // it may have spoken the classic protocol
            answer.epoch = member.current.epoch;
            let told = beat.epoch == JOIN_EPOCH || beat.is_full() || member.current.assigned != before.assigned;
            answer.assignment = told.then(|| member.current.assigned.clone());
        }
        answer
    }

    /// Members go; gives the records that say so.
    pub(super) fn fence(&mut self, ids: &BTreeSet<Arc<str>>) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for record in ids.iter().flat_map(removals) {
            self.push(record, &mut records);
        }
        records.extend(self.forget_regexes());
        self.raise_epoch(&mut records);
        self.to_write(records)
    }

    pub(super) fn push(&mut self, record: ConsumerRecord, records: &mut Vec<ConsumerRecord>) {
        self.apply(&record);
        records.push(record);
    }

    pub(super) fn to_write(&self, records: Vec<ConsumerRecord>) -> Vec<GroupRecord> {
        let written = |record| GroupRecord::Consumer { group: Arc::clone(&self.id), record };
        records.into_iter().map(written).collect()
    }
}

/// Records that remove a member; the order is Kafka's.
pub(super) fn removals(id: &Arc<str>) -> [ConsumerRecord; 3] {
    let member_id = || Arc::clone(id);
    [
        ConsumerRecord::Current { member_id: member_id(), value: None },
        ConsumerRecord::Target { member_id: member_id(), value: None },
        ConsumerRecord::Member { member_id: member_id(), value: None },
    ]
}

pub(super) fn unknown(group: &str, member_id: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("group {group} has no member {member_id}"))
}

/// What is known of a member, with what it says now.
fn updated(known: &MemberMetadata, beat: &Heartbeat) -> MemberMetadata {
    let or_known = |given: &Option<Arc<str>>, known: &Option<Arc<str>>| given.clone().or_else(|| known.clone());
    MemberMetadata {
        instance_id: or_known(&beat.instance_id, &known.instance_id),
        rack_id: or_known(&beat.rack_id, &known.rack_id),
        client_id: Arc::clone(&beat.client_id),
        client_host: Arc::clone(&beat.client_host),
        topic_names: beat.topic_names.clone().unwrap_or_else(|| known.topic_names.clone()),
        topic_regex: or_known(&beat.topic_regex, &known.topic_regex).filter(|pattern| !pattern.is_empty()),
        rebalance_timeout_ms: beat.rebalance_timeout_ms.unwrap_or(known.rebalance_timeout_ms),
        assignor: or_known(&beat.assignor, &known.assignor),
        classic: None,
    }
}

fn is_part_of(owned: &Partitions, assigned: &AssignedPartitions) -> bool {
    owned.iter().all(|(topic, owned)| {
        let assigned = assigned.get(topic);
        owned.iter().all(|partition| assigned.is_some_and(|assigned| assigned.contains_key(partition)))
    })
}
