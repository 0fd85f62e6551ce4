//! Compaction of one log at a time: which, how far, and the exchange of old segments for cleaned ones.
//!
//! A cleaning reads the dirty part once for the newest offset of each key, then rewrites all segments up to there into
//! `.cleaned` files, syncs them, renames them to `.swap`, gives the old ones up and takes their place. A crash at any
//! point leaves the old segments or the new ones (`recovery` finishes or undoes it).
//!
//! The active segment and everything from the last stable offset on are never cleaned, so appends go on meanwhile.

use std::sync::Arc;

use base::hash::HashMap;
use base::{Now, Offset};
use bytes::Bytes;
use protocol::record::{BatchHeader, RecordError};

use super::compaction::{CleanedTransactions, LastRecord, OffsetMap, Remains, Round};
use super::config::LogConfig;
use super::directory::{CLEANER_OFFSETS, LogDirectory};
use super::flusher::sync_folder;
use super::partition::PartitionLog;
use super::segment::{Segment, file_name};
use super::txn_index::AbortedEntry;
use super::types::LogError;
use crate::error::{ErrorKind, StorageError};

/// How much of a log is to be cleaned.
struct Dirt {
    log: Arc<PartitionLog>,
    first_dirty: Offset,
    uncleanable: Offset,
    ratio: f64,
}

impl LogDirectory {
    /// Cleans the dirtiest compacted partition; whether there was one.
    pub(super) fn clean_dirtiest(&self, now: Now) -> bool {
        let candidates = self.open_partitions().into_iter().filter_map(|log| self.dirt_of(log, now));
        let Some(dirtiest) = candidates.max_by(|a, b| a.ratio.total_cmp(&b.ratio)) else { return false };
        let partition = dirtiest.log.topic_partition().clone();
        let buffer_bytes = self.settings.lock().cleaner_dedupe_buffer_bytes;
        match dirtiest.log.clean(dirtiest.first_dirty, dirtiest.uncleanable, buffer_bytes, now) {
            Ok(Some(end)) => {
                let offsets = {
                    let mut offsets = self.cleaner_offsets.lock();
                    offsets.insert(partition.clone(), end);
                    offsets.clone()
                };
                if let Err(error) = self.write_checkpoint(CLEANER_OFFSETS, &offsets) {
                    tracing::error!(%error, "cannot write the cleaner's offsets");
                }
                true
            }
            Ok(None) => false,
            // Deleted meanwhile: a topic of that name may be there again and is not to suffer from it.
            Err(_) if dirtiest.log.is_abandoned() => false,
            Err(error) => {
                tracing::error!(%partition, %error, "cleaning failed; the partition is left alone until a restart");
                self.uncleanable.lock().insert(partition);
                false
            }
        }
    }

    /// What there is to clean in a log, if it should be cleaned now.
    fn dirt_of(&self, log: Arc<PartitionLog>, now: Now) -> Option<Dirt> {
        let config = log.config();
        let skip = !log.is_configured()
            || !config.cleanup_policy.compact
            || log.failure().is_some()
            || self.uncleanable.lock().contains(log.topic_partition());
        if skip {
            return None;
        }
        let (segments, offsets) = {
            let view = log.view.read();
            (view.segments.clone(), view.offsets)
        };
        let (active, sealed) = segments.split_last()?;
        let known = self.cleaner_offsets.lock().get(log.topic_partition()).copied();
        let first_dirty =
            known.filter(|known| (offsets.log_start..=offsets.log_end).contains(known)).unwrap_or(offsets.log_start);
        let young = |segment: &&Arc<Segment>| {
            config.min_compaction_lag_ms > 0
                && segment.base_offset >= first_dirty
                && segment.largest_timestamp().timestamp > now.wall_ms.saturating_sub(config.min_compaction_lag_ms)
        };
        let first_young = sealed.iter().find(young).map_or(Offset::MAX, |segment| segment.base_offset);
        // A segment that reaches above the high watermark stays: its positions are known to readers and syncs.
        let unsafe_end = |index: usize| segments[index + 1].base_offset > offsets.high_watermark;
        let first_unsafe = (0..sealed.len()).find(|index| unsafe_end(*index));
        let first_unsafe = first_unsafe.map_or(Offset::MAX, |index| sealed[index].base_offset);
        let uncleanable = offsets.last_stable.min(active.base_offset).min(first_young).min(first_unsafe);
        if uncleanable <= first_dirty {
            return None;
        }
        let (mut clean_bytes, mut dirty_bytes) = (0, 0);
        let mut first_dirty_time = i64::MAX;
        for (index, segment) in sealed.iter().enumerate() {
            let end = segments[index + 1].base_offset;
            if end <= first_dirty {
                clean_bytes += segment.size();
            } else if segment.base_offset < uncleanable {
                dirty_bytes += segment.size();
                if let Ok(time @ 0..) = segment.first_timestamp() {
                    first_dirty_time = first_dirty_time.min(time);
                }
            }
        }
        let ratio = if dirty_bytes == 0 { 0.0 } else { dirty_bytes as f64 / (clean_bytes + dirty_bytes) as f64 };
        let overdue = dirty_bytes > 0
            && config.max_compaction_lag_ms != i64::MAX
            && now.wall_ms.saturating_sub(first_dirty_time) > config.max_compaction_lag_ms;
        (overdue || ratio > config.min_cleanable_dirty_ratio).then_some(Dirt { log, first_dirty, uncleanable, ratio })
    }
}

