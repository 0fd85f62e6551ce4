//! The layers below the typed facade and its cache, in bytes: changelog, pending layer, byte store. For key-value
//! stores; `segmented` has those of windows and sessions.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use base::{Offset, Timestamp, TopicPartition};
use parking_lot::RwLock;
use protocol::record::Headers;
use storage::state::{
    Backend, ByteIterator, ByteStore, Direction, MergedIterator, StateError, StateErrorKind, StoreSpec,
};

use crate::collector::ChangelogPartition;
use crate::error::{ErrorKind, StreamsError};
use crate::serde::SerdeError;
use crate::store::api::{ChangeLog, RestoreRecord, StoreContext};
use crate::store::builder::{Common, Storage};
use crate::store::pending::Pending;
use crate::store::recency::Recency;
use crate::store::value::FormatKind;
use crate::store::with_headers::decode_headers;

/// Says which store failed, and what the task can do about it.
pub(crate) fn store_failed(name: &str, error: StateError) -> StreamsError {
    let kind = match error.kind() {
        StateErrorKind::Corrupt => ErrorKind::TaskCorrupted,
        _ => ErrorKind::Store,
    };
    StreamsError::caused_by(kind, error).in_store(name)
}

/// Backend of a store and where in it.
pub(crate) fn backend(common: &Common, context: &StoreContext) -> storage::state::Backend {
    match common.storage {
        Storage::Application if context.in_memory_by_default => storage::state::Backend::Memory,
        Storage::Persistent | Storage::Application => context.backend.clone(),
        Storage::InMemory => storage::state::Backend::Memory,
    }
}

/// The error of headers that were written for a store and cannot be read.
#[cold]
pub(crate) fn headers_failed(name: &str, error: SerdeError) -> StreamsError {
    StreamsError::caused_by(ErrorKind::Serialization, error).in_store(name)
}

/// Whether a store keeps headers: of its own, or because the application says so.
pub(crate) fn keeps_headers(common: &Common, context: &StoreContext, format: FormatKind) -> bool {
    let in_memory = match common.storage {
        Storage::InMemory => true,
        Storage::Application => context.in_memory_by_default,
        Storage::Persistent => false,
    };
    format.has_headers() || (common.application_format && context.headers_by_default && !in_memory)
}

/// The byte store: the task's own, or one that other threads read.
enum Bytes {
    Own(RefCell<Box<dyn ByteStore>>),
    Global(Arc<RwLock<Box<dyn ByteStore>>>),
}

/// Changelog, pending layer and byte store of one key-value store.
pub(crate) struct Layer {
    name: Arc<str>,
    log: ChangeLog,
    changelog: Option<ChangelogPartition>,
    format: FormatKind,
    logs_headers: bool,
    /// Whether changelog records of deletions carry the headers of the record being processed.
    keeps_headers: bool,
    recency: Option<RefCell<Recency>>,
    /// In a test driver: puts and deletions, of which RocksDB would make its estimate.
    estimate: Option<Cell<(u64, u64)>>,
    task: std::rc::Rc<crate::task::shared::TaskShared>,
    bytes: Bytes,
    pending: RefCell<Pending>,
}

impl Layer {
    pub(crate) fn open(common: &Common, context: &StoreContext, format: FormatKind) -> Result<Self, StreamsError> {
        Self::open_as(common, context, format, format.name())
    }

    /// As [`Layer::open`], for a store whose format has another name on disk.
    pub(crate) fn open_as(
        common: &Common,
        context: &StoreContext,
        format: FormatKind,
        format_name: &str,
    ) -> Result<Self, StreamsError> {
        let directory = context.task_directory();
        let spec = StoreSpec { name: &common.name, task_directory: &directory, format: format_name };
        let backend = backend(common, context);
        let bytes = backend.open_key_value(&spec).map_err(|error| store_failed(&common.name, error))?;
        Ok(Self {
            name: Arc::clone(&common.name),
            log: context.change_log(),
            changelog: context.changelog.clone().filter(|_| !context.is_global),
            format,
            logs_headers: common.logs_headers,
            keeps_headers: keeps_headers(common, context, format),
            estimate: matches!(backend, Backend::MemoryAsDisk).then(Cell::default),
            recency: common.entries_max.map(|max| RefCell::new(Recency::new(max))),
            task: std::rc::Rc::clone(&context.task),
            bytes: if context.is_global {
                Bytes::Global(Arc::new(RwLock::new(bytes)))
            } else {
                Bytes::Own(RefCell::new(bytes))
            },
            pending: RefCell::default(),
        })
    }

    pub(crate) fn global(&self) -> Option<Arc<RwLock<Box<dyn ByteStore>>>> {
        match &self.bytes {
            Bytes::Own(_) => None,
            Bytes::Global(bytes) => Some(Arc::clone(bytes)),
        }
    }

    pub(crate) fn changelog(&self) -> Option<&ChangelogPartition> {
        self.changelog.as_ref()
    }

    fn failed(&self, error: StateError) -> StreamsError {
        store_failed(&self.name, error)
    }

