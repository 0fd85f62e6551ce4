//! Records in front of a full or not yet informed [`ProducerCore`], in order.
//!
//! Invariant: records of one topic enter the core in the order in which they were pushed; while one of a topic waits, so
//! do all behind it. Topics do not wait for each other's metadata, but do for memory: there the first comes first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use base::Now;
use parking_lot::Mutex;

use super::core::{ProducerCore, TopicHandle};
use super::record::ProducerRecord;
use super::ticket::Ticket;
use crate::error::ClientError;

/// What became of a record that had to wait: its ticket once it is in its batch.
#[derive(Default)]
pub(super) struct Placement(Mutex<PlacementState>);

#[derive(Default)]
struct PlacementState {
    result: Option<Result<Ticket, ClientError>>,
    waker: Option<Waker>,
}

impl Placement {
    pub(super) fn settle(&self, result: Result<Ticket, ClientError>) {
        let waker = {
            let mut state = self.0.lock();
            state.result = Some(result);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Yields the result once.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Result<Ticket, ClientError>> {
        let mut state = self.0.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Results to be told without locks held.
pub(super) type Placed = Vec<(Arc<Placement>, Result<Ticket, ClientError>)>;

struct Waiting {
    number: u64,
    record: ProducerRecord,
    size: usize,
    deadline_ticks_ms: i64,
    placement: Arc<Placement>,
}

struct TopicQueue {
    topic: TopicHandle,
    waiting: VecDeque<Waiting>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Backlog {
    /// None of them is empty.
    queues: VecDeque<TopicQueue>,
    /// The first queue waits for memory, so everyone does.
    full: bool,
    bytes: usize,
    next_number: u64,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.waiting.len()).sum()
    }

    /// Bytes of the records that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a record of that topic must wait behind others.
    pub(super) fn holds_back(&self, topic: TopicHandle) -> bool {
        !self.queues.is_empty() && (self.full || self.queues.iter().any(|queue| queue.topic == topic))
    }

    /// Number of the next record that is pushed.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Whether all records pushed before that number have left.
    pub(super) fn is_past(&self, number: u64) -> bool {
        self.queues.iter().filter_map(|queue| queue.waiting.front()).all(|first| first.number >= number)
    }

    /// When the first of them has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        self.queues.iter().filter_map(|queue| queue.waiting.front()).map(|first| first.deadline_ticks_ms).min()
    }

    pub(super) fn push(
        &mut self,
        topic: TopicHandle,
        record: ProducerRecord,
        size: usize,
        deadline_ticks_ms: i64,
    ) -> Arc<Placement> {
        let placement = Arc::new(Placement::default());
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += size;
        let waiting = Waiting { number, record, size, deadline_ticks_ms, placement: Arc::clone(&placement) };
        match self.queues.iter_mut().find(|queue| queue.topic == topic) {
            Some(queue) => queue.waiting.push_back(waiting),
            None => self.queues.push_back(TopicQueue { topic, waiting: VecDeque::from([waiting]) }),
        }
        placement
    }

    /// Moves into the core what it takes, and gives up what has waited too long (`gave_up` says why). Whether anything
    /// changed, so that a step of the core may have something to do.
    pub(super) fn advance(
        &mut self,
        core: &mut ProducerCore,
        now: Now,
        closing: bool,
        gave_up: &dyn Fn(&str, i64) -> ClientError,
        placed: &mut Placed,
    ) -> bool {
        let mut changed = false;
        let mut full = false;
        for _ in 0..self.queues.len() {
            let Some(mut queue) = self.queues.pop_front() else { break };
            while let Some(first) = queue.waiting.front() {
                let record = &first.record;
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let sent = match full {
                    true => Err(ClientError::BufferFull { limit_bytes: core.config().buffer_memory }),
                    false => core
                        .send_with_ticket(
                            queue.topic,
                            record.partition,
                            record.timestamp,
                            key,
                            value,
                            &record.headers,
                            now,
                        )
                        .map(|(_, ticket)| ticket),
                };
                let result = match sent {
                    Err(ClientError::BufferFull { .. } | ClientError::MetadataPending { .. })
                        if now.ticks_ms >= first.deadline_ticks_ms =>
                    {
                        let topic = record.topic.as_deref().unwrap_or_default();
                        Err(gave_up(topic, first.deadline_ticks_ms))
                    }
                    Err(ClientError::BufferFull { .. }) => {
                        full = true;
                        break;
                    }
                    Err(ClientError::MetadataPending { .. }) => break,
                    other => other,
                };
                let Some(first) = queue.waiting.pop_front() else { break };
                self.bytes -= first.size;
                placed.push((first.placement, result));
                changed = true;
            }
            if !queue.waiting.is_empty() {
                self.queues.push_back(queue);
            }
        }
        self.full = full;
        if (full || closing) && core.linger_ends().is_some() {
            // Room comes from sending what there is.
            core.close_lingering(i64::MAX);
            changed = true;
        }
        changed
    }

    /// Empties it.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Placement>> {
        self.bytes = 0;
        self.full = false;
        self.queues.drain(..).flat_map(|queue| queue.waiting).map(|waiting| waiting.placement).collect()
    }
}
