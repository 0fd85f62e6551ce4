//! IncrementalAlterConfigs (set, delete, append, subtract) and AlterConfigs (replace all): all or nothing for each
//! resource; answers once the changes are committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::alter_configs_response;
use protocol::api::messages::incremental_alter_configs_request::AlterableConfig;
use protocol::api::messages::incremental_alter_configs_response;
use protocol::api::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use protocol::api::{ErrorCode, Response, StrBytes};
use storage::log::{ConfigType as TopicConfigType, TOPIC_CONFIGS};

use crate::config::value_fits;
use crate::connection_limits::ConnectionLimits;
use crate::controller::{ELIGIBLE_REPLICAS, MIN_ISR};
use crate::dispatch::{Outcome, RequestContext};
use crate::dynamic;
use crate::effects::DYNAMIC_WITHOUT_EFFECT;
use crate::group::consumer::config::{Bounded, ConsumerConfig};
use crate::metadata::changes::{Refusal, log_config, refuse};
use crate::metadata::{
    MetadataImage, MetadataRecord, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP,
    RESOURCE_TOPIC, Settings,
};
use crate::properties::{ConfigType, PROPERTIES};
use crate::share::config::wrong_value;
use crate::state::BrokerState;

use super::describe_configs::{Changed, GROUP_SETTINGS};
use super::text;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What becomes of one resource.
#[derive(Clone)]
struct Answer {
    resource_type: i8,
    name: StrBytes,
    refusal: Option<Refusal>,
}

