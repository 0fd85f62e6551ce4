//! Heartbeats of a member under the classic protocol, apart from the membership so that another thread can send them
//! while the owner processes (see [`KeepAlive`](crate::consumer::KeepAlive)).

use std::sync::Arc;
use std::task::Waker;

use base::Now;
use parking_lot::Mutex;
use protocol::api::messages::leave_group_request::MemberIdentity;
use protocol::api::messages::{GroupId, HeartbeatRequest, LeaveGroupRequest};
use protocol::api::{ApiKey, ErrorCode, Request};

use crate::client::{Client, Lane, Lookup, Target};
use crate::connection::{Call, Connection};
use crate::consumer::config::ConsumerConfig;
use crate::consumer::types::GroupMetadata;
use crate::coordinator::CoordinatorKind;
use crate::step::Step;
use crate::wire::{expect_response, text};

/// Sends a member's heartbeats. Cheap to clone; clones share.
#[derive(Clone)]
pub(crate) struct ClassicSession(Arc<Mutex<State>>);

/// What the member must learn of its heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The group rebalances.
    Rebalance,
    /// The coordinator does not know this generation or this member any more.
    Lost(ErrorCode),
    /// The owner was silent for too long, and the member has left.
    Silent,
}

struct State {
    client: Client,
    lane: Arc<Lane>,
    interval_ms: i64,
    session_ms: i64,
    max_silence_ms: i64,
    retry_ms: i64,
    member: Option<GroupMetadata>,
    call: Option<Call>,
    next_at: i64,
    /// When the coordinator last answered.
    answered_at: i64,
    /// When the owner last stepped the core.
    owner_at: i64,
    owner: Option<Waker>,
    /// Who steps besides the owner.
    helper: Option<Waker>,
    sign: Option<Sign>,
    leaving: Option<Call>,
}

impl ClassicSession {
    pub(crate) fn new(client: &Client, config: &ConsumerConfig, lane: Arc<Lane>) -> Self {
        Self(Arc::new(Mutex::new(State {
            client: client.clone(),
            lane,
            interval_ms: i64::from(config.classic_heartbeat_interval_ms()),
            session_ms: i64::from(config.classic_session_timeout_ms()),
            max_silence_ms: i64::from(config.max_poll_interval_ms),
            retry_ms: config.retry_backoff_ms.max(1),
            member: None,
            call: None,
            next_at: 0,
            answered_at: 0,
            owner_at: 0,
            owner: None,
            helper: None,
            sign: None,
            leaving: None,
        })))
    }

    /// Sends a heartbeat if one is due and takes the answer to the last one. Any thread may call this; the core's owner
    /// is woken when there is something that it must see to.
    pub fn step(&self, now: Now, waker: &Waker) -> Step {
        let mut state = self.0.lock();
        let step = state.step(now, waker, false);
        if !state.helper.as_ref().is_some_and(|helper| helper.will_wake(waker)) {
            state.helper = Some(waker.clone());
        }
        let owner = if state.sign.is_some() { state.owner.take() } else { None };
        drop(state);
        if let Some(owner) = owner {
            owner.wake();
        }
        step
    }

    /// The owner's step: it lives.
    pub(crate) fn owner_step(&self, now: Now, waker: &Waker) -> (Step, Option<Sign>) {
        let mut state = self.0.lock();
        let step = state.step(now, waker, true);
        state.owner_at = now.ticks_ms;
        if !state.owner.as_ref().is_some_and(|owner| owner.will_wake(waker)) {
            state.owner = Some(waker.clone());
        }
        (step, state.sign.take())
    }

    /// Heartbeats of this member from now on.
    pub(crate) fn begin(&self, member: GroupMetadata, now: Now) {
        let mut state = self.0.lock();
        state.member = Some(member);
        (state.call, state.sign) = (None, None);
        state.next_at = now.ticks_ms + state.interval_ms;
        state.answered_at = now.ticks_ms;
        state.owner_at = now.ticks_ms;
        let helper = state.helper.clone();
        drop(state);
        if let Some(helper) = helper {
            helper.wake();
        }
    }

    /// No more heartbeats.
    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        state.member = None;
        (state.call, state.sign) = (None, None);
    }
}

