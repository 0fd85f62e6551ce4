//! Every batch of a partition's folder, for people and tests: read-only, nothing is opened, locked or repaired.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use protocol::record::{Compression, RecordBatch, TimestampType};

use super::file_cache::OpenFile;
use super::scan::{Scan, ScanError};
use super::segment::parse_file_name;
use super::types::LogError;
use crate::error::{ErrorKind, StorageError};
use crate::files::{Files, OpenMode};

/// One batch of a `.log` file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DumpedBatch {
    /// Name of the file.
    pub file: String,
    /// Byte of the file where the batch begins.
    pub pos: u64,
    /// Bytes of the whole batch.
    pub size: usize,
    /// Base offset.
    pub base: Offset,
    /// Last offset.
    pub last: Offset,
    /// Number of records.
    pub count: i32,
    /// `none`, `gzip`, `snappy`, `lz4`, `zstd`, or `unknown`.
    pub codec: &'static str,
    /// Leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Largest timestamp.
    pub max_ts: Timestamp,
    /// `CreateTime` or `LogAppendTime`.
    pub ts_type: &'static str,
    /// Producer id.
    pub pid: ProducerId,
    /// Producer epoch.
    pub epoch: ProducerEpoch,
    /// First sequence.
    pub base_seq: Sequence,
    /// Last sequence.
    pub last_seq: Sequence,
    /// Whether it is part of a transaction.
    pub txn: bool,
    /// Whether it is a control batch.
    pub control: bool,
    /// Stored checksum.
    pub crc32c: u32,
    /// Whether the checksum matches.
    pub valid: bool,
    /// From when compaction may drop the batch's tombstones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_horizon_ms: Option<Timestamp>,
    /// The batch itself.
    #[serde(skip)]
    pub batch: DumpedBytes,
}

/// The bytes of a dumped batch, for whoever wants its records.
#[derive(Clone, Debug)]
pub struct DumpedBytes(pub RecordBatch);

impl PartialEq for DumpedBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes() == other.0.bytes()
    }
}

impl Eq for DumpedBytes {}

fn dumped(file: &str, pos: u64, batch: RecordBatch) -> DumpedBatch {
    let header = *batch.header();
    DumpedBatch {
        file: file.to_owned(),
        pos,
        size: header.size_bytes(),
        base: header.base_offset,
        last: header.last_offset(),
        count: header.record_count,
        codec: match header.attributes.codec() {
            Ok(Compression::None) => "none",
            Ok(Compression::Gzip) => "gzip",
            Ok(Compression::Snappy) => "snappy",
            Ok(Compression::Lz4) => "lz4",
            Ok(Compression::Zstd) => "zstd",
            Err(_) => "unknown",
        },
        leader_epoch: header.leader_epoch,
        max_ts: header.max_timestamp,
        ts_type: match header.attributes.timestamp_type() {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        },
        pid: header.producer_id,
        epoch: header.producer_epoch,
        base_seq: header.base_sequence,
        last_seq: header.last_sequence(),
        txn: header.attributes.is_transactional(),
        control: header.attributes.is_control(),
        crc32c: header.crc,
        valid: batch.verify_crc().is_ok(),
        delete_horizon_ms: header.delete_horizon(),
        batch: DumpedBytes(batch),
    }
}

/// Every batch of the partition's folder `folder`, segment by segment. Bytes that are no batch end their segment with an
/// error; the next segment follows.
///
/// # Errors
/// When the folder cannot be read.
pub fn dump(files: &Arc<dyn Files>, folder: &Path) -> Result<Dump, LogError> {
    let entries = files.list(folder).map_err(|error| StorageError::io("list", folder, &error))?;
    let is_log = |name: &String| matches!(parse_file_name(name), Some((_, ".log")));
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).filter(is_log).collect();
    names.reverse();
    Ok(Dump { files: Arc::clone(files), folder: folder.to_owned(), names, current: None })
}

/// As [`dump`], of one `.log` file.
///
/// # Errors
/// When there is no such file.
pub fn dump_file(files: &Arc<dyn Files>, path: &Path) -> Result<Dump, LogError> {
    files.metadata(path).map_err(|error| StorageError::io("read", path, &error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Dump { files: Arc::clone(files), folder, names: name.into_iter().collect(), current: None })
}

/// Iterator of [`dump`].
pub struct Dump {
    files: Arc<dyn Files>,
    folder: PathBuf,
    /// Files that are left, the next one last.
    names: Vec<String>,
    current: Option<(String, Scan)>,
}

impl Dump {
    fn open(&self, name: &str) -> io::Result<Scan> {
        let file = self.files.open(&self.folder.join(name), OpenMode::Read)?;
        let len = file.len()?;
        Ok(Scan::new(Arc::new(OpenFile(file)), 0, len))
    }
}

impl Iterator for Dump {
    type Item = Result<DumpedBatch, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((name, scan)) = &mut self.current {
                match scan.next_batch() {
                    Ok(Some((position, batch))) => return Some(Ok(dumped(name, position, batch))),
                    Ok(None) => self.current = None,
                    Err(error) => {
                        let path = self.folder.join(&*name);
                        self.current = None;
                        return Some(Err(match error {
                            ScanError::Io(error) => StorageError::io("read", &path, &error),
                            ScanError::Corrupt { position, reason } => StorageError::new(
                                ErrorKind::Corrupt,
                                format!("{} at byte {position}: {reason}", path.display()),
                            ),
                        }));
                    }
                }
            }
            let name = self.names.pop()?;
            match self.open(&name) {
                Ok(scan) => self.current = Some((name, scan)),
                Err(error) => return Some(Err(StorageError::io("open", &self.folder.join(name), &error))),
            }
        }
    }
}
