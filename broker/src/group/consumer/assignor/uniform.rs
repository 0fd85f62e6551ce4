//! The uniform assignor for members that all want the same topics: equal numbers of partitions, counted over all topics, and each
//! member keeps what it was to have up to its share.
//!
//! By the rules of Kafka's `UniformHomogeneousAssignmentBuilder`. Where that goes by the order of a hash map, this goes by id.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::PartitionId;
use uuid::Uuid;

use super::{Assignment, PartitionCounts, Subscribers, count_of};

pub(super) fn assign(members: &Subscribers, topics: &BTreeSet<Uuid>, counts: &PartitionCounts) -> Assignment {
    let had: BTreeSet<(Uuid, PartitionId)> = members.values().flat_map(|member| each(&member.target)).collect();
    let all = topics.iter().flat_map(|topic| (0..count_of(counts, topic)).map(|partition| (*topic, partition)));
    let (kept, mut free): (Vec<_>, Vec<_>) = all.partition(|partition| had.contains(partition));
    let total = kept.len() + free.len();
    let (quota, mut extra) = (total / members.len().max(1), total % members.len().max(1));
    let exists = |topic: &Uuid, partition: &PartitionId| topics.contains(topic) && *partition < count_of(counts, topic);

    let mut assignment = Assignment::new();
    let mut unfilled = Vec::new();
    for (id, member) in members {
        let mut room = quota + usize::from(extra > 0);
        extra = extra.saturating_sub(1);
        let own = assignment.entry(Arc::clone(id)).or_default();
        for (topic, partition) in each(&member.target).filter(|(topic, partition)| exists(topic, partition)) {
            if room > 0 {
                room -= 1;
                own.entry(topic).or_default().insert(partition);
            } else {
                free.push((topic, partition));
            }
        }
        if room > 0 {
            unfilled.push((id, room));
        }
    }
    let mut free = free.into_iter();
    for (id, room) in unfilled {
        let own = assignment.entry(Arc::clone(id)).or_default();
        for (topic, partition) in free.by_ref().take(room) {
            own.entry(topic).or_default().insert(partition);
        }
    }
    assignment
}

fn each(partitions: &super::Partitions) -> impl Iterator<Item = (Uuid, PartitionId)> {
    partitions.iter().flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
}
