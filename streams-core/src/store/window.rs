//! The typed window store: values by key and start of a window.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use base::{Offset, Timestamp};
use storage::state::keys::{KeyKind, WindowKey};
use storage::state::{Direction, Keys, Scan, StoreSpec, TimeBounds, WindowBytes};

use crate::collector::ChangelogPartition;
use crate::error::StreamsError;
use crate::store::api::{FlushListener, RestoreRecord, StateStore, StoreContext, ValueAndTimestamp};
use crate::store::builder::WindowStoreBuilder;
use crate::store::key_value::Listener;
use crate::store::layer::{backend, store_failed};
use crate::store::segmented::{Entries, Segmented, Types};
use crate::windowed::Windowed;

/// A window store that keeps the time of each window's last update: what windowed aggregates are kept in.
pub type TimestampedWindowStore<K, V> = WindowStore<K, ValueAndTimestamp<V>>;

/// A store of values by key and window start, for as long as its retention says.
///
/// Entries older than stream time minus retention are gone; stream time is the greatest window start put so far.
pub struct WindowStore<K, V> {
    core: Segmented<K, V, WindowBytes>,
    retain_duplicates: bool,
}

impl<K: 'static, V: Clone + 'static> WindowStore<K, V> {
    pub(crate) fn open(builder: &WindowStoreBuilder<K, V>, context: &StoreContext) -> Result<Self, StreamsError> {
        let common = &builder.common;
        let directory = context.task_directory();
        let spec = StoreSpec { name: &common.name, task_directory: &directory, format: builder.format.kind().name() };
        let bytes = backend(common, context)
            .open_window(&spec, builder.retention_ms, builder.layout, builder.retain_duplicates)
            .map_err(|error| store_failed(&common.name, error))?;
        let types = Types {
            key: Arc::clone(&builder.key),
            format: Arc::clone(&builder.format),
            kind: KeyKind::Window,
            window_size_ms: builder.window_size_ms,
            retain_duplicates: builder.retain_duplicates,
        };
        let core = Segmented::new(common, context, types, bytes);
        Ok(Self { core, retain_duplicates: builder.retain_duplicates })
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

    /// Sets the value of `key` in the window that starts at `start`; `None` deletes it (and only enters the
    /// changelog of a store that keeps duplicates, as in Kafka Streams).
    ///
    /// # Errors
    /// The store failed, or key or value do not fit the serdes; where a full cache forwards other updates, also what
    /// downstream returns.
    #[inline]
    pub fn put(&self, key: &K, value: Option<V>, start: Timestamp) -> Result<(), StreamsError> {
        self.core.with_key(key, |plain| {
            if self.retain_duplicates {
                let key = std::mem::take(plain);
                self.core.store.borrow_mut().write_key(&key, start, plain);
                if value.is_none() {
                    return self.core.log_only(plain);
                }
            } else {
                append_window(plain, start);
            }
            self.core.put(plain, value)
        })
    }

    /// The value of `key` in the window that starts at `start`.
    ///
    /// # Errors
    /// The store failed, or key or value do not fit the serdes.
    #[inline]
    pub fn fetch(&self, key: &K, start: Timestamp) -> Result<Option<V>, StreamsError> {
        self.core.with_key(key, |plain| {
            append_window(plain, start);
            self.core.get(plain)
        })
    }

    /// Windows of `key` with `from <= start <= to`, by start.
    ///
    /// # Errors
    /// As [`WindowStore::fetch`].
    pub fn fetch_range(&self, key: &K, from: Timestamp, to: Timestamp) -> Result<WindowStoreIterator<V>, StreamsError> {
        self.fetch_one(key, from, to, Direction::Forward)
    }

    /// [`WindowStore::fetch_range`] from the latest window back.
    ///
    /// # Errors
    /// As [`WindowStore::fetch`].
    pub fn backward_fetch_range(
        &self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowStoreIterator<V>, StreamsError> {
        self.fetch_one(key, from, to, Direction::Backward)
    }

    fn fetch_one(
        &self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<WindowStoreIterator<V>, StreamsError> {
        self.core.with_key(key, |bytes| {
            let scan = Scan { keys: Keys::One(bytes), times: TimeBounds::Within { from, to }, direction };
            Ok(WindowStoreIterator { entries: self.core.scan(&scan)?.into_iter() })
        })
    }

    /// Windows of all keys with `from <= start <= to`. Order: by time segment, then key bytes (in memory: by start, then
    /// key bytes).
    ///
    /// # Errors
    /// As [`WindowStore::fetch`].
    pub fn fetch_all(&self, from: Timestamp, to: Timestamp) -> Result<WindowIterator<'_, K, V>, StreamsError> {
        self.fetch_keys(Keys::ALL, from, to, Direction::Forward)
    }

    /// [`WindowStore::fetch_all`] the other way round.
    ///
    /// # Errors
    /// As [`WindowStore::fetch`].
    pub fn backward_fetch_all(&self, from: Timestamp, to: Timestamp) -> Result<WindowIterator<'_, K, V>, StreamsError> {
        self.fetch_keys(Keys::ALL, from, to, Direction::Backward)
    }

    /// Windows of the keys from `first` to `last` (compared as bytes) with `from <= start <= to`.
    ///
    /// # Errors
    /// As [`WindowStore::fetch`].
    pub fn fetch_key_range(
        &self,
        first: Option<&K>,
        last: Option<&K>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WindowIterator<'_, K, V>, StreamsError> {
        let bytes = |key: &K| self.core.with_key(key, |bytes| Ok(bytes.clone()));
        let (first, last) = (first.map(bytes).transpose()?, last.map(bytes).transpose()?);
        self.fetch_keys(Keys::Range(first.as_deref(), last.as_deref()), from, to, Direction::Forward)
    }

    /// All windows.
    ///
    /// # Errors
    /// As [`WindowStore::fetch`].
    pub fn all(&self) -> Result<WindowIterator<'_, K, V>, StreamsError> {
        self.fetch_all(Timestamp::MIN, Timestamp::MAX)
    }

