//! The records of a batch, lazily: borrowed from its body, one after the other.
//!
//! The hottest loop of the project: no allocation, no copy; an error ends it.

use bytes::Bytes;

use base::{Offset, Timestamp};

use super::batch::BatchHeader;
use super::headers::{HeadersView, check_headers, headers_are_well_formed};
use super::varint::{read_varint, read_varlong};
use super::{RecordError, TimestampType};

/// A stretch of a body, or null.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Null.
    pub const NULL: Self = Self { start: u32::MAX, end: u32::MAX };

    #[inline(always)]
    fn new(start: usize, end: usize) -> Self {
        // A body is shorter than 4 GiB: see `RecordBatch::records_within`.
        Self { start: start as u32, end: end as u32 }
    }

    /// Whether this is null.
    #[inline]
    pub const fn is_null(self) -> bool {
        self.start == u32::MAX
    }

    /// Number of bytes; 0 for null.
    #[inline]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are no bytes; true for null.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }

    /// The bytes in the body that this span was made for; `None` for null (and for another body that is too short).
    #[inline]
    pub fn of(self, body: &[u8]) -> Option<&[u8]> {
        if self.is_null() { None } else { body.get(self.start as usize..self.end as usize) }
    }

    /// As [`Span::of`], sharing the body.
    pub fn slice(self, body: &Bytes) -> Option<Bytes> {
        self.of(body).map(|bytes| body.slice_ref(bytes))
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_null() { f.write_str("null") } else { write!(f, "{}..{}", self.start, self.end) }
    }
}

/// Where a record lies in its batch's body: what a queue holds instead of a copy, together with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSlot {
    /// Offset in the partition.
    pub offset: Offset,
    /// The producer's timestamp, or the time of the append.
    pub timestamp: Timestamp,
    /// Where the key is.
    pub key: Span,
    /// Where the value is.
    pub value: Span,
    /// Where count and headers are.
    pub headers: Span,
}

impl RecordSlot {
    /// The record, borrowed from the body that this slot was made for.
    #[inline]
    pub fn view<'a>(&self, body: &'a [u8]) -> RecordView<'a> {
        RecordView {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.of(body),
            value: self.value.of(body),
            headers: self.headers.of(body).map_or(HeadersView::EMPTY, HeadersView::checked),
        }
    }

    /// Bytes of key, value and headers.
    pub const fn size_bytes(&self) -> usize {
        self.key.len() + self.value.len() + self.headers.len()
    }
}

/// A record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Offset in the partition.
    pub offset: Offset,
    /// The producer's timestamp, or the time of the append.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: HeadersView<'a>,
}

/// What is needed besides the body to read on.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    position: usize,
    left: i32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
}

/// The part of a record at which reading it ended.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Length,
    Record,
    Key,
    Value,
    Headers { at: usize },
}

