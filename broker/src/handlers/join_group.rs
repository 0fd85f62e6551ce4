//! JoinGroup: a member comes to its group, or comes back; answered when the next generation begins.

use bytes::Bytes;
use protocol::api::messages::join_group_response::JoinGroupResponseMember;
use protocol::api::messages::{JoinGroupRequest, JoinGroupResponse};
use protocol::api::{ErrorCode, Response, Uuid};

use super::group_support::{own, own_nullable, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::classic::Join;
use crate::group::output::JoinAnswer;
use crate::group::service::GroupAccess;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: JoinGroupRequest) -> Outcome {
    let version = context.version;
    let member_id = own(&request.member_id);
    if request.group_id.is_empty() {
        return response(version, JoinAnswer::error(ErrorCode::InvalidGroupId, member_id)).into();
    }
    let id = own(&request.group_id);
    let join = Join {
        ticket: 0,
        version,
        member_id: member_id.clone(),
        instance_id: own_nullable(request.group_instance_id.as_ref()),
        client_id: context.client_id.clone().unwrap_or_else(|| "".into()),
        client_host: context.client_host.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: own(&request.protocol_type),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| (own(&protocol.name), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
        fresh_uuid: Uuid::from_bytes(access.environment.random_uuid()).to_string().into(),
    };
    let served = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
        let ticket = session.hold_join(context.defer(), move |answer| response(version, answer));
        let (now, config) = (session.now, session.config().clone());
        let output = session.shard().join(&id, Join { ticket, ..join }, &*access.environment, now, &config);
        session.submit(output, None);
    });
    match served {
        Ok(()) => Outcome::Deferred,
        Err(error) => response(version, JoinAnswer::error(error, member_id)).into(),
    }
}

fn response(version: i16, answer: JoinAnswer) -> Response {
    let members = answer
        .members
        .into_iter()
        .map(|member| {
            JoinGroupResponseMember::default()
                .with_member_id(wire(&member.member_id))
                .with_group_instance_id(member.group_instance_id.as_deref().filter(|_| version >= 5).map(wire))
                .with_metadata(member.metadata)
        })
        .collect();
    let protocol = answer.protocol.as_deref();
    // Not nullable before version 7.
    let protocol = if version >= 7 { protocol } else { Some(protocol.unwrap_or_default()) };
    JoinGroupResponse::default()
        .with_error_code(answer.error.code())
        .with_generation_id(answer.generation)
        .with_protocol_type(answer.protocol_type.as_deref().filter(|_| version >= 7).map(wire))
        .with_protocol_name(protocol.map(wire))
        .with_leader(wire(&answer.leader))
        .with_skip_assignment(answer.skip_assignment && version >= 9)
        .with_member_id(wire(&answer.member_id))
        .with_members(members)
        .into()
}
