//! The seam between everything that asks and everything that serves: typed requests in, completions out.
//!
//! A [`Transport`] is one connection to one broker. Over TCP it frames and parses; in process it calls the broker's
//! request handlers on the caller's own thread. Either way [`Transport::send`] never blocks, and what it returns is a
//! [`Completion`]: a stream thread polls it, async code awaits it, a simulation looks at it after each step.
//!
//! Responses of one connection complete in the order of their requests, as in Kafka.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::api::{Request, Response};

/// Why no response came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The connection could not be made, or ended before the response; the request may or may not have been served.
    #[error("no connection to {address}: {reason}")]
    Disconnected {
        /// `host:port`, or `embedded`.
        address: String,
        /// What the operating system or the broker said.
        reason: String,
    },
    /// The peer does not speak this version of this request.
    #[error("{api} version {version} is not supported by {address}")]
    UnsupportedVersion {
        /// Name of the request.
        api: &'static str,
        /// Version asked for.
        version: i16,
        /// `host:port`, or `embedded`.
        address: String,
    },
    /// Bytes from the peer that are not a response to the request.
    #[error("malformed response from {address}: {reason}")]
    Malformed {
        /// `host:port`, or `embedded`.
        address: String,
        /// What was wrong.
        reason: String,
    },
}

/// What a transport or a broker is handed: a request and how it is to be understood.
#[derive(Clone, Debug)]
pub struct RequestEnvelope {
    /// Version of the request's schema; must be one that both sides support.
    pub version: i16,
    /// Who asks, as in the request header; for logs and quotas.
    pub client_id: Option<Arc<str>>,
    /// The request itself; it knows its API key.
    pub request: Request,
}

/// The result of one request.
pub type Reply = Result<Response, TransportError>;

/// One connection to one broker.
pub trait Transport: Send + Sync {
    /// Sends a request without blocking. The completion is already resolved when the answer is known at once.
    ///
    /// A produce request with `acks=0` completes with an empty response as soon as it is handed over.
    fn send(&self, envelope: RequestEnvelope) -> Completion;

    /// `host:port`, or `embedded`; for messages.
    fn address(&self) -> &str;

    /// Ends the connection; outstanding completions fail as [`TransportError::Disconnected`].
    fn close(&self);

    /// Why the broker behind it will take nothing more until it is started anew: asking again is of no use. Only a broker
    /// in this process can tell; of one elsewhere, another may take its place.
    fn failure(&self) -> Option<String> {
        None
    }
}

/// Makes connections by address; a table of in-process brokers in tests, sockets in production.
pub trait Connector: Send + Sync {
    /// A connection to the broker at `host:port`. Does not block: a failure to connect shows in the first completion.
    fn connect(&self, host: &str, port: u16) -> Arc<dyn Transport>;
}

#[derive(Default)]
struct Slot {
    reply: Option<Reply>,
    waker: Option<Waker>,
    completer_gone: bool,
}

/// The receiving end of one reply.
pub struct Completion(Inner);

// Made once per request; the in-process answer that is known at once must not cost an allocation.
#[allow(clippy::large_enum_variant)]
enum Inner {
    Ready(Option<Reply>),
    Waiting(Arc<Mutex<Slot>>),
}

/// The answering end of one reply. Dropped without an answer, it fails the completion as disconnected.
pub struct Completer(Arc<Mutex<Slot>>);

/// A connected pair: whoever holds the [`Completer`] answers, whoever holds the [`Completion`] learns it.
pub fn completion() -> (Completer, Completion) {
    let slot = Arc::new(Mutex::new(Slot::default()));
    (Completer(Arc::clone(&slot)), Completion(Inner::Waiting(slot)))
}

impl Completer {
    /// Answers; wakes whoever waits, on the caller's thread.
    pub fn complete(self, reply: Reply) {
        let waker = {
            let mut slot = self.0.lock();
            slot.reply = Some(reply);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.lock();
            slot.completer_gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn dropped() -> Reply {
    Err(TransportError::Disconnected { address: "broker".into(), reason: "the request was dropped unanswered".into() })
}

impl Completion {
    /// A completion whose answer is known.
    pub fn ready(reply: Reply) -> Self {
        Self(Inner::Ready(Some(reply)))
    }

    /// The answer, if it has come; at most once.
    pub fn try_take(&mut self) -> Option<Reply> {
        match &mut self.0 {
            Inner::Ready(reply) => reply.take(),
            Inner::Waiting(slot) => {
                let mut slot = slot.lock();
                let reply = slot.reply.take();
                if reply.is_none() && slot.completer_gone { Some(dropped()) } else { reply }
            }
        }
    }

    /// As [`Completion::try_take`]; when there is no answer yet, `waker` is called once there is one.
    pub fn poll_take(&mut self, waker: &Waker) -> Option<Reply> {
        match &mut self.0 {
            Inner::Ready(reply) => reply.take(),
            Inner::Waiting(slot) => {
                let mut slot = slot.lock();
                if let Some(reply) = slot.reply.take() {
                    return Some(reply);
                }
                if slot.completer_gone {
                    return Some(dropped());
                }
                if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    slot.waker = Some(waker.clone());
                }
                None
            }
        }
    }
}

impl Future for Completion {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        match self.poll_take(context.waker()) {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        }
    }
}