impl PartitionLog {
    /// Cleans what lies before `uncleanable`; the first offset that is dirty afterwards, or `None` if nothing was done
    /// because the log changed meanwhile.
    fn clean(
        &self,
        first_dirty: Offset,
        uncleanable: Offset,
        buffer_bytes: usize,
        now: Now,
    ) -> Result<Option<Offset>, LogError> {
        let config = self.config();
        let segments = self.view.read().segments.clone();
        let sealed: Vec<Arc<Segment>> = segments.iter().take(segments.len().saturating_sub(1)).cloned().collect();
        // Of the active segment too: a transaction whose data lies before it may have been aborted in it.
        let aborted = aborted_of(&segments)?;
        let map = build_map(&sealed, &aborted, first_dirty, uncleanable, buffer_bytes)?;
        if map.latest < first_dirty {
            // Only gaps: the dirty part is empty.
            return Ok(Some(uncleanable));
        }
        let end = map.latest + 1;
        let cleanable: Vec<Arc<Segment>> = sealed.into_iter().filter(|segment| segment.base_offset < end).collect();
        let producers: HashMap<_, _> = self
            .producers()
            .into_iter()
            .map(|info| {
                let data_offset = (info.last_offset >= 0).then_some(info.last_offset);
                (info.producer_id, LastRecord { epoch: info.producer_epoch, data_offset })
            })
            .collect();
        let round = Round {
            map: &map,
            producers: &producers,
            now_ms: now.wall_ms,
            delete_retention_ms: config.delete_retention_ms,
        };
        let mut transactions = CleanedTransactions::new(aborted);
        let mut rest = cleanable.as_slice();
        let before: u64 = cleanable.iter().map(|segment| segment.size()).sum();
        let mut after = 0;
        while !rest.is_empty() {
            let count = group_size(rest, &config, end);
            let (group, behind) = rest.split_at(count);
            rest = behind;
            let Some(size) = self.clean_group(group, &round, &mut transactions, &config, now)? else {
                return Ok(None);
            };
            after += size;
        }
        tracing::info!(partition = %self.partition, before, after, end, "log cleaned");
        Ok(Some(end))
    }

