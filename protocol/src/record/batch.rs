//! A record batch, read in place: its header, its checksum, and the 61 bytes a broker changes when it appends.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;

use base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::decompression::with_decompressed;
use super::validate::increment_sequence;
use super::{Compression, DEFAULT_DECOMPRESSED_LIMIT, RecordError, Records, Slots, decompress};

/// Bytes of a batch before its records.
pub const HEADER_SIZE: usize = 61;

/// Most bytes of records in a batch: positions in them are 32 bits, and the largest of these is null.
const BODY_MAX: usize = u32::MAX as usize - 1;

/// Base offset and length: what `batch_length` does not count.
const LOG_OVERHEAD: usize = 12;
/// Smallest size of an entry of any magic: what must be there to tell them apart.
const MAGIC_POSITION: usize = 16;
const CRC_POSITION: usize = 17;
/// First byte that the checksum covers.
const CRC_START: usize = 21;
const ATTRIBUTES_POSITION: usize = 21;
const MAX_TIMESTAMP_POSITION: usize = 35;

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer set them.
    CreateTime,
    /// The broker did, when it appended.
    LogAppendTime,
}

/// The 16 attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// How the records are compressed.
    ///
    /// # Errors
    /// If the codec does not exist.
    pub const fn codec(self) -> Result<Compression, RecordError> {
        Compression::from_code(self.0 & Self::CODEC)
    }

    /// What the timestamps mean.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.is_log_append_time() { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    /// Whether all records have the time of the append, which is the batch's maximum timestamp.
    pub const fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Whether the batch is part of a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether it holds a control record (a transaction marker) rather than data.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which compaction may drop its tombstones.
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }

    /// The same with another codec.
    pub const fn with_codec(self, codec: Compression) -> Self {
        Self(self.0 & !Self::CODEC | codec.code())
    }

    /// The same with another meaning of the timestamps.
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, matches!(kind, TimestampType::LogAppendTime))
    }

    /// The same, in a transaction or not.
    pub const fn with_transactional(self, set: bool) -> Self {
        self.with(Self::TRANSACTIONAL, set)
    }

    /// The same, control or data.
    pub const fn with_control(self, set: bool) -> Self {
        self.with(Self::CONTROL, set)
    }

    /// The same, with or without a delete horizon.
    pub const fn with_delete_horizon(self, set: bool) -> Self {
        self.with(Self::DELETE_HORIZON, set)
    }
}

/// The header of a batch, copied out of its first 61 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record, or where it was before compaction.
    pub base_offset: Offset,
    /// Bytes after this field; see [`BatchHeader::size_bytes`].
    pub batch_length: i32,
    /// The leader's epoch when it appended; -1 from clients.
    pub leader_epoch: LeaderEpoch,
    /// Format version: 2.
    pub magic: i8,
    /// CRC-32C over everything behind it.
    pub crc: u32,
    /// Codec, timestamp type and what kind of batch it is.
    pub attributes: Attributes,
    /// Last offset, relative to the base offset; survives compaction.
    pub last_offset_delta: i32,
    /// Timestamp to which the records' are relative.
    pub base_timestamp: Timestamp,
    /// Largest timestamp of the records, or the time of the append.
    pub max_timestamp: Timestamp,
    /// The producer's id; -1 for none.
    pub producer_id: ProducerId,
    /// The producer's epoch; -1 for none.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record; -1 for none.
    pub base_sequence: Sequence,
    /// Number of records; 0 is possible after compaction.
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8; HEADER_SIZE], position: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[position..position + N]);
    field
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may end anywhere behind it.
    ///
    /// # Errors
    /// `Truncated` if there are less than 61 bytes, `UnsupportedMagic` below magic 2, `Corrupt` if the length is less
    /// than a header's. A magic above 2 reads as 2, as in Kafka: recovery must not drop a batch for that byte, which no
    /// checksum covers.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        if let Some(magic) = bytes.get(MAGIC_POSITION)
            && (*magic as i8) < 2
        {
            return Err(RecordError::UnsupportedMagic(*magic as i8));
        }
        let bytes = bytes.first_chunk::<HEADER_SIZE>().ok_or(RecordError::truncated("batch header"))?;
        let header = Self::parse(bytes);
        if header.batch_length < (HEADER_SIZE - LOG_OVERHEAD) as i32 {
            return Err(RecordError::corrupt("batch length", header.batch_length));
        }
        Ok(header)
    }

    #[inline]
    fn parse(bytes: &[u8; HEADER_SIZE]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length: i32::from_be_bytes(array(bytes, 8)),
            leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            magic: bytes[MAGIC_POSITION] as i8,
            crc: u32::from_be_bytes(array(bytes, CRC_POSITION)),
            attributes: Attributes(i16::from_be_bytes(array(bytes, ATTRIBUTES_POSITION))),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_POSITION)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        }
    }

    /// The 61 bytes, the opposite of [`BatchHeader::read`].
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        bytes[16] = self.magic as u8;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header included.
    pub const fn size_bytes(&self) -> usize {
        LOG_OVERHEAD + self.batch_length as usize
    }

    /// Offset of the last record, or where it was before compaction.
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.wrapping_add(self.last_offset_delta as i64)
    }

    /// Where a reader goes on after this batch.
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().wrapping_add(1)
    }

    /// Sequence of the last record; -1 if the batch has none.
    pub const fn last_sequence(&self) -> Sequence {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// Whether a producer id is set.
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// The delete horizon, if the batch has one.
    pub const fn delete_horizon(&self) -> Option<Timestamp> {
        if self.attributes.has_delete_horizon() { Some(self.base_timestamp) } else { None }
    }
}

