//! Which process has the state of which input partitions: what interactive queries of other processes go by.

use std::sync::Arc;

use protocol::api::streams_group_heartbeat::{EndpointPartitions, StreamsTopicPartitions, StreamsTopology};
use uuid::Uuid;

use super::group::StreamsGroup;
use super::tasks::TaskId;

/// The partitions of all members that say where they are reached; nothing before the topics are as they must be.
pub fn of(group: &StreamsGroup, topic: &dyn Fn(&str) -> Option<(Uuid, i32)>) -> Vec<EndpointPartitions> {
    let ready = group.configured.as_ref().is_some_and(|(_, configured)| configured.missing.is_empty());
    let Some(topology) = group.topology.as_ref().filter(|_| ready) else { return Vec::new() };
    let members = group.members.values().filter_map(|member| {
        let assigned = &member.current.assigned;
        Some(EndpointPartitions {
            user_endpoint: member.info.user_endpoint.clone()?,
            active_partitions: partitions(topology, assigned.active.keys(), topic),
            standby_partitions: partitions(topology, assigned.standby.iter(), topic),
        })
    });
    members.collect()
}

/// The input partitions of tasks. A topic may have fewer partitions than its subtopology has tasks.
fn partitions<'a>(
    topology: &StreamsTopology,
    tasks: impl Iterator<Item = &'a TaskId> + Clone,
    topic: &dyn Fn(&str) -> Option<(Uuid, i32)>,
) -> Vec<StreamsTopicPartitions> {
    let mut lists = Vec::new();
    for subtopology in &topology.subtopologies {
        let repartition = subtopology.repartition_source_topics.iter().map(|topic| &topic.name);
        for name in subtopology.source_topics.iter().chain(repartition) {
            let count = topic(name).map_or(0, |(_, count)| count);
            let own =
                tasks.clone().filter(|task| task.subtopology == subtopology.subtopology_id && task.partition < count);
            let partitions: Vec<i32> = own.map(|task| task.partition).collect();
            if !partitions.is_empty() {
                lists.push(StreamsTopicPartitions { topic: Arc::clone(name), partitions });
            }
        }
    }
    lists
}
