//! ConsumerGroupHeartbeat: a member of a consumer group joins, goes on, or leaves. Answered once what it changed is durable.

use std::sync::Arc;

use protocol::api::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use protocol::api::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use protocol::api::{ErrorCode, Response, StrBytes, Uuid};

use super::group_support::{own, own_nullable, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::consumer::assignor::Assignor;
use crate::group::consumer::config::ConsumerConfig;
use crate::group::consumer::heartbeat::{Answer, Heartbeat, Refusal};
use crate::group::consumer::member::{JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH};
use crate::group::consumer::records::Partitions;
use crate::group::coordinator::held;
use crate::group::service::GroupAccess;

/// First version in which the client chooses its member id.
const FIRST_WITH_OWN_ID: i16 = 1;
/// Longest id or name that a record's key has room for, in bytes.
const MAX_ID_BYTES: usize = i16::MAX as usize;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: ConsumerGroupHeartbeatRequest) -> Outcome {
    let config = &access.coordinator.config().consumer;
    if let Err(refusal) = check(context.version, &request, config) {
        return refused(refusal).into();
    }
    let id = own(&request.group_id);
    let mut beat = heartbeat(context, request);
    if beat.member_id.is_empty() {
        beat.member_id = Uuid::from_bytes(access.environment.random_uuid()).to_string().into();
    }
    let served = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
        let (now, environment, config) = (session.now, &*access.environment, session.config().clone());
        let (answer, output) = session.shard().consumer_heartbeat(&id, &beat, environment, now, &config)?;
        let build = move |stored: Result<(), ErrorCode>| match stored {
            Ok(()) => response(answer),
            Err(error) => refused(error.into()),
        };
        session.submit(output, held(context.defer(), build));
        Ok(())
    });
    match served {
        Ok(Ok(())) => Outcome::Deferred,
        Ok(Err(refusal)) => refused(refusal).into(),
        Err(error) => refused(error.into()).into(),
    }
}

fn invalid(message: &str) -> Result<(), Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

/// What can be said of a heartbeat without its group.
fn check(version: i16, request: &ConsumerGroupHeartbeatRequest, config: &ConsumerConfig) -> Result<(), Refusal> {
    if !config.enabled {
        let text = "group.coordinator.rebalance.protocols of this broker does not have `consumer`";
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, text));
    }
    let epoch = request.member_epoch;
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    let named = version >= FIRST_WITH_OWN_ID || epoch > JOIN_EPOCH || epoch == LEAVE_EPOCH;
    if named && request.member_id.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if is_empty(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    let long = [request.group_id.len(), request.member_id.len()].into_iter();
    if long.chain(request.subscribed_topic_regex.as_ref().map(|text| text.len())).any(|size| size > MAX_ID_BYTES) {
        return invalid("GroupId, MemberId or SubscribedTopicRegex is too long.");
    }
    check_epoch(request)?;
    let Some(name) = &request.server_assignor else { return Ok(()) };
    if Assignor::named(name).is_some_and(|assignor| config.assignors.contains(&assignor)) {
        return Ok(());
    }
    let known: Vec<&str> = config.assignors.iter().map(|assignor| assignor.name()).collect();
    let text = format!("ServerAssignor {name} is not supported. Supported assignors: {}.", known.join(", "));
    Err(Refusal::new(ErrorCode::UnsupportedAssignor, text))
}

fn check_epoch(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    match request.member_epoch {
        JOIN_EPOCH if request.rebalance_timeout_ms == -1 => {
            invalid("RebalanceTimeoutMs must be provided in first request.")
        }
        JOIN_EPOCH if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            invalid("TopicPartitions must be empty when (re-)joining.")
        }
        JOIN_EPOCH if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() => {
            invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
        }
        LEAVE_STATIC_EPOCH if request.instance_id.is_none() => invalid("InstanceId can't be null."),
        epoch if epoch < LEAVE_STATIC_EPOCH => invalid("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

fn heartbeat(context: &RequestContext, request: ConsumerGroupHeartbeatRequest) -> Heartbeat {
    let owned = request.topic_partitions.map(|topics| {
        let mut owned = Partitions::new();
        for topic in topics {
            owned.entry(topic.topic_id).or_default().extend(topic.partitions);
        }
        owned
    });
    Heartbeat {
        member_id: own(&request.member_id),
        epoch: request.member_epoch,
        instance_id: own_nullable(request.instance_id.as_ref()),
        rack_id: own_nullable(request.rack_id.as_ref()),
        rebalance_timeout_ms: (request.rebalance_timeout_ms != -1).then_some(request.rebalance_timeout_ms),
        client_id: context.client_id.clone().unwrap_or_else(|| Arc::from("")),
        client_host: context.client_host.clone(),
        topic_names: request.subscribed_topic_names.map(|names| names.iter().map(|name| own(name)).collect()),
        topic_regex: own_nullable(request.subscribed_topic_regex.as_ref()),
        assignor: own_nullable(request.server_assignor.as_ref()),
        owned,
    }
}

fn response(answer: Answer) -> Response {
    let assignment = answer.assignment.map(|topics| {
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.into_keys().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(wire(&answer.member_id)))
        .with_member_epoch(answer.epoch)
        .with_heartbeat_interval_ms(answer.heartbeat_interval_ms)
        .with_assignment(assignment)
        .into()
}

fn refused(refusal: Refusal) -> Response {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(refusal.code.code())
        .with_error_message(Some(StrBytes::from_string(refusal.message)))
        .into()
}
