//! Records that wait to be sent or acknowledged, by partition: at most one open batch, closed batches in order, and
//! batches under way in order.
//!
//! Invariant per partition: `number` rises over under way, then queued, then open; so do the sequences of those that
//! have one. A batch gets its sequence when it is first sent and keeps it over retries.

use std::collections::VecDeque;
use std::sync::Arc;

use base::{Offset, PartitionId, ProducerEpoch, ProducerId, Rng, Sequence, TopicName};
use bytes::Bytes;
use protocol::api::{ErrorCode, Uuid};
use protocol::record::{BatchBuilder, crc_of, increment_sequence};

use super::ticket::Outcome;
use crate::metadata::TopicMetadata;

/// A partition of one producer: index of the topic, index of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub topic: u32,
    pub partition: u32,
}

/// Identity of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

impl Identity {
    pub(super) const NONE: Self = Self { id: -1, epoch: -1 };
}

pub(super) enum Body {
    /// Takes records, or is closed and not yet sent.
    Open(BatchBuilder),
    /// As sent.
    Built(Bytes),
}

pub(super) struct Batch {
    /// Rises by one per batch of the partition.
    pub number: u64,
    pub body: Body,
    pub records: u32,
    /// Bytes counted against `buffer.memory`.
    pub accounted_bytes: usize,
    pub opened_ticks_ms: i64,
    /// How often it has been sent.
    pub attempts: u32,
    /// -1 before it is first sent, and without idempotence.
    pub sequence: Sequence,
    /// Of which flush it is part.
    pub flush: u64,
    pub outcome: Option<Arc<Outcome>>,
    /// Whether it holds records without a ticket, whose failure is reported by `take_error`.
    pub untracked: bool,
    /// What its last attempt ended with.
    pub failure: Option<(Option<ErrorCode>, String)>,
}

impl Batch {
    /// Rewrites producer id, epoch and sequence of a batch that was built before.
    pub(super) fn restamp(&mut self, identity: Identity, sequence: Sequence) {
        self.sequence = sequence;
        if let Body::Built(bytes) = &mut self.body
            && bytes.len() >= protocol::record::HEADER_SIZE
        {
            let mut batch = bytes.to_vec();
            batch[43..51].copy_from_slice(&identity.id.to_be_bytes());
            batch[51..53].copy_from_slice(&identity.epoch.to_be_bytes());
            batch[53..57].copy_from_slice(&sequence.to_be_bytes());
            let crc = crc_of(&batch);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            *bytes = batch.into();
        }
    }
}

/// A batch under way, and in which request.
pub(super) struct Sent {
    pub request: u64,
    pub batch: Batch,
}

#[derive(Default)]
pub(super) struct Partition {
    /// Node id of the leader, if there is one that can be reached.
    pub leader: Option<i32>,
    pub open: Option<Batch>,
    pub queue: VecDeque<Batch>,
    pub sent: VecDeque<Sent>,
    /// Whether it is in the list of partitions with something queued.
    pub listed: bool,
    /// Nothing is sent before this tick.
    pub muted_until: i64,
    pub next_number: u64,
    pub next_sequence: Sequence,
    /// Under which identity `next_sequence` counts; `None` before the first batch.
    pub identity: Option<Identity>,
    /// Whether a batch was acknowledged under that identity. Before that the broker takes any sequence for the first, so
    /// only one batch is under way.
    pub established: bool,
    /// A sequence was refused for good: once nothing is under way, all batches are numbered anew under a new epoch.
    pub renumber: bool,
    pub acked: Option<Offset>,
    /// Size of the last batch: room for the next is made accordingly.
    pub last_size: usize,
}

impl Partition {
    /// Puts a batch that failed back to where its number belongs.
    pub(super) fn requeue(&mut self, batch: Batch) {
        let position = self.queue.partition_point(|queued| queued.number < batch.number);
        self.queue.insert(position, batch);
    }

