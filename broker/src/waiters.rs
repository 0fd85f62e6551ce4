//! Delayed requests: who waits for which partition to advance, and until when.
//!
//! Nobody waits on a thread, and no request has a timer of its own. A delayed request hangs on its partitions
//! ([`Watchers`]) and in one queue ordered by deadline ([`Waiters`]); it is completed by whoever moves a high watermark,
//! or by [`Waiters::step`] at its deadline, whichever comes first. Completing twice is impossible: each request takes
//! its own answer out of itself under its own lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use base::Now;
use parking_lot::Mutex;

use crate::partition::Partition;

/// A request that waits.
pub trait Delayed: Send + Sync {
    /// `partition`, on which it is registered, has advanced, failed or gone. Called without locks held.
    fn advanced(&self, partition: &Partition);
    /// Its deadline has passed.
    fn expire(&self, now: Now);
    /// It has been answered and can be forgotten.
    fn is_done(&self) -> bool;
}

/// Wakes the broker's timer thread; the step that follows does the work.
struct Alarm;

impl Delayed for Alarm {
    fn advanced(&self, _partition: &Partition) {}

    fn expire(&self, _now: Now) {}

    fn is_done(&self) -> bool {
        false
    }
}

/// Place of a delayed request in the queue: deadline in ticks, then a number.
pub type Ticket = (i64, u64);

/// All delayed requests of one broker, by deadline.
pub struct Waiters {
    /// `None` once the broker has closed.
    queue: Mutex<Option<BTreeMap<Ticket, Arc<dyn Delayed>>>>,
    next_number: AtomicU64,
    /// When the driver will look next, in ticks; an earlier deadline wakes it.
    planned: AtomicI64,
    on_earlier: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Some(BTreeMap::new())),
            next_number: AtomicU64::new(0),
            planned: AtomicI64::new(i64::MAX),
            on_earlier: OnceLock::new(),
        }
    }
}

impl Waiters {
    /// A place in the queue for a request that is about to be built.
    pub fn ticket(&self, deadline_ticks_ms: i64) -> Ticket {
        (deadline_ticks_ms, self.next_number.fetch_add(1, Ordering::Relaxed))
    }

    /// Has `delayed` expire at its ticket's deadline unless it is removed before.
    pub fn add(&self, ticket: Ticket, delayed: Arc<dyn Delayed>) {
        if let Some(queue) = &mut *self.queue.lock() {
            queue.insert(ticket, delayed);
        }
        self.nudge(ticket.0);
    }

    /// Has the driver look again by `deadline_ticks_ms`; for those that keep deadlines of their own.
    pub fn nudge(&self, deadline_ticks_ms: i64) {
        if deadline_ticks_ms < self.planned.load(Ordering::Acquire)
            && let Some(wake) = self.on_earlier.get()
        {
            wake();
        }
    }

    /// Has the driver step the broker at `ticks_ms` at the latest, for those that do what is due within the step.
    pub fn wake_at(&self, ticks_ms: i64) {
        self.add(self.ticket(ticks_ms), Arc::new(Alarm));
    }

    /// Forgets a request that was answered.
    pub fn remove(&self, ticket: Ticket) {
        let removed = self.queue.lock().as_mut().and_then(|queue| queue.remove(&ticket));
        drop(removed); // without the lock: what it holds may go with it
    }

