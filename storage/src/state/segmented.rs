//! Window and session stores below their keys: entries lie in segments by their time, and old segments are thrown away
//! whole.
//!
//! Callers give and get *plain* keys ([`keys`](super::keys)); how they lie in a segment is the [`Layout`]'s matter.
//!
//! Expiry follows Kafka Streams. On disk an entry is refused only if its whole segment is too old; in memory exactly when
//! `time <= stream time - retention`. Reads hide what is older than the retention on both, so that both answer alike.
//! Unlike the JVM, stream time is kept with the data: a restart changes no answer.
//!
//! Invariant: no segment older than that of `stream time - retention` outlives a [`BatchStore::write`].

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::OnceLock;

use base::{Offset, Timestamp, TopicPartition};

use super::byte_store::{BatchStore, ByteIterator, Change, Direction, EmptyIterator, OwnedEntry};
use super::engine::{Engine, Family};
use super::error::StateError;
use super::key_filter::KeyFilter;
use super::key_value;
use super::keys::{KEY_INDEX, KeyKind};
use super::offsets;
use super::scan::{Access, Keys, Layout, Scan, ScanOrder, TimeBounds, stored_bounds};

/// Shape of a window or session store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentedOptions {
    /// Windows or sessions.
    pub kind: KeyKind,
    /// How long entries are kept, in stream time.
    pub retention_ms: i64,
    /// Time span of one segment; usually [`segment_interval_ms`](super::segment_interval_ms) of the retention.
    pub segment_interval_ms: i64,
    /// How entries lie in a segment.
    pub layout: Layout,
}

/// A store of entries with a time in their key, in segments by that time, over any engine.
pub struct SegmentedStore {
    engine: Box<dyn Engine>,
    options: SegmentedOptions,
    /// Whether entries expire one by one, and multi-key scans go by time first: the engine is memory.
    exact: bool,
    /// Stream time of earlier lives of this store; read when first needed, so that opening does not wait for it.
    kept_stream_time: OnceLock<Timestamp>,
    observed: Timestamp,
    written_stream_time: Timestamp,
    /// Keys of segments, for look-ups of one key.
    filter: KeyFilter,
    scratch: Vec<u8>,
}

impl SegmentedStore {
    /// A store over an open engine.
    ///
    /// # Errors
    /// `Invalid` if the retention is negative or the segment interval not positive.
    pub fn new(engine: Box<dyn Engine>, options: SegmentedOptions) -> Result<Self, StateError> {
        if options.retention_ms < 0 || options.segment_interval_ms <= 0 {
            return Err(StateError::invalid(
                engine.place(),
                format_args!(
                    "retention {} ms must not be negative, segment interval {} ms must be positive",
                    options.retention_ms, options.segment_interval_ms
                ),
            ));
        }
        let exact = !engine.is_persistent();
        Ok(Self {
            engine,
            options,
            exact,
            kept_stream_time: OnceLock::new(),
            observed: -1,
            written_stream_time: -1,
            filter: KeyFilter::default(),
            scratch: Vec::new(),
        })
    }

    /// Shape of the store.
    pub fn options(&self) -> &SegmentedOptions {
        &self.options
    }

    /// The largest time put so far; -1 before the first.
    ///
    /// # Errors
    /// The store could not be opened, or is closed.
    pub fn stream_time(&self) -> Result<Timestamp, StateError> {
        let kept = match self.kept_stream_time.get() {
            Some(kept) => *kept,
            None => {
                let kept = offsets::read_number(&*self.engine, offsets::STREAM_TIME)?.unwrap_or(-1);
                *self.kept_stream_time.get_or_init(|| kept)
            }
        };
        Ok(self.observed.max(kept))
    }

    /// Notes that an entry of that time is put, and says whether it is taken: `false` if it has expired, to be counted
    /// as dropped. To be called at every put, whenever its batch is written.
    ///
    /// # Errors
    /// As [`SegmentedStore::stream_time`].
    pub fn observe(&mut self, time: Timestamp) -> Result<bool, StateError> {
        self.observed = self.stream_time()?.max(time);
        Ok(self.is_kept(time, self.observed))
    }

    /// As [`SegmentedStore::observe`], for a deletion in a store that keeps duplicates, which changes nothing else: as in Kafka Streams, it
    /// moves the time of a store in memory, not that of one on disk.
    ///
    /// # Errors
    /// As [`SegmentedStore::stream_time`].
    pub fn observe_deletion(&mut self, time: Timestamp) -> Result<bool, StateError> {
        if self.exact { self.observe(time) } else { Ok(true) }
    }

