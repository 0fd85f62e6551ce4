//! The collector of the test driver: keeps what is sent until the driver takes it.

use std::collections::VecDeque;

use base::{Offset, PartitionId, Timestamp};
use protocol::record::Headers;

use crate::collector::{Collector, OutputRecord, TopicHandle};
use crate::error::{ErrorKind, StreamsError};

/// A record that was sent, owned.
#[derive(Clone, Debug)]
pub(crate) struct Produced {
    /// How many were sent before it.
    pub(crate) order: u64,
    pub(crate) topic: TopicHandle,
    pub(crate) partition: Option<PartitionId>,
    /// Key, then value: changelogs that nobody reads are kept like any topic, so records are kept small.
    bytes: Box<[u8]>,
    /// Length of the key; `None` is a null.
    key: Option<u32>,
    has_value: bool,
    pub(crate) timestamp: Timestamp,
    /// Whether it came without a timestamp and got that of the clock.
    pub(crate) is_stamped: bool,
    pub(crate) headers: Headers,
}

impl Produced {
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.key.map(|length| &self.bytes[..length as usize])
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.has_value.then(|| &self.bytes[self.key.unwrap_or(0) as usize..])
    }
}

/// Every topic has one partition; a record is acknowledged as soon as it is sent.
#[derive(Default)]
pub(crate) struct MemoryCollector {
    topics: Vec<(String, Offset)>,
    count: u64,
    pub(crate) sent: VecDeque<Produced>,
    /// Stamps records that come without time.
    pub(crate) wall_clock: Timestamp,
}

impl MemoryCollector {
    pub(crate) fn new(wall_clock: Timestamp) -> Self {
        Self { wall_clock, ..Self::default() }
    }

    pub(crate) fn name(&self, topic: TopicHandle) -> &str {
        self.topics.get(topic.0 as usize).map_or("", |(name, _)| name)
    }
}

impl Collector for MemoryCollector {
    fn topic(&mut self, topic: &str) -> TopicHandle {
        let index = self.topics.iter().position(|(name, _)| name == topic).unwrap_or_else(|| {
            self.topics.push((topic.to_owned(), 0));
            self.topics.len() - 1
        });
        TopicHandle(index as u32)
    }

    fn partition_count(&mut self, _: TopicHandle) -> Option<PartitionId> {
        Some(1)
    }

    fn send(&mut self, record: OutputRecord<'_>) -> Result<(), StreamsError> {
        if let Some((_, next)) = self.topics.get_mut(record.topic.0 as usize) {
            *next += 1;
        }
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        let key_length = u32::try_from(key.len()).map_err(|_| {
            StreamsError::new(
                ErrorKind::InvalidArgument,
                format!("a key of {} bytes is larger than a record may be", key.len()),
            )
        })?;
        self.sent.push_back(Produced {
            order: self.count,
            topic: record.topic,
            partition: record.partition,
            bytes: [key, value].concat().into_boxed_slice(),
            key: record.key.map(|_| key_length),
            has_value: record.value.is_some(),
            timestamp: record.timestamp.unwrap_or(self.wall_clock),
            is_stamped: record.timestamp.is_none(),
            headers: record.headers.clone(),
        });
        self.count += 1;
        Ok(())
    }

    fn acked_offset(&self, topic: TopicHandle, _: PartitionId) -> Option<Offset> {
        self.topics.get(topic.0 as usize).map(|(_, next)| next - 1).filter(|offset| *offset >= 0)
    }
}
