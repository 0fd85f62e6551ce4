//! [`ConsumerCore`] against fake brokers: what it reads, what it skips, and how it gets on when brokers do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::type_complexity, reason = "a test may panic")]

mod consumer_support;

use std::task::Waker;

use base::TopicPartition;
use client::consumer::{
    ConsumerConfig, ConsumerCore, ConsumerEvent, IsolationLevel, OffsetAndMetadata, OffsetReset, OffsetSpec,
};
use consumer_support::{Cluster, run, settle, take};
use protocol::api::{ApiKey, ErrorCode};

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn earliest() -> ConsumerConfig {
    ConsumerConfig::default().auto_offset_reset(OffsetReset::Earliest).enable_auto_commit(false)
}

fn reading(cluster: &Cluster, config: ConsumerConfig, partitions: i32) -> ConsumerCore {
    let mut consumer = cluster.consumer(1, config);
    consumer.assign((0..partitions).map(tp)).unwrap();
    settle(cluster, &mut [&mut consumer]);
    consumer
}

#[test]
fn records_of_all_partitions_are_there_after_one_step() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    cluster.append("t", 0, &["a", "b"]);
    cluster.append("t", 1, &["c"]);
    let mut consumer = cluster.consumer(1, earliest());
    consumer.assign([tp(0), tp(1)]).unwrap();
    let _ = consumer.step(base::Clock::now(&*cluster.clock), Waker::noop());
    assert_eq!(take(&mut consumer), ["t-0: a b", "t-1: c"]);
    assert_eq!(
        (consumer.position(&tp(0)), consumer.high_watermark(&tp(0)), consumer.lag(&tp(0))),
        (Some(2), Some(2), Some(0))
    );
}

#[test]
fn a_waiting_fetch_ends_when_records_come() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut consumer = reading(&cluster, earliest(), 1);
    assert!(take(&mut consumer).is_empty());
    cluster.append("t", 0, &["a"]);
    settle(&cluster, &mut [&mut consumer]);
    assert_eq!(take(&mut consumer), ["t-0: a"]);
}

#[test]
fn the_session_sends_only_what_changed_and_survives_its_loss() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    let mut consumer = reading(&cluster, earliest(), 2);
    for round in 0..5 {
        cluster.append("t", round % 2, &["x"]);
        settle(&cluster, &mut [&mut consumer]);
        assert_eq!(take(&mut consumer).len(), 1, "round {round}");
        settle(&cluster, &mut [&mut consumer]);
    }
    assert!(!cluster.state.lock().sessions.is_empty());
    cluster.state.lock().sessions.clear();
    cluster.append("t", 0, &["y"]);
    run(&cluster, &mut [&mut consumer], 1_000);
    cluster.append("t", 1, &["z"]);
    run(&cluster, &mut [&mut consumer], 1_000);
    assert_eq!(take(&mut consumer), ["t-0: y", "t-1: z"]);
}

#[test]
fn a_partition_that_becomes_fetchable_does_not_wait_for_the_long_poll() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    let mut consumer = reading(&cluster, earliest(), 2);
    consumer.pause(&[tp(1)]);
    // The first long poll includes both; the next only partition 0.
    run(&cluster, &mut [&mut consumer], 600);
    cluster.append("t", 1, &["late"]);
    settle(&cluster, &mut [&mut consumer]);
    assert!(take(&mut consumer).is_empty());
    consumer.resume(&[tp(1)]);
    settle(&cluster, &mut [&mut consumer]);
    assert_eq!(take(&mut consumer), ["t-1: late"], "without any time passing");
}

#[test]
fn paused_partitions_keep_what_is_buffered() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a"]);
    let mut consumer = reading(&cluster, earliest(), 1);
    consumer.pause(&[tp(0)]);
    assert!(take(&mut consumer).is_empty());
    consumer.resume(&[tp(0)]);
    assert_eq!(take(&mut consumer), ["t-0: a"]);
}

