//! Tasks driven by hand, as a stream thread does: choice of partition, idling, commit, restore, caching between commits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use base::{Now, TopicPartition};
use bytes::Bytes;
use protocol::record::{BatchBuilder, BuilderOptions, Compression, Headers};
use storage::state::Backend;
use streams_core::collector::{Collector, OutputRecord, TopicHandle};
use streams_core::config::StreamsConfig;
use streams_core::processor::ProcessorContext;
use streams_core::serde::{I64Serde, StringSerde};
use streams_core::store::{GlobalStores, Stores, ThreadCache};
use streams_core::task::{CommitMetadata, Task, TaskSeams, TaskState};
use streams_core::topology::BuiltTopology;
use streams_core::{ErrorKind, Record, SinkOptions, SourceOptions, StreamsError, TaskId, Topology, ValueAndTimestamp};

use crate::driver::counting;
use crate::support::Each;

type Sent = (String, Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// Keeps what is sent; acknowledges at once.
#[derive(Default)]
pub struct Kept {
    topics: Vec<String>,
    next: BTreeMap<u32, i64>,
    pub sent: Vec<Sent>,
}

impl Collector for Kept {
    fn topic(&mut self, topic: &str) -> TopicHandle {
        let known = self.topics.iter().position(|name| name == topic);
        TopicHandle(known.unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        }) as u32)
    }

    fn partition_count(&mut self, _: TopicHandle) -> Option<i32> {
        Some(4)
    }

    fn send(&mut self, record: OutputRecord<'_>) -> Result<(), StreamsError> {
        *self.next.entry(record.topic.0).or_insert(100) += 1;
        let topic = self.topics[record.topic.0 as usize].clone();
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        self.sent.push((topic, key, value, record.timestamp.unwrap()));
        Ok(())
    }

    fn acked_offset(&self, topic: TopicHandle, _: i32) -> Option<i64> {
        self.next.get(&topic.0).copied()
    }
}

pub fn at(wall_ms: i64) -> Now {
    Now { wall_ms, ticks_ms: wall_ms }
}

pub struct Harness {
    pub task: Task,
    pub collector: Rc<RefCell<Kept>>,
    pub cache: Rc<ThreadCache>,
}

impl Harness {
    pub fn new(topology: &Topology, config: StreamsConfig, topics: &[&str]) -> Self {
        let mut harness = Self::restoring(topology, config, topics);
        harness.task.complete_restoration(at(0)).unwrap();
        harness
    }

    pub fn restoring(topology: &Topology, config: StreamsConfig, topics: &[&str]) -> Self {
        let collector = Rc::new(RefCell::new(Kept::default()));
        let cache = ThreadCache::new(config.cache_max_bytes());
        let built = BuiltTopology::new(topology, &config).unwrap();
        let seams = TaskSeams {
            collector: Rc::<RefCell<Kept>>::clone(&collector) as _,
            cache: Rc::clone(&cache),
            backend: Backend::Memory,
            state_directory: "nowhere".into(),
            metrics: Default::default(),
            globals: GlobalStores::default(),
        };
        let partitions = topics.iter().map(|topic| TopicPartition::new(*topic, 0)).collect();
        let mut task = Task::new(&built, TaskId::new(0, 0), partitions, seams).unwrap();
        task.initialize().unwrap();
        Self { task, collector, cache }
    }

    pub fn feed(
        &mut self,
        topic: &str,
        base_offset: i64,
        records: &[(&str, &str, i64)],
    ) -> Result<usize, StreamsError> {
        let batch = batch(base_offset, records);
        self.task.add_records(&TopicPartition::new(topic, 0), &batch, base_offset, at(0))
    }

    /// `topic:key=value@time`, values as numbers.
    pub fn take_sent(&self) -> String {
        let sent = std::mem::take(&mut self.collector.borrow_mut().sent);
        let show = |(topic, key, value, time): Sent| {
            let key = String::from_utf8(key.unwrap_or_default()).unwrap();
            let value = value.map_or_else(
                || "null".to_owned(),
                |value| match value.try_into() {
                    Ok(bytes) => i64::from_be_bytes(bytes).to_string(),
                    Err(text) => String::from_utf8(text).unwrap(),
                },
            );
            format!("{topic}:{key}={value}@{time}")
        };
        sent.into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    pub fn commit(&mut self) -> Vec<(String, i64)> {
        let offsets = self.task.prepare_commit().unwrap();
        self.task.post_commit().unwrap();
        offsets.into_iter().map(|commit| (commit.partition.to_string(), commit.offset)).collect()
    }
}

pub fn batch(base_offset: i64, records: &[(&str, &str, i64)]) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None, BuilderOptions { base_offset, ..BuilderOptions::default() });
    for (key, value, time) in records {
        batch.append(*time, Some(key.as_bytes()), Some(value.as_bytes()), &Headers::default()).unwrap();
    }
    batch.build().unwrap()
}