impl Cursor {
    fn new(header: &BatchHeader) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => Some(header.max_timestamp),
            TimestampType::CreateTime => None,
        };
        Self {
            position: 0,
            left: header.record_count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
        }
    }

    /// Reads the record at the cursor and moves behind it. Once per record: about ten compares and no allocation; what
    /// is wrong is put in words elsewhere, so that the way of a good record keeps its registers.
    #[inline(always)]
    fn next(&mut self, body: &[u8]) -> Option<Result<RecordSlot, RecordError>> {
        if self.left <= 0 {
            return self.finish(body);
        }
        match self.read(body) {
            Ok(slot) => {
                self.left -= 1;
                Some(Ok(slot))
            }
            Err(fault) => Some(Err(self.fail(body, fault))),
        }
    }

    #[inline(always)]
    fn read(&mut self, body: &[u8]) -> Result<RecordSlot, Fault> {
        let mut at = self.position;
        let length = read_varint(body, &mut at).ok_or(Fault::Length)?;
        let length = usize::try_from(length).map_err(|_| Fault::Length)?;
        // No overflow: a length is below 2^31, a body shorter than 4 GiB.
        let record = body.get(..at.wrapping_add(length)).ok_or(Fault::Length)?;
        at = at.wrapping_add(1); // attributes, unused
        let timestamp_delta = read_varlong(record, &mut at).ok_or(Fault::Record)?;
        let offset_delta = read_varint(record, &mut at).ok_or(Fault::Record)?;
        let key = read_span(record, &mut at).ok_or(Fault::Key)?;
        let value = read_span(record, &mut at).ok_or(Fault::Value)?;
        if !headers_are_well_formed(record, at) {
            return Err(Fault::Headers { at });
        }
        self.position = record.len();
        Ok(RecordSlot {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: match self.append_time {
                None => self.base_timestamp.wrapping_add(timestamp_delta),
                Some(time) => time,
            },
            key,
            value,
            headers: Span::new(at, record.len()),
        })
    }

    /// What is wrong with the record at the cursor; nothing follows it.
    #[cold]
    #[inline(never)]
    fn fail(&mut self, body: &[u8], fault: Fault) -> RecordError {
        let mut at = self.position;
        let length = read_varint(body, &mut at);
        let end = at.saturating_add(usize::try_from(length.unwrap_or(0)).unwrap_or(0)).min(body.len());
        self.stop(body);
        match (fault, length) {
            (Fault::Length, Some(length)) if length < 0 => RecordError::corrupt("record length", length),
            (Fault::Length | Fault::Record, _) => RecordError::truncated("record"),
            (Fault::Key, _) => RecordError::truncated("record key"),
            (Fault::Value, _) => RecordError::truncated("record value"),
            (Fault::Headers { at }, _) => match check_headers(&body[..end], at) {
                Err(error) => error,
                Ok(()) => RecordError::truncated("record headers"),
            },
        }
    }

    /// All records were read: nothing may follow.
    fn finish(&mut self, body: &[u8]) -> Option<Result<RecordSlot, RecordError>> {
        let rest = body.len().saturating_sub(self.position);
        if rest == 0 {
            return None;
        }
        self.stop(body);
        Some(Err(RecordError::corrupt("bytes behind the last record", rest as i64)))
    }

    #[cold]
    fn stop(&mut self, body: &[u8]) {
        self.left = 0;
        self.position = body.len();
    }
}

#[inline(always)]
fn read_span(record: &[u8], at: &mut usize) -> Option<Span> {
    let length = read_varint(record, at)?;
    if length < 0 {
        return Some(Span::NULL); // any negative length, as in Kafka's reader
    }
    let start = *at;
    let end = start + length as usize;
    if end > record.len() {
        return None;
    }
    *at = end;
    Some(Span::new(start, end))
}

/// The records of a batch together with their decompressed body. Going through them by [`Records::iter`] borrows;
/// [`Records::next`] and [`Records::next_slot`] keep a position of their own, for whoever stores this and comes back.
#[derive(Clone, Debug)]
pub struct Records {
    body: Bytes,
    start: Cursor,
    cursor: Cursor,
}

impl Records {
    pub(super) fn new(body: Bytes, header: &BatchHeader) -> Self {
        let start = Cursor::new(header);
        Self { body, start, cursor: start }
    }

    /// The decompressed records, in which [`Span`]s lie.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// All records from the first on, borrowed.
    #[inline]
    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter { body: &self.body, cursor: self.start }
    }

    /// The next record; `None` after the last, and after an error.
    #[inline]
    #[allow(clippy::should_implement_trait)] // it lends, which `Iterator` cannot
    pub fn next(&mut self) -> Option<Result<RecordView<'_>, RecordError>> {
        let slot = self.cursor.next(&self.body)?;
        Some(slot.map(|slot| slot.view(&self.body)))
    }

    /// As [`Records::next`], but where the record lies instead of the record.
    #[inline]
    pub fn next_slot(&mut self) -> Option<Result<RecordSlot, RecordError>> {
        self.cursor.next(&self.body)
    }

    /// How many records [`Records::next`] has yet to give.
    pub const fn left(&self) -> usize {
        if self.cursor.left > 0 { self.cursor.left as usize } else { 0 }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<RecordView<'a>, RecordError>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

/// Iterator of [`Records::iter`].
#[derive(Clone, Debug)]
pub struct RecordsIter<'a> {
    body: &'a [u8],
    cursor: Cursor,
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.cursor.next(self.body)? {
            Ok(slot) => Some(Ok(slot.view(self.body))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// The records of a batch as slots, for a walk in a tight loop: the iterator that [`RecordsIter`] is, without the fields
/// that the slots only point to.
#[derive(Debug)]
pub struct Slots<'a> {
    body: &'a [u8],
    cursor: Cursor,
}

impl<'a> Slots<'a> {
    pub(super) fn new(body: &'a [u8], header: &BatchHeader) -> Self {
        Self { body, cursor: Cursor::new(header) }
    }
}

impl Iterator for Slots<'_> {
    type Item = Result<RecordSlot, RecordError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.body)
    }
}
