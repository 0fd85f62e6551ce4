//! The cluster's metadata at one moment: topics, their partitions and settings. Immutable; readers share an `Arc`.
//!
//! Made only by applying records ([`MetadataImage::apply`]), in the order of the metadata log. A topic's settings are
//! kept apart from the topic in the log; here they are found with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::hash::HashMap;
use base::{LeaderEpoch, TopicName};
use uuid::Uuid;

use super::access_control::AccessRule;
use super::quotas::{self, Quotas};
use super::records::MetadataRecord;

/// Number of a resource type that settings belong to: topics.
pub const RESOURCE_TOPIC: i8 = 2;
/// Number of a resource type that settings belong to: brokers.
pub const RESOURCE_BROKER: i8 = 4;
/// Number of a resource type that settings belong to: the broker's loggers.
pub const RESOURCE_BROKER_LOGGER: i8 = 8;
/// Number of a resource type that settings belong to: subscriptions to clients' metrics.
pub const RESOURCE_CLIENT_METRICS: i8 = 16;
/// Number of a resource type that settings belong to: consumer groups.
pub const RESOURCE_GROUP: i8 = 32;

/// Settings of one resource, by Kafka's names.
pub type Settings = BTreeMap<String, String>;

/// Settings of all resources but topics, by type and name.
pub type AllSettings = BTreeMap<(i8, String), Settings>;

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Name.
    pub name: TopicName,
    /// Identity; a topic deleted and made anew has another.
    pub id: Uuid,
    /// By index.
    pub partitions: Vec<PartitionImage>,
    /// What was set for this topic.
    pub settings: Settings,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// Assigned brokers, the preferred leader first.
    pub replicas: Vec<i32>,
    /// In-sync replicas.
    pub isr: Vec<i32>,
    /// Leader; -1 for none.
    pub leader: i32,
    /// Term of the leader, as recorded.
    pub leader_epoch: LeaderEpoch,
    /// Counts all changes.
    pub partition_epoch: i32,
    /// Broker starts seen in the log when the record was applied: each later start is a new term.
    pub registered_at: i32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MetadataImage {
    topics: BTreeMap<TopicName, Arc<TopicImage>>,
    ids: HashMap<Uuid, TopicName>,
    /// Names with `.` read as `_`, which Kafka does not let collide.
    flattened: HashMap<String, TopicName>,
    features: BTreeMap<String, i16>,
    next_producer_id: i64,
    /// What changes seldom is shared between images.
    settings: Arc<AllSettings>,
    quotas: Arc<Quotas>,
    access_rules: Arc<BTreeMap<Uuid, AccessRule>>,
    /// Broker starts so far.
    registrations: i32,
    partition_count: usize,
}

/// A record that does not fit the image it is applied to: the log is damaged or not ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata record does not fit: {0}")]
pub struct DoesNotFit(String);

impl MetadataImage {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with that identity.
    pub fn topic_by_id(&self, id: &Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.ids.get(id)?)
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The topic whose name is the same once `.` is read as `_`.
    pub fn colliding_topic(&self, name: &str) -> Option<&TopicName> {
        self.flattened.get(&flatten(name))
    }

    /// What was set for a broker or group (topics carry their own).
    pub fn settings(&self, resource_type: i8, name: &str) -> Option<&Settings> {
        self.settings.get(&(resource_type, name.to_owned()))
    }

    /// What was set for all brokers and groups: images between which none of it changed share one.
    pub fn all_settings(&self) -> &Arc<AllSettings> {
        &self.settings
    }

    /// Names of the resources of a type that have settings.
    pub fn resources_with_settings(&self, resource_type: i8) -> impl Iterator<Item = &str> {
        self.settings.keys().filter(move |key| key.0 == resource_type).map(|key| key.1.as_str())
    }

    /// Features and the level they are switched to.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// Quotas of clients.
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Access control entries by their identities.
    pub fn access_rules(&self) -> &BTreeMap<Uuid, AccessRule> {
        &self.access_rules
    }

    /// First producer id not given out in a block.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// How often a broker started on this log.
    pub fn registrations(&self) -> i32 {
        self.registrations
    }

