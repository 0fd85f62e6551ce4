//! An input topic of the test driver.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use base::Timestamp;
use protocol::record::Headers;

use crate::error::{ErrorKind, StreamsError};
use crate::record::Record;
use crate::serde::{Serde, SerdeRef};
use crate::test_driver::driver::Core;

/// Pipes typed records into a topic; each call returns when everything downstream has been processed.
pub struct TestInputTopic<K, V> {
    core: Rc<RefCell<Core>>,
    topic: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    time: Cell<Timestamp>,
    auto_advance_ms: Cell<i64>,
}

impl<K, V> TestInputTopic<K, V> {
    pub(crate) fn new(
        core: Rc<RefCell<Core>>,
        topic: &str,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
        time: Timestamp,
    ) -> Self {
        Self { core, topic: topic.to_owned(), key, value, time: Cell::new(time), auto_advance_ms: Cell::new(0) }
    }

    /// Stamps records without a time of their own with `start`, then `start + advance_ms`, and so on.
    #[must_use]
    pub fn with_times(self, start: Timestamp, advance_ms: i64) -> Self {
        self.time.set(start);
        self.auto_advance_ms.set(advance_ms);
        self
    }

    /// Moves the time of the next record without one.
    pub fn advance_time(&self, ms: i64) {
        self.time.set(self.time.get() + ms);
    }

    /// Pipes a record with the tracked time.
    ///
    /// # Errors
    /// What processing it failed with.
    pub fn pipe(&self, key: K, value: V) -> Result<(), StreamsError> {
        let time = self.time.replace(self.time.get() + self.auto_advance_ms.get());
        self.pipe_record(Record::new(key, value, time))
    }

    /// Pipes a record without key, with the tracked time.
    ///
    /// # Errors
    /// As [`TestInputTopic::pipe`].
    pub fn pipe_value(&self, value: V) -> Result<(), StreamsError> {
        let time = self.time.replace(self.time.get() + self.auto_advance_ms.get());
        self.pipe_record(Record::of(None, Some(value), time))
    }

    /// Pipes a record with that time.
    ///
    /// # Errors
    /// As [`TestInputTopic::pipe`].
    pub fn pipe_at(&self, key: K, value: V, timestamp: Timestamp) -> Result<(), StreamsError> {
        self.pipe_record(Record::new(key, value, timestamp))
    }

    /// Pipes any record.
    ///
    /// # Errors
    /// As [`TestInputTopic::pipe`].
    pub fn pipe_record(&self, record: Record<K, V>) -> Result<(), StreamsError> {
        let bytes = |serialized: Result<(), crate::SerdeError>, bytes: Vec<u8>| {
            serialized.map(|()| bytes).map_err(|error| StreamsError::caused_by(ErrorKind::Serialization, error))
        };
        let key = record.key.as_ref().map(|key| {
            let mut out = Vec::new();
            bytes(self.key.serialize(&self.topic, &record.headers, key, &mut out), out)
        });
        let value = record.value.as_ref().map(|value| {
            let mut out = Vec::new();
            bytes(self.value.serialize(&self.topic, &record.headers, value, &mut out), out)
        });
        self.pipe_bytes(key.transpose()?.as_deref(), value.transpose()?.as_deref(), record.timestamp, &record.headers)
    }

    /// Pipes bytes as they are, good or bad.
    ///
    /// # Errors
    /// As [`TestInputTopic::pipe`].
    pub fn pipe_bytes(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
        headers: &Headers,
    ) -> Result<(), StreamsError> {
        self.core.borrow_mut().pipe(&self.topic, key, value, timestamp, headers)
    }

    /// Pipes several records with the tracked time.
    ///
    /// # Errors
    /// As [`TestInputTopic::pipe`].
    pub fn pipe_all(&self, records: impl IntoIterator<Item = (K, V)>) -> Result<(), StreamsError> {
        records.into_iter().try_for_each(|(key, value)| self.pipe(key, value))
    }
}