    /// Whether a batch may go out: not while a retried one is under way, nor a retried one beside others, because a
    /// later batch must not overtake it.
    pub(super) fn may_send(&self, in_flight_max: usize) -> bool {
        let Some(front) = self.queue.front() else { return false };
        if self.renumber {
            return false;
        }
        if self.sent.is_empty() {
            return true;
        }
        if self.identity.is_some() && !self.established {
            return false;
        }
        front.attempts == 0 && self.sent.len() < in_flight_max && self.sent.iter().all(|sent| sent.batch.attempts <= 1)
    }

    /// Numbers the queued batches that have a sequence anew, from 0 under `identity`. Nothing may be under way.
    pub(super) fn renumber_under(&mut self, identity: Identity) {
        let mut sequence = 0;
        for batch in self.queue.iter_mut().filter(|batch| matches!(batch.body, Body::Built(_))) {
            batch.restamp(identity, sequence);
            sequence = increment_sequence(sequence, batch.records as i32);
        }
        self.next_sequence = sequence;
        self.identity = Some(identity);
        self.renumber = false;
        self.established = false;
    }
}

pub(super) struct Topic {
    pub name: TopicName,
    pub id: Uuid,
    pub partitions: Vec<Partition>,
    /// What the cluster says about a topic that it does not have.
    pub missing: Option<ErrorCode>,
    sticky: Sticky,
}

/// The partition that records without a key go to, until a batch's worth has gone there.
#[derive(Default)]
struct Sticky {
    partition: Option<PartitionId>,
    bytes: usize,
}

impl Topic {
    pub(super) fn new(name: TopicName) -> Self {
        Self { name, id: Uuid::nil(), partitions: Vec::new(), missing: None, sticky: Sticky::default() }
    }

    /// Takes over what metadata says. Partitions never become fewer: those of a topic made anew with fewer have no
    /// leader, and what waits for them times out.
    pub(super) fn update(&mut self, topic: &TopicMetadata, leader: impl Fn(PartitionId) -> Option<i32>) {
        self.id = topic.id;
        self.missing = None;
        if self.partitions.len() < topic.partitions.len() {
            self.partitions.resize_with(topic.partitions.len(), Partition::default);
        }
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            let now = leader(index as PartitionId);
            if now != partition.leader && now.is_some() {
                // A new leader need not be waited for.
                partition.muted_until = i64::MIN;
            }
            partition.leader = now;
        }
    }

    /// Kafka's sticky choice for records without a key: another partition (one with a leader, if there is one) after
    /// `batch_size` bytes, drawn at random.
    pub(super) fn sticky_partition(&mut self, size: usize, batch_size: usize, rng: &mut Rng) -> PartitionId {
        match self.sticky.partition {
            Some(partition) if self.sticky.bytes < batch_size => {
                self.sticky.bytes += size;
                partition
            }
            _ => {
                let count = self.partitions.len();
                let led = self.partitions.iter().filter(|partition| partition.leader.is_some()).count();
                let partition = if led == 0 {
                    rng.below(count as u64) as usize
                } else {
                    let nth = rng.below(led as u64) as usize;
                    let mut with_leader =
                        self.partitions.iter().enumerate().filter(|(_, partition)| partition.leader.is_some());
                    with_leader.nth(nth).map_or(0, |(index, _)| index)
                } as PartitionId;
                self.sticky = Sticky { partition: Some(partition), bytes: size };
                partition
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::record::{BuilderOptions, Compression, HeadersRef, RecordBatch};

    #[test]
    fn a_restamped_batch_is_valid_and_has_the_new_identity() {
        let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
        builder.append(5, Some(b"k"), Some(b"v"), HeadersRef::EMPTY).unwrap();
        builder.set_producer(7, 0, 100);
        let mut batch = Batch {
            number: 0,
            body: Body::Built(builder.build().unwrap()),
            records: 1,
            accounted_bytes: 0,
            opened_ticks_ms: 0,
            attempts: 1,
            sequence: 100,
            flush: 0,
            outcome: None,
            untracked: true,
            failure: None,
        };
        batch.restamp(Identity { id: 7, epoch: 1 }, 3);
        let Body::Built(bytes) = batch.body else { unreachable!() };
        let read = RecordBatch::new(bytes).unwrap();
        read.verify_crc().unwrap();
        let header = read.header();
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 3));
    }
}
