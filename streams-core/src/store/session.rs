//! The typed session store: values by key and session.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use base::{Offset, Timestamp};
use storage::state::keys::KeyKind;
use storage::state::{Direction, Keys, Scan, SessionBytes, StoreSpec, TimeBounds};

use crate::collector::ChangelogPartition;
use crate::error::StreamsError;
use crate::store::api::{FlushListener, RestoreRecord, StateStore, StoreContext};
use crate::store::builder::SessionStoreBuilder;
use crate::store::key_value::Listener;
use crate::store::layer::{backend, store_failed};
use crate::store::segmented::{Entries, Segmented, Types};
use crate::store::window::segmented_state_store;
use crate::windowed::{Window, Windowed};

/// A store of values by key and session, for as long as its retention says.
///
/// Sessions that ended before stream time minus retention are gone; stream time is the greatest session end put so far.
pub struct SessionStore<K, V> {
    core: Segmented<K, V, SessionBytes>,
}

impl<K: 'static, V: Clone + 'static> SessionStore<K, V> {
    pub(crate) fn open(builder: &SessionStoreBuilder<K, V>, context: &StoreContext) -> Result<Self, StreamsError> {
        let common = &builder.common;
        let directory = context.task_directory();
        let spec = StoreSpec { name: &common.name, task_directory: &directory, format: builder.format.kind().name() };
        let bytes = backend(common, context)
            .open_session(&spec, builder.retention_ms, builder.layout)
            .map_err(|error| store_failed(&common.name, error))?;
        let types = Types {
            key: Arc::clone(&builder.key),
            format: Arc::clone(&builder.format),
            kind: KeyKind::Session,
            window_size_ms: 0,
            retain_duplicates: false,
        };
        Ok(Self { core: Segmented::new(common, context, types, bytes) })
    }

    /// Whether it keeps headers: its values have them, or `dsl.store.format` says so.
    pub fn keeps_headers(&self) -> bool {
        self.core.keeps_headers()
    }

    /// Whether updates are held back in a cache.
    pub fn is_cached(&self) -> bool {
        self.core.is_cached()
    }

    /// Calls `listener` for each update when the cache is flushed, with old values if `send_old_values`. Returns false,
    /// and never calls it, if the store has no cache.
    pub fn set_flush_listener(&self, send_old_values: bool, listener: FlushListener<Windowed<K>, V>) -> bool {
        self.core.set_listener(Listener { call: listener, send_old_values })
    }

    /// Sets the value of a session; `None` removes it.
    ///
    /// # Errors
    /// The store failed, or key or value do not fit the serdes; where a full cache forwards other updates, also what
    /// downstream returns.
    pub fn put(&self, session: &Windowed<K>, value: Option<V>) -> Result<(), StreamsError> {
        self.core.with_key(&session.key, |plain| {
            append_session(plain, session.window);
            self.core.put(plain, value)
        })
    }

    /// Removes a session.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn remove(&self, session: &Windowed<K>) -> Result<(), StreamsError> {
        self.put(session, None)
    }

    /// The value of the session of `key` with exactly these bounds.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn fetch_session(&self, key: &K, start: Timestamp, end: Timestamp) -> Result<Option<V>, StreamsError> {
        self.core.with_key(key, |plain| {
            append_session(plain, Window::new(start, end));
            self.core.get(plain)
        })
    }

    /// Sessions of `key` with `end >= earliest_end && start <= latest_start`, by end, then start.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn find_sessions(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        self.find_one(key, earliest_end, latest_start, Direction::Forward)
    }

    /// [`SessionStore::find_sessions`] from the latest session back.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn backward_find_sessions(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        self.find_one(key, earliest_end, latest_start, Direction::Backward)
    }

    fn find_one(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
        direction: Direction,
    ) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        self.core.with_key(key, |bytes| {
            let times = TimeBounds::Overlap { earliest_end, latest_start };
            let scan = Scan { keys: Keys::One(bytes), times, direction };
            Ok(SessionIterator { store: self, entries: self.core.scan(&scan)?.into_iter() })
        })
    }

    /// Sessions of any key with `earliest_end <= end <= latest_end`: those that close.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn find_sessions_by_end(
        &self,
        earliest_end: Timestamp,
        latest_end: Timestamp,
    ) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        let times = TimeBounds::Within { from: earliest_end, to: latest_end };
        let scan = Scan { keys: Keys::ALL, times, direction: Direction::Forward };
        Ok(SessionIterator { store: self, entries: self.core.scan(&scan)?.into_iter() })
    }

    /// All sessions of `key`.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn fetch(&self, key: &K) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        self.find_sessions(key, 0, Timestamp::MAX)
    }

    /// [`SessionStore::fetch`] from the latest session back.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn backward_fetch(&self, key: &K) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        self.backward_find_sessions(key, 0, Timestamp::MAX)
    }

    /// All sessions of the keys from `first` to `last` (compared as bytes).
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn fetch_key_range(
        &self,
        first: Option<&K>,
        last: Option<&K>,
    ) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        self.find_keys(first, last, Direction::Forward)
    }

    /// [`SessionStore::fetch_key_range`] the other way round.
    ///
    /// # Errors
    /// As [`SessionStore::put`].
    pub fn backward_fetch_key_range(
        &self,
        first: Option<&K>,
        last: Option<&K>,
    ) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        self.find_keys(first, last, Direction::Backward)
    }

    fn find_keys(
        &self,
        first: Option<&K>,
        last: Option<&K>,
        direction: Direction,
    ) -> Result<SessionIterator<'_, K, V>, StreamsError> {
        let bytes = |key: &K| self.core.with_key(key, |bytes| Ok(bytes.clone()));
        let (first, last) = (first.map(bytes).transpose()?, last.map(bytes).transpose()?);
        let times = TimeBounds::Overlap { earliest_end: 0, latest_start: Timestamp::MAX };
        let scan = Scan { keys: Keys::Range(first.as_deref(), last.as_deref()), times, direction };
        Ok(SessionIterator { store: self, entries: self.core.scan(&scan)?.into_iter() })
    }

    /// Greatest session end that has reached the byte layers; -1 before the first.
    ///
    /// # Errors
    /// The store failed.
    pub fn stream_time(&self) -> Result<Timestamp, StreamsError> {
        self.core.stream_time()
    }
}

#[inline]
fn append_session(plain: &mut Vec<u8>, window: Window) {
    plain.extend_from_slice(&window.end.to_be_bytes());
    plain.extend_from_slice(&window.start.to_be_bytes());
}

/// Sessions and their values.
pub struct SessionIterator<'a, K, V> {
    store: &'a SessionStore<K, V>,
    entries: <Entries<V> as IntoIterator>::IntoIter,
}

impl<K: 'static, V: Clone + 'static> Iterator for SessionIterator<'_, K, V> {
    type Item = Result<(Windowed<K>, V), StreamsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (plain, value) = self.entries.next()?;
        Some(self.store.core.windowed(&plain).map(|key| (key, value)))
    }
}

segmented_state_store!(SessionStore);
