//! OffsetFetch: committed offsets of one group (up to version 7) or of several. What was never committed has offset -1.
//!
//! Commits that are being written come first: a client that commits and asks without waiting for the answer reads what it
//! committed, as in Kafka, which takes up a connection's requests one after the other.

use std::sync::Arc;

use base::Now;
use protocol::api::messages::offset_fetch_request::OffsetFetchRequestTopics;
use protocol::api::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use protocol::api::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse};
use protocol::api::{ErrorCode, Response, StrBytes, Uuid};

use super::group_support::{own, wire};
use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::group::coordinator::{Held, Session};
use crate::group::offsets::Offsets;
use crate::group::service::GroupAccess;

const FIRST_WITH_GROUPS: i16 = 8;
const FIRST_BY_ID: i16 = 10;

type Fetched = Result<Vec<OffsetFetchResponseTopics>, ErrorCode>;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: OffsetFetchRequest) -> Outcome {
    let asked = Asked { access: access.clone(), version: context.version, now: context.now, request };
    let groups: Vec<Arc<str>> =
        asked.groups().filter(|group| asked.is_being_committed(group)).map(|group| own(group)).collect();
    if groups.is_empty() {
        return asked.answer().into();
    }
    asked.answer_after(groups, context.defer());
    Outcome::Deferred
}

/// A request, and what it takes to answer it later.
struct Asked {
    access: GroupAccess,
    version: i16,
    now: Now,
    request: OffsetFetchRequest,
}

impl Asked {
    fn groups(&self) -> impl Iterator<Item = &GroupId> {
        let one = (self.version < FIRST_WITH_GROUPS).then_some(&self.request.group_id);
        one.into_iter().chain(self.request.groups.iter().map(|group| &group.group_id))
    }

    fn is_being_committed(&self, group: &str) -> bool {
        let look = |session: &mut Session<'_>| {
            session.shard().group(group).is_some_and(|group| group.offsets.are_being_written())
        };
        // An error is for the answer to tell.
        self.access.coordinator.with_group(&self.access.environment, group, self.now, look).unwrap_or(false)
    }

    /// Answers once what is being written for each of `groups` is durable or has failed.
    fn answer_after(self, mut groups: Vec<Arc<str>>, responder: Responder) {
        let Some(group) = groups.pop() else { return responder.send(self.answer()) };
        let (coordinator, environment, now) =
            (self.access.coordinator.clone(), Arc::clone(&self.access.environment), self.now);
        let next: Held = Box::new(move |_| self.answer_after(groups, responder));
        let mut next = Some(next);
        let held = coordinator.with_group(&environment, &group, now, |session| {
            if let Some(next) = next.take() {
                session.after_appends(next);
            }
        });
        if let (Err(error), Some(next)) = (held, next) {
            next(Err(error));
        }
    }

    fn answer(self) -> Response {
        let Self { access, version, now, request } = self;
        let stable = request.require_stable;
        let at = (&access, version, now);
        if version >= FIRST_WITH_GROUPS {
            let groups = request.groups.into_iter().map(|group| {
                let member = (group.member_id.as_deref(), group.member_epoch);
                let fetched = fetch(at, &group.group_id, member, group.topics.as_deref(), stable);
                let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
                match fetched {
                    Ok(topics) => response.with_topics(topics),
                    Err(error) => response.with_error_code(error.code()),
                }
            });
            return OffsetFetchResponse::default().with_groups(groups.collect()).into();
        }
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic.name)
                    .with_partition_indexes(topic.partition_indexes)
            });
            topics.collect::<Vec<_>>()
        });
        let fetched = match fetch(at, &request.group_id, (None, -1), topics.as_deref(), stable) {
            Err(error) if version < 2 => Ok(all_failed(topics.unwrap_or_default(), error)),
            fetched => fetched,
        };
        let response = OffsetFetchResponse::default();
        Response::from(match fetched {
            Ok(topics) => response.with_topics(topics.into_iter().map(older).collect()),
            Err(error) => response.with_error_code(error.code()),
        })
    }
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
    (access, version, now): (&GroupAccess, i16, Now),
    group: &GroupId,
    (member_id, member_epoch): (Option<&str>, i32),
    topics: Option<&[OffsetFetchRequestTopics]>,
    require_stable: bool,
) -> Fetched {
    let by_id = version >= FIRST_BY_ID;
    access.coordinator.with_group(&access.environment, group, now, |session| {
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
