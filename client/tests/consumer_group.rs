//! Groups of [`ConsumerCore`]s against fake brokers: rebalances under both protocols, lost sessions, moved coordinators.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::type_complexity, reason = "a test may panic")]

mod consumer_support;

use std::future::Future;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use base::{Clock, Now, TopicName, TopicPartition};
use client::ClientError;
use client::consumer::{
    Assignment, Assignor, ClusterMetadata, Consumer, ConsumerConfig, ConsumerCore, ConsumerEvent,
    CooperativeStickyAssignor, GroupAssignment, GroupMetadata, GroupSubscription, OffsetAndMetadata, OffsetReset,
    OffsetSpec, RangeAssignor, RebalanceProtocol,
};
use consumer_support::{Cluster, run, settle, take};
use parking_lot::Mutex;
use protocol::api::{ApiKey, ErrorCode};

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn config() -> ConsumerConfig {
    ConsumerConfig::default()
        .group_id("g".to_owned())
        .auto_offset_reset(OffsetReset::Earliest)
        .enable_auto_commit(false)
        .session_timeout_ms(10_000)
}

fn topics() -> [TopicName; 1] {
    ["t".into()]
}

fn member(cluster: &Cluster, seed: u64, assignor: impl Assignor + 'static) -> ConsumerCore {
    let mut consumer = cluster.consumer(seed, config());
    consumer.subscribe(topics(), vec![Box::new(assignor)]).unwrap();
    consumer
}

#[test]
fn a_lone_member_gets_everything_in_one_step() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    cluster.append("t", 1, &["a"]);
    let mut consumer = member(&cluster, 1, RangeAssignor);
    let _ = consumer.step(cluster.clock.now(), Waker::noop());
    assert_eq!(consumer.take_events(), [ConsumerEvent::Assigned(vec![tp(0), tp(1)])]);
    assert_eq!(take(&mut consumer), ["t-1: a"]);
    assert!(consumer.is_stable());
    assert_eq!(consumer.group_metadata().generation, 1);
}

#[test]
fn an_eager_group_revokes_everything_before_it_rejoins() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    let mut one = member(&cluster, 1, RangeAssignor);
    run(&cluster, &mut [&mut one], 0);
    let mut two = member(&cluster, 2, RangeAssignor);
    let events = run(&cluster, &mut [&mut one, &mut two], 4_000);
    assert_eq!(events[0], ["Revoked([t-0, t-1])", "Assigned([t-0])"]);
    assert_eq!(events[1], ["Assigned([t-1])"]);
}

#[test]
fn a_cooperative_group_gives_up_only_what_moves() {
    let cluster = Cluster::new();
    cluster.topic("t", 3);
    let mut one = member(&cluster, 1, CooperativeStickyAssignor::default());
    run(&cluster, &mut [&mut one], 0);
    cluster.append("t", 0, &["a"]);
    let mut two = member(&cluster, 2, CooperativeStickyAssignor::default());
    let events = run(&cluster, &mut [&mut one, &mut two], 8_000);
    assert_eq!(events[0], ["Revoked([t-2])", "Assigned([])", "Assigned([])"]);
    // Whether the second hears of the empty assignment in between depends on who syncs first.
    assert_eq!(events[1].last().unwrap(), "Assigned([t-2])");
    assert_eq!(take(&mut one), ["t-0: a"], "read on all the time");
    // The second leaves: the first takes over without giving up anything.
    two.begin_close();
    let events = run(&cluster, &mut [&mut one, &mut two], 4_000);
    assert_eq!(events[0], ["Assigned([t-2])"]);
    assert!(two.is_closed());
}

#[test]
fn a_member_that_subscribes_again_while_it_leaves_reads_on() {
    for assignor in [false, true] {
        let make = || -> Box<dyn Assignor> {
            if assignor { Box::new(CooperativeStickyAssignor::default()) } else { Box::new(RangeAssignor) }
        };
        let cluster = Cluster::new();
        cluster.topic("t", 1);
        let mut one = cluster.consumer(1, config());
        one.subscribe(topics(), vec![make()]).unwrap();
        run(&cluster, &mut [&mut one], 0);
        one.unsubscribe();
        settle(&cluster, &mut [&mut one]);
        assert_eq!(one.take_events(), [ConsumerEvent::Revoked(vec![tp(0)])]);
        // The owner has not let go of the partition yet.
        one.subscribe(topics(), vec![make()]).unwrap();
        settle(&cluster, &mut [&mut one]);
        assert_eq!(one.take_events(), []);
        one.revocation_done();
        cluster.append("t", 0, &["a"]);
        let events = run(&cluster, &mut [&mut one], 4_000);
        assert_eq!(events[0], ["Assigned([t-0])"]);
        assert_eq!(take(&mut one), ["t-0: a"]);
    }
}

