//! Topics and the cluster itself.

use std::sync::Arc;

use base::Offset;
use base::TopicPartition;
use protocol::api::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::api::messages::delete_topics_request::DeleteTopicState;
use protocol::api::messages::metadata_request::MetadataRequestTopic;
use protocol::api::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, MetadataRequest,
    create_partitions_request::CreatePartitionsTopic, metadata_response::MetadataResponseTopic,
};
use protocol::api::{ApiKey, ErrorCode, Request, Uuid};

use super::{Admin, Results, Route, check, in_order};
use crate::client::Target;
use crate::error::ClientError;
use crate::metadata::{Broker, PartitionMetadata, TopicMetadata};
use crate::wire::{expect_response, text, topic};

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions; -1 for the broker's default.
    pub partitions: i32,
    /// How many replicas; -1 for the broker's default.
    pub replication_factor: i16,
    /// Settings that differ from the broker's defaults.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with that many partitions, otherwise the broker's defaults.
    pub fn new(name: impl Into<Arc<str>>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, replication_factor: -1, configs: Vec::new() }
    }

    /// With that many replicas.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = replicas;
        self
    }

    /// With this setting, for example `cleanup.policy` = `compact`.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// A topic that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; nil when the broker does not say.
    pub id: Uuid,
    /// Its number of partitions; -1 when the broker does not say.
    pub partitions: i32,
    /// Its number of replicas; -1 when the broker does not say.
    pub replication_factor: i16,
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: String,
    /// Node id of the controller, if there is one.
    pub controller: Option<i32>,
    /// Its brokers, by node id.
    pub brokers: Vec<Broker>,
}

impl Admin {
    /// Creates topics.
    ///
    /// # Errors
    /// Per topic, for example `TopicAlreadyExists`.
    pub async fn create_topics(&self, new: &[NewTopic]) -> Result<Results<Arc<str>, CreatedTopic>, ClientError> {
        self.create_or_validate(new, false).await
    }

