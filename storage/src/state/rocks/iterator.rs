//! A walk over a part of one column family.

use std::ops::Bound;

use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions};

use super::classify;
use crate::state::byte_store::{ByteIterator, Direction};
use crate::state::error::StateError;

pub(super) struct RocksIterator<'a> {
    raw: DBRawIterator<'a>,
    direction: Direction,
    started: bool,
    valid: bool,
    place: &'a str,
}

impl<'a> RocksIterator<'a> {
    /// The bounds are handed to RocksDB, which then reads nothing beyond them.
    pub(super) fn new(
        db: &'a DB,
        family: &ColumnFamily,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        place: &'a str,
    ) -> Self {
        let mut options = ReadOptions::default();
        match from {
            Bound::Included(from) if !from.is_empty() => options.set_iterate_lower_bound(from),
            Bound::Excluded(from) => options.set_iterate_lower_bound(just_after(from)),
            _ => {}
        }
        match to {
            Bound::Included(to) => options.set_iterate_upper_bound(just_after(to)),
            Bound::Excluded(to) => options.set_iterate_upper_bound(to),
            Bound::Unbounded => {}
        }
        let raw = db.raw_iterator_cf_opt(family, options);
        Self { raw, direction, started: false, valid: false, place }
    }
}

/// The smallest key above `key`.
fn just_after(key: &[u8]) -> Vec<u8> {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after
}

impl ByteIterator for RocksIterator<'_> {
    fn advance(&mut self) -> Result<bool, StateError> {
        match (self.started, self.direction) {
            (false, Direction::Forward) => self.raw.seek_to_first(),
            (false, Direction::Backward) => self.raw.seek_to_last(),
            (true, _) if !self.valid => return Ok(false),
            (true, Direction::Forward) => self.raw.next(),
            (true, Direction::Backward) => self.raw.prev(),
        }
        self.started = true;
        self.valid = self.raw.valid();
        if !self.valid {
            self.raw.status().map_err(|error| classify(self.place, "cannot read on", &error))?;
        }
        Ok(self.valid)
    }

    fn key(&self) -> &[u8] {
        self.raw.key().unwrap_or_default()
    }

    fn value(&self) -> &[u8] {
        self.raw.value().unwrap_or_default()
    }
}
