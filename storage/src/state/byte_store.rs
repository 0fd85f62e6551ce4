//! What every store of bytes can do: [`BatchStore`] (take a batch with its changelog offsets, flush, close, wipe),
//! [`ByteStore`] (read by key) and [`ByteIterator`] (walk over entries without copying them).

use base::{Offset, TopicPartition};

use super::error::StateError;

/// One change of a batch: a key and its new value, or `None` to delete it.
pub type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// An entry lent by an iterator: key and value.
pub type Entry<'a> = (&'a [u8], &'a [u8]);
/// A copied entry: key and value, or name and value.
pub type OwnedEntry = (Vec<u8>, Vec<u8>);

/// Which way an iterator walks over the bytes of keys, compared unsigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key to the largest.
    #[default]
    Forward,
    /// From the largest key to the smallest.
    Backward,
}

/// A walk over entries. Lends each entry until the next step, so that nothing is copied.
pub trait ByteIterator {
    /// Steps to the next entry, to the first one at the first call; `false` at the end, and ever after.
    ///
    /// # Errors
    /// The medium failed or holds wrong bytes; the walk is over.
    fn advance(&mut self) -> Result<bool, StateError>;

    /// Key of the entry stepped to; empty before the first [`ByteIterator::advance`] and after the end.
    fn key(&self) -> &[u8];

    /// Value of the entry stepped to; empty before the first [`ByteIterator::advance`] and after the end.
    fn value(&self) -> &[u8];

    /// Steps to the next entry and lends it.
    ///
    /// # Errors
    /// As [`ByteIterator::advance`].
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, StateError> {
        if self.advance()? { Ok(Some((self.key(), self.value()))) } else { Ok(None) }
    }

    /// Copies all entries that are left; for tests and small results.
    ///
    /// # Errors
    /// As [`ByteIterator::advance`].
    fn collect_entries(&mut self) -> Result<Vec<OwnedEntry>, StateError> {
        let mut entries = Vec::new();
        while let Some((key, value)) = self.next_entry()? {
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(entries)
    }
}

impl<I: ByteIterator + ?Sized> ByteIterator for Box<I> {
    fn advance(&mut self) -> Result<bool, StateError> {
        (**self).advance()
    }

    fn key(&self) -> &[u8] {
        (**self).key()
    }

    fn value(&self) -> &[u8] {
        (**self).value()
    }
}

/// The walk over nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyIterator;

impl ByteIterator for EmptyIterator {
    fn advance(&mut self) -> Result<bool, StateError> {
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        &[]
    }

    fn value(&self) -> &[u8] {
        &[]
    }
}

/// What stores of all kinds share: batches enter together with the changelog offsets they reach.
///
/// Invariant: after any crash, the offsets read back are exactly those of the data read back.
pub trait BatchStore: Send + Sync {
    /// Applies `changes` and moves the store's changelog positions to `offsets`, in one atomic step: after a crash
    /// both are there or neither. Not durable before [`BatchStore::flush`]; what is lost is replayed from the changelog.
    ///
    /// Changes may come in any order, sorted ones are cheaper; of two changes of one key the later one wins. Large
    /// batches (thousands of changes) are what restoring should use.
    ///
    /// # Errors
    /// `Invalid` if the store is closed or a key is malformed; `Poisoned` if the medium failed.
    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), StateError>;

    /// The changelog position last written for `partition`; `None` if never.
    ///
    /// # Errors
    /// The medium failed or holds wrong bytes.
    fn offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StateError>;

    /// All changelog positions of the store.
    ///
    /// # Errors
    /// As [`BatchStore::offset`].
    fn offsets(&self) -> Result<Vec<(TopicPartition, Offset)>, StateError>;

    /// Keeps a small named value (as the position vector, under [`offsets::POSITION`](super::offsets::POSITION)) that
    /// enters the store with the next [`BatchStore::write`], in the same atomic step.
    ///
    /// # Errors
    /// `Invalid` if the store is closed.
    fn put_metadata(&mut self, name: &str, value: &[u8]) -> Result<(), StateError>;

    /// The named value last written.
    ///
    /// # Errors
    /// As [`BatchStore::offset`].
    fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, StateError>;

    /// Makes everything written so far survive a crash of the process (and of the machine, as far as the disk obeys).
    ///
    /// # Errors
    /// `Poisoned` if the medium failed.
    fn flush(&mut self) -> Result<(), StateError>;

    /// Flushes, marks the store as closed cleanly and releases its files; every later call but `close` and `wipe` is
    /// `Invalid`. A store dropped without it may lose what was not flushed, as in a crash.
    ///
    /// # Errors
    /// `Poisoned` if the medium failed; the files are released all the same.
    fn close(&mut self) -> Result<(), StateError>;

    /// Deletes everything, offsets included, and goes on as an empty open store.
    ///
    /// # Errors
    /// `Poisoned` if the medium failed.
    fn wipe(&mut self) -> Result<(), StateError>;

    /// Whether the previous user of the directory closed the store (or there was none).
    ///
    /// # Errors
    /// The store could not be opened.
    fn was_closed_cleanly(&self) -> Result<bool, StateError>;

    /// Whether the store survives the process.
    fn is_persistent(&self) -> bool;

    /// Number of entries, exact in memory, estimated on disk.
    ///
    /// # Errors
    /// As [`BatchStore::offset`].
    fn approximate_entries(&self) -> Result<u64, StateError>;
}

/// A sorted map from bytes to bytes. Order and equality are those of bytes, unsigned.
pub trait ByteStore: BatchStore {
    /// Calls `read` with the value of `key`, lent without a copy; returns whether there is one.
    ///
    /// # Errors
    /// The store is closed, or the medium failed or holds wrong bytes.
    fn get_with(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError>;

    /// The value of `key`, copied.
    ///
    /// # Errors
    /// As [`ByteStore::get_with`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let mut value = None;
        self.get_with(key, &mut |bytes| value = Some(bytes.to_vec()))?;
        Ok(value)
    }

    /// Entries with `from <= key <= to`, both inclusive as in Kafka Streams; `None` is no bound. Empty if `from > to`.
    ///
    /// # Errors
    /// As [`ByteStore::get_with`].
    fn range(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError>;

    /// Entries whose key starts with `prefix`.
    ///
    /// # Errors
    /// As [`ByteStore::get_with`].
    fn prefix(&self, prefix: &[u8], direction: Direction) -> Result<Box<dyn ByteIterator + '_>, StateError>;
}
