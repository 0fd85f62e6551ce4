//! Consumers with `group.protocol=consumer` (KIP-848) on a real coordinator: partitions move between members without a record
//! lost or read twice, static members return, who is removed or fenced comes back, a broker that restarts is no rebalance.
//!
//! The broker is one in this process; with `MILLSTREAM_TEST_BOOTSTRAP=HOST:PORT`, what can run on any cluster runs on that one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream::Embedded;
use millstream::base::{Clock, SystemClock, TopicPartition};
use millstream::client::admin::{Admin, MemberToRemove, NewTopic};
use millstream::client::consumer::{Consumer, ConsumerConfig, Rebalance, RebalanceListener};
use millstream::client::{Client, ClientConfig, ClientError, Producer, ProducerConfig, ProducerRecord, block_on};
use millstream::protocol::api::ErrorCode;

/// What is waited for comes sooner by far.
const LONG_MS: i64 = 60_000;
const POLL: Duration = Duration::from_millis(20);
const PARTITIONS: i32 = 4;

/// A cluster, and names on it that no other run has.
struct World {
    client: Box<dyn Fn() -> Client>,
    suffix: String,
    broker: Option<Embedded>,
}

impl World {
    fn new() -> Self {
        let suffix = format!("-{}", SystemClock::new().now().wall_ms);
        if let Ok(address) = std::env::var("MILLSTREAM_TEST_BOOTSTRAP") {
            let client = move || Client::connect(&address, ClientConfig::default()).unwrap();
            return Self { client: Box::new(client), suffix, broker: None };
        }
        Self::embedded(Embedded::temporary_builder().unwrap(), suffix)
    }

    fn embedded(builder: millstream::EmbeddedBuilder, suffix: String) -> Self {
        let broker = quick(builder).start().unwrap();
        let client = broker.client();
        let connect = move || client.sibling(ClientConfig::default()).unwrap();
        Self { client: Box::new(connect), suffix, broker: Some(broker) }
    }

    fn client(&self) -> Client {
        (self.client)()
    }

    /// A topic of this name and the run's.
    fn topic(&self, name: &str) -> String {
        let name = format!("{name}{}", self.suffix);
        let new = [NewTopic::new(name.as_str(), PARTITIONS)];
        let created = block_on(Admin::new(self.client()).create_topics(&new)).unwrap();
        created[0].1.as_ref().unwrap();
        name
    }

    fn write(&self, topic: &str, values: std::ops::Range<u32>) {
        let producer = Producer::new(self.client(), ProducerConfig::default()).unwrap();
        for value in values {
            let record = ProducerRecord::to(topic).key(value.to_be_bytes().to_vec()).value(value.to_string());
            producer.send_blocking(record).unwrap();
        }
    }

    fn consumer(&self, topic: &str, more: &[(&str, &str)]) -> Consumer {
        let mut settings = vec![("group.id", topic), ("group.protocol", "consumer"), ("auto.offset.reset", "earliest")];
        settings.extend(more);
        let mut consumer = Consumer::new(self.client(), ConsumerConfig::from_properties(settings).unwrap()).unwrap();
        consumer.subscribe([topic]).unwrap();
        consumer
    }

    fn end(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().unwrap();
        }
    }
}

/// Heartbeats and assignments without Kafka's long intervals.
fn quick(builder: millstream::EmbeddedBuilder) -> millstream::EmbeddedBuilder {
    builder
        .set("group.consumer.min.heartbeat.interval.ms", 100)
        .set("group.consumer.heartbeat.interval.ms", 100)
        .set("group.consumer.min.assignment.interval.ms", 0)
        .set("group.consumer.assignment.interval.ms", 0)
}

/// Polls the consumers in turn, with what they read counted, until `enough`.
fn poll_until(
    consumers: &mut [&mut Consumer],
    read: &mut BTreeMap<String, u32>,
    enough: impl Fn(&[&mut Consumer], &BTreeMap<String, u32>) -> bool,
) {
    let clock = SystemClock::new();
    let begun = clock.now().ticks_ms;
    while !enough(consumers, read) {
        assert!(clock.now().ticks_ms - begun < LONG_MS, "not within {LONG_MS} ms; read {}", read.len());
        for consumer in consumers.iter_mut() {
            for record in consumer.poll_blocking(POLL).unwrap() {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                *read.entry(value).or_default() += 1;
            }
        }
    }
}

