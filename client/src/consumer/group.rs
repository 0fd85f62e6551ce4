//! Membership of a group under the classic protocol: join, share out (as leader), sync, and again when the group changes.
//!
//! ```text
//!  Idle ──wanted──▶ Preparing ──acknowledged──▶ Joining ──leader──▶ Assigning ──▶ Syncing ──▶ Completing ──▶ Stable
//!                       ▲                          │  └──────follower────────────────▲           │             │
//!                       └────── rebalance, lost generation, refused join or sync ◀───┴───────────┴─────────────┘
//! ```
//! Preparing and Completing wait for the owner to acknowledge what is revoked or lost. Heartbeats go from the join's
//! answer until the next join is sent. Any state goes to Leaving when the subscription ends.
//!
//! Invariant: a partition is read only between the assignment that brought it and the acknowledgement of its loss.

use base::{TopicName, TopicPartition};
use bytes::Bytes;
use protocol::api::{ApiKey, ErrorCode, Request};

use super::assignor::{Assignment, Assignor, GroupSubscription, RebalanceProtocol};
use super::commits::{coordinator, coordinator_is_gone};
use super::core::Context;
use super::membership::{Acknowledged, Membership, Wanted, Wish, announce, hold, subscribed};
use super::partitions::Phase;
use super::types::{ConsumerEvent, GroupMetadata};
use crate::client::{Lane, Lookup};
use crate::connection::Call;
use crate::coordinator::CoordinatorKind;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::step::Step;

mod joining;
mod session;

pub(crate) use self::session::ClassicSession;
use self::session::{Sign, leave_request};

enum State {
    Idle,
    Preparing {
        acknowledged: Acknowledged,
        giving_up: Vec<TopicPartition>,
        committing: bool,
    },
    Joining {
        call: Option<Call>,
    },
    Assigning {
        members: GroupSubscription,
        index: usize,
        asked_at_version: u64,
    },
    Syncing {
        call: Option<Call>,
        assignments: Vec<(String, Bytes)>,
    },
    Completing {
        assignment: Assignment,
        acknowledged: Acknowledged,
        giving_up: Vec<TopicPartition>,
    },
    Stable,
    Leaving {
        acknowledged: Acknowledged,
        giving_up: Vec<TopicPartition>,
        committing: bool,
        call: Option<Call>,
        deadline: Option<i64>,
    },
    Left,
}

pub(crate) struct Group {
    state: State,
    member: GroupMetadata,
    topics: Vec<TopicName>,
    wanted: Wanted,
    assignors: Vec<Box<dyn Assignor>>,
    protocol: RebalanceProtocol,
    /// The assignor of the current generation.
    chosen: usize,
    /// Why to rejoin, if there is a reason.
    rejoin: Option<String>,
    /// The generation was taken from us: what is owned is lost, not revoked.
    lost: bool,
    /// Partition counts of the group's topics when this member last assigned them as leader.
    assigned_from: Option<Vec<(TopicName, Option<i32>)>>,
    not_before: i64,
    backoff: Backoff,
    session: ClassicSession,
    metadata_seen: u64,
    fatal: bool,
}

impl Group {
    pub fn new(
        member: GroupMetadata,
        assignors: Vec<Box<dyn Assignor>>,
        wanted: Wanted,
        topics: Vec<TopicName>,
        session: ClassicSession,
        backoff: Backoff,
    ) -> Result<Self, ClientError> {
        let protocol = shared_protocol(&assignors)?;
        Ok(Self {
            state: State::Idle,
            member,
            topics,
            wanted,
            assignors,
            protocol,
            chosen: 0,
            rejoin: None,
            lost: false,
            assigned_from: None,
            not_before: i64::MIN,
            backoff,
            session,
            metadata_seen: 0,
            fatal: false,
        })
    }

    fn fence(&mut self, context: &mut Context<'_>) {
        let id = self.member.group_instance_id.clone().unwrap_or_default();
        context.errors.push_back(ClientError::Fenced(format!(
            "group.instance.id {id} of group {}: another instance has it",
            self.member.group_id
        )));
        self.reset(true);
        self.fatal = true;
        self.state = State::Preparing { acknowledged: Acknowledged::Unasked, giving_up: Vec::new(), committing: false };
    }

    fn reset(&mut self, member_id_too: bool) {
        self.session.end();
        self.member.generation = -1;
        if member_id_too {
            self.member.member_id.clear();
        }
        self.lost = true;
    }