#[test]
fn the_core_does_not_rejoin_before_the_revocation_is_acknowledged() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    cluster.append("t", 0, &["a", "b", "c", "d", "e", "f", "g", "h"]);
    let mut one = member(&cluster, 1, RangeAssignor);
    run(&cluster, &mut [&mut one], 0);
    one.request_rejoin("a test");
    settle(&cluster, &mut [&mut one]);
    assert!(matches!(&one.take_events()[..], [ConsumerEvent::Revoked(_)]));
    cluster.forget_seen();
    settle(&cluster, &mut [&mut one]);
    assert_eq!(cluster.seen("JoinGroup"), 0);
    // What the owner commits now belongs to the old generation, and is accepted.
    let ticket = one.commit(vec![(tp(0), OffsetAndMetadata::new(7))]);
    settle(&cluster, &mut [&mut one]);
    assert!(one.commit_result(ticket).unwrap().is_ok());
    one.revocation_done();
    settle(&cluster, &mut [&mut one]);
    assert_eq!(one.take_events(), [ConsumerEvent::Assigned(vec![tp(0), tp(1)])]);
    assert_eq!(one.position(&tp(0)), Some(7), "begins at the committed offset");
}

#[test]
fn a_lost_session_is_told_as_lost_and_the_member_comes_back() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1, RangeAssignor);
    run(&cluster, &mut [&mut one], 0);
    // The owner is away for longer than session.timeout.ms, without anybody who sends heartbeats.
    cluster.advance(20_000);
    let events = run(&cluster, &mut [&mut one], 2_000);
    assert_eq!(events[0], ["Lost([t-0])", "Assigned([t-0])"]);
}

#[test]
fn a_commit_of_an_old_generation_is_refused_and_the_partitions_are_lost() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1, RangeAssignor);
    run(&cluster, &mut [&mut one], 0);
    cluster.state.lock().groups.clear();
    let ticket = one.commit(vec![(tp(0), OffsetAndMetadata::new(1))]);
    settle(&cluster, &mut [&mut one]);
    assert!(matches!(one.commit_result(ticket), Some(Err(ClientError::Rebalanced(_)))));
    assert_eq!(one.take_events(), [ConsumerEvent::Lost(vec![tp(0)])]);
}

#[test]
fn the_keep_alive_holds_the_member_until_the_owner_is_silent_for_too_long() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = cluster.consumer(1, config().max_poll_interval_ms(60_000));
    one.subscribe(topics(), vec![Box::new(RangeAssignor)]).unwrap();
    run(&cluster, &mut [&mut one], 0);
    let keep_alive = one.keep_alive();
    for _ in 0..59 {
        cluster.advance(1_000);
        let _ = keep_alive.step(cluster.clock.now(), Waker::noop());
    }
    assert_eq!(cluster.state.lock().groups["g"].members.len(), 1);
    cluster.advance(2_000);
    let _ = keep_alive.step(cluster.clock.now(), Waker::noop());
    assert_eq!(cluster.state.lock().groups["g"].members.len(), 0, "left");
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0], ["Lost([t-0])", "Assigned([t-0])"]);
}

#[test]
fn a_coordinator_that_moved_is_found_again() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a"]);
    let mut one = member(&cluster, 1, RangeAssignor);
    run(&cluster, &mut [&mut one], 0);
    cluster.state.lock().coordinator = 1;
    let ticket = one.commit(vec![(tp(0), OffsetAndMetadata::new(1))]);
    let events = run(&cluster, &mut [&mut one], 5_000);
    assert!(one.commit_result(ticket).unwrap().is_ok());
    assert!(events[0].is_empty(), "no rebalance: {events:?}");
    assert!(one.is_stable());
    // And while joining.
    one.request_rejoin("a test");
    cluster.state.lock().coordinator = 0;
    let events = run(&cluster, &mut [&mut one], 5_000);
    assert_eq!(events[0], ["Revoked([t-0])", "Assigned([t-0])"]);
}

#[test]
fn refused_joins_and_syncs_are_tried_again() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    for code in [ErrorCode::CoordinatorLoadInProgress, ErrorCode::UnknownMemberId, ErrorCode::NotCoordinator] {
        cluster.fail(ApiKey::JoinGroup, code);
    }
    for code in [ErrorCode::RebalanceInProgress, ErrorCode::IllegalGeneration, ErrorCode::NotCoordinator] {
        cluster.fail(ApiKey::SyncGroup, code);
    }
    let mut one = member(&cluster, 1, RangeAssignor);
    let events = run(&cluster, &mut [&mut one], 10_000);
    assert_eq!(events[0], ["Assigned([t-0])"]);
    assert!(one.take_error().is_none());
}

