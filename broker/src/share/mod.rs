//! Share groups (KIP-932) at the side of the log: records are handed out to the members of a group one by one, under a lock that ends by itself,
//! and are acknowledged one by one.
//!
//! From the inside out: [`in_flight`] is the window of one share partition, a pure state machine; [`records`] is the layout of
//! `__share_group_state`, [`state`] the states that its records give, [`store`] where they are; [`partition`] joins window, store and log of one
//! share partition; [`sessions`] is who fetches from what; `group_configs` keeps the settings of groups; [`service`] is all of it. Which member reads which partitions is decided by the
//! group's coordinator (`group::share`).

pub mod config;
mod group_configs;
pub mod in_flight;
pub mod partition;
pub mod records;
pub mod service;
pub mod sessions;
pub mod state;
pub mod store;

pub use service::ShareService;

use std::sync::Arc;

use protocol::api::{ApiKey, Request};

use crate::dispatch::{Outcome, RequestContext};
use crate::handlers;
use crate::state::BrokerState;

/// APIs of share groups that are served beside the log, and by the coordinator of their state.
pub const SERVED: &[ApiKey] = &[
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::InitializeShareGroupState,
    ApiKey::ReadShareGroupState,
    ApiKey::WriteShareGroupState,
    ApiKey::DeleteShareGroupState,
    ApiKey::ReadShareGroupStateSummary,
];

/// Hands a request to its handler; gives back what is none of [`SERVED`].
pub fn dispatch(state: &Arc<BrokerState>, context: &RequestContext, request: Request) -> Result<Outcome, Box<Request>> {
    Ok(match request {
        Request::ShareFetch(body) => handlers::share_fetch::handle(state, context, body),
        Request::ShareAcknowledge(body) => handlers::share_acknowledge::handle(state, context, body),
        Request::InitializeShareGroupState(body) => handlers::share_group_state::initialize(state, context, body),
        Request::ReadShareGroupState(body) => handlers::share_group_state::read(state, body),
        Request::WriteShareGroupState(body) => handlers::share_group_state::write(state, context, body),
        Request::DeleteShareGroupState(body) => handlers::share_group_state::delete(state, context, body),
        Request::ReadShareGroupStateSummary(body) => handlers::share_group_state::summary(state, body),
        other => return Err(Box::new(other)),
    })
}
