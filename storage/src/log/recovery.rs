//! Opening a partition: from a clean shutdown without reading its data, after a crash by scanning what was not synced.
//!
//! After a crash every segment that holds offsets from the recovery point on is read: batches must be whole and match
//! their CRC; at the first that does not the log ends, and what was cut is reported. Indexes and transaction index of
//! those segments, and the producers' state, are rebuilt on the way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Offset, Timestamp, TopicPartition};
use protocol::record::RecordBatch;
use uuid::Uuid;

use super::append::marker_of;
use super::checkpoint;
use super::config::LogConfig;
use super::file_cache::FileCache;
use super::flusher::sync_folder;
use super::leader_epochs::LeaderEpochs;
use super::partition::Opened;
use super::producer_state::{Producers, TransactionChange};
use super::scan::ScanError;
use super::segment::{Segment, file_name, parse_file_name};
use super::transactions::Transactions;
use super::types::{LogError, RecoveryReport, Truncation};
use crate::error::{ErrorKind, StorageError};
use crate::files::Files;

/// What the directory knows of a partition before it is opened.
pub(super) struct Found<'a> {
    pub(super) cache: &'a Arc<FileCache>,
    pub(super) partition: &'a TopicPartition,
    pub(super) folder: &'a Path,
    pub(super) config: &'a LogConfig,
    /// The directory was shut down cleanly.
    pub(super) clean: bool,
    /// From the checkpoints.
    pub(super) recovery_point: Offset,
    pub(super) log_start: Offset,
    pub(super) now_ms: Timestamp,
}

/// What recovery read or wrote of a partition, and may be in the page cache only: see [`sync_recovered`].
pub(super) struct Recovered {
    folder: PathBuf,
    segments: Vec<Arc<Segment>>,
}

/// Opens a partition; adds to `report` what was cut. What was recovered must be synced before the log is used.
pub(super) fn open_partition(
    found: &Found<'_>,
    report: &mut RecoveryReport,
) -> Result<(Opened, Option<Recovered>), LogError> {
    Opening { found, files: found.cache.files().as_ref(), recovered: false }.run(report)
}

/// Makes what was recovered of partitions of one directory durable, and the indexes that were made again. Together, since one
/// sync of many files costs little more than that of one. The outcome of each.
pub(super) fn sync_recovered(files: &dyn Files, recovered: &[&Recovered]) -> Vec<Result<(), LogError>> {
    let mut handles = Vec::new();
    let opened: Vec<Result<usize, LogError>> = recovered
        .iter()
        .map(|recovered| {
            let before = handles.len();
            for segment in &recovered.segments {
                let open = || segment.files()?.iter().map(|file| Ok(Arc::clone(&file.existing()?.0))).collect();
                let opened: io::Result<Vec<_>> = open();
                handles.extend(opened.map_err(|error| segment.io("sync", &error))?);
            }
            Ok(handles.len() - before)
        })
        .collect();
    let mut synced = if handles.is_empty() { Vec::new() } else { files.sync_all(&handles) }.into_iter();
    // The data directory's own name too: the sync of it may be what failed before.
    let parent = recovered.first().and_then(|recovered| recovered.folder.parent());
    let parent = parent.map_or(Ok(()), |parent| sync_folder(files, parent));
    let mut outcome = |recovered: &Recovered, opened: Result<usize, LogError>| {
        let of_files: Vec<io::Result<()>> = synced.by_ref().take(*opened.as_ref().unwrap_or(&0)).collect();
        opened?;
        let of_files: io::Result<()> = of_files.into_iter().collect();
        of_files.map_err(|error| StorageError::io("sync", &recovered.folder, &error))?;
        sync_folder(files, &recovered.folder)?;
        parent.clone()
    };
    recovered.iter().zip(opened).map(|(recovered, opened)| outcome(recovered, opened)).collect()
}

struct Opening<'a> {
    found: &'a Found<'a>,
    files: &'a dyn Files,
    recovered: bool,
}