pub(crate) fn handle(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> Outcome {
    let responder = context.defer();
    let resources: Vec<(i8, StrBytes)> =
        request.resources.iter().map(|resource| (resource.resource_type, resource.resource_name.clone())).collect();
    let plan = |state: &BrokerState, image: &MetadataImage, position: usize| {
        let resource = &request.resources[position];
        let present = present_settings(state, image, resource.resource_type, &resource.resource_name)?;
        alter(state, resource.resource_type, &present, &resource.configs)
    };
    change(state, &resources, request.validate_only, plan, move |answers| {
        let results = answers.into_iter().map(|answer| {
            let result = incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                .with_resource_type(answer.resource_type)
                .with_resource_name(answer.name)
                .with_error_message(None);
            match answer.refusal {
                Some(refusal) => {
                    result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
                }
                None => result,
            }
        });
        let response = IncrementalAlterConfigsResponse::default().with_responses(results.collect());
        responder.send(Response::IncrementalAlterConfigs(response));
    });
    Outcome::Deferred
}

pub(crate) fn handle_replace(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: AlterConfigsRequest,
) -> Outcome {
    let responder = context.defer();
    let resources: Vec<(i8, StrBytes)> =
        request.resources.iter().map(|resource| (resource.resource_type, resource.resource_name.clone())).collect();
    let plan = |state: &BrokerState, image: &MetadataImage, position: usize| {
        let resource = &request.resources[position];
        let present = present_settings(state, image, resource.resource_type, &resource.resource_name)?;
        let mut wanted = Settings::new();
        for config in &resource.configs {
            match &config.value {
                Some(value) => wanted.insert(config.name.to_string(), value.to_string()),
                None => {
                    return refuse(ErrorCode::InvalidConfig, format!("Null value not supported for {}", &*config.name));
                }
            };
        }
        check(state, resource.resource_type, &wanted)?;
        Ok(difference(&present, &wanted))
    };
    change(state, &resources, request.validate_only, plan, move |answers| {
        let results = answers.into_iter().map(|answer| {
            let result = alter_configs_response::AlterConfigsResourceResponse::default()
                .with_resource_type(answer.resource_type)
                .with_resource_name(answer.name)
                .with_error_message(None);
            match answer.refusal {
                Some(refusal) => {
                    result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
                }
                None => result,
            }
        });
        responder.send(Response::AlterConfigs(AlterConfigsResponse::default().with_responses(results.collect())));
    });
    Outcome::Deferred
}

/// Plans the change of each resource, appends what was planned, and tells `done` once it is committed.
fn change(
    state: &Arc<BrokerState>,
    resources: &[(i8, StrBytes)],
    validate_only: bool,
    plan: impl Fn(&BrokerState, &MetadataImage, usize) -> Result<Changed, Refusal>,
    done: impl FnOnce(Vec<Answer>) + Send + 'static,
) {
    let shared: Arc<Mutex<Vec<Answer>>> = Arc::default();
    let answers = Arc::clone(&shared);
    state.change_metadata(
        |image| {
            let mut records = Vec::new();
            let mut seen: BTreeSet<(i8, &str)> = BTreeSet::new();
            for (position, (resource_type, name)) in resources.iter().enumerate() {
                let planned = if seen.insert((*resource_type, name)) {
                    plan(state, image, position)
                        .and_then(|changed| keep_min_isr(image, *resource_type, name, &changed).map(|()| changed))
                } else {
                    refuse(ErrorCode::InvalidRequest, "Each resource must appear at most once.")
                };
                let refusal = match planned {
                    Ok(changed) => {
                        records.extend(changed.into_iter().map(|(setting, value)| MetadataRecord::Config {
                            resource_type: *resource_type,
                            resource_name: name.to_string(),
                            name: setting,
                            value,
                        }));
                        None
                    }
                    Err(refusal) => Some(refusal),
                };
                shared.lock().push(Answer { resource_type: *resource_type, name: name.clone(), refusal });
            }
            if validate_only {
                records.clear();
            }
            (records, ())
        },
        move |committed| {
            let mut answers = std::mem::take(&mut *answers.lock());
            if let Err(code) = committed {
                for answer in answers.iter_mut().filter(|answer| answer.refusal.is_none()) {
                    answer.refusal = Some(Refusal { code, message: code.message().to_owned() });
                }
            }
            done(answers);
        },
    );
}

/// With replicas eligible for election, `min.insync.replicas` is the cluster's, and stays.
fn keep_min_isr(image: &MetadataImage, resource_type: i8, name: &str, changed: &Changed) -> Result<(), Refusal> {
    let is_on = image.features().get(ELIGIBLE_REPLICAS).is_some_and(|level| *level > 0);
    match changed.get(MIN_ISR) {
        Some(_) if is_on && resource_type == RESOURCE_BROKER && !name.is_empty() => {
            refuse(ErrorCode::InvalidConfig, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
        }
        Some(None) if is_on && resource_type == RESOURCE_BROKER => refuse(
            ErrorCode::InvalidConfig,
            "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
        ),
        _ => Ok(()),
    }
}

fn present_settings(
    state: &BrokerState,
    image: &MetadataImage,
    resource_type: i8,
    name: &str,
) -> Result<Settings, Refusal> {
    match resource_type {
        RESOURCE_TOPIC => match image.topic(name) {
            Some(topic) => Ok(topic.settings.clone()),
            None => refuse(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist.")),
        },
        RESOURCE_BROKER => {
            if !name.is_empty() && name.parse() != Ok(state.config.node_id) {
                return refuse(
                    ErrorCode::InvalidRequest,
                    format!("Unexpected broker id, expected {}, but received {name}", state.config.node_id),
                );
            }
            Ok(image.settings(RESOURCE_BROKER, name).cloned().unwrap_or_default())
        }
        RESOURCE_GROUP if name.is_empty() => refuse(ErrorCode::InvalidRequest, "Group name must not be empty"),
        RESOURCE_GROUP => Ok(image.settings(RESOURCE_GROUP, name).cloned().unwrap_or_default()),
        RESOURCE_BROKER_LOGGER => refuse(
            ErrorCode::InvalidRequest,
            "Levels of loggers cannot be changed while this broker runs: set RUST_LOG where it is started.",
        ),
        RESOURCE_CLIENT_METRICS => refuse(
            ErrorCode::InvalidRequest,
            "This broker does not collect metrics of clients: a subscription has no use.",
        ),
        other => refuse(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}")),
    }
}

fn alter(
    state: &BrokerState,
    resource_type: i8,
    present: &Settings,
    changes: &[AlterableConfig],
) -> Result<Changed, Refusal> {
    let mut wanted = present.clone();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for change in changes {
        let name: &str = &change.name;
        if !seen.insert(name) {
            return refuse(ErrorCode::InvalidRequest, format!("Error due to duplicate config keys: {name}"));
        }
        let value = change.value.as_deref();
        match (change.config_operation, value) {
            (SET, Some(value)) => {
                wanted.insert(name.to_owned(), value.to_owned());
            }
            (DELETE, _) => {
                wanted.remove(name);
            }
            (APPEND | SUBTRACT, Some(value)) => {
                if !is_list(resource_type, name) {
                    return refuse(
                        ErrorCode::InvalidConfig,
                        format!("Can't append or subtract to config {name} because its type is not LIST."),
                    );
                }
                let default = default_of(state, resource_type, name);
                let before = wanted.get(name).cloned().or(default).unwrap_or_default();
                let after =
                    if change.config_operation == APPEND { append(&before, value) } else { subtract(&before, value) };
                wanted.insert(name.to_owned(), after);
            }
            (SET | APPEND | SUBTRACT, None) => {
                return refuse(ErrorCode::InvalidRequest, format!("Null value not supported for : {name}"));
            }
            (other, _) => {
                return refuse(ErrorCode::UnknownServerError, format!("Unknown operation type {other}"));
            }
        }
    }
    check(state, resource_type, &wanted)?;
    Ok(difference(present, &wanted))
}

fn difference(present: &Settings, wanted: &Settings) -> Changed {
    let mut changed = Changed::new();
    for (name, value) in wanted {
        if present.get(name) != Some(value) {
            changed.insert(name.clone(), Some(value.clone()));
        }
    }
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        changed.insert(name.clone(), None);
    }
    changed
}

fn check(state: &BrokerState, resource_type: i8, wanted: &Settings) -> Result<(), Refusal> {
    match resource_type {
        RESOURCE_TOPIC => log_config(&state.topic_defaults(), wanted).map(|_| ()),
        RESOURCE_BROKER => {
            for (name, value) in wanted {
                let Some((_, kind, _)) = PROPERTIES.iter().find(|known| known.0 == name.as_str()) else {
                    return refuse(ErrorCode::InvalidConfig, format!("Unknown broker config {name}"));
                };
                if !dynamic::is_dynamic(name) {
                    return refuse(ErrorCode::InvalidRequest, dynamic::refusal(name));
                }
                check_value(name, *kind, value)?;
                if DYNAMIC_WITHOUT_EFFECT.binary_search(&name.as_str()).is_ok() {
                    tracing::warn!("the broker property {name} has no effect in this broker");
                }
                if let Err(message) = dynamic::check_value(name, value) {
                    return refuse(ErrorCode::InvalidConfig, message);
                }
                if let Some(setting) = name.strip_prefix("group.") {
                    check_bounds(state, setting, value)?;
                }
            }
            let mut explicit = state.config.explicit.clone();
            explicit.extend(wanted.clone());
            ConnectionLimits::from_properties(&explicit)
                .map_err(|error| Refusal { code: ErrorCode::InvalidConfig, message: error.to_string() })?;
            log_config(&state.config.topic_defaults(&explicit), &Settings::new()).map(|_| ())
        }
        _ => {
            for (name, value) in wanted {
                match GROUP_SETTINGS.iter().find(|known| known.0 == name.as_str()) {
                    Some((_, kind, _)) => {
                        check_value(name, *kind, value)?;
                        check_bounds(state, name, value)?;
                    }
                    None => return refuse(ErrorCode::InvalidConfig, format!("Unknown group config name: {name}")),
                }
            }
            Ok(())
        }
    }
}

fn check_value(name: &str, kind: ConfigType, value: &str) -> Result<(), Refusal> {
    if value_fits(kind, value.trim()) {
        Ok(())
    } else {
        refuse(
            ErrorCode::InvalidConfig,
            format!("Invalid value {value} for configuration {name}: not of type {kind:?}"),
        )
    }
}

/// A setting of a consumer or share group is one of those it may be, or lies between what the broker's properties allow.
fn check_bounds(state: &BrokerState, name: &str, value: &str) -> Result<(), Refusal> {
    if let Some(allowed) = wrong_value(name, value) {
        return refuse(
            ErrorCode::InvalidConfig,
            format!("Invalid value {value} for configuration {name}: it must be {allowed}"),
        );
    }
    let bounds = ConsumerConfig::from(&state.config).bounds(name).or_else(|| state.shares.config().bounds(name));
    let Some(Bounded { min_ms, max_ms, .. }) = bounds else { return Ok(()) };
    match value.trim().parse::<i64>() {
        Ok(ms) if ms < min_ms => refuse(
            ErrorCode::InvalidConfig,
            format!("{name} must be greater than or equal to group.{}: {min_ms}", bound_name(name, "min")),
        ),
        Ok(ms) if ms > max_ms => refuse(
            ErrorCode::InvalidConfig,
            format!("{name} must be less than or equal to group.{}: {max_ms}", bound_name(name, "max")),
        ),
        _ => Ok(()),
    }
}

fn bound_name(name: &str, bound: &str) -> String {
    name.replacen('.', &format!(".{bound}."), 1)
}

fn is_list(resource_type: i8, name: &str) -> bool {
    match resource_type {
        RESOURCE_TOPIC => TOPIC_CONFIGS.iter().any(|known| known.name == name && known.kind == TopicConfigType::List),
        RESOURCE_BROKER => PROPERTIES.iter().any(|known| known.0 == name && known.1 == ConfigType::List),
        _ => false,
    }
}

fn default_of(state: &BrokerState, resource_type: i8, name: &str) -> Option<String> {
    if resource_type == RESOURCE_TOPIC {
        let known = TOPIC_CONFIGS.iter().find(|known| known.name == name).and_then(|known| known.default);
        state.topic_defaults().get(name).cloned().or(known.map(str::to_owned))
    } else {
        state.config.value(name).map(str::to_owned)
    }
}

fn entries(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

fn append(before: &str, added: &str) -> String {
    let mut list = entries(before);
    for entry in entries(added) {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
    list.join(",")
}

fn subtract(before: &str, removed: &str) -> String {
    let removed = entries(removed);
    let kept: Vec<&str> = entries(before).into_iter().filter(|entry| !removed.contains(entry)).collect();
    kept.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_appended_to_and_subtracted_from() {
        assert_eq!(append("delete", "compact,delete"), "delete,compact");
        assert_eq!(append("", "compact"), "compact");
        assert_eq!(subtract("delete,compact", "delete"), "compact");
        assert_eq!(subtract("delete", "delete"), "");
    }

    #[test]
    fn only_what_differs_is_recorded() {
        let settings = |pairs: &[(&str, &str)]| -> Settings {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let changed = difference(&settings(&[("a", "1"), ("b", "2")]), &settings(&[("b", "2"), ("c", "3")]));
        assert_eq!(changed, Changed::from([("a".into(), None), ("c".into(), Some("3".into()))]));
    }
}
