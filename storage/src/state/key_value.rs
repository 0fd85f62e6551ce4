//! A key-value store: [`ByteStore`] over the default family of any engine.

use std::ops::Bound;

use base::{Offset, TopicPartition};

use super::byte_store::{BatchStore, ByteIterator, ByteStore, Change, Direction};
use super::engine::{Engine, Family, after_prefix};
use super::error::StateError;
use super::offsets;

/// A sorted map from bytes to bytes over the engine `E`.
#[derive(Debug)]
pub struct KeyValueStore<E: Engine> {
    engine: E,
}

impl<E: Engine> KeyValueStore<E> {
    /// A store over an open engine.
    pub fn new(engine: E) -> Self {
        Self { engine }
    }

    /// The engine below.
    pub fn engine(&self) -> &E {
        &self.engine
    }
}

impl<E: Engine> BatchStore for KeyValueStore<E> {
    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), StateError> {
        let mut staged = Ok(());
        for (key, value) in changes {
            staged = self.engine.stage(Family::Default, key, value);
            if staged.is_err() {
                break;
            }
        }
        commit(&mut self.engine, staged, offsets)
    }

    fn offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StateError> {
        offsets::read(&self.engine, partition)
    }

    fn offsets(&self) -> Result<Vec<(TopicPartition, Offset)>, StateError> {
        offsets::read_all(&self.engine)
    }

    fn put_metadata(&mut self, name: &str, value: &[u8]) -> Result<(), StateError> {
        self.engine.stage_metadata(name.as_bytes(), value)
    }

    fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.engine.metadata(name.as_bytes())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.engine.flush()
    }

    fn close(&mut self) -> Result<(), StateError> {
        self.engine.close()
    }

    fn wipe(&mut self) -> Result<(), StateError> {
        self.engine.wipe()
    }

    fn was_closed_cleanly(&self) -> Result<bool, StateError> {
        self.engine.was_closed_cleanly()
    }

    fn is_persistent(&self) -> bool {
        self.engine.is_persistent()
    }

    fn approximate_entries(&self) -> Result<u64, StateError> {
        self.engine.approximate_entries()
    }
}

impl<E: Engine> ByteStore for KeyValueStore<E> {
    fn get_with(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError> {
        self.engine.get_with(Family::Default, key, read)
    }

    fn range(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let to = to.map_or(Bound::Unbounded, Bound::Included);
        self.engine.scan(Family::Default, from, to, direction)
    }

    fn prefix(&self, prefix: &[u8], direction: Direction) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        let end = after_prefix(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.engine.scan(Family::Default, Bound::Included(prefix), to, direction)
    }
}

/// Commits what was staged together with `offsets`, or forgets it if staging or committing failed.
pub(super) fn commit<E: Engine + ?Sized>(
    engine: &mut E,
    staged: Result<(), StateError>,
    offsets: &[(TopicPartition, Offset)],
) -> Result<(), StateError> {
    let result = staged.and_then(|()| offsets::stage(engine, offsets)).and_then(|()| engine.commit());
    if result.is_err() {
        engine.discard();
    }
    result
}
