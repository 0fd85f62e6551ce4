//! AlterShareGroupOffsets and DeleteShareGroupOffsets: an operator sets where a share group begins, or has it forget a topic. The group must have
//! no members. Answered once state and group are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Now, Offset, PartitionId};
use protocol::api::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use protocol::api::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use protocol::api::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
};
use protocol::api::{ErrorCode, Response, Uuid};

use super::group_support::{own, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::coordinator::Coordinator;
use crate::group::output::Output;
use crate::group::service::GroupAccess;
use crate::group::share::ShareGroup;
use crate::group::share::state_partitions::ToInitialize;
use crate::share::records::ShareKey;
use crate::share::state::NO_OFFSET;
use crate::state::BrokerState;

/// A group whose offsets are changed.
#[derive(Clone)]
struct Change {
    access: GroupAccess,
    id: Arc<str>,
    now: Now,
}

impl Change {
    /// What `ask` says of the group, which may not be there yet, if its offsets may be set.
    fn with_settable<R>(&self, ask: impl FnOnce(Option<&ShareGroup>) -> Result<R, ErrorCode>) -> Result<R, ErrorCode> {
        let coordinator: &Coordinator = &self.access.coordinator;
        let asked = coordinator.with_group(&self.access.environment, &self.id, self.now, |session| {
            let Some(group) = session.shard().group(&self.id) else { return ask(None) };
            let group = group.share().ok_or(ErrorCode::GroupIdNotFound)?;
            group.check_offsets_settable()?;
            ask(Some(group))
        });
        match asked {
            Err(ErrorCode::CoordinatorNotAvailable) if self.access.environment.offsets_partitions().is_none() => {
                Err(ErrorCode::GroupIdNotFound)
            }
            asked => asked.and_then(|asked| asked),
        }
    }

    /// Writes the group's part; `done` is told once that is durable.
    fn write(
        &self,
        output: impl FnOnce(&mut crate::group::shard::Shard) -> Result<Output, ErrorCode>,
        done: impl FnOnce(Result<(), ErrorCode>) + Send + 'static,
    ) {
        let mut done = Some(done);
        let written = self.access.coordinator.with_group(&self.access.environment, &self.id, self.now, |session| {
            let output = output(session.shard())?;
            if let Some(done) = done.take() {
                session.submit(output, Some(Box::new(done)));
            }
            Ok(())
        });
        if let (Err(error) | Ok(Err(error)), Some(done)) = (written, done) {
            done(Err(error));
        }
    }
}

pub(crate) fn alter(
    state: &Arc<BrokerState>,
    access: &GroupAccess,
    context: &RequestContext,
    request: AlterShareGroupOffsetsRequest,
) -> Outcome {
    let change = Change { access: access.clone(), id: own(&request.group_id), now: context.now };
    let epoch_of = |group: Option<&ShareGroup>| Ok(group.map_or(0, ShareGroup::epoch));
    let settable = state.shares.check_enabled(state).and_then(|()| change.with_settable(epoch_of));
    let epoch = match settable {
        Ok(epoch) => epoch,
        Err(error) => return altered_refused(error).into(),
    };
    let (topics, parts, made) = planned(state, &change.id, request, epoch.saturating_add(1));
    let response = Response::from(AlterShareGroupOffsetsResponse::default().with_responses(topics));
    if parts.is_empty() {
        return response.into();
    }
    let (responder, state_epoch) = (context.defer(), made.state_epoch);
    let answer = move |result: Result<(), ErrorCode>| {
        responder.send(match result {
            Ok(()) => response,
            Err(error) => altered_refused(error),
        });
    };
    let id = Arc::clone(&change.id);
    let done = move |result: Result<(), ErrorCode>| match result {
        Ok(()) => change.write(|shard| shard.share_offsets_set(&id, &made), answer),
        Err(error) => answer(Err(error)),
    };
    state.shares.initialize_state(state, parts, state_epoch, Box::new(done));
    Outcome::Deferred
}

type Planned = (Vec<AlterShareGroupOffsetsResponseTopic>, Vec<(ShareKey, Offset)>, ToInitialize);

/// The answer as it is when all goes well, what is to be written of it, and what the group is to know.
fn planned(
    state: &Arc<BrokerState>,
    id: &Arc<str>,
    request: AlterShareGroupOffsetsRequest,
    state_epoch: i32,
) -> Planned {
    let mut topics = Vec::new();
    let mut parts: BTreeMap<(Uuid, PartitionId), Offset> = BTreeMap::new();
    let mut made: BTreeMap<Uuid, (Arc<str>, BTreeSet<PartitionId>)> = BTreeMap::new();
    for topic in request.topics {
        let entry = state.topics.by_name(&topic.topic_name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let index = wanted.partition_index;
            let entry =
                entry.as_ref().filter(|entry| usize::try_from(index).is_ok_and(|at| at < entry.partition_count()));
            let error = match entry {
                Some(_) if wanted.start_offset < NO_OFFSET => ErrorCode::InvalidRequest,
                Some(entry) => {
                    parts.insert((entry.id, index), wanted.start_offset);
                    made.entry(entry.id).or_insert_with(|| (Arc::clone(&entry.name), BTreeSet::new())).1.insert(index);
                    ErrorCode::None
                }
                None => ErrorCode::UnknownTopicOrPartition,
            };
            AlterShareGroupOffsetsResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(error.code())
                .with_error_message(error.is_error().then(|| wire(error.message())))
        });
        let partitions = partitions.collect();
        topics.push(
            AlterShareGroupOffsetsResponseTopic::default()
                .with_topic_id(entry.as_ref().map_or(Uuid::nil(), |entry| entry.id))
                .with_topic_name(topic.topic_name)
                .with_partitions(partitions),
        );
    }
    let key = |topic, partition| ShareKey { group: Arc::clone(id), topic, partition };
    let parts = parts.into_iter().map(|((topic, partition), start)| (key(topic, partition), start)).collect();
    let made = made.into_iter().map(|(topic, (name, partitions))| (topic, name, partitions)).collect();
    (topics, parts, ToInitialize { state_epoch, topics: made })
}