    /// The present term of a partition's leader: the recorded one, raised by each start of the broker since.
    pub fn leader_epoch(&self, partition: &PartitionImage) -> LeaderEpoch {
        partition.leader_epoch + (self.registrations - partition.registered_at)
    }

    /// Applies one record.
    ///
    /// # Errors
    /// It names a topic or partition that is not there, or makes one anew.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), DoesNotFit> {
        match record {
            MetadataRecord::Topic { name, id } => self.add_topic(name, *id)?,
            MetadataRecord::Partition(record) => {
                let registered_at = self.registrations;
                let topic = self.topic_mut(&record.topic_id)?;
                if topic.partitions.len() as i64 != i64::from(record.partition) {
                    return Err(DoesNotFit(format!("partition {} of {} is out of turn", record.partition, topic.name)));
                }
                topic.partitions.push(PartitionImage {
                    replicas: record.replicas.clone(),
                    isr: record.isr.clone(),
                    leader: record.leader,
                    leader_epoch: record.leader_epoch,
                    partition_epoch: record.partition_epoch,
                    registered_at,
                });
                self.partition_count += 1;
            }
            MetadataRecord::PartitionChange(change) => {
                let registrations = self.registrations;
                let topic = self.topic_mut(&change.topic_id)?;
                let name = Arc::clone(&topic.name);
                let index = usize::try_from(change.partition).unwrap_or(usize::MAX);
                let partition = topic
                    .partitions
                    .get_mut(index)
                    .ok_or_else(|| DoesNotFit(format!("{name} has no partition {}", change.partition)))?;
                if let Some(replicas) = &change.replicas {
                    partition.replicas.clone_from(replicas);
                }
                if let Some(isr) = &change.isr {
                    partition.isr.clone_from(isr);
                }
                if let Some(leader) = change.leader {
                    partition.leader = leader;
                    partition.leader_epoch += 1;
                    partition.registered_at = registrations;
                }
                partition.partition_epoch += 1;
            }
            MetadataRecord::Config { resource_type, resource_name, name, value } => {
                self.configure(*resource_type, resource_name, name, value.as_deref());
            }
            MetadataRecord::RemoveTopic(id) => {
                let name = self.ids.remove(id).ok_or_else(|| DoesNotFit(format!("no topic {id}")))?;
                self.flattened.remove(&flatten(&name));
                if let Some(topic) = self.topics.remove(&name) {
                    self.partition_count -= topic.partitions.len();
                }
            }
            // Level 0 is the same as not being there.
            MetadataRecord::FeatureLevel { name, level: 0 } => {
                self.features.remove(name);
            }
            MetadataRecord::FeatureLevel { name, level } => {
                self.features.insert(name.clone(), *level);
            }
            MetadataRecord::ProducerIds { next, .. } => self.next_producer_id = *next,
            MetadataRecord::RegisterBroker { .. } => self.registrations += 1,
            MetadataRecord::ClientQuota(change) => quotas::apply(Arc::make_mut(&mut self.quotas), change),
            MetadataRecord::AccessControlEntry(entry) => {
                Arc::make_mut(&mut self.access_rules).insert(entry.id, entry.rule.clone());
            }
            MetadataRecord::RemoveAccessControlEntry(id) => {
                Arc::make_mut(&mut self.access_rules).remove(id);
            }
            // Transactions are resolved where the log is read.
            MetadataRecord::BeginTransaction
            | MetadataRecord::EndTransaction
            | MetadataRecord::AbortTransaction
            | MetadataRecord::Ignored => {}
        }
        Ok(())
    }

    fn add_topic(&mut self, name: &str, id: Uuid) -> Result<(), DoesNotFit> {
        if self.topics.contains_key(name) || self.ids.contains_key(&id) {
            return Err(DoesNotFit(format!("topic {name} is there already")));
        }
        let shared: TopicName = name.into();
        // Settings of a topic that was deleted are gone with it, as in Kafka.
        let topic = TopicImage { name: Arc::clone(&shared), id, partitions: Vec::new(), settings: Settings::default() };
        self.ids.insert(id, Arc::clone(&shared));
        self.flattened.insert(flatten(name), Arc::clone(&shared));
        self.topics.insert(shared, Arc::new(topic));
        Ok(())
    }

    fn topic_mut(&mut self, id: &Uuid) -> Result<&mut TopicImage, DoesNotFit> {
        let missing = || DoesNotFit(format!("no topic {id}"));
        let name = self.ids.get(id).ok_or_else(missing)?;
        self.topics.get_mut(name).map(Arc::make_mut).ok_or_else(missing)
    }

    fn configure(&mut self, resource_type: i8, resource: &str, name: &str, value: Option<&str>) {
        let change = |settings: &mut Settings| match value {
            Some(value) => settings.insert(name.to_owned(), value.to_owned()),
            None => settings.remove(name),
        };
        if resource_type == RESOURCE_TOPIC {
            // None: a setting written for a topic that is gone.
            if let Some(topic) = self.topics.get_mut(resource) {
                change(&mut Arc::make_mut(topic).settings);
            }
            return;
        }
        let all = Arc::make_mut(&mut self.settings);
        let key = (resource_type, resource.to_owned());
        let settings = all.entry(key.clone()).or_default();
        change(settings);
        if settings.is_empty() {
            all.remove(&key);
        }
    }
}

