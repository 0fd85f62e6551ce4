//! The assignor of a streams group: whole tasks to members, cooperative, with Kafka Streams' user data.
//!
//! A task is one partition of every topic of its sub-topology, so members get those partitions together, and every member can tell its
//! tasks from its partitions alone. A task that moves is first taken from its owner and given in the next rebalance, when the owner has
//! committed and let go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Poll, Waker};

use base::{Now, TopicName, TopicPartition};
use bytes::Bytes;
use client::ClientError;
use client::consumer::{
    Assignment, Assignor, ClusterMetadata, GroupAssignment, GroupMetadata, GroupSubscription, RebalanceProtocol,
};
use parking_lot::Mutex;

use super::balance::balance;
use super::subscription::{AssignmentInfo, RUNNING, SubscriptionInfo};
use crate::task::TaskId;
use crate::topology::BuiltTopology;

/// What a stream thread lets its assignor know.
#[derive(Clone, Debug, Default)]
pub struct OwnTasks {
    /// Tasks that run on the thread.
    pub running: BTreeSet<TaskId>,
    /// Tasks that have a folder in the process's state directory.
    pub with_state: BTreeSet<TaskId>,
}

/// Assigns tasks.
pub struct StreamsAssignor {
    built: Arc<BuiltTopology>,
    process_id: [u8; 16],
    own: Arc<Mutex<OwnTasks>>,
    unique_field: u8,
}

impl StreamsAssignor {
    /// For a member of process `process_id`; `own` is kept up to date by its thread.
    pub fn new(built: Arc<BuiltTopology>, process_id: [u8; 16], own: Arc<Mutex<OwnTasks>>) -> Self {
        Self { built, process_id, own, unique_field: 0 }
    }
}

/// The partitions of every task: partition `p` of each topic of the sub-topology that has it. The topic without metadata, if one is missing.
pub fn tasks_with_partitions(
    built: &BuiltTopology,
    count: impl Fn(&str) -> Option<i32>,
) -> Result<BTreeMap<TaskId, Vec<TopicPartition>>, String> {
    let mut tasks: BTreeMap<TaskId, Vec<TopicPartition>> = BTreeMap::new();
    for sub in built.subtopologies().iter().filter(|sub| !sub.is_global) {
        for topic in &sub.source_topics {
            let partitions = count(topic).ok_or_else(|| topic.clone())?;
            let topic: TopicName = topic.as_str().into();
            for partition in 0..partitions {
                let task = tasks.entry(TaskId::new(sub.id, partition)).or_default();
                task.push(TopicPartition::new(Arc::clone(&topic), partition));
            }
        }
    }
    Ok(tasks)
}

impl Assignor for StreamsAssignor {
    fn name(&self) -> &str {
        "stream"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative]
    }

    fn subscription_user_data(&mut self, _topics: &[TopicName]) -> Option<Bytes> {
        let own = self.own.lock();
        let left_behind = own.with_state.difference(&own.running).map(|task| (*task, 0));
        let tasks = own.running.iter().map(|task| (*task, RUNNING)).chain(left_behind).collect();
        self.unique_field = self.unique_field.wrapping_add(1);
        let info = SubscriptionInfo {
            process_id: self.process_id,
            endpoint: String::new(),
            tasks,
            unique_field: self.unique_field,
            error_code: 0,
        };
        Some(info.encode().into())
    }

    fn assign(
        &mut self,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
        _now: Now,
        _waker: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>> {
        Poll::Ready(self.assign_now(group, cluster))
    }

    fn on_assignment(&mut self, _assignment: &Assignment, _group: &GroupMetadata) {}
}

impl StreamsAssignor {
    fn assign_now(&self, group: &GroupSubscription, cluster: &ClusterMetadata) -> Result<GroupAssignment, ClientError> {
        let tasks = tasks_with_partitions(&self.built, |topic| cluster.partition_count(topic))
            .map_err(|topic| ClientError::MetadataPending { topic })?;
        let mut infos = BTreeMap::new();
        let mut owners: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
        for (member, described) in &group.members {
            let data = described.subscription.user_data.as_deref().unwrap_or_default();
            let info = SubscriptionInfo::decode(data).map_err(|error| {
                ClientError::Invalid(format!("member {member} is of another kind of application: {error}"))
            })?;
            infos.insert(member.clone(), info);
            owners.extend(described.subscription.owned.iter().map(|partition| (partition, member.as_str())));
        }
        let given = balance(&tasks.keys().copied().collect(), &infos);
        let mut assignment = GroupAssignment::new();
        for (member, held) in given {
            let mut by_partition: BTreeMap<TopicPartition, TaskId> = BTreeMap::new();
            for task in held {
                let partitions = tasks.get(&task).map(Vec::as_slice).unwrap_or_default();
                let owned_elsewhere =
                    partitions.iter().any(|partition| owners.get(partition).is_some_and(|owner| *owner != member));
                if !owned_elsewhere {
                    by_partition.extend(partitions.iter().map(|partition| (partition.clone(), task)));
                }
            }
            let info = AssignmentInfo { active: by_partition.values().copied().collect(), ..AssignmentInfo::default() };
            let partitions = by_partition.into_keys().collect();
            assignment.insert(member, Assignment { partitions, user_data: Some(info.encode().into()) });
        }
        Ok(assignment)
    }
}
