//! The classic group protocol, request by request, on a clock that moves only when told to.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod classic_world;
mod group_cluster;

use broker::group::records::GroupRecord;
use classic_world::*;
use protocol::api::ErrorCode;

#[test]
fn a_new_member_is_given_an_id_and_joins_with_it() {
    let mut world = World::new();
    let ticket = world.send_join(&client());
    let answer = world.joined(ticket).unwrap();
    assert_eq!((answer.error, &*answer.member_id, answer.generation), (ErrorCode::MemberIdRequired, "c-u1", -1));
    assert_eq!(world.log.len(), 1, "the group itself is written");
    let ticket = world.send_join(&Client { member_id: answer.member_id, ..client() });
    let answer = world.joined(ticket).unwrap();
    assert_eq!((answer.error, answer.generation, &*answer.leader), (ErrorCode::None, 1, "c-u1"));
    assert_eq!(answer.members.len(), 1);
    assert_eq!(world.state(), "CompletingRebalance");
}

#[test]
fn old_clients_join_at_once_and_the_leader_assigns() {
    let mut world = World::new();
    let answer = world.alone(&mut Client { version: 3, ..client() });
    assert_eq!(world.heartbeat(&answer), ErrorCode::None);
    let Some(GroupRecord::Group { value: Some(value), .. }) = world.log.last() else { panic!() };
    assert_eq!((value.generation, value.members[0].assignment.as_ref()), (1, &b"all"[..]));
}

#[test]
fn a_second_member_starts_a_rebalance_that_waits_for_the_first() {
    let mut world = World::new();
    let (mut first, mut second) = (client(), client());
    let one = world.alone(&mut first);
    let waiting = world.enter(&mut second);
    assert!(world.joined(waiting).is_none());
    assert_eq!(world.heartbeat(&one), ErrorCode::RebalanceInProgress);
    let sync = world.send_sync(&one, &[]);
    assert_eq!(world.synced(sync).unwrap().error, ErrorCode::RebalanceInProgress);
    assert_eq!(world.commit(GROUP, &one.member_id, 1, 5), ErrorCode::None, "it may still commit");

    let rejoined = world.send_join(&first);
    let (one, two) = (world.joined(rejoined).unwrap(), world.joined(waiting).unwrap());
    assert_eq!((one.generation, two.generation), (2, 2));
    assert_eq!((one.members.len(), two.members.len()), (2, 0), "only the leader gets the members");
    assert_eq!(world.commit(GROUP, &one.member_id, 2, 6), ErrorCode::RebalanceInProgress);

    let follower = world.send_sync(&two, &[]);
    assert!(world.synced(follower).is_none(), "waits for the leader");
    let leader = world.send_sync(&one, &[(&one.member_id, b"a")]);
    assert_eq!(world.synced(leader).unwrap().assignment.as_ref(), b"a");
    assert_eq!(world.synced(follower).unwrap().assignment.as_ref(), b"", "absent from the assignment");
    assert_eq!(world.heartbeat(&two), ErrorCode::None);
}

#[test]
fn a_cooperative_follow_up_rebalance_hands_over_in_a_second_generation() {
    let mut world = World::new();
    let (mut first, mut second) = (client(), client());
    world.alone(&mut first);
    let waiting = world.enter(&mut second);
    let rejoined = world.send_join(&first);
    let (one, two) = (world.joined(rejoined).unwrap(), world.joined(waiting).unwrap());
    let (leader, follower) = (world.send_sync(&one, &[(&one.member_id, b"keep")]), world.send_sync(&two, &[]));
    assert!(world.synced(leader).is_some() && world.synced(follower).is_some());
    // The first member has given up a partition: it joins again with new metadata.
    first.protocols = vec![("range", b"gave up")];
    let rejoined = world.send_join(&first);
    assert_eq!(world.heartbeat(&two), ErrorCode::RebalanceInProgress);
    second.member_id = two.member_id.clone();
    let again = world.send_join(&second);
    let (one, two) = (world.joined(rejoined).unwrap(), world.joined(again).unwrap());
    assert_eq!((one.generation, two.generation), (3, 3));
    assert!(one.members.iter().any(|member| member.metadata.as_ref() == b"gave up"));
    let follower = world.send_sync(&two, &[]);
    world.send_sync(&one, &[(&one.member_id, b"one"), (&two.member_id, b"two")]);
    assert_eq!(world.synced(follower).unwrap().assignment.as_ref(), b"two");
}

