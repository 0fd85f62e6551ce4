//! `roundrobin`: all partitions of all topics in order, one to each member in turn, skipping members that do not want
//! the topic.

use std::task::{Poll, Waker};

use base::{Now, TopicPartition};

use super::{Assignor, ClusterMetadata, GroupAssignment, GroupSubscription, nobody, order_of};
use crate::error::ClientError;

/// Kafka's `RoundRobinAssignor`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(
        &mut self,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
        _: Now,
        _: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>> {
        let mut assignment = nobody(group);
        let mut members: Vec<_> = group.members.iter().collect();
        members.sort_by_key(|(id, member)| order_of(id, member));
        let mut turn = (0..members.len()).cycle();
        for topic in group.topics() {
            for partition in 0..cluster.partition_count(&topic).unwrap_or(0) {
                // A topic of `group.topics()` is wanted by at least one member, so that the search ends.
                let wants = |&index: &usize| members[index].1.subscription.topics.contains(&topic);
                let Some(index) = turn.find(wants) else { break };
                if let Some(assigned) = assignment.get_mut(members[index].0) {
                    assigned.partitions.push(TopicPartition::new(topic.clone(), partition));
                }
            }
        }
        Poll::Ready(Ok(assignment))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cluster, group, run, text};
    use super::*;

    fn assigned(members: &str, topics: &[(&str, i32)]) -> String {
        text(&run(&mut RoundRobinAssignor, &group(members), &cluster(topics)))
    }

    // The two examples of Kafka's class documentation.
    #[test]
    fn equal_subscriptions_take_turns() {
        assert_eq!(
            assigned("c0: t0 t1\n c1: t0 t1", &[("t0", 3), ("t1", 3)]),
            "c0: t0-0 t0-2 t1-1\nc1: t0-1 t1-0 t1-2"
        );
    }

    #[test]
    fn members_that_do_not_want_the_topic_are_skipped() {
        assert_eq!(
            assigned("c0: t0\n c1: t0 t1\n c2: t0 t1 t2", &[("t0", 1), ("t1", 2), ("t2", 3)]),
            "c0: t0-0\nc1: t1-0\nc2: t1-1 t2-0 t2-1 t2-2"
        );
    }
}