#[test]
fn new_partitions_of_a_subscribed_topic_rebalance_the_group() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut one = member(&cluster, 1, CooperativeStickyAssignor::default());
    run(&cluster, &mut [&mut one], 0);
    {
        let mut state = cluster.state.lock();
        let topic = state.topics.get_mut("t").unwrap();
        topic.partitions.push(Default::default());
        topic.leaders.push((0, 0));
    }
    one.client().refresh_metadata();
    let events = run(&cluster, &mut [&mut one], 2_000);
    assert_eq!(events[0], ["Assigned([t-1])"]);
}

#[test]
fn a_pattern_takes_in_topics_that_come_later() {
    let cluster = Cluster::new();
    cluster.topic("t-1", 1);
    let mut one = cluster.consumer(1, config());
    let wanted = Arc::new(|name: &str| name.starts_with("t-"));
    one.subscribe_matching(wanted, vec![Box::new(CooperativeStickyAssignor::default())]).unwrap();
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0], ["Assigned([t-1-0])"]);
    cluster.topic("t-2", 1).topic("other", 1);
    one.client().refresh_metadata();
    let events = run(&cluster, &mut [&mut one], 2_000);
    assert_eq!(events[0], ["Assigned([t-2-0])"]);
}

/// Takes its time to assign, and sends data both ways.
struct Slow {
    left: u32,
    got: Arc<Mutex<Vec<String>>>,
}

impl Assignor for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative, RebalanceProtocol::Eager]
    }

    fn subscription_user_data(&mut self, _: &[TopicName]) -> Option<bytes::Bytes> {
        Some("up".into())
    }

    fn assign(
        &mut self,
        group: &GroupSubscription,
        cluster: &ClusterMetadata,
        _: Now,
        _: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Pending;
        }
        let mut assignment = GroupAssignment::new();
        for (id, member) in &group.members {
            assert_eq!(member.subscription.user_data.as_deref(), Some(&b"up"[..]));
            let partitions = (0..cluster.partition_count("t").unwrap()).map(tp).collect();
            assignment.insert(id.clone(), Assignment { partitions, user_data: Some("down".into()) });
        }
        Poll::Ready(Ok(assignment))
    }

    fn on_assignment(&mut self, assignment: &Assignment, group: &GroupMetadata) {
        let data = String::from_utf8(assignment.user_data.clone().unwrap().to_vec()).unwrap();
        self.got.lock().push(format!("{data} {:?} in {}", assignment.partitions, group.generation));
    }
}

#[test]
fn an_assignor_may_take_its_time_and_exchange_data() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let got = Arc::new(Mutex::new(Vec::new()));
    let mut one = member(&cluster, 1, Slow { left: 3, got: Arc::clone(&got) });
    let events = run(&cluster, &mut [&mut one], 1_000);
    assert_eq!(events[0], ["Assigned([t-0])"]);
    assert_eq!(*got.lock(), ["down [t-0] in 1"]);
}

#[test]
fn closing_commits_and_leaves_at_once() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a", "b"]);
    let mut one = cluster.consumer(1, config().enable_auto_commit(true));
    one.subscribe(topics(), vec![Box::new(RangeAssignor)]).unwrap();
    run(&cluster, &mut [&mut one], 0);
    assert_eq!(take(&mut one), ["t-0: a b"]);
    one.begin_close();
    let events = run(&cluster, &mut [&mut one], 0);
    assert_eq!(events[0], ["Revoked([t-0])"]);
    assert!(one.is_closed());
    let state = cluster.state.lock();
    assert!(state.groups["g"].members.is_empty());
    assert_eq!(state.committed[&("g".into(), "t".into(), 0)].0, 2);
}

#[test]
fn positions_are_committed_from_time_to_time() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a"]);
    let mut one = cluster.consumer(1, config().enable_auto_commit(true).auto_commit_interval_ms(1_000));
    one.subscribe(topics(), vec![Box::new(RangeAssignor)]).unwrap();
    run(&cluster, &mut [&mut one], 1_500);
    assert_eq!(cluster.state.lock().committed[&("g".into(), "t".into(), 0)].0, 0, "fetched, but not taken");
    take(&mut one);
    run(&cluster, &mut [&mut one], 1_500);
    assert_eq!(cluster.state.lock().committed[&("g".into(), "t".into(), 0)].0, 1);
}

