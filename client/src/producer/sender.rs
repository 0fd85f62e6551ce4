//! From queued batches to Produce requests, and from answers to settled or retried batches.
//!
//! One request per leader holds the front batch of every partition that may send. Order within a partition: batches
//! leave in order; while one of them is being retried it travels alone ([`Partition::may_send`]).
//!
//! Sequences: a refusal of the partition's first unsettled batch (out of order, unknown producer) is for good. Then
//! the epoch is raised and, once nothing of the partition is under way, its batches are numbered anew from 0. A refusal
//! of a later batch only says that an earlier one is missing: it waits for that one.

use std::task::Waker;

use base::{Now, TopicPartition};
use protocol::api::{
    ApiKey, ErrorCode, Pieces, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceTopic, Request,
    Response,
};
use protocol::record::increment_sequence;
use protocol::transport::TransportError;

use super::accumulator::{Batch, Body, Identity, Partition, Place, Sent};
use super::config::Acks;
use super::core::ProducerCore;
use super::identity::State;
use super::ticket::Written;
use super::transaction::fenced;
use crate::client::{Lookup, Target};
use crate::connection::{Call, Connection};
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::step::Step;
use crate::wire::expect_response;

/// A Produce request under way.
pub(super) struct ProduceCall {
    number: u64,
    node: i32,
    places: Vec<Place>,
    call: Call,
}

/// What one answer says about one batch.
enum Verdict {
    Written(Written),
    Refused(ErrorCode, Option<String>),
    /// No answer: the batch may or may not have been written.
    Lost(String),
    /// Asking again cannot help.
    Hopeless(String),
}

impl ProducerCore {
    /// Closes batches whose linger time is over, sends what is ready, settles what was answered. `waker` is called when
    /// there is progress to make.
    pub fn step(&mut self, now: Now, waker: &Waker) -> Step {
        let step = self.step_silently(now, waker);
        self.settled.drain(..).for_each(|(outcome, result)| outcome.settle(result));
        step
    }

    /// As [`ProducerCore::step`], but leaves telling the tickets to the caller: their wakers run code of others, which
    /// must not run under a lock on this core.
    pub(super) fn step_silently(&mut self, now: Now, waker: &Waker) -> Step {
        let mut step = self.client.step(now, waker);
        loop {
            self.update_metadata();
            self.close_lingering(now.ticks_ms);
            let settled = self.poll_calls(now, waker);
            let transaction = self.step_transaction(now, waker);
            let unacked = self.unacked;
            let (sent, due, refresh) = self.send_queued(now, waker);
            // Giving up is progress, too: whoever waits for a flush waits for that.
            step.did_work |= settled || sent || transaction.did_work || self.unacked != unacked;
            if settled || sent || transaction.did_work {
                // With the embedded broker the answers may be there already.
                continue;
            }
            if refresh {
                self.client.refresh_metadata();
                let refreshed = self.client.step(now, waker);
                step = step.and(refreshed);
                if self.client.metadata_version() != self.metadata_version {
                    continue;
                }
            }
            let calls = self.calls.iter().map(|call| call.call.deadline_ticks_ms());
            for ticks_ms in calls.chain(due).chain(transaction.due).chain(self.linger_ends()) {
                step = step.wake_at(ticks_ms);
            }
            return step;
        }
    }

    fn poll_calls(&mut self, now: Now, waker: &Waker) -> bool {
        let mut settled = false;
        let mut index = 0;
        while index < self.calls.len() {
            match self.calls[index].call.poll(now, waker) {
                Some(result) => {
                    // In the order of sending: answers of one connection come in that order.
                    let call = self.calls.remove(index);
                    self.settle(call, result, now);
                    settled = true;
                }
                None => index += 1,
            }
        }
        settled
    }

