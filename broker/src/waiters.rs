//! Delayed requests: who waits for which partition to advance, and until when.
//!
//! Nobody waits on a thread. A waiter hangs on its partitions and in one queue ordered by deadline; it is completed by
//! whoever moves a high watermark, or by [`Waiters::step`] at its deadline, whichever comes first.

use base::Now;

/// All delayed requests of one broker.
#[derive(Default)]
pub struct Waiters {}

impl Waiters {
    /// Completes what is due at `now`; returns the next deadline in ticks.
    pub fn step(&self, _now: Now) -> Option<i64> {
        None
    }
}
