//! Session windows: spans of activity, apart by at least a gap without.

/// A window from a key's first record to its last one with no pause longer than the gap between them; both ends inclusive. A record that
/// comes between two sessions makes one of them.
///
/// A session stays open for late records until stream time is the gap and the grace period past its end.
///
/// ```
/// use streams_dsl::SessionWindows;
///
/// let windows = SessionWindows::of_gap_ms(300_000).with_grace_ms(10_000);
/// assert_eq!(windows.gap_ms(), 300_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionWindows {
    gap_ms: i64,
    grace_ms: i64,
}

impl SessionWindows {
    /// Records of a key at most `gap_ms` milliseconds apart belong to one session; without grace. A gap below 1 is refused when the topology
    /// is built.
    pub fn of_gap_ms(gap_ms: i64) -> Self {
        Self { gap_ms, grace_ms: 0 }
    }

    /// Records are accepted until stream time is `grace_ms` past the end and gap of their session.
    #[must_use]
    pub fn with_grace_ms(mut self, grace_ms: i64) -> Self {
        self.grace_ms = grace_ms;
        self
    }

    /// The longest pause within a session, in milliseconds.
    pub fn gap_ms(&self) -> i64 {
        self.gap_ms
    }

    /// Grace period in milliseconds.
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }

    /// How long sessions must be kept.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.gap_ms.saturating_add(self.grace_ms)
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.gap_ms < 1 {
            return Some(format!("the gap of a session must be at least 1 ms, not {}", self.gap_ms));
        }
        (self.grace_ms < 0).then(|| format!("a grace period must not be negative: {} ms", self.grace_ms))
    }
}