    /// Sends what may be sent: whether anything was, when time alone makes more ready, and whether metadata is missing.
    fn send_queued(&mut self, now: Now, waker: &Waker) -> (bool, Option<i64>, bool) {
        let mut due: Option<i64> = None;
        let mut at = |ticks_ms: i64| due = Some(due.map_or(ticks_ms, |due| due.min(ticks_ms)));
        let mut refresh = self.topics.iter().any(|topic| topic.partitions.is_empty());
        if self.listed.is_empty() {
            return (false, None, refresh);
        }
        if let Some(failure) = self.client.failure() {
            self.fail_all_unsent(&failure);
            return (false, None, false);
        }
        let asked = match &self.transaction {
            Some(transaction) => match transaction.identity {
                Some(identity) => Lookup::Ready(Some(identity)),
                None => Lookup::Wait { until_ticks_ms: None },
            },
            None => self.identity.step(&self.client, &self.lane, now, waker, &mut self.rng),
        };
        let identity = match asked {
            Lookup::Ready(identity) => Some(identity),
            Lookup::Wait { until_ticks_ms } => {
                until_ticks_ms.into_iter().for_each(&mut at);
                None
            }
            Lookup::Failed(error) => {
                self.fail_all_unsent(&error);
                return (false, None, refresh);
            }
        };
        let mut by_leader: Vec<(i32, Vec<Place>)> = Vec::new();
        let mut listed = std::mem::take(&mut self.listed);
        listed.retain(|place| {
            self.expire(*place, now);
            let partition = &mut self.topics[place.topic as usize].partitions[place.partition as usize];
            let Some(front) = partition.queue.front() else {
                partition.listed = false;
                return false;
            };
            at(front.opened_ticks_ms.saturating_add(self.config.delivery_timeout_ms));
            let Some(identity) = identity else { return true };
            if let Some(identity) = identity {
                adopt_identity(partition, identity);
            }
            if now.ticks_ms < partition.muted_until {
                at(partition.muted_until);
            } else if partition.leader.is_none() {
                refresh = true;
            } else if partition.may_send(self.config.max_in_flight)
                && self.transaction.as_mut().is_none_or(|transaction| transaction.may_send(*place))
                && let Some(leader) = partition.leader
            {
                match by_leader.iter_mut().find(|(node, _)| *node == leader) {
                    Some((_, places)) => places.push(*place),
                    None => by_leader.push((leader, vec![*place])),
                }
            }
            true
        });
        // Settling while expiring may have listed nothing new: what is queued was listed already.
        self.listed.append(&mut listed);
        let mut sent = false;
        for (leader, places) in by_leader {
            if self.calls.iter().filter(|call| call.node == leader).count() >= self.config.max_in_flight {
                continue;
            }
            match self.client.connection(&self.lane, Target::Node(leader), now, waker) {
                Lookup::Ready(connection) => sent |= self.send_to(&connection, leader, places, now),
                Lookup::Wait { until_ticks_ms: Some(until) } => at(until),
                // The address of the leader is not known.
                Lookup::Wait { until_ticks_ms: None } => refresh = true,
                Lookup::Failed(error) => self.fail_places(&places, &error),
            }
        }
        (sent, due, refresh)
    }

