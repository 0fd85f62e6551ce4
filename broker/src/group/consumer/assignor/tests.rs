//! The assignors against the examples of Kafka's own description, and against what any assignment must be.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn topic(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn member(topics: &[u8]) -> Subscriber {
    Subscriber { topics: topics.iter().map(|number| topic(*number)).collect(), ..Subscriber::default() }
}

fn shown(assignment: &Assignment) -> String {
    let members = assignment.iter().map(|(id, topics)| {
        let topics = topics.iter().map(|(topic, partitions)| format!("{}{:?}", topic.as_bytes()[0], partitions));
        format!("{id}: {}", topics.collect::<Vec<_>>().join(" "))
    });
    members.collect::<Vec<_>>().join(" | ")
}

fn members(list: &[(&str, Subscriber)]) -> Subscribers {
    list.iter().map(|(id, member)| (Arc::from(*id), member.clone())).collect()
}

#[test]
fn ranges_are_cut_at_the_same_places_in_all_topics_and_static_members_come_first() {
    let counts = PartitionCounts::from([(topic(1), 5), (topic(2), 5)]);
    let mut group = members(&[("a", member(&[1, 2])), ("b", member(&[1, 2])), ("c", member(&[1]))]);
    assert_eq!(shown(&Assignor::Range.assign(&group, &counts)), "a: 1{0, 1} 2{0, 1, 2} | b: 1{2, 3} 2{3, 4} | c: 1{4}");
    group.get_mut("c").unwrap().instance_id = Some("i".into());
    assert_eq!(shown(&Assignor::Range.assign(&group, &counts)), "a: 1{2, 3} 2{0, 1, 2} | b: 1{4} 2{3, 4} | c: 1{0, 1}");
}

#[test]
fn a_new_member_takes_only_what_is_above_the_share_of_the_others() {
    let counts = PartitionCounts::from([(topic(1), 4), (topic(2), 2)]);
    let mut group = members(&[("a", member(&[1, 2])), ("b", member(&[1, 2]))]);
    let first = Assignor::Uniform.assign(&group, &counts);
    assert_eq!(shown(&first), "a: 1{0, 1, 2} | b: 1{3} 2{0, 1}");
    for (id, target) in first {
        group.get_mut(&id).unwrap().target = target;
    }
    group.insert("c".into(), member(&[1, 2]));
    assert_eq!(shown(&Assignor::Uniform.assign(&group, &counts)), "a: 1{0, 1} | b: 1{3} 2{0} | c: 1{2} 2{1}");
}

#[test]
fn members_with_different_topics_end_up_with_equal_numbers_where_they_can() {
    let counts = PartitionCounts::from([(topic(1), 6), (topic(2), 3)]);
    let mut group = members(&[("a", member(&[1])), ("b", member(&[1, 2]))]);
    let first = Assignor::Uniform.assign(&group, &counts);
    assert_eq!(shown(&first), "a: 1{0, 1, 2, 3, 5} | b: 1{4} 2{0, 1, 2}");
    for (id, target) in first {
        group.get_mut(&id).unwrap().target = target;
    }
    group.insert("c".into(), member(&[2]));
    assert_eq!(shown(&Assignor::Uniform.assign(&group, &counts)), "a: 1{0, 1, 2, 3} | b: 1{4, 5} 2{0} | c: 2{1, 2}");
}

fn any_group() -> impl Strategy<Value = (Subscribers, PartitionCounts)> {
    let counts = prop::collection::vec(0..9i32, 3);
    let wants = prop::collection::vec(prop::collection::btree_set(0..3u8, 0..=3), 1..6);
    (wants, counts, any::<u64>()).prop_map(|(wants, counts, seed)| {
        let counts: PartitionCounts =
            counts.into_iter().enumerate().map(|(i, count)| (topic(i as u8), count)).collect();
        let mut members: Subscribers = BTreeMap::new();
        for (index, wants) in wants.iter().enumerate() {
            let wants: Vec<u8> = wants.iter().copied().collect();
            members.insert(format!("m{index}").into(), member(&wants));
        }
        // What each was to have: some disjoint assignment, also of topics that are not wanted any more and partitions that are gone.
        let ids: Vec<Arc<str>> = members.keys().cloned().collect();
        for (number, (id, count)) in counts.iter().enumerate() {
            for partition in 0..count + 1 {
                let at = (seed >> ((number * 9 + partition as usize) % 57)) as usize % (ids.len() + 1);
                if let Some(owner) = ids.get(at).and_then(|owner| members.get_mut(owner)) {
                    owner.target.entry(*id).or_default().insert(partition);
                }
            }
        }
        (members, counts)
    })
}

proptest! {
    #[test]
    fn every_wanted_partition_goes_to_one_member_that_wants_it((members, counts) in any_group()) {
        for assignor in Assignor::ALL {
            let assignment = assignor.assign(&members, &counts);
            let mut seen = BTreeSet::new();
            for (id, topics) in &assignment {
                for (topic, partitions) in topics {
                    prop_assert!(members[id].topics.contains(topic), "{assignor:?}: {id} does not want {topic}");
                    for partition in partitions {
                        prop_assert!(*partition < counts[topic]);
                        prop_assert!(seen.insert((*topic, *partition)), "{assignor:?}: {topic}-{partition} twice");
                    }
                }
            }
            let wanted: BTreeSet<Uuid> = members.values().flat_map(|member| member.topics.iter().copied()).collect();
            let all = wanted.iter().map(|topic| counts[topic] as usize).sum::<usize>();
            prop_assert_eq!(seen.len(), all, "{:?} left partitions out", assignor);
        }
    }

    #[test]
    fn a_uniform_assignment_of_equal_members_is_even_and_settled((members, counts) in any_group()) {
        let mut members = members;
        let topics = members.values().next().unwrap().topics.clone();
        members.values_mut().for_each(|member| member.topics = topics.clone());
        let first = Assignor::Uniform.assign(&members, &counts);
        let sizes: Vec<usize> = first.values().map(|own| own.values().map(BTreeSet::len).sum()).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        for (id, target) in &first {
            members.get_mut(id).unwrap().target = target.clone();
        }
        prop_assert_eq!(Assignor::Uniform.assign(&members, &counts), first, "nothing moves without a cause");
    }
}
