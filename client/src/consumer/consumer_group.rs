//! Membership of a group under the consumer protocol (KIP-848): the coordinator says what the member is to have, the member
//! gives up what it is not to have any more, says so, takes what is new.
//!
//! ```text
//!  Idle ──wanted──▶ Member ──to give up──▶ Releasing ──acknowledged──▶ Member
//!   ▲                  └──fenced, refused, silent──▶ Releasing (lost) ──▶ Idle
//! ```
//! Any state goes to Leaving when the subscription ends. Heartbeats go on meanwhile, from any thread ([`ConsumerSession`]).
//!
//! Invariant: a partition is read only between the assignment that brought it and the acknowledgement of its loss; the
//! coordinator is told that it is given up after that acknowledgement, never before.

use std::collections::BTreeMap;

use base::{TopicName, TopicPartition};
use protocol::api::{ErrorCode, Uuid};

use super::assignor::Assignor;
use super::core::Context;
use super::membership::{Membership, Wanted, Wish, subscribed};
use super::partitions::Phase;
use super::types::{ConsumerEvent, GroupMetadata};
use crate::client::Lane;
use crate::error::ClientError;
use crate::step::Step;

mod refusal;
mod release;
mod request;
mod session;

use self::release::Release;
use self::request::{Assigned, Topics};
pub(crate) use self::session::ConsumerSession;
use self::session::{News, Sign};

enum State {
    /// Outside, for want of topics or for good.
    Idle,
    /// Joining, or in the group.
    Member,
    Releasing {
        release: Release,
        lost: bool,
    },
    Leaving {
        release: Option<Release>,
        deadline: Option<i64>,
    },
    Left,
}

pub(crate) struct ConsumerGroup {
    state: State,
    member: GroupMetadata,
    topics: Vec<TopicName>,
    wanted: Wanted,
    session: ConsumerSession,
    /// What the coordinator last said that the member is to have; `None` before it said anything.
    target: Option<Assigned>,
    /// How far the target is reached.
    progress: Progress,
    /// What the member has.
    owned: Assigned,
    /// Names of the topics owned, which metadata may have forgotten.
    names: BTreeMap<Uuid, TopicName>,
    /// The member is out of the group: what it has is lost, not revoked.
    lost: bool,
    /// Joining again would not help.
    fatal: bool,
    /// Subscribed again while leaving: to be joined again after that.
    again: bool,
    metadata_seen: u64,
}

/// How far a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing was done; `gave_up`: but what was to be given up is.
    Fresh {
        gave_up: bool,
    },
    /// The coordinator was told; some topics' names are not known yet.
    Partly,
    Reached,
}

impl ConsumerGroup {
    pub fn new(
        member: GroupMetadata,
        assignors: &[Box<dyn Assignor>],
        wanted: Wanted,
        topics: Vec<TopicName>,
        session: ConsumerSession,
    ) -> Result<Self, ClientError> {
        refuse_assignors(assignors)?;
        Ok(Self {
            state: State::Idle,
            member,
            topics,
            wanted,
            session,
            target: None,
            progress: Progress::Reached,
            owned: Assigned::new(),
            names: BTreeMap::new(),
            lost: false,
            fatal: false,
            again: false,
            metadata_seen: 0,
        })
    }

    /// What the coordinator is told of the subscription.
    fn subscription(&self) -> Topics {
        match &self.wanted {
            Wanted::Pattern { pattern, .. } => Topics { names: Vec::new(), pattern: Some(pattern.clone()) },
            Wanted::Names | Wanted::Matching { .. } => Topics { names: self.topics.clone(), pattern: None },
        }
    }

    fn wants_something(&self) -> bool {
        !self.topics.is_empty() || matches!(self.wanted, Wanted::Pattern { .. })
    }

    /// Takes what came of the heartbeats.
    fn learn(&mut self, news: News, epoch: i32, context: &mut Context<'_>) {
        if self.member.generation != epoch {
            tracing::debug!(group = self.member.group_id, epoch, "the member's epoch");
            self.member.generation = epoch;
            self.member.member_id = if epoch > 0 { self.session.member_id() } else { String::new() };
        }
        context.errors.extend(news.refusal);
        if let Some(assignment) = news.assignment
            && self.target.as_ref() != Some(&assignment)
        {
            self.target = Some(assignment);
            self.progress = Progress::Fresh { gave_up: false };
        }
        match news.sign {
            None => return,
            Some(Sign::Fenced(code)) => {
                tracing::info!(group = self.member.group_id, %code, "out of the group; joining again")
            }
            Some(Sign::Silent) => {}
            Some(Sign::Fatal(error)) => {
                context.errors.push_back(error);
                self.fatal = true;
            }
        }
        self.lost = true;
        self.target = None;
    }

