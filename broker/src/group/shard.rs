//! All groups of one partition of `__consumer_offsets`, as a pure state machine: (state, request, now) gives records to
//! append and answers; replaying the records gives the state.
//!
//! Offsets and removals take effect when their record is durable ([`Shard::stored`]); a group's passage through its
//! states goes ahead of the log, and what is read of it after a restart is its last completed generation.
//! Knows no log, no clock and no wire format.
//!
//! Invariant: after every record is stored, replaying them gives the same offsets, the same members, leader, protocol and
//! assignments for every classic group that is empty or stable, and all of every consumer, share and streams group but its timers.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::hash::HashMap;
use base::{Now, Offset, PartitionId, ProducerId};
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::classic::{Join, State, Sync};
use super::config::GroupConfig;
use super::consumer::records::ConsumerRecord;
use super::environment::Cluster;
pub use super::kind::Group;
use super::kind::Kind;
use super::output::{Continuation, InTransaction, JoinAnswer, Output, SyncAnswer};
use super::records::{GroupRecord, OffsetValue};
use super::share::records::ShareGroupRecord;
use super::streams::records::StreamsRecord;

mod commit;
mod consumer;
mod migration;
mod replay;
mod retention;
mod share;
mod streams;

use migration::Before;

pub use commit::{Commit, Committer};
pub use replay::{GroupImage, KindImage};

