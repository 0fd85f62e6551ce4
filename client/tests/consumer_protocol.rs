//! Members of groups of the consumer protocol (KIP-848) against fake brokers: partitions that move, fencing, static members,
//! patterns, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::type_complexity, reason = "a test may panic")]

mod consumer_support;

use std::task::Waker;
use std::time::Duration;

use base::{Clock, TopicName, TopicPartition};
use client::ClientError;
use client::consumer::{
    Consumer, ConsumerConfig, ConsumerCore, ConsumerEvent, GroupProtocol, OffsetAndMetadata, OffsetReset,
    RangeAssignor, Rebalance, RebalanceListener,
};
use consumer_support::modern::INTERVAL_MS;
use consumer_support::{Cluster, run, settle, take};
use protocol::api::{ApiKey, ErrorCode};

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn config() -> ConsumerConfig {
    ConsumerConfig::default()
        .group_id("g".to_owned())
        .group_protocol(GroupProtocol::Consumer)
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false)
}

fn topics() -> [TopicName; 1] {
    ["t".into()]
}

fn member_with(cluster: &Cluster, seed: u64, config: ConsumerConfig) -> ConsumerCore {
    let mut consumer = cluster.consumer(seed, config);
    consumer.subscribe(topics(), Vec::new()).unwrap();
    consumer
}

fn member(cluster: &Cluster, seed: u64) -> ConsumerCore {
    member_with(cluster, seed, config())
}

fn static_member(cluster: &Cluster, seed: u64, instance: &str) -> ConsumerCore {
    member_with(cluster, seed, config().group_instance_id(instance.to_owned()))
}

fn committed(cluster: &Cluster, partition: i32) -> Option<i64> {
    cluster.state.lock().committed.get(&("g".into(), "t".into(), partition)).map(|(offset, ..)| *offset)
}

fn members(cluster: &Cluster) -> usize {
    cluster.state.lock().modern["g"].members.len()
}

/// All partitions of `t` that the consumers have, and whether one is had twice.
fn shares(consumers: &[&ConsumerCore]) -> Vec<usize> {
    let mut all: Vec<TopicPartition> = consumers.iter().flat_map(|consumer| consumer.assignment()).collect();
    let had = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), had, "a partition is read twice");
    consumers.iter().map(|consumer| consumer.assignment().len()).collect()
}

#[test]
fn a_lone_member_gets_everything_reads_commits_and_leaves() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    cluster.append("t", 1, &["a"]);
    let mut consumer = member(&cluster, 1);
    settle(&cluster, &mut [&mut consumer]);
    assert_eq!(consumer.take_events(), [ConsumerEvent::Assigned(vec![tp(0), tp(1)])]);
    assert_eq!(take(&mut consumer), ["t-1: a"]);
    assert!(consumer.is_stable());
    let known = consumer.group_metadata();
    assert_eq!(known.generation, cluster.state.lock().modern["g"].epoch, "the member's epoch");
    assert_eq!(known.member_id.len(), 36, "an id of the member's own making");
    let ticket = consumer.commit(vec![(tp(1), OffsetAndMetadata::new(1))]);
    settle(&cluster, &mut [&mut consumer]);
    assert!(consumer.commit_result(ticket).unwrap().is_ok());
    let ticket = consumer.committed(vec![tp(1)]);
    settle(&cluster, &mut [&mut consumer]);
    assert_eq!(consumer.committed_result(ticket).unwrap().unwrap()[0].1.as_ref().unwrap().offset, 1);
    consumer.begin_close();
    let events = run(&cluster, &mut [&mut consumer], 0);
    assert_eq!(events[0], ["Revoked([t-0, t-1])"]);
    assert!(consumer.is_closed());
    assert_eq!(members(&cluster), 0);
    assert_eq!(consumer.group_metadata().generation, -1);
}

#[test]
fn heartbeats_go_in_the_interval_that_the_coordinator_gave() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    cluster.forget_seen();
    run(&cluster, &mut [&mut one], 4 * i64::from(INTERVAL_MS));
    assert_eq!(cluster.seen("ConsumerGroupHeartbeat"), 4);
}

