//! InitializeShareGroupState, ReadShareGroupState, WriteShareGroupState, DeleteShareGroupState and ReadShareGroupStateSummary: the share
//! coordinator as the leaders of partitions and the coordinators of groups ask it. The states are those that this broker's own share
//! partitions read and write. Nothing is answered to a request that leaves group, topics or partitions out, as by Kafka.

use std::sync::Arc;

use protocol::api::messages::{
    DeleteShareGroupStateRequest, DeleteShareGroupStateResponse, InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse, ReadShareGroupStateRequest, ReadShareGroupStateResponse,
    delete_share_group_state_response as deleted, initialize_share_group_state_response as initialized,
    read_share_group_state_response as read,
};
use protocol::api::share_group_state::{
    ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse, ShareStateBatch, ShareStateTopic,
    SummarizedSharePartition, WriteShareGroupStateRequest, WriteShareGroupStateResponse, WriteShareStatePartition,
    WrittenShareStatePartition,
};
use protocol::api::{ErrorCode, Response, Uuid};

use super::group_support::{own, wire};
use super::share_support::{Settled, Together, check_exists};
use crate::dispatch::{Outcome, RequestContext};
use crate::share::in_flight::StateBatch;
use crate::share::records::{ShareKey, Snapshot};
use crate::share::sessions::SharedPartition;
use crate::share::state::{NO_OFFSET, Write};
use crate::share::store::Done;
use crate::state::BrokerState;

/// What is answered of each partition that a request names: nothing, if it leaves something out.
fn named<T, P>(group: &str, topics: Vec<T>, take: impl Fn(T) -> (Uuid, Vec<P>)) -> Vec<(Uuid, P)> {
    let topics: Vec<(Uuid, Vec<P>)> = topics.into_iter().map(take).collect();
    if group.is_empty() || topics.iter().any(|(_, partitions)| partitions.is_empty()) {
        return Vec::new();
    }
    topics.into_iter().flat_map(|(topic, parts)| parts.into_iter().map(move |part| (topic, part))).collect()
}

/// The share partition that is meant, where there is nothing wrong with how it is named.
fn key(state: &BrokerState, group: &Arc<str>, (topic, partition): SharedPartition) -> Result<ShareKey, ErrorCode> {
    state.shares.check_enabled(state)?;
    match partition {
        ..0 => Err(ErrorCode::InvalidRequest),
        _ => Ok(ShareKey { group: Arc::clone(group), topic, partition }),
    }
}

fn exists(state: &BrokerState, key: &ShareKey) -> Result<(), ErrorCode> {
    check_exists(state, (key.topic, key.partition)).map_err(|_| ErrorCode::UnknownTopicOrPartition)
}

/// One result for each topic, of those of its partitions.
fn by_topic<P, T>(results: impl IntoIterator<Item = (Uuid, P)>, topic: impl Fn(Uuid, Vec<P>) -> T) -> Vec<T> {
    let mut topics: Vec<(Uuid, Vec<P>)> = Vec::new();
    for (id, result) in results {
        match topics.last_mut() {
            Some((last, partitions)) if *last == id => partitions.push(result),
            _ => topics.push((id, vec![result])),
        }
    }
    topics.into_iter().map(|(id, partitions)| topic(id, partitions)).collect()
}

fn in_words(error: ErrorCode) -> Option<Arc<str>> {
    error.is_error().then(|| Arc::from(error.message()))
}

/// Starts what is asked of each partition, and answers once all of it is durable or refused.
fn settle<P>(
    context: &RequestContext,
    parts: Vec<(Uuid, P)>,
    index_of: impl Fn(&P) -> i32,
    answer: impl FnOnce(Vec<Settled>) -> Response + Send + 'static,
    start: impl Fn(Uuid, P, Done),
) -> Outcome {
    let partitions = parts.iter().map(|(topic, part)| (*topic, index_of(part))).collect();
    let responder = context.defer();
    let together = Together::of(partitions, move |settled| responder.send(answer(settled)));
    for (index, (topic, part)) in parts.into_iter().enumerate() {
        start(topic, part, together.done(index));
    }
    Outcome::Deferred
}

pub(crate) fn initialize(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: InitializeShareGroupStateRequest,
) -> Outcome {
    let group = own(&request.group_id);
    let parts = named(&group, request.topics, |topic| (topic.topic_id, topic.partitions));
    let answer = |settled: Vec<Settled>| -> Response {
        let results = settled.into_iter().map(|((topic, partition), error)| {
            let result = initialized::PartitionResult::default().with_partition(partition);
            let result = result.with_error_code(error.code());
            (topic, result.with_error_message(error.is_error().then(|| wire(error.message()))))
        });
        let topic = |id, parts| initialized::InitializeStateResult::default().with_topic_id(id).with_partitions(parts);
        InitializeShareGroupStateResponse::default().with_results(by_topic(results, topic)).into()
    };
    settle(
        context,
        parts,
        |part| part.partition,
        answer,
        |topic, part, done| {
            let known = key(state, &group, (topic, part.partition));
            let known = known.and_then(|key| exists(state, &key).map(|()| key));
            let is_offset = part.start_offset >= NO_OFFSET;
            match known.and_then(|key| is_offset.then_some(key).ok_or(ErrorCode::InvalidRequest)) {
                Ok(key) => state.shares.initialize_state(state, vec![(key, part.start_offset)], part.state_epoch, done),
                Err(error) => done(Err(error)),
            }
        },
    )
}

