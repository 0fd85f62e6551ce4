//! DescribeProducers: who wrote to a partition with a producer id, and whose transaction is open.

use std::sync::Arc;

use protocol::api::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use protocol::api::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::changes::check_topic_name;
use crate::state::BrokerState;

use super::text;

pub(crate) fn handle(state: &Arc<BrokerState>, _: &RequestContext, request: DescribeProducersRequest) -> Outcome {
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index);
            let found = match check_topic_name(&topic.name) {
                Ok(()) => state.partition(&topic.name, *index),
                Err(_) => Err(ErrorCode::InvalidTopicException),
            };
            match found {
                Err(code) => answer.with_error_code(code.code()).with_error_message(Some(text(code.message()))),
                Ok(partition) => {
                    let producers = partition.log().producers().into_iter().map(|producer| {
                        ProducerState::default()
                            .with_producer_id(ProducerId(producer.producer_id))
                            .with_producer_epoch(i32::from(producer.producer_epoch))
                            .with_last_sequence(producer.last_sequence)
                            .with_last_timestamp(producer.last_timestamp)
                            .with_coordinator_epoch(producer.coordinator_epoch)
                            .with_current_txn_start_offset(producer.current_transaction_first_offset)
                    });
                    answer.with_active_producers(producers.collect())
                }
            }
        });
        let partitions = partitions.collect();
        response.topics.push(TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    Response::DescribeProducers(response).into()
}
