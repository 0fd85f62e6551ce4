//! The consumer without threads, sockets or sleeps: its owner steps it.
//!
//! The owner (a stream thread, the shell [`Consumer`](super::Consumer), a simulation) calls [`ConsumerCore::step`], then
//! takes what there is: events of rebalances ([`ConsumerCore::take_events`]), batches ([`ConsumerCore::take_fetched`]),
//! results of tickets, errors. A completion calls the waker given to `step`.
//!
//! Invariant: a partition's position only moves when its batches are taken, or by a seek or reset; what is committed
//! for it can therefore never run ahead of what the owner was given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use base::{Now, Offset, Rng, TopicPartition};
use protocol::api::ErrorCode;

use super::commits::Commits;
use super::config::{ConsumerConfig, IsolationLevel};
use super::fetcher::{Fetcher, reset_spec};
use super::keep_alive::KeepAlive;
use super::lookups::Lookups;
use super::membership::{Membership, outsider};
use super::partitions::{Partition, Partitions, Phase};
use super::types::{
    CommitTicket, CommittedTicket, ConsumerEvent, Fetched, GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp,
    OffsetReset, OffsetSpec, OffsetsTicket,
};
use super::validation::Validation;
use crate::client::{Client, Lane};
use crate::error::ClientError;
use crate::metadata::Metadata;
use crate::step::Step;

mod subscribing;

/// What the parts of the core share while one of them works.
pub(crate) struct Context<'a> {
    pub client: &'a Client,
    pub config: &'a ConsumerConfig,
    pub metadata: &'a Arc<Metadata>,
    pub partitions: &'a mut Partitions,
    pub events: &'a mut VecDeque<ConsumerEvent>,
    pub errors: &'a mut VecDeque<ClientError>,
    pub rng: &'a mut Rng,
    pub now: Now,
    pub waker: &'a Waker,
}

/// A consumer as a state machine. See the module's documentation.
pub struct ConsumerCore {
    client: Client,
    config: ConsumerConfig,
    metadata: Arc<Metadata>,
    /// Joining and syncing, which the broker holds back until all members came.
    group_lane: Lane,
    /// Commits, look-ups, heartbeats: answered at once.
    lane: Arc<Lane>,
    partitions: Partitions,
    fetcher: Fetcher,
    lookups: Lookups,
    validation: Validation,
    commits: Commits,
    group: Option<Box<dyn Membership>>,
    keep_alive: KeepAlive,
    next_auto_commit: Option<i64>,
    events: VecDeque<ConsumerEvent>,
    errors: VecDeque<ClientError>,
    rng: Rng,
    closing: bool,
    closed: bool,
    /// Whether a step ends when a member id was given.
    tells_member_id: bool,
}

impl ConsumerCore {
    /// A consumer that reads nothing yet.
    ///
    /// # Errors
    /// `Config` if a setting is out of range.
    pub fn new(client: Client, config: ConsumerConfig) -> Result<Self, ClientError> {
        config.check_together()?;
        let name = config.client_id.as_deref();
        let lane = Arc::new(client.lane_as(name));
        let keep_alive = KeepAlive::new(&client, &config, Arc::clone(&lane));
        Ok(Self {
            metadata: client.metadata(),
            group_lane: client.lane_as(name),
            lane,
            partitions: Partitions::default(),
            fetcher: Fetcher::new(&client, name),
            lookups: Lookups::default(),
            validation: Validation::default(),
            commits: Commits::default(),
            group: None,
            keep_alive,
            next_auto_commit: None,
            events: VecDeque::new(),
            errors: VecDeque::new(),
            rng: client.fork_rng(),
            closing: false,
            closed: false,
            tells_member_id: false,
            client,
            config,
        })
    }

    /// The settings.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// The client it works through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    // --- Progress ---

    /// Makes all the progress that is possible without waiting: sends what is due, takes what has been answered.
    pub fn step(&mut self, now: Now, waker: &Waker) -> Step {
        let mut step = Step::IDLE;
        // A round may make the next one possible: metadata a join, a commit a leave, an assignment a fetch. In process
        // every answer is there at once, so that a few rounds settle everything.
        let was_named = self.is_named();
        for _ in 0..12 {
            let round = self.round(now, waker);
            step = Step { did_work: step.did_work || round.did_work, ..round };
            if !round.did_work || (self.tells_member_id && self.is_named() != was_named) {
                break;
            }
        }
        step
    }