    /// Rewrites a group of segments into one and puts it in their place; its size, or `None` if they are gone.
    fn clean_group(
        &self,
        group: &[Arc<Segment>],
        round: &Round<'_>,
        transactions: &mut CleanedTransactions,
        config: &LogConfig,
        now: Now,
    ) -> Result<Option<u64>, LogError> {
        let cache = &self.shared.cache;
        let base_offset = group.first().map_or(0, |segment| segment.base_offset);
        let create = Segment::create_with_suffix(cache, &self.folder, base_offset, ".cleaned", now.wall_ms, 0);
        let path = self.folder.join(file_name(base_offset, ".log.cleaned"));
        let cleaned = create.map_err(|error| StorageError::io("make", &path, &error))?;
        let mut changed = group.len() > 1;
        for segment in group {
            let mut scan = segment.scan(0, segment.size())?;
            while let Some((position, batch)) = scan.next_batch().map_err(|error| segment.scan_error(error))? {
                let corrupt = |error: RecordError| corrupt(segment, position, &error);
                let (may_discard, aborted) = transactions.may_discard(&batch).map_err(corrupt)?;
                let bytes = match round.filter(&batch, may_discard).map_err(corrupt)? {
                    Remains::All => Some(batch.bytes().clone()),
                    Remains::Some(bytes) => {
                        changed = true;
                        Some(bytes)
                    }
                    Remains::Nothing => {
                        changed = true;
                        None
                    }
                };
                let write = |bytes: &Bytes, header: &BatchHeader| {
                    let size = cleaned.append(bytes, &[], header, config.index_interval_bytes)?;
                    cleaned.publish(size);
                    aborted.map_or(Ok(()), |entry| cleaned.txn_index.push(entry))
                };
                if let Some(bytes) = bytes {
                    let header = BatchHeader::read(&bytes).map_err(corrupt)?;
                    write(&bytes, &header).map_err(|error| cleaned.io("write", &error))?;
                }
            }
        }
        let size = cleaned.size();
        if !changed {
            self.remove_cleaned(&cleaned)?;
            return Ok(Some(size));
        }
        let modified_ms = match group.last() {
            Some(last) => last.modified_ms(cache).map_err(|error| last.io("look at", &error))?,
            None => now.wall_ms,
        };
        let finish = || {
            cleaned.write_out_indexes()?;
            for file in cleaned.files()? {
                file.existing()?.0.sync_data()?;
            }
            cache.files().set_modified(cleaned.log_path(), modified_ms)
        };
        finish().map_err(|error| cleaned.io("sync", &error))?;
        self.exchange(group, &cleaned, config, now).map(|exchanged| exchanged.then_some(size))
    }

    fn remove_cleaned(&self, cleaned: &Segment) -> Result<(), LogError> {
        let files = cleaned.files().map_err(|error| cleaned.io("remove", &error))?;
        for file in files {
            let removed = self.shared.cache.files().remove_file(file.path());
            removed.map_err(|error| StorageError::io("remove", file.path(), &error))?;
        }
        Ok(())
    }

    /// Puts the cleaned segment in the place of the group; `false` if the group is no longer in the log.
    fn exchange(
        &self,
        group: &[Arc<Segment>],
        cleaned: &Segment,
        config: &LogConfig,
        now: Now,
    ) -> Result<bool, LogError> {
        let mut writer = self.writer.lock();
        let first = {
            let view = self.view.read();
            let first = view.segments.iter().position(|segment| Arc::ptr_eq(segment, &group[0]));
            first.filter(|first| {
                let found = view.segments.get(*first..first + group.len()).unwrap_or_default();
                found.len() == group.len() && found.iter().zip(group).all(|(a, b)| Arc::ptr_eq(a, b))
            })
        };
        let Some(first) = first.filter(|_| !writer.closed) else {
            self.remove_cleaned(cleaned)?;
            return Ok(false);
        };
        writer.dirty = true;
        let exchanged = self.exchange_files(group, cleaned, config, now).and_then(|()| {
            // Before the new segments are seen: what the tail holds of them goes with the old transaction index only.
            self.tail.forget_before(self.end_of(first + group.len()));
            let (segment, _) = Segment::load(&self.shared.cache, &self.folder, cleaned.base_offset, now.wall_ms, 0)
                .map_err(|error| cleaned.io("open", &error))?;
            self.view.write().segments.splice(first..first + group.len(), [Arc::new(segment)]);
            Ok(())
        });
        exchanged.map(|()| true).map_err(|error| self.fail(error))
    }

    /// Where the segment before the `index`th ends.
    fn end_of(&self, index: usize) -> Offset {
        let view = self.view.read();
        view.segments.get(index).map_or(view.offsets.log_end, |next| next.base_offset)
    }

