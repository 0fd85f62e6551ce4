//! When metadata is asked for, of which topics, and how an answer becomes a new snapshot.

use std::sync::Arc;

use base::hash::{HashMap, HashSet};
use base::{Now, Rng, TopicName};
use protocol::api::messages::{MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic};
use protocol::api::{ApiKey, ErrorCode, Request};

use crate::config::ClientConfig;
use crate::connection::{Call, Connection};
use crate::error::ClientError;
use crate::metadata::{Broker, Metadata, PartitionMetadata, TopicMetadata};
use crate::retry::Backoff;
use crate::wire::topic;

pub(crate) struct Refresh {
    topics: HashSet<TopicName>,
    /// How many want all topics.
    pub all_topics: usize,
    pub in_flight: Option<Call>,
    /// Somebody asked for a refresh since the last one went out.
    requested: bool,
    /// Something is wanted that has never been asked for: no back-off.
    at_once: bool,
    /// No refresh before this tick, unless `at_once`.
    not_before: i64,
    /// Tick at which the snapshot is too old.
    stale_at: i64,
    backoff: Backoff,
    max_age_ms: i64,
    allow_auto_create: bool,
    changed: bool,
}

impl Refresh {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            topics: HashSet::default(),
            all_topics: 0,
            in_flight: None,
            requested: false,
            at_once: false,
            not_before: i64::MIN,
            stale_at: i64::MAX,
            backoff: Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms),
            max_age_ms: config.metadata_max_age_ms.max(1),
            allow_auto_create: config.allow_auto_create_topics,
            changed: false,
        }
    }

    /// Whether the topic is a new one.
    pub(crate) fn want_topic(&mut self, topic: &TopicName) -> bool {
        let new = self.topics.insert(Arc::clone(topic));
        self.at_once |= new;
        new
    }

    pub(crate) fn want_all(&mut self) {
        self.all_topics += 1;
        self.at_once = true;
    }

    /// While one is under way there is nothing to ask for: who still misses something then asks again.
    pub(crate) fn request(&mut self) {
        self.requested |= self.in_flight.is_none();
    }

    /// As [`Refresh::request`], unless nothing is wanted.
    pub(crate) fn request_if_any(&mut self) {
        self.requested |= self.all_topics > 0 || !self.topics.is_empty();
    }

    /// Tick of the next refresh; `i64::MAX` for none.
    pub(crate) fn due_ticks_ms(&self) -> i64 {
        if self.in_flight.is_some() {
            i64::MAX
        } else if self.at_once {
            i64::MIN
        } else if self.requested {
            self.not_before
        } else {
            self.stale_at
        }
    }

    pub(crate) fn send(&mut self, connection: &Arc<Connection>, now: Now) {
        // Should there be no common version, the call fails as unsupported and is reported as any failure is.
        let version = connection.version(ApiKey::Metadata).unwrap_or(1);
        let mut request = MetadataRequest::default();
        // Version 0 has no word for "no topics"; naming none there asks for all, which does no harm.
        request.topics = (self.all_topics == 0).then(|| {
            let mut names: Vec<&TopicName> = self.topics.iter().collect();
            names.sort_unstable();
            let named = |name: &&TopicName| {
                let mut wanted = MetadataRequestTopic::default();
                wanted.name = Some(topic(name));
                wanted
            };
            names.iter().map(named).collect()
        });
        request.allow_auto_topic_creation = self.allow_auto_create;
        (self.requested, self.at_once) = (false, false);
        self.in_flight = Some(connection.send(Request::Metadata(request), version, now));
    }

    pub(crate) fn succeeded(&mut self, now: Now, rng: &mut Rng) {
        if std::mem::take(&mut self.changed) {
            self.backoff.reset();
        }
        self.not_before = now.ticks_ms.saturating_add(self.backoff.next_ms(rng).max(1));
        self.stale_at = now.ticks_ms.saturating_add(self.max_age_ms);
    }

    pub(crate) fn failed(&mut self, error: ClientError, now: Now, rng: &mut Rng) {
        tracing::debug!(%error, "metadata refresh failed");
        self.requested = true;
        self.at_once = false;
        self.not_before = now.ticks_ms.saturating_add(self.backoff.next_ms(rng).max(1));
    }

    /// The snapshot that follows `before` by this answer.
    pub(crate) fn read(&mut self, before: &Metadata, response: MetadataResponse) -> Result<Metadata, ClientError> {
        if response.error_code != 0 {
            return Err(ClientError::broker("metadata", ErrorCode::from_code(response.error_code), None));
        }
        let mut brokers = HashMap::default();
        for broker in response.brokers {
            // A port out of range is unusable: the broker counts as unknown.
            let Ok(port) = u16::try_from(broker.port) else { continue };
            let rack = broker.rack.map(|rack| Arc::from(rack.as_str()));
            let id = broker.node_id.0;
            brokers.insert(id, Broker { id, host: Arc::from(broker.host.as_str()), port, rack });
        }
        let mut topics = HashMap::default();
        let mut missing = HashMap::default();
        let mut names = HashMap::default();
        for answered in response.topics {
            let Some(name) = answered.name else { continue };
            let known = before.topics.get(name.as_str());
            let name: TopicName = known.map_or_else(|| Arc::from(name.as_str()), |known| Arc::clone(&known.name));
            let code = ErrorCode::from_code(answered.error_code);
            if code != ErrorCode::None {
                // A leader election may be under way: what was known of the topic still holds.
                match known.filter(|_| code.is_retriable() && code != ErrorCode::UnknownTopicOrPartition) {
                    Some(known) => {
                        topics.insert(Arc::clone(&name), Arc::clone(known));
                    }
                    None => {
                        missing.insert(name, code);
                    }
                }
                continue;
            }
            let mut partitions: Vec<(i32, PartitionMetadata)> = Vec::with_capacity(answered.partitions.len());
            for partition in answered.partitions {
                let fresh = PartitionMetadata {
                    leader: Some(partition.leader_id.0).filter(|leader| *leader >= 0),
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
                    in_sync: partition.isr_nodes.iter().map(|node| node.0).collect(),
                };
                let old = known
                    .filter(|known| known.id == answered.topic_id)
                    .and_then(|known| known.partitions.get(usize::try_from(partition.partition_index).ok()?))
                    .filter(|old| fresh.leader_epoch >= 0 && old.leader_epoch > fresh.leader_epoch);
                partitions.push((partition.partition_index, old.cloned().unwrap_or(fresh)));
            }
            partitions.sort_unstable_by_key(|(index, _)| *index);
            // Indices are 0..n in every answer of a Kafka broker; anything else cannot be addressed by index.
            if partitions.iter().enumerate().any(|(expected, (index, _))| expected as i32 != *index) {
                return Err(ClientError::malformed("metadata", format!("{name}: partition indices have gaps")));
            }
            let topic = TopicMetadata {
                name: Arc::clone(&name),
                id: answered.topic_id,
                internal: answered.is_internal,
                partitions: partitions.into_iter().map(|(_, partition)| partition).collect(),
            };
            if !topic.id.is_nil() {
                names.insert(topic.id, Arc::clone(&name));
            }
            let topic = known.filter(|known| ***known == topic).cloned().unwrap_or_else(|| Arc::new(topic));
            topics.insert(name, topic);
        }
        self.changed = brokers != before.brokers
            || topics.len() != before.topics.len()
            || topics.iter().any(|(name, topic)| before.topics.get(name).is_none_or(|old| !Arc::ptr_eq(old, topic)));
        Ok(Metadata {
            version: before.version + 1,
            cluster_id: response.cluster_id.map(|id| Arc::from(id.as_str())).or_else(|| before.cluster_id.clone()),
            controller: Some(response.controller_id.0).filter(|controller| *controller >= 0),
            brokers,
            topics,
            missing,
            names,
        })
    }
}
