//! One member of a classic group: who it is, what it offered, what it waits for.

use std::sync::Arc;

use bytes::Bytes;

use super::output::Ticket;
use super::records::MemberValue;

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Id given by the coordinator.
    pub id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Client id of its connection.
    pub client_id: Arc<str>,
    /// Address of its connection.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it offers, first choice first: protocol name and metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// What it was last assigned: it has that until the next assignment reaches it.
    pub assignment: Bytes,
    /// It has not yet been in a generation.
    pub is_new: bool,
    /// Its JoinGroup, while that waits.
    pub join: Option<Ticket>,
    /// Its SyncGroup, while that waits.
    pub sync: Option<Ticket>,
    /// When it is dropped unless heard of, in ticks.
    pub session_deadline: i64,
}

impl Member {
    /// Its metadata for `protocol`; empty when it does not offer it.
    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let known = protocol.and_then(|protocol| self.protocols.iter().find(|(name, _)| name.as_ref() == protocol));
        known.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// It voted for the first protocol it lists among those that all share.
    pub fn vote(&self, shared: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        self.protocols.iter().map(|(name, _)| name).find(|name| shared(name))
    }

    /// Heard of at `now_ticks`: its session runs anew.
    pub fn touch(&mut self, now_ticks: i64) {
        self.session_deadline = now_ticks.saturating_add(i64::from(self.session_timeout_ms));
    }

    /// A stored member; its session starts at `now_ticks`.
    pub fn from_value(value: &MemberValue, protocol: Option<&Arc<str>>, now_ticks: i64) -> Self {
        let mut member = Self {
            id: Arc::clone(&value.member_id),
            instance_id: value.group_instance_id.clone(),
            client_id: Arc::clone(&value.client_id),
            client_host: Arc::clone(&value.client_host),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: protocol.map(|name| (Arc::clone(name), value.subscription.clone())).into_iter().collect(),
            assignment: value.assignment.clone(),
            is_new: false,
            join: None,
            sync: None,
            session_deadline: 0,
        };
        member.touch(now_ticks);
        member
    }

    /// The member as it is stored, with `assignment`.
    pub fn to_value(&self, protocol: Option<&str>, assignment: Bytes) -> MemberValue {
        MemberValue {
            member_id: Arc::clone(&self.id),
            group_instance_id: self.instance_id.clone(),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}
