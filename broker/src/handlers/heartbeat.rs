//! Heartbeat: a member is alive, and learns whether a rebalance is under way.

use protocol::api::messages::{HeartbeatRequest, HeartbeatResponse};
use protocol::api::{ErrorCode, Response};

use super::group_support::{code_of, own};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::service::GroupAccess;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: HeartbeatRequest) -> Outcome {
    let result =
        if request.group_id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { beat(access, context, &request) };
    Response::from(HeartbeatResponse::default().with_error_code(code_of(result))).into()
}

fn beat(access: &GroupAccess, context: &RequestContext, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
    let id = own(&request.group_id);
    access.coordinator.with_group(&access.environment, &id, context.now, |session| {
        let now = session.now;
        let instance_id = request.group_instance_id.as_deref();
        session.shard().heartbeat(&id, &request.member_id, instance_id, request.generation_id, now)
    })?
}
