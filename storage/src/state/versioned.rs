//! Versions of values by key, over any sorted map of bytes: where a new version goes, which one was valid at a time, what has expired.
//!
//! The newest version of each key is kept apart (segment -1, `timestamp (8) | value`), and never expires. Older ones lie in the segment of the
//! time at which they ended, all of one key and segment in one [`row`]; a segment is dropped as a whole once all of it is older
//! than the history that is kept. The key of an entry is `segment id (8) | key`. Layout and rules are those of Kafka Streams.

pub mod row;

use std::collections::BTreeSet;

use base::Timestamp;

use row::{Row, Version};

/// Segment of the newest versions.
const LATEST: i64 = -1;

/// The map that versions are kept in.
pub trait VersionedRows {
    /// What its calls fail with.
    type Error;

    /// The row under `key`, copied.
    ///
    /// # Errors
    /// The map failed.
    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Sets or deletes a row.
    ///
    /// # Errors
    /// The map failed.
    fn put_row(&self, key: &[u8], row: Option<&[u8]>) -> Result<(), Self::Error>;

    /// The first key that is not less than `from`.
    ///
    /// # Errors
    /// The map failed.
    fn first_from(&self, from: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Deletes all rows whose key begins with `prefix`.
    ///
    /// # Errors
    /// The map failed.
    fn delete_prefix(&self, prefix: &[u8]) -> Result<(), Self::Error>;

    /// The error for a row that is not one.
    fn corrupt(&self) -> Self::Error;
}

/// What became of a version that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionedPut {
    /// It is the newest of its key.
    Latest,
    /// It is valid until that time: a newer version is there already.
    ValidUntil(Timestamp),
    /// It is older than the history that is kept, and was not stored.
    Expired,
}

/// A version that was read, and until when it was valid; `None` for the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVersion {
    /// Its value.
    pub value: Vec<u8>,
    /// When it began.
    pub timestamp: Timestamp,
    /// When it ended.
    pub valid_to: Option<Timestamp>,
}

/// Length of a segment in milliseconds for a history of `history_ms`, as Kafka Streams chooses it.
pub fn versioned_segment_interval_ms(history_ms: i64) -> i64 {
    const MINUTE: i64 = 60_000;
    if history_ms <= MINUTE {
        (history_ms / 3).max(2_000)
    } else if history_ms <= 5 * MINUTE {
        (history_ms / 5).max(20_000)
    } else if history_ms <= 60 * MINUTE {
        (history_ms / 12).max(MINUTE)
    } else {
        (history_ms / 24).max(5 * MINUTE)
    }
}

/// The rules of one versioned store: how long history is kept, how far time has come, which segments there are.
#[derive(Clone, Debug)]
pub struct Versions {
    history_ms: i64,
    segment_interval_ms: i64,
    stream_time: Timestamp,
    segments: BTreeSet<i64>,
}

fn entry_key(segment: i64, key: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(8 + key.len());
    entry.extend_from_slice(&segment.to_be_bytes());
    entry.extend_from_slice(key);
    entry
}

/// Timestamp and value of the newest version.
fn split_latest<R: VersionedRows>(rows: &R, bytes: &[u8]) -> Result<(Timestamp, Vec<u8>), R::Error> {
    let (timestamp, value) = bytes.split_first_chunk::<8>().ok_or_else(|| rows.corrupt())?;
    Ok((Timestamp::from_be_bytes(*timestamp), value.to_vec()))
}

fn read_row<'a, R: VersionedRows>(rows: &R, bytes: &'a [u8]) -> Result<Row<'a>, R::Error> {
    Row::read(bytes).ok_or_else(|| rows.corrupt())
}

fn write_row<R: VersionedRows>(rows: &R, segment: i64, key: &[u8], row: &Row<'_>) -> Result<(), R::Error> {
    let mut bytes = Vec::new();
    row.write(&mut bytes);
    rows.put_row(&entry_key(segment, key), Some(&bytes))
}

impl Versions {
    /// The rules for what lies in `rows`. `stream_time` is the greatest timestamp put so far, -1 if none or unknown.
    ///
    /// # Errors
    /// The map failed.
    pub fn open<R: VersionedRows>(
        rows: &R,
        history_ms: i64,
        segment_interval_ms: i64,
        stream_time: Timestamp,
    ) -> Result<Self, R::Error> {
        let mut segments = BTreeSet::new();
        let mut next = 0i64;
        while let Some(key) = rows.first_from(&next.to_be_bytes())? {
            let id = key.first_chunk::<8>().map(|id| i64::from_be_bytes(*id)).ok_or_else(|| rows.corrupt())?;
            if id < next {
                // Segment -1, whose bytes are greater than those of all others.
                break;
            }
            segments.insert(id);
            let Some(after) = id.checked_add(1) else { break };
            next = after;
        }
        Ok(Self { history_ms, segment_interval_ms: segment_interval_ms.max(1), stream_time, segments })
    }