    /// Whether reads may return an entry of that time: what a layer of pending changes above the store has to ask.
    ///
    /// # Errors
    /// As [`SegmentedStore::stream_time`].
    pub fn is_visible(&self, time: Timestamp) -> Result<bool, StateError> {
        Ok(time >= self.earliest_visible()?)
    }

    /// The earliest time that reads may return.
    ///
    /// # Errors
    /// As [`SegmentedStore::stream_time`].
    pub fn earliest_visible(&self) -> Result<Timestamp, StateError> {
        let limit = self.stream_time()?.saturating_sub(self.options.retention_ms);
        let time_first = matches!(self.options.layout, Layout::TimeFirst { .. });
        // The JVM's time-first window store alone returns a window that starts exactly at the limit.
        let includes_limit = time_first && self.options.kind == KeyKind::Window && !self.exact;
        Ok(if includes_limit { limit } else { limit.saturating_add(1) })
    }

    /// The earliest time that `scan` may return. As in the JVM, scans for sessions that close (by end, over a time-first layout on disk) still
    /// find those that have expired, as long as their segment is there.
    ///
    /// # Errors
    /// As [`SegmentedStore::stream_time`].
    pub fn earliest_scanned(&self, scan: &Scan<'_>) -> Result<Timestamp, StateError> {
        let time_first = matches!(self.options.layout, Layout::TimeFirst { .. });
        let by_end = self.options.kind == KeyKind::Session && matches!(scan.times, TimeBounds::Within { .. });
        if self.exact || !time_first || !by_end {
            return self.earliest_visible();
        }
        let limit = self.stream_time()?.saturating_sub(self.options.retention_ms);
        Ok(self.segment_id(limit).saturating_mul(self.options.segment_interval_ms))
    }

    fn is_kept(&self, time: Timestamp, stream_time: Timestamp) -> bool {
        let limit = stream_time.saturating_sub(self.options.retention_ms);
        if self.exact { time > limit } else { self.segment_id(time) >= self.segment_id(limit) }
    }

    fn segment_id(&self, time: Timestamp) -> i64 {
        time.div_euclid(self.options.segment_interval_ms)
    }