impl State {
    fn step(&mut self, now: Now, waker: &Waker, by_owner: bool) -> Step {
        let mut step = Step::IDLE;
        if let Some(call) = &mut self.leaving {
            match call.poll(now, waker) {
                Some(_) => self.leaving = None,
                None => step = step.wake_at(call.deadline_ticks_ms()),
            }
        }
        let Some(member) = &self.member else { return step };
        if self.sign.is_some() {
            return step;
        }
        let silent_at = self.owner_at.saturating_add(self.max_silence_ms);
        if !by_owner && now.ticks_ms >= silent_at {
            tracing::warn!(
                group = member.group_id,
                "nothing was polled for max.poll.interval.ms={} ms: leaving the group. Raise it, or lower \
                 max.poll.records, if processing takes that long",
                self.max_silence_ms
            );
            self.leave(now, waker);
            self.sign = Some(Sign::Silent);
            return step;
        }
        if let Some(call) = &mut self.call {
            let address = call.connection().address().to_owned();
            match call.poll(now, waker) {
                None => step = step.wake_at(call.deadline_ticks_ms()),
                Some(result) => {
                    step.did_work = true;
                    self.call = None;
                    let code = match result.and_then(|response| expect_response!(response, Heartbeat, &address)) {
                        Ok(response) => ErrorCode::from_code(response.error_code),
                        Err(_) => ErrorCode::NetworkException,
                    };
                    self.answered(code, now);
                }
            }
        }
        if self.sign.is_some() {
            return step;
        }
        if now.ticks_ms >= self.answered_at.saturating_add(self.session_ms) && self.call.is_none() {
            // The session may be over; another broker may be coordinator by now.
            self.forget_coordinator();
            self.answered_at = now.ticks_ms;
        }
        if self.call.is_none() && now.ticks_ms >= self.next_at {
            step = step.and(self.send(now, waker));
        }
        if self.call.is_none() {
            step = step.wake_at(self.next_at.max(now.ticks_ms + 1));
        }
        if by_owner { step } else { step.wake_at(silent_at) }
    }

    fn answered(&mut self, code: ErrorCode, now: Now) {
        match code {
            ErrorCode::None => self.answered_at = now.ticks_ms,
            ErrorCode::RebalanceInProgress => {
                self.answered_at = now.ticks_ms;
                self.sign = Some(Sign::Rebalance);
            }
            ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator | ErrorCode::NetworkException => {
                self.forget_coordinator();
                self.next_at = self.next_at.min(now.ticks_ms + self.retry_ms);
            }
            code if code.is_retriable() => {}
            code => self.sign = Some(Sign::Lost(code)),
        }
    }

    fn forget_coordinator(&self) {
        if let Some(member) = &self.member {
            self.client.forget_coordinator(CoordinatorKind::Group, &member.group_id);
        }
    }

    fn connection(&self, now: Now, waker: &Waker) -> Lookup<Arc<Connection>> {
        let Some(member) = &self.member else { return Lookup::Wait { until_ticks_ms: None } };
        match self.client.coordinator(CoordinatorKind::Group, &member.group_id, now, waker) {
            Lookup::Ready(node) => self.client.connection(&self.lane, Target::Node(node), now, waker),
            Lookup::Wait { until_ticks_ms } => Lookup::Wait { until_ticks_ms },
            Lookup::Failed(error) => Lookup::Failed(error),
        }
    }

    fn send(&mut self, now: Now, waker: &Waker) -> Step {
        let Some(member) = &self.member else { return Step::IDLE };
        let connection = match self.connection(now, waker) {
            Lookup::Ready(connection) => connection,
            Lookup::Wait { until_ticks_ms } => {
                self.next_at = until_ticks_ms.unwrap_or(now.ticks_ms + self.retry_ms);
                return Step::at(self.next_at);
            }
            Lookup::Failed(error) => {
                tracing::debug!(%error, "no coordinator for a heartbeat");
                self.next_at = now.ticks_ms + self.interval_ms;
                return Step::at(self.next_at);
            }
        };
        let mut request = HeartbeatRequest::default();
        request.group_id = GroupId(text(&member.group_id));
        request.generation_id = member.generation;
        request.member_id = text(&member.member_id);
        request.group_instance_id = member.group_instance_id.as_deref().map(text);
        self.next_at = now.ticks_ms + self.interval_ms;
        let Ok(version) = connection.version(ApiKey::Heartbeat) else { return Step::at(self.next_at) };
        let mut call = connection.send(Request::Heartbeat(request), version, now);
        // In process the answer is there already.
        match call.poll(now, waker) {
            None => self.call = Some(call),
            Some(Ok(protocol::api::Response::Heartbeat(response))) => {
                self.answered(ErrorCode::from_code(response.error_code), now);
            }
            Some(_) => self.answered(ErrorCode::NetworkException, now),
        }
        Step { did_work: true, next_wake_ticks_ms: Some(self.next_at) }
    }

    /// Leaves without waiting for the answer. A static member stays: its session ends by itself.
    fn leave(&mut self, now: Now, waker: &Waker) {
        let Some(member) = self.member.clone() else { return };
        if member.group_instance_id.is_none()
            && let Lookup::Ready(connection) = self.connection(now, waker)
            && let Ok(version) = connection.version(ApiKey::LeaveGroup)
        {
            let request = leave_request(&member, version, "the owner was silent for max.poll.interval.ms");
            self.leaving = Some(connection.send(Request::LeaveGroup(request), version, now));
        }
        self.member = None;
        self.call = None;
    }
}

pub(crate) fn leave_request(member: &GroupMetadata, version: i16, reason: &str) -> LeaveGroupRequest {
    let mut request = LeaveGroupRequest::default();
    request.group_id = GroupId(text(&member.group_id));
    if version >= 3 {
        let mut identity = MemberIdentity::default();
        identity.member_id = text(&member.member_id);
        identity.group_instance_id = member.group_instance_id.as_deref().map(text);
        identity.reason = (version >= 5).then(|| text(reason));
        request.members.push(identity);
    } else {
        request.member_id = text(&member.member_id);
    }
    request
}