    /// Takes in new metadata: topics that match a pattern, partitions that were added.
    fn look_at_metadata(&mut self, context: &mut Context<'_>) {
        if self.metadata_seen == context.metadata.version {
            return;
        }
        self.metadata_seen = context.metadata.version;
        let topics = subscribed(context, &self.wanted, &self.topics);
        if topics != self.topics {
            self.topics = topics;
            self.request_rejoin("topics that match the subscription changed");
        }
        if let Some(before) = &self.assigned_from {
            let changed = |(topic, count): &(TopicName, Option<i32>)| {
                let now = context.metadata.partition_count(topic);
                now != *count && now.is_some()
            };
            if before.iter().any(changed) {
                self.request_rejoin("partition counts of subscribed topics changed");
            }
        }
    }

    fn advance(
        &mut self,
        context: &mut Context<'_>,
        lane: &Lane,
        leave_lane: &Lane,
        commits_idle: bool,
    ) -> (Step, Wish) {
        let idle = (Step::IDLE, Wish::default());
        if self.lost && !matches!(self.state, State::Preparing { .. } | State::Leaving { .. } | State::Left) {
            self.prepare();
            return idle;
        }
        match &mut self.state {
            State::Left => idle,
            State::Idle if self.topics.is_empty() || self.fatal => idle,
            State::Idle => {
                self.prepare();
                idle
            }
            State::Stable => {
                if self.rejoin.is_some() {
                    self.prepare();
                }
                idle
            }
            State::Preparing { .. } => self.preparing(context, commits_idle),
            State::Joining { .. } => (self.joining(context, lane), Wish::default()),
            State::Assigning { .. } => (self.assigning(context), Wish::default()),
            State::Syncing { .. } => (self.syncing(context, lane), Wish::default()),
            State::Completing { .. } => {
                self.completing(context);
                idle
            }
            State::Leaving { .. } => self.leaving(context, leave_lane, commits_idle),
        }
    }

