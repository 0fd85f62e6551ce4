//! The collector of the test driver: keeps what is sent until the driver takes it.

use std::collections::VecDeque;

use base::{Offset, PartitionId, Timestamp};
use protocol::record::Headers;

use crate::collector::{Collector, OutputRecord, TopicHandle};
use crate::error::StreamsError;

/// A record that was sent, owned.
#[derive(Clone, Debug)]
pub(crate) struct Produced {
    /// How many were sent before it.
    pub(crate) order: u64,
    pub(crate) topic: TopicHandle,
    pub(crate) partition: Option<PartitionId>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: Timestamp,
    /// Whether it came without a timestamp and got that of the clock.
    pub(crate) is_stamped: bool,
    pub(crate) headers: Headers,
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
        self.sent.push_back(Produced {
            order: self.count,
            topic: record.topic,
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
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
