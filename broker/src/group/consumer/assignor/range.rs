//! The range assignor: of each topic a run of neighbouring partitions for each member, in the order of their instance ids and ids.
//! Topics with the same subscribers are cut at the same places, so that partitions of the same number meet in one member.
//!
//! What a member had before does not count, as in Kafka's `RangeAssignor`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::PartitionId;
use uuid::Uuid;

use super::{Assignment, PartitionCounts, Subscriber, Subscribers, count_of};

/// One topic while its partitions are handed out.
struct Topic {
    quota: PartitionId,
    /// So many members get one more than the quota.
    extra: PartitionId,
    next: PartitionId,
}

pub(super) fn assign(members: &Subscribers, counts: &PartitionCounts) -> Assignment {
    let mut order: Vec<(&Arc<str>, &Subscriber)> = members.iter().collect();
    // Static members first.
    order.sort_by_key(|(id, member)| (member.instance_id.is_none(), member.instance_id.clone(), Arc::clone(id)));
    let mut topics: BTreeMap<Uuid, Topic> = BTreeMap::new();
    for topic in members.values().flat_map(|member| &member.topics) {
        topics.entry(*topic).or_insert(Topic { quota: 0, extra: 0, next: 0 }).quota += 1;
    }
    for (id, topic) in &mut topics {
        let (partitions, subscribers) = (count_of(counts, id), topic.quota);
        (topic.quota, topic.extra) = (partitions / subscribers, partitions % subscribers);
    }
    let mut assignment = Assignment::new();
    for (id, member) in order {
        let own = assignment.entry(Arc::clone(id)).or_default();
        for wanted in &member.topics {
            let Some(topic) = topics.get_mut(wanted) else { continue };
            let size = topic.quota + PartitionId::from(topic.extra > 0);
            topic.extra = (topic.extra - 1).max(0);
            if size > 0 {
                own.insert(*wanted, (topic.next..topic.next + size).collect());
                topic.next += size;
            }
        }
    }
    assignment
}
