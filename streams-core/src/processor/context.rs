//! What a processor is handed: forwarding along typed edges, time, stores, schedules, and where the record came from.

use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use base::metrics::Metrics;
use base::{Offset, PartitionId, Timestamp, TopicName};
use protocol::record::Headers;

use crate::error::{BoxError, ErrorKind, StreamsError};
use crate::processor::chain::Children;
use crate::processor::punctuation::{PunctuationType, ScheduleId};
use crate::record::{Change, Record};
use crate::store::{
    GlobalKeyValueStore, KeyValueStore, SessionStore, SessionStoreWithHeaders, StateStore, TimestampedKeyValueStore,
    TimestampedKeyValueStoreWithHeaders, TimestampedWindowStore, TimestampedWindowStoreWithHeaders, ValueAndTimestamp,
    WindowStore,
};
use crate::task::TaskId;
use crate::task::shared::TaskShared;
use crate::windowed::Windowed;

/// Where the record that is being processed came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Source topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Offset in that partition.
    pub offset: Offset,
}

/// The part of a [`ProcessorContext`] that does not depend on what the node forwards: stores, time, schedules,
/// identity. Every context derefs to it, so helpers that only need stores take a `&NodeContext`.
pub struct NodeContext {
    name: Arc<str>,
    index: u32,
    task: Rc<TaskShared>,
    stores: Vec<Rc<dyn StateStore>>,
}

impl NodeContext {
    pub(crate) fn new(name: Arc<str>, index: u32, task: Rc<TaskShared>, stores: Vec<Rc<dyn StateStore>>) -> Self {
        Self { name, index, task, stores }
    }

    pub(crate) fn shared(&self) -> &Rc<TaskShared> {
        &self.task
    }

    /// Name of this processor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The task this instance belongs to.
    pub fn task_id(&self) -> TaskId {
        self.task.id()
    }

    /// `application.id`.
    pub fn application_id(&self) -> &str {
        self.task.application_id()
    }

    /// Directory of the task, for state of the processor's own.
    pub fn state_dir(&self) -> PathBuf {
        self.task.state_dir()
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> &Metrics {
        self.task.metrics()
    }

    /// Greatest timestamp of the records the task has taken so far; -1 before the first.
    pub fn stream_time(&self) -> Timestamp {
        self.task.stream_time()
    }

    /// Wall-clock time in milliseconds; stands still while one record is processed.
    pub fn wall_clock_time(&self) -> Timestamp {
        self.task.wall_clock()
    }

    /// Timestamp of the record being processed; in a punctuator the time of the punctuation.
    pub fn record_timestamp(&self) -> Timestamp {
        self.task.context_timestamp()
    }

    /// Topic, partition and offset of the source record being processed; `None` in punctuators.
    pub fn record_metadata(&self) -> Option<RecordMetadata> {
        self.task.position().map(|(partition, offset)| RecordMetadata {
            topic: partition.topic,
            partition: partition.partition,
            offset,
        })
    }

    /// Changes the headers of the record being processed for all that hold it: children of nodes upstream that are called later get it with the
    /// changed headers, as in Kafka Streams, where they all share one object. To change them for what is downstream only, change
    /// `record.headers`.
    ///
    /// ```
    /// # use streams_core::{BoxError, Processor, ProcessorContext, Record};
    /// struct Mark;
    ///
    /// impl Processor<String, String, String, String> for Mark {
    ///     fn process(
    ///         &mut self,
    ///         mut record: Record<String, String>,
    ///         ctx: &mut ProcessorContext<String, String>,
    ///     ) -> Result<(), BoxError> {
    ///         ctx.edit_headers(&mut record.headers, |headers| {
    ///             headers.add("seen", None);
    ///         });
    ///         ctx.forward(record)
    ///     }
    /// }
    /// ```
    pub fn edit_headers(&self, headers: &mut Headers, edit: impl FnOnce(&mut Headers)) {
        let before = headers.clone();
        edit(headers);
        self.task.edit_headers(before, headers);
    }

    /// Asks for a commit of all tasks of the thread as soon as the present record is done.
    pub fn commit(&self) {
        self.task.request_commit();
    }

    /// Counts one record as dropped in the task's `dropped-records-total`.
    pub fn count_dropped(&self) {
        self.task.count_dropped();
    }

    /// Asks for [`Processor::punctuate`](crate::Processor::punctuate) every `interval_ms`, first at stream time 0 (with
    /// the first record) or one interval from now on the wall clock.
    ///
    /// # Errors
    /// If the interval is less than 1 ms.
    pub fn schedule(&self, interval_ms: i64, kind: PunctuationType) -> Result<ScheduleId, BoxError> {
        self.task.schedule(self.index, interval_ms, kind, None).map_err(Into::into)
    }

    /// As [`NodeContext::schedule`], first due at `start` and then at `start + k * interval_ms`.
    ///
    /// # Errors
    /// If the interval is less than 1 ms or `start` lies before the epoch.
    pub fn schedule_from(
        &self,
        start: Timestamp,
        interval_ms: i64,
        kind: PunctuationType,
    ) -> Result<ScheduleId, BoxError> {
        self.task.schedule(self.index, interval_ms, kind, Some(start)).map_err(Into::into)
    }

    /// Ends a schedule.
    pub fn cancel(&self, schedule: ScheduleId) {
        self.task.cancel(schedule);
    }

    /// A named number that is committed with the task's offsets and is there again after a restart: the greatest value
    /// committed under that name (Kafka Streams' processor metadata).
    pub fn committed_metadata(&self, name: &str) -> Option<i64> {
        self.task.processor_metadata(name)
    }

    /// Sets a number for [`NodeContext::committed_metadata`]; written with the next commit.
    pub fn set_committed_metadata(&self, name: &str, value: i64) {
        self.task.set_processor_metadata(name, value);
    }

    /// The connected store called `name`, as whatever type its builder makes.
    ///
    /// # Errors
    /// If no such store is connected to this processor, or it is of another type.
    pub fn store<S: StateStore>(&self, name: &str) -> Result<Rc<S>, BoxError> {
        let Some(store) = self.stores.iter().find(|store| store.name() == name) else {
            let known: Vec<&str> = self.stores.iter().map(|store| store.name()).collect();
            let message = format!("no store {name} is connected to this processor; connected are {known:?}");
            return Err(StreamsError::new(ErrorKind::IllegalState, message).in_processor(&self.name).into());
        };
        let found = store.type_name();
        Rc::clone(store).into_any().downcast::<S>().map_err(|_| {
            let message = format!("store {name} is a {found}, not a {}", std::any::type_name::<S>());
            StreamsError::new(ErrorKind::IllegalState, message).in_processor(&self.name).into()
        })
    }

    /// Plain data that processors of this task share, in memory: the same for all that ask for `name`, made by the first. It is gone when
    /// the task ends.
    ///
    /// # Errors
    /// If another type was asked for under that name.
    pub fn shared_data<T: Default + 'static>(&self, name: &str) -> Result<Rc<T>, BoxError> {
        self.task.of_processors(name).ok_or_else(|| {
            let message = format!("the shared data {name} is no {}", std::any::type_name::<T>());
            StreamsError::new(ErrorKind::IllegalState, message).in_processor(&self.name).into()
        })
    }

