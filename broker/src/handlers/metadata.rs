//! Metadata: which brokers there are, which topics, and who leads their partitions; starts making topics on first use.

use std::sync::Arc;

use protocol::api::messages::metadata_request::MetadataRequestTopic;
use protocol::api::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::api::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use protocol::api::{ErrorCode, Response, Uuid};

use crate::dispatch::{Endpoint, Outcome, RequestContext};
use crate::metadata::changes::{TopicWish, check_topic_name};
use crate::metadata::{MetadataImage, TopicImage};
use crate::state::BrokerState;
use crate::topics::is_internal;

use super::{text, topic_name};

/// Everything that is allowed on a cluster and on a topic, as bit masks of operation codes.
pub(crate) const CLUSTER_OPERATIONS: i32 = 8096;
pub(crate) const TOPIC_OPERATIONS: i32 = 3576;
const NOT_ASKED: i32 = i32::MIN;

const FIRST_WITH_NULL_FOR_ALL: i16 = 1;
const FIRST_WITH_AUTO_CREATE_FLAG: i16 = 4;
const FIRST_BY_ID: i16 = 12;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: MetadataRequest) -> Outcome {
    let mut request = request;
    if context.version < FIRST_WITH_NULL_FOR_ALL && request.topics.as_ref().is_some_and(Vec::is_empty) {
        request.topics = None;
    }
    let by_id_too_early = |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_nil();
    if context.version < FIRST_BY_ID && request.topics.iter().flatten().any(by_id_too_early) {
        return refuse_ids(&request).into();
    }
    let answerer =
        Answerer { state: Arc::clone(state), version: context.version, endpoint: Arc::clone(&context.endpoint) };
    let may_create = state.config.auto_create_topics_enable
        && (context.version < FIRST_WITH_AUTO_CREATE_FLAG || request.allow_auto_topic_creation);
    // Of a topic that is not there yet the answer says so, and the topic is made meanwhile: clients ask again, and some
    // ask for a topic they have just deleted only to see that it is gone.
    let answer = answerer.answer(&request);
    if may_create {
        make_topics(state, missing_topics(&state.metadata.current(), &request));
    }
    answer.into()
}

/// Starts making the topics `names` with the cluster's default partitions; nobody waits for them.
fn make_topics(state: &Arc<BrokerState>, names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    let wishes: Vec<(TopicWish, Uuid)> = names
        .into_iter()
        .map(|name| {
            let wish = TopicWish { name, partitions: -1, replication_factor: -1, ..TopicWish::default() };
            (wish, state.new_topic_id())
        })
        .collect();
    state.change_metadata(
        |image| {
            let mut records = Vec::new();
            for (wish, id) in &wishes {
                // A topic that somebody else is making, or whose name collides: the next answer says what became of it.
                if let Ok(plan) = state.with_planner(|planner| planner.plan_topic(image, wish, *id)) {
                    records.extend(plan.records);
                }
            }
            (records, ())
        },
        |_| {},
    );
}

fn missing_topics(image: &MetadataImage, request: &MetadataRequest) -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    let named = request.topics.iter().flatten().filter(|topic| topic.topic_id.is_nil());
    for name in named.filter_map(|topic| topic.name.as_ref()) {
        let is_new = image.topic(name).is_none() && !missing.iter().any(|known| known.as_str() == &***name);
        if is_new && check_topic_name(name).is_ok() && &***name != crate::metadata::log::METADATA_TOPIC {
            missing.push(name.to_string());
        }
    }
    missing
}

fn refuse_ids(request: &MetadataRequest) -> Response {
    let topics = request.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    Response::Metadata(MetadataResponse::default().with_topics(topics.collect()))
}

struct Answerer {
    state: Arc<BrokerState>,
    version: i16,
    endpoint: Arc<Endpoint>,
}

impl Answerer {
    fn answer(&self, request: &MetadataRequest) -> Response {
        let image = self.state.metadata.current();
        let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { NOT_ASKED };
        let topics = match &request.topics {
            None => image.topics().map(|topic| self.topic(&image, topic, operations)).collect(),
            Some(topics) => topics.iter().map(|topic| self.wanted(&image, topic, operations)).collect(),
        };
        let node_id = BrokerId(self.state.config.node_id);
        let broker = MetadataResponseBroker::default()
            .with_node_id(node_id)
            .with_host(text(&*self.endpoint.host))
            .with_port(i32::from(self.endpoint.port));
        let mut response = MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(text(self.state.cluster_id.as_str())))
            .with_controller_id(node_id)
            .with_topics(topics);
        if request.include_cluster_authorized_operations && (8..=10).contains(&self.version) {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        Response::Metadata(response)
    }

    fn wanted(&self, image: &MetadataImage, wanted: &MetadataRequestTopic, operations: i32) -> MetadataResponseTopic {
        let absent = |name: Option<TopicName>, code: ErrorCode| {
            MetadataResponseTopic::default().with_error_code(code.code()).with_name(name).with_topic_id(wanted.topic_id)
        };
        // An id comes first, as in Kafka: its admin client sends an empty name beside it.
        match &wanted.name {
            Some(name) if wanted.topic_id.is_nil() => match image.topic(name) {
                Some(topic) => self.topic(image, topic, operations),
                None if check_topic_name(name).is_err() => absent(Some(name.clone()), ErrorCode::InvalidTopicException),
                None => absent(Some(name.clone()), ErrorCode::UnknownTopicOrPartition),
            },
            _ => match image.topic_by_id(&wanted.topic_id) {
                Some(topic) => self.topic(image, topic, operations),
                None => absent(None, ErrorCode::UnknownTopicId),
            },
        }
    }

    fn topic(&self, image: &MetadataImage, topic: &TopicImage, operations: i32) -> MetadataResponseTopic {
        let brokers = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>();
        let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
            MetadataResponsePartition::default()
                .with_partition_index(index as i32)
                .with_leader_id(BrokerId(partition.leader))
                .with_leader_epoch(image.leader_epoch(partition))
                .with_replica_nodes(brokers(&partition.replicas))
                .with_isr_nodes(brokers(&partition.isr))
        });
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(&topic.name)))
            .with_topic_id(topic.id)
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(operations)
    }
}
