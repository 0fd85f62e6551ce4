//! Who gets which partitions: the trait that a group's leader and members run, and Kafka's own strategies.
//!
//! Every member sends its subscription through the coordinator; the leader's assignor answers for all. A member knows
//! its assignor by name, so that both sides of a group can be of different implementations: names, bytes and, for the
//! strategies here, results are Kafka's.

mod range;
mod round_robin;
mod sticky;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

use base::{Now, PartitionId, TopicName, TopicPartition};
use bytes::Bytes;

pub use range::RangeAssignor;
pub use round_robin::RoundRobinAssignor;
pub use sticky::{CooperativeStickyAssignor, StickyAssignor};

use super::types::GroupMetadata;
use crate::error::ClientError;
use crate::metadata::Metadata;

/// How members give up partitions in a rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceProtocol {
    /// Everything is revoked before joining.
    Eager,
    /// A member keeps what it has; what moves is revoked after the assignment, and a second rebalance gives it away.
    Cooperative,
}

/// What a member tells the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Topics it wants, in order of names.
    pub topics: Vec<TopicName>,
    /// The assignor's own data.
    pub user_data: Option<Bytes>,
    /// Partitions it holds on to while joining (cooperative), or held before (for stickiness).
    pub owned: Vec<TopicPartition>,
    /// Generation in which it got them.
    pub generation: Option<i32>,
    /// `client.rack`.
    pub rack: Option<String>,
}

/// What the leader tells a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Partitions the member is to have.
    pub partitions: Vec<TopicPartition>,
    /// The assignor's own data.
    pub user_data: Option<Bytes>,
}

/// One member of the group as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// `group.instance.id`, if set.
    pub group_instance_id: Option<String>,
    /// What it sent.
    pub subscription: Subscription,
}

/// All members by member id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSubscription {
    /// Members by member id.
    pub members: BTreeMap<String, GroupMember>,
}

impl GroupSubscription {
    /// Every topic that at least one member wants, in order of names.
    pub fn topics(&self) -> Vec<TopicName> {
        let mut topics: Vec<TopicName> =
            self.members.values().flat_map(|member| member.subscription.topics.iter().cloned()).collect();
        topics.sort();
        topics.dedup();
        topics
    }
}

/// Assignments by member id; a member that is left out gets nothing.
pub type GroupAssignment = BTreeMap<String, Assignment>;

/// What the leader knows of the cluster when it assigns; the metadata of all topics the group subscribes is fresh.
#[derive(Clone)]
pub struct ClusterMetadata(Arc<Metadata>);

impl ClusterMetadata {
    /// A view on one state of the metadata.
    pub fn new(metadata: Arc<Metadata>) -> Self {
        Self(metadata)
    }

    /// How many partitions the topic has; `None` when there is no such topic.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.0.partition_count(topic)
    }

    /// Everything else: leaders, replicas, racks.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.0
    }
}

/// A strategy of assigning partitions, named so that all members can agree on it.
///
/// Methods run on the thread that steps the core.
pub trait Assignor: Send {
    /// Kafka's name of the strategy, for example `range`.
    fn name(&self) -> &str;

    /// The rebalance protocols it can work with, best first. The core uses the best that all its assignors share.
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// Data of its own that goes to the leader with the subscription; asked before every join.
    fn subscription_user_data(&mut self, topics: &[TopicName]) -> Option<Bytes> {
        let _ = topics;
        None
    }

