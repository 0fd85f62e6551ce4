//! Keys that belong to a window: the [`Windowed`] key of window and session aggregates.

use base::Timestamp;

/// A span of event time in milliseconds. Whether `end` belongs to it depends on the kind: exclusive for time windows,
/// inclusive for sliding and session windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First millisecond.
    pub start: Timestamp,
    /// End; see the type.
    pub end: Timestamp,
}

impl Window {
    /// The window from `start` to `end`.
    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// The time window that starts at `start`; its end saturates at `i64::MAX` as in Kafka Streams.
    pub fn of_size(start: Timestamp, size_ms: i64) -> Self {
        Self { start, end: start.saturating_add(size_ms) }
    }
}

/// A key within a window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Windowed<K> {
    /// The record key.
    pub key: K,
    /// The window.
    pub window: Window,
}

impl<K> Windowed<K> {
    /// `key` in `window`.
    pub fn new(key: K, window: Window) -> Self {
        Self { key, window }
    }
}
