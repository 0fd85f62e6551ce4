//! OffsetForLeaderEpoch: where the records of a leader epoch end.

use std::sync::Arc;

use protocol::api::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use protocol::api::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::state::BrokerState;

use super::check_leader_epoch;

pub(crate) fn handle(
    state: &Arc<BrokerState>,
    _context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> Outcome {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer =
                EpochEndOffset::default().with_partition(wanted.partition).with_leader_epoch(-1).with_end_offset(-1);
            match find(state, &topic.topic, wanted.partition, wanted.current_leader_epoch, wanted.leader_epoch) {
                Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                Err(code) => answer.with_error_code(code.code()),
            }
        });
        let partitions = partitions.collect();
        response.topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    Response::OffsetForLeaderEpoch(response).into()
}

fn find(state: &BrokerState, topic: &str, index: i32, known: i32, epoch: i32) -> Result<(i32, i64), ErrorCode> {
    let partition = state.partition(topic, index)?;
    check_leader_epoch(&partition, known)?;
    if epoch == partition.leader_epoch {
        // Also when nothing was appended in this epoch yet, so that the log does not know it.
        return Ok((epoch, partition.offsets().log_end));
    }
    let found = partition.log().leader_epoch_end_offset(epoch);
    Ok((found.leader_epoch, found.end_offset))
}
