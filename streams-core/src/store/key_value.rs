//! The typed key-value store: serialises keys, answers from the cache where there is one, and writes through to the
//! layers below otherwise.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use base::{Offset, TopicPartition};
use protocol::record::Headers;
use storage::state::Direction;

use crate::collector::ChangelogPartition;
use crate::error::{ErrorKind, StreamsError};
use crate::serde::{Serde, SerdeError, SerdeRef};
use crate::store::api::{FlushListener, Flushed, RestoreRecord, StateStore, StoreContext, ValueAndTimestamp};
use crate::store::builder::KeyValueStoreBuilder;
use crate::store::cache::{FlushEntry, NamedCache};
use crate::store::global::GlobalKeyValueStore;
use crate::store::layer::Layer;
use crate::store::value::ValueFormat;
use crate::task::shared::TaskShared;

/// A timestamped key-value store: what tables are kept in.
pub type TimestampedKeyValueStore<K, V> = KeyValueStore<K, ValueAndTimestamp<V>>;

/// Entries of the first chunk that an iterator reads; each further one is twice as long.
const CHUNK_FIRST: usize = 16;
const CHUNK_MAX: usize = 1024;

/// Who is told of flushed updates.
pub(crate) struct Listener<K, V> {
    pub(crate) call: FlushListener<K, V>,
    pub(crate) send_old_values: bool,
}

/// A store of values by key.
///
/// All methods take `&self`; a store may be read and written while an iterator over it is alive.
pub struct KeyValueStore<K, V> {
    name: Arc<str>,
    /// Topic that serdes are told.
    topic: Arc<str>,
    key: SerdeRef<K>,
    format: Arc<dyn ValueFormat<V>>,
    task: Rc<TaskShared>,
    layer: Layer,
    cache: Option<RefCell<NamedCache<V>>>,
    listener: RefCell<Option<Rc<Listener<K, V>>>>,
    key_buffer: Cell<Vec<u8>>,
    value_buffer: Cell<Vec<u8>>,
}

impl<K: 'static, V: Clone + 'static> KeyValueStore<K, V> {
    pub(crate) fn open(builder: &KeyValueStoreBuilder<K, V>, context: &StoreContext) -> Result<Self, StreamsError> {
        let common = &builder.common;
        let layer = Layer::open(common, context, builder.format.kind())?;
        if let Some(bytes) = layer.global() {
            let reader = GlobalKeyValueStore::new(
                Arc::clone(&common.name),
                Arc::clone(&context.serde_topic),
                Arc::clone(&builder.key),
                Arc::clone(&builder.format),
                bytes,
            );
            context.task.globals().publish(&common.name, reader);
        }
        let cached = common.caching && !context.is_global && !context.cache.is_off();
        Ok(Self {
            name: Arc::clone(&common.name),
            topic: Arc::clone(&context.serde_topic),
            key: Arc::clone(&builder.key),
            format: Arc::clone(&builder.format),
            task: Rc::clone(&context.task),
            layer,
            cache: cached.then(|| RefCell::new(NamedCache::new(Rc::clone(&context.cache)))),
            listener: RefCell::new(None),
            key_buffer: Cell::default(),
            value_buffer: Cell::default(),
        })
    }

    /// Whether it keeps headers: its values have them, or `dsl.store.format` says so.
    pub fn keeps_headers(&self) -> bool {
        self.layer.keeps_headers()
    }

    /// Whether updates are held back in a cache.
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// Calls `listener` for each update when the cache is flushed, with old values if `send_old_values`. Returns false,
    /// and never calls it, if the store has no cache.
    pub fn set_flush_listener(&self, send_old_values: bool, listener: FlushListener<K, V>) -> bool {
        if self.cache.is_some() {
            self.listener.replace(Some(Rc::new(Listener { call: listener, send_old_values })));
        }
        self.cache.is_some()
    }

    #[cold]
    fn serde_failed(&self, kind: ErrorKind, error: SerdeError) -> StreamsError {
        StreamsError::caused_by(kind, error).in_store(&self.name)
    }

