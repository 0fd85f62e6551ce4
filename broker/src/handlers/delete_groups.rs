//! DeleteGroups: empty groups and their offsets go. Answered when the removals of all groups are durable.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::delete_groups_response::DeletableGroupResult;
use protocol::api::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use protocol::api::{ErrorCode, Response};

use super::group_support::own;
use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::group::service::GroupAccess;
use crate::group::shard::Group;

/// The groups of one request, whose results come one by one.
struct Pending {
    responder: Option<Responder>,
    results: Vec<(GroupId, Option<ErrorCode>)>,
}

fn settle(pending: &Mutex<Pending>, index: usize, error: ErrorCode) {
    let complete = {
        let mut pending = pending.lock();
        if let Some((_, result)) = pending.results.get_mut(index) {
            *result = Some(error);
        }
        if pending.results.iter().any(|(_, result)| result.is_none()) {
            return;
        }
        let results = std::mem::take(&mut pending.results);
        pending.responder.take().map(|responder| (responder, results))
    };
    if let Some((responder, results)) = complete {
        responder.send(response(results));
    }
}

fn response(results: Vec<(GroupId, Option<ErrorCode>)>) -> Response {
    let results = results.into_iter().map(|(id, error)| {
        DeletableGroupResult::default().with_group_id(id).with_error_code(error.unwrap_or(ErrorCode::None).code())
    });
    DeleteGroupsResponse::default().with_results(results.collect()).into()
}

pub(crate) fn serve(access: &GroupAccess, context: &RequestContext, request: DeleteGroupsRequest) -> Outcome {
    if request.groups_names.is_empty() {
        return response(Vec::new()).into();
    }
    let ids: Vec<_> = request.groups_names.iter().map(|id| own(id)).collect();
    let results = request.groups_names.into_iter().map(|id| (id, None)).collect();
    let pending = Arc::new(Mutex::new(Pending { responder: Some(context.defer()), results }));
    for (index, id) in ids.iter().enumerate() {
        let served = access.coordinator.with_group(&access.environment, id, context.now, |session| {
            // The share state of a share group goes with it.
            let keys = session.shard().group(id).and_then(Group::share).map(|group| group.state_keys(None));
            let output = session.shard().delete_group(id)?;
            let (pending, environment) = (Arc::clone(&pending), Arc::downgrade(&access.environment));
            let done = move |stored: Result<(), ErrorCode>| {
                let told = move |result: Result<(), ErrorCode>| {
                    settle(&pending, index, result.err().unwrap_or(ErrorCode::None));
                };
                match (keys.filter(|_| stored.is_ok()), environment.upgrade()) {
                    (Some(keys), Some(environment)) => environment.delete_share_state(keys, Box::new(told)),
                    _ => told(stored),
                }
            };
            session.submit(output, Some(Box::new(done)));
            Ok(())
        });
        if let Err(error) | Ok(Err(error)) = served {
            settle(&pending, index, error);
        }
    }
    Outcome::Deferred
}