    /// Subscribed again before the old membership was over: it goes on, but what the owner was told to give up is given
    /// up first.
    fn stay(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Left | State::Leaving { acknowledged: Acknowledged::Unasked, .. } => State::Stable,
            State::Leaving { acknowledged, giving_up, call, .. } => {
                if call.is_some() {
                    // The coordinator is told already: what joins is a new member.
                    self.member.generation = -1;
                    self.member.member_id.clear();
                }
                State::Preparing { acknowledged, giving_up, committing: true }
            }
            state => state,
        };
    }

    fn prepare(&mut self) {
        self.state = State::Preparing { acknowledged: Acknowledged::Unasked, giving_up: Vec::new(), committing: false };
    }

    /// Revokes what must be given up before joining, and waits until it is.
    fn preparing(&mut self, context: &mut Context<'_>, commits_idle: bool) -> (Step, Wish) {
        let State::Preparing { acknowledged, giving_up, committing } = &mut self.state else {
            return (Step::IDLE, Wish::default());
        };
        let mut wish = Wish::default();
        if *acknowledged == Acknowledged::Unasked {
            let owned = context.partitions.names();
            let any = !owned.is_empty();
            // What is held for its last commit is given up, even if it is wanted again meanwhile.
            if !*committing || self.lost {
                *giving_up = match self.protocol {
                    _ if self.lost => owned,
                    RebalanceProtocol::Eager => owned,
                    RebalanceProtocol::Cooperative => {
                        owned.into_iter().filter(|name| !self.topics.contains(&name.topic)).collect()
                    }
                };
            }
            if !self.lost && context.config.enable_auto_commit && any {
                if !*committing {
                    *committing = true;
                    wish.commit = true;
                    hold(context, giving_up);
                    return (Step { did_work: true, next_wake_ticks_ms: None }, wish);
                }
                if !commits_idle {
                    return (Step::IDLE, wish);
                }
            }
            *acknowledged = announce(context, giving_up, self.lost);
        }
        if *acknowledged == Acknowledged::Waiting {
            return (Step::IDLE, wish);
        }
        for name in giving_up.drain(..) {
            context.partitions.remove(&name);
        }
        self.lost = false;
        self.state = if self.fatal { State::Idle } else { State::Joining { call: None } };
        (Step { did_work: true, next_wake_ticks_ms: None }, wish)
    }

    fn complete(&mut self, context: &mut Context<'_>, assignment: Assignment) {
        let stranger = assignment.partitions.iter().find(|name| !self.topics.contains(&name.topic));
        if let Some(stranger) = stranger {
            if matches!(self.wanted, Wanted::Names) {
                // The subscription changed while the leader assigned the old one.
                tracing::info!(partition = %stranger, "assigned a topic that is no longer subscribed; rejoining");
                self.request_rejoin("the assignment does not match the subscription");
                return self.prepare();
            }
            // The leader's metadata is newer: what it matched is ours as well.
            for name in &assignment.partitions {
                context.client.want_topic(&name.topic);
                if !self.topics.contains(&name.topic) {
                    self.topics.push(name.topic.clone());
                }
            }
            self.topics.sort();
        }
        let giving_up: Vec<TopicPartition> = match self.protocol {
            RebalanceProtocol::Eager => Vec::new(),
            RebalanceProtocol::Cooperative => {
                let owned = context.partitions.names().into_iter();
                owned.filter(|name| !assignment.partitions.contains(name)).collect()
            }
        };
        let acknowledged = announce(context, &giving_up, false);
        self.state = State::Completing { assignment, acknowledged, giving_up };
    }

    /// Gives up what is revoked (and rejoins, so that others can have it), then takes what is new.
    fn completing(&mut self, context: &mut Context<'_>) {
        let State::Completing { assignment, acknowledged, giving_up } = &mut self.state else { return };
        if *acknowledged == Acknowledged::Waiting {
            return;
        }
        let assignment = std::mem::take(assignment);
        let giving_up = std::mem::take(giving_up);
        for name in &giving_up {
            context.partitions.remove(name);
        }
        self.assignors[self.chosen].on_assignment(&assignment, &self.member);
        let mut added = Vec::new();
        for name in assignment.partitions {
            if !context.partitions.contains(&name) {
                context.client.want_topic(&name.topic);
                context.partitions.add(name.clone(), Phase::NeedsCommitted, context.metadata);
                added.push(name);
            }
        }
        context.events.push_back(ConsumerEvent::Assigned(added));
        self.state = State::Stable;
        if !giving_up.is_empty() {
            self.request_rejoin("partitions were revoked for others");
        }
    }

    fn leaving(&mut self, context: &mut Context<'_>, lane: &Lane, commits_idle: bool) -> (Step, Wish) {
        let State::Leaving { acknowledged, giving_up, committing, call, deadline } = &mut self.state else {
            return (Step::IDLE, Wish::default());
        };
        let mut wish = Wish::default();
        let bound_ms = context.client.config().request_timeout_ms;
        let deadline = *deadline.get_or_insert(context.now.ticks_ms.saturating_add(bound_ms));
        let late = context.now.ticks_ms >= deadline;
        if *acknowledged == Acknowledged::Unasked {
            let owned = context.partitions.names();
            if !self.lost && context.config.enable_auto_commit && !owned.is_empty() {
                if !*committing {
                    *committing = true;
                    wish.commit = true;
                    return (Step { did_work: true, next_wake_ticks_ms: None }, wish);
                }
                if !commits_idle && !late {
                    return (Step::at(deadline), wish);
                }
            }
            *acknowledged = announce(context, &owned, self.lost);
            *giving_up = owned;
        }
        // What the owner committed while it acknowledged goes out before the member leaves.
        if *acknowledged == Acknowledged::Waiting || (!commits_idle && !late) {
            return (if late { Step::IDLE } else { Step::at(deadline) }, wish);
        }
        for name in giving_up.drain(..) {
            context.partitions.remove(&name);
        }
        self.session.end();
        let mut done = self.member.member_id.is_empty() || self.member.group_instance_id.is_some();
        let mut step = Step::at(deadline);
        if !done && call.is_none() {
            match coordinator(context, lane, &self.member.group_id) {
                Lookup::Ready(connection) => match connection.version(ApiKey::LeaveGroup) {
                    Ok(version) => {
                        let request = leave_request(&self.member, version, "the consumer is closed or unsubscribed");
                        *call = Some(connection.send(Request::LeaveGroup(request), version, context.now));
                    }
                    Err(_) => done = true,
                },
                Lookup::Wait { until_ticks_ms } => step = until_ticks_ms.map_or(step, |until| step.wake_at(until)),
                Lookup::Failed(_) => done = true,
            }
        }
        if let Some(call) = call
            && call.poll(context.now, context.waker).is_some()
        {
            done = true;
        }
        // A coordinator that cannot be reached ends the session by itself.
        if done || late {
            self.member.generation = -1;
            self.member.member_id.clear();
            self.lost = false;
            self.state = State::Left;
            step = Step { did_work: true, next_wake_ticks_ms: None };
        }
        (step, wish)
    }

    /// Joins again after a back-off; the member keeps its id.
    fn again(&mut self, context: &mut Context<'_>, code: ErrorCode, reason: &str) -> Step {
        tracing::debug!(group = self.member.group_id, %code, reason, "joining again");
        if coordinator_is_gone(code) || code == ErrorCode::NetworkException {
            context.client.forget_coordinator(CoordinatorKind::Group, &self.member.group_id);
        }
        let wait_ms = if code == ErrorCode::RebalanceInProgress { 0 } else { self.backoff.next_ms(context.rng).max(1) };
        self.not_before = context.now.ticks_ms + wait_ms;
        self.request_rejoin("the last attempt failed");
        // What is owned was revoked as the protocol asks; a changed subscription may ask for more.
        self.prepare();
        Step { did_work: true, next_wake_ticks_ms: Some(self.not_before) }
    }

    /// Reports what retrying will hardly mend, and retries nevertheless, rarely.
    fn refuse(&mut self, context: &mut Context<'_>, error: ClientError) -> Step {
        context.errors.push_back(error);
        self.not_before = context.now.ticks_ms + context.config.retry_backoff_max_ms.max(1);
        self.request_rejoin("the last attempt was refused");
        self.prepare();
        Step { did_work: true, next_wake_ticks_ms: Some(self.not_before) }
    }
}

