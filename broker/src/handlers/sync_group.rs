//! SyncGroup: the leader brings the assignment, every member gets its part.

use bytes::Bytes;
use protocol::api::messages::{SyncGroupRequest, SyncGroupResponse};
use protocol::api::{ErrorCode, Response};

use super::group_support::{own, own_nullable, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::classic::Sync;
use crate::group::output::SyncAnswer;
use crate::group::service::GroupAccess;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: SyncGroupRequest) -> Outcome {
    let version = context.version;
    if request.group_id.is_empty() {
        return response(version, SyncAnswer::error(ErrorCode::InvalidGroupId)).into();
    }
    if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return response(version, SyncAnswer::error(ErrorCode::InconsistentGroupProtocol)).into();
    }
    let id = own(&request.group_id);
    let sync = Sync {
        ticket: 0,
        member_id: own(&request.member_id),
        instance_id: own_nullable(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: own_nullable(request.protocol_type.as_ref()),
        protocol: own_nullable(request.protocol_name.as_ref()),
        assignments: request
            .assignments
            .iter()
            .map(|member| (own(&member.member_id), Bytes::copy_from_slice(&member.assignment)))
            .collect(),
    };
    let served = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
        let ticket = session.hold_sync(context.defer(), move |answer| response(version, answer));
        let now = session.now;
        let output = session.shard().sync(&id, Sync { ticket, ..sync }, &*access.environment, now);
        session.submit(output, None);
    });
    match served {
        Ok(()) => Outcome::Deferred,
        Err(error) => response(version, SyncAnswer::error(error)).into(),
    }
}

fn response(version: i16, answer: SyncAnswer) -> Response {
    SyncGroupResponse::default()
        .with_error_code(answer.error.code())
        .with_protocol_type(answer.protocol_type.as_deref().filter(|_| version >= 5).map(wire))
        .with_protocol_name(answer.protocol.as_deref().filter(|_| version >= 5).map(wire))
        .with_assignment(answer.assignment)
        .into()
}
