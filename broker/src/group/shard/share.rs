//! Heartbeats of share groups, and changes of their start offsets.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::{Group, Shard};
use crate::group::consumer::heartbeat::Refusal;
use crate::group::consumer::member::JOIN_EPOCH;
use crate::group::environment::Cluster;
use crate::group::kind::Kind;
use crate::group::output::{Continuation, Output};
use crate::group::records::GroupRecord;
use crate::group::share::ShareGroup;
use crate::group::share::heartbeat::{Answer, Heartbeat};
use crate::group::share::state_partitions::ToInitialize;
use crate::share::config::ShareConfig;
use crate::share::records::ShareKey;

/// Somebody once asked for a group of this name, but nothing is known of it. A group of another kind that is empty stays what it is until it is
/// deleted: it may have offsets that somebody counts on.
fn is_nothing(group: &Group) -> bool {
    !group.written && group.offsets.is_empty() && group.kind.is_vacant()
}

impl Shard {
    /// The share partitions whose state must be made before this heartbeat can be served; none if it will be refused.
    pub fn share_to_initialize(
        &self,
        id: &Arc<str>,
        beat: &Heartbeat,
        cluster: &dyn Cluster,
        config: &ShareConfig,
    ) -> ToInitialize {
        let none = BTreeSet::new();
        let more = beat.topic_names.as_ref().unwrap_or(&none);
        match self.groups.get(id) {
            _ if beat.epoch < JOIN_EPOCH => ToInitialize::default(),
            Some(Group { kind: Kind::Share(group), .. }) => match group.check_heartbeat(beat, config) {
                Ok(_) => group.to_initialize(more, cluster),
                Err(_) => ToInitialize::default(),
            },
            Some(group) if !is_nothing(group) || beat.epoch != JOIN_EPOCH => ToInitialize::default(),
            Some(_) | None => ShareGroup::new(Arc::clone(id)).to_initialize(more, cluster),
        }
    }

    /// ShareGroupHeartbeat in group `id`, after the share state of `made` was made; whoever joins first makes the group. The answer may leave once the output is durable.
    ///
    /// # Errors
    /// As the answer; nothing has changed then.
    pub fn share_heartbeat(
        &mut self,
        id: &Arc<str>,
        beat: &Heartbeat,
        made: &ToInitialize,
        cluster: &dyn Cluster,
        now: Now,
        config: &ShareConfig,
    ) -> Result<(Answer, Output), Refusal> {
        let not_found = |text: &str| Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} {text}."));
        let joins = beat.epoch == JOIN_EPOCH;
        let (answer, records) = match self.groups.get_mut(id) {
            Some(Group { kind: Kind::Share(group), .. }) if beat.epoch < JOIN_EPOCH => group.leave(beat)?,
            Some(Group { kind: Kind::Share(group), .. }) => group.heartbeat(beat, made, cluster, now, config)?,
            Some(group) if joins && is_nothing(group) => {
                let mut share = Box::new(ShareGroup::new(Arc::clone(id)));
                let answered = share.heartbeat(beat, made, cluster, now, config)?;
                group.kind = Kind::Share(share);
                answered
            }
            None if joins => {
                let mut share = Box::new(ShareGroup::new(Arc::clone(id)));
                let (answer, records) = share.heartbeat(beat, made, cluster, now, config)?;
                self.groups.insert(Arc::clone(id), Group::new(Kind::Share(share)));
                (answer, records)
            }
            Some(_) => return Err(not_found("is not a share group")),
            None => return Err(not_found("not found")),
        };
        let out = self.ahead_of_log(records);
        self.schedule(id);
        Ok((answer, out))
    }

    /// Start offsets of a share group were set; one that is not there is made.
    ///
    /// # Errors
    /// `GroupIdNotFound` for a group of another kind, `NonEmptyGroup` while it has members.
    pub fn share_offsets_set(&mut self, id: &Arc<str>, made: &ToInitialize) -> Result<Output, ErrorCode> {
        if !self.groups.contains_key(id) {
            let group = Kind::Share(Box::new(ShareGroup::new(Arc::clone(id))));
            self.groups.insert(Arc::clone(id), Group::new(group));
        }
        let records = self.share_mut(id)?.offsets_set(made);
        self.schedule(id);
        Ok(self.ahead_of_log(records))
    }

    /// The share state of some topics of a group is gone.
    ///
    /// # Errors
    /// As [`Shard::share_offsets_set`].
    pub fn share_offsets_deleted(&mut self, id: &Arc<str>, topics: &BTreeSet<Uuid>) -> Result<Output, ErrorCode> {
        let records = self.share_mut(id)?.forget_topics(topics);
        Ok(self.ahead_of_log(records))
    }

    fn share_mut(&mut self, id: &Arc<str>) -> Result<&mut ShareGroup, ErrorCode> {
        match self.groups.get_mut(id).map(|group| &mut group.kind) {
            Some(Kind::Share(group)) => {
                group.check_offsets_settable()?;
                Ok(group)
            }
            Some(_) | None => Err(ErrorCode::GroupIdNotFound),
        }
    }

    /// Topics were deleted: what share groups know of their state goes, and gives the share partitions whose state is to go too.
    pub fn forget_share_topics(&mut self, topics: &BTreeSet<Uuid>) -> (Output, Vec<ShareKey>) {
        let (mut records, mut keys) = (Vec::new(), Vec::new());
        for group in self.groups.values_mut() {
            if let Kind::Share(group) = &mut group.kind {
                keys.extend(group.state_keys(Some(topics)));
                records.extend(group.forget_topics(topics));
            }
        }
        (self.ahead_of_log(records), keys)
    }

    fn ahead_of_log(&mut self, records: Vec<GroupRecord>) -> Output {
        let continuation = (!records.is_empty()).then_some(Continuation::AheadOfLog);
        let out = Output { records, continuation, ..Output::default() };
        self.note_written(&out);
        out
    }
}