    fn send_to(&mut self, connection: &std::sync::Arc<Connection>, node: i32, places: Vec<Place>, now: Now) -> bool {
        let with_ids = places.iter().all(|place| !self.topics[place.topic as usize].id.is_nil());
        let highest = if with_ids { i16::MAX } else { 12 };
        // From version 12 on brokers add the partitions to the transaction.
        let (lowest, highest) = match &self.transaction {
            Some(transaction) if transaction.bumps => (12, highest),
            Some(_) => (3, 11),
            None => (3, highest),
        };
        let version = match connection.version_within(ApiKey::Produce, lowest, highest) {
            Ok(version) => version,
            Err(error) => {
                self.fail_places(&places, &error);
                return false;
            }
        };
        let number = self.next_call;
        self.next_call += 1;
        let mut topics: Vec<ProduceTopic> = Vec::new();
        let mut sent_places: Vec<Place> = Vec::with_capacity(places.len());
        let mut size = 0;
        let mut last_topic = None;
        for place in places {
            let topic = &mut self.topics[place.topic as usize];
            let partition = &mut topic.partitions[place.partition as usize];
            let Some(front) = partition.queue.front() else { continue };
            if size > 0 && size + front.accounted_bytes > self.config.max_request_size {
                continue;
            }
            let Some(mut batch) = partition.queue.pop_front() else { continue };
            let records = match take_bytes(partition, &mut batch) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.give_up(place, batch, None, error, "report this: a batch could not be finished");
                    continue;
                }
            };
            size += records.len();
            batch.attempts += 1;
            partition.sent.push_back(Sent { request: number, batch });
            let produced = ProducePartition { index: place.partition as i32, records: Some(Pieces::from(records)) };
            // Places of one topic mostly stand together; the same topic twice in a request is valid, too.
            match topics.last_mut() {
                Some(last) if last_topic == Some(place.topic) => last.partitions.push(produced),
                _ => topics.push(ProduceTopic {
                    name: std::sync::Arc::clone(&topic.name),
                    topic_id: topic.id,
                    partitions: vec![produced],
                }),
            }
            last_topic = Some(place.topic);
            sent_places.push(place);
        }
        if sent_places.is_empty() {
            return false;
        }
        let transactional_id = self.transaction.as_mut().map(|transaction| {
            transaction.touched = true;
            transaction.id.to_string()
        });
        let request = ProduceRequest {
            transactional_id,
            acks: self.config.acks.code(),
            timeout_ms: i32::try_from(self.config.request_timeout_ms).unwrap_or(i32::MAX),
            topics,
        };
        let call = connection.send_within(Request::Produce(request), version, self.config.request_timeout_ms, now);
        self.calls.push(ProduceCall { number, node, places: sent_places, call });
        true
    }

    /// Settles or requeues every batch of an answered request.
    fn settle(&mut self, call: ProduceCall, result: Result<Response, ClientError>, now: Now) {
        let address = call.call.connection().address();
        let response = result.and_then(|response| expect_response!(response, Produce, address));
        let mut places = call.places;
        match response {
            Ok(_) if self.config.acks == Acks::None => {
                for place in places {
                    let nowhere = Written { base_offset: -1, log_append_time_ms: -1 };
                    self.settle_batch(place, call.number, Verdict::Written(nowhere), now);
                }
            }
            Ok(response) => {
                for topic in response.topics {
                    let index = self.by_name.get(&topic.name).or_else(|| self.by_id.get(&topic.topic_id)).copied();
                    let Some(index) = index else { continue };
                    for partition in topic.partitions {
                        let answered = Place { topic: index, partition: partition.index as u32 };
                        // An answer to what was not asked is ignored; what was asked and not answered is lost.
                        if let Some(position) = places.iter().position(|place| *place == answered) {
                            places.remove(position);
                            self.settle_batch(answered, call.number, verdict(partition), now);
                        }
                    }
                }
                for place in places {
                    let reason = "the broker's answer does not mention the partition".to_owned();
                    self.settle_batch(place, call.number, Verdict::Lost(reason), now);
                }
            }
            Err(error) => {
                for place in places {
                    let verdict = match &error {
                        ClientError::Transport(TransportError::UnsupportedVersion { .. }) => {
                            Verdict::Hopeless(error.to_string())
                        }
                        _ => Verdict::Lost(error.to_string()),
                    };
                    self.settle_batch(place, call.number, verdict, now);
                }
            }
        }
    }

    fn settle_batch(&mut self, place: Place, request: u64, verdict: Verdict, now: Now) {
        let partition = &mut self.topics[place.topic as usize].partitions[place.partition as usize];
        let Some(position) = partition.sent.iter().position(|sent| sent.request == request) else { return };
        let Some(Sent { mut batch, .. }) = partition.sent.remove(position) else { return };
        let first = !partition
            .sent
            .iter()
            .map(|sent| &sent.batch)
            .chain(&partition.queue)
            .any(|other| other.number < batch.number);
        let sequenced = batch.sequence >= 0;
        match verdict {
            Verdict::Written(written) => {
                partition.established = true;
                if written.base_offset >= 0 {
                    let last = written.base_offset + i64::from(batch.records) - 1;
                    partition.acked = Some(partition.acked.map_or(last, |acked| acked.max(last)));
                }
                self.release(&batch);
                if let Some(outcome) = batch.outcome {
                    self.settled.push((outcome, Ok(written)));
                }
            }
            Verdict::Refused(code, message) => {
                let reason = match message {
                    Some(message) => format!("{} ({message})", code.name()),
                    None => code.name().to_owned(),
                };
                if self.transaction.is_some() {
                    return self.refused_in_transaction(place, batch, (code, reason), first, now);
                }
                let of_sequence = matches!(
                    code,
                    ErrorCode::OutOfOrderSequenceNumber
                        | ErrorCode::UnknownProducerId
                        | ErrorCode::InvalidProducerEpoch
                );
                if sequenced && of_sequence {
                    if first && !partition.renumber {
                        partition.renumber = true;
                        tracing::warn!(
                            topic = %self.topics[place.topic as usize].name,
                            partition = place.partition,
                            code = code.name(),
                            "sequence refused: going on under a new epoch"
                        );
                        self.raise_epoch_of(place);
                    }
                    self.retry(place, batch, Some(code), reason, now);
                } else if code.is_retriable() {
                    self.client.refresh_metadata();
                    self.retry(place, batch, Some(code), reason, now);
                } else {
                    // It was not written, so its sequence is free, unless later batches count on it: those are
                    // refused as out of order then, and numbered anew.
                    let followed =
                        !partition.sent.is_empty() || partition.queue.iter().any(|queued| queued.sequence >= 0);
                    if sequenced && !followed && !partition.renumber {
                        partition.next_sequence = batch.sequence;
                    }
                    self.give_up(place, batch, Some(code), reason, advice(code));
                }
            }
            Verdict::Lost(reason) => {
                batch.failure = Some((None, reason.clone()));
                self.retry(place, batch, None, reason, now);
            }
            Verdict::Hopeless(reason) => self.give_up(place, batch, None, reason, "use a broker that is newer"),
        }
    }

    /// A batch of a transaction was refused: it is sent again, or the transaction has failed with it.
    fn refused_in_transaction(
        &mut self,
        place: Place,
        batch: Batch,
        (code, reason): (ErrorCode, String),
        first: bool,
        now: Now,
    ) {
        let behind = !first && matches!(code, ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId);
        if behind || code == ErrorCode::ConcurrentTransactions || code.is_retriable() {
            if code.is_retriable() && code != ErrorCode::ConcurrentTransactions {
                self.client.refresh_metadata();
            }
            return self.retry(place, batch, Some(code), reason, now);
        }
        if let Some(transaction) = &mut self.transaction {
            match code {
                ErrorCode::ProducerFenced => transaction.kill(fenced(&transaction.id.clone(), code)),
                ErrorCode::InvalidTxnState
                | ErrorCode::InvalidProducerIdMapping
                | ErrorCode::TransactionalIdAuthorizationFailed => {
                    let what = format!("writing under the transactional id {}", transaction.id);
                    transaction.kill(ClientError::broker(what, code, None));
                }
                _ => {}
            }
        }
        self.give_up(place, batch, Some(code), reason, advice(code));
    }

    fn raise_epoch_of(&mut self, place: Place) {
        let partition = &self.topics[place.topic as usize].partitions[place.partition as usize];
        // Another partition may have raised it already.
        if let State::Known(current) = self.identity.state
            && partition.identity == Some(current)
        {
            self.identity.raise_epoch();
        }
    }

    /// Puts a batch back into the queue, unless its time or its retries are used up.
    fn retry(&mut self, place: Place, mut batch: Batch, code: Option<ErrorCode>, reason: String, now: Now) {
        let age_ms = now.ticks_ms.saturating_sub(batch.opened_ticks_ms);
        if age_ms >= self.config.delivery_timeout_ms || batch.attempts > self.config.retries {
            let reason = format!("{reason}, after {} attempt(s) in {age_ms} ms", batch.attempts);
            self.give_up(place, batch, code, reason, LATE);
            return;
        }
        let backoff = Backoff::new(self.config.retry_backoff_ms, self.config.retry_backoff_max_ms);
        let wait_ms = backoff.nth_ms(batch.attempts.saturating_sub(1), &mut self.rng);
        batch.failure = Some((code, reason));
        let partition = &mut self.topics[place.topic as usize].partitions[place.partition as usize];
        partition.muted_until = now.ticks_ms.saturating_add(wait_ms);
        partition.requeue(batch);
        if !std::mem::replace(&mut partition.listed, true) {
            self.listed.push(place);
        }
    }

    /// Gives up the queued batches whose time is over.
    fn expire(&mut self, place: Place, now: Now) {
        loop {
            let partition = &mut self.topics[place.topic as usize].partitions[place.partition as usize];
            let Some(front) = partition.queue.front() else { return };
            let age_ms = now.ticks_ms.saturating_sub(front.opened_ticks_ms);
            if age_ms < self.config.delivery_timeout_ms {
                return;
            }
            let has_leader = partition.leader.is_some();
            let Some(mut batch) = partition.queue.pop_front() else { return };
            let (code, last) = match batch.failure.take() {
                Some((code, reason)) => (code, reason),
                None if has_leader => match self.client.unreachable(now) {
                    Some((_, error)) => (None, error.to_string()),
                    None => (None, "not sent yet".to_owned()),
                },
                None => (None, "the partition has no leader".to_owned()),
            };
            let reason = format!("{last}, after {} attempt(s) in {age_ms} ms", batch.attempts);
            self.give_up(place, batch, code, reason, LATE);
        }
    }

    pub(super) fn fail_places(&mut self, places: &[Place], error: &ClientError) {
        for place in places {
            while let Some(batch) =
                self.topics[place.topic as usize].partitions[place.partition as usize].queue.pop_front()
            {
                self.give_up(*place, batch, error.code(), error.to_string(), "correct the cause, then send again");
            }
        }
    }

    fn fail_all_unsent(&mut self, error: &ClientError) {
        let listed = std::mem::take(&mut self.listed);
        self.fail_places(&listed, error);
        for place in listed {
            self.topics[place.topic as usize].partitions[place.partition as usize].listed = false;
        }
    }

    /// Ends a batch unwritten (or not known to be written): tells its tickets, or the owner.
    fn give_up(&mut self, place: Place, batch: Batch, code: Option<ErrorCode>, reason: String, advice: &'static str) {
        self.release(&batch);
        let name = std::sync::Arc::clone(&self.topics[place.topic as usize].name);
        let error = ClientError::NotWritten {
            partition: TopicPartition::new(name, place.partition as i32),
            records: batch.records as usize,
            code,
            reason,
            advice,
        };
        if let Some(transaction) = &mut self.transaction {
            transaction.needs_bump |= batch.sequence >= 0;
            transaction.fail(error.clone());
        }
        if batch.untracked {
            self.errors.push_back(error.clone());
        }
        if let Some(outcome) = batch.outcome {
            self.settled.push((outcome, Err(error)));
        }
    }
}

