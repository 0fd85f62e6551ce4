//! A record as a user of [`Producer`](super::Producer) hands it over.

use base::{PartitionId, Timestamp, TopicName};
use bytes::Bytes;
use protocol::record::Headers;

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub struct ProducerRecord {
    pub(super) topic: Option<TopicName>,
    pub(super) partition: Option<PartitionId>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Headers,
}

impl ProducerRecord {
    /// A record for `topic`, so far without key and value.
    pub fn to(topic: impl Into<TopicName>) -> Self {
        Self { topic: Some(topic.into()), ..Self::default() }
    }

    /// With this key; it decides the partition unless one is given.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// For this partition, whatever the key.
    #[must_use]
    pub fn partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this timestamp (milliseconds since 1970) instead of the time of sending.
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, key: &str, value: impl Into<Bytes>) -> Self {
        self.headers.add(key, Some(value.into()));
        self
    }

    /// With these headers.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }
}
