//! Waiting for the client, as futures: for a connection, a call, metadata, a coordinator; each until a deadline.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use base::{Now, TopicName};
use protocol::api::{Request, Response};

use crate::client::{Client, Lane, Lookup, Target};
use crate::connection::Connection;
use crate::coordinator::CoordinatorKind;
use crate::error::ClientError;
use crate::metadata::{Metadata, TopicMetadata};
use crate::timers::Sleep;

impl Client {
    /// Asks `attempt` again and again, whenever its waker is called or the time it named has come, until it is ready,
    /// has failed, or `deadline_ticks_ms` has passed: then [`ClientError::Timeout`] of `what`, with the last failure.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        deadline_ticks_ms: i64,
        mut attempt: impl FnMut(Now, &Waker) -> Lookup<T>,
    ) -> Result<T, ClientError> {
        let start = self.now().ticks_ms;
        let mut sleep: Option<Sleep> = None;
        poll_fn(move |context| {
            loop {
                let now = self.now();
                let until = match attempt(now, context.waker()) {
                    Lookup::Ready(value) => return Poll::Ready(Ok(value)),
                    Lookup::Failed(error) => return Poll::Ready(Err(error)),
                    Lookup::Wait { until_ticks_ms } => until_ticks_ms.unwrap_or(i64::MAX).min(deadline_ticks_ms),
                };
                if let Some(failure) = self.failure() {
                    return Poll::Ready(Err(failure));
                }
                if now.ticks_ms >= deadline_ticks_ms {
                    return Poll::Ready(Err(self.gave_up(what, now.ticks_ms - start, now)));
                }
                let sleep = sleep.insert(self.timers().sleep_until(until));
                if Pin::new(sleep).poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// The error of a wait that is over: that no broker could be reached, if so, else that the time was not enough.
    pub(crate) fn gave_up(&self, what: &str, after_ms: i64, now: Now) -> ClientError {
        if let Some((for_ms, ClientError::Unreachable { address, reason })) = self.unreachable(now) {
            return ClientError::Unreachable {
                address,
                reason: format!("{reason} (tried for {for_ms} ms); is it running, and is the address right?"),
            };
        }
        let reason = self.shared().state.lock().links.last_error().map(ToString::to_string);
        ClientError::Timeout { what: what.to_owned(), after_ms, reason }
    }

    /// Waits until a broker has answered.
    ///
    /// # Errors
    /// `Unreachable`, naming the addresses and what the last attempt ended with, if none has within
    /// `socket.connection.setup.timeout.ms`.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let deadline = self.now().ticks_ms.saturating_add(self.config().socket_connection_setup_timeout_ms);
        let lane = self.shared_lane();
        self.reach(&lane, Target::Any, deadline).await.map(drop)
    }

    /// An open connection to `target`, within the deadline.
    pub async fn reach(
        &self,
        lane: &Lane,
        target: Target,
        deadline_ticks_ms: i64,
    ) -> Result<Arc<Connection>, ClientError> {
        self.wait_for("connecting", deadline_ticks_ms, |now, waker| self.connection(lane, target, now, waker)).await
    }

    /// Sends one request on the shared lane and waits for its answer; `build` makes the request for the connection's
    /// versions. Nothing is retried.
    pub async fn call(
        &self,
        target: Target,
        deadline_ticks_ms: i64,
        build: impl FnOnce(&Connection) -> Result<(Request, i16), ClientError>,
    ) -> Result<(Response, Arc<Connection>), ClientError> {
        let lane = self.shared_lane();
        let connection = self.reach(&lane, target, deadline_ticks_ms).await?;
        let (request, version) = build(&connection)?;
        let response = connection.send(request, version, self.now()).on(self.timers()).await?;
        Ok((response, connection))
    }

    /// Node id of the coordinator of `key`, within the deadline.
    pub async fn find_coordinator(
        &self,
        kind: CoordinatorKind,
        key: &str,
        deadline_ticks_ms: i64,
    ) -> Result<i32, ClientError> {
        let what = match kind {
            CoordinatorKind::Group => format!("finding the coordinator of group {key}"),
            CoordinatorKind::Transaction => format!("finding the coordinator of transactional id {key}"),
        };
        self.wait_for(&what, deadline_ticks_ms, |now, waker| self.coordinator(kind, key, now, waker)).await
    }

    /// A snapshot that is newer than now and satisfies `enough`, within the deadline.
    pub async fn fresh_metadata(
        &self,
        what: &str,
        deadline_ticks_ms: i64,
        enough: impl Fn(&Metadata) -> bool,
    ) -> Result<Arc<Metadata>, ClientError> {
        let mut seen = self.metadata_version();
        self.refresh_metadata();
        self.wait_for(what, deadline_ticks_ms, |now, waker| {
            let step = self.step(now, waker);
            if self.metadata_version() != seen {
                let metadata = self.metadata();
                if enough(&metadata) {
                    return Lookup::Ready(metadata);
                }
                seen = metadata.version;
                self.refresh_metadata();
                return Lookup::Wait { until_ticks_ms: Some(now.ticks_ms) };
            }
            Lookup::Wait { until_ticks_ms: step.next_wake_ticks_ms }
        })
        .await
    }

    /// What is known of a topic, asked for if need be, within the deadline.
    pub async fn topic(&self, name: &TopicName, deadline_ticks_ms: i64) -> Result<Arc<TopicMetadata>, ClientError> {
        if let Some(topic) = self.metadata().topic(name) {
            return Ok(Arc::clone(topic));
        }
        self.want_topic(name);
        let what = format!("finding topic {name}");
        let metadata = self.fresh_metadata(&what, deadline_ticks_ms, |metadata| metadata.topic(name).is_some()).await?;
        metadata.topic(name).cloned().ok_or_else(|| ClientError::MetadataPending { topic: name.to_string() })
    }
}
