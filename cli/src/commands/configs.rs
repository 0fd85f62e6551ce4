//! `millstream configs`: settings of topics, brokers and groups, shown and changed.

use client::admin::{ConfigChange, ConfigResource};
use client::{Admin, ClientError, block_on};
use protocol::api::ErrorCode;

use super::json::{Fields, print_lines};
use super::partitions::not_there;
use super::{admin, table};
use crate::options::{AlterConfigsOptions, ConfigsCommand, DescribeConfigsOptions, Resource, key_value};
use crate::report::{Failure, print};

/// Runs what was asked.
pub fn run(command: &ConfigsCommand) -> Result<(), Failure> {
    match command {
        ConfigsCommand::Describe(options) => describe(options),
        ConfigsCommand::Alter(options) => alter(options),
    }
}

impl Resource {
    fn named(&self) -> Result<ConfigResource, Failure> {
        match (&self.topic, self.broker, &self.group) {
            _ if self.broker_defaults => Ok(ConfigResource::BrokerDefaults),
            (Some(topic), ..) => Ok(ConfigResource::Topic(topic.clone())),
            (None, Some(broker), _) => Ok(ConfigResource::Broker(broker)),
            (None, None, Some(group)) => Ok(ConfigResource::Group(group.clone())),
            (None, None, None) => {
                Err(Failure::usage("whose settings?").hint("give --topic, --broker, --broker-defaults or --group"))
            }
        }
    }
}

/// The settings of one resource, by name.
fn describe(options: &DescribeConfigsOptions) -> Result<(), Failure> {
    let resource = options.resource.named()?;
    let admin = admin(&options.listing.cluster)?;
    let mut entries = Vec::new();
    for (resource, found) in block_on(admin.describe_configs(std::slice::from_ref(&resource)))? {
        entries = found.map_err(|error| explained(&resource, error))?;
    }
    entries.retain(|entry| options.all || !entry.is_default);
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if options.listing.json {
        return print_lines(entries.into_iter().map(|entry| {
            Fields::default()
                .with("name", entry.name)
                .with("value", entry.value)
                .with("default", entry.is_default)
                .with("read_only", entry.read_only)
                .with("sensitive", entry.sensitive)
        }));
    }
    if entries.is_empty() {
        return Ok(());
    }
    let mut rows = vec![["SETTING", "VALUE", ""].map(str::to_owned).to_vec()];
    for entry in entries {
        let value = match entry.value {
            Some(value) => value,
            None if entry.sensitive => "(secret)".to_owned(),
            None => "(not set)".to_owned(),
        };
        let notes = [(entry.is_default, "default"), (entry.read_only, "read only")];
        let notes: Vec<&str> = notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect();
        rows.push(vec![entry.name, value, notes.join(", ")]);
    }
    print(&table(&rows))
}

fn alter(options: &AlterConfigsOptions) -> Result<(), Failure> {
    let resource = options.resource.named()?;
    let mut changes: Vec<ConfigChange> = Vec::new();
    type Change = fn(String, String) -> ConfigChange;
    let lists: [(&[String], Change); 3] = [
        (&options.settings, ConfigChange::Set),
        (&options.append, ConfigChange::Append),
        (&options.subtract, ConfigChange::Subtract),
    ];
    for (given, change) in lists {
        for setting in given {
            let (key, value) = key_value(setting)?;
            changes.push(change(key.to_owned(), value.to_owned()));
        }
    }
    changes.extend(options.delete.iter().cloned().map(ConfigChange::Delete));
    change(&admin(&options.cluster)?, &resource, changes)
}

/// Makes changes of one resource, all or none.
pub fn change(admin: &Admin, resource: &ConfigResource, changes: Vec<ConfigChange>) -> Result<(), Failure> {
    let count = changes.len();
    for (resource, result) in block_on(admin.incremental_alter_configs(&[(resource.clone(), changes)]))? {
        result.map_err(|error| explained(&resource, error))?;
        print(&format!("changed {count} setting(s) of {}\n", named(&resource)))?;
    }
    Ok(())
}

fn named(resource: &ConfigResource) -> String {
    match resource {
        ConfigResource::Topic(name) => format!("topic {name}"),
        ConfigResource::Broker(node) => format!("broker {node}"),
        ConfigResource::BrokerDefaults => "the defaults of brokers".to_owned(),
        ConfigResource::Group(name) => format!("group {name}"),
    }
}

fn explained(resource: &ConfigResource, error: ClientError) -> Failure {
    match (resource, error.code()) {
        (ConfigResource::Topic(name), _) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
            not_there(name, error)
        }
        (_, Some(ErrorCode::InvalidConfig | ErrorCode::InvalidRequest)) => {
            Failure::new(error.to_string()).hint("nothing was changed; correct that setting")
        }
        _ => error.into(),
    }
}
