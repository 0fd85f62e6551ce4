//! One segment of a partition's log: the `.log` file of record batches, its indexes and its producer snapshot's name.
//!
//! Owns the files named after `base_offset`, and which of their bytes may be read. Does not know topics, leaders or
//! clients: `partition` decides when to roll, `retention` when to delete.
//!
//! `.log` is record batches (magic 2, `protocol::record`) back to back, without header or padding.
//! Invariant: `base_offset <= offset` for every record; index entries rise in offset and in position.
//! Threads: one appender, any number of readers; a reader sees bytes below [`Segment::size`] only.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use base::{Offset, Timestamp};
use parking_lot::Mutex;
use protocol::record::BatchHeader;

use super::config::LogConfig;
use super::file_cache::{FileCache, LogFile, OpenFile};
use super::index::{Index, OffsetEntry, TimeEntry, absolute};
use super::scan::{Scan, ScanError};
use super::txn_index::TxnIndex;
use super::types::LogError;
use crate::error::{ErrorKind, StorageError};
use crate::files::OpenMode;

/// Name of a file of the segment at `base_offset`: 20 digits and a suffix.
pub(super) fn file_name(base_offset: Offset, suffix: &str) -> String {
    format!("{base_offset:020}{suffix}")
}

/// Base offset and suffix of a segment's file.
pub(super) fn parse_file_name(name: &str) -> Option<(Offset, &str)> {
    let (digits, suffix) = name.split_at_checked(20)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !suffix.starts_with('.') {
        return None;
    }
    Some((digits.parse().ok()?, suffix))
}

/// Largest timestamp of a segment and the last offset of the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LargestTimestamp {
    pub(super) timestamp: Timestamp,
    pub(super) offset: Offset,
}

/// One segment.
pub(super) struct Segment {
    pub(super) base_offset: Offset,
    folder: PathBuf,
    log: Arc<LogFile>,
    pub(super) offset_index: Index<OffsetEntry>,
    pub(super) time_index: Index<TimeEntry>,
    pub(super) txn_index: TxnIndex,
    size: AtomicU64,
    largest: Mutex<LargestTimestamp>,
    /// Largest timestamp of the first batch; `i64::MIN` until it is known.
    first_timestamp: AtomicI64,
    bytes_since_entry: AtomicU64,
    created_ms: AtomicI64,
    jitter_ms: AtomicI64,
}

const UNKNOWN: Timestamp = i64::MIN;
const NO_TIMESTAMP: LargestTimestamp = LargestTimestamp { timestamp: -1, offset: -1 };

impl Segment {
    /// A new, empty segment; its files are made.
    pub(super) fn create(
        cache: &Arc<FileCache>,
        folder: &Path,
        base_offset: Offset,
        now_ms: Timestamp,
        jitter_ms: i64,
    ) -> io::Result<Self> {
        Self::create_with_suffix(cache, folder, base_offset, "", now_ms, jitter_ms)
    }

    /// As [`Segment::create`], with `suffix` behind the names: `.cleaned`.
    pub(super) fn create_with_suffix(
        cache: &Arc<FileCache>,
        folder: &Path,
        base_offset: Offset,
        suffix: &str,
        now_ms: Timestamp,
        jitter_ms: i64,
    ) -> io::Result<Self> {
        let file = |kind: &str| cache.file(folder.join(file_name(base_offset, kind) + suffix));
        let log = file(".log");
        log.open(OpenMode::Truncate)?;
        Ok(Self {
            base_offset,
            folder: folder.to_owned(),
            log,
            offset_index: Index::create(file(".index"))?,
            time_index: Index::create(file(".timeindex"))?,
            txn_index: TxnIndex::empty(file(".txnindex")),
            size: AtomicU64::new(0),
            largest: Mutex::new(NO_TIMESTAMP),
            first_timestamp: AtomicI64::new(UNKNOWN),
            bytes_since_entry: AtomicU64::new(0),
            created_ms: AtomicI64::new(now_ms),
            jitter_ms: AtomicI64::new(jitter_ms),
        })
    }

