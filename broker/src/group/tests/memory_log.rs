//! `__consumer_offsets` in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use base::{Now, Offset, PartitionId};
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::api::streams_group_heartbeat::StreamsTopicInfo;
use protocol::api::{ErrorCode, Uuid};
use protocol::record::BatchHeader;

use crate::group::environment::{Cluster, Done, GroupEnvironment};

/// `__consumer_offsets` in memory. Batches are durable at once, or when released.
pub(super) struct MemoryLog {
    pub(super) partitions: i32,
    pub(super) exists: AtomicBool,
    pub(super) batches: Mutex<BTreeMap<PartitionId, Vec<(Offset, Bytes)>>>,
    pub(super) hold: AtomicBool,
    pub(super) held: Mutex<Vec<(Done, Offset)>>,
    pub(super) ticks: AtomicI64,
    pub(super) uuid: Mutex<u128>,
    pub(super) woken_for: AtomicI64,
}

impl MemoryLog {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            partitions: 4,
            exists: AtomicBool::new(true),
            batches: Mutex::default(),
            hold: AtomicBool::new(false),
            held: Mutex::default(),
            ticks: AtomicI64::new(0),
            uuid: Mutex::new(0xc132a707_9d80_42a7_ba9e_cdd5a594d458),
            woken_for: AtomicI64::new(i64::MAX),
        })
    }

    pub(super) fn release(&self) {
        self.hold.store(false, Ordering::SeqCst);
        let held = std::mem::take(&mut *self.held.lock());
        for (done, offset) in held {
            done(Ok(offset));
        }
    }

    pub(super) fn batch_count(&self) -> usize {
        self.batches.lock().values().map(Vec::len).sum()
    }
}

impl GroupEnvironment for MemoryLog {
    fn now(&self) -> Now {
        let ticks_ms = self.ticks.load(Ordering::SeqCst);
        Now { wall_ms: 1_795_252_000_000 + ticks_ms, ticks_ms }
    }

    fn random_uuid(&self) -> [u8; 16] {
        let mut uuid = self.uuid.lock();
        *uuid += 1;
        (*uuid - 1).to_be_bytes()
    }

    fn offsets_partitions(&self) -> Option<i32> {
        self.exists.load(Ordering::SeqCst).then_some(self.partitions)
    }

    fn create_offsets_topic(&self) -> Result<(), ErrorCode> {
        self.exists.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn append(&self, partition: PartitionId, batch: Bytes, _transaction: (i16, Option<u32>), done: Done) {
        let base = {
            let mut all = self.batches.lock();
            let log = all.entry(partition).or_default();
            let base = log
                .last()
                .map_or(0, |(base, batch)| base + i64::from(BatchHeader::read(batch).unwrap().last_offset_delta) + 1);
            let mut bytes = batch.to_vec();
            bytes[..8].copy_from_slice(&base.to_be_bytes());
            log.push((base, bytes.into()));
            base
        };
        if self.hold.load(Ordering::SeqCst) {
            self.held.lock().push((done, base));
        } else {
            done(Ok(base));
        }
    }

    fn read(&self, partition: PartitionId, from: Offset) -> Result<Bytes, ErrorCode> {
        let all = self.batches.lock();
        let log = all.get(&partition).map(Vec::as_slice).unwrap_or_default();
        // Two batches at a time, so that loading takes several reads.
        let wanted = log.iter().filter(|(base, _)| *base >= from).take(2);
        Ok(wanted.flat_map(|(_, batch)| batch.to_vec()).collect::<Vec<u8>>().into())
    }

    fn create_internal_topic(&self, topic: &StreamsTopicInfo) -> Result<(), String> {
        Err(format!("no {} here", topic.name))
    }

    fn group_setting(&self, _group: &str, name: &str) -> Option<String> {
        (name == "streams.initial.rebalance.delay.ms").then(|| "0".to_owned())
    }

    fn serves_streams(&self) -> bool {
        true
    }

    fn wake_at(&self, ticks_ms: i64) {
        self.woken_for.fetch_min(ticks_ms, Ordering::SeqCst);
    }
}

impl Cluster for MemoryLog {
    fn topics_version(&self) -> i64 {
        1
    }

    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        (name != "missing").then_some((Uuid::from_u128(7), 2))
    }

    fn topic_name(&self, id: Uuid) -> Option<Arc<str>> {
        (id == Uuid::from_u128(7)).then(|| "t".into())
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        vec!["t".into()]
    }

    fn group_settings(&self, _group: &str) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}
