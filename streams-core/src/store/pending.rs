//! The pending layer: changes of one commit interval, in memory, before they enter the byte store in one batch.
//!
//! Not a cache: it holds every change since the last commit, and reads ask it first. Keys and values lie in one arena,
//! so a put allocates nothing but room there; the arena is emptied at each commit. As in the cache, sorted keys are kept
//! from the first range on. From the first look-up of windows or sessions of one key on, a [`KeyIndex`] finds these, and takes the place
//! of the table of whole keys: one index is all that a put has to keep.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::{Bound, Range};

use base::hash::FixedState;
use hashbrown::HashTable;

use crate::store::cache::is_empty_range;
use crate::store::key_index::KeyIndex;

/// Key, and new value or deletion.
type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// Bytes counted for an entry besides key and value.
const ENTRY_OVERHEAD: usize = 48;

struct Entry {
    hash: u64,
    key: Range<usize>,
    /// `None` is a deletion.
    value: Option<Range<usize>>,
}

/// Entries by their keys.
enum ByKey {
    Whole(HashTable<u32>),
    /// Once one record key was asked for.
    Record(KeyIndex),
}

impl Default for ByKey {
    fn default() -> Self {
        Self::Whole(HashTable::new())
    }
}

/// Changes by key; the last one of a key counts.
#[derive(Default)]
pub(crate) struct Pending {
    hasher: FixedState,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    by_key: ByKey,
    sorted: Option<BTreeMap<Box<[u8]>, u32>>,
    ordered: bool,
}

impl Pending {
    #[inline]
    fn find(&self, key: &[u8]) -> Option<u32> {
        let plain_of = |index: u32| &self.arena[self.entries[index as usize].key.clone()];
        match &self.by_key {
            ByKey::Whole(table) => table.find(self.hasher.hash_one(key), |&index| plain_of(index) == key).copied(),
            ByKey::Record(by_record_key) => by_record_key.find(key, plain_of),
        }
    }

    /// The entry of `key`, or the one that is to be pushed for it.
    #[inline]
    fn find_or_insert(&mut self, key: &[u8]) -> (Option<u32>, u64) {
        let next = self.entries.len() as u32;
        let (arena, entries) = (&self.arena, &self.entries);
        let plain_of = |index: u32| &arena[entries[index as usize].key.clone()];
        match &mut self.by_key {
            ByKey::Whole(table) => {
                let hash = self.hasher.hash_one(key);
                let known = table.find(hash, |&index| plain_of(index) == key).copied();
                if known.is_none() {
                    // Rehashing asks for entries that are there; that of `next` comes.
                    table.insert_unique(hash, next, |&index| {
                        entries.get(index as usize).map_or(hash, |entry| entry.hash)
                    });
                }
                (known, hash)
            }
            ByKey::Record(by_record_key) => (by_record_key.find_or_insert(key, next, plain_of), 0),
        }
    }

    fn store(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
        let start = arena.len();
        arena.extend_from_slice(bytes);
        start..arena.len()
    }

    /// Notes a change.
    #[inline]
    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let (known, hash) = self.find_or_insert(key);
        if let Some(index) = known {
            let place = &mut self.entries[index as usize].value;
            *place = match (place.take(), value) {
                (_, None) => None,
                (Some(old), Some(value)) if old.len() >= value.len() => {
                    let place = old.start..old.start + value.len();
                    self.arena[place.clone()].copy_from_slice(value);
                    Some(place)
                }
                (_, Some(value)) => Some(Self::store(&mut self.arena, value)),
            };
            return;
        }
        let entry = Entry {
            hash,
            key: Self::store(&mut self.arena, key),
            value: value.map(|value| Self::store(&mut self.arena, value)),
        };
        let index = self.entries.len() as u32;
        self.entries.push(entry);
        if let Some(sorted) = &mut self.sorted {
            sorted.insert(key.into(), index);
        }
    }

    /// What is pending of `key`: `None` nothing, `Some(None)` its deletion.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        if self.entries.is_empty() {
            return None;
        }
        let index = self.find(key)?;
        Some(self.value(index))
    }

    fn value(&self, index: u32) -> Option<&[u8]> {
        self.entries[index as usize].value.as_ref().map(|place| &self.arena[place.clone()])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len() + self.entries.len() * ENTRY_OVERHEAD
    }

    /// Sorts the keys, now and for as long as this lives; needed before [`Pending::range`].
    pub(crate) fn keep_sorted(&mut self) {
        self.ordered = true;
        if self.sorted.is_none() {
            let keys = self.entries.iter().enumerate();
            self.sorted =
                Some(keys.map(|(index, entry)| (self.arena[entry.key.clone()].into(), index as u32)).collect());
        }
    }

    /// Changes within the bounds in the order of key bytes.
    pub(crate) fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let sorted = self.sorted.as_ref().filter(|_| !is_empty_range(from, to));
        let range = sorted.map(|sorted| sorted.range::<[u8], _>((from, to)));
        range.into_iter().flatten().map(|(key, &index)| (&**key, self.value(index)))
    }

    /// Changes of one record key of windows or sessions with `times.0 <= time <= times.1`, in the order of key bytes. `suffix_size` is how
    /// long plain keys are behind the record key, always the same.
    pub(crate) fn of_record_key<'a>(
        &'a mut self,
        suffix_size: usize,
        key: &[u8],
        times: (u64, u64),
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let (arena, entries) = (&self.arena, &self.entries);
        let plain_of = |index: u32| &arena[entries[index as usize].key.clone()];
        if let ByKey::Whole(_) = self.by_key {
            let mut by_record_key = KeyIndex::new(suffix_size);
            for index in 0..entries.len() as u32 {
                by_record_key.find_or_insert(plain_of(index), index, plain_of);
            }
            self.by_key = ByKey::Record(by_record_key);
        }
        let by_record_key = match &self.by_key {
            ByKey::Record(by_record_key) => Some(by_record_key),
            ByKey::Whole(_) => None,
        };
        let found = by_record_key.into_iter().flat_map(move |by_record_key| by_record_key.of_key(key, times, plain_of));
        found.map(move |index| {
            let value = entries[index as usize].value.as_ref().map(|place| &arena[place.clone()]);
            (plain_of(index), value)
        })
    }

    /// All changes, in the order of key bytes if they are kept sorted, else of the first put.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = Change<'_>> + '_> {
        match &self.sorted {
            Some(sorted) => Box::new(sorted.iter().map(|(key, &index)| (&**key, self.value(index)))),
            None => {
                let entries = self.entries.iter();
                Box::new(entries.map(|entry| {
                    let value = entry.value.as_ref().map(|place| &self.arena[place.clone()]);
                    (&self.arena[entry.key.clone()], value)
                }))
            }
        }
    }

    /// Forgets everything; room is kept.
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        match &mut self.by_key {
            ByKey::Whole(table) => table.clear(),
            ByKey::Record(by_record_key) => by_record_key.clear(),
        }
        self.sorted = self.ordered.then(BTreeMap::new);
    }
}
