//! The byte layer of session stores: [`SegmentedStore`] with session keys.

use std::ops::{Deref, DerefMut};

use base::Timestamp;

use super::byte_store::{ByteIterator, Direction};
use super::engine::Engine;
use super::error::StateError;
use super::keys::{KeyKind, SessionKey};
use super::scan::{Keys, Layout, Scan, TimeBounds};
use super::segmented::{SegmentedOptions, SegmentedStore};
use super::window::segment_interval_ms;

/// A session store in bytes. Changes are written with plain session keys ([`SessionKey`]) through
/// [`BatchStore::write`](super::BatchStore::write).
pub struct SessionBytes {
    store: SegmentedStore,
}

impl SessionBytes {
    /// A session store over an open engine, with segments of [`segment_interval_ms`].
    ///
    /// # Errors
    /// `Invalid` if the retention is negative.
    pub fn new(engine: Box<dyn Engine>, retention_ms: i64, layout: Layout) -> Result<Self, StateError> {
        let interval = segment_interval_ms(retention_ms);
        let options = SegmentedOptions { kind: KeyKind::Session, retention_ms, segment_interval_ms: interval, layout };
        Ok(Self { store: SegmentedStore::new(engine, options)? })
    }

    /// Calls `read` with the value of exactly that session; returns whether there is one.
    ///
    /// # Errors
    /// As [`SegmentedStore::get_with`].
    pub fn fetch_session_with(
        &self,
        key: &[u8],
        start: Timestamp,
        end: Timestamp,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StateError> {
        self.store.get_with(&SessionKey { key, start, end }.to_bytes(), read)
    }

    /// Sessions with `end >= earliest_end && start <= latest_start`; of one key by end, then start.
    ///
    /// # Errors
    /// As [`SegmentedStore::scan`].
    pub fn find(
        &self,
        keys: Keys<'_>,
        earliest_end: Timestamp,
        latest_start: Timestamp,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        self.store.scan(&Scan { keys, times: TimeBounds::Overlap { earliest_end, latest_start }, direction })
    }

    /// Sessions with `earliest_end <= end <= latest_end`, of any key: those that close.
    ///
    /// # Errors
    /// As [`SegmentedStore::scan`].
    pub fn find_by_end(
        &self,
        earliest_end: Timestamp,
        latest_end: Timestamp,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        let times = TimeBounds::Within { from: earliest_end, to: latest_end };
        self.store.scan(&Scan { keys: Keys::ALL, times, direction })
    }
}

impl Deref for SessionBytes {
    type Target = SegmentedStore;

    fn deref(&self) -> &SegmentedStore {
        &self.store
    }
}

impl DerefMut for SessionBytes {
    fn deref_mut(&mut self) -> &mut SegmentedStore {
        &mut self.store
    }
}
