//! AddOffsetsToTxn: a producer is about to commit offsets of a group in its transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::api::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use protocol::api::{ErrorCode, Response};

use super::group_support::own;
use super::transaction_support::{ADD_WAIT_MS, fenced_as_known};
use crate::dispatch::{Outcome, RequestContext};
use crate::group::environment::{OFFSETS_TOPIC, partition_of};
use crate::state::BrokerState;
use crate::transaction::entry::Identity;
use crate::transaction::service::TransactionAccess;

pub(crate) fn serve(
    access: &TransactionAccess,
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: &AddOffsetsToTxnRequest,
) -> Outcome {
    if request.transactional_id.is_empty() {
        return response(ErrorCode::InvalidRequest).into();
    }
    let environment = state.groups.access(state).environment;
    let Some(partitions) = environment.offsets_partitions() else {
        // The client asks again, and finds it.
        let error = environment.create_offsets_topic().err().unwrap_or(ErrorCode::CoordinatorNotAvailable);
        return response(error).into();
    };
    let partition = (Arc::from(OFFSETS_TOPIC), partition_of(&request.group_id, partitions));
    let identity = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let (responder, version) = (context.defer(), context.version);
    let held = move |added: Result<Identity, ErrorCode>| {
        responder.send(response(fenced_as_known(added.err().unwrap_or(ErrorCode::None), version)));
    };
    let (id, partitions) = (own(&request.transactional_id), BTreeSet::from([partition]));
    access.coordinator.add(&access.environment, &id, identity, partitions, 0, ADD_WAIT_MS, Box::new(held));
    Outcome::Deferred
}

fn response(error: ErrorCode) -> Response {
    AddOffsetsToTxnResponse::default().with_error_code(error.code()).into()
}