#[test]
fn buffered_bytes_stay_below_the_bound() {
    let cluster = Cluster::new();
    cluster.topic("t", 8);
    let large = "x".repeat(1_000);
    for partition in 0..8 {
        for _ in 0..20 {
            cluster.append("t", partition, &[&large]);
        }
    }
    let config = earliest().max_partition_fetch_bytes(4_000).fetch_buffer_bytes(10_000usize);
    let mut consumer = reading(&cluster, config, 8);
    let mut records = 0;
    for _ in 0..200 {
        assert!(consumer.buffered_bytes() <= 10_000 + 8 * 1_100, "{}", consumer.buffered_bytes());
        records += take(&mut consumer).iter().map(|line| line.split(' ').count() - 1).sum::<usize>();
        settle(&cluster, &mut [&mut consumer]);
    }
    assert_eq!(records, 160);
}

#[test]
fn out_of_range_follows_the_reset_policy() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a", "b"]);
    cluster.append("t", 0, &["c"]);
    cluster.log("t", 0, |log| log.log_start = 2);
    for (policy, expected) in [(OffsetReset::Earliest, vec!["t-0: c"]), (OffsetReset::Latest, vec![])] {
        let mut consumer = reading(&cluster, earliest().auto_offset_reset(policy), 1);
        consumer.seek(&tp(0), 0).unwrap();
        let events = run(&cluster, &mut [&mut consumer], 0);
        assert_eq!(events[0], ["OutOfRange { partition: t-0, offset: 0 }"]);
        assert_eq!(take(&mut consumer), expected);
        assert_eq!(consumer.position(&tp(0)), Some(3));
    }
    let mut consumer = reading(&cluster, earliest().auto_offset_reset(OffsetReset::None), 1);
    assert_eq!(consumer.take_events(), [ConsumerEvent::NoOffset(vec![(tp(0), -1)])]);
    consumer.seek(&tp(0), 1).unwrap();
    settle(&cluster, &mut [&mut consumer]);
    assert_eq!(consumer.take_events(), [ConsumerEvent::NoOffset(vec![(tp(0), 1)])]);
    consumer.seek_to(&[tp(0)], OffsetSpec::Earliest).unwrap();
    settle(&cluster, &mut [&mut consumer]);
    assert_eq!(take(&mut consumer), ["t-0: c"]);
}

#[test]
fn by_duration_begins_at_the_first_record_young_enough() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a", "b", "c"]);
    // The clock stands at the time of the first record; record 1 is a millisecond younger.
    cluster.clock.advance_ms(3);
    let mut consumer = reading(&cluster, earliest().auto_offset_reset(OffsetReset::ByDuration { ms: 2 }), 1);
    assert_eq!(take(&mut consumer), ["t-0: b c"]);
    let mut consumer = cluster.consumer(2, earliest().auto_offset_reset(OffsetReset::ByDuration { ms: 2 }));
    consumer.assign([tp(0)]).unwrap();
    settle(&cluster, &mut [&mut consumer]);
    assert_eq!(consumer.take_fetched().unwrap().fetch_offset, 1);
}

#[test]
fn aborted_transactions_are_filtered_and_open_ones_waited_for() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.log("t", 0, |log| {
        log.append(&["lost"], 1);
        log.append(&["kept"], 2);
        log.end_transaction(1, 0, false);
        log.end_transaction(2, 1, true);
        log.append(&["open"], 3);
        log.last_stable = Some(4);
    });
    let mut consumer = reading(&cluster, earliest().isolation_level(IsolationLevel::ReadCommitted), 1);
    assert_eq!(take(&mut consumer), ["t-0: kept"]);
    assert_eq!(consumer.position(&tp(0)), Some(4), "behind the markers");
    assert_eq!((consumer.end_offset(&tp(0)), consumer.high_watermark(&tp(0))), (Some(4), Some(5)));
    let mut consumer = reading(&cluster, earliest(), 1);
    assert_eq!(take(&mut consumer), ["t-0: lost kept open"]);
}