/// Writes what it gets to `out`, from each of `topics`.
fn passing(topics: &[&str]) -> Topology {
    let mut topology = Topology::new();
    for topic in topics {
        topology.add_source(topic, SourceOptions::<String, String>::default(), [*topic]).unwrap();
    }
    topology.add_sink("out", SinkOptions::<String, String>::default(), "out", topics).unwrap();
    topology
}

#[test]
fn the_smallest_timestamp_comes_first_and_ties_as_in_java() {
    let mut harness = Harness::new(&passing(&["a", "b", "c"]), StreamsConfig::new("app"), &["a", "b", "c"]);
    harness.feed("a", 0, &[("a", "1", 5), ("a", "2", 1), ("a", "3", 9)]).unwrap();
    assert!(!harness.task.is_processable(at(0)), "the lag of b and c is unknown");
    harness.feed("b", 0, &[("b", "1", 5), ("b", "2", 7)]).unwrap();
    harness.feed("c", 0, &[("c", "1", 5)]).unwrap();
    // Offset order within a partition, whatever the timestamps: a's 1 comes after its 5.
    assert_eq!(harness.task.process(3, at(0)).unwrap(), 3);
    assert_eq!(harness.take_sent(), "out:a=1@5 out:a=2@1 out:c=1@5");
    assert_eq!(harness.task.process(9, at(0)).unwrap(), 0, "c is empty, its lag unknown");
    harness.task.set_lag(&TopicPartition::new("c", 0), 0).unwrap();
    // b runs empty after its 7: then it is waited for in turn.
    assert_eq!(harness.task.process(9, at(0)).unwrap(), 2);
    assert_eq!(harness.take_sent(), "out:b=1@5 out:b=2@7");
    harness.task.set_lag(&TopicPartition::new("b", 0), 3).unwrap();
    assert_eq!(harness.task.process(9, at(0)).unwrap(), 0, "b lags by 3");
    harness.task.set_lag(&TopicPartition::new("b", 0), 0).unwrap();
    assert_eq!(harness.task.process(9, at(0)).unwrap(), 1);
    assert_eq!(harness.task.stream_time(), 9);
}

#[test]
fn an_empty_caught_up_partition_is_waited_for_as_long_as_configured() {
    let config = |idle: i64| StreamsConfig::new("app").with("max.task.idle.ms", idle).unwrap();
    let mut harness = Harness::new(&passing(&["a", "b"]), config(100), &["a", "b"]);
    harness.feed("a", 0, &[("a", "1", 5)]).unwrap();
    harness.task.set_lag(&TopicPartition::new("b", 0), 0).unwrap();
    assert!(!harness.task.is_processable(at(1_000)));
    assert_eq!(harness.task.idle_deadline(), Some(1_100));
    assert!(!harness.task.is_processable(at(1_099)));
    assert!(harness.task.is_processable(at(1_100)));

    let mut harness = Harness::new(&passing(&["a", "b"]), config(-1), &["a", "b"]);
    harness.feed("a", 0, &[("a", "1", 5)]).unwrap();
    assert!(harness.task.is_processable(at(0)), "-1 never waits");
}

#[test]
fn the_committed_offset_is_the_next_record_queued() {
    let mut harness = Harness::new(&passing(&["a", "b"]), StreamsConfig::new("app"), &["a", "b"]);
    harness.task.set_lag(&TopicPartition::new("b", 0), 0).unwrap();
    assert!(!harness.task.commit_needed());
    // Offsets 40 and 41 were consumed before; the batch begins below what was asked for.
    let batch = batch(40, &[("a", "0", 1), ("a", "1", 2), ("a", "2", 3), ("a", "3", 4)]);
    let a = TopicPartition::new("a", 0);
    assert_eq!(harness.task.add_records(&a, &batch, 42, at(0)).unwrap(), 2);
    assert_eq!(harness.task.buffered(&a), 2);
    assert_eq!(harness.task.process(1, at(0)).unwrap(), 1);
    assert_eq!(harness.take_sent(), "out:a=2@3");
    assert!(harness.task.commit_needed());
    let commit = harness.task.prepare_commit().unwrap().remove(0);
    assert_eq!((commit.offset, CommitMetadata::decode(&commit.metadata).partition_time), (43, 3));
    harness.task.post_commit().unwrap();
    assert!(!harness.task.commit_needed());
    harness.task.process(1, at(0)).unwrap();
    assert_eq!(harness.commit(), [("a-0".to_owned(), 44)]);
    // A transaction marker moves the position only.
    harness.task.advance_position(&a, 46).unwrap();
    assert!(harness.task.commit_needed());
    assert_eq!(harness.commit(), [("a-0".to_owned(), 46)]);
}