#[test]
fn partitions_move_one_member_at_a_time_and_those_that_stay_are_read_on() {
    let cluster = Cluster::new();
    cluster.topic("t", 3);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    cluster.append("t", 0, &["a"]);
    cluster.append("t", 1, &["b"]);
    let mut two = member(&cluster, 2);
    let events = run(&cluster, &mut [&mut one, &mut two], 20_000);
    assert_eq!(events[0].len(), 2, "one revocation, acknowledged at once: {:?}", events[0]);
    assert!(events[0][0].starts_with("Revoked([t-") && events[0][1] == "Assigned([])", "{:?}", events[0]);
    assert_eq!(events[1][0], "Assigned([])", "joined, and waits for the former owner");
    assert!(events[1].last().unwrap().starts_with("Assigned([t-"), "{:?}", events[1]);
    let shared = shares(&[&one, &two]);
    assert!(shared == [1, 2] || shared == [2, 1], "{shared:?}");
    let mut read = [take(&mut one), take(&mut two)].concat();
    read.sort();
    assert_eq!(read, ["t-0: a", "t-1: b"]);
    // The second leaves: the first takes over without giving up anything.
    two.begin_close();
    let events = run(&cluster, &mut [&mut one, &mut two], 6_000);
    assert!(events[0].iter().all(|event| event.starts_with("Assigned")), "{:?}", events[0]);
    assert!(two.is_closed());
    assert_eq!(shares(&[&one]), [3]);
}

#[test]
fn nothing_is_given_up_before_the_revocation_is_acknowledged() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    for partition in 0..2 {
        cluster.append("t", partition, &["a", "b", "c", "d", "e", "f", "g", "h"]);
    }
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    let mut two = member(&cluster, 2);
    run(&cluster, &mut [&mut two], 0);
    cluster.advance(6_000);
    settle(&cluster, &mut [&mut one]);
    let events = one.take_events();
    let [ConsumerEvent::Revoked(gone)] = &events[..] else { panic!("{events:?}") };
    // Time passes, heartbeats go, but the partition stays where it is.
    for _ in 0..4 {
        cluster.advance(6_000);
        settle(&cluster, &mut [&mut one, &mut two]);
    }
    assert!(two.assignment().is_empty());
    // What the owner commits now is accepted.
    let ticket = one.commit(vec![(gone[0].clone(), OffsetAndMetadata::new(7))]);
    settle(&cluster, &mut [&mut one]);
    assert!(one.commit_result(ticket).unwrap().is_ok());
    one.revocation_done();
    settle(&cluster, &mut [&mut one]);
    cluster.advance(6_000);
    settle(&cluster, &mut [&mut one, &mut two]);
    assert_eq!(two.assignment(), gone[..]);
    assert_eq!(two.position(&gone[0]), Some(7), "begins at the committed offset");
}

#[test]
fn automatic_commits_come_before_revocation_and_leaving() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    cluster.append("t", 0, &["a", "b"]);
    cluster.append("t", 1, &["c"]);
    let automatic = || config().enable_auto_commit(true).auto_commit_interval_ms(1_000_000);
    let mut one = member_with(&cluster, 1, automatic());
    run(&cluster, &mut [&mut one], 0);
    assert_eq!(take(&mut one), ["t-0: a b", "t-1: c"]);
    let mut two = member_with(&cluster, 2, automatic());
    run(&cluster, &mut [&mut one, &mut two], 20_000);
    assert_eq!((committed(&cluster, 0), committed(&cluster, 1)), (Some(2), Some(1)));
    assert!(take(&mut two).is_empty(), "nothing twice");
    cluster.append("t", 0, &["d"]);
    cluster.append("t", 1, &["e"]);
    run(&cluster, &mut [&mut one, &mut two], 1_000);
    let _ = (take(&mut one), take(&mut two));
    one.begin_close();
    two.begin_close();
    run(&cluster, &mut [&mut one, &mut two], 0);
    assert_eq!((committed(&cluster, 0), committed(&cluster, 1)), (Some(3), Some(2)));
}

#[test]
fn a_fenced_member_loses_its_partitions_and_joins_again() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let cluster = Cluster::new();
        cluster.topic("t", 1);
        let mut one = member(&cluster, 1);
        run(&cluster, &mut [&mut one], 0);
        let before = one.group_metadata();
        cluster.fail(ApiKey::ConsumerGroupHeartbeat, code);
        let events = run(&cluster, &mut [&mut one], 6_000);
        assert_eq!(events[0], ["Lost([t-0])", "Assigned([t-0])"], "{code}");
        assert!(one.take_error().is_none());
        assert_eq!(one.group_metadata().member_id, before.member_id, "the id stays as long as the consumer lives");
    }
}