    /// Calls `call` with the serialised key. The buffer is taken out, so that calls may nest.
    #[inline]
    fn with_key<T>(&self, key: &K, call: impl FnOnce(&[u8]) -> Result<T, StreamsError>) -> Result<T, StreamsError> {
        let mut buffer = self.key_buffer.take();
        buffer.clear();
        let result = match self.key.serialize(&self.topic, &Headers::default(), key, &mut buffer) {
            Ok(()) => call(&buffer),
            Err(error) => Err(self.serde_failed(ErrorKind::Serialization, error)),
        };
        self.key_buffer.set(buffer);
        result
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// The store failed, or key or value do not fit the serdes.
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<V>, StreamsError> {
        self.with_key(key, |key| self.get_bytes(key))
    }

    #[inline]
    fn get_bytes(&self, key: &[u8]) -> Result<Option<V>, StreamsError> {
        let Some(cache) = &self.cache else { return self.get_below(key) };
        if let Some(known) = cache.borrow_mut().get(key) {
            return Ok(known.cloned());
        }
        let value = self.get_below(key)?;
        if let Some(value) = &value {
            let size = self.format.size_hint(value);
            cache.borrow_mut().put_clean(key, value.clone(), size);
            self.evict(cache)?;
        }
        Ok(value)
    }

    fn get_below(&self, key: &[u8]) -> Result<Option<V>, StreamsError> {
        let mut value = None;
        self.layer.get_with(key, &mut |bytes| value = Some(self.format.read(&self.topic, bytes)))?;
        value.transpose().map_err(|error| self.serde_failed(ErrorKind::Deserialization, error))
    }

    /// Sets the value of `key`; `None` deletes it.
    ///
    /// # Errors
    /// As [`KeyValueStore::get`]; where a full cache forwards other updates, also what downstream returns.
    #[inline]
    pub fn put(&self, key: &K, value: Option<V>) -> Result<(), StreamsError> {
        self.with_key(key, |key| self.put_bytes(key, value))
    }

    #[inline]
    fn put_bytes(&self, key: &[u8], value: Option<V>) -> Result<(), StreamsError> {
        let Some(cache) = &self.cache else { return self.put_below(key, value.as_ref()) };
        let size = match &value {
            None => 0,
            Some(value) if self.format.is_infallible() => self.format.size_hint(value),
            // Serialised now, so that a failure is that of the record that caused it.
            Some(value) => self.with_value(value, |bytes| Ok(bytes.len()))?,
        };
        let mut entries = cache.borrow_mut();
        entries.put(key, value, size, self.task.context());
        if entries.must_evict() {
            drop(entries);
            return self.evict(cache);
        }
        Ok(())
    }

    #[inline]
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

    #[inline]
    fn put_below(&self, key: &[u8], value: Option<&V>) -> Result<(), StreamsError> {
        match value {
            None => self.layer.put(key, None),
            Some(value) => self.with_value(value, |bytes| self.layer.put(key, Some(bytes))),
        }
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

    /// Writes entries below and tells the listener, one after the other, each in the context of its last put.
    fn flush(&self, entries: Vec<FlushEntry<V>>) -> Result<(), StreamsError> {
        let listener = self.listener.borrow().clone();
        for FlushEntry { key, value, context } in entries {
            let Some(listener) = &listener else {
                let before = self.task.replace_context(context);
                let written = self.put_below(&key, value.as_ref());
                self.task.replace_context(before);
                written?;
                continue;
            };
            let needs_old = value.is_none() || listener.send_old_values;
            let old = if needs_old { self.get_below(&key)? } else { None };
            if value.is_none() && old.is_none() {
                // Came and went between two flushes: nobody below or downstream ever knew.
                continue;
            }
            let typed = self
                .key
                .deserialize(&self.topic, &Headers::default(), &key)
                .map_err(|error| self.serde_failed(ErrorKind::Deserialization, error))?;
            let (timestamp, headers) = (context.timestamp, context.headers.clone());
            let before = self.task.replace_context(context);
            let old = old.filter(|_| listener.send_old_values);
            let forwarded = self.put_below(&key, value.as_ref()).and_then(|()| {
                (listener.call)(Flushed { key: typed, new: value, old, timestamp, headers })
                    .map_err(|error| StreamsError::from_box(ErrorKind::Processing, error))
            });
            self.task.replace_context(before);
            forwarded?;
        }
        Ok(())
    }

    /// Sets the value of `key` if it has none; returns the one it has.
    ///
    /// # Errors
    /// As [`KeyValueStore::put`].
    pub fn put_if_absent(&self, key: &K, value: V) -> Result<Option<V>, StreamsError> {
        self.with_key(key, |key| {
            let known = self.get_bytes(key)?;
            if known.is_none() {
                self.put_bytes(key, Some(value))?;
            }
            Ok(known)
        })
    }

    /// Deletes `key`; returns the value it had.
    ///
    /// # Errors
    /// As [`KeyValueStore::put`].
    pub fn delete(&self, key: &K) -> Result<Option<V>, StreamsError> {
        self.with_key(key, |key| {
            let known = self.get_bytes(key)?;
            self.put_bytes(key, None)?;
            Ok(known)
        })
    }

    /// Sets several.
    ///
    /// # Errors
    /// As [`KeyValueStore::put`]; entries before the failing one are set.
    pub fn put_all<'k>(&self, entries: impl IntoIterator<Item = (&'k K, Option<V>)>) -> Result<(), StreamsError> {
        entries.into_iter().try_for_each(|(key, value)| self.put(key, value))
    }

