//! DescribeCluster, and ListPartitionReassignments, of which a single broker never has any.

use std::sync::Arc;

use protocol::api::messages::describe_cluster_response::DescribeClusterBroker;
use protocol::api::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::state::BrokerState;

use super::metadata::CLUSTER_OPERATIONS;
use super::text;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: DescribeClusterRequest) -> Outcome {
    let node_id = BrokerId(state.config.node_id);
    let asked = if context.version == 0 { BROKERS } else { request.endpoint_type };
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(text(state.cluster_id.as_str()))
        .with_controller_id(node_id)
        .with_endpoint_type(asked);
    if asked != BROKERS {
        let (code, message) = if asked == CONTROLLERS {
            let message = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type \
                           CONTROLLER";
            (ErrorCode::MismatchedEndpointType, message)
        } else {
            (ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type")
        };
        response.error_code = code.code();
        response.error_message = Some(text(message));
        response.cluster_id = text("");
        response.controller_id = BrokerId(-1);
        response.endpoint_type = BROKERS;
        return Response::DescribeCluster(response).into();
    }
    let broker = DescribeClusterBroker::default()
        .with_broker_id(node_id)
        .with_host(text(&*context.endpoint.host))
        .with_port(i32::from(context.endpoint.port));
    response.brokers = vec![broker];
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    Response::DescribeCluster(response).into()
}
