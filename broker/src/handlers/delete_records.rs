//! DeleteRecords: moves the start of partitions forward.

use std::sync::Arc;

use protocol::api::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use protocol::api::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use protocol::api::{ErrorCode, Response};
use storage::error::ErrorKind;

use crate::dispatch::{Outcome, RequestContext};
use crate::state::BrokerState;
use crate::topics::is_internal;

pub(crate) fn handle(state: &Arc<BrokerState>, _context: &RequestContext, request: DeleteRecordsRequest) -> Outcome {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(wanted.partition_index);
            match delete(state, &topic.name, wanted.partition_index, wanted.offset) {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(code) => answer.with_low_watermark(-1).with_error_code(code.code()),
            }
        });
        let partitions = partitions.collect();
        response.topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    Response::DeleteRecords(response).into()
}

fn delete(state: &BrokerState, topic: &str, index: i32, before: i64) -> Result<i64, ErrorCode> {
    let partition = state.partition(topic, index)?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    if !partition.log().config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    if before < -1 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    partition.log().delete_records(before).map_err(|error| match error.kind() {
        ErrorKind::OutOfRange => ErrorCode::OffsetOutOfRange,
        _ => {
            tracing::error!("deleting records of {topic}-{index}: {error}");
            ErrorCode::KafkaStorageError
        }
    })
}
