//! Where a task's output goes: sinks and changelogs hand serialised records to a [`Collector`].
//!
//! The runtime implements it over a producer, the test driver over a queue. Bytes are borrowed: the collector copies
//! them once, into the open batch of their partition.

use std::cell::RefCell;
use std::rc::Rc;

use base::{Offset, PartitionId, Timestamp, TopicPartition};
use protocol::record::Headers;

use crate::error::{ErrorKind, StreamsError};
use crate::topology::options::PartitionChoice;

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

/// Chooses the partitions of one record, once it is known how many its topic has.
pub type ChoosePartitions = Box<dyn FnOnce(PartitionId) -> PartitionChoice>;

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

    /// As [`Collector::send`], for a record whose partition hangs on how many there are while [`Collector::partition_count`] does not
    /// know it: a topic that was named only now. `choose` is called once it is known; the order of a topic's records stays.
    ///
    /// # Errors
    /// As [`Collector::send`]; `IllegalState` of a collector that cannot keep records, which none has to that knows all partitions.
    fn send_once_known(&mut self, record: OutputRecord<'_>, choose: ChoosePartitions) -> Result<(), StreamsError> {
        let Some(partitions) = self.partition_count(record.topic) else {
            return Err(StreamsError::new(ErrorKind::IllegalState, "the partitions of the topic are not known"));
        };
        self.send_to(record, choose(partitions)).map(|_| ())
    }

    /// Sends a record to each partition chosen; whether there is one.
    ///
    /// # Errors
    /// As [`Collector::send`].
    fn send_to(&mut self, mut record: OutputRecord<'_>, choice: PartitionChoice) -> Result<bool, StreamsError> {
        match choice {
            PartitionChoice::Drop => return Ok(false),
            PartitionChoice::Default => self.send(record)?,
            PartitionChoice::One(partition) => {
                record.partition = Some(partition);
                self.send(record)?;
            }
            PartitionChoice::Several(partitions) => {
                for partition in partitions {
                    record.partition = Some(partition);
                    self.send(record)?;
                }
            }
        }
        Ok(true)
    }

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
