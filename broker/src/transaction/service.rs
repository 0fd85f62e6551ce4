//! The transaction coordinator in its broker: which requests it serves, and how it reaches log, groups and time.

use std::sync::{Arc, OnceLock, Weak};

use base::{Now, Offset, PartitionId, ProducerId, TopicPartition};
use bytes::Bytes;
use protocol::api::{ApiKey, ErrorCode, Request};
use protocol::record::{EndTransactionMarker, control_marker};
use storage::log::AppendInfo;

use super::admission::Admissions;
use super::coordinator::Coordinator;
use super::environment::{Done, Marker, STATE_TOPIC, TransactionEnvironment};
use super::producer_ids::{BLOCK_SIZE, ProducerIds};
use super::shard::TransactionConfig;
use crate::config::BrokerConfig;
use crate::dispatch::{Outcome, RequestContext};
use crate::group::environment::OFFSETS_TOPIC;
use crate::group::output::InTransaction;
use crate::handlers;
use crate::state::BrokerState;

/// APIs of producer ids and transactions that are served.
pub const SERVED: &[ApiKey] = &[
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
];

/// Hands a request to its handler; gives back what is none of transactions.
pub fn dispatch(state: &Arc<BrokerState>, context: &RequestContext, request: Request) -> Result<Outcome, Box<Request>> {
    let access = || state.transactions.access(state);
    Ok(match request {
        Request::InitProducerId(body) => handlers::init_producer_id::serve(&access(), context, body),
        Request::AddPartitionsToTxn(body) => handlers::add_partitions_to_txn::serve(&access(), state, context, body),
        Request::AddOffsetsToTxn(body) => handlers::add_offsets_to_txn::serve(&access(), state, context, &body),
        Request::EndTxn(body) => handlers::end_txn::serve(&access(), context, &body),
        Request::WriteTxnMarkers(body) => handlers::write_txn_markers::serve(&access(), context, body),
        Request::TxnOffsetCommit(body) => handlers::txn_offset_commit::serve(&access(), state, context, body),
        Request::DescribeTransactions(body) => handlers::describe_transactions::serve(&access(), body),
        Request::ListTransactions(body) => handlers::list_transactions::serve(&access(), context, body),
        other => return Err(Box::new(other)),
    })
}

/// The coordinator together with the broker around it: what the handlers of transactional requests work with.
#[derive(Clone)]
pub struct TransactionAccess {
    /// The transactional ids.
    pub coordinator: Coordinator,
    /// Their log, the partitions, producer ids.
    pub environment: Arc<dyn TransactionEnvironment>,
}

/// All transactional ids of this broker, and the producer ids it hands out.
pub struct TransactionCoordinator {
    coordinator: Coordinator,
    environment: OnceLock<Arc<dyn TransactionEnvironment>>,
    producer_ids: ProducerIds,
    /// The order of producers' requests while one of them asks the coordinator.
    pub admissions: Admissions,
}

impl TransactionCoordinator {
    /// A coordinator that knows no id yet; it loads them from `__transaction_state` as they are asked for, and the others
    /// step by step.
    pub fn open(config: &BrokerConfig) -> Self {
        Self {
            coordinator: Coordinator::new(TransactionConfig {
                max_timeout_ms: config.transaction_max_timeout_ms,
                id_expiration_ms: config.transactional_id_expiration_ms,
                abort_interval_ms: config.transaction_abort_interval_ms,
                expiration_interval_ms: config.transactional_id_expiration_interval_ms,
            }),
            environment: OnceLock::new(),
            producer_ids: ProducerIds::default(),
            admissions: Admissions::default(),
        }
    }

    /// The coordinator with its broker.
    pub fn access(&self, state: &Arc<BrokerState>) -> TransactionAccess {
        let environment = self.environment.get_or_init(|| Arc::new(BrokerEnvironment { state: Arc::downgrade(state) }));
        TransactionAccess { coordinator: self.coordinator.clone(), environment: Arc::clone(environment) }
    }

    /// The broker has closed: who waits for a transactional id is let go.
    pub(crate) fn close(&self) {
        self.coordinator.close();
    }

