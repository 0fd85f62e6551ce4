//! DescribeConfigs: settings of topics, this broker and groups, with where each value comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use protocol::api::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::api::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use protocol::api::{ErrorCode, Response, StrBytes};
use storage::log::{ConfigType as TopicConfigType, TOPIC_CONFIGS};

use crate::config::TOPIC_DEFAULTS;
use crate::descriptions;
use crate::dispatch::{Outcome, RequestContext};
use crate::dynamic::is_dynamic;
use crate::metadata::changes::{Refusal, check_topic_name, refuse};
use crate::metadata::{
    RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC, Settings,
};
use crate::properties::{ConfigType, PROPERTIES};
use crate::state::BrokerState;

use super::text;

pub(crate) const SOURCE_TOPIC: i8 = 1;
pub(crate) const SOURCE_DYNAMIC_BROKER: i8 = 2;
pub(crate) const SOURCE_DYNAMIC_DEFAULT: i8 = 3;
pub(crate) const SOURCE_STATIC: i8 = 4;
pub(crate) const SOURCE_DEFAULT: i8 = 5;
pub(crate) const SOURCE_GROUP: i8 = 8;

/// The type of settings whose values are not shown.
const KIND_PASSWORD: i8 = 9;

/// Settings of single groups: name, type, and the broker property that is their default.
pub(crate) const GROUP_SETTINGS: &[(&str, ConfigType, &str)] = &[
    ("consumer.assignment.interval.ms", ConfigType::Int, "group.consumer.assignment.interval.ms"),
    ("consumer.heartbeat.interval.ms", ConfigType::Int, "group.consumer.heartbeat.interval.ms"),
    ("consumer.session.timeout.ms", ConfigType::Int, "group.consumer.session.timeout.ms"),
    ("share.assignment.interval.ms", ConfigType::Int, "group.share.assignment.interval.ms"),
    ("share.auto.offset.reset", ConfigType::String, ""),
    ("share.delivery.count.limit", ConfigType::Int, "group.share.delivery.count.limit"),
    ("share.heartbeat.interval.ms", ConfigType::Int, "group.share.heartbeat.interval.ms"),
    ("share.isolation.level", ConfigType::String, ""),
    ("share.partition.max.record.locks", ConfigType::Int, "group.share.partition.max.record.locks"),
    ("share.record.lock.duration.ms", ConfigType::Int, "group.share.record.lock.duration.ms"),
    ("share.renew.acknowledge.enable", ConfigType::Boolean, ""),
    ("share.session.timeout.ms", ConfigType::Int, "group.share.session.timeout.ms"),
    ("streams.assignment.interval.ms", ConfigType::Int, "group.streams.assignment.interval.ms"),
    ("streams.heartbeat.interval.ms", ConfigType::Int, "group.streams.heartbeat.interval.ms"),
    ("streams.initial.rebalance.delay.ms", ConfigType::Int, "group.streams.initial.rebalance.delay.ms"),
    ("streams.num.standby.replicas", ConfigType::Int, "group.streams.num.standby.replicas"),
    ("streams.session.timeout.ms", ConfigType::Int, "group.streams.session.timeout.ms"),
];

/// One setting as it is in effect.
pub(crate) struct Setting {
    pub name: String,
    pub value: Option<String>,
    pub source: i8,
    pub kind: i8,
    pub read_only: bool,
    /// Every place that gives a value, the one in effect first.
    pub synonyms: Vec<(String, Option<String>, i8)>,
}

pub(crate) fn handle(state: &Arc<BrokerState>, _context: &RequestContext, request: DescribeConfigsRequest) -> Outcome {
    let mut response = DescribeConfigsResponse::default();
    for resource in &request.resources {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        response.results.push(match settings_of(state, resource) {
            Ok(settings) => {
                let wanted = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
                let is_wanted =
                    |setting: &Setting| wanted.is_none_or(|keys| keys.iter().any(|key| **key == *setting.name));
                let documentation = |setting: &Setting| {
                    let is_asked = request.include_documentation;
                    is_asked.then(|| descriptions::describe(resource.resource_type, &setting.name)).flatten()
                };
                let settings = settings.into_iter().filter(is_wanted).map(|setting| {
                    let documentation = documentation(&setting);
                    describe(setting, request.include_synonyms, documentation)
                });
                result.with_configs(settings.collect())
            }
            Err(refusal) => result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message))),
        });
    }
    Response::DescribeConfigs(response).into()
}

