//! Which keys of a bounded store were used when: one more than it may hold, and the key used the longest ago has to go.

use std::collections::BTreeMap;

use base::hash::HashMap;

/// Keys by their last use.
pub(crate) struct Recency {
    max: usize,
    clock: u64,
    by_key: HashMap<Box<[u8]>, u64>,
    by_use: BTreeMap<u64, Box<[u8]>>,
}

impl Recency {
    /// Holds up to `max` keys.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, clock: 0, by_key: HashMap::default(), by_use: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.by_key.contains_key(key)
    }

    /// Notes a read of `key`, if it is there.
    pub(crate) fn touch(&mut self, key: &[u8]) {
        let Some(last) = self.by_key.get_mut(key) else { return };
        self.clock += 1;
        let place = std::mem::replace(last, self.clock);
        if let Some(key) = self.by_use.remove(&place) {
            self.by_use.insert(self.clock, key);
        }
    }

    /// Notes a write of `key`; returns the key that has to go for it.
    pub(crate) fn insert(&mut self, key: &[u8]) -> Option<Box<[u8]>> {
        if self.by_key.contains_key(key) {
            self.touch(key);
            return None;
        }
        self.clock += 1;
        self.by_key.insert(key.into(), self.clock);
        self.by_use.insert(self.clock, key.into());
        if self.by_key.len() <= self.max {
            return None;
        }
        let (_, eldest) = self.by_use.pop_first()?;
        self.by_key.remove(&eldest);
        Some(eldest)
    }

    /// Notes the deletion of `key`.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(place) = self.by_key.remove(key) {
            self.by_use.remove(&place);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
        self.by_use.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_used_the_longest_ago_goes() {
        let mut keys = Recency::new(2);
        assert_eq!(keys.insert(b"a"), None);
        assert_eq!(keys.insert(b"b"), None);
        keys.touch(b"a");
        assert_eq!(keys.insert(b"c").as_deref(), Some(&b"b"[..]));
        assert_eq!(keys.insert(b"a"), None, "known, only used again");
        assert_eq!(keys.insert(b"d").as_deref(), Some(&b"c"[..]));
        keys.remove(b"a");
        assert_eq!(keys.insert(b"e"), None);
        assert_eq!(keys.len(), 2);
    }
}
