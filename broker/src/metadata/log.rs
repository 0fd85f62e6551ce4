//! The metadata log: changes are appended to `__cluster_metadata-0` and take effect once committed.
//!
//! Two images are kept. `head` has every record that was appended; changes are checked against it, one after the
//! other. `current` has every record that is committed (below the high watermark, so safe at the chosen durability);
//! requests are answered from it, and nobody acts on a topic that a power cut may still take back.
//!
//! Locks, in this order: `head`, `apply`, `pending`, `current`. Callbacks run without any of them.

use std::collections::VecDeque;
use std::sync::Arc;

use base::{Now, Offset, TopicPartition};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::api::{ErrorCode, Pieces};
use protocol::record::{self, BatchBuilder, BuilderOptions, Compression, HeadersRef};
use storage::log::{AppendOptions, LogConfig, LogDirectory, PartitionLog};
use uuid::Uuid;

use super::image::MetadataImage;
use super::records::MetadataRecord;
use super::replay;
use crate::error::BrokerError;

/// Name of the metadata log's topic; no client sees it.
pub const METADATA_TOPIC: &str = "__cluster_metadata";
/// Kafka's fixed id of that topic.
pub const METADATA_TOPIC_ID: Uuid = Uuid::from_u128(1);
const LEADER_EPOCH: i32 = 1;

type Done = Box<dyn FnOnce(Result<(), ErrorCode>) + Send>;

struct Pending {
    end_offset: Offset,
    records: Vec<MetadataRecord>,
    image: Arc<MetadataImage>,
    done: Done,
}

/// See the module.
pub struct MetadataLog {
    log: Arc<PartitionLog>,
    leader_epoch: i32,
    left_open: bool,
    head: Mutex<MetadataImage>,
    apply: Mutex<()>,
    pending: Mutex<VecDeque<Pending>>,
    current: RwLock<Arc<MetadataImage>>,
}

impl MetadataLog {
    /// Opens the log in `directory` and replays it.
    ///
    /// # Errors
    /// The log cannot be read, or holds a record this broker does not know (it is named).
    pub fn open(directory: &LogDirectory) -> Result<Self, BrokerError> {
        let partition = TopicPartition::new(METADATA_TOPIC, 0);
        let config = LogConfig { retention_ms: -1, retention_bytes: -1, ..LogConfig::default() };
        let log = directory
            .create_partition(&partition, METADATA_TOPIC_ID, config)
            .map_err(|error| BrokerError::Storage(format!("cannot open the metadata log: {error}")))?;
        let replay = replay::replay(directory, &partition, &log)?;
        let (left_open, image) = (replay.is_inside_transaction(), replay.image);
        // A quorum's log has terms of its own; ours go on from there.
        let leader_epoch = match log.latest_leader_epoch() {
            known if known <= LEADER_EPOCH => LEADER_EPOCH,
            known => known + 1,
        };
        Ok(Self {
            log,
            leader_epoch,
            left_open,
            head: Mutex::new(image.clone()),
            apply: Mutex::new(()),
            pending: Mutex::default(),
            current: RwLock::new(Arc::new(image)),
        })
    }

    /// Whether what was read ends inside a metadata transaction, which must be aborted before anything else is written.
    pub fn ends_inside_transaction(&self) -> bool {
        self.left_open
    }

    /// The term in which this broker appends.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The log itself, to be told when it advances.
    pub fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }

    /// What is committed.
    pub fn current(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.current.read())
    }

    /// What is appended; for checks before a change that is not made (`validate_only`).
    pub fn with_head<R>(&self, look: impl FnOnce(&MetadataImage) -> R) -> R {
        look(&self.head.lock())
    }

    /// Makes a change: `build` sees everything appended so far and says which records to append and what to hand back;
    /// `done` runs once they are committed (at once when there are none). The caller then calls [`MetadataLog::commit`].
    pub fn change<R>(
        &self,
        now: Now,
        build: impl FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, R),
        done: impl FnOnce(Result<(), ErrorCode>) + Send + 'static,
    ) -> R {
        let mut head = self.head.lock();
        let (records, result) = build(&head);
        if records.is_empty() {
            drop(head);
            done(Ok(()));
            return result;
        }
        let mut next = head.clone();
        let fits = records.iter().try_for_each(|record| next.apply(record));
        let appended = match fits {
            Ok(()) => self.append(&records, now),
            Err(error) => {
                tracing::error!("refused a metadata change: {error}");
                Err(ErrorCode::UnknownServerError)
            }
        };
        match appended {
            Ok(end_offset) => {
                *head = next.clone();
                let change = Pending { end_offset, records, image: Arc::new(next), done: Box::new(done) };
                self.pending.lock().push_back(change);
            }
            Err(code) => {
                drop(head);
                done(Err(code));
            }
        }
        result
    }

    fn append(&self, records: &[MetadataRecord], now: Now) -> Result<Offset, ErrorCode> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!("the metadata log failed: {error}");
            ErrorCode::KafkaStorageError
        };
        let batch = encode(records, now).map_err(|error| failed(&error))?;
        let info = self
            .log
            .append(&Pieces::from(batch), AppendOptions::coordinator(self.leader_epoch, now))
            .map_err(|error| failed(&error))?;
        Ok(info.last_offset + 1)
    }

    /// Puts into effect what has been committed: hands each change's records and new image to `effect`, in order, then
    /// publishes the image, then tells those who wait. Called whenever the log advances and after each change.
    pub fn commit(&self, effect: impl Fn(&[MetadataRecord], &MetadataImage)) {
        let mut finished: Vec<(Done, Result<(), ErrorCode>)> = Vec::new();
        {
            let _one_at_a_time = self.apply.lock();
            loop {
                let high_watermark = self.log.offsets().high_watermark;
                let mut pending = self.pending.lock();
                match pending.front() {
                    Some(change) if change.end_offset <= high_watermark => {}
                    Some(_) if self.log.failure().is_some() => {
                        let lost = pending.drain(..).map(|change| (change.done, Err(ErrorCode::KafkaStorageError)));
                        finished.extend(lost);
                        break;
                    }
                    _ => break,
                }
                let Some(change) = pending.pop_front() else { break };
                drop(pending);
                effect(&change.records, &change.image);
                *self.current.write() = change.image;
                finished.push((change.done, Ok(())));
            }
        }
        for (done, result) in finished {
            done(result);
        }
    }
}

fn encode(records: &[MetadataRecord], now: Now) -> Result<Bytes, record::RecordError> {
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    for record in records {
        builder.append(now.wall_ms, None, Some(&record.encode()), HeadersRef::EMPTY)?;
    }
    builder.build()
}