fn describe(
    setting: Setting,
    with_synonyms: bool,
    documentation: Option<&'static str>,
) -> DescribeConfigsResourceResult {
    let is_sensitive = setting.kind == KIND_PASSWORD;
    let shown = |value: Option<String>| value.filter(|_| !is_sensitive).map(text);
    let synonyms = if with_synonyms { setting.synonyms } else { Vec::new() };
    let synonyms = synonyms.into_iter().map(|(name, value, source)| {
        DescribeConfigsSynonym::default().with_name(text(name)).with_value(shown(value)).with_source(source)
    });
    DescribeConfigsResourceResult::default()
        .with_name(text(setting.name))
        .with_value(shown(setting.value))
        .with_is_sensitive(is_sensitive)
        .with_documentation(documentation.map(StrBytes::from_static_str))
        .with_read_only(setting.read_only)
        .with_config_source(setting.source)
        .with_config_type(setting.kind)
        .with_synonyms(synonyms.collect())
}

fn settings_of(state: &BrokerState, resource: &DescribeConfigsResource) -> Result<Vec<Setting>, Refusal> {
    let name: &str = &resource.resource_name;
    match resource.resource_type {
        RESOURCE_TOPIC => {
            check_topic_name(name).map_err(|message| Refusal { code: ErrorCode::InvalidTopicException, message })?;
            match state.metadata.current().topic(name) {
                Some(topic) => Ok(effective_topic_settings(state, &topic.settings)),
                None => refuse(ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicOrPartition.message()),
            }
        }
        RESOURCE_BROKER if name.is_empty() => Ok(dynamic_broker_defaults(state)),
        RESOURCE_BROKER => match name.parse::<i32>() {
            Ok(id) if id == state.config.node_id => Ok(broker_settings(state)),
            Ok(id) => refuse(
                ErrorCode::InvalidRequest,
                format!("Unexpected broker id, expected {} or empty string, but received {id}", state.config.node_id),
            ),
            Err(_) => refuse(ErrorCode::InvalidRequest, format!("Broker id must be an integer, but it is: {name}")),
        },
        RESOURCE_GROUP if name.is_empty() => refuse(ErrorCode::InvalidRequest, "Group name must not be empty"),
        RESOURCE_GROUP => Ok(group_settings(state, name)),
        // Levels of loggers are set where the process is started; nobody subscribes to clients' metrics.
        RESOURCE_BROKER_LOGGER | RESOURCE_CLIENT_METRICS => Ok(Vec::new()),
        other => refuse(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}")),
    }
}

/// All settings of a topic that sets `own` itself.
pub(crate) fn effective_topic_settings(state: &BrokerState, own: &Settings) -> Vec<Setting> {
    let defaults = state.topic_defaults();
    let image = state.metadata.current();
    let node = state.config.node_id.to_string();
    let dynamic = |property: &str| {
        let of = |name: &str| image.settings(RESOURCE_BROKER, name).is_some_and(|set| set.contains_key(property));
        (of(&node).then_some(SOURCE_DYNAMIC_BROKER)).or(of("").then_some(SOURCE_DYNAMIC_DEFAULT))
    };
    let known = TOPIC_CONFIGS.iter().filter(|known| known.default.is_some() || own.contains_key(known.name));
    known
        .map(|known| {
            let mut synonyms = Vec::new();
            if let Some(value) = own.get(known.name) {
                synonyms.push((known.name.to_owned(), Some(value.clone()), SOURCE_TOPIC));
            }
            let properties = TOPIC_DEFAULTS.iter().find(|(name, _)| *name == known.name).map(|(_, list)| *list);
            if let Some(value) = defaults.get(known.name) {
                let is_set = |property: &&(&str, i64)| {
                    dynamic(property.0).is_some() || state.config.explicit.contains_key(property.0)
                };
                let property = properties.unwrap_or_default().iter().find(is_set).map_or(known.name, |set| set.0);
                let source = dynamic(property).unwrap_or(SOURCE_STATIC);
                synonyms.push((property.to_owned(), Some(value.clone()), source));
            }
            if let Some(value) = known.default {
                let property = properties.and_then(|list| list.last()).map_or(known.name, |last| last.0);
                synonyms.push((property.to_owned(), Some(value.to_owned()), SOURCE_DEFAULT));
            }
            let (value, source) =
                synonyms.first().map_or((None, SOURCE_DEFAULT), |(_, value, source)| (value.clone(), *source));
            Setting {
                name: known.name.to_owned(),
                value,
                source,
                kind: topic_kind(known.kind),
                read_only: false,
                synonyms,
            }
        })
        .collect()
}

