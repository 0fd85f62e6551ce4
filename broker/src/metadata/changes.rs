//! Checks of topic changes against the metadata, and the records they become. Pure: image and wish in, records or a
//! refusal out.

use std::collections::{BTreeMap, BTreeSet};

use protocol::api::ErrorCode;
use storage::log::LogConfig;
use uuid::Uuid;

use super::image::{MetadataImage, RESOURCE_TOPIC, Settings, TopicImage};
use super::log::METADATA_TOPIC;
use super::records::{MetadataRecord, PartitionRecord};

/// Why a change is refused: Kafka's code, and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Code of the response.
    pub code: ErrorCode,
    /// Message of the response.
    pub message: String,
}

/// A refusal with a message.
pub fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

/// A topic that somebody wants.
#[derive(Clone, Debug, Default)]
pub struct TopicWish {
    /// Name.
    pub name: String,
    /// Number of partitions; -1 for the default.
    pub partitions: i32,
    /// Replication factor; -1 for the default.
    pub replication_factor: i16,
    /// Brokers by partition, instead of numbers.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Settings.
    pub settings: BTreeMap<String, Option<String>>,
}

/// A topic that can be made.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// Identity.
    pub id: Uuid,
    /// Number of partitions.
    pub partitions: i32,
    /// What was set.
    pub settings: Settings,
    /// Records that make it.
    pub records: Vec<MetadataRecord>,
}

/// What a plan depends on beside the image.
#[derive(Clone, Copy, Debug)]
pub struct Planner<'a> {
    /// This broker.
    pub node_id: i32,
    /// Partitions of a topic that does not say.
    pub default_partitions: i32,
    /// Topic settings by default.
    pub defaults: &'a Settings,
}

/// Topics of one request with more partitions than this are refused, as by Kafka's controller.
const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;

/// Kafka's rule for names; the message says which part of it is broken.
///
/// # Errors
/// What is wrong.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    const MAX: usize = 249;
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > MAX {
        return Err(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX}"
        ));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'"
        ));
    }
    Ok(())
}

/// The configuration of a log: defaults overlaid with what was set for the topic.
///
/// # Errors
/// An unknown setting or a bad value.
pub fn log_config(defaults: &Settings, settings: &Settings) -> Result<LogConfig, Refusal> {
    let overlaid = defaults.iter().filter(|(name, _)| !settings.contains_key(*name)).chain(settings);
    LogConfig::from_map(overlaid.map(|(name, value)| (name.as_str(), value.as_str())))
        .map_err(|error| Refusal { code: ErrorCode::InvalidConfig, message: error.message().to_owned() })
}

