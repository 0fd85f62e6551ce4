//! Sliding windows: one for each set of records that lie close together.

/// Windows of a fixed length that begin and end with the records: one that ends at each record's timestamp, and one that begins 1 ms after it
/// if later records fall into it. Both ends are inclusive: two records share a window if they lie at most the difference apart.
///
/// A window stays open for late records until stream time has passed its end plus the grace period.
///
/// ```
/// use streams_dsl::SlidingWindows;
///
/// let windows = SlidingWindows::of_difference_ms(60_000).with_grace_ms(10_000);
/// assert_eq!(windows.difference_ms(), 60_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindows {
    difference_ms: i64,
    grace_ms: i64,
}

impl SlidingWindows {
    /// Windows of records at most `difference_ms` milliseconds apart, without grace. A difference below 1 is refused when the topology is
    /// built.
    pub fn of_difference_ms(difference_ms: i64) -> Self {
        Self { difference_ms, grace_ms: 0 }
    }

    /// Records are accepted until stream time is `grace_ms` past the end of their window.
    #[must_use]
    pub fn with_grace_ms(mut self, grace_ms: i64) -> Self {
        self.grace_ms = grace_ms;
        self
    }

    /// The greatest distance of two records in a window, in milliseconds.
    pub fn difference_ms(&self) -> i64 {
        self.difference_ms
    }

    /// Grace period in milliseconds.
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.difference_ms < 1 {
            return Some(format!("a sliding window must span at least 1 ms, not {}", self.difference_ms));
        }
        (self.grace_ms < 0).then(|| format!("a grace period must not be negative: {} ms", self.grace_ms))
    }
}
