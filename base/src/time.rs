//! Time enters here and nowhere else: state machines are handed a [`Now`], drivers read it from a [`Clock`].
//!
//! Two readings travel together. `wall_ms` stamps records and is what users see; it may jump. `ticks_ms` only ever
//! grows and is what every timeout, linger and interval is measured in.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::ids::Timestamp;

/// One reading of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch; for record timestamps and retention.
    pub wall_ms: Timestamp,
    /// Milliseconds since an arbitrary start; never goes back; for timeouts and intervals.
    pub ticks_ms: i64,
}

/// Source of time.
pub trait Clock: Send + Sync {
    /// The present moment on both scales.
    fn now(&self) -> Now;

    /// Microseconds since an arbitrary start, never going back; for measuring only.
    fn ticks_us(&self) -> u64;

    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> Timestamp {
        self.now().wall_ms
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose ticks count from this call.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where real time enters")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// [`SystemClock::new`], ready to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where real time enters")]
    fn now(&self) -> Now {
        // A clock set before 1970 reads as 0 instead of failing.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall_ms: wall.as_millis() as i64, ticks_ms: self.start.elapsed().as_millis() as i64 }
    }

    fn ticks_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// A clock that moves only when told to; for tests and simulation.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    ticks_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `wall_ms` with its ticks at 0.
    pub fn new(wall_ms: Timestamp) -> Arc<Self> {
        Arc::new(Self { wall_ms: AtomicI64::new(wall_ms), ticks_ms: AtomicI64::new(0) })
    }

    /// Moves both scales forward by `ms`.
    pub fn advance_ms(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.ticks_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator might; ticks stay.
    pub fn set_wall_ms(&self, wall_ms: Timestamp) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms.load(Ordering::SeqCst), ticks_ms: self.ticks_ms.load(Ordering::SeqCst) }
    }

    fn ticks_us(&self) -> u64 {
        self.ticks_ms.load(Ordering::SeqCst) as u64 * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(1_000);
        assert_eq!(clock.now(), Now { wall_ms: 1_000, ticks_ms: 0 });
        clock.advance_ms(5);
        assert_eq!(clock.now(), Now { wall_ms: 1_005, ticks_ms: 5 });
        clock.set_wall_ms(7);
        assert_eq!(clock.now(), Now { wall_ms: 7, ticks_ms: 5 });
    }

    #[test]
    fn system_ticks_never_go_back() {
        let clock = SystemClock::new();
        let first = clock.now().ticks_ms;
        assert!(clock.now().ticks_ms >= first);
        assert!(clock.wall_ms() > 1_600_000_000_000);
    }
}
