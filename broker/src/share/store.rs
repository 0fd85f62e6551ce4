//! Where the state of share partitions is kept: the partitions of `__share_group_state`, each read when it is first asked for, and appended to.
//!
//! A change is applied to what is in memory at once and its record appended after that, outside of the lock: records of different share
//! partitions may come in any order, and of one of them an update is only good for the snapshot that it names. A partition of the topic whose
//! log could not be appended to is read anew.

use std::sync::Arc;

use base::hash::HashMap;
use base::{Now, Offset, PartitionId, TopicPartition};
use bytes::Bytes;
use protocol::api::ErrorCode;
use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef, RecordBatch};
use storage::log::AppendInfo;

use super::records::{ShareKey, ShareRecord, Snapshot};
use super::state::{ShareStates, Write, coordinator_key};
use crate::group::environment::partition_of;
use crate::shards::{self, Cells, answer_code};
use crate::state::BrokerState;

/// The topic that the state is kept in.
pub const STATE_TOPIC: &str = "__share_group_state";

/// Told once a change is durable, or why it is not; called without locks.
pub type Done = Box<dyn FnOnce(Result<(), ErrorCode>) + Send>;

/// The states of one partition of the topic.
#[derive(Default)]
struct Shard {
    states: ShareStates,
    is_loaded: bool,
    /// Where the log has the snapshot that each state is made from; what is below all of them is of no use.
    snapshots: HashMap<ShareKey, Offset>,
}

/// What came back of an append.
enum Event {
    /// A snapshot is in the log.
    Snapshot(ShareKey, Offset),
    /// Something could not be appended: what is in memory is ahead of the log.
    Lost,
}

type Cell = shards::Cell<Shard, Event>;

/// See the module.
#[derive(Default)]
pub struct ShareStore {
    cells: Cells<Shard, Event>,
}

