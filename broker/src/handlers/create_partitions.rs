//! CreatePartitions: gives topics more partitions; answers once that is committed.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::create_partitions_response::CreatePartitionsTopicResult;
use protocol::api::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::state::BrokerState;

use super::text;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: CreatePartitionsRequest) -> Outcome {
    let responder = context.defer();
    let shared: Arc<Mutex<Vec<CreatePartitionsTopicResult>>> = Arc::default();
    let answers = Arc::clone(&shared);
    state.change_metadata(
        |image| {
            let mut results = shared.lock();
            let mut records = Vec::new();
            for topic in &request.topics {
                if results.iter().any(|known| known.name == topic.name) {
                    continue;
                }
                let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
                let refused = |code: ErrorCode, message: &str| {
                    result.clone().with_error_code(code.code()).with_error_message(Some(text(message)))
                };
                let twice = request.topics.iter().filter(|other| other.name == topic.name).count() > 1;
                let assignments: Option<Vec<Vec<i32>>> = topic.assignments.as_ref().map(|assignments| {
                    assignments.iter().map(|entry| entry.broker_ids.iter().map(|id| id.0).collect()).collect()
                });
                let answer = if twice {
                    refused(ErrorCode::InvalidRequest, "Duplicate topic name.")
                } else if let Some(present) = image.topic(&topic.name) {
                    let plan = state
                        .with_planner(|planner| planner.plan_partitions(present, topic.count, assignments.as_deref()));
                    match plan {
                        Ok(planned) => {
                            if !request.validate_only {
                                records.extend(planned);
                            }
                            result
                        }
                        Err(refusal) => refused(refusal.code, &refusal.message),
                    }
                } else {
                    let code = ErrorCode::UnknownTopicOrPartition;
                    refused(code, code.message())
                };
                results.push(answer);
            }
            (records, ())
        },
        move |committed| {
            let mut results = std::mem::take(&mut *answers.lock());
            if let Err(code) = committed {
                let made = results.iter_mut().filter(|result| result.error_code == 0);
                made.for_each(|result| result.error_code = code.code());
            }
            responder.send(Response::CreatePartitions(CreatePartitionsResponse::default().with_results(results)));
        },
    );
    Outcome::Deferred
}
