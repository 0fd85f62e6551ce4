//! A consumer group (KIP-848) as its members see it: epochs, targets, giving up and getting, leaving, fencing.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod consumer_world;
mod group_cluster;

use broker::group::consumer::heartbeat::Heartbeat;
use broker::group::consumer::records::{MemberState, Partitions};
use consumer_world::{World, member, static_member};
use protocol::api::ErrorCode;

fn code(
    result: Result<broker::group::consumer::heartbeat::Answer, broker::group::consumer::heartbeat::Refusal>,
) -> ErrorCode {
    result.err().map_or(ErrorCode::None, |refusal| refusal.code)
}

#[test]
fn the_first_member_gets_everything_at_once_in_epoch_2() {
    let mut world = World::new(&[("t", 3)]);
    let mut one = member("one", &["t"]);
    let answer = world.beat(&mut one);
    assert_eq!((answer.epoch, answer.heartbeat_interval_ms), (2, 5_000));
    assert_eq!(one.numbers(), [0, 1, 2]);
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.kinds_since(0), ["5", "3", "7", "6", "8"], "the records of Kafka, in its order");
    let known = Heartbeat { rebalance_timeout_ms: None, topic_names: None, owned: None, ..one.beat.clone() };
    assert_eq!(world.send(&known).unwrap().assignment, None, "it knows");
    assert_eq!(world.log.len(), 5, "and nothing has changed");
}

#[test]
fn a_second_member_waits_until_the_first_has_given_up() {
    let mut world = World::new(&[("t", 4)]);
    let (mut one, mut two) = (member("one", &["t"]), member("two", &["t"]));
    world.beat(&mut one);
    let answer = world.beat(&mut two);
    assert_eq!((answer.epoch, answer.assignment.map(|own| own.len())), (3, Some(0)), "all is still with the other");
    assert_eq!(world.state(), "Reconciling");

    let told = world.beat(&mut one);
    assert_eq!((told.epoch, one.numbers()), (2, vec![0, 1]), "the epoch stays until it has given up");
    assert!(world.beat(&mut two).assignment.unwrap().is_empty(), "not acknowledged yet");
    assert_eq!(world.beat(&mut one).epoch, 3);
    world.beat(&mut two);
    assert_eq!((two.numbers(), world.state()), (vec![2, 3], "Stable"));
}

#[test]
fn a_target_is_not_computed_more_often_than_the_interval_says() {
    let mut world = World::new(&[("t", 2)]);
    world.config.consumer.assignment_interval.ms = 1_000;
    let (mut one, mut two) = (member("one", &["t"]), member("two", &["t"]));
    world.beat(&mut one);
    world.advance(999);
    assert_eq!(world.beat(&mut two).epoch, 2, "in the old epoch, with nothing");
    assert_eq!((two.numbers(), world.state()), (vec![], "Assigning"));
    world.advance(1);
    assert_eq!(world.beat(&mut two).epoch, 3);
    world.settle(&mut [&mut one, &mut two]);
    assert_eq!((one.numbers(), two.numbers()), (vec![0], vec![1]));
}

#[test]
fn members_choose_the_assignor_and_regular_expressions_find_topics_that_come_later() {
    let mut world = World::new(&[("a-1", 2), ("b", 1)]);
    let (mut one, mut two) = (member("one", &[]), member("two", &["a-1"]));
    (one.beat.topic_names, one.beat.topic_regex) = (None, Some("a-.*".into()));
    (one.beat.assignor, two.beat.assignor) = (Some("range".into()), Some("range".into()));
    assert_eq!((world.beat(&mut one).epoch, one.numbers()), (1, vec![]), "it is resolved after the answer");
    world.beat(&mut one);
    assert_eq!(one.owned.keys().copied().collect::<Vec<_>>(), [world.cluster.id("a-1")]);
    world.settle(&mut [&mut one, &mut two]);
    assert_eq!((one.numbers(), two.numbers()), (vec![0], vec![1]));
    assert_eq!(world.group().assignor(&world.config.consumer).name(), "range");

    world.cluster.put("a-2", 3);
    let before = world.log.len();
    world.settle(&mut [&mut one, &mut two]);
    assert!(one.owned.contains_key(&world.cluster.id("a-2")) && !two.owned.contains_key(&world.cluster.id("a-2")));
    assert!(world.kinds_since(before).contains(&"16".to_owned()));

    (one.beat.topic_names, one.beat.topic_regex) = (Some(["b".into()].into()), Some("a-[2-9]".into()));
    world.beat(&mut one);
    assert!(one.owned.is_empty(), "what the former expression stood for goes at once");
    world.settle(&mut [&mut one, &mut two]);
    assert!(one.owned.contains_key(&world.cluster.id("b")) && one.owned.contains_key(&world.cluster.id("a-2")));

    one.beat.topic_regex = Some("".into());
    one.beat.topic_names = Some(["b".into()].into());
    let before = world.log.len();
    world.settle(&mut [&mut one, &mut two]);
    assert!(world.kinds_since(before).contains(&"-16".to_owned()), "nobody uses the expression any more");
    assert_eq!((one.numbers(), two.numbers()), (vec![0], vec![0, 1]));
}

