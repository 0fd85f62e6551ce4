//! ListConfigResources: what has settings, or may have: topics, this broker and its loggers, groups that have some.

use std::sync::Arc;

use protocol::api::messages::list_config_resources_response::ConfigResource;
use protocol::api::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::{
    RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC,
};
use crate::state::BrokerState;

use super::text;

const ALL: [i8; 5] = [RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP];

pub(crate) fn handle(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: &ListConfigResourcesRequest,
) -> Outcome {
    let mut response = ListConfigResourcesResponse::default();
    // Version 0 was for subscriptions to clients' metrics alone.
    let types: &[i8] = match (context.version, request.resource_types.as_slice()) {
        (0, _) => &[RESOURCE_CLIENT_METRICS],
        (_, []) => &ALL,
        (_, types) => types,
    };
    if types.iter().any(|kind| !ALL.contains(kind)) {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        return Response::ListConfigResources(response).into();
    }
    let image = state.metadata.current();
    for kind in ALL.iter().filter(|kind| types.contains(kind)) {
        let names: Vec<String> = match *kind {
            RESOURCE_TOPIC => image.topics().map(|topic| topic.name.to_string()).collect(),
            RESOURCE_BROKER | RESOURCE_BROKER_LOGGER => vec![state.config.node_id.to_string()],
            other => image.resources_with_settings(other).map(str::to_owned).collect(),
        };
        let resources = names
            .into_iter()
            .map(|name| ConfigResource::default().with_resource_name(text(name)).with_resource_type(*kind));
        response.config_resources.extend(resources);
    }
    Response::ListConfigResources(response).into()
}