    fn fetch_keys(
        &self,
        keys: Keys<'_>,
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<WindowIterator<'_, K, V>, StreamsError> {
        let scan = Scan { keys, times: TimeBounds::Within { from, to }, direction };
        Ok(WindowIterator { store: self, entries: self.core.scan(&scan)?.into_iter() })
    }

    /// Greatest window start that has reached the byte layers; -1 before the first.
    ///
    /// # Errors
    /// The store failed.
    pub fn stream_time(&self) -> Result<Timestamp, StreamsError> {
        self.core.stream_time()
    }
}

#[inline]
fn append_window(plain: &mut Vec<u8>, start: Timestamp) {
    plain.extend_from_slice(&start.to_be_bytes());
    plain.extend_from_slice(&[0; 4]);
}

/// Windows of one key: start and value.
pub struct WindowStoreIterator<V> {
    entries: <Entries<V> as IntoIterator>::IntoIter,
}

impl<V> Iterator for WindowStoreIterator<V> {
    type Item = (Timestamp, V);

    fn next(&mut self) -> Option<Self::Item> {
        let (plain, value) = self.entries.next()?;
        Some((WindowKey::read(&plain).map_or(-1, |key| key.start), value))
    }
}

/// Windows of several keys.
pub struct WindowIterator<'a, K, V> {
    store: &'a WindowStore<K, V>,
    entries: <Entries<V> as IntoIterator>::IntoIter,
}

impl<K: 'static, V: Clone + 'static> Iterator for WindowIterator<'_, K, V> {
    type Item = Result<(Windowed<K>, V), StreamsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (plain, value) = self.entries.next()?;
        Some(self.store.core.windowed(&plain).map(|key| (key, value)))
    }
}

macro_rules! segmented_state_store {
    ($store:ident) => {
        impl<K: 'static, V: Clone + 'static> StateStore for $store<K, V> {
            fn name(&self) -> &str {
                self.core.name()
            }

            fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
                self
            }

            fn is_persistent(&self) -> bool {
                self.core.is_persistent()
            }

            fn flush_cache(&self) -> Result<(), StreamsError> {
                self.core.flush_cache()
            }

            fn commit(&self, changelog_offset: Option<Offset>) -> Result<(), StreamsError> {
                self.core.commit(changelog_offset)
            }

            fn pending_bytes(&self) -> usize {
                self.core.pending_bytes()
            }

            fn changelog(&self) -> Option<&ChangelogPartition> {
                self.core.changelog()
            }

            fn changelog_offset(&self) -> Result<Option<Offset>, StreamsError> {
                self.core.changelog_offset()
            }

            fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
                self.core.restore(records)
            }

            fn close(&self) -> Result<(), StreamsError> {
                self.core.close()
            }

            fn wipe(&self) -> Result<(), StreamsError> {
                self.core.wipe()
            }
        }
    };
}

pub(crate) use segmented_state_store;
segmented_state_store!(WindowStore);
