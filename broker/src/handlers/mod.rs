//! One file per request: `pub(crate) fn handle(state, context, request) -> Outcome`.
//!
//! A handler runs on its caller's thread (a stream thread in process, a network worker over TCP). It may write to a log
//! but never waits: what must wait is handed to [`crate::waiters`] or kept as a [`crate::dispatch::Responder`].

pub(crate) mod acls;
pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod alter_configs;
pub(crate) mod api_versions;
pub(crate) mod client_quotas;
pub(crate) mod consumer_group_describe;
pub(crate) mod consumer_group_heartbeat;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_producers;
pub(crate) mod describe_quorum;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_transactions;
pub(crate) mod elect_leaders;
pub(crate) mod end_txn;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
mod group_support;
pub(crate) mod heartbeat;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_config_resources;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod list_transactions;
pub(crate) mod log_dirs;
pub(crate) mod membership;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
mod produce_admission;
mod produce_wait;
pub(crate) mod reassignments;
pub(crate) mod share_acknowledge;
pub(crate) mod share_fetch;
pub(crate) mod share_group_describe;
pub(crate) mod share_group_heartbeat;
pub(crate) mod share_group_offsets;
pub(crate) mod share_group_offsets_change;
pub(crate) mod share_group_state;
mod share_support;
pub(crate) mod streams_group_describe;
pub(crate) mod streams_group_heartbeat;
pub(crate) mod sync_group;
pub(crate) mod telemetry;
mod transaction_support;
pub(crate) mod txn_offset_commit;
pub(crate) mod update_features;
pub(crate) mod without_security;
pub(crate) mod write_txn_markers;

use std::sync::Arc;

use protocol::api::messages::TopicName;
use protocol::api::{ErrorCode, StrBytes, Uuid};

use crate::partition::Partition;
use crate::state::BrokerState;
use crate::topics::TopicEntry;

/// A topic of a request, by id where the version names topics so, else by name.
pub(crate) fn find_topic(
    state: &BrokerState,
    by_id: bool,
    name: &str,
    id: &Uuid,
) -> Result<Arc<TopicEntry>, ErrorCode> {
    if by_id {
        state.topics.by_id(id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        state.topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// Whether the leader epoch that a client knows is ours; -1 asks for no check.
pub(crate) fn check_leader_epoch(partition: &Partition, known: i32) -> Result<(), ErrorCode> {
    match known {
        -1 => Ok(()),
        known if known < partition.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
        known if known > partition.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
