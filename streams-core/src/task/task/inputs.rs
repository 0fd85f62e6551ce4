//! What a task is fed with: batches of its input partitions, and what is known of the brokers' ends of them.

use base::{Now, Offset, TopicPartition};
use bytes::Bytes;

use super::Task;
use crate::error::{ErrorKind, StreamsError};

impl Task {
    /// Queues fetched batches of an input partition; records below `from`, the offset that was asked for, are left out.
    /// Nothing is copied; batches are decoded as their records are reached. Returns the number of records.
    ///
    /// # Errors
    /// The batches are corrupt, or the first record cannot be read and the handler does not resume.
    pub fn add_records(
        &mut self,
        partition: &TopicPartition,
        fetched: &Bytes,
        from: Offset,
        now: Now,
    ) -> Result<usize, StreamsError> {
        self.shared.set_wall_clock(now.wall_ms);
        let index = self.input(partition)?;
        self.group.push(index, fetched, from)
    }

    fn input(&self, partition: &TopicPartition) -> Result<usize, StreamsError> {
        self.group.index_of(partition).ok_or_else(|| {
            StreamsError::new(ErrorKind::IllegalState, format!("{partition} is no input of this task"))
                .in_task(self.id())
        })
    }

    /// Adds an input partition: of a topic that came to match a pattern.
    ///
    /// # Errors
    /// It is not initialised, or reads no such topic.
    pub(crate) fn add_input(&mut self, partition: TopicPartition) -> Result<(), StreamsError> {
        let Some(sources) = &self.nodes.sources else {
            return Err(StreamsError::new(ErrorKind::IllegalState, "the task has no sources yet").in_task(self.id()));
        };
        let queue = sources.queue(self.partitions.len() as u32, &partition)?;
        self.group.add(queue);
        self.partitions.push(partition);
        self.shared.set_partitions(self.partitions.clone());
        Ok(())
    }

    /// Tells how many records the broker still has of an input partition beyond those handed over (negative: unknown);
    /// `max.task.idle.ms` waits by it.
    ///
    /// # Errors
    /// The partition is no input of this task.
    pub fn set_lag(&mut self, partition: &TopicPartition, lag: i64) -> Result<(), StreamsError> {
        let index = self.input(partition)?;
        self.group.set_lag(index, lag);
        Ok(())
    }

    /// Tells that the consumer's position has moved to `offset` without delivering what lies before it (control records,
    /// aborted transactions).
    ///
    /// # Errors
    /// The partition is no input of this task.
    pub fn advance_position(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), StreamsError> {
        let index = self.input(partition)?;
        self.group.queue_mut(index).advance_position(offset);
        Ok(())
    }

    /// Records in the queue of an input partition: above `buffered.records.per.partition` it is to be paused.
    pub fn buffered(&self, partition: &TopicPartition) -> usize {
        self.group.index_of(partition).map_or(0, |index| self.group.queue(index).count())
    }

    /// Records in all its queues.
    pub fn buffered_total(&self) -> usize {
        self.group.buffered()
    }
}
