//! UpdateFeatures: switches features to levels within what is understood here; all of a request, or none.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::update_features_request::FeatureUpdateKey;
use protocol::api::messages::update_features_response::UpdatableFeatureResult;
use protocol::api::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use protocol::api::{ErrorCode, Response, StrBytes};

use crate::controller::{ELIGIBLE_REPLICAS, min_isr_of_the_cluster};
use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::changes::{Refusal, refuse};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::state::BrokerState;

use super::api_versions::FEATURES;
use super::text;

const FIRST_WITH_UPGRADE_TYPE: i16 = 1;
const FIRST_WITHOUT_RESULTS: i16 = 2;
const UPGRADE: i8 = 1;
const UNSAFE_DOWNGRADE: i8 = 3;
const METADATA_VERSION: &str = "metadata.version";

/// A feature, and why its update is refused.
type Checked = (StrBytes, Option<Refusal>);

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: &UpdateFeaturesRequest) -> Outcome {
    let responder = context.defer();
    let version = context.version;
    let checked: Arc<Mutex<Vec<Checked>>> = Arc::default();
    let answers = Arc::clone(&checked);
    state.change_metadata(
        |image| {
            let mut records = Vec::new();
            let mut refused = false;
            for update in &request.feature_updates {
                let outcome = check(image, update, version);
                refused |= outcome.is_err();
                if outcome == Ok(true) {
                    let (name, level) = (update.feature.to_string(), update.max_version_level);
                    if name == ELIGIBLE_REPLICAS && level > 0 {
                        records.extend(min_isr_of_the_cluster(image, &state.config));
                    }
                    records.push(MetadataRecord::FeatureLevel { name, level });
                }
                checked.lock().push((update.feature.clone(), outcome.err()));
            }
            if refused || request.validate_only {
                records.clear();
            }
            (records, ())
        },
        move |committed| {
            let answers = std::mem::take(&mut *answers.lock());
            responder.send(Response::UpdateFeatures(respond(answers, version, committed)));
        },
    );
    Outcome::Deferred
}

/// Whether the update changes anything.
fn check(image: &MetadataImage, update: &FeatureUpdateKey, version: i16) -> Result<bool, Refusal> {
    let (name, level): (&str, i16) = (&update.feature, update.max_version_level);
    let invalid = |reason: &str| {
        refuse(ErrorCode::InvalidUpdateVersion, format!("Invalid update version {level} for feature {name}. {reason}"))
    };
    let Some((_, min, max)) = FEATURES.iter().find(|(known, ..)| *known == name) else {
        return invalid("This broker does not support this feature.");
    };
    if level < 0 {
        return invalid("A feature version cannot be less than 0.");
    }
    if !(*min..=*max).contains(&level) {
        return invalid(&format!("This broker supports versions {min} to {max}."));
    }
    let present = image.features().get(name).copied().unwrap_or(0);
    let upgrade_type = match (version >= FIRST_WITH_UPGRADE_TYPE, update.allow_downgrade) {
        (true, _) => update.upgrade_type,
        (false, true) => UNSAFE_DOWNGRADE,
        (false, false) => UPGRADE,
    };
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&upgrade_type) {
        return invalid("The controller does not support the given upgrade type.");
    }
    if level < present && upgrade_type == UPGRADE {
        return invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade.",
        );
    }
    if level > present && upgrade_type != UPGRADE {
        return invalid("Can't upgrade the version of this feature with a downgrade upgrade type.");
    }
    if name == METADATA_VERSION && level < present {
        return invalid("The records of the metadata log cannot be taken back to an older version here.");
    }
    Ok(level != present)
}

fn respond(mut answers: Vec<Checked>, version: i16, committed: Result<(), ErrorCode>) -> UpdateFeaturesResponse {
    let mut response = UpdateFeaturesResponse::default();
    if let Err(code) = committed {
        response.error_code = code.code();
        response.error_message = Some(text(code.message()));
    }
    // One that is refused takes all others with it, which the answer as a whole says, in every version.
    if let Some(refusal) = answers.iter_mut().find_map(|(_, refusal)| refusal.take()) {
        response.error_code = refusal.code.code();
        response.error_message = Some(text(refusal.message));
    } else if version < FIRST_WITHOUT_RESULTS && response.error_code == ErrorCode::None.code() {
        let results = answers.into_iter().map(|(feature, _)| UpdatableFeatureResult::default().with_feature(feature));
        response.results = results.collect();
    }
    response
}
