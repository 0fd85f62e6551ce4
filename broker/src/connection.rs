//! The in-process transport: handlers run on the caller's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::api::{Response, supported_versions};
use protocol::transport::{Completion, RequestEnvelope, Transport, TransportError, completion};

use crate::dispatch::{self, Endpoint, Outcome, RequestContext};
use crate::replies::{EMBEDDED, EmbeddedReplies, ReplySink, disconnected};
use crate::state::BrokerState;

/// A connection in process. Handlers run on the caller's thread.
pub(crate) struct EmbeddedConnection {
    state: Arc<BrokerState>,
    id: u64,
    endpoint: Arc<Endpoint>,
    client_host: Arc<str>,
    replies: Arc<EmbeddedReplies>,
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

impl Transport for EmbeddedConnection {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let key = envelope.request.api_key();
        let (min, max) = supported_versions(key);
        if !dispatch::is_answered(key) || !(min..=max).contains(&envelope.version) {
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
