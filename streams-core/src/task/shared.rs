//! What the nodes and stores of one task share: time, the record context, schedules, the collector.
//!
//! Everything sits in cells: a task and all it holds live on one thread. The record context (source partition, offset,
//! timestamp, headers) is what changelog records and cache entries are stamped with.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use base::metrics::{Counter, Metrics};
use base::{Offset, Timestamp, TopicPartition};
use protocol::record::Headers;

use crate::collector::CollectorRef;
use crate::error::{ErrorKind, StreamsError};
use crate::processor::context::RecordMetadata;
use crate::processor::extractor::DefaultExtractor;
use crate::processor::handlers::{DeserializationHandler, LogAndFail, ProcessingHandler, ProductionHandler};
use crate::processor::punctuation::{PunctuationType, ScheduleId, Schedules};
use crate::processor::wrapper::ProcessorWrapper;
use crate::store::GlobalStores;
use crate::task::TaskId;
use crate::task::dead_letters::RawPlace;

/// The exception handlers of an application.
#[derive(Clone)]
pub struct Handlers {
    /// `deserialization.exception.handler`.
    pub deserialization: Arc<dyn DeserializationHandler>,
    /// `processing.exception.handler`.
    pub processing: Arc<dyn ProcessingHandler>,
    /// `production.exception.handler`.
    pub production: Arc<dyn ProductionHandler>,
}

impl Default for Handlers {
    fn default() -> Self {
        Self {
            deserialization: Arc::new(LogAndFail),
            processing: Arc::new(LogAndFail),
            production: Arc::new(LogAndFail),
        }
    }
}

/// Where a record came from and when: what the stores stamp their writes with.
#[derive(Clone, Debug)]
pub(crate) struct RecordContext {
    /// Index into the task's input partitions; [`NO_SOURCE`] in punctuators.
    pub(crate) source: u32,
    pub(crate) offset: Offset,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
}

/// The source index that stands for "no source record".
pub(crate) const NO_SOURCE: u32 = u32::MAX;

/// What does not change over a task's life.
pub(crate) struct TaskEnvironment {
    pub(crate) id: TaskId,
    pub(crate) application_id: Arc<str>,
    pub(crate) state_dir: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) collector: CollectorRef,
    pub(crate) handlers: Handlers,
    pub(crate) globals: GlobalStores,
    pub(crate) dead_letter_topic: Option<String>,
    pub(crate) processor_wrapper: Option<Arc<dyn ProcessorWrapper>>,
    /// Whether it keeps global stores.
    pub(crate) is_global: bool,
    pub(crate) default_extractor: DefaultExtractor,
}

/// Two buffers that nodes and stores serialise into.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Shared by all nodes and stores of one task.
pub(crate) struct TaskShared {
    environment: TaskEnvironment,
    dropped: Counter,
    stream_time: Cell<Timestamp>,
    wall_clock: Cell<Timestamp>,
    source: Cell<u32>,
    offset: Cell<Offset>,
    timestamp: Cell<Timestamp>,
    headers: RefCell<Headers>,
    partitions: RefCell<Vec<TopicPartition>>,
    schedules: RefCell<Schedules>,
    commit_requested: Cell<bool>,
    processor_metadata: RefCell<BTreeMap<String, i64>>,
    of_processors: RefCell<BTreeMap<String, Rc<dyn Any>>>,
    scratch: RefCell<Scratch>,
    /// Where the records being processed lie as they were read, by index of their input partition.
    raw: RefCell<BTreeMap<u32, Rc<RawPlace>>>,
    /// Headers that processors have changed for all that hold the record, from as they were to as they are. Of the present source record.
    edited: RefCell<Vec<Headers>>,
    is_edited: Cell<bool>,
}

