//! Between the protocols: a classic group at work whose members are consumers becomes a consumer group when the first member of
//! the consumer protocol comes, and a classic group again when the last one has gone. Nobody stops working for it: the classic
//! members are told to join again, and keep what they have until then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Now, PartitionId};
use bytes::Bytes;
use uuid::Uuid;

use super::classic_member::{after, ids_of};
use super::group::ConsumerGroup;
use super::records::{
    AssignedPartitions, ClassicMetadata, ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata, MemberState,
    Partitions,
};
use crate::group::classic::{self, ClassicGroup};
use crate::group::environment::Cluster;
use crate::group::layout::GroupRecordError;
use crate::group::member::Member as ClassicMember;
use crate::group::records::GroupRecord;
use crate::group::subscription::{
    CONSUMER_PROTOCOL_TYPE, NamedPartitions, Subscription, read_assignment, write_assignment,
};
use crate::group::target_epoch::TargetEpoch;

/// `group.consumer.migration.policy`: which groups with members change their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationPolicy {
    /// Classic groups become consumer groups.
    pub upgrades: bool,
    /// Consumer groups become classic groups.
    pub downgrades: bool,
}

impl MigrationPolicy {
    /// Kafka's default.
    pub const BIDIRECTIONAL: Self = Self { upgrades: true, downgrades: true };

    /// The policy of this name, in upper or lower case.
    pub fn named(name: &str) -> Option<Self> {
        let [upgrades, downgrades] = match name.trim().to_ascii_lowercase().as_str() {
            "disabled" => [false, false],
            "upgrade" => [true, false],
            "downgrade" => [false, true],
            "bidirectional" => [true, true],
            _ => return None,
        };
        Some(Self { upgrades, downgrades })
    }
}

impl ConsumerGroup {
    /// The consumer group that goes on where a classic one stands, and the records that make it. Every member has, and is to have,
    /// what it was last assigned; the generation becomes the epoch.
    ///
    /// # Errors
    /// When what the members exchange cannot be read.
    pub fn from_classic(
        classic: &ClassicGroup,
        cluster: &dyn Cluster,
        now: Now,
    ) -> Result<(Self, Vec<GroupRecord>), GroupRecordError> {
        let epoch = classic.generation();
        let mut members = Vec::new();
        for member in classic.members() {
            let (metadata, owned) = offer_of(member, classic.protocol().map(AsRef::as_ref))?;
            let assigned = ids_of(&read_assignment(&member.assignment)?, cluster);
            members.push((Arc::clone(&member.id), metadata, assigned, ids_of(&owned, cluster)));
        }
        let taken: BTreeSet<(Uuid, PartitionId)> =
            members.iter().flat_map(|(_, _, assigned, _)| one_by_one(assigned)).collect();
        let mut records = Vec::new();
        for (id, metadata, ..) in &members {
            records.push(ConsumerRecord::Member { member_id: Arc::clone(id), value: Some(metadata.clone()) });
        }
        records.push(ConsumerRecord::Group(Some(GroupEpoch { epoch, metadata_hash: 0 })));
        for (id, _, assigned, _) in &members {
            records.push(ConsumerRecord::Target { member_id: Arc::clone(id), value: Some(assigned.clone()) });
        }
        records.push(ConsumerRecord::TargetEpoch(Some(TargetEpoch { epoch, timestamp: 0 })));
        for (id, _, assigned, owned) in members {
            let unassigned = one_by_one(&owned).filter(|partition| !taken.contains(partition));
            let value = Some(current_of(&assigned, unassigned, epoch));
            records.push(ConsumerRecord::Current { member_id: id, value });
        }
        let mut group = Self::new(Arc::clone(classic.id()));
        records.iter().for_each(|record| group.apply(record));
        for member in group.members.values_mut() {
            let timeout_ms = member.metadata.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
            member.session_deadline = after(now, timeout_ms);
        }
        let records = group.to_write(records);
        Ok((group, records))
    }

