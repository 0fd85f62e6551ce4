//! EndTxn: commits or aborts a producer's transaction. Answered once the decision is durable; the markers follow.
//!
//! From version 5 on (KIP-890) the answer has the identity under which the producer goes on.

use protocol::api::messages::{EndTxnRequest, EndTxnResponse, ProducerId as WireProducerId};
use protocol::api::{ErrorCode, Response};

use super::group_support::own;
use super::transaction_support::fenced_as_known;
use crate::dispatch::{Outcome, RequestContext};
use crate::transaction::entry::Identity;
use crate::transaction::service::TransactionAccess;

const FIRST_WITH_IDENTITY: i16 = 5;
const NONE: Identity = Identity { producer_id: -1, epoch: -1 };

pub(crate) fn serve(access: &TransactionAccess, context: &RequestContext, request: &EndTxnRequest) -> Outcome {
    if request.transactional_id.is_empty() {
        return response(ErrorCode::InvalidRequest, NONE).into();
    }
    let identity = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let (responder, version) = (context.defer(), context.version);
    let bumps = version >= FIRST_WITH_IDENTITY;
    let held = move |ended: Result<Identity, ErrorCode>| {
        responder.send(match ended {
            Ok(next) => response(ErrorCode::None, if bumps { next } else { NONE }),
            Err(error) => response(fenced_as_known(error, version), NONE),
        });
    };
    let (coordinator, id) = (&access.coordinator, own(&request.transactional_id));
    coordinator.end(&access.environment, &id, identity, request.committed, bumps, Box::new(held));
    Outcome::Deferred
}

fn response(error: ErrorCode, identity: Identity) -> Response {
    EndTxnResponse::default()
        .with_error_code(error.code())
        .with_producer_id(WireProducerId(identity.producer_id))
        .with_producer_epoch(identity.epoch)
        .into()
}
