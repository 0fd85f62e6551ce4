//! CreateTopics: checks each topic, appends its records to the metadata log, answers once they are committed.

use std::sync::Arc;

use base::hash::HashMap;
use protocol::api::messages::create_topics_request::CreatableTopic;
use protocol::api::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use protocol::api::messages::{CreateTopicsRequest, CreateTopicsResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::changes::{TopicPlan, TopicWish};
use crate::state::BrokerState;

use super::describe_configs::{SOURCE_DEFAULT, effective_topic_settings};
use super::text;

const FIRST_WITH_DETAILS: i16 = 5;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: CreateTopicsRequest) -> Outcome {
    let mut times: HashMap<&str, u32> = HashMap::default();
    for topic in &request.topics {
        *times.entry(&**topic.name).or_default() += 1;
    }
    let validate_only = request.validate_only;
    let mut results: Vec<CreatableTopicResult> = Vec::with_capacity(request.topics.len());
    let mut wishes: Vec<(usize, TopicWish, protocol::api::Uuid)> = Vec::new();
    for topic in &request.topics {
        let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_num_partitions(-1);
        let result = result.with_replication_factor(-1).with_error_message(None);
        if times.get(&**topic.name).is_some_and(|times| *times > 1) {
            // Kafka answers a name that comes twice only once.
            if !results.iter().any(|known| known.name == topic.name) {
                results.push(refused(result, ErrorCode::InvalidRequest, "Duplicate topic name."));
            }
            continue;
        }
        wishes.push((results.len(), wish(topic), state.new_topic_id()));
        results.push(result);
    }
    let responder = context.defer();
    let shared = Arc::new(parking_lot::Mutex::new(results));
    let answers = Arc::clone(&shared);
    let with_details = context.version >= FIRST_WITH_DETAILS;
    let state_of_answer = Arc::clone(state);
    state.change_metadata(
        |image| {
            let mut results = shared.lock();
            let mut records = Vec::new();
            // Topics of one request see each other, so that two of them cannot collide.
            let mut image = image.clone();
            for (position, wish, id) in &wishes {
                let result = std::mem::take(&mut results[*position]);
                results[*position] = match state.with_planner(|planner| planner.plan_topic(&image, wish, *id)) {
                    Ok(plan) => {
                        let fits = plan.records.iter().try_for_each(|record| image.apply(record));
                        if let Err(error) = fits {
                            tracing::error!("planned topic {} does not fit: {error}", wish.name);
                        }
                        let result = accepted(&state_of_answer, result, &plan, with_details);
                        if !validate_only {
                            records.extend(plan.records);
                        }
                        result
                    }
                    Err(refusal) => refused(result, refusal.code, &refusal.message),
                };
            }
            (records, ())
        },
        move |committed| {
            let mut topics = std::mem::take(&mut *answers.lock());
            if let Err(code) = committed {
                let made = topics.iter_mut().filter(|topic| topic.error_code == 0);
                made.for_each(|topic| topic.error_code = code.code());
            }
            if validate_only {
                topics.iter_mut().for_each(|topic| topic.topic_id = protocol::api::Uuid::nil());
            }
            responder.send(Response::CreateTopics(CreateTopicsResponse::default().with_topics(topics)));
        },
    );
    Outcome::Deferred
}

fn wish(topic: &CreatableTopic) -> TopicWish {
    let assignment = |entry: &protocol::api::messages::create_topics_request::CreatableReplicaAssignment| {
        (entry.partition_index, entry.broker_ids.iter().map(|id| id.0).collect())
    };
    let setting = |entry: &protocol::api::messages::create_topics_request::CreatableTopicConfig| {
        (entry.name.to_string(), entry.value.as_ref().map(ToString::to_string))
    };
    TopicWish {
        name: topic.name.to_string(),
        // -1 is the cluster's default in every version: clients sent it long before version 4 gave it a name.
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(assignment).collect(),
        settings: topic.configs.iter().map(setting).collect(),
    }
}

fn refused(result: CreatableTopicResult, code: ErrorCode, message: &str) -> CreatableTopicResult {
    result.with_error_code(code.code()).with_error_message(Some(text(message)))
}

fn accepted(
    state: &BrokerState,
    result: CreatableTopicResult,
    plan: &TopicPlan,
    with_details: bool,
) -> CreatableTopicResult {
    let result = result.with_topic_id(plan.id);
    if !with_details {
        return result;
    }
    let configs = effective_topic_settings(state, &plan.settings).into_iter().map(|setting| {
        CreatableTopicConfigs::default()
            .with_name(text(setting.name))
            .with_value(setting.value.map(text))
            .with_config_source(if setting.source == 0 { SOURCE_DEFAULT } else { setting.source })
    });
    result.with_num_partitions(plan.partitions).with_replication_factor(1).with_configs(Some(configs.collect()))
}
