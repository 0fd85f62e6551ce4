//! All groups of one partition of `__consumer_offsets`, as a pure state machine: (state, request, now) gives records to
//! append and answers; replaying the records gives the state.
//!
//! Offsets and removals take effect when their record is durable ([`Shard::stored`]); a group's passage through its
//! states goes ahead of the log, and what is read of it after a restart is its last completed generation.
//! Knows no log, no clock and no wire format.
//!
//! Invariant: after every record is stored, replaying them gives the same offsets, and the same members, leader,
//! protocol and assignments for every group that is empty or stable.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::hash::HashMap;
use base::{Now, Offset, PartitionId, ProducerId, Timestamp};
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::classic::{ClassicGroup, Join, State, Sync};
use super::config::GroupConfig;
use super::offsets::Offsets;
use super::output::{Continuation, InTransaction, JoinAnswer, Output, SyncAnswer};
use super::records::{GroupRecord, GroupValue, OffsetValue};

/// A group with its offsets.
#[derive(Clone, Debug)]
pub struct Group {
    /// Members and generations.
    pub classic: ClassicGroup,
    /// Committed offsets.
    pub offsets: Offsets,
    /// The earliest entry of the shard's timers for this group.
    timer: Option<i64>,
    /// A record of the group itself (not only of offsets) is in the log, or on its way there.
    written: bool,
}

impl Group {
    fn new(classic: ClassicGroup) -> Self {
        Self { classic, offsets: Offsets::default(), timer: None, written: false }
    }
}

/// Who commits offsets, and for how long.
#[derive(Clone, Debug)]
pub struct Committer {
    /// The group.
    pub group: Arc<str>,
    /// The member's id; empty for a consumer without membership.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// The member's generation; -1 without membership.
    pub generation: i32,
    /// When the offsets expire, for old clients that say so.
    pub expire_timestamp: Option<Timestamp>,
    /// The client knows `GROUP_ID_NOT_FOUND` (v9+).
    pub knows_group_not_found: bool,
}

/// One offset to commit.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The topic.
    pub topic: Arc<str>,
    /// Its id; nil when unknown.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: PartitionId,
    /// The offset, as given.
    pub offset: Offset,
    /// Leader epoch of the last record consumed, or -1.
    pub leader_epoch: i32,
    /// What the client attaches.
    pub metadata: Arc<str>,
}

impl Commit {
    fn into_record(self, committer: &Committer, now: Now) -> GroupRecord {
        GroupRecord::Offset {
            group: Arc::clone(&committer.group),
            topic: self.topic,
            partition: self.partition,
            value: Some(OffsetValue {
                offset: self.offset,
                leader_epoch: self.leader_epoch,
                metadata: self.metadata,
                commit_timestamp: now.wall_ms,
                expire_timestamp: committer.expire_timestamp,
                topic_id: self.topic_id,
            }),
        }
    }
}

/// A shard's state that a replay must give back: see the invariant above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupImage {
    /// The group, unless it is between generations.
    pub group: Option<GroupValue>,
    /// Its offsets.
    pub offsets: Vec<(Arc<str>, PartitionId, OffsetValue)>,
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    groups: HashMap<Arc<str>, Group>,
    /// When which group wants [`ClassicGroup::expire`]; may be too early, never too late.
    timers: BTreeSet<(i64, Arc<str>)>,
    /// Offsets committed in transactions that are still open, with their positions in the log.
    transactions: HashMap<ProducerId, Vec<(Offset, GroupRecord)>>,
    next_retention_check: Option<i64>,
}