#[test]
fn a_member_whose_session_is_over_comes_back() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    // The owner is away for longer than the session, without anybody who sends heartbeats.
    cluster.advance(60_000);
    assert_eq!(members(&cluster), 0);
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0], ["Lost([t-0])", "Assigned([t-0])"]);
}

#[test]
fn a_commit_of_a_member_that_is_out_is_refused_and_told_as_lost() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    cluster.state.lock().modern.get_mut("g").unwrap().members.clear();
    let ticket = one.commit(vec![(tp(0), OffsetAndMetadata::new(1))]);
    settle(&cluster, &mut [&mut one]);
    assert!(matches!(one.commit_result(ticket), Some(Err(ClientError::Rebalanced(_)))));
    assert_eq!(one.take_events(), [ConsumerEvent::Lost(vec![tp(0)])], "found out at once");
}

#[test]
fn a_commit_in_an_old_epoch_is_repeated_in_the_new_one() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    for api in [ApiKey::OffsetCommit, ApiKey::OffsetCommit, ApiKey::OffsetFetch] {
        cluster.fail(api, ErrorCode::StaleMemberEpoch);
    }
    let ticket = one.commit(vec![(tp(0), OffsetAndMetadata::new(1))]);
    let asked = one.committed(vec![tp(0)]);
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert!(one.commit_result(ticket).unwrap().is_ok());
    assert!(one.committed_result(asked).unwrap().is_ok());
    assert!(events[0].is_empty(), "{events:?}");
}

#[test]
fn the_keep_alive_holds_the_member_until_the_owner_is_silent_for_too_long() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member_with(&cluster, 1, config().max_poll_interval_ms(120_000));
    run(&cluster, &mut [&mut one], 0);
    let keep_alive = one.keep_alive();
    for _ in 0..119 {
        cluster.advance(1_000);
        let _ = keep_alive.step(cluster.clock.now(), Waker::noop());
    }
    assert_eq!(members(&cluster), 1);
    cluster.advance(2_000);
    let _ = keep_alive.step(cluster.clock.now(), Waker::noop());
    assert_eq!(members(&cluster), 0, "left");
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0], ["Lost([t-0])", "Assigned([t-0])"]);
}

#[test]
fn a_coordinator_that_moved_or_loads_is_found_again_without_a_rebalance() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    for code in [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator] {
        cluster.fail(ApiKey::ConsumerGroupHeartbeat, code);
    }
    let mut one = member(&cluster, 1);
    let events = run(&cluster, &mut [&mut one], 5_000);
    assert_eq!(events[0], ["Assigned([t-0])"]);
    cluster.state.lock().coordinator = 1;
    let ticket = one.commit(vec![(tp(0), OffsetAndMetadata::new(1))]);
    let events = run(&cluster, &mut [&mut one], 10_000);
    assert!(one.commit_result(ticket).unwrap().is_ok());
    assert!(events[0].is_empty(), "no rebalance: {events:?}");
    assert!(one.is_stable() && one.take_error().is_none());
}

#[test]
fn brokers_that_are_down_for_a_while_cost_nothing() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    cluster.state.lock().down = vec![0, 1];
    run(&cluster, &mut [&mut one], 20_000);
    cluster.state.lock().down.clear();
    let events = run(&cluster, &mut [&mut one], 10_000);
    assert!(events[0].is_empty(), "{events:?}");
    assert!(one.is_stable());
    assert_eq!(members(&cluster), 1);
}

#[test]
fn what_joining_again_does_not_mend_is_told_once_and_ends_the_membership() {
    for code in [ErrorCode::GroupMaxSizeReached, ErrorCode::UnsupportedAssignor, ErrorCode::GroupAuthorizationFailed] {
        let cluster = Cluster::new();
        cluster.topic("t", 1);
        let mut one = member(&cluster, 1);
        run(&cluster, &mut [&mut one], 0);
        cluster.fail(ApiKey::ConsumerGroupHeartbeat, code);
        let events = run(&cluster, &mut [&mut one], 30_000);
        assert_eq!(events[0], ["Lost([t-0])"], "{code}");
        assert_eq!(one.take_error().unwrap().code(), Some(code));
        assert!(one.take_error().is_none(), "{code}: once");
        // Subscribing again is another try.
        cluster.state.lock().modern.clear();
        one.subscribe(topics(), Vec::new()).unwrap();
        assert_eq!(run(&cluster, &mut [&mut one], 0)[0], ["Assigned([t-0])"], "{code}");
    }
}

