//! Appending: checks, offset assignment, roll, write, and what an append changes besides the file.
//!
//! Once per batch: one vectored write of the patched 61-byte head and the untouched body, and no lock that a reader
//! holds during I/O. The batch is written anew only where the topic's codec differs or inner offsets have gaps.

use std::sync::Arc;

use base::Timestamp;
use bytes::Bytes;
use protocol::api::{ErrorCode, Pieces};
use protocol::record::{
    BatchHeader, Compression, Control, DEFAULT_DECOMPRESSED_LIMIT, EndTransactionMarker, HEADER_SIZE, ProduceRules,
    RecordBatch, RecordError, Rejection, TimePatch, TimestampRule, parse_control, patch_for_append, rebuild,
    validate_for_produce,
};

use super::config::{CompressionType, LogConfig, TimestampType};
use super::partition::{PartitionLog, Writer};
use super::segment::Segment;
use super::types::{AppendError, AppendErrorKind, AppendInfo, AppendOptions, Durability, Origin};
use crate::error::StorageError;

/// A batch that passed every check that needs no state of the log.
struct Incoming {
    batch: RecordBatch,
    time: Option<TimePatch>,
    marker: Option<EndTransactionMarker>,
}

impl From<Rejection> for AppendError {
    fn from(rejection: Rejection) -> Self {
        let kind = match rejection.code {
            ErrorCode::CorruptMessage => AppendErrorKind::CorruptMessage,
            ErrorCode::MessageTooLarge => AppendErrorKind::MessageTooLarge,
            ErrorCode::RecordListTooLarge => AppendErrorKind::RecordListTooLarge,
            ErrorCode::InvalidTimestamp => AppendErrorKind::InvalidTimestamp,
            ErrorCode::UnsupportedCompressionType => AppendErrorKind::UnsupportedCompression,
            ErrorCode::InvalidRecord => AppendErrorKind::InvalidRecord,
            _ => AppendErrorKind::Unknown,
        };
        Self { kind, message: rejection.message, record_errors: rejection.record_errors }
    }
}

impl From<RecordError> for AppendError {
    fn from(error: RecordError) -> Self {
        Rejection::from(error).into()
    }
}

/// The marker in a control batch; `None` for a control batch of another kind, or one that compaction emptied.
pub(super) fn marker_of(batch: &RecordBatch) -> Result<Option<EndTransactionMarker>, RecordError> {
    if !batch.header().attributes.is_control() {
        return Ok(None);
    }
    let records = batch.records()?;
    let Some(record) = records.iter().next() else { return Ok(None) };
    let record = record?;
    match parse_control(record.key, record.value)? {
        Control::EndTransaction(marker) => Ok(Some(marker)),
        Control::Other(_) => Ok(None),
    }
}

fn produce_rules(config: &LogConfig, now_ms: Timestamp) -> ProduceRules {
    ProduceRules {
        max_message_bytes: config.max_message_bytes as usize,
        compacted: config.cleanup_policy.compact,
        timestamps: match config.message_timestamp_type {
            TimestampType::CreateTime => TimestampRule::CreateTime {
                now: now_ms,
                before_max_ms: config.message_timestamp_before_max_ms,
                after_max_ms: config.message_timestamp_after_max_ms,
            },
            TimestampType::LogAppendTime => TimestampRule::LogAppendTime { now: now_ms },
        },
        compression: match config.compression_type {
            CompressionType::Producer => None,
            CompressionType::Uncompressed => Some(Compression::None),
            CompressionType::Gzip => Some(Compression::Gzip),
            CompressionType::Snappy => Some(Compression::Snappy),
            CompressionType::Lz4 => Some(Compression::Lz4),
            CompressionType::Zstd => Some(Compression::Zstd),
        },
        decompressed_limit: DEFAULT_DECOMPRESSED_LIMIT,
    }
}

fn from_client(bytes: &Bytes, config: &LogConfig, now_ms: Timestamp) -> Result<Incoming, AppendError> {
    let (mut batch, validated) = validate_for_produce(bytes, &produce_rules(config, now_ms))?;
    if let Some(codec) = validated.rebuild {
        batch = RecordBatch::new(rebuild(&batch, codec, level_of(codec, config), DEFAULT_DECOMPRESSED_LIMIT)?)?;
        if batch.bytes().len() > config.max_message_bytes as usize {
            let message = format!(
                "The record batch size after conversion is {} bytes, the maximum configured value {}.",
                batch.bytes().len(),
                config.max_message_bytes
            );
            return Err(AppendError::new(AppendErrorKind::MessageTooLarge, message));
        }
    }
    Ok(Incoming { batch, time: validated.time, marker: None })
}

/// The topic's level of a codec that has levels here.
fn level_of(codec: Compression, config: &LogConfig) -> Option<i32> {
    match codec {
        Compression::Gzip => Some(config.compression_gzip_level),
        Compression::Zstd => Some(config.compression_zstd_level),
        Compression::None | Compression::Snappy | Compression::Lz4 => None,
    }
}