impl Opening<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.found.folder.join(name)
    }

    fn io(&self, what: &str, name: &str, error: &io::Error) -> LogError {
        StorageError::io(what, &self.path(name), error)
    }

    fn run(&mut self, report: &mut RecoveryReport) -> Result<(Opened, Option<Recovered>), LogError> {
        let found = self.found;
        let bases = self.tidy()?;
        let mut segments = Vec::new();
        let mut untrusted = Vec::new();
        for base_offset in bases {
            let (segment, trusted) =
                Segment::load(found.cache, found.folder, base_offset, found.now_ms, found.config.segment_jitter_ms)
                    .map_err(|error| self.io("open", &file_name(base_offset, ".log"), &error))?;
            segments.push(Arc::new(segment));
            untrusted.push(!trusted);
        }
        let first_base = segments.first().map_or(0, |segment| segment.base_offset);
        let mut log_start = found.log_start.max(first_base);
        let mut epochs = self.load_epochs();
        let mut first_recovered = self.first_recovered(&segments, &untrusted);
        let mut producers;
        let mut log_end = log_start;
        if let (None, Some(active)) = (first_recovered, segments.last()) {
            match active.next_offset() {
                Ok(end) => log_end = end,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(partition = %found.partition, %error, "damaged since its clean shutdown");
                    first_recovered = Some(segments.len() - 1);
                }
                Err(error) => return Err(error),
            }
        }
        match first_recovered {
            None => {
                producers = self.load_producers(&segments, log_end)?;
            }
            Some(first) => {
                self.recovered = true;
                producers = self.load_producers(&segments[..first], segments[first].base_offset)?;
                log_end = self.recover(&mut segments, first, &mut producers, &mut epochs, report)?;
                self.remove_snapshots_above(log_end)?;
            }
        }
        if log_end < log_start {
            // The checkpointed log start lies behind everything that is left: Kafka starts anew there.
            tracing::warn!(partition = %found.partition, log_end, log_start, "log ends before its start; dropped");
            segments.iter().try_for_each(|segment| self.remove_segment(segment.base_offset))?;
            segments.clear();
            self.remove_snapshots_above(-1)?;
            producers = Producers::default();
            log_end = log_start;
            self.recovered = true;
        }
        log_start = log_start.max(0);
        epochs.truncate_from_end(log_end);
        epochs.truncate_from_start(log_start);
        let recovered = self.recovered.then(|| Recovered {
            folder: found.folder.to_owned(),
            segments: segments.get(first_recovered.unwrap_or(0)..).unwrap_or_default().to_vec(),
        });
        let opened = Opened {
            created: true,
            dirty: self.recovered || !found.clean,
            topic_id: self.load_topic_id(),
            log_start,
            log_end,
            durable_end: log_end,
            segments,
            producers,
            epochs,
        };
        Ok((opened, recovered))
    }

    /// Finishes or undoes what a crash interrupted, and removes what was given up. Base offsets of what is left.
    fn tidy(&self) -> Result<Vec<Offset>, LogError> {
        let list = || self.files.list(self.found.folder).map_err(|error| self.io("list", "", &error));
        let remove =
            |name: &str| self.files.remove_file(&self.path(name)).map_err(|error| self.io("remove", name, &error));
        let entries: Vec<String> = list()?.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect();
        let mut first_cleaned = Offset::MAX;
        for name in &entries {
            if name.ends_with(".cleaned") {
                if let Some((base_offset, _)) = parse_file_name(name) {
                    first_cleaned = first_cleaned.min(base_offset);
                }
                remove(name)?;
            } else if name.ends_with(".deleted") || name.ends_with(".tmp") {
                remove(name)?;
            }
        }
        let swaps: Vec<&String> = entries.iter().filter(|name| name.ends_with(".swap")).collect();
        // Segments that a finished cleaning replaces go before its result takes its place.
        for name in &swaps {
            let Some((base_offset, suffix)) = parse_file_name(name) else { continue };
            if base_offset >= first_cleaned {
                remove(name)?;
            } else if suffix == ".log.swap" {
                self.remove_replaced(base_offset, &entries)?;
            }
        }
        for name in &swaps {
            let Some((base_offset, _)) = parse_file_name(name) else { continue };
            if base_offset < first_cleaned {
                let target = name.trim_end_matches(".swap");
                self.files
                    .rename(&self.path(name), &self.path(target))
                    .map_err(|error| self.io("rename", name, &error))?;
            }
        }
        let mut bases = Vec::new();
        // Nothing that counts was removed unless a cleaning was finished.
        let names = if swaps.is_empty() { entries } else { list()?.into_iter().map(|entry| entry.name).collect() };
        for name in &names {
            if let Some((base_offset, ".log")) = parse_file_name(name) {
                bases.push(base_offset);
            }
        }
        for name in &names {
            if let Some((base_offset, ".index" | ".timeindex" | ".txnindex")) = parse_file_name(name)
                && bases.binary_search(&base_offset).is_err()
            {
                tracing::warn!(partition = %self.found.partition, file = %name, "index without its log; removed");
                remove(name)?;
            }
        }
        Ok(bases)
    }

    /// Removes the segments whose offsets the swapped segment at `base_offset` covers.
    fn remove_replaced(&self, base_offset: Offset, entries: &[String]) -> Result<(), LogError> {
        let name = file_name(base_offset, ".log.swap");
        let path = self.path(&name);
        let len = self.files.metadata(&path).map_err(|error| self.io("look at", &name, &error))?.len;
        let file = self.found.cache.file(path).existing().map_err(|error| self.io("open", &name, &error))?;
        let mut scan = super::scan::Scan::new(file, 0, len);
        let mut end = base_offset + 1;
        while let Ok(Some((_, header))) = scan.next_header() {
            end = header.next_offset();
        }
        for name in entries {
            if let Some((base, suffix)) = parse_file_name(name)
                && (base_offset..end).contains(&base)
                && matches!(suffix, ".log" | ".index" | ".timeindex" | ".txnindex")
            {
                self.files.remove_file(&self.path(name)).map_err(|error| self.io("remove", name, &error))?;
            }
        }
        Ok(())
    }

    /// The first segment that must be read: after a crash the one that holds the recovery point (and the active one,
    /// whose newest index entries were never written); and any whose indexes are missing or cannot be.
    fn first_recovered(&self, segments: &[Arc<Segment>], untrusted: &[bool]) -> Option<usize> {
        let damaged = untrusted.iter().position(|untrusted| *untrusted);
        if self.found.clean {
            return damaged;
        }
        let holding = segments
            .partition_point(|segment| segment.base_offset < self.found.recovery_point)
            .saturating_sub(1)
            .min(segments.len().checked_sub(1)?);
        Some(damaged.map_or(holding, |damaged| damaged.min(holding)))
    }

    /// Reads the segments from `first` on; the log's end. Segments behind the first damage go.
    fn recover(
        &self,
        segments: &mut Vec<Arc<Segment>>,
        first: usize,
        producers: &mut Producers,
        epochs: &mut LeaderEpochs,
        report: &mut RecoveryReport,
    ) -> Result<Offset, LogError> {
        let mut transactions = Transactions::new(producers.open_transactions());
        let mut log_end = segments.get(first).map_or(0, |segment| segment.base_offset);
        for index in first..segments.len() {
            let segment = Arc::clone(&segments[index]);
            log_end = log_end.max(segment.base_offset);
            report.segments_scanned += 1;
            let damage = self.recover_segment(&segment, &mut log_end, producers, &mut transactions, epochs)?;
            let Some((position, reason)) = damage else { continue };
            let size = segment.size();
            report.truncations.push(Truncation {
                partition: self.found.partition.clone(),
                file: file_name(segment.base_offset, ".log"),
                position,
                bytes: size - position,
                log_end,
                reason: reason.clone(),
            });
            tracing::warn!(
                partition = %self.found.partition, file = %segment.log_path().display(), position,
                bytes = size - position, log_end, %reason, "log truncated"
            );
            segment.truncate(position, log_end).map_err(|error| segment.io("truncate", &error))?;
            for lost in segments.drain(index + 1..) {
                report.truncations.push(Truncation {
                    partition: self.found.partition.clone(),
                    file: file_name(lost.base_offset, ".log"),
                    position: 0,
                    bytes: lost.size(),
                    log_end,
                    reason: "behind a damaged segment".into(),
                });
                tracing::warn!(
                    partition = %self.found.partition, file = %lost.log_path().display(), bytes = lost.size(),
                    "segment behind a damaged one removed"
                );
                self.remove_segment(lost.base_offset)?;
            }
            break;
        }
        Ok(log_end)
    }

    /// Reads one segment and rebuilds what depends on it; where and why it is damaged, if it is.
    fn recover_segment(
        &self,
        segment: &Segment,
        log_end: &mut Offset,
        producers: &mut Producers,
        transactions: &mut Transactions,
        epochs: &mut LeaderEpochs,
    ) -> Result<Option<(u64, String)>, LogError> {
        let io = |error: io::Error| segment.io("recover", &error);
        segment.begin_rebuild().map_err(io)?;
        let mut scan = segment.scan(0, segment.size())?;
        loop {
            let position = scan.position();
            let batch = match scan.next_batch() {
                Ok(Some((_, batch))) => batch,
                Ok(None) => break,
                Err(ScanError::Corrupt { reason, .. }) => return Ok(Some((position, reason))),
                Err(error) => return Err(segment.scan_error(error)),
            };
            let header = batch.header();
            // Compacted logs have gaps, never overlaps.
            if header.base_offset < *log_end
                || header.last_offset_delta < 0
                || header.last_offset() - segment.base_offset > i64::from(i32::MAX)
            {
                let reason = format!("a batch of offset {} after offset {log_end}", header.base_offset);
                return Ok(Some((position, reason)));
            }
            if let Err(error) = batch.verify_crc() {
                return Ok(Some((position, error.to_string())));
            }
            segment.index(position, header, self.found.config.index_interval_bytes).map_err(io)?;
            if header.leader_epoch > epochs.latest() {
                epochs.assign(header.leader_epoch, header.base_offset);
            }
            if let Some(change) = replay(producers, &batch) {
                if let Some(aborted) = transactions.aborted_entry(change) {
                    segment.txn_index.push(aborted).map_err(io)?;
                }
                transactions.apply(change);
            }
            *log_end = header.next_offset();
        }
        segment.finish_rebuild().map_err(io)?;
        Ok(None)
    }

    /// The producers as of offset `at`: from the newest readable snapshot, and the batches from there on.
    fn load_producers(&self, segments: &[Arc<Segment>], at: Offset) -> Result<Producers, LogError> {
        let mut producers = Producers::default();
        // Without a snapshot after a clean shutdown Kafka starts empty; after a crash it reads the whole log.
        let mut from = if self.found.clean { at } else { Offset::MIN };
        for offset in self.snapshots()?.into_iter().rev().filter(|offset| *offset <= at) {
            let name = file_name(offset, ".snapshot");
            let content = self.files.read(&self.path(&name)).map_err(|error| self.io("read", &name, &error))?;
            match Producers::from_snapshot(&content) {
                Ok(loaded) => {
                    producers = loaded;
                    from = offset;
                    break;
                }
                Err(reason) => {
                    tracing::warn!(partition = %self.found.partition, file = %name, reason, "bad snapshot removed");
                    self.files.remove_file(&self.path(&name)).map_err(|error| self.io("remove", &name, &error))?;
                }
            }
        }
        for (index, segment) in segments.iter().enumerate() {
            let ends_before = segments.get(index + 1).is_some_and(|next| next.base_offset <= from);
            if ends_before || from >= at {
                continue;
            }
            let mut scan = segment.scan(0, segment.size())?;
            loop {
                let position = scan.position();
                let Some((_, header)) = scan.next_header().map_err(|error| segment.scan_error(error))? else { break };
                if header.last_offset() < from || header.base_offset >= at || !header.has_producer_id() {
                    continue;
                }
                let mut whole = segment.scan(position, scan.position())?;
                if let Some((_, batch)) = whole.next_batch().map_err(|error| segment.scan_error(error))? {
                    replay(&mut producers, &batch);
                }
            }
        }
        Ok(producers)
    }

    /// Offsets of the snapshots that are there, rising.
    fn snapshots(&self) -> Result<Vec<Offset>, LogError> {
        let entries = self.files.list(self.found.folder).map_err(|error| self.io("list", "", &error))?;
        let snapshot = |name: &str| match parse_file_name(name) {
            Some((offset, ".snapshot")) => Some(offset),
            _ => None,
        };
        Ok(entries.iter().filter_map(|entry| snapshot(&entry.name)).collect())
    }

    fn remove_snapshots_above(&self, offset: Offset) -> Result<(), LogError> {
        for above in self.snapshots()?.into_iter().filter(|snapshot| *snapshot > offset) {
            let name = file_name(above, ".snapshot");
            self.files.remove_file(&self.path(&name)).map_err(|error| self.io("remove", &name, &error))?;
        }
        Ok(())
    }

    fn remove_segment(&self, base_offset: Offset) -> Result<(), LogError> {
        for suffix in [".log", ".index", ".timeindex", ".txnindex"] {
            let name = file_name(base_offset, suffix);
            match self.files.remove_file(&self.path(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io("remove", &name, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn load_epochs(&self) -> LeaderEpochs {
        let content = self.files.read(&self.path("leader-epoch-checkpoint"));
        let parsed = content.ok().and_then(|content| checkpoint::parse_epochs(&String::from_utf8_lossy(&content)));
        // A torn one is rebuilt from the batches of what is scanned.
        LeaderEpochs::new(parsed.unwrap_or_default())
    }

    fn load_topic_id(&self) -> Uuid {
        let content = self.files.read(&self.path("partition.metadata"));
        content
            .ok()
            .and_then(|content| checkpoint::parse_partition_metadata(&String::from_utf8_lossy(&content)))
            .unwrap_or_default()
    }
}

/// Lets the producers' state see a batch that is in the log already.
pub(super) fn replay(producers: &mut Producers, batch: &RecordBatch) -> Option<TransactionChange> {
    let header = batch.header();
    if !header.has_producer_id() {
        return None;
    }
    if !header.attributes.is_control() {
        return producers.record(header);
    }
    // What cannot be read is no transaction marker.
    let marker = marker_of(batch).ok().flatten()?;
    producers.record_marker(header, &marker)
}
