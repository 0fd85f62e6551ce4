//! OffsetDelete: committed offsets of topics that no member of the group reads go.

use std::sync::Arc;

use protocol::api::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use protocol::api::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use protocol::api::{ErrorCode, Response};

use super::group_support::{own, wire};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::coordinator::held;
use crate::group::service::GroupAccess;

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: OffsetDeleteRequest) -> Outcome {
    let id = own(&request.group_id);
    let mut asked: Vec<(Arc<str>, i32)> = Vec::new();
    for topic in &request.topics {
        let name = own(&topic.name);
        asked.extend(topic.partitions.iter().map(|partition| (Arc::clone(&name), partition.partition_index)));
    }
    let exists = |(topic, partition): &(Arc<str>, i32)| {
        access.environment.topic(topic).is_some_and(|(_, count)| (0..count).contains(partition))
    };
    let (known, unknown): (Vec<_>, Vec<_>) = asked.iter().cloned().partition(exists);
    let served = access.coordinator.with_group(&access.environment, &id, context.now, |session| {
        let (results, output) = session.shard().delete_offsets(&id, &known)?;
        let mut results: Vec<_> = known.into_iter().zip(results).collect();
        results.extend(unknown.into_iter().map(|partition| (partition, ErrorCode::UnknownTopicOrPartition)));
        let build = move |stored: Result<(), ErrorCode>| match stored {
            Ok(()) => response(results),
            Err(error) => failure(error),
        };
        session.submit(output, held(context.defer(), build));
        Ok(())
    });
    match served {
        Ok(Ok(())) => Outcome::Deferred,
        Err(error) | Ok(Err(error)) => failure(error).into(),
    }
}

fn failure(error: ErrorCode) -> Response {
    OffsetDeleteResponse::default().with_error_code(error.code()).into()
}

fn response(results: Vec<((Arc<str>, i32), ErrorCode)>) -> Response {
    let mut topics: Vec<(Arc<str>, Vec<OffsetDeleteResponsePartition>)> = Vec::new();
    for ((topic, partition), error) in results {
        let partition =
            OffsetDeleteResponsePartition::default().with_partition_index(partition).with_error_code(error.code());
        match topics.iter_mut().find(|(name, _)| *name == topic) {
            Some((_, partitions)) => partitions.push(partition),
            None => topics.push((topic, vec![partition])),
        }
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetDeleteResponseTopic::default().with_name(wire(&name).into()).with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect()).into()
}