fn shared(consumers: &[&mut Consumer], shares: &[usize]) -> bool {
    let mut had: Vec<usize> = consumers.iter().map(|consumer| consumer.assignment().len()).collect();
    had.sort_unstable();
    had == shares
}

fn assert_once_each(read: &BTreeMap<String, u32>, values: u32) {
    assert_eq!(read.len(), values as usize);
    let twice: Vec<_> = read.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "read more than once: {twice:?}");
}

#[test]
fn partitions_move_between_members_and_every_record_is_read_once() {
    let world = World::new();
    let topic = world.topic("moving");
    let mut read = BTreeMap::new();
    world.write(&topic, 0..100);
    let mut one = world.consumer(&topic, &[]);
    poll_until(&mut [&mut one], &mut read, |consumers, read| read.len() >= 50 && shared(consumers, &[4]));
    let mut two = world.consumer(&topic, &[("group.remote.assignor", "uniform")]);
    world.write(&topic, 100..200);
    poll_until(&mut [&mut one, &mut two], &mut read, |consumers, read| read.len() == 200 && shared(consumers, &[2, 2]));
    assert_once_each(&read, 200);
    let (known, other) = (one.group_metadata(), two.group_metadata());
    assert!(known.generation > 0 && known.member_id != other.member_id, "{known:?} {other:?}");
    let described = block_on(Admin::new(world.client()).describe_consumer_groups(&[&topic])).unwrap();
    assert_eq!(described[0].1.as_ref().unwrap().members.len(), 2);
    // One leaves: the other has all, from where the first has been.
    two.close_blocking().unwrap();
    world.write(&topic, 200..300);
    poll_until(&mut [&mut one], &mut read, |consumers, read| read.len() == 300 && shared(consumers, &[4]));
    assert_once_each(&read, 300);
    one.close_blocking().unwrap();
    // The group goes on where it was left.
    world.write(&topic, 300..310);
    let mut three = world.consumer(&topic, &[]);
    poll_until(&mut [&mut three], &mut read, |_, read| read.len() == 310);
    assert_once_each(&read, 310);
    three.close_blocking().unwrap();
    world.end();
}

