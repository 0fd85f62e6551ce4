//! AlterPartitionReassignments and ListPartitionReassignments on one node: a partition can be moved nowhere, so that a
//! reassignment to this node is done at once, and none is ever under way.

use std::sync::Arc;

use protocol::api::messages::alter_partition_reassignments_request::ReassignablePartition;
use protocol::api::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use protocol::api::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
    ListPartitionReassignmentsResponse,
};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::Outcome;
use crate::metadata::changes::{Refusal, refuse};
use crate::state::BrokerState;

use super::text;

pub(crate) fn list() -> Outcome {
    Response::ListPartitionReassignments(ListPartitionReassignmentsResponse::default().with_error_message(None)).into()
}

pub(crate) fn alter(state: &Arc<BrokerState>, request: &AlterPartitionReassignmentsRequest) -> Outcome {
    let image = state.metadata.current();
    let topics = request.topics.iter().map(|topic| {
        let known = image.topic(&topic.name).map(|topic| topic.partitions.len());
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = ReassignablePartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_error_message(None);
            match check(state.config.node_id, &topic.name, known, wanted) {
                Ok(()) => answer,
                Err(refusal) => {
                    answer.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
                }
            }
        });
        ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    let response = AlterPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(topics.collect());
    Response::AlterPartitionReassignments(response).into()
}

fn check(node_id: i32, topic: &str, known: Option<usize>, wanted: &ReassignablePartition) -> Result<(), Refusal> {
    let is_known = |count: usize| usize::try_from(wanted.partition_index).is_ok_and(|index| index < count);
    match known {
        None => {
            return refuse(ErrorCode::UnknownTopicOrPartition, format!("Unable to find a topic named {topic}."));
        }
        Some(count) if !is_known(count) => {
            return refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!("Unable to find partition {topic}:{}.", wanted.partition_index),
            );
        }
        Some(_) => {}
    }
    match wanted.replicas.as_deref() {
        None => refuse(ErrorCode::NoReassignmentInProgress, ErrorCode::NoReassignmentInProgress.message()),
        Some([]) => refuse(
            ErrorCode::InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
        Some([BrokerId(only)]) if *only == node_id => Ok(()),
        Some(brokers) => match brokers.iter().find(|broker| broker.0 != node_id) {
            Some(unknown) => refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "The manual partition assignment includes broker {}, but no such broker is registered.",
                    unknown.0
                ),
            ),
            None => refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("The manual partition assignment includes the broker {node_id} more than once."),
            ),
        },
    }
}
