//! Keeps warnings that clients can cause from filling the log.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const WARN_INTERVAL_MS: i64 = 10_000;

/// Lets one warning through in [`WARN_INTERVAL_MS`].
pub(crate) struct WarnLimit {
    next_ticks_ms: AtomicI64,
    silenced: AtomicU64,
}

impl WarnLimit {
    pub(crate) const fn new() -> Self {
        Self { next_ticks_ms: AtomicI64::new(i64::MIN), silenced: AtomicU64::new(0) }
    }

    /// How many were held back since the last one that was let through; `None` to hold this one back.
    pub(crate) fn admit(&self, now_ticks_ms: i64) -> Option<u64> {
        let next = self.next_ticks_ms.load(Ordering::Relaxed);
        let again = now_ticks_ms.saturating_add(WARN_INTERVAL_MS);
        let is_due = now_ticks_ms >= next
            && self.next_ticks_ms.compare_exchange(next, again, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_due {
            self.silenced.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.silenced.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_in_ten_seconds_tells_how_many_were_held_back() {
        let limit = WarnLimit::new();
        let at = [0, 1, 9_999, 10_000, 10_001, 20_000].map(|ticks_ms| limit.admit(ticks_ms));
        assert_eq!(at, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
