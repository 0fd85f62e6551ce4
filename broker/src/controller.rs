//! Changes of the cluster's metadata, and how the broker follows them: table of topics, deleted partitions, settings of
//! open logs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::{PartitionId, TopicPartition};
use parking_lot::Mutex;
use protocol::api::ErrorCode;
use uuid::Uuid;

use crate::connection_limits::ConnectionLimits;
use crate::data_directory::OrKeepEverything;
use crate::dynamic;
use crate::error::BrokerError;
use crate::metadata::records::PartitionChange;
use crate::metadata::{MetadataImage, MetadataRecord, RESOURCE_BROKER, Settings, changes};
use crate::state::BrokerState;

impl BrokerState {
    /// Makes a change of the metadata; see [`MetadataLog::change`](crate::metadata::MetadataLog::change).
    pub fn change_metadata<R>(
        self: &Arc<Self>,
        build: impl FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, R),
        done: impl FnOnce(Result<(), ErrorCode>) + Send + 'static,
    ) -> R {
        let result = self.metadata.change(self.clock.now(), build, done);
        self.commit_metadata();
        result
    }

    fn commit_metadata(&self) {
        self.metadata.commit(|records, image| self.put_into_effect(records, image));
    }

    /// Follows committed metadata: the table of topics, deleted partitions, settings of open logs.
    fn put_into_effect(&self, records: &[MetadataRecord], image: &MetadataImage) {
        let mut touched: Vec<Uuid> = Vec::new();
        let mut touch = |id: &Uuid| {
            if touched.last() != Some(id) && !touched.contains(id) {
                touched.push(*id);
            }
        };
        let mut reconfigured: Vec<&str> = Vec::new();
        let mut broker_reconfigured = false;
        let mut quotas_changed = false;
        for record in records {
            match record {
                MetadataRecord::Topic { id, .. } => touch(id),
                MetadataRecord::Partition(record) => touch(&record.topic_id),
                MetadataRecord::RemoveTopic(id) => self.remove_topic(id),
                MetadataRecord::Config { resource_type: RESOURCE_BROKER, .. } => broker_reconfigured = true,
                MetadataRecord::ClientQuota(_) => quotas_changed = true,
                MetadataRecord::Config { resource_name, .. } => reconfigured.push(resource_name),
                _ => {}
            }
        }
        for id in touched {
            if let Some(topic) = image.topic_by_id(&id) {
                self.topics.put(topic);
            }
        }
        if quotas_changed {
            self.client_quotas.set(image.quotas());
        }
        if broker_reconfigured {
            self.configure_broker(image);
            *self.topic_defaults.write() = Arc::new(self.defaults_with(image));
            for topic in image.topics() {
                self.reconfigure(topic);
            }
        } else {
            reconfigured.dedup();
            for topic in reconfigured.iter().filter_map(|name| image.topic(name)) {
                self.reconfigure(topic);
            }
        }
    }

    /// The broker's properties, with what was set while it ran over what it was started with.
    fn properties_with(&self, image: &MetadataImage) -> Settings {
        let mut explicit = self.config.explicit.clone();
        for name in ["", &self.config.node_id.to_string()] {
            if let Some(settings) = image.settings(RESOURCE_BROKER, name) {
                explicit.extend(settings.clone());
            }
        }
        explicit
    }

    fn defaults_with(&self, image: &MetadataImage) -> Settings {
        self.config.topic_defaults(&self.properties_with(image))
    }

    /// Follows the broker's own properties that may change while it runs; topics' defaults are followed elsewhere.
    fn configure_broker(&self, image: &MetadataImage) {
        let properties = self.properties_with(image);
        self.log.set_settings(dynamic::of_directory(&properties, &self.config));
        self.verifies_partitions.store(dynamic::verifies_partitions(&properties), Ordering::Release);
        match ConnectionLimits::from_properties(&properties) {
            Ok(limits) => self.open_connections.set_limits(limits),
            Err(error) => tracing::error!("limits of connections are left as they were: {error}"),
        }
    }

    fn reconfigure(&self, topic: &crate::metadata::TopicImage) {
        let config = changes::log_config(&self.topic_defaults(), &topic.settings).unwrap_or_default_logged();
        let Some(entry) = self.topics.by_id(&topic.id) else { return };
        for partition in entry.opened() {
            partition.log().update_config(config.clone());
        }
        // Those not opened yet take their configuration when they are; retention of them waits until then.
    }

    fn remove_topic(&self, id: &Uuid) {
        let Some(entry) = self.topics.remove(id) else { return };
        self.groups.topic_deleted(&entry.name, *id);
        self.shares.topic_deleted(*id);
        self.waiters.nudge(i64::MIN);
        let count = entry.partition_count();
        for partition in entry.close() {
            partition.mark_deleted();
        }
        let now = self.clock.now();
        for index in 0..count {
            let partition = TopicPartition { topic: Arc::clone(&entry.name), partition: index as PartitionId };
            if let Err(error) = self.log.delete_partition(&partition, now) {
                tracing::error!("cannot delete {partition}: {error}");
            }
        }
    }

    /// After opening: takes up the topics of the metadata log, and notes in it that this broker started, which begins a
    /// new leader epoch for every partition.
    pub(crate) fn take_the_lead(self: &Arc<Self>) -> Result<(), BrokerError> {
        let weak = Arc::downgrade(self);
        self.metadata.log().on_advance(Arc::new(move || {
            if let Some(state) = weak.upgrade() {
                state.commit_metadata();
            }
        }));
        let image = self.metadata.current();
        for topic in image.topics() {
            self.topics.put(topic);
        }
        *self.topic_defaults.write() = Arc::new(self.defaults_with(&image));
        self.configure_broker(&image);
        self.client_quotas.set(image.quotas());
        self.check_alone(&image)?;
        let left_open = self.metadata.ends_inside_transaction();
        let outcome: Arc<Mutex<Option<Result<(), ErrorCode>>>> = Arc::default();
        let told = Arc::clone(&outcome);
        let broker_id = self.config.node_id;
        self.change_metadata(
            |image| {
                let mut records = Vec::new();
                if left_open {
                    records.push(MetadataRecord::AbortTransaction);
                }
                records.push(MetadataRecord::RegisterBroker { broker_id });
                records.extend(leaderless(image, broker_id));
                if image.registrations() == 0 && image.features().is_empty() {
                    records.push(feature_level("metadata.version", 30));
                    records.push(feature_level("streams.version", 1));
                    records.push(feature_level("transaction.version", 2));
                    records.push(feature_level(ELIGIBLE_REPLICAS, 1));
                    records.extend(min_isr_of_the_cluster(image, &self.config));
                }
                // A data directory of an earlier version gets what has come since.
                if !image.features().contains_key("group.version") {
                    records.push(feature_level("group.version", 1));
                }
                if !image.features().contains_key(crate::share::service::FEATURE) {
                    records.push(feature_level(crate::share::service::FEATURE, 1));
                }
                (records, ())
            },
            move |result| *told.lock() = Some(result),
        );
        // Under `power` the record is committed by the flusher, which nobody drives yet.
        while outcome.lock().is_none() {
            let step = self.log.flusher().step();
            if step.failed > 0 || (step.partitions == 0 && outcome.lock().is_none()) {
                return Err(BrokerError::Storage(format!(
                    "{}: the metadata log cannot be written\ncheck the disk and its free space",
                    self.config.data_dir.display()
                )));
            }
        }
        match *outcome.lock() {
            Some(Err(code)) => Err(BrokerError::Storage(format!(
                "{}: the metadata log cannot be written ({code})\ncheck the disk and its free space",
                self.config.data_dir.display()
            ))),
            _ => Ok(()),
        }?;
        self.configure_partitions_on_disk(&self.metadata.current());
        Ok(())
    }

    /// A directory of a larger cluster has only a part of its records.
    fn check_alone(&self, image: &MetadataImage) -> Result<(), BrokerError> {
        for topic in image.topics() {
            let elsewhere = topic.partitions.iter().position(|partition| partition.replicas != [self.config.node_id]);
            if let Some(index) = elsewhere {
                return Err(BrokerError::DataDirectory(format!(
                    "data directory {} is of a cluster with other brokers: partition {}-{index} is on {:?}, this is node \
                     {}\nbring all partitions to this one broker first, or name another directory",
                    self.config.data_dir.display(),
                    topic.name,
                    topic.partitions[index].replicas,
                    self.config.node_id
                )));
            }
        }
        Ok(())
    }

    /// Gives every partition that has files its configuration, so that retention and compaction treat it as its topic
    /// says before anyone uses it.
    fn configure_partitions_on_disk(&self, image: &MetadataImage) {
        for partition in self.log.partitions() {
            let Some(topic) = image.topic(&partition.topic) else {
                if &*partition.topic != crate::metadata::log::METADATA_TOPIC {
                    tracing::warn!("{partition} is in the data directory but not in the metadata: left alone");
                }
                continue;
            };
            let config = changes::log_config(&self.topic_defaults(), &topic.settings).unwrap_or_default_logged();
            if let Err(error) = self.log.create_partition(&partition, topic.id, config) {
                tracing::error!("cannot configure {partition}: {error}");
            }
        }
    }
}

