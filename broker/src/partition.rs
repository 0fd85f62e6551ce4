//! One partition this broker leads: its log, its leader epoch, and who waits for it to advance.
//!
//! What other parts of the broker (the group coordinator) use:
//! `Partition::append(&self, batch, ..)` and `Partition::when_committed(&self, end_offset, deadline, callback)`.

use base::TopicPartition;

/// The leader's side of one partition.
pub struct Partition {
    /// Which one.
    pub topic_partition: TopicPartition,
}