#[test]
fn a_partition_of_markers_only_moves_its_position() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.log("t", 0, |log| log.end_transaction(1, 0, true));
    let mut consumer = reading(&cluster, earliest(), 1);
    assert!(take(&mut consumer).is_empty());
    assert_eq!(consumer.position(&tp(0)), Some(1));
}

#[test]
fn gaps_of_compaction_are_passed_over() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    for value in ["a", "b", "c", "d"] {
        cluster.append("t", 0, &[value]);
    }
    cluster.log("t", 0, |log| log.compact(&[0, 2]));
    let mut consumer = reading(&cluster, earliest(), 1);
    assert_eq!(take(&mut consumer), ["t-0: b d"]);
    assert_eq!(consumer.position(&tp(0)), Some(4));
}

#[test]
fn a_moved_leader_is_found_and_asked_whether_the_log_still_agrees() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a", "b"]);
    let mut consumer = reading(&cluster, earliest(), 1);
    assert_eq!(take(&mut consumer), ["t-0: a b"]);
    cluster.state.lock().topics.get_mut("t").unwrap().leaders[0] = (1, 1);
    cluster.append("t", 0, &["c"]);
    run(&cluster, &mut [&mut consumer], 3_000);
    assert_eq!(take(&mut consumer), ["t-0: c"]);
    assert!(cluster.seen("OffsetForLeaderEpoch") > 0);
    // An unclean election: the new leader has less.
    cluster.log("t", 0, |log| {
        log.batches.truncate(1);
        log.log_end = 2;
    });
    cluster.state.lock().topics.get_mut("t").unwrap().leaders[0] = (0, 2);
    let events = run(&cluster, &mut [&mut consumer], 3_000);
    assert_eq!(events[0], ["Truncated { partition: t-0, position: 3, offset: 2 }"]);
    cluster.append("t", 0, &["d"]);
    run(&cluster, &mut [&mut consumer], 1_000);
    assert_eq!(take(&mut consumer), ["t-0: d"]);
}

#[test]
fn a_broker_that_is_down_is_waited_for() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a"]);
    let mut consumer = reading(&cluster, earliest(), 1);
    take(&mut consumer);
    cluster.state.lock().down.push(0);
    run(&cluster, &mut [&mut consumer], 2_000);
    cluster.append("t", 0, &["b"]);
    cluster.state.lock().down.clear();
    run(&cluster, &mut [&mut consumer], 3_000);
    assert_eq!(take(&mut consumer), ["t-0: b"]);
    assert!(consumer.take_error().is_none());
}

#[test]
fn offsets_are_looked_up_by_kind_and_time() {
    let cluster = Cluster::new();
    cluster.topic("t", 2);
    cluster.append("t", 0, &["a", "b", "c"]);
    let mut consumer = cluster.consumer(1, earliest());
    let time = 1_700_000_000_000;
    let ticket = consumer.list_offsets(vec![
        (tp(0), OffsetSpec::Earliest),
        (tp(0), OffsetSpec::Latest),
        (tp(0), OffsetSpec::Timestamp(time + 1)),
        (tp(0), OffsetSpec::Timestamp(time + 9)),
        (tp(0), OffsetSpec::MaxTimestamp),
        (tp(1), OffsetSpec::Latest),
    ]);
    settle(&cluster, &mut [&mut consumer]);
    let mut found: Vec<_> = consumer.list_offsets_result(ticket).unwrap().unwrap();
    found.sort_by_key(|(name, found)| (name.clone(), found.map(|found| (found.offset, found.timestamp))));
    let offsets: Vec<_> = found.iter().map(|(_, found)| found.map(|found| found.offset)).collect();
    assert_eq!(offsets, [None, Some(0), Some(1), Some(2), Some(3), Some(0)]);
    assert!(consumer.list_offsets_result(ticket).is_none(), "given once");
}

