//! The typed versioned key-value store: values by key and time, as far back as its history reaches.
//!
//! It has no cache: a cache would let versions come together that history has to keep apart.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use base::{Offset, Timestamp, TopicPartition};
use protocol::record::Headers;
use storage::state::{Direction, FoundVersion, VersionedRows, Versions};

pub use storage::state::VersionedPut;

use crate::collector::ChangelogPartition;
use crate::error::{ErrorKind, StreamsError};
use crate::serde::{Serde, SerdeError, SerdeRef};
use crate::store::api::{RestoreRecord, StateStore, StoreContext};
use crate::store::layer::Layer;
use crate::store::value::FormatKind;
use crate::store::versioned_builder::VersionedStoreBuilder;
use crate::task::shared::TaskShared;

/// Name under which the greatest timestamp put is written with each commit.
const STREAM_TIME: &str = "versioned-stream-time";
/// Rows of an expired segment that are deleted at a time.
const DELETE_CHUNK: usize = 1024;

/// A version of a key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedRecord<V> {
    /// The value.
    pub value: V,
    /// Since when it has been valid.
    pub timestamp: Timestamp,
    /// Until when it was valid (exclusive), if a newer version or a deletion followed.
    pub valid_to: Option<Timestamp>,
}

/// A store of values by key that remembers former values: each is valid from its timestamp to that of the next.
///
/// Puts may come in any order of time. What is older than the history retention (counted back from the greatest timestamp put) is
/// refused when put and not told when read; the newest version of a key never expires.
///
/// ```
/// use streams_core::store::Stores;
/// use streams_core::serde::{I64Serde, StringSerde};
/// use streams_core::{SourceOptions, StreamsConfig, Topology, TopologyTestDriver};
/// # use streams_core::{BoxError, Processor, ProcessorContext, Record};
/// use streams_core::store::VersionedKeyValueStore;
/// # struct Idle;
/// # impl Processor<String, i64, (), ()> for Idle {
/// #     fn process(&mut self, _: Record<String, i64>, _: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> { Ok(()) }
/// # }
///
/// let mut topology = Topology::new();
/// topology.add_source("source", SourceOptions::<String, i64>::default(), ["prices"])?;
/// topology.add_processor("update", || Idle, &["source"])?;
/// topology.add_state_store(Stores::versioned_key_value("history", 60_000, StringSerde, I64Serde), &["update"])?;
/// let driver = TopologyTestDriver::new(&topology, StreamsConfig::new("app"))?;
/// let store = driver.store::<VersionedKeyValueStore<String, i64>>("history").unwrap();
///
/// let tea = "tea".to_owned();
/// store.put(&tea, Some(3), 1_000)?;
/// store.put(&tea, Some(4), 5_000)?;
/// assert_eq!(store.get(&tea)?.map(|found| found.value), Some(4));
/// assert_eq!(store.get_as_of(&tea, 4_999)?.map(|found| found.value), Some(3));
/// assert_eq!(store.get_as_of(&tea, 999)?, None);
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
pub struct VersionedKeyValueStore<K, V> {
    name: Arc<str>,
    topic: Arc<str>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    history_retention_ms: i64,
    segment_interval_ms: i64,
    task: Rc<TaskShared>,
    layer: Layer,
    /// Read from the stored rows at the first use.
    versions: RefCell<Option<Versions>>,
}

/// The rows as the layers below keep them.
struct Rows<'a>(&'a Layer, &'a str);

impl VersionedRows for Rows<'_> {
    type Error = StreamsError;

    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StreamsError> {
        let mut row = None;
        self.0.get_with(key, &mut |bytes| row = Some(bytes.to_vec()))?;
        Ok(row)
    }

    fn put_row(&self, key: &[u8], row: Option<&[u8]>) -> Result<(), StreamsError> {
        self.0.put_local(key, row);
        Ok(())
    }

    fn first_from(&self, from: &[u8]) -> Result<Option<Vec<u8>>, StreamsError> {
        self.0.range(Some(from), None, Direction::Forward, |rows| {
            Ok(if rows.advance()? { Some(rows.key().to_vec()) } else { None })
        })
    }

    fn delete_prefix(&self, prefix: &[u8]) -> Result<(), StreamsError> {
        loop {
            let keys = self.0.range(Some(prefix), None, Direction::Forward, |rows| {
                let mut keys = Vec::new();
                while keys.len() < DELETE_CHUNK && rows.advance()? && rows.key().starts_with(prefix) {
                    keys.push(rows.key().to_vec());
                }
                Ok(keys)
            })?;
            if keys.is_empty() {
                return Ok(());
            }
            keys.iter().for_each(|key| self.0.put_local(key, None));
        }
    }

    fn corrupt(&self) -> StreamsError {
        StreamsError::new(ErrorKind::TaskCorrupted, "a row of versions is not what was written").in_store(self.1)
    }
}

