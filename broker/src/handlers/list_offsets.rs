//! ListOffsets: the first, last, or first offset at a time.

use std::sync::Arc;

use protocol::api::messages::list_offsets_request::ListOffsetsPartition;
use protocol::api::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use protocol::api::messages::{ListOffsetsRequest, ListOffsetsResponse};
use protocol::api::{ErrorCode, Response};
use storage::log::{ReadLimit, TimestampOffset};

use crate::dispatch::{Outcome, RequestContext};
use crate::partition::Partition;
use crate::state::BrokerState;

use super::check_leader_epoch;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
const READ_COMMITTED: i8 = 1;
/// Versions below have no field for the leader epoch.
const FIRST_WITH_LEADER_EPOCH: i16 = 4;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: ListOffsetsRequest) -> Outcome {
    let limit = match request.isolation_level {
        _ if request.replica_id.0 >= 0 => ReadLimit::LogEnd,
        READ_COMMITTED => ReadLimit::LastStable,
        _ => ReadLimit::HighWatermark,
    };
    let mut asked: Vec<(&str, i32)> = Vec::new();
    for topic in &request.topics {
        asked.extend(topic.partitions.iter().map(|partition| (&**topic.name, partition.partition_index)));
    }
    asked.sort_unstable();
    let is_twice = |name: &str, index: i32| {
        let first = asked.partition_point(|entry| *entry < (name, index));
        asked.get(first + 1) == Some(&(name, index))
    };
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let mut answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_offset(-1)
                .with_timestamp(-1)
                .with_leader_epoch(-1);
            let found = if is_twice(&topic.name, wanted.partition_index) {
                Err(ErrorCode::InvalidRequest)
            } else {
                state
                    .partition(&topic.name, wanted.partition_index)
                    .and_then(|partition| look_up(&partition, wanted, limit, context.version))
            };
            match found {
                Ok(Some(found)) => {
                    answer.offset = found.offset;
                    answer.timestamp = found.timestamp;
                    if context.version >= FIRST_WITH_LEADER_EPOCH {
                        answer.leader_epoch = found.leader_epoch;
                    }
                }
                Ok(None) => {}
                Err(code) => answer.error_code = code.code(),
            }
            answer
        });
        let partitions = partitions.collect();
        response
            .topics
            .push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    Response::ListOffsets(response).into()
}

fn look_up(
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    limit: ReadLimit,
    version: i16,
) -> Result<Option<TimestampOffset>, ErrorCode> {
    check_leader_epoch(partition, wanted.current_leader_epoch)?;
    let offsets = partition.offsets();
    let end = match limit {
        ReadLimit::LogEnd => offsets.log_end,
        ReadLimit::HighWatermark => offsets.high_watermark,
        ReadLimit::LastStable => offsets.last_stable,
    };
    let at = |offset| Ok(Some(TimestampOffset { timestamp: -1, offset, leader_epoch: partition.leader_epoch }));
    let storage_error = |error: storage::error::StorageError| {
        tracing::error!("looking up offsets of {}: {error}", partition.topic_partition);
        ErrorCode::KafkaStorageError
    };
    match wanted.timestamp {
        LATEST => at(end),
        EARLIEST => at(offsets.log_start),
        MAX_TIMESTAMP if version >= 7 => {
            let found = partition.log().max_timestamp().map_err(storage_error)?;
            Ok(found.filter(|found| found.offset < end))
        }
        EARLIEST_LOCAL if version >= 8 => at(offsets.log_start),
        LATEST_TIERED if version >= 9 => Ok(None),
        EARLIEST_PENDING_UPLOAD if version >= 11 => Ok(None),
        timestamp if timestamp >= 0 => {
            let found = partition.log().offset_for_timestamp(timestamp, limit).map_err(storage_error)?;
            Ok(found.filter(|found| found.offset < end))
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}
