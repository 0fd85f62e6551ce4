//! What one record costs in a task: through a chain of five nodes, and counted in a store, in memory and in RocksDB, with and without
//! cache. From the fetched batch to the collector, commits included; the collector only counts.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use base::{Now, TopicPartition};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::record::{BatchBuilder, BuilderOptions, Compression, Headers};
use storage::state::Backend;
use streams_core::collector::OutputRecord;
use streams_core::store::{GlobalStores, Stores, ThreadCache};
use streams_core::task::{Task, TaskSeams};
use streams_core::topology::BuiltTopology;
use streams_core::{
    BoxError, Change, Collector, Processor, ProcessorContext, Record, SinkOptions, SourceOptions, StreamsConfig,
    StreamsError, TaskId, TimestampedKeyValueStore, TopicHandle, Topology, ValueAndTimestamp,
};

const RECORDS: i64 = 10_000;
const KEYS: i64 = 1_000;

/// Takes everything, keeps nothing.
#[derive(Default)]
struct Counting {
    topics: Vec<String>,
    sent: i64,
}

impl Collector for Counting {
    fn topic(&mut self, topic: &str) -> TopicHandle {
        self.topics.push(topic.to_owned());
        TopicHandle(self.topics.len() as u32 - 1)
    }

    fn partition_count(&mut self, _: TopicHandle) -> Option<i32> {
        Some(1)
    }

    fn send(&mut self, _: OutputRecord<'_>) -> Result<(), StreamsError> {
        self.sent += 1;
        Ok(())
    }

    fn acked_offset(&self, _: TopicHandle, _: i32) -> Option<i64> {
        Some(self.sent)
    }
}

struct Add(i64);

impl Processor<i64, i64, i64, i64> for Add {
    fn process(&mut self, record: Record<i64, i64>, ctx: &mut ProcessorContext<i64, i64>) -> Result<(), BoxError> {
        ctx.forward(record.map_value(|value| value.map(|value| value + self.0)))
    }
}

/// Source, three processors, sink.
fn chain() -> Topology {
    let mut topology = Topology::new();
    topology.add_source("source", SourceOptions::<i64, i64>::default(), ["in"]).expect("source");
    for (name, parent, add) in [("a", "source", 1), ("b", "a", 2), ("c", "b", 3)] {
        topology.add_processor(name, move || Add(add), &[parent]).expect("processor");
    }
    topology.add_sink("sink", SinkOptions::<i64, i64>::default(), "out", &["c"]).expect("sink");
    topology
}

#[derive(Default)]
struct Count {
    store: Option<Rc<TimestampedKeyValueStore<i64, i64>>>,
    forwards_on_flush: bool,
}

impl Processor<i64, i64, i64, Change<i64>> for Count {
    fn init(&mut self, ctx: &mut ProcessorContext<i64, Change<i64>>) -> Result<(), BoxError> {
        let store = ctx.timestamped_key_value_store("counts")?;
        self.forwards_on_flush = ctx.forward_on_flush(&store, false);
        self.store = Some(store);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<i64, i64>,
        ctx: &mut ProcessorContext<i64, Change<i64>>,
    ) -> Result<(), BoxError> {
        let (Some(key), Some(store)) = (record.key, &self.store) else { return Ok(()) };
        let count = store.get(&key)?.map_or(0, |found| found.value) + 1;
        store.put(&key, Some(ValueAndTimestamp::new(count, record.timestamp)))?;
        if self.forwards_on_flush {
            return Ok(());
        }
        ctx.forward(record.with_value(Some(Change::new(Some(count), None))))
    }
}

struct Emit;

impl Processor<i64, Change<i64>, i64, i64> for Emit {
    fn process(
        &mut self,
        record: Record<i64, Change<i64>>,
        ctx: &mut ProcessorContext<i64, i64>,
    ) -> Result<(), BoxError> {
        ctx.forward(record.map_value(|change| change.and_then(|change| change.new)))
    }
}

fn counting() -> Topology {
    let mut topology = Topology::new();
    topology.add_source("source", SourceOptions::<i64, i64>::default(), ["in"]).expect("source");
    topology.add_processor("count", Count::default, &["source"]).expect("processor");
    let serde = streams_core::serde::I64Serde;
    let store = Stores::timestamped_key_value("counts", serde, serde).with_caching(true);
    topology.add_state_store(store, &["count"]).expect("store");
    topology.add_processor("emit", || Emit, &["count"]).expect("processor");
    topology.add_sink("sink", SinkOptions::<i64, i64>::default(), "out", &["emit"]).expect("sink");
    topology
}

struct Harness {
    task: Task,
    next_offset: i64,
}

const NOW: Now = Now { wall_ms: 0, ticks_ms: 0 };

impl Harness {
    fn new(topology: &Topology, cache_bytes: usize, backend: Backend, directory: &Path) -> Self {
        let config = StreamsConfig::new("bench").with("statestore.cache.max.bytes", cache_bytes).expect("config");
        let built = BuiltTopology::new(topology, &config).expect("topology");
        let seams = TaskSeams {
            collector: Rc::new(RefCell::new(Counting::default())),
            cache: ThreadCache::new(cache_bytes),
            backend,
            state_directory: directory.to_owned(),
            metrics: Default::default(),
            globals: GlobalStores::default(),
        };
        let mut task = Task::new(&built, TaskId::new(0, 0), vec![TopicPartition::new("in", 0)], seams).expect("task");
        task.initialize().expect("stores");
        task.complete_restoration(NOW).expect("processors");
        Self { task, next_offset: 0 }
    }

    /// The next fetched batch.
    fn batch(&self) -> Bytes {
        let options = BuilderOptions { base_offset: self.next_offset, ..BuilderOptions::default() };
        let mut batch = BatchBuilder::new(Compression::None, options);
        for record in 0..RECORDS {
            let key = (record * 7 % KEYS).to_be_bytes();
            batch.append(record, Some(&key), Some(&record.to_be_bytes()), &Headers::default()).expect("append");
        }
        batch.build().expect("batch")
    }

    /// Processes one batch and commits.
    fn run(&mut self, batch: &Bytes) {
        self.task.add_records(&TopicPartition::new("in", 0), batch, self.next_offset, NOW).expect("queued");
        assert_eq!(self.task.process(RECORDS as usize, NOW).expect("processed"), RECORDS as usize);
        self.task.prepare_commit().expect("flushed");
        self.task.post_commit().expect("committed");
        self.next_offset += RECORDS;
    }
}

fn measure(criterion: &mut Criterion, name: &str, mut harness: Harness) {
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let batch = harness.batch();
                #[allow(clippy::disallowed_methods, reason = "criterion measures by the wall clock")]
                let start = std::time::Instant::now();
                harness.run(&batch);
                spent += start.elapsed();
            }
            spent
        });
    });
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    measure(criterion, "five-node chain", Harness::new(&chain(), 0, Backend::Memory, directory.path()));
    let backends = [
        ("memory", Backend::Memory),
        #[cfg(feature = "rocksdb")]
        ("rocksdb", Backend::RocksDb(storage::state::StateBudget::default())),
    ];
    for (name, backend) in backends {
        for (cache, cache_bytes) in [("cached", 10_000_000), ("uncached", 0)] {
            let directory = directory.path().join(format!("{name}-{cache}"));
            let harness = Harness::new(&counting(), cache_bytes, backend.clone(), &directory);
            measure(criterion, &format!("count, {name}, {cache}"), harness);
        }
    }
}

criterion_group!(task, benches);
criterion_main!(task);
