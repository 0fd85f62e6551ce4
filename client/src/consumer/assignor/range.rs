//! `range`: per topic, consecutive partitions to the members in order; the first ones get one more if it does not
//! divide. Members with the same topics get the same indexes of each, so that topics are co-partitioned.

use std::task::{Poll, Waker};

use base::Now;

use super::{Assignor, ClusterMetadata, GroupAssignment, GroupSubscription, members_of, nobody, partitions_of};
use crate::error::ClientError;

/// Kafka's `RangeAssignor`, without rack awareness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(
        &mut self,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
        _: Now,
        _: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>> {
        let mut assignment = nobody(group);
        for topic in group.topics() {
            let Some(count) = cluster.partition_count(&topic) else { continue };
            let members = members_of(group, &topic);
            let (share, extra) = (count / members.len() as i32, count % members.len() as i32);
            let mut start = 0;
            for (index, member) in members.into_iter().enumerate() {
                let end = start + share + i32::from((index as i32) < extra);
                if let Some(assigned) = assignment.get_mut(member) {
                    assigned.partitions.extend(partitions_of(&topic, start..end));
                }
                start = end;
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
        text(&run(&mut RangeAssignor, &group(members), &cluster(topics)))
    }

    // Cases of Kafka's RangeAssignorTest and of its class documentation.
    #[test]
    fn first_members_get_the_remainder_of_every_topic() {
        assert_eq!(
            assigned("c0: t0 t1\n c1: t0 t1", &[("t0", 3), ("t1", 3)]),
            "c0: t0-0 t0-1 t1-0 t1-1\nc1: t0-2 t1-2"
        );
    }

    #[test]
    fn more_members_than_partitions_leave_the_last_without() {
        assert_eq!(assigned("c1: t\n c2: t\n c3: t", &[("t", 2)]), "c1: t-0\nc2: t-1\nc3:");
    }

    #[test]
    fn subscriptions_may_differ() {
        assert_eq!(
            assigned("c1: t1\n c2: t1 t2\n c3: t1", &[("t1", 3), ("t2", 2)]),
            "c1: t1-0\nc2: t1-1 t2-0 t2-1\nc3: t1-2"
        );
    }

    #[test]
    fn a_topic_that_does_not_exist_is_left_out() {
        assert_eq!(assigned("c1: t gone", &[("t", 1)]), "c1: t-0");
    }

    #[test]
    fn instance_ids_order_the_members_before_member_ids() {
        let mut members = group("a: t\n b: t\n c: t");
        members.members.get_mut("c").unwrap().group_instance_id = Some("1".into());
        members.members.get_mut("b").unwrap().group_instance_id = Some("2".into());
        let result = run(&mut RangeAssignor, &members, &cluster(&[("t", 3)]));
        assert_eq!(text(&result), "a: t-2\nb: t-1\nc: t-0");
    }
}
