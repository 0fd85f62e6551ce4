//! Which request goes to which handler, and how an answer finds its way back. No logic of any request.
//!
//! A handler gets the broker's state, the context of the request and the request. It answers at once
//! ([`Outcome::Reply`]) or takes a [`Responder`] from [`RequestContext::defer`], keeps it, and answers later from
//! whatever thread makes the progress. Responses of one connection leave in the order of its requests all the same:
//! the connection behind the responder sees to that.

use std::sync::Arc;

use base::Now;
use protocol::api::{ApiKey, Request, Response};

use crate::replies::ReplySink;
use crate::state::BrokerState;
use crate::{admin, group, handlers, share, transaction};

/// Where a listener can be reached, as metadata responses name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: Arc<str>,
    /// TCP port; 0 for the in-process transport.
    pub port: u16,
}

/// Everything about a request that is not in its body.
pub struct RequestContext {
    /// Identity of the connection within this broker.
    pub connection_id: u64,
    /// Version of the request's schema.
    pub version: i16,
    /// Client id of the request header.
    pub client_id: Option<Arc<str>>,
    /// Address of the client as group descriptions show it (`/127.0.0.1`; `/embedded` in process).
    pub client_host: Arc<str>,
    /// The listener the request came in on.
    pub endpoint: Arc<Endpoint>,
    /// When the request was taken up.
    pub now: Now,
    pub(crate) reply_to: Arc<dyn ReplySink>,
    pub(crate) sequence: u64,
}

/// What a handler did with a request.
#[expect(clippy::large_enum_variant, reason = "nearly all are replies; a box would cost each of them an allocation")]
pub enum Outcome {
    /// Answered.
    Reply(Response),
    /// A [`Responder`] was taken and will answer.
    Deferred,
    /// Nothing is answered (a produce with `acks=0`).
    NoReply,
    /// The connection must be closed, for this reason.
    Close(String),
}

impl From<Response> for Outcome {
    fn from(response: Response) -> Self {
        Self::Reply(response)
    }
}

/// The right and the duty to answer one request. Dropped unused, it closes the connection.
pub struct Responder {
    target: Option<(Arc<dyn ReplySink>, u64)>,
}

impl RequestContext {
    /// Takes the duty to answer; the handler then returns [`Outcome::Deferred`].
    pub fn defer(&self) -> Responder {
        Responder { target: Some((Arc::clone(&self.reply_to), self.sequence)) }
    }
}

impl Responder {
    /// Answers. May be called on any thread, also before the handler returns; call it outside of locks.
    pub fn send(mut self, response: Response) {
        if let Some((sink, sequence)) = self.target.take() {
            sink.reply(sequence, Ok(response));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some((sink, sequence)) = self.target.take() {
            sink.reply(sequence, Err("the request was dropped unanswered".to_owned()));
        }
    }
}

/// The APIs served by the core of the broker, in the order of their keys; the coordinators add [`group::SERVED`],
/// [`transaction::SERVED`] and [`share::SERVED`], administration [`admin::SERVED`].
const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::CreatePartitions,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTopicPartitions,
];

/// Whether ApiVersions lists `key`.
pub fn is_served(key: ApiKey) -> bool {
    SERVED.contains(&key)
        || group::SERVED.contains(&key)
        || transaction::SERVED.contains(&key)
        || share::SERVED.contains(&key)
        || admin::SERVED.contains(&key)
}

/// Whether a request of `key` is answered: those that ApiVersions lists, and a few more.
pub fn is_answered(key: ApiKey) -> bool {
    is_served(key) || admin::UNLISTED.contains(&key)
}

/// Hands a request of a supported version to its handler, on this thread.
pub fn dispatch(state: &Arc<BrokerState>, context: &RequestContext, request: Request) -> Outcome {
    match request {
        Request::Produce(body) => handlers::produce::handle(state, context, body),
        Request::Fetch(body) => handlers::fetch::handle(state, context, body),
        Request::ListOffsets(body) => handlers::list_offsets::handle(state, context, body),
        Request::Metadata(body) => handlers::metadata::handle(state, context, body),
        Request::ApiVersions(body) => handlers::api_versions::handle(state, context, body),
        Request::CreateTopics(body) => handlers::create_topics::handle(state, context, body),
        Request::DeleteTopics(body) => handlers::delete_topics::handle(state, context, body),
        Request::DeleteRecords(body) => handlers::delete_records::handle(state, context, body),
        Request::OffsetForLeaderEpoch(body) => handlers::offset_for_leader_epoch::handle(state, context, body),
        Request::DescribeConfigs(body) => handlers::describe_configs::handle(state, context, body),
        Request::AlterConfigs(body) => handlers::alter_configs::handle_replace(state, context, body),
        Request::CreatePartitions(body) => handlers::create_partitions::handle(state, context, body),
        Request::IncrementalAlterConfigs(body) => handlers::alter_configs::handle(state, context, body),
        Request::DescribeCluster(body) => handlers::describe_cluster::handle(state, context, body),
        Request::DescribeProducers(body) => handlers::describe_producers::handle(state, context, body),
        Request::DescribeTopicPartitions(body) => handlers::describe_topic_partitions::handle(state, context, body),
        other => {
            let tried = group::dispatch(state, context, other);
            let tried = tried.or_else(|other| transaction::dispatch(state, context, *other));
            let tried = tried.or_else(|other| share::dispatch(state, context, *other));
            match tried.or_else(|other| admin::dispatch(state, context, *other)) {
                Ok(outcome) => outcome,
                Err(refused) => Outcome::Close(format!("{} is not served", refused.api_key())),
            }
        }
    }
}
