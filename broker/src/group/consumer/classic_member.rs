//! Members of a consumer group that speak the classic protocol: JoinGroup, SyncGroup and Heartbeat of such a member, which is
//! led to its target assignment as any other, but learns of each step by joining again. By the rules of Kafka's
//! `GroupMetadataManager`.
//!
//! ```text
//!   Heartbeat: REBALANCE_IN_PROGRESS --> JoinGroup: what it has given up; its epoch, as generation
//!          ^                                     |
//!          |  another target, or more to have    v
//!          +------------------------------- SyncGroup: what it has
//! ```
//!
//! Every check comes before the first change, so that a refused request leaves no trace.

use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;

use super::config::ConsumerConfig;
use super::group::ConsumerGroup;
use super::heartbeat::{Refusal, unknown};
use super::member::Member;
use super::records::{ClassicMetadata, ConsumerRecord, MemberMetadata, MemberState, Partitions};
use crate::group::classic::{Join, Sync};
use crate::group::environment::Cluster;
use crate::group::output::{JoinAnswer, SyncAnswer};
use crate::group::records::GroupRecord;
use crate::group::subscription::{CONSUMER_PROTOCOL_TYPE, NamedPartitions, Subscription, write_assignment};

/// First version of JoinGroup in which a new member first asks for its id.
const FIRST_WITH_KNOWN_ID: i16 = 4;

impl ConsumerGroup {
    /// Whether some member speaks the consumer protocol.
    pub fn has_consumer_protocol_member(&self) -> bool {
        self.members.values().any(|member| member.metadata.classic.is_none())
    }

    /// JoinGroup: the member is new, or goes on to what it is to have by now. Gives the records of what it changed.
    ///
    /// # Errors
    /// As the answer; nothing has changed then.
    pub fn join_classic(
        &mut self,
        join: &Join,
        cluster: &dyn Cluster,
        now: Now,
        config: &ConsumerConfig,
    ) -> Result<(JoinAnswer, Vec<GroupRecord>), Refusal> {
        self.check_alive()?;
        let is_new = join.member_id.is_empty();
        let id = if is_new { Arc::clone(&join.fresh_uuid) } else { Arc::clone(&join.member_id) };
        self.check_room(&id, config.max_size)?;
        self.check_protocols(join)?;
        if is_new && join.instance_id.is_none() && join.version >= FIRST_WITH_KNOWN_ID {
            return Ok((JoinAnswer::error(ErrorCode::MemberIdRequired, id), Vec::new()));
        }
        let replaced = self.check_joining_instance(join)?;
        let (protocol, metadata) = join.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let subscription = Subscription::read(metadata).map_err(|error| {
            Refusal::new(ErrorCode::UnknownServerError, format!("the embedded subscription is malformed: {error}"))
        })?;
        // One that has partitions has been a member and was dropped since: others may have them by now. Kafka takes it as it is.
        let is_known = self.members.contains_key(&id) || replaced.is_some();
        if !is_known && subscription.owned.values().any(|partitions| !partitions.is_empty()) {
            return Err(unknown(&self.id, &id));
        }

        let mut records = Vec::new();
        if let Some(replaced) = replaced {
            self.replace(&replaced, &id, &mut records);
        }
        let wants_changed = self.take_up(&id, join, &subscription, &mut records);
        self.update_epoch(wants_changed, true, cluster, &mut records);
        self.update_target(now, config, &mut records);
        let owned = ids_of(&subscription.owned, cluster);
        self.advance(&id, Some(&owned), wants_changed, now, &mut records);
        let generation = self.members.get_mut(&id).map_or(-1, |member| {
            member.join_deadline = None;
            member.session_deadline = after(now, join.session_timeout_ms);
            member.sync_deadline = Some(after(now, join.rebalance_timeout_ms));
            member.current.epoch
        });
        let answer = JoinAnswer {
            error: ErrorCode::None,
            generation,
            protocol_type: Some(Arc::from(CONSUMER_PROTOCOL_TYPE)),
            protocol: Some(Arc::clone(protocol)),
            leader: Arc::from(""), // nobody assigns but the coordinator
            skip_assignment: false,
            member_id: id,
            members: Vec::new(),
        };
        Ok((answer, self.to_write(records)))
    }

