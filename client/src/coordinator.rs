//! Who coordinates a group or a transactional id: asked once, remembered until told to forget.

use std::sync::Arc;

use base::hash::HashMap;
use protocol::api::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::api::{ErrorCode, Request};

use crate::connection::Call;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::wire::text;

/// What is coordinated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorKind {
    /// A consumer group, by its id.
    Group,
    /// A transactional producer, by its transactional id.
    Transaction,
}

/// One question for a coordinator, and what is known of the answer.
pub(crate) struct Entry {
    pub backoff: Backoff,
    pub state: State,
}

pub(crate) enum State {
    /// To be asked at this tick at the earliest.
    Ask(i64),
    Asked(Box<Call>),
    Known(i32),
}

pub(crate) type Coordinators = HashMap<(CoordinatorKind, Arc<str>), Entry>;

/// Where a coordinator is.
pub(crate) struct Found {
    pub node: i32,
    pub host: String,
    pub port: i32,
}

pub(crate) fn request(kind: CoordinatorKind, key: &str, version: i16) -> Request {
    let mut request = FindCoordinatorRequest::default();
    if version >= 4 {
        request.coordinator_keys = vec![text(key)];
    } else {
        request.key = text(key);
    }
    request.key_type = match kind {
        CoordinatorKind::Group => 0,
        CoordinatorKind::Transaction => 1,
    };
    Request::FindCoordinator(request)
}

pub(crate) fn read(
    kind: CoordinatorKind,
    key: &str,
    address: &str,
    response: FindCoordinatorResponse,
) -> Result<Found, ClientError> {
    let what = || match kind {
        CoordinatorKind::Group => format!("coordinator of group {key}"),
        CoordinatorKind::Transaction => format!("coordinator of transactional id {key}"),
    };
    let error = |code: i16, message: Option<String>| ClientError::broker(what(), ErrorCode::from_code(code), message);
    if let Some(found) = response.coordinators.into_iter().find(|found| found.key.as_str() == key) {
        if found.error_code != 0 {
            return Err(error(found.error_code, found.error_message.map(|message| message.to_string())));
        }
        return Ok(Found { node: found.node_id.0, host: found.host.to_string(), port: found.port });
    }
    if response.error_code != 0 {
        return Err(error(response.error_code, response.error_message.map(|message| message.to_string())));
    }
    if response.host.is_empty() {
        return Err(ClientError::malformed(address, format!("no answer for the {}", what())));
    }
    Ok(Found { node: response.node_id.0, host: response.host.to_string(), port: response.port })
}