    /// From now on [`ConsumerCore::step`] returns as soon as the coordinator has given a member id, before the group is joined
    /// under it: for an owner that notes it where it outlives the process, so that nobody need wait for a dead member.
    pub fn tell_member_id_first(&mut self) {
        self.tells_member_id = true;
    }

    /// Whether the coordinator has given a member id.
    fn is_named(&self) -> bool {
        self.group.as_ref().is_some_and(|group| !group.member().member_id.is_empty())
    }

    /// The events since the last call, in order.
    pub fn take_events(&mut self) -> Vec<ConsumerEvent> {
        self.events.drain(..).collect()
    }

    /// Acknowledges [`ConsumerEvent::Revoked`] or [`ConsumerEvent::Lost`]: the partitions are cleaned up, their offsets
    /// committed. The member gives them up at the next step. Without such an event nothing happens.
    pub fn revocation_done(&mut self) {
        if let Some(group) = &mut self.group {
            group.acknowledge();
        }
    }

    /// Asks for a rebalance; the reason is told to the broker. With `group.protocol=consumer` the coordinator alone decides:
    /// nothing but a warning in the log.
    pub fn request_rejoin(&mut self, reason: &str) {
        if let Some(group) = &mut self.group {
            group.request_rejoin(reason);
        }
    }

    /// Sends this member's heartbeats from another thread while the owner processes.
    pub fn keep_alive(&self) -> KeepAlive {
        self.keep_alive.clone()
    }

    /// The next failure that was met and could not be dealt with (refused commits without a ticket, a fatal answer of
    /// the coordinator, a corrupt batch), oldest first.
    pub fn take_error(&mut self) -> Option<ClientError> {
        self.errors.pop_front()
    }