#[test]
fn more_partitions_and_deleted_topics_make_a_new_assignment() {
    let mut world = World::new(&[("t", 1), ("gone", 1)]);
    let mut one = member("one", &["t", "gone", "later"]);
    world.beat(&mut one);
    assert_eq!(one.numbers(), [0, 0]);
    world.cluster.put("t", 3);
    world.settle(&mut [&mut one]);
    assert_eq!((one.epoch(), one.numbers().len()), (3, 4));
    world.cluster.remove("gone");
    world.cluster.put("later", 1);
    world.settle(&mut [&mut one]);
    assert!(one.owned.contains_key(&world.cluster.id("later")));
    assert_eq!((one.epoch(), one.numbers().len()), (4, 4));
    world.cluster.put("of others", 7);
    world.settle(&mut [&mut one]);
    assert_eq!(one.epoch(), 4, "it has nothing to do with this group");
}

#[test]
fn what_a_member_stops_wanting_is_taken_before_the_next_target() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.config.consumer.assignment_interval.ms = 10_000;
    let mut one = member("one", &["a", "b"]);
    world.beat(&mut one);
    one.beat.topic_names = Some(["a".into()].into());
    world.beat(&mut one);
    assert_eq!(one.owned.keys().copied().collect::<Vec<_>>(), [world.cluster.id("a")]);
    assert_eq!(world.state(), "Assigning");
}

#[test]
fn a_leaving_member_frees_its_partitions() {
    let mut world = World::new(&[("t", 2)]);
    let (mut one, mut two) = (member("one", &["t"]), member("two", &["t"]));
    world.settle(&mut [&mut one]);
    world.settle(&mut [&mut one, &mut two]);
    let before = world.log.len();
    assert_eq!(world.leave(&one, -1).unwrap().epoch, -1);
    assert_eq!(world.kinds_since(before), ["-8", "-7", "-5", "3"]);
    world.settle(&mut [&mut two]);
    assert_eq!(two.numbers(), [0, 1]);
    world.leave(&two, -1).unwrap();
    assert_eq!(world.state(), "Empty");
    assert_eq!(code(world.leave(&two, -1)), ErrorCode::UnknownMemberId);
    let output = world.shard.delete_group(&consumer_world::GROUP.into()).unwrap();
    world.take(output);
    assert_eq!(world.state(), "none");
    assert_eq!(code(world.leave(&two, -1)), ErrorCode::GroupIdNotFound);
    assert!(world.replayed().groups().next().is_none());
}

