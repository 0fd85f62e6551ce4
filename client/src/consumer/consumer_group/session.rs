//! The heartbeats of a member under the consumer protocol: joining, going on, leaving, and what the coordinator answers.
//!
//! Apart from the membership so that another thread can send them while the owner processes (see
//! [`KeepAlive`](crate::consumer::KeepAlive)). The owner says what the member wants and has, and takes what came of it:
//! a new assignment, a new epoch, or a [`Sign`] that the member is out of the group.
//!
//! Invariant: one heartbeat is under way at a time, so that an answer is always about what was said last.

use std::sync::Arc;
use std::task::Waker;

use base::{Now, Rng};
use parking_lot::Mutex;
use protocol::api::messages::ConsumerGroupHeartbeatResponse;
use protocol::api::{ApiKey, ErrorCode, Request, Uuid};

use super::refusal::{Answer, not_served, read};
use super::request::{Assigned, Identity, JOIN_EPOCH, Told, Topics};
use crate::client::{Client, Lane, Lookup, Target};
use crate::connection::{Call, Connection};
use crate::consumer::config::ConsumerConfig;
use crate::coordinator::CoordinatorKind;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::step::Step;
use crate::wire::expect_response;

/// Sends a member's heartbeats. Cheap to clone; clones share.
#[derive(Clone)]
pub(crate) struct ConsumerSession(Arc<Mutex<State>>);

/// Why the member is out of its group.
#[derive(Debug)]
pub(crate) enum Sign {
    /// The coordinator does not know the member, or took its partitions from it: it may join again.
    Fenced(ErrorCode),
    /// The owner was silent for too long, and the member has left.
    Silent,
    /// Joining again would not help.
    Fatal(ClientError),
}

/// What the owner must learn of the heartbeats.
#[derive(Default)]
pub(crate) struct News {
    pub sign: Option<Sign>,
    /// What the member is to have, if it changed.
    pub assignment: Option<Assigned>,
    /// A failure that is met again and again until somebody mends its cause.
    pub refusal: Option<ClientError>,
}

struct State {
    client: Client,
    lane: Arc<Lane>,
    rng: Rng,
    backoff: Backoff,
    refused_wait_ms: i64,
    max_silence_ms: i64,
    identity: Identity,
    topics: Topics,
    owned: Assigned,
    /// Counts what was said about `owned`.
    report: u64,
    told: Told,
    /// Epoch that the coordinator gave; 0 while joining.
    epoch: i32,
    /// Whether heartbeats go.
    beating: bool,
    /// The coordinator may know the member.
    introduced: bool,
    call: Option<Call>,
    leaving: Option<Call>,
    interval_ms: i64,
    next_at: i64,
    not_before: i64,
    /// There is something to say that does not wait for the next heartbeat in turn.
    urgent: bool,
    /// When the owner last stepped the core.
    owner_at: i64,
    owner: Option<Waker>,
    /// Who steps besides the owner.
    helper: Option<Waker>,
    news: News,
}