/// Counts what it hears.
#[derive(Clone, Default)]
struct Heard(Arc<std::sync::Mutex<Vec<&'static str>>>);

impl Heard {
    fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

impl RebalanceListener for Heard {
    fn on_partitions_revoked(&mut self, _: &mut Rebalance<'_>, _: &[TopicPartition]) {
        self.0.lock().unwrap().push("revoked");
    }

    fn on_partitions_lost(&mut self, _: &mut Rebalance<'_>, _: &[TopicPartition]) {
        self.0.lock().unwrap().push("lost");
    }

    fn on_partitions_assigned(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        if !partitions.is_empty() {
            self.0.lock().unwrap().push("assigned");
        }
    }
}

#[test]
fn a_static_member_returns_to_its_partitions_and_a_second_of_its_name_is_refused() {
    let world = World::new();
    let topic = world.topic("static");
    let mut read = BTreeMap::new();
    let mut one = world.consumer(&topic, &[("group.instance.id", "one")]);
    let mut two = world.consumer(&topic, &[("group.instance.id", "two")]);
    poll_until(&mut [&mut one, &mut two], &mut read, |consumers, _| shared(consumers, &[2, 2]));
    let heard = Heard::default();
    one.set_rebalance_listener(heard.clone());
    let mut had = two.assignment();
    two.close_blocking().unwrap();
    world.write(&topic, 0..50);
    let mut again = world.consumer(&topic, &[("group.instance.id", "two")]);
    poll_until(&mut [&mut one, &mut again], &mut read, |consumers, read| {
        read.len() == 50 && shared(consumers, &[2, 2])
    });
    assert_once_each(&read, 50);
    let mut has = again.assignment();
    had.sort();
    has.sort();
    assert_eq!(has, had);
    assert!(heard.all().is_empty(), "the other member noticed: {:?}", heard.all());
    let mut second = world.consumer(&topic, &[("group.instance.id", "two")]);
    let error = loop {
        match second.poll_blocking(POLL) {
            Ok(records) => assert!(records.is_empty()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Some(ErrorCode::UnreleasedInstanceId), "{error}");
    for consumer in [one, again, second] {
        consumer.close_blocking().unwrap();
    }
    world.end();
}

#[test]
fn a_member_that_an_operator_removed_loses_its_partitions_and_comes_back() {
    let world = World::new();
    let topic = world.topic("removed");
    let mut read = BTreeMap::new();
    world.write(&topic, 0..20);
    let heard = Heard::default();
    let mut one = world.consumer(&topic, &[("group.instance.id", "one")]);
    one.set_rebalance_listener(heard.clone());
    poll_until(&mut [&mut one], &mut read, |_, read| read.len() == 20);
    one.commit_blocking().unwrap();
    remove(&world, &topic, &one);
    // What is read until the member hears of it is nobody's, and read again.
    poll_until(&mut [&mut one], &mut read, |_, _| heard.all().len() == 3);
    world.write(&topic, 20..40);
    poll_until(&mut [&mut one], &mut read, |_, read| read.len() == 40);
    assert_eq!(heard.all(), ["assigned", "lost", "assigned"]);
    assert_once_each(&read, 40);
    one.close_blocking().unwrap();
    world.end();
}

/// Removes the member, as an operator does.
fn remove(world: &World, group: &str, consumer: &Consumer) {
    let member = MemberToRemove::MemberId(consumer.group_metadata().member_id);
    let removed = block_on(Admin::new(world.client()).remove_members_from_group(group, &[member])).unwrap();
    removed[0].as_ref().unwrap();
}

#[test]
fn a_pattern_takes_in_topics_that_match_and_a_bad_one_is_refused() {
    let world = World::new();
    let first = world.topic("pattern-a");
    let pattern = format!("pattern-.{}", world.suffix);
    let settings = [("group.id", first.as_str()), ("group.protocol", "consumer"), ("auto.offset.reset", "earliest")];
    let new = || Consumer::new(world.client(), ConsumerConfig::from_properties(settings).unwrap()).unwrap();
    world.write(&first, 0..10);
    let mut read = BTreeMap::new();
    let mut one = new();
    one.subscribe_pattern(&pattern).unwrap();
    poll_until(&mut [&mut one], &mut read, |_, read| read.len() == 10);
    let second = world.topic("pattern-b");
    world.write(&second, 10..20);
    if world.broker.is_some() {
        poll_until(&mut [&mut one], &mut read, |_, read| read.len() == 20);
        assert_eq!(one.subscription().len(), 2);
    }
    block_on(one.unsubscribe()).unwrap();
    one.subscribe_pattern("pattern-[").unwrap();
    let error = loop {
        match one.poll_blocking(POLL) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Some(ErrorCode::InvalidRegularExpression), "{error}");
    one.close_blocking().unwrap();
    world.end();
}

#[test]
fn offsets_in_a_transaction_are_those_of_a_member() {
    let world = World::new();
    let topic = world.topic("transaction");
    world.write(&topic, 0..20);
    let mut read = BTreeMap::new();
    // Waits for offsets whose transaction is not through yet.
    let mut one = world.consumer(&topic, &[("enable.auto.commit", "false"), ("isolation.level", "read_committed")]);
    poll_until(&mut [&mut one], &mut read, |_, read| read.len() == 20);
    let id = format!("{topic}-id");
    let config = ProducerConfig::default().transactional_id(Some(id));
    let producer = Producer::new(world.client(), config).unwrap();
    block_on(producer.init_transactions()).unwrap();
    let offsets: Vec<_> = one
        .assignment()
        .into_iter()
        .filter_map(|name| {
            let position = one.position(&name)?;
            Some((name, millstream::client::consumer::OffsetAndMetadata::new(position)))
        })
        .collect();
    producer.begin_transaction().unwrap();
    block_on(producer.send_offsets_to_transaction(&offsets, &one.group_metadata())).unwrap();
    block_on(producer.commit_transaction()).unwrap();
    let names: Vec<_> = offsets.iter().map(|(name, _)| name.clone()).collect();
    let committed = block_on(one.committed(names)).unwrap();
    for ((name, given), (_, found)) in offsets.iter().zip(&committed) {
        assert_eq!(found.as_ref().map(|found| found.offset), Some(given.offset), "{name}");
    }
    // Of a member that the group does not know.
    producer.begin_transaction().unwrap();
    let mut stranger = one.group_metadata();
    stranger.member_id = "stranger".into();
    let refused = block_on(producer.send_offsets_to_transaction(&offsets, &stranger));
    assert!(refused.is_err());
    block_on(producer.abort_transaction()).unwrap();
    one.close_blocking().unwrap();
    world.end();
}

#[test]
fn a_member_is_kept_while_its_owner_processes_but_for_max_poll_interval_only() {
    const MAX_POLL_MS: i64 = 3_000;
    let builder = Embedded::temporary_builder().unwrap();
    let builder = builder.set("group.consumer.min.session.timeout.ms", 500);
    let world = World::embedded(builder.set("group.consumer.session.timeout.ms", 1_500), String::new());
    let topic = world.topic("busy");
    let mut read = BTreeMap::new();
    let busy = MAX_POLL_MS.to_string();
    let (mut one, mut two) = (world.consumer(&topic, &[("max.poll.interval.ms", &busy)]), world.consumer(&topic, &[]));
    poll_until(&mut [&mut one, &mut two], &mut read, |consumers, _| shared(consumers, &[2, 2]));
    let heard = Heard::default();
    one.set_rebalance_listener(heard.clone());
    let clock = SystemClock::new();
    let begun = clock.now().ticks_ms;
    assert!(one.poll_blocking(Duration::ZERO).unwrap().is_empty());
    // Nobody polls the first: its heartbeats go on by themselves for longer than a session, then it leaves.
    poll_until(&mut [&mut two], &mut read, |consumers, _| shared(consumers, &[4]));
    let taken = clock.now().ticks_ms - begun;
    // Two clocks, each of which rounds to milliseconds.
    assert!(taken >= MAX_POLL_MS - 1, "its partitions went to another after {taken} ms");
    assert!(heard.all().is_empty());
    // It polls again: lost, and back in the group.
    poll_until(&mut [&mut one, &mut two], &mut read, |consumers, _| shared(consumers, &[2, 2]));
    assert_eq!(heard.all(), ["lost", "assigned"]);
    one.close_blocking().unwrap();
    two.close_blocking().unwrap();
    world.end();
}

#[test]
fn a_broker_that_restarts_is_no_rebalance() {
    let folder = tempfile::tempdir().unwrap();
    let start = |address: &str| {
        let mut broker = quick(Embedded::builder(folder.path())).start().unwrap();
        let address = broker.listen(address).unwrap().to_string();
        (broker, address)
    };
    let (broker, address) = start("127.0.0.1:0");
    let at = address.clone();
    let connect = move || Client::connect(&at, ClientConfig::default()).unwrap();
    let world = World { client: Box::new(connect), suffix: String::new(), broker: None };
    let topic = world.topic("restart");
    world.write(&topic, 0..50);
    let mut read = BTreeMap::new();
    let (mut one, mut two) = (world.consumer(&topic, &[]), world.consumer(&topic, &[]));
    poll_until(&mut [&mut one, &mut two], &mut read, |consumers, read| read.len() == 50 && shared(consumers, &[2, 2]));
    let heard = Heard::default();
    one.set_rebalance_listener(heard.clone());
    two.set_rebalance_listener(heard.clone());
    broker.shutdown().unwrap();
    let (broker, _) = start(&address);
    world.write(&topic, 50..100);
    poll_until(&mut [&mut one, &mut two], &mut read, |_, read| read.len() == 100);
    assert_once_each(&read, 100);
    one.commit_blocking().unwrap();
    two.commit_blocking().unwrap();
    assert!(heard.all().is_empty(), "{:?}", heard.all());
    one.close_blocking().unwrap();
    two.close_blocking().unwrap();
    broker.shutdown().unwrap();
}

#[test]
fn a_broker_that_serves_the_classic_protocol_only_is_told_of() {
    let broker = Embedded::temporary_builder().unwrap().set("group.coordinator.rebalance.protocols", "classic");
    let world = World::embedded(broker, String::new());
    let topic = world.topic("classic");
    let mut one = world.consumer(&topic, &[]);
    let error = loop {
        match one.poll_blocking(POLL) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ClientError::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("set group.protocol=classic"), "{error}");
    one.close_blocking().unwrap();
    world.end();
}
