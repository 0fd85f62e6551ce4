//! A light persistent engine: everything on the heap, and every batch in a log on the seam to the disk.
//!
//! For small stores without RocksDB, and for simulations, whose stores lie on a simulated disk. `store.log` is batches
//! back to back: `length (4) | CRC-32C (4) | body`, the body being entries:
//!
//! | entry | bytes |
//! |---|---|
//! | put | `1, family, key, value` |
//! | delete | `2, family, key` |
//! | metadata | `3, name, value` |
//! | drop segment | `4, family` |
//!
//! where a family is `0` or `1, segment (8)`, and keys, names and values are `length (4), bytes`. A batch that is cut
//! short or whose CRC is wrong ends the log when it is opened, and is cut off: it was never acknowledged as durable.
//! Metadata `status` is 1 while open and 0 after a clean close. When the log has grown to several times what lives,
//! it is written anew beside itself and renamed.
//!
//! Invariant: memory holds exactly the batches that are whole in the log.

use std::io::{self, IoSlice};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{FileHandle, FileLock, Files, OpenMode};

use super::byte_store::{ByteIterator, Direction, OwnedEntry};
use super::directory::{Claim, Shape};
use super::engine::{Engine, Family};
use super::error::{StateError, StateErrorKind};
use super::key_value::KeyValueStore;
use super::memory::MemoryEngine;
use super::offsets::STATUS;

const ENGINE: &str = "files";
const LOG: &str = "store.log";
const HEADER_SIZE: usize = 8;
/// Bytes from which on a log is worth writing anew.
const REWRITE_FROM: u64 = 1 << 20;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const METADATA: u8 = 3;
const DROP_SEGMENT: u8 = 4;

/// A key-value store in a log.
pub type FileStore = KeyValueStore<FileEngine>;

impl FileStore {
    /// Opens or makes the key-value store in `directory`; `format` names the format of its values, `sync_writes` says
    /// whether a write survives a power cut.
    ///
    /// # Errors
    /// `InUse`, `Foreign`, `Corrupt` or `Poisoned`, see [`StateErrorKind`].
    pub fn open(files: Arc<dyn Files>, directory: &Path, format: &str, sync_writes: bool) -> Result<Self, StateError> {
        Ok(Self::new(FileEngine::open(files, directory, format, Shape::KeyValue, sync_writes)?))
    }
}

/// Families on the heap with a log behind them.
pub struct FileEngine {
    files: Arc<dyn Files>,
    directory: PathBuf,
    claim: Claim,
    sync_writes: bool,
    memory: MemoryEngine,
    /// `None` once closed.
    log: Option<Log>,
    /// Body of the open batch behind room for its header.
    batch: Vec<u8>,
    was_closed_cleanly: bool,
    /// Why writes are refused, after the medium failed.
    poisoned: Option<StateError>,
}

struct Log {
    file: Arc<dyn FileHandle>,
    size: u64,
    /// Size right after it was last written anew, or opened.
    compact_size: u64,
    _lock: Box<dyn FileLock>,
}

impl FileEngine {
    pub(super) fn open(
        files: Arc<dyn Files>,
        directory: &Path,
        format: &str,
        shape: Shape,
        sync_writes: bool,
    ) -> Result<Self, StateError> {
        let claim = Claim::new(directory, ENGINE, format, &shape);
        let is_new = !claim.check(&*files)?;
        let mut engine = Self {
            files,
            directory: directory.to_owned(),
            claim,
            sync_writes,
            memory: MemoryEngine::new(&directory.to_string_lossy()),
            log: None,
            batch: Vec::new(),
            was_closed_cleanly: true,
            poisoned: None,
        };
        if is_new {
            engine.claim.stake(&*engine.files)?;
        }
        engine.open_log()?;
        Ok(engine)
    }

    fn open_log(&mut self) -> Result<(), StateError> {
        let path = self.directory.join(LOG);
        let fail = |action: &'static str| move |error: io::Error| StateError::io(&path, action, &error);
        let lock_path = self.directory.join("LOCK");
        let lock = self.files.try_lock(&lock_path).map_err(|error| StateError::io(&lock_path, "lock it", &error))?;
        let Some(lock) = lock else {
            let place = self.directory.to_string_lossy();
            return Err(StateError::new(StateErrorKind::InUse, place, "another process or store has it open"));
        };
        let path = self.directory.join(LOG);
        let file = self.files.open(&path, OpenMode::Create).map_err(fail.clone()("open the file"))?;
        let content = self.files.read(&path).map_err(fail.clone()("read the file"))?;
        let size = self.replay(&content)?;
        if size < content.len() as u64 {
            tracing::warn!(
                "state store {}: cut off {} bytes of an unfinished batch",
                self.directory.display(),
                content.len() as u64 - size
            );
            file.set_len(size).and_then(|()| file.sync_data()).map_err(fail.clone()("cut off its torn end"))?;
        }
        self.files.sync_dir(&self.directory).map_err(fail("sync its directory"))?;
        self.was_closed_cleanly = match self.memory.metadata(STATUS.as_bytes())? {
            Some(status) => status == 0_i64.to_be_bytes(),
            None => true,
        };
        self.log = Some(Log { file, size, compact_size: size, _lock: lock });
        self.stage_metadata(STATUS.as_bytes(), &1_i64.to_be_bytes())?;
        self.commit()
    }