    /// As [`Admin::create_topics`], but only checks whether it would succeed.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub async fn validate_topics(&self, new: &[NewTopic]) -> Result<Results<Arc<str>, CreatedTopic>, ClientError> {
        self.create_or_validate(new, true).await
    }

    async fn create_or_validate(
        &self,
        new: &[NewTopic],
        validate_only: bool,
    ) -> Result<Results<Arc<str>, CreatedTopic>, ClientError> {
        let names: Vec<Arc<str>> = new.iter().map(|new| Arc::clone(&new.name)).collect();
        let build = |connection: &crate::Connection| {
            let topics = new.iter().map(|new| {
                let mut creatable = CreatableTopic::default();
                creatable.name = topic(&new.name);
                creatable.num_partitions = new.partitions;
                creatable.replication_factor = new.replication_factor;
                let configs = new.configs.iter().map(|(name, value)| {
                    let mut config = CreatableTopicConfig::default();
                    config.name = text(name);
                    config.value = Some(text(value));
                    config
                });
                creatable.configs = configs.collect();
                creatable
            });
            let mut request = CreateTopicsRequest::default();
            request.topics = topics.collect();
            request.timeout_ms = self.timeout_ms();
            request.validate_only = validate_only;
            Ok((Request::CreateTopics(request), connection.version(ApiKey::CreateTopics)?))
        };
        self.ask("creating topics", Route::To(Target::Controller), build, |response, address| {
            let response = expect_response!(response, CreateTopics, address)?;
            let mut results = Vec::new();
            for result in response.topics {
                let what = format!("creating topic {}", result.name.as_str());
                let outcome = check(what, result.error_code, result.error_message.as_ref());
                if matches!(&outcome, Err(error) if error.code() == Some(ErrorCode::NotController)) {
                    outcome?;
                    continue;
                }
                let created = CreatedTopic {
                    id: result.topic_id,
                    partitions: result.num_partitions,
                    replication_factor: result.replication_factor,
                };
                results.push((Arc::from(result.name.as_str()), outcome.map(|()| created)));
            }
            Ok(in_order(&names, results, address, ToString::to_string))
        })
        .await
    }

    /// Deletes topics by name.
    ///
    /// # Errors
    /// Per topic, for example `UnknownTopicOrPartition`.
    pub async fn delete_topics(&self, names: &[&str]) -> Result<Results<Arc<str>, ()>, ClientError> {
        let asked = super::shared(names);
        let build = |connection: &crate::Connection| {
            let version = connection.version(ApiKey::DeleteTopics)?;
            let mut request = DeleteTopicsRequest::default();
            request.timeout_ms = self.timeout_ms();
            if version >= 6 {
                let named = |name: &&str| {
                    let mut state = DeleteTopicState::default();
                    state.name = Some(topic(name));
                    state
                };
                request.topics = names.iter().map(named).collect();
            } else {
                request.topic_names = names.iter().map(|name| topic(name)).collect();
            }
            Ok((Request::DeleteTopics(request), version))
        };
        self.ask("deleting topics", Route::To(Target::Controller), build, |response, address| {
            let response = expect_response!(response, DeleteTopics, address)?;
            let results = response.responses.into_iter().filter_map(|result| {
                let name: Arc<str> = Arc::from(result.name?.as_str());
                let what = format!("deleting topic {name}");
                Some((name, check(what, result.error_code, result.error_message.as_ref())))
            });
            Ok(in_order(&asked, results.collect(), address, ToString::to_string))
        })
        .await
    }

    /// Raises topics to that many partitions.
    ///
    /// # Errors
    /// Per topic, for example `InvalidPartitions` if it has as many already.
    pub async fn create_partitions(&self, counts: &[(&str, i32)]) -> Result<Results<Arc<str>, ()>, ClientError> {
        let asked: Vec<Arc<str>> = counts.iter().map(|(name, _)| Arc::from(*name)).collect();
        let build = |connection: &crate::Connection| {
            let mut request = CreatePartitionsRequest::default();
            request.timeout_ms = self.timeout_ms();
            let raised = |(name, count): &(&str, i32)| {
                let mut raised = CreatePartitionsTopic::default();
                raised.name = topic(name);
                raised.count = *count;
                raised.assignments = None;
                raised
            };
            request.topics = counts.iter().map(raised).collect();
            Ok((Request::CreatePartitions(request), connection.version(ApiKey::CreatePartitions)?))
        };
        self.ask("creating partitions", Route::To(Target::Controller), build, |response, address| {
            let response = expect_response!(response, CreatePartitions, address)?;
            let results = response.results.into_iter().map(|result| {
                let name: Arc<str> = Arc::from(result.name.as_str());
                let what = format!("creating partitions of {name}");
                (name, check(what, result.error_code, result.error_message.as_ref()))
            });
            Ok(in_order(&asked, results.collect(), address, ToString::to_string))
        })
        .await
    }

    /// All topics, by name; those of the broker itself are marked as internal.
    ///
    /// # Errors
    /// `Timeout` or `Unreachable`.
    pub async fn list_topics(&self) -> Result<Vec<TopicMetadata>, ClientError> {
        let mut topics: Vec<TopicMetadata> =
            self.topics(None).await?.into_iter().filter_map(|(_, topic)| topic.ok()).collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The topics of those names, which are not created by asking.
    ///
    /// # Errors
    /// Per topic, `UnknownTopicOrPartition`.
    pub async fn describe_topics(&self, names: &[&str]) -> Result<Results<Arc<str>, TopicMetadata>, ClientError> {
        self.topics(Some(names)).await
    }

    async fn topics(&self, names: Option<&[&str]>) -> Result<Results<Arc<str>, TopicMetadata>, ClientError> {
        let build = |connection: &crate::Connection| {
            let mut request = MetadataRequest::default();
            request.topics = names.map(|names| {
                let named = |name: &&str| {
                    let mut wanted = MetadataRequestTopic::default();
                    wanted.name = Some(topic(name));
                    wanted
                };
                names.iter().map(named).collect()
            });
            request.allow_auto_topic_creation = false;
            Ok((Request::Metadata(request), connection.version_within(ApiKey::Metadata, 1, i16::MAX)?))
        };
        self.ask("describing topics", Route::To(Target::Any), build, |response, address| {
            let response = expect_response!(response, Metadata, address)?;
            check("metadata", response.error_code, None)?;
            let results: Results<Arc<str>, TopicMetadata> = response.topics.into_iter().filter_map(describe).collect();
            Ok(match names {
                Some(names) => in_order(&super::shared(names), results, address, ToString::to_string),
                None => results,
            })
        })
        .await
    }

    /// The cluster's id, controller and brokers.
    ///
    /// # Errors
    /// `Timeout` or `Unreachable`.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let build = |connection: &crate::Connection| {
            let mut request = DescribeClusterRequest::default();
            request.endpoint_type = 1;
            Ok((Request::DescribeCluster(request), connection.version(ApiKey::DescribeCluster)?))
        };
        self.ask("describing the cluster", Route::To(Target::Any), build, |response, address| {
            let response = expect_response!(response, DescribeCluster, address)?;
            check("describing the cluster", response.error_code, response.error_message.as_ref())?;
            let brokers = response.brokers.iter().filter_map(|broker| {
                Some(Broker {
                    id: broker.broker_id.0,
                    host: Arc::from(broker.host.as_str()),
                    port: u16::try_from(broker.port).ok()?,
                    rack: broker.rack.as_ref().map(|rack| Arc::from(rack.as_str())),
                })
            });
            let mut brokers: Vec<Broker> = brokers.collect();
            brokers.sort_unstable_by_key(|broker| broker.id);
            Ok(ClusterDescription {
                cluster_id: response.cluster_id.to_string(),
                controller: Some(response.controller_id.0).filter(|node| *node >= 0),
                brokers,
            })
        })
        .await
    }

    /// Deletes the records of partitions below an offset (-1: below the high watermark); the offset that each partition
    /// then starts with.
    ///
    /// # Errors
    /// Per partition, for example `OffsetOutOfRange`.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, Offset)],
    ) -> Result<Results<TopicPartition, Offset>, ClientError> {
        use protocol::api::messages::DeleteRecordsRequest;
        use protocol::api::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
        self.by_leader(
            "deleting records",
            before,
            |connection, partitions| {
                let mut request = DeleteRecordsRequest::default();
                request.timeout_ms = self.timeout_ms();
                for (partition, offset) in partitions {
                    let mut entry = DeleteRecordsPartition::default();
                    entry.partition_index = partition.partition;
                    entry.offset = *offset;
                    let mut named = DeleteRecordsTopic::default();
                    named.name = topic(&partition.topic);
                    named.partitions = vec![entry];
                    // One entry per topic, as brokers expect.
                    match request.topics.iter_mut().find(|known| known.name == named.name) {
                        Some(known) => known.partitions.append(&mut named.partitions),
                        None => request.topics.push(named),
                    }
                }
                Ok((Request::DeleteRecords(request), connection.version(ApiKey::DeleteRecords)?))
            },
            |response, address| {
                let response = expect_response!(response, DeleteRecords, address)?;
                let mut results = Vec::new();
                for answered in response.topics {
                    for result in answered.partitions {
                        let partition = TopicPartition::new(answered.name.as_str(), result.partition_index);
                        let outcome = check(format!("deleting records of {partition}"), result.error_code, None);
                        results.push((partition, outcome.map(|()| result.low_watermark)));
                    }
                }
                Ok(results)
            },
        )
        .await
    }
}

fn describe(answered: MetadataResponseTopic) -> Option<(Arc<str>, Result<TopicMetadata, ClientError>)> {
    let name: Arc<str> = Arc::from(answered.name?.as_str());
    let checked = check(format!("topic {name}"), answered.error_code, None);
    let mut partitions = answered.partitions;
    partitions.sort_unstable_by_key(|partition| partition.partition_index);
    let partitions = partitions.iter().map(|partition| PartitionMetadata {
        leader: Some(partition.leader_id.0).filter(|leader| *leader >= 0),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
        in_sync: partition.isr_nodes.iter().map(|node| node.0).collect(),
    });
    let topic = TopicMetadata {
        name: Arc::clone(&name),
        id: answered.topic_id,
        internal: answered.is_internal,
        partitions: partitions.collect(),
    };
    Some((name, checked.map(|()| topic)))
}