    /// The classic group that goes on where this one stands, all of whose members speak the classic protocol: stable. With a
    /// `generation` its members are to join again, and each counts with what it has until then; without, in the group's epoch, each
    /// with what it is to have.
    ///
    /// # Errors
    /// When what the members offered cannot be read.
    pub fn to_classic(
        &self,
        generation: Option<i32>,
        cluster: &dyn Cluster,
        now: Now,
    ) -> Result<ClassicGroup, GroupRecordError> {
        let mut assignments: BTreeMap<&Arc<str>, NamedPartitions> = BTreeMap::new();
        let mut members = Vec::new();
        for member in self.members.values() {
            let classic = member.metadata.classic.clone().unwrap_or_default();
            let share = match generation {
                Some(_) => member.current.owned(),
                None => self.targets.get(&member.id).cloned().unwrap_or_default(),
            };
            let named = share.into_iter().filter_map(|(topic, indexes)| Some((cluster.topic_name(topic)?, indexes)));
            assignments.insert(&member.id, named.collect());
            let mut made = ClassicMember {
                id: Arc::clone(&member.id),
                instance_id: member.metadata.instance_id.clone(),
                client_id: Arc::clone(&member.metadata.client_id),
                client_host: Arc::clone(&member.metadata.client_host),
                rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.protocols,
                assignment: Bytes::new(),
                is_new: false,
                join: None,
                sync: None,
                session_deadline: 0,
            };
            made.touch(now.ticks_ms);
            members.push(made);
        }
        let generation = generation.unwrap_or(self.epoch);
        let mut group = ClassicGroup::stable(Arc::clone(&self.id), generation, CONSUMER_PROTOCOL_TYPE, members, now);
        let protocol = group.protocol().cloned();
        group.assign(|member| {
            let metadata = member.metadata(protocol.as_deref());
            write_assignment(&metadata, assignments.get(&member.id).unwrap_or(&NamedPartitions::new()))
        })?;
        Ok(group)
    }
}

fn one_by_one(partitions: &Partitions) -> impl Iterator<Item = (Uuid, PartitionId)> {
    partitions.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (*topic, *partition)))
}

/// What a classic member has. `unassigned` is what it had when it joined and nobody was assigned since: it may not have heard of that
/// yet, and keeps others from it until it has joined again.
fn current_of(
    assigned: &Partitions,
    unassigned: impl Iterator<Item = (Uuid, PartitionId)>,
    epoch: i32,
) -> CurrentAssignment {
    let since = |partitions: &mut dyn Iterator<Item = (Uuid, PartitionId)>| {
        let mut topics = AssignedPartitions::new();
        partitions.for_each(|(topic, partition)| {
            topics.entry(topic).or_default().insert(partition, epoch);
        });
        topics
    };
    let pending_revocation = since(&mut { unassigned });
    let gives_up = !pending_revocation.is_empty();
    CurrentAssignment {
        epoch,
        previous_epoch: epoch,
        state: if gives_up { MemberState::UnrevokedPartitions } else { MemberState::Stable },
        assigned: since(&mut one_by_one(assigned)),
        pending_revocation,
    }
}

/// What a classic member said of itself, and had when it said so; before the group has chosen a protocol, by the first that it offers.
fn offer_of(
    member: &ClassicMember,
    protocol: Option<&str>,
) -> Result<(MemberMetadata, NamedPartitions), GroupRecordError> {
    let first = member.protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
    let chosen = protocol.map_or(first, |protocol| member.metadata(Some(protocol)));
    let subscription = Subscription::read(&chosen)?;
    let metadata = MemberMetadata {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack,
        client_id: Arc::clone(&member.client_id),
        client_host: Arc::clone(&member.client_host),
        topic_names: subscription.topics,
        topic_regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicMetadata {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    Ok((metadata, subscription.owned))
}

impl ClassicGroup {
    /// Whether it may become a consumer group while its members are at work.
    pub fn can_upgrade(&self, policy: MigrationPolicy, max_size: usize) -> bool {
        policy.upgrades
            && self.is_consumer()
            && self.state() != classic::State::Dead
            && self.members().count() <= max_size
    }
}