    /// Applies the whole batches at the start of `content`; returns where the first that is not whole begins.
    fn replay(&mut self, content: &[u8]) -> Result<u64, StateError> {
        let mut position = 0;
        while let Some(body) = whole_batch(&content[position..]) {
            apply(&mut self.memory, body).ok_or_else(|| {
                let reason = format_args!("{LOG} at byte {position}: a batch with a right CRC cannot be read");
                StateError::new(StateErrorKind::Corrupt, self.directory.to_string_lossy(), reason)
            })?;
            self.memory.commit()?;
            position += HEADER_SIZE + body.len();
        }
        Ok(position as u64)
    }

    fn error(&self, action: &str, error: &io::Error) -> StateError {
        StateError::io(&self.directory.join(LOG), action, error)
    }

    fn check_writable(&self) -> Result<(), StateError> {
        match &self.poisoned {
            Some(error) => Err(error.clone()),
            None if self.log.is_none() => Err(StateError::closed(self.memory.place())),
            None => Ok(()),
        }
    }

    /// The open batch, begun if need be.
    fn batch(&mut self) -> &mut Vec<u8> {
        if self.batch.is_empty() {
            self.batch.resize(HEADER_SIZE, 0);
        }
        &mut self.batch
    }

    fn append_batch(&mut self) -> Result<(), StateError> {
        self.check_writable()?;
        if self.batch.is_empty() {
            return Ok(());
        }
        seal(&mut self.batch).map_err(|error| self.error("write a batch", &error))?;
        let Some(log) = &mut self.log else { return Ok(()) };
        let mut result = log.file.write_slices_at(&[IoSlice::new(&self.batch)], log.size);
        if self.sync_writes {
            result = result.and_then(|()| log.file.sync_data());
        }
        if let Err(error) = result {
            let error = self.error("write a batch", &error);
            return Err(self.poisoned.insert(error).clone());
        }
        log.size += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    /// Writes what lives into a new log and puts it in place of the old one.
    fn rewrite(&mut self) -> Result<(), StateError> {
        let mut content = vec![0; HEADER_SIZE];
        for (name, value) in self.memory.all_metadata()? {
            content.push(METADATA);
            write_bytes(&name, &mut content);
            write_bytes(&value, &mut content);
        }
        let families = std::iter::once(Family::Default).chain(self.memory.segments()?.into_iter().map(Family::Segment));
        for family in families {
            let mut entries = self.memory.scan(family, Bound::Unbounded, Bound::Unbounded, Direction::Forward)?;
            while let Some((key, value)) = entries.next_entry()? {
                write_entry(PUT, family, &mut content);
                write_bytes(key, &mut content);
                write_bytes(value, &mut content);
            }
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        let (files, path) = (&self.files, self.directory.join(LOG));
        let replaced = seal(&mut content)
            .and_then(|()| files.replace(&path, &content))
            .and_then(|()| files.open(&path, OpenMode::Write));
        match replaced {
            Ok(file) => {
                log.file = file;
                log.size = content.len() as u64;
                log.compact_size = log.size;
                Ok(())
            }
            Err(error) => {
                let error = self.error("write it anew", &error);
                Err(self.poisoned.insert(error).clone())
            }
        }
    }
}

/// Fills in the header of a batch, for which room was left.
fn seal(batch: &mut [u8]) -> io::Result<()> {
    let (header, body) = batch.split_at_mut(HEADER_SIZE);
    let length = u32::try_from(body.len()).map_err(|_| io::Error::other("a batch is above 4 GiB"))?;
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4..].copy_from_slice(&crc_of(body).to_be_bytes());
    Ok(())
}

fn crc_of(body: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body) as u32
}

