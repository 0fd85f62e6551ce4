//! The driver: one task that holds all sub-topologies, one partition per topic, a clock that moves when told to.
//!
//! After every record the driver punctuates on stream time, commits (caches are flushed, so no two updates coalesce) and
//! pipes what was written to internal topics back in, as Kafka Streams' `TopologyTestDriver` does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use base::metrics::Metrics;
use base::{Clock, Now, Offset, SystemClock, Timestamp, TopicPartition};
use protocol::record::{BatchBuilder, BuilderOptions, Compression, Headers};
use storage::state::Backend;

use crate::collector::{Collector, TopicHandle};
use crate::config::StreamsConfig;
use crate::error::{ErrorKind, StreamsError};
use crate::processor::handlers::LogAndContinue;
use crate::serde::{DefaultSerde, Serde};
use crate::store::{GlobalKeyValueStore, GlobalStores, KeyValueStore, SessionStore, StateStore, ThreadCache};
use crate::store::{
    SessionStoreWithHeaders, TimestampedKeyValueStore, TimestampedKeyValueStoreWithHeaders, TimestampedWindowStore,
    TimestampedWindowStoreWithHeaders, WindowStore,
};
use crate::task::{GlobalTask, Task, TaskId, TaskSeams};
use crate::test_driver::collector::{MemoryCollector, Produced};
use crate::test_driver::{ProducedRecord, TestInputTopic, TestOutputTopic};
use crate::topology::{BuiltTopology, SubTopology, Topology};

/// Runs a topology in memory for tests.
///
/// ```
/// use streams_core::{SinkOptions, SourceOptions, StreamsConfig, Topology, TopologyTestDriver};
///
/// let mut topology = Topology::new();
/// topology
///     .add_source("source", SourceOptions::<String, i64>::default(), ["in"])?
///     .add_sink("sink", SinkOptions::<String, i64>::default(), "out", &["source"])?;
///
/// let mut driver = TopologyTestDriver::new(&topology, StreamsConfig::new("test"))?;
/// let input = driver.input_topic::<String, i64>("in");
/// let output = driver.output_topic::<String, i64>("out");
/// input.pipe_at("a".to_owned(), 7, 1_000)?;
/// assert_eq!(output.read_key_value()?, (Some("a".to_owned()), Some(7)));
/// assert!(output.is_empty());
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
pub struct TopologyTestDriver {
    core: Rc<RefCell<Core>>,
}

pub(crate) struct Core {
    task: Option<Task>,
    globals: Vec<GlobalTask>,
    global_stores: GlobalStores,
    collector: Rc<RefCell<MemoryCollector>>,
    /// By the collector's handle of the topic.
    topics: Vec<Topic>,
    metrics: Metrics,
    now: Now,
    /// The sub-topology, if it reads topics by pattern.
    patterns: Option<SubTopology>,
    /// Stores that no processor is connected to.
    unconnected: Vec<String>,
}

/// What the driver knows of a topic.
struct Topic {
    partition: TopicPartition,
    /// Who reads it, once that was asked.
    readers: Option<Readers>,
    /// Offset of the next record that is read from it.
    next_offset: Offset,
    output: VecDeque<Produced>,
    was_written: bool,
}

#[derive(Clone, Copy)]
struct Readers {
    task: bool,
    /// Index of a global task.
    global: Option<usize>,
}

/// Stores are written once so much waits in memory.
const WRITE_AT_BYTES: usize = 8 << 20;

impl TopologyTestDriver {
    /// A driver whose wall clock stands at the present time.
    ///
    /// # Errors
    /// The topology is incomplete, or a processor's `init` failed.
    pub fn new(topology: &Topology, config: StreamsConfig) -> Result<Self, StreamsError> {
        Self::starting_at(topology, config, SystemClock::new().wall_ms())
    }

    /// A driver whose wall clock stands at `wall_ms`. Stores live in memory.
    ///
    /// # Errors
    /// As [`TopologyTestDriver::new`].
    pub fn starting_at(topology: &Topology, config: StreamsConfig, wall_ms: Timestamp) -> Result<Self, StreamsError> {
        Self::with_backend(topology, config, wall_ms, Backend::MemoryAsDisk)
    }