#[test]
fn a_follower_that_rejoins_unchanged_stays_in_its_generation_and_a_leader_does_not() {
    let mut world = World::new();
    let (mut first, mut second) = (client(), client());
    world.alone(&mut first);
    let waiting = world.enter(&mut second);
    let rejoined = world.send_join(&first);
    let (one, two) = (world.joined(rejoined).unwrap(), world.joined(waiting).unwrap());
    second.member_id = two.member_id.clone();
    // Between generations the same metadata gives the same answer again.
    let same = world.send_join(&first);
    assert_eq!(world.joined(same).unwrap(), one);
    world.send_sync(&two, &[]);
    world.send_sync(&one, &[]);
    let same = world.send_join(&second);
    assert_eq!(world.joined(same).unwrap().generation, 2);
    assert_eq!(world.state(), "Stable");
    let again = world.send_join(&first);
    assert!(world.joined(again).is_none());
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn the_protocol_is_one_that_all_members_know() {
    let mut world = World::new();
    let mut first = Client { protocols: vec![("new", b"n"), ("old", b"o")], ..client() };
    let mut second = Client { protocols: vec![("old", b"o2")], ..client() };
    let mut stranger = Client { protocols: vec![("other", b"x")], ..client() };
    assert_eq!(world.alone(&mut first).protocol.as_deref(), Some("new"));
    let ticket = world.send_join(&stranger);
    assert_eq!(world.joined(ticket).unwrap().error, ErrorCode::InconsistentGroupProtocol);
    stranger.protocols = Vec::new();
    let ticket = world.send_join(&stranger);
    assert_eq!(world.joined(ticket).unwrap().error, ErrorCode::InconsistentGroupProtocol);
    let waiting = world.enter(&mut second);
    let rejoined = world.send_join(&first);
    let answer = world.joined(rejoined).unwrap();
    assert_eq!(answer.protocol.as_deref(), Some("old"));
    assert!(world.joined(waiting).is_some());
}

#[test]
fn a_refused_first_join_leaves_no_group() {
    let mut world = World::new();
    let ticket = world.send_join(&Client { protocols: Vec::new(), ..client() });
    assert_eq!(world.joined(ticket).unwrap().error, ErrorCode::InconsistentGroupProtocol);
    let ticket = world.send_join(&Client { member_id: "x".into(), ..client() });
    assert_eq!(world.joined(ticket).unwrap().error, ErrorCode::UnknownMemberId);
    let ticket = world.send_join(&Client { session_timeout_ms: 5_999, ..client() });
    assert_eq!(world.joined(ticket).unwrap().error, ErrorCode::InvalidSessionTimeout);
    assert_eq!((world.state(), world.log.len()), ("none", 0));
}

#[test]
fn a_silent_member_is_dropped_after_its_session_and_not_before() {
    let mut world = World::new();
    let answer = world.alone(&mut client());
    world.advance(9_900);
    assert_eq!(world.heartbeat(&answer), ErrorCode::None);
    world.advance(9_900);
    assert_eq!(world.state(), "Stable");
    world.advance(100);
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.heartbeat(&answer), ErrorCode::UnknownMemberId);
    let Some(GroupRecord::Group { value: Some(value), .. }) = world.log.last() else { panic!() };
    assert_eq!((value.generation, value.members.len(), value.leader.as_deref()), (2, 0, None));
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut world = World::new();
    let answer = world.alone(&mut client());
    for offset in 0..5 {
        world.advance(6_000);
        assert_eq!(world.commit(GROUP, &answer.member_id, 1, offset), ErrorCode::None);
    }
    assert_eq!((world.state(), world.offset(GROUP)), ("Stable", Some(4)));
}

