//! Heartbeats of a group member, apart from the core so that another thread can send them while the owner processes.
//!
//! The core steps its [`KeepAlive`] with itself. Whoever processes for longer than the group's session time-out between
//! two steps hands a clone to a background thread (the shell `Consumer` does): it then keeps the member in the group until
//! the owner has been silent for `max.poll.interval.ms`, and makes it leave.

use std::sync::Arc;
use std::task::Waker;

use base::Now;

use super::config::{ConsumerConfig, GroupProtocol};
use super::consumer_group::ConsumerSession;
use super::group::ClassicSession;
use crate::client::{Client, Lane};
use crate::step::Step;

/// Sends a member's heartbeats. Cheap to clone; clones share.
#[derive(Clone)]
pub struct KeepAlive(pub(crate) Session);

/// The heartbeats of either protocol.
#[derive(Clone)]
pub(crate) enum Session {
    Classic(ClassicSession),
    Consumer(ConsumerSession),
}

impl KeepAlive {
    pub(crate) fn new(client: &Client, config: &ConsumerConfig, lane: Arc<Lane>) -> Self {
        Self(match config.group_protocol {
            GroupProtocol::Classic => Session::Classic(ClassicSession::new(client, config, lane)),
            GroupProtocol::Consumer => Session::Consumer(ConsumerSession::new(client, config, lane)),
        })
    }

    /// Sends a heartbeat if one is due and takes the answer to the last one. Any thread may call this; the core's owner
    /// is woken when there is something that it must see to.
    pub fn step(&self, now: Now, waker: &Waker) -> Step {
        match &self.0 {
            Session::Classic(session) => session.step(now, waker),
            Session::Consumer(session) => session.step(now, waker),
        }
    }
}
