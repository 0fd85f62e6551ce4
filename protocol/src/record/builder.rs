//! Builds a record batch: records are written once, in their final layout, behind room for the header; finishing fills
//! in the header, compresses if asked to, and computes the checksum.

use bytes::Bytes;

use base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::batch::{Attributes, BatchHeader, HEADER_SIZE, TimestampType, write_crc};
use super::headers::{HeadersRef, field_size, put_field};
use super::varint::{MAX_VARINT_BYTES, MAX_VARLONG_BYTES, put_varint, put_varlong, varint_size, varlong_size};
use super::{Compression, RecordError, compress};

/// Largest batch: its length is an `i32`.
const MAX_BATCH_BYTES: usize = i32::MAX as usize;

/// What goes into the header besides the records. The default is a plain batch as a client sends it.
#[derive(Clone, Debug)]
pub struct BuilderOptions {
    /// Offset of the first record; 0 from clients.
    pub base_offset: Offset,
    /// The leader's epoch; -1 from clients.
    pub leader_epoch: LeaderEpoch,
    /// -1 for none.
    pub producer_id: ProducerId,
    /// -1 for none.
    pub producer_epoch: ProducerEpoch,
    /// -1 for none.
    pub base_sequence: Sequence,
    /// Whether it is part of a transaction.
    pub transactional: bool,
    /// Whether it is a control batch.
    pub control: bool,
    /// Marks the batch as LogAppendTime with this time.
    pub log_append_time: Option<Timestamp>,
    /// Time from which compaction may drop the batch's tombstones; becomes the base timestamp.
    pub delete_horizon: Option<Timestamp>,
    /// Level for the codec; `None` for its default.
    pub compression_level: Option<i32>,
    /// Bytes to make room for at once.
    pub capacity: usize,
}

impl Default for BuilderOptions {
    fn default() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
            log_append_time: None,
            delete_horizon: None,
            compression_level: None,
            capacity: 0,
        }
    }
}

/// A batch under construction.
#[derive(Debug)]
pub struct BatchBuilder {
    codec: Compression,
    options: BuilderOptions,
    /// Room for the header, then the records.
    buffer: Vec<u8>,
    count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    last_offset_delta: i32,
}