    /// The greatest timestamp put so far; -1 before the first.
    pub fn stream_time(&self) -> Timestamp {
        self.stream_time
    }

    fn oldest(&self) -> Timestamp {
        self.stream_time.saturating_sub(self.history_ms)
    }

    fn segment_of(&self, time: Timestamp) -> i64 {
        time / self.segment_interval_ms
    }

    /// The segment, which from now on exists, unless all of it has expired.
    fn live_segment(&mut self, segment: i64) -> Option<i64> {
        let is_live = segment >= self.segment_of(self.oldest());
        is_live.then(|| {
            self.segments.insert(segment);
            segment
        })
    }

    fn drop_expired<R: VersionedRows>(&mut self, rows: &R) -> Result<(), R::Error> {
        let first_live = self.segment_of(self.oldest());
        while let Some(&segment) = self.segments.first()
            && segment < first_live
        {
            rows.delete_prefix(&segment.to_be_bytes())?;
            self.segments.remove(&segment);
        }
        Ok(())
    }

    /// Adds a version of `key` that begins at `timestamp`, or replaces the one that does; `None` is a deletion.
    ///
    /// # Errors
    /// The map failed, or holds what is no row.
    pub fn put<R: VersionedRows>(
        &mut self,
        rows: &R,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> Result<VersionedPut, R::Error> {
        if timestamp < self.oldest() {
            return Ok(VersionedPut::Expired);
        }
        self.stream_time = self.stream_time.max(timestamp);
        self.drop_expired(rows)?;
        let latest = rows.row(&entry_key(LATEST, key))?;
        let mut next = None;
        if let Some(latest) = latest {
            let (known, moved) = split_latest(rows, &latest)?;
            if timestamp >= known {
                if timestamp > known {
                    self.append(rows, key, Version { timestamp: known, value: Some(&moved) }, timestamp)?;
                }
                self.put_latest(rows, key, value, timestamp)?;
                return Ok(VersionedPut::Latest);
            }
            next = Some(known);
        }
        let first = self.segment_of(timestamp);
        for segment in self.segments.range(first..).rev().copied().collect::<Vec<_>>() {
            let Some(bytes) = rows.row(&entry_key(segment, key))? else { continue };
            let row = read_row(rows, &bytes)?;
            if row.next() <= timestamp {
                break;
            }
            if row.min() <= timestamp {
                let end = self.put_within(rows, key, (segment, row), Version { timestamp, value })?;
                return Ok(VersionedPut::ValidUntil(end));
            }
            next = Some(row.min());
        }
        match next {
            Some(next) => self.put_before(rows, key, Version { timestamp, value }, next),
            None if value.is_some() => {
                self.put_latest(rows, key, value, timestamp)?;
                Ok(VersionedPut::Latest)
            }
            None => self.put_deletion(rows, key, timestamp),
        }
    }

    fn put_latest<R: VersionedRows>(
        &self,
        rows: &R,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> Result<(), R::Error> {
        let row = value.map(|value| [&timestamp.to_be_bytes()[..], value].concat());
        rows.put_row(&entry_key(LATEST, key), row.as_deref())
    }

    /// Adds a version that ended at `end` to the segment of that time, as the newest there.
    fn append<R: VersionedRows>(
        &mut self,
        rows: &R,
        key: &[u8],
        version: Version<'_>,
        end: Timestamp,
    ) -> Result<(), R::Error> {
        let Some(segment) = self.live_segment(self.segment_of(end)) else { return Ok(()) };
        match rows.row(&entry_key(segment, key))? {
            None => write_row(rows, segment, key, &Row::new(version.timestamp, version.value, end)),
            Some(bytes) => {
                let mut row = read_row(rows, &bytes)?;
                row.insert_as_latest(version, end);
                write_row(rows, segment, key, &row)
            }
        }
    }

    /// Puts a version among those of a row; returns when it ends.
    fn put_within<R: VersionedRows>(
        &mut self,
        rows: &R,
        key: &[u8],
        (segment, mut row): (i64, Row<'_>),
        version: Version<'_>,
    ) -> Result<Timestamp, R::Error> {
        // The caller has seen that the row reaches there.
        let Some((index, before, end)) = row.find(version.timestamp) else { return Err(rows.corrupt()) };
        let older = self.segment_of(version.timestamp);
        if before.timestamp == version.timestamp {
            row.replace(index, version);
        } else if older == segment {
            row.insert(index, version);
        } else {
            // The version before now ends earlier, so it belongs in another segment.
            self.append(rows, key, before, version.timestamp)?;
            row.replace(index, version);
        }
        write_row(rows, segment, key, &row)?;
        Ok(end)
    }

    /// Puts a version that ends at `next`, where a version begins that is the oldest so far behind it.
    fn put_before<R: VersionedRows>(
        &mut self,
        rows: &R,
        key: &[u8],
        version: Version<'_>,
        next: Timestamp,
    ) -> Result<VersionedPut, R::Error> {
        let Some(segment) = self.live_segment(self.segment_of(next)) else { return Ok(VersionedPut::Expired) };
        match rows.row(&entry_key(segment, key))? {
            None => write_row(rows, segment, key, &Row::new(version.timestamp, version.value, next))?,
            Some(bytes) => {
                let mut row = read_row(rows, &bytes)?;
                if row.next() <= version.timestamp {
                    row.insert_as_latest(version, next);
                } else {
                    row.insert_as_earliest(version);
                }
                write_row(rows, segment, key, &row)?;
            }
        }
        Ok(VersionedPut::ValidUntil(next))
    }

    /// Notes the deletion of a key that has no newest version. Such deletions lie in the segment of their own time.
    fn put_deletion<R: VersionedRows>(
        &mut self,
        rows: &R,
        key: &[u8],
        timestamp: Timestamp,
    ) -> Result<VersionedPut, R::Error> {
        let Some(segment) = self.live_segment(self.segment_of(timestamp)) else { return Ok(VersionedPut::Expired) };
        match rows.row(&entry_key(segment, key))? {
            None => write_row(rows, segment, key, &Row::new(timestamp, None, timestamp))?,
            Some(bytes) => {
                let mut row = read_row(rows, &bytes)?;
                if row.next() != timestamp {
                    let from = row.next();
                    row.insert_as_latest(Version { timestamp: from, value: None }, timestamp);
                    write_row(rows, segment, key, &row)?;
                }
            }
        }
        Ok(VersionedPut::Latest)
    }

    /// The newest version of `key`.
    ///
    /// # Errors
    /// As [`Versions::put`].
    pub fn latest<R: VersionedRows>(&self, rows: &R, key: &[u8]) -> Result<Option<FoundVersion>, R::Error> {
        let Some(bytes) = rows.row(&entry_key(LATEST, key))? else { return Ok(None) };
        let (timestamp, value) = split_latest(rows, &bytes)?;
        Ok(Some(FoundVersion { value, timestamp, valid_to: None }))
    }

    /// The version of `key` that was valid at `time`. Of times before the history that is kept only the newest version is told.
    ///
    /// # Errors
    /// As [`Versions::put`].
    pub fn as_of<R: VersionedRows>(
        &self,
        rows: &R,
        key: &[u8],
        time: Timestamp,
    ) -> Result<Option<FoundVersion>, R::Error> {
        let latest = self.latest(rows, key)?.filter(|latest| latest.timestamp <= time);
        if latest.is_some() || time < self.oldest() {
            return Ok(latest);
        }
        for &segment in self.segments.range(self.segment_of(time)..).rev() {
            let Some(bytes) = rows.row(&entry_key(segment, key))? else { continue };
            let row = read_row(rows, &bytes)?;
            if row.next() <= time {
                return Ok(None);
            }
            if let Some((_, Version { timestamp, value }, end)) = row.find(time) {
                let found = |value: &[u8]| FoundVersion { value: value.to_vec(), timestamp, valid_to: Some(end) };
                return Ok(value.map(found));
            }
        }
        Ok(None)
    }

    /// The versions of `key` that were valid at any time from `from` to `to` (both inclusive), oldest first. Deletions are no versions; of
    /// times before the history that is kept only the newest version is told.
    ///
    /// # Errors
    /// As [`Versions::put`].
    pub fn history<R: VersionedRows>(
        &self,
        rows: &R,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<FoundVersion>, R::Error> {
        let mut found = Vec::new();
        if to >= self.oldest() {
            // Kafka Streams looks no further than the segment of `to`: versions that end in a later one are not told.
            for &segment in self.segments.range(..=self.segment_of(to)) {
                let Some(bytes) = rows.row(&entry_key(segment, key))? else { continue };
                let row = read_row(rows, &bytes)?;
                let before = found.len();
                for (Version { timestamp, value }, end) in row.versions() {
                    if let Some(value) = value.filter(|_| timestamp <= to && end > from) {
                        found.push(FoundVersion { value: value.to_vec(), timestamp, valid_to: Some(end) });
                    }
                }
                found[before..].reverse();
            }
        }
        found.extend(self.latest(rows, key)?.filter(|latest| latest.timestamp <= to));
        Ok(found)
    }
}
