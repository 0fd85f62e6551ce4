//! InitProducerId: an identity for an idempotent producer, never given twice.
//!
//! Ids come from blocks that are made durable before the first id of a block is handed out, so that a crash loses ids
//! but never repeats one. Transactional ids have no coordinator yet: they are answered `UNSUPPORTED_VERSION`, which
//! clients do not retry.

use protocol::api::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};
use protocol::api::{ErrorCode, Response};

/// What can be said of a request without handing out an id.
///
/// # Errors
/// The answer's code, when no id is to be handed out.
pub(crate) fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match &request.transactional_id {
        None => Ok(()),
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::UnsupportedVersion),
    }
}

pub(crate) fn response(id: Result<base::ProducerId, ErrorCode>) -> Response {
    let response = InitProducerIdResponse::default();
    match id {
        Ok(id) => response.with_producer_id(WireProducerId(id)).with_producer_epoch(0),
        Err(error) => {
            response.with_error_code(error.code()).with_producer_id(WireProducerId(-1)).with_producer_epoch(-1)
        }
    }
    .into()
}
