//! ApiVersions: what is served here. A version that is not known is answered by the connection, in the form of version 0.

use std::sync::Arc;

use protocol::api::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use protocol::api::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::api::{ApiKey, ErrorCode, Response, advertised_versions};

use crate::controller::ELIGIBLE_REPLICAS;
use crate::dispatch::{Outcome, RequestContext, is_served};
use crate::state::BrokerState;

use super::text;

const FIRST_WITH_SOFTWARE_NAME: i16 = 3;
const FIRST_WITH_LEVEL_ZERO: i16 = 4;

/// Features with the lowest and highest level that is understood.
pub(crate) const FEATURES: &[(&str, i16, i16)] = &[
    (ELIGIBLE_REPLICAS, 0, 1),
    ("group.version", 0, 1),
    ("metadata.version", 7, 30),
    ("share.version", 0, 1),
    ("streams.version", 0, 1),
    ("transaction.version", 0, 2),
];

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: ApiVersionsRequest) -> Outcome {
    let mut response = ApiVersionsResponse::default();
    if context.version >= FIRST_WITH_SOFTWARE_NAME
        && !(is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version))
    {
        response.error_code = ErrorCode::InvalidRequest.code();
        return Response::ApiVersions(response).into();
    }
    response.api_keys = served();
    if context.version >= FIRST_WITH_SOFTWARE_NAME {
        let image = state.metadata.current();
        let levels =
            FEATURES.iter().filter_map(|(name, _, max)| Some((name, (*image.features().get(*name)?).min(*max))));
        response.finalized_features = levels
            .map(|(name, level)| {
                FinalizedFeatureKey::default()
                    .with_name(text(*name))
                    .with_max_version_level(level)
                    .with_min_version_level(level)
            })
            .collect();
        response.finalized_features_epoch = i64::from(image.registrations());
        // Older clients do not take 0 as the lowest level.
        let known = FEATURES.iter().filter(|(_, min, _)| context.version >= FIRST_WITH_LEVEL_ZERO || *min > 0);
        let features = known.map(|(name, min, max)| {
            SupportedFeatureKey::default().with_name(text(*name)).with_min_version(*min).with_max_version(*max)
        });
        response.supported_features = features.collect();
    }
    Response::ApiVersions(response).into()
}

/// The answer to a version that is not known; it is sent in the form of version 0.
pub(crate) fn unsupported_version() -> Response {
    let (min, max) = advertised_versions(ApiKey::ApiVersions);
    let own =
        ApiVersion::default().with_api_key(ApiKey::ApiVersions as i16).with_min_version(min).with_max_version(max);
    let response =
        ApiVersionsResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code()).with_api_keys(vec![own]);
    Response::ApiVersions(response)
}

fn served() -> Vec<ApiVersion> {
    let keys = ApiKey::ALL.iter().filter(|key| is_served(**key));
    keys.map(|key| {
        let (min, max) = advertised_versions(*key);
        ApiVersion::default().with_api_key(*key as i16).with_min_version(min).with_max_version(max)
    })
    .collect()
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_checked_as_by_kafka() {
        for name in ["a", "apache-kafka-java", "4.3.1", "x.y"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a b", "ä"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}
