//! What aggregations need to know of windows of every kind ([`FixedWindows`], [`Windows`]), and when their results come out.

use streams_core::Timestamp;
use streams_core::windowed::Window;

use super::{SessionWindows, SlidingWindows, TimeWindows};
use crate::grouped::{KGroupedStream, SessionWindowedKStream, TimeWindowedKStream};
use crate::operators::{CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};

/// When a windowed aggregation forwards its results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmitStrategy {
    /// At each update (at each commit, with a cache).
    #[default]
    OnWindowUpdate,
    /// Once for each window, when stream time has passed its end and grace period, at the next record. As in Kafka Streams, windows that
    /// one jump of stream time carries past the retention of the store do not come out: a longer `Materialized::with_retention_ms` keeps
    /// them.
    OnWindowClose,
}

/// One window from a point in time on, without end.
///
/// ```
/// use streams_dsl::UnlimitedWindows;
///
/// assert_eq!(UnlimitedWindows::default(), UnlimitedWindows::starting_at(0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnlimitedWindows {
    start: Timestamp,
}

impl UnlimitedWindows {
    /// The window from `start`; records before it do not take part.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start }
    }
}

/// Windows whose length is known before their records come.
#[derive(Clone, Copy)]
pub(crate) enum FixedWindows {
    Time(TimeWindows),
    Unlimited(UnlimitedWindows),
    Sliding(SlidingWindows),
}

impl FixedWindows {
    pub(crate) fn size_ms(&self) -> i64 {
        match self {
            Self::Time(windows) => windows.size_ms(),
            Self::Unlimited(_) => i64::MAX,
            Self::Sliding(windows) => windows.difference_ms(),
        }
    }

    pub(crate) fn grace_ms(&self) -> i64 {
        match self {
            Self::Time(windows) => windows.grace_ms(),
            Self::Unlimited(_) => 0,
            Self::Sliding(windows) => windows.grace_ms(),
        }
    }

    /// How long windows must be kept. A sliding window is also read for those that begin up to its length later.
    pub(crate) fn retention_ms(&self) -> i64 {
        let size = match self {
            Self::Sliding(windows) => windows.difference_ms().saturating_mul(2),
            _ => self.size_ms(),
        };
        size.saturating_add(self.grace_ms())
    }

    /// Starts of the time windows that contain `timestamp`, rising.
    #[inline]
    pub(crate) fn starts(&self, timestamp: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        let (time, unlimited) = match self {
            Self::Time(windows) => (Some(windows.starts(timestamp)), None),
            Self::Unlimited(windows) => (None, Some(windows.start).filter(|start| *start <= timestamp)),
            Self::Sliding(_) => (None, None),
        };
        time.into_iter().flatten().chain(unlimited)
    }

    /// The window that starts at `start`.
    pub(crate) fn window(&self, start: Timestamp) -> Window {
        match self {
            Self::Unlimited(_) => Window::new(start, i64::MAX),
            _ => Window::of_size(start, self.size_ms()),
        }
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Time(windows) => windows.problem(),
            Self::Unlimited(windows) => {
                (windows.start < 0).then(|| format!("a window cannot start before the epoch, at {}", windows.start))
            }
            Self::Sliding(windows) => windows.problem(),
        }
    }
}

/// Kinds of windows to aggregate by: [`TimeWindows`], [`SlidingWindows`], [`SessionWindows`], [`UnlimitedWindows`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` are no windows to aggregate by",
    label = "expected `TimeWindows`, `SlidingWindows`, `SessionWindows` or `UnlimitedWindows`"
)]
pub trait Windows<K, V> {
    /// The stream to be aggregated by them.
    type Windowed;

    /// The cogrouped streams, of aggregates `V`, to be aggregated by them.
    type Cogrouped;

    /// `grouped` by these windows.
    #[doc(hidden)]
    fn of(self, grouped: &KGroupedStream<K, V>) -> Self::Windowed;

    /// `cogrouped` by these windows.
    #[doc(hidden)]
    fn of_cogrouped(self, cogrouped: &CogroupedKStream<K, V>) -> Self::Cogrouped;
}

macro_rules! fixed_windows {
    ($($windows:ident => $kind:ident),*) => {$(
        impl<K: Clone + 'static, V: Clone + 'static> Windows<K, V> for $windows {
            type Windowed = TimeWindowedKStream<K, V>;
            type Cogrouped = TimeWindowedCogroupedKStream<K, V>;

            fn of_cogrouped(self, cogrouped: &CogroupedKStream<K, V>) -> Self::Cogrouped {
                TimeWindowedCogroupedKStream::new(cogrouped, FixedWindows::$kind(self))
            }

            fn of(self, grouped: &KGroupedStream<K, V>) -> Self::Windowed {
                TimeWindowedKStream::new(grouped, FixedWindows::$kind(self))
            }
        }
    )*};
}

fixed_windows!(TimeWindows => Time, UnlimitedWindows => Unlimited, SlidingWindows => Sliding);

impl<K: Clone + 'static, V: Clone + 'static> Windows<K, V> for SessionWindows {
    type Windowed = SessionWindowedKStream<K, V>;
    type Cogrouped = SessionWindowedCogroupedKStream<K, V>;

    fn of_cogrouped(self, cogrouped: &CogroupedKStream<K, V>) -> Self::Cogrouped {
        SessionWindowedCogroupedKStream::new(cogrouped, self)
    }

    fn of(self, grouped: &KGroupedStream<K, V>) -> Self::Windowed {
        SessionWindowedKStream::new(grouped, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlimited_window_takes_all_records_from_its_start_on() {
        let windows = FixedWindows::Unlimited(UnlimitedWindows::starting_at(5));
        assert_eq!(windows.starts(4).count(), 0);
        assert_eq!(windows.starts(5).collect::<Vec<_>>(), [5]);
        assert_eq!(windows.window(5), Window::new(5, i64::MAX));
    }

    #[test]
    fn retention_covers_what_is_read() {
        let sliding = SlidingWindows::of_difference_ms(10).with_grace_ms(3);
        assert_eq!(FixedWindows::Sliding(sliding).retention_ms(), 23);
        assert_eq!(FixedWindows::Time(TimeWindows::of_size_ms(10).with_grace_ms(3)).retention_ms(), 13);
        assert_eq!(FixedWindows::Unlimited(UnlimitedWindows::default()).retention_ms(), i64::MAX);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        assert!(SlidingWindows::of_difference_ms(0).problem().is_some());
        assert!(SlidingWindows::of_difference_ms(1).with_grace_ms(-1).problem().is_some());
        assert!(SessionWindows::of_gap_ms(0).problem().is_some());
        assert!(SessionWindows::of_gap_ms(1).with_grace_ms(-1).problem().is_some());
        assert!(SessionWindows::of_gap_ms(1).problem().is_none());
    }
}