    /// Calls `read` with the value of a plain key, lent; returns whether there is one that has not expired.
    ///
    /// # Errors
    /// `Invalid` if the key is malformed; as [`BatchStore::offset`].
    pub fn get_with(&self, plain: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, StateError> {
        let time = self.time_of(plain)?;
        if !self.is_visible(time)? {
            return Ok(false);
        }
        let family = Family::Segment(self.segment_id(time));
        match self.options.layout {
            Layout::KeyFirst => self.engine.get_with(family, plain, read),
            Layout::TimeFirst { .. } => {
                let mut stored = Vec::with_capacity(plain.len() + 1);
                self.options.kind.write_time_first(plain, &mut stored);
                self.engine.get_with(family, &stored, read)
            }
        }
    }

    /// The value of a plain key, copied.
    ///
    /// # Errors
    /// As [`SegmentedStore::get_with`].
    pub fn get(&self, plain: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let mut value = None;
        self.get_with(plain, &mut |bytes| value = Some(bytes.to_vec()))?;
        Ok(value)
    }

    fn time_of(&self, plain: &[u8]) -> Result<Timestamp, StateError> {
        let parts = self.options.kind.parts(plain);
        parts.map(|parts| parts.time).ok_or_else(|| self.malformed(plain))
    }

    fn malformed(&self, plain: &[u8]) -> StateError {
        let kind = self.options.kind;
        StateError::invalid(
            self.engine.place(),
            format_args!("a {kind:?} key has at least {} bytes, this one {}", kind.suffix_size(), plain.len()),
        )
    }

    /// Entries that a scan asks for and that have not expired, with their plain keys, in the order of
    /// [`SegmentedStore::compare`].
    ///
    /// # Errors
    /// As [`BatchStore::offset`].
    pub fn scan(&self, scan: &Scan<'_>) -> Result<Box<dyn ByteIterator + '_>, StateError> {
        let scan = scan.clipped(self.earliest_scanned(scan)?);
        if scan.is_empty() {
            return Ok(Box::new(EmptyIterator));
        }
        let ids = self.segment_id(scan.earliest())..=self.segment_id(scan.latest());
        let mut segments = self.engine.segments()?;
        segments.retain(|id| ids.contains(id));
        if let Keys::One(key) = scan.keys {
            segments.retain(|id| self.filter.may_hold(*id, key));
            if segments.is_empty() {
                return Ok(Box::new(EmptyIterator));
            }
        }
        if scan.direction == Direction::Forward {
            // Taken from the end.
            segments.reverse();
        }
        let order = self.order(&scan);
        let (from, to) = stored_bounds(self.options.kind, &scan, order.access);
        let keys = OwnedKeys::from(scan.keys);
        let (times, direction) = (scan.times, scan.direction);
        let walk = SegmentIterator {
            store: self,
            segments,
            from,
            to,
            keys,
            times,
            direction,
            access: order.access,
            segment: 0,
            current: None,
            key: Vec::new(),
            value: Vec::new(),
        };
        if self.needs_sorting(&scan, order.access) {
            return Ok(Box::new(SortedEntries::read(walk, order)?));
        }
        Ok(Box::new(walk))
    }

    fn needs_sorting(&self, scan: &Scan<'_>, access: Access) -> bool {
        let one_key = matches!(scan.keys, Keys::One(_));
        let sorted_by_time = access == Access::TimeFirst && self.options.kind == KeyKind::Window;
        self.exact && !one_key && !sorted_by_time
    }

    /// Place of two plain keys relative to one another in a forward `scan`.
    pub fn compare(&self, scan: &Scan<'_>, a: &[u8], b: &[u8]) -> Ordering {
        self.order(scan).compare(a, b)
    }

    fn order(&self, scan: &Scan<'_>) -> ScanOrder {
        let access = match self.options.layout {
            Layout::KeyFirst => Access::Plain,
            Layout::TimeFirst { key_index: true } if scan.keys != Keys::ALL => Access::Index,
            Layout::TimeFirst { .. } => Access::TimeFirst,
        };
        ScanOrder {
            kind: self.options.kind,
            access,
            by_time_and_key: self.exact,
            segment_interval_ms: self.options.segment_interval_ms,
        }
    }

    fn stage(&mut self, plain: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let time = self.time_of(plain)?;
        if !self.observe(time)? {
            return Ok(());
        }
        let segment = self.segment_id(time);
        let family = Family::Segment(segment);
        if value.is_some() {
            let key = self.options.kind.parts(plain).map_or(plain, |parts| parts.key);
            let engine = &self.engine;
            self.filter.add(segment, key, || engine.segments().map(|segments| segments.contains(&segment)))?;
        }
        let Layout::TimeFirst { key_index } = self.options.layout else {
            return self.engine.stage(family, plain, value);
        };
        self.scratch.clear();
        self.options.kind.write_time_first(plain, &mut self.scratch);
        self.engine.stage(family, &self.scratch, value)?;
        if key_index {
            self.scratch.clear();
            self.scratch.push(KEY_INDEX);
            self.scratch.extend_from_slice(plain);
            self.engine.stage(family, &self.scratch, value.map(|_| &[][..]))?;
        }
        Ok(())
    }

    fn stage_all(&mut self, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<(), StateError> {
        for (key, value) in changes {
            self.stage(key, value)?;
        }
        let stream_time = self.stream_time()?;
        if stream_time > self.written_stream_time {
            self.engine.stage_metadata(offsets::STREAM_TIME.as_bytes(), &stream_time.to_be_bytes())?;
            self.written_stream_time = stream_time;
        }
        Ok(())
    }

    fn drop_expired_segments(&mut self) -> Result<(), StateError> {
        let limit = self.stream_time()?.saturating_sub(self.options.retention_ms);
        let first_kept = self.segment_id(limit);
        for segment in self.engine.segments()?.into_iter().take_while(|&id| id < first_kept) {
            self.engine.drop_segment(segment)?;
            self.filter.forget(segment);
        }
        Ok(())
    }
}

impl BatchStore for SegmentedStore {
    /// As everywhere; changes that have expired are left out, and so are segments that have.
    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), StateError> {
        let staged = self.stage_all(changes);
        key_value::commit(&mut *self.engine, staged, offsets).inspect_err(|_| self.written_stream_time = -1)?;
        self.drop_expired_segments()
    }

    fn offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StateError> {
        offsets::read(&*self.engine, partition)
    }

    fn offsets(&self) -> Result<Vec<(TopicPartition, Offset)>, StateError> {
        offsets::read_all(&*self.engine)
    }

    fn put_metadata(&mut self, name: &str, value: &[u8]) -> Result<(), StateError> {
        self.engine.stage_metadata(name.as_bytes(), value)
    }

    fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.engine.metadata(name.as_bytes())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.engine.flush()
    }

    fn close(&mut self) -> Result<(), StateError> {
        self.engine.close()
    }

    fn wipe(&mut self) -> Result<(), StateError> {
        self.kept_stream_time = OnceLock::new();
        self.observed = -1;
        self.written_stream_time = -1;
        self.filter.clear();
        self.engine.wipe()
    }

    fn was_closed_cleanly(&self) -> Result<bool, StateError> {
        self.engine.was_closed_cleanly()
    }

    fn is_persistent(&self) -> bool {
        self.engine.is_persistent()
    }

    fn approximate_entries(&self) -> Result<u64, StateError> {
        self.engine.approximate_entries()
    }
}

/// [`Keys`] that outlive the call that made them.
enum OwnedKeys {
    One(Vec<u8>),
    Range(Option<Vec<u8>>, Option<Vec<u8>>),
}

impl From<Keys<'_>> for OwnedKeys {
    fn from(keys: Keys<'_>) -> Self {
        match keys {
            Keys::One(key) => Self::One(key.to_vec()),
            Keys::Range(from, to) => Self::Range(from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec)),
        }
    }
}

