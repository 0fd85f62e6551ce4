//! FindCoordinator: which broker holds a group, a transactional id or the state of a share partition. One key up to version 3, a list from version 4 on.
//!
//! The first lookup makes the topic that the coordinator keeps its state in: `__consumer_offsets`, `__transaction_state` or
//! `__share_group_state`.

use protocol::api::messages::find_coordinator_response::Coordinator;
use protocol::api::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::api::{ErrorCode, Response, StrBytes};

use super::group_support::wire;
use crate::dispatch::{Endpoint, Outcome, RequestContext};
use crate::group::service::GroupAccess;
use crate::share::state::parse_coordinator_key;
use crate::transaction::environment::TransactionEnvironment;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
/// First version that knows share partitions.
const FIRST_WITH_SHARE: i16 = 6;

pub(crate) fn serve(
    access: &GroupAccess,
    transactions: &dyn TransactionEnvironment,
    context: &RequestContext,
    node_id: i32,
    request: FindCoordinatorRequest,
) -> Outcome {
    let found = match request.key_type {
        SHARE if context.version >= FIRST_WITH_SHARE => access
            .environment
            .create_share_state_topic()
            .map_err(|error| (error, "__share_group_state could not be created")),
        key_type => find(access, transactions, key_type),
    };
    let endpoint = &context.endpoint;
    if context.version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(|key| {
            let is_named = request.key_type != SHARE || parse_coordinator_key(&key).is_some();
            let found = match is_named {
                true => found,
                false => found.and(Err((ErrorCode::InvalidRequest, "the key is not GROUP:TOPIC_ID:PARTITION"))),
            };
            coordinator(endpoint, node_id, found).with_key(key)
        });
        return Response::from(FindCoordinatorResponse::default().with_coordinators(coordinators.collect())).into();
    }
    let coordinator = coordinator(endpoint, node_id, found);
    // The reference names its error codes here, `NONE` included.
    let message = match ErrorCode::from_code(coordinator.error_code) {
        ErrorCode::None => Some(StrBytes::from_static_str(ErrorCode::None.name())),
        _ => coordinator.error_message,
    };
    let response = FindCoordinatorResponse::default()
        .with_error_code(coordinator.error_code)
        .with_error_message(message.filter(|_| context.version >= 1))
        .with_node_id(coordinator.node_id)
        .with_host(coordinator.host)
        .with_port(coordinator.port);
    Response::from(response).into()
}

fn find(
    access: &GroupAccess,
    transactions: &dyn TransactionEnvironment,
    key_type: i8,
) -> Result<(), (ErrorCode, &'static str)> {
    match key_type {
        GROUP => {
            if access.environment.offsets_partitions().is_none() {
                access
                    .environment
                    .create_offsets_topic()
                    .map_err(|error| (error, "__consumer_offsets could not be created"))?;
            }
            match access.environment.offsets_partitions() {
                Some(_) => Ok(()),
                None => Err((ErrorCode::CoordinatorNotAvailable, "__consumer_offsets is being created")),
            }
        }
        TRANSACTION => match transactions.partitions() {
            Some(_) => Ok(()),
            None => transactions.create_topic().map_err(|error| (error, "__transaction_state could not be created")),
        },
        _ => Err((ErrorCode::InvalidRequest, "there are no coordinators of this type here")),
    }
}

fn coordinator(endpoint: &Endpoint, node_id: i32, found: Result<(), (ErrorCode, &'static str)>) -> Coordinator {
    match found {
        Ok(()) => Coordinator::default()
            .with_node_id(BrokerId(node_id))
            .with_host(wire(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_error_message(Some(StrBytes::new())),
        Err((error, message)) => Coordinator::default()
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message))),
    }
}
