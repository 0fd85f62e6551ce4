//! What a window or key-value layout needs below it: families of sorted bytes, and one atomic batch over all of them.

use std::ops::Bound;

use super::byte_store::{ByteIterator, Direction, OwnedEntry};
use super::error::StateError;

/// One sorted map within an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// The one family of a key-value store.
    Default,
    /// The time segment of that id (timestamp divided by segment interval) of a window or session store.
    Segment(i64),
}

/// Families of sorted bytes plus named metadata (changelog offsets among it), changed by one atomic batch at a time.
///
/// A batch is staged change by change, then committed; until [`Engine::commit`] nothing of it is seen by reads.
/// Invariant: after a crash the families and the metadata are those of one and the same commit.
pub trait Engine: Send + Sync {
    /// Path, or the name if it lives in memory; for error messages.
    fn place(&self) -> &str;

    /// Ids of the existing segments, rising.
    ///
    /// # Errors
    /// The engine could not be opened, or is closed.
    fn segments(&self) -> Result<Vec<i64>, StateError>;

    /// Calls `read` with the value of `key`, lent; returns whether there is one. A missing segment holds nothing.
    ///
    /// # Errors
    /// Closed, or the medium failed or holds wrong bytes.
    fn get_with(&self, family: Family, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError>;

    /// Walks over the keys within both bounds; an inverted range is empty.
    ///
    /// # Errors
    /// As [`Engine::get_with`].
    fn scan(
        &self,
        family: Family,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError>;

    /// Adds a change to the open batch; a missing segment is created.
    ///
    /// # Errors
    /// Closed, or the segment could not be created.
    fn stage(&mut self, family: Family, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError>;

    /// Adds a metadata value to the open batch.
    ///
    /// # Errors
    /// Closed.
    fn stage_metadata(&mut self, name: &[u8], value: &[u8]) -> Result<(), StateError>;

    /// Applies the open batch in one atomic step.
    ///
    /// # Errors
    /// The medium failed; nothing of the batch is applied.
    fn commit(&mut self) -> Result<(), StateError>;

    /// Forgets the open batch, its metadata too.
    fn discard(&mut self);

    /// Deletes a segment with all it holds, at once; a missing one is no error.
    ///
    /// # Errors
    /// The medium failed.
    fn drop_segment(&mut self, segment: i64) -> Result<(), StateError>;

    /// A committed metadata value.
    ///
    /// # Errors
    /// As [`Engine::get_with`].
    fn metadata(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// All committed metadata.
    ///
    /// # Errors
    /// As [`Engine::get_with`].
    fn all_metadata(&self) -> Result<Vec<OwnedEntry>, StateError>;

    /// Number of entries over all families, exact in memory, estimated on disk.
    ///
    /// # Errors
    /// As [`Engine::get_with`].
    fn approximate_entries(&self) -> Result<u64, StateError>;

    /// Makes every commit so far survive a crash.
    ///
    /// # Errors
    /// The medium failed.
    fn flush(&mut self) -> Result<(), StateError>;

    /// Flushes, marks as closed cleanly, releases the files; doing it twice is no error.
    ///
    /// # Errors
    /// The medium failed; the files are released all the same.
    fn close(&mut self) -> Result<(), StateError>;

    /// Deletes everything and goes on empty and open.
    ///
    /// # Errors
    /// The medium failed.
    fn wipe(&mut self) -> Result<(), StateError>;

    /// Whether the previous user closed it, or there was none.
    ///
    /// # Errors
    /// The engine could not be opened.
    fn was_closed_cleanly(&self) -> Result<bool, StateError>;

    /// Whether it survives the process.
    fn is_persistent(&self) -> bool;
}

impl<E: Engine + ?Sized> Engine for Box<E> {
    fn place(&self) -> &str {
        (**self).place()
    }
    fn segments(&self) -> Result<Vec<i64>, StateError> {
        (**self).segments()
    }
    fn get_with(&self, family: Family, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError> {
        (**self).get_with(family, key, read)
    }
    fn scan(
        &self,
        family: Family,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        (**self).scan(family, from, to, direction)
    }
    fn stage(&mut self, family: Family, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        (**self).stage(family, key, value)
    }
    fn stage_metadata(&mut self, name: &[u8], value: &[u8]) -> Result<(), StateError> {
        (**self).stage_metadata(name, value)
    }
    fn commit(&mut self) -> Result<(), StateError> {
        (**self).commit()
    }
    fn discard(&mut self) {
        (**self).discard();
    }
    fn drop_segment(&mut self, segment: i64) -> Result<(), StateError> {
        (**self).drop_segment(segment)
    }
    fn metadata(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        (**self).metadata(name)
    }
    fn all_metadata(&self) -> Result<Vec<OwnedEntry>, StateError> {
        (**self).all_metadata()
    }
    fn approximate_entries(&self) -> Result<u64, StateError> {
        (**self).approximate_entries()
    }
    fn flush(&mut self) -> Result<(), StateError> {
        (**self).flush()
    }
    fn close(&mut self) -> Result<(), StateError> {
        (**self).close()
    }
    fn wipe(&mut self) -> Result<(), StateError> {
        (**self).wipe()
    }
    fn was_closed_cleanly(&self) -> Result<bool, StateError> {
        (**self).was_closed_cleanly()
    }
    fn is_persistent(&self) -> bool {
        (**self).is_persistent()
    }
}

/// Whether no key can lie within the bounds; sorted maps refuse such ranges, some by a panic.
pub(crate) fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
    }
}

/// The smallest key above every key that starts with `prefix`; `None` if there is no such key (only 0xff bytes).
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