#[test]
fn an_id_that_nobody_joins_with_lapses() {
    let mut world = World::new();
    let ticket = world.send_join(&client());
    let id = world.joined(ticket).unwrap().member_id;
    world.advance(10_000);
    let ticket = world.send_join(&Client { member_id: id, ..client() });
    assert_eq!(world.joined(ticket).unwrap().error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_rebalance_goes_on_without_members_that_do_not_come_back() {
    let mut world = World::new();
    let (mut first, mut second) = (client(), client());
    let one = world.alone(&mut first);
    let waiting = world.enter(&mut second);
    for _ in 0..11 {
        world.advance(5_000);
        assert_eq!(world.heartbeat(&one), ErrorCode::RebalanceInProgress, "alive, but not joining");
    }
    assert!(world.joined(waiting).is_none());
    world.advance(5_000);
    let answer = world.joined(waiting).unwrap();
    assert_eq!((answer.generation, answer.members.len()), (2, 1));
    assert_eq!(answer.leader, answer.member_id, "a new leader is chosen");
    assert_eq!(world.heartbeat(&one), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_does_not_sync_is_dropped() {
    let mut world = World::new();
    let (mut first, mut second) = (client(), client());
    let ticket = world.enter(&mut first);
    let one = world.joined(ticket).unwrap();
    for _ in 0..12 {
        assert_eq!(world.heartbeat(&one), ErrorCode::None);
        world.advance(5_000);
    }
    assert_eq!((world.heartbeat(&one), world.state()), (ErrorCode::UnknownMemberId, "Empty"));
    world.alone(&mut second);
}

#[test]
fn the_first_rebalance_of_an_empty_group_waits_for_more_members() {
    let mut world = World::new();
    world.config.initial_rebalance_delay_ms = 3_000;
    let (mut first, mut second) = (client(), client());
    let one = world.enter(&mut first);
    world.advance(2_000);
    let two = world.enter(&mut second);
    world.advance(1_000);
    assert!(world.joined(one).is_none(), "extended, because a member came");
    world.advance(2_900);
    assert!(world.joined(one).is_none());
    world.advance(100);
    assert_eq!(world.joined(one).unwrap().members.len(), 2);
    assert_eq!(world.joined(two).unwrap().generation, 1);
}

#[test]
fn leaving_takes_effect_at_once() {
    let mut world = World::new();
    let (mut first, mut second) = (client(), client());
    world.alone(&mut first);
    let waiting = world.enter(&mut second);
    // The dead process's member leaves by its old id: the new one need not wait for a session to end.
    assert_eq!(
        world.leave(&[(&first.member_id, None), ("nobody", None)]),
        [ErrorCode::None, ErrorCode::UnknownMemberId]
    );
    let answer = world.joined(waiting).unwrap();
    assert_eq!((answer.generation, answer.members.len()), (2, 1));
    assert_eq!(world.leave(&[(&answer.member_id, None)]), [ErrorCode::None]);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn a_pending_id_that_leaves_lets_the_others_go_on() {
    let mut world = World::new();
    let mut first = client();
    world.alone(&mut first);
    let ticket = world.send_join(&client());
    let pending = world.joined(ticket).unwrap().member_id;
    let rejoin = world.send_join(&first);
    assert!(world.joined(rejoin).is_none(), "waits for the id that was handed out");
    assert_eq!(world.leave(&[(&pending, None)]), [ErrorCode::None]);
    assert_eq!(world.joined(rejoin).unwrap().generation, 2);
}

#[test]
fn a_full_group_takes_nobody_new() {
    let mut world = World::new();
    world.config.max_size = 1;
    let mut first = client();
    let one = world.alone(&mut first);
    let ticket = world.send_join(&client());
    let answer = world.joined(ticket).unwrap();
    assert_eq!((answer.error, &*answer.member_id), (ErrorCode::GroupMaxSizeReached, ""));
    let again = world.send_join(&first);
    assert_eq!(world.joined(again).unwrap().generation, 2);
    assert_eq!(world.leave(&[(&one.member_id, None)]), [ErrorCode::None]);
    world.alone(&mut client());
}

#[test]
fn a_static_member_returns_without_a_rebalance_and_its_old_id_is_fenced() {
    let mut world = World::new();
    let one = world.alone(&mut instance("i"));
    assert_eq!(&*one.member_id, "i-u1");
    let ticket = world.send_join(&instance("i"));
    let back = world.joined(ticket).unwrap();
    assert_eq!((back.error, back.generation, &*back.member_id), (ErrorCode::None, 1, "i-u3"));
    assert!(back.skip_assignment && back.leader == back.member_id && back.members.len() == 1);
    let sync = world.send_sync(&back, &[]);
    assert_eq!(world.synced(sync).unwrap().assignment.as_ref(), b"all", "it keeps its assignment");
    let fenced = world.shard.heartbeat(&GROUP.into(), &one.member_id, Some("i"), 1, world.now);
    assert_eq!(fenced, Err(ErrorCode::FencedInstanceId));
    let Some(GroupRecord::Group { value: Some(value), .. }) = world.log.last() else { panic!() };
    assert_eq!((&*value.members[0].member_id, value.leader.as_deref()), ("i-u3", Some("i-u3")));
}

#[test]
fn an_older_static_leader_is_not_told_that_it_leads() {
    let mut world = World::new();
    let old = Client { version: 8, ..instance("i") };
    let one = world.alone(&mut old.clone());
    let ticket = world.send_join(&old);
    let back = world.joined(ticket).unwrap();
    assert_eq!((back.leader, back.members.len(), back.skip_assignment), (one.member_id, 0, false));
}

#[test]
fn a_static_member_whose_new_id_cannot_be_written_keeps_its_old_one() {
    let mut world = World::new();
    let one = world.alone(&mut instance("i"));
    world.hold = true;
    let ticket = world.send_join(&instance("i"));
    assert!(world.joined(ticket).is_none(), "not before its id is durable");
    world.release(Err(ErrorCode::NotCoordinator));
    assert_eq!(world.joined(ticket).unwrap().error, ErrorCode::NotCoordinator);
    assert_eq!(world.heartbeat(&one), ErrorCode::None);
}

#[test]
fn a_static_member_that_returns_between_generations_forces_a_new_one() {
    let mut world = World::new();
    let ticket = world.send_join(&instance("i"));
    assert_eq!(world.joined(ticket).unwrap().generation, 1);
    let again = world.send_join(&instance("i"));
    assert_eq!(world.joined(again).unwrap().generation, 2);
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance() {
    let mut world = World::new();
    world.alone(&mut instance("i"));
    assert_eq!(
        world.leave(&[("", Some("nobody")), ("x", Some("i"))]),
        [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId]
    );
    assert_eq!(world.leave(&[("", Some("i"))]), [ErrorCode::None]);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn the_wrong_generation_is_refused() {
    let mut world = World::new();
    let mut answer = world.alone(&mut client());
    answer.generation = 7;
    assert_eq!(world.heartbeat(&answer), ErrorCode::IllegalGeneration);
    let sync = world.send_sync(&answer, &[]);
    assert_eq!(world.synced(sync).unwrap().error, ErrorCode::IllegalGeneration);
    assert_eq!(world.commit(GROUP, &answer.member_id, 7, 1), ErrorCode::IllegalGeneration);
    answer.generation = 1;
    answer.protocol = Some("other".into());
    let sync = world.send_sync(&answer, &[]);
    assert_eq!(world.synced(sync).unwrap().error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn an_assignment_that_cannot_be_written_starts_over() {
    let mut world = World::new();
    let mut member = client();
    let ticket = world.enter(&mut member);
    let one = world.joined(ticket).unwrap();
    world.hold = true;
    let sync = world.send_sync(&one, &[(&one.member_id, b"a")]);
    assert!(world.synced(sync).is_none(), "not before it is durable");
    assert_eq!(world.state(), "CompletingRebalance");
    world.release(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(world.synced(sync).unwrap().error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(world.state(), "PreparingRebalance");
    let again = world.send_join(&member);
    assert_eq!(world.joined(again).unwrap().generation, 2);
}

#[test]
fn a_member_that_joins_while_an_assignment_is_written_gets_a_new_generation() {
    let mut world = World::new();
    let (mut first, mut second) = (client(), client());
    let ticket = world.enter(&mut first);
    let one = world.joined(ticket).unwrap();
    world.hold = true;
    let sync = world.send_sync(&one, &[(&one.member_id, b"a")]);
    let waiting = world.enter(&mut second);
    assert_eq!(world.synced(sync).unwrap().error, ErrorCode::RebalanceInProgress);
    world.release(Ok(()));
    assert_eq!(world.state(), "PreparingRebalance");
    world.send_join(&first);
    assert_eq!(world.joined(waiting).unwrap().generation, 2);
}

#[test]
fn commits_without_membership_need_an_empty_group() {
    let mut world = World::new();
    assert_eq!(world.commit("simple", "", -1, 3), ErrorCode::None);
    assert_eq!(world.offset("simple"), Some(3));
    assert_eq!(world.commit("simple", "m", 4, 3), ErrorCode::UnknownMemberId);
    assert_eq!(world.commit("unknown", "m", 4, 3), ErrorCode::GroupIdNotFound);
    let answer = world.alone(&mut client());
    assert_eq!(world.commit(GROUP, "", -1, 3), ErrorCode::UnknownMemberId);
    assert_eq!(world.commit(GROUP, &answer.member_id, 1, -5), ErrorCode::None, "as given");
    assert_eq!(world.offset(GROUP), Some(-5));
}

#[test]
fn an_offset_is_read_only_once_it_is_durable() {
    let mut world = World::new();
    world.commit("s", "", -1, 1);
    world.hold = true;
    world.commit("s", "", -1, 2);
    assert_eq!(world.offset("s"), Some(1));
    world.release(Ok(()));
    assert_eq!(world.offset("s"), Some(2));
    world.hold = true;
    world.commit("s", "", -1, 3);
    world.release(Err(ErrorCode::NotCoordinator));
    assert_eq!(world.offset("s"), Some(2));
}

#[test]
fn only_empty_groups_are_deleted_and_then_all_of_them() {
    let mut world = World::new();
    let answer = world.alone(&mut client());
    world.commit(GROUP, &answer.member_id, 1, 9);
    assert_eq!(world.shard.delete_group(&GROUP.into()).unwrap_err(), ErrorCode::NonEmptyGroup);
    assert_eq!(world.shard.delete_group(&"none".into()).unwrap_err(), ErrorCode::GroupIdNotFound);
    world.leave(&[(&answer.member_id, None)]);
    world.hold = true;
    assert_eq!(world.commit(GROUP, "", -1, 10), ErrorCode::None);
    let output = world.shard.delete_group(&GROUP.into()).unwrap();
    assert_eq!(output.records.len(), 2, "the commit under way goes too");
    world.take(output);
    assert_eq!(world.commit(GROUP, "", -1, 11), ErrorCode::CoordinatorNotAvailable);
    world.release(Ok(()));
    assert_eq!(world.state(), "none");
    assert_eq!(world.commit(GROUP, "", -1, 11), ErrorCode::None);
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut world = World::new();
    let subscription: &[u8] = b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff";
    let answer = world.alone(&mut Client { protocols: vec![("range", subscription)], ..client() });
    world.commit(GROUP, &answer.member_id, 1, 9);
    let (results, output) = world.shard.delete_offsets(&GROUP.into(), &[("t".into(), 0), ("u".into(), 0)]).unwrap();
    assert_eq!(results, [ErrorCode::GroupSubscribedToTopic, ErrorCode::None]);
    assert!(output.records.is_empty());
    world.leave(&[(&answer.member_id, None)]);
    let (results, output) = world.shard.delete_offsets(&GROUP.into(), &[("t".into(), 0)]).unwrap();
    assert_eq!(results, [ErrorCode::None]);
    world.take(output);
    assert_eq!(world.offset(GROUP), None);
}

#[test]
fn offsets_expire_after_the_group_is_empty_or_the_simple_commit_is_old() {
    let mut world = World::new();
    world.config.offsets_retention_ms = 60_000;
    world.config.retention_check_interval_ms = 1_000;
    let answer = world.alone(&mut client());
    world.commit(GROUP, &answer.member_id, 1, 9);
    world.commit("simple", "", -1, 3);
    for _ in 0..12 {
        world.advance(5_000);
        world.heartbeat(&answer);
    }
    world.advance(2_000);
    assert_eq!((world.offset("simple"), world.shard.group("simple").is_some()), (None, false));
    assert_eq!(world.offset(GROUP), Some(9), "in use");
    world.leave(&[(&answer.member_id, None)]);
    world.advance(58_000);
    assert_eq!(world.offset(GROUP), Some(9));
    world.advance(5_000);
    assert_eq!((world.offset(GROUP), world.state()), (None, "none"));
}
