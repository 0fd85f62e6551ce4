//! `__transaction_state` in memory, with partitions that take markers when the test lets them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use base::{Now, Offset, PartitionId, ProducerId};
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::api::ErrorCode;

use crate::transaction::environment::{Done, Marker, TransactionEnvironment};

/// See the module.
#[derive(Default)]
pub(crate) struct MemoryState {
    pub(crate) missing: AtomicBool,
    batches: Mutex<BTreeMap<PartitionId, Vec<Bytes>>>,
    pub(super) hold_appends: AtomicBool,
    held_appends: Mutex<Vec<(Done<Offset>, Offset)>>,
    pub(super) hold_markers: AtomicBool,
    pub(super) held_markers: Mutex<Vec<(Marker, Done<()>)>>,
    /// Markers written, in their order.
    pub(super) markers: Mutex<Vec<Marker>>,
    pub(super) ticks: AtomicI64,
    /// Ids are 5, 6, ..
    ids_given: AtomicI64,
}

impl MemoryState {
    /// What has been appended becomes durable.
    pub(super) fn release_appends(&self) {
        self.hold_appends.store(false, Ordering::SeqCst);
        let held = std::mem::take(&mut *self.held_appends.lock());
        held.into_iter().for_each(|(done, offset)| done(Ok(offset)));
    }

    /// Markers that were held back are written, or fail.
    pub(super) fn release_markers(&self, result: Result<(), ErrorCode>) {
        self.hold_markers.store(false, Ordering::SeqCst);
        let held = std::mem::take(&mut *self.held_markers.lock());
        for (marker, done) in held {
            if result.is_ok() {
                self.markers.lock().push(marker);
            }
            done(result);
        }
    }

    pub(super) fn advance(&self, ms: i64) -> Now {
        self.ticks.fetch_add(ms, Ordering::SeqCst);
        self.now()
    }

    pub(super) fn batch_count(&self) -> usize {
        self.batches.lock().values().map(Vec::len).sum()
    }
}

impl TransactionEnvironment for MemoryState {
    fn now(&self) -> Now {
        let ticks_ms = self.ticks.load(Ordering::SeqCst);
        Now { wall_ms: 1_795_252_000_000 + ticks_ms, ticks_ms }
    }

    fn partitions(&self) -> Option<i32> {
        (!self.missing.load(Ordering::SeqCst)).then_some(4)
    }

    fn create_topic(&self) -> Result<(), ErrorCode> {
        self.missing.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn transaction_version(&self) -> i16 {
        2
    }

    fn leader_epoch(&self, _partition: PartitionId) -> i32 {
        3
    }

    fn append(&self, partition: PartitionId, batch: Bytes, done: Done<Offset>) {
        let offset = {
            let mut all = self.batches.lock();
            let log = all.entry(partition).or_default();
            let offset = log.len() as i64;
            let mut bytes = batch.to_vec();
            bytes[..8].copy_from_slice(&offset.to_be_bytes());
            log.push(bytes.into());
            offset
        };
        match self.hold_appends.load(Ordering::SeqCst) {
            true => self.held_appends.lock().push((done, offset)),
            false => done(Ok(offset)),
        }
    }

    fn read(&self, partition: PartitionId, from: Offset) -> Result<Bytes, ErrorCode> {
        let all = self.batches.lock();
        let log = all.get(&partition).map(Vec::as_slice).unwrap_or_default();
        // Two batches at a time, so that loading takes several reads.
        Ok(log.iter().skip(from as usize).take(2).flat_map(|batch| batch.to_vec()).collect::<Vec<u8>>().into())
    }

    fn write_marker(&self, marker: &Marker, done: Done<()>) {
        match self.hold_markers.load(Ordering::SeqCst) {
            true => self.held_markers.lock().push((marker.clone(), done)),
            false => {
                self.markers.lock().push(marker.clone());
                done(Ok(()));
            }
        }
    }

    fn take_producer_id(&self, done: Done<ProducerId>) {
        done(Ok(5 + self.ids_given.fetch_add(1, Ordering::SeqCst)));
    }

    fn wake_at(&self, _ticks_ms: i64) {}
}

/// An environment and the trait object that coordinators take.
pub(crate) fn memory_state() -> (Arc<MemoryState>, Arc<dyn TransactionEnvironment>) {
    let state = Arc::new(MemoryState::default());
    (Arc::clone(&state), state)
}