impl ShareStore {
    /// The state of a share partition as it is now, durable or on its way; `None` if there is none.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn read(&self, state: &Arc<BrokerState>, key: &ShareKey) -> Result<Option<Snapshot>, ErrorCode> {
        // Nobody ever wrote: no state.
        if state.topics.by_name(STATE_TOPIC).is_none() {
            return Ok(None);
        }
        let cell = self.cell_of(state, key)?;
        self.with_shard(state, &cell, |shard| shard.states.get(key).map(|kept| kept.snapshot.clone()))
    }

    /// The state of a share partition as its leader of term `leader_epoch` reads it, which from now on fences older leaders.
    ///
    /// # Errors
    /// As [`ShareStates::read_as`], and when the log cannot be read.
    pub fn read_as(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        key: &ShareKey,
        leader_epoch: i32,
    ) -> Result<Snapshot, ErrorCode> {
        let failed = Arc::new(parking_lot::Mutex::new(Ok(())));
        let told = Arc::clone(&failed);
        if state.topics.by_name(STATE_TOPIC).is_none() {
            return Err(ErrorCode::InvalidRequest);
        }
        // The term need not be durable before it is told: a leader that comes back after a crash has a later one.
        let note = move |result| *told.lock() = result;
        self.change(state, key, Box::new(note), |shard| shard.states.read_as(key, leader_epoch));
        (*failed.lock())?;
        self.read(state, key)?.ok_or(ErrorCode::InvalidRequest)
    }

    /// Makes the states of share partitions, or has them begin anew, at these start offsets; `done` is told once all are durable.
    pub fn initialize(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        parts: Vec<(ShareKey, Offset)>,
        state_epoch: i32,
        done: Done,
    ) {
        let now = state.clock.now();
        let all = All::of(parts.len(), done);
        for (key, start_offset) in parts {
            let all = Arc::clone(&all);
            self.change(state, &key, Box::new(move |result| all.settle(result)), |shard| {
                shard.states.initialize(&key, state_epoch, start_offset, now.wall_ms).map(Some)
            });
        }
    }

    /// Writes a change of a share partition's state.
    pub fn write(self: &Arc<Self>, state: &Arc<BrokerState>, key: &ShareKey, write: &Write, done: Done) {
        let now = state.clock.now();
        let updates = state.shares.config().updates_per_snapshot;
        self.change(state, key, done, |shard| shard.states.write(key, write, updates, now.wall_ms).map(Some));
    }

    /// Removes the states of share partitions.
    pub fn delete(self: &Arc<Self>, state: &Arc<BrokerState>, keys: Vec<ShareKey>, done: Done) {
        let all = All::of(keys.len(), done);
        for key in keys {
            let all = Arc::clone(&all);
            self.change(state, &key, Box::new(move |result| all.settle(result)), |shard| {
                Ok(shard.states.get(&key).map(|_| ShareRecord::Snapshot(key.clone(), None)))
            });
        }
    }

    fn cell_of(&self, state: &Arc<BrokerState>, key: &ShareKey) -> Result<Arc<Cell>, ErrorCode> {
        let entry = state.topics.by_name(STATE_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let partitions = i32::try_from(entry.partition_count()).unwrap_or(i32::MAX);
        Ok(self.cells.of(partition_of(&coordinator_key(key), partitions), partitions))
    }

    fn change(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        key: &ShareKey,
        done: Done,
        record: impl FnOnce(&Shard) -> Result<Option<ShareRecord>, ErrorCode>,
    ) {
        let found = state.ensure_internal_topic(STATE_TOPIC).and_then(|()| self.cell_of(state, key));
        let cell = match found {
            Ok(cell) => cell,
            Err(error) => return done(Err(error)),
        };
        let changed = self.with_shard(state, &cell, |shard| {
            let record = record(shard)?;
            let batch = record.as_ref().map(|record| encode(record, state.clock.now())).transpose()?;
            if let Some(record) = &record {
                shard.states.apply(record);
                if let ShareRecord::Snapshot(key, None) = record {
                    // What is gone keeps nothing in the log.
                    shard.snapshots.remove(key);
                }
            }
            Ok(record.zip(batch))
        });
        match changed.and_then(|changed| changed) {
            Ok(Some((record, batch))) => self.append(state, cell, record, batch, done),
            Ok(None) => done(Ok(())),
            Err(error) => done(Err(error)),
        }
    }

    fn append(&self, state: &Arc<BrokerState>, cell: Arc<Cell>, record: ShareRecord, batch: Bytes, done: Done) {
        let partition = TopicPartition::new(STATE_TOPIC, cell.partition);
        let stored = move |result: Result<AppendInfo, ErrorCode>| {
            match (&result, record) {
                (Ok(info), ShareRecord::Snapshot(key, Some(_))) => {
                    cell.events.lock().push_back(Event::Snapshot(key, info.base_offset));
                }
                (Ok(_), _) => {}
                (Err(_), _) => cell.events.lock().push_back(Event::Lost),
            }
            done(result.map(|_| ()).map_err(answer_code));
        };
        state.append_internal(&partition, batch, (0, None), i64::MAX, stored);
    }

    fn with_shard<R>(
        &self,
        state: &Arc<BrokerState>,
        cell: &Arc<Cell>,
        work: impl FnOnce(&mut Shard) -> R,
    ) -> Result<R, ErrorCode> {
        let mut shard = cell.state.lock();
        for event in std::mem::take(&mut *cell.events.lock()) {
            match event {
                Event::Snapshot(key, offset) if shard.states.get(&key).is_some() => {
                    let known = shard.snapshots.entry(key).or_insert(offset);
                    *known = offset.max(*known);
                }
                Event::Snapshot(..) => {}
                Event::Lost => *shard = Shard::default(),
            }
        }
        if !shard.is_loaded {
            *shard = load(state, cell.partition)?;
        }
        Ok(work(&mut shard))
    }

    /// Lets go of what no state is made from any more. The states that were not written for long are written anew before, so that one of
    /// them does not keep everything.
    pub fn prune(self: &Arc<Self>, state: &Arc<BrokerState>, now: Now) {
        let Some(entry) = state.topics.by_name(STATE_TOPIC) else { return };
        let cold_ms = state.shares.config().cold_snapshot_interval_ms;
        for partition in entry.opened() {
            let count = i32::try_from(entry.partition_count()).unwrap_or(i32::MAX);
            let cell = self.cells.of(partition.topic_partition.partition, count);
            let found = self.with_shard(state, &cell, |shard| {
                let is_cold = |snapshot: &Snapshot| now.wall_ms.saturating_sub(snapshot.written) >= cold_ms;
                let cold: Vec<(ShareKey, Snapshot)> = shard
                    .states
                    .iter()
                    .filter(|(_, kept)| kept.updates > 0 && is_cold(&kept.snapshot))
                    .map(|(key, kept)| (key.clone(), kept.snapshot.clone()))
                    .collect();
                // Every state must be known to be in the log, or nothing is let go of.
                let first = match shard.snapshots.len() == shard.states.iter().count() {
                    true => shard.snapshots.values().copied().min(),
                    false => None,
                };
                (cold, first)
            });
            let Ok((cold, first)) = found else { continue };
            for (key, snapshot) in cold {
                self.rewrite(state, key, snapshot.snapshot_epoch, now);
            }
            let first = first.filter(|first| *first > partition.offsets().log_start);
            if let Some(Err(error)) = first.map(|first| partition.log().delete_records(first)) {
                tracing::warn!("cannot let go of old records of {}: {error}", partition.topic_partition);
            }
        }
    }

    /// Writes a state that has had updates as a snapshot, unless another one came meanwhile.
    fn rewrite(self: &Arc<Self>, state: &Arc<BrokerState>, key: ShareKey, snapshot_epoch: i32, now: Now) {
        self.change(state, &key, Box::new(|_| {}), |shard| {
            let known = shard.states.get(&key).map(|kept| &kept.snapshot);
            let known = known.filter(|known| known.snapshot_epoch == snapshot_epoch).cloned();
            Ok(known.map(|known| {
                let epoch = known.snapshot_epoch.saturating_add(1);
                let snapshot = Snapshot { snapshot_epoch: epoch, written: now.wall_ms, ..known };
                ShareRecord::Snapshot(key.clone(), Some(snapshot))
            }))
        });
    }
}

