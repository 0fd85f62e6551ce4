//! ShareGroupHeartbeat: a member joins, says what it wants, learns what it is to read, leaves.
//!
//! Every check comes before the first change, so that a refused heartbeat leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;

use super::assignor::{self, Subscriber};
use super::group::{Member, ShareGroup};
use super::records::{CurrentAssignment, MemberMetadata, ShareGroupRecord};
use super::state_partitions::ToInitialize;
use crate::group::consumer::heartbeat::Refusal;
use crate::group::consumer::member::JOIN_EPOCH;
use crate::group::consumer::records::{GroupEpoch, Partitions};
use crate::group::environment::Cluster;
use crate::group::metadata_hash::metadata_hash;
use crate::group::records::GroupRecord;
use crate::group::target_epoch::TargetEpoch;
use crate::share::config::ShareConfig;

/// A heartbeat, taken apart. What the member does not repeat is `None`.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// The member's id.
    pub member_id: Arc<str>,
    /// Its epoch; 0 to join, -1 to leave.
    pub epoch: i32,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// Client id of the connection.
    pub client_id: Arc<str>,
    /// Address of the connection.
    pub client_host: Arc<str>,
    /// Topics it wants.
    pub topic_names: Option<BTreeSet<Arc<str>>>,
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
    pub assignment: Option<Partitions>,
}

impl ShareGroup {
    /// A heartbeat of a member that joins or goes on, after the share state of `made` was made; gives the records of what it changed.
    ///
    /// # Errors
    /// As the answer; nothing has changed then.
    pub fn heartbeat(
        &mut self,
        beat: &Heartbeat,
        made: &ToInitialize,
        cluster: &dyn Cluster,
        now: Now,
        config: &ShareConfig,
    ) -> Result<(Answer, Vec<GroupRecord>), Refusal> {
        self.check_heartbeat(beat, config)?;
        let mut records = Vec::new();
        let is_new = !self.members.contains_key(&beat.member_id);
        let before = self.members.get(&beat.member_id).cloned().unwrap_or_else(|| Member::new(beat.member_id.clone()));
        let metadata = updated(&before.metadata, beat);
        let wants_changed = is_new || metadata.topic_names != before.metadata.topic_names;
        if is_new || metadata != before.metadata {
            let record = ShareGroupRecord::Member { member_id: beat.member_id.clone(), value: Some(metadata) };
            self.push(record, &mut records);
        }
        self.update_epoch(wants_changed, cluster, &mut records);
        self.update_target(now, cluster, config, &mut records);
        self.follow_target(&beat.member_id, wants_changed, cluster, &mut records);
        let mut answer = Answer {
            member_id: Arc::clone(&beat.member_id),
            epoch: beat.epoch,
            heartbeat_interval_ms: i32::try_from(config.heartbeat_interval.ms).unwrap_or(i32::MAX),
            assignment: None,
        };
        if let Some(member) = self.members.get_mut(&beat.member_id) {
            member.session_deadline = now.ticks_ms.saturating_add(config.session_timeout.ms);
            answer.epoch = member.current.epoch;
            let told = beat.epoch == JOIN_EPOCH
                || beat.topic_names.is_some()
                || member.current.assigned != before.current.assigned;
            answer.assignment = told.then(|| member.current.assigned.clone());
        }
        // As in Kafka the next heartbeat brings the partitions whose state this one had made.
        if self.note_initialized(made, &mut records) {
            self.raise_epoch(self.metadata_hash, &mut records);
        }
        Ok((answer, self.to_write(records)))
    }

