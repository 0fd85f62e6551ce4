//! Which record keys a segment may hold, so that a look-up of a key that was never put there does not ask the engine: in a join of
//! streams most records come before their partner does.
//!
//! Known only of segments that began in this life of the store, and up to a number of keys; otherwise each key may be there.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use base::hash::FixedState;
use hashbrown::HashTable;

/// Most keys that are kept of one segment, 4 bytes each.
const MOST_KEYS: usize = 1 << 17;

/// Hashes of the record keys of each segment; `None`: not known.
#[derive(Default)]
pub(super) struct KeyFilter {
    hasher: FixedState,
    segments: BTreeMap<i64, Option<HashTable<u32>>>,
}

impl KeyFilter {
    /// Notes that `key` is put into `segment`; `exists` says whether the segment was there before its first put of this life.
    pub(super) fn add<E>(
        &mut self,
        segment: i64,
        key: &[u8],
        exists: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(), E> {
        let known = match self.segments.entry(segment) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let known = if exists()? { None } else { Some(HashTable::new()) };
                entry.insert(known)
            }
        };
        let Some(keys) = known else { return Ok(()) };
        let short = shortened(self.hasher.hash_one(key));
        if keys.find(lengthened(short), |&other| other == short).is_some() {
            return Ok(());
        }
        if keys.len() >= MOST_KEYS {
            *known = None;
            return Ok(());
        }
        keys.insert_unique(lengthened(short), short, |&short| lengthened(short));
        Ok(())
    }

    /// Whether `segment` may hold entries of `key`.
    pub(super) fn may_hold(&self, segment: i64, key: &[u8]) -> bool {
        let Some(Some(keys)) = self.segments.get(&segment) else { return true };
        let short = shortened(self.hasher.hash_one(key));
        keys.find(lengthened(short), |&other| other == short).is_some()
    }

    /// Forgets a segment that is dropped.
    pub(super) fn forget(&mut self, segment: i64) {
        self.segments.remove(&segment);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
    }
}

fn shortened(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A hash for the table that follows from what is kept: it takes its place from the low and its tag from the high bits.
fn lengthened(short: u32) -> u64 {
    u64::from(short) << 32 | u64::from(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(filter: &mut KeyFilter, segment: i64, key: &[u8], exists: bool) {
        filter.add(segment, key, || Ok::<_, ()>(exists)).unwrap();
    }

    #[test]
    fn what_was_put_may_be_there_and_little_else() {
        let mut filter = KeyFilter::default();
        for number in 0u32..1000 {
            add(&mut filter, 7, &number.to_be_bytes(), false);
        }
        assert!((0u32..1000).all(|number| filter.may_hold(7, &number.to_be_bytes())));
        assert!((1000u32..2000).filter(|number| filter.may_hold(7, &number.to_be_bytes())).count() < 3);
        filter.forget(7);
        assert!(filter.may_hold(7, b"anything"));
    }

    #[test]
    fn of_a_segment_with_a_past_nothing_is_known() {
        let mut filter = KeyFilter::default();
        add(&mut filter, 1, b"key", true);
        add(&mut filter, 2, b"key", false);
        assert!(filter.may_hold(1, b"other") && !filter.may_hold(2, b"other"));
    }

    #[test]
    fn too_many_keys_are_not_kept() {
        let mut filter = KeyFilter::default();
        for number in 0..=MOST_KEYS as u32 + 100 {
            add(&mut filter, 1, &number.to_be_bytes(), false);
        }
        assert!(filter.may_hold(1, b"other"));
    }
}