impl ConsumerSession {
    pub fn new(client: &Client, config: &ConsumerConfig, lane: Arc<Lane>) -> Self {
        let mut rng = client.fork_rng();
        let member_id = Uuid::from_bytes(rng.uuid_bytes()).to_string();
        Self(Arc::new(Mutex::new(State {
            client: client.clone(),
            lane,
            rng,
            backoff: Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms),
            refused_wait_ms: config.retry_backoff_max_ms.max(1),
            max_silence_ms: i64::from(config.max_poll_interval_ms),
            identity: Identity::new(config, member_id),
            topics: Topics::default(),
            owned: Assigned::new(),
            report: 0,
            told: Told::default(),
            epoch: JOIN_EPOCH,
            beating: false,
            introduced: false,
            call: None,
            leaving: None,
            interval_ms: 0,
            next_at: i64::MIN,
            not_before: i64::MIN,
            urgent: false,
            owner_at: 0,
            owner: None,
            helper: None,
            news: News::default(),
        })))
    }

    /// The member's id, made when the consumer was and kept as long as it lives.
    pub fn member_id(&self) -> String {
        self.0.lock().identity.member_id.clone()
    }

    /// A step by anybody.
    pub fn step(&self, now: Now, waker: &Waker) -> Step {
        let mut state = self.0.lock();
        let step = state.step(now, waker, false);
        if !state.helper.as_ref().is_some_and(|helper| helper.will_wake(waker)) {
            state.helper = Some(waker.clone());
        }
        let owner = if state.news.is_for_owner() { state.owner.take() } else { None };
        drop(state);
        if let Some(owner) = owner {
            owner.wake();
        }
        step
    }

    /// The owner's step: it lives. With the member's epoch, -1 outside the group.
    pub fn owner_step(&self, now: Now, waker: &Waker) -> (Step, News, i32) {
        let mut state = self.0.lock();
        let step = state.step(now, waker, true);
        state.owner_at = now.ticks_ms;
        if !state.owner.as_ref().is_some_and(|owner| owner.will_wake(waker)) {
            state.owner = Some(waker.clone());
        }
        let epoch = if state.beating && state.epoch > JOIN_EPOCH { state.epoch } else { -1 };
        (step, std::mem::take(&mut state.news), epoch)
    }

    /// Joins the group, with nothing.
    pub fn join(&self, topics: Topics, now: Now) {
        let mut state = self.0.lock();
        state.topics = topics;
        state.owned.clear();
        state.epoch = JOIN_EPOCH;
        state.told.forget();
        (state.beating, state.urgent) = (true, true);
        state.owner_at = now.ticks_ms;
        state.wake_helper();
    }

    /// Other topics from now on.
    pub fn subscribe(&self, topics: Topics) {
        let mut state = self.0.lock();
        if state.topics != topics {
            state.topics = topics;
            state.urgent = true;
        }
    }

    /// The member has given up what it was to give up, and has taken what it was given.
    pub fn report(&self, owned: Assigned) {
        let mut state = self.0.lock();
        state.owned = owned;
        state.report += 1;
        state.urgent = true;
    }

    /// Asks the coordinator at once how the member stands.
    pub fn hurry(&self) {
        self.0.lock().urgent = true;
    }

    /// Leaves the group, or goes on with that; `None` when it is done.
    pub fn leave(&self, now: Now, waker: &Waker) -> Option<Step> {
        let mut state = self.0.lock();
        state.stop();
        if state.introduced {
            match state.reach(now, waker) {
                Lookup::Ready((connection, version)) => state.say_farewell(&connection, version, now),
                Lookup::Wait { until_ticks_ms } => {
                    return Some(Step { did_work: false, next_wake_ticks_ms: until_ticks_ms });
                }
                // The session ends by itself.
                Lookup::Failed(_) => return None,
            }
        }
        state.poll_leaving(now, waker).map(Step::at)
    }
}

impl News {
    fn is_for_owner(&self) -> bool {
        self.sign.is_some() || self.assignment.is_some() || self.refusal.is_some()
    }
}

impl State {
    fn step(&mut self, now: Now, waker: &Waker, by_owner: bool) -> Step {
        let mut step = Step::IDLE;
        if let Some(until) = self.poll_leaving(now, waker) {
            step = step.wake_at(until);
        }
        let silent_at = self.owner_at.saturating_add(self.max_silence_ms);
        if self.beating && !by_owner && now.ticks_ms >= silent_at {
            self.leave_silent(now, waker);
        }
        if !self.beating {
            return step;
        }
        step.did_work |= self.take_answer(now, waker);
        if self.is_due(now) {
            match self.reach(now, waker) {
                Lookup::Ready((connection, version)) => {
                    self.send(&connection, version, now);
                    step.did_work = true;
                    // In process the answer is there already.
                    self.take_answer(now, waker);
                }
                Lookup::Wait { until_ticks_ms } => {
                    let until = until_ticks_ms.unwrap_or(i64::MAX).min(if by_owner { i64::MAX } else { silent_at });
                    return if until == i64::MAX { step } else { step.wake_at(until) };
                }
                Lookup::Failed(error) => self.refused(error, now),
            }
        }
        match &self.call {
            Some(call) => step = step.wake_at(call.deadline_ticks_ms()),
            None if self.beating => step = step.wake_at(self.due_at().max(now.ticks_ms + 1)),
            None => return step,
        }
        if by_owner { step } else { step.wake_at(silent_at) }
    }

    fn due_at(&self) -> i64 {
        if self.urgent { self.not_before } else { self.next_at.max(self.not_before) }
    }

    fn is_due(&self, now: Now) -> bool {
        self.beating && self.call.is_none() && now.ticks_ms >= self.due_at()
    }

    /// The coordinator's connection and the version of its heartbeats.
    fn reach(&self, now: Now, waker: &Waker) -> Lookup<(Arc<Connection>, i16)> {
        let found = match self.client.coordinator(CoordinatorKind::Group, &self.identity.group_id, now, waker) {
            Lookup::Ready(node) => self.client.connection(&self.lane, Target::Node(node), now, waker),
            Lookup::Wait { until_ticks_ms } => Lookup::Wait { until_ticks_ms },
            Lookup::Failed(error) => Lookup::Failed(error),
        };
        let connection = match found {
            Lookup::Ready(connection) => connection,
            Lookup::Wait { until_ticks_ms } => return Lookup::Wait { until_ticks_ms },
            Lookup::Failed(error) => return Lookup::Failed(error),
        };
        // Regular expressions came with version 1.
        let lowest = i16::from(self.topics.pattern.is_some());
        match connection.version_within(ApiKey::ConsumerGroupHeartbeat, lowest, i16::MAX) {
            Ok(version) => Lookup::Ready((connection, version)),
            Err(error) => Lookup::Failed(not_served(&self.identity, &error)),
        }
    }

