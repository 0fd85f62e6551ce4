//! The producer core against a scripted cluster: batching, order, retries, sequences, errors.
#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use base::{Clock, ManualClock};
use client::{ClientConfig, ClientError, ProducerConfig, ProducerCore, TopicHandle};
use common::{Cluster, Fate, noop};
use proptest::prelude::*;
use protocol::api::ErrorCode;
use protocol::record::HeadersRef;

struct Fixture {
    clock: Arc<ManualClock>,
    cluster: Arc<Cluster>,
    core: ProducerCore,
    topic: TopicHandle,
}

impl Fixture {
    fn new(config: ProducerConfig) -> Self {
        let clock = ManualClock::new(1_000_000);
        let cluster = Cluster::new(&[("t", 2)]);
        let client = cluster.client(&clock, ClientConfig::default());
        let mut core = ProducerCore::new(client, config).unwrap();
        let topic = core.topic("t");
        Self { clock, cluster, core, topic }
    }

    fn send(&mut self, partition: i32, value: &str) {
        let now = self.clock.now();
        self.core
            .send(self.topic, Some(partition), None, None, Some(value.as_bytes()), HeadersRef::EMPTY, now)
            .unwrap();
    }

    fn step(&mut self) -> client::Step {
        self.core.step(self.clock.now(), noop())
    }

    /// Flushes and steps, moving the clock to each next wake-up and releasing held answers, until all is settled.
    fn drain(&mut self) {
        self.core.begin_flush();
        for _ in 0..10_000 {
            let step = self.step();
            if self.core.is_flushed() {
                return;
            }
            if !self.cluster.release() {
                let now = self.clock.now().ticks_ms;
                let next = step.next_wake_ticks_ms.expect("something is unsettled and nothing is due");
                self.clock.advance_ms((next - now).max(1));
            }
        }
        panic!("not settled: {} records", self.core.unacked());
    }

    fn values(&self, partition: usize) -> Vec<String> {
        self.cluster.records("t", partition).into_iter().map(|value| String::from_utf8(value).unwrap()).collect()
    }
}

fn strings(from: std::ops::Range<usize>) -> Vec<String> {
    from.map(|i| i.to_string()).collect()
}

