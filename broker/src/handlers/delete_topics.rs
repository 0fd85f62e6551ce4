//! DeleteTopics: by name or by id; answers once the removal is committed.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::delete_topics_response::DeletableTopicResult;
use protocol::api::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::state::BrokerState;

use super::{text, topic_name};

const FIRST_BY_ID: i16 = 6;

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: DeleteTopicsRequest) -> Outcome {
    let mut results: Vec<DeletableTopicResult> = if context.version >= FIRST_BY_ID {
        let wanted = request.topics.into_iter();
        wanted
            .map(|topic| DeletableTopicResult::default().with_name(topic.name).with_topic_id(topic.topic_id))
            .collect()
    } else {
        let names = request.topic_names.into_iter();
        names.map(|name| DeletableTopicResult::default().with_name(Some(name))).collect()
    };
    if !state.config.delete_topic_enable {
        for result in &mut results {
            fail(result, ErrorCode::TopicDeletionDisabled);
        }
        return Response::DeleteTopics(DeleteTopicsResponse::default().with_responses(results)).into();
    }
    let responder = context.defer();
    let shared = Arc::new(Mutex::new(results));
    let answers = Arc::clone(&shared);
    state.change_metadata(
        |image| {
            let mut results = shared.lock();
            let mut records: Vec<MetadataRecord> = Vec::new();
            for result in results.iter_mut() {
                if let Some(record) = delete(image, result) {
                    if records.contains(&record) {
                        fail(result, ErrorCode::InvalidRequest);
                    } else {
                        records.push(record);
                    }
                }
            }
            (records, ())
        },
        move |committed| {
            let mut results = std::mem::take(&mut *answers.lock());
            if let Err(code) = committed {
                results.iter_mut().filter(|result| result.error_code == 0).for_each(|result| fail(result, code));
            }
            responder.send(Response::DeleteTopics(DeleteTopicsResponse::default().with_responses(results)));
        },
    );
    Outcome::Deferred
}

fn fail(result: &mut DeletableTopicResult, code: ErrorCode) {
    result.error_code = code.code();
    result.error_message = Some(text(code.message()));
}

fn delete(image: &MetadataImage, result: &mut DeletableTopicResult) -> Option<MetadataRecord> {
    let topic = match &result.name {
        Some(_) if !result.topic_id.is_nil() => {
            fail(result, ErrorCode::InvalidRequest);
            return None;
        }
        Some(name) => image.topic(name),
        None => image.topic_by_id(&result.topic_id),
    };
    match topic {
        Some(topic) => {
            result.name = Some(topic_name(&topic.name));
            result.topic_id = topic.id;
            Some(MetadataRecord::RemoveTopic(topic.id))
        }
        None => {
            let by_name = result.name.is_some();
            fail(result, if by_name { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::UnknownTopicId });
            None
        }
    }
}
