//! What passes along the edges of a topology: [`Record`], and [`Change`] as the value on edges of tables.

use base::Timestamp;
use protocol::record::Headers;

/// One record on an edge: typed key and value, either of which may be null, with its event time and headers.
///
/// Cloning clones key and value; headers are shared until changed. A record without headers holds no allocation for
/// them.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<K, V> {
    /// The key; `None` is Kafka's null key.
    pub key: Option<K>,
    /// The value; `None` is a tombstone.
    pub value: Option<V>,
    /// Event time in milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// Headers, empty for most records.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// A record with key and value, without headers.
    pub fn new(key: K, value: V, timestamp: Timestamp) -> Self {
        Self { key: Some(key), value: Some(value), timestamp, headers: Headers::default() }
    }

    /// A record of which key or value may be null, without headers.
    pub fn of(key: Option<K>, value: Option<V>, timestamp: Timestamp) -> Self {
        Self { key, value, timestamp, headers: Headers::default() }
    }

    /// The same record with another key.
    pub fn with_key<K2>(self, key: Option<K2>) -> Record<K2, V> {
        Record { key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: Option<V2>) -> Record<K, V2> {
        Record { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with another timestamp.
    pub fn with_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// The same record with other headers.
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Takes the value out, for code that changes its type: the rest of the record stays usable.
    pub fn map_value<V2>(self, map: impl FnOnce(Option<V>) -> Option<V2>) -> Record<K, V2> {
        Record { key: self.key, value: map(self.value), timestamp: self.timestamp, headers: self.headers }
    }
}

/// A table's update of one key: what it is now and, where someone downstream asked for it, what it was before.
///
/// Travels as `Record<K, Change<V>>`; such a record's value is never null, a deletion is `new: None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<V> {
    /// The value after the update; `None` after a deletion.
    pub new: Option<V>,
    /// The value before it; `None` when there was none, or nobody asked for old values.
    pub old: Option<V>,
    /// False for an out-of-order update of a versioned table: a newer version of the key exists.
    pub is_latest: bool,
}

impl<V> Change<V> {
    /// The newest update of its key.
    pub fn new(new: Option<V>, old: Option<V>) -> Self {
        Self { new, old, is_latest: true }
    }
}
