//! ConsumerGroupDescribe: epochs, members and assignments of consumer groups. Other kinds of groups count as not found.

use base::PartitionId;
use protocol::api::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use protocol::api::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, TopicName};
use protocol::api::{ErrorCode, Response, StrBytes, Uuid};

use super::group_support::{ALL_GROUP_OPERATIONS, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::consumer::ConsumerGroup;
use crate::group::consumer::member::Member;
use crate::group::service::GroupAccess;

/// First version that says which protocol a member speaks.
const FIRST_WITH_MEMBER_TYPE: i16 = 1;
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;
const UNKNOWN_MEMBER_TYPE: i8 = -1;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: ConsumerGroupDescribeRequest) -> Outcome {
    let operations = if request.include_authorized_operations { ALL_GROUP_OPERATIONS } else { i32::MIN };
    let enabled = access.coordinator.config().consumer.enabled;
    let groups = request.group_ids.into_iter().map(|id| {
        let described = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
            let assignor = |group: &ConsumerGroup| group.assignor(&access.coordinator.config().consumer).name();
            match session.shard().group(&id).map(|group| group.consumer()) {
                Some(Some(group)) => Ok(describe(access, context.version, group, assignor(group))),
                Some(None) => {
                    Err((ErrorCode::GroupIdNotFound, format!("Group {} is not a consumer group.", id.as_str())))
                }
                None => Err((ErrorCode::GroupIdNotFound, format!("Group {} not found.", id.as_str()))),
            }
        });
        let described = match described {
            _ if !enabled => Err((ErrorCode::UnsupportedVersion, ErrorCode::UnsupportedVersion.message().to_owned())),
            _ if id.is_empty() => Err((ErrorCode::InvalidGroupId, ErrorCode::InvalidGroupId.message().to_owned())),
            Ok(described) => described,
            // Nothing was ever committed here: no such group.
            Err(ErrorCode::CoordinatorNotAvailable) if access.environment.offsets_partitions().is_none() => {
                Err((ErrorCode::GroupIdNotFound, format!("Group {} not found.", id.as_str())))
            }
            Err(error) => Err((error, error.message().to_owned())),
        };
        let described = described.unwrap_or_else(|(error, message)| {
            DescribedGroup::default()
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(message)))
        });
        described.with_group_id(id).with_authorized_operations(operations)
    });
    Response::from(ConsumerGroupDescribeResponse::default().with_groups(groups.collect())).into()
}

fn describe(access: &GroupAccess, version: i16, group: &ConsumerGroup, assignor: &str) -> DescribedGroup {
    let members = group.members().map(|member| describe_member(access, version, group, member));
    DescribedGroup::default()
        .with_group_state(wire(group.state().name()))
        .with_group_epoch(group.epoch())
        .with_assignment_epoch(group.target_epoch())
        .with_assignor_name(wire(assignor))
        .with_members(members.collect())
}

fn describe_member(access: &GroupAccess, version: i16, group: &ConsumerGroup, member: &Member) -> DescribedMember {
    let metadata = &member.metadata;
    let assigned =
        member.current.assigned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()));
    let target = group.target(&member.id).into_iter().flatten();
    let target = target.map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()));
    let kind = if metadata.classic.is_some() { CLASSIC_MEMBER } else { CONSUMER_MEMBER };
    DescribedMember::default()
        .with_member_id(wire(&member.id))
        .with_instance_id(metadata.instance_id.as_deref().map(wire))
        .with_rack_id(metadata.rack_id.as_deref().map(wire))
        .with_member_epoch(member.current.epoch)
        .with_client_id(wire(&metadata.client_id))
        .with_client_host(wire(&metadata.client_host))
        .with_subscribed_topic_names(metadata.topic_names.iter().map(|name| TopicName(wire(name))).collect())
        .with_subscribed_topic_regex(metadata.topic_regex.as_deref().map(wire))
        .with_assignment(assignment(access, assigned))
        .with_target_assignment(assignment(access, target))
        .with_member_type(if version >= FIRST_WITH_MEMBER_TYPE { kind } else { UNKNOWN_MEMBER_TYPE })
}

/// Topics that have been deleted since have no name to be shown by, and are left out.
fn assignment(access: &GroupAccess, topics: impl Iterator<Item = (Uuid, Vec<PartitionId>)>) -> Assignment {
    let topics = topics.filter_map(|(id, partitions)| {
        let name = access.environment.topic_name(id)?;
        let topic = TopicPartitions::default().with_topic_id(id).with_topic_name(TopicName(wire(&name)));
        Some(topic.with_partitions(partitions))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