    fn exchange_files(
        &self,
        group: &[Arc<Segment>],
        cleaned: &Segment,
        config: &LogConfig,
        now: Now,
    ) -> Result<(), LogError> {
        let files = self.shared.cache.files();
        let rename = |from: &std::path::Path, to: &std::path::Path| {
            files.rename(from, to).map_err(|error| StorageError::io("rename", from, &error))
        };
        let sync_folder = || sync_folder(files.as_ref(), &self.folder);
        let mut names = Vec::new();
        for file in cleaned.files().map_err(|error| cleaned.io("list", &error))? {
            names.push(file.path().to_owned());
        }
        // The log last: its presence as `.swap`, with no `.cleaned` left, is what makes the exchange hold.
        names.reverse();
        for name in &names {
            rename(name, &name.with_extension("swap"))?;
        }
        sync_folder()?;
        // Readers that are under way keep the old files open; others look again and find the new ones.
        for segment in group {
            for file in segment.files().map_err(|error| segment.io("open", &error))? {
                file.existing().map_err(|error| segment.io("open", &error))?;
                file.retire();
            }
        }
        let due_ticks_ms = now.ticks_ms.saturating_add(config.file_delete_delay_ms);
        for (index, segment) in group.iter().enumerate() {
            // The first one's snapshot stays: the new segment begins where it did.
            self.give_up(segment, due_ticks_ms, index > 0)?;
        }
        for name in &names {
            rename(&name.with_extension("swap"), &name.with_extension(""))?;
        }
        sync_folder()
    }
}

/// The newest offset of each key between the two offsets, as far as the buffer reaches.
fn build_map(
    segments: &[Arc<Segment>],
    aborted: &[AbortedEntry],
    first_dirty: Offset,
    uncleanable: Offset,
    buffer_bytes: usize,
) -> Result<OffsetMap, LogError> {
    let mut map = OffsetMap::new(buffer_bytes);
    let first = segments.iter().rev().find(|segment| segment.base_offset <= first_dirty);
    let first_base = first.map_or(0, |segment| segment.base_offset);
    // What ended before the first segment that is read would void a producer's later transactions.
    let aborted = aborted.iter().filter(|entry| entry.last_offset >= first_base).copied().collect();
    let mut transactions = CleanedTransactions::new(aborted);
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1).map_or(Offset::MAX, |next| next.base_offset);
        if next <= first_dirty {
            continue;
        }
        if segment.base_offset >= uncleanable {
            break;
        }
        let mut scan = segment.scan(0, segment.size())?;
        while let Some((position, batch)) = scan.next_batch().map_err(|error| segment.scan_error(error))? {
            let header = *batch.header();
            let corrupt = |error: RecordError| corrupt(segment, position, &error);
            if header.last_offset() >= uncleanable || (header.last_offset() >= first_dirty && !map.has_room()) {
                return Ok(map);
            }
            let (discard, _) = transactions.may_discard(&batch).map_err(corrupt)?;
            if header.last_offset() < first_dirty {
                continue;
            }
            if !discard && !header.attributes.is_control() {
                let records = batch.records().map_err(corrupt)?;
                for record in &records {
                    let record = record.map_err(corrupt)?;
                    if let Some(key) = record.key.filter(|_| record.offset >= first_dirty) {
                        map.put(key, record.offset);
                    }
                }
            }
            map.latest = header.last_offset();
        }
    }
    Ok(map)
}

fn corrupt(segment: &Segment, position: u64, error: &RecordError) -> LogError {
    StorageError::new(ErrorKind::Corrupt, format!("{} at byte {position}: {error}", segment.log_path().display()))
}

fn aborted_of(segments: &[Arc<Segment>]) -> Result<Vec<AbortedEntry>, LogError> {
    let mut aborted = Vec::new();
    for segment in segments {
        let entries = segment.txn_index.entries();
        aborted.extend(entries.map_err(|error| segment.io("read the transaction index of", &error))?.iter());
    }
    Ok(aborted)
}

/// How many of the first segments fit into one: by their sizes, those of their indexes, and their offsets.
fn group_size(segments: &[Arc<Segment>], config: &LogConfig, end: Offset) -> usize {
    let (mut bytes, mut offset_entries, mut time_entries) = (0, 0, 0);
    let base_offset = segments.first().map_or(0, |segment| segment.base_offset);
    for (index, segment) in segments.iter().enumerate() {
        bytes += segment.size();
        offset_entries += segment.offset_index.len();
        time_entries += segment.time_index.len();
        let last = segments.get(index + 1).map_or(end, |next| next.base_offset);
        let fits = bytes <= config.segment_bytes as u64
            && offset_entries * 8 <= config.segment_index_bytes as usize
            && time_entries * 12 <= config.segment_index_bytes as usize
            && last - base_offset <= i64::from(i32::MAX);
        if !fits {
            return index.max(1);
        }
    }
    segments.len()
}
