//! The group coordinator: groups, their members and their committed offsets, kept in `__consumer_offsets`.

use std::sync::Arc;

use base::Now;
use protocol::api::{ApiKey, Request};

use crate::broker::BrokerState;
use crate::config::BrokerConfig;
use crate::dispatch::{Outcome, RequestContext};

/// APIs of groups, offsets and producer ids that are served.
pub const SERVED: &[ApiKey] = &[];

/// Hands a request to its handler; gives back what is no group request.
pub fn dispatch(_: &Arc<BrokerState>, _: &RequestContext, request: Request) -> Result<Outcome, Box<Request>> {
    Err(Box::new(request))
}

/// All groups of this broker.
#[derive(Debug, Default)]
pub struct GroupCoordinator {}

impl GroupCoordinator {
    /// A coordinator that knows no group yet; it loads them from `__consumer_offsets` at the first request.
    pub fn open(_config: &BrokerConfig) -> Self {
        Self {}
    }

    /// Does what is due at `now` (session timeouts, rebalances, offset expiry); returns when it wants to be called next.
    pub fn step(&self, _state: &Arc<BrokerState>, _now: Now) -> Option<i64> {
        None
    }
}