#[test]
fn what_is_fetched_later_does_not_skip_what_still_waits() {
    let mut harness = Harness::new(&passing(&["a"]), StreamsConfig::new("app"), &["a"]);
    harness.feed("a", 0, &[("a", "0", 1), ("a", "1", 2), ("a", "2", 3)]).unwrap();
    harness.feed("a", 3, &[("a", "3", 4), ("a", "4", 5)]).unwrap();
    harness.feed("a", 5, &[("a", "5", 6)]).unwrap();
    assert_eq!(harness.task.process(9, at(0)).unwrap(), 6);
    assert_eq!(harness.take_sent(), "out:a=0@1 out:a=1@2 out:a=2@3 out:a=3@4 out:a=4@5 out:a=5@6");
}

#[test]
fn control_batches_are_passed_over() {
    let mut harness = Harness::new(&passing(&["a"]), StreamsConfig::new("app"), &["a"]);
    let marker = control_marker_at(2);
    let fetched = [batch(0, &[("a", "1", 1), ("a", "2", 2)]), marker].concat();
    harness.task.add_records(&TopicPartition::new("a", 0), &fetched.into(), 0, at(0)).unwrap();
    assert_eq!(harness.task.process(9, at(0)).unwrap(), 2);
    assert_eq!(harness.commit(), [("a-0".to_owned(), 3)]);
}

fn control_marker_at(offset: i64) -> Bytes {
    let options = BuilderOptions { base_offset: offset, control: true, ..BuilderOptions::default() };
    let mut batch = BatchBuilder::new(Compression::None, options);
    batch.append(0, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 0]), &Headers::default()).unwrap();
    batch.build().unwrap()
}

#[test]
fn stream_time_survives_a_restart() {
    let mut harness = Harness::restoring(&passing(&["a"]), StreamsConfig::new("app"), &["a"]);
    let metadata = CommitMetadata { partition_time: 77, processors: BTreeMap::from([("w".to_owned(), 5)]) };
    harness.task.set_committed_metadata(&[(TopicPartition::new("a", 0), metadata.clone())]);
    harness.task.complete_restoration(at(0)).unwrap();
    assert_eq!(harness.task.stream_time(), 77);
    harness.feed("a", 0, &[("a", "1", 5)]).unwrap();
    harness.task.process(1, at(0)).unwrap();
    let commit = harness.task.prepare_commit().unwrap().remove(0);
    assert_eq!(CommitMetadata::decode(&commit.metadata), metadata);
}

#[test]
fn states_change_only_as_the_diagram_says() {
    let mut harness = Harness::new(&passing(&["a"]), StreamsConfig::new("app"), &["a"]);
    assert_eq!(harness.task.state(), TaskState::Running);
    assert_eq!(harness.task.close_clean().unwrap_err().kind(), ErrorKind::IllegalState);
    harness.task.suspend().unwrap();
    harness.feed("a", 0, &[("a", "1", 5)]).unwrap();
    assert!(!harness.task.is_processable(at(0)));
    harness.task.close_clean().unwrap();
    assert_eq!(harness.task.state(), TaskState::Closed);
    harness.task.close_dirty();
    harness.task.revive().unwrap();
    harness.task.initialize().unwrap();
    harness.task.complete_restoration(at(0)).unwrap();
    assert_eq!(harness.feed("a", 0, &[("a", "1", 5)]).unwrap(), 1);
    assert_eq!(harness.task.process(1, at(0)).unwrap(), 1);
    harness.task.close_dirty();
    assert_eq!(harness.task.state(), TaskState::Closed);
}

