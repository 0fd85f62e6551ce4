//! What the coordinators share: the shards of a coordinator, one for each partition of the topic that has its state, each behind one lock; when
//! they are stepped; and how they are read from the log.
//!
//! Nothing here knows what a shard holds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::{Now, Offset, PartitionId};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::api::ErrorCode;
use protocol::record::{RecordBatch, batches};

/// How long a shard that could not be read is left alone.
const RETRY_MS: i64 = 1_000;

/// One shard.
pub struct Cell<S, E> {
    /// Its partition of the topic.
    pub partition: PartitionId,
    /// The shard, and what waits for it.
    pub state: Mutex<S>,
    /// What has come back and the shard has not heard of yet.
    pub events: Mutex<VecDeque<E>>,
    /// When it wants to be stepped, in ticks; `i64::MIN` before it is loaded.
    pub wake: AtomicI64,
}

/// All shards of one coordinator; they are made as they are asked for.
pub struct Cells<S, E>(RwLock<Vec<Arc<Cell<S, E>>>>);

impl<S, E> Default for Cells<S, E> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<S: Default, E> Cells<S, E> {
    /// The shard of a partition, of `partitions` that the topic has.
    pub fn of(&self, index: PartitionId, partitions: i32) -> Arc<Cell<S, E>> {
        let at = usize::try_from(index).unwrap_or(0);
        if let Some(cell) = self.0.read().get(at) {
            return Arc::clone(cell);
        }
        let mut cells = self.0.write();
        for partition in cells.len() as i32..partitions.max(index + 1) {
            cells.push(Arc::new(Cell {
                partition,
                state: Mutex::default(),
                events: Mutex::default(),
                wake: AtomicI64::new(i64::MIN),
            }));
        }
        Arc::clone(&cells[at])
    }

    /// Forgets all shards, and whoever waits for them.
    pub fn close(&self) {
        let cells = std::mem::take(&mut *self.0.write());
        drop(cells); // without the lock: requests that are dropped answer
    }

    /// Has `step` work on each shard that is due at `now`; one is loaded per call. Returns whether something was done, and when to call next,
    /// in ticks. `topic` is named when a shard cannot be read.
    pub fn step(
        &self,
        topic: &str,
        partitions: i32,
        now: Now,
        mut step: impl FnMut(&Arc<Cell<S, E>>) -> Result<(), ErrorCode>,
    ) -> (bool, Option<i64>) {
        let (mut tried, mut worked) = (false, false);
        let mut next: Option<i64> = None;
        let mut at = |ticks_ms: i64| next = Some(next.map_or(ticks_ms, |next| next.min(ticks_ms)));
        for index in 0..partitions {
            let cell = self.of(index, partitions);
            let wake = cell.wake.load(Ordering::Acquire);
            if wake <= now.ticks_ms && !(tried && wake == i64::MIN) {
                tried = true;
                if let Err(error) = step(&cell) {
                    tracing::warn!(partition = index, error = error.name(), "cannot load {topic}");
                    at(now.ticks_ms + RETRY_MS);
                    continue;
                }
                worked = true;
            }
            let wake = cell.wake.load(Ordering::Acquire);
            if wake != i64::MAX {
                at(wake.max(now.ticks_ms));
            }
        }
        (worked, next)
    }
}

/// When the broker has last been asked to step the coordinator for a shard, in ticks.
#[derive(Default)]
pub struct Alarm(Option<i64>);

impl Alarm {
    /// Whether the broker must be asked to step at `wake`. Deadlines come and go with every request: an alarm that is still to ring is enough.
    pub fn arm(&mut self, wake: i64, now: Now) -> bool {
        let armed = self.0.is_some_and(|at| at > now.ticks_ms && at <= wake);
        if wake == i64::MAX || armed {
            return false;
        }
        self.0 = Some(wake);
        true
    }
}

/// What a client is told when a record could not be written, as in Kafka.
pub fn answer_code(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}

/// Hands every batch of a partition of `topic` to `replay`, in order; `read` gives those from an offset on, none at the end.
///
/// # Errors
/// Those of `read`; `KafkaStorageError` if a batch is corrupt.
pub fn replay_all(
    topic: &str,
    partition: PartitionId,
    read: impl Fn(Offset) -> Result<Bytes, ErrorCode>,
    mut replay: impl FnMut(&RecordBatch),
) -> Result<(), ErrorCode> {
    let mut next: Offset = 0;
    loop {
        let bytes = read(next)?;
        let before = next;
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| {
                tracing::error!(partition, offset = next, %error, "{topic} is corrupt");
                ErrorCode::KafkaStorageError
            })?;
            if batch.header().last_offset() >= next {
                replay(&batch);
                next = batch.header().next_offset();
            }
        }
        if next == before {
            return Ok(());
        }
    }
}