    /// SyncGroup: what the member has.
    ///
    /// # Errors
    /// As the answer.
    pub fn sync_classic(&mut self, sync: &Sync, cluster: &dyn Cluster, now: Now) -> Result<SyncAnswer, ErrorCode> {
        self.check_alive()?;
        let id = self.classic_id(&sync.member_id, sync.instance_id.as_ref())?;
        let group_epoch = self.epoch;
        let member = self.members.get_mut(&id).ok_or(ErrorCode::UnknownMemberId)?;
        let classic = member.metadata.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        if sync.generation != member.current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let (protocol, metadata) = classic.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let is_other = |given: &Option<Arc<str>>, own: &str| given.as_deref().is_some_and(|given| given != own);
        if is_other(&sync.protocol_type, CONSUMER_PROTOCOL_TYPE) || is_other(&sync.protocol, protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that is to give something up has joined already: it hears of that first.
        if group_epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            expect_join(member, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let assigned = member.current.assigned.iter();
        let assigned: NamedPartitions = assigned
            .filter_map(|(topic, partitions)| Some((cluster.topic_name(*topic)?, partitions.keys().copied().collect())))
            .collect();
        let assignment = write_assignment(metadata, &assigned).map_err(|error| {
            tracing::warn!(group = %self.id, member = %id, %error, "a member's assignment cannot be written");
            ErrorCode::UnknownServerError
        })?;
        let session_timeout_ms = classic.session_timeout_ms;
        member.sync_deadline = None;
        member.session_deadline = after(now, session_timeout_ms);
        Ok(SyncAnswer {
            error: ErrorCode::None,
            protocol_type: sync.protocol_type.clone(),
            protocol: sync.protocol.clone(),
            assignment,
        })
    }

    /// Heartbeat.
    ///
    /// # Errors
    /// As the answer; `RebalanceInProgress` when the member is to join again: there is another target, it has something to give up, or
    /// what it waits for is free.
    pub fn heartbeat_classic(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), ErrorCode> {
        self.check_alive()?;
        let id = self.classic_id(&Arc::from(member_id), instance_id.map(Arc::from).as_ref())?;
        let has_news = self.members.get(&id).is_some_and(|member| {
            let current = &member.current;
            current.epoch < self.epoch
                || current.state == MemberState::UnrevokedPartitions
                || current.state == MemberState::UnreleasedPartitions && !self.waits_for_others(member)
        });
        let member = self.members.get_mut(&id).ok_or(ErrorCode::UnknownMemberId)?;
        if generation != member.current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let session_timeout_ms = member.metadata.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
        member.session_deadline = after(now, session_timeout_ms);
        if has_news {
            expect_join(member, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Id of a member that speaks the classic protocol.
    fn classic_id(&self, member_id: &Arc<str>, instance_id: Option<&Arc<str>>) -> Result<Arc<str>, ErrorCode> {
        let id = match instance_id {
            Some(instance_id) => self.check_instance(instance_id, member_id).map_err(|refusal| refusal.code)?,
            None => Arc::clone(member_id),
        };
        match self.members.get(&id) {
            Some(member) if member.metadata.classic.is_some() => Ok(id),
            _ => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// A member of a consumer's protocol, and of one of the assignors that all classic members have.
    fn check_protocols(&self, join: &Join) -> Result<(), Refusal> {
        let classic = || self.members.values().filter_map(|member| member.metadata.classic.as_ref());
        let is_shared =
            |name: &Arc<str>| classic().all(|known| known.protocols.iter().any(|(offered, _)| offered == name));
        if &*join.protocol_type == CONSUMER_PROTOCOL_TYPE && join.protocols.iter().any(|(name, _)| is_shared(name)) {
            return Ok(());
        }
        let text = format!("group {} is a consumer group, in which these protocols are not known", self.id);
        Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, text))
    }

    /// Gives the member whose place a returning static member takes, if any.
    fn check_joining_instance(&self, join: &Join) -> Result<Option<Arc<str>>, Refusal> {
        let Some(instance_id) = &join.instance_id else { return Ok(None) };
        if join.member_id.is_empty() {
            return Ok(self.static_members.get(instance_id).cloned());
        }
        self.check_instance(instance_id, &join.member_id)?;
        Ok(None)
    }

    /// What is known of the member from now on; whether it wants other topics than before.
    fn take_up(
        &mut self,
        id: &Arc<str>,
        join: &Join,
        subscription: &Subscription,
        records: &mut Vec<ConsumerRecord>,
    ) -> bool {
        let known = self.members.get(id).map(|member| member.metadata.clone());
        let before = known.clone().unwrap_or_else(|| Member::new(Arc::clone(id)).metadata);
        let metadata = MemberMetadata {
            instance_id: join.instance_id.clone().or_else(|| before.instance_id.clone()),
            rack_id: subscription.rack.clone().or_else(|| before.rack_id.clone()),
            client_id: Arc::clone(&join.client_id),
            client_host: Arc::clone(&join.client_host),
            topic_names: subscription.topics.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            classic: Some(ClassicMetadata {
                session_timeout_ms: join.session_timeout_ms,
                protocols: join.protocols.clone(),
            }),
            ..before.clone()
        };
        let wants_changed = metadata.topic_names != before.topic_names;
        if known.as_ref() != Some(&metadata) {
            self.push(ConsumerRecord::Member { member_id: Arc::clone(id), value: Some(metadata) }, records);
        }
        wants_changed
    }

    /// Whether something that the member is to have is still with others.
    fn waits_for_others(&self, member: &Member) -> bool {
        let target = self.targets.get(&member.id).into_iter().flatten();
        let mut wanted = target.flat_map(|(topic, partitions)| partitions.iter().map(move |index| (*topic, *index)));
        wanted.any(|(topic, index)| {
            let is_own = member.current.assigned.get(&topic).is_some_and(|own| own.contains_key(&index));
            !is_own && self.owners.contains_key(&(topic, index))
        })
    }
}

/// Partitions by topic id, of the topics that exist.
pub(super) fn ids_of(named: &NamedPartitions, cluster: &dyn Cluster) -> Partitions {
    let found = named.iter().filter_map(|(name, partitions)| Some((cluster.topic(name)?.0, partitions.clone())));
    found.collect()
}

/// The member is to join again; it is waited for as long as one rebalance may take.
fn expect_join(member: &mut Member, now: Now) {
    let patience = member.metadata.rebalance_timeout_ms;
    member.join_deadline.get_or_insert_with(|| after(now, patience));
}

pub(super) fn after(now: Now, ms: i32) -> i64 {
    now.ticks_ms.saturating_add(i64::from(ms.max(0)))
}