/// Most bytes that a record with these fields takes in an uncompressed batch, whatever its timestamp and offset.
pub fn record_size<'a>(key: Option<&[u8]>, value: Option<&[u8]>, headers: impl Into<HeadersRef<'a>>) -> usize {
    let fields = field_size(key) + field_size(value) + headers.into().encoded_size();
    MAX_VARINT_BYTES + 1 + MAX_VARLONG_BYTES + MAX_VARINT_BYTES + fields
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(codec: Compression, options: BuilderOptions) -> Self {
        let mut buffer = Vec::with_capacity(options.capacity.max(HEADER_SIZE));
        buffer.resize(HEADER_SIZE, 0);
        Self { codec, options, buffer, count: 0, base_timestamp: -1, max_timestamp: -1, last_offset_delta: -1 }
    }

    /// Adds a record with the next offset.
    ///
    /// # Errors
    /// `TooLarge` if the batch would outgrow what its length can say; nothing has changed then.
    #[inline]
    pub fn append<'a>(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<HeadersRef<'a>>,
    ) -> Result<(), RecordError> {
        self.append_delta(self.last_offset_delta + 1, timestamp, key, value, headers.into())
    }

    /// Adds a record with a given offset, which must lie above those of the records before it: for compaction, whose
    /// batches have gaps.
    ///
    /// # Errors
    /// As [`BatchBuilder::append`]; `Corrupt` if the offset does not rise, or is too far from the base offset.
    pub fn append_at<'a>(
        &mut self,
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<HeadersRef<'a>>,
    ) -> Result<(), RecordError> {
        let delta = self.delta_of(offset)?;
        if delta <= self.last_offset_delta {
            return Err(RecordError::corrupt("offset that does not rise within the batch", offset));
        }
        self.append_delta(delta, timestamp, key, value, headers.into())
    }

    fn delta_of(&self, offset: Offset) -> Result<i32, RecordError> {
        offset
            .checked_sub(self.options.base_offset)
            .and_then(|delta| i32::try_from(delta).ok())
            .ok_or(RecordError::corrupt("offset too far from the base offset", offset))
    }

    /// Once per record produced: one growth check, one zeroing, one pass of writes; no allocation while the capacity
    /// lasts.
    #[inline]
    fn append_delta(
        &mut self,
        offset_delta: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: HeadersRef<'_>,
    ) -> Result<(), RecordError> {
        let first = self.count == 0;
        let base_timestamp = match self.options.delete_horizon {
            Some(horizon) => horizon,
            None if first => timestamp,
            None => self.base_timestamp,
        };
        // Wraps as Kafka's arithmetic does; reading wraps back.
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);
        let size = 1
            + varlong_size(timestamp_delta)
            + varint_size(offset_delta)
            + field_size(key)
            + field_size(value)
            + headers.encoded_size();
        let mut at = self.buffer.len();
        if size > MAX_BATCH_BYTES - MAX_VARINT_BYTES || at + size > MAX_BATCH_BYTES - MAX_VARINT_BYTES {
            return Err(RecordError::TooLarge { what: "record batch", limit: MAX_BATCH_BYTES as u64 });
        }
        self.buffer.resize(at + varint_size(size as i32) + size, 0);
        let buffer = self.buffer.as_mut_slice();
        put_varint(buffer, &mut at, size as i32);
        at += 1; // attributes, unused: zero
        put_varlong(buffer, &mut at, timestamp_delta);
        put_varint(buffer, &mut at, offset_delta);
        put_field(buffer, &mut at, key);
        put_field(buffer, &mut at, value);
        headers.put(buffer, &mut at);
        debug_assert_eq!(at, buffer.len());

        self.base_timestamp = base_timestamp;
        self.max_timestamp = if first { timestamp } else { self.max_timestamp.max(timestamp) };
        self.last_offset_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    /// Makes the batch end at `offset`, although its last record may lie before: for compaction, where the end of a
    /// batch survives its records.
    ///
    /// # Errors
    /// `Corrupt` if a record lies behind, or it is too far from the base offset.
    pub fn set_last_offset(&mut self, offset: Offset) -> Result<(), RecordError> {
        let delta = self.delta_of(offset)?;
        if delta < self.last_offset_delta || delta < 0 {
            return Err(RecordError::corrupt("last offset below that of a record", offset));
        }
        self.last_offset_delta = delta;
        Ok(())
    }

    /// Sets the maximum timestamp, which otherwise is that of the records: for batches that lost theirs to compaction.
    pub fn set_max_timestamp(&mut self, timestamp: Timestamp) {
        self.max_timestamp = timestamp;
    }

    /// Sets who sends the batch. May come late: an idempotent producer knows its sequence when it sends.
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) {
        self.options.producer_id = id;
        self.options.producer_epoch = epoch;
        self.options.base_sequence = base_sequence;
    }

    /// Makes the batch part of a transaction, or not.
    pub fn set_transactional(&mut self, transactional: bool) {
        self.options.transactional = transactional;
    }

    /// Bytes so far, header included, before compression.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// At most what [`BatchBuilder::size_bytes`] would be after another record.
    pub fn size_bytes_with<'a>(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<HeadersRef<'a>>,
    ) -> usize {
        self.size_bytes() + record_size(key, value, headers)
    }

    /// Number of records so far.
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no record yet.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Largest timestamp so far; -1 without records.
    pub const fn max_timestamp(&self) -> Timestamp {
        self.max_timestamp
    }

    fn header(&self, size: usize) -> BatchHeader {
        let options = &self.options;
        let timestamp_type = match options.log_append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        BatchHeader {
            base_offset: options.base_offset,
            batch_length: (size - 12) as i32,
            leader_epoch: options.leader_epoch,
            magic: 2,
            crc: 0,
            attributes: Attributes::default()
                .with_codec(self.codec)
                .with_timestamp_type(timestamp_type)
                .with_transactional(options.transactional)
                .with_control(options.control)
                .with_delete_horizon(options.delete_horizon.is_some()),
            last_offset_delta: self.last_offset_delta.max(0),
            base_timestamp: options.delete_horizon.unwrap_or(self.base_timestamp),
            max_timestamp: options.log_append_time.unwrap_or(self.max_timestamp),
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.count,
        }
    }

    /// Finishes the batch and starts an empty one with the same options. An uncompressed batch is handed out in the
    /// buffer it was written to; a compressed one leaves that buffer for the next.
    ///
    /// # Errors
    /// What the codec says, or `TooLarge` if compression made it larger than a batch can be; the records are kept then.
    pub fn build(&mut self) -> Result<Bytes, RecordError> {
        let mut batch = if self.codec == Compression::None {
            let capacity = self.options.capacity.max(HEADER_SIZE);
            let mut next = Vec::with_capacity(capacity);
            next.resize(HEADER_SIZE, 0);
            std::mem::replace(&mut self.buffer, next)
        } else {
            let mut batch = Vec::with_capacity(self.buffer.len() / 2 + HEADER_SIZE);
            batch.resize(HEADER_SIZE, 0);
            compress(self.codec, self.options.compression_level, &self.buffer[HEADER_SIZE..], &mut batch)?;
            if batch.len() > MAX_BATCH_BYTES {
                return Err(RecordError::TooLarge { what: "record batch", limit: MAX_BATCH_BYTES as u64 });
            }
            self.buffer.truncate(HEADER_SIZE);
            batch
        };
        let header = self.header(batch.len()).to_bytes();
        batch[..HEADER_SIZE].copy_from_slice(&header);
        write_crc(&mut batch);
        self.count = 0;
        self.base_timestamp = -1;
        self.max_timestamp = -1;
        self.last_offset_delta = -1;
        Ok(batch.into())
    }
}
