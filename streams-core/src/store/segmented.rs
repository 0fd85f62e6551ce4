//! What window and session stores share: cache, changelog, pending layer and time segments, by plain key
//! (`key, start, sequence` or `key, end, start`).

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use base::{Offset, Timestamp, TopicPartition};
use protocol::record::Headers;
use storage::state::keys::KeyKind;
use storage::state::{BatchStore, Direction, Keys, MergedIterator, Scan, SegmentedStore, StateError, TimeBounds};

use crate::collector::ChangelogPartition;
use crate::error::{ErrorKind, StreamsError};
use crate::serde::{Serde, SerdeError, SerdeRef};
use crate::store::api::{ChangeLog, Flushed, RestoreRecord, StoreContext};
use crate::store::builder::Common;
use crate::store::cache::{FlushEntry, NamedCache};
use crate::store::key_value::Listener;
use crate::store::layer::{headers_failed, keeps_headers, store_failed};
use crate::store::pending::Pending;
use crate::store::value::ValueFormat;
use crate::store::with_headers::decode_headers;
use crate::task::shared::TaskShared;
use crate::windowed::{Window, Windowed};

/// Whoever is told when the cache is flushed.
type WindowListener<K, V> = Rc<Listener<Windowed<K>, V>>;

/// Entries of a scan: plain key and value, in the order of the scan.
pub(crate) type Entries<V> = Vec<(Vec<u8>, V)>;

/// A store of windows or sessions, by plain key.
pub(crate) struct Segmented<K, V, S> {
    name: Arc<str>,
    topic: Arc<str>,
    key: SerdeRef<K>,
    format: Arc<dyn ValueFormat<V>>,
    kind: KeyKind,
    /// Size of time windows, for their ends.
    window_size_ms: i64,
    /// Whether values of one key and start are kept side by side; their changelog records keep the input's headers.
    retain_duplicates: bool,
    /// Whether changelog records of deletions carry the headers of the record being processed.
    keeps_headers: bool,
    task: Rc<TaskShared>,
    log: ChangeLog,
    changelog: Option<ChangelogPartition>,
    pub(crate) store: RefCell<S>,
    pending: RefCell<Pending>,
    cache: Option<RefCell<NamedCache<V>>>,
    listener: RefCell<Option<WindowListener<K, V>>>,
    key_buffer: Cell<Vec<u8>>,
    value_buffer: Cell<Vec<u8>>,
}

/// The typed parts of a segmented store.
pub(crate) struct Types<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) format: Arc<dyn ValueFormat<V>>,
    pub(crate) kind: KeyKind,
    pub(crate) window_size_ms: i64,
    pub(crate) retain_duplicates: bool,
}