    /// Takes in new metadata: topics that satisfy the program's function.
    fn look_at_metadata(&mut self, context: &mut Context<'_>) {
        if self.metadata_seen == context.metadata.version || matches!(self.wanted, Wanted::Pattern { .. }) {
            return;
        }
        self.metadata_seen = context.metadata.version;
        let topics = subscribed(context, &self.wanted, &self.topics);
        if topics != self.topics {
            self.topics = topics;
            self.session.subscribe(self.subscription());
        }
    }

    fn advance(&mut self, context: &mut Context<'_>, commits_idle: bool) -> (Step, Wish) {
        let idle = (Step::IDLE, Wish::default());
        let stays_out = self.fatal || !self.wants_something();
        match &mut self.state {
            State::Left => idle,
            State::Idle if stays_out => idle,
            State::Idle => {
                self.session.join(self.subscription(), context.now);
                self.state = State::Member;
                idle
            }
            State::Member if self.lost => {
                self.release(context.partitions.names(), true);
                idle
            }
            State::Member => (self.reconcile(context), Wish::default()),
            State::Releasing { release, lost: false } if self.lost && !release.is_announced() => {
                self.state = State::Member;
                idle
            }
            State::Releasing { release, lost } => {
                let lost = *lost;
                let (done, step, wish) = release.step(context, commits_idle, false);
                if done {
                    self.released(context, lost);
                }
                (step, wish)
            }
            State::Leaving { .. } => self.leaving(context, commits_idle),
        }
    }

    fn release(&mut self, giving_up: Vec<TopicPartition>, lost: bool) {
        self.state = State::Releasing { release: Release::new(giving_up, lost), lost };
    }

    /// The owner is through with what was to be given up, which is no longer read.
    fn released(&mut self, context: &Context<'_>, lost: bool) {
        if lost {
            self.forget_assignment();
            self.lost = false;
            self.state = State::Idle;
            return;
        }
        let names = &self.names;
        self.owned.retain(|id, partitions| {
            let Some(name) = names.get(id) else { return false };
            partitions.retain(|partition| context.partitions.contains(&TopicPartition::new(name.clone(), *partition)));
            !partitions.is_empty()
        });
        if let Progress::Fresh { gave_up } = &mut self.progress {
            *gave_up = true;
        }
        self.state = State::Member;
    }

    fn forget_assignment(&mut self) {
        self.target = None;
        self.progress = Progress::Reached;
        self.owned.clear();
        self.names.clear();
    }

    /// Goes on towards the target: gives up first, takes what is new, tells the coordinator.
    fn reconcile(&mut self, context: &mut Context<'_>) -> Step {
        let Some(target) = &self.target else { return Step::IDLE };
        if self.progress == Progress::Reached {
            return Step::IDLE;
        }
        let giving_up = self.to_give_up(target);
        if !giving_up.is_empty() {
            self.release(giving_up, false);
            return Step::IDLE;
        }
        let (added, resolved) = self.to_add(target, context);
        if !resolved {
            context.client.refresh_metadata();
        }
        let to_tell = match self.progress {
            Progress::Fresh { gave_up } => resolved || gave_up || !added.is_empty(),
            Progress::Partly => !added.is_empty(),
            Progress::Reached => false,
        };
        if !to_tell {
            return Step::IDLE;
        }
        self.take_over(added, context);
        self.progress = if resolved { Progress::Reached } else { Progress::Partly };
        self.session.report(self.owned.clone());
        Step { did_work: true, next_wake_ticks_ms: None }
    }

    /// What is owned and not in the target.
    fn to_give_up(&self, target: &Assigned) -> Vec<TopicPartition> {
        let mut giving_up = Vec::new();
        for (id, partitions) in &self.owned {
            let Some(name) = self.names.get(id) else { continue };
            let stays = |partition: &i32| target.get(id).is_some_and(|target| target.contains(partition));
            let gone = partitions.iter().filter(|partition| !stays(partition));
            giving_up.extend(gone.map(|partition| TopicPartition::new(name.clone(), *partition)));
        }
        giving_up
    }

    /// What is in the target and not owned, as far as the topics' names are known; whether all are.
    fn to_add(&self, target: &Assigned, context: &Context<'_>) -> (Vec<(Uuid, TopicPartition)>, bool) {
        let (mut added, mut resolved) = (Vec::new(), true);
        for (id, partitions) in target {
            let Some(name) = self.names.get(id).or_else(|| context.metadata.topic_name(id)) else {
                resolved = false;
                continue;
            };
            let owned = self.owned.get(id);
            let new = partitions.iter().filter(|partition| owned.is_none_or(|owned| !owned.contains(*partition)));
            added.extend(new.map(|partition| (*id, TopicPartition::new(name.clone(), *partition))));
        }
        (added, resolved)
    }

