//! What the tests of the log share: a data directory on a simulated disk, and batches to append.

use std::path::Path;
use std::sync::Arc;

use base::{Clock, ManualClock, Offset, Rng, TopicPartition};
use bytes::Bytes;
use protocol::api::Pieces;
use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef, RecordView, batches};
use storage::files::{Files, SimFiles};
use storage::log::{
    AppendError, AppendInfo, AppendOptions, Durability, LogConfig, LogDirectory, LogDirectoryOptions, LogError,
    PartitionLog, ReadLimit,
};
use uuid::Uuid;

pub const START_MS: i64 = 1_700_000_000_000;

/// A machine with a simulated disk on which a data directory is opened, closed and crashed.
pub struct Machine {
    pub files: SimFiles,
    pub clock: Arc<ManualClock>,
    pub durability: Durability,
    pub config: Vec<(&'static str, &'static str)>,
    pub tail_bytes: usize,
}

impl Machine {
    pub fn new(durability: Durability) -> Self {
        let clock = ManualClock::new(START_MS);
        let files = SimFiles::new(Arc::clone(&clock) as Arc<dyn Clock>);
        Self { files, clock, durability, config: Vec::new(), tail_bytes: 1 << 20 }
    }

    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.config.push((name, value));
        self
    }

    pub fn options(&self) -> LogDirectoryOptions {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        LogDirectoryOptions {
            durability: self.durability,
            tail_partition_bytes: self.tail_bytes,
            tail_total_bytes: self.tail_bytes,
            ..LogDirectoryOptions::new(clock, Rng::from_seed(1))
        }
    }

    pub fn try_open(&self) -> Result<LogDirectory, LogError> {
        LogDirectory::open(Arc::new(self.files.clone()), "/data", self.options())
    }

    pub fn open(&self) -> LogDirectory {
        self.try_open().unwrap()
    }

    pub fn log_config(&self) -> LogConfig {
        LogConfig::from_map(self.config.iter().copied()).unwrap()
    }

    pub fn partition(&self, directory: &LogDirectory) -> Arc<PartitionLog> {
        directory.create_partition(&partition(), Uuid::from_u128(7), self.log_config()).unwrap()
    }

    pub fn append(&self, log: &PartitionLog, batch: Bytes) -> Result<AppendInfo, AppendError> {
        log.append(&Pieces::from(batch), AppendOptions::client(0, self.clock.now()))
    }

    pub fn coordinator_append(&self, log: &PartitionLog, batch: Bytes) -> Result<AppendInfo, AppendError> {
        log.append(&Pieces::from(batch), AppendOptions::coordinator(0, self.clock.now()))
    }

    /// Names of the files of the partition.
    pub fn names(&self) -> Vec<String> {
        let entries = self.files.list(Path::new("/data/orders-0")).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

pub fn partition() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// A producer's batch: `(key, value)` records stamped from `START_MS` on.
pub fn batch(records: &[(&str, &str)]) -> Bytes {
    batch_with(BuilderOptions::default(), START_MS, records)
}

pub fn batch_with(options: BuilderOptions, timestamp: i64, records: &[(&str, &str)]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, options);
    for (index, (key, value)) in records.iter().enumerate() {
        let key = (!key.is_empty()).then_some(key.as_bytes());
        let value = (*value != "null").then_some(value.as_bytes());
        builder.append(timestamp + index as i64, key, value, HeadersRef::EMPTY).unwrap();
    }
    builder.build().unwrap()
}

/// A batch of a producer: id, epoch, first sequence.
pub fn producer(id: i64, epoch: i16, base_sequence: i32) -> BuilderOptions {
    BuilderOptions { producer_id: id, producer_epoch: epoch, base_sequence, ..BuilderOptions::default() }
}

/// The same in a transaction.
pub fn transactional(id: i64, epoch: i16, base_sequence: i32) -> BuilderOptions {
    BuilderOptions { transactional: true, ..producer(id, epoch, base_sequence) }
}

pub fn marker(id: i64, epoch: i16, committed: bool, timestamp: i64) -> Bytes {
    marker_of_coordinator(id, epoch, committed, timestamp, 0)
}

pub fn marker_of_coordinator(id: i64, epoch: i16, committed: bool, timestamp: i64, coordinator_epoch: i32) -> Bytes {
    let marker = protocol::record::EndTransactionMarker { committed, coordinator_epoch };
    let options = BuilderOptions {
        producer_id: id,
        producer_epoch: epoch,
        transactional: true,
        control: true,
        ..BuilderOptions::default()
    };
    let mut builder = BatchBuilder::new(Compression::None, options);
    let (key, value) = (marker.control_type().to_key(), marker.to_value());
    builder.append(timestamp, Some(&key[..]), Some(&value[..]), HeadersRef::EMPTY).unwrap();
    builder.build().unwrap()
}

/// All records that a reader sees, as `offset:key=value`.
pub fn records(log: &PartitionLog, limit: ReadLimit) -> Vec<String> {
    records_from(log, log.offsets().log_start, limit, 1 << 20)
}

pub fn records_from(log: &PartitionLog, from: Offset, limit: ReadLimit, max_bytes: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut next = from;
    loop {
        let read = log.read(next, max_bytes, limit, true).unwrap();
        let bytes = read.records.to_bytes().unwrap();
        if bytes.is_empty() {
            return seen;
        }
        seen.extend(records_of(&bytes, next));
        next = batches(&bytes).last().unwrap().unwrap().header().next_offset();
    }
}

/// The data records of whole batches from an offset on, as `offset:key=value`.
pub fn records_of(bytes: &Bytes, from: Offset) -> Vec<String> {
    let mut seen = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        let records = batch.records().unwrap();
        for record in &records {
            let record = record.unwrap();
            if record.offset >= from && !batch.header().attributes.is_control() {
                seen.push(text_of(&record));
            }
        }
    }
    seen
}

fn text_of(record: &RecordView<'_>) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map_or("null".into(), |b| String::from_utf8_lossy(b).into_owned());
    format!("{}:{}={}", record.offset, text(record.key), text(record.value))
}

/// What a client that reads only what was committed sees, as [`records`].
pub fn visible(log: &PartitionLog) -> Vec<String> {
    let mut seen = Vec::new();
    let mut next = log.offsets().log_start;
    loop {
        let read = log.read(next, 1 << 20, ReadLimit::LastStable, true).unwrap();
        let bytes = read.records.to_bytes().unwrap();
        if bytes.is_empty() {
            return seen;
        }
        let mut aborted = read.aborted.unwrap();
        let mut void = Vec::new();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            let header = *batch.header();
            next = header.next_offset();
            aborted.retain(|one| {
                let begun = one.first_offset <= header.last_offset();
                if begun {
                    void.push(one.producer_id);
                }
                !begun
            });
            if header.attributes.is_control() {
                void.retain(|producer| *producer != header.producer_id);
                continue;
            }
            if header.attributes.is_transactional() && void.contains(&header.producer_id) {
                continue;
            }
            let records = batch.records().unwrap();
            for record in &records {
                seen.push(text_of(&record.unwrap()));
            }
        }
    }
}
