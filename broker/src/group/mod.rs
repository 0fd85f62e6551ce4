//! The group coordinator: groups, their members and their committed offsets, kept in `__consumer_offsets`.

use base::Now;

/// All groups of this broker.
#[derive(Debug, Default)]
pub struct GroupCoordinator {}

impl GroupCoordinator {
    /// Does what is due at `now` (session timeouts, rebalances, offset expiry); returns when it wants to be called next.
    pub fn step(&self, _state: &std::sync::Arc<crate::BrokerState>, _now: Now) -> Option<i64> {
        None
    }
}
