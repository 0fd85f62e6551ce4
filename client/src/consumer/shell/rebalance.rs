//! What a program hears of rebalances, and may do meanwhile.

use base::{Offset, TopicPartition};

use crate::consumer::core::ConsumerCore;
use crate::consumer::types::{CommitTicket, OffsetAndMetadata};
use crate::error::ClientError;

/// Hears of rebalances, on the thread that polls, within the poll.
pub trait RebalanceListener: Send {
    /// These partitions are about to go to others: the last chance to commit what was processed.
    fn on_partitions_revoked(&mut self, consumer: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// These partitions went to others already: nothing may be committed for them any more.
    fn on_partitions_lost(&mut self, consumer: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }

    /// These partitions are new (none, if the rebalance brought nothing): the place to seek.
    fn on_partitions_assigned(&mut self, consumer: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        let _ = (consumer, partitions);
    }
}

/// What a [`RebalanceListener`] may do.
pub struct Rebalance<'a> {
    pub(super) core: &'a mut ConsumerCore,
    pub(super) commits: &'a mut Vec<CommitTicket>,
}

impl Rebalance<'_> {
    /// Commits these offsets; the poll goes on with the rebalance when the commit is through.
    pub fn commit(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>) {
        self.commits.push(self.core.commit(offsets));
    }

    /// See [`Consumer::position`](super::Consumer::position).
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.core.position(partition)
    }

    /// See [`Consumer::seek`](super::Consumer::seek).
    ///
    /// # Errors
    /// As there.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        self.core.seek(partition, offset)
    }

    /// Pauses partitions.
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        self.core.pause(partitions);
    }
}
