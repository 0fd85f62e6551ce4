//! A sparse index of one segment: fixed-size entries that rise, in a file, its newest entries in memory.
//!
//! `.index` (8 bytes): last offset of a batch relative to the segment's base, position of that batch. `.timeindex` (12
//! bytes): largest timestamp so far, last offset (relative) of the batch that has it. New entries wait in memory until
//! there is a page of them: a segment that must be recovered rebuilds its indexes anyway.
//!
//! Invariant: entries strictly rise in every field. Threads: one appender; look-ups wait only for memory.

use std::io;
use std::sync::Arc;

use base::{Offset, Timestamp};
use parking_lot::RwLock;

use super::file_cache::{LogFile, OpenFile};
use crate::files::OpenMode;

/// How many entries wait in memory before they are written.
const PENDING_MAX: usize = 512;
/// Down to how many entries a look-up halves before it reads them all at once.
const READ_ENTRIES: u32 = 128;

/// What an index holds.
pub(super) trait Entry: Copy {
    /// Bytes of one entry.
    const SIZE: usize;
    fn read(bytes: &[u8]) -> Self;
    fn write(&self, out: &mut Vec<u8>);
    /// Whether `next` may follow this one.
    fn rises_to(&self, next: &Self) -> bool;
}

/// Last offset of a batch (relative to the segment's base) and where that batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    pub(super) relative_offset: u32,
    pub(super) position: u32,
}

/// Largest timestamp so far, and the last offset (relative) of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeEntry {
    pub(super) timestamp: Timestamp,
    pub(super) relative_offset: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

impl Entry for OffsetEntry {
    const SIZE: usize = 8;

