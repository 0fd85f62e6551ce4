//! LeaveGroup: members go, by themselves or removed by an operator. From version 3 on several at once, each with its
//! own result.

use std::sync::Arc;

use protocol::api::messages::leave_group_response::MemberResponse;
use protocol::api::messages::{LeaveGroupRequest, LeaveGroupResponse};
use protocol::api::{ErrorCode, Response};

use super::group_support::{own, own_nullable, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::coordinator::held;
use crate::group::service::GroupAccess;

type Leaving = Vec<(Arc<str>, Option<Arc<str>>)>;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: LeaveGroupRequest) -> Outcome {
    if request.group_id.is_empty() {
        return failure(ErrorCode::InvalidGroupId).into();
    }
    let version = context.version;
    let id = own(&request.group_id);
    let leaving: Leaving = if version < 3 {
        vec![(own(&request.member_id), None)]
    } else {
        let named = request.members.iter();
        named.map(|member| (own(&member.member_id), own_nullable(member.group_instance_id.as_ref()))).collect()
    };
    let served = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
        let (now, config) = (session.now, session.config().clone());
        let (results, output) = session.shard().leave(&id, &leaving, &*access.environment, now, &config);
        let build = move |stored: Result<(), ErrorCode>| match stored {
            Ok(()) => response(version, &leaving, &results),
            Err(error) => failure(error),
        };
        session.submit(output, held(context.defer(), build));
    });
    match served {
        Ok(()) => Outcome::Deferred,
        Err(error) => failure(error).into(),
    }
}

fn failure(error: ErrorCode) -> Response {
    LeaveGroupResponse::default().with_error_code(error.code()).into()
}

fn response(version: i16, leaving: &Leaving, results: &[ErrorCode]) -> Response {
    if version < 3 {
        return failure(results.first().copied().unwrap_or(ErrorCode::None));
    }
    let members = leaving.iter().zip(results).map(|((member_id, instance_id), error)| {
        MemberResponse::default()
            .with_member_id(wire(member_id))
            .with_group_instance_id(instance_id.as_deref().map(wire))
            .with_error_code(error.code())
    });
    LeaveGroupResponse::default().with_members(members.collect()).into()
}
