//! The write-back cache: typed values by serialised key, so that several updates of a key between two commits become
//! one.
//!
//! Semantics are those of Kafka Streams' `ThreadCache`: one pool of bytes per thread ([`ThreadCache`]), one named cache
//! per store ([`NamedCache`]). When the pool is over its size, the store that is being written loses its least recently
//! used entry; if that is dirty, all dirty entries of the store are flushed, the evicted one first, then the others in
//! the order of their last update. A store opened on a pool of 0 bytes has no
//! cache: it forwards every update itself.
//!
//! Entries live in a slab; order of use and order of updates are lists of indexes in it. The links of these lists lie
//! beside the slab, close together: moving an entry to the front touches those of four others, which would be as many
//! cache misses in the slab. A look-up hashes the key bytes once and compares them once, and the put that follows a get of
//! the same key finds its entry without. Ranges need the keys sorted: that index is made at the first range and kept from
//! then on; windows and sessions of one key are found by [`KeyIndex`].

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::rc::Rc;

use base::hash::FixedState;
use hashbrown::HashTable;

use crate::store::key_index::KeyIndex;
use crate::task::shared::RecordContext;

/// Bytes counted for an entry besides key and value: what the slab, the table and the lists take.
const ENTRY_OVERHEAD: usize = 128;

/// The pool of bytes that the caches of one thread share.
#[derive(Debug)]
pub struct ThreadCache {
    max_bytes: Cell<usize>,
    used_bytes: Cell<usize>,
}

impl ThreadCache {
    /// A pool of `max_bytes`; with 0 stores that are opened have no cache at all.
    pub fn new(max_bytes: usize) -> Rc<Self> {
        Rc::new(Self { max_bytes: Cell::new(max_bytes), used_bytes: Cell::new(0) })
    }

    /// Changes the size, as threads come and go; what is too much is evicted at the next puts.
    pub fn resize(&self, max_bytes: usize) {
        self.max_bytes.set(max_bytes);
    }

    /// Whether stores are to have no cache.
    pub fn is_off(&self) -> bool {
        self.max_bytes.get() == 0
    }

    /// Bytes in use, overhead included.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }

    #[inline]
    fn is_over(&self) -> bool {
        self.used_bytes.get() > self.max_bytes.get()
    }

    #[inline]
    fn change(&self, add: usize, remove: usize) {
        self.used_bytes.set((self.used_bytes.get() + add).saturating_sub(remove));
    }
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Links {
    before: u32,
    after: u32,
}

const UNLINKED: Links = Links { before: NONE, after: NONE };

/// An entry's places in the two lists.
#[derive(Clone, Copy)]
struct Places {
    by_use: Links,
    by_update: Links,
}

const NOWHERE: Places = Places { by_use: UNLINKED, by_update: UNLINKED };

/// Ends of one of the two lists.
#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends { first: NONE, last: NONE };

/// Which of an entry's lists is meant.
#[derive(Clone, Copy)]
enum List {
    /// All entries, most recently used first.
    Use,
    /// Dirty entries, last updated last.
    Dirty,
}

struct Entry<V> {
    key: Rc<[u8]>,
    hash: u64,
    /// `None` is a deletion.
    value: Option<V>,
    size_bytes: usize,
    /// Context of the record that last wrote it; `None` if the entry is clean.
    dirty: Option<RecordContext>,
}

/// A dirty entry taken out to be flushed. The cache keeps the value as a clean entry, unless it was evicted.
pub(crate) struct FlushEntry<V> {
    pub(crate) key: Rc<[u8]>,
    pub(crate) value: Option<V>,
    pub(crate) context: RecordContext,
}

/// The cache of one store of one task.
pub(crate) struct NamedCache<V> {
    pool: Rc<ThreadCache>,
    hasher: FixedState,
    table: HashTable<u32>,
    slab: Vec<Entry<V>>,
    /// Of the entries in `slab`, at the same indexes.
    places: Vec<Places>,
    /// The entry that was found last.
    found: u32,
    free: Vec<u32>,
    by_use: Ends,
    by_update: Ends,
    /// Keys in order, once a range was asked for.
    sorted: Option<BTreeMap<Rc<[u8]>, u32>>,
    /// For look-ups of one record key of windows or sessions, once one was asked for.
    by_record_key: Option<KeyIndex>,
    used_bytes: usize,
}

impl<V> NamedCache<V> {
    pub(crate) fn new(pool: Rc<ThreadCache>) -> Self {
        Self {
            pool,
            hasher: FixedState::default(),
            table: HashTable::new(),
            slab: Vec::new(),
            places: Vec::new(),
            found: NONE,
            free: Vec::new(),
            by_use: EMPTY,
            by_update: EMPTY,
            sorted: None,
            by_record_key: None,
            used_bytes: 0,
        }
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.table.find(hash, |&index| *self.slab[index as usize].key == *key).copied()
    }