impl Shard {
    /// The group, if it exists.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// All groups, in no order.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Group)> {
        self.groups.iter()
    }

    fn schedule(&mut self, id: &Arc<str>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let Some(at) = group.classic.next_deadline() else { return };
        if group.timer.is_some_and(|known| known <= at) {
            return;
        }
        if let Some(known) = group.timer.replace(at) {
            self.timers.remove(&(known, Arc::clone(id)));
        }
        self.timers.insert((at, Arc::clone(id)));
    }

    fn note_written(&mut self, out: &Output) {
        for record in &out.records {
            if let GroupRecord::Group { group, value: Some(_) } = record
                && let Some(group) = self.groups.get_mut(group)
            {
                group.written = true;
            }
        }
    }

    /// JoinGroup of group `id`; a new member makes the group.
    pub fn join(&mut self, id: &Arc<str>, join: Join, now: Now, config: &GroupConfig) -> Output {
        let mut out = Output::default();
        if join.session_timeout_ms < config.min_session_timeout_ms
            || join.session_timeout_ms > config.max_session_timeout_ms
        {
            out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::InvalidSessionTimeout, join.member_id)));
            return out;
        }
        let created = !self.groups.contains_key(id);
        if created && !join.member_id.is_empty() {
            out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::UnknownMemberId, join.member_id)));
            return out;
        }
        let group =
            self.groups.entry(Arc::clone(id)).or_insert_with(|| Group::new(ClassicGroup::new(Arc::clone(id), now)));
        let empty = created.then(|| group.classic.record(group.classic.to_value()));
        group.classic.join(join, now, config, &mut out);
        if created && group.classic.state() == State::Empty && !group.classic.has_pending_members() {
            // Refused: no trace of it.
            self.groups.remove(id);
            return out;
        }
        if out.records.is_empty() {
            out.records.extend(empty);
        }
        self.note_written(&out);
        self.schedule(id);
        out
    }

    /// SyncGroup of group `id`.
    pub fn sync(&mut self, id: &Arc<str>, sync: Sync, now: Now) -> Output {
        let mut out = Output::default();
        match self.groups.get_mut(id) {
            Some(group) => group.classic.sync(sync, now, &mut out),
            None => out.syncs.push((sync.ticket, SyncAnswer::error(ErrorCode::UnknownMemberId))),
        }
        self.note_written(&out);
        out
    }

    /// Heartbeat in group `id`.
    pub fn heartbeat(
        &mut self,
        id: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let group = self.groups.get_mut(id).ok_or(ErrorCode::UnknownMemberId)?;
        group.classic.heartbeat(member_id, instance_id, generation, now)
    }

    /// LeaveGroup: one result per member, in their order.
    pub fn leave(
        &mut self,
        id: &Arc<str>,
        leaving: &[(Arc<str>, Option<Arc<str>>)],
        now: Now,
        config: &GroupConfig,
    ) -> (Vec<ErrorCode>, Output) {
        let mut out = Output::default();
        let Some(group) = self.groups.get_mut(id) else {
            return (vec![ErrorCode::UnknownMemberId; leaving.len()], out);
        };
        let results = group.classic.leave(leaving, now, config, &mut out);
        self.note_written(&out);
        self.schedule(id);
        (results, out)
    }

    /// OffsetCommit: all of `commits`, in one batch. They are read back once stored.
    ///
    /// # Errors
    /// When the group does not take them from this committer.
    pub fn commit(&mut self, committer: &Committer, commits: Vec<Commit>, now: Now) -> Result<Output, ErrorCode> {
        let known =
            if committer.knows_group_not_found { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration };
        let mut out = Output::default();
        let Some(group) = self.group_for_commit(committer, known, !commits.is_empty(), now)? else { return Ok(out) };
        let (member_id, instance_id) = (&committer.member_id, committer.instance_id.as_deref());
        group.classic.check_commit(member_id, instance_id, committer.generation, now)?;
        for commit in commits {
            group.offsets.begin(&commit.topic, commit.partition);
            out.records.push(commit.into_record(committer, now));
        }
        out.continuation = Some(Continuation::Apply);
        Ok(out)
    }

    /// TxnOffsetCommit: all of `commits`, in one batch of the transaction. They are read back once that is committed.
    ///
    /// # Errors
    /// When the group does not take them from this committer.
    pub fn commit_in_transaction(
        &mut self,
        committer: &Committer,
        transaction: InTransaction,
        commits: Vec<Commit>,
        now: Now,
    ) -> Result<Output, ErrorCode> {
        let unknown = ErrorCode::IllegalGeneration;
        let mut out = Output::default();
        let Some(group) = self.group_for_commit(committer, unknown, !commits.is_empty(), now)? else { return Ok(out) };
        let (member_id, instance_id) = (&committer.member_id, committer.instance_id.as_deref());
        group.classic.check_transactional_commit(member_id, instance_id, committer.generation, now)?;
        for commit in commits {
            group.offsets.begin_pending(&commit.topic, commit.partition);
            out.records.push(commit.into_record(committer, now));
        }
        out.transaction = Some(transaction);
        out.continuation = Some(Continuation::Pending);
        Ok(out)
    }

    /// The group of a commit; one without members is made by its first commit.
    fn group_for_commit(
        &mut self,
        committer: &Committer,
        unknown: ErrorCode,
        creates: bool,
        now: Now,
    ) -> Result<Option<&mut Group>, ErrorCode> {
        let id = &committer.group;
        if !self.groups.contains_key(id) {
            if committer.generation >= 0 {
                return Err(unknown);
            }
            if creates {
                self.groups.insert(Arc::clone(id), Group::new(ClassicGroup::new(Arc::clone(id), now)));
            }
        }
        Ok(self.groups.get_mut(id))
    }

    /// The end of a producer's transaction, to be written as `transaction` says.
    pub fn end_transaction(&mut self, transaction: InTransaction) -> Output {
        let commit = transaction.marker.is_some_and(|marker| marker.committed);
        Output { transaction: Some(transaction), continuation: Some(Continuation::End { commit }), ..Output::default() }
    }

    /// DeleteGroups, for one group: its offsets and itself go with one batch.
    ///
    /// # Errors
    /// `GroupIdNotFound`, or `NonEmptyGroup` while it has members.
    pub fn delete_group(&mut self, id: &Arc<str>) -> Result<Output, ErrorCode> {
        let group = self.groups.get_mut(id).ok_or(ErrorCode::GroupIdNotFound)?;
        match group.classic.state() {
            State::Dead => return Err(ErrorCode::GroupIdNotFound),
            State::Empty => {}
            _ => return Err(ErrorCode::NonEmptyGroup),
        }
        let mut records = group.offsets.removals(id, |_, _, _| true);
        records.push(GroupRecord::Group { group: Arc::clone(id), value: None });
        group.classic.set_dead(true);
        Ok(self.removal(records))
    }

    /// OffsetDelete: one result per partition, in their order.
    ///
    /// # Errors
    /// `GroupIdNotFound`; `NonEmptyGroup` when its members are not consumers.
    pub fn delete_offsets(
        &mut self,
        id: &Arc<str>,
        partitions: &[(Arc<str>, PartitionId)],
    ) -> Result<(Vec<ErrorCode>, Output), ErrorCode> {
        let group = self.groups.get(id).ok_or(ErrorCode::GroupIdNotFound)?;
        match group.classic.state() {
            State::Dead => return Err(ErrorCode::GroupIdNotFound),
            State::Empty => {}
            _ if group.classic.is_consumer() => {}
            _ => return Err(ErrorCode::NonEmptyGroup),
        }
        let subscribed = |topic: &str| group.classic.is_subscribed(topic);
        let results = partitions
            .iter()
            .map(|(topic, _)| if subscribed(topic) { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None })
            .collect();
        let chosen: BTreeSet<(&str, PartitionId)> = partitions
            .iter()
            .filter(|(topic, _)| !subscribed(topic))
            .map(|(topic, partition)| (topic.as_ref(), *partition))
            .collect();
        let records = group.offsets.removals(id, |topic, partition, _| chosen.contains(&(topic, partition)));
        Ok((results, self.removal(records)))
    }

    /// Removes every group's offsets of `topics`, which have been deleted; not those of a topic made anew since.
    pub fn forget_topics(&mut self, topics: &BTreeSet<(Arc<str>, Uuid)>) -> Output {
        let gone = |topic: &str, value: Option<&OffsetValue>| {
            topics.iter().any(|(name, id)| {
                name.as_ref() == topic && value.is_none_or(|value| value.topic_id.is_nil() || value.topic_id == *id)
            })
        };
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            records.extend(group.offsets.removals(id, |topic, _, value| gone(topic, value)));
        }
        self.removal(records)
    }

    /// Records that remove something, to be applied when stored.
    fn removal(&mut self, records: Vec<GroupRecord>) -> Output {
        for record in &records {
            if let GroupRecord::Offset { group, topic, partition, .. } = record
                && let Some(group) = self.groups.get_mut(group)
            {
                group.offsets.begin(topic, *partition);
            }
        }
        let continuation = (!records.is_empty()).then_some(Continuation::Apply);
        Output { records, continuation, ..Output::default() }
    }

    /// The records of `output` are durable from `log_offset` on, or could not be written: gives what follows, the
    /// answers that `output` held back included.
    pub fn stored(
        &mut self,
        output: Output,
        result: Result<Offset, ErrorCode>,
        now: Now,
        config: &GroupConfig,
    ) -> Output {
        let mut out = Output { joins: output.joins, syncs: output.syncs, ..Output::default() };
        if let Err(error) = result {
            for (_, answer) in &mut out.joins {
                *answer = JoinAnswer::error(error, Arc::from(""));
            }
            for (_, answer) in &mut out.syncs {
                *answer = SyncAnswer::error(error);
            }
        }
        match output.continuation {
            Some(Continuation::Apply) => self.finish_apply(output.records, result),
            Some(Continuation::Pending) => self.finish_pending(output.transaction, output.records, result),
            Some(Continuation::End { commit }) => {
                if let (Some(transaction), Ok(_)) = (output.transaction, result) {
                    self.replay_marker(transaction.producer_id, commit);
                }
            }
            Some(continuation) => {
                let id = match &continuation {
                    Continuation::Assignment { group, .. } | Continuation::StaticMember { group, .. } => {
                        Arc::clone(group)
                    }
                    Continuation::Apply | Continuation::Pending | Continuation::End { .. } => return out,
                };
                if let Some(group) = self.groups.get_mut(&id) {
                    group.classic.stored(continuation, result.map(|_| ()), now, config, &mut out);
                    self.note_written(&out);
                    self.schedule(&id);
                }
            }
            None => {}
        }
        out
    }

    fn finish_apply(&mut self, records: Vec<GroupRecord>, result: Result<Offset, ErrorCode>) {
        for (index, record) in records.into_iter().enumerate() {
            match record {
                GroupRecord::Offset { group: id, topic, partition, value } => {
                    let Some(group) = self.groups.get_mut(&id) else { continue };
                    let stored = result.ok().map(|first| (first + index as Offset, value));
                    group.offsets.finish(&topic, partition, stored);
                }
                GroupRecord::Group { group: id, value: None } => match result {
                    Ok(_) => self.remove_group(&id),
                    Err(_) => {
                        if let Some(group) = self.groups.get_mut(&id) {
                            group.classic.set_dead(false);
                        }
                    }
                },
                GroupRecord::Group { value: Some(_), .. } => {}
            }
        }
    }

    /// Offsets of a transaction are in the log, where its end will find them; or are not.
    fn finish_pending(
        &mut self,
        transaction: Option<InTransaction>,
        records: Vec<GroupRecord>,
        result: Result<Offset, ErrorCode>,
    ) {
        let Some(transaction) = transaction else { return };
        match result {
            Ok(first) => {
                let pending = self.transactions.entry(transaction.producer_id).or_default();
                pending
                    .extend(records.into_iter().enumerate().map(|(index, record)| (first + index as Offset, record)));
            }
            Err(_) => records.into_iter().for_each(|record| self.end_pending(-1, record, false)),
        }
    }

    fn remove_group(&mut self, id: &Arc<str>) {
        if let Some(group) = self.groups.remove(id)
            && let Some(at) = group.timer
        {
            self.timers.remove(&(at, Arc::clone(id)));
        }
    }

    /// Does what is due at `now`: sessions, rebalances, and every `offsets.retention.check.interval.ms` the expiry of
    /// offsets and of empty groups. One output per group.
    pub fn step(&mut self, now: Now, config: &GroupConfig) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some((at, id)) = self.timers.first().cloned().filter(|(at, _)| *at <= now.ticks_ms) {
            self.timers.remove(&(at, Arc::clone(&id)));
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.timer = None;
            let mut out = Output::default();
            group.classic.expire(now, config, &mut out);
            self.note_written(&out);
            if out != Output::default() {
                outputs.push(out);
            }
            self.schedule(&id);
            if self.groups.get(&id).is_some_and(|group| group.timer.is_some_and(|at| at <= now.ticks_ms)) {
                break; // A timeout of zero: give others their turn.
            }
        }
        let check_at = *self.next_retention_check.get_or_insert(now.ticks_ms + config.retention_check_interval_ms);
        if check_at <= now.ticks_ms {
            self.next_retention_check = Some(now.ticks_ms + config.retention_check_interval_ms);
            outputs.extend(self.expire_offsets(now.wall_ms, config.offsets_retention_ms));
        }
        outputs
    }

    /// When [`Shard::step`] has something to do, in ticks.
    pub fn next_wake(&self) -> Option<i64> {
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.next_retention_check).min()
    }

    fn expire_offsets(&mut self, now: Timestamp, retention_ms: i64) -> Vec<Output> {
        let mut all = Vec::new();
        for (id, group) in &mut self.groups {
            let records = expired_offsets(id, group, now, retention_ms);
            let classic = &mut group.classic;
            let everything_goes = group.offsets.removals(id, |_, _, _| true).len() == records.len();
            let idle = classic.state() == State::Empty && !classic.has_pending_members();
            let mut records = records;
            if idle && everything_goes && !group.offsets.has_open_commits() {
                records.push(GroupRecord::Group { group: Arc::clone(id), value: None });
                classic.set_dead(true);
            }
            if !records.is_empty() {
                all.push(records);
            }
        }
        all.into_iter().map(|records| self.removal(records)).collect()
    }

    /// A record of the log, read at start. `producer` is given for a batch of a transaction, whose offsets count once
    /// the transaction commits.
    pub fn replay(&mut self, record: GroupRecord, log_offset: Offset, producer: Option<ProducerId>, now: Now) {
        match record {
            GroupRecord::Offset { group: id, topic, partition, value } => {
                if value.is_none() && !self.groups.contains_key(&id) {
                    return;
                }
                let group = self
                    .groups
                    .entry(Arc::clone(&id))
                    .or_insert_with(|| Group::new(ClassicGroup::new(Arc::clone(&id), now)));
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
                let classic = ClassicGroup::from_value(Arc::clone(&id), &value, now);
                self.groups.insert(id, Group { classic, offsets, timer: None, written: true });
            }
            GroupRecord::Group { group: id, value: None } => {
                let offsets = self.groups.remove(&id).map(|group| group.offsets).unwrap_or_default();
                if !offsets.is_empty() {
                    let classic = ClassicGroup::new(Arc::clone(&id), now);
                    self.groups.insert(id, Group { classic, offsets, timer: None, written: false });
                }
            }
        }
    }

    /// The end of a producer's transaction: its offsets count (`commit`), or are dropped.
    pub fn replay_marker(&mut self, producer: ProducerId, commit: bool) {
        for (log_offset, record) in self.transactions.remove(&producer).unwrap_or_default() {
            self.end_pending(log_offset, record, commit);
        }
    }

    fn end_pending(&mut self, log_offset: Offset, record: GroupRecord, commit: bool) {
        let GroupRecord::Offset { group: id, topic, partition, value } = record else { return };
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.offsets.finish_pending(&topic, partition, log_offset, value.filter(|_| commit));
        let unused = group.classic.state() == State::Empty && !group.classic.has_pending_members();
        if group.offsets.is_empty() && !group.written && unused {
            self.groups.remove(&id);
        }
    }

    /// All records have been replayed: starts the sessions of the members.
    pub fn loaded(&mut self) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.schedule(&id);
        }
    }

    /// What a replay of the log must give back.
    pub fn image(&self) -> std::collections::BTreeMap<Arc<str>, GroupImage> {
        let mut image = std::collections::BTreeMap::new();
        for (id, group) in &self.groups {
            let offsets: Vec<_> = group
                .offsets
                .iter()
                .map(|(topic, partition, value)| (Arc::clone(topic), partition, value.clone()))
                .collect();
            let settled = group.written && matches!(group.classic.state(), State::Empty | State::Stable);
            let group = settled.then(|| GroupValue { state_timestamp: 0, ..group.classic.to_value() });
            if group.is_some() || !offsets.is_empty() {
                image.insert(Arc::clone(id), GroupImage { group, offsets });
            }
        }
        image
    }
}

/// Removals of the offsets of `group` that have lived their time, by the rules for its kind of use.
fn expired_offsets(id: &Arc<str>, group: &Group, now: Timestamp, retention_ms: i64) -> Vec<GroupRecord> {
    let classic = &group.classic;
    let expired = |value: &OffsetValue, base| Offsets::is_expired(value, base, now, retention_ms);
    group.offsets.removals(id, |topic, partition, value| {
        let Some(value) = value else { return false };
        if group.offsets.is_pending(topic, partition) {
            return false;
        }
        match (classic.protocol_type(), classic.state()) {
            // Never had members: counted from the commit.
            (None, _) => expired(value, value.commit_timestamp),
            // Counted from the moment when the last member left.
            (Some(_), State::Empty) => expired(value, classic.state_timestamp.unwrap_or(value.commit_timestamp)),
            // Members at work: only what none of them reads.
            (Some(_), State::Stable) if classic.is_consumer() => {
                !classic.is_subscribed(topic) && expired(value, value.commit_timestamp)
            }
            _ => false,
        }
    })
}
