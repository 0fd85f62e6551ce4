//! `sticky` and `cooperative-sticky`: as balanced as can be, and under that as few moves as can be.
//!
//! A member reports what it owns and in which generation it got it. Of two members that claim one partition the one
//! with the higher generation keeps it; with equal generations nobody does. When all members want the same topics
//! (the common case) quotas are known in advance and one pass does; otherwise partitions are moved one by one from
//! fuller to emptier members until no move helps.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Poll, Waker};

use base::hash::HashMap;
use base::{Now, TopicName, TopicPartition};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    Assignment, Assignor, ClusterMetadata, GroupAssignment, GroupMember, GroupSubscription, RebalanceProtocol,
};
use crate::consumer::types::GroupMetadata;
use crate::error::ClientError;

/// Kafka's `StickyAssignor`: eager; what a member had before travels in its user data.
#[derive(Clone, Debug, Default)]
pub struct StickyAssignor {
    previous: Vec<TopicPartition>,
    generation: i32,
}

impl Assignor for StickyAssignor {
    fn name(&self) -> &str {
        "sticky"
    }

    fn subscription_user_data(&mut self, _: &[TopicName]) -> Option<Bytes> {
        (!self.previous.is_empty()).then(|| encode_previous(&self.previous, self.generation))
    }

    fn assign(
        &mut self,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
        _: Now,
        _: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>> {
        let claims = |member: &GroupMember| match member.subscription.user_data.as_ref().and_then(decode_previous) {
            Some(previous) => previous,
            None => (member.subscription.owned.clone(), member.subscription.generation),
        };
        Poll::Ready(Ok(balance(group, cluster, claims)))
    }

    fn on_assignment(&mut self, assignment: &Assignment, group: &GroupMetadata) {
        self.previous = assignment.partitions.clone();
        self.generation = group.generation;
    }
}

/// Kafka's `CooperativeStickyAssignor`: members keep reading what they keep while the group rebalances.
#[derive(Clone, Debug)]
pub struct CooperativeStickyAssignor {
    generation: i32,
}

impl Default for CooperativeStickyAssignor {
    fn default() -> Self {
        Self { generation: -1 }
    }
}

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative, RebalanceProtocol::Eager]
    }

    /// The generation alone (i32): owned partitions travel in the subscription.
    fn subscription_user_data(&mut self, _: &[TopicName]) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(&self.generation.to_be_bytes()))
    }

    fn assign(
        &mut self,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
        _: Now,
        _: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>> {
        let claims = |member: &GroupMember| {
            let written = member.subscription.user_data.as_ref().filter(|data| data.len() >= 4);
            let written = written.map(|data| data.clone().get_i32()).filter(|generation| *generation >= 0);
            (member.subscription.owned.clone(), member.subscription.generation.or(written))
        };
        let mut assignment = balance(group, cluster, claims);
        hold_back_moving(group, &mut assignment);
        Poll::Ready(Ok(assignment))
    }

    fn on_assignment(&mut self, _: &Assignment, group: &GroupMetadata) {
        self.generation = group.generation;
    }
}

/// Takes from the new owner what its former owner still holds: it is given out in the rebalance after the revocation.
fn hold_back_moving(group: &GroupSubscription, assignment: &mut GroupAssignment) {
    let mut revoked: BTreeSet<TopicPartition> = BTreeSet::new();
    for (id, assigned) in assignment.iter() {
        let Some(member) = group.members.get(id) else { continue };
        let kept: BTreeSet<&TopicPartition> = assigned.partitions.iter().collect();
        revoked.extend(member.subscription.owned.iter().filter(|partition| !kept.contains(partition)).cloned());
    }
    for (id, assigned) in assignment.iter_mut() {
        let owned = group.members.get(id).map(|member| &member.subscription.owned[..]).unwrap_or_default();
        assigned.partitions.retain(|partition| owned.contains(partition) || !revoked.contains(partition));
    }
}

/// Kafka's `StickyAssignorUserData` v1: previous assignment [string, [i32]], generation i32.
fn encode_previous(previous: &[TopicPartition], generation: i32) -> Bytes {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in previous {
        by_topic.entry(&partition.topic).or_default().push(partition.partition);
    }
    let mut out = BytesMut::new();
    out.put_i32(by_topic.len() as i32);
    for (topic, partitions) in by_topic {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
        out.put_i32(partitions.len() as i32);
        partitions.into_iter().for_each(|partition| out.put_i32(partition));
    }
    out.put_i32(generation);
    out.freeze()
}