fn from_coordinator(batch: RecordBatch, config: &LogConfig, now_ms: Timestamp) -> Result<Incoming, AppendError> {
    let marker = marker_of(&batch)?;
    let time = match config.message_timestamp_type {
        TimestampType::LogAppendTime if marker.is_none() => {
            Some(TimePatch { timestamp_type: protocol::record::TimestampType::LogAppendTime, max_timestamp: now_ms })
        }
        _ => None,
    };
    Ok(Incoming { batch, time, marker })
}

fn check_not_overtaken(writer: &Writer, header: &BatchHeader, options: AppendOptions) -> Result<(), AppendError> {
    if options.markers_seen.is_some_and(|seen| writer.producers.is_overtaken(header, seen)) {
        let message = format!("the transaction of producer {} has ended meanwhile", header.producer_id);
        return Err(AppendError::new(AppendErrorKind::TransactionOvertaken, message));
    }
    Ok(())
}

fn from_leader(batch: RecordBatch) -> Result<Incoming, AppendError> {
    batch.verify_crc()?;
    let marker = marker_of(&batch)?;
    Ok(Incoming { batch, time: None, marker })
}

impl PartitionLog {
    /// Appends one batch (`Client`) or several (`Coordinator`, `Replica`).
    ///
    /// On return it is readable up to [`ReadLimit::LogEnd`](super::ReadLimit::LogEnd). It is safe once
    /// [`LogOffsets::high_watermark`](super::LogOffsets::high_watermark) is above [`AppendInfo::last_offset`]: at once
    /// under `Process`, after the flusher's next step under `Power`.
    ///
    /// # Errors
    /// Kafka's; nothing was written unless the kind is `Storage`.
    pub fn append(&self, records: &Pieces, options: AppendOptions) -> Result<AppendInfo, AppendError> {
        let config = self.config();
        let now_ms = options.now.wall_ms;
        let bytes = records.to_bytes().map_err(|error| StorageError::io("read", &self.folder, &error))?;
        if options.origin == Origin::Client {
            let incoming = from_client(&bytes, &config, now_ms)?;
            return self.append_all(&[incoming], options, &config);
        }
        let mut incoming = Vec::new();
        let mut batches = protocol::record::batches(&bytes);
        for batch in &mut batches {
            let batch = batch?;
            incoming.push(match options.origin {
                Origin::Replica => from_leader(batch)?,
                _ => from_coordinator(batch, &config, now_ms)?,
            });
        }
        if incoming.is_empty() || batches.remaining() > 0 && options.origin == Origin::Coordinator {
            return Err(AppendError::new(AppendErrorKind::InvalidRecord, "not a sequence of whole record batches"));
        }
        self.append_all(&incoming, options, &config)
    }

    fn append_all(
        &self,
        incoming: &[Incoming],
        options: AppendOptions,
        config: &LogConfig,
    ) -> Result<AppendInfo, AppendError> {
        let mut advanced = false;
        let result = {
            let mut writer = self.writer.lock();
            self.append_locked(&mut writer, incoming, options, config, &mut advanced)
        };
        if self.shared.durability == Durability::Power {
            self.queue_sync();
        }
        // Who waits for what was appended before a failure learns that it will not be synced.
        let failed = matches!(&result, Err(error) if error.kind == AppendErrorKind::Storage);
        self.notify(advanced || failed);
        result
    }

    fn append_locked(
        &self,
        writer: &mut Writer,
        incoming: &[Incoming],
        options: AppendOptions,
        config: &LogConfig,
        advanced: &mut bool,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable(writer)?;
        let latest_epoch = self.latest_leader_epoch();
        if options.origin != Origin::Replica && options.leader_epoch < latest_epoch {
            let message =
                format!("{}: leader epoch {} is older than {latest_epoch}", self.partition, options.leader_epoch);
            return Err(AppendError::new(AppendErrorKind::FencedLeaderEpoch, message));
        }
        let mut info: Option<AppendInfo> = None;
        for one in incoming {
            let next = self.append_one(writer, one, options, config, advanced)?;
            info = Some(match info {
                None => next,
                Some(first) => AppendInfo { last_offset: next.last_offset, ..first },
            });
        }
        info.ok_or_else(|| AppendError::new(AppendErrorKind::InvalidRecord, "no batch"))
    }

