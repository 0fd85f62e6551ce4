//! What makes a log shorter: delete-records, retention by size and time, truncation by followers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Now, Offset};

use super::partition::{PartitionLog, Writer};
use super::segment::{Segment, file_name, parse_file_name};
use super::types::LogError;
use crate::error::{ErrorKind, StorageError};

impl PartitionLog {
    /// Moves the log start to `before` (to the high watermark for -1); returns the new log start.
    ///
    /// # Errors
    /// `OutOfRange` if `before` is above the high watermark.
    pub fn delete_records(&self, before: Offset) -> Result<Offset, LogError> {
        let writer = self.writer.lock();
        self.check_writable(&writer)?;
        let offsets = self.offsets();
        let target = if before == -1 { offsets.high_watermark } else { before };
        if target < 0 || target > offsets.high_watermark {
            return Err(StorageError::new(
                ErrorKind::OutOfRange,
                format!(
                    "{}: cannot delete records before {before}, the high watermark is {}",
                    self.partition, offsets.high_watermark
                ),
            ));
        }
        if target > offsets.log_start {
            self.set_log_start(target)?;
            drop(writer);
            self.notify(true);
            return Ok(target);
        }
        Ok(offsets.log_start)
    }

    fn set_log_start(&self, log_start: Offset) -> Result<(), LogError> {
        {
            let mut view = self.view.write();
            view.offsets.update(|offsets| {
                offsets.log_start = log_start;
                offsets.last_stable = offsets.last_stable.max(log_start);
            });
        }
        if self.epochs.lock().truncate_from_start(log_start) {
            self.write_epochs().map_err(|error| self.fail(error))?;
            self.queue_sync();
        }
        Ok(())
    }