/// `None` for bytes that are not such user data: the member then counts as owning nothing by it.
fn decode_previous(bytes: &Bytes) -> Option<(Vec<TopicPartition>, Option<i32>)> {
    let mut input = bytes.clone();
    let take = |input: &mut Bytes, length: usize| (input.len() >= length).then(|| input.split_to(length));
    let mut partitions = Vec::new();
    for _ in 0..take(&mut input, 4)?.get_i32() {
        let length = usize::try_from(take(&mut input, 2)?.get_i16()).ok()?;
        let topic = TopicName::from(std::str::from_utf8(&take(&mut input, length)?).ok()?);
        for _ in 0..take(&mut input, 4)?.get_i32() {
            partitions.push(TopicPartition::new(topic.clone(), take(&mut input, 4)?.get_i32()));
        }
    }
    // Version 0 has no generation.
    let generation = take(&mut input, 4).map(|mut bytes| bytes.get_i32()).filter(|generation| *generation >= 0);
    Some((partitions, generation))
}

type Claims = (Vec<TopicPartition>, Option<i32>);

/// Members by index, in order of member ids: which topics they want and what they own by rights.
struct Balance<'a> {
    ids: Vec<&'a str>,
    wants: Vec<BTreeSet<&'a str>>,
    held: Vec<Vec<TopicPartition>>,
    unassigned: BTreeSet<TopicPartition>,
}

fn balance(
    group: &GroupSubscription,
    cluster: &ClusterMetadata,
    claims: impl Fn(&GroupMember) -> Claims,
) -> GroupAssignment {
    let mut unassigned = BTreeSet::new();
    for topic in group.topics() {
        let count = cluster.partition_count(&topic).unwrap_or(0);
        unassigned.extend(super::partitions_of(&topic, 0..count));
    }
    let ids: Vec<&str> = group.members.keys().map(String::as_str).collect();
    let wants: Vec<BTreeSet<&str>> = group
        .members
        .values()
        .map(|member| member.subscription.topics.iter().map(|topic| &**topic).collect())
        .collect();
    let all: Vec<Claims> = group.members.values().map(claims).collect();
    let held = rightful(&all, &wants, &unassigned);
    held.iter().flatten().for_each(|partition| {
        unassigned.remove(partition);
    });
    let mut balance = Balance { ids, wants, held, unassigned };
    if balance.wants.windows(2).all(|pair| pair[0] == pair[1]) {
        balance.with_equal_wants();
    } else {
        balance.with_different_wants();
    }
    let assigned = balance.ids.into_iter().zip(balance.held);
    assigned.map(|(id, partitions)| (id.to_owned(), Assignment { partitions, user_data: None })).collect()
}

/// Of what members claim, what they may keep: existing, wanted, and claimed by nobody of the same or a later generation.
fn rightful(all: &[Claims], wants: &[BTreeSet<&str>], existing: &BTreeSet<TopicPartition>) -> Vec<Vec<TopicPartition>> {
    let mut highest: HashMap<&TopicPartition, (i32, usize)> = HashMap::default();
    for (partitions, generation) in all {
        for partition in partitions {
            let entry = highest.entry(partition).or_insert((i32::MIN, 0));
            let generation = generation.unwrap_or(-1);
            match generation.cmp(&entry.0) {
                std::cmp::Ordering::Greater => *entry = (generation, 1),
                std::cmp::Ordering::Equal => entry.1 += 1,
                std::cmp::Ordering::Less => {}
            }
        }
    }
    let keep = |index: usize, partition: &TopicPartition, generation: Option<i32>| {
        highest.get(partition) == Some(&(generation.unwrap_or(-1), 1))
            && existing.contains(partition)
            && wants[index].contains(&*partition.topic)
    };
    all.iter()
        .enumerate()
        .map(|(index, (partitions, generation))| {
            partitions.iter().filter(|partition| keep(index, partition, *generation)).cloned().collect()
        })
        .collect()
}