    /// Entries with `from <= key <= to` in the order of the bytes of their keys; `None` is no bound.
    ///
    /// The iterator reads in chunks: updates made meanwhile show if they lie beyond what it has read.
    ///
    /// # Errors
    /// A bound cannot be serialised.
    pub fn range(&self, from: Option<&K>, to: Option<&K>) -> Result<KeyValueIterator<'_, K, V>, StreamsError> {
        self.iterate(from, to, Direction::Forward)
    }

    /// [`KeyValueStore::range`] from the greatest key down.
    ///
    /// # Errors
    /// As [`KeyValueStore::range`].
    pub fn reverse_range(&self, from: Option<&K>, to: Option<&K>) -> Result<KeyValueIterator<'_, K, V>, StreamsError> {
        self.iterate(from, to, Direction::Backward)
    }

    /// All entries in the order of the bytes of their keys.
    pub fn all(&self) -> KeyValueIterator<'_, K, V> {
        KeyValueIterator::new(self, None, None, Direction::Forward)
    }

    /// All entries from the greatest key down.
    pub fn reverse_all(&self) -> KeyValueIterator<'_, K, V> {
        KeyValueIterator::new(self, None, None, Direction::Backward)
    }

    /// Entries of which the bytes of the key begin with `prefix`.
    pub fn prefix_scan(&self, prefix: &[u8]) -> KeyValueIterator<'_, K, V> {
        let mut iterator = KeyValueIterator::new(self, Some(prefix.to_vec()), None, Direction::Forward);
        iterator.prefix = Some(prefix.to_vec());
        iterator
    }

    fn iterate(
        &self,
        from: Option<&K>,
        to: Option<&K>,
        direction: Direction,
    ) -> Result<KeyValueIterator<'_, K, V>, StreamsError> {
        let bytes = |key: &K| self.with_key(key, |bytes| Ok(bytes.to_vec()));
        let from = from.map(bytes).transpose()?;
        let to = to.map(bytes).transpose()?;
        Ok(KeyValueIterator::new(self, from, to, direction))
    }

    /// About how many entries there are; those not written yet are not counted.
    ///
    /// # Errors
    /// The store failed.
    pub fn approximate_entries(&self) -> Result<u64, StreamsError> {
        self.layer.approximate_entries()
    }

    /// Reads up to `limit` entries within the bounds, merged over all layers, and the (inclusive) bound to go on from if
    /// there may be more.
    fn chunk(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Chunk<V>, StreamsError> {
        let is_before = |a: &[u8], b: &[u8]| match direction {
            Direction::Forward => a < b,
            Direction::Backward => a > b,
        };
        let (mut cached, mut resume) = self.cached_chunk(from, to, direction, limit);
        let mut entries: Vec<(Vec<u8>, V)> = Vec::new();
        let mut failure = None;
        let is_exhausted = self.layer.range(from, to, direction, |stored| {
            while stored.advance()? {
                let key = stored.key();
                while let Some((cached_key, _)) = cached.front()
                    && is_before(cached_key, key)
                {
                    if entries.len() == limit {
                        resume = Some(cached_key.clone());
                        return Ok(false);
                    }
                    entries.extend(cached.pop_front().and_then(|(key, value)| Some((key, value?))));
                }
                // Of what lies behind `resume` the cache has not been asked yet.
                if resume.as_ref().is_some_and(|end| !is_before(key, end)) {
                    return Ok(false);
                }
                if entries.len() == limit {
                    resume = Some(key.to_vec());
                    return Ok(false);
                }
                if cached.front().is_some_and(|(cached_key, _)| cached_key == key) {
                    entries.extend(cached.pop_front().and_then(|(key, value)| Some((key, value?))));
                    continue;
                }
                match self.format.read(&self.topic, stored.value()) {
                    Ok(value) => entries.push((key.to_vec(), value)),
                    Err(error) => {
                        failure = Some(error);
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })?;
        if let Some(error) = failure {
            return Err(self.serde_failed(ErrorKind::Deserialization, error));
        }
        while let Some((key, value)) = cached.pop_front().filter(|_| is_exhausted) {
            if entries.len() == limit {
                resume = Some(key);
                break;
            }
            entries.extend(value.map(|value| (key, value)));
        }
        Ok(Chunk { entries, resume })
    }

    /// Up to `limit` entries of the cache, and the key of the one after them.
    fn cached_chunk(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> CachedChunk<V> {
        let mut copies = VecDeque::new();
        let Some(cache) = &self.cache else { return (copies, None) };
        let mut cache = cache.borrow_mut();
        let bound = |key: Option<&'_ [u8]>| key.map_or(Bound::Unbounded, |key| Bound::Included(key.to_vec()));
        let (low, high) = (bound(from), bound(to));
        let range = cache.range(low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
        let mut range: Box<dyn Iterator<Item = (&[u8], Option<&V>)>> = match direction {
            Direction::Forward => Box::new(range),
            Direction::Backward => Box::new(range.rev()),
        };
        copies.extend(range.by_ref().take(limit).map(|(key, value)| (key.to_vec(), value.cloned())));
        let resume = range.next().map(|(key, _)| key.to_vec());
        (copies, resume)
    }
}

/// Entries of a cache and the key after them.
type CachedChunk<V> = (VecDeque<(Vec<u8>, Option<V>)>, Option<Vec<u8>>);

struct Chunk<V> {
    entries: Vec<(Vec<u8>, V)>,
    resume: Option<Vec<u8>>,
}

/// Walks over a [`KeyValueStore`]; yields entries, or the failure that ends the walk.
pub struct KeyValueIterator<'a, K, V> {
    store: &'a KeyValueStore<K, V>,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
    direction: Direction,
    read: VecDeque<(Vec<u8>, V)>,
    next_chunk: usize,
    is_done: bool,
}

impl<'a, K: 'static, V: Clone + 'static> KeyValueIterator<'a, K, V> {
    fn new(store: &'a KeyValueStore<K, V>, from: Option<Vec<u8>>, to: Option<Vec<u8>>, direction: Direction) -> Self {
        let is_done = matches!((&from, &to), (Some(from), Some(to)) if from > to);
        let read = VecDeque::new();
        Self { store, from, to, prefix: None, direction, read, next_chunk: CHUNK_FIRST, is_done }
    }

    fn fill(&mut self) -> Result<(), StreamsError> {
        let chunk = self.store.chunk(self.from.as_deref(), self.to.as_deref(), self.direction, self.next_chunk)?;
        self.next_chunk = (self.next_chunk * 2).min(CHUNK_MAX);
        self.is_done = chunk.resume.is_none();
        match self.direction {
            Direction::Forward => self.from = chunk.resume,
            Direction::Backward => self.to = chunk.resume,
        }
        self.read = chunk.entries.into();
        Ok(())
    }
}

impl<K: 'static, V: Clone + 'static> Iterator for KeyValueIterator<'_, K, V> {
    type Item = Result<(K, V), StreamsError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.is_empty() && !self.is_done {
            if let Err(error) = self.fill() {
                self.is_done = true;
                return Some(Err(error));
            }
        }
        let (key, value) = self.read.pop_front()?;
        if self.prefix.as_ref().is_some_and(|prefix| !key.starts_with(prefix)) {
            self.read.clear();
            self.is_done = true;
            return None;
        }
        match self.store.key.deserialize(&self.store.topic, &Headers::default(), &key) {
            Ok(key) => Some(Ok((key, value))),
            Err(error) => Some(Err(self.store.serde_failed(ErrorKind::Deserialization, error))),
        }
    }
}

impl<K: 'static, V: Clone + 'static> StateStore for KeyValueStore<K, V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn is_persistent(&self) -> bool {
        self.layer.is_persistent()
    }

    fn flush_cache(&self) -> Result<(), StreamsError> {
        let Some(cache) = &self.cache else { return Ok(()) };
        // What is forwarded may come back into this store only through another key; flush until nothing is left.
        while cache.borrow().has_dirty() {
            let mut entries = Vec::new();
            cache.borrow_mut().take_dirty(&mut entries);
            self.flush(entries)?;
        }
        Ok(())
    }

    fn commit(&self, changelog_offset: Option<Offset>) -> Result<(), StreamsError> {
        self.layer.commit(changelog_offset)
    }

    fn pending_bytes(&self) -> usize {
        self.layer.pending_bytes()
    }

    fn changelog(&self) -> Option<&ChangelogPartition> {
        self.layer.changelog()
    }

    fn changelog_offset(&self) -> Result<Option<Offset>, StreamsError> {
        self.layer.changelog_offset()
    }

    fn commit_global(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), StreamsError> {
        self.layer.write_offsets(offsets)
    }

    fn global_offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StreamsError> {
        self.layer.offset(partition)
    }

    fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
        self.layer.restore(records)
    }

    fn close(&self) -> Result<(), StreamsError> {
        if let Some(cache) = &self.cache {
            cache.borrow_mut().clear();
        }
        self.listener.replace(None);
        self.layer.close()
    }

    fn wipe(&self) -> Result<(), StreamsError> {
        if let Some(cache) = &self.cache {
            cache.borrow_mut().clear();
        }
        self.layer.wipe()
    }
}
