//! The group coordinator in its broker: which requests it serves, and how it reaches log, topics and time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};

use base::{Now, Offset, PartitionId, TopicPartition};
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::api::streams_group_heartbeat::StreamsTopicInfo;
use protocol::api::{ApiKey, ErrorCode, Request};
use storage::log::AppendInfo;
use uuid::Uuid;

use super::config::GroupConfig;
use super::coordinator::{Coordinator, Held};
use super::environment::{Cluster, Done, GroupEnvironment, OFFSETS_TOPIC};
use super::output::InTransaction;
use crate::config::BrokerConfig;
use crate::dispatch::{Outcome, RequestContext};
use crate::dynamic;
use crate::handlers;
use crate::metadata::RESOURCE_GROUP;
use crate::metadata::changes::TopicWish;
use crate::share::records::ShareKey;
use crate::share::sessions::SessionKey;
use crate::share::store::STATE_TOPIC;
use crate::state::BrokerState;

/// APIs of groups and offsets that are served.
pub const SERVED: &[ApiKey] = &[
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::StreamsGroupHeartbeat,
    ApiKey::StreamsGroupDescribe,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareGroupDescribe,
    ApiKey::DescribeShareGroupOffsets,
    ApiKey::AlterShareGroupOffsets,
    ApiKey::DeleteShareGroupOffsets,
];

/// Hands a request to its handler; gives back what is no group request.
pub fn dispatch(state: &Arc<BrokerState>, context: &RequestContext, request: Request) -> Result<Outcome, Box<Request>> {
    let access = &state.groups.access(state);
    Ok(match request {
        Request::OffsetCommit(body) => handlers::offset_commit::serve(access, context, body),
        Request::OffsetFetch(body) => handlers::offset_fetch::serve(access, context, body),
        Request::FindCoordinator(body) => {
            let transactions = state.transactions.access(state).environment;
            handlers::find_coordinator::serve(access, &*transactions, context, state.config.node_id, body)
        }
        Request::JoinGroup(body) => handlers::join_group::serve(access, context, body),
        Request::Heartbeat(body) => handlers::heartbeat::serve(access, context, body),
        Request::LeaveGroup(body) => handlers::leave_group::serve(access, context, body),
        Request::SyncGroup(body) => handlers::sync_group::serve(access, context, body),
        Request::DescribeGroups(body) => handlers::describe_groups::serve(access, context, body),
        Request::ListGroups(body) => handlers::list_groups::serve(access, context, body),
        Request::DeleteGroups(body) => handlers::delete_groups::serve(access, context, body),
        Request::OffsetDelete(body) => handlers::offset_delete::serve(access, context, body),
        Request::StreamsGroupHeartbeat(body) => handlers::streams_group_heartbeat::serve(access, context, body),
        Request::StreamsGroupDescribe(body) => handlers::streams_group_describe::serve(access, context, body),
        Request::ConsumerGroupHeartbeat(body) => handlers::consumer_group_heartbeat::serve(access, context, body),
        Request::ConsumerGroupDescribe(body) => handlers::consumer_group_describe::serve(access, context, body),
        Request::ShareGroupHeartbeat(body) => handlers::share_group_heartbeat::serve(state, access, context, body),
        Request::ShareGroupDescribe(body) => handlers::share_group_describe::serve(state, access, context, body),
        Request::DescribeShareGroupOffsets(body) => handlers::share_group_offsets::serve(state, access, context, body),
        Request::AlterShareGroupOffsets(body) => {
            handlers::share_group_offsets_change::alter(state, access, context, body)
        }
        Request::DeleteShareGroupOffsets(body) => {
            handlers::share_group_offsets_change::delete(state, access, context, body)
        }
        other => return Err(Box::new(other)),
    })
}

/// The coordinator together with the broker around it: what the handlers of group requests work with.
#[derive(Clone)]
pub struct GroupAccess {
    /// The groups.
    pub coordinator: Coordinator,
    /// Their log, and the topics.
    pub environment: Arc<dyn GroupEnvironment>,
}

/// All groups of this broker.
pub struct GroupCoordinator {
    coordinator: Coordinator,
    environment: OnceLock<Arc<dyn GroupEnvironment>>,
    /// Topics whose offsets are to be removed at the next step.
    deleted_topics: Mutex<BTreeSet<(Arc<str>, Uuid)>>,
}

impl GroupCoordinator {
    /// A coordinator that knows no group yet; it loads them from `__consumer_offsets` as they are asked for, and the
    /// others step by step.
    pub fn open(config: &BrokerConfig) -> Self {
        Self {
            coordinator: Coordinator::new(GroupConfig::from(config)),
            environment: OnceLock::new(),
            deleted_topics: Mutex::default(),
        }
    }

    /// The coordinator with its broker.
    pub fn access(&self, state: &Arc<BrokerState>) -> GroupAccess {
        let environment = self.environment.get_or_init(|| Arc::new(BrokerEnvironment { state: Arc::downgrade(state) }));
        GroupAccess { coordinator: self.coordinator.clone(), environment: Arc::clone(environment) }
    }

    /// Ends a producer's transaction on a partition of `__consumer_offsets`; `done` is told once that is durable.
    pub fn end_transaction(
        &self,
        state: &Arc<BrokerState>,
        partition: PartitionId,
        transaction: InTransaction,
        done: Held,
    ) {
        let GroupAccess { coordinator, environment } = self.access(state);
        coordinator.end_transaction(&environment, partition, transaction, environment.now(), done);
    }

    /// The broker has closed: who waits for a group is let go.
    pub(crate) fn close(&self) {
        self.coordinator.close();
    }

