//! The consumer without threads, sockets or sleeps: its owner steps it.
//!
//! The owner (a stream thread, the shell `Consumer`, a simulation) calls [`ConsumerCore::step`], then takes what there
//! is: events of rebalances ([`ConsumerCore::take_events`]), batches ([`ConsumerCore::take_fetched`]), results of
//! tickets, errors. A completion calls the waker given to `step`.
//!
//! Invariant: a partition's position only moves when its batches are taken, or by a seek or reset; what is committed
//! for it can therefore never run ahead of what the owner was given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use base::{Now, Offset, TopicName, TopicPartition};

use super::assignor::Assignor;
use super::config::ConsumerConfig;
use super::types::{
    CommitTicket, CommittedTicket, ConsumerEvent, Fetched, GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp,
    OffsetReset, OffsetSpec, OffsetsTicket,
};
use crate::client::Client;
use crate::error::ClientError;
use crate::step::Step;

/// A consumer as a state machine. See the module's documentation.
pub struct ConsumerCore {
    client: Client,
    config: ConsumerConfig,
    events: VecDeque<ConsumerEvent>,
    errors: VecDeque<ClientError>,
}

impl ConsumerCore {
    /// A consumer that reads nothing yet.
    ///
    /// # Errors
    /// `Config` if a setting is out of range.
    pub fn new(client: Client, config: ConsumerConfig) -> Result<Self, ClientError> {
        config.check_together()?;
        Ok(Self { client, config, events: VecDeque::new(), errors: VecDeque::new() })
    }

    /// The settings.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// The client it works through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    // --- What to read ---

