//! One connection to one broker, its versions negotiated, and the calls on it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use base::Now;
use protocol::api::{ApiKey, Request, Response, supported_versions};
use protocol::transport::{Completion, RequestEnvelope, Transport, TransportError};

use crate::client::{Lookup, Shared};
use crate::error::ClientError;
use crate::timers::{Sleep, Timers};

/// What a broker told about itself in ApiVersions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    /// API key, lowest and highest version.
    pub versions: Vec<(i16, i16, i16)>,
    /// Finalized features and their levels.
    pub features: Vec<(String, i16)>,
}

/// An open connection to one broker.
pub struct Connection {
    pub(crate) lane: u32,
    pub(crate) node: i32,
    pub(crate) transport: Arc<dyn Transport>,
    client_id: Option<Arc<str>>,
    offered: Offered,
    client: Weak<Shared>,
    request_timeout_ms: i64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection to {} (node {})", self.transport.address(), self.node)
    }
}

impl Connection {
    pub(crate) fn new(
        (lane, node): (u32, i32),
        transport: Arc<dyn Transport>,
        offered: Offered,
        client_id: Option<Arc<str>>,
        client: Weak<Shared>,
        request_timeout_ms: i64,
    ) -> Self {
        Self { lane, node, transport, client_id, offered, client, request_timeout_ms }
    }

    /// The same connection under the node id that its broker turned out to have.
    pub(crate) fn renamed(&self, node: i32) -> Self {
        Self {
            lane: self.lane,
            node,
            transport: Arc::clone(&self.transport),
            client_id: self.client_id.clone(),
            offered: self.offered.clone(),
            client: self.client.clone(),
            request_timeout_ms: self.request_timeout_ms,
        }
    }

    /// The connection, unless its broker is known to have failed for good.
    pub(crate) fn checked(self: &Arc<Self>) -> Lookup<Arc<Self>> {
        match self.transport.failure() {
            None => Lookup::Ready(Arc::clone(self)),
            Some(reason) => {
                let error = ClientError::BrokerFailed(reason);
                if let Some(client) = self.client.upgrade() {
                    client.failure.get_or_init(|| error.clone());
                }
                Lookup::Failed(error)
            }
        }
    }

    /// Node id of the broker; negative while only its bootstrap address is known.
    pub fn node(&self) -> i32 {
        self.node
    }

    /// `host:port`, or `embedded`.
    pub fn address(&self) -> &str {
        self.transport.address()
    }

    /// The highest version of `api` that both sides have.
    ///
    /// # Errors
    /// `Unsupported`, naming the API, if there is none.
    pub fn version(&self, api: ApiKey) -> Result<i16, ClientError> {
        self.version_within(api, 0, i16::MAX)
    }

    /// The highest version of `api` from `lowest` to `highest` that both sides have.
    ///
    /// # Errors
    /// `Unsupported`, naming the API, if there is none.
    pub fn version_within(&self, api: ApiKey, lowest: i16, highest: i16) -> Result<i16, ClientError> {
        let (our_lowest, our_highest) = supported_versions(api);
        let key = api as i16;
        let Some((_, their_lowest, their_highest)) = self.offered.versions.iter().find(|(known, ..)| *known == key)
        else {
            return Err(ClientError::Unsupported(format!("{} does not serve {api:?}", self.address())));
        };
        let version = our_highest.min(*their_highest).min(highest);
        if version < our_lowest.max(*their_lowest).max(lowest) {
            return Err(ClientError::Unsupported(format!(
                "{api:?}: {} serves versions {their_lowest} to {their_highest}, this client needs {} to {}",
                self.address(),
                our_lowest.max(lowest),
                our_highest.min(highest),
            )));
        }
        Ok(version)
    }

    /// Finalized level of a cluster feature such as `transaction.version`; 0 when the broker does not name it.
    pub fn feature(&self, name: &str) -> i16 {
        self.offered.features.iter().find(|(known, _)| known == name).map_or(0, |(_, level)| *level)
    }

    /// Sends a request, to be answered within `request.timeout.ms`.
    pub fn send(self: &Arc<Self>, request: Request, version: i16, now: Now) -> Call {
        self.send_within(request, version, self.request_timeout_ms, now)
    }

    /// Sends a request, to be answered within `timeout_ms`; for requests that the broker holds back on purpose.
    pub fn send_within(self: &Arc<Self>, request: Request, version: i16, timeout_ms: i64, now: Now) -> Call {
        let envelope = RequestEnvelope { version, client_id: self.client_id.clone(), request };
        let completion = self.transport.send(envelope);
        Call {
            completion,
            connection: Arc::clone(self),
            deadline_ticks_ms: now.ticks_ms.saturating_add(timeout_ms),
            timeout_ms,
        }
    }

    /// Ends the connection: what is under way on it fails, the next use of the broker connects anew.
    pub fn discard(self: &Arc<Self>, reason: ClientError) {
        match self.client.upgrade() {
            Some(client) => client.connection_failed(self, reason),
            None => self.transport.close(),
        }
    }
}

/// A request under way. Dropping it forgets the answer.
pub struct Call {
    completion: Completion,
    connection: Arc<Connection>,
    deadline_ticks_ms: i64,
    timeout_ms: i64,
}

impl Call {
    /// The connection that the request went out on.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// When the call fails if there is no answer by then.
    pub fn deadline_ticks_ms(&self) -> i64 {
        self.deadline_ticks_ms
    }

    /// The answer, once; otherwise `waker` is called when it comes. A failed connection is replaced at its next use.
    pub fn poll(&mut self, now: Now, waker: &Waker) -> Option<Result<Response, ClientError>> {
        let result = self.poll_quietly(now, waker)?;
        if let Err(error) = &result
            && ends_connection(error)
        {
            self.connection.discard(error.clone());
        }
        Some(result)
    }

    /// As [`Call::poll`], without telling the client about a failed connection.
    pub(crate) fn poll_quietly(&mut self, now: Now, waker: &Waker) -> Option<Result<Response, ClientError>> {
        match self.completion.poll_take(waker) {
            Some(reply) => Some(reply.map_err(ClientError::from)),
            None if now.ticks_ms >= self.deadline_ticks_ms => Some(Err(ClientError::Timeout {
                what: format!("a request to {}", self.connection.address()),
                after_ms: self.timeout_ms,
                reason: None,
            })),
            None => None,
        }
    }

    /// The call as a future, its time-out kept by `timers`.
    pub fn on(self, timers: &Timers) -> CallFuture {
        let sleep = timers.sleep_until(self.deadline_ticks_ms);
        CallFuture { call: self, timers: timers.clone(), sleep }
    }
}

/// Whether the connection is of no use after this failure of a call.
pub(crate) fn ends_connection(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Timeout { .. }
            | ClientError::Transport(TransportError::Disconnected { .. } | TransportError::Malformed { .. })
    )
}

/// [`Call::on`].
pub struct CallFuture {
    call: Call,
    timers: Timers,
    sleep: Sleep,
}

impl Future for CallFuture {
    type Output = Result<Response, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(result) = this.call.poll(this.timers.now(), context.waker()) {
            return Poll::Ready(result);
        }
        match Pin::new(&mut this.sleep).poll(context) {
            Poll::Ready(()) => match this.call.poll(this.timers.now(), context.waker()) {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }
}
