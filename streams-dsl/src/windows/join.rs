//! The span of time in which records of two streams join.

/// Two records join if they have the same key and the right one's timestamp lies between the left one's minus `before` and plus `after`,
/// both inclusive.
///
/// Unmatched records of a left or outer join are held until stream time has passed their span and the grace period.
///
/// ```
/// use streams_dsl::JoinWindows;
///
/// // A click up to a minute after the view it belongs to.
/// let windows = JoinWindows::of_difference_ms(60_000).before_ms(0).with_grace_ms(10_000);
/// assert_eq!(windows.size_ms(), 60_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinWindows {
    before_ms: i64,
    after_ms: i64,
    grace_ms: i64,
}

impl JoinWindows {
    /// Timestamps at most `difference_ms` milliseconds apart, either way, without grace.
    pub const fn of_difference_ms(difference_ms: i64) -> Self {
        Self { before_ms: difference_ms, after_ms: difference_ms, grace_ms: 0 }
    }

    /// The right record may be that much older than the left one; negative if it must be younger by as much.
    #[must_use]
    pub fn before_ms(mut self, before_ms: i64) -> Self {
        self.before_ms = before_ms;
        self
    }

    /// The right record may be that much younger than the left one; negative if it must be older by as much.
    #[must_use]
    pub fn after_ms(mut self, after_ms: i64) -> Self {
        self.after_ms = after_ms;
        self
    }

    /// Records are kept for joining until stream time is `grace_ms` past their span.
    #[must_use]
    pub fn with_grace_ms(mut self, grace_ms: i64) -> Self {
        self.grace_ms = grace_ms;
        self
    }

    /// Length of the span in milliseconds: before plus after.
    pub fn size_ms(&self) -> i64 {
        self.before_ms.saturating_add(self.after_ms)
    }

    /// Grace period in milliseconds.
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }

    pub(crate) fn before(&self) -> i64 {
        self.before_ms
    }

    pub(crate) fn after(&self) -> i64 {
        self.after_ms
    }

    /// How long either side's records are kept.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.size_ms().saturating_add(self.grace_ms)
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.size_ms() < 0 {
            let (before, after) = (self.before_ms, self.after_ms);
            return Some(format!("no two records can be within {before} ms before and {after} ms after each other"));
        }
        (self.grace_ms < 0).then(|| format!("a grace period must not be negative: {} ms", self.grace_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_may_lie_wholly_on_one_side_but_not_be_empty() {
        assert!(JoinWindows::of_difference_ms(10).before_ms(-2).problem().is_none());
        assert!(JoinWindows::of_difference_ms(10).before_ms(-11).problem().is_some());
        assert!(JoinWindows::of_difference_ms(0).problem().is_none());
        assert!(JoinWindows::of_difference_ms(10).with_grace_ms(-1).problem().is_some());
    }
}
