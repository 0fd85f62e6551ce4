//! Which record comes next: the head with the smallest timestamp over all input partitions of a task, and whether the
//! task may go on while some of them are empty.
//!
//! Ties are broken as the JVM does, by where its `PriorityQueue` happens to keep them: [`TimeHeap`] sifts alike.

use base::{Offset, Timestamp, TopicPartition};
use bytes::Bytes;

use crate::error::StreamsError;
use crate::task::record_queue::{SourceQueue, Taken};

/// Indexes of non-empty queues by the timestamp of their heads, arranged as in `java.util.PriorityQueue`.
#[derive(Debug, Default)]
struct TimeHeap {
    entries: Vec<(Timestamp, u32)>,
}

impl TimeHeap {
    fn offer(&mut self, timestamp: Timestamp, queue: u32) {
        self.entries.push((timestamp, queue));
        let mut at = self.entries.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if timestamp >= self.entries[parent].0 {
                break;
            }
            self.entries[at] = self.entries[parent];
            at = parent;
        }
        self.entries[at] = (timestamp, queue);
    }

    fn poll(&mut self) -> Option<u32> {
        let last = self.entries.pop()?;
        let Some(&first) = self.entries.first() else { return Some(last.1) };
        let count = self.entries.len();
        let mut at = 0;
        while at < count / 2 {
            let mut child = 2 * at + 1;
            if child + 1 < count && self.entries[child].0 > self.entries[child + 1].0 {
                child += 1;
            }
            if last.0 <= self.entries[child].0 {
                break;
            }
            self.entries[at] = self.entries[child];
            at = child;
        }
        self.entries[at] = last;
        Some(first.1)
    }
}

/// What is known of the broker's end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lag {
    Unknown,
    Records(i64),
}

struct Input {
    queue: Box<dyn SourceQueue>,
    lag: Lag,
    /// Until when an empty, caught-up partition is waited for.
    deadline: Option<Timestamp>,
}

/// The input partitions of one task.
pub(crate) struct PartitionGroup {
    inputs: Vec<Input>,
    by_time: TimeHeap,
    buffered: usize,
    max_task_idle_ms: i64,
}

impl PartitionGroup {
    pub(crate) fn new(queues: Vec<Box<dyn SourceQueue>>, max_task_idle_ms: i64) -> Self {
        let inputs = queues.into_iter().map(|queue| Input { queue, lag: Lag::Unknown, deadline: None }).collect();
        Self { inputs, by_time: TimeHeap::default(), buffered: 0, max_task_idle_ms }
    }

    /// Adds an input.
    pub(crate) fn add(&mut self, queue: Box<dyn SourceQueue>) {
        self.inputs.push(Input { queue, lag: Lag::Unknown, deadline: None });
    }

    pub(crate) fn index_of(&self, partition: &TopicPartition) -> Option<usize> {
        self.inputs.iter().position(|input| input.queue.partition() == partition)
    }

    pub(crate) fn queue(&self, index: usize) -> &dyn SourceQueue {
        &*self.inputs[index].queue
    }

    pub(crate) fn queue_mut(&mut self, index: usize) -> &mut dyn SourceQueue {
        &mut *self.inputs[index].queue
    }

    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Adds fetched batches to the queue of that index.
    pub(crate) fn push(&mut self, index: usize, fetched: &Bytes, from: Offset) -> Result<usize, StreamsError> {
        let queue = &mut self.inputs[index].queue;
        let was_empty = queue.head_timestamp().is_none();
        let before = queue.count();
        let added = queue.push(fetched, from)?;
        self.buffered += queue.count() - before;
        if was_empty && let Some(timestamp) = queue.head_timestamp() {
            self.by_time.offer(timestamp, index as u32);
        }
        Ok(added)
    }

    /// Tells how many records of that partition the broker still has; negative if unknown.
    pub(crate) fn set_lag(&mut self, index: usize, lag: i64) {
        self.inputs[index].lag = if lag < 0 { Lag::Unknown } else { Lag::Records(lag) };
    }

    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Whether the next record may be taken, although some partitions may be empty.
    ///
    /// Runs once per record: with nothing empty it looks at each queue once.
    pub(crate) fn is_ready(&mut self, wall_clock: Timestamp) -> bool {
        if self.by_time.entries.is_empty() {
            return false;
        }
        if self.max_task_idle_ms < 0 {
            return true;
        }
        if self.by_time.entries.len() == self.inputs.len() {
            if self.max_task_idle_ms > 0 {
                self.inputs.iter_mut().for_each(|input| input.deadline = None);
            }
            return true;
        }
        let mut ready = true;
        for input in &mut self.inputs {
            if input.queue.head_timestamp().is_some() {
                input.deadline = None;
                continue;
            }
            if input.lag != Lag::Records(0) {
                input.deadline = None;
                return false;
            }
            let deadline = *input.deadline.get_or_insert(wall_clock.saturating_add(self.max_task_idle_ms));
            if wall_clock < deadline {
                ready = false;
            }
        }
        ready
    }

    /// When waiting for empty partitions ends by itself; `None` if it does not.
    pub(crate) fn idle_deadline(&self) -> Option<Timestamp> {
        self.inputs.iter().filter_map(|input| input.deadline).max()
    }

    /// Takes the record with the smallest timestamp; [`SourceQueue::process`] of the returned queue processes it.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<Option<(usize, Taken)>, StreamsError> {
        let Some(index) = self.by_time.poll() else { return Ok(None) };
        let queue = &mut self.inputs[index as usize].queue;
        let before = queue.count();
        let taken = queue.take();
        self.buffered -= before - queue.count();
        if let Some(timestamp) = queue.head_timestamp() {
            self.by_time.offer(timestamp, index);
        }
        Ok(Some((index as usize, taken?)))
    }

    pub(crate) fn clear(&mut self) {
        for input in &mut self.inputs {
            input.queue.clear();
            input.lag = Lag::Unknown;
            input.deadline = None;
        }
        self.by_time = TimeHeap::default();
        self.buffered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `java.util.PriorityQueue` polls for the same offers: equal times do not come in the order of insertion.
    #[test]
    fn ties_come_in_the_order_of_a_java_priority_queue() {
        let mut heap = TimeHeap::default();
        for queue in 0..5 {
            heap.offer(7, queue);
        }
        let polled: Vec<u32> = std::iter::from_fn(|| heap.poll()).collect();
        assert_eq!(polled, [0, 4, 3, 2, 1]);
    }

    #[test]
    fn smaller_times_come_first() {
        let mut heap = TimeHeap::default();
        for (queue, time) in [5, 3, 9, 1, 4].into_iter().enumerate() {
            heap.offer(time, queue as u32);
        }
        let polled: Vec<u32> = std::iter::from_fn(|| heap.poll()).collect();
        assert_eq!(polled, [3, 1, 4, 0, 2]);
    }
}
