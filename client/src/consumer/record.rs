//! Records as a [`Consumer`](super::Consumer) hands them out: slices of the batches that were fetched.

use base::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicName, TopicPartition};
use bytes::Bytes;
use protocol::record::{Headers, RecordSlot, RecordView, TimestampType};

/// One record, owning cheap slices of its batch.
#[derive(Clone, Debug)]
pub struct ConsumerRecord {
    /// Topic it was read from.
    pub topic: TopicName,
    /// Partition it was read from.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// The producer's timestamp, or the time of the append.
    pub timestamp: Timestamp,
    /// Which of the two.
    pub timestamp_type: TimestampType,
    /// Leader epoch of its batch; -1 when unknown.
    pub leader_epoch: LeaderEpoch,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

/// The records of one poll, by partition in order of offsets. Keys, values and headers are cut out when iterated.
#[derive(Clone, Debug, Default)]
pub struct ConsumerRecords {
    pub(super) parts: Vec<Part>,
}

/// Records of one batch.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub partition: TopicPartition,
    pub timestamp_type: TimestampType,
    pub leader_epoch: LeaderEpoch,
    pub body: Bytes,
    pub slots: Vec<RecordSlot>,
}

impl ConsumerRecords {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.slots.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Partitions that the records are of, each once.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let mut partitions: Vec<TopicPartition> = self.parts.iter().map(|part| part.partition.clone()).collect();
        partitions.sort();
        partitions.dedup();
        partitions
    }

    /// The records, one by one; nothing is copied but headers.
    pub fn iter(&self) -> impl Iterator<Item = ConsumerRecord> + '_ {
        self.parts.iter().flat_map(|part| part.slots.iter().map(|slot| part.record(slot)))
    }

    /// Calls `each` with every record, borrowed: the way with the least work per record.
    pub fn for_each(&self, mut each: impl FnMut(&TopicPartition, RecordView<'_>)) {
        for part in &self.parts {
            for slot in &part.slots {
                each(&part.partition, slot.view(&part.body));
            }
        }
    }
}

impl Part {
    fn record(&self, slot: &RecordSlot) -> ConsumerRecord {
        ConsumerRecord {
            topic: self.partition.topic.clone(),
            partition: self.partition.partition,
            offset: slot.offset,
            timestamp: slot.timestamp,
            timestamp_type: self.timestamp_type,
            leader_epoch: self.leader_epoch,
            key: slot.key.slice(&self.body),
            value: slot.value.slice(&self.body),
            headers: slot.view(&self.body).headers.to_headers(),
        }
    }
}

impl IntoIterator for ConsumerRecords {
    type Item = ConsumerRecord;
    type IntoIter = std::vec::IntoIter<ConsumerRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().collect::<Vec<_>>().into_iter()
    }
}