/// A Kafka broker gives up its leaderships when it stops; this takes them up again.
fn leaderless(image: &MetadataImage, broker_id: i32) -> Vec<MetadataRecord> {
    let partitions = image.topics().flat_map(|topic| {
        topic.partitions.iter().enumerate().map(move |(index, partition)| (topic.id, index as PartitionId, partition))
    });
    let leaderless = partitions.filter(|(_, _, partition)| partition.leader != broker_id);
    let changes = leaderless.map(|(topic_id, partition, _)| {
        let (isr, leader) = (Some(vec![broker_id]), Some(broker_id));
        MetadataRecord::PartitionChange(PartitionChange { partition, topic_id, isr, leader, replicas: None })
    });
    changes.collect()
}

/// The feature that lets replicas outside the ISR be elected as long as no record needs more than `min.insync.replicas`
/// (KIP-966): one node has none to elect, but the feature makes that a setting of the whole cluster.
pub(crate) const ELIGIBLE_REPLICAS: &str = "eligible.leader.replicas.version";
/// The setting that no single broker may have while [`ELIGIBLE_REPLICAS`] is switched on.
pub(crate) const MIN_ISR: &str = "min.insync.replicas";

/// What goes with switching [`ELIGIBLE_REPLICAS`] on: [`MIN_ISR`] becomes a setting of the cluster, that of the broker goes.
pub(crate) fn min_isr_of_the_cluster(image: &MetadataImage, config: &crate::BrokerConfig) -> Vec<MetadataRecord> {
    let setting = |resource_name: String, value| MetadataRecord::Config {
        resource_type: RESOURCE_BROKER,
        resource_name,
        name: MIN_ISR.to_owned(),
        value,
    };
    let has = |name: &str| image.settings(RESOURCE_BROKER, name).is_some_and(|settings| settings.contains_key(MIN_ISR));
    let mut records = Vec::new();
    if !has("") {
        records.push(setting(String::new(), config.value(MIN_ISR).map(|value| value.trim().to_owned())));
    }
    let broker = config.node_id.to_string();
    if has(&broker) {
        records.push(setting(broker, None));
    }
    records
}

fn feature_level(name: &str, level: i16) -> MetadataRecord {
    MetadataRecord::FeatureLevel { name: name.into(), level }
}
