//! StreamsGroupHeartbeat: a thread of a streams application joins its group, is alive, or leaves, and learns its tasks.
//! Answered when what changed by it is durable. Internal topics that the application lacks are made on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::api::streams_group_heartbeat::{
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, StreamsTopicInfo, StreamsTopology,
};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::group::coordinator::held;
use crate::group::environment::OFFSETS_TOPIC;
use crate::group::service::GroupAccess;
use crate::group::streams::configure::topics_of;
use crate::group::streams::heartbeat::{Beat, Refusal, refuse};
use crate::metadata::changes::check_topic_name;

/// Epoch with which a static member leaves to come back.
const LEAVE_STATIC: i32 = -2;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: StreamsGroupHeartbeatRequest) -> Outcome {
    if !access.environment.serves_streams() {
        return refused(Refusal { code: ErrorCode::UnsupportedVersion, message: String::new() });
    }
    match check(&request).and_then(|()| beat(access, context, &request)) {
        Ok((to_create, interval_ms)) => {
            create(access, context, &request.group_id, &to_create, interval_ms);
            Outcome::Deferred
        }
        Err(refusal) => refused(refusal),
    }
}

/// Takes the heartbeat to its group; gives the internal topics that are to be made, and the heartbeat interval.
fn beat(
    access: &GroupAccess,
    context: &RequestContext,
    request: &StreamsGroupHeartbeatRequest,
) -> Result<(Vec<StreamsTopicInfo>, i32), Refusal> {
    let environment = &access.environment;
    let group = &request.group_id;
    let served = access.coordinator.with_group(environment, group, context.now, |session| {
        let config = session.config().streams.overridden(&|name| environment.group_setting(group, name));
        let beat = Beat {
            request,
            client_id: context.client_id.clone().unwrap_or_else(|| Arc::from("")),
            client_host: Arc::clone(&context.client_host),
            now: session.now,
            config: &config,
            topic: &|name| environment.topic(name),
        };
        let (answer, output) = session.shard().streams_heartbeat(group, &beat)?;
        let response = answer.response;
        let build = move |stored: Result<(), ErrorCode>| match stored {
            Ok(()) => Response::from(response),
            Err(code) => error(code, None),
        };
        session.submit(output, held(context.defer(), build));
        Ok((answer.to_create, config.heartbeat_interval_ms))
    });
    served.unwrap_or_else(|code| refuse(code, ""))
}

/// Makes internal topics; members are told of those that cannot be made, for two heartbeats.
fn create(
    access: &GroupAccess,
    context: &RequestContext,
    group: &Arc<str>,
    topics: &[StreamsTopicInfo],
    interval_ms: i32,
) {
    let environment = &access.environment;
    let failed = topics.iter().filter_map(|topic| {
        let reason = environment.create_internal_topic(topic).err()?;
        tracing::warn!(%group, topic = %topic.name, reason, "an internal topic of a streams group cannot be made");
        Some((Arc::clone(&topic.name), reason))
    });
    let failures: Vec<(Arc<str>, String)> = failed.collect();
    if failures.is_empty() {
        return;
    }
    let noted = access.coordinator.with_group(environment, group, context.now, |session| {
        let until = session.now.ticks_ms.saturating_add(2 * i64::from(interval_ms));
        if let Some(group) = session.shard().streams_mut(group) {
            group.note_creation_failures(failures, until);
        }
    });
    if let Err(code) = noted {
        tracing::warn!(%group, code = code.name(), "members of a streams group are not told of topics that cannot be made");
    }
}

fn error(code: ErrorCode, message: Option<Arc<str>>) -> Response {
    Response::from(StreamsGroupHeartbeatResponse {
        error_code: code.code(),
        error_message: message.or_else(|| Some(code.message().into())),
        ..StreamsGroupHeartbeatResponse::default()
    })
}

