//! Versioned stores: what the changelog gets, and what is there again after a restore or a restart.

use base::TopicPartition;
use protocol::record::{BatchBuilder, BuilderOptions, Compression, Headers};
use storage::state::Backend;
use streams_core::serde::{I64Serde, StringSerde};
use streams_core::store::{Stores, VersionedKeyValueStore, VersionedPut};
use streams_core::{SourceOptions, StreamsConfig, Topology, TopologyTestDriver};

use crate::support::{Idle, show_all};
use crate::tasks::{Harness, at};

type Store = VersionedKeyValueStore<String, i64>;

fn topology(history_ms: i64) -> Topology {
    let mut topology = Topology::new();
    topology
        .add_source("source", SourceOptions::<String, String>::default(), ["in"])
        .unwrap()
        .add_processor::<_, String, String, (), ()>("idle", || Idle, &["source"])
        .unwrap()
        .add_state_store(Stores::versioned_key_value("v", history_ms, StringSerde, I64Serde), &["idle"])
        .unwrap();
    topology
}

/// `value@from-to` of each version.
fn history(store: &Store, key: &str) -> String {
    let versions = store.history(&key.to_owned(), None, None, false).unwrap();
    let shown = versions.iter().map(|version| {
        let end = version.valid_to.map_or_else(String::new, |end| end.to_string());
        format!("{}@{}-{end}", version.value, version.timestamp)
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn put(store: &Store, key: &str, value: Option<i64>, time: i64) -> VersionedPut {
    store.put(&key.to_owned(), value, time).unwrap()
}

#[test]
fn every_put_is_logged_with_the_time_of_the_version_even_one_that_has_expired() {
    let driver = TopologyTestDriver::new(&topology(100), StreamsConfig::new("app")).unwrap();
    let store = driver.store::<Store>("v").unwrap();
    assert_eq!(put(&store, "a", Some(1), 500), VersionedPut::Latest);
    assert_eq!(put(&store, "a", Some(2), 450), VersionedPut::ValidUntil(500));
    assert_eq!(put(&store, "a", Some(3), 399), VersionedPut::Expired);
    assert_eq!(store.delete(&"a".to_owned(), 460).unwrap().map(|gone| gone.value), Some(2));
    assert_eq!(driver.dropped_records(), 1);
    driver.input_topic::<String, String>("in").pipe_at("x".to_owned(), "x".to_owned(), 1).unwrap();
    let logged = driver.output_topic::<String, i64>("app-v-changelog").read_all().unwrap();
    assert_eq!(show_all(&logged), "a=1@500 a=2@450 a=3@399 a=null@460");
    assert_eq!(history(&store, "a"), "2@450-460 1@500-");
}

#[test]
fn a_restored_store_has_the_versions_and_forgets_what_has_expired() {
    let mut harness = Harness::restoring(&topology(1_000), StreamsConfig::new("app"), &["in"]);
    let changelog = TopicPartition::new("app-v-changelog", 0);
    let mut batch = BatchBuilder::new(Compression::None, BuilderOptions::default());
    let puts = [
        ("a", Some(1i64), 10),
        ("a", Some(2), 20),
        ("b", Some(7), 15),
        ("a", None, 30),
        ("a", Some(3), 25),
        ("b", Some(8), 9_000),
    ];
    for (key, value, time) in puts {
        let value = value.map(i64::to_be_bytes);
        let value = value.as_ref().map(<[u8; 8]>::as_slice);
        batch.append(time, Some(key.as_bytes()), value, &Headers::default()).unwrap();
    }
    let fetched = batch.build().unwrap();
    harness.task.restore(&changelog, &fetched, 0, 5).unwrap();
    let store = harness.task.store::<Store>("v").unwrap();
    assert_eq!(history(&store, "a"), "1@10-20 2@20-25 3@25-30");
    assert_eq!(harness.task.changelogs().unwrap()[0].start, Some(5));
    harness.task.restore(&changelog, &fetched, 5, 6).unwrap();
    assert_eq!(history(&store, "a"), "", "the segment of those times is gone");
    assert_eq!(history(&store, "b"), "7@15-9000 8@9000-", "in the segment of the time at which a version ended");
    harness.task.complete_restoration(at(0)).unwrap();
    assert_eq!(put(&store, "b", Some(9), 7_999), VersionedPut::Expired);
}

fn survives(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let config = StreamsConfig::new("app").with("state.dir", folder.path().display()).unwrap();
    let open = || TopologyTestDriver::with_backend(&topology(10_000), config.clone(), 0, backend.clone()).unwrap();
    let driver = open();
    let store = driver.store::<Store>("v").unwrap();
    for (value, time) in [(1, 1_000), (2, 5_000), (3, 9_000), (4, 12_000)] {
        assert_eq!(put(&store, "a", Some(value), time), VersionedPut::Latest);
    }
    assert_eq!(put(&store, "a", None, 6_000), VersionedPut::ValidUntil(9_000));
    drop(store);
    driver.close().unwrap();
    let driver = open();
    let store = driver.store::<Store>("v").unwrap();
    assert_eq!(put(&store, "a", Some(0), 1_999), VersionedPut::Expired, "the time that had come is remembered");
    assert_eq!(history(&store, "a"), "1@1000-5000 2@5000-6000 3@9000-12000 4@12000-");
    assert_eq!(put(&store, "b", Some(0), 40_000), VersionedPut::Latest);
    assert_eq!(history(&store, "a"), "4@12000-");
    drop(store);
    driver.close().unwrap();
    let driver = open();
    let store = driver.store::<Store>("v").unwrap();
    assert_eq!(history(&store, "a"), "4@12000-");
    let found = store.get_as_of(&"a".to_owned(), 11_999).unwrap();
    assert_eq!(found, None);
}

#[test]
fn versions_survive_a_restart_on_disk() {
    let files = std::sync::Arc::new(storage::files::RealFiles);
    survives(Backend::Files { files, sync_writes: false });
}

#[cfg(feature = "rocksdb")]
#[test]
fn versions_survive_a_restart_in_rocksdb() {
    use storage::state::{BudgetOptions, StateBudget};
    survives(Backend::RocksDb(StateBudget::new(BudgetOptions::default())));
}
