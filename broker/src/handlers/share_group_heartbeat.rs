//! ShareGroupHeartbeat: a member of a share group joins, goes on, or leaves. Answered once what it changed is durable; the share state of partitions
//! that the group reads for the first time is made before.

use std::sync::Arc;

use base::Now;
use protocol::api::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use protocol::api::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use protocol::api::{ErrorCode, Response, StrBytes};

use super::group_support::{own, own_nullable, wire};
use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::group::consumer::heartbeat::Refusal;
use crate::group::consumer::member::{JOIN_EPOCH, LEAVE_EPOCH};
use crate::group::coordinator::held;
use crate::group::service::GroupAccess;
use crate::group::share::heartbeat::{Answer, Heartbeat};
use crate::group::share::state_partitions::ToInitialize;
use crate::share::config::ShareConfig;
use crate::share::state::NO_OFFSET;
use crate::state::BrokerState;

/// Longest id or name that a record's key has room for, in bytes.
const MAX_ID_BYTES: usize = i16::MAX as usize;

/// A heartbeat on its way through the making of share state.
struct Beat {
    access: GroupAccess,
    id: Arc<str>,
    beat: Heartbeat,
    config: ShareConfig,
    now: Now,
}

pub(crate) fn serve(
    state: &Arc<BrokerState>,
    access: &GroupAccess,
    context: &RequestContext,
    request: ShareGroupHeartbeatRequest,
) -> Outcome {
    if let Err(refusal) = check(state, &request) {
        return refused(refusal).into();
    }
    let id = own(&request.group_id);
    let beat = Beat {
        access: access.clone(),
        config: state.shares.config_of(state, &id),
        id,
        beat: heartbeat(context, &request),
        now: context.now,
    };
    match beat.to_initialize() {
        Err(error) => refused(error.into()).into(),
        Ok(made) if made.topics.is_empty() => {
            beat.finish(made, context.defer());
            Outcome::Deferred
        }
        Ok(made) => {
            let responder = context.defer();
            let keys = made.keys(&beat.id, NO_OFFSET);
            let epoch = made.state_epoch;
            let again = Arc::downgrade(state);
            let done = move |result: Result<(), ErrorCode>| match (result, again.upgrade()) {
                (Ok(()), _) => beat.finish(made, responder),
                // Left of a group of that name that is gone: it goes too.
                (Err(ErrorCode::FencedStateEpoch), Some(state)) => {
                    let old = made.keys(&beat.id, NO_OFFSET).into_iter().map(|(key, _)| key).collect();
                    state.shares.delete_state(
                        &state,
                        old,
                        Box::new(move |_| {
                            responder.send(refused(ErrorCode::CoordinatorLoadInProgress.into()));
                        }),
                    );
                }
                (Err(error), _) => responder.send(refused(error.into())),
            };
            state.shares.initialize_state(state, keys, epoch, Box::new(done));
            Outcome::Deferred
        }
    }
}

impl Beat {
    fn to_initialize(&self) -> Result<ToInitialize, ErrorCode> {
        self.access.coordinator.with_group(&self.access.environment, &self.id, self.now, |session| {
            session.shard().share_to_initialize(&self.id, &self.beat, &*self.access.environment, &self.config)
        })
    }

    fn finish(self, made: ToInitialize, responder: Responder) {
        let mut responder = Some(responder);
        let served = self.access.coordinator.with_group(&self.access.environment, &self.id, self.now, |session| {
            let (now, environment) = (session.now, &*self.access.environment);
            let shard = session.shard();
            let (answer, output) =
                shard.share_heartbeat(&self.id, &self.beat, &made, environment, now, &self.config)?;
            let build = move |stored: Result<(), ErrorCode>| match stored {
                Ok(()) => response(answer),
                Err(error) => refused(error.into()),
            };
            session.submit(output, responder.take().and_then(|responder| held(responder, build)));
            Ok(())
        });
        let refusal = match served {
            Ok(Ok(())) => return,
            Ok(Err(refusal)) => refusal,
            Err(error) => error.into(),
        };
        if let Some(responder) = responder {
            responder.send(refused(refusal));
        }
    }
}

fn invalid(message: &str) -> Result<(), Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

/// What can be said of a heartbeat without its group.
fn check(state: &BrokerState, request: &ShareGroupHeartbeatRequest) -> Result<(), Refusal> {
    state.shares.check_enabled(state)?;
    if request.member_id.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|rack| rack.is_empty()) {
        return invalid("RackId can't be empty.");
    }
    if request.group_id.len() > MAX_ID_BYTES || request.member_id.len() > MAX_ID_BYTES {
        return invalid("GroupId or MemberId is too long.");
    }
    match request.member_epoch {
        JOIN_EPOCH if request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty) => {
            invalid("SubscribedTopicNames must be set in first request.")
        }
        epoch if epoch < LEAVE_EPOCH => invalid("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

fn heartbeat(context: &RequestContext, request: &ShareGroupHeartbeatRequest) -> Heartbeat {
    Heartbeat {
        member_id: own(&request.member_id),
        epoch: request.member_epoch,
        rack_id: own_nullable(request.rack_id.as_ref()),
        client_id: context.client_id.clone().unwrap_or_else(|| Arc::from("")),
        client_host: context.client_host.clone(),
        topic_names: request.subscribed_topic_names.as_ref().map(|names| names.iter().map(|name| own(name)).collect()),
    }
}

fn response(answer: Answer) -> Response {
    let assignment = answer.assignment.map(|topics| {
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.into_iter().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ShareGroupHeartbeatResponse::default()
        .with_member_id(Some(wire(&answer.member_id)))
        .with_member_epoch(answer.epoch)
        .with_heartbeat_interval_ms(answer.heartbeat_interval_ms)
        .with_assignment(assignment)
        .into()
}

fn refused(refusal: Refusal) -> Response {
    ShareGroupHeartbeatResponse::default()
        .with_error_code(refusal.code.code())
        .with_error_message(Some(StrBytes::from_string(refusal.message)))
        .into()
}