    /// Reads exactly these partitions, outside any group; partitions that were read before keep their position.
    ///
    /// # Errors
    /// `Invalid` while subscribed.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), ClientError> {
        let _ = partitions.into_iter();
        Ok(())
    }

    /// Joins the group of `group.id` for these topics, or changes the topics of a member. `assignors` in order of
    /// preference; all members of the group must share one.
    ///
    /// # Errors
    /// `Invalid` without `group.id`, without assignors, with assignors that share no rebalance protocol, or while
    /// partitions are assigned by hand.
    pub fn subscribe(
        &mut self,
        topics: impl IntoIterator<Item = TopicName>,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError> {
        let _ = (topics.into_iter(), assignors);
        Ok(())
    }

    /// As [`ConsumerCore::subscribe`] for all topics, present and future, whose name satisfies `wanted`.
    ///
    /// # Errors
    /// As [`ConsumerCore::subscribe`].
    pub fn subscribe_matching(
        &mut self,
        wanted: Arc<dyn Fn(&str) -> bool + Send + Sync>,
        assignors: Vec<Box<dyn Assignor>>,
    ) -> Result<(), ClientError> {
        let _ = (wanted, assignors);
        Ok(())
    }

    /// Changes the topics of a subscription, keeping its assignors; the member rejoins.
    ///
    /// # Errors
    /// `Invalid` when not subscribed.
    pub fn change_topics(&mut self, topics: impl IntoIterator<Item = TopicName>) -> Result<(), ClientError> {
        let _ = topics.into_iter();
        Ok(())
    }

    /// Stops reading. A member first revokes (an event to acknowledge), then leaves its group.
    pub fn unsubscribe(&mut self) {}

    /// Topics subscribed, in order of names; those that match, for a pattern.
    pub fn subscription(&self) -> Vec<TopicName> {
        Vec::new()
    }

    /// Partitions that are read, in no particular order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        Vec::new()
    }

    // --- Progress ---

    /// Makes all the progress that is possible without waiting: sends what is due, takes what has been answered.
    pub fn step(&mut self, now: Now, waker: &Waker) -> Step {
        self.client.step(now, waker)
    }

    /// The events since the last call, in order.
    pub fn take_events(&mut self) -> Vec<ConsumerEvent> {
        self.events.drain(..).collect()
    }

    /// Acknowledges [`ConsumerEvent::Revoked`] or [`ConsumerEvent::Lost`]: the partitions are cleaned up, their offsets
    /// committed. The member gives them up at the next step. Without such an event nothing happens.
    pub fn revocation_done(&mut self) {}

    /// Asks for a rebalance; the reason is told to the broker.
    pub fn request_rejoin(&mut self, reason: &str) {
        let _ = reason;
    }

    /// The next failure that was met and could not be dealt with (refused commits without a ticket, a fatal answer of
    /// the coordinator, a corrupt batch), oldest first.
    pub fn take_error(&mut self) -> Option<ClientError> {
        self.errors.pop_front()
    }

    /// Whether the member is in its group with an assignment that is complete.
    pub fn is_stable(&self) -> bool {
        false
    }

    /// Who this consumer is in its group, for `send_offsets_to_transaction`.
    pub fn group_metadata(&self) -> GroupMetadata {
        GroupMetadata {
            group_id: self.config.group_id.clone().unwrap_or_default(),
            generation: -1,
            member_id: String::new(),
            group_instance_id: self.config.group_instance_id.clone(),
        }
    }

    // --- Records ---

    /// Whole batches of one partition, if any are there; partitions take turns. Moves the position.
    pub fn take_fetched(&mut self) -> Option<Fetched> {
        None
    }

    /// Bytes fetched and not yet taken.
    pub fn buffered_bytes(&self) -> usize {
        0
    }

    // --- Positions ---

    /// Offset of the next record that [`ConsumerCore::take_fetched`] gives; `None` while unknown, or not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let _ = partition;
        None
    }

    /// The position as it would be committed, with the leader epoch of the last record.
    pub fn position_to_commit(&self, partition: &TopicPartition) -> Option<OffsetAndMetadata> {
        let _ = partition;
        None
    }

    /// Reads on from `offset`. What is buffered is dropped.
    ///
    /// # Errors
    /// `Invalid` if the partition is not assigned, or the offset is negative.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        let _ = (partition, offset);
        Ok(())
    }

    /// Reads on from the earliest or latest offset, or from a time (the end, if nothing is that late). Looked up in the
    /// next steps; the position is unknown until then.
    ///
    /// # Errors
    /// `Invalid` if a partition is not assigned.
    pub fn seek_to(&mut self, partitions: &[TopicPartition], to: OffsetSpec) -> Result<(), ClientError> {
        let _ = (partitions, to);
        Ok(())
    }

    /// As [`ConsumerCore::seek_to`] by a reset policy; `None` of the policies is invalid here.
    ///
    /// # Errors
    /// `Invalid` if a partition is not assigned, or the policy is `None`.
    pub fn reset(&mut self, partitions: &[TopicPartition], policy: OffsetReset, now: Now) -> Result<(), ClientError> {
        let _ = (partitions, policy, now);
        Ok(())
    }

    /// Gives out no batches of these partitions, and fetches none, until resumed. Not known partitions are ignored.
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }

    /// Ends a pause.
    pub fn resume(&mut self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }

    /// Whether the partition is paused.
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        let _ = partition;
        false
    }

    /// High watermark as the last fetch said; `None` before the first.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        let _ = partition;
        None
    }

    /// The end that this consumer can read to (last stable offset under `read_committed`, else the high watermark), as
    /// the last fetch said; `None` before the first.
    pub fn end_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        let _ = partition;
        None
    }

    /// Log start offset as the last fetch said; `None` before the first.
    pub fn log_start_offset(&self, partition: &TopicPartition) -> Option<Offset> {
        let _ = partition;
        None
    }

    /// How many offsets lie between the position and [`ConsumerCore::end_offset`]; `None` while either is unknown.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let _ = partition;
        None
    }

    // --- Asking brokers ---

    /// Begins to commit these offsets, in order with other commits; failures that may pass are retried for
    /// `default.api.timeout.ms`. The result is kept until it is asked for.
    pub fn commit(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>) -> CommitTicket {
        let _ = offsets;
        CommitTicket(0)
    }

    /// As [`ConsumerCore::commit`], without retries and without a result; a failure is an error of `take_error`.
    pub fn commit_and_forget(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>) {
        let _ = offsets;
    }

    /// The commit's result, once; `None` while it is under way.
    ///
    /// `Rebalanced`: the generation is over, what was revoked or lost may not be committed any more; `Fenced`: another
    /// instance has taken over.
    pub fn commit_result(&mut self, ticket: CommitTicket) -> Option<Result<(), ClientError>> {
        let _ = ticket;
        None
    }

    /// Begins to ask for the group's committed offsets.
    pub fn committed(&mut self, partitions: Vec<TopicPartition>) -> CommittedTicket {
        let _ = partitions;
        CommittedTicket(0)
    }

    /// The answer, once; `None` while it is under way. A partition without committed offset has `None`.
    pub fn committed_result(&mut self, ticket: CommittedTicket) -> Option<CommittedResult> {
        let _ = ticket;
        None
    }

    /// Begins to look up offsets; the partitions need not be assigned.
    pub fn list_offsets(&mut self, offsets: Vec<(TopicPartition, OffsetSpec)>) -> OffsetsTicket {
        let _ = offsets;
        OffsetsTicket(0)
    }

    /// The answer, once; `None` while it is under way. A time after the last record has `None`.
    pub fn list_offsets_result(&mut self, ticket: OffsetsTicket) -> Option<ListOffsetsResult> {
        let _ = ticket;
        None
    }

    // --- The end ---

    /// Begins to close: commits (under `enable.auto.commit`), revokes (an event to acknowledge), leaves the group at once.
    /// Go on stepping until [`ConsumerCore::is_closed`].
    pub fn begin_close(&mut self) {}

    /// Whether closing is complete.
    pub fn is_closed(&self) -> bool {
        true
    }
}

/// Answer of [`ConsumerCore::committed_result`].
pub type CommittedResult = Result<Vec<(TopicPartition, Option<OffsetAndMetadata>)>, ClientError>;
/// Answer of [`ConsumerCore::list_offsets_result`].
pub type ListOffsetsResult = Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>, ClientError>;
