//! Creates, describes and changes topics, configurations and groups.
//!
//! Every call is an async function over [`Client`]: await it, run it with [`block_on`](crate::block_on), or, where time
//! is stepped, poll it through [`Pending`](crate::Pending). A call finds the broker that answers it (any, the leader, the
//! coordinator), tries again after failures that may pass, and ends within `default.api.timeout.ms`.
//!
//! Calls about several things give one result per thing, in the order asked.

mod configs;
mod consumer_groups;
mod groups;
mod offsets;
mod topics;
mod transactions;

use std::sync::Arc;

use protocol::api::{ErrorCode, Request, Response, StrBytes};

use crate::client::{Client, Target};
use crate::connection::Connection;
use crate::coordinator::CoordinatorKind;
use crate::error::ClientError;
use crate::retry::Backoff;

pub use configs::{ConfigChange, ConfigEntry, ConfigResource};
pub use consumer_groups::{ConsumerGroupDescription, ConsumerGroupMember};
pub use groups::{GroupDescription, GroupListing, GroupMember, MemberToRemove};
pub use offsets::{ListedOffset, OffsetAndMetadata, OffsetSpec};
pub use topics::{ClusterDescription, CreatedTopic, NewTopic};
pub use transactions::{ProducerState, TransactionDescription, TransactionFilter, TransactionListing};

/// One thing asked about, and its result.
pub type Results<K, T> = Vec<(K, Result<T, ClientError>)>;

/// Admin calls on a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

/// Who answers.
#[derive(Clone, Copy)]
enum Route<'a> {
    To(Target),
    /// The coordinator of that group.
    Group(&'a str),
    /// The coordinator of that transactional id.
    Transaction(&'a str),
}

impl<'a> Route<'a> {
    fn coordinator(self) -> Option<(CoordinatorKind, &'a str)> {
        match self {
            Self::To(_) => None,
            Self::Group(group) => Some((CoordinatorKind::Group, group)),
            Self::Transaction(id) => Some((CoordinatorKind::Transaction, id)),
        }
    }
}

impl Admin {
    /// Admin calls over `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn deadline(&self) -> i64 {
        self.client.now().ticks_ms.saturating_add(self.client.config().default_api_timeout_ms)
    }

    /// What brokers are told of how long they may take.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout_ms).unwrap_or(i32::MAX)
    }

    /// Asks until there is an answer that `read` accepts, or a failure that will not pass, or the time is over.
    async fn ask<T>(
        &self,
        what: &str,
        route: Route<'_>,
        build: impl Fn(&Connection) -> Result<(Request, i16), ClientError>,
        read: impl Fn(Response, &str) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let client = &self.client;
        let start = client.now().ticks_ms;
        let deadline = self.deadline();
        let mut backoff = Backoff::new(client.config().retry_backoff_ms, client.config().retry_backoff_max_ms);
        let mut rng = client.fork_rng();
        loop {
            let error = match self.ask_once(route, deadline, &build, &read).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if let (Some((kind, key)), true) = (route.coordinator(), error.coordinator_moved() || is_lost(&error)) {
                client.forget_coordinator(kind, key);
            }
            let now = client.now().ticks_ms;
            let wait_ms = backoff.next_ms(&mut rng).max(1);
            if !error.is_retriable() {
                return Err(error);
            }
            if now.saturating_add(wait_ms) >= deadline {
                return Err(match error {
                    ClientError::Unreachable { .. } => error,
                    error => ClientError::Timeout {
                        what: what.to_owned(),
                        after_ms: now - start,
                        reason: Some(error.to_string()),
                    },
                });
            }
            client.refresh_metadata();
            client.timers().sleep(wait_ms).await;
        }
    }

    async fn ask_once<T>(
        &self,
        route: Route<'_>,
        deadline: i64,
        build: &impl Fn(&Connection) -> Result<(Request, i16), ClientError>,
        read: &impl Fn(Response, &str) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let target = match (route, route.coordinator()) {
            (Route::To(target), _) => target,
            (_, Some((kind, key))) => Target::Node(self.client.find_coordinator(kind, key, deadline).await?),
            (_, None) => Target::Any,
        };
        let (response, connection) = self.client.call(target, deadline, build).await?;
        read(response, connection.address())
    }

    /// Node ids of all brokers.
    async fn nodes(&self) -> Result<Vec<i32>, ClientError> {
        let deadline = self.deadline();
        let metadata = self
            .client
            .fresh_metadata("finding the brokers", deadline, |metadata| !metadata.brokers.is_empty())
            .await?;
        let mut nodes: Vec<i32> = metadata.brokers.keys().copied().collect();
        nodes.sort_unstable();
        Ok(nodes)
    }
}

fn is_lost(error: &ClientError) -> bool {
    matches!(error, ClientError::Transport(_) | ClientError::Timeout { .. })
}

/// The code as a result about `what`.
fn check(what: impl Into<String>, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::broker(what, code, message.map(ToString::to_string))),
    }
}

/// Answers in the order of the questions; what was not answered is an error.
fn in_order<K: Clone + PartialEq, T>(
    asked: &[K],
    mut answered: Results<K, T>,
    address: &str,
    name: impl Fn(&K) -> String,
) -> Results<K, T> {
    asked
        .iter()
        .map(|key| match answered.iter().position(|(known, _)| known == key) {
            Some(position) => answered.swap_remove(position),
            None => {
                let reason = format!("no answer about {}", name(key));
                (key.clone(), Err(ClientError::malformed(address, reason)))
            }
        })
        .collect()
}

/// Whether a result should be asked for again.
fn should_retry<T>(result: &Result<T, ClientError>) -> bool {
    matches!(result, Err(error) if error.is_retriable())
}

/// Keeps a future's captured names alive without copying them.
fn shared(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}