    fn read(bytes: &[u8]) -> Self {
        Self { relative_offset: u32_at(bytes, 0), position: u32_at(bytes, 4) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn rises_to(&self, next: &Self) -> bool {
        self.relative_offset < next.relative_offset && self.position < next.position
    }
}

impl Entry for TimeEntry {
    const SIZE: usize = 12;

    fn read(bytes: &[u8]) -> Self {
        let timestamp = (i64::from(u32_at(bytes, 0)) << 32) | i64::from(u32_at(bytes, 4));
        Self { timestamp, relative_offset: u32_at(bytes, 8) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn rises_to(&self, next: &Self) -> bool {
        self.timestamp < next.timestamp && self.relative_offset <= next.relative_offset
    }
}

struct State<E> {
    stored: u32,
    pending: Vec<E>,
    last: Option<E>,
}

impl<E: Entry> State<E> {
    /// What waits in memory, as it goes into the file.
    fn pending_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pending.len() * E::SIZE);
        self.pending.iter().for_each(|entry| entry.write(&mut bytes));
        bytes
    }
}

/// One index.
pub(super) struct Index<E> {
    file: Arc<LogFile>,
    state: RwLock<State<E>>,
}

impl<E: Entry> Index<E> {
    /// The index of a new segment: empty, its file made.
    pub(super) fn create(file: Arc<LogFile>) -> io::Result<Self> {
        let open = file.open(OpenMode::Create)?;
        if open.0.len()? > 0 {
            open.0.set_len(0)?;
        }
        Ok(Self { file, state: RwLock::new(State { stored: 0, pending: Vec::new(), last: None }) })
    }

    /// The index in `file`, whose entries are trusted; `None` if it is not there, or its size or last entry cannot be.
    pub(super) fn load(file: Arc<LogFile>) -> io::Result<Option<Self>> {
        let open = match file.existing() {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = open.0.len()?;
        if len % E::SIZE as u64 != 0 || len > u64::from(u32::MAX) {
            return Ok(None);
        }
        let stored = (len / E::SIZE as u64) as u32;
        let last = if stored > 0 { Some(read_entry(&open, stored - 1)?) } else { None };
        if stored > 1
            && let Some(last) = &last
            && !read_entry::<E>(&open, stored - 2)?.rises_to(last)
        {
            return Ok(None);
        }
        Ok(Some(Self { file, state: RwLock::new(State { stored, pending: Vec::new(), last }) }))
    }

    pub(super) fn file(&self) -> &Arc<LogFile> {
        &self.file
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        let state = self.state.read();
        state.stored as usize + state.pending.len()
    }

    pub(super) fn last(&self) -> Option<E> {
        self.state.read().last
    }

    /// Adds an entry; it must rise from the last one. A page of them is written out.
    pub(super) fn push(&self, entry: E) -> io::Result<()> {
        let full = {
            let mut state = self.state.write();
            state.pending.push(entry);
            state.last = Some(entry);
            state.pending.len() >= PENDING_MAX
        };
        if full { self.write_out() } else { Ok(()) }
    }

    /// Writes what waits in memory.
    pub(super) fn write_out(&self) -> io::Result<()> {
        let (position, count, bytes) = {
            let state = self.state.read();
            if state.pending.is_empty() {
                return Ok(());
            }
            (u64::from(state.stored) * E::SIZE as u64, state.pending.len(), state.pending_bytes())
        };
        self.file.open(OpenMode::Create)?.0.write_at(&bytes, position)?;
        let mut state = self.state.write();
        state.stored += count as u32;
        state.pending.drain(..count);
        state.pending.shrink_to(0);
        Ok(())
    }

    /// The last entry for which `is_below` holds; it must hold for a first part of the entries.
    pub(super) fn floor(&self, is_below: impl Fn(&E) -> bool) -> io::Result<Option<E>> {
        let stored = {
            let state = self.state.read();
            if state.pending.first().is_some_and(&is_below) {
                let count = state.pending.partition_point(&is_below);
                return Ok(Some(state.pending[count - 1]));
            }
            state.stored
        };
        if stored == 0 {
            return Ok(None);
        }
        let open = self.file.existing()?;
        // Entries below `low` hold, those from `high` on do not.
        let (mut low, mut high) = (0, stored);
        while high - low > READ_ENTRIES {
            let middle = low + (high - low) / 2;
            if is_below(&read_entry(&open, middle)?) { low = middle } else { high = middle }
        }
        let mut bytes = vec![0; (high - low) as usize * E::SIZE];
        open.0.read_exact_at(&mut bytes, u64::from(low) * E::SIZE as u64)?;
        Ok(bytes.chunks_exact(E::SIZE).map(E::read).take_while(|entry| is_below(entry)).last())
    }

    /// All entries, in order.
    pub(super) fn entries(&self) -> io::Result<Vec<E>> {
        let (stored, pending) = {
            let state = self.state.read();
            (state.stored, state.pending.clone())
        };
        let mut entries = Vec::with_capacity(stored as usize + pending.len());
        if stored > 0 {
            let mut bytes = vec![0; stored as usize * E::SIZE];
            self.file.existing()?.0.read_exact_at(&mut bytes, 0)?;
            entries.extend(bytes.chunks_exact(E::SIZE).map(E::read));
        }
        entries.extend(pending);
        Ok(entries)
    }

    /// Forgets all entries, to be given them again from the first on. The file keeps what it has until
    /// [`Index::finish_rebuild`] or [`Index::truncate`]: most often it is what is written again.
    pub(super) fn begin_rebuild(&self) {
        *self.state.write() = State { stored: 0, pending: Vec::new(), last: None };
    }

    /// Whether the file has entries beyond those given since [`Index::begin_rebuild`].
    pub(super) fn file_holds_more(&self) -> io::Result<bool> {
        Ok(self.file.open(OpenMode::Create)?.0.len()? > (self.len() * E::SIZE) as u64)
    }

    /// Lets the file hold the entries given since [`Index::begin_rebuild`] and nothing else; not touched if it does already.
    pub(super) fn finish_rebuild(&self) -> io::Result<()> {
        let open = self.file.open(OpenMode::Create)?;
        let before = open.0.len()?;
        if !self.is_written(&open, before)? {
            self.write_out()?;
        }
        let mut state = self.state.write();
        state.stored += state.pending.len() as u32;
        state.pending = Vec::new();
        let len = u64::from(state.stored) * E::SIZE as u64;
        if before > len { open.0.set_len(len) } else { Ok(()) }
    }

    /// Whether the file, `len` bytes long, begins with the entries in memory and none were written meanwhile.
    fn is_written(&self, open: &OpenFile, len: u64) -> io::Result<bool> {
        let state = self.state.read();
        if state.stored > 0 || len < (state.pending.len() * E::SIZE) as u64 {
            return Ok(false);
        }
        let bytes = state.pending_bytes();
        let mut found = vec![0; bytes.len()];
        open.0.read_exact_at(&mut found, 0)?;
        Ok(found == bytes)
    }

    /// Keeps the first `count` entries only.
    pub(super) fn truncate(&self, count: usize) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.truncate(count);
        let open = self.file.open(OpenMode::Create)?;
        let mut state = self.state.write();
        let stored = (state.stored as usize).min(count);
        open.0.set_len((stored * E::SIZE) as u64)?;
        state.stored = stored as u32;
        state.last = entries.last().copied();
        state.pending = entries.split_off(stored);
        Ok(())
    }
}

impl Index<OffsetEntry> {
    /// The last entry whose batch ends at or before `relative_offset`.
    pub(super) fn floor_offset(&self, relative_offset: i64) -> io::Result<Option<OffsetEntry>> {
        self.floor(|entry| i64::from(entry.relative_offset) <= relative_offset)
    }
}

impl Index<TimeEntry> {
    /// The last entry whose timestamp is below `timestamp`: everything up to its offset is older.
    pub(super) fn floor_time(&self, timestamp: Timestamp) -> io::Result<Option<TimeEntry>> {
        self.floor(|entry| entry.timestamp < timestamp)
    }
}

/// Offset of an entry, from the base offset of its segment.
pub(super) fn absolute(base_offset: Offset, relative_offset: u32) -> Offset {
    base_offset + i64::from(relative_offset)
}

fn read_entry<E: Entry>(open: &OpenFile, index: u32) -> io::Result<E> {
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..E::SIZE];
    open.0.read_exact_at(bytes, u64::from(index) * E::SIZE as u64)?;
    Ok(E::read(bytes))
}
