//! OffsetFetch: committed offsets of one group (up to version 7) or of several. What was never committed has offset -1.

use protocol::api::messages::offset_fetch_request::OffsetFetchRequestTopics;
use protocol::api::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use protocol::api::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse};
use protocol::api::{ErrorCode, Response, StrBytes, Uuid};

use super::group_support::wire;
use crate::dispatch::{Outcome, RequestContext};
use crate::group::offsets::Offsets;
use crate::group::service::GroupAccess;

type Fetched = Result<Vec<OffsetFetchResponseTopics>, ErrorCode>;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: OffsetFetchRequest) -> Outcome {
    let stable = request.require_stable;
    if context.version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let member = (group.member_id.as_deref(), group.member_epoch);
            let fetched = fetch(access, context, &group.group_id, member, group.topics.as_deref(), stable);
            let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
            match fetched {
                Ok(topics) => response.with_topics(topics),
                Err(error) => response.with_error_code(error.code()),
            }
        });
        return Response::from(OffsetFetchResponse::default().with_groups(groups.collect())).into();
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
        });
        topics.collect::<Vec<_>>()
    });
    let fetched = match fetch(access, context, &request.group_id, (None, -1), topics.as_deref(), stable) {
        Err(error) if context.version < 2 => Ok(all_failed(topics.unwrap_or_default(), error)),
        fetched => fetched,
    };
    let response = OffsetFetchResponse::default();
    Response::from(match fetched {
        Ok(topics) => response.with_topics(topics.into_iter().map(older).collect()),
        Err(error) => response.with_error_code(error.code()),
    })
    .into()
}

/// The layout of topics before version 8.
fn older(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}

/// Version 1 has no place for an error but the partitions.
fn all_failed(topics: Vec<OffsetFetchRequestTopics>, error: ErrorCode) -> Vec<OffsetFetchResponseTopics> {
    let failed = topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| missing(*index, error));
        OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    failed.collect()
}

fn missing(index: i32, error: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::new()))
        .with_error_code(error.code())
}

/// Offsets of `topics` (all for `None`) of one group, for a member that says in which epoch it is.
fn fetch(
    access: &GroupAccess,
    context: &RequestContext,
    group: &GroupId,
    (member_id, member_epoch): (Option<&str>, i32),
    topics: Option<&[OffsetFetchRequestTopics]>,
    require_stable: bool,
) -> Fetched {
    let by_id = context.version >= 10;
    access.coordinator.with_group(&access.environment, group, context.now, |session| {
        let none = Offsets::default();
        let known = session.shard().group(group);
        if let Some(known) = known {
            known.kind.check_fetch(member_id, member_epoch)?;
        }
        let offsets = known.map_or(&none, |group| &group.offsets);
        let one = |name: &str, id: Uuid, index: i32| {
            if require_stable && offsets.is_pending(name, index) {
                return missing(index, ErrorCode::UnstableOffsetCommit);
            }
            // Committed for a topic of that name which has been deleted since.
            let same = |stored: Uuid| !by_id || stored.is_nil() || stored == id;
            match offsets.get(name, index).filter(|value| same(value.topic_id)) {
                None => missing(index, ErrorCode::None),
                Some(value) => OffsetFetchResponsePartitions::default()
                    .with_partition_index(index)
                    .with_committed_offset(value.offset)
                    .with_committed_leader_epoch(value.leader_epoch)
                    .with_metadata(Some(wire(&value.metadata))),
            }
        };
        Ok(match topics {
            Some(topics) => topics.iter().map(|topic| asked(access, by_id, topic, one)).collect(),
            None => all(access, by_id, offsets, one),
        })
    })?
}

fn asked(
    access: &GroupAccess,
    by_id: bool,
    topic: &OffsetFetchRequestTopics,
    one: impl Fn(&str, Uuid, i32) -> OffsetFetchResponsePartitions,
) -> OffsetFetchResponseTopics {
    let name = if by_id { access.environment.topic_name(topic.topic_id) } else { Some(topic.name.as_str().into()) };
    let partitions = topic.partition_indexes.iter().map(|index| match &name {
        Some(name) => one(name, topic.topic_id, *index),
        None => missing(*index, ErrorCode::UnknownTopicId),
    });
    OffsetFetchResponseTopics::default()
        .with_name(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions.collect())
}

fn all(
    access: &GroupAccess,
    by_id: bool,
    offsets: &Offsets,
    one: impl Fn(&str, Uuid, i32) -> OffsetFetchResponsePartitions,
) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    let mut current: Option<&str> = None;
    for (name, index, _) in offsets.iter() {
        let id = if by_id { access.environment.topic(name).map(|(id, _)| id) } else { Some(Uuid::nil()) };
        // A topic that is gone has no id to be named by.
        let Some(id) = id else { continue };
        if current != Some(name) {
            current = Some(name);
            let topic = OffsetFetchResponseTopics::default().with_topic_id(id);
            topics.push(if by_id { topic } else { topic.with_name(wire(name).into()) });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(one(name, id, index));
        }
    }
    topics
}
