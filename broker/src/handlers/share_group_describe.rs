//! ShareGroupDescribe: epochs, members and assignments of share groups. Other kinds of groups count as not found.

use std::sync::Arc;

use protocol::api::messages::share_group_describe_response::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use protocol::api::messages::{ShareGroupDescribeRequest, ShareGroupDescribeResponse, TopicName};
use protocol::api::{ErrorCode, Response, StrBytes};

use super::group_support::{ALL_GROUP_OPERATIONS, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::service::GroupAccess;
use crate::group::share::group::Member;
use crate::group::share::{ShareGroup, assignor};
use crate::state::BrokerState;

pub(crate) fn serve(
    state: &Arc<BrokerState>,
    access: &GroupAccess,
    context: &RequestContext,
    request: ShareGroupDescribeRequest,
) -> Outcome {
    let operations = if request.include_authorized_operations { ALL_GROUP_OPERATIONS } else { i32::MIN };
    let enabled = state.shares.check_enabled(state);
    let groups = request.group_ids.into_iter().map(|id| {
        let not_found = |what: &str| (ErrorCode::GroupIdNotFound, format!("Group {} {what}.", id.as_str()));
        let described = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
            match session.shard().group(&id).map(|group| group.share()) {
                Some(Some(group)) => Ok(describe(access, group)),
                Some(None) => Err(not_found("is not a share group")),
                None => Err(not_found("not found")),
            }
        });
        let described = match (enabled, described) {
            (Err(error), _) => Err((error, error.message().to_owned())),
            _ if id.is_empty() => Err((ErrorCode::InvalidGroupId, ErrorCode::InvalidGroupId.message().to_owned())),
            (Ok(()), Ok(described)) => described,
            // Nothing was ever written here: no such group.
            (Ok(()), Err(ErrorCode::CoordinatorNotAvailable)) if access.environment.offsets_partitions().is_none() => {
                Err(not_found("not found"))
            }
            (Ok(()), Err(error)) => Err((error, error.message().to_owned())),
        };
        let described = described.unwrap_or_else(|(error, message)| {
            DescribedGroup::default()
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(message)))
        });
        described.with_group_id(id).with_authorized_operations(operations)
    });
    Response::from(ShareGroupDescribeResponse::default().with_groups(groups.collect())).into()
}

fn describe(access: &GroupAccess, group: &ShareGroup) -> DescribedGroup {
    let members = group.members().map(|member| describe_member(access, member));
    DescribedGroup::default()
        .with_group_state(wire(group.state().name()))
        .with_group_epoch(group.epoch())
        .with_assignment_epoch(group.target_epoch())
        .with_assignor_name(wire(assignor::NAME))
        .with_members(members.collect())
}

fn describe_member(access: &GroupAccess, member: &Member) -> DescribedMember {
    let metadata = &member.metadata;
    // Topics that have been deleted since have no name to be shown by, and are left out.
    let topics = member.current.assigned.iter().filter_map(|(id, partitions)| {
        let name = access.environment.topic_name(*id)?;
        let topic = TopicPartitions::default().with_topic_id(*id).with_topic_name(TopicName(wire(&name)));
        Some(topic.with_partitions(partitions.iter().copied().collect()))
    });
    DescribedMember::default()
        .with_member_id(wire(&member.id))
        .with_rack_id(metadata.rack_id.as_deref().map(wire))
        .with_member_epoch(member.current.epoch)
        .with_client_id(wire(&metadata.client_id))
        .with_client_host(wire(&metadata.client_host))
        .with_subscribed_topic_names(metadata.topic_names.iter().map(|name| TopicName(wire(name))).collect())
        .with_assignment(Assignment::default().with_topic_partitions(topics.collect()))
}
