//! UnregisterBroker, AddRaftVoter, RemoveRaftVoter: the cluster is this node, and stays it.

use std::sync::Arc;

use protocol::api::messages::{
    AddRaftVoterResponse, RemoveRaftVoterResponse, UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::Outcome;
use crate::state::BrokerState;

use super::text;

/// What Kafka says where the set of voters is fixed (`kraft.version` 0).
const FIXED_VOTERS: &str = "Cluster doesn't support adding or removing voters: it is this node alone";

pub(crate) fn unregister(state: &Arc<BrokerState>, request: &UnregisterBrokerRequest) -> Outcome {
    let id = request.broker_id.0;
    let (code, message) = if id == state.config.node_id {
        (ErrorCode::InvalidRequest, format!("Broker {id} is running, and the only one: stop it instead"))
    } else {
        (ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"))
    };
    let response = UnregisterBrokerResponse::default().with_error_code(code.code());
    Response::UnregisterBroker(response.with_error_message(Some(text(message)))).into()
}

pub(crate) fn add_voter() -> Outcome {
    let response = AddRaftVoterResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code());
    Response::AddRaftVoter(response.with_error_message(Some(text(FIXED_VOTERS)))).into()
}

pub(crate) fn remove_voter() -> Outcome {
    let response = RemoveRaftVoterResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code());
    Response::RemoveRaftVoter(response.with_error_message(Some(text(FIXED_VOTERS)))).into()
}
