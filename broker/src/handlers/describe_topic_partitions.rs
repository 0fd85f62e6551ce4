//! DescribeTopicPartitions: topics in the order of their names, in pieces that a cursor continues.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::api::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use protocol::api::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::changes::check_topic_name;
use crate::state::BrokerState;
use crate::topics::is_internal;

use super::metadata::TOPIC_OPERATIONS;
use super::topic_name;

pub(crate) fn handle(
    state: &Arc<BrokerState>,
    _context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> Outcome {
    let image = state.metadata.current();
    let asked: BTreeSet<&str> = request.topics.iter().map(|topic| &**topic.name).collect();
    let fetch_all = asked.is_empty();
    let mut names: Vec<&str> =
        if fetch_all { image.topics().map(|topic| &*topic.name).collect() } else { asked.into_iter().collect() };
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut first_partition = 0;
    if let Some(cursor) = &request.cursor {
        let is_listed = names.contains(&&**cursor.topic_name);
        if cursor.partition_index < 0 || (!fetch_all && !is_listed) {
            response.topics = names.iter().map(|name| failed(name, ErrorCode::InvalidRequest)).collect();
            return Response::DescribeTopicPartitions(response).into();
        }
        names.retain(|name| *name >= &**cursor.topic_name);
        if is_listed {
            first_partition = cursor.partition_index as usize;
        }
    }
    let limit = request.response_partition_limit.min(state.config.max_request_partition_size_limit).max(1) as usize;
    let mut left = limit;
    for name in names {
        let start = std::mem::take(&mut first_partition);
        let Some(topic) = image.topic(name) else {
            let is_valid = check_topic_name(name).is_ok();
            let code = if is_valid { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
            response.topics.push(failed(name, code));
            continue;
        };
        if left == 0 {
            response.next_cursor = Some(cursor(name, start));
            break;
        }
        let brokers = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>();
        let listed = topic.partitions.iter().enumerate().skip(start).take(left);
        let partitions: Vec<_> = listed
            .map(|(index, partition)| {
                DescribeTopicPartitionsResponsePartition::default()
                    .with_partition_index(index as i32)
                    .with_leader_id(BrokerId(partition.leader))
                    .with_leader_epoch(image.leader_epoch(partition))
                    .with_replica_nodes(brokers(&partition.replicas))
                    .with_isr_nodes(brokers(&partition.isr))
                    .with_eligible_leader_replicas(Some(Vec::new()))
                    .with_last_known_elr(Some(Vec::new()))
            })
            .collect();
        left -= partitions.len();
        let end = start + partitions.len();
        response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(topic_name(name)))
                .with_topic_id(topic.id)
                .with_is_internal(is_internal(name))
                .with_partitions(partitions)
                .with_topic_authorized_operations(TOPIC_OPERATIONS),
        );
        if end < topic.partitions.len() {
            response.next_cursor = Some(cursor(name, end));
            break;
        }
    }
    Response::DescribeTopicPartitions(response).into()
}

fn cursor(name: &str, partition: usize) -> Cursor {
    Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition as i32)
}

fn failed(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default().with_error_code(code.code()).with_name(Some(topic_name(name)))
}