    /// What the cache knows of `key`: `None` nothing, `Some(None)` that it is deleted. A hit counts as use.
    #[inline]
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<Option<&V>> {
        let index = self.find(self.hasher.hash_one(key), key)?;
        self.found = index;
        self.touch(index);
        Some(self.slab[index as usize].value.as_ref())
    }

    /// Puts an update; `value_bytes` is about what the value takes.
    #[inline]
    pub(crate) fn put(&mut self, key: &[u8], value: Option<V>, value_bytes: usize, context: RecordContext) {
        self.insert(key, value, value_bytes, Some(context));
    }

    /// Keeps a value that was read from below.
    pub(crate) fn put_clean(&mut self, key: &[u8], value: V, value_bytes: usize) {
        self.insert(key, Some(value), value_bytes, None);
    }

    fn insert(&mut self, key: &[u8], value: Option<V>, value_bytes: usize, dirty: Option<RecordContext>) {
        let size_bytes = key.len() + value_bytes + ENTRY_OVERHEAD;
        let (hash, known) = match self.slab.get(self.found as usize) {
            Some(entry) if *entry.key == *key => (entry.hash, Some(self.found)),
            _ => {
                let hash = self.hasher.hash_one(key);
                (hash, self.find(hash, key))
            }
        };
        if let Some(index) = known {
            let entry = &mut self.slab[index as usize];
            let before = std::mem::replace(&mut entry.size_bytes, size_bytes);
            entry.value = value;
            let was_dirty = entry.dirty.is_some();
            let is_dirty = dirty.is_some();
            if is_dirty {
                entry.dirty = dirty;
            }
            self.resize(size_bytes, before);
            self.touch(index);
            if is_dirty {
                if was_dirty {
                    self.unlink(List::Dirty, index);
                }
                self.link_last(List::Dirty, index);
            }
            return;
        }
        let is_dirty = dirty.is_some();
        let entry = Entry { key: key.into(), hash, value, size_bytes, dirty };
        if let Some(sorted) = &mut self.sorted {
            let index = self.free.last().copied().unwrap_or(self.slab.len() as u32);
            sorted.insert(Rc::clone(&entry.key), index);
        }
        let index = match self.free.pop() {
            Some(index) => {
                self.slab[index as usize] = entry;
                self.places[index as usize] = NOWHERE;
                index
            }
            None => {
                self.slab.push(entry);
                self.places.push(NOWHERE);
                (self.slab.len() - 1) as u32
            }
        };
        let slab = &self.slab;
        self.table.insert_unique(hash, index, |&index| slab[index as usize].hash);
        if let Some(by_record_key) = &mut self.by_record_key {
            by_record_key.find_or_insert(key, index, |index| &slab[index as usize].key);
        }
        self.resize(size_bytes, 0);
        self.link_first(List::Use, index);
        if is_dirty {
            self.link_last(List::Dirty, index);
        }
    }

    fn resize(&mut self, add: usize, remove: usize) {
        self.used_bytes = self.used_bytes + add - remove;
        self.pool.change(add, remove);
    }

    /// Whether this store must give something up.
    #[inline]
    pub(crate) fn must_evict(&self) -> bool {
        self.pool.is_over() && !self.table.is_empty()
    }

    /// Drops the least recently used entry. If it was dirty, all dirty entries become clean and are returned: the evicted
    /// one first, then the others in the order of their last update.
    pub(crate) fn evict(&mut self) -> Vec<FlushEntry<V>>
    where
        V: Clone,
    {
        let index = self.by_use.last;
        if index == NONE {
            return Vec::new();
        }
        let mut flushed = Vec::new();
        if let Some(context) = self.slab[index as usize].dirty.take() {
            self.unlink(List::Dirty, index);
            let entry = &mut self.slab[index as usize];
            flushed.push(FlushEntry { key: Rc::clone(&entry.key), value: entry.value.take(), context });
        }
        self.remove(index);
        if !flushed.is_empty() {
            self.take_dirty(&mut flushed);
        }
        flushed
    }

    /// Makes every dirty entry clean and appends them, in the order of their last update.
    pub(crate) fn take_dirty(&mut self, flushed: &mut Vec<FlushEntry<V>>)
    where
        V: Clone,
    {
        let mut index = self.by_update.first;
        while index != NONE {
            let links = std::mem::replace(&mut self.places[index as usize].by_update, UNLINKED);
            let entry = &mut self.slab[index as usize];
            if let Some(context) = entry.dirty.take() {
                flushed.push(FlushEntry { key: Rc::clone(&entry.key), value: entry.value.clone(), context });
            }
            index = links.after;
        }
        self.by_update = EMPTY;
    }