/// CRC-32C of a whole batch (from its attributes to its end); 0 if it is shorter than a header.
pub fn crc_of(batch: &[u8]) -> u32 {
    batch.get(CRC_START..).map_or(0, |covered| crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, covered) as u32)
}

/// CRC-32C of a batch whose header is to be `head` and whose records are `body`.
pub(super) fn crc_of_parts(head: &[u8; HEADER_SIZE], body: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&head[CRC_START..]);
    digest.update(body);
    digest.finalize() as u32
}

/// Writes the checksum of `batch`, which is at least a header, into it.
pub(super) fn write_crc(batch: &mut [u8]) {
    let crc = crc_of(batch);
    batch[CRC_POSITION..CRC_START].copy_from_slice(&crc.to_be_bytes());
}

/// One whole batch: exactly its bytes, shared.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    bytes: Bytes,
    header: BatchHeader,
}

impl RecordBatch {
    /// `bytes` as one batch.
    ///
    /// # Errors
    /// As [`BatchHeader::read`]; `Truncated` or `Corrupt` if there are less or more bytes than the header says.
    pub fn new(bytes: Bytes) -> Result<Self, RecordError> {
        let header = BatchHeader::read(&bytes)?;
        if header.size_bytes() > bytes.len() {
            return Err(RecordError::truncated("record batch"));
        }
        if header.size_bytes() < bytes.len() {
            return Err(RecordError::corrupt("bytes behind the batch", (bytes.len() - header.size_bytes()) as i64));
        }
        Ok(Self { bytes, header })
    }

    /// The header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes, header included.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records as they are stored: compressed, if a codec is set.
    pub fn stored_body(&self) -> Bytes {
        self.bytes.slice(HEADER_SIZE..)
    }