    /// The connected key-value store called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn key_value_store<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Result<Rc<KeyValueStore<K, V>>, BoxError> {
        self.store(name)
    }

    /// The connected timestamped key-value store called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn timestamped_key_value_store<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Result<Rc<TimestampedKeyValueStore<K, V>>, BoxError> {
        self.store(name)
    }

    /// The connected window store called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn window_store<K: 'static, V: Clone + 'static>(&self, name: &str) -> Result<Rc<WindowStore<K, V>>, BoxError> {
        self.store(name)
    }

    /// The connected timestamped window store called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn timestamped_window_store<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Result<Rc<TimestampedWindowStore<K, V>>, BoxError> {
        self.store(name)
    }

    /// The connected session store called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn session_store<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Result<Rc<SessionStore<K, V>>, BoxError> {
        self.store(name)
    }

    /// The connected timestamped key-value store with headers called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn timestamped_key_value_store_with_headers<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Result<Rc<TimestampedKeyValueStoreWithHeaders<K, V>>, BoxError> {
        self.store(name)
    }

    /// The connected timestamped window store with headers called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn timestamped_window_store_with_headers<K: 'static, V: Clone + 'static>(
        &self,
        name: &str,
    ) -> Result<Rc<TimestampedWindowStoreWithHeaders<K, V>>, BoxError> {
        self.store(name)
    }

    /// The connected session store with headers called `name`.
    ///
    /// # Errors
    /// As [`NodeContext::store`].
    pub fn session_store_with_headers<K: 'static, A: Clone + 'static>(
        &self,
        name: &str,
    ) -> Result<Rc<SessionStoreWithHeaders<K, A>>, BoxError> {
        self.store(name)
    }

    /// The global store called `name`, to be read. Global stores need not be connected.
    ///
    /// # Errors
    /// If there is no such global store, or its types differ.
    pub fn global_store<K: 'static, V: 'static>(&self, name: &str) -> Result<GlobalKeyValueStore<K, V>, BoxError> {
        self.task.globals().key_value(name).map_err(|error| error.in_processor(&self.name).into())
    }
}

/// What a processor is handed with each call: [`NodeContext`] plus the edges that leave the node.
pub struct ProcessorContext<KOut, VOut> {
    node: NodeContext,
    children: Rc<Children<KOut, VOut>>,
}

impl<KOut, VOut> Deref for ProcessorContext<KOut, VOut> {
    type Target = NodeContext;

    #[inline]
    fn deref(&self) -> &NodeContext {
        &self.node
    }
}

impl<KOut, VOut> ProcessorContext<KOut, VOut> {
    pub(crate) fn new(node: NodeContext, children: Rc<Children<KOut, VOut>>) -> Self {
        Self { node, children }
    }

