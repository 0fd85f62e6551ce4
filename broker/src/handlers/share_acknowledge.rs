//! ShareAcknowledge: settles records that a member has acquired, in its share session; the last one of a session releases the rest.

use std::sync::Arc;

use protocol::api::share_acknowledge::{
    ShareAcknowledgePartitionResponse, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareAcknowledgeTopicResponse,
};
use protocol::api::{ErrorCode, Response};

use super::share_support::{Settled, acknowledge, session_key, take_apart};
use crate::dispatch::{Outcome, RequestContext};
use crate::share::sessions::{CLOSING_EPOCH, OPENING_EPOCH, SessionKey};
use crate::state::BrokerState;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: ShareAcknowledgeRequest) -> Outcome {
    let epoch = request.share_session_epoch;
    let key = match session_key(state, request.group_id, request.member_id).and_then(|key| take_turn(state, key, epoch))
    {
        Ok(key) => key,
        Err(code) => return refused(code).into(),
    };
    let config = state.shares.config_of(state, &key.group);
    let lock_ms = i32::try_from(config.record_lock_duration.ms).unwrap_or(i32::MAX);
    let (_, told) = take_apart(request.topics);
    let (responder, again, whose) = (context.defer(), Arc::downgrade(state), key.clone());
    let then = move |settled: Vec<Settled>| {
        if let Some(state) = again.upgrade().filter(|_| epoch == CLOSING_EPOCH) {
            state.shares.member_gone(&state, &whose);
        }
        responder.send(answer(settled, lock_ms));
    };
    acknowledge(state, &key, told, request.is_renew_ack, &config, context.now, then);
    Outcome::Deferred
}

fn take_turn(state: &BrokerState, key: SessionKey, epoch: i32) -> Result<SessionKey, ErrorCode> {
    let sessions = state.shares.sessions();
    match epoch {
        OPENING_EPOCH => return Err(ErrorCode::InvalidShareSessionEpoch),
        CLOSING_EPOCH if sessions.has(&key) => {}
        CLOSING_EPOCH => return Err(ErrorCode::ShareSessionNotFound),
        epoch => {
            sessions.go_on(&key, epoch, &[], &[])?;
        }
    }
    Ok(key)
}

fn answer(settled: Vec<Settled>, lock_ms: i32) -> Response {
    let mut response = ShareAcknowledgeResponse { acquisition_lock_timeout_ms: lock_ms, ..Default::default() };
    for ((topic_id, partition_index), error) in settled {
        let partition = ShareAcknowledgePartitionResponse {
            partition_index,
            error_code: error.code(),
            error_message: error.is_error().then(|| Arc::from(error.message())),
            ..Default::default()
        };
        match response.responses.last_mut() {
            Some(topic) if topic.topic_id == topic_id => topic.partitions.push(partition),
            _ => {
                let partitions = vec![partition];
                response.responses.push(ShareAcknowledgeTopicResponse { topic_id, partitions });
            }
        }
    }
    response.into()
}

fn refused(error: ErrorCode) -> Response {
    let error_message = Some(Arc::from(error.message()));
    ShareAcknowledgeResponse { error_code: error.code(), error_message, ..Default::default() }.into()
}
