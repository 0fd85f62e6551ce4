//! Plain keys of windows or sessions by the record key that they begin with: what a look-up of one key asks for is found with one hash,
//! where a sorted map of all keys would compare its way down through keys that begin alike.
//!
//! It holds indexes of entries only; whoever keeps the entries lends their plain keys.

use std::hash::BuildHasher;

use base::hash::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

/// Entries of one record key, in the order of what follows the key: a time, which mostly rises, and more.
struct Group {
    hash: u64,
    /// Each with its time, so that searching does not touch the keys, which lie far apart.
    entries: SmallVec<[(u64, u32); 2]>,
}

impl Group {
    fn is_of<'a>(&self, key: &[u8], suffix_size: usize, plain_of: impl Fn(u32) -> &'a [u8]) -> bool {
        self.entries.first().is_some_and(|&(_, first)| split(plain_of(first), suffix_size).0 == key)
    }

    /// Where an entry with `suffix` is or would be.
    fn place<'a>(&self, suffix: &[u8], suffix_size: usize, plain_of: impl Fn(u32) -> &'a [u8]) -> usize {
        let time = time_of(suffix);
        let is_before = |&(other, index): &(u64, u32)| {
            other < time || (other == time && split(plain_of(index), suffix_size).1 < suffix)
        };
        match self.entries.last() {
            Some(last) if is_before(last) => self.entries.len(),
            _ => self.entries.partition_point(is_before),
        }
    }

    /// The entry at `place`, if its suffix is `suffix`.
    fn at<'a>(
        &self,
        place: usize,
        suffix: &[u8],
        suffix_size: usize,
        plain_of: impl Fn(u32) -> &'a [u8],
    ) -> Option<u32> {
        let &(time, index) = self.entries.get(place)?;
        (time == time_of(suffix) && split(plain_of(index), suffix_size).1 == suffix).then_some(index)
    }
}

/// The 8 bytes that each suffix begins with.
fn time_of(suffix: &[u8]) -> u64 {
    suffix.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// See above.
pub(crate) struct KeyIndex {
    /// Bytes of a plain key behind the record key.
    suffix_size: usize,
    hasher: FixedState,
    groups: HashTable<Group>,
}

impl KeyIndex {
    pub(crate) fn new(suffix_size: usize) -> Self {
        Self { suffix_size, hasher: FixedState::default(), groups: HashTable::new() }
    }

    /// The entry whose key is `plain`.
    #[inline]
    pub(crate) fn find<'a>(&self, plain: &[u8], plain_of: impl Fn(u32) -> &'a [u8]) -> Option<u32> {
        let (key, suffix) = split(plain, self.suffix_size);
        let hash = self.hasher.hash_one(key);
        let group =
            self.groups.find(hash, |group| group.hash == hash && group.is_of(key, self.suffix_size, &plain_of))?;
        let place = group.place(suffix, self.suffix_size, &plain_of);
        group.at(place, suffix, self.suffix_size, &plain_of)
    }

    /// The entry whose key is `plain`; if there is none, `index` becomes it, and `None` is returned: `plain_of` must know it from then on.
    #[inline]
    pub(crate) fn find_or_insert<'a>(
        &mut self,
        plain: &[u8],
        index: u32,
        plain_of: impl Fn(u32) -> &'a [u8],
    ) -> Option<u32> {
        let suffix_size = self.suffix_size;
        let (key, suffix) = split(plain, suffix_size);
        let hash = self.hasher.hash_one(key);
        let entry = (time_of(suffix), index);
        match self.groups.find_mut(hash, |group| group.hash == hash && group.is_of(key, suffix_size, &plain_of)) {
            Some(group) => {
                let place = group.place(suffix, suffix_size, &plain_of);
                let known = group.at(place, suffix, suffix_size, &plain_of);
                if known.is_none() {
                    group.entries.insert(place, entry);
                }
                known
            }
            None => {
                let group = Group { hash, entries: SmallVec::from_slice(&[entry]) };
                self.groups.insert_unique(hash, group, |group| group.hash);
                None
            }
        }
    }

    /// Takes entry `index` out, whose key is `plain`.
    pub(crate) fn remove<'a>(&mut self, plain: &[u8], index: u32, plain_of: impl Fn(u32) -> &'a [u8]) {
        let suffix_size = self.suffix_size;
        let (key, suffix) = split(plain, suffix_size);
        let hash = self.hasher.hash_one(key);
        let is_group = |group: &Group| group.hash == hash && group.is_of(key, suffix_size, &plain_of);
        let Ok(mut found) = self.groups.find_entry(hash, is_group) else { return };
        let group = found.get_mut();
        let place = group.place(suffix, suffix_size, &plain_of);
        if group.entries.get(place).is_some_and(|(_, known)| *known == index) {
            group.entries.remove(place);
        }
        if group.entries.is_empty() {
            found.remove();
        }
    }

    /// Entries of `key` with `earliest <= time <= latest`, in the order of their suffixes.
    pub(crate) fn of_key<'a>(
        &self,
        key: &[u8],
        (earliest, latest): (u64, u64),
        plain_of: impl Fn(u32) -> &'a [u8],
    ) -> impl Iterator<Item = u32> {
        let (hash, suffix_size) = (self.hasher.hash_one(key), self.suffix_size);
        let is_group = |group: &Group| group.hash == hash && group.is_of(key, suffix_size, &plain_of);
        let entries = self.groups.find(hash, is_group).map_or(&[][..], |group| &group.entries[..]);
        let from = match entries.last() {
            Some((time, _)) if *time < earliest => entries.len(),
            _ => entries.partition_point(|(time, _)| *time < earliest),
        };
        let found = entries.get(from..).unwrap_or_default();
        found.iter().take_while(move |(time, _)| *time <= latest).map(|(_, index)| *index)
    }

    /// Forgets everything; room is kept.
    pub(crate) fn clear(&mut self) {
        self.groups.clear();
    }
}