impl Balance<'_> {
    /// Kafka's constrained case: everybody ends with the lower or the upper quota, owned partitions first.
    fn with_equal_wants(&mut self) {
        let members = self.ids.len();
        if members == 0 {
            return;
        }
        let total = self.unassigned.len() + self.held.iter().map(Vec::len).sum::<usize>();
        let lower = total / members;
        let mut above_lower = total % members;
        let (mut under, mut at_lower) = (Vec::new(), Vec::new());
        for (index, held) in self.held.iter_mut().enumerate() {
            let keep = if held.len() < lower {
                under.push(index);
                continue;
            } else if held.len() > lower && above_lower > 0 {
                above_lower -= 1;
                lower + 1
            } else {
                at_lower.push(index);
                lower
            };
            self.unassigned.extend(held.drain(keep..));
        }
        // Round robin among those below the quota, each up to it; those that come last top up to the upper quota.
        let mut unassigned = std::mem::take(&mut self.unassigned).into_iter();
        while !under.is_empty() {
            let mut still = Vec::new();
            for index in under {
                let Some(partition) = unassigned.next() else { return };
                self.held[index].push(partition);
                if self.held[index].len() < lower {
                    still.push(index);
                } else {
                    at_lower.push(index);
                }
            }
            under = still;
        }
        for index in at_lower {
            let Some(partition) = unassigned.next() else { return };
            self.held[index].push(partition);
        }
    }

    /// The general case: each unassigned partition to the emptiest member that wants it, the most constrained first;
    /// then moves from fuller to emptier members as long as one makes the difference smaller.
    fn with_different_wants(&mut self) {
        let takers = |wants: &[BTreeSet<&str>], topic: &str| -> Vec<usize> {
            (0..wants.len()).filter(|&index| wants[index].contains(topic)).collect()
        };
        let mut by_topic: BTreeMap<TopicName, Vec<usize>> = BTreeMap::new();
        for partition in self.unassigned.iter().chain(self.held.iter().flatten()) {
            if !by_topic.contains_key(&partition.topic) {
                by_topic.insert(partition.topic.clone(), takers(&self.wants, &partition.topic));
            }
        }
        let mut waiting: Vec<TopicPartition> = std::mem::take(&mut self.unassigned).into_iter().collect();
        waiting.sort_by_key(|partition| by_topic[&partition.topic].len());
        for partition in waiting {
            let emptiest = by_topic[&partition.topic].iter().copied().min_by_key(|&index| self.held[index].len());
            if let Some(index) = emptiest {
                self.held[index].push(partition);
            }
        }
        // Each move lowers the sum of squares of the members' loads, so that the loop ends.
        while self.move_one(&by_topic) {}
    }

    fn move_one(&mut self, by_topic: &BTreeMap<TopicName, Vec<usize>>) -> bool {
        let mut fullest: Vec<usize> = (0..self.held.len()).collect();
        fullest.sort_by_key(|&index| std::cmp::Reverse(self.held[index].len()));
        for from in fullest {
            for at in (0..self.held[from].len()).rev() {
                let takers = &by_topic[&self.held[from][at].topic];
                let Some(&to) = takers.iter().min_by_key(|&&index| self.held[index].len()) else { continue };
                if self.held[to].len() + 1 < self.held[from].len() {
                    let partition = self.held[from].remove(at);
                    self.held[to].push(partition);
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{cluster, group, run, text};
    use super::*;

    fn own(group: &mut GroupSubscription, id: &str, generation: i32, owned: &str) {
        let parse = |text: &str| {
            let (topic, partition) = text.rsplit_once('-').unwrap();
            TopicPartition::new(topic, partition.parse().unwrap())
        };
        let subscription = &mut group.members.get_mut(id).unwrap().subscription;
        subscription.owned = owned.split_whitespace().map(parse).collect();
        subscription.generation = Some(generation);
    }

    /// Runs the next rebalance of a group whose members own what they were assigned.
    fn again(group: &mut GroupSubscription, before: &GroupAssignment, generation: i32) {
        for (id, member) in &mut group.members {
            member.subscription.owned = before.get(id).map(|got| got.partitions.clone()).unwrap_or_default();
            member.subscription.generation = Some(generation);
        }
    }

    // Cases of Kafka's AbstractStickyAssignorTest.
    #[test]
    fn a_fresh_group_takes_turns() {
        let result =
            run(&mut StickyAssignor::default(), &group("c1: t1 t2\n c2: t1 t2"), &cluster(&[("t1", 3), ("t2", 3)]));
        assert_eq!(text(&result), "c1: t1-0 t1-2 t2-1\nc2: t1-1 t2-0 t2-2");
    }

    #[test]
    fn a_member_that_joins_gets_its_share_after_it_was_revoked() {
        let cluster = cluster(&[("t", 3)]);
        let mut members = group("c1: t\n c2: t");
        own(&mut members, "c1", 1, "t-0 t-1 t-2");
        let mut assignor = CooperativeStickyAssignor::default();
        let first = run(&mut assignor, &members, &cluster);
        assert_eq!(text(&first), "c1: t-0 t-1\nc2:");
        again(&mut members, &first, 2);
        assert_eq!(text(&run(&mut assignor, &members, &cluster)), "c1: t-0 t-1\nc2: t-2");
    }

    #[test]
    fn the_eager_one_moves_at_once() {
        let mut members = group("c1: t\n c2: t");
        own(&mut members, "c1", 1, "t-0 t-1 t-2");
        assert_eq!(text(&run(&mut StickyAssignor::default(), &members, &cluster(&[("t", 3)]))), "c1: t-0 t-1\nc2: t-2");
    }

    #[test]
    fn the_later_generation_wins_and_equal_ones_both_lose() {
        let cluster = cluster(&[("t", 4)]);
        let mut members = group("c1: t\n c2: t");
        own(&mut members, "c1", 2, "t-0 t-1");
        own(&mut members, "c2", 3, "t-0 t-2");
        assert_eq!(text(&run(&mut StickyAssignor::default(), &members, &cluster)), "c1: t-1 t-3\nc2: t-0 t-2");
        own(&mut members, "c1", 3, "t-0 t-1");
        own(&mut members, "c2", 3, "t-0 t-2 t-3");
        assert_eq!(text(&run(&mut StickyAssignor::default(), &members, &cluster)), "c1: t-1 t-0\nc2: t-2 t-3");
    }

    #[test]
    fn different_subscriptions_are_balanced_as_far_as_they_allow() {
        let result = run(
            &mut StickyAssignor::default(),
            &group("c0: t0\n c1: t0 t1\n c2: t0 t1 t2"),
            &cluster(&[("t0", 1), ("t1", 2), ("t2", 3)]),
        );
        assert_eq!(text(&result), "c0: t0-0\nc1: t1-0 t1-1\nc2: t2-0 t2-1 t2-2");
    }

    #[test]
    fn user_data_is_that_of_the_jvm_assignor() {
        let bytes = encode_previous(&[TopicPartition::new("t", 1), TopicPartition::new("t", 0)], 5);
        assert_eq!(&bytes[..], b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\x05");
        let (partitions, generation) = decode_previous(&bytes).unwrap();
        assert_eq!((partitions.len(), generation), (2, Some(5)));
        assert_eq!(decode_previous(&Bytes::from_static(b"\0\0\0\x09x")), None);
    }

    proptest! {
        /// Whatever members want and own: every partition that somebody wants goes to exactly one who wants it, loads
        /// differ by at most one if all want the same, and a second run moves nothing.
        #[test]
        fn complete_balanced_and_stable(
            counts in prop::collection::vec(0..7i32, 1..4),
            wants in prop::collection::vec(prop::collection::btree_set(0..3usize, 0..4), 1..6),
            owned in prop::collection::vec((0..6usize, 0..3usize, 0..7i32, 0..3i32), 0..12),
        ) {
            let names = ["t0", "t1", "t2"];
            let topics: Vec<(&str, i32)> = counts.iter().enumerate().map(|(index, count)| (names[index], *count)).collect();
            let cluster = cluster(&topics);
            let lines: Vec<String> = wants.iter().enumerate().map(|(index, wants)| {
                format!("c{index}: {}", wants.iter().map(|want| names[*want]).collect::<Vec<_>>().join(" "))
            }).collect();
            let mut members = group(&lines.join("\n"));
            for (member, topic, partition, generation) in owned {
                if let Some(member) = members.members.get_mut(&format!("c{member}")) {
                    let partition = TopicPartition::new(names[topic], partition);
                    if !member.subscription.owned.contains(&partition) {
                        member.subscription.owned.push(partition);
                    }
                    member.subscription.generation = Some(generation);
                }
            }
            let result = run(&mut StickyAssignor::default(), &members, &cluster);
            let mut seen = BTreeSet::new();
            for (id, assigned) in &result {
                for partition in &assigned.partitions {
                    prop_assert!(members.members[id].subscription.topics.contains(&partition.topic));
                    prop_assert!(seen.insert(partition.clone()));
                }
            }
            let expected: i32 = members.topics().iter().filter_map(|topic| cluster.partition_count(topic)).sum();
            prop_assert_eq!(seen.len(), expected as usize);
            if wants.windows(2).all(|pair| pair[0] == pair[1]) {
                let loads: Vec<usize> = result.values().map(|assigned| assigned.partitions.len()).collect();
                prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
            }
            again(&mut members, &result, 9);
            let second = run(&mut StickyAssignor::default(), &members, &cluster);
            let sets = |assignment: &GroupAssignment| -> Vec<BTreeSet<TopicPartition>> {
                assignment.values().map(|assigned| assigned.partitions.iter().cloned().collect()).collect()
            };
            prop_assert_eq!(sets(&result), sets(&second));
        }
    }
}
