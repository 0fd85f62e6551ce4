//! What stands in the files beside a log: offset, time and transaction indexes, producer snapshots, leader epochs. For people and tests:
//! read-only, nothing is opened, locked or repaired.

use std::path::Path;
use std::sync::Arc;

use base::{LeaderEpoch, Offset, ProducerId, Timestamp};

use super::checkpoint::parse_epochs;
use super::dump::dump_file;
use super::index::{Entry, OffsetEntry, TimeEntry, absolute};
use super::producer_state::Producers;
use super::txn_index;
use super::types::{LogError, ProducerInfo};
use crate::error::{ErrorKind, StorageError};
use crate::files::Files;

/// One entry of such a file.
#[derive(Clone, Debug)]
pub enum DumpedEntry {
    /// Of a `.index`: a batch.
    Offset {
        /// Its last offset.
        offset: Offset,
        /// Byte of the `.log` where it begins.
        position: u32,
    },
    /// Of a `.timeindex`: a batch with a timestamp that none before it reached.
    Time {
        /// The largest timestamp up to here.
        timestamp: Timestamp,
        /// Last offset of the batch.
        offset: Offset,
    },
    /// Of a `.txnindex`: an aborted transaction.
    Aborted {
        /// Its producer.
        producer_id: ProducerId,
        /// Its first offset.
        first_offset: Offset,
        /// Offset of its marker.
        last_offset: Offset,
        /// The last stable offset when the marker was written.
        last_stable_offset: Offset,
    },
    /// Of a `.snapshot`: a producer.
    Producer(ProducerInfo),
    /// Of `leader-epoch-checkpoint`: a term.
    Epoch {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Its first offset.
        start_offset: Offset,
    },
}

/// The entries of the file at `path`, told from its name; `None` if its name is of no such file.
///
/// # Errors
/// The file cannot be read, or is not what its name says.
pub fn dump_entries(files: &Arc<dyn Files>, path: &Path) -> Result<Option<Vec<DumpedEntry>>, LogError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let read = || files.read(path).map_err(|error| StorageError::io("read", path, &error));
    let corrupt = |what: &str| StorageError::new(ErrorKind::Corrupt, format!("{}: {what}", path.display()));
    let base_offset = name.split('.').next().and_then(|base| base.parse::<Offset>().ok());
    let entries = match (base_offset, name.rsplit('.').next().unwrap_or_default()) {
        (Some(base), "index") => {
            let entries = written::<OffsetEntry>(&read()?).ok_or_else(|| corrupt("its size is no multiple of 8"))?;
            let dumped = |entry: OffsetEntry| DumpedEntry::Offset {
                offset: absolute(base, entry.relative_offset),
                position: entry.position,
            };
            entries.into_iter().map(dumped).collect()
        }
        (Some(base), "timeindex") => {
            let entries = written::<TimeEntry>(&read()?).ok_or_else(|| corrupt("its size is no multiple of 12"))?;
            let dumped = |entry: TimeEntry| DumpedEntry::Time {
                timestamp: entry.timestamp,
                offset: absolute(base, entry.relative_offset),
            };
            entries.into_iter().map(dumped).collect()
        }
        (Some(_), "txnindex") => {
            let entries = txn_index::parse(&read()?).ok_or_else(|| corrupt("its size is no multiple of 34"))?;
            let dumped = |entry: txn_index::AbortedEntry| DumpedEntry::Aborted {
                producer_id: entry.producer_id,
                first_offset: entry.first_offset,
                last_offset: entry.last_offset,
                last_stable_offset: entry.last_stable_offset,
            };
            entries.into_iter().map(dumped).collect()
        }
        (Some(_), "snapshot") => {
            let producers = Producers::from_snapshot(&read()?).map_err(corrupt)?;
            producers.infos().into_iter().map(DumpedEntry::Producer).collect()
        }
        _ if name == "leader-epoch-checkpoint" => {
            let text = String::from_utf8_lossy(&read()?).into_owned();
            let epochs = parse_epochs(&text).ok_or_else(|| corrupt("it is no checkpoint of leader epochs"))?;
            epochs.into_iter().map(|(epoch, start_offset)| DumpedEntry::Epoch { epoch, start_offset }).collect()
        }
        _ => return Ok(None),
    };
    Ok(Some(entries))
}

/// The entries up to the zeros that Kafka keeps behind them while a segment is written to; `None` if the size cannot be.
fn written<E: Entry>(bytes: &[u8]) -> Option<Vec<E>> {
    if !bytes.len().is_multiple_of(E::SIZE) {
        return None;
    }
    let mut chunks = bytes.chunks_exact(E::SIZE).enumerate();
    let is_written = |chunk: &(usize, &[u8])| chunk.0 == 0 || chunk.1.iter().any(|byte| *byte != 0);
    Some(std::iter::from_fn(|| chunks.next().filter(is_written)).map(|(_, chunk)| E::read(chunk)).collect())
}

/// What is wrong with an offset or time index, one line each: entries that do not rise, or do not name a batch of the `.log` beside it.
///
/// # Errors
/// The index or the log cannot be read.
pub fn check_index(files: &Arc<dyn Files>, path: &Path) -> Result<Vec<String>, LogError> {
    let Some(entries) = dump_entries(files, path)? else { return Ok(Vec::new()) };
    let mut batches = Vec::new();
    for batch in dump_file(files, &path.with_extension("log"))? {
        let batch = batch?;
        batches.push((batch.pos, batch.last, batch.max_ts));
    }
    // A batch may hold the largest timestamp of all before it, too.
    let largest_up_to =
        |offset: Offset| batches.iter().filter(|(_, last, _)| *last <= offset).map(|batch| batch.2).max();
    let mut wrong = Vec::new();
    let mut before: Option<&DumpedEntry> = None;
    // A new segment's index is one entry of zeros, as Kafka writes it.
    let is_empty = entries.len() == 1 && batches.is_empty();
    for entry in entries.iter().filter(|_| !is_empty) {
        match (before, entry) {
            (Some(DumpedEntry::Offset { offset: last, .. }), DumpedEntry::Offset { offset, .. }) if offset <= last => {
                wrong.push(format!("{}: offset {offset} follows {last}", path.display()));
            }
            (Some(DumpedEntry::Time { timestamp: last, .. }), DumpedEntry::Time { timestamp, .. })
                if timestamp <= last =>
            {
                wrong.push(format!("{}: timestamp {timestamp} follows {last}", path.display()));
            }
            _ => {}
        }
        match entry {
            DumpedEntry::Offset { offset, position } => {
                let at = batches.iter().find(|(pos, ..)| *pos == u64::from(*position));
                if at.is_none_or(|(_, last, _)| last != offset) {
                    wrong.push(format!("{}: no batch at byte {position} ends with offset {offset}", path.display()));
                }
            }
            DumpedEntry::Time { timestamp, offset } if largest_up_to(*offset) != Some(*timestamp) => {
                wrong.push(format!(
                    "{}: the largest timestamp up to offset {offset} is not {timestamp}",
                    path.display()
                ));
            }
            _ => {}
        }
        before = Some(entry);
    }
    Ok(wrong)
}
