//! ElectLeaders on one node: it leads every partition, so that no election is ever needed.

use std::sync::Arc;

use protocol::api::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use protocol::api::messages::{ElectLeadersRequest, ElectLeadersResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::Outcome;
use crate::state::BrokerState;

use super::text;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) fn handle(state: &Arc<BrokerState>, request: &ElectLeadersRequest) -> Outcome {
    let mut response = ElectLeadersResponse::default();
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        response.error_code = ErrorCode::InvalidRequest.code();
        return Response::ElectLeaders(response).into();
    }
    let image = state.metadata.current();
    // Asked for all partitions, only those are named for which there was an election: none.
    for topic in request.topic_partitions.iter().flatten() {
        let count = image.topic(&topic.topic).map_or(0, |topic| topic.partitions.len());
        let results = topic.partitions.iter().map(|index| {
            let (code, message) = if count == 0 {
                (ErrorCode::UnknownTopicOrPartition, format!("No such topic as {}", &**topic.topic))
            } else if usize::try_from(*index).is_ok_and(|index| index < count) {
                (ErrorCode::ElectionNotNeeded, ErrorCode::ElectionNotNeeded.message().to_owned())
            } else {
                (ErrorCode::UnknownTopicOrPartition, format!("No such partition as {}-{index}", &**topic.topic))
            };
            PartitionResult::default()
                .with_partition_id(*index)
                .with_error_code(code.code())
                .with_error_message(Some(text(message)))
        });
        let results = results.collect();
        response
            .replica_election_results
            .push(ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(results));
    }
    Response::ElectLeaders(response).into()
}