#[test]
fn a_silent_member_goes_after_its_session_and_a_slow_one_after_its_rebalance_timeout() {
    let mut world = World::new(&[("t", 2)]);
    let (mut one, mut two) = (member("one", &["t"]), member("two", &["t"]));
    one.beat.rebalance_timeout_ms = Some(5_000);
    world.beat(&mut one);
    world.beat(&mut two);
    let holds_on = one.owned.clone();
    world.beat(&mut one);
    one.owned = holds_on;
    for _ in 0..4 {
        world.advance(1_000);
        world.beat(&mut one);
        one.owned.values_mut().for_each(|partitions| partitions.extend([0, 1]));
    }
    assert_eq!(world.group().members().count(), 2);
    world.advance(1_000);
    assert_eq!(world.group().members().count(), 1, "it did not give up in time");
    assert_eq!(code(world.send(&one.beat)), ErrorCode::UnknownMemberId);
    world.settle(&mut [&mut two]);
    assert_eq!(two.numbers(), [0, 1]);
    world.advance(44_999);
    assert_eq!(world.state(), "Stable");
    world.advance(1);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn epochs_that_do_not_fit_are_fenced_but_a_lost_answer_is_forgiven() {
    let mut world = World::new(&[("t", 1)]);
    let mut one = member("one", &["t"]);
    world.beat(&mut one);
    world.cluster.put("t", 2);
    let before = one.clone();
    world.beat(&mut one);
    assert_eq!(one.epoch(), 3);
    let again = |epoch, owned: &Partitions| Heartbeat { epoch, owned: Some(owned.clone()), ..before.beat.clone() };
    assert_eq!(world.send(&again(2, &before.owned)).unwrap().epoch, 3, "it has not heard of its epoch");
    let foreign = Partitions::from([(world.cluster.id("t"), [7].into())]);
    assert_eq!(code(world.send(&again(2, &foreign))), ErrorCode::FencedMemberEpoch);
    assert_eq!(code(world.send(&Heartbeat { owned: None, ..again(2, &foreign) })), ErrorCode::FencedMemberEpoch);
    assert_eq!(code(world.send(&again(1, &before.owned))), ErrorCode::FencedMemberEpoch);
    assert_eq!(code(world.send(&again(4, &before.owned))), ErrorCode::FencedMemberEpoch);
    let rejoined = world.send(&again(0, &Partitions::new())).unwrap();
    assert_eq!((rejoined.epoch, rejoined.assignment.unwrap().len()), (3, 1), "a known member may join again");
    assert_eq!(
        code(world.send(&Heartbeat { member_id: "two".into(), ..again(3, &before.owned) })),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut world = World::new(&[("t", 2)]);
    let (mut one, mut two) = (static_member("one", "i", &["t"]), member("two", &["t"]));
    world.beat(&mut one);
    world.settle(&mut [&mut one, &mut two]);
    let had = one.numbers();
    let other = static_member("other", "i", &["t"]);
    let join = Heartbeat { owned: Some(Partitions::new()), ..other.beat.clone() };
    assert_eq!(code(world.send(&join)), ErrorCode::UnreleasedInstanceId);
    assert_eq!(code(world.leave(&other, -2)), ErrorCode::FencedInstanceId);

    assert_eq!(world.leave(&one, -2).unwrap().epoch, -2);
    world.settle_without(&mut two);
    assert_eq!(two.numbers().len(), 1, "the place is kept");
    world.restart();
    let mut back = other;
    let answer = world.beat(&mut back);
    assert_eq!((answer.epoch, back.numbers()), (world.group().epoch(), had));
    assert_eq!(code(world.leave(&one, -1)), ErrorCode::FencedInstanceId, "its old id is gone");
    assert_eq!(world.group().members().count(), 2);

    world.leave(&back, -2).unwrap();
    for _ in 0..9 {
        world.advance(5_000);
        world.beat(&mut two);
    }
    world.settle(&mut [&mut two]);
    assert_eq!(two.numbers(), [0, 1], "it did not come back within its session");
}

#[test]
fn an_operator_removes_members_by_instance_or_id() {
    let mut world = World::new(&[("t", 2)]);
    let (mut one, mut two) = (static_member("one", "i", &["t"]), member("two", &["t"]));
    world.beat(&mut one);
    world.settle(&mut [&mut one, &mut two]);
    let named = [("".into(), Some("i".into())), ("other".into(), Some("i".into())), ("none".into(), None)];
    let config = world.config.clone();
    let (results, output) =
        world.shard.leave(&consumer_world::GROUP.into(), &named, &world.cluster, world.now, &config);
    world.take(output);
    assert_eq!(results, [ErrorCode::None, ErrorCode::FencedInstanceId, ErrorCode::UnknownMemberId]);
    world.settle(&mut [&mut two]);
    assert_eq!(two.numbers(), [0, 1]);
    assert_eq!(world.replayed().image(), world.shard.image());
}

#[test]
fn what_is_wrong_with_a_heartbeat_leaves_no_trace() {
    let mut world = World::new(&[("t", 1)]);
    world.config.consumer.max_size = 1;
    let mut one = member("one", &["t"]);
    let regex = Heartbeat { topic_regex: Some("[".into()), owned: Some(Partitions::new()), ..one.beat.clone() };
    assert_eq!(code(world.send(&regex)), ErrorCode::InvalidRegularExpression);
    assert_eq!(code(world.send(&Heartbeat { epoch: 1, ..one.beat.clone() })), ErrorCode::GroupIdNotFound);
    assert_eq!(world.state(), "none");
    world.beat(&mut one);
    let before = world.log.len();
    assert_eq!(code(world.send(&member("two", &["t"]).beat)), ErrorCode::GroupMaxSizeReached);
    assert_eq!(code(world.send(&Heartbeat { epoch: one.epoch(), ..regex })), ErrorCode::InvalidRegularExpression);
    assert_eq!((world.log.len(), world.state()), (before, "Stable"));
}

#[test]
fn offsets_are_taken_from_members_in_their_epoch_and_of_what_they_had_before_it() {
    let mut world = World::new(&[("t", 2)]);
    let mut one = member("one", &["t"]);
    world.beat(&mut one);
    assert_eq!(world.commit("one", 2, "t", 0, 9), ErrorCode::None);
    assert_eq!(world.commit("one", 2, "t", 0, 8), ErrorCode::UnsupportedVersion);
    assert_eq!(world.commit("one", 3, "t", 0, 9), ErrorCode::StaleMemberEpoch);
    assert_eq!(world.commit("", -1, "t", 0, 9), ErrorCode::UnknownMemberId, "somebody is at work");
    world.cluster.put("t", 3);
    world.settle(&mut [&mut one]);
    assert_eq!(one.epoch(), 3);
    assert_eq!(world.commit("one", 2, "t", 1, 9), ErrorCode::None, "it had that in epoch 2");
    assert_eq!(world.commit("one", 2, "t", 2, 9), ErrorCode::StaleMemberEpoch);
    assert_eq!(world.group().check_fetch(None, -1), Ok(()));
    assert_eq!(world.group().check_fetch(Some("one"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(world.group().check_fetch(Some("two"), 3), Err(ErrorCode::UnknownMemberId));
    world.leave(&one, -1).unwrap();
    assert_eq!(world.commit("", -1, "t", 0, 9), ErrorCode::None, "an operator, while nobody is at work");
    assert_eq!(world.shard.group(consumer_world::GROUP).unwrap().offsets.iter().count(), 2);
}

#[test]
fn an_empty_group_changes_its_kind_and_keeps_its_offsets() {
    let mut world = World::new(&[("t", 1)]);
    assert_eq!(world.commit("", -1, "t", 0, 9), ErrorCode::None, "a simple group");
    let mut one = member("one", &["t"]);
    world.beat(&mut one);
    assert_eq!(world.shard.group(consumer_world::GROUP).unwrap().kind.name(), "consumer");
    assert_eq!(world.shard.group(consumer_world::GROUP).unwrap().offsets.iter().count(), 1);
    assert_eq!(world.replayed().image(), world.shard.image());
}

#[test]
fn a_member_goes_on_after_a_restart_between_giving_up_and_getting() {
    let mut world = World::new(&[("t", 4)]);
    let (mut one, mut two) = (member("one", &["t"]), member("two", &["t"]));
    world.beat(&mut one);
    world.beat(&mut two);
    world.beat(&mut one);
    let state = |world: &World| world.group().members().next().unwrap().current.state;
    assert_eq!(state(&world), MemberState::UnrevokedPartitions);
    world.compact();
    world.restart();
    assert_eq!(state(&world), MemberState::UnrevokedPartitions);
    world.settle(&mut [&mut one, &mut two]);
    assert_eq!((one.numbers(), two.numbers()), (vec![0, 1], vec![2, 3]));
}

#[test]
fn a_record_that_cannot_be_written_has_the_shard_read_anew() {
    let mut world = World::new(&[("t", 1)]);
    let mut one = member("one", &["t"]);
    world.beat(&mut one);
    let join = Heartbeat { owned: Some(Partitions::new()), ..member("two", &["t"]).beat };
    let config = world.config.clone();
    let (_, output) = world
        .shard
        .consumer_heartbeat(&consumer_world::GROUP.into(), &join, &world.cluster, world.now, &config)
        .unwrap();
    assert!(!world.shard.is_lost());
    world.shard.stored(output, Err(ErrorCode::NotCoordinator), world.now, &world.config);
    assert!(world.shard.is_lost());
    world.restart();
    assert_eq!(world.group().members().count(), 1);
}