impl<K: 'static, V: 'static> VersionedKeyValueStore<K, V> {
    pub(crate) fn open(builder: &VersionedStoreBuilder<K, V>, context: &StoreContext) -> Result<Self, StreamsError> {
        let common = &builder.common;
        // Another interval would look for rows in other segments.
        let format_name = format!("versioned-{}", builder.segment_interval_ms);
        let layer = Layer::open_as(common, context, FormatKind::Plain, &format_name)?;
        Ok(Self {
            name: Arc::clone(&common.name),
            topic: Arc::clone(&context.serde_topic),
            key: Arc::clone(&builder.key),
            value: Arc::clone(&builder.value),
            history_retention_ms: builder.history_retention_ms,
            segment_interval_ms: builder.segment_interval_ms,
            task: Rc::clone(&context.task),
            layer,
            versions: RefCell::new(None),
        })
    }

    fn rows(&self) -> Rows<'_> {
        Rows(&self.layer, &self.name)
    }

    fn with_versions<T>(
        &self,
        call: impl FnOnce(&mut Versions, &Rows<'_>) -> Result<T, StreamsError>,
    ) -> Result<T, StreamsError> {
        let rows = self.rows();
        let mut versions = self.versions.borrow_mut();
        if versions.is_none() {
            let stream_time = self.layer.metadata(STREAM_TIME)?.and_then(|bytes| Some(*bytes.first_chunk::<8>()?));
            let stream_time = stream_time.map_or(-1, Timestamp::from_be_bytes);
            *versions = Some(Versions::open(&rows, self.history_retention_ms, self.segment_interval_ms, stream_time)?);
        }
        match &mut *versions {
            Some(versions) => call(versions, &rows),
            None => Err(rows.corrupt()),
        }
    }

    fn note_stream_time(&self) -> Result<(), StreamsError> {
        match &*self.versions.borrow() {
            Some(versions) => self.layer.put_metadata(STREAM_TIME, &versions.stream_time().to_be_bytes()),
            None => Ok(()),
        }
    }

    fn serde_failed(&self, kind: ErrorKind, error: SerdeError) -> StreamsError {
        StreamsError::caused_by(kind, error).in_store(&self.name)
    }

    fn key_bytes(&self, key: &K) -> Result<Vec<u8>, StreamsError> {
        let mut bytes = Vec::new();
        let written = self.key.serialize(&self.topic, &Headers::default(), key, &mut bytes);
        written.map(|()| bytes).map_err(|error| self.serde_failed(ErrorKind::Serialization, error))
    }

    fn typed(&self, found: FoundVersion) -> Result<VersionedRecord<V>, StreamsError> {
        let value = self.value.deserialize(&self.topic, &Headers::default(), &found.value);
        let value = value.map_err(|error| self.serde_failed(ErrorKind::Deserialization, error))?;
        Ok(VersionedRecord { value, timestamp: found.timestamp, valid_to: found.valid_to })
    }

    /// How long former versions are kept, in milliseconds of stream time.
    pub fn history_retention_ms(&self) -> i64 {
        self.history_retention_ms
    }

    /// Sets the value of `key` from `timestamp` on, until the next version that there is; `None` deletes. Says whether it is the newest
    /// version, or until when it is valid, or that it was too old to be kept (which counts as a dropped record; the changelog has it all
    /// the same, as in Kafka Streams).
    ///
    /// # Errors
    /// The store failed, or key or value do not fit the serdes.
    pub fn put(&self, key: &K, value: Option<V>, timestamp: Timestamp) -> Result<VersionedPut, StreamsError> {
        let key = self.key_bytes(key)?;
        let value = match value {
            None => None,
            Some(value) => {
                let mut bytes = Vec::new();
                self.value
                    .serialize(&self.topic, &Headers::default(), &value, &mut bytes)
                    .map_err(|error| self.serde_failed(ErrorKind::Serialization, error))?;
                Some(bytes)
            }
        };
        self.put_bytes(&key, value.as_deref(), timestamp)
    }

    fn put_bytes(&self, key: &[u8], value: Option<&[u8]>, timestamp: Timestamp) -> Result<VersionedPut, StreamsError> {
        let put = self.with_versions(|versions, rows| versions.put(rows, key, value, timestamp))?;
        if put == VersionedPut::Expired {
            self.task.count_dropped();
        }
        self.layer.log(key, value, Some(timestamp), &Headers::default())?;
        Ok(put)
    }

    /// Deletes `key` from `timestamp` on, until the next version that there is; returns the version that was valid then.
    ///
    /// # Errors
    /// As [`VersionedKeyValueStore::put`].
    pub fn delete(&self, key: &K, timestamp: Timestamp) -> Result<Option<VersionedRecord<V>>, StreamsError> {
        let before = self.get_as_of(key, timestamp)?;
        let put = self.put(key, None, timestamp)?;
        Ok(before.filter(|_| put != VersionedPut::Expired))
    }

    /// The newest version of `key`.
    ///
    /// # Errors
    /// As [`VersionedKeyValueStore::put`].
    pub fn get(&self, key: &K) -> Result<Option<VersionedRecord<V>>, StreamsError> {
        let key = self.key_bytes(key)?;
        let found = self.with_versions(|versions, rows| versions.latest(rows, &key))?;
        found.map(|found| self.typed(found)).transpose()
    }

    /// The version of `key` that was valid at `time`. Of times before the history only the newest version is told.
    ///
    /// # Errors
    /// As [`VersionedKeyValueStore::put`].
    pub fn get_as_of(&self, key: &K, time: Timestamp) -> Result<Option<VersionedRecord<V>>, StreamsError> {
        let key = self.key_bytes(key)?;
        let found = self.with_versions(|versions, rows| versions.as_of(rows, &key, time))?;
        found.map(|found| self.typed(found)).transpose()
    }

    /// The versions of `key` that were valid at any time within both bounds (inclusive; `None` is no bound), oldest first or newest first.
    ///
    /// As in Kafka Streams, a version that ended in a later segment of time than that of `to` is left out.
    ///
    /// # Errors
    /// As [`VersionedKeyValueStore::put`]; [`ErrorKind::InvalidArgument`] if `from` is after `to`.
    pub fn history(
        &self,
        key: &K,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        is_newest_first: bool,
    ) -> Result<Vec<VersionedRecord<V>>, StreamsError> {
        let key = self.key_bytes(key)?;
        let (from, to) = (from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX));
        if from > to {
            let message = format!("a history from {from} to {to}, which lies before");
            return Err(StreamsError::new(ErrorKind::InvalidArgument, message).in_store(&self.name));
        }
        let mut found = self.with_versions(|versions, rows| versions.history(rows, &key, from, to))?;
        if is_newest_first {
            found.reverse();
        }
        found.into_iter().map(|found| self.typed(found)).collect()
    }
}

