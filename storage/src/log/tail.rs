//! The batches appended last, in memory: readers at the end of the log share them without a system call.
//!
//! Bounded per partition and per directory; what was appended first goes first, over all partitions. Never a source of
//! truth: whatever is here is in the file too.
//!
//! Kept only while somebody reads at the end: a batch that is kept holds the memory of the request it came in, and
//! whoever receives requests would write each into memory that no cache of the processor has.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use base::Offset;
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::api::{Piece, Pieces};

/// Counted for each batch besides its bytes, so that many small ones are bounded too.
const BATCH_OVERHEAD: usize = 128;

struct TailBatch {
    base_offset: Offset,
    last_offset: Offset,
    /// The patched header, or the whole batch when `body` is empty.
    head: Bytes,
    body: Bytes,
}

impl TailBatch {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn cost(&self) -> usize {
        self.len() + BATCH_OVERHEAD
    }
}

#[derive(Default)]
struct State {
    batches: VecDeque<TailBatch>,
    cost: usize,
    /// Number of the first batch, counted from the partition's opening: entries in the budget's queue name it.
    first_number: u64,
}

impl State {
    fn pop(&mut self, budget: &TailBudget) {
        if let Some(batch) = self.batches.pop_front() {
            self.cost -= batch.cost();
            self.first_number += 1;
            budget.release(batch.cost());
        }
    }

    fn clear(&mut self, budget: &TailBudget) {
        while !self.batches.is_empty() {
            self.pop(budget);
        }
    }
}

/// The tail of one partition.
pub(super) struct Tail {
    state: Mutex<State>,
    /// What was appended since somebody read at the end of the log; above what a partition may have, nothing is kept.
    unread: AtomicUsize,
    budget: Arc<TailBudget>,
}

/// What all tails of a directory may take together.
pub(super) struct TailBudget {
    partition_max: usize,
    total_max: usize,
    used: AtomicUsize,
    live: AtomicUsize,
    /// Batches in the order of their appends, over all partitions; some are gone already.
    queue: Mutex<VecDeque<(Weak<Tail>, u64)>>,
}

impl TailBudget {
    pub(super) fn new(partition_max: usize, total_max: usize) -> Arc<Self> {
        Arc::new(Self {
            partition_max,
            total_max,
            used: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            queue: Mutex::new(VecDeque::new()),
        })
    }