/// Body of the batch at the start of `bytes`; `None` if it is not whole.
fn whole_batch(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..u32::from_be_bytes(*length) as usize)?;
    // A batch is never empty; zeros left by a torn write are not one.
    (!body.is_empty() && crc_of(body) == u32::from_be_bytes(*crc)).then_some(body)
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // A key or value of 4 GiB makes a batch that `seal` refuses.
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn write_entry(kind: u8, family: Family, out: &mut Vec<u8>) {
    out.push(kind);
    match family {
        Family::Default => out.push(0),
        Family::Segment(segment) => {
            out.push(1);
            out.extend_from_slice(&segment.to_be_bytes());
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    Some(head)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
    take(rest, size as usize)
}

fn take_family(rest: &mut &[u8]) -> Option<Family> {
    match take(rest, 1)? {
        [0] => Some(Family::Default),
        [1] => Some(Family::Segment(i64::from_be_bytes(take(rest, 8)?.try_into().ok()?))),
        _ => None,
    }
}

/// Stages the entries of a body; `None` if they cannot be read.
fn apply(memory: &mut MemoryEngine, body: &[u8]) -> Option<()> {
    let mut rest = body;
    while let Some(kind) = take(&mut rest, 1) {
        match kind[0] {
            PUT => {
                let (family, key) = (take_family(&mut rest)?, take_bytes(&mut rest)?);
                memory.stage(family, key, Some(take_bytes(&mut rest)?)).ok()?;
            }
            DELETE => {
                let (family, key) = (take_family(&mut rest)?, take_bytes(&mut rest)?);
                memory.stage(family, key, None).ok()?;
            }
            METADATA => {
                let name = take_bytes(&mut rest)?;
                memory.stage_metadata(name, take_bytes(&mut rest)?).ok()?;
            }
            DROP_SEGMENT => match take_family(&mut rest)? {
                Family::Segment(segment) => memory.drop_segment(segment).ok()?,
                Family::Default => return None,
            },
            _ => return None,
        }
    }
    Some(())
}

impl Engine for FileEngine {
    fn place(&self) -> &str {
        self.memory.place()
    }

    fn segments(&self) -> Result<Vec<i64>, StateError> {
        self.memory.segments()
    }

    fn get_with(&self, family: Family, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError> {
        self.memory.get_with(family, key, read)
    }

    fn scan(
        &self,
        family: Family,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        self.memory.scan(family, from, to, direction)
    }

    fn stage(&mut self, family: Family, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        self.check_writable()?;
        let batch = self.batch();
        write_entry(if value.is_some() { PUT } else { DELETE }, family, batch);
        write_bytes(key, batch);
        if let Some(value) = value {
            write_bytes(value, batch);
        }
        self.memory.stage(family, key, value)
    }

    fn stage_metadata(&mut self, name: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.check_writable()?;
        let batch = self.batch();
        batch.push(METADATA);
        write_bytes(name, batch);
        write_bytes(value, batch);
        self.memory.stage_metadata(name, value)
    }

    fn commit(&mut self) -> Result<(), StateError> {
        self.append_batch()?;
        self.memory.commit()?;
        let has_grown = |log: &Log| log.size > REWRITE_FROM && log.size > 4 * log.compact_size;
        if self.log.as_ref().is_some_and(has_grown)
            && let Err(error) = self.rewrite()
        {
            // The batch is safe in the old log; the store is poisoned for the next one.
            tracing::error!("{error}");
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.batch.clear();
        self.memory.discard();
    }

    fn drop_segment(&mut self, segment: i64) -> Result<(), StateError> {
        self.check_writable()?;
        // A batch of its own; the open one waits.
        let open_batch = std::mem::take(&mut self.batch);
        write_entry(DROP_SEGMENT, Family::Segment(segment), self.batch());
        let result = self.append_batch();
        self.batch = open_batch;
        result?;
        self.memory.drop_segment(segment)
    }

    fn metadata(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.memory.metadata(name)
    }

    fn all_metadata(&self) -> Result<Vec<OwnedEntry>, StateError> {
        self.memory.all_metadata()
    }

    fn approximate_entries(&self) -> Result<u64, StateError> {
        self.memory.approximate_entries()
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.check_writable()?;
        let synced = self.log.as_ref().map_or(Ok(()), |log| log.file.sync_data());
        synced.map_err(|error| {
            let error = self.error("sync it", &error);
            self.poisoned.insert(error).clone()
        })
    }

    fn close(&mut self) -> Result<(), StateError> {
        if self.log.is_none() {
            return Ok(());
        }
        self.discard();
        let result = self
            .stage_metadata(STATUS.as_bytes(), &0_i64.to_be_bytes())
            .and_then(|()| self.append_batch())
            .and_then(|()| self.flush());
        self.log = None;
        self.memory.close()?;
        result
    }

    fn wipe(&mut self) -> Result<(), StateError> {
        self.discard();
        self.log = None;
        self.poisoned = None;
        self.memory.wipe()?;
        self.claim.clear(&*self.files)?;
        self.claim.stake(&*self.files)?;
        self.open_log()
    }

    fn was_closed_cleanly(&self) -> Result<bool, StateError> {
        self.memory.segments()?;
        Ok(self.was_closed_cleanly)
    }

    fn is_persistent(&self) -> bool {
        true
    }
}