impl<K: 'static, V: 'static> StateStore for VersionedKeyValueStore<K, V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn is_persistent(&self) -> bool {
        self.layer.is_persistent()
    }

    fn commit(&self, changelog_offset: Option<Offset>) -> Result<(), StreamsError> {
        self.note_stream_time()?;
        self.layer.commit(changelog_offset)
    }

    fn pending_bytes(&self) -> usize {
        self.layer.pending_bytes()
    }

    fn changelog(&self) -> Option<&ChangelogPartition> {
        self.layer.changelog()
    }

    fn changelog_offset(&self) -> Result<Option<Offset>, StreamsError> {
        self.layer.changelog_offset()
    }

    fn commit_global(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), StreamsError> {
        self.note_stream_time()?;
        self.layer.commit_with(offsets)
    }

    fn global_offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StreamsError> {
        self.layer.offset(partition)
    }

    fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
        let mut last = None;
        for record in records {
            self.with_versions(|versions, rows| versions.put(rows, record.key, record.value, record.timestamp))?;
            last = Some(record.offset);
        }
        self.note_stream_time()?;
        self.layer.commit_restored(last)
    }

    fn close(&self) -> Result<(), StreamsError> {
        self.versions.replace(None);
        self.layer.close()
    }

    fn wipe(&self) -> Result<(), StreamsError> {
        self.versions.replace(None);
        self.layer.wipe()
    }
}