pub(crate) fn write(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: WriteShareGroupStateRequest,
) -> Outcome {
    let group = request.group_id;
    let parts = named(&group, request.topics, |topic| (topic.topic_id, topic.partitions));
    let answer = |settled: Vec<Settled>| -> Response {
        let results = settled.into_iter().map(|((topic, partition), error)| {
            (topic, WrittenShareStatePartition { partition, error_code: error.code(), error_message: in_words(error) })
        });
        let topic = |topic_id, partitions| ShareStateTopic { topic_id, partitions };
        WriteShareGroupStateResponse { results: by_topic(results, topic) }.into()
    };
    settle(
        context,
        parts,
        |part| part.partition,
        answer,
        |topic, part, done| {
            let known = key(state, &group, (topic, part.partition)).and_then(|key| {
                // Whether there is such a state comes before whether there is such a topic.
                state.shares.store().read(state, &key)?.ok_or(ErrorCode::InvalidRequest)?;
                exists(state, &key)?;
                Ok((key, changes(part)?))
            });
            match known {
                Ok((key, write)) => state.shares.store().write(state, &key, &write, done),
                Err(error) => done(Err(error)),
            }
        },
    )
}

/// What is to be written; batches that no reader could make anything of are refused.
fn changes(part: WriteShareStatePartition) -> Result<Write, ErrorCode> {
    let batch = |batch: &ShareStateBatch| {
        let (first, last) = (batch.first_offset, batch.last_offset);
        let is_range = first >= 0 && first <= last && last < i64::MAX;
        let batch = StateBatch { first, last, state: batch.delivery_state, count: batch.delivery_count };
        is_range.then_some(batch).ok_or(ErrorCode::InvalidRequest)
    };
    if part.start_offset < NO_OFFSET {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(Write {
        state_epoch: part.state_epoch,
        leader_epoch: part.leader_epoch,
        start_offset: part.start_offset,
        complete_count: part.delivery_complete_count,
        batches: part.state_batches.iter().map(batch).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn delete(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: DeleteShareGroupStateRequest,
) -> Outcome {
    let group = own(&request.group_id);
    let parts = named(&group, request.topics, |topic| (topic.topic_id, topic.partitions));
    let answer = |settled: Vec<Settled>| -> Response {
        let results = settled.into_iter().map(|((topic, partition), error)| {
            let result = deleted::PartitionResult::default().with_partition(partition).with_error_code(error.code());
            (topic, result.with_error_message(error.is_error().then(|| wire(error.message()))))
        });
        let topic = |id, parts| deleted::DeleteStateResult::default().with_topic_id(id).with_partitions(parts);
        DeleteShareGroupStateResponse::default().with_results(by_topic(results, topic)).into()
    };
    settle(
        context,
        parts,
        |part| part.partition,
        answer,
        |topic, part, done| {
            let known = key(state, &group, (topic, part.partition));
            match known.and_then(|key| exists(state, &key).map(|()| key)) {
                Ok(key) => state.shares.delete_state(state, vec![key], done),
                Err(error) => done(Err(error)),
            }
        },
    )
}

pub(crate) fn read(state: &Arc<BrokerState>, request: ReadShareGroupStateRequest) -> Outcome {
    let group = own(&request.group_id);
    let parts = named(&group, request.topics, |topic| (topic.topic_id, topic.partitions));
    let results = parts.into_iter().map(|(topic, part)| {
        let result = read::PartitionResult::default().with_partition(part.partition);
        let known = key(state, &group, (topic, part.partition)).and_then(|key| {
            let store = state.shares.store();
            // Whether there is such a state comes before whether there is such a topic.
            store.read(state, &key)?.ok_or(ErrorCode::InvalidRequest)?;
            exists(state, &key)?;
            store.read_as(state, &key, part.leader_epoch)
        });
        let result = match known {
            Ok(Snapshot { state_epoch, start_offset, batches, .. }) => result
                .with_state_epoch(state_epoch)
                .with_start_offset(start_offset)
                .with_state_batches(batches.iter().map(batch).collect()),
            Err(error) => result.with_error_code(error.code()).with_error_message(Some(wire(error.message()))),
        };
        (topic, result)
    });
    let topic = |id, parts| read::ReadStateResult::default().with_topic_id(id).with_partitions(parts);
    Response::from(ReadShareGroupStateResponse::default().with_results(by_topic(results, topic))).into()
}

fn batch(batch: &StateBatch) -> read::StateBatch {
    read::StateBatch::default()
        .with_first_offset(batch.first)
        .with_last_offset(batch.last)
        .with_delivery_state(batch.state)
        .with_delivery_count(batch.count)
}

pub(crate) fn summary(state: &Arc<BrokerState>, request: ReadShareGroupStateSummaryRequest) -> Outcome {
    let group = request.group_id;
    let parts = named(&group, request.topics, |topic| (topic.topic_id, topic.partitions));
    let results = parts.into_iter().map(|(topic, part)| {
        let partition = part.partition;
        let known = key(state, &group, (topic, partition)).and_then(|key| {
            exists(state, &key)?;
            state.shares.store().read(state, &key)
        });
        let nothing = SummarizedSharePartition {
            partition,
            start_offset: NO_OFFSET,
            delivery_complete_count: -1,
            ..SummarizedSharePartition::default()
        };
        let result = match known {
            Ok(Some(kept)) => SummarizedSharePartition {
                state_epoch: kept.state_epoch,
                leader_epoch: kept.leader_epoch,
                start_offset: kept.start_offset,
                delivery_complete_count: kept.complete_count,
                ..nothing
            },
            Ok(None) => nothing,
            Err(error) => SummarizedSharePartition {
                start_offset: 0,
                error_code: error.code(),
                error_message: in_words(error),
                ..nothing
            },
        };
        (topic, result)
    });
    let topic = |topic_id, partitions| ShareStateTopic { topic_id, partitions };
    Response::from(ReadShareGroupStateSummaryResponse { results: by_topic(results, topic) }).into()
}
