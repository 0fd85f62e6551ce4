//! The engine in memory: one sorted map per family. Everything is gone with the process; the changelog restores it.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use super::byte_store::{ByteIterator, Direction, EmptyIterator, OwnedEntry};
use super::engine::{Engine, Family, is_empty_range};
use super::error::StateError;
use super::key_value::KeyValueStore;

type Map = BTreeMap<Box<[u8]>, Box<[u8]>>;
/// Family, key and new value of a staged change.
type Staged = (Family, Box<[u8]>, Option<Box<[u8]>>);

/// A key-value store in memory.
pub type MemoryStore = KeyValueStore<MemoryEngine>;

impl MemoryStore {
    /// An empty store; `name` is for error messages.
    pub fn in_memory(name: &str) -> Self {
        KeyValueStore::new(MemoryEngine::new(name))
    }
}

/// Families as sorted maps on the heap.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    name: Box<str>,
    families: BTreeMap<Family, Map>,
    metadata: BTreeMap<Vec<u8>, Vec<u8>>,
    staged: Vec<Staged>,
    staged_metadata: Vec<(Vec<u8>, Vec<u8>)>,
    closed: bool,
    /// Follows the rules of stores on disk, though it dies with the process.
    as_disk: bool,
}

impl MemoryEngine {
    /// An empty engine; `name` is for error messages.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An empty engine whose stores expire and order as stores on disk do.
    pub fn as_disk(name: &str) -> Self {
        Self { as_disk: true, ..Self::new(name) }
    }

    fn check_open(&self) -> Result<(), StateError> {
        if self.closed { Err(StateError::closed(&*self.name)) } else { Ok(()) }
    }
}

impl Engine for MemoryEngine {
    fn place(&self) -> &str {
        &self.name
    }

    fn segments(&self) -> Result<Vec<i64>, StateError> {
        self.check_open()?;
        let id = |family: &Family| match family {
            Family::Segment(id) => Some(*id),
            Family::Default => None,
        };
        Ok(self.families.keys().filter_map(id).collect())
    }

    fn get_with(&self, family: Family, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError> {
        self.check_open()?;
        let value = self.families.get(&family).and_then(|map| map.get(key));
        if let Some(value) = value {
            read(value);
        }
        Ok(value.is_some())
    }

    fn scan(
        &self,
        family: Family,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        self.check_open()?;
        match self.families.get(&family) {
            Some(map) if !is_empty_range(from, to) => Ok(Box::new(MapIterator::new(map, from, to, direction))),
            _ => Ok(Box::new(EmptyIterator)),
        }
    }

    fn stage(&mut self, family: Family, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        self.check_open()?;
        self.staged.push((family, key.into(), value.map(Into::into)));
        Ok(())
    }

    fn stage_metadata(&mut self, name: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.check_open()?;
        self.staged_metadata.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StateError> {
        self.check_open()?;
        for (family, key, value) in self.staged.drain(..) {
            match value {
                Some(value) => {
                    self.families.entry(family).or_default().insert(key, value);
                }
                None => {
                    self.families.get_mut(&family).and_then(|map| map.remove(&key));
                }
            }
        }
        self.metadata.extend(self.staged_metadata.drain(..));
        Ok(())
    }

    fn discard(&mut self) {
        self.staged.clear();
        self.staged_metadata.clear();
    }

    fn drop_segment(&mut self, segment: i64) -> Result<(), StateError> {
        self.check_open()?;
        self.families.remove(&Family::Segment(segment));
        Ok(())
    }

    fn metadata(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.check_open()?;
        Ok(self.metadata.get(name).cloned())
    }

    fn all_metadata(&self) -> Result<Vec<OwnedEntry>, StateError> {
        self.check_open()?;
        Ok(self.metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn approximate_entries(&self) -> Result<u64, StateError> {
        self.check_open()?;
        Ok(self.families.values().map(|map| map.len() as u64).sum())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.check_open()
    }

    fn close(&mut self) -> Result<(), StateError> {
        *self = Self { name: std::mem::take(&mut self.name), closed: true, ..Self::default() };
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), StateError> {
        *self = Self { name: std::mem::take(&mut self.name), ..Self::default() };
        Ok(())
    }

    fn was_closed_cleanly(&self) -> Result<bool, StateError> {
        self.check_open()?;
        Ok(true)
    }

    fn is_persistent(&self) -> bool {
        self.as_disk
    }
}

/// A walk over a part of one map, either way.
pub(super) struct MapIterator<'a> {
    range: btree_map::Range<'a, Box<[u8]>, Box<[u8]>>,
    direction: Direction,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> MapIterator<'a> {
    /// The bounds must not be inverted ([`is_empty_range`]).
    pub(super) fn new(map: &'a Map, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Self {
        Self { range: map.range::<[u8], _>((from, to)), direction, key: &[], value: &[] }
    }
}

impl ByteIterator for MapIterator<'_> {
    fn advance(&mut self) -> Result<bool, StateError> {
        let next = match self.direction {
            Direction::Forward => self.range.next(),
            Direction::Backward => self.range.next_back(),
        };
        (self.key, self.value) = next.map_or((&[][..], &[][..]), |(key, value)| (&**key, &**value));
        Ok(next.is_some())
    }

    fn key(&self) -> &[u8] {
        self.key
    }

    fn value(&self) -> &[u8] {
        self.value
    }
}