fn altered_refused(error: ErrorCode) -> Response {
    AlterShareGroupOffsetsResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(wire(error.message())))
        .into()
}

pub(crate) fn delete(
    state: &Arc<BrokerState>,
    access: &GroupAccess,
    context: &RequestContext,
    request: DeleteShareGroupOffsetsRequest,
) -> Outcome {
    let change = Change { access: access.clone(), id: own(&request.group_id), now: context.now };
    let named: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| (state.topics.by_name(&topic.topic_name).map(|entry| entry.id), topic.topic_name))
        .collect();
    let mut ids: BTreeSet<Uuid> = named.iter().filter_map(|(id, _)| *id).collect();
    let keys_of = |group: Option<&ShareGroup>| Ok(group.ok_or(ErrorCode::GroupIdNotFound)?.state_keys(Some(&ids)));
    let keys = match state.shares.check_enabled(state).and_then(|()| change.with_settable(keys_of)) {
        Ok(keys) => keys,
        Err(error) => return deleted_refused(error).into(),
    };
    let known: BTreeSet<Uuid> = keys.iter().map(|key| key.topic).collect();
    ids.retain(|id| known.contains(id));
    let topics: Vec<_> = named
        .into_iter()
        .map(|(id, name)| {
            let (error, words) = match id {
                Some(id) if known.contains(&id) => (ErrorCode::None, None),
                Some(_) => (ErrorCode::UnknownTopicOrPartition, Some("the group has no offsets of this topic")),
                None => (ErrorCode::UnknownTopicOrPartition, Some(ErrorCode::UnknownTopicOrPartition.message())),
            };
            DeleteShareGroupOffsetsResponseTopic::default()
                .with_topic_name(name)
                .with_topic_id(id.unwrap_or(Uuid::nil()))
                .with_error_code(error.code())
                .with_error_message(words.map(wire))
        })
        .collect();
    let response = Response::from(DeleteShareGroupOffsetsResponse::default().with_responses(topics));
    let responder = context.defer();
    let answer = move |result: Result<(), ErrorCode>| {
        responder.send(match result {
            Ok(()) => response,
            Err(error) => deleted_refused(error),
        });
    };
    let id = Arc::clone(&change.id);
    let done = move |result: Result<(), ErrorCode>| match result {
        Ok(()) => change.write(|shard| shard.share_offsets_deleted(&id, &ids), answer),
        Err(error) => answer(Err(error)),
    };
    state.shares.delete_state(state, keys, Box::new(done));
    Outcome::Deferred
}

fn deleted_refused(error: ErrorCode) -> Response {
    DeleteShareGroupOffsetsResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(wire(error.message())))
        .into()
}
