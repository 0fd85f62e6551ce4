//! Time windows: which windows a timestamp falls into, and how long they stay open.

mod join;
mod kinds;
mod session;
mod sliding;

pub use join::JoinWindows;
pub(crate) use kinds::FixedWindows;
pub use kinds::{EmitStrategy, UnlimitedWindows, Windows};
pub use session::SessionWindows;
pub use sliding::SlidingWindows;
use streams_core::{Timestamp, windowed::Window};

/// Windows of a fixed size that start at multiples of an advance: tumbling (advance = size) or hopping (advance < size).
///
/// A window stays open for late records until stream time reaches its end plus the grace period.
///
/// ```
/// use streams_dsl::TimeWindows;
///
/// let windows = TimeWindows::of_size_ms(60_000).with_grace_ms(10_000);
/// assert_eq!(windows.starts(61_000).collect::<Vec<_>>(), [60_000]);
///
/// let hopping = TimeWindows::of_size_ms(60_000).advance_by_ms(30_000);
/// assert_eq!(hopping.starts(61_000).collect::<Vec<_>>(), [30_000, 60_000]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindows {
    size_ms: i64,
    advance_ms: i64,
    grace_ms: i64,
}

impl TimeWindows {
    /// Tumbling windows of `size_ms` milliseconds without grace. A size below 1 is refused when the topology is built.
    pub fn of_size_ms(size_ms: i64) -> Self {
        Self { size_ms, advance_ms: size_ms, grace_ms: 0 }
    }

    /// A window starts every `advance_ms`, which must be between 1 and the size.
    #[must_use]
    pub fn advance_by_ms(mut self, advance_ms: i64) -> Self {
        self.advance_ms = advance_ms;
        self
    }

    /// Records are accepted until stream time is `grace_ms` past the end of their window.
    #[must_use]
    pub fn with_grace_ms(mut self, grace_ms: i64) -> Self {
        self.grace_ms = grace_ms;
        self
    }

    /// Size in milliseconds.
    pub fn size_ms(&self) -> i64 {
        self.size_ms
    }

    /// Distance of two starts in milliseconds.
    pub fn advance_ms(&self) -> i64 {
        self.advance_ms
    }

    /// Grace period in milliseconds.
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }

    /// Starts of the windows that contain `timestamp`, rising.
    #[inline]
    pub fn starts(&self, timestamp: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        let advance = self.advance_ms;
        let first = (timestamp - self.size_ms + advance).max(0) / advance * advance;
        (0..).map(move |n| first + n * advance).take_while(move |start| *start <= timestamp)
    }

    /// The window that starts at `start`.
    pub fn window(&self, start: Timestamp) -> Window {
        Window::of_size(start, self.size_ms)
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.size_ms < 1 {
            return Some(format!("the size of a window must be at least 1 ms, not {}", self.size_ms));
        }
        if self.advance_ms < 1 || self.advance_ms > self.size_ms {
            let (advance, size) = (self.advance_ms, self.size_ms);
            return Some(format!("a window must advance by 1 ms to its size ({size} ms), not by {advance} ms"));
        }
        (self.grace_ms < 0).then(|| format!("a grace period must not be negative: {} ms", self.grace_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let windows = TimeWindows::of_size_ms(10);
        assert_eq!(windows.starts(9).collect::<Vec<_>>(), [0]);
        assert_eq!(windows.starts(10).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn hopping_windows_do_not_start_before_the_epoch() {
        let windows = TimeWindows::of_size_ms(10).advance_by_ms(3);
        assert_eq!(windows.starts(0).collect::<Vec<_>>(), [0]);
        assert_eq!(windows.starts(4).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(windows.starts(12).collect::<Vec<_>>(), [3, 6, 9, 12]);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        assert!(TimeWindows::of_size_ms(0).problem().is_some());
        assert!(TimeWindows::of_size_ms(10).advance_by_ms(11).problem().is_some());
        assert!(TimeWindows::of_size_ms(10).with_grace_ms(-1).problem().is_some());
        assert!(TimeWindows::of_size_ms(10).problem().is_none());
    }
}
