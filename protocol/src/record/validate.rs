//! What a broker checks in a batch before it appends it, as far as that needs no log: one batch from a client, whose
//! records are what its header says.
//!
//! Checks that need the log's state (sequences, epochs, transactions) are the log's.

use bytes::Bytes;

use base::{Sequence, Timestamp};

use super::{
    BatchBuilder, BatchHeader, BuilderOptions, Compression, HEADER_SIZE, RecordBatch, RecordError, RecordSlot,
    TimePatch, TimestampType,
};
use crate::api::ErrorCode;

/// The sequence that lies `increment` (not negative) behind `sequence`; wraps from `i32::MAX` to 0.
pub const fn increment_sequence(sequence: Sequence, increment: i32) -> Sequence {
    sequence.wrapping_add(increment) & i32::MAX
}

/// What a topic demands of batches.
#[derive(Clone, Debug)]
pub struct ProduceRules {
    /// `max.message.bytes`: of the whole batch as it came.
    pub max_message_bytes: usize,
    /// Whether the topic is compacted, so that every record needs a key.
    pub compacted: bool,
    /// What to do about timestamps.
    pub timestamps: TimestampRule,
    /// Codec that the topic stores; `None` for the producer's.
    pub compression: Option<Compression>,
    /// How far a batch may grow when decompressed.
    pub decompressed_limit: usize,
}

/// What a topic does about timestamps; `now` is the broker's clock.
#[derive(Clone, Copy, Debug)]
pub enum TimestampRule {
    /// The producer's are kept, if they are in range.
    CreateTime {
        /// The broker's clock.
        now: Timestamp,
        /// `message.timestamp.before.max.ms`
        before_max_ms: i64,
        /// `message.timestamp.after.max.ms`
        after_max_ms: i64,
    },
    /// All records get the time of the append.
    LogAppendTime {
        /// The broker's clock.
        now: Timestamp,
    },
}

/// A batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// Its header as it came.
    pub header: BatchHeader,
    /// What must change in the header for the topic's timestamps; goes to [`patch_for_append`](super::patch_for_append).
    pub time: Option<TimePatch>,
    /// The batch must be written anew with this codec ([`rebuild`]): the topic has another one, or its offsets have
    /// gaps.
    pub rebuild: Option<Compression>,
    /// Largest timestamp after `time`.
    pub max_timestamp: Timestamp,
}

/// Why a batch may not be appended: what the response says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Rejection {
    /// The error code.
    pub code: ErrorCode,
    /// For the response and the log.
    pub message: String,
    /// Records at fault: index in the batch, and what is wrong with each.
    pub record_errors: Vec<(i32, String)>,
}

impl Rejection {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), record_errors: Vec::new() }
    }
}

impl From<RecordError> for Rejection {
    fn from(error: RecordError) -> Self {
        let code = match error {
            // The reference answers with this for a codec that does not exist.
            RecordError::UnknownCodec(_) => ErrorCode::UnknownServerError,
            RecordError::UnsupportedMagic(0 | 1) => ErrorCode::InvalidRecord,
            RecordError::BadCrc { .. } | RecordError::UnsupportedMagic(_) => ErrorCode::CorruptMessage,
            RecordError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            _ => ErrorCode::InvalidRecord,
        };
        Self::new(code, error.to_string())
    }
}

/// Checks `bytes` as what a client asks to append to one partition: exactly one batch that keeps the rules.
///
/// # Errors
/// The first rule broken, with the code that Kafka answers; if records are at fault, all of them are named.
pub fn validate_for_produce(bytes: &Bytes, rules: &ProduceRules) -> Result<(RecordBatch, Validated), Rejection> {
    let batch = single_batch(bytes)?;
    let header = *batch.header();
    if header.base_offset != 0 {
        let message = format!("Base offset of a produced batch must be 0, not {}", header.base_offset);
        return Err(Rejection::new(ErrorCode::InvalidRecord, message));
    }
    if bytes.len() > rules.max_message_bytes {
        let message = format!(
            "The record batch size in the append is {} bytes which exceeds the maximum configured value of {}.",
            bytes.len(),
            rules.max_message_bytes
        );
        return Err(Rejection::new(ErrorCode::MessageTooLarge, message));
    }
    batch.verify_crc()?;
    check_header(&header, rules)?;
    let walked = walk_records(&batch, rules)?;
    let (timestamp_type, max_timestamp) = match rules.timestamps {
        TimestampRule::CreateTime { .. } => (TimestampType::CreateTime, walked.max_timestamp),
        TimestampRule::LogAppendTime { now } => (TimestampType::LogAppendTime, now),
    };
    let time = TimePatch { timestamp_type, max_timestamp };
    let unchanged = header.attributes.timestamp_type() == timestamp_type && header.max_timestamp == max_timestamp;
    let codec = header.attributes.codec()?;
    let target = rules.compression.unwrap_or(codec);
    let validated = Validated {
        header,
        time: (!unchanged).then_some(time),
        rebuild: (target != codec || !walked.offsets_are_dense).then_some(target),
        max_timestamp,
    };
    Ok((batch, validated))
}

