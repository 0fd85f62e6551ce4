//! Where a task's output goes: sinks and changelogs hand serialised records to a [`Collector`].
//!
//! The runtime implements it over a producer, the test driver over a queue. Bytes are borrowed: the collector copies
//! them once, into the open batch of their partition.

use std::cell::RefCell;
use std::rc::Rc;

use base::{Offset, PartitionId, Timestamp, TopicPartition};
use protocol::record::Headers;

use crate::error::StreamsError;

/// A topic known to one collector; an index, so that sending needs no look-up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicHandle(pub u32);

/// One output record, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct OutputRecord<'a> {
    /// Topic, from [`Collector::topic`].
    pub topic: TopicHandle,
    /// Partition; `None` leaves the choice to the producer's partitioner.
    pub partition: Option<PartitionId>,
    /// Serialised key.
    pub key: Option<&'a [u8]>,
    /// Serialised value.
    pub value: Option<&'a [u8]>,
    /// Event time; `None` lets the producer stamp its wall clock.
    pub timestamp: Option<Timestamp>,
    /// Headers.
    pub headers: &'a Headers,
}

/// Takes output records in order. All of a task's output, changelogs included, goes through one collector.
pub trait Collector {
    /// The handle of `topic`; the same one for the same name.
    fn topic(&mut self, topic: &str) -> TopicHandle;

    /// How many partitions `topic` has; `None` while that is unknown.
    fn partition_count(&mut self, topic: TopicHandle) -> Option<PartitionId>;

    /// Takes one record; copies what it keeps. Does not block on the network.
    ///
    /// # Errors
    /// Failures of *earlier* records show here too, as the next thing the task does with its collector.
    fn send(&mut self, record: OutputRecord<'_>) -> Result<(), StreamsError>;

    /// Offset of the last record of this partition, sent through this collector, that the log acknowledged; `None`
    /// before the first. Positions of changelogs come from here.
    fn acked_offset(&self, topic: TopicHandle, partition: PartitionId) -> Option<Offset>;
}

/// A collector shared by the nodes and stores of a thread's tasks.
pub type CollectorRef = Rc<RefCell<dyn Collector>>;

/// A partition of the changelog of one store, as a collector knows it.
#[derive(Clone, Debug)]
pub struct ChangelogPartition {
    /// Handle for sending.
    pub topic: TopicHandle,
    /// Topic and partition, for offsets and messages.
    pub partition: TopicPartition,
}
