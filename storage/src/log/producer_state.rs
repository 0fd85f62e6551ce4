//! What a partition remembers of its producers, so that a repeated batch is recognised and a gap refused, and the
//! snapshots that carry it over a restart.
//!
//! Per producer: epoch, the last five batches, the open transaction's first offset, the coordinator's epoch. A snapshot
//! (`<offset>.snapshot`) holds of the batches only the last: version 1, CRC-32C of what follows, count, 46-byte entries.
//!
//! Knows batch headers and markers; no files. Changed by the one appender only.

use base::hash::HashMap;
use base::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use protocol::record::{BatchHeader, EndTransactionMarker, increment_sequence};

use super::types::{AppendError, AppendErrorKind, ProducerInfo};

/// How many batches of a producer are remembered.
const BATCHES_MAX: usize = 5;
const ENTRY_SIZE: usize = 46;
const SNAPSHOT_HEAD: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchMemory {
    last_sequence: Sequence,
    last_offset: Offset,
    offset_delta: i32,
    timestamp: Timestamp,
}

impl BatchMemory {
    fn first_sequence(&self) -> Sequence {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        if first < 0 { (first + i64::from(i32::MAX) + 1) as Sequence } else { first as Sequence }
    }
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: Timestamp,
    transaction_first: Option<Offset>,
    /// Markers since the log was opened.
    markers: u32,
    batches: [BatchMemory; BATCHES_MAX],
    batch_count: usize,
}

impl Producer {
    fn new() -> Self {
        let none = BatchMemory { last_sequence: -1, last_offset: -1, offset_delta: 0, timestamp: -1 };
        Self {
            epoch: -1,
            coordinator_epoch: -1,
            last_timestamp: -1,
            transaction_first: None,
            markers: 0,
            batches: [none; BATCHES_MAX],
            batch_count: 0,
        }
    }

    fn batches(&self) -> &[BatchMemory] {
        &self.batches[..self.batch_count]
    }

    fn last(&self) -> Option<&BatchMemory> {
        self.batches().last()
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batch_count = 0;
        }
    }

    fn push(&mut self, batch: BatchMemory) {
        if self.batch_count == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.batch_count -= 1;
        }
        self.batches[self.batch_count] = batch;
        self.batch_count += 1;
    }
}

/// The first appearance of a repeated batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) base_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) timestamp: Timestamp,
}

/// What an append did to the partition's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionChange {
    Began { first_offset: Offset },
    Ended { producer_id: ProducerId, first_offset: Offset, marker_offset: Offset, aborted: bool },
}

/// All producers of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<ProducerId, Producer>,
}

fn refuse<T>(kind: AppendErrorKind, message: String) -> Result<T, AppendError> {
    Err(AppendError::new(kind, message))
}

impl Producers {
    /// Checks a client's batch against what is known; a repeated one is answered with its first appearance.
    pub(super) fn check(
        &self,
        header: &BatchHeader,
        transaction_version: i16,
    ) -> Result<Option<Duplicate>, AppendError> {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let Some(producer) = self.by_id.get(&id) else {
            if transaction_version >= 2 && header.attributes.is_transactional() && header.base_sequence != 0 {
                return refuse(
                    AppendErrorKind::OutOfOrderSequence,
                    format!(
                        "Invalid sequence number {} of producer {id}, of whom nothing is known; expected 0",
                        header.base_sequence
                    ),
                );
            }
            return Ok(None);
        };
        if epoch == producer.epoch {
            let repeated = producer.batches().iter().find(|batch| {
                batch.first_sequence() == header.base_sequence && batch.last_sequence == header.last_sequence()
            });
            if let Some(batch) = repeated {
                return Ok(Some(Duplicate {
                    base_offset: batch.last_offset - i64::from(batch.offset_delta),
                    last_offset: batch.last_offset,
                    timestamp: batch.timestamp,
                }));
            }
        }
        self.check_epoch(header)?;
        if epoch > producer.epoch {
            if header.base_sequence != 0 && producer.epoch != -1 {
                return refuse(
                    AppendErrorKind::OutOfOrderSequence,
                    format!(
                        "Invalid sequence number {} for new epoch {epoch} of producer {id}, whose epoch was {}; expected 0",
                        header.base_sequence, producer.epoch
                    ),
                );
            }
        } else {
            let last = producer.last().map_or(-1, |batch| batch.last_sequence);
            let expected = if last < 0 { 0 } else { increment_sequence(last, 1) };
            if header.base_sequence != expected {
                return refuse(
                    AppendErrorKind::OutOfOrderSequence,
                    format!(
                        "Out of order sequence number of producer {id}: {} (incoming), {last} (last known)",
                        header.base_sequence
                    ),
                );
            }
        }
        if producer.transaction_first.is_some() && !header.attributes.is_transactional() {
            return refuse(
                AppendErrorKind::InvalidTransactionState,
                format!("Expected transactional write from producer {id}, whose transaction is open"),
            );
        }
        Ok(None)
    }

