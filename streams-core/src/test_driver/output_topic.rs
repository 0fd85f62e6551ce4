//! An output topic of the test driver.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::{ErrorKind, StreamsError};
use crate::record::Record;
use crate::serde::{Serde, SerdeRef};
use crate::test_driver::driver::Core;

/// Reads what the topology wrote to a topic, oldest first. A topic that was never written is empty.
pub struct TestOutputTopic<K, V> {
    core: Rc<RefCell<Core>>,
    topic: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K, V> TestOutputTopic<K, V> {
    pub(crate) fn new(core: Rc<RefCell<Core>>, topic: &str, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { core, topic: topic.to_owned(), key, value }
    }

    /// Records that wait to be read.
    pub fn len(&self) -> usize {
        self.core.borrow().output_len(&self.topic)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next record; `None` if there is none.
    ///
    /// # Errors
    /// Its bytes do not fit the serdes.
    pub fn try_read(&self) -> Result<Option<Record<K, V>>, StreamsError> {
        let Some(produced) = self.core.borrow_mut().take_output(&self.topic) else { return Ok(None) };
        let failed = |error| StreamsError::caused_by(ErrorKind::Deserialization, error);
        let key = produced.key().map(|key| self.key.deserialize(&self.topic, &produced.headers, key));
        let value = produced.value().map(|value| self.value.deserialize(&self.topic, &produced.headers, value));
        Ok(Some(Record {
            key: key.transpose().map_err(failed)?,
            value: value.transpose().map_err(failed)?,
            timestamp: produced.timestamp,
            headers: produced.headers,
        }))
    }

    /// The next record.
    ///
    /// # Errors
    /// There is none, or its bytes do not fit the serdes.
    pub fn read_record(&self) -> Result<Record<K, V>, StreamsError> {
        self.try_read()?.ok_or_else(|| {
            StreamsError::new(ErrorKind::IllegalState, format!("topic {} holds no record to read", self.topic))
        })
    }

    /// Key and value of the next record.
    ///
    /// # Errors
    /// As [`TestOutputTopic::read_record`].
    pub fn read_key_value(&self) -> Result<(Option<K>, Option<V>), StreamsError> {
        self.read_record().map(|record| (record.key, record.value))
    }

    /// Value of the next record.
    ///
    /// # Errors
    /// As [`TestOutputTopic::read_record`].
    pub fn read_value(&self) -> Result<Option<V>, StreamsError> {
        self.read_record().map(|record| record.value)
    }

    /// All records that wait.
    ///
    /// # Errors
    /// As [`TestOutputTopic::try_read`].
    pub fn read_all(&self) -> Result<Vec<Record<K, V>>, StreamsError> {
        std::iter::from_fn(|| self.try_read().transpose()).collect()
    }

    /// The last value of each key among the records that wait.
    ///
    /// # Errors
    /// As [`TestOutputTopic::try_read`].
    pub fn read_to_map(&self) -> Result<BTreeMap<K, Option<V>>, StreamsError>
    where
        K: Ord,
    {
        Ok(self.read_all()?.into_iter().filter_map(|record| Some((record.key?, record.value))).collect())
    }
}