const LATE: &str = "check that the brokers are up and the topic exists, or raise delivery.timeout.ms";

fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "send smaller records, lower batch.size, or raise the topic's max.message.bytes"
        }
        ErrorCode::TopicAuthorizationFailed | ErrorCode::ClusterAuthorizationFailed => "grant WRITE on the topic",
        ErrorCode::InvalidRecord => "a compacted topic needs keys; otherwise see the reason",
        ErrorCode::InvalidTimestamp => "correct the timestamps, or the topic's message.timestamp limits",
        ErrorCode::InvalidRequiredAcks => "set acks to 0, 1 or all",
        ErrorCode::UnsupportedCompressionType => "choose another compression.type",
        ErrorCode::InvalidTopicException => "write to another topic: this one is the broker's own, or not a valid name",
        _ => "correct the cause, then send again",
    }
}

fn verdict(partition: ProducePartitionResponse) -> Verdict {
    match partition.error_code {
        ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Verdict::Written(Written {
            base_offset: partition.base_offset,
            log_append_time_ms: partition.log_append_time_ms,
        }),
        code => {
            let at_fault = partition.record_errors.first().map(|(index, message)| {
                format!("record {index} of the batch: {}", message.as_deref().unwrap_or("refused"))
            });
            Verdict::Refused(code, at_fault.or(partition.error_message))
        }
    }
}

