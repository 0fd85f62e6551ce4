//! Names and numbers of Kafka's world, so that a signature says which `i64` it means.
//!
//! The numeric ones are aliases: offsets and timestamps are added, compared and written as big-endian integers on every
//! hot path, and a wrapper type bought nothing there but noise.

use std::fmt;
use std::sync::Arc;

/// Position of a record in a partition, counted from 0.
pub type Offset = i64;
/// Milliseconds since the Unix epoch; -1 when unknown.
pub type Timestamp = i64;
/// Index of a partition within its topic, counted from 0.
pub type PartitionId = i32;
/// Identity of an idempotent or transactional producer; -1 for none.
pub type ProducerId = i64;
/// Generation of a producer id; -1 for none.
pub type ProducerEpoch = i16;
/// Term of a partition's leader; -1 when unknown.
pub type LeaderEpoch = i32;
/// Sequence number of a producer's record in a partition; wraps from `i32::MAX` to 0; -1 for none.
pub type Sequence = i32;
/// Name of a topic, shared by everything that refers to it.
pub type TopicName = Arc<str>;

/// One partition of one topic; prints as `topic-partition`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: TopicName,
    /// Index of the partition.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<TopicName>, partition: PartitionId) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
