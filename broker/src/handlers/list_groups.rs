//! ListGroups: all groups, by state and type if asked.

use protocol::api::messages::list_groups_response::ListedGroup;
use protocol::api::messages::{ListGroupsRequest, ListGroupsResponse};
use protocol::api::{Response, StrBytes};

use super::group_support::wire;
use crate::dispatch::{Outcome, RequestContext};
use crate::group::service::GroupAccess;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: ListGroupsRequest) -> Outcome {
    let passes = |filter: &[StrBytes], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(name))
    };
    let mut response = ListGroupsResponse::default();
    let shards = access.coordinator.with_all(&access.environment, context.now, |session| {
        let mut listed = Vec::new();
        for (id, group) in session.shard().groups() {
            let (kind, state) = (group.kind.name(), group.kind.state_name());
            if passes(&request.types_filter, kind) && passes(&request.states_filter, state) {
                listed.push(
                    ListedGroup::default()
                        .with_group_id(wire(id).into())
                        .with_protocol_type(wire(group.kind.protocol_type().unwrap_or_default()))
                        .with_group_state(wire(state))
                        .with_group_type(wire(kind)),
                );
            }
        }
        listed
    });
    for shard in shards {
        match shard {
            Ok(listed) => response.groups.extend(listed),
            Err(error) => response.error_code = error.code(),
        }
    }
    response.groups.sort_by(|a, b| a.group_id.as_str().cmp(b.group_id.as_str()));
    Response::from(response).into()
}