    /// A topic is gone: offsets committed for it go at the next step.
    pub fn topic_deleted(&self, name: &Arc<str>, id: Uuid) {
        self.deleted_topics.lock().insert((Arc::clone(name), id));
    }

    /// Does what is due at `now` (loading, session timeouts, rebalances, offset expiry); returns whether anything was,
    /// and when it wants to be called next.
    pub fn step(&self, state: &Arc<BrokerState>, now: Now) -> (bool, Option<i64>) {
        let GroupAccess { coordinator, environment } = self.access(state);
        let deleted = std::mem::take(&mut *self.deleted_topics.lock());
        if !deleted.is_empty() {
            coordinator.forget_topics(&environment, now, &deleted);
        }
        let (worked, next) = coordinator.step(&environment, now);
        (worked || !deleted.is_empty(), next)
    }
}

impl std::fmt::Debug for GroupCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCoordinator").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

/// The broker, as the group coordinator sees it. Weak, because the broker owns the coordinator.
struct BrokerEnvironment {
    state: Weak<BrokerState>,
}

impl GroupEnvironment for BrokerEnvironment {
    fn now(&self) -> Now {
        self.state.upgrade().map_or(Now { wall_ms: 0, ticks_ms: 0 }, |state| state.clock.now())
    }

    fn random_uuid(&self) -> [u8; 16] {
        self.state.upgrade().map_or([0; 16], |state| state.rng.lock().uuid_bytes())
    }

    fn offsets_partitions(&self) -> Option<i32> {
        self.topic(OFFSETS_TOPIC).map(|(_, partitions)| partitions)
    }

    fn create_offsets_topic(&self) -> Result<(), ErrorCode> {
        let state = self.state.upgrade().ok_or(ErrorCode::CoordinatorNotAvailable)?;
        state.ensure_internal_topic(OFFSETS_TOPIC)
    }

    fn append(&self, partition: PartitionId, batch: Bytes, transaction: (i16, Option<u32>), done: Done) {
        let Some(state) = self.state.upgrade() else { return done(Err(ErrorCode::NotCoordinator)) };
        // No deadline: the coordinator gives up answers by itself, but must learn when the records are durable.
        let partition = TopicPartition::new(OFFSETS_TOPIC, partition);
        let done = move |result: Result<AppendInfo, ErrorCode>| done(result.map(|info| info.base_offset));
        state.append_internal(&partition, batch, transaction, i64::MAX, done);
    }

    fn read(&self, partition: PartitionId, from: Offset) -> Result<Bytes, ErrorCode> {
        let state = self.state.upgrade().ok_or(ErrorCode::NotCoordinator)?;
        state.read_internal(&TopicPartition::new(OFFSETS_TOPIC, partition), from)
    }

    fn create_internal_topic(&self, topic: &StreamsTopicInfo) -> Result<(), String> {
        let state = self.state.upgrade().ok_or_else(|| "the broker is shutting down".to_owned())?;
        let settings =
            topic.topic_configs.iter().map(|config| (config.key.to_string(), Some(config.value.to_string())));
        state.create_topic(&TopicWish {
            name: topic.name.to_string(),
            partitions: topic.partitions,
            replication_factor: if topic.replication_factor == 0 { -1 } else { topic.replication_factor },
            settings: settings.collect(),
            ..TopicWish::default()
        })
    }

    fn group_setting(&self, group: &str, name: &str) -> Option<String> {
        let image = self.state.upgrade()?.metadata.current();
        image.settings(RESOURCE_GROUP, group)?.get(name).cloned()
    }

    fn serves_streams(&self) -> bool {
        let Some(state) = self.state.upgrade() else { return false };
        let protocols = state.config.value("group.coordinator.rebalance.protocols").unwrap_or_default();
        let level = state.metadata.current().features().get("streams.version").copied().unwrap_or(0);
        level >= 1 && protocols.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("streams"))
    }

    fn share_member_gone(&self, group: &Arc<str>, member: &Arc<str>) {
        if let Some(state) = self.state.upgrade() {
            let key = SessionKey { group: Arc::clone(group), member: Arc::clone(member) };
            state.shares.member_gone(&state, &key);
        }
    }

    fn delete_share_state(&self, keys: Vec<ShareKey>, done: Held) {
        match self.state.upgrade() {
            Some(state) => state.shares.delete_state(&state, keys, done),
            None => done(Err(ErrorCode::NotCoordinator)),
        }
    }

    fn create_share_state_topic(&self) -> Result<(), ErrorCode> {
        let state = self.state.upgrade().ok_or(ErrorCode::CoordinatorNotAvailable)?;
        if state.shares.is_enabled(&state) {
            state.ensure_internal_topic(STATE_TOPIC)
        } else {
            Err(ErrorCode::InvalidRequest)
        }
    }

    fn wake_at(&self, ticks_ms: i64) {
        if let Some(state) = self.state.upgrade() {
            state.waiters.wake_at(ticks_ms);
        }
    }
}

impl Cluster for BrokerEnvironment {
    fn topics_version(&self) -> i64 {
        self.state.upgrade().map_or(0, |state| state.topics.version())
    }

    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        let entry = self.state.upgrade()?.topics.by_name(name)?;
        Some((entry.id, i32::try_from(entry.partition_count()).unwrap_or(i32::MAX)))
    }

    fn topic_name(&self, id: Uuid) -> Option<Arc<str>> {
        Some(Arc::clone(&self.state.upgrade()?.topics.by_id(&id)?.name))
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        self.state.upgrade().map(|state| state.topics.names()).unwrap_or_default()
    }

    fn group_settings(&self, group: &str) -> BTreeMap<String, String> {
        let Some(state) = self.state.upgrade() else { return BTreeMap::new() };
        dynamic::group_settings(&state.metadata.current(), state.config.node_id, group)
    }
}
