//! What one call of a state machine's `step` did, and when it wants to be called again.

/// Result of one step; [`Step::and`] joins those of several parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Something changed: a request went out, a response was taken, a deadline fired.
    pub did_work: bool,
    /// Call again at this tick at the latest, even when nobody woke the waker; `None`: only when woken.
    pub next_wake_ticks_ms: Option<i64>,
}

impl Step {
    /// Nothing done, nothing due.
    pub const IDLE: Self = Self { did_work: false, next_wake_ticks_ms: None };

    /// Nothing done; due again at `ticks_ms`.
    pub fn at(ticks_ms: i64) -> Self {
        Self { did_work: false, next_wake_ticks_ms: Some(ticks_ms) }
    }

    /// Both steps as one: work of either, the earlier wake-up.
    pub fn and(self, other: Self) -> Self {
        Self {
            did_work: self.did_work || other.did_work,
            next_wake_ticks_ms: match (self.next_wake_ticks_ms, other.next_wake_ticks_ms) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }

    /// The same step, due at `ticks_ms` at the latest.
    pub fn wake_at(self, ticks_ms: i64) -> Self {
        self.and(Self::at(ticks_ms))
    }
}