    /// The broker has closed: who still waits is let go unanswered, and so is who comes now. What waits holds the broker that
    /// holds these, so that neither would ever go.
    pub fn close(&self) {
        let queue = self.queue.lock().take();
        drop(queue);
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.queue.lock().as_ref().map_or(0, BTreeMap::len)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Expires what is due at `now`; returns whether anything was, and the next deadline in ticks.
    pub fn step(&self, now: Now) -> (bool, Option<i64>) {
        let mut worked = false;
        loop {
            let due = {
                let mut queue = self.queue.lock();
                match queue.as_mut().and_then(BTreeMap::first_entry) {
                    None => return (worked, None),
                    Some(first) if first.key().0 > now.ticks_ms => return (worked, Some(first.key().0)),
                    Some(first) => first.remove(),
                }
            };
            worked = true;
            due.expire(now);
        }
    }

    /// Has `wake` called when a deadline comes that is earlier than what was planned.
    pub fn on_earlier(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _ = self.on_earlier.set(wake);
    }

    /// Tells until when the driver sleeps.
    pub fn plan(&self, wake_ticks_ms: i64) {
        self.planned.store(wake_ticks_ms, Ordering::Release);
    }
}

/// The delayed requests that hang on one partition.
#[derive(Default)]
pub struct Watchers {
    count: AtomicUsize,
    list: Mutex<Vec<Arc<dyn Delayed>>>,
    closed: AtomicBool,
}

impl Watchers {
    /// Registers a request. The caller must look at the partition once more afterwards: it may have advanced before.
    pub fn add(&self, delayed: Arc<dyn Delayed>) {
        let mut list = self.list.lock();
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        // Requests that were answered through another partition, or expired, stay until somebody tidies up.
        if list.len() >= 16 && list.len().is_power_of_two() {
            list.retain(|delayed| !delayed.is_done());
        }
        list.push(delayed);
        self.count.store(list.len(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The broker has closed: who still waits here is let go, and so is who comes now.
    pub fn close(&self) {
        let list = {
            let mut list = self.list.lock();
            self.closed.store(true, Ordering::Release);
            self.count.store(0, Ordering::SeqCst);
            std::mem::take(&mut *list)
        };
        drop(list);
    }

    /// Tells all that `partition` has advanced. Costs one load when nobody waits, which is the usual case.
    pub fn notify(&self, partition: &Partition) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiting: Vec<Arc<dyn Delayed>> = self.list.lock().clone();
        for delayed in &waiting {
            delayed.advanced(partition);
        }
        let mut list = self.list.lock();
        list.retain(|delayed| !delayed.is_done());
        self.count.store(list.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Delayed for Flag {
        fn advanced(&self, _partition: &Partition) {}
        fn expire(&self, _now: Now) {
            self.0.store(true, Ordering::SeqCst);
        }
        fn is_done(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn a_request_expires_at_its_deadline_and_not_before() {
        let waiters = Waiters::default();
        let (early, late) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        waiters.add(waiters.ticket(10), early.clone());
        waiters.add(waiters.ticket(20), late.clone());
        assert_eq!(waiters.step(Now { wall_ms: 0, ticks_ms: 9 }), (false, Some(10)));
        assert_eq!(waiters.step(Now { wall_ms: 0, ticks_ms: 10 }), (true, Some(20)));
        assert!(early.is_done() && !late.is_done());
        assert_eq!(waiters.step(Now { wall_ms: 0, ticks_ms: 20 }), (true, None));
    }

    #[test]
    fn a_closed_queue_lets_go_of_those_in_it_and_of_those_that_come() {
        let waiters = Waiters::default();
        let flag = Arc::new(Flag::default());
        waiters.add(waiters.ticket(10), flag.clone());
        waiters.close();
        waiters.add(waiters.ticket(11), flag.clone());
        assert_eq!((waiters.len(), Arc::strong_count(&flag)), (0, 1));
        assert_eq!(waiters.step(Now { wall_ms: 0, ticks_ms: 100 }), (false, None));
        let watchers = Watchers::default();
        watchers.add(flag.clone());
        watchers.close();
        watchers.add(flag.clone());
        assert_eq!(Arc::strong_count(&flag), 1);
    }

    #[test]
    fn a_removed_request_does_not_expire() {
        let waiters = Waiters::default();
        let flag = Arc::new(Flag::default());
        let ticket = waiters.ticket(10);
        waiters.add(ticket, flag.clone());
        waiters.remove(ticket);
        assert_eq!(waiters.step(Now { wall_ms: 0, ticks_ms: 100 }), (false, None));
        assert!(!flag.is_done());
    }
}