impl Planner<'_> {
    /// Checks a wish and plans the topic; `id` is the identity it will have.
    ///
    /// # Errors
    /// Kafka's, first hit first.
    pub fn plan_topic(&self, image: &MetadataImage, wish: &TopicWish, id: Uuid) -> Result<TopicPlan, Refusal> {
        if wish.name == METADATA_TOPIC {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("Creation of internal topic {METADATA_TOPIC} is prohibited."),
            );
        }
        if let Err(message) = check_topic_name(&wish.name) {
            return refuse(ErrorCode::InvalidTopicException, message);
        }
        if image.topic(&wish.name).is_some() {
            return refuse(ErrorCode::TopicAlreadyExists, format!("Topic '{}' already exists.", wish.name));
        }
        if let Some(other) = image.colliding_topic(&wish.name) {
            return refuse(
                ErrorCode::InvalidTopicException,
                format!("Topic '{}' collides with existing topic: {other}", wish.name),
            );
        }
        let mut settings = Settings::new();
        for (name, value) in &wish.settings {
            match value {
                Some(value) => settings.insert(name.clone(), value.clone()),
                None => {
                    return refuse(
                        ErrorCode::InvalidConfig,
                        format!("Null value not supported for topic configs: {name}"),
                    );
                }
            };
        }
        log_config(self.defaults, &settings)?;
        let partitions = self.partition_count(wish)?;
        let mut records = vec![MetadataRecord::Topic { name: wish.name.clone(), id }];
        for (name, value) in &settings {
            records.push(MetadataRecord::Config {
                resource_type: RESOURCE_TOPIC,
                resource_name: wish.name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            });
        }
        records.extend((0..partitions).map(|index| self.partition(id, index)));
        Ok(TopicPlan { id, partitions, settings, records })
    }

    fn partition(&self, topic_id: Uuid, partition: i32) -> MetadataRecord {
        MetadataRecord::Partition(PartitionRecord {
            partition,
            topic_id,
            replicas: vec![self.node_id],
            isr: vec![self.node_id],
            leader: self.node_id,
            leader_epoch: 0,
            partition_epoch: 0,
        })
    }

    fn partition_count(&self, wish: &TopicWish) -> Result<i32, Refusal> {
        if !wish.assignments.is_empty() {
            if wish.replication_factor != -1 {
                return refuse(
                    ErrorCode::InvalidRequest,
                    "A manual partition assignment was specified, but replication factor was not set to -1.",
                );
            }
            if wish.partitions != -1 {
                return refuse(
                    ErrorCode::InvalidRequest,
                    "A manual partition assignment was specified, but numPartitions was not set to -1.",
                );
            }
            return self.check_assignments(0, &wish.assignments);
        }
        if wish.replication_factor == 0 || wish.replication_factor < -1 {
            return refuse(
                ErrorCode::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            );
        }
        if wish.partitions == 0 || wish.partitions < -1 {
            return refuse(
                ErrorCode::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            );
        }
        if wish.replication_factor > 1 {
            return refuse(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {} time(s): The target replication factor of {} cannot be \
                     reached because only 1 broker(s) are registered.",
                    wish.replication_factor, wish.replication_factor
                ),
            );
        }
        let partitions = if wish.partitions == -1 { self.default_partitions } else { wish.partitions };
        if i64::from(partitions) > PARTITIONS_PER_REQUEST_MAX {
            return refuse(
                ErrorCode::PolicyViolation,
                format!("Excessively large number of partitions per request: {partitions}."),
            );
        }
        Ok(partitions)
    }

    /// Checks that partitions `first..` are assigned in a row, each to this broker alone; returns how many there are.
    fn check_assignments(&self, first: i32, assignments: &[(i32, Vec<i32>)]) -> Result<i32, Refusal> {
        let indexes: BTreeSet<i32> = assignments.iter().map(|(index, _)| *index).collect();
        let count = assignments.len() as i32;
        if indexes.len() != assignments.len() || !indexes.iter().copied().eq(first..first + count) {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                "partitions should be a consecutive 0-based integer sequence",
            );
        }
        for (_, brokers) in assignments {
            self.check_replicas(brokers)?;
        }
        Ok(count)
    }

    fn check_replicas(&self, brokers: &[i32]) -> Result<(), Refusal> {
        if brokers.is_empty() {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                "The manual partition assignment includes an empty replica list.",
            );
        }
        if let Some(unknown) = brokers.iter().find(|broker| **broker != self.node_id) {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("The manual partition assignment includes broker {unknown}, but no such broker is registered."),
            );
        }
        if brokers.len() > 1 {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("The manual partition assignment includes the broker {} more than once.", self.node_id),
            );
        }
        Ok(())
    }

    /// Records that bring a topic to `count` partitions.
    ///
    /// # Errors
    /// The topic has that many or more already; or the assignment does not fit.
    pub fn plan_partitions(
        &self,
        topic: &TopicImage,
        count: i32,
        assignments: Option<&[Vec<i32>]>,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let present = topic.partitions.len() as i32;
        if count == present {
            return refuse(ErrorCode::InvalidPartitions, format!("Topic already has {present} partition(s)."));
        }
        if count < present {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!(
                    "The topic {} currently has {present} partition(s); {count} would not be an increase.",
                    topic.name
                ),
            );
        }
        let additional = count - present;
        if i64::from(additional) > PARTITIONS_PER_REQUEST_MAX {
            return refuse(
                ErrorCode::PolicyViolation,
                format!("Excessively large number of partitions per request: {additional}."),
            );
        }
        if let Some(assignments) = assignments {
            if assignments.len() as i64 != i64::from(additional) {
                return refuse(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "Attempted to add {additional} additional partition(s), but only {} assignment(s) were \
                         specified.",
                        assignments.len()
                    ),
                );
            }
            for brokers in assignments {
                self.check_replicas(brokers)?;
            }
        }
        Ok((present..count).map(|index| self.partition(topic.id, index)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(image: &MetadataImage, wish: &TopicWish) -> Result<TopicPlan, ErrorCode> {
        let defaults = Settings::new();
        let planner = Planner { node_id: 1, default_partitions: 3, defaults: &defaults };
        planner.plan_topic(image, wish, Uuid::from_u128(9)).map_err(|refusal| refusal.code)
    }

    fn wish(name: &str) -> TopicWish {
        TopicWish { name: name.into(), partitions: -1, replication_factor: -1, ..TopicWish::default() }
    }

    #[test]
    fn a_plan_applies_to_the_image_it_was_made_for() {
        let mut image = MetadataImage::default();
        let mut orders = wish("orders");
        orders.settings.insert("retention.ms".into(), Some("1000".into()));
        let plan = plan(&image, &orders).unwrap();
        assert_eq!(plan.partitions, 3);
        plan.records.iter().for_each(|record| image.apply(record).unwrap());
        let topic = image.topic("orders").unwrap();
        assert_eq!((topic.partitions.len(), topic.settings["retention.ms"].as_str()), (3, "1000"));
    }

    #[test]
    fn refusals_are_kafkas() {
        let mut image = MetadataImage::default();
        plan(&image, &wish("a.b")).unwrap().records.iter().for_each(|record| image.apply(record).unwrap());
        let with = |change: fn(&mut TopicWish)| {
            let mut wish = wish("t");
            change(&mut wish);
            plan(&image, &wish).unwrap_err()
        };
        assert_eq!(plan(&image, &wish("a.b")).unwrap_err(), ErrorCode::TopicAlreadyExists);
        assert_eq!(plan(&image, &wish("a_b")).unwrap_err(), ErrorCode::InvalidTopicException);
        assert_eq!(plan(&image, &wish("a/b")).unwrap_err(), ErrorCode::InvalidTopicException);
        assert_eq!(plan(&image, &wish("")).unwrap_err(), ErrorCode::InvalidTopicException);
        assert_eq!(plan(&image, &wish(&"x".repeat(250))).unwrap_err(), ErrorCode::InvalidTopicException);
        assert!(plan(&image, &wish(&"x".repeat(249))).is_ok());
        assert_eq!(plan(&image, &wish(METADATA_TOPIC)).unwrap_err(), ErrorCode::InvalidRequest);
        assert_eq!(with(|wish| wish.partitions = 0), ErrorCode::InvalidPartitions);
        assert_eq!(with(|wish| wish.partitions = 20_000), ErrorCode::PolicyViolation);
        assert_eq!(with(|wish| wish.replication_factor = 0), ErrorCode::InvalidReplicationFactor);
        assert_eq!(with(|wish| wish.replication_factor = 2), ErrorCode::InvalidReplicationFactor);
        assert_eq!(
            with(|wish| {
                wish.partitions = 1;
                wish.assignments = vec![(0, vec![1])];
            }),
            ErrorCode::InvalidRequest
        );
        assert_eq!(with(|wish| wish.assignments = vec![(1, vec![1])]), ErrorCode::InvalidReplicaAssignment);
        assert_eq!(with(|wish| wish.assignments = vec![(0, vec![2])]), ErrorCode::InvalidReplicaAssignment);
        assert_eq!(
            with(|wish| {
                wish.settings.insert("retention.ms".into(), None);
            }),
            ErrorCode::InvalidConfig
        );
        assert_eq!(
            with(|wish| {
                wish.settings.insert("no.such".into(), Some("1".into()));
            }),
            ErrorCode::InvalidConfig
        );
    }
}
