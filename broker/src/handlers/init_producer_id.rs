//! InitProducerId: an identity for an idempotent producer, never given twice, or the next one of a transactional id, which
//! fences whoever wrote under it before.

use protocol::api::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};
use protocol::api::{ErrorCode, Response};

use super::group_support::own;
use crate::dispatch::{Outcome, RequestContext};
use crate::transaction::entry::Identity;
use crate::transaction::service::TransactionAccess;

/// The first version whose clients know that a newer producer fenced them.
const FIRST_WITH_FENCED: i16 = 4;

pub(crate) fn serve(access: &TransactionAccess, context: &RequestContext, request: InitProducerIdRequest) -> Outcome {
    let refuse = |error| Outcome::from(response(Err(error)));
    let (producer_id, epoch) = (request.producer_id.0, request.producer_epoch);
    if (producer_id == -1) != (epoch == -1) {
        return refuse(ErrorCode::InvalidRequest);
    }
    let Some(id) = &request.transactional_id else {
        let responder = context.defer();
        let done = move |id: Result<i64, ErrorCode>| {
            responder.send(response(id.map(|producer_id| Identity { producer_id, epoch: 0 })));
        };
        access.environment.take_producer_id(Box::new(done));
        return Outcome::Deferred;
    };
    if id.is_empty() {
        return refuse(ErrorCode::InvalidRequest);
    }
    let timeout_ms = request.transaction_timeout_ms;
    if timeout_ms <= 0 || timeout_ms > access.coordinator.config().max_timeout_ms {
        return refuse(ErrorCode::InvalidTransactionTimeout);
    }
    let expected = (producer_id != -1).then_some(Identity { producer_id, epoch });
    let (responder, version) = (context.defer(), context.version);
    let held = move |answer: Result<Identity, ErrorCode>| {
        let answer = answer.map_err(|error| match error {
            ErrorCode::ProducerFenced if version < FIRST_WITH_FENCED => ErrorCode::InvalidProducerEpoch,
            other => other,
        });
        responder.send(response(answer));
    };
    access.coordinator.init(&access.environment, &own(id), timeout_ms, expected, Box::new(held));
    Outcome::Deferred
}

fn response(answer: Result<Identity, ErrorCode>) -> Response {
    let (error, identity) = match answer {
        Ok(identity) => (ErrorCode::None, identity),
        Err(error) => (error, Identity { producer_id: -1, epoch: -1 }),
    };
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(WireProducerId(identity.producer_id))
        .with_producer_epoch(identity.epoch)
        .into()
}