impl TaskShared {
    pub(crate) fn new(environment: TaskEnvironment) -> Self {
        let task = environment.id.to_string();
        let dropped =
            environment.metrics.counter("stream-task-metrics", "dropped-records-total", &[("task-id", &task)]);
        Self {
            environment,
            dropped,
            stream_time: Cell::new(-1),
            wall_clock: Cell::new(0),
            source: Cell::new(NO_SOURCE),
            offset: Cell::new(-1),
            timestamp: Cell::new(0),
            headers: RefCell::default(),
            partitions: RefCell::default(),
            schedules: RefCell::default(),
            commit_requested: Cell::new(false),
            processor_metadata: RefCell::default(),
            of_processors: RefCell::default(),
            scratch: RefCell::default(),
            raw: RefCell::default(),
            edited: RefCell::default(),
            is_edited: Cell::new(false),
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.environment.id
    }

    pub(crate) fn application_id(&self) -> &str {
        &self.environment.application_id
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.environment.state_dir.clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.environment.metrics
    }

    pub(crate) fn collector(&self) -> &CollectorRef {
        &self.environment.collector
    }

    pub(crate) fn handlers(&self) -> &Handlers {
        &self.environment.handlers
    }

    pub(crate) fn globals(&self) -> &GlobalStores {
        &self.environment.globals
    }

    pub(crate) fn default_extractor(&self) -> DefaultExtractor {
        self.environment.default_extractor
    }

    pub(crate) fn dead_letter_topic(&self) -> Option<&str> {
        self.environment.dead_letter_topic.as_deref()
    }

    pub(crate) fn processor_wrapper(&self) -> Option<&Arc<dyn ProcessorWrapper>> {
        self.environment.processor_wrapper.as_ref()
    }

    pub(crate) fn is_global(&self) -> bool {
        self.environment.is_global
    }

    /// Says where the records of an input partition will lie.
    pub(crate) fn add_raw_place(&self, source: u32, place: Rc<RawPlace>) {
        self.raw.borrow_mut().insert(source, place);
    }

    /// Where the record being processed lies.
    pub(crate) fn raw_place(&self) -> Option<Rc<RawPlace>> {
        self.raw.borrow().get(&self.source.get()).cloned()
    }

    /// Offset of the record being processed; -1 if none.
    pub(crate) fn offset(&self) -> Offset {
        self.offset.get()
    }

    pub(crate) fn scratch(&self) -> &RefCell<Scratch> {
        &self.scratch
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.add(1);
    }

    pub(crate) fn stream_time(&self) -> Timestamp {
        self.stream_time.get()
    }

    pub(crate) fn advance_stream_time(&self, timestamp: Timestamp) {
        if timestamp > self.stream_time.get() {
            self.stream_time.set(timestamp);
        }
    }

    pub(crate) fn wall_clock(&self) -> Timestamp {
        self.wall_clock.get()
    }

    pub(crate) fn set_wall_clock(&self, wall_ms: Timestamp) {
        self.wall_clock.set(wall_ms);
    }

    /// Names the input partitions that source indexes stand for.
    pub(crate) fn set_partitions(&self, partitions: Vec<TopicPartition>) {
        self.partitions.replace(partitions);
    }

    /// Makes `timestamp` the record context's; returns the one before.
    #[inline]
    pub(crate) fn enter(&self, timestamp: Timestamp) -> Timestamp {
        self.timestamp.replace(timestamp)
    }

    /// Makes `headers` the record context's; returns those before.
    #[inline]
    pub(crate) fn replace_headers(&self, headers: Headers) -> Headers {
        self.headers.replace(headers)
    }

    /// Notes that the headers `before` of the present record have become `after` for all that hold it.
    pub(crate) fn edit_headers(&self, before: Headers, after: &Headers) {
        let mut context = self.headers.borrow_mut();
        if *context == before {
            context.clone_from(after);
        }
        let mut edited = self.edited.borrow_mut();
        if !self.is_edited.replace(true) || edited.last() != Some(&before) {
            edited.clear();
            edited.push(before);
        }
        edited.push(after.clone());
    }

    /// Brings headers up to date with what was changed for all that hold them.
    #[inline]
    pub(crate) fn refresh_headers(&self, headers: &mut Headers) {
        if self.is_edited.get()
            && let edited = self.edited.borrow()
            && edited.contains(headers)
            && let Some(now) = edited.last()
        {
            headers.clone_from(now);
        }
    }

    pub(crate) fn context_timestamp(&self) -> Timestamp {
        self.timestamp.get()
    }

    pub(crate) fn context_headers(&self) -> Headers {
        self.headers.borrow().clone()
    }

    /// Begins a source record. Headers are set by the nodes that need them.
    #[inline]
    pub(crate) fn set_source(&self, source: u32, offset: Offset) {
        self.is_edited.set(false);
        self.source.set(source);
        self.offset.set(offset);
    }

    /// Sets the context of a punctuation: no source, no headers.
    pub(crate) fn enter_punctuation(&self, timestamp: Timestamp) {
        self.set_source(NO_SOURCE, -1);
        self.timestamp.set(timestamp);
        self.headers.replace(Headers::default());
    }

    /// The whole present context.
    pub(crate) fn context(&self) -> RecordContext {
        RecordContext {
            source: self.source.get(),
            offset: self.offset.get(),
            timestamp: self.timestamp.get(),
            headers: self.headers.borrow().clone(),
        }
    }

    /// The context of a record of `source`.
    pub(crate) fn context_of(
        &self,
        source: Option<&RecordMetadata>,
        timestamp: Timestamp,
        headers: Headers,
    ) -> RecordContext {
        let partitions = self.partitions.borrow();
        let index = source.and_then(|source| {
            let is_it = |known: &TopicPartition| known.topic == source.topic && known.partition == source.partition;
            partitions.iter().position(is_it)
        });
        let offset = source.map_or(-1, |source| source.offset);
        RecordContext { source: index.map_or(NO_SOURCE, |index| index as u32), offset, timestamp, headers }
    }

    /// Replaces the whole context, as a flushing cache does; returns the one before.
    pub(crate) fn replace_context(&self, context: RecordContext) -> RecordContext {
        RecordContext {
            source: self.source.replace(context.source),
            offset: self.offset.replace(context.offset),
            timestamp: self.timestamp.replace(context.timestamp),
            headers: self.headers.replace(context.headers),
        }
    }

    /// Source partition and offset of the record being processed.
    pub(crate) fn position(&self) -> Option<(TopicPartition, Offset)> {
        let partitions = self.partitions.borrow();
        let partition = partitions.get(self.source.get() as usize)?;
        Some((partition.clone(), self.offset.get()))
    }

    pub(crate) fn request_commit(&self) {
        self.commit_requested.set(true);
    }

    pub(crate) fn commit_requested(&self) -> bool {
        self.commit_requested.get()
    }

    pub(crate) fn clear_commit_request(&self) {
        self.commit_requested.set(false);
    }

    pub(crate) fn schedule(
        &self,
        node: u32,
        interval_ms: i64,
        kind: PunctuationType,
        start: Option<Timestamp>,
    ) -> Result<ScheduleId, StreamsError> {
        if interval_ms < 1 {
            let message = format!("the interval of a punctuation must be at least 1 ms, not {interval_ms}");
            return Err(StreamsError::new(ErrorKind::IllegalState, message));
        }
        if start.is_some_and(|start| start < 0) {
            return Err(StreamsError::new(ErrorKind::IllegalState, "a punctuation cannot start before the epoch"));
        }
        Ok(self.schedules.borrow_mut().add(node, interval_ms, kind, start, self.wall_clock.get()))
    }

    pub(crate) fn cancel(&self, schedule: ScheduleId) {
        self.schedules.borrow_mut().cancel(schedule);
    }

    pub(crate) fn schedules(&self) -> &RefCell<Schedules> {
        &self.schedules
    }

    pub(crate) fn processor_metadata(&self, name: &str) -> Option<i64> {
        self.processor_metadata.borrow().get(name).copied()
    }

    pub(crate) fn set_processor_metadata(&self, name: &str, value: i64) {
        let mut metadata = self.processor_metadata.borrow_mut();
        match metadata.get_mut(name) {
            Some(known) => *known = value,
            None => {
                metadata.insert(name.to_owned(), value);
            }
        }
    }

    pub(crate) fn all_processor_metadata(&self) -> BTreeMap<String, i64> {
        self.processor_metadata.borrow().clone()
    }

    /// What the processors of this task keep together under `name`; `None` if it was made with another type.
    pub(crate) fn of_processors<T: Default + 'static>(&self, name: &str) -> Option<Rc<T>> {
        let mut known = self.of_processors.borrow_mut();
        let value = match known.get(name) {
            Some(value) => Rc::clone(value),
            None => {
                let value: Rc<dyn Any> = Rc::<T>::default();
                known.insert(name.to_owned(), Rc::clone(&value));
                value
            }
        };
        value.downcast().ok()
    }
}
