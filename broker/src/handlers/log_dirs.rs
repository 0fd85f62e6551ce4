//! DescribeLogDirs and AlterReplicaLogDirs: there is one log directory, and nowhere else to move a partition.

use std::sync::Arc;

use base::PartitionId;
use protocol::api::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use protocol::api::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::api::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::Outcome;
use crate::metadata::TopicImage;
use crate::state::BrokerState;

use super::{text, topic_name};

/// Size of the volume, where it is not known.
const UNKNOWN_BYTES: i64 = -1;

fn directory(state: &BrokerState) -> String {
    let path = &state.config.data_dir;
    let absolute = std::path::absolute(path);
    absolute.as_ref().unwrap_or(path).to_string_lossy().into_owned()
}

pub(crate) fn describe(state: &Arc<BrokerState>, request: DescribeLogDirsRequest) -> Outcome {
    let failed = state.log.failure().is_some();
    let code = if failed { ErrorCode::KafkaStorageError } else { ErrorCode::None };
    let (total, usable) = state.log.volume_bytes().map_or((UNKNOWN_BYTES, UNKNOWN_BYTES), |volume| {
        (i64::try_from(volume.total).unwrap_or(i64::MAX), i64::try_from(volume.usable).unwrap_or(i64::MAX))
    });
    let mut result = DescribeLogDirsResult::default()
        .with_error_code(code.code())
        .with_log_dir(text(directory(state)))
        .with_total_bytes(total)
        .with_usable_bytes(usable);
    if !failed {
        let image = state.metadata.current();
        result.topics = match request.topics {
            None => image.topics().map(|topic| sizes(state, topic, |_| true)).collect(),
            Some(wanted) => wanted
                .iter()
                .filter_map(|wanted| {
                    let topic = image.topic(&wanted.topic)?;
                    let sizes = sizes(state, topic, |index| wanted.partitions.contains(&index));
                    (!sizes.partitions.is_empty()).then_some(sizes)
                })
                .collect(),
        };
    }
    Response::DescribeLogDirs(DescribeLogDirsResponse::default().with_results(vec![result])).into()
}

fn sizes(state: &BrokerState, topic: &TopicImage, wanted: impl Fn(PartitionId) -> bool) -> DescribeLogDirsTopic {
    let indexes = (0..topic.partitions.len() as PartitionId).filter(|index| wanted(*index));
    let partitions = indexes.filter_map(|index| {
        let partition = state.partition(&topic.name, index).ok()?;
        let size = i64::try_from(partition.log().size_bytes()).unwrap_or(i64::MAX);
        Some(DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size))
    });
    let partitions = partitions.collect();
    DescribeLogDirsTopic::default().with_name(topic_name(&topic.name)).with_partitions(partitions)
}

pub(crate) fn alter(state: &Arc<BrokerState>, request: &AlterReplicaLogDirsRequest) -> Outcome {
    let here = directory(state);
    let mut response = AlterReplicaLogDirsResponse::default();
    for wanted in &request.dirs {
        for topic in &wanted.topics {
            let partitions = topic.partitions.iter().map(|index| {
                let code = if *wanted.path != *here {
                    ErrorCode::LogDirNotFound
                } else {
                    // It is there already.
                    state.partition(&topic.name, *index).err().unwrap_or(ErrorCode::None)
                };
                AlterReplicaLogDirPartitionResult::default().with_partition_index(*index).with_error_code(code.code())
            });
            let partitions = partitions.collect();
            response.results.push(
                AlterReplicaLogDirTopicResult::default()
                    .with_topic_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
    }
    Response::AlterReplicaLogDirs(response).into()
}
