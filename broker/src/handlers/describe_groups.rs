//! DescribeGroups: state and members of groups. An unknown group is `Dead`; from version 6 on also an error. So is one
//! that is not classic: other kinds have requests of their own.

use bytes::Bytes;
use protocol::api::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use protocol::api::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use protocol::api::{ErrorCode, Response, StrBytes};

use super::group_support::{ALL_GROUP_OPERATIONS, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::classic::{ClassicGroup, State};
use crate::group::kind::Group;
use crate::group::service::GroupAccess;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: DescribeGroupsRequest) -> Outcome {
    let operations =
        if context.version >= 3 && request.include_authorized_operations { ALL_GROUP_OPERATIONS } else { i32::MIN };
    let groups = request.groups.into_iter().map(|id| {
        let described = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
            let group = session.shard().group(&id);
            match group.map(Group::classic) {
                Some(Some(group)) => describe(group),
                Some(None) => unknown(context.version, format!("Group {} is not a classic group.", id.as_str())),
                None => unknown(context.version, not_found(&id)),
            }
        });
        let described = match described {
            Ok(described) => described,
            // Nothing was ever committed here: no such group.
            Err(ErrorCode::CoordinatorNotAvailable) if access.environment.offsets_partitions().is_none() => {
                unknown(context.version, not_found(&id))
            }
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
        };
        let operations = if described.error_code == 0 { operations } else { i32::MIN };
        described.with_group_id(id).with_authorized_operations(operations)
    });
    Response::from(DescribeGroupsResponse::default().with_groups(groups.collect())).into()
}

fn not_found(id: &GroupId) -> String {
    format!("Group {} not found.", id.as_str())
}

fn unknown(version: i16, message: String) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_state(wire(State::Dead.name()));
    if version < 6 {
        return group;
    }
    group.with_error_code(ErrorCode::GroupIdNotFound.code()).with_error_message(Some(StrBytes::from_string(message)))
}

fn describe(group: &ClassicGroup) -> DescribedGroup {
    let protocol = group.protocol().filter(|_| group.state() == State::Stable).map(AsRef::as_ref);
    let members = group.members().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(wire(&member.id))
            .with_group_instance_id(member.instance_id.as_deref().map(wire))
            .with_client_id(wire(&member.client_id))
            .with_client_host(wire(&member.client_host))
            .with_member_metadata(member.metadata(protocol))
            .with_member_assignment(if protocol.is_some() { member.assignment.clone() } else { Bytes::new() })
    });
    DescribedGroup::default()
        .with_group_state(wire(group.state().name()))
        .with_protocol_type(wire(group.protocol_type().map_or("", AsRef::as_ref)))
        .with_protocol_data(wire(protocol.unwrap_or_default()))
        .with_members(members.collect())
}
