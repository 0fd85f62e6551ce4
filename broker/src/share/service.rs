//! Share groups at the side of the log: all share partitions at work, the share sessions, and when locks end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::hash::HashMap;
use base::{Now, Offset, PartitionId};
use parking_lot::Mutex;
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::config::ShareConfig;
use super::group_configs::GroupConfigs;
use super::partition::SharePartition;
use super::records::ShareKey;
use super::sessions::{SessionKey, ShareSessions, SharedPartition};
use super::store::{Done, STATE_TOPIC, ShareStore};
use crate::config::BrokerConfig;
use crate::shards::Alarm;
use crate::state::BrokerState;

/// The feature that says whether share groups are served.
pub const FEATURE: &str = "share.version";

/// See the module.
pub struct ShareService {
    config: ShareConfig,
    group_configs: GroupConfigs,
    store: Arc<ShareStore>,
    partitions: Mutex<HashMap<ShareKey, Arc<SharePartition>>>,
    sessions: ShareSessions,
    alarm: Mutex<Alarm>,
    /// When the first lock ends, in ticks; may be too early, never too late.
    next_expiry: AtomicI64,
    next_prune: AtomicI64,
    closed_connections: Mutex<Vec<u64>>,
}

impl ShareService {
    /// Nothing at work yet.
    pub fn open(config: &BrokerConfig) -> Self {
        let config = ShareConfig::from(config);
        Self {
            group_configs: GroupConfigs::default(),
            store: Arc::default(),
            partitions: Mutex::default(),
            sessions: ShareSessions::new(config.max_sessions),
            alarm: Mutex::default(),
            next_expiry: AtomicI64::new(i64::MAX),
            next_prune: AtomicI64::new(i64::MIN),
            closed_connections: Mutex::default(),
            config,
        }
    }

    /// The broker's settings.
    pub fn config(&self) -> &ShareConfig {
        &self.config
    }

    /// The settings of one group.
    pub fn config_of(&self, state: &BrokerState, group: &str) -> ShareConfig {
        self.group_configs.of(group, &self.config, state.config.node_id, &state.metadata.current())
    }

    /// Whether share groups are served.
    pub fn is_enabled(&self, state: &BrokerState) -> bool {
        state.metadata.current().features().get(FEATURE).is_some_and(|level| *level >= 1)
    }

    /// Where the state is kept.
    pub fn store(&self) -> &Arc<ShareStore> {
        &self.store
    }

    pub(crate) fn sessions(&self) -> &ShareSessions {
        &self.sessions
    }

    /// A share partition; from its store when it is asked for first.
    pub(crate) fn partition(&self, group: &Arc<str>, topic: Uuid, partition: PartitionId) -> Arc<SharePartition> {
        let key = ShareKey { group: Arc::clone(group), topic, partition };
        let mut partitions = self.partitions.lock();
        Arc::clone(partitions.entry(key.clone()).or_insert_with(|| SharePartition::new(key)))
    }

    /// A share partition that is at work.
    pub(crate) fn at_work(&self, key: &ShareKey) -> Option<Arc<SharePartition>> {
        self.partitions.lock().get(key).cloned()
    }

    /// The state of a share partition was set or removed: it is read anew when it is asked for again.
    pub(crate) fn forget(&self, key: &ShareKey) {
        let removed = self.partitions.lock().remove(key);
        if let Some(partition) = removed {
            partition.forget();
        }
    }

    /// Makes the states of share partitions, or has them begin anew, at these start offsets; `done` is told once that is durable.
    pub(crate) fn initialize_state(
        &self,
        state: &Arc<BrokerState>,
        parts: Vec<(ShareKey, Offset)>,
        state_epoch: i32,
        done: Done,
    ) {
        let keys: Vec<ShareKey> = parts.iter().map(|(key, _)| key.clone()).collect();
        let weak = Arc::downgrade(state);
        let told = move |result| {
            // Whoever reads from now on finds the new state; a write of the old one is refused.
            if let Some(state) = weak.upgrade() {
                keys.iter().for_each(|key| state.shares.forget(key));
            }
            done(result);
        };
        self.store.initialize(state, parts, state_epoch, Box::new(told));
    }

    /// Removes the state of share partitions; `done` is told once that is durable.
    pub(crate) fn delete_state(&self, state: &Arc<BrokerState>, keys: Vec<ShareKey>, done: Done) {
        keys.iter().for_each(|key| self.forget(key));
        self.store.delete(state, keys, done);
    }

