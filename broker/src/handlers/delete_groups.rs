//! DeleteGroups: empty groups and their offsets go. Answered when the removals of all groups are durable.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::delete_groups_response::DeletableGroupResult;
use protocol::api::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use protocol::api::{ErrorCode, Response};

use super::group_support::own;
use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::group::service::GroupAccess;

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
            let output = session.shard().delete_group(id)?;
            let pending = Arc::clone(&pending);
            let done = move |stored: Result<(), ErrorCode>| {
                settle(&pending, index, stored.err().unwrap_or(ErrorCode::None));
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