#[test]
fn the_shell_hands_out_at_most_max_poll_records_and_commits_what_it_handed_out() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a", "b", "c", "d", "e"]);
    let mut consumer = Consumer::new(cluster.client(1), config().max_poll_records(2)).unwrap();
    consumer.subscribe(["t"]).unwrap();
    let values = |consumer: &mut Consumer| -> Vec<String> {
        let records = consumer.poll_blocking(Duration::ZERO).unwrap();
        records.iter().map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
    };
    assert_eq!(values(&mut consumer), ["a", "b"]);
    consumer.commit_blocking().unwrap();
    assert_eq!(cluster.state.lock().committed[&("g".into(), "t".into(), 0)].0, 2);
    assert_eq!(values(&mut consumer), ["c", "d"]);
    consumer.seek(&tp(0), 1).unwrap();
    assert_eq!(values(&mut consumer), ["b", "c"]);
    consumer.pause(&[tp(0)]);
    assert!(values(&mut consumer).is_empty());
    consumer.resume(&[tp(0)]);
    assert_eq!(values(&mut consumer), ["d", "e"]);
    assert_eq!(consumer.position(&tp(0)), Some(5));
    consumer.close_blocking().unwrap();
    assert!(cluster.state.lock().groups["g"].members.is_empty());
}

/// Never assigns. When armed, time passes meanwhile, a topic is created, and another owner of the client learns of it.
struct Interrupted {
    cluster: Cluster,
    client: client::Client,
    armed: Arc<Mutex<bool>>,
}

impl Assignor for Interrupted {
    fn name(&self) -> &str {
        "interrupted"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative]
    }

    fn assign(
        &mut self,
        _: &GroupSubscription,
        _: &ClusterMetadata,
        _: Now,
        _: &Waker,
    ) -> Poll<Result<GroupAssignment, ClientError>> {
        if std::mem::take(&mut *self.armed.lock()) {
            self.cluster.topic("late", 1);
            self.cluster.advance(1_000);
            let _ = self.client.step(self.cluster.clock.now(), Waker::noop());
        }
        Poll::Pending
    }
}

#[test]
fn metadata_that_another_owner_fetched_within_a_step_is_work_of_that_step() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let client = cluster.client(1);
    let mut consumer = ConsumerCore::new(client.clone(), config()).unwrap();
    let armed = Arc::new(Mutex::new(false));
    let assignor = Interrupted { cluster: cluster.clone(), client, armed: Arc::clone(&armed) };
    consumer.subscribe(topics(), vec![Box::new(assignor)]).unwrap();
    let ticket = consumer.list_offsets(vec![(TopicPartition::new("late", 0), OffsetSpec::Earliest)]);
    settle(&cluster, &mut [&mut consumer]);
    assert!(consumer.list_offsets_result(ticket).is_none(), "the topic is not there");
    let version = consumer.client().metadata_version();
    *armed.lock() = true;
    let _ = consumer.step(cluster.clock.now(), Waker::noop());
    assert!(!*armed.lock() && consumer.client().metadata_version() > version, "it was interrupted");
    assert!(consumer.list_offsets_result(ticket).is_some(), "nobody would wake it before the next refresh is due");
}

#[test]
fn a_poll_goes_on_after_a_batch_whose_records_are_all_behind_the_position() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a"]);
    // As compaction leaves it: the batch goes to offset 4, its records do not.
    cluster.log("t", 0, |log| {
        let mut batch = log.batches[0].to_vec();
        batch[23..27].copy_from_slice(&4i32.to_be_bytes());
        log.batches[0] = batch.into();
        log.log_end = 5;
    });
    cluster.append("t", 0, &["b"]);
    let config = ConsumerConfig::default().check_crcs(false).max_partition_fetch_bytes(1).enable_auto_commit(false);
    let mut consumer = Consumer::new(cluster.client(1), config).unwrap();
    consumer.assign([tp(0)]).unwrap();
    consumer.seek(&tp(0), 3).unwrap();
    // Fetches the first batch on the way.
    assert_eq!(client::block_on(consumer.end_offsets(vec![tp(0)])).unwrap(), [(tp(0), 6)]);
    let mut poll = std::pin::pin!(consumer.poll(Duration::from_secs(10)));
    let polled = poll.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
    let Poll::Ready(records) = polled else { panic!("sleeps although the next batch can be fetched") };
    assert_eq!(records.unwrap().into_iter().map(|record| record.offset).collect::<Vec<_>>(), [5]);
}