fn broker_settings(state: &BrokerState) -> Vec<Setting> {
    let image = state.metadata.current();
    let node = state.config.node_id.to_string();
    let layers = [
        (image.settings(RESOURCE_BROKER, &node), SOURCE_DYNAMIC_BROKER),
        (image.settings(RESOURCE_BROKER, ""), SOURCE_DYNAMIC_DEFAULT),
        (Some(&state.config.explicit), SOURCE_STATIC),
    ];
    let settings = PROPERTIES.iter().map(|(name, kind, default)| {
        let mut synonyms: Vec<(String, Option<String>, i8)> = layers
            .iter()
            .filter_map(|(layer, source)| Some(((*name).to_owned(), Some((*layer)?.get(*name)?.clone()), *source)))
            .collect();
        if !default.is_empty() {
            synonyms.push(((*name).to_owned(), Some((*default).to_owned()), SOURCE_DEFAULT));
        }
        let (value, source) =
            synonyms.first().map_or((None, SOURCE_DEFAULT), |(_, value, source)| (value.clone(), *source));
        Setting {
            name: (*name).to_owned(),
            value,
            source,
            kind: property_kind(*kind),
            read_only: !is_dynamic(name),
            synonyms,
        }
    });
    let mut settings: Vec<Setting> = settings.collect();
    let node_id = settings.iter_mut().find(|setting| setting.name == "node.id");
    if let Some(setting) = node_id {
        setting.value = Some(node);
    }
    settings
}

fn dynamic_broker_defaults(state: &BrokerState) -> Vec<Setting> {
    let image = state.metadata.current();
    let set = image.settings(RESOURCE_BROKER, "").cloned().unwrap_or_default();
    let settings = set.into_iter().map(|(name, value)| {
        let kind = PROPERTIES.iter().find(|known| known.0 == name).map_or(ConfigType::String, |known| known.1);
        Setting {
            synonyms: vec![(name.clone(), Some(value.clone()), SOURCE_DYNAMIC_DEFAULT)],
            name,
            value: Some(value),
            source: SOURCE_DYNAMIC_DEFAULT,
            kind: property_kind(kind),
            read_only: false,
        }
    });
    settings.collect()
}

fn group_settings(state: &BrokerState, group: &str) -> Vec<Setting> {
    let image = state.metadata.current();
    let own = image.settings(RESOURCE_GROUP, group).cloned().unwrap_or_default();
    let node = state.config.node_id.to_string();
    let settings = GROUP_SETTINGS.iter().map(|(name, kind, property)| {
        let mut synonyms = Vec::new();
        if let Some(value) = own.get(*name) {
            synonyms.push(((*name).to_owned(), Some(value.clone()), SOURCE_GROUP));
        }
        for (layer, source) in [(&*node, SOURCE_DYNAMIC_BROKER), ("", SOURCE_DYNAMIC_DEFAULT)] {
            if let Some(value) = image.settings(RESOURCE_BROKER, layer).and_then(|set| set.get(*property)) {
                synonyms.push(((*property).to_owned(), Some(value.clone()), source));
            }
        }
        let source = if state.config.explicit.contains_key(*property) { SOURCE_STATIC } else { SOURCE_DEFAULT };
        if let Some(value) = state.config.value(property) {
            synonyms.push(((*property).to_owned(), Some(value.to_owned()), source));
        }
        if let Some(value) = default_of_group(name) {
            synonyms.push(((*name).to_owned(), Some(value.to_owned()), SOURCE_DEFAULT));
        }
        let (value, source) =
            synonyms.first().map_or((None, SOURCE_DEFAULT), |(_, value, source)| (value.clone(), *source));
        Setting { name: (*name).to_owned(), value, source, kind: property_kind(*kind), read_only: false, synonyms }
    });
    settings.collect()
}

/// The default of a group's setting that no property of the broker gives.
fn default_of_group(name: &str) -> Option<&'static str> {
    match name {
        "share.auto.offset.reset" => Some("latest"),
        "share.isolation.level" => Some("read_uncommitted"),
        "share.renew.acknowledge.enable" => Some("true"),
        _ => None,
    }
}

/// Settings as Kafka keeps them: by name.
pub(crate) type Changed = BTreeMap<String, Option<String>>;

fn topic_kind(kind: TopicConfigType) -> i8 {
    match kind {
        TopicConfigType::Boolean => 1,
        TopicConfigType::String => 2,
        TopicConfigType::Int => 3,
        TopicConfigType::Long => 5,
        TopicConfigType::Double => 6,
        TopicConfigType::List => 7,
    }
}

fn property_kind(kind: ConfigType) -> i8 {
    match kind {
        ConfigType::Boolean => 1,
        ConfigType::String => 2,
        ConfigType::Int => 3,
        ConfigType::Short => 4,
        ConfigType::Long => 5,
        ConfigType::Double => 6,
        ConfigType::List => 7,
        ConfigType::Class => 8,
        ConfigType::Password => KIND_PASSWORD,
    }
}