    fn append_one(
        &self,
        writer: &mut Writer,
        incoming: &Incoming,
        options: AppendOptions,
        config: &LogConfig,
        advanced: &mut bool,
    ) -> Result<AppendInfo, AppendError> {
        let batch = &incoming.batch;
        let sent = batch.header();
        if batch.bytes().len() > config.segment_bytes as usize && options.origin != Origin::Replica {
            let message = format!(
                "Message batch size is {} bytes in append to partition {}, which exceeds the maximum configured \
                 segment size of {}.",
                batch.bytes().len(),
                self.partition,
                config.segment_bytes
            );
            return Err(AppendError::new(AppendErrorKind::RecordListTooLarge, message));
        }
        let offsets = self.offsets();
        // Header and body as they will be in the file.
        let (header, head, body) = match options.origin {
            Origin::Replica => {
                if sent.base_offset < offsets.log_end || sent.last_offset_delta < 0 {
                    let message = format!(
                        "{}: the leader's batch at {} lies before the log end {}",
                        self.partition, sent.base_offset, offsets.log_end
                    );
                    return Err(AppendError::new(AppendErrorKind::Unknown, message));
                }
                (*sent, batch.bytes().clone(), Bytes::new())
            }
            _ => {
                let head = patch_for_append(batch.bytes(), offsets.log_end, options.leader_epoch, incoming.time)?;
                (BatchHeader::read(&head)?, Bytes::copy_from_slice(&head), batch.bytes().slice(HEADER_SIZE..))
            }
        };
        if let Some(duplicate) = self.check_producer(writer, &header, incoming, options)? {
            return Ok(AppendInfo { log_start_offset: offsets.log_start, ..duplicate });
        }
        let written = self.write(writer, &header, head, body, incoming.marker, options, config);
        *advanced |= written.map_err(|error| self.fail(error))?;
        let log_append_time_ms = if header.attributes.is_log_append_time() { header.max_timestamp } else { -1 };
        Ok(AppendInfo {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time_ms,
            duplicate: false,
            log_start_offset: offsets.log_start,
        })
    }

    /// What the producers' state says about the batch: an error, or where it already is.
    fn check_producer(
        &self,
        writer: &Writer,
        header: &BatchHeader,
        incoming: &Incoming,
        options: AppendOptions,
    ) -> Result<Option<AppendInfo>, AppendError> {
        if !header.has_producer_id() {
            return Ok(None);
        }
        match options.origin {
            Origin::Replica => Ok(None),
            Origin::Coordinator => match &incoming.marker {
                Some(marker) => {
                    writer.producers.check_marker(header, marker, options.transaction_version).map(|()| None)
                }
                None => {
                    check_not_overtaken(writer, header, options)?;
                    writer.producers.check_epoch(header).map(|()| None)
                }
            },
            Origin::Client => {
                check_not_overtaken(writer, header, options)?;
                let duplicate = writer.producers.check(header, options.transaction_version)?;
                Ok(duplicate.map(|first| AppendInfo {
                    base_offset: first.base_offset,
                    last_offset: first.last_offset,
                    log_append_time_ms: first.timestamp,
                    duplicate: true,
                    log_start_offset: 0,
                }))
            }
        }
    }

    /// Writes a checked batch; whether high watermark or last stable offset moved. An error poisons the log.
    #[expect(clippy::too_many_arguments, reason = "one caller; a struct of these would only rename them")]
    fn write(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        head: Bytes,
        body: Bytes,
        marker: Option<EndTransactionMarker>,
        options: AppendOptions,
        config: &LogConfig,
    ) -> Result<bool, StorageError> {
        if !writer.created {
            self.create_folder(writer)?;
        }
        writer.dirty = true;
        let segment = self.segment_for(writer, header, options.now.wall_ms, config)?;
        if header.leader_epoch > self.latest_leader_epoch()
            && self.epochs.lock().assign(header.leader_epoch, header.base_offset)
        {
            self.write_epochs()?;
            self.queue_sync();
        }
        let size = segment
            .append(&head, &body, header, config.index_interval_bytes)
            .map_err(|error| segment.io("write", &error))?;
        if self.shared.durability == Durability::Power {
            self.mark_unsynced(segment.open_log().map_err(|error| segment.io("open", &error))?);
        }
        let change = if !header.has_producer_id() {
            None
        } else if header.attributes.is_control() {
            marker.and_then(|marker| writer.producers.record_marker(header, &marker))
        } else {
            writer.producers.record(header)
        };
        if let Some(change) = change {
            // Before readers can get past the marker.
            let aborted = self.view.read().transactions.aborted_entry(change);
            if let Some(aborted) = aborted {
                let write = || {
                    segment.txn_index.push(aborted)?;
                    segment.txn_index.file().existing()
                };
                let file = write().map_err(|error| segment.io("write the transaction index of", &error))?;
                // Otherwise synced with the whole segment, when that is rolled.
                if self.shared.durability == Durability::Power {
                    self.mark_unsynced(file);
                    self.mark_names_unsynced(false);
                }
            }
        }
        self.tail.push(header.base_offset, header.last_offset(), head, body);
        let mut view = self.view.write();
        segment.publish(size);
        view.offsets.update(|offsets| offsets.log_end = header.next_offset());
        if let Some(change) = change {
            view.transactions.apply(change);
        }
        Ok(self.advance(&mut view))
    }

    /// The segment for the batch: the active one, or a new one if it must roll.
    fn segment_for(
        &self,
        writer: &Writer,
        header: &BatchHeader,
        now_ms: Timestamp,
        config: &LogConfig,
    ) -> Result<Arc<Segment>, StorageError> {
        let active = self.view.read().active().cloned();
        let Some(active) = active else { return self.add_segment(header.base_offset, config) };
        let must_roll = active
            .must_roll(config, header.size_bytes(), header.last_offset(), header.max_timestamp, now_ms)
            .map_err(|error| active.io("read", &error))?;
        if must_roll && header.base_offset > active.base_offset {
            return self.roll(writer, header.base_offset, config);
        }
        Ok(active)
    }
}