    fn read<T>(&self, read: impl FnOnce(&dyn ByteStore) -> Result<T, StateError>) -> Result<T, StreamsError> {
        match &self.bytes {
            Bytes::Own(bytes) => read(&**bytes.borrow()),
            Bytes::Global(bytes) => read(&**bytes.read()),
        }
        .map_err(|error| self.failed(error))
    }

    fn write<T>(&self, write: impl FnOnce(&mut dyn ByteStore) -> Result<T, StateError>) -> Result<T, StreamsError> {
        match &self.bytes {
            Bytes::Own(bytes) => write(&mut **bytes.borrow_mut()),
            Bytes::Global(bytes) => write(&mut **bytes.write()),
        }
        .map_err(|error| self.failed(error))
    }

    /// Calls `read` with the local value of `key`; returns whether there is one.
    #[inline]
    pub(crate) fn get_with(&self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StreamsError> {
        if let Some(recency) = &self.recency {
            recency.borrow_mut().touch(key);
        }
        if let Some(value) = self.pending.borrow().get(key) {
            if let Some(value) = value {
                read(value);
            }
            return Ok(value.is_some());
        }
        self.read(|bytes| bytes.get_with(key, read))
    }

    /// Keeps a change for the next commit, and logs it. `written` is the value as its format has written it.
    #[inline]
    pub(crate) fn put(&self, key: &[u8], written: Option<&[u8]>) -> Result<(), StreamsError> {
        let stored = written.map(|written| self.format.stored(written));
        match &self.bytes {
            Bytes::Own(_) => self.pending.borrow_mut().put(key, stored),
            Bytes::Global(_) => self.write(|bytes| bytes.write(&mut std::iter::once((key, stored)), &[]))?,
        }
        if let Some(estimate) = &self.estimate {
            let (puts, deletions) = estimate.get();
            let is_put = u64::from(written.is_some());
            estimate.set((puts + is_put, deletions + 1 - is_put));
        }
        if self.recency.is_some() {
            self.make_room(key, written.is_some())?;
        }
        if !self.log.is_on() {
            return Ok(());
        }
        let split = written.map(|written| self.format.split(written));
        let value = split.map(|split| split.value);
        let timestamp = split.and_then(|split| split.timestamp).unwrap_or_else(|| self.task.context_timestamp());
        let headers = match split.and_then(|split| split.headers) {
            Some(encoded) => decode_headers(encoded).map_err(|error| headers_failed(&self.name, error))?,
            None if self.logs_headers || (self.keeps_headers && value.is_none()) => self.task.context_headers(),
            None => Headers::default(),
        };
        self.log(key, value, Some(timestamp), &headers)
    }

    /// In a bounded store: notes that `key` was written or deleted, and lets go of another for it.
    #[cold]
    fn make_room(&self, key: &[u8], is_written: bool) -> Result<(), StreamsError> {
        let Some(recency) = &self.recency else { return Ok(()) };
        if !is_written {
            recency.borrow_mut().remove(key);
            return Ok(());
        }
        let Some(eldest) = recency.borrow_mut().insert(key) else { return Ok(()) };
        self.put_local(&eldest, None);
        if self.format == FormatKind::Plain {
            self.log(&eldest, None, Some(self.task.context_timestamp()), &Headers::default())?;
        }
        Ok(())
    }

    /// Whether it keeps headers.
    pub(crate) fn keeps_headers(&self) -> bool {
        self.keeps_headers
    }

    /// Keeps a change for the next commit, without logging it.
    pub(crate) fn put_local(&self, key: &[u8], local: Option<&[u8]>) {
        self.pending.borrow_mut().put(key, local);
    }

    /// Logs a change, without keeping it.
    pub(crate) fn log(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Option<Timestamp>,
        headers: &Headers,
    ) -> Result<(), StreamsError> {
        self.log.append(key, value, timestamp, headers).map_err(|error| error.in_store(&self.name))
    }

    /// A small named value that was written with a commit.
    pub(crate) fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, StreamsError> {
        self.read(|bytes| bytes.metadata(name))
    }

    /// Keeps a small named value for the next commit that writes anything.
    pub(crate) fn put_metadata(&self, name: &str, value: &[u8]) -> Result<(), StreamsError> {
        self.write(|bytes| bytes.put_metadata(name, value))
    }

    /// Calls `walk` with an iterator over store and pending changes as one. Bounds are inclusive.
    pub(crate) fn range<T>(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        direction: Direction,
        walk: impl FnOnce(&mut dyn ByteIterator) -> Result<T, StateError>,
    ) -> Result<T, StreamsError> {
        use std::ops::Bound::{Included, Unbounded};
        self.pending.borrow_mut().keep_sorted();
        let pending = self.pending.borrow();
        self.read(|bytes| {
            let stored = bytes.range(from, to, direction)?;
            if pending.is_empty() {
                let mut stored = stored;
                return walk(&mut stored);
            }
            let changes = pending.range(from.map_or(Unbounded, Included), to.map_or(Unbounded, Included));
            match direction {
                Direction::Forward => walk(&mut MergedIterator::new(stored, changes, direction, |a, b| a.cmp(b))),
                Direction::Backward => {
                    walk(&mut MergedIterator::new(stored, changes.rev(), direction, |a, b| a.cmp(b)))
                }
            }
        })
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.borrow().bytes()
    }

    pub(crate) fn approximate_entries(&self) -> Result<u64, StreamsError> {
        if let Some(recency) = &self.recency {
            return Ok(recency.borrow().len() as u64);
        }
        if let Some(estimate) = &self.estimate {
            let (puts, deletions) = estimate.get();
            return Ok(puts.saturating_sub(deletions));
        }
        let stored = self.read(|bytes| bytes.approximate_entries())?;
        if self.is_persistent() {
            return Ok(stored);
        }
        // In memory the number is exact: what waits for the commit counts.
        let (mut came, mut gone) = (0, 0);
        for (key, value) in self.pending.borrow().iter() {
            let is_stored = self.read(|bytes| bytes.get_with(key, &mut |_| {}))?;
            came += u64::from(value.is_some() && !is_stored);
            gone += u64::from(value.is_none() && is_stored);
        }
        Ok((stored + came).saturating_sub(gone))
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.read(|bytes| Ok(bytes.is_persistent())).unwrap_or(false)
    }

    /// Writes the pending changes with the changelog position in one step.
    pub(crate) fn commit(&self, offset: Option<Offset>) -> Result<(), StreamsError> {
        let offsets: Vec<(TopicPartition, Offset)> = match (&self.changelog, offset) {
            (Some(changelog), Some(offset)) if self.log.is_on() => vec![(changelog.partition.clone(), offset)],
            _ => Vec::new(),
        };
        let mut pending = self.pending.borrow_mut();
        if !pending.is_empty() || !offsets.is_empty() {
            self.write(|bytes| bytes.write(&mut pending.iter(), &offsets))?;
            pending.clear();
        }
        Ok(())
    }

    /// Writes what restoring has put locally, with the position up to which that goes.
    pub(crate) fn commit_restored(&self, offset: Option<Offset>) -> Result<(), StreamsError> {
        match (&self.changelog, offset) {
            (Some(changelog), Some(offset)) => self.commit_with(&[(changelog.partition.clone(), offset)]),
            _ => self.commit_with(&[]),
        }
    }

    /// Writes the pending changes and these positions in one step.
    pub(crate) fn commit_with(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), StreamsError> {
        let mut pending = self.pending.borrow_mut();
        self.write(|bytes| bytes.write(&mut pending.iter(), offsets))?;
        pending.clear();
        Ok(())
    }

    /// Writes positions only, for global stores.
    pub(crate) fn write_offsets(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), StreamsError> {
        self.write(|bytes| bytes.write(&mut std::iter::empty(), offsets))
    }

    /// Up to where the changelog is in the store, if there is a changelog.
    pub(crate) fn changelog_offset(&self) -> Result<Option<Offset>, StreamsError> {
        match &self.changelog {
            Some(changelog) => self.offset(&changelog.partition),
            None => Ok(None),
        }
    }

    pub(crate) fn offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StreamsError> {
        self.read(|bytes| bytes.offset(partition))
    }

    pub(crate) fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
        let mut arena = Vec::new();
        let mut changes = Vec::new();
        let mut last = None;
        for record in records {
            let key = record.key.to_vec();
            let value = record.value.map(|value| {
                let start = arena.len();
                self.format.join(record.timestamp, value, record.headers, &mut arena);
                start..arena.len()
            });
            changes.push((key, value));
            last = Some(record.offset);
        }
        let offsets: Vec<_> = match (&self.changelog, last) {
            (Some(changelog), Some(offset)) => vec![(changelog.partition.clone(), offset)],
            _ => Vec::new(),
        };
        let mut batch = changes.iter().map(|(key, value)| (key.as_slice(), value.clone().map(|place| &arena[place])));
        self.write(|bytes| bytes.write(&mut batch, &offsets))?;
        self.bound_restored(changes.iter().map(|(key, value)| (key.as_slice(), value.is_some())))
    }

    /// In a bounded store: lets go of what restoring has put too much.
    fn bound_restored<'a>(&self, restored: impl Iterator<Item = (&'a [u8], bool)>) -> Result<(), StreamsError> {
        let Some(recency) = &self.recency else { return Ok(()) };
        let mut recency = recency.borrow_mut();
        let mut gone = Vec::new();
        for (key, is_written) in restored {
            if is_written {
                gone.extend(recency.insert(key));
            } else {
                recency.remove(key);
            }
        }
        gone.retain(|key| !recency.contains(key));
        self.write(|bytes| bytes.write(&mut gone.iter().map(|key| (&**key, None)), &[]))
    }

    pub(crate) fn close(&self) -> Result<(), StreamsError> {
        self.pending.borrow_mut().clear();
        self.write(|bytes| bytes.close())
    }

    pub(crate) fn wipe(&self) -> Result<(), StreamsError> {
        self.pending.borrow_mut().clear();
        if let Some(recency) = &self.recency {
            recency.borrow_mut().clear();
        }
        self.write(|bytes| bytes.wipe())
    }
}