    fn send(&mut self, connection: &Arc<Connection>, version: i16, now: Now) {
        let owned = (&self.owned, self.report);
        let request = self.identity.heartbeat(self.epoch, &self.topics, owned, &mut self.told);
        self.call = Some(connection.send(Request::ConsumerGroupHeartbeat(request), version, now));
        self.next_at = now.ticks_ms.saturating_add(self.interval_ms);
        self.urgent = false;
        self.introduced = true;
    }

    /// Takes the answer to the last heartbeat, if it is there.
    fn take_answer(&mut self, now: Now, waker: &Waker) -> bool {
        let Some(call) = &mut self.call else { return false };
        let Some(result) = call.poll(now, waker) else { return false };
        let address = call.connection().address().to_owned();
        let sent_at = self.next_at.saturating_sub(self.interval_ms);
        self.call = None;
        match result.and_then(|response| expect_response!(response, ConsumerGroupHeartbeat, &address)) {
            Ok(response) => self.answered(response, sent_at, now),
            Err(error) => {
                tracing::debug!(group = self.identity.group_id, %error, "a heartbeat failed");
                self.forget_coordinator();
                self.again(now);
            }
        }
        true
    }

    fn answered(&mut self, response: ConsumerGroupHeartbeatResponse, sent_at: i64, now: Now) {
        match read(&self.identity, self.epoch, response) {
            Answer::Accepted { epoch, interval_ms, assignment } => {
                self.backoff.reset();
                self.epoch = epoch;
                self.interval_ms = interval_ms;
                self.next_at = sent_at.saturating_add(interval_ms);
                if assignment.is_some() {
                    self.news.assignment = assignment;
                }
            }
            Answer::Again { elsewhere } => {
                if elsewhere {
                    self.forget_coordinator();
                }
                self.again(now);
            }
            Answer::Refused(error) => self.refused(error, now),
            Answer::Out(sign) => {
                self.introduced = false;
                self.out(sign);
            }
        }
    }

    /// Says everything again after a back-off.
    fn again(&mut self, now: Now) {
        self.told.forget();
        self.urgent = true;
        self.not_before = now.ticks_ms.saturating_add(self.backoff.next_ms(&mut self.rng).max(1));
    }

    /// Tells the owner what only somebody else can mend, and goes on trying, rarely; without such a version, gives up.
    fn refused(&mut self, error: ClientError, now: Now) {
        if matches!(error, ClientError::Unsupported(_)) {
            return self.out(Sign::Fatal(error));
        }
        self.told.forget();
        self.urgent = true;
        self.not_before = now.ticks_ms.saturating_add(self.refused_wait_ms);
        self.news.refusal = Some(error);
    }

    /// No more heartbeats until the owner joins again.
    fn out(&mut self, sign: Sign) {
        self.stop();
        self.not_before = i64::MIN;
        self.news = News { sign: Some(sign), ..News::default() };
    }

    fn stop(&mut self) {
        self.beating = false;
        self.call = None;
    }

    fn leave_silent(&mut self, now: Now, waker: &Waker) {
        tracing::warn!(
            group = self.identity.group_id,
            "nothing was polled for max.poll.interval.ms={} ms: leaving the group. Raise it, or lower max.poll.records, if \
             processing takes that long",
            self.max_silence_ms
        );
        // Without a connection the session ends by itself.
        if self.introduced
            && let Lookup::Ready((connection, version)) = self.reach(now, waker)
        {
            self.say_farewell(&connection, version, now);
        }
        self.out(Sign::Silent);
    }

    fn say_farewell(&mut self, connection: &Arc<Connection>, version: i16, now: Now) {
        let request = self.identity.farewell();
        self.leaving = Some(connection.send(Request::ConsumerGroupHeartbeat(request), version, now));
        self.introduced = false;
    }

    /// Until when to wait for the answer to a farewell; `None` when there is none to wait for.
    fn poll_leaving(&mut self, now: Now, waker: &Waker) -> Option<i64> {
        let call = self.leaving.as_mut()?;
        if call.poll(now, waker).is_some() {
            self.leaving = None;
            return None;
        }
        Some(call.deadline_ticks_ms())
    }

    fn forget_coordinator(&self) {
        self.client.forget_coordinator(CoordinatorKind::Group, &self.identity.group_id);
    }

    fn wake_helper(&self) {
        if let Some(helper) = &self.helper {
            helper.wake_by_ref();
        }
    }
}