    /// As [`TopologyTestDriver::starting_at`], with persistent stores in `backend`, below `state.dir`.
    ///
    /// # Errors
    /// As [`TopologyTestDriver::new`].
    pub fn with_backend(
        topology: &Topology,
        config: StreamsConfig,
        wall_ms: Timestamp,
        backend: Backend,
    ) -> Result<Self, StreamsError> {
        let built = BuiltTopology::merged(topology, &config)?;
        let now = Now { wall_ms, ticks_ms: 0 };
        let collector = Rc::new(RefCell::new(MemoryCollector::new(wall_ms)));
        let metrics = Metrics::default();
        let global_stores = GlobalStores::default();
        let seams = TaskSeams {
            collector: Rc::<RefCell<MemoryCollector>>::clone(&collector) as _,
            cache: ThreadCache::new(config.cache_max_bytes()),
            backend,
            state_directory: config.state_dir().join(config.application_id()),
            metrics: metrics.clone(),
            globals: global_stores.clone(),
        };
        let mut core = Core {
            task: None,
            globals: Vec::new(),
            global_stores,
            collector,
            topics: Vec::new(),
            metrics,
            now,
            patterns: None,
            unconnected: topology.unconnected_stores(),
        };
        // What cannot be read from a global store's topic is skipped here, whatever the handler, as Kafka Streams' driver does.
        let lenient = config.with_deserialization_handler(LogAndContinue);
        core.open(&built, &BuiltTopology::merged(topology, &lenient)?, &seams)?;
        Ok(Self { core: Rc::new(RefCell::new(core)) })
    }

    /// The input topic `topic`, with the default serdes of its types.
    pub fn input_topic<K: DefaultSerde, V: DefaultSerde>(&self, topic: &str) -> TestInputTopic<K, V> {
        self.input_topic_with(topic, K::default_serde(), V::default_serde())
    }

