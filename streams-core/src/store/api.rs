//! What a task does with a store of any kind ([`StateStore`]), and the small types that stores share.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use base::{Offset, Timestamp, TopicPartition};
use protocol::record::Headers;
use storage::state::Backend;

use crate::collector::ChangelogPartition;
use crate::error::{BoxError, ErrorKind, StreamsError};
use crate::store::cache::ThreadCache;
use crate::task::shared::TaskShared;

/// A value with the time of its last update, as timestamped stores keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueAndTimestamp<V> {
    /// The value.
    pub value: V,
    /// Event time of its last update.
    pub timestamp: Timestamp,
}

impl<V> ValueAndTimestamp<V> {
    /// `value` as of `timestamp`.
    pub fn new(value: V, timestamp: Timestamp) -> Self {
        Self { value, timestamp }
    }
}

/// One key's update as a flushing cache hands it to the listener: what coalesced since the last flush.
#[derive(Clone, Debug)]
pub struct Flushed<K, V> {
    /// The key.
    pub key: K,
    /// Its value now.
    pub new: Option<V>,
    /// The value of the last flush, if old values are sent.
    pub old: Option<V>,
    /// Timestamp of the record that last wrote the key.
    pub timestamp: Timestamp,
    /// Headers of that record.
    pub headers: Headers,
}

/// Called for each flushed update; forwards it.
pub type FlushListener<K, V> = Box<dyn Fn(Flushed<K, V>) -> Result<(), BoxError>>;

/// One record of a changelog, borrowed from the fetched batch.
#[derive(Clone, Copy, Debug)]
pub struct RestoreRecord<'a> {
    /// Offset in the changelog partition.
    pub offset: Offset,
    /// Timestamp of the record.
    pub timestamp: Timestamp,
    /// Key; records without key do not occur in changelogs and are refused.
    pub key: &'a [u8],
    /// Value; `None` deletes.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a Headers,
}

/// A state store as its task sees it. The built-in stores implement it; a store of your own does too, together with a
/// [`StoreBuilder`](crate::StoreBuilder), and is fetched by its type with
/// [`NodeContext::store`](crate::processor::context::NodeContext::store).
///
/// All methods take `&self`: handles are shared (`Rc`) by the processors of one task, on one thread.
pub trait StateStore: 'static {
    /// Name, unique in the topology.
    fn name(&self) -> &str;

    /// Type for messages, such as `KeyValueStore<String, i64>`.
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// For fetching the store by its type: `self`.
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;

    /// Whether its content survives the process.
    fn is_persistent(&self) -> bool {
        false
    }

    /// Writes what the cache holds back to the layers below and forwards it. Runs first at each commit.
    ///
    /// # Errors
    /// Failures of the layers below and of downstream processors.
    fn flush_cache(&self) -> Result<(), StreamsError> {
        Ok(())
    }

    /// Writes the changes since the last commit to the byte store, with the changelog position they reach, in one
    /// atomic step. Runs last at each commit: the changelog is acknowledged and the offsets are committed.
    ///
    /// `changelog_offset` is the offset of the last changelog record of this store; `None` if it has none.
    ///
    /// # Errors
    /// The store failed; its content is then as of the last commit.
    fn commit(&self, changelog_offset: Option<Offset>) -> Result<(), StreamsError> {
        let _ = changelog_offset;
        Ok(())
    }

    /// Bytes that wait in memory for the next commit.
    fn pending_bytes(&self) -> usize {
        0
    }

    /// Where its changes are logged; `None` without a changelog.
    fn changelog(&self) -> Option<&ChangelogPartition> {
        None
    }

    /// Offset of the last changelog record that the stored content contains; `None` if unknown.
    ///
    /// # Errors
    /// The store failed.
    fn changelog_offset(&self) -> Result<Option<Offset>, StreamsError> {
        Ok(None)
    }

    /// For a store of the global task: writes what was applied, with the offsets (of the next record to read) of its
    /// source partitions.
    ///
    /// # Errors
    /// The store failed.
    fn commit_global(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), StreamsError> {
        let _ = offsets;
        Ok(())
    }

    /// For a store of the global task: the next offset of `partition` to read; `None` if unknown.
    ///
    /// # Errors
    /// The store failed.
    fn global_offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StreamsError> {
        let _ = partition;
        Ok(None)
    }

    /// Applies changelog records in bulk; afterwards [`StateStore::changelog_offset`] is the last one's offset.
    ///
    /// # Errors
    /// The store failed, or the records are not of this store.
    fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
        for _ in records {}
        Ok(())
    }

    /// Closes the store. Changes since the last commit are lost, as they must be: they were not committed.
    ///
    /// # Errors
    /// The store failed; its resources are released all the same.
    fn close(&self) -> Result<(), StreamsError> {
        Ok(())
    }

    /// Deletes all content and the changelog position.
    ///
    /// # Errors
    /// The store failed.
    fn wipe(&self) -> Result<(), StreamsError> {
        Ok(())
    }
}

