//! Holding a running application, adding and removing its threads, ending it within a time, and clearing its local state.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream::prelude::*;
use millstream::streams_core::runtime::StreamsBuilder as Setup;

const PATIENCE: Duration = Duration::from_secs(60);

fn setup(broker: &Embedded) -> Setup {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::<String, String>::default())
        .group_by_key(Grouped::default())
        .count(Materialized::named("counts").without_caching())
        .to_stream()
        .to("out", Produced::default());
    let config = StreamsConfig::new("app").with("state.dir", broker.state_dir().display()).unwrap();
    Streams::builder(builder.build().unwrap(), config, broker.client())
}

fn broker() -> Embedded {
    let broker = Embedded::temporary().unwrap();
    for topic in ["in", "out"] {
        broker.create_topic(topic, 1).unwrap();
    }
    broker
}

fn send(broker: &Embedded, key: &str) {
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    producer.send_blocking(ProducerRecord::to("in").key(key.to_owned()).value("1")).unwrap();
}

fn count(app: &Streams, key: &'static str) -> i64 {
    let counts = app.with_store("counts", move |store: &TimestampedKeyValueStore<String, i64>| {
        store.get(&key.to_owned()).unwrap().map_or(0, |found| found.value)
    });
    counts.unwrap().iter().sum()
}

#[test]
fn a_paused_application_processes_nothing_until_it_is_resumed() {
    let broker = broker();
    let app = setup(&broker).start().unwrap();
    send(&broker, "a");
    app.wait_until_caught_up().unwrap();
    app.pause();
    assert!(app.is_paused());
    // The thread looks at the flag once a round; a query is answered between two rounds.
    assert_eq!(count(&app, "a"), 1);
    send(&broker, "a");
    for _ in 0..100 {
        assert_eq!(count(&app, "a"), 1);
    }
    app.resume();
    assert!(!app.is_paused());
    app.wait_until_caught_up().unwrap();
    assert_eq!(count(&app, "a"), 2);
    app.close().unwrap();
    broker.shutdown().unwrap();
}

#[test]
fn closing_within_a_time_says_whether_it_was_enough() {
    let broker = broker();
    let app = setup(&broker).start().unwrap();
    app.wait_until_running(PATIENCE).unwrap();
    assert!(app.close_within(PATIENCE).unwrap());
    // Closed indeed: the state directory is free.
    let app = setup(&broker).start().unwrap();
    // Hardly in no time, but then by itself.
    app.close_within(Duration::ZERO).unwrap();
    let app = loop {
        match setup(&broker).start() {
            Ok(app) => break app,
            Err(error) => assert!(error.to_string().contains("in use by another process"), "{error}"),
        }
        std::thread::yield_now();
    };
    app.close().unwrap();
    broker.shutdown().unwrap();
}

#[test]
fn local_state_is_cleared_only_of_what_does_not_run() {
    let broker = broker();
    let app = setup(&broker).start().unwrap();
    send(&broker, "a");
    app.wait_until_caught_up().unwrap();
    let refused = setup(&broker).clean_up().unwrap_err().to_string();
    assert!(refused.contains("in use by another process"), "{refused}");
    app.close().unwrap();
    let folder = broker.state_dir().join("app").join("0_0");
    assert_eq!(folder.exists(), cfg!(feature = "rocksdb"), "the default engine without RocksDB is memory");
    setup(&broker).clean_up().unwrap();
    assert!(!folder.exists());
    let app = setup(&broker).start().unwrap();
    app.wait_until_caught_up().unwrap();
    assert_eq!(count(&app, "a"), 1, "restored from the changelog");
    app.close().unwrap();
    broker.shutdown().unwrap();
}

#[test]
fn threads_are_added_and_removed_while_the_application_runs() {
    let broker = Embedded::temporary().unwrap();
    for topic in ["in", "out"] {
        broker.create_topic(topic, 4).unwrap();
    }
    let app = setup(&broker).start().unwrap();
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let send_all = || keys.iter().for_each(|key| send(&broker, key));
    let tasks = || -> Vec<usize> { app.threads().iter().map(|thread| thread.active_tasks.len()).collect() };
    let total = |app: &Streams| -> i64 { keys.iter().map(|key| count(app, key)).sum() };
    send_all();
    app.wait_until_caught_up().unwrap();
    assert_eq!(tasks(), [4]);
    let thread = app.threads().remove(0);
    assert!(thread.name.ends_with("-StreamThread-1"), "{}", thread.name);
    let committed: i64 = thread.active_tasks.iter().flat_map(|task| task.committed_offsets.values()).sum();
    let ends: i64 = thread.active_tasks.iter().flat_map(|task| task.end_offsets.values()).sum();
    assert_eq!((committed, ends), (8, 8));

    let added = app.add_stream_thread().unwrap().unwrap();
    assert!(added.ends_with("-StreamThread-2"), "{added}");
    wait_until(|| tasks() == [2, 2]);
    send_all();
    app.wait_until_caught_up().unwrap();
    assert_eq!(total(&app), 16);

    assert_eq!(app.remove_stream_thread().unwrap(), Some(added));
    wait_until(|| tasks() == [4]);
    send_all();
    app.wait_until_caught_up().unwrap();
    assert_eq!(total(&app), 24);

    app.remove_stream_thread_within(PATIENCE).unwrap().unwrap();
    assert_eq!(app.remove_stream_thread().unwrap(), None, "there is none left");
    assert_eq!(tasks(), [0; 0]);
    assert!(app.add_stream_thread().unwrap().unwrap().ends_with("-StreamThread-1"), "numbers are used again");
    wait_until(|| tasks() == [4]);
    send_all();
    app.wait_until_caught_up().unwrap();
    assert_eq!(total(&app), 32);
    app.close().unwrap();
    broker.shutdown().unwrap();
}

/// Asks until it holds; each time threads answer between two rounds. What never holds ends with the time of the test.
fn wait_until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}