    /// Removes what retention allows now; [`LogDirectory::step`](super::LogDirectory::step) calls it. Returns how many
    /// segments went.
    ///
    /// # Errors
    /// When the files cannot be changed.
    pub fn apply_retention(&self, now: Now) -> Result<usize, LogError> {
        let config = self.config();
        let mut writer = self.writer.lock();
        if !writer.created || self.check_writable(&writer).is_err() {
            return Ok(0);
        }
        let (segments, offsets) = {
            let view = self.view.read();
            (view.segments.clone(), view.offsets)
        };
        let mut total: u64 = segments.iter().map(|segment| segment.size()).sum();
        let mut count = 0;
        for (index, segment) in segments.iter().enumerate() {
            let end = segments.get(index + 1).map_or(offsets.log_end, |next| next.base_offset);
            let is_active = index + 1 == segments.len();
            if offsets.high_watermark < end || (is_active && segment.size() == 0) {
                break;
            }
            let below_start = !is_active && end <= offsets.log_start;
            let delete = config.cleanup_policy.delete;
            let by_size = delete
                && config.retention_bytes >= 0
                && total.saturating_sub(segment.size()) >= config.retention_bytes as u64;
            let wanted = below_start || by_size || (delete && self.is_expired(segment, config.retention_ms, now)?);
            if !wanted {
                break;
            }
            total -= segment.size();
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        writer.dirty = true;
        if count == segments.len() {
            self.roll(&writer, offsets.log_end, &config).map_err(|error| self.fail(error))?;
        }
        let log_start = segments.get(count).map_or(offsets.log_end, |first| first.base_offset);
        let first = segments[0].base_offset;
        tracing::info!(partition = %self.partition, segments = count, first, log_start, "deleting old segments");
        if log_start > offsets.log_start {
            self.set_log_start(log_start)?;
        }
        self.view.write().segments.drain(..count);
        let due_ticks_ms = now.ticks_ms.saturating_add(config.file_delete_delay_ms);
        for segment in &segments[..count] {
            self.give_up(segment, due_ticks_ms, true).map_err(|error| self.fail(error))?;
        }
        drop(writer);
        self.notify(true);
        Ok(count)
    }

    fn is_expired(&self, segment: &Segment, retention_ms: i64, now: Now) -> Result<bool, LogError> {
        if retention_ms < 0 {
            return Ok(false);
        }
        let newest = match segment.largest_timestamp().timestamp {
            timestamp @ 0.. => timestamp,
            _ => segment.modified_ms(&self.shared.cache).map_err(|error| segment.io("look at", &error))?,
        };
        Ok(now.wall_ms.saturating_sub(newest) > retention_ms)
    }

    /// Renames a segment's files to `.deleted`; they are removed when due. Its snapshot goes at once, if it is to.
    pub(super) fn give_up(&self, segment: &Segment, due_ticks_ms: i64, with_snapshot: bool) -> Result<(), LogError> {
        let files = self.shared.cache.files();
        for suffix in [".log", ".index", ".timeindex", ".txnindex"] {
            let path = segment.path_of(suffix);
            let deleted = self.folder.join(file_name(segment.base_offset, suffix) + ".deleted");
            match files.rename(&path, &deleted) {
                Ok(()) => self.shared.deferred.add(due_ticks_ms, deleted, false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io("rename", &path, &error)),
            }
        }
        if !with_snapshot {
            return Ok(());
        }
        // The snapshot at a deleted segment's base describes what came before it; none but the newest is needed.
        let snapshot = segment.path_of(".snapshot");
        match files.remove_file(&snapshot) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io("remove", &snapshot, &error)),
            _ => Ok(()),
        }
    }

    /// Removes these snapshots.
    pub(super) fn remove_snapshots(&self, superseded: &[PathBuf]) -> Result<(), LogError> {
        let files = self.shared.cache.files();
        superseded
            .iter()
            .try_for_each(|path| files.remove_file(path).map_err(|error| StorageError::io("remove", path, &error)))
    }

    /// Gives the last of the superseded snapshots, if it says the same, its new name, `newest`, and takes it off the list: without
    /// idempotent producers all of them do, and a name costs a file system far less than a file that goes and one that comes,
    /// at a shutdown for every partition.
    pub(super) fn reuse_snapshot(
        &self,
        writer: &Writer,
        newest: Offset,
        superseded: &mut Vec<PathBuf>,
    ) -> Result<(), LogError> {
        let files = self.shared.cache.files();
        let Some(path) = superseded.last() else { return Ok(()) };
        let found = files.read(path).map_err(|error| StorageError::io("read", path, &error))?;
        if found != writer.producers.to_snapshot() {
            return Ok(());
        }
        let to = self.folder.join(file_name(newest, ".snapshot"));
        files.rename(path, &to).map_err(|error| StorageError::io("rename", path, &error))?;
        superseded.pop();
        Ok(())
    }

    /// The snapshots that belong to no segment, except the one at `newest`; by rising offset. Lists the folder.
    pub(super) fn superseded_snapshots(&self, newest: Offset) -> Result<Vec<PathBuf>, LogError> {
        let files = self.shared.cache.files();
        let bases: Vec<Offset> = self.view.read().segments.iter().map(|segment| segment.base_offset).collect();
        let mut entries = files.list(&self.folder).map_err(|error| StorageError::io("list", &self.folder, &error))?;
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let superseded = entries.into_iter().filter(|entry| {
            matches!(parse_file_name(&entry.name), Some((offset, ".snapshot"))
                if offset != newest && bases.binary_search(&offset).is_err())
        });
        Ok(superseded.map(|entry| self.folder.join(entry.name)).collect())
    }

    /// Drops everything from `offset` on; for followers.
    ///
    /// # Errors
    /// When the files cannot be changed; the log is poisoned then.
    pub fn truncate_to(&self, offset: Offset) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        let offsets = self.offsets();
        if offset >= offsets.log_end {
            return Ok(());
        }
        if offset < offsets.log_start {
            drop(writer);
            return self.truncate_fully_and_start_at(offset);
        }
        self.truncate_locked(&mut writer, offset).map_err(|error| self.fail(error))?;
        drop(writer);
        self.notify(true);
        Ok(())
    }

    fn truncate_locked(&self, writer: &mut Writer, offset: Offset) -> Result<(), LogError> {
        writer.dirty = true;
        self.tail.clear();
        let (kept, dropped) = {
            let view = self.view.read();
            let index = view.segments.partition_point(|segment| segment.base_offset < offset).max(1);
            let (kept, dropped) = view.segments.split_at(index.min(view.segments.len()));
            (kept.to_vec(), dropped.to_vec())
        };
        let cut = match kept.last() {
            Some(segment) => {
                segment.locate(offset, segment.size())?.map(|(position, header)| (position, header.base_offset))
            }
            None => None,
        };
        // Whole batches go; one that reaches over the log start leaves a gap behind it.
        let log_end = cut.map_or(offset, |(_, base)| base.clamp(self.offsets().log_start, offset));
        {
            let mut view = self.view.write();
            view.segments.clone_from(&kept);
            view.durable_end = view.durable_end.min(log_end);
            view.durable_at = None;
            view.watermark_at = None;
            view.offsets.update(|offsets| {
                offsets.log_end = log_end;
                offsets.high_watermark = offsets.high_watermark.min(log_end);
                offsets.last_stable = offsets.last_stable.min(offsets.high_watermark);
            });
        }
        for segment in &dropped {
            self.remove_segment_files(segment)?;
        }
        if let (Some(segment), Some((position, _))) = (kept.last(), cut) {
            segment.truncate(position, log_end).map_err(|error| segment.io("truncate", &error))?;
            let file = segment.open_log().map_err(|error| segment.io("open", &error))?;
            self.mark_unsynced(file);
        }
        self.mark_names_unsynced(false);
        self.rebuild_producers(writer, log_end)?;
        if self.epochs.lock().truncate_from_end(log_end) {
            self.write_epochs()?;
        }
        self.queue_sync();
        Ok(())
    }

    fn remove_segment_files(&self, segment: &Segment) -> Result<(), LogError> {
        let files = self.shared.cache.files();
        for suffix in [".log", ".index", ".timeindex", ".txnindex"] {
            let path = segment.path_of(suffix);
            match files.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::io("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The producers' state as of `offset`, from snapshots and batches; snapshots above go.
    fn rebuild_producers(&self, writer: &mut Writer, offset: Offset) -> Result<(), LogError> {
        use super::producer_state::Producers;
        let files = self.shared.cache.files();
        let entries = files.list(&self.folder).map_err(|error| StorageError::io("list", &self.folder, &error))?;
        let mut producers = Producers::default();
        let mut from = Offset::MIN;
        for entry in entries {
            let Some((snapshot, ".snapshot")) = parse_file_name(&entry.name) else { continue };
            let path = self.folder.join(&entry.name);
            if snapshot > offset {
                files.remove_file(&path).map_err(|error| StorageError::io("remove", &path, &error))?;
            } else if let Ok(loaded) =
                Producers::from_snapshot(&files.read(&path).map_err(|error| StorageError::io("read", &path, &error))?)
            {
                producers = loaded;
                from = snapshot;
            }
        }
        let segments: Vec<Arc<Segment>> = self.view.read().segments.clone();
        for segment in &segments {
            let mut scan = segment.scan(0, segment.size())?;
            while let Some((_, batch)) = scan.next_batch().map_err(|error| segment.scan_error(error))? {
                if batch.header().last_offset() >= from {
                    super::recovery::replay(&mut producers, &batch);
                }
            }
        }
        self.view.write().transactions = super::transactions::Transactions::new(producers.open_transactions());
        writer.producers = producers;
        Ok(())
    }

    /// Drops everything and goes on at `offset`; for followers whose leader no longer has what they need.
    ///
    /// # Errors
    /// When the files cannot be changed; the log is poisoned then.
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        writer.dirty = true;
        self.tail.clear();
        let segments = {
            let mut view = self.view.write();
            view.offsets = super::types::LogOffsets {
                log_start: offset,
                last_stable: offset,
                high_watermark: offset,
                log_end: offset,
            };
            view.durable_end = offset;
            view.durable_at = None;
            view.watermark_at = None;
            view.transactions = super::transactions::Transactions::default();
            std::mem::take(&mut view.segments)
        };
        writer.producers = super::producer_state::Producers::default();
        self.epochs.lock().truncate_from_end(0);
        if writer.created {
            let remove = || -> Result<(), LogError> {
                segments.iter().try_for_each(|segment| self.remove_segment_files(segment))?;
                self.rebuild_producers(&mut writer, -1)?;
                self.write_epochs()
            };
            let mut remove = remove;
            remove().map_err(|error| self.fail(error))?;
            self.queue_sync();
        }
        drop(writer);
        self.notify(true);
        Ok(())
    }
}
