//! DescribeQuorum: the metadata log's voters, which are this node.

use std::sync::Arc;

use protocol::api::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use protocol::api::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};
use protocol::api::{ErrorCode, Response, Uuid};

use crate::data_directory::parse_short_uuid;
use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::log::METADATA_TOPIC;
use crate::state::BrokerState;

use super::text;

const FIRST_WITH_DIRECTORIES: i16 = 2;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: &DescribeQuorumRequest) -> Outcome {
    let mut response = DescribeQuorumResponse::default();
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            let data = PartitionData::default().with_partition_index(partition.partition_index);
            if &**topic.topic_name != METADATA_TOPIC || partition.partition_index != 0 {
                let code = ErrorCode::UnknownTopicOrPartition;
                let message = (context.version >= FIRST_WITH_DIRECTORIES).then(|| text(code.message()));
                return data.with_error_code(code.code()).with_error_message(message);
            }
            let log = state.metadata.log();
            let offsets = log.offsets();
            let mut voter = ReplicaState::default()
                .with_replica_id(BrokerId(state.config.node_id))
                .with_log_end_offset(offsets.log_end)
                .with_last_fetch_timestamp(context.now.wall_ms)
                .with_last_caught_up_timestamp(context.now.wall_ms);
            if context.version >= FIRST_WITH_DIRECTORIES {
                voter.replica_directory_id = directory_id(state);
            }
            data.with_leader_id(BrokerId(state.config.node_id))
                .with_leader_epoch(state.metadata.leader_epoch())
                .with_high_watermark(offsets.high_watermark)
                .with_current_voters(vec![voter])
        });
        let partitions = partitions.collect();
        response
            .topics
            .push(TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions));
    }
    if context.version >= FIRST_WITH_DIRECTORIES {
        let listener = Listener::default()
            .with_name(text("PLAINTEXT"))
            .with_host(text(&*context.endpoint.host))
            .with_port(context.endpoint.port);
        let node = Node::default().with_node_id(BrokerId(state.config.node_id)).with_listeners(vec![listener]);
        response.nodes = vec![node];
    }
    Response::DescribeQuorum(response).into()
}

fn directory_id(state: &BrokerState) -> Uuid {
    let properties = state.log.meta_properties();
    properties.and_then(|properties| parse_short_uuid(&properties.directory_id)).unwrap_or_default()
}