    /// The segment whose files are there, its indexes trusted; the flag says whether they could be. If not, they are
    /// empty and the segment must be recovered.
    pub(super) fn load(
        cache: &Arc<FileCache>,
        folder: &Path,
        base_offset: Offset,
        now_ms: Timestamp,
        jitter_ms: i64,
    ) -> io::Result<(Self, bool)> {
        let file = |kind: &str| cache.file(folder.join(file_name(base_offset, kind)));
        let log = file(".log");
        let size = log.existing()?.0.len()?;
        let offset_index = Index::<OffsetEntry>::load(file(".index"))?
            .filter(|index| index.last().is_none_or(|last| u64::from(last.position) < size));
        let time_index = Index::<TimeEntry>::load(file(".timeindex"))?;
        let trusted = offset_index.is_some() && time_index.is_some();
        let offset_index = match offset_index {
            Some(index) => index,
            None => Index::create(file(".index"))?,
        };
        let time_index = match time_index {
            Some(index) => index,
            None => Index::create(file(".timeindex"))?,
        };
        let largest = time_index.last().map_or(NO_TIMESTAMP, |last| LargestTimestamp {
            timestamp: last.timestamp,
            offset: absolute(base_offset, last.relative_offset),
        });
        let segment = Self {
            base_offset,
            folder: folder.to_owned(),
            log,
            offset_index,
            time_index,
            txn_index: TxnIndex::new(file(".txnindex")),
            size: AtomicU64::new(size),
            largest: Mutex::new(largest),
            first_timestamp: AtomicI64::new(UNKNOWN),
            bytes_since_entry: AtomicU64::new(0),
            created_ms: AtomicI64::new(now_ms),
            jitter_ms: AtomicI64::new(jitter_ms),
        };
        Ok((segment, trusted))
    }

    /// Bytes of the `.log` file that may be read.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Lets readers see up to `size`.
    pub(super) fn publish(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    pub(super) fn open_log(&self) -> io::Result<Arc<OpenFile>> {
        self.log.existing()
    }

    pub(super) fn log_path(&self) -> &Path {
        self.log.path()
    }

    /// The segment's files that are there: log, indexes, and the transaction index if it has entries.
    pub(super) fn files(&self) -> io::Result<Vec<Arc<LogFile>>> {
        let mut files =
            vec![Arc::clone(&self.log), Arc::clone(self.offset_index.file()), Arc::clone(self.time_index.file())];
        if !self.txn_index.entries()?.is_empty() {
            files.push(Arc::clone(self.txn_index.file()));
        }
        Ok(files)
    }

    pub(super) fn path_of(&self, suffix: &str) -> PathBuf {
        self.folder.join(file_name(self.base_offset, suffix))
    }

    pub(super) fn largest_timestamp(&self) -> LargestTimestamp {
        *self.largest.lock()
    }

    /// Writes the batch `head` + `body`, whose header is `header`, behind `position`, and its index entries. Readers do
    /// not see it before [`Segment::publish`].
    ///
    /// As Kafka's `LogSegment.append`; the index entries are written under `index.interval.bytes` like there.
    pub(super) fn append(
        &self,
        head: &[u8],
        body: &[u8],
        header: &BatchHeader,
        index_interval_bytes: i32,
    ) -> io::Result<u64> {
        let position = self.size();
        let file = self.log.existing()?;
        if body.is_empty() {
            file.0.write_at(head, position)?;
        } else {
            file.0.write_slices_at(&[IoSlice::new(head), IoSlice::new(body)], position)?;
        }
        self.index(position, header, index_interval_bytes)?;
        Ok(position + header.size_bytes() as u64)
    }

    /// Takes note of a batch at `position` for the indexes.
    pub(super) fn index(&self, position: u64, header: &BatchHeader, index_interval_bytes: i32) -> io::Result<()> {
        let last_offset = header.last_offset();
        if position == 0 {
            self.first_timestamp.store(header.max_timestamp, Ordering::Relaxed);
        }
        {
            let mut largest = self.largest.lock();
            if header.max_timestamp > largest.timestamp {
                *largest = LargestTimestamp { timestamp: header.max_timestamp, offset: last_offset };
            }
        }
        let since = self.bytes_since_entry.load(Ordering::Relaxed);
        let size = header.size_bytes() as u64;
        if since <= u64::from(index_interval_bytes.max(0) as u32) {
            self.bytes_since_entry.store(since + size, Ordering::Relaxed);
            return Ok(());
        }
        self.bytes_since_entry.store(size, Ordering::Relaxed);
        let entry =
            OffsetEntry { relative_offset: self.relative(last_offset), position: u32::try_from(position).unwrap_or(0) };
        if self.offset_index.last().is_none_or(|last| last.relative_offset < entry.relative_offset) && position > 0 {
            self.offset_index.push(entry)?;
        }
        self.index_time()
    }

    /// Writes a time index entry for the largest timestamp so far, if it grew.
    fn index_time(&self) -> io::Result<()> {
        let largest = self.largest_timestamp();
        if largest.timestamp < 0 {
            return Ok(());
        }
        let entry = TimeEntry { timestamp: largest.timestamp, relative_offset: self.relative(largest.offset) };
        if self.time_index.last().is_none_or(|last| last.timestamp < entry.timestamp) {
            self.time_index.push(entry)?;
        }
        Ok(())
    }

    fn relative(&self, offset: Offset) -> u32 {
        // The roll rules keep offsets within an i32 of the base.
        u32::try_from(offset - self.base_offset).unwrap_or(0)
    }

    /// Writes everything that waits in memory, and the closing time index entry.
    pub(super) fn write_out_indexes(&self) -> io::Result<()> {
        self.index_time()?;
        self.offset_index.write_out()?;
        self.time_index.write_out()
    }

    /// Whether a batch of `size` bytes ending at `last_offset` with `max_timestamp` must go to a new segment.
    pub(super) fn must_roll(
        &self,
        config: &LogConfig,
        size: usize,
        last_offset: Offset,
        max_timestamp: Timestamp,
        now_ms: Timestamp,
    ) -> io::Result<bool> {
        let used = self.size();
        if used > (config.segment_bytes as u64).saturating_sub(size as u64)
            || last_offset - self.base_offset > i64::from(i32::MAX)
        {
            return Ok(used > 0 || last_offset - self.base_offset > i64::from(i32::MAX));
        }
        if used == 0 {
            return Ok(false);
        }
        if self.offset_index.len() >= config.segment_index_bytes as usize / 8
            || self.time_index.len() + 1 >= config.segment_index_bytes as usize / 12
        {
            return Ok(true);
        }
        let first = self.first_timestamp()?;
        let waited = match first {
            0.. => max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.created_ms.load(Ordering::Relaxed)),
        };
        Ok(waited > config.segment_ms - self.jitter_ms.load(Ordering::Relaxed).min(config.segment_ms))
    }

