//! One member of a consumer group: what it said of itself, what it has, and until when it is waited for.

use std::sync::Arc;

use super::records::{CurrentAssignment, MemberMetadata};

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: Arc<str>,
    /// What it said of itself.
    pub metadata: MemberMetadata,
    /// What it has.
    pub current: CurrentAssignment,
    /// When it is dropped unless heard of, in ticks; `i64::MAX` before its session has begun.
    pub session_deadline: i64,
    /// When it is dropped unless it has given up what it was asked to, in ticks.
    pub revocation_deadline: Option<i64>,
    /// When a member of the classic protocol is dropped unless it has joined again, in ticks.
    pub join_deadline: Option<i64>,
    /// When it is dropped unless it has asked what it has, in ticks.
    pub sync_deadline: Option<i64>,
}

/// Member epoch of a heartbeat that joins.
pub const JOIN_EPOCH: i32 = 0;
/// Member epoch of a heartbeat that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// Member epoch of a static member that leaves to come back, and of its place in the meantime.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

impl Member {
    /// A member of whom nothing is known yet.
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            metadata: MemberMetadata { rebalance_timeout_ms: -1, ..MemberMetadata::default() },
            current: CurrentAssignment::default(),
            session_deadline: i64::MAX,
            revocation_deadline: None,
            join_deadline: None,
            sync_deadline: None,
        }
    }

    /// A static member that has left to come back.
    pub fn is_away(&self) -> bool {
        self.current.epoch == LEAVE_STATIC_EPOCH
    }

    /// The next moment at which something must be done about it.
    pub fn next_deadline(&self) -> i64 {
        let others = [self.revocation_deadline, self.join_deadline, self.sync_deadline];
        others.into_iter().flatten().fold(self.session_deadline, i64::min)
    }
}
