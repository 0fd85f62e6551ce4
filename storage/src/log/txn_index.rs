//! The aborted transactions of one segment: `.txnindex`, 34 bytes each, in the order of their markers.
//!
//! Version (0), producer id, first offset, last offset (that of the marker), last stable offset when the marker was
//! written. The file comes with the first entry.

use std::io;
use std::sync::Arc;

use base::{Offset, ProducerId};
use parking_lot::Mutex;

use super::file_cache::LogFile;
use crate::files::OpenMode;

const ENTRY_SIZE: usize = 34;

/// One aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AbortedEntry {
    pub(super) producer_id: ProducerId,
    pub(super) first_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) last_stable_offset: Offset,
}

impl AbortedEntry {
    fn to_bytes(self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        let fields = [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset];
        for (index, field) in fields.into_iter().enumerate() {
            bytes[2 + index * 8..10 + index * 8].copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        let field = |at: usize| bytes[at..at + 8].iter().fold(0i64, |number, byte| (number << 8) | i64::from(*byte));
        Self { producer_id: field(2), first_offset: field(10), last_offset: field(18), last_stable_offset: field(26) }
    }
}

/// The entries of such a file; `None` if its size cannot be.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<AbortedEntry>> {
    bytes.len().is_multiple_of(ENTRY_SIZE).then(|| bytes.chunks_exact(ENTRY_SIZE).map(AbortedEntry::read).collect())
}

/// The transaction index of one segment; read from its file on first use.
pub(super) struct TxnIndex {
    file: Arc<LogFile>,
    entries: Mutex<Option<Arc<Vec<AbortedEntry>>>>,
}

impl TxnIndex {
    /// That of a segment that may have one already.
    pub(super) fn new(file: Arc<LogFile>) -> Self {
        Self { file, entries: Mutex::new(None) }
    }

    /// That of a new segment.
    pub(super) fn empty(file: Arc<LogFile>) -> Self {
        Self { file, entries: Mutex::new(Some(Arc::default())) }
    }

    pub(super) fn file(&self) -> &Arc<LogFile> {
        &self.file
    }

    pub(super) fn entries(&self) -> io::Result<Arc<Vec<AbortedEntry>>> {
        let mut entries = self.entries.lock();
        if let Some(entries) = &*entries {
            return Ok(Arc::clone(entries));
        }
        let loaded = match self.file.existing() {
            Ok(open) => {
                let mut bytes = vec![0; open.0.len()? as usize];
                open.0.read_exact_at(&mut bytes, 0)?;
                bytes.chunks_exact(ENTRY_SIZE).map(AbortedEntry::read).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let loaded = Arc::new(loaded);
        *entries = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    pub(super) fn push(&self, entry: AbortedEntry) -> io::Result<()> {
        let position = (self.entries()?.len() * ENTRY_SIZE) as u64;
        self.file.open(OpenMode::Create)?.0.write_at(&entry.to_bytes(), position)?;
        Arc::make_mut(self.entries.lock().get_or_insert_default()).push(entry);
        Ok(())
    }

    /// Keeps only what ended before `offset`.
    pub(super) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let entries = self.entries()?;
        let kept = entries.partition_point(|entry| entry.last_offset < offset);
        if kept < entries.len() {
            self.file.open(OpenMode::Create)?.0.set_len((kept * ENTRY_SIZE) as u64)?;
            *self.entries.lock() = Some(Arc::new(entries[..kept].to_vec()));
        }
        Ok(())
    }
}