/// The groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    groups: HashMap<Arc<str>, Group>,
    /// When which group wants [`super::kind::Kind::expire`]; may be too early, never too late.
    timers: BTreeSet<(i64, Arc<str>)>,
    /// Offsets committed in transactions that are still open, with their positions in the log.
    transactions: HashMap<ProducerId, Vec<(Offset, GroupRecord)>>,
    next_retention_check: Option<i64>,
    /// A record of a group that was ahead of the log could not be written.
    lost: bool,
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

    /// What is here is ahead of what is in the log, and stays so: it must be read anew.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    fn schedule(&mut self, id: &Arc<str>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let Some(at) = group.kind.next_deadline() else { return };
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
            if let GroupRecord::Group { group, value: Some(_) }
            | GroupRecord::Consumer { group, .. }
            | GroupRecord::Share { group, .. }
            | GroupRecord::Streams { group, .. } = record
                && let Some(group) = self.groups.get_mut(group)
            {
                group.written = true;
            }
        }
    }

    /// JoinGroup of group `id`; a new member makes the group.
    pub fn join(&mut self, id: &Arc<str>, join: Join, cluster: &dyn Cluster, now: Now, config: &GroupConfig) -> Output {
        let mut out = Output::default();
        if join.session_timeout_ms < config.min_session_timeout_ms
            || join.session_timeout_ms > config.max_session_timeout_ms
        {
            out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::InvalidSessionTimeout, join.member_id)));
            return out;
        }
        if self.groups.get(id).is_some_and(|group| group.consumer().is_some() && !group.kind.is_vacant()) {
            return self.join_consumer_group(id, &join, cluster, now, config);
        }
        // An empty group of another kind becomes a classic one, and keeps its offsets.
        let created = self.groups.get(id).is_none_or(|group| group.classic().is_none() && group.kind.is_vacant());
        if created && !join.member_id.is_empty() {
            out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::UnknownMemberId, join.member_id)));
            return out;
        }
        let mut before = if created { self.groups.remove(id) } else { None };
        let group = self.groups.entry(Arc::clone(id)).or_insert_with(|| Group::simple(id, now));
        let Some(classic) = group.classic_mut() else {
            out.joins.push((join.ticket, JoinAnswer::error(ErrorCode::InconsistentGroupProtocol, join.member_id)));
            return out;
        };
        let empty = created.then(|| classic.record(classic.to_value()));
        classic.join(join, now, config, &mut out);
        if created && classic.state() == State::Empty && !classic.has_pending_members() {
            // Refused: no trace of it.
            self.groups.remove(id);
            self.groups.extend(before.map(|before| (Arc::clone(id), before)));
            return out;
        }
        if out.records.is_empty() {
            out.records.extend(empty);
        }
        if let Some(before) = &mut before {
            group.offsets = std::mem::take(&mut before.offsets);
            group.timer = before.timer;
            out.records.splice(0..0, before.kind.removals(id));
        }
        self.note_written(&out);
        self.schedule(id);
        out
    }

    /// SyncGroup of group `id`.
    pub fn sync(&mut self, id: &Arc<str>, sync: Sync, cluster: &dyn Cluster, now: Now) -> Output {
        let mut out = Output::default();
        match self.groups.get_mut(id).map(|group| &mut group.kind) {
            Some(Kind::Classic(group)) => group.sync(sync, now, &mut out),
            Some(Kind::Consumer(group)) => {
                let answer = group.sync_classic(&sync, cluster, now).unwrap_or_else(SyncAnswer::error);
                out.syncs.push((sync.ticket, answer));
                self.schedule(id);
            }
            Some(Kind::Share(_) | Kind::Streams(_)) | None => {
                out.syncs.push((sync.ticket, SyncAnswer::error(ErrorCode::UnknownMemberId)))
            }
        }
        self.note_written(&out);
        out
    }

    /// Heartbeat in group `id`.
    pub fn heartbeat(
        &mut self,
        id: &Arc<str>,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        match self.groups.get_mut(id).map(|group| &mut group.kind) {
            Some(Kind::Classic(group)) => group.heartbeat(member_id, instance_id, generation, now),
            Some(Kind::Consumer(group)) => {
                let result = group.heartbeat_classic(member_id, instance_id, generation, now);
                self.schedule(id);
                result
            }
            Some(Kind::Share(_) | Kind::Streams(_)) | None => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// LeaveGroup: one result per member, in their order.
    pub fn leave(
        &mut self,
        id: &Arc<str>,
        leaving: &[(Arc<str>, Option<Arc<str>>)],
        cluster: &dyn Cluster,
        now: Now,
        config: &GroupConfig,
    ) -> (Vec<ErrorCode>, Output) {
        let mut out = Output::default();
        let results = match self.groups.get_mut(id).map(|group| &mut group.kind) {
            Some(Kind::Classic(group)) => group.leave(leaving, now, config, &mut out),
            Some(Kind::Consumer(group)) => {
                let before = Before::leave(group);
                let (results, records) = group.remove_members(leaving);
                out.records = records;
                self.maybe_downgrade(id, before, cluster, now, config, &mut out);
                self.changed_consumer_group(id, &mut out);
                return (results, out);
            }
            Some(Kind::Share(_) | Kind::Streams(_)) | None => {
                return (vec![ErrorCode::UnknownMemberId; leaving.len()], out);
            }
        };
        self.note_written(&out);
        self.schedule(id);
        (results, out)
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
        group.kind.check_deletable()?;
        let mut records = group.offsets.removals(id, |_, _, _| true);
        records.extend(group.kind.removals(id));
        group.kind.set_dead(true);
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
        group.kind.check_offsets_deletable()?;
        let subscribed = |topic: &str| group.kind.is_subscribed(topic);
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
        for (id, group) in self.living_groups() {
            records.extend(group.offsets.removals(id, |topic, _, value| gone(topic, value)));
        }
        self.removal(records)
    }

    /// The groups that are not being deleted. What is removed of the others must not be removed once more: the second removal
    /// would still be on its way when a new group of the same name has commits.
    fn living_groups(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Group)> {
        self.groups.iter_mut().filter(|(_, group)| !group.kind.is_dead())
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
            self.forget_unwritten_members(&output.records);
        }
        match output.continuation {
            Some(Continuation::Apply) => self.finish_apply(output.records, result),
            Some(Continuation::AheadOfLog) => self.lost |= result.is_err(),
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
                    Continuation::Apply
                    | Continuation::AheadOfLog
                    | Continuation::Pending
                    | Continuation::End { .. } => return out,
                };
                if let Some(group) = self.groups.get_mut(&id).and_then(Group::classic_mut) {
                    group.stored(continuation, result.map(|_| ()), now, config, &mut out);
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
                GroupRecord::Group { group: id, value: None }
                | GroupRecord::Consumer { group: id, record: ConsumerRecord::Group(None) }
                | GroupRecord::Share { group: id, record: ShareGroupRecord::Group(None) }
                | GroupRecord::Streams { group: id, record: StreamsRecord::Group(None) } => match result {
                    Ok(_) => self.remove_group(&id),
                    Err(_) => {
                        if let Some(group) = self.groups.get_mut(&id) {
                            group.kind.set_dead(false);
                        }
                    }
                },
                // The parts of a group go with its own record.
                GroupRecord::Group { value: Some(_), .. }
                | GroupRecord::Consumer { .. }
                | GroupRecord::Share { .. }
                | GroupRecord::Streams { .. } => {}
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
    pub fn step(&mut self, cluster: &dyn Cluster, now: Now, config: &GroupConfig) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some((at, id)) = self.timers.first().cloned().filter(|(at, _)| *at <= now.ticks_ms) {
            self.timers.remove(&(at, Arc::clone(&id)));
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.timer = None;
            let mut out = Output::default();
            let (before, is_share) = (group.consumer().map(Before::leave), group.share().is_some());
            group.kind.expire(now, config, &mut out);
            if let Some(before) = before {
                self.maybe_downgrade(&id, before, cluster, now, config, &mut out);
                self.changed_consumer_group(&id, &mut out);
            } else if is_share {
                out.continuation = (!out.records.is_empty()).then_some(Continuation::AheadOfLog);
            }
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
}