    /// On the leader: who gets what. Called again, with newer metadata, each time the core is stepped, until it is
    /// ready: a strategy that must first create topics or look up offsets returns `Pending` and has `waker` called.
    ///
    /// # Errors
    /// An error ends this attempt: the core reports it ([`take_error`](super::ConsumerCore::take_error)) and rejoins
    /// after a back-off.
    fn assign(
        &mut self,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
        now: Now,
        waker: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>>;

    /// On every member: what it got; after revoked partitions were given up, before the new ones are announced.
    fn on_assignment(&mut self, assignment: &Assignment, group: &GroupMetadata) {
        let _ = (assignment, group);
    }
}

/// The assignors of Kafka's names (and class names), comma separated, as in `partition.assignment.strategy`.
///
/// # Errors
/// A name that is none of `range`, `roundrobin`, `sticky`, `cooperative-sticky`.
pub fn assignors_by_name(names: &str) -> Result<Vec<Box<dyn Assignor>>, ClientError> {
    let mut assignors: Vec<Box<dyn Assignor>> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let short = name.rsplit('.').next().unwrap_or(name);
        assignors.push(match short {
            "range" | "RangeAssignor" => Box::new(RangeAssignor),
            "roundrobin" | "RoundRobinAssignor" => Box::new(RoundRobinAssignor),
            "sticky" | "StickyAssignor" => Box::new(StickyAssignor::default()),
            "cooperative-sticky" | "CooperativeStickyAssignor" => Box::new(CooperativeStickyAssignor::default()),
            _ => {
                return Err(crate::config::refuse(
                    "partition.assignment.strategy",
                    names,
                    "must name range, roundrobin, sticky or cooperative-sticky",
                ));
            }
        });
    }
    Ok(assignors)
}

/// Members that want the topic, in Kafka's order of members: instance ids first, in their order, then member ids.
fn members_of<'a>(group: &'a GroupSubscription, topic: &str) -> Vec<&'a str> {
    let mut members: Vec<(&String, &GroupMember)> = group
        .members
        .iter()
        .filter(|(_, member)| member.subscription.topics.iter().any(|name| **name == *topic))
        .collect();
    members.sort_by_key(|(id, member)| order_of(id, member));
    members.into_iter().map(|(id, _)| id.as_str()).collect()
}

fn order_of<'a>(id: &'a str, member: &'a GroupMember) -> (bool, &'a str) {
    match &member.group_instance_id {
        Some(instance) => (false, instance),
        None => (true, id),
    }
}

fn partitions_of(topic: &TopicName, range: std::ops::Range<PartitionId>) -> impl Iterator<Item = TopicPartition> + '_ {
    range.map(|partition| TopicPartition::new(topic.clone(), partition))
}

/// Every member with an empty assignment: a member without partitions is still listed, as in Kafka.
fn nobody(group: &GroupSubscription) -> GroupAssignment {
    group.members.keys().map(|id| (id.clone(), Assignment::default())).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Groups written as text, for the tests of the strategies.

    use super::*;
    use crate::metadata::{PartitionMetadata, TopicMetadata};

    pub(crate) fn cluster(topics: &[(&str, i32)]) -> ClusterMetadata {
        let mut metadata = Metadata::default();
        for &(name, count) in topics {
            let partition =
                PartitionMetadata { leader: Some(0), leader_epoch: 0, replicas: Vec::new(), in_sync: Vec::new() };
            let topic = TopicMetadata {
                name: name.into(),
                id: uuid::Uuid::nil(),
                internal: false,
                partitions: vec![partition; count as usize],
            };
            metadata.topics.insert(name.into(), Arc::new(topic));
        }
        ClusterMetadata::new(Arc::new(metadata))
    }

    /// `c1: t0 t1` per line.
    pub(crate) fn group(text: &str) -> GroupSubscription {
        let mut group = GroupSubscription::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (id, topics) = line.split_once(':').unwrap();
            let mut topics: Vec<TopicName> = topics.split_whitespace().map(TopicName::from).collect();
            topics.sort();
            let subscription = Subscription { topics, ..Subscription::default() };
            group.members.insert(id.into(), GroupMember { group_instance_id: None, subscription });
        }
        group
    }

    pub(crate) fn run(
        assignor: &mut dyn Assignor,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
    ) -> GroupAssignment {
        match assignor.assign(group, cluster, Now { wall_ms: 0, ticks_ms: 0 }, Waker::noop()) {
            Poll::Ready(Ok(assignment)) => assignment,
            other => panic!("{other:?}"),
        }
    }

    /// `c1: t0-0 t0-1` per line.
    pub(crate) fn text(assignment: &GroupAssignment) -> String {
        let line = |(id, assignment): (&String, &Assignment)| {
            let partitions: Vec<String> = assignment.partitions.iter().map(ToString::to_string).collect();
            format!("{id}: {}", partitions.join(" ")).trim_end().to_owned()
        };
        assignment.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
