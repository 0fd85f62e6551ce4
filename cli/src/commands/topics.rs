//! `millstream topics`: list, create, describe, delete.

use client::admin::{ConfigResource, NewTopic};
use client::{ClientError, block_on};
use protocol::api::ErrorCode;

use super::{admin, table};
use crate::options::{Cluster, CreateTopicOptions, NamedTopics, key_value};
use crate::report::{Failure, print};

/// Names, one a line.
pub fn list(cluster: &Cluster) -> Result<(), Failure> {
    let admin = admin(cluster)?;
    let topics = block_on(admin.list_topics())?;
    print(&topics.iter().map(|topic| format!("{}\n", topic.name)).collect::<String>())
}

/// Creates one topic.
pub fn create(options: &CreateTopicOptions) -> Result<(), Failure> {
    let mut topic = NewTopic::new(options.name.as_str(), options.partitions.unwrap_or(-1))
        .replication_factor(options.replication_factor.unwrap_or(-1));
    for setting in &options.settings {
        let (key, value) = key_value(setting)?;
        topic = topic.config(key, value);
    }
    let admin = admin(&options.cluster)?;
    for (name, result) in block_on(admin.create_topics(&[topic]))? {
        let created = result.map_err(|error| not_created(&error))?;
        match created.partitions {
            count @ 0.. => print(&format!("created topic {name} with {count} partition(s)\n"))?,
            _ => print(&format!("created topic {name}\n"))?,
        }
    }
    Ok(())
}

/// Partitions of each topic and the settings that differ from the defaults.
pub fn describe(options: &NamedTopics) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    for (name, result) in block_on(admin.describe_topics(&names))? {
        let topic = result.map_err(|error| not_there(&name, error))?;
        let configs = block_on(admin.describe_configs(&[ConfigResource::Topic(name.to_string())]))?;
        let mut settings = Vec::new();
        for (_, entries) in configs {
            let changed = entries?.into_iter().filter(|entry| !entry.is_default);
            settings.extend(changed.map(|entry| format!("{}={}", entry.name, entry.value.unwrap_or_default())));
        }
        let mut text = format!("{name}  id {}  {} partition(s)", topic.id, topic.partitions.len());
        if !settings.is_empty() {
            text += &format!("  {}", settings.join(" "));
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
        print(&(text + &table(&rows)))?;
    }
    Ok(())
}

fn nodes(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Deletes topics; the first that cannot be deleted is the failure, the others are deleted all the same.
pub fn delete(options: &NamedTopics) -> Result<(), Failure> {
    let admin = admin(&options.cluster)?;
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    let mut failed = None;
    for (name, result) in block_on(admin.delete_topics(&names))? {
        match result {
            Ok(()) => print(&format!("deleted topic {name}\n"))?,
            Err(error) => failed = failed.or(Some(not_there(&name, error))),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn not_there(name: &str, error: ClientError) -> Failure {
    if error.code() == Some(ErrorCode::UnknownTopicOrPartition) {
        return Failure::new(format!("there is no topic {name}"))
            .hint("`millstream topics list` shows those that there are");
    }
    error.into()
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