#[test]
fn batches_that_arrive_while_others_wait_lose_no_record() {
    let mut harness = Harness::new(&passing(&["a"]), StreamsConfig::new("app"), &["a"]);
    harness.feed("a", 0, &[("k", "0", 1), ("k", "1", 2), ("k", "2", 3)]).unwrap();
    harness.feed("a", 3, &[("k", "3", 4), ("k", "4", 5)]).unwrap();
    // Asked for from 6 on: the batch begins before that.
    let fetched = batch(5, &[("k", "5", 6), ("k", "6", 7)]);
    assert_eq!(harness.task.add_records(&TopicPartition::new("a", 0), &fetched, 6, at(0)).unwrap(), 1);
    assert_eq!(harness.task.process(9, at(0)).unwrap(), 6);
    let sent = harness.take_sent();
    let values: Vec<&str> = sent.split(' ').map(|sent| &sent[sent.find('=').unwrap() + 1..]).collect();
    assert_eq!(values, ["0@1", "1@2", "2@3", "3@4", "4@5", "6@7"]);
}

fn counts(caching: bool, cache_bytes: usize) -> Harness {
    let store = Stores::timestamped_key_value("counts", StringSerde, I64Serde).with_caching(caching);
    let config = StreamsConfig::new("app").with("statestore.cache.max.bytes", cache_bytes).unwrap();
    Harness::new(&counting(store), config, &["words"])
}

#[test]
fn a_cache_coalesces_updates_until_the_commit() {
    let mut harness = counts(true, 10_000_000);
    harness.feed("words", 0, &[("a", "x", 1), ("b", "x", 2), ("a", "x", 3), ("a", "x", 2)]).unwrap();
    harness.task.process(9, at(0)).unwrap();
    assert_eq!(harness.take_sent(), "");
    assert!(harness.cache.used_bytes() > 0);
    harness.commit();
    // In the order of the last updates.
    assert_eq!(harness.take_sent(), "app-counts-changelog:b=1@2 counts:b=1@2 app-counts-changelog:a=3@3 counts:a=3@3");
    harness.commit();
    assert_eq!(harness.take_sent(), "", "nothing is dirty any more");
}

#[test]
fn without_cache_or_with_a_cache_of_0_bytes_every_update_is_forwarded_at_once() {
    for caching in [false, true] {
        let mut harness = counts(caching, 0);
        harness.feed("words", 0, &[("a", "x", 1), ("a", "x", 3)]).unwrap();
        harness.task.process(9, at(0)).unwrap();
        assert_eq!(
            harness.take_sent(),
            "app-counts-changelog:a=1@1 counts:a=1@1 app-counts-changelog:a=2@3 counts:a=2@3"
        );
    }
}

#[test]
fn evicting_a_dirty_entry_flushes_all_dirty_entries_the_evicted_one_first() {
    // Room for two entries of 1 + 16 + 128 bytes.
    let mut harness = counts(true, 2 * 145);
    harness.feed("words", 0, &[("a", "x", 1), ("b", "x", 2), ("a", "x", 3), ("c", "x", 4)]).unwrap();
    harness.task.process(3, at(0)).unwrap();
    assert_eq!(harness.take_sent(), "");
    harness.task.process(1, at(0)).unwrap();
    let sent = harness.take_sent();
    let forwarded: Vec<&str> = sent.split(' ').filter(|sent| sent.starts_with("counts:")).collect();
    assert_eq!(forwarded, ["counts:b=1@2", "counts:a=2@3", "counts:c=1@4"]);
    harness.commit();
    assert_eq!(harness.take_sent(), "");
}

/// Puts `value` (`-` deletes) into the cached store of texts and forwards changes as `new<old`.
fn texts() -> Topology {
    let mut topology = Topology::new();
    topology.add_source("words", SourceOptions::<String, String>::default(), ["words"]).unwrap();
    struct Put;
    impl streams_core::Processor<String, String, String, streams_core::Change<String>> for Put {
        fn init(
            &mut self,
            ctx: &mut ProcessorContext<String, streams_core::Change<String>>,
        ) -> Result<(), streams_core::BoxError> {
            let store = ctx.timestamped_key_value_store::<String, String>("texts")?;
            assert!(ctx.forward_on_flush(&store, true));
            Ok(())
        }
        fn process(
            &mut self,
            record: Record<String, String>,
            ctx: &mut ProcessorContext<String, streams_core::Change<String>>,
        ) -> Result<(), streams_core::BoxError> {
            let store = ctx.timestamped_key_value_store::<String, String>("texts")?;
            let value = record.value.filter(|value| value != "-");
            let value = value.map(|value| ValueAndTimestamp::new(value, record.timestamp));
            store.put(&record.key.unwrap(), value)?;
            Ok(())
        }
    }
    topology.add_processor("put", || Put, &["words"]).unwrap();
    let store = Stores::timestamped_key_value("texts", StringSerde, StringSerde).with_caching(true).without_logging();
    topology.add_state_store(store, &["put"]).unwrap();
    let show = || {
        Each(|record: Record<String, streams_core::Change<String>>, ctx: &mut ProcessorContext<String, String>| {
            let change = record.value.clone().unwrap();
            let text = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
            ctx.forward(record.with_value(Some(format!("{}<{}", text(change.new), text(change.old)))))
        })
    };
    topology.add_processor("show", show, &["put"]).unwrap();
    topology.add_sink("out", SinkOptions::<String, String>::default(), "out", &["show"]).unwrap();
    topology
}