#[test]
fn brokers_without_the_protocol_are_told_of_with_what_to_do() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.state.lock().serves_modern = false;
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 5_000);
    let error = one.take_error().unwrap();
    assert!(matches!(error, ClientError::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("set group.protocol=classic"), "{error}");
    assert!(one.take_error().is_none());
}

#[test]
fn a_static_member_comes_back_to_its_partitions_and_no_other_notices() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    let (mut one, mut two) = (static_member(&cluster, 1, "i1"), static_member(&cluster, 2, "i2"));
    run(&cluster, &mut [&mut one, &mut two], 20_000);
    let had = two.assignment();
    two.begin_close();
    run(&cluster, &mut [&mut two], 0);
    assert!(two.is_closed());
    assert_eq!(members(&cluster), 2, "its place is kept");
    let events = run(&cluster, &mut [&mut one], 10_000);
    assert!(events[0].is_empty(), "{events:?}");
    let mut again = static_member(&cluster, 3, "i2");
    let events = run(&cluster, &mut [&mut one, &mut again], 10_000);
    assert!(events[0].is_empty(), "{events:?}");
    assert_eq!(events[1].len(), 1, "{events:?}");
    assert_eq!(again.assignment(), had);
}

#[test]
fn an_instance_id_in_use_is_refused() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let (mut one, mut two) = (static_member(&cluster, 1, "i"), static_member(&cluster, 2, "i"));
    run(&cluster, &mut [&mut one, &mut two], 1_000);
    assert_eq!(one.assignment(), [tp(0)]);
    let error = two.take_error().unwrap();
    assert_eq!(error.code(), Some(ErrorCode::UnreleasedInstanceId));
    assert!(error.to_string().contains("holds group.instance.id i"), "{error}");
    // Another instance took over.
    cluster.fail(ApiKey::ConsumerGroupHeartbeat, ErrorCode::FencedInstanceId);
    let events = run(&cluster, &mut [&mut one], 6_000);
    assert_eq!(events[0], ["Lost([t-0])"]);
    assert!(matches!(one.take_error(), Some(ClientError::Fenced(_))));
}

#[test]
fn partitions_of_a_topic_that_is_not_known_yet_wait_for_its_name() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = cluster.consumer(1, config());
    one.subscribe(["t".into(), "u".into()], Vec::new()).unwrap();
    let events = run(&cluster, &mut [&mut one], 0);
    assert_eq!(events[0], ["Assigned([t-0])"]);
    cluster.topic("u", 1);
    let events = run(&cluster, &mut [&mut one], 10_000);
    assert_eq!(events[0], ["Assigned([u-0])"]);
    assert!(one.is_stable());
}

#[test]
fn a_topic_that_is_made_anew_is_another_topic() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a", "b"]);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    assert_eq!(take(&mut one), ["t-0: a b"]);
    cluster.topic("t", 1);
    cluster.append("t", 0, &["c"]);
    let events = run(&cluster, &mut [&mut one], 10_000);
    assert!(events[0].contains(&"Revoked([t-0])".to_owned()), "{events:?}");
    assert_eq!(events[0].last().unwrap(), "Assigned([t-0])", "once its name is known: {events:?}");
    assert_eq!(take(&mut one), ["t-0: c"]);
}

#[test]
fn topics_can_be_changed_while_in_the_group() {
    let cluster = Cluster::new();
    cluster.topic("t", 1).topic("u", 1);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    one.change_topics(["u".into()]).unwrap();
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0][0], "Revoked([t-0])", "{events:?}");
    assert_eq!(events[0].last().unwrap(), "Assigned([u-0])", "{events:?}");
    one.unsubscribe();
    let events = run(&cluster, &mut [&mut one], 0);
    assert_eq!(events[0], ["Revoked([u-0])"]);
    assert_eq!(members(&cluster), 0);
    // And back in.
    one.subscribe(topics(), Vec::new()).unwrap();
    assert_eq!(run(&cluster, &mut [&mut one], 0)[0], ["Assigned([t-0])"]);
}

