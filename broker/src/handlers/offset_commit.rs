//! OffsetCommit: where a consumer continues. Answered when the offsets are durable; read back only then.

use protocol::api::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use protocol::api::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use protocol::api::{ErrorCode, Response, Uuid};

use super::group_support::{own, own_nullable};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::coordinator::held;
use crate::group::service::GroupAccess;
use crate::group::shard::{Commit, Committer};

/// A topic of the request, and what is known of its partitions; `None` for those that the group decides.
struct Topic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<(i32, Option<ErrorCode>)>,
}

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: OffsetCommitRequest) -> Outcome {
    let version = context.version;
    let limit = access.coordinator.config().offset_metadata_max;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut commits = Vec::new();
    let mut undecided = false;
    for topic in request.topics {
        let known = find(access, version, &topic.name, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let metadata = partition.committed_metadata.unwrap_or_default();
            let error = match &known {
                Err(error) => Some(*error),
                Ok((_, _, count)) if !(0..*count).contains(&index) => Some(ErrorCode::UnknownTopicOrPartition),
                Ok((name, id, _)) => {
                    undecided = true;
                    // Never more UTF-16 units than bytes: short text needs no counting.
                    if metadata.len() > limit && metadata.encode_utf16().count() > limit {
                        Some(ErrorCode::OffsetMetadataTooLarge)
                    } else {
                        commits.push(Commit {
                            topic: name.clone(),
                            topic_id: *id,
                            partition: index,
                            offset: partition.committed_offset,
                            leader_epoch: partition.committed_leader_epoch,
                            metadata: own(&metadata),
                        });
                        None
                    }
                }
            };
            partitions.push((index, error));
        }
        topics.push(Topic { name: topic.name, id: topic.topic_id, partitions });
    }
    if !undecided {
        return response(topics, ErrorCode::None).into();
    }
    let committer = Committer {
        group: own(&request.group_id),
        member_id: own(&request.member_id),
        instance_id: own_nullable(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
        expire_timestamp: (request.retention_time_ms >= 0)
            .then(|| context.now.wall_ms.saturating_add(request.retention_time_ms)),
        version: Some(version),
    };
    let group = committer.group.clone();
    let mut topics = Some(topics);
    let served = access.coordinator.with_group(&access.environment, &group, context.now, |session| {
        let now = session.now;
        let (results, output) = session.shard().commit(&committer, commits, now)?;
        let mut topics = topics.take().unwrap_or_default();
        note_results(&mut topics, results);
        let build = move |stored: Result<(), ErrorCode>| response(topics, stored.err().unwrap_or(ErrorCode::None));
        session.submit(output, held(context.defer(), build));
        Ok(())
    });
    match served {
        Ok(Ok(())) => Outcome::Deferred,
        Err(error) | Ok(Err(error)) => refuse(topics.unwrap_or_default(), error).into(),
    }
}

/// Name, id and number of partitions of a topic: by id from version 10 on, by name before.
fn find(
    access: &GroupAccess,
    version: i16,
    name: &TopicName,
    id: Uuid,
) -> Result<(std::sync::Arc<str>, Uuid, i32), ErrorCode> {
    let environment = &access.environment;
    let name = if version >= 10 { environment.topic_name(id).ok_or(ErrorCode::UnknownTopicId)? } else { own(name) };
    let (id, partitions) = environment.topic(&name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok((name, id, partitions))
}

/// Puts the group's word on each partition that it decided.
fn note_results(topics: &mut [Topic], results: Vec<Result<(), ErrorCode>>) {
    let undecided = topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|(_, known)| known.is_none());
    for ((_, known), result) in undecided.zip(results) {
        *known = result.err();
    }
}

/// The group did not take the commit: an error for all partitions, those with too long metadata included.
fn refuse(mut topics: Vec<Topic>, error: ErrorCode) -> Response {
    for (_, known) in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if *known == Some(ErrorCode::OffsetMetadataTooLarge) {
            *known = None;
        }
    }
    response(topics, error)
}

fn response(topics: Vec<Topic>, otherwise: ErrorCode) -> Response {
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, error)| {
            let error = error.unwrap_or(otherwise);
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_topic_id(topic.id)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect()).into()
}