    /// Whether the batch would begin a transaction although, since its owner asked, another one of the producer ended:
    /// what he was told of it may be over.
    pub(super) fn is_overtaken(&self, header: &BatchHeader, markers_seen: u32) -> bool {
        let (open, markers) = match self.by_id.get(&header.producer_id) {
            Some(producer) => (producer.transaction_first.is_some(), producer.markers),
            None => (false, 0),
        };
        header.attributes.is_transactional() && !open && markers != markers_seen
    }

    /// Checks the epoch alone: what a coordinator inside the broker appends.
    pub(super) fn check_epoch(&self, header: &BatchHeader) -> Result<(), AppendError> {
        match self.by_id.get(&header.producer_id) {
            Some(producer) if header.producer_epoch < producer.epoch => refuse(
                AppendErrorKind::InvalidProducerEpoch,
                format!(
                    "Epoch {} of producer {} is smaller than the last seen epoch {}",
                    header.producer_epoch, header.producer_id, producer.epoch
                ),
            ),
            _ => Ok(()),
        }
    }

    /// Checks a transaction marker.
    pub(super) fn check_marker(
        &self,
        header: &BatchHeader,
        marker: &EndTransactionMarker,
        transaction_version: i16,
    ) -> Result<(), AppendError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else { return Ok(()) };
        let epoch = header.producer_epoch;
        let repeated = epoch == producer.epoch && producer.transaction_first.is_none();
        let fenced =
            if transaction_version >= 2 { epoch <= producer.epoch && !repeated } else { epoch < producer.epoch };
        if fenced {
            return refuse(
                AppendErrorKind::InvalidProducerEpoch,
                format!(
                    "Epoch {epoch} of the marker for producer {} does not follow the last seen epoch {}",
                    header.producer_id, producer.epoch
                ),
            );
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return refuse(
                AppendErrorKind::TransactionCoordinatorFenced,
                format!(
                    "Coordinator epoch {} of the marker for producer {} is smaller than the last seen {}",
                    marker.coordinator_epoch, header.producer_id, producer.coordinator_epoch
                ),
            );
        }
        Ok(())
    }

    /// Records a data batch with a producer id.
    pub(super) fn record(&mut self, header: &BatchHeader) -> Option<TransactionChange> {
        let producer = self.by_id.entry(header.producer_id).or_insert_with(Producer::new);
        producer.set_epoch(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        producer.push(BatchMemory {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        if header.attributes.is_transactional() && producer.transaction_first.is_none() {
            producer.transaction_first = Some(header.base_offset);
            return Some(TransactionChange::Began { first_offset: header.base_offset });
        }
        None
    }

    /// Records a transaction marker.
    pub(super) fn record_marker(
        &mut self,
        header: &BatchHeader,
        marker: &EndTransactionMarker,
    ) -> Option<TransactionChange> {
        let producer = self.by_id.entry(header.producer_id).or_insert_with(Producer::new);
        producer.set_epoch(header.producer_epoch);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.markers = producer.markers.wrapping_add(1);
        producer.last_timestamp = header.max_timestamp;
        producer.transaction_first.take().map(|first_offset| TransactionChange::Ended {
            producer_id: header.producer_id,
            first_offset,
            marker_offset: header.base_offset,
            aborted: !marker.committed,
        })
    }

    /// First offsets of all open transactions.
    pub(super) fn open_transactions(&self) -> impl Iterator<Item = Offset> {
        self.by_id.values().filter_map(|producer| producer.transaction_first)
    }

    /// Forgets producers without an open transaction that were silent since before `before`.
    pub(super) fn expire(&mut self, before: Timestamp) -> usize {
        let count = self.by_id.len();
        self.by_id.retain(|_, producer| producer.transaction_first.is_some() || producer.last_timestamp >= before);
        count - self.by_id.len()
    }

    pub(super) fn info(&self, producer_id: ProducerId) -> Option<ProducerInfo> {
        self.by_id.get(&producer_id).map(|producer| ProducerInfo {
            producer_id,
            producer_epoch: producer.epoch,
            last_sequence: producer.last().map_or(-1, |batch| batch.last_sequence),
            last_offset: producer.last().map_or(-1, |batch| batch.last_offset),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            current_transaction_first_offset: producer.transaction_first.unwrap_or(-1),
            markers: producer.markers,
        })
    }

    /// All producers, by id.
    pub(super) fn infos(&self) -> Vec<ProducerInfo> {
        let mut infos: Vec<_> = self.by_id.keys().filter_map(|id| self.info(*id)).collect();
        infos.sort_unstable_by_key(|info| info.producer_id);
        infos
    }

    /// The content of a snapshot file.
    pub(super) fn to_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SNAPSHOT_HEAD + self.by_id.len() * ENTRY_SIZE);
        bytes.extend_from_slice(&1i16.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(self.by_id.len() as i32).to_be_bytes());
        for info in self.infos() {
            let delta =
                self.by_id.get(&info.producer_id).and_then(Producer::last).map_or(0, |batch| batch.offset_delta);
            bytes.extend_from_slice(&info.producer_id.to_be_bytes());
            bytes.extend_from_slice(&info.producer_epoch.to_be_bytes());
            bytes.extend_from_slice(&info.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&info.last_offset.to_be_bytes());
            bytes.extend_from_slice(&delta.to_be_bytes());
            bytes.extend_from_slice(&info.last_timestamp.to_be_bytes());
            bytes.extend_from_slice(&info.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&info.current_transaction_first_offset.to_be_bytes());
        }
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a snapshot file; the error says what is wrong with it.
    pub(super) fn from_snapshot(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader(bytes);
        if reader.take::<2>().map(i16::from_be_bytes) != Some(1) {
            return Err("unknown version");
        }
        let crc = reader.take::<4>().map(u32::from_be_bytes).ok_or("too short")?;
        if crc != crc32c(reader.0) {
            return Err("wrong checksum");
        }
        let count = reader.take::<4>().map(i32::from_be_bytes).ok_or("too short")?;
        let mut producers = Self::default();
        for _ in 0..count {
            let (id, producer) = reader.producer().ok_or("too short")?;
            producers.by_id.insert(id, producer);
        }
        Ok(producers)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn producer(&mut self) -> Option<(ProducerId, Producer)> {
        let id = i64::from_be_bytes(self.take()?);
        let mut producer = Producer::new();
        producer.epoch = i16::from_be_bytes(self.take()?);
        let last_sequence = i32::from_be_bytes(self.take()?);
        let last_offset = i64::from_be_bytes(self.take()?);
        let offset_delta = i32::from_be_bytes(self.take()?);
        let timestamp = i64::from_be_bytes(self.take()?);
        producer.last_timestamp = timestamp;
        producer.coordinator_epoch = i32::from_be_bytes(self.take()?);
        let first = i64::from_be_bytes(self.take()?);
        producer.transaction_first = (first >= 0).then_some(first);
        if last_offset >= 0 {
            producer.push(BatchMemory { last_sequence, last_offset, offset_delta, timestamp });
        }
        Some((id, producer))
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    // The batch checksum covers everything from byte 21 on; there is one implementation of it in the workspace.
    let mut padded = vec![0; 21];
    padded.extend_from_slice(bytes);
    protocol::record::crc_of(&padded)
}