fn refused(refusal: Refusal) -> Outcome {
    error(refusal.code, Some(refusal.message.into()).filter(|text: &Arc<str>| !text.is_empty())).into()
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    refuse(ErrorCode::InvalidRequest, message)
}

/// What a request must be whatever the group, first hit first as in Kafka.
fn check(request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    if let Some(topology) = &request.topology {
        check_topics(topology)?;
    }
    if request.instance_id.is_some() {
        return invalid("Static membership is not yet supported.");
    }
    if request.task_offsets.is_some() {
        return invalid("TaskOffsets are not supported yet.");
    }
    if request.task_end_offsets.is_some() {
        return invalid("TaskEndOffsets are not supported yet.");
    }
    if request.warmup_tasks.as_ref().is_some_and(|tasks| !tasks.is_empty()) {
        return invalid("WarmupTasks are not supported yet.");
    }
    let subtopologies = request.topology.iter().flat_map(|topology| &topology.subtopologies);
    if subtopologies.clone().any(|subtopology| !subtopology.source_topic_regex.is_empty()) {
        return invalid("Regular expressions for source topics are not supported yet.");
    }
    if request.member_id.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|rack| rack.is_empty()) {
        return invalid("RackId can't be empty.");
    }
    check_epoch(request)
}

fn check_epoch(request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    let roles = [
        ("ActiveTasks", &request.active_tasks),
        ("StandbyTasks", &request.standby_tasks),
        ("WarmupTasks", &request.warmup_tasks),
    ];
    match request.member_epoch {
        0 => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            for (role, tasks) in roles {
                if tasks.as_ref().is_none_or(|tasks| !tasks.is_empty()) {
                    return invalid(format!("{role} must be empty when (re-)joining."));
                }
            }
            let Some(topology) = &request.topology else {
                return invalid("Topology must be non-null when (re-)joining.");
            };
            check_changelogs(topology)?;
        }
        LEAVE_STATIC => return invalid("InstanceId can't be null."),
        epoch if epoch < LEAVE_STATIC => {
            return invalid(format!("MemberEpoch is {epoch}, but must be greater than or equal to -2."));
        }
        _ => {}
    }
    let given = roles.iter().filter(|(_, tasks)| tasks.is_some()).count();
    if given != 0 && given != roles.len() {
        return invalid("If one task-type is non-null, all must be non-null.");
    }
    if request.member_epoch != 0 && request.topology.is_some() {
        return invalid("Topology can only be provided when (re-)joining.");
    }
    Ok(())
}

fn check_changelogs(topology: &StreamsTopology) -> Result<(), Refusal> {
    let mut changelogs = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.state_changelog_topics);
    let Some(topic) = changelogs.find(|topic| topic.partitions != 0) else { return Ok(()) };
    let (name, partitions) = (&topic.name, topic.partitions);
    let message =
        format!("Changelog topic {name} must have an undefined partition count, but it is set to {partitions}.");
    refuse(ErrorCode::StreamsInvalidTopology, message)
}

/// Topics must have names that topics can have, and not be Kafka's own.
fn check_topics(topology: &StreamsTopology) -> Result<(), Refusal> {
    let topics: BTreeSet<&str> = topics_of(topology).into_iter().map(|topic| &**topic).collect();
    let is_internal = |topic: &&str| [OFFSETS_TOPIC, "__transaction_state", "__share_group_state"].contains(topic);
    let internal: Vec<&str> = topics.iter().copied().filter(is_internal).collect();
    if !internal.is_empty() {
        let message =
            format!("Use of Kafka internal topics {} in a Kafka Streams topology is prohibited.", internal.join(","));
        return refuse(ErrorCode::StreamsInvalidTopology, message);
    }
    let wrong: Vec<&str> = topics.iter().copied().filter(|topic| check_topic_name(topic).is_err()).collect();
    if !wrong.is_empty() {
        let message = format!("Topic names {} are not valid topic names.", wrong.join(","));
        return refuse(ErrorCode::StreamsInvalidTopology, message);
    }
    Ok(())
}