    /// Hands `record` to the child called `child` only.
    ///
    /// # Errors
    /// If there is no such child; otherwise as [`ProcessorContext::forward`].
    pub fn forward_to(&self, child: &str, record: Record<KOut, VOut>) -> Result<(), BoxError> {
        self.children.forward_to(child, record)
    }

    /// Index of the child called `name`, for [`ProcessorContext::forward_to_index`].
    pub fn child_index(&self, name: &str) -> Option<usize> {
        self.children.index_of(name)
    }

    /// As [`ProcessorContext::forward_to`], without comparing names.
    ///
    /// # Errors
    /// As [`ProcessorContext::forward_to`].
    #[inline]
    pub fn forward_to_index(&self, child: usize, record: Record<KOut, VOut>) -> Result<(), BoxError> {
        self.children.forward_to_index(child, record)
    }
}

impl<KOut: Clone, VOut: Clone> ProcessorContext<KOut, VOut> {
    /// Hands `record` to every child; when it returns, everything downstream has been done. The last child gets the
    /// record itself, the others clones.
    ///
    /// # Errors
    /// A negative timestamp, or a failure downstream that its handler did not resume from; pass it on with `?`.
    #[inline]
    pub fn forward(&self, record: Record<KOut, VOut>) -> Result<(), BoxError> {
        if record.timestamp < 0 {
            return Err(negative(record.timestamp));
        }
        self.children.forward(record)
    }
}

impl<KOut: Clone, VOut: Clone> ProcessorContext<KOut, VOut> {
    /// As [`ProcessorContext::forward`], for a record that was held back: meanwhile `source` is where the record being processed came
    /// from, and timestamp and headers are those of `record`.
    ///
    /// # Errors
    /// As [`ProcessorContext::forward`].
    pub fn forward_from(&self, source: Option<&RecordMetadata>, record: Record<KOut, VOut>) -> Result<(), BoxError> {
        let task = &self.node.task;
        let before = task.replace_context(task.context_of(source, record.timestamp, record.headers.clone()));
        let result = self.forward(record);
        task.replace_context(before);
        result
    }
}

impl<K: Clone + 'static, V: Clone + 'static> ProcessorContext<K, Change<V>> {
    /// Lets `store` forward its updates to this node's children when its cache is flushed. Returns whether it will: if
    /// not (the store has no cache), the processor forwards each update itself.
    ///
    /// The record forwarded has the timestamp of the new value (for a deletion, of the record that deleted), and the
    /// headers and source position of the record that last wrote the key. Old values are read and sent if
    /// `send_old_values`.
    pub fn forward_on_flush(&self, store: &TimestampedKeyValueStore<K, V>, send_old_values: bool) -> bool {
        let children = Rc::clone(&self.children);
        store.set_flush_listener(
            send_old_values,
            Box::new(move |flushed| {
                children.forward(change_record(
                    Some(flushed.key),
                    flushed.new,
                    flushed.old,
                    flushed.timestamp,
                    flushed.headers,
                ))
            }),
        )
    }
}

impl<K: Clone + 'static, V: Clone + 'static> ProcessorContext<Windowed<K>, Change<V>> {
    /// As [`ProcessorContext::forward_on_flush`], for windows.
    pub fn forward_windows_on_flush(&self, store: &TimestampedWindowStore<K, V>, send_old_values: bool) -> bool {
        let children = Rc::clone(&self.children);
        store.set_flush_listener(
            send_old_values,
            Box::new(move |flushed| {
                children.forward(change_record(
                    Some(flushed.key),
                    flushed.new,
                    flushed.old,
                    flushed.timestamp,
                    flushed.headers,
                ))
            }),
        )
    }

    /// As [`ProcessorContext::forward_on_flush`], for sessions; the timestamp is the end of the session.
    pub fn forward_sessions_on_flush(&self, store: &SessionStore<K, V>, send_old_values: bool) -> bool {
        let children = Rc::clone(&self.children);
        // Such a session has the headers of its own, which are none.
        let without_headers = store.keeps_headers();
        store.set_flush_listener(
            send_old_values,
            Box::new(move |flushed| {
                let timestamp = flushed.key.window.end;
                let change = Change::new(flushed.new, flushed.old);
                children.forward(Record {
                    key: Some(flushed.key),
                    value: Some(change),
                    timestamp,
                    headers: if without_headers { Headers::default() } else { flushed.headers },
                })
            }),
        )
    }
}

#[cold]
fn negative(timestamp: Timestamp) -> BoxError {
    format!("a record cannot be forwarded with the negative timestamp {timestamp}").into()
}

fn change_record<K, V>(
    key: Option<K>,
    new: Option<ValueAndTimestamp<V>>,
    old: Option<ValueAndTimestamp<V>>,
    timestamp: Timestamp,
    headers: Headers,
) -> Record<K, Change<V>> {
    let timestamp = new.as_ref().map_or(timestamp, |new| new.timestamp);
    let change = Change::new(new.map(|new| new.value), old.map(|old| old.value));
    Record { key, value: Some(change), timestamp, headers }
}