/// Record key and what follows it; a key that is too short has nothing but its record key.
fn split(plain: &[u8], suffix_size: usize) -> (&[u8], &[u8]) {
    plain.split_at(plain.len().checked_sub(suffix_size).unwrap_or(plain.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_sorted_map_finds(
            steps in prop::collection::vec((any::<bool>(), 0u8..4, 0u8..12), 0..80),
            key in 0u8..4, low in 0u8..6, high in 0u8..6,
        ) {
            let plain = |key: u8, time: u8| [&b"key"[..usize::from(key)], &u64::from(time / 2).to_be_bytes(), &[time % 2]].concat();
            let (mut index, mut model, mut keys) = (KeyIndex::new(9), BTreeMap::new(), Vec::<Vec<u8>>::new());
            for (adds, key, time) in steps {
                let plain = plain(key, time);
                match (adds, model.remove(&plain)) {
                    (_, Some(known)) => index.remove(&plain, known, |entry| &keys[entry as usize]),
                    (true, None) => {
                        let entry = keys.len() as u32;
                        keys.push(plain.clone());
                        prop_assert_eq!(index.find(&plain, |entry| &keys[entry as usize]), None);
                        prop_assert_eq!(index.find_or_insert(&plain, entry, |entry| &keys[entry as usize]), None);
                        prop_assert_eq!(index.find_or_insert(&plain, 99, |entry| &keys[entry as usize]), Some(entry));
                        prop_assert_eq!(index.find(&plain, |entry| &keys[entry as usize]), Some(entry));
                        model.insert(plain, entry);
                    }
                    (false, None) => {}
                }
            }
            let times = (u64::from(low), u64::from(high));
            let found = index.of_key(&b"key"[..usize::from(key)], times, |entry| &keys[entry as usize]);
            let wanted = (2 * low..2 * high + 2).filter_map(|time| model.get(&plain(key, time)).copied());
            prop_assert_eq!(found.collect::<Vec<u32>>(), wanted.collect::<Vec<u32>>());
        }
    }
}
