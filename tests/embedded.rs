//! An application in the process of its user: how soon results show, and how soon it is closed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream::base::{Clock, SystemClock, TopicPartition};
use millstream::client::consumer::{Consumer, ConsumerConfig};
use millstream::prelude::*;

/// Long enough that nobody who waited for it is taken for somebody who did not.
const LONG_MS: u64 = 60_000;

fn word_count() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::<String, String>::default())
        .flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone(), Grouped::default())
        .count(Materialized::named("counts"))
        .to_stream()
        .to("out", Produced::default());
    builder.build().unwrap()
}

#[test]
fn first_results_come_before_the_first_commit_is_due_and_closing_waits_for_no_long_poll() {
    let broker = Embedded::temporary().unwrap();
    broker.create_topic("in", 1).unwrap();
    broker.create_topic("out", 1).unwrap();
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    producer.send_blocking(ProducerRecord::to("in").value("be")).unwrap();
    let config = StreamsConfig::new("first")
        .with("state.dir", broker.state_dir().display())
        .and_then(|config| config.with("commit.interval.ms", LONG_MS))
        .and_then(|config| config.with("main.consumer.fetch.max.wait.ms", LONG_MS / 2))
        .unwrap();
    let clock = SystemClock::new();
    let begun = clock.now().ticks_ms;
    let streams = Streams::start(word_count(), config, broker.client()).unwrap();
    let settings = ConsumerConfig::from_properties([("auto.offset.reset", "earliest")]).unwrap();
    let mut consumer = Consumer::new(broker.client(), settings).unwrap();
    consumer.assign([TopicPartition::new("out", 0)]).unwrap();
    // Both stages: the count is of a repartition topic that only the first commit of the stage before fills.
    let result = consumer.poll_blocking(Duration::from_millis(LONG_MS)).unwrap().into_iter().next().unwrap();
    assert_eq!((result.key.as_deref(), result.value.as_deref()), (Some(&b"be"[..]), Some(&1i64.to_be_bytes()[..])));
    streams.close().unwrap();
    let taken = clock.now().ticks_ms - begun;
    assert!(taken < LONG_MS as i64 / 4, "it took {taken} ms");
    broker.shutdown().unwrap();
}

/// Files below `folder` that this process has open, as the system names them.
#[cfg(target_os = "linux")]
fn open_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(folder))
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_broker_that_was_shut_down_under_its_clients_has_no_file_open_once_they_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap();
    let broker = Embedded::open(&data).unwrap();
    broker.create_topic("in", 1).unwrap();
    broker.create_topic("out", 1).unwrap();
    let config = StreamsConfig::new("first").with("state.dir", broker.state_dir().display()).unwrap();
    let streams = Streams::start(word_count(), config, broker.client()).unwrap();
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    producer.send_blocking(ProducerRecord::to("in").value("be")).unwrap();
    let settings = [("group.id", "readers"), ("auto.offset.reset", "earliest"), ("fetch.max.wait.ms", "60000")];
    let mut consumer = Consumer::new(broker.client(), ConsumerConfig::from_properties(settings).unwrap()).unwrap();
    consumer.subscribe(["out"]).unwrap();
    assert!(!consumer.poll_blocking(Duration::from_millis(LONG_MS)).unwrap().is_empty());
    streams.close().unwrap();
    assert!(!open_below(&data).is_empty(), "its logs are open");
    // A fetch of the consumer waits meanwhile, which must not keep what it waits for.
    broker.shutdown().unwrap();
    drop((consumer, producer));
    // Threads of clients end by themselves: they are waited for, no longer than this.
    let clock = SystemClock::new();
    let give_up = clock.now().ticks_ms + LONG_MS as i64;
    while !open_below(&data).is_empty() && clock.now().ticks_ms < give_up {
        std::thread::yield_now();
    }
    assert_eq!(open_below(&data), Vec::<std::path::PathBuf>::new());
}