/// Brings a partition to the producer's present identity, as soon as nothing holds it to the one before.
fn adopt_identity(partition: &mut Partition, identity: Identity) {
    if !partition.sent.is_empty() {
        return;
    }
    if partition.renumber {
        partition.renumber_under(identity);
        partition.muted_until = i64::MIN;
    } else if partition.identity != Some(identity) && partition.queue.iter().all(|batch| batch.sequence < 0) {
        partition.identity = Some(identity);
        partition.established = false;
        partition.next_sequence = 0;
    }
}

/// The bytes of a batch to send; built, with the next sequence, the first time.
fn take_bytes(partition: &mut Partition, batch: &mut Batch) -> Result<bytes::Bytes, String> {
    match &mut batch.body {
        Body::Built(bytes) => Ok(bytes.clone()),
        Body::Open(builder) => {
            if let Some(identity) = partition.identity.filter(|identity| *identity != Identity::NONE) {
                builder.set_producer(identity.id, identity.epoch, partition.next_sequence);
                batch.sequence = partition.next_sequence;
            }
            let bytes = builder.build().map_err(|error| error.to_string())?;
            if batch.sequence >= 0 {
                partition.next_sequence = increment_sequence(partition.next_sequence, batch.records as i32);
            }
            batch.body = Body::Built(bytes.clone());
            Ok(bytes)
        }
    }
}