impl Membership for Group {
    fn member(&self) -> &GroupMetadata {
        &self.member
    }

    fn topics(&self) -> &[TopicName] {
        &self.topics
    }

    fn is_stable(&self) -> bool {
        matches!(self.state, State::Stable) && self.rejoin.is_none() && !self.lost
    }

    fn is_left(&self) -> bool {
        matches!(self.state, State::Left)
    }

    fn change(
        &mut self,
        topics: Vec<TopicName>,
        wanted: Wanted,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError> {
        if !assignors.is_empty() {
            self.protocol = shared_protocol(&assignors)?;
            self.assignors = assignors;
        }
        (self.topics, self.wanted) = (topics, wanted);
        self.metadata_seen = 0;
        self.fatal = false;
        self.stay();
        self.request_rejoin("the subscription changed");
        Ok(())
    }

    fn request_rejoin(&mut self, reason: &str) {
        if self.rejoin.is_none() {
            self.rejoin = Some(reason.to_owned());
        }
    }

    fn acknowledge(&mut self) {
        match &mut self.state {
            State::Preparing { acknowledged, .. }
            | State::Completing { acknowledged, .. }
            | State::Leaving { acknowledged, .. }
                if *acknowledged == Acknowledged::Waiting =>
            {
                *acknowledged = Acknowledged::Yes;
            }
            _ => {}
        }
    }

    fn leave(&mut self) {
        if !matches!(self.state, State::Leaving { .. } | State::Left) {
            self.state = State::Leaving {
                acknowledged: Acknowledged::Unasked,
                giving_up: Vec::new(),
                committing: false,
                call: None,
                deadline: None,
            };
        }
    }

    fn generation_lost(&mut self, code: ErrorCode, generation: i32, context: &mut Context<'_>) {
        if generation != self.member.generation {
            return;
        }
        if code == ErrorCode::FencedInstanceId {
            return self.fence(context);
        }
        tracing::info!(group = self.member.group_id, %code, "the member's generation is over");
        self.reset(code != ErrorCode::IllegalGeneration && code != ErrorCode::RebalanceInProgress);
        self.request_rejoin(&format!("the coordinator answered {code}"));
    }

    fn step(&mut self, context: &mut Context<'_>, lane: &Lane, leave_lane: &Lane, commits_idle: bool) -> (Step, Wish) {
        let mut wish = Wish::default();
        let (mut step, sign) = self.session.owner_step(context.now, context.waker);
        match sign {
            Some(Sign::Rebalance) if matches!(self.state, State::Stable) => {
                self.request_rejoin("the group rebalances");
            }
            // Already on the way to the next generation.
            Some(Sign::Rebalance) | None => {}
            Some(Sign::Lost(code)) => self.generation_lost(code, self.member.generation, context),
            Some(Sign::Silent) => {
                self.reset(true);
                self.request_rejoin("the owner came back after max.poll.interval.ms");
            }
        }
        self.look_at_metadata(context);
        // Each round is a transition; the longest way is from Preparing round to Preparing again.
        for _ in 0..16 {
            let before = std::mem::discriminant(&self.state);
            let (one, wishes) = self.advance(context, lane, leave_lane, commits_idle);
            step = step.and(one);
            wish.commit |= wishes.commit;
            if before == std::mem::discriminant(&self.state) {
                break;
            }
            step.did_work = true;
        }
        (step, wish)
    }
}

/// The best protocol that all assignors can work with.
fn shared_protocol(assignors: &[Box<dyn Assignor>]) -> Result<RebalanceProtocol, ClientError> {
    let all = |protocol| assignors.iter().all(|assignor| assignor.protocols().contains(&protocol));
    if assignors.is_empty() {
        Err(ClientError::Invalid("a group subscription needs at least one assignor".into()))
    } else if all(RebalanceProtocol::Cooperative) {
        Ok(RebalanceProtocol::Cooperative)
    } else if all(RebalanceProtocol::Eager) {
        Ok(RebalanceProtocol::Eager)
    } else {
        Err(ClientError::Invalid("the assignors share no rebalance protocol".into()))
    }
}
