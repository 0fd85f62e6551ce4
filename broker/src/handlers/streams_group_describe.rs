//! StreamsGroupDescribe: state, topology and members of streams groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::streams_group_describe::{
    DescribedStreamsGroup, DescribedStreamsMember, DescribedSubtopology, DescribedTasks, DescribedTopology,
    StreamsGroupDescribeRequest, StreamsGroupDescribeResponse,
};
use protocol::api::streams_group_heartbeat::StreamsTopicInfo;
use protocol::api::{ErrorCode, Response};

use super::group_support::ALL_GROUP_OPERATIONS;
use crate::dispatch::{Outcome, RequestContext};
use crate::group::kind::Group;
use crate::group::service::GroupAccess;
use crate::group::streams::StreamsGroup;
use crate::group::streams::member::Member;
use crate::group::streams::tasks::{Tasks, to_wire};

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: StreamsGroupDescribeRequest) -> Outcome {
    let operations = if request.include_authorized_operations { ALL_GROUP_OPERATIONS } else { i32::MIN };
    let environment = &access.environment;
    let groups = request.group_ids.into_iter().map(|id| {
        let found = access.coordinator.with_group(environment, &id, context.now, |session| {
            match session.shard().group(&id).map(Group::streams) {
                Some(Some(group)) => describe(group, &|topic| environment.topic(topic).map(|(_, count)| count)),
                Some(None) => not_found(format!("Group {id} is not a streams group.")),
                None => not_found(format!("Group {id} not found.")),
            }
        });
        let described = found.unwrap_or_else(|code| match code {
            // Nothing was ever committed here: no such group.
            ErrorCode::CoordinatorNotAvailable if environment.offsets_partitions().is_none() => {
                not_found(format!("Group {id} not found."))
            }
            code => DescribedStreamsGroup { error_code: code.code(), ..DescribedStreamsGroup::default() },
        });
        DescribedStreamsGroup { group_id: id, authorized_operations: operations, ..described }
    });
    let groups = groups.collect();
    Response::from(StreamsGroupDescribeResponse { groups, ..StreamsGroupDescribeResponse::default() }).into()
}

fn not_found(message: String) -> DescribedStreamsGroup {
    DescribedStreamsGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(message.into()),
        ..DescribedStreamsGroup::default()
    }
}

fn describe(group: &StreamsGroup, partitions: &dyn Fn(&str) -> Option<i32>) -> DescribedStreamsGroup {
    DescribedStreamsGroup {
        group_state: group.state().name().into(),
        group_epoch: group.epoch(),
        assignment_epoch: group.target_epoch(),
        topology: topology_of(group, partitions),
        members: group.members().map(|(id, member)| describe_member(group, id, member)).collect(),
        ..DescribedStreamsGroup::default()
    }
}

/// The topology, with the number of partitions of internal topics once those are as they must be.
fn topology_of(group: &StreamsGroup, partitions: &dyn Fn(&str) -> Option<i32>) -> Option<DescribedTopology> {
    let topology = group.topology()?;
    let counts: BTreeMap<Arc<str>, i32> = group.internal_topics(partitions).unwrap_or_default();
    let internal = |topics: &[StreamsTopicInfo]| {
        let topics = topics.iter().map(|topic| StreamsTopicInfo {
            partitions: counts.get(&topic.name).copied().unwrap_or(topic.partitions),
            ..topic.clone()
        });
        let mut topics: Vec<StreamsTopicInfo> = topics.collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        topics
    };
    let sorted = |names: &[Arc<str>]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let subtopologies = topology.subtopologies.iter().map(|subtopology| DescribedSubtopology {
        subtopology_id: Arc::clone(&subtopology.subtopology_id),
        source_topics: sorted(&subtopology.source_topics),
        repartition_sink_topics: sorted(&subtopology.repartition_sink_topics),
        state_changelog_topics: internal(&subtopology.state_changelog_topics),
        repartition_source_topics: internal(&subtopology.repartition_source_topics),
    });
    Some(DescribedTopology { epoch: topology.epoch, subtopologies: Some(subtopologies.collect()) })
}

fn describe_member(group: &StreamsGroup, id: &Arc<str>, member: &Member) -> DescribedStreamsMember {
    let info = &member.info;
    DescribedStreamsMember {
        member_id: Arc::clone(id),
        member_epoch: member.current.epoch,
        instance_id: info.instance_id.clone(),
        rack_id: info.rack_id.clone(),
        client_id: Arc::clone(&info.client_id),
        client_host: Arc::clone(&info.client_host),
        topology_epoch: info.topology_epoch,
        process_id: Arc::clone(&info.process_id),
        user_endpoint: info.user_endpoint.clone(),
        client_tags: info.client_tags.clone(),
        assignment: describe_tasks(&member.current.assigned.tasks()),
        target_assignment: group.target(id).map(describe_tasks).unwrap_or_default(),
        ..DescribedStreamsMember::default()
    }
}

fn describe_tasks(tasks: &Tasks) -> DescribedTasks {
    DescribedTasks {
        active_tasks: to_wire(&tasks.active),
        standby_tasks: to_wire(&tasks.standby),
        warmup_tasks: to_wire(&tasks.warmup),
    }
}
