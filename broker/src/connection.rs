//! Connections: the in-process transport, and what it shares with TCP: responses leave in the order of their requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use protocol::api::{Response, supported_versions};
use protocol::transport::{Completer, Completion, Reply, RequestEnvelope, Transport, TransportError, completion};

use crate::broker::BrokerState;
use crate::dispatch::{self, Endpoint, Outcome, ReplySink, RequestContext};

/// Name of the in-process transport in messages.
pub const EMBEDDED: &str = "embedded";

/// Answers in the order of their requests: one slot for each request, emptied from the front.
///
/// `T` is what waits for the answer beside it (a completer; a version and correlation id).
pub(crate) struct InOrder<T, R> {
    front: u64,
    slots: VecDeque<Slot<T, R>>,
}

struct Slot<T, R> {
    target: Option<T>,
    answer: Option<R>,
}

impl<T, R> Default for InOrder<T, R> {
    fn default() -> Self {
        Self { front: 0, slots: VecDeque::new() }
    }
}

impl<T, R> InOrder<T, R> {
    /// Number of the next request; its slot is made. `None` as target means that it is given later.
    pub(crate) fn open(&mut self, target: Option<T>) -> u64 {
        self.slots.push_back(Slot { target, answer: None });
        self.front + self.slots.len() as u64 - 1
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot<T, R>> {
        self.slots.get_mut(usize::try_from(sequence.checked_sub(self.front)?).ok()?)
    }

    /// Puts the answer of a request down; `false` if it had one or is gone.
    pub(crate) fn answer(&mut self, sequence: u64, answer: R) -> bool {
        match self.slot(sequence) {
            Some(slot) if slot.answer.is_none() => {
                slot.answer = Some(answer);
                true
            }
            _ => false,
        }
    }

    /// The front request with its answer, once it has both a target and an answer.
    pub(crate) fn pop_ready(&mut self) -> Option<(T, R)> {
        let front = self.slots.front()?;
        if front.target.is_none() || front.answer.is_none() {
            return None;
        }
        self.front += 1;
        let slot = self.slots.pop_front()?;
        slot.target.zip(slot.answer)
    }

    /// How many requests have not left.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// A connection in process. Handlers run on the caller's thread.
pub(crate) struct EmbeddedConnection {
    state: Arc<BrokerState>,
    id: u64,
    endpoint: Arc<Endpoint>,
    client_host: Arc<str>,
    replies: Arc<EmbeddedReplies>,
}

#[derive(Default)]
pub(crate) struct EmbeddedReplies {
    queue: Mutex<InOrder<Completer, Reply>>,
    closed: AtomicBool,
}

impl EmbeddedConnection {
    pub(crate) fn new(state: Arc<BrokerState>) -> Self {
        let id = state.next_connection_id();
        let replies = Arc::new(EmbeddedReplies::default());
        state.embedded_connections.lock().push(Arc::downgrade(&replies));
        Self {
            state,
            id,
            endpoint: Arc::new(Endpoint { host: EMBEDDED.into(), port: 0 }),
            client_host: "/embedded".into(),
            replies,
        }
    }
}

fn disconnected(reason: impl Into<String>) -> TransportError {
    TransportError::Disconnected { address: EMBEDDED.to_owned(), reason: reason.into() }
}

impl EmbeddedReplies {
    fn deliver(&self) {
        loop {
            let ready = self.queue.lock().pop_ready();
            match ready {
                Some((completer, reply)) => completer.complete(reply),
                None => return,
            }
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let abandoned: Vec<Completer> = {
            let mut queue = self.queue.lock();
            let count = queue.slots.len() as u64;
            queue.front += count;
            queue.slots.drain(..).filter_map(|slot| slot.target).collect()
        };
        for completer in abandoned {
            completer.complete(Err(disconnected("the connection was closed")));
        }
    }
}

impl ReplySink for EmbeddedReplies {
    fn reply(&self, sequence: u64, response: Result<Response, String>) {
        let closes = response.is_err();
        self.queue.lock().answer(sequence, response.map_err(disconnected));
        self.deliver();
        if closes {
            self.close();
        }
    }
}

impl Transport for EmbeddedConnection {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let key = envelope.request.api_key();
        let (min, max) = supported_versions(key);
        if !dispatch::is_served(key) || !(min..=max).contains(&envelope.version) {
            return Completion::ready(Err(TransportError::UnsupportedVersion {
                api: key.name(),
                version: envelope.version,
                address: EMBEDDED.to_owned(),
            }));
        }
        if self.replies.closed.load(Ordering::Acquire) || self.state.is_closed() {
            return Completion::ready(Err(disconnected("the broker or this connection to it was closed")));
        }
        let sequence = self.replies.queue.lock().open(None);
        let context = RequestContext {
            connection_id: self.id,
            version: envelope.version,
            client_id: envelope.client_id,
            client_host: Arc::clone(&self.client_host),
            endpoint: Arc::clone(&self.endpoint),
            now: self.state.clock.now(),
            reply_to: Arc::clone(&self.replies) as Arc<dyn ReplySink>,
            sequence,
        };
        let outcome = dispatch::dispatch(&self.state, &context, envelope.request);
        let mut closes = false;
        let answer = match outcome {
            Outcome::Reply(response) => Some(Ok(response)),
            Outcome::NoReply => Some(Ok(Response::Produce(Default::default()))),
            Outcome::Deferred => None,
            Outcome::Close(reason) => {
                closes = true;
                Some(Err(disconnected(reason)))
            }
        };
        let mut queue = self.replies.queue.lock();
        if let Some(answer) = answer {
            queue.answer(sequence, answer);
        }
        // The usual case: nothing before this request waits, and its answer is there.
        let at_front = queue.front == sequence;
        let Some(slot) = queue.slot(sequence) else {
            return Completion::ready(Err(disconnected("the connection was closed")));
        };
        if at_front && let Some(answer) = slot.answer.take() {
            queue.front += 1;
            queue.slots.pop_front();
            drop(queue);
            self.replies.deliver();
            if closes {
                self.replies.close();
            }
            return Completion::ready(answer);
        }
        let (completer, waiting) = completion();
        slot.target = Some(completer);
        drop(queue);
        if closes {
            self.replies.close();
        }
        waiting
    }

    fn address(&self) -> &str {
        EMBEDDED
    }

    fn close(&self) {
        self.replies.close();
        self.state.connection_closed(self.id);
    }

    fn failure(&self) -> Option<String> {
        self.state.log.failure().map(|error| format!("the broker in this process has failed: {error}"))
    }
}

impl Drop for EmbeddedConnection {
    fn drop(&mut self) {
        self.close();
    }
}

/// Numbers connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionIds(AtomicU64);

impl ConnectionIds {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let mut queue: InOrder<&str, i32> = InOrder::default();
        let (first, second, third) = (queue.open(Some("a")), queue.open(Some("b")), queue.open(None));
        assert!(queue.answer(second, 2));
        assert!(queue.answer(third, 3));
        assert_eq!(queue.pop_ready(), None);
        assert!(queue.answer(first, 1));
        assert!(!queue.answer(first, 9), "only one answer");
        assert_eq!(queue.pop_ready(), Some(("a", 1)));
        assert_eq!(queue.pop_ready(), Some(("b", 2)));
        assert_eq!(queue.pop_ready(), None, "nobody takes the third yet");
        assert_eq!(queue.len(), 1);
    }
}
