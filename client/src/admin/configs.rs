//! Configurations of topics, brokers and groups.

use protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use protocol::api::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::api::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use protocol::api::{ApiKey, Request};

use super::{Admin, Results, Route, check, in_order};
use crate::client::Target;
use crate::error::ClientError;
use crate::wire::{expect_response, text};

/// What is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by node id.
    Broker(i32),
    /// What all brokers have that set nothing of their own.
    BrokerDefaults,
    /// A group, by id.
    Group(String),
}

impl ConfigResource {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::BrokerDefaults => 4,
            Self::Group(_) => 32,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Topic(name) | Self::Group(name) => name.clone(),
            Self::Broker(node) => node.to_string(),
            Self::BrokerDefaults => String::new(),
        }
    }

    fn from_wire(kind: i8, name: &str) -> Option<Self> {
        match kind {
            2 => Some(Self::Topic(name.to_owned())),
            4 if name.is_empty() => Some(Self::BrokerDefaults),
            4 => name.parse().ok().map(Self::Broker),
            32 => Some(Self::Group(name.to_owned())),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Topic(name) => format!("topic {name}"),
            Self::Broker(node) => format!("broker {node}"),
            Self::BrokerDefaults => "the defaults of brokers".to_owned(),
            Self::Group(name) => format!("group {name}"),
        }
    }

    /// Only a broker itself answers for its own configuration.
    fn route(&self) -> Route<'static> {
        match self {
            Self::Broker(node) => Route::To(Target::Node(*node)),
            _ => Route::To(Target::Any),
        }
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name.
    pub name: String,
    /// The value; `None` if it is unset or secret.
    pub value: Option<String>,
    /// Whether it is the default.
    pub is_default: bool,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Whether the value is secret.
    pub sensitive: bool,
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets it.
    Set(String, String),
    /// Goes back to the default.
    Delete(String),
    /// Adds to a list.
    Append(String, String),
    /// Takes out of a list.
    Subtract(String, String),
}

impl Admin {
    /// Sees to it that the broker whose own configuration is meant is known; others need nothing.
    async fn know(&self, resource: &ConfigResource) -> Result<(), ClientError> {
        let ConfigResource::Broker(node) = resource else { return Ok(()) };
        let nodes = self.nodes().await?;
        if nodes.contains(node) {
            return Ok(());
        }
        let known: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        Err(ClientError::Invalid(format!("there is no broker {node}; the cluster has {}", known.join(", "))))
    }

    /// All settings of the resources.
    ///
    /// # Errors
    /// Per resource, for example `UnknownTopicOrPartition`.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<Results<ConfigResource, Vec<ConfigEntry>>, ClientError> {
        let mut all = Vec::with_capacity(resources.len());
        for resource in resources {
            if let Err(error) = self.know(resource).await {
                all.push((resource.clone(), Err(error)));
                continue;
            }
            let build = |connection: &crate::Connection| {
                let mut wanted = DescribeConfigsResource::default();
                wanted.resource_type = resource.kind();
                wanted.resource_name = text(&resource.name());
                wanted.configuration_keys = None;
                let mut request = DescribeConfigsRequest::default();
                request.resources = vec![wanted];
                Ok((Request::DescribeConfigs(request), connection.version(ApiKey::DescribeConfigs)?))
            };
            let what = format!("describing the configuration of {}", resource.describe());
            let result = self
                .ask(&what, resource.route(), build, |response, address| {
                    let response = expect_response!(response, DescribeConfigs, address)?;
                    let Some(result) = response.results.into_iter().next() else {
                        return Err(ClientError::malformed(address, "no answer about the resource"));
                    };
                    // As in Kafka's admin client, what the broker says of a resource is the answer: a topic that is not there is not waited for.
                    if let Err(error) = check(resource.describe(), result.error_code, result.error_message.as_ref()) {
                        return Ok(Err(error));
                    }
                    let entries = result.configs.into_iter().map(|config| ConfigEntry {
                        name: config.name.to_string(),
                        value: config.value.map(|value| value.to_string()),
                        is_default: config.config_source == 5,
                        read_only: config.read_only,
                        sensitive: config.is_sensitive,
                    });
                    Ok(Ok(entries.collect()))
                })
                .await
                .and_then(|answer| answer);
            all.push((resource.clone(), result));
        }
        Ok(all)
    }

    /// Changes settings; those not named stay as they are.
    ///
    /// # Errors
    /// Per resource, for example `InvalidConfig`; then none of its changes was made.
    pub async fn incremental_alter_configs(
        &self,
        changes: &[(ConfigResource, Vec<ConfigChange>)],
    ) -> Result<Results<ConfigResource, ()>, ClientError> {
        let mut all = Vec::with_capacity(changes.len());
        for (resource, changes) in changes {
            if let Err(error) = self.know(resource).await {
                all.push((resource.clone(), Err(error)));
                continue;
            }
            let build = |connection: &crate::Connection| {
                let mut altered = AlterConfigsResource::default();
                altered.resource_type = resource.kind();
                altered.resource_name = text(&resource.name());
                altered.configs = changes.iter().map(alterable).collect();
                let mut request = IncrementalAlterConfigsRequest::default();
                request.resources = vec![altered];
                Ok((Request::IncrementalAlterConfigs(request), connection.version(ApiKey::IncrementalAlterConfigs)?))
            };
            let what = format!("changing the configuration of {}", resource.describe());
            let asked = [resource.clone()];
            let answered = self
                .ask(&what, resource.route(), build, |response, address| {
                    let response = expect_response!(response, IncrementalAlterConfigs, address)?;
                    let results = response.responses.into_iter().filter_map(|result| {
                        let resource = ConfigResource::from_wire(result.resource_type, &result.resource_name)?;
                        let what = resource.describe();
                        Some((resource, check(what, result.error_code, result.error_message.as_ref())))
                    });
                    Ok(in_order(&asked, results.collect(), address, ConfigResource::describe))
                })
                .await;
            match answered {
                Ok(mut results) => all.append(&mut results),
                Err(error) => all.push((resource.clone(), Err(error))),
            }
        }
        Ok(all)
    }
}

fn alterable(change: &ConfigChange) -> AlterableConfig {
    let (operation, name, value) = match change {
        ConfigChange::Set(name, value) => (0, name, Some(value)),
        ConfigChange::Delete(name) => (1, name, None),
        ConfigChange::Append(name, value) => (2, name, Some(value)),
        ConfigChange::Subtract(name, value) => (3, name, Some(value)),
    };
    let mut config = AlterableConfig::default();
    config.name = text(name);
    config.config_operation = operation;
    config.value = value.map(|value| text(value));
    config
}
