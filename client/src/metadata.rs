//! What is known of the cluster: brokers, topics, who leads which partition. An immutable snapshot; a refresh makes a
//! new one.
//!
//! Invariant: within one topic id a partition's leader epoch never goes back, whatever broker was asked.

use std::sync::Arc;

use base::hash::HashMap;
use base::{LeaderEpoch, PartitionId, TopicName, TopicPartition};
use protocol::api::ErrorCode;
use uuid::Uuid;

/// One broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub id: i32,
    /// Host to connect to.
    pub host: Arc<str>,
    /// Port to connect to.
    pub port: u16,
    /// Rack, if it has one.
    pub rack: Option<Arc<str>>,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Node id of the leader; `None` while there is none.
    pub leader: Option<i32>,
    /// Term of that leader; -1 when the broker does not say.
    pub leader_epoch: LeaderEpoch,
    /// Node ids of all replicas.
    pub replicas: Vec<i32>,
    /// Node ids of the replicas in sync.
    pub in_sync: Vec<i32>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: TopicName,
    /// Its id; nil when the broker does not say.
    pub id: Uuid,
    /// Whether it belongs to the broker itself.
    pub internal: bool,
    /// Its partitions by index.
    pub partitions: Vec<PartitionMetadata>,
}

/// One state of knowledge about the cluster.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Counts refreshes; 0 before the first.
    pub version: u64,
    /// The cluster's id.
    pub cluster_id: Option<Arc<str>>,
    /// Node id of the controller, or of a broker that stands in for it.
    pub controller: Option<i32>,
    /// Brokers by node id.
    pub brokers: HashMap<i32, Broker>,
    /// Topics by name.
    pub topics: HashMap<TopicName, Arc<TopicMetadata>>,
    /// Topics that were asked for and are not there, with the reason: `UnknownTopicOrPartition`,
    /// `InvalidTopicException`, `TopicAuthorizationFailed`, ...
    pub missing: HashMap<TopicName, ErrorCode>,
    /// Names by topic id.
    pub names: HashMap<Uuid, TopicName>,
}

impl Metadata {
    /// The topic of that name, if it is known to exist.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    /// Name of the topic of that id.
    pub fn topic_name(&self, id: &Uuid) -> Option<&TopicName> {
        self.names.get(id)
    }

    /// How many partitions the topic has, if it is known to exist.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.topics.get(topic).map(|topic| topic.partitions.len() as i32)
    }

    /// What is known of one partition.
    pub fn partition(&self, topic: &str, partition: PartitionId) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Node id and epoch of the partition's leader, if there is one and its address is known.
    pub fn leader(&self, topic: &str, partition: PartitionId) -> Option<(i32, LeaderEpoch)> {
        let found = self.partition(topic, partition)?;
        let leader = found.leader.filter(|leader| self.brokers.contains_key(leader))?;
        Some((leader, found.leader_epoch))
    }

    /// As [`Metadata::leader`].
    pub fn leader_of(&self, partition: &TopicPartition) -> Option<(i32, LeaderEpoch)> {
        self.leader(&partition.topic, partition.partition)
    }
}