#[test]
fn a_batch_waits_for_linger_and_goes_out_in_one_request() {
    let mut f = Fixture::new(ProducerConfig::default().linger_ms(10));
    f.send(0, "0");
    f.send(0, "1");
    let step = f.step();
    assert_eq!(f.cluster.produce_requests.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(step.next_wake_ticks_ms, Some(10));
    f.clock.advance_ms(10);
    assert!(f.step().did_work);
    assert_eq!(f.values(0), strings(0..2));
    assert!(f.core.is_flushed(), "settled in the same step, since the answer was there at once");
    assert_eq!((f.core.acked_offset(f.topic, 0), f.core.acked_offset(f.topic, 1)), (Some(1), None));
    assert_eq!(f.core.buffered_bytes(), 0);
}

#[test]
fn a_full_batch_does_not_wait() {
    let mut f = Fixture::new(ProducerConfig::default().linger_ms(1_000).batch_size(200_usize));
    for i in 0..20 {
        f.send(0, &format!("{i:>20}"));
    }
    f.step();
    assert!(!f.values(0).is_empty());
    f.drain();
    assert_eq!(f.values(0).len(), 20);
}

#[test]
fn one_request_per_leader_holds_all_its_partitions() {
    let clock = ManualClock::new(1_000_000);
    let cluster = Cluster::new(&[("t", 6), ("u", 2)]);
    let mut core =
        ProducerCore::new(cluster.client(&clock, ClientConfig::default()), ProducerConfig::default()).unwrap();
    let (t, u) = (core.topic("t"), core.topic("u"));
    for partition in 0..6 {
        core.send(t, Some(partition), None, None, Some(b"v"), HeadersRef::EMPTY, clock.now()).unwrap();
    }
    core.send(u, Some(0), None, None, Some(b"v"), HeadersRef::EMPTY, clock.now()).unwrap();
    let mark = core.begin_flush();
    core.step(clock.now(), noop());
    assert!(core.is_flush_done(mark));
    assert_eq!(cluster.produce_requests.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn keys_go_where_kafka_puts_them_and_records_without_key_stick() {
    let clock = ManualClock::new(1_000_000);
    let cluster = Cluster::new(&[("t", 10)]);
    let mut core =
        ProducerCore::new(cluster.client(&clock, ClientConfig::default()), ProducerConfig::default()).unwrap();
    let t = core.topic("t");
    let status = core.send(t, None, None, Some(b"key"), None, HeadersRef::EMPTY, clock.now()).unwrap();
    assert_eq!(status.partition(), protocol::record::partition_for_key(b"key", 10));
    let partitions: Vec<i32> = (0..100)
        .map(|_| core.send(t, None, None, None, Some(b"v"), HeadersRef::EMPTY, clock.now()).unwrap().partition())
        .collect();
    assert!(partitions.windows(2).all(|pair| pair[0] == pair[1]), "{partitions:?}");
    let error = core.send(t, Some(10), None, None, None, HeadersRef::EMPTY, clock.now()).unwrap_err();
    assert_eq!(error.to_string(), "t-10: the topic has 10 partition(s), counted from 0");
}

#[test]
fn a_moved_leader_is_found_and_nothing_is_lost() {
    let mut f = Fixture::new(ProducerConfig::default());
    f.cluster.script([Fate::Serve, Fate::MoveLeader]);
    for i in 0..10 {
        f.send(0, &i.to_string());
        if i % 3 == 0 {
            f.core.begin_flush();
            f.step();
        }
    }
    f.drain();
    assert_eq!(f.values(0), strings(0..10));
    assert!(f.core.take_error().is_none());
}

#[test]
fn an_answer_lost_after_the_write_is_not_a_duplicate() {
    let mut f = Fixture::new(ProducerConfig::default());
    f.cluster.script([Fate::WriteAndDrop, Fate::WriteAndRefuse(ErrorCode::RequestTimedOut)]);
    f.send(0, "0");
    f.drain();
    assert_eq!(f.values(0), strings(0..1));
    assert_eq!(f.core.acked_offset(f.topic, 0), Some(0));
}

#[test]
fn a_request_without_an_answer_times_out_and_is_sent_again() {
    let mut f = Fixture::new(ProducerConfig::default().request_timeout_ms(500));
    f.cluster.script([Fate::Ignore]);
    f.send(0, "0");
    f.core.begin_flush();
    f.step();
    f.clock.advance_ms(499);
    f.step();
    assert_eq!(f.core.unacked(), 1);
    f.drain();
    assert_eq!(f.values(0), strings(0..1));
    assert_eq!(f.cluster.produce_requests.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn a_sequence_refused_for_good_goes_on_under_a_new_epoch() {
    let mut f = Fixture::new(ProducerConfig::default());
    f.send(0, "0");
    f.send(1, "a");
    f.drain();
    f.cluster.corrupt_producers();
    f.send(0, "1");
    f.core.begin_flush();
    f.send(0, "2");
    f.drain();
    assert_eq!(f.values(0), strings(0..3));
    f.send(1, "b");
    f.drain();
    assert_eq!(f.values(1), ["a", "b"]);
}

#[test]
fn a_refused_batch_is_reported_with_its_partition_and_what_to_do_and_the_next_goes_on() {
    let mut f = Fixture::new(ProducerConfig::default());
    f.send(0, "0");
    f.drain();
    f.cluster.script([Fate::Hold, Fate::Hold, Fate::Refuse(ErrorCode::MessageTooLarge), Fate::Serve, Fate::Serve]);
    for i in 1..6 {
        f.send(0, &i.to_string());
        f.core.begin_flush();
        f.step();
    }
    f.drain();
    let error = f.core.take_error().unwrap();
    assert_eq!(
        error.to_string(),
        "t-0: 1 record(s) not written: MESSAGE_TOO_LARGE; send smaller records, lower batch.size, or raise the topic's \
         max.message.bytes"
    );
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    assert_eq!(f.values(0), ["0", "1", "2", "4", "5"]);
    assert!(f.core.take_error().is_none());
}

#[test]
fn what_cannot_be_delivered_in_time_is_reported_with_the_reason() {
    let mut f = Fixture::new(ProducerConfig::default().delivery_timeout_ms(2_000));
    f.cluster.script(std::iter::repeat_n(Fate::Refuse(ErrorCode::NotEnoughReplicas), 1_000));
    f.send(0, "0");
    f.drain();
    let error = f.core.take_error().unwrap();
    assert!(matches!(&error, ClientError::NotWritten { code: Some(ErrorCode::NotEnoughReplicas), .. }), "{error}");
    assert!(error.to_string().contains("delivery.timeout.ms"), "{error}");
    assert!(f.clock.now().ticks_ms >= 2_000 && f.clock.now().ticks_ms < 4_000, "{:?}", f.clock.now());
}

#[test]
fn a_cluster_that_is_gone_ends_in_an_error_that_says_so() {
    let mut f = Fixture::new(ProducerConfig::default().delivery_timeout_ms(3_000));
    f.cluster.set_down(true);
    f.send(0, "0");
    f.drain();
    let error = f.core.take_error().unwrap().to_string();
    assert!(error.contains("no broker at node0:9090") || error.contains("no connection"), "{error}");
}

#[test]
fn a_full_buffer_refuses_until_records_are_acknowledged() {
    let mut f = Fixture::new(ProducerConfig::default().buffer_memory(1_000_usize).batch_size(100_usize));
    let value = [0u8; 50];
    let mut sent = 0;
    let error = loop {
        match f.core.send(f.topic, Some(0), None, None, Some(&value), HeadersRef::EMPTY, f.clock.now()) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ClientError::BufferFull { limit_bytes: 1_000 }), "{error}");
    assert!(sent > 5);
    f.drain();
    f.send(0, "again");
    f.drain();
    assert_eq!(f.values(0).len(), sent + 1);
}

#[test]
fn a_record_that_can_never_go_is_refused_at_once() {
    let mut f = Fixture::new(ProducerConfig::default().max_request_size(1_000_usize));
    let now = f.clock.now();
    let big = f.core.send(f.topic, Some(0), None, None, Some(&[0; 2_000]), HeadersRef::EMPTY, now).unwrap_err();
    assert!(matches!(&big, ClientError::Invalid(text) if text.contains("max.request.size")), "{big}");
    let early = f.core.send(f.topic, Some(0), Some(-5), None, None, HeadersRef::EMPTY, now).unwrap_err();
    assert_eq!(early.to_string(), "t: timestamp -5 is negative");
}

#[test]
fn an_unknown_topic_is_asked_for_until_it_is_there() {
    let mut f = Fixture::new(ProducerConfig::default());
    let later = f.core.topic("later");
    let send = |f: &mut Fixture| {
        f.core.send(later, None, None, Some(b"k"), Some(b"v"), HeadersRef::EMPTY, f.clock.now()).map(drop)
    };
    assert!(matches!(send(&mut f), Err(ClientError::MetadataPending { .. })));
    f.cluster.add_topic("later", 1);
    for _ in 0..10 {
        if let Some(due) = f.step().next_wake_ticks_ms {
            f.clock.advance_ms((due - f.clock.now().ticks_ms).max(0));
        }
    }
    assert_eq!(f.core.partition_count(later), Some(1));
    send(&mut f).unwrap();
    f.drain();
    assert_eq!(f.cluster.records("later", 0).len(), 1);
}

#[test]
fn tickets_tell_offset_and_failure_and_errors_stay_with_them() {
    let mut f = Fixture::new(ProducerConfig::default());
    let now = f.clock.now();
    let send = |f: &mut Fixture| {
        f.core.send_with_ticket(f.topic, Some(0), Some(5), None, Some(b"v"), HeadersRef::EMPTY, now).unwrap().1
    };
    let (first, second) = (send(&mut f), send(&mut f));
    assert!(first.try_result().is_none());
    f.drain();
    assert_eq!(first.try_result().unwrap().unwrap().offset, 0);
    let written = second.try_result().unwrap().unwrap();
    assert_eq!((&*written.topic, written.partition, written.offset, written.timestamp), ("t", 0, 1, 5));
    f.cluster.script([Fate::Refuse(ErrorCode::TopicAuthorizationFailed)]);
    let third = send(&mut f);
    f.drain();
    assert_eq!(third.try_result().unwrap().unwrap_err().code(), Some(ErrorCode::TopicAuthorizationFailed));
    assert!(f.core.take_error().is_none());
}

#[test]
fn acks_0_is_settled_when_it_is_handed_over() {
    let mut f = Fixture::new(ProducerConfig::from_properties([("acks", "0")]).unwrap());
    f.send(0, "0");
    f.drain();
    assert_eq!(f.values(0), strings(0..1));
    assert_eq!(f.core.acked_offset(f.topic, 0), None);
}

#[test]
fn compressed_batches_arrive() {
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let mut f = Fixture::new(ProducerConfig::from_properties([("compression.type", codec)]).unwrap());
        for i in 0..100 {
            f.send(0, &i.to_string());
        }
        f.drain();
        assert_eq!(f.values(0), strings(0..100), "{codec}");
    }
}

#[test]
fn a_closed_producer_refuses_records_and_settles_the_rest() {
    let mut f = Fixture::new(ProducerConfig::default().linger_ms(1_000));
    f.send(0, "0");
    f.core.begin_close();
    let now = f.clock.now();
    let refused = f.core.send(f.topic, Some(0), None, None, None, HeadersRef::EMPTY, now).unwrap_err();
    assert_eq!(refused.to_string(), "the producer is closed");
    f.step();
    assert!(f.core.is_flushed());
    assert_eq!(f.values(0), strings(0..1));
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Serve),
        3 => Just(Fate::Hold),
        2 => prop::sample::select(vec![
            ErrorCode::NotEnoughReplicas,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::RequestTimedOut,
            ErrorCode::KafkaStorageError,
            ErrorCode::UnknownTopicOrPartition,
        ]).prop_map(Fate::Refuse),
        2 => prop::sample::select(vec![ErrorCode::NotEnoughReplicasAfterAppend, ErrorCode::RequestTimedOut])
            .prop_map(Fate::WriteAndRefuse),
        1 => Just(Fate::Drop),
        1 => Just(Fate::WriteAndDrop),
        1 => Just(Fate::MoveLeader),
        1 => Just(Fate::Ignore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever retriable failures come in whatever order, every record arrives once, in order, where its ticket says.
    #[test]
    fn records_arrive_once_and_in_order_whatever_fails(
        fates in prop::collection::vec(fate(), 0..40),
        sends in prop::collection::vec((0..2i32, 0..4u8), 1..60),
    ) {
        let mut f = Fixture::new(ProducerConfig::default().linger_ms(3).request_timeout_ms(700).batch_size(160_usize));
        f.cluster.script(fates);
        let mut expected = [Vec::new(), Vec::new()];
        let mut tickets = Vec::new();
        for (i, (partition, then)) in sends.into_iter().enumerate() {
            let value = i.to_string();
            let (_, ticket) = f.core.send_with_ticket(
                f.topic, Some(partition), None, None, Some(value.as_bytes()), HeadersRef::EMPTY, f.clock.now(),
            ).unwrap();
            tickets.push((partition as usize, expected[partition as usize].len() as i64, ticket));
            expected[partition as usize].push(value);
            match then {
                0 => { f.step(); }
                1 => { f.core.begin_flush(); f.step(); }
                2 => { f.clock.advance_ms(40); f.step(); }
                _ => { f.cluster.release(); }
            }
        }
        f.drain();
        prop_assert_eq!(&f.values(0), &expected[0]);
        prop_assert_eq!(&f.values(1), &expected[1]);
        for (partition, offset, ticket) in tickets {
            let written = ticket.try_result().unwrap().unwrap();
            prop_assert_eq!((written.partition as usize, written.offset), (partition, offset));
        }
        prop_assert_eq!((f.core.buffered_bytes(), f.core.unacked()), (0, 0));
    }
}