    /// A heartbeat of a member that leaves.
    ///
    /// # Errors
    /// As the answer; nothing has changed then.
    pub fn leave(&mut self, beat: &Heartbeat) -> Result<(Answer, Vec<GroupRecord>), Refusal> {
        self.check_alive()?;
        if !self.members.contains_key(&beat.member_id) {
            return Err(unknown(&self.id, &beat.member_id));
        }
        let answer = Answer {
            member_id: Arc::clone(&beat.member_id),
            epoch: beat.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        Ok((answer, self.fence(&BTreeSet::from([Arc::clone(&beat.member_id)]))))
    }

    /// Whether a heartbeat of a member that joins or goes on can be served.
    ///
    /// # Errors
    /// As the answer.
    pub fn check_heartbeat(&self, beat: &Heartbeat, config: &ShareConfig) -> Result<(), Refusal> {
        self.check_alive()?;
        let Some(member) = self.members.get(&beat.member_id) else {
            if beat.epoch != JOIN_EPOCH {
                return Err(unknown(&self.id, &beat.member_id));
            }
            if self.members.len() >= config.max_size {
                let text = format!("group {} is full: group.share.max.size is {}", self.id, config.max_size);
                return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, text));
            }
            return Ok(());
        };
        let current = &member.current;
        // A member that has not heard of its new epoch repeats itself.
        if [JOIN_EPOCH, current.epoch, current.previous_epoch].contains(&beat.epoch) {
            return Ok(());
        }
        let text = format!(
            "member {} of group {} is in epoch {}, not in {}: it must join again",
            member.id, self.id, current.epoch, beat.epoch
        );
        Err(Refusal::new(ErrorCode::FencedMemberEpoch, text))
    }

    /// Raises the group's epoch if its members want other topics, or there are other partitions.
    fn update_epoch(&mut self, wants_changed: bool, cluster: &dyn Cluster, records: &mut Vec<ShareGroupRecord>) {
        let version = cluster.topics_version();
        let mut hash = self.metadata_hash;
        if wants_changed || self.known_version != Some(version) {
            let wanted: BTreeSet<&Arc<str>> =
                self.members.values().flat_map(|member| &member.metadata.topic_names).collect();
            hash = metadata_hash(wanted.into_iter().filter_map(|name| {
                let (id, count) = cluster.topic(name)?;
                Some((name.as_ref(), id, count))
            }));
            self.known_version = Some(version);
        }
        if wants_changed || hash != self.metadata_hash {
            self.raise_epoch(hash, records);
        }
    }

    fn raise_epoch(&mut self, metadata_hash: i64, records: &mut Vec<ShareGroupRecord>) {
        let value = GroupEpoch { epoch: self.epoch.saturating_add(1), metadata_hash };
        self.push(ShareGroupRecord::Group(Some(value)), records);
    }

    /// Computes the target assignment of the group's epoch, unless there is one or the last one is too young.
    fn update_target(
        &mut self,
        now: Now,
        cluster: &dyn Cluster,
        config: &ShareConfig,
        records: &mut Vec<ShareGroupRecord>,
    ) {
        let age = now.wall_ms.saturating_sub(self.target_timestamp);
        // A clock that was set back must not stop the group.
        let is_young = self.target_timestamp != 0 && (0..config.assignment_interval.ms).contains(&age);
        if self.epoch <= self.target_epoch || is_young {
            return;
        }
        let subscribers: BTreeMap<Arc<str>, Subscriber> = self
            .members
            .values()
            .map(|member| {
                let topics = member.metadata.topic_names.iter().filter_map(|name| cluster.topic(name));
                let target = self.targets.get(&member.id).cloned().unwrap_or_default();
                (Arc::clone(&member.id), Subscriber { topics: topics.map(|(id, _)| id).collect(), target })
            })
            .collect();
        // Only what exists and has its state.
        let partitions: Partitions = self
            .state_partitions
            .initialized
            .iter()
            .filter(|(id, _)| cluster.topic_name(**id).is_some())
            .map(|(id, topic)| (*id, topic.partitions.clone()))
            .filter(|(id, _)| subscribers.values().any(|subscriber| subscriber.topics.contains(id)))
            .collect();
        for (member_id, value) in assignor::assign(&subscribers, &partitions) {
            if self.targets.get(&member_id) != Some(&value) {
                self.push(ShareGroupRecord::Target { member_id, value: Some(value) }, records);
            }
        }
        let value = TargetEpoch { epoch: self.epoch, timestamp: now.wall_ms };
        self.push(ShareGroupRecord::TargetEpoch(Some(value)), records);
    }

    /// The member gets what it is to read; of an older target at least what it does not want any more goes.
    fn follow_target(
        &mut self,
        member_id: &Arc<str>,
        wants_changed: bool,
        cluster: &dyn Cluster,
        records: &mut Vec<ShareGroupRecord>,
    ) {
        let Some(member) = self.members.get(member_id) else { return };
        let current = &member.current;
        let mut next = current.clone();
        if current.epoch != self.target_epoch {
            next = CurrentAssignment {
                epoch: self.target_epoch,
                previous_epoch: current.epoch,
                assigned: self.targets.get(member_id).cloned().unwrap_or_default(),
            };
        }
        if wants_changed || next.epoch != current.epoch {
            let wanted: BTreeSet<_> =
                member.metadata.topic_names.iter().filter_map(|name| cluster.topic(name)).collect();
            next.assigned.retain(|topic, _| wanted.iter().any(|(id, _)| id == topic));
        }
        if next != *current {
            self.push(ShareGroupRecord::Current { member_id: Arc::clone(member_id), value: Some(next) }, records);
        }
    }
}

fn unknown(group: &str, member_id: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("group {group} has no member {member_id}"))
}

/// What is known of a member, with what it says now.
fn updated(known: &MemberMetadata, beat: &Heartbeat) -> MemberMetadata {
    MemberMetadata {
        rack_id: beat.rack_id.clone().or_else(|| known.rack_id.clone()),
        client_id: Arc::clone(&beat.client_id),
        client_host: Arc::clone(&beat.client_host),
        topic_names: beat.topic_names.clone().unwrap_or_else(|| known.topic_names.clone()),
    }
}