    /// A topic is gone.
    pub(crate) fn topic_deleted(&self, topic: Uuid) {
        let keys: Vec<ShareKey> = self.partitions.lock().keys().filter(|key| key.topic == topic).cloned().collect();
        keys.iter().for_each(|key| self.forget(key));
    }

    /// A session has ended: what its member has acquired is for others. Share partitions at rest are let go of.
    pub(crate) fn release(&self, state: &Arc<BrokerState>, key: &SessionKey, partitions: &[SharedPartition]) {
        let config = self.config_of(state, &key.group);
        for (topic, partition) in partitions {
            let key_of = ShareKey { group: Arc::clone(&key.group), topic: *topic, partition: *partition };
            let Some(partition) = self.at_work(&key_of) else { continue };
            partition.release(state, &key.member, &config);
            if partition.forget_if_idle() {
                let mut partitions = self.partitions.lock();
                if partitions.get(&key_of).is_some_and(|known| Arc::ptr_eq(known, &partition)) {
                    partitions.remove(&key_of);
                }
            }
        }
    }

    /// A member left its group, or was dropped.
    pub(crate) fn member_gone(&self, state: &Arc<BrokerState>, key: &SessionKey) {
        if let Ok(partitions) = self.sessions.close(key) {
            self.release(state, key, &partitions);
        }
    }

    /// A connection is gone, and the sessions with it: the next step ends them, since whoever closes a connection may hold locks of it.
    pub(crate) fn connection_closed(&self, state: &BrokerState, connection_id: u64) {
        if self.sessions.has_connection(connection_id) {
            self.closed_connections.lock().push(connection_id);
            state.waiters.wake_at(state.clock.now().ticks_ms);
        }
    }

    fn end_sessions_of_closed(&self, state: &Arc<BrokerState>) {
        let closed = std::mem::take(&mut *self.closed_connections.lock());
        for (key, partitions) in closed.into_iter().flat_map(|id| self.sessions.close_connection(id)) {
            self.release(state, &key, &partitions);
        }
    }

    /// Has locks looked at by `ticks_ms`.
    pub(crate) fn wake_at(&self, state: &Arc<BrokerState>, ticks_ms: i64) {
        self.next_expiry.fetch_min(ticks_ms, Ordering::AcqRel);
        if self.alarm.lock().arm(ticks_ms, state.clock.now()) {
            state.waiters.wake_at(ticks_ms);
        }
    }

    /// Ends sessions whose connection is gone, and takes off the locks that end by `now`. Returns whether it looked, and when to call next, in ticks.
    pub(crate) fn step(&self, state: &Arc<BrokerState>, now: Now) -> (bool, Option<i64>) {
        self.end_sessions_of_closed(state);
        let expired = self.next_expiry.load(Ordering::Acquire) <= now.ticks_ms;
        if expired {
            self.next_expiry.store(i64::MAX, Ordering::Release);
            let all: Vec<Arc<SharePartition>> = self.partitions.lock().values().cloned().collect();
            for partition in all {
                let config = self.config_of(state, &partition.key.group);
                if let Some(next) = partition.expire(state, now, &config) {
                    self.next_expiry.fetch_min(next, Ordering::AcqRel);
                }
            }
        }
        let is_there = state.topics.by_name(STATE_TOPIC).is_some();
        let prune_at = self.next_prune.load(Ordering::Acquire);
        if is_there && prune_at <= now.ticks_ms {
            self.next_prune.store(now.ticks_ms.saturating_add(self.config.prune_interval_ms), Ordering::Release);
            if prune_at != i64::MIN {
                self.store.prune(state, now);
            }
        }
        let prune_at = if is_there { self.next_prune.load(Ordering::Acquire) } else { i64::MAX };
        let next = self.next_expiry.load(Ordering::Acquire).min(prune_at);
        (expired, (next != i64::MAX).then_some(next))
    }

    /// Whether requests of share groups can be answered.
    ///
    /// # Errors
    /// `UnsupportedVersion` while the feature is off.
    pub(crate) fn check_enabled(&self, state: &BrokerState) -> Result<(), ErrorCode> {
        if self.is_enabled(state) { Ok(()) } else { Err(ErrorCode::UnsupportedVersion) }
    }
}