    /// Does what is due at `now` (loading, timeouts, expiry); returns whether anything was, and when it wants to be called
    /// next, in ticks.
    pub fn step(&self, state: &Arc<BrokerState>, now: Now) -> (bool, Option<i64>) {
        let TransactionAccess { coordinator, environment } = self.access(state);
        coordinator.step(&environment, now)
    }
}

impl std::fmt::Debug for TransactionCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionCoordinator").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

/// The broker, as the transaction coordinator sees it. Weak, because the broker owns the coordinator.
struct BrokerEnvironment {
    state: Weak<BrokerState>,
}

impl TransactionEnvironment for BrokerEnvironment {
    fn now(&self) -> Now {
        self.state.upgrade().map_or(Now { wall_ms: 0, ticks_ms: 0 }, |state| state.clock.now())
    }

    fn partitions(&self) -> Option<i32> {
        let entry = self.state.upgrade()?.topics.by_name(STATE_TOPIC)?;
        Some(i32::try_from(entry.partition_count()).unwrap_or(i32::MAX))
    }

    fn create_topic(&self) -> Result<(), ErrorCode> {
        let state = self.state.upgrade().ok_or(ErrorCode::CoordinatorNotAvailable)?;
        state.ensure_internal_topic(STATE_TOPIC)
    }

    fn transaction_version(&self) -> i16 {
        self.state.upgrade().map_or(0, |state| state.transaction_version())
    }

    fn leader_epoch(&self, partition: PartitionId) -> i32 {
        let state = self.state.upgrade();
        state.and_then(|state| state.partition(STATE_TOPIC, partition).ok()).map_or(0, |found| found.leader_epoch)
    }

    fn append(&self, partition: PartitionId, batch: Bytes, done: Done<Offset>) {
        let Some(state) = self.state.upgrade() else { return done(Err(ErrorCode::NotCoordinator)) };
        let partition = TopicPartition::new(STATE_TOPIC, partition);
        let done = move |result: Result<AppendInfo, ErrorCode>| done(result.map(|info| info.base_offset));
        // No deadline: the coordinator must learn when the record is durable.
        state.append_internal(&partition, batch, (0, None), i64::MAX, done);
    }

    fn read(&self, partition: PartitionId, from: Offset) -> Result<Bytes, ErrorCode> {
        let state = self.state.upgrade().ok_or(ErrorCode::NotCoordinator)?;
        state.read_internal(&TopicPartition::new(STATE_TOPIC, partition), from)
    }

    fn write_marker(&self, marker: &Marker, done: Done<()>) {
        let Some(state) = self.state.upgrade() else { return done(Err(ErrorCode::NotCoordinator)) };
        let end = EndTransactionMarker { committed: marker.commit, coordinator_epoch: marker.coordinator_epoch };
        let (producer_id, producer_epoch) = (marker.identity.producer_id, marker.identity.epoch);
        let (topic, partition) = &marker.partition;
        let version = marker.transaction_version;
        if topic.as_ref() == OFFSETS_TOPIC {
            let transaction =
                InTransaction { producer_id, producer_epoch, marker: Some(end), version, markers_seen: None };
            return state.groups.end_transaction(&state, *partition, transaction, done);
        }
        let now = state.clock.now();
        match control_marker(end, producer_id, producer_epoch, now.wall_ms, 0, -1) {
            Ok(batch) => {
                let partition = TopicPartition::new(Arc::clone(topic), *partition);
                let done = move |result: Result<AppendInfo, ErrorCode>| done(result.map(|_| ()));
                state.append_internal(&partition, batch, (version, None), i64::MAX, done);
            }
            Err(_) => done(Err(ErrorCode::UnknownServerError)),
        }
    }

    fn take_producer_id(&self, done: Done<ProducerId>) {
        let Some(state) = self.state.upgrade() else { return done(Err(ErrorCode::CoordinatorNotAvailable)) };
        state.transactions.producer_ids.take(done, |ids| {
            state.allocate_producer_ids(BLOCK_SIZE, move |first| {
                // The metadata log did not take it: nobody has an id from it, and another broker might.
                ids.block_arrived(first.map_err(|_| ErrorCode::CoordinatorNotAvailable));
            });
        });
    }

    fn wake_at(&self, ticks_ms: i64) {
        if let Some(state) = self.state.upgrade() {
            state.waiters.wake_at(ticks_ms);
        }
    }
}