    /// Largest timestamp of the first batch; -1 in an empty segment.
    pub(super) fn first_timestamp(&self) -> io::Result<Timestamp> {
        let known = self.first_timestamp.load(Ordering::Relaxed);
        if known != UNKNOWN {
            return Ok(known);
        }
        if self.size() == 0 {
            return Ok(-1);
        }
        let first = match Scan::new(self.open_log()?, 0, self.size()).next_header() {
            Ok(Some((_, header))) => header.max_timestamp,
            Ok(None) | Err(ScanError::Corrupt { .. }) => -1,
            Err(ScanError::Io(error)) => return Err(error),
        };
        self.first_timestamp.store(first, Ordering::Relaxed);
        Ok(first)
    }

    /// The first batch whose last offset reaches `offset`, before byte `end`: where it begins, and its header.
    ///
    /// Runs once per fetch over about one index interval.
    pub(super) fn locate(&self, offset: Offset, end: u64) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let start = self
            .offset_index
            .floor_offset(offset - self.base_offset)
            .map_err(|error| self.io("read the index of", &error))?
            .map_or(0, |entry| u64::from(entry.position));
        let mut scan = self.scan(start, end)?;
        while let Some((position, header)) = scan.next_header().map_err(|error| self.scan_error(error))? {
            if header.last_offset() >= offset {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// Where the next record after this segment's goes; looks at the end of the file only, from the last index entry on.
    ///
    /// # Errors
    /// `Corrupt` if what lies there is not whole batches.
    pub(super) fn next_offset(&self) -> Result<Offset, LogError> {
        let start = self.offset_index.last().map_or(0, |entry| u64::from(entry.position));
        let mut next = None;
        let mut scan = self.scan(start, self.size())?;
        while let Some((position, batch)) = scan.next_batch().map_err(|error| self.scan_error(error))? {
            batch
                .verify_crc()
                .map_err(|error| self.scan_error(ScanError::Corrupt { position, reason: error.to_string() }))?;
            next = Some(batch.header().next_offset());
        }
        match next {
            Some(next) => Ok(next),
            None if start == 0 => Ok(self.base_offset),
            None => Err(self.scan_error(ScanError::Corrupt {
                position: self.size(),
                reason: format!("the batch at byte {start} that the index names is not there"),
            })),
        }
    }

    /// A walk over the batches between two positions.
    pub(super) fn scan(&self, start: u64, end: u64) -> Result<Scan, LogError> {
        let file = self.open_log().map_err(|error| self.io("open", &error))?;
        Ok(Scan::new(file, start, end))
    }

    pub(super) fn io(&self, what: &str, error: &io::Error) -> LogError {
        StorageError::io(what, self.log_path(), error)
    }

    pub(super) fn scan_error(&self, error: ScanError) -> LogError {
        match error {
            ScanError::Io(error) => self.io("read", &error),
            ScanError::Corrupt { position, reason } => StorageError::new(
                ErrorKind::Corrupt,
                format!("{} at byte {position}: {reason}", self.log_path().display()),
            ),
        }
    }

    /// Cuts the segment at `position`, whose first lost offset is `offset`; indexes and timestamps follow.
    pub(super) fn truncate(&self, position: u64, offset: Offset) -> io::Result<()> {
        self.publish(position);
        self.log.existing()?.0.set_len(position)?;
        let offsets = self.offset_index.entries()?;
        self.offset_index.truncate(offsets.partition_point(|entry| u64::from(entry.position) < position))?;
        let times = self.time_index.entries()?;
        let kept = times.partition_point(|entry| absolute(self.base_offset, entry.relative_offset) < offset);
        self.time_index.truncate(kept)?;
        self.txn_index.truncate_to(offset)?;
        // What the index no longer says about the largest timestamp is read again from its last entry on.
        let mut largest = self.time_index.last().map_or(NO_TIMESTAMP, |last| LargestTimestamp {
            timestamp: last.timestamp,
            offset: absolute(self.base_offset, last.relative_offset),
        });
        let start = match largest.timestamp {
            -1 => 0,
            _ => self
                .offset_index
                .floor_offset(largest.offset - self.base_offset)?
                .map_or(0, |entry| u64::from(entry.position)),
        };
        let mut scan = Scan::new(self.log.existing()?, start, position);
        while let Ok(Some((_, header))) = scan.next_header() {
            if header.max_timestamp > largest.timestamp {
                largest = LargestTimestamp { timestamp: header.max_timestamp, offset: header.last_offset() };
            }
        }
        *self.largest.lock() = largest;
        self.bytes_since_entry.store(0, Ordering::Relaxed);
        if position == 0 {
            self.first_timestamp.store(UNKNOWN, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Empties the indexes, to be filled again by [`Segment::index`] from the first batch on; then [`Segment::finish_rebuild`], or
    /// [`Segment::truncate`].
    pub(super) fn begin_rebuild(&self) -> io::Result<()> {
        self.offset_index.begin_rebuild();
        self.time_index.begin_rebuild();
        self.txn_index.truncate_to(0)?;
        *self.largest.lock() = NO_TIMESTAMP;
        self.bytes_since_entry.store(0, Ordering::Relaxed);
        self.first_timestamp.store(UNKNOWN, Ordering::Relaxed);
        Ok(())
    }

    /// Ends what [`Segment::begin_rebuild`] began.
    pub(super) fn finish_rebuild(&self) -> io::Result<()> {
        self.offset_index.finish_rebuild()?;
        // The closing entry of a clean shutdown is as true as the others, and cutting it off, once per partition, waits for
        // the file system's journal.
        if self.time_index.file_holds_more()? {
            self.index_time()?;
        }
        self.time_index.finish_rebuild()
    }

    /// When the `.log` file was last written.
    pub(super) fn modified_ms(&self, cache: &FileCache) -> io::Result<Timestamp> {
        Ok(cache.files().metadata(self.log_path())?.modified_ms)
    }
}
