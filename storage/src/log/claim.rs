//! A data directory that is locked, with nothing in it read but its identity and nothing changed: the place for whoever
//! opens it to refuse it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Offset, TopicPartition};
use bytes::Bytes;
use protocol::api::ReadAt;
use protocol::record::{BatchHeader, RecordBatch};

use super::checkpoint;
use super::directory::{LogDirectory, LogDirectoryOptions, MetaProperties, RECOVERY_POINTS, malformed};
use super::file_cache::FileCache;
use super::scan::{Scan, ScanError};
use super::segment::{file_name, parse_file_name};
use super::types::LogError;
use crate::error::{ErrorKind, StorageError};
use crate::files::{FileLock, Files};

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// See the module. Dropping it gives the directory back as it was.
pub struct ClaimedDirectory {
    pub(super) files: Arc<dyn Files>,
    pub(super) path: PathBuf,
    pub(super) lock: Box<dyn FileLock>,
    pub(super) meta: Option<MetaProperties>,
}

impl ClaimedDirectory {
    /// Locks the directory at `path`, made if it is not there.
    ///
    /// # Errors
    /// `InUse` if another process holds it, `Corrupt` for a malformed `meta.properties`.
    pub fn claim(files: Arc<dyn Files>, path: impl Into<PathBuf>) -> Result<Self, LogError> {
        let path = path.into();
        let io = |what: &str, path: &Path, error: &io::Error| StorageError::io(what, path, error);
        let exists = files.exists(&path).map_err(|error| io("look at", &path, &error))?;
        if !exists {
            files.create_dir_all_durably(&path).map_err(|error| io("make", &path, &error))?;
        }
        let lock_path = path.join(".lock");
        let Some(lock) = files.try_lock(&lock_path).map_err(|error| io("lock", &lock_path, &error))? else {
            return Err(StorageError::new(
                ErrorKind::InUse,
                format!("{} is in use by another process (its .lock is held)", path.display()),
            ));
        };
        let meta = match read_text(files.as_ref(), &path.join("meta.properties"))? {
            None => None,
            Some(text) => {
                Some(checkpoint::parse_meta_properties(&text).ok_or_else(|| malformed(&path, "meta.properties"))?)
            }
        };
        Ok(Self { files, path, lock, meta })
    }

    /// Whose it is; `None` in a new directory.
    pub fn meta_properties(&self) -> Option<&MetaProperties> {
        self.meta.as_ref()
    }

    /// Opens it, and recovers what a crash left.
    ///
    /// # Errors
    /// As [`LogDirectory::open`].
    pub fn open(self, options: LogDirectoryOptions) -> Result<LogDirectory, LogError> {
        LogDirectory::open_claimed(self, options)
    }

    /// Reads the partition's whole log: refuses one that is damaged before its end, which recovery would cut there and
    /// lose what follows. For small logs of which nothing may be missing. A torn tail is none of that: a crash leaves it.
    ///
    /// # Errors
    /// `Corrupt`, naming file and byte, if whole batches follow a damaged one. Not so if what is damaged was never
    /// written out at all (a block of zeros behind the recovery point): a crash leaves that, too.
    pub fn check_whole(&self, partition: &TopicPartition) -> Result<(), LogError> {
        let folder = self.path.join(partition.to_string());
        let entries = match self.files.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| StorageError::io("list", &folder, &error))?,
        };
        let points = read_text(self.files.as_ref(), &self.path.join(RECOVERY_POINTS))?
            .and_then(|text| checkpoint::parse_offsets(&text))
            .unwrap_or_default();
        let recovery_point = points.get(partition).copied().unwrap_or(0);
        let cache = FileCache::new(Arc::clone(&self.files), 8);
        let mut next = 0;
        let mut damage: Option<Damage> = None;
        for entry in entries {
            let Some((base_offset, ".log")) = parse_file_name(&entry.name) else { continue };
            let path = folder.join(file_name(base_offset, ".log"));
            let io = |error: io::Error| StorageError::io("read", &path, &error);
            let len = self.files.metadata(&path).map_err(io)?.len;
            let file = cache.file(path.clone()).existing().map_err(io)?;
            let mut from = 0;
            if damage.is_none() {
                next = next.max(base_offset);
                let mut scan = Scan::new(Arc::clone(&file), 0, len);
                let Some((position, reason)) = walk(&mut scan, &mut next).map_err(io)? else { continue };
                damage = Some(Damage { path: path.clone(), position, reason });
                from = position;
            }
            let Some(damage) = &damage else { continue };
            let mut rest = vec![0; usize::try_from(len - from).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut rest, from).map_err(io)?;
            let Some((at, offset)) = first_batch(&Bytes::from(rest.clone()), next) else { continue };
            let never_written = damage.path == path && next >= recovery_point && has_hole(&rest[..at], from);
            if !never_written {
                return Err(StorageError::new(
                    ErrorKind::Corrupt,
                    format!(
                        "{} is damaged at byte {} ({}), but offset {offset} follows whole",
                        damage.path.display(),
                        damage.position,
                        damage.reason
                    ),
                ));
            }
        }
        Ok(())
    }
}

struct Damage {
    path: PathBuf,
    position: u64,
    reason: String,
}

/// Goes over whole batches whose offsets rise from `next` on; where and why it stops before the end.
fn walk(scan: &mut Scan, next: &mut Offset) -> io::Result<Option<(u64, String)>> {
    loop {
        let position = scan.position();
        let reason = match scan.next_batch() {
            Ok(None) => return Ok(None),
            Ok(Some((_, batch))) => match fits(&batch, *next) {
                Ok(()) => {
                    *next = batch.header().next_offset();
                    continue;
                }
                Err(reason) => reason,
            },
            Err(ScanError::Corrupt { reason, .. }) => reason,
            Err(ScanError::Io(error)) => return Err(error),
        };
        return Ok(Some((position, reason)));
    }
}

fn fits(batch: &RecordBatch, next: Offset) -> Result<(), String> {
    let header = batch.header();
    if header.base_offset < next || header.last_offset_delta < 0 {
        return Err(format!("a batch of offset {} after offset {next}", header.base_offset));
    }
    batch.verify_crc().map_err(|error| error.to_string())
}

/// Where the first whole batch from offset `next` on begins, wherever that is, and its offset.
fn first_batch(bytes: &Bytes, next: Offset) -> Option<(usize, Offset)> {
    (0..bytes.len()).find_map(|at| {
        let header = BatchHeader::read(&bytes[at..]).ok()?;
        let end = at.checked_add(header.size_bytes()).filter(|end| *end <= bytes.len())?;
        let batch = RecordBatch::new(bytes.slice(at..end)).ok()?;
        fits(&batch, next).ok().map(|()| (at, header.base_offset))
    })
}

/// Whether a sector of it (it begins at byte `position` of its file) was never written.
fn has_hole(damaged: &[u8], position: u64) -> bool {
    let to_border = (SECTOR - (position % SECTOR as u64) as usize) % SECTOR;
    let (head, sectors) = damaged.split_at(to_border.min(damaged.len()));
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    (!head.is_empty() && is_zero(head)) || sectors.chunks(SECTOR).any(is_zero)
}

pub(super) fn read_text(files: &dyn Files, path: &Path) -> Result<Option<String>, LogError> {
    match files.read(path) {
        Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("read", path, &error)),
    }
}