fn flatten(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::super::records::PartitionRecord;
    use super::*;

    fn partition(id: Uuid, index: i32) -> MetadataRecord {
        MetadataRecord::Partition(PartitionRecord {
            partition: index,
            topic_id: id,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
        })
    }

    #[test]
    fn a_topic_lives_from_its_record_to_its_removal() {
        let id = Uuid::from_u128(1);
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::Topic { name: "a.b".into(), id }).unwrap();
        image.apply(&partition(id, 0)).unwrap();
        image.apply(&partition(id, 1)).unwrap();
        assert_eq!(image.topic("a.b").unwrap().partitions.len(), 2);
        assert_eq!(image.colliding_topic("a_b").map(|name| &**name), Some("a.b"));
        assert_eq!(image.partition_count(), 2);
        image.apply(&MetadataRecord::RemoveTopic(id)).unwrap();
        assert!(image.topic("a.b").is_none() && image.topic_by_id(&id).is_none());
        assert_eq!((image.colliding_topic("a_b"), image.partition_count()), (None, 0));
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let id = Uuid::from_u128(1);
        let mut image = MetadataImage::default();
        assert!(image.apply(&partition(id, 0)).is_err());
        assert!(image.apply(&MetadataRecord::RemoveTopic(id)).is_err());
        image.apply(&MetadataRecord::Topic { name: "t".into(), id }).unwrap();
        assert!(image.apply(&MetadataRecord::Topic { name: "t".into(), id: Uuid::from_u128(2) }).is_err());
        assert!(image.apply(&partition(id, 1)).is_err());
    }

    #[test]
    fn each_start_of_the_broker_is_a_new_leader_epoch() {
        let id = Uuid::from_u128(1);
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::RegisterBroker { broker_id: 1 }).unwrap();
        image.apply(&MetadataRecord::Topic { name: "t".into(), id }).unwrap();
        image.apply(&partition(id, 0)).unwrap();
        let epoch = |image: &MetadataImage| image.leader_epoch(&image.topic("t").unwrap().partitions[0]);
        assert_eq!(epoch(&image), 0);
        image.apply(&MetadataRecord::RegisterBroker { broker_id: 1 }).unwrap();
        assert_eq!(epoch(&image), 1);
    }

    #[test]
    fn a_setting_is_kept_with_its_topic() {
        let id = Uuid::from_u128(1);
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::Topic { name: "t".into(), id }).unwrap();
        let set = |value: Option<&str>| MetadataRecord::Config {
            resource_type: RESOURCE_TOPIC,
            resource_name: "t".into(),
            name: "retention.ms".into(),
            value: value.map(str::to_owned),
        };
        image.apply(&set(Some("5"))).unwrap();
        assert_eq!(image.topic("t").unwrap().settings["retention.ms"], "5");
        image.apply(&set(None)).unwrap();
        assert!(image.topic("t").unwrap().settings.is_empty());
    }
}
