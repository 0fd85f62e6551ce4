//! Lays changes that are not in a store yet (a cache, a pending batch) over a walk through the store.

use std::cmp::Ordering;

use super::byte_store::{ByteIterator, Direction};
use super::error::StateError;

/// Which of two keys the walk meets first.
type Compare<'a> = Box<dyn Fn(&[u8], &[u8]) -> Ordering + 'a>;

/// Walks over a store and changes above it as one: a change replaces or deletes the store's entry of that key.
///
/// Invariant asked of the caller: both sides rise (or both fall, for a backward walk) by the same `compare`, and no key
/// comes twice in the changes.
pub struct MergedIterator<'a, I, C: Iterator> {
    store: I,
    changes: std::iter::Peekable<C>,
    compare: Compare<'a>,
    store_has_entry: bool,
    started: bool,
    shown: Shown<'a>,
}

enum Shown<'a> {
    Nothing,
    Store,
    Change(&'a [u8], &'a [u8]),
}

impl<'a, I, C> MergedIterator<'a, I, C>
where
    I: ByteIterator,
    C: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
{
    /// `changes` (key and new value, `None` for a deletion) over `store`; `compare` is the order of a forward walk.
    pub fn new(store: I, changes: C, direction: Direction, compare: impl Fn(&[u8], &[u8]) -> Ordering + 'a) -> Self {
        let compare: Compare<'a> = match direction {
            Direction::Forward => Box::new(compare),
            Direction::Backward => Box::new(move |a, b| compare(b, a)),
        };
        Self {
            store,
            changes: changes.peekable(),
            compare,
            store_has_entry: false,
            started: false,
            shown: Shown::Nothing,
        }
    }
}

impl<'a, I, C> ByteIterator for MergedIterator<'a, I, C>
where
    I: ByteIterator,
    C: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
{
    fn advance(&mut self) -> Result<bool, StateError> {
        if !self.started || matches!(self.shown, Shown::Store) {
            self.started = true;
            self.store_has_entry = self.store.advance()?;
        }
        loop {
            let order = match (self.store_has_entry, self.changes.peek()) {
                (false, None) => {
                    self.shown = Shown::Nothing;
                    return Ok(false);
                }
                (true, None) => Ordering::Less,
                (false, Some(_)) => Ordering::Greater,
                (true, Some((key, _))) => (self.compare)(self.store.key(), key),
            };
            if order == Ordering::Less {
                self.shown = Shown::Store;
                return Ok(true);
            }
            if order == Ordering::Equal {
                self.store_has_entry = self.store.advance()?;
            }
            if let Some((key, Some(value))) = self.changes.next() {
                self.shown = Shown::Change(key, value);
                return Ok(true);
            }
        }
    }

    fn key(&self) -> &[u8] {
        match self.shown {
            Shown::Nothing => &[],
            Shown::Store => self.store.key(),
            Shown::Change(key, _) => key,
        }
    }

    fn value(&self) -> &[u8] {
        match self.shown {
            Shown::Nothing => &[],
            Shown::Store => self.store.value(),
            Shown::Change(_, value) => value,
        }
    }
}