/// Several changes that are answered as one: the first error, else success.
struct All {
    left: parking_lot::Mutex<(usize, Result<(), ErrorCode>, Option<Done>)>,
}

impl All {
    fn of(count: usize, done: Done) -> Arc<Self> {
        let mut done = Some(done);
        if count == 0
            && let Some(done) = done.take()
        {
            done(Ok(()));
        }
        Arc::new(Self { left: parking_lot::Mutex::new((count, Ok(()), done)) })
    }

    fn settle(&self, result: Result<(), ErrorCode>) {
        let (result, done) = {
            let mut left = self.left.lock();
            left.0 = left.0.saturating_sub(1);
            left.1 = left.1.and(result);
            (left.1, if left.0 == 0 { left.2.take() } else { None })
        };
        if let Some(done) = done {
            done(result);
        }
    }
}

fn encode(record: &ShareRecord, now: Now) -> Result<Bytes, ErrorCode> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, "cannot write the state of a share partition");
        ErrorCode::UnknownServerError
    };
    let (key, value) = record.encode().map_err(|error| failed(&error))?;
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    builder.append(now.wall_ms, Some(&key), value.as_deref(), HeadersRef::EMPTY).map_err(|error| failed(&error))?;
    builder.build().map_err(|error| failed(&error))
}

/// Reads a partition of the topic.
fn load(state: &Arc<BrokerState>, partition: PartitionId) -> Result<Shard, ErrorCode> {
    let mut shard = Shard { is_loaded: true, ..Shard::default() };
    let read = |from| state.read_internal(&TopicPartition::new(STATE_TOPIC, partition), from);
    shards::replay_all(STATE_TOPIC, partition, read, |batch| replay(&mut shard, batch))?;
    Ok(shard)
}

fn replay(shard: &mut Shard, batch: &RecordBatch) {
    let skip = |offset: Offset, error: &dyn std::fmt::Display| {
        tracing::warn!(offset, %error, "a record of {STATE_TOPIC} cannot be read and is left out");
    };
    let base_offset = batch.header().base_offset;
    let records = match batch.records() {
        Ok(_) if batch.header().attributes.is_control() => return,
        Ok(records) => records,
        Err(error) => return skip(base_offset, &error),
    };
    for record in &records {
        let record = match record {
            Ok(record) => record,
            Err(error) => return skip(base_offset, &error),
        };
        match ShareRecord::decode(record.key.unwrap_or_default(), record.value) {
            Ok(Some(read)) => {
                shard.states.apply(&read);
                match read {
                    ShareRecord::Snapshot(key, Some(_)) => {
                        shard.snapshots.insert(key, record.offset);
                    }
                    ShareRecord::Snapshot(key, None) => {
                        shard.snapshots.remove(&key);
                    }
                    ShareRecord::Update(..) => {}
                }
            }
            Ok(None) => {}
            Err(error) => skip(record.offset, &error),
        }
    }
}
