//! Which requests of a connection may be taken up while earlier ones of it are unanswered.
//!
//! Kafka takes up one request of a connection after the other, so who creates a topic and asks for its metadata without
//! waiting for the first answer is told of the topic. Here the answer to a change may wait for the disk, and the change is
//! seen no sooner. What comes behind it on the same connection therefore waits too, with two exceptions: what clients
//! pipeline (batches, offsets) goes side by side with its own kind, so that many share one fsync; and what waits for other
//! clients (a long poll, a rebalance) holds nothing back.

use protocol::api::ApiKey;

/// The requests of one connection that must be answered before one of another kind is taken up. All are of one kind.
#[derive(Default)]
pub(crate) struct RequestOrder {
    ahead: Option<(ApiKey, u32)>,
    /// A request was told to wait.
    is_awaited: bool,
}

impl RequestOrder {
    /// Whether a request of `key` may be taken up; if not, [`Self::answered`] tells when to ask again.
    pub(crate) fn admit(&mut self, key: ApiKey) -> bool {
        let count = match self.ahead {
            None => 0,
            Some((ahead, count)) if ahead == key && is_pipelined(key) => count,
            Some(_) => {
                self.is_awaited = true;
                return false;
            }
        };
        if !waits_for_others(key) {
            self.ahead = Some((key, count + 1));
        }
        true
    }

    /// A request of `key` that was admitted has its answer. Returns whether the one that was told to wait should be tried
    /// again.
    pub(crate) fn answered(&mut self, key: ApiKey) -> bool {
        if waits_for_others(key) {
            return false;
        }
        self.ahead = self.ahead.and_then(|(ahead, count)| (count > 1).then(|| (ahead, count - 1)));
        self.ahead.is_none() && std::mem::take(&mut self.is_awaited)
    }
}

fn is_pipelined(key: ApiKey) -> bool {
    matches!(key, ApiKey::Produce | ApiKey::OffsetCommit | ApiKey::TxnOffsetCommit)
}

fn waits_for_others(key: ApiKey) -> bool {
    matches!(key, ApiKey::Fetch | ApiKey::ShareFetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_answered_before_anything_else_is_taken_up() {
        let mut order = RequestOrder::default();
        assert!(order.admit(ApiKey::CreateTopics));
        assert!(!order.admit(ApiKey::Metadata) && !order.admit(ApiKey::CreateTopics) && !order.admit(ApiKey::Fetch));
        assert!(order.answered(ApiKey::CreateTopics), "one waits for it");
        assert!(order.admit(ApiKey::Metadata));
        assert!(!order.answered(ApiKey::Metadata), "nobody waits any more");
    }

    #[test]
    fn batches_go_side_by_side_until_something_else_comes() {
        let mut order = RequestOrder::default();
        assert!(order.admit(ApiKey::Produce) && order.admit(ApiKey::Produce));
        assert!(!order.admit(ApiKey::ListOffsets) && !order.admit(ApiKey::OffsetCommit));
        assert!(!order.answered(ApiKey::Produce), "another batch is still ahead");
        assert!(order.answered(ApiKey::Produce));
        assert!(order.admit(ApiKey::ListOffsets));
    }

    #[test]
    fn what_waits_for_other_clients_holds_nothing_back() {
        let mut order = RequestOrder::default();
        let long = [ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::ShareFetch];
        assert!(long.into_iter().all(|key| order.admit(key)));
        assert!(order.admit(ApiKey::LeaveGroup));
        assert!(!long.into_iter().any(|key| order.answered(key)));
        assert!(!order.admit(ApiKey::Metadata), "the LeaveGroup is not answered");
        assert!(order.answered(ApiKey::LeaveGroup));
    }
}