/// What a [`StoreBuilder`](crate::StoreBuilder) makes a store with.
pub struct StoreContext {
    pub(crate) task: Rc<TaskShared>,
    pub(crate) cache: Rc<ThreadCache>,
    /// Engine of persistent stores.
    pub(crate) backend: Backend,
    /// Whether stores that leave it to the application are kept in memory.
    pub(crate) in_memory_by_default: bool,
    /// Whether stores that leave it to the application keep headers.
    pub(crate) headers_by_default: bool,
    pub(crate) changelog: Option<ChangelogPartition>,
    /// True where the changelog is the source topic itself: writes are not logged.
    pub(crate) source_is_changelog: bool,
    /// True for a store of the global task, which other threads read.
    pub(crate) is_global: bool,
    /// Topic that serdes are told: the changelog's name even where logging is off.
    pub(crate) serde_topic: Arc<str>,
}

impl StoreContext {
    /// The task the store belongs to.
    pub fn task_id(&self) -> crate::task::TaskId {
        self.task.id()
    }

    /// Where the store logs its changes; `None` if it does not.
    pub fn changelog(&self) -> Option<&ChangelogPartition> {
        self.changelog.as_ref()
    }

    /// Engine of the task's persistent stores.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Directory of the task.
    pub fn task_directory(&self) -> std::path::PathBuf {
        self.task.state_dir()
    }

    /// For a store of your own: appends a record to its changelog; without one, does nothing. A timestamp of `None`
    /// lets the log stamp its wall clock.
    ///
    /// # Errors
    /// As [`Collector::send`](crate::Collector::send).
    pub fn log_change(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Option<Timestamp>,
        headers: &Headers,
    ) -> Result<(), StreamsError> {
        ChangeLog::new(self).append(key, value, timestamp, headers)
    }

    /// [`StoreContext::log_change`] for keeping beyond the context.
    pub fn change_log(&self) -> ChangeLog {
        ChangeLog::new(self)
    }

    /// Timestamp of the record being processed.
    pub fn record_timestamp(&self) -> Timestamp {
        self.task.context_timestamp()
    }
}

/// Appends to a store's changelog; does nothing for a store without one.
#[derive(Clone)]
pub struct ChangeLog {
    task: Rc<TaskShared>,
    target: Option<ChangelogPartition>,
}

impl ChangeLog {
    fn new(context: &StoreContext) -> Self {
        let target = if context.source_is_changelog { None } else { context.changelog.clone() };
        Self { task: Rc::clone(&context.task), target }
    }

    /// Whether records go anywhere.
    pub(crate) fn is_on(&self) -> bool {
        self.target.is_some()
    }

    /// Appends a record, to the partition of the task.
    ///
    /// # Errors
    /// As [`Collector::send`](crate::Collector::send).
    #[inline]
    pub fn append(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Option<Timestamp>,
        headers: &Headers,
    ) -> Result<(), StreamsError> {
        let Some(target) = &self.target else { return Ok(()) };
        if timestamp.is_some_and(|timestamp| timestamp < 0) {
            return Err(negative(timestamp));
        }
        self.task.collector().borrow_mut().send(crate::collector::OutputRecord {
            topic: target.topic,
            partition: Some(target.partition.partition),
            key: Some(key),
            value,
            timestamp,
            headers,
        })
    }

    /// Where the records go.
    pub fn partition(&self) -> Option<&TopicPartition> {
        self.target.as_ref().map(|target| &target.partition)
    }
}

#[cold]
fn negative(timestamp: Option<Timestamp>) -> StreamsError {
    let message = format!("the time {} of a change is negative, no changelog can hold it", timestamp.unwrap_or(-1));
    StreamsError::new(ErrorKind::InvalidArgument, message)
}