impl OwnedKeys {
    fn borrow(&self) -> Keys<'_> {
        match self {
            Self::One(key) => Keys::One(key),
            Self::Range(from, to) => Keys::Range(from.as_deref(), to.as_deref()),
        }
    }
}

/// A walk over the segments of a scan, one after the other.
struct SegmentIterator<'a> {
    store: &'a SegmentedStore,
    /// Segments still to be walked over; the next one is last.
    segments: Vec<i64>,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    keys: OwnedKeys,
    times: TimeBounds,
    direction: Direction,
    access: Access,
    segment: i64,
    current: Option<Box<dyn ByteIterator + 'a>>,
    /// Plain key, unless the stored one is plain.
    key: Vec<u8>,
    /// Value found through the index.
    value: Vec<u8>,
}

impl SegmentIterator<'_> {
    /// Whether the stored entry stepped to is part of the answer; makes its plain key and value ready.
    fn accept(&mut self) -> Result<bool, StateError> {
        let Some(current) = &self.current else { return Ok(false) };
        let kind = self.store.options.kind;
        let plain = match self.access {
            Access::Plain => current.key(),
            Access::TimeFirst => {
                self.key.clear();
                kind.read_time_first(current.key(), &mut self.key);
                &self.key
            }
            Access::Index => {
                self.key.clear();
                self.key.extend_from_slice(current.key().get(1..).unwrap_or_default());
                &self.key
            }
        };
        let scan = Scan { keys: self.keys.borrow(), times: self.times, direction: self.direction };
        if !scan.matches(kind, plain) {
            return Ok(false);
        }
        if self.access == Access::Index {
            let mut stored = Vec::with_capacity(self.key.len() + 1);
            kind.write_time_first(&self.key, &mut stored);
            let value = &mut self.value;
            value.clear();
            let family = Family::Segment(self.segment);
            return self.store.engine.get_with(family, &stored, &mut |bytes| value.extend_from_slice(bytes));
        }
        Ok(true)
    }
}

impl ByteIterator for SegmentIterator<'_> {
    fn advance(&mut self) -> Result<bool, StateError> {
        loop {
            while let Some(current) = &mut self.current {
                if !current.advance()? {
                    self.current = None;
                } else if self.accept()? {
                    return Ok(true);
                }
            }
            let Some(segment) = self.segments.pop() else { return Ok(false) };
            let (from, to) = (self.from.as_ref().map(Vec::as_slice), self.to.as_ref().map(Vec::as_slice));
            self.segment = segment;
            self.current = Some(self.store.engine.scan(Family::Segment(segment), from, to, self.direction)?);
        }
    }

    fn key(&self) -> &[u8] {
        match (&self.current, self.access) {
            (None, _) => &[],
            (Some(current), Access::Plain) => current.key(),
            _ => &self.key,
        }
    }

    fn value(&self) -> &[u8] {
        match (&self.current, self.access) {
            (None, _) => &[],
            (Some(_), Access::Index) => &self.value,
            (Some(current), _) => current.value(),
        }
    }
}

/// Entries of a multi-key scan in memory, which Kafka Streams returns by time and then key.
struct SortedEntries {
    /// The next one is last.
    entries: Vec<OwnedEntry>,
    shown: OwnedEntry,
}

impl SortedEntries {
    fn read(mut walk: SegmentIterator<'_>, order: ScanOrder) -> Result<Self, StateError> {
        let mut entries = walk.collect_entries()?;
        match walk.direction {
            Direction::Forward => entries.sort_by(|(a, _), (b, _)| order.compare(b, a)),
            Direction::Backward => entries.sort_by(|(a, _), (b, _)| order.compare(a, b)),
        }
        Ok(Self { entries, shown: Default::default() })
    }
}

impl ByteIterator for SortedEntries {
    fn advance(&mut self) -> Result<bool, StateError> {
        let next = self.entries.pop();
        let found = next.is_some();
        self.shown = next.unwrap_or_default();
        Ok(found)
    }

    fn key(&self) -> &[u8] {
        &self.shown.0
    }

    fn value(&self) -> &[u8] {
        &self.shown.1
    }
}