    /// Whether the member is in its group with an assignment that is complete.
    pub fn is_stable(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.is_stable())
    }

    /// Who this consumer is in its group, for `send_offsets_to_transaction`.
    pub fn group_metadata(&self) -> GroupMetadata {
        match &self.group {
            Some(group) => group.member().clone(),
            None => outsider(&self.config),
        }
    }

    // --- Records ---

    /// Whole batches of one partition, if any are there; partitions take turns. Moves the position.
    pub fn take_fetched(&mut self) -> Option<Fetched> {
        self.partitions.take()
    }

    /// Bytes fetched and not yet taken.
    pub fn buffered_bytes(&self) -> usize {
        self.partitions.iter().map(|(_, partition)| partition.buffered_bytes()).sum()
    }

    // --- Positions ---

    /// Offset of the next record that [`ConsumerCore::take_fetched`] gives; `None` while unknown, or not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.known(partition, |partition| partition.position)
    }

    /// The position as it would be committed, with the leader epoch of the last record.
    pub fn position_to_commit(&self, partition: &TopicPartition) -> Option<OffsetAndMetadata> {
        self.partitions.get(partition)?.to_commit()
    }

    /// Reads on from `offset`. What is buffered is dropped.
    ///
    /// # Errors
    /// `Invalid` if the partition is not assigned, or the offset is negative.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        if offset < 0 {
            return Err(ClientError::Invalid(format!("seek: offset {offset} of {partition} is negative")));
        }
        let index = self.assigned(partition)?;
        self.partitions.seek(index, offset, -1);
        Ok(())
    }

    /// Reads on from the earliest or latest offset, or from a time (the end, if nothing is that late). Looked up in the
    /// next steps; the position is unknown until then.
    ///
    /// # Errors
    /// `Invalid` if a partition is not assigned.
    pub fn seek_to(&mut self, partitions: &[TopicPartition], to: OffsetSpec) -> Result<(), ClientError> {
        for partition in partitions {
            self.assigned(partition)?;
        }
        for partition in partitions {
            if let Some(index) = self.partitions.index(partition) {
                self.partitions.enter(index, Phase::NeedsLookup(to));
            }
        }
        Ok(())
    }

    /// As [`ConsumerCore::seek_to`] by a reset policy; `None` of the policies is invalid here.
    ///
    /// # Errors
    /// `Invalid` if a partition is not assigned, or the policy is `None`.
    pub fn reset(&mut self, partitions: &[TopicPartition], policy: OffsetReset, now: Now) -> Result<(), ClientError> {
        let Some(spec) = reset_spec(policy, now.wall_ms) else {
            return Err(ClientError::Invalid("reset: the policy none leads nowhere".into()));
        };
        self.seek_to(partitions, spec)
    }

    /// Gives out no batches of these partitions, and fetches none, until resumed. Not known partitions are ignored.
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|partition| self.partitions.pause(partition, true));
    }

    /// Ends a pause.
    pub fn resume(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|partition| self.partitions.pause(partition, false));
    }

    /// Whether the partition is paused.
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|partition| partition.paused)
    }

    /// High watermark as the last fetch said; `None` before the first.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.known(partition, |partition| partition.high_watermark)
    }

    /// The end that this consumer can read to (last stable offset under `read_committed`, else the high watermark), as
    /// the last fetch said; `None` before the first.
    pub fn end_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        let committed = self.config.isolation_level == IsolationLevel::ReadCommitted;
        self.known(
            partition,
            |partition| if committed { partition.last_stable_offset } else { partition.high_watermark },
        )
    }

    /// Log start offset as the last fetch said; `None` before the first.
    pub fn log_start_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        self.known(partition, |partition| partition.log_start_offset)
    }

    /// How many offsets lie between the position and [`ConsumerCore::end_offset`]; `None` while either is unknown.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        Some((self.end_offset(partition)? - self.position(partition)?).max(0))
    }

    // --- Asking brokers ---

    /// Begins to commit these offsets, in order with other commits; failures that may pass are retried for
    /// `default.api.timeout.ms`. The result is kept until it is asked for.
    pub fn commit(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>) -> CommitTicket {
        self.commits.begin(offsets)
    }

    /// As [`ConsumerCore::commit`], without retries and without a result; a failure is an error of `take_error`.
    pub fn commit_and_forget(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>) {
        self.commits.begin_and_forget(offsets);
    }

    /// The commit's result, once; `None` while it is under way.
    ///
    /// `Rebalanced`: the generation is over, what was revoked or lost may not be committed any more; `Fenced`: another
    /// instance has taken over.
    pub fn commit_result(&mut self, ticket: CommitTicket) -> Option<Result<(), ClientError>> {
        self.commits.result(ticket)
    }

    /// Begins to ask for the group's committed offsets.
    pub fn committed(&mut self, partitions: Vec<TopicPartition>) -> CommittedTicket {
        self.commits.ask(partitions)
    }

    /// The answer, once; `None` while it is under way. A partition without committed offset has `None`.
    pub fn committed_result(&mut self, ticket: CommittedTicket) -> Option<CommittedResult> {
        self.commits.answer(ticket)
    }

    /// Begins to look up offsets; the partitions need not be assigned.
    pub fn list_offsets(&mut self, offsets: Vec<(TopicPartition, OffsetSpec)>) -> OffsetsTicket {
        self.lookups.begin(offsets)
    }

    /// The answer, once; `None` while it is under way. A time after the last record has `None`.
    pub fn list_offsets_result(&mut self, ticket: OffsetsTicket) -> Option<ListOffsetsResult> {
        self.lookups.result(ticket)
    }

    // --- The end ---

    /// Begins to close: commits (under `enable.auto.commit`), revokes (an event to acknowledge), leaves the group at once.
    /// Go on stepping until [`ConsumerCore::is_closed`].
    pub fn begin_close(&mut self) {
        self.closing = true;
        match &mut self.group {
            Some(group) => group.leave(),
            None if self.config.enable_auto_commit && self.config.group_id.is_some() => {
                self.commits.begin_auto(self.partitions.positions(), true);
            }
            None => {}
        }
    }

    /// Whether closing is complete.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn known(&self, name: &TopicPartition, offset: impl Fn(&Partition) -> Offset) -> Option<Offset> {
        self.partitions.get(name).map(offset).filter(|offset| *offset >= 0)
    }

    fn assigned(&self, name: &TopicPartition) -> Result<usize, ClientError> {
        self.partitions
            .index(name)
            .ok_or_else(|| ClientError::Invalid(format!("{name} is not assigned to this consumer")))
    }

    /// One round over all parts.
    fn round(&mut self, now: Now, waker: &Waker) -> Step {
        let mut step = self.client.step(now, waker);
        if self.client.metadata_version() != self.metadata.version {
            self.metadata = self.client.metadata();
            self.partitions.learn_leaders(&self.metadata);
            step.did_work = true;
        }
        if self.closed {
            return step;
        }
        if self.errors.is_empty() {
            self.errors.extend(self.client.failure());
        }
        let Self { client, config, metadata, partitions, events, errors, rng, .. } = self;
        let mut context = Context { client, config, metadata, partitions, events, errors, rng, now, waker };
        let mut last = false;
        let mut left = false;
        if let Some(group) = &mut self.group {
            let (one, wish) = group.step(&mut context, &self.group_lane, &self.lane, self.commits.is_idle());
            step = step.and(one);
            last = wish.commit;
            left = group.is_left();
        }
        if left {
            self.group = None;
            step.did_work = true;
        }
        let mut commit = last;
        let ready = self.group.as_ref().map_or(config.group_id.is_some(), |group| group.is_stable());
        if config.enable_auto_commit && ready && context.partitions.len() > 0 {
            let at = *self.next_auto_commit.get_or_insert(now.ticks_ms + config.auto_commit_interval_ms);
            commit |= now.ticks_ms >= at;
            step = step.wake_at(at.max(now.ticks_ms + 1));
        }
        if commit {
            self.next_auto_commit = Some(now.ticks_ms + config.auto_commit_interval_ms.max(1));
            self.commits.begin_auto(context.partitions.positions(), last);
        }
        let outside = outsider(config);
        let member = self.group.as_ref().map_or(&outside, |group| group.member());
        let mut lost: Option<(ErrorCode, i32)> = None;
        let in_group = self.group.is_some();
        step = step.and(self.commits.step(&mut context, &self.lane, member, in_group, &mut lost));
        if let Some((code, generation)) = lost
            && let Some(group) = &mut self.group
        {
            group.generation_lost(code, generation, &mut context);
        }
        step = step.and(self.lookups.step(&mut context, &self.lane));
        step = step.and(self.validation.step(&mut context, &self.lane));
        if self.closing && self.group.is_none() && self.commits.is_idle() {
            self.fetcher.close(&mut context);
            self.closed = true;
            return step;
        }
        step = step.and(self.fetcher.step(&mut context));
        self.partitions.settle_attention();
        // What the parts asked of the client (a topic's metadata) begins within this step.
        step = step.and(self.client.step(now, waker));
        // It may have been asked for and answered since this round began, by another owner's step too: there is more to do then, and
        // nobody is left who would wake this one.
        step.did_work |= self.client.metadata_version() != self.metadata.version;
        step
    }

    /// Whether there is a membership, or one that is being left.
    pub(crate) fn is_member(&self) -> bool {
        self.group.is_some()
    }

    /// Where the owner stands in what it took, when it hands on only part of it at a time.
    pub(crate) fn set_position(&mut self, name: &TopicPartition, offset: Offset, leader_epoch: i32) {
        if let Some(partition) = self.partitions.get_mut(name) {
            (partition.position, partition.position_epoch) = (offset, leader_epoch);
        }
    }

    /// Changes whenever what was taken before is void: a seek, a reset, a new assignment. `None` while nothing of the
    /// partition may be handed out.
    pub(crate) fn serial(&self, name: &TopicPartition) -> Option<u64> {
        self.partitions.get(name).filter(|partition| !partition.revoking).map(|partition| partition.serial)
    }
}

/// Answer of [`ConsumerCore::committed_result`].
pub type CommittedResult = Result<Vec<(TopicPartition, Option<OffsetAndMetadata>)>, ClientError>;
/// Answer of [`ConsumerCore::list_offsets_result`].
pub type ListOffsetsResult = Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>, ClientError>;