/// `bytes` as exactly one batch of magic 2.
fn single_batch(bytes: &Bytes) -> Result<RecordBatch, Rejection> {
    const ONE: &str = "Produce requests with version 3 or later must contain exactly one record batch per partition";
    if let Some(magic) = bytes.get(16)
        && *magic as i8 != 2
    {
        return Err(RecordError::UnsupportedMagic(*magic as i8).into());
    }
    let mut batches = super::batches(bytes);
    let batch = match batches.next() {
        None => return Err(Rejection::new(ErrorCode::InvalidRecord, ONE)),
        Some(Err(error @ RecordError::Corrupt { .. })) => {
            return Err(Rejection::new(ErrorCode::CorruptMessage, error.to_string()));
        }
        Some(batch) => batch?,
    };
    match batches.next() {
        None if batches.remaining() == 0 => Ok(batch),
        _ => Err(Rejection::new(ErrorCode::InvalidRecord, ONE)),
    }
}

fn check_header(header: &BatchHeader, rules: &ProduceRules) -> Result<(), Rejection> {
    let invalid = |message: String| Err(Rejection::new(ErrorCode::InvalidRecord, message));
    if header.record_count < 1 || i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        return invalid(format!(
            "Inconsistent batch: {} records, last offset delta {}",
            header.record_count, header.last_offset_delta
        ));
    }
    if header.attributes.is_control() {
        return invalid("Clients are not allowed to write control records".into());
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        ));
    }
    let from_topic = matches!(rules.timestamps, TimestampRule::LogAppendTime { .. });
    if header.attributes.is_log_append_time() && from_topic {
        let message = "Invalid timestamp type in record batch: clients must not set log append time";
        return Err(Rejection::new(ErrorCode::InvalidTimestamp, message));
    }
    Ok(())
}

struct Walked {
    max_timestamp: Timestamp,
    offsets_are_dense: bool,
}

/// Goes through all records once. Every record at fault is named; the code is that of the first.
fn walk_records(batch: &RecordBatch, rules: &ProduceRules) -> Result<Walked, Rejection> {
    batch.with_slots(rules.decompressed_limit, |slots| {
        let accepted = Accepted::by(rules);
        let mut walked = Walked { max_timestamp: -1, offsets_are_dense: true };
        let mut first_error = None;
        let mut record_errors = Vec::new();
        for (slot, index) in slots.zip(0..) {
            let slot = slot?;
            walked.offsets_are_dense &= slot.offset == i64::from(index);
            walked.max_timestamp = walked.max_timestamp.max(slot.timestamp);
            if accepted.refuses(&slot) {
                let (code, message) = accepted.fault_of(&slot, index);
                first_error.get_or_insert(code);
                record_errors.push((index, message));
            }
        }
        match first_error {
            None => Ok(walked),
            Some(code) => {
                let message = match code {
                    ErrorCode::InvalidTimestamp => "One or more records have been rejected due to invalid timestamp",
                    _ => "One or more records have been rejected",
                };
                Err(Rejection { code, message: message.into(), record_errors })
            }
        }
    })?
}

/// What the topic demands of each record.
struct Accepted {
    needs_key: bool,
    earliest: Timestamp,
    latest: Timestamp,
}

impl Accepted {
    fn by(rules: &ProduceRules) -> Self {
        let (earliest, latest) = match rules.timestamps {
            TimestampRule::CreateTime { now, before_max_ms, after_max_ms } => {
                (now.saturating_sub(before_max_ms), now.saturating_add(after_max_ms))
            }
            TimestampRule::LogAppendTime { .. } => (Timestamp::MIN, Timestamp::MAX),
        };
        Self { needs_key: rules.compacted, earliest, latest }
    }

    #[inline(always)]
    fn refuses(&self, record: &RecordSlot) -> bool {
        self.needs_key && record.key.is_null() || self.refuses_time(record.timestamp)
    }

    /// -1 says that there is no timestamp.
    #[inline(always)]
    fn refuses_time(&self, timestamp: Timestamp) -> bool {
        (timestamp < self.earliest || timestamp > self.latest) && timestamp != -1
    }

    #[cold]
    fn fault_of(&self, record: &RecordSlot, index: i32) -> (ErrorCode, String) {
        if self.needs_key && record.key.is_null() {
            return (ErrorCode::InvalidRecord, "Compacted topic cannot accept message without key".into());
        }
        let message = format!(
            "Timestamp {} of message with offset {index} is out of range. The timestamp should be within [{}, {}]",
            record.timestamp, self.earliest, self.latest
        );
        (ErrorCode::InvalidTimestamp, message)
    }
}

/// The same records in a new batch with another codec, at its `level` (`None`: Kafka's default), and offsets without gaps,
/// everything else as in the header: one of the two places where a broker rewrites what a client sent (the other is
/// [`patch_for_append`]).
///
/// [`patch_for_append`]: super::patch_for_append
///
/// # Errors
/// If the records cannot be read, or the new batch would be too large.
pub fn rebuild(
    batch: &RecordBatch,
    codec: Compression,
    level: Option<i32>,
    decompressed_limit: usize,
) -> Result<Bytes, RecordError> {
    let header = batch.header();
    let records = batch.records_within(decompressed_limit)?;
    let mut builder = BatchBuilder::new(
        codec,
        BuilderOptions {
            base_offset: header.base_offset,
            leader_epoch: header.leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
            log_append_time: header.attributes.is_log_append_time().then_some(header.max_timestamp),
            delete_horizon: header.delete_horizon(),
            compression_level: level,
            capacity: HEADER_SIZE + records.body().len(),
        },
    );
    for record in &records {
        let record = record?;
        builder.append(record.timestamp, record.key, record.value, record.headers)?;
    }
    builder.build()
}
