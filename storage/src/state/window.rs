//! The byte layer of window stores: [`SegmentedStore`] with window keys.

use std::ops::{Deref, DerefMut};

use base::Timestamp;

use super::byte_store::{ByteIterator, Direction};
use super::engine::Engine;
use super::error::StateError;
use super::keys::{DuplicateSequence, KeyKind, WindowKey};
use super::scan::{Keys, Layout, Scan, TimeBounds};
use super::segmented::{SegmentedOptions, SegmentedStore};

/// Time span of a segment of a window or session store: `max(retention / 2, 60 000)` ms, as in Kafka Streams.
pub const fn segment_interval_ms(retention_ms: i64) -> i64 {
    if retention_ms / 2 > 60_000 { retention_ms / 2 } else { 60_000 }
}

/// A window store in bytes. Changes are written with plain window keys ([`WindowKey`]) through
/// [`BatchStore::write`](super::BatchStore::write).
pub struct WindowBytes {
    store: SegmentedStore,
    /// Numbers entries if duplicates are kept.
    sequence: Option<DuplicateSequence>,
}

impl WindowBytes {
    /// A window store over an open engine, with segments of [`segment_interval_ms`].
    ///
    /// # Errors
    /// `Invalid` if the retention is negative.
    pub fn new(
        engine: Box<dyn Engine>,
        retention_ms: i64,
        layout: Layout,
        retain_duplicates: bool,
    ) -> Result<Self, StateError> {
        let interval = segment_interval_ms(retention_ms);
        let options = SegmentedOptions { kind: KeyKind::Window, retention_ms, segment_interval_ms: interval, layout };
        let sequence = retain_duplicates.then(DuplicateSequence::default);
        Ok(Self { store: SegmentedStore::new(engine, options)?, sequence })
    }

    /// Whether several entries of one key and start are kept.
    pub fn retains_duplicates(&self) -> bool {
        self.sequence.is_some()
    }

    /// Appends the plain key under which to write a put of `key` at `start`; with duplicates each call makes a new one.
    pub fn write_key(&mut self, key: &[u8], start: Timestamp, out: &mut Vec<u8>) {
        let sequence = self.sequence.as_mut().map_or(0, DuplicateSequence::advance);
        WindowKey { key, start, sequence }.write(out);
    }

    /// Calls `read` with the value of the window that starts at `start`; returns whether there is one. Of a store with
    /// duplicates it finds nothing, as in Kafka Streams, since each has its own sequence.
    ///
    /// # Errors
    /// As [`SegmentedStore::get_with`].
    pub fn fetch_with(&self, key: &[u8], start: Timestamp, read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError> {
        self.store.get_with(&WindowKey { key, start, sequence: 0 }.to_bytes(), read)
    }

    /// Windows of `key` with `from <= start <= to`, by start.
    ///
    /// # Errors
    /// As [`SegmentedStore::scan`].
    pub fn fetch(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        self.fetch_keys(Keys::One(key), from, to, direction)
    }

    /// Windows of several keys with `from <= start <= to`.
    ///
    /// # Errors
    /// As [`SegmentedStore::scan`].
    pub fn fetch_keys(
        &self,
        keys: Keys<'_>,
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        self.store.scan(&Scan { keys, times: TimeBounds::Within { from, to }, direction })
    }

    /// All windows.
    ///
    /// # Errors
    /// As [`SegmentedStore::scan`].
    pub fn all(&self, direction: Direction) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        self.fetch_keys(Keys::ALL, Timestamp::MIN, Timestamp::MAX, direction)
    }
}

impl Deref for WindowBytes {
    type Target = SegmentedStore;

    fn deref(&self) -> &SegmentedStore {
        &self.store
    }
}

impl DerefMut for WindowBytes {
    fn deref_mut(&mut self) -> &mut SegmentedStore {
        &mut self.store
    }
}