#[test]
fn flushed_changes_carry_the_last_flushed_value_and_what_came_and_went_is_silent() {
    let mut harness = Harness::new(&texts(), StreamsConfig::new("app"), &["words"]);
    let mut offset = 0;
    let mut step = |records: &[(&str, &str, i64)]| {
        harness.feed("words", offset, records).unwrap();
        offset += records.len() as i64;
        harness.task.process(99, at(0)).unwrap();
        harness.commit();
        harness.take_sent()
    };
    assert_eq!(step(&[("a", "u1", 1), ("a", "u2", 2)]), "out:a=u2<null@2");
    assert_eq!(step(&[("a", "u3", 3), ("a", "u4", 4)]), "out:a=u4<u2@4");
    assert_eq!(step(&[("b", "v", 5), ("b", "-", 6)]), "", "b was inserted and deleted between two flushes");
    assert_eq!(step(&[("a", "-", 7)]), "out:a=null<u4@7");
    assert_eq!(step(&[("a", "-", 8)]), "", "nothing to delete");
    assert_eq!(step(&[("a", "u5", 9)]), "out:a=u5<null@9");
}

#[test]
fn stores_are_restored_from_their_changelogs() {
    let store = Stores::timestamped_key_value("counts", StringSerde, I64Serde).with_caching(true);
    let mut harness = Harness::restoring(&counting(store), StreamsConfig::new("app"), &["words"]);
    let changelogs = harness.task.changelogs().unwrap();
    assert_eq!(changelogs.len(), 1);
    let changelog = changelogs[0].partition.clone();
    assert_eq!((changelog.to_string().as_str(), changelogs[0].start), ("app-counts-changelog-0", None));
    let mut batch =
        BatchBuilder::new(Compression::Lz4, BuilderOptions { base_offset: 10, ..BuilderOptions::default() });
    for (key, value, time) in [("a", Some(3i64), 30), ("b", Some(1), 40), ("b", None, 50), ("c", Some(9), 60)] {
        let value = value.map(i64::to_be_bytes);
        let value = value.as_ref().map(<[u8; 8]>::as_slice);
        batch.append(time, Some(key.as_bytes()), value, &Headers::default()).unwrap();
    }
    let fetched = batch.build().unwrap();
    // The end of the restore lies before `c`.
    let restored = harness.task.restore(&changelog, &fetched, 10, 13).unwrap();
    assert_eq!((restored.records, restored.next_offset), (3, 13));
    assert_eq!(harness.task.changelogs().unwrap()[0].start, Some(13));
    harness.task.complete_restoration(at(0)).unwrap();
    harness.feed("words", 0, &[("a", "x", 1), ("b", "x", 1), ("c", "x", 1)]).unwrap();
    harness.task.process(9, at(0)).unwrap();
    harness.commit();
    let sent = harness.take_sent();
    let forwarded: Vec<&str> = sent.split(' ').filter(|sent| sent.starts_with("counts:")).collect();
    assert_eq!(forwarded, ["counts:a=4@30", "counts:b=1@1", "counts:c=1@1"]);
    // The position moves with the data: the offset of the last acknowledged changelog record.
    assert_eq!(harness.task.changelogs().unwrap()[0].start, Some(104));
}

#[test]
fn a_store_that_is_not_committed_stays_as_it_was() {
    let mut harness = counts(false, 0);
    harness.feed("words", 0, &[("a", "x", 1)]).unwrap();
    harness.task.process(9, at(0)).unwrap();
    assert!(harness.task.pending_bytes() > 0);
    harness.commit();
    assert_eq!(harness.task.pending_bytes(), 0);
}