    /// The input topic `topic`. Records without a time of their own get the wall clock's at this call.
    pub fn input_topic_with<K: 'static, V: 'static>(
        &self,
        topic: &str,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> TestInputTopic<K, V> {
        let time = self.core.borrow().now.wall_ms;
        TestInputTopic::new(Rc::clone(&self.core), topic, key.into_ref(), value.into_ref(), time)
    }

    /// The output topic `topic`, with the default serdes of its types. Internal topics can be read too, by full name.
    pub fn output_topic<K: DefaultSerde, V: DefaultSerde>(&self, topic: &str) -> TestOutputTopic<K, V> {
        self.output_topic_with(topic, K::default_serde(), V::default_serde())
    }

    /// The output topic `topic`.
    pub fn output_topic_with<K: 'static, V: 'static>(
        &self,
        topic: &str,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> TestOutputTopic<K, V> {
        TestOutputTopic::new(Rc::clone(&self.core), topic, key.into_ref(), value.into_ref())
    }

    /// Moves the wall clock: runs the wall-clock punctuations that are due once, commits, and processes what came of it.
    ///
    /// # Errors
    /// What a punctuator or processor failed with.
    pub fn advance_wall_clock(&mut self, ms: i64) -> Result<(), StreamsError> {
        self.core.borrow_mut().advance_wall_clock(ms)
    }

    /// The wall clock.
    pub fn wall_clock_time(&self) -> Timestamp {
        self.core.borrow().now.wall_ms
    }

    /// Names of all topics written so far, internal ones included, sorted.
    pub fn produced_topic_names(&self) -> Vec<String> {
        let core = self.core.borrow();
        let written = core.topics.iter().filter(|topic| topic.was_written);
        let mut names: Vec<String> = written.map(|topic| topic.partition.topic.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// The store called `name`, by type; `None` if there is none of that type.
    pub fn store<S: StateStore>(&self, name: &str) -> Option<Rc<S>> {
        let core = self.core.borrow();
        let in_task = core.task.as_ref().and_then(|task| task.store(name));
        in_task.or_else(|| {
            let mut stores = core.globals.iter().flat_map(GlobalTask::stores);
            Rc::clone(stores.find(|store| store.name() == name)?).into_any().downcast().ok()
        })
    }

    /// The key-value store called `name`.
    pub fn key_value_store<K: 'static, V: Clone + 'static>(&self, name: &str) -> Option<Rc<KeyValueStore<K, V>>> {
        self.store(name)
    }

    /// The timestamped key-value store called `name`.
    pub fn timestamped_key_value_store<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Option<Rc<TimestampedKeyValueStore<K, V>>> {
        self.store(name)
    }

    /// The window store called `name`.
    pub fn window_store<K: 'static, V: Clone + 'static>(&self, name: &str) -> Option<Rc<WindowStore<K, V>>> {
        self.store(name)
    }

    /// The timestamped window store called `name`.
    pub fn timestamped_window_store<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Option<Rc<TimestampedWindowStore<K, V>>> {
        self.store(name)
    }

    /// The session store called `name`.
    pub fn session_store<K: 'static, V: Clone + 'static>(&self, name: &str) -> Option<Rc<SessionStore<K, V>>> {
        self.store(name)
    }

    /// The timestamped key-value store with headers called `name`.
    pub fn timestamped_key_value_store_with_headers<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Option<Rc<TimestampedKeyValueStoreWithHeaders<K, V>>> {
        self.store(name)
    }

    /// The timestamped window store with headers called `name`.
    pub fn timestamped_window_store_with_headers<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Option<Rc<TimestampedWindowStoreWithHeaders<K, V>>> {
        self.store(name)
    }

    /// The session store with headers called `name`.
    pub fn session_store_with_headers<K: 'static, A: Clone + 'static>(
        &self,
        name: &str,
    ) -> Option<Rc<SessionStoreWithHeaders<K, A>>> {
        self.store(name)
    }

    /// The global store called `name`.
    pub fn global_store<K: 'static, V: 'static>(&self, name: &str) -> Option<GlobalKeyValueStore<K, V>> {
        self.core.borrow().global_stores.key_value(name).ok()
    }

    /// Names of all stores, also of those that no processor is connected to: they are never made.
    pub fn store_names(&self) -> Vec<String> {
        let core = self.core.borrow();
        let stores = core.task.iter().flat_map(Task::stores).chain(core.globals.iter().flat_map(GlobalTask::stores));
        stores.map(|store| store.name().to_owned()).chain(core.unconnected.iter().cloned()).collect()
    }

    /// Everything that was sent to any topic, sinks, repartition topics and changelogs, and not read yet, in the order in which it was
    /// sent. Takes it: output topics do not have it any more.
    ///
    /// ```
    /// # use streams_core::{SinkOptions, SourceOptions, StreamsConfig, Topology, TopologyTestDriver};
    /// # let mut topology = Topology::new();
    /// # topology.add_source("source", SourceOptions::<String, i64>::default(), ["in"])?;
    /// # topology.add_sink("sink", SinkOptions::<String, i64>::default(), "copies", &["source"])?;
    /// # let driver = TopologyTestDriver::new(&topology, StreamsConfig::new("test"))?;
    /// driver.input_topic::<String, i64>("in").pipe_at("a".to_owned(), 1, 7)?;
    /// let produced = driver.take_produced();
    /// assert_eq!((produced[0].topic.as_str(), produced[0].timestamp), ("copies", Some(7)));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn take_produced(&self) -> Vec<ProducedRecord> {
        self.core.borrow_mut().take_all()
    }

    /// The metrics of the topology.
    pub fn metrics(&self) -> Metrics {
        self.core.borrow().metrics.clone()
    }

    /// Records dropped so far, over all reasons.
    pub fn dropped_records(&self) -> u64 {
        self.core.borrow().metrics.total("stream-task-metrics", "dropped-records-total")
    }

    /// Commits and closes processors and stores. Dropping the driver closes it as well, without telling of errors.
    ///
    /// # Errors
    /// What committing or closing failed with.
    pub fn close(self) -> Result<(), StreamsError> {
        self.core.borrow_mut().close()
    }
}

impl Core {
    fn open(
        &mut self,
        built: &Arc<BuiltTopology>,
        lenient: &Arc<BuiltTopology>,
        seams: &TaskSeams,
    ) -> Result<(), StreamsError> {
        for sub in built.subtopologies() {
            let partitions: Vec<TopicPartition> =
                sub.source_topics.iter().map(|topic| TopicPartition::new(topic.as_str(), 0)).collect();
            if sub.is_global {
                self.globals.push(GlobalTask::open(lenient, sub.id, partitions, seams.clone(), self.now)?);
            }
        }
        let Some(sub) = built.subtopology(0).filter(|sub| !sub.is_global && !sub.nodes.is_empty()) else {
            return Ok(());
        };
        let partitions = sub.source_topics.iter().map(|topic| TopicPartition::new(topic.as_str(), 0)).collect();
        let mut task = Task::new(built, TaskId::new(0, 0), partitions, seams.clone())?;
        task.initialize()?;
        task.complete_restoration(self.now)?;
        for partition in task.input_partitions().to_vec() {
            task.set_lag(&partition, 0)?;
        }
        self.task = Some(task);
        self.patterns = Some(sub.clone()).filter(|sub| !sub.source_patterns.is_empty());
        // What `init` sent.
        self.commit()?;
        self.work()
    }

    pub(crate) fn pipe(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
        headers: &Headers,
    ) -> Result<(), StreamsError> {
        let handle = self.handle(topic);
        if !self.enqueue(handle, key, value, timestamp, headers)? {
            return Err(StreamsError::new(ErrorKind::InvalidArgument, format!("Unknown topic: {topic}")));
        }
        self.work()
    }

    /// The handle of a topic, which is known from then on.
    fn handle(&mut self, topic: &str) -> TopicHandle {
        let handle = self.collector.borrow_mut().topic(topic);
        self.topic_of(handle);
        handle
    }

    /// What is known of the topic.
    fn topic_of(&mut self, handle: TopicHandle) -> &mut Topic {
        let index = handle.0 as usize;
        if index >= self.topics.len() {
            let collector = self.collector.borrow();
            let new = (self.topics.len()..=index).map(|index| Topic {
                partition: TopicPartition::new(collector.name(TopicHandle(index as u32)), 0),
                readers: None,
                next_offset: 0,
                output: VecDeque::new(),
                was_written: false,
            });
            self.topics.extend(new);
        }
        &mut self.topics[index]
    }

    /// Who reads the topic; a pattern may match it only now.
    fn readers(&mut self, handle: TopicHandle) -> Result<Readers, StreamsError> {
        let topic = self.topic_of(handle);
        if let Some(readers) = topic.readers {
            return Ok(readers);
        }
        let partition = topic.partition.clone();
        if let Some(task) = &mut self.task
            && !task.input_partitions().contains(&partition)
            && self.patterns.as_ref().is_some_and(|sub| sub.matches(&partition.topic))
        {
            task.add_input(partition.clone())?;
            task.set_lag(&partition, 0)?;
        }
        let readers = Readers {
            task: self.task.as_ref().is_some_and(|task| task.input_partitions().contains(&partition)),
            global: self.globals.iter().position(|global| global.partitions().contains(&partition)),
        };
        self.topic_of(handle).readers = Some(readers);
        Ok(readers)
    }

    /// Adds a record to the input; false if the topology does not read that topic.
    fn enqueue(
        &mut self,
        topic: TopicHandle,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
        headers: &Headers,
    ) -> Result<bool, StreamsError> {
        let Readers { task: in_task, global } = self.readers(topic)?;
        if !in_task && global.is_none() {
            return Ok(false);
        }
        let topic = self.topic_of(topic);
        let base_offset = topic.next_offset;
        topic.next_offset += 1;
        let partition = topic.partition.clone();
        let options = BuilderOptions { base_offset, ..BuilderOptions::default() };
        let mut batch = BatchBuilder::new(Compression::None, options);
        let not_built = |error| StreamsError::caused_by(ErrorKind::Serialization, error);
        batch.append(timestamp, key, value, headers).map_err(not_built)?;
        let batch = batch.build().map_err(not_built)?;
        if let Some(global) = global {
            self.globals[global].update(&partition, &batch, base_offset, self.now)?;
            self.globals[global].commit()?;
        }
        if in_task && let Some(task) = &mut self.task {
            task.add_records(&partition, &batch, base_offset, self.now)?;
        }
        Ok(true)
    }

    /// Processes until nothing is left that may be processed.
    fn work(&mut self) -> Result<(), StreamsError> {
        self.capture()?;
        loop {
            let Some(task) = &mut self.task else { return Ok(()) };
            // Changes of stores from outside, between two records, have the time 0.
            task.leave_record();
            if !task.is_processable(self.now) || task.process(1, self.now)? == 0 {
                return Ok(());
            }
            task.punctuate_stream_time()?;
            self.commit()?;
            self.capture()?;
        }
    }

    fn commit(&mut self) -> Result<(), StreamsError> {
        let Some(task) = &mut self.task else { return Ok(()) };
        task.prepare_commit()?;
        task.post_commit_deferred()?;
        // There is a commit after every record: stores are written when they have something to write, and on close.
        if task.pending_bytes() < WRITE_AT_BYTES {
            return Ok(());
        }
        task.write_stores()
    }

    /// Moves what was sent to the output queues, and back into the input where the topology reads it.
    fn capture(&mut self) -> Result<(), StreamsError> {
        loop {
            let Some(produced) = self.collector.borrow_mut().sent.pop_front() else { return Ok(()) };
            let Produced { topic, timestamp, .. } = produced;
            self.enqueue(topic, produced.key(), produced.value(), timestamp, &produced.headers)?;
            let topic = self.topic_of(topic);
            topic.was_written = true;
            topic.output.push_back(produced);
        }
    }

    fn advance_wall_clock(&mut self, ms: i64) -> Result<(), StreamsError> {
        self.now = Now { wall_ms: self.now.wall_ms + ms, ticks_ms: self.now.ticks_ms + ms };
        self.collector.borrow_mut().wall_clock = self.now.wall_ms;
        if let Some(task) = &mut self.task {
            task.punctuate_wall_clock(self.now)?;
        }
        self.commit()?;
        self.work()
    }

    pub(crate) fn output_len(&self, topic: &str) -> usize {
        self.known(topic).map_or(0, |index| self.topics[index].output.len())
    }

    fn known(&self, topic: &str) -> Option<usize> {
        self.topics.iter().position(|known| &*known.partition.topic == topic)
    }

    fn take_all(&mut self) -> Vec<ProducedRecord> {
        let mut all: Vec<Produced> = self.topics.iter_mut().flat_map(|topic| topic.output.drain(..)).collect();
        all.sort_unstable_by_key(|produced| produced.order);
        let collector = self.collector.borrow();
        let record = |produced: Produced| ProducedRecord {
            topic: collector.name(produced.topic).to_owned(),
            partition: produced.partition,
            key: produced.key().map(<[u8]>::to_vec),
            value: produced.value().map(<[u8]>::to_vec),
            timestamp: Some(produced.timestamp).filter(|_| !produced.is_stamped),
            headers: produced.headers,
        };
        all.into_iter().map(record).collect()
    }

    pub(crate) fn take_output(&mut self, topic: &str) -> Option<Produced> {
        let index = self.known(topic)?;
        self.topics[index].output.pop_front()
    }

    fn close(&mut self) -> Result<(), StreamsError> {
        let mut result = Ok(());
        if let Some(mut task) = self.task.take() {
            result = task.suspend();
            if result.is_ok() {
                result = task.prepare_commit().and_then(|_| task.post_commit()).and_then(|()| task.close_clean());
            }
            task.close_dirty();
        }
        for global in self.globals.drain(..) {
            result = result.and(global.close());
        }
        result
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Told by `close` to whoever wants to know.
        let _ = self.close();
    }
}