impl<K, V, S> Segmented<K, V, S>
where
    K: 'static,
    V: Clone + 'static,
    S: std::ops::DerefMut<Target = SegmentedStore>,
{
    pub(crate) fn new(common: &Common, context: &StoreContext, types: Types<K, V>, store: S) -> Self {
        let keeps_headers = keeps_headers(common, context, types.format.kind());
        let cached = common.caching && !types.retain_duplicates && !context.is_global && !context.cache.is_off();
        Self {
            name: Arc::clone(&common.name),
            topic: Arc::clone(&context.serde_topic),
            key: types.key,
            format: types.format,
            kind: types.kind,
            window_size_ms: types.window_size_ms,
            retain_duplicates: types.retain_duplicates,
            keeps_headers,
            task: Rc::clone(&context.task),
            log: context.change_log(),
            changelog: context.changelog.clone(),
            store: RefCell::new(store),
            pending: RefCell::default(),
            cache: cached.then(|| RefCell::new(NamedCache::new(Rc::clone(&context.cache)))),
            listener: RefCell::new(None),
            key_buffer: Cell::default(),
            value_buffer: Cell::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn keeps_headers(&self) -> bool {
        self.keeps_headers
    }

    pub(crate) fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    pub(crate) fn set_listener(&self, listener: Listener<Windowed<K>, V>) -> bool {
        if self.cache.is_some() {
            self.listener.replace(Some(Rc::new(listener)));
        }
        self.cache.is_some()
    }

    fn failed(&self, error: StateError) -> StreamsError {
        store_failed(&self.name, error)
    }

    #[cold]
    fn serde_failed(&self, kind: ErrorKind, error: SerdeError) -> StreamsError {
        StreamsError::caused_by(kind, error).in_store(&self.name)
    }

    /// Calls `call` with a buffer that holds the serialised record key, to be made a plain key.
    #[inline]
    pub(crate) fn with_key<T>(
        &self,
        key: &K,
        call: impl FnOnce(&mut Vec<u8>) -> Result<T, StreamsError>,
    ) -> Result<T, StreamsError> {
        let mut buffer = self.key_buffer.take();
        buffer.clear();
        let result = match self.key.serialize(&self.topic, &Headers::default(), key, &mut buffer) {
            Ok(()) => call(&mut buffer),
            Err(error) => Err(self.serde_failed(ErrorKind::Serialization, error)),
        };
        self.key_buffer.set(buffer);
        result
    }

    pub(crate) fn read_key(&self, bytes: &[u8]) -> Result<K, StreamsError> {
        self.key
            .deserialize(&self.topic, &Headers::default(), bytes)
            .map_err(|error| self.serde_failed(ErrorKind::Deserialization, error))
    }

    fn read_value(&self, bytes: &[u8]) -> Result<V, StreamsError> {
        self.format.read(&self.topic, bytes).map_err(|error| self.serde_failed(ErrorKind::Deserialization, error))
    }

    /// The typed key of a plain one.
    pub(crate) fn windowed(&self, plain: &[u8]) -> Result<Windowed<K>, StreamsError> {
        let Some(parts) = self.kind.parts(plain) else {
            return Err(StreamsError::new(ErrorKind::TaskCorrupted, "a key is too short").in_store(&self.name));
        };
        let window = match self.kind {
            KeyKind::Window => Window::of_size(parts.time, self.window_size_ms),
            KeyKind::Session => Window::new(parts.second, parts.time),
        };
        Ok(Windowed::new(self.read_key(parts.key)?, window))
    }

    /// The value of a plain key.
    #[inline]
    pub(crate) fn get(&self, plain: &[u8]) -> Result<Option<V>, StreamsError> {
        if let Some(cache) = &self.cache
            && let Some(known) = cache.borrow_mut().get(plain)
        {
            return Ok(known.cloned());
        }
        self.get_below(plain)
    }

    fn get_below(&self, plain: &[u8]) -> Result<Option<V>, StreamsError> {
        let store = self.store.borrow();
        if let Some(known) = self.pending.borrow().get(plain) {
            let Some(bytes) = known else { return Ok(None) };
            let time = self.kind.parts(plain).map_or(-1, |parts| parts.time);
            if !store.is_visible(time).map_err(|error| self.failed(error))? {
                return Ok(None);
            }
            return self.read_value(bytes).map(Some);
        }
        let mut value = None;
        store.get_with(plain, &mut |bytes| value = Some(self.read_value(bytes))).map_err(|error| self.failed(error))?;
        value.transpose()
    }

    /// Sets the value of a plain key; `None` deletes it.
    #[inline]
    pub(crate) fn put(&self, plain: &[u8], value: Option<V>) -> Result<(), StreamsError> {
        let Some(cache) = &self.cache else { return self.put_below(plain, value.as_ref()) };
        let size = match &value {
            None => 0,
            Some(value) if self.format.is_infallible() => self.format.size_hint(value),
            Some(value) => self.with_value(value, |bytes| Ok(bytes.len()))?,
        };
        let mut entries = cache.borrow_mut();
        entries.put(plain, value, size, self.task.context());
        if entries.must_evict() {
            drop(entries);
            return self.evict(cache);
        }
        Ok(())
    }

    fn with_value<T>(&self, value: &V, call: impl FnOnce(&[u8]) -> Result<T, StreamsError>) -> Result<T, StreamsError> {
        let mut buffer = self.value_buffer.take();
        buffer.clear();
        let result = match self.format.write(&self.topic, value, &mut buffer) {
            Ok(()) => call(&buffer),
            Err(error) => Err(self.serde_failed(ErrorKind::Serialization, error)),
        };
        self.value_buffer.set(buffer);
        result
    }

    fn put_below(&self, plain: &[u8], value: Option<&V>) -> Result<(), StreamsError> {
        match value {
            None => self.put_bytes(plain, None),
            Some(value) => self.with_value(value, |bytes| self.put_bytes(plain, Some(bytes))),
        }
    }

    /// Logs a change and keeps it for the next commit. One that has expired is logged, as in Kafka Streams, but not kept,
    /// and counted as dropped.
    fn put_bytes(&self, plain: &[u8], written: Option<&[u8]>) -> Result<(), StreamsError> {
        let time = self.kind.parts(plain).map_or(-1, |parts| parts.time);
        let is_kept = self.store.borrow_mut().observe(time).map_err(|error| self.failed(error))?;
        if is_kept {
            self.pending.borrow_mut().put(plain, written.map(|written| self.format.kind().stored(written)));
        } else {
            self.task.count_dropped();
        }
        if !self.log.is_on() {
            return Ok(());
        }
        let split = written.map(|written| self.format.kind().split(written));
        let value = split.map(|split| split.value);
        let timestamp = split.and_then(|split| split.timestamp).unwrap_or_else(|| self.task.context_timestamp());
        let headers = match split.and_then(|split| split.headers) {
            Some(encoded) => decode_headers(encoded).map_err(|error| headers_failed(&self.name, error))?,
            None if self.retain_duplicates || (self.keeps_headers && value.is_none()) => self.task.context_headers(),
            None => Headers::default(),
        };
        self.log.append(plain, value, Some(timestamp), &headers).map_err(|error| error.in_store(&self.name))
    }

    /// Logs a null for `plain` and changes no entry.
    pub(crate) fn log_only(&self, plain: &[u8]) -> Result<(), StreamsError> {
        let time = self.kind.parts(plain).map_or(-1, |parts| parts.time);
        if !self.store.borrow_mut().observe_deletion(time).map_err(|error| self.failed(error))? {
            self.task.count_dropped();
        }
        if !self.log.is_on() {
            return Ok(());
        }
        let (timestamp, headers) = (self.task.context_timestamp(), self.task.context_headers());
        self.log.append(plain, None, Some(timestamp), &headers).map_err(|error| error.in_store(&self.name))
    }

    #[cold]
    fn evict(&self, cache: &RefCell<NamedCache<V>>) -> Result<(), StreamsError> {
        loop {
            let mut entries = cache.borrow_mut();
            if !entries.must_evict() {
                return Ok(());
            }
            let flushed = entries.evict();
            drop(entries);
            self.flush(flushed)?;
        }
    }

    fn flush(&self, entries: Vec<FlushEntry<V>>) -> Result<(), StreamsError> {
        let listener = self.listener.borrow().clone();
        for FlushEntry { key: plain, value, context } in entries {
            let Some(listener) = &listener else {
                let before = self.task.replace_context(context);
                let written = self.put_below(&plain, value.as_ref());
                self.task.replace_context(before);
                written?;
                continue;
            };
            let needs_old = value.is_none() || listener.send_old_values;
            let old = if needs_old { self.get_below(&plain)? } else { None };
            if value.is_none() && old.is_none() {
                continue;
            }
            let key = self.windowed(&plain)?;
            let (timestamp, headers) = (context.timestamp, context.headers.clone());
            let before = self.task.replace_context(context);
            let old = old.filter(|_| listener.send_old_values);
            let forwarded = self.put_below(&plain, value.as_ref()).and_then(|()| {
                (listener.call)(Flushed { key, new: value, old, timestamp, headers })
                    .map_err(|error| StreamsError::from_box(ErrorKind::Processing, error))
            });
            self.task.replace_context(before);
            forwarded?;
        }
        Ok(())
    }

    pub(crate) fn flush_cache(&self) -> Result<(), StreamsError> {
        let Some(cache) = &self.cache else { return Ok(()) };
        while cache.borrow().has_dirty() {
            let mut entries = Vec::new();
            cache.borrow_mut().take_dirty(&mut entries);
            self.flush(entries)?;
        }
        Ok(())
    }

    /// All entries of a scan over cache, pending changes and store.
    pub(crate) fn scan(&self, scan: &Scan<'_>) -> Result<Entries<V>, StreamsError> {
        let store = self.store.borrow();
        let earliest = store.earliest_scanned(scan).map_err(|error| self.failed(error))?;
        let is_visible = |plain: &[u8]| self.kind.parts(plain).is_some_and(|parts| parts.time >= earliest);
        let is_asked = |plain: &[u8]| scan.matches(self.kind, plain) && is_visible(plain);
        let compare = |a: &[u8], b: &[u8]| store.compare(scan, a, b);
        let mut pending = self.pending.borrow_mut();
        let mut changes: Vec<(&[u8], Option<&[u8]>)> = match scan.keys {
            _ if pending.is_empty() => Vec::new(),
            Keys::One(key) => {
                let of_key = pending.of_record_key(self.kind.suffix_size(), key, times_of(scan));
                of_key.filter(|(plain, _)| is_asked(plain)).collect()
            }
            // Looks at every change of the commit interval.
            Keys::Range(..) => {
                pending.keep_sorted();
                pending.range(Bound::Unbounded, Bound::Unbounded).filter(|(plain, _)| is_asked(plain)).collect()
            }
        };
        let in_order = |a: &[u8], b: &[u8]| match scan.direction {
            Direction::Forward => compare(a, b),
            Direction::Backward => compare(b, a),
        };
        changes.sort_by(|(a, _), (b, _)| in_order(a, b));
        let stored = store.scan(scan).map_err(|error| self.failed(error))?;
        let mut merged = MergedIterator::new(stored, changes.into_iter(), scan.direction, compare);
        let mut entries: Entries<V> = Vec::new();
        let mut cached = self.cached(scan);
        cached.sort_by(|(a, _), (b, _)| in_order(a, b));
        let mut cached = cached.into_iter().peekable();
        while let Some((plain, bytes)) =
            storage::state::ByteIterator::next_entry(&mut merged).map_err(|error| self.failed(error))?
        {
            while let Some((_, value)) = cached.peek().filter(|(key, _)| in_order(key, plain) == Ordering::Less) {
                let _ = value;
                entries.extend(cached.next().and_then(|(key, value)| Some((key, value?))));
            }
            if cached.peek().is_some_and(|(key, _)| key == plain) {
                entries.extend(cached.next().and_then(|(key, value)| Some((key, value?))));
            } else {
                entries.push((plain.to_vec(), self.read_value(bytes)?));
            }
        }
        entries.extend(cached.filter_map(|(key, value)| Some((key, value?))));
        Ok(entries)
    }

    fn cached(&self, scan: &Scan<'_>) -> Vec<(Vec<u8>, Option<V>)> {
        let Some(cache) = &self.cache else { return Vec::new() };
        let mut cache = cache.borrow_mut();
        let is_asked = |(plain, _): &(&[u8], Option<&V>)| scan.matches(self.kind, plain);
        let copy = |(plain, value): (&[u8], Option<&V>)| (plain.to_vec(), value.cloned());
        match scan.keys {
            Keys::One(key) => {
                let of_key = cache.of_record_key(self.kind.suffix_size(), key, times_of(scan));
                of_key.filter(is_asked).map(copy).collect()
            }
            Keys::Range(..) => cache.range(Bound::Unbounded, Bound::Unbounded).filter(is_asked).map(copy).collect(),
        }
    }

    pub(crate) fn stream_time(&self) -> Result<Timestamp, StreamsError> {
        self.store.borrow().stream_time().map_err(|error| self.failed(error))
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.borrow().bytes()
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.store.borrow().is_persistent()
    }

    pub(crate) fn changelog(&self) -> Option<&ChangelogPartition> {
        self.changelog.as_ref()
    }

    pub(crate) fn changelog_offset(&self) -> Result<Option<Offset>, StreamsError> {
        match &self.changelog {
            Some(changelog) => self.store.borrow().offset(&changelog.partition).map_err(|error| self.failed(error)),
            None => Ok(None),
        }
    }

    pub(crate) fn commit(&self, offset: Option<Offset>) -> Result<(), StreamsError> {
        let offsets: Vec<(TopicPartition, Offset)> = match (&self.changelog, offset) {
            (Some(changelog), Some(offset)) if self.log.is_on() => vec![(changelog.partition.clone(), offset)],
            _ => Vec::new(),
        };
        let mut pending = self.pending.borrow_mut();
        if !pending.is_empty() || !offsets.is_empty() {
            self.store.borrow_mut().write(&mut pending.iter(), &offsets).map_err(|error| self.failed(error))?;
            pending.clear();
        }
        Ok(())
    }

    pub(crate) fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
        let mut arena = Vec::new();
        let mut changes = Vec::new();
        let mut last = None;
        for record in records {
            let value = record.value.map(|value| {
                let start = arena.len();
                self.format.kind().join(record.timestamp, value, record.headers, &mut arena);
                start..arena.len()
            });
            changes.push((record.key.to_vec(), value));
            last = Some(record.offset);
        }
        let offsets: Vec<_> = match (&self.changelog, last) {
            (Some(changelog), Some(offset)) => vec![(changelog.partition.clone(), offset)],
            _ => Vec::new(),
        };
        let mut changes = changes.iter().map(|(key, value)| (key.as_slice(), value.clone().map(|place| &arena[place])));
        self.store.borrow_mut().write(&mut changes, &offsets).map_err(|error| self.failed(error))
    }

    fn forget(&self) {
        if let Some(cache) = &self.cache {
            cache.borrow_mut().clear();
        }
        self.pending.borrow_mut().clear();
    }

    pub(crate) fn close(&self) -> Result<(), StreamsError> {
        self.forget();
        self.listener.replace(None);
        self.store.borrow_mut().close().map_err(|error| self.failed(error))
    }

    pub(crate) fn wipe(&self) -> Result<(), StreamsError> {
        self.forget();
        self.store.borrow_mut().wipe().map_err(|error| self.failed(error))
    }
}

/// Times that hold the whole answer of a scan of one key (and maybe more, to be filtered).
fn times_of(scan: &Scan<'_>) -> (u64, u64) {
    let (earliest, latest) = match scan.times {
        TimeBounds::Within { from, to } => (from, to),
        TimeBounds::Overlap { earliest_end, .. } => (earliest_end, Timestamp::MAX),
    };
    (u64::try_from(earliest).unwrap_or(0), u64::try_from(latest).unwrap_or(0))
}