    /// Whether anything would be flushed.
    pub(crate) fn has_dirty(&self) -> bool {
        self.by_update.first != NONE
    }

    fn remove(&mut self, index: u32) {
        // An entry that is gone keeps its key: it must not be found by it.
        self.found = NONE;
        self.unlink(List::Use, index);
        let entry = &mut self.slab[index as usize];
        let (hash, size_bytes) = (entry.hash, entry.size_bytes);
        entry.value = None;
        entry.size_bytes = 0;
        if let Ok(found) = self.table.find_entry(hash, |&known| known == index) {
            found.remove();
        }
        if let Some(sorted) = &mut self.sorted {
            sorted.remove(&self.slab[index as usize].key);
        }
        if let Some(by_record_key) = &mut self.by_record_key {
            let slab = &self.slab;
            by_record_key.remove(&slab[index as usize].key, index, |index| &slab[index as usize].key);
        }
        self.free.push(index);
        self.resize(0, size_bytes);
    }

    /// Drops everything without flushing.
    pub(crate) fn clear(&mut self) {
        self.pool.change(0, self.used_bytes);
        self.used_bytes = 0;
        self.table.clear();
        self.slab.clear();
        self.places.clear();
        self.found = NONE;
        self.free.clear();
        self.by_use = EMPTY;
        self.by_update = EMPTY;
        self.sorted = None;
        self.by_record_key = None;
    }

    /// Entries of one record key of windows or sessions with `times.0 <= time <= times.1`, in the order of key bytes. `suffix_size` is how
    /// long plain keys are behind the record key, always the same. Not counted as use.
    pub(crate) fn of_record_key(
        &mut self,
        suffix_size: usize,
        key: &[u8],
        times: (u64, u64),
    ) -> impl Iterator<Item = (&[u8], Option<&V>)> {
        let slab = &self.slab;
        let plain_of = |index: u32| &*slab[index as usize].key;
        let by_record_key = self.by_record_key.get_or_insert_with(|| {
            let mut by_record_key = KeyIndex::new(suffix_size);
            for &index in &self.table {
                by_record_key.find_or_insert(plain_of(index), index, plain_of);
            }
            by_record_key
        });
        let found = by_record_key.of_key(key, times, plain_of);
        found.map(move |index| (plain_of(index), slab[index as usize].value.as_ref()))
    }

    /// Entries within the bounds in the order of key bytes. Not counted as use.
    pub(crate) fn range(
        &mut self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&[u8], Option<&V>)> {
        let slab = &self.slab;
        let sorted = self.sorted.get_or_insert_with(|| {
            self.table.iter().map(|&index| (Rc::clone(&slab[index as usize].key), index)).collect()
        });
        let range = if is_empty_range(from, to) { None } else { Some(sorted.range::<[u8], _>((from, to))) };
        range.into_iter().flatten().map(|(key, &index)| (&**key, slab[index as usize].value.as_ref()))
    }

    #[inline]
    fn touch(&mut self, index: u32) {
        if self.by_use.first != index {
            self.unlink(List::Use, index);
            self.link_first(List::Use, index);
        }
    }

    #[inline]
    fn links(&mut self, list: List, index: u32) -> &mut Links {
        let places = &mut self.places[index as usize];
        match list {
            List::Use => &mut places.by_use,
            List::Dirty => &mut places.by_update,
        }
    }

    #[inline]
    fn ends(&mut self, list: List) -> &mut Ends {
        match list {
            List::Use => &mut self.by_use,
            List::Dirty => &mut self.by_update,
        }
    }

    #[inline]
    fn unlink(&mut self, list: List, index: u32) {
        let Links { before, after } = std::mem::replace(self.links(list, index), UNLINKED);
        match before {
            NONE => self.ends(list).first = after,
            _ => self.links(list, before).after = after,
        }
        match after {
            NONE => self.ends(list).last = before,
            _ => self.links(list, after).before = before,
        }
    }

    #[inline]
    fn link_first(&mut self, list: List, index: u32) {
        let first = self.ends(list).first;
        *self.links(list, index) = Links { before: NONE, after: first };
        match first {
            NONE => self.ends(list).last = index,
            _ => self.links(list, first).before = index,
        }
        self.ends(list).first = index;
    }

    #[inline]
    fn link_last(&mut self, list: List, index: u32) {
        let last = self.ends(list).last;
        *self.links(list, index) = Links { before: last, after: NONE };
        match last {
            NONE => self.ends(list).first = index,
            _ => self.links(list, last).after = index,
        }
        self.ends(list).last = index;
    }
}

impl<V> Drop for NamedCache<V> {
    fn drop(&mut self) {
        self.pool.change(0, self.used_bytes);
    }
}

/// Whether no key lies within the bounds: such a range must not be asked of a `BTreeMap`, which panics.
pub(crate) fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}