    /// Whether the bytes are those that were written.
    ///
    /// # Errors
    /// `BadCrc` if not.
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        let computed = crc_of(&self.bytes);
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(RecordError::BadCrc { stored: self.header.crc, computed })
        }
    }

    /// The records, decompressed if need be.
    ///
    /// # Errors
    /// If they cannot be decompressed, or to more than [`DEFAULT_DECOMPRESSED_LIMIT`] bytes.
    pub fn records(&self) -> Result<Records, RecordError> {
        self.records_within(DEFAULT_DECOMPRESSED_LIMIT)
    }

    /// As [`RecordBatch::records`], with another limit for the decompressed size.
    ///
    /// # Errors
    /// As there.
    pub fn records_within(&self, limit: usize) -> Result<Records, RecordError> {
        let body = match self.codec_of_records()? {
            Compression::None => self.stored_body(),
            codec => decompress(codec, &self.bytes[HEADER_SIZE..], limit.min(BODY_MAX))?.into(),
        };
        Ok(Records::new(body, &self.header))
    }

    /// Hands the records to `look`, as slots, decompressed if need be into memory that is used again afterwards: for
    /// whoever goes through them once and keeps nothing.
    ///
    /// # Errors
    /// As [`RecordBatch::records_within`].
    pub fn with_slots<T>(&self, limit: usize, look: impl FnOnce(Slots<'_>) -> T) -> Result<T, RecordError> {
        let stored = &self.bytes[HEADER_SIZE..];
        match self.codec_of_records()? {
            Compression::None => Ok(look(Slots::new(stored, &self.header))),
            codec => with_decompressed(codec, stored, limit.min(BODY_MAX), |body| look(Slots::new(body, &self.header))),
        }
    }

    /// How the records are stored, if there can be so many.
    fn codec_of_records(&self) -> Result<Compression, RecordError> {
        if self.header.record_count < 0 {
            return Err(RecordError::corrupt("record count", self.header.record_count));
        }
        self.header.attributes.codec()
    }
}

/// The batches in `bytes`, one behind the other, as a log file or a fetch answer holds them.
///
/// A batch that is cut at the end ends the iteration without an error; [`Batches::remaining`] tells how many bytes of
/// it there are. After an error nothing follows.
pub fn batches(bytes: &Bytes) -> Batches {
    Batches { bytes: bytes.clone(), position: 0, failed: false }
}

/// Iterator of [`batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    bytes: Bytes,
    position: usize,
    failed: bool,
}

impl Batches {
    /// Bytes from the current position to the end; when the iteration has ended, those of the cut batch.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Where in the bytes the next batch begins.
    pub const fn position(&self) -> usize {
        self.position
    }

    fn read_next(&self) -> Result<Option<RecordBatch>, RecordError> {
        let rest = &self.bytes[self.position..];
        // Length and magic first: an old, shorter entry is an error, not a cut batch.
        let Some(prefix) = rest.first_chunk::<{ MAGIC_POSITION + 1 }>() else { return Ok(None) };
        let mut length = [0; 4];
        length.copy_from_slice(&prefix[8..12]);
        let length = i32::from_be_bytes(length);
        if length < 0 {
            return Err(RecordError::corrupt("batch length", length));
        }
        if (prefix[MAGIC_POSITION] as i8) < 2 {
            return Err(RecordError::UnsupportedMagic(prefix[MAGIC_POSITION] as i8));
        }
        if length < (HEADER_SIZE - LOG_OVERHEAD) as i32 {
            return Err(RecordError::corrupt("batch length", length));
        }
        let size = LOG_OVERHEAD + length as usize;
        if size > rest.len() {
            return Ok(None);
        }
        RecordBatch::new(self.bytes.slice(self.position..self.position + size)).map(Some)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.read_next() {
            Ok(None) => None,
            Ok(Some(batch)) => {
                self.position += batch.bytes.len();
                Some(Ok(batch))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// A change of the fields about time, which lie inside the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePatch {
    /// What the timestamps mean from now on.
    pub timestamp_type: TimestampType,
    /// The maximum timestamp.
    pub max_timestamp: Timestamp,
}

/// The 61 bytes with which a broker appends `batch`: base offset and leader epoch assigned, the rest of the bytes
/// untouched. With a `time` patch the checksum is computed anew, which reads the whole batch; without, nothing behind
/// the header is looked at.
///
/// # Errors
/// As [`BatchHeader::read`].
pub fn patch_for_append(
    batch: &[u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    time: Option<TimePatch>,
) -> Result<[u8; HEADER_SIZE], RecordError> {
    let mut header = BatchHeader::read(batch)?;
    header.base_offset = base_offset;
    header.leader_epoch = leader_epoch;
    if let Some(time) = time {
        header.attributes = header.attributes.with_timestamp_type(time.timestamp_type);
        header.max_timestamp = time.max_timestamp;
        header.crc = crc_of_parts(&header.to_bytes(), &batch[HEADER_SIZE..]);
    }
    Ok(header.to_bytes())
}