    fn take_over(&mut self, added: Vec<(Uuid, TopicPartition)>, context: &mut Context<'_>) {
        let mut names = Vec::with_capacity(added.len());
        for (id, name) in added {
            context.client.want_topic(&name.topic);
            context.partitions.add(name.clone(), Phase::NeedsCommitted, context.metadata);
            self.owned.entry(id).or_default().insert(name.partition);
            self.names.insert(id, name.topic.clone());
            names.push(name);
        }
        let owned = &self.owned;
        self.names.retain(|id, _| owned.contains_key(id));
        if matches!(self.wanted, Wanted::Pattern { .. }) {
            self.topics = self.names.values().cloned().collect();
            self.topics.sort();
        }
        names.sort();
        context.events.push_back(ConsumerEvent::Assigned(names));
    }

    fn leaving(&mut self, context: &mut Context<'_>, commits_idle: bool) -> (Step, Wish) {
        let State::Leaving { release, deadline } = &mut self.state else { return (Step::IDLE, Wish::default()) };
        let bound_ms = context.client.config().request_timeout_ms;
        let deadline = *deadline.get_or_insert(context.now.ticks_ms.saturating_add(bound_ms));
        let late = context.now.ticks_ms >= deadline;
        let lost = self.lost || self.member.generation < 0;
        let under_way = release.get_or_insert_with(|| Release::new(context.partitions.names(), lost));
        let (done, step, wish) = under_way.step(context, commits_idle, late);
        if done && context.partitions.len() > 0 {
            *release = None;
            return (Step { did_work: true, next_wake_ticks_ms: None }, wish);
        }
        // What the owner committed while it acknowledged goes out before the member leaves.
        if !done || (!commits_idle && !late) {
            return (if late { step } else { step.wake_at(deadline) }, wish);
        }
        // A coordinator that cannot be reached ends the session by itself.
        if let Some(step) = self.session.leave(context.now, context.waker)
            && !late
        {
            return (step.wake_at(deadline), wish);
        }
        self.forget_assignment();
        self.lost = false;
        (self.member.generation, self.member.member_id) = (-1, String::new());
        self.state = if std::mem::take(&mut self.again) { State::Idle } else { State::Left };
        (Step { did_work: true, next_wake_ticks_ms: None }, wish)
    }
}

impl Membership for ConsumerGroup {
    fn member(&self) -> &GroupMetadata {
        &self.member
    }

    fn topics(&self) -> &[TopicName] {
        &self.topics
    }

    fn is_stable(&self) -> bool {
        let is_member = matches!(self.state, State::Member) && self.member.generation > 0 && !self.lost;
        is_member && self.target.is_some() && self.progress == Progress::Reached
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
        refuse_assignors(&assignors)?;
        (self.topics, self.wanted) = (topics, wanted);
        self.metadata_seen = 0;
        self.fatal = false;
        match self.state {
            State::Leaving { .. } => self.again = true,
            State::Left => self.state = State::Idle,
            State::Idle => {}
            State::Member | State::Releasing { .. } => self.session.subscribe(self.subscription()),
        }
        Ok(())
    }

    fn request_rejoin(&mut self, reason: &str) {
        tracing::warn!(
            group = self.member.group_id,
            reason,
            "members cannot ask for a rebalance under group.protocol=consumer: the coordinator decides"
        );
    }

    fn acknowledge(&mut self) {
        match &mut self.state {
            State::Releasing { release, .. } | State::Leaving { release: Some(release), .. } => release.acknowledge(),
            _ => {}
        }
    }

    fn leave(&mut self) {
        self.again = false;
        match std::mem::replace(&mut self.state, State::Left) {
            State::Left => {}
            leaving @ State::Leaving { .. } => self.state = leaving,
            // The owner is told of the rest once it has cleaned up what it was told of.
            State::Releasing { release, .. } if release.is_announced() => {
                self.state = State::Leaving { release: Some(release), deadline: None };
            }
            _ => self.state = State::Leaving { release: None, deadline: None },
        }
    }

    fn generation_lost(&mut self, code: ErrorCode, generation: i32, _context: &mut Context<'_>) {
        if generation == self.member.generation {
            tracing::info!(group = self.member.group_id, %code, "a commit was refused; asking the coordinator");
            self.session.hurry();
        }
    }

    fn step(
        &mut self,
        context: &mut Context<'_>,
        _lane: &Lane,
        _quick_lane: &Lane,
        commits_idle: bool,
    ) -> (Step, Wish) {
        let mut wish = Wish::default();
        let (mut step, news, epoch) = self.session.owner_step(context.now, context.waker);
        self.learn(news, epoch, context);
        self.look_at_metadata(context);
        // Each round is a transition; the longest way is over a release to the next.
        for _ in 0..8 {
            let before = std::mem::discriminant(&self.state);
            let (one, wishes) = self.advance(context, commits_idle);
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

fn refuse_assignors(assignors: &[Box<dyn Assignor>]) -> Result<(), ClientError> {
    match assignors.first() {
        None => Ok(()),
        Some(assignor) => Err(ClientError::Invalid(format!(
            "assignor {} has no effect with group.protocol=consumer: the broker assigns; set group.remote.assignor",
            assignor.name()
        ))),
    }
}