#[test]
fn who_subscribes_again_while_leaving_is_back_in_the_group_afterwards() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1);
    run(&cluster, &mut [&mut one], 0);
    one.unsubscribe();
    settle(&cluster, &mut [&mut one]);
    assert_eq!(one.take_events(), [ConsumerEvent::Revoked(vec![tp(0)])]);
    one.subscribe(topics(), Vec::new()).unwrap();
    one.revocation_done();
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0], ["Assigned([t-0])"]);
    assert!(one.is_stable());
}

#[test]
fn a_pattern_is_resolved_by_the_broker() {
    let cluster = Cluster::new();
    cluster.topic("t-1", 1).topic("other", 1);
    let mut one = cluster.consumer(1, config());
    one.subscribe_pattern("t-.*").unwrap();
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0], ["Assigned([t-1-0])"]);
    assert_eq!(one.subscription(), [TopicName::from("t-1")]);
    cluster.topic("t-2", 1);
    let events = run(&cluster, &mut [&mut one], 10_000);
    assert_eq!(events[0], ["Assigned([t-2-0])"]);
    // To names: the pattern is taken back.
    one.change_topics(["other".into()]).unwrap();
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0].last().unwrap(), "Assigned([other-0])", "{events:?}");
    assert_eq!(one.assignment(), [TopicPartition::new("other", 0)]);
}

#[test]
fn a_function_over_names_is_resolved_by_the_consumer() {
    let cluster = Cluster::new();
    cluster.topic("t-1", 1);
    let mut one = cluster.consumer(1, config());
    one.subscribe_matching(std::sync::Arc::new(|name: &str| name.starts_with("t-")), Vec::new()).unwrap();
    assert_eq!(run(&cluster, &mut [&mut one], 1_000)[0], ["Assigned([t-1-0])"]);
    cluster.topic("t-2", 1);
    one.client().refresh_metadata();
    assert_eq!(run(&cluster, &mut [&mut one], 10_000)[0], ["Assigned([t-2-0])"]);
}

#[test]
fn what_belongs_to_the_other_protocol_is_refused() {
    let cluster = Cluster::new();
    let mut one = cluster.consumer(1, config());
    let error = one.subscribe(topics(), vec![Box::new(RangeAssignor)]).unwrap_err();
    assert!(error.to_string().contains("set group.remote.assignor"), "{error}");
    let mut classic = cluster.consumer(2, ConsumerConfig::default().group_id("g".to_owned()));
    let error = classic.subscribe_pattern("t.*").unwrap_err();
    assert!(error.to_string().contains("needs group.protocol=consumer"), "{error}");
}

/// Commits nothing but notes what it hears.
struct Notes(std::sync::Arc<parking_lot::Mutex<Vec<String>>>);

impl RebalanceListener for Notes {
    fn on_partitions_revoked(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.0.lock().push(format!("revoked {partitions:?}"));
    }

    fn on_partitions_lost(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.0.lock().push(format!("lost {partitions:?}"));
    }

    fn on_partitions_assigned(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.0.lock().push(format!("assigned {partitions:?}"));
    }
}

#[test]
fn the_shell_reads_commits_and_tells_its_listener() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a", "b", "c"]);
    let heard = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let settings = config().max_poll_records(2).enable_auto_commit(true).group_remote_assignor("range".to_owned());
    let mut consumer = Consumer::new(cluster.client(1), settings).unwrap();
    consumer.subscribe_with(["t"], Notes(std::sync::Arc::clone(&heard))).unwrap();
    assert_eq!(consumer.poll_blocking(Duration::ZERO).unwrap().len(), 2);
    let assignor = cluster.state.lock().modern["g"].members.values().next().unwrap().assignor.clone();
    assert_eq!(assignor.as_deref(), Some("range"));
    consumer.commit_blocking().unwrap();
    assert_eq!(committed(&cluster, 0), Some(2));
    assert_eq!(consumer.poll_blocking(Duration::ZERO).unwrap().len(), 1);
    consumer.close_blocking().unwrap();
    assert_eq!(committed(&cluster, 0), Some(3));
    assert_eq!(members(&cluster), 0);
    assert_eq!(*heard.lock(), ["assigned [t-0]", "revoked [t-0]"]);
}