#[test]
fn a_look_up_of_an_unknown_topic_ends_with_the_reason() {
    let cluster = Cluster::new();
    let mut consumer = cluster.consumer(1, earliest().default_api_timeout_ms(2_000));
    let ticket = consumer.list_offsets(vec![(tp(0), OffsetSpec::Latest)]);
    run(&cluster, &mut [&mut consumer], 2_500);
    let error = consumer.list_offsets_result(ticket).unwrap().unwrap_err();
    assert!(error.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{error}");
}

#[test]
fn commits_outside_a_group_are_kept_in_order_and_retried() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut consumer = reading(&cluster, earliest().group_id("g".to_owned()), 1);
    cluster.fail(ApiKey::OffsetCommit, ErrorCode::CoordinatorLoadInProgress);
    cluster.fail(ApiKey::OffsetCommit, ErrorCode::NotCoordinator);
    let first = consumer.commit(vec![(tp(0), OffsetAndMetadata { offset: 1, leader_epoch: 0, metadata: "m".into() })]);
    let second = consumer.commit(vec![(tp(0), OffsetAndMetadata::new(2))]);
    settle(&cluster, &mut [&mut consumer]);
    assert!(consumer.commit_result(first).is_none());
    run(&cluster, &mut [&mut consumer], 1_000);
    assert!(consumer.commit_result(first).unwrap().is_ok());
    assert!(consumer.commit_result(second).unwrap().is_ok());
    let ticket = consumer.committed(vec![tp(0), tp(7)]);
    settle(&cluster, &mut [&mut consumer]);
    let committed = consumer.committed_result(ticket).unwrap().unwrap();
    assert_eq!(committed, [(tp(0), Some(OffsetAndMetadata::new(2))), (tp(7), None)]);
}

#[test]
fn a_commit_that_never_succeeds_ends_with_its_time() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let mut consumer = reading(&cluster, earliest().group_id("g".to_owned()).default_api_timeout_ms(500), 1);
    (0..50).for_each(|_| cluster.fail(ApiKey::OffsetCommit, ErrorCode::CoordinatorLoadInProgress));
    let ticket = consumer.commit(vec![(tp(0), OffsetAndMetadata::new(1))]);
    run(&cluster, &mut [&mut consumer], 2_000);
    let error = consumer.commit_result(ticket).unwrap().unwrap_err();
    assert!(error.to_string().contains("COORDINATOR_LOAD_IN_PROGRESS"), "{error}");
}

#[test]
fn an_answer_from_before_a_seek_is_dropped() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    cluster.append("t", 0, &["a"]);
    cluster.append("t", 0, &["b"]);
    let mut consumer = reading(&cluster, earliest(), 1);
    assert_eq!(take(&mut consumer), ["t-0: a b"]);
    settle(&cluster, &mut [&mut consumer]);
    consumer.seek(&tp(0), 1).unwrap();
    // The long poll of offset 2 is answered now.
    cluster.append("t", 0, &["c"]);
    run(&cluster, &mut [&mut consumer], 100);
    assert_eq!(take(&mut consumer), ["t-0: b c"]);
}

#[test]
fn requests_go_under_the_client_id_of_their_consumer_or_else_of_the_client() {
    let cluster = Cluster::new();
    cluster.topic("t", 1);
    let client = cluster.client(1);
    let sibling = client.sibling(client.config().clone().client_id("sibling")).unwrap();
    let read = |client: &client::Client, config: ConsumerConfig| {
        cluster.state.lock().clients.clear();
        let mut consumer = ConsumerCore::new(client.clone(), config).unwrap();
        consumer.assign([tp(0)]).unwrap();
        settle(&cluster, &mut [&mut consumer]);
        cluster.state.lock().clients.iter().cloned().collect::<Vec<_>>()
    };
    let named = read(&client, earliest().client_id(Some("own".to_owned())));
    assert_eq!(named, ["c1:ApiVersions", "c1:Metadata", "own:ApiVersions", "own:Fetch", "own:ListOffsets"]);
    let shared = read(&sibling, earliest());
    assert_eq!(shared, ["sibling:ApiVersions", "sibling:Fetch", "sibling:ListOffsets", "sibling:Metadata"]);
}
