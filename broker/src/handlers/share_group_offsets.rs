//! DescribeShareGroupOffsets: where share groups stand in their partitions, as it is persisted, and how much they have left.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::PartitionId;
use protocol::api::describe_share_group_offsets::{
    DescribeShareGroup, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, DescribedShareGroup,
    DescribedSharePartition, DescribedShareTopic,
};
use protocol::api::{ErrorCode, Response, Uuid};

use crate::dispatch::{Outcome, RequestContext};
use crate::group::service::GroupAccess;
use crate::group::share::records::StatePartitions;
use crate::share::records::ShareKey;
use crate::share::state::NO_OFFSET;
use crate::state::BrokerState;
use crate::topics::TopicEntry;

/// How many records are left, where that is not known.
const NO_LAG: i64 = -1;

pub(crate) fn serve(
    state: &Arc<BrokerState>,
    access: &GroupAccess,
    context: &RequestContext,
    request: DescribeShareGroupOffsetsRequest,
) -> Outcome {
    let groups = request.groups.into_iter().map(|wanted| {
        let id = Arc::clone(&wanted.group_id);
        let described = state.shares.check_enabled(state).and_then(|()| describe(state, access, context, wanted));
        match described {
            Ok(topics) => DescribedShareGroup { group_id: id, topics, ..Default::default() },
            Err(error) => DescribedShareGroup {
                error_message: Some(Arc::from(error.message())),
                group_id: id,
                error_code: error.code(),
                ..Default::default()
            },
        }
    });
    let groups = groups.collect();
    Response::from(DescribeShareGroupOffsetsResponse { groups, ..Default::default() }).into()
}

fn describe(
    state: &Arc<BrokerState>,
    access: &GroupAccess,
    context: &RequestContext,
    wanted: DescribeShareGroup,
) -> Result<Vec<DescribedShareTopic>, ErrorCode> {
    let known = access.coordinator.with_group(&access.environment, &wanted.group_id, context.now, |session| {
        let group = session.shard().group(&wanted.group_id).and_then(|group| group.share());
        group.map(|group| group.state_partitions().clone())
    });
    let known = match known {
        Ok(Some(known)) => known,
        Err(error) if access.environment.offsets_partitions().is_some() => return Err(error),
        // A group that is not there has come nowhere.
        Ok(None) | Err(_) => StatePartitions::default(),
    };
    let group = &wanted.group_id;
    let Some(topics) = wanted.topics else {
        let topics = known.initialized.iter().filter(|(id, _)| state.topics.by_id(id).is_some());
        return Ok(topics
            .map(|(id, topic)| DescribedShareTopic {
                topic_name: Arc::clone(&topic.name),
                topic_id: *id,
                partitions: topic.partitions.iter().map(|index| partition(state, group, *id, *index)).collect(),
            })
            .collect());
    };
    Ok(topics
        .into_iter()
        .map(|topic| {
            let indexes: BTreeSet<PartitionId> = topic.partitions.into_iter().collect();
            described(state, group, &known, topic.topic_name, indexes)
        })
        .collect())
}

fn described(
    state: &Arc<BrokerState>,
    group: &Arc<str>,
    known: &StatePartitions,
    topic_name: Arc<str>,
    indexes: BTreeSet<PartitionId>,
) -> DescribedShareTopic {
    let entry = state.topics.by_name(&topic_name);
    let topic_id = entry.as_ref().map_or(Uuid::nil(), |entry| entry.id);
    let has_state =
        |index: &PartitionId| known.initialized.get(&topic_id).is_some_and(|topic| topic.partitions.contains(index));
    let is_missing = |entry: &TopicEntry, index: PartitionId| {
        !usize::try_from(index).is_ok_and(|index| index < entry.partition_count())
    };
    let partitions = indexes.iter().map(|index| match &entry {
        Some(entry) if is_missing(entry, *index) => refused(*index, ErrorCode::UnknownTopicOrPartition),
        Some(_) if has_state(index) => partition(state, group, topic_id, *index),
        Some(_) | None => DescribedSharePartition {
            partition_index: *index,
            start_offset: NO_OFFSET,
            lag: NO_LAG,
            ..Default::default()
        },
    });
    DescribedShareTopic { partitions: partitions.collect(), topic_name, topic_id }
}

fn refused(partition_index: PartitionId, error: ErrorCode) -> DescribedSharePartition {
    DescribedSharePartition {
        partition_index,
        start_offset: NO_OFFSET,
        lag: NO_LAG,
        error_code: error.code(),
        error_message: Some(Arc::from(error.message())),
        ..Default::default()
    }
}

fn partition(state: &Arc<BrokerState>, group: &Arc<str>, topic: Uuid, index: PartitionId) -> DescribedSharePartition {
    let key = ShareKey { group: Arc::clone(group), topic, partition: index };
    let kept = match state.shares.store().read(state, &key) {
        Ok(kept) => kept,
        Err(error) => return refused(index, error),
    };
    let (start_offset, complete, leader_epoch) =
        kept.map_or((NO_OFFSET, -1, 0), |kept| (kept.start_offset, kept.complete_count, kept.leader_epoch));
    let end = state.topics.by_id(&topic).and_then(|entry| state.partition_of(&entry, index).ok());
    let lag = match end {
        Some(partition) if start_offset != NO_OFFSET => {
            let left = partition.offsets().high_watermark.saturating_sub(start_offset);
            // An operator may have set an offset that the log has not come to.
            left.saturating_sub(i64::from(complete.max(0))).max(NO_LAG)
        }
        _ => NO_LAG,
    };
    DescribedSharePartition { partition_index: index, start_offset, leader_epoch, lag, ..Default::default() }
}