    fn release(&self, cost: usize) {
        self.used.fetch_sub(cost, Ordering::Relaxed);
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes a new batch, and evicts the oldest ones of all partitions while there is too much.
    fn admit(&self, tail: &Arc<Tail>, number: u64, cost: usize) {
        self.used.fetch_add(cost, Ordering::Relaxed);
        let live = self.live.fetch_add(1, Ordering::Relaxed) + 1;
        let mut queue = self.queue.lock();
        queue.push_back((Arc::downgrade(tail), number));
        // Entries of batches that a partition's own bound evicted pile up: swept when they are the majority.
        if queue.len() > 64 + 2 * live {
            queue.retain(|(tail, number)| tail.upgrade().is_some_and(|tail| *number >= tail.state.lock().first_number));
        }
        while self.used.load(Ordering::Relaxed) > self.total_max {
            let Some((victim, number)) = queue.pop_front() else { break };
            if let Some(victim) = victim.upgrade() {
                let mut state = victim.state.lock();
                if state.first_number <= number {
                    state.pop(self);
                }
            }
        }
    }
}

impl Tail {
    pub(super) fn new(budget: Arc<TailBudget>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), unread: AtomicUsize::new(usize::MAX), budget })
    }

    /// Somebody reads at the end of the log: what is appended from now on is kept.
    pub(super) fn keep(&self) {
        self.unread.store(0, Ordering::Relaxed);
    }

    /// Adds the batch just appended, if somebody reads here; `head` and `body` are its bytes.
    pub(super) fn push(self: &Arc<Self>, base_offset: Offset, last_offset: Offset, head: Bytes, body: Bytes) {
        if self.unread.load(Ordering::Relaxed) > self.budget.partition_max {
            return;
        }
        let batch = TailBatch { base_offset, last_offset, head, body };
        let cost = batch.cost();
        if self.unread.fetch_add(cost, Ordering::Relaxed).saturating_add(cost) > self.budget.partition_max {
            // Whoever reads on now finds its place only in the file.
            self.clear();
            return;
        }
        let number = {
            let mut state = self.state.lock();
            state.batches.push_back(batch);
            state.cost += cost;
            state.first_number + state.batches.len() as u64 - 1
        };
        self.budget.admit(self, number, cost);
        let mut state = self.state.lock();
        while state.cost > self.budget.partition_max {
            state.pop(&self.budget);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.state.lock().clear(&self.budget);
    }

    /// Forgets the batches that begin before `offset`.
    pub(super) fn forget_before(&self, offset: Offset) {
        let mut state = self.state.lock();
        while state.batches.front().is_some_and(|batch| batch.base_offset < offset) {
            state.pop(&self.budget);
        }
    }

    /// Whole batches from the one that holds `from` up to `limit`, at most `max_bytes` unless the first alone is more
    /// and `min_one_batch`; `None` if the tail does not reach back to `from`.
    pub(super) fn read(&self, from: Offset, limit: Offset, max_bytes: usize, min_one_batch: bool) -> Option<Pieces> {
        let state = self.state.lock();
        if state.batches.front()?.base_offset > from {
            return None;
        }
        self.keep();
        let first = state.batches.partition_point(|batch| batch.last_offset < from);
        let mut pieces = Pieces::new();
        let mut total = 0;
        for batch in state.batches.range(first..) {
            let len = batch.len();
            let fits = total + len <= max_bytes || (total == 0 && min_one_batch);
            if batch.base_offset >= limit || !fits {
                break;
            }
            total += len;
            pieces.push(Piece::Memory(batch.head.clone()));
            pieces.push(Piece::Memory(batch.body.clone()));
        }
        Some(pieces)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(tail: &Arc<Tail>, offset: Offset) {
        tail.push(offset, offset, Bytes::from(vec![0; 61]), Bytes::from(vec![0; 811]));
    }

    /// A tail at which somebody reads.
    fn read_tail(budget: &Arc<TailBudget>) -> Arc<Tail> {
        let tail = Tail::new(Arc::clone(budget));
        tail.keep();
        tail
    }

    #[test]
    fn oldest_batches_of_all_partitions_go_first() {
        let budget = TailBudget::new(1 << 20, 3_000);
        let (a, b) = (read_tail(&budget), read_tail(&budget));
        push(&a, 0);
        push(&b, 0);
        push(&a, 1);
        push(&a, 2);
        assert!(a.read(0, 3, 1 << 20, false).is_none());
        assert_eq!(b.read(0, 1, 1 << 20, false).unwrap().len_bytes(), 872);
        push(&a, 3);
        assert!(b.read(0, 1, 1 << 20, false).is_none());
        assert_eq!(a.read(1, 4, 1 << 20, false).unwrap().len_bytes(), 3 * 872);
    }

    #[test]
    fn queue_does_not_grow_with_a_single_busy_partition() {
        let budget = TailBudget::new(10_000, 1 << 20);
        let tail = read_tail(&budget);
        (0..10_000).for_each(|offset| {
            push(&tail, offset);
            tail.keep();
        });
        assert!(budget.queue.lock().len() < 100);
        assert_eq!(budget.used.load(Ordering::Relaxed), 10_000);
        drop(tail);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_nobody_reads_is_not_kept() {
        let budget = TailBudget::new(3_000, 1 << 20);
        let tail = Tail::new(Arc::clone(&budget));
        let first_after = |offset| tail.read(offset, i64::MAX, 1 << 20, false).map(|pieces| pieces.len_bytes() / 872);
        push(&tail, 0);
        assert_eq!(first_after(0), None, "nobody has read yet");
        tail.keep();
        (1..4).for_each(|offset| push(&tail, offset));
        assert_eq!((first_after(0), first_after(1)), (None, Some(3)));
        (4..7).for_each(|offset| push(&tail, offset));
        assert_eq!(first_after(4), Some(3), "each read begins the count anew");
        (7..11).for_each(|offset| push(&tail, offset));
        assert_eq!((first_after(7), first_after(10)), (None, None), "more than a partition may have, and no reader");
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        push(&tail, 11);
        tail.keep();
        push(&tail, 12);
        assert_eq!((first_after(11), first_after(12)), (None, Some(1)));
    }

    #[test]
    fn read_keeps_to_whole_batches_and_the_limit() {
        let tail = read_tail(&TailBudget::new(1 << 20, 1 << 20));
        (5..10).for_each(|offset| push(&tail, offset));
        let bytes = |from, limit, max, min_one| tail.read(from, limit, max, min_one).map(|pieces| pieces.len_bytes());
        assert_eq!(bytes(5, 10, 2_000, false), Some(2 * 872));
        assert_eq!(bytes(8, 9, 2_000, false), Some(872));
        assert_eq!(bytes(8, 9, 1, false), Some(0));
        assert_eq!(bytes(8, 9, 1, true), Some(872));
        assert_eq!(bytes(4, 9, 1, true), None);
    }
}
