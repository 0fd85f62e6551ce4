//! GetTelemetrySubscriptions and PushTelemetry, as a broker answers that nobody asked to collect clients' metrics: a client
//! gets an id and is asked for no metric.

use std::sync::Arc;

use protocol::api::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest, PushTelemetryResponse,
};
use protocol::api::{ErrorCode, Response, Uuid};

use crate::dispatch::Outcome;
use crate::state::BrokerState;

const PUSH_INTERVAL_MS: i32 = 300_000;
const METRICS_BYTES_MAX: i32 = 1 << 20;
/// zstd, lz4, gzip, snappy.
const COMPRESSION_TYPES: [i8; 4] = [4, 3, 1, 2];
/// Of no subscription at all.
const NO_SUBSCRIPTION: i32 = 0;

pub(crate) fn subscriptions(state: &Arc<BrokerState>, request: &GetTelemetrySubscriptionsRequest) -> Outcome {
    let id = match request.client_instance_id {
        id if id.is_nil() => Uuid::from_bytes(state.rng.lock().uuid_bytes()),
        id => id,
    };
    let response = GetTelemetrySubscriptionsResponse::default()
        .with_client_instance_id(id)
        .with_subscription_id(NO_SUBSCRIPTION)
        .with_accepted_compression_types(COMPRESSION_TYPES.to_vec())
        .with_push_interval_ms(PUSH_INTERVAL_MS)
        .with_telemetry_max_bytes(METRICS_BYTES_MAX)
        .with_delta_temporality(true);
    Response::GetTelemetrySubscriptions(response).into()
}

/// Metrics that were not asked for are checked as Kafka checks them, and not kept.
pub(crate) fn push(request: &PushTelemetryRequest) -> Outcome {
    let code = if request.client_instance_id.is_nil() {
        ErrorCode::InvalidRequest
    } else if request.subscription_id != NO_SUBSCRIPTION {
        ErrorCode::UnknownSubscriptionId
    } else if request.metrics.len() > METRICS_BYTES_MAX as usize {
        ErrorCode::TelemetryTooLarge
    } else if request.compression_type != 0 && !COMPRESSION_TYPES.contains(&request.compression_type) {
        ErrorCode::UnsupportedCompressionType
    } else {
        ErrorCode::None
    };
    Response::PushTelemetry(PushTelemetryResponse::default().with_error_code(code.code())).into()
}
