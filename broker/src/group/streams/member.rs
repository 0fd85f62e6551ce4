//! One member of a streams group: a thread of a process that runs the application.

use std::sync::Arc;

use protocol::api::streams_group_heartbeat::{StreamsEndpoint, StreamsGroupHeartbeatRequest, StreamsKeyValue};

use super::reconcile::Current;

/// What a member says of itself; this is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberInfo {
    /// `group.instance.id`; always `None` so far.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// Client id of its connection.
    pub client_id: Arc<str>,
    /// Address of its connection.
    pub client_host: Arc<str>,
    /// How long it may take to give tasks up, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Epoch of its topology.
    pub topology_epoch: i32,
    /// The process it is a thread of.
    pub process_id: Arc<str>,
    /// Where interactive queries reach the process.
    pub user_endpoint: Option<StreamsEndpoint>,
    /// For rack-aware standby tasks.
    pub client_tags: Vec<StreamsKeyValue>,
}

impl MemberInfo {
    /// What is known after a heartbeat, which names only what has changed.
    pub fn updated(&self, beat: &StreamsGroupHeartbeatRequest, client_id: &Arc<str>, client_host: &Arc<str>) -> Self {
        let mut client_tags = beat.client_tags.clone().unwrap_or_else(|| self.client_tags.clone());
        client_tags.sort_by(|one, other| one.key.cmp(&other.key));
        Self {
            instance_id: None,
            rack_id: beat.rack_id.clone().or_else(|| self.rack_id.clone()),
            client_id: Arc::clone(client_id),
            client_host: Arc::clone(client_host),
            rebalance_timeout_ms: match beat.rebalance_timeout_ms {
                -1 => self.rebalance_timeout_ms,
                timeout => timeout,
            },
            topology_epoch: beat.topology.as_ref().map_or(self.topology_epoch, |topology| topology.epoch),
            process_id: beat.process_id.clone().unwrap_or_else(|| Arc::clone(&self.process_id)),
            user_endpoint: beat.user_endpoint.clone().or_else(|| self.user_endpoint.clone()),
            client_tags,
        }
    }
}

/// A member of a streams group.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// What it says of itself.
    pub info: MemberInfo,
    /// What it has.
    pub current: Current,
    /// When it is dropped unless heard of, in ticks.
    pub session_deadline: i64,
    /// When it is dropped unless it has given up what it is to give up, in ticks.
    pub revocation_deadline: Option<i64>,
}
