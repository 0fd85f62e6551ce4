//! Reading: by offset from the tail in memory or from the files, by timestamp, and the aborted transactions of a range.

use std::io;
use std::sync::Arc;

use base::{Offset, Timestamp};
use protocol::api::{Piece, Pieces, ReadAt};

use super::index::absolute;
use super::partition::PartitionLog;
use super::segment::Segment;
use super::types::{AbortedTransaction, LogError, LogOffsets, ReadInfo, ReadLimit, TimestampOffset};
use crate::error::{ErrorKind, StorageError};

impl LogOffsets {
    fn limit(&self, limit: ReadLimit) -> Offset {
        match limit {
            ReadLimit::LogEnd => self.log_end,
            ReadLimit::HighWatermark => self.high_watermark,
            ReadLimit::LastStable => self.last_stable,
        }
    }
}

/// A segment to read from, and up to which byte.
struct Stretch {
    segment: Arc<Segment>,
    end: u64,
    /// Whether the limit lies somewhere before `end` and must be looked for.
    limit_inside: bool,
    /// Where the next segment begins.
    next_base: Offset,
}

impl PartitionLog {
    /// Reads at most `max_bytes` from the batch that holds `from`. With `min_one_batch` the first batch comes whole
    /// however large it is; otherwise the last one may be cut, and nothing comes if the first does not fit.
    ///
    /// # Errors
    /// `OutOfRange` if `from` is below the log start or above the log end.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        limit: ReadLimit,
        min_one_batch: bool,
    ) -> Result<ReadInfo, LogError> {
        let mut result = self.read_once(from, max_bytes, limit, min_one_batch);
        // A segment that was deleted or cleaned between look-up and opening: the second look finds what took its place.
        for _ in 0..3 {
            match &result {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    result = self.read_once(from, max_bytes, limit, min_one_batch);
                }
                _ => break,
            }
        }
        result
    }

    fn read_once(
        &self,
        from: Offset,
        max_bytes: usize,
        limit: ReadLimit,
        min_one_batch: bool,
    ) -> Result<ReadInfo, LogError> {
        let offsets = self.offsets();
        if from < offsets.log_start || from > offsets.log_end {
            return Err(StorageError::new(
                ErrorKind::OutOfRange,
                format!(
                    "{}: offset {from} is outside the log, which has offsets {} to {}",
                    self.partition, offsets.log_start, offsets.log_end
                ),
            ));
        }
        let limit_offset = offsets.limit(limit);
        let mut upper_bound = limit_offset;
        // Taken before the records: should the cleaner exchange segments meanwhile, the old ones' transaction indexes
        // cover both the old records and the new.
        let indexed = match limit {
            ReadLimit::LastStable => Some(self.segments_from(from)),
            _ => None,
        };
        let records = if from >= limit_offset {
            self.tail.keep();
            Pieces::new()
        } else if let Some(records) = self.tail.read(from, limit_offset, max_bytes, min_one_batch) {
            records
        } else {
            let (records, bound) = self.read_files(from, limit_offset, max_bytes, min_one_batch)?;
            upper_bound = upper_bound.min(bound);
            records
        };
        let aborted = indexed.map(|segments| aborted_between(&segments, from, upper_bound)).transpose()?;
        Ok(ReadInfo { records, offsets, aborted })
    }

    /// From the files: the bytes, and an offset that they do not reach.
    fn read_files(
        &self,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<(Pieces, Offset), LogError> {
        let mut next = from;
        while let Some(stretch) = self.stretch(next, limit) {
            let segment = &stretch.segment;
            let mut end = stretch.end;
            if stretch.limit_inside
                && let Some((position, _)) = segment.locate(limit, end)?
            {
                end = position;
            }
            if let Some((position, header)) = segment.locate(from, end)? {
                let first = header.size_bytes();
                let wanted = if first <= max_bytes {
                    max_bytes
                } else if min_one_batch {
                    first
                } else {
                    return Ok((Pieces::new(), stretch.next_base));
                };
                let length = wanted.min(usize::try_from(end - position).unwrap_or(usize::MAX));
                if length < wanted && stretch.next_base >= limit {
                    self.tail.keep();
                }
                let file: Arc<dyn ReadAt> = segment.open_log().map_err(|error| segment.io("open", &error))?;
                return Ok((Piece::File { segment: file, position, length }.into(), stretch.next_base));
            }
            if stretch.next_base >= limit {
                break;
            }
            next = stretch.next_base;
        }
        Ok((Pieces::new(), limit))
    }

    /// The segment that holds `from`, as far as `limit` allows.
    fn stretch(&self, from: Offset, limit: Offset) -> Option<Stretch> {
        let view = self.view.read();
        let index = view.segment_index(from).unwrap_or(0);
        let segment = Arc::clone(view.segments.get(index)?);
        let next_base = view.segments.get(index + 1).map_or(view.offsets.log_end, |next| next.base_offset);
        let size = segment.size();
        let whole = limit >= next_base;
        let end = match view.watermark_at {
            Some((base, position)) if !whole && limit == view.offsets.high_watermark && base == segment.base_offset => {
                return Some(Stretch { end: position.min(size), segment, limit_inside: false, next_base });
            }
            _ => size,
        };
        Some(Stretch { segment, end, limit_inside: !whole, next_base })
    }

    /// The segment that holds `from` and those behind it.
    fn segments_from(&self, from: Offset) -> Vec<Arc<Segment>> {
        let view = self.view.read();
        let first = view.segment_index(from).unwrap_or(0);
        view.segments[first.min(view.segments.len())..].to_vec()
    }

    /// The first record at or after `timestamp` below `limit`; `None` if there is none.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        limit: ReadLimit,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let (segments, offsets) = {
            let view = self.view.read();
            (view.segments.clone(), view.offsets)
        };
        let limit = offsets.limit(limit);
        for segment in segments {
            if segment.largest_timestamp().timestamp < timestamp {
                continue;
            }
            if let Some(found) = find_timestamp(&segment, timestamp, offsets.log_start)? {
                return Ok((found.offset < limit).then_some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp; `None` in an empty log.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        let (segments, offsets) = {
            let view = self.view.read();
            (view.segments.clone(), view.offsets)
        };
        let mut best: Option<&Arc<Segment>> = None;
        for segment in &segments {
            let largest = segment.largest_timestamp().timestamp;
            if segment.size() > 0 && best.is_none_or(|best| largest > best.largest_timestamp().timestamp) {
                best = Some(segment);
            }
        }
        match best {
            None => Ok(None),
            Some(segment) => {
                let largest = segment.largest_timestamp().timestamp;
                Ok(find_timestamp(segment, largest, offsets.log_start)?)
            }
        }
    }
}

/// The aborted transactions of which records may lie between the two offsets.
fn aborted_between(
    segments: &[Arc<Segment>],
    from: Offset,
    upper_bound: Offset,
) -> Result<Vec<AbortedTransaction>, LogError> {
    let mut aborted = Vec::new();
    for segment in segments {
        let entries =
            segment.txn_index.entries().map_err(|error| segment.io("read the transaction index of", &error))?;
        for entry in entries.iter() {
            if entry.last_offset >= from && entry.first_offset < upper_bound {
                let (producer_id, first_offset) = (entry.producer_id, entry.first_offset);
                aborted.push(AbortedTransaction { producer_id, first_offset });
            }
            if entry.last_stable_offset >= upper_bound {
                return Ok(aborted);
            }
        }
    }
    Ok(aborted)
}

/// The first record of `segment` at or after `timestamp` whose offset is not below `from`.
fn find_timestamp(segment: &Segment, timestamp: Timestamp, from: Offset) -> Result<Option<TimestampOffset>, LogError> {
    let start = || -> io::Result<u64> {
        let older = segment.time_index.floor_time(timestamp)?;
        let offset = older.map_or(segment.base_offset, |entry| absolute(segment.base_offset, entry.relative_offset));
        let entry = segment.offset_index.floor_offset(offset.max(from) - segment.base_offset)?;
        Ok(entry.map_or(0, |entry| u64::from(entry.position)))
    };
    let start = start().map_err(|error| segment.io("read the index of", &error))?;
    let mut scan = segment.scan(start, segment.size())?;
    loop {
        let position = scan.position();
        let Some((_, header)) = scan.next_header().map_err(|error| segment.scan_error(error))? else {
            return Ok(None);
        };
        if header.max_timestamp < timestamp || header.last_offset() < from {
            continue;
        }
        let mut whole = segment.scan(position, position + header.size_bytes() as u64)?;
        let Some((_, batch)) = whole.next_batch().map_err(|error| segment.scan_error(error))? else {
            return Ok(None);
        };
        let corrupt = |error: protocol::record::RecordError| {
            StorageError::new(
                ErrorKind::Corrupt,
                format!("{} at byte {position}: {error}", segment.log_path().display()),
            )
        };
        let records = batch.records().map_err(corrupt)?;
        for record in &records {
            let record = record.map_err(corrupt)?;
            if record.timestamp >= timestamp && record.offset >= from {
                let leader_epoch = header.leader_epoch;
                return Ok(Some(TimestampOffset { timestamp: record.timestamp, offset: record.offset, leader_epoch }));
            }
        }
    }
}
