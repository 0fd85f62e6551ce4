//! `millstream topics`: list, create, describe, alter, delete.

use client::admin::{ConfigChange, ConfigEntry, ConfigResource, NewTopic};
use client::{Admin, ClientError, TopicMetadata, block_on};
use protocol::api::ErrorCode;
use serde_json::Value;

use super::json::{Fields, print_lines};
use super::partitions::not_there;
use super::{admin, configs, table};
use crate::options::{
    AlterTopicOptions, CreateTopicOptions, DeleteTopicsOptions, DescribeTopicsOptions, ListTopicsOptions,
    TopicsCommand, key_value,
};
use crate::report::{Failure, print};

/// Runs what was asked.
pub fn run(command: &TopicsCommand) -> Result<(), Failure> {
    match command {
        TopicsCommand::List(options) => list(options),
        TopicsCommand::Create(options) => create(options),
        TopicsCommand::Describe(options) => describe(options),
        TopicsCommand::Alter(options) => alter(options),
        TopicsCommand::Delete(options) => delete(options),
    }
}

/// Names, one a line.
fn list(options: &ListTopicsOptions) -> Result<(), Failure> {
    let mut topics = block_on(admin(&options.listing.cluster)?.list_topics())?;
    topics.retain(|topic| !(options.exclude_internal && topic.internal));
    if options.listing.json {
        return print_lines(topics.iter().map(|topic| {
            Fields::default()
                .with("name", &*topic.name)
                .with("id", topic.id.to_string())
                .with("partitions", topic.partitions.len())
                .with("internal", topic.internal)
        }));
    }
    print(&topics.iter().map(|topic| format!("{}\n", topic.name)).collect::<String>())
}

/// Creates one topic.
fn create(options: &CreateTopicOptions) -> Result<(), Failure> {
    let mut topic = NewTopic::new(options.name.as_str(), options.partitions.unwrap_or(-1))
        .replication_factor(options.replication_factor.unwrap_or(-1));
    for setting in &options.settings {
        let (key, value) = key_value(setting)?;
        topic = topic.config(key, value);
    }
    let admin = admin(&options.cluster)?;
    for (name, result) in block_on(admin.create_topics(&[topic]))? {
        let created = match result {
            Err(error) if options.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                print(&format!("topic {name} is there already\n"))?;
                continue;
            }
            result => result.map_err(|error| not_created(&error))?,
        };
        match created.partitions {
            count @ 0.. => print(&format!("created topic {name} with {count} partition(s)\n"))?,
            _ => print(&format!("created topic {name}\n"))?,
        }
    }
    Ok(())
}

/// Partitions of each topic and the settings that differ from the defaults.
fn describe(options: &DescribeTopicsOptions) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let mut names = options.names.clone();
    if names.is_empty() {
        names = block_on(admin.list_topics())?.iter().map(|topic| topic.name.to_string()).collect();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (name, result) in block_on(admin.describe_topics(&names))? {
        let topic = result.map_err(|error| not_there(&name, error))?;
        let settings = settings(&admin, &name)?;
        if options.json {
            print_lines([as_json(&topic, &settings)])?;
        } else {
            print(&as_text(&topic, &settings))?;
        }
    }
    Ok(())
}

/// The topic's settings that are not at their defaults.
fn settings(admin: &Admin, name: &str) -> Result<Vec<ConfigEntry>, Failure> {
    let mut settings = Vec::new();
    for (_, entries) in block_on(admin.describe_configs(&[ConfigResource::Topic(name.to_owned())]))? {
        settings.extend(entries?.into_iter().filter(|entry| !entry.is_default));
    }
    Ok(settings)
}

fn as_json(topic: &TopicMetadata, settings: &[ConfigEntry]) -> Fields {
    let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
        serde_json::json!({
            "partition": index,
            "leader": partition.leader,
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas,
            "in_sync": partition.in_sync,
        })
    });
    let settings = settings.iter().map(|entry| (entry.name.clone(), entry.value.clone().into())).collect();
    Fields::default()
        .with("name", &*topic.name)
        .with("id", topic.id.to_string())
        .with("internal", topic.internal)
        .with("settings", Value::Object(settings))
        .with("partitions", partitions.collect::<Vec<_>>())
}

fn as_text(topic: &TopicMetadata, settings: &[ConfigEntry]) -> String {
    let mut text = format!("{}  id {}  {} partition(s)", topic.name, topic.id, topic.partitions.len());
    for entry in settings {
        let before = if std::ptr::eq(entry, &settings[0]) { "  " } else { " " };
        text += &format!("{before}{}={}", entry.name, entry.value.as_deref().unwrap_or_default());
    }
    text.push('\n');
    let mut rows = vec![["  PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC"].map(str::to_owned).to_vec()];
    for (index, partition) in topic.partitions.iter().enumerate() {
        rows.push(vec![
            format!("  {index}"),
            partition.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            nodes(&partition.replicas),
            nodes(&partition.in_sync),
        ]);
    }
    text + &table(&rows)
}

fn nodes(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Adds partitions, then changes settings.
fn alter(options: &AlterTopicOptions) -> Result<(), Failure> {
    let mut changes = Vec::new();
    for setting in &options.settings {
        let (key, value) = key_value(setting)?;
        changes.push(ConfigChange::Set(key.to_owned(), value.to_owned()));
    }
    changes.extend(options.delete.iter().cloned().map(ConfigChange::Delete));
    let admin = admin(&options.cluster)?;
    let name = options.name.as_str();
    if let Some(count) = options.partitions {
        for (_, result) in block_on(admin.create_partitions(&[(name, count)]))? {
            result.map_err(|error| match error.code() {
                Some(ErrorCode::InvalidPartitions) => Failure::new(error.to_string())
                    .hint("partitions can only be added; records do not move to the new ones"),
                _ => not_there(name, error),
            })?;
        }
        print(&format!("topic {name} has {count} partition(s)\n"))?;
    }
    if changes.is_empty() {
        return Ok(());
    }
    configs::change(&admin, &ConfigResource::Topic(name.to_owned()), changes)
}

/// Deletes topics; the first that cannot be deleted is the failure, the others are deleted all the same.
fn delete(options: &DeleteTopicsOptions) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    let mut failed = None;
    for (name, result) in block_on(admin.delete_topics(&names))? {
        match result {
            Ok(()) => print(&format!("deleted topic {name}\n"))?,
            Err(error) if options.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                print(&format!("there is no topic {name}\n"))?;
            }
            Err(error) => failed = failed.or(Some(not_there(&name, error))),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn not_created(error: &ClientError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error.code() {
        Some(ErrorCode::TopicAlreadyExists) => failure.hint("`millstream topics describe` shows it"),
        Some(ErrorCode::InvalidTopicException) => failure.hint("name it otherwise"),
        Some(ErrorCode::InvalidReplicationFactor) => failure.hint("leave --replication-factor out"),
        Some(ErrorCode::InvalidConfig) => failure.hint("correct that --set"),
        _ => failure,
    }
}
