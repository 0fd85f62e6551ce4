//! What happens to a record that cannot be read, processed or written: the exception handlers.
//!
//! A handler is told where the error happened ([`ErrorContext`]) and says what becomes of the record ([`ErrorResponse`]): whether the task
//! goes on, and which records go to dead letter topics. The built-in ones write there what Kafka Streams' built-in ones write.

use std::error::Error;
use std::fmt::Write;

use base::{Offset, PartitionId, Timestamp};
use bytes::Bytes;
use protocol::record::Headers;

use crate::error::ErrorKind;
use crate::task::TaskId;

/// Whether the task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorResult {
    /// The task fails; the error reaches the uncaught-exception handler.
    Fail,
    /// The record is dropped, counted in `dropped-records`, and the task goes on.
    Resume,
}

/// What a handler decides: whether the task goes on, and what is written to dead letter topics before it does.
///
/// ```
/// use streams_core::processor::handlers::{
///     DeadLetter, DeserializationHandler, ErrorContext, ErrorResponse, ErrorResult, LogAndContinue,
/// };
///
/// /// Keeps what cannot be read in a topic of its own, as it was read.
/// struct Quarantine;
///
/// impl DeserializationHandler for Quarantine {
///     fn handle(&self, context: &ErrorContext<'_>, _: &(dyn std::error::Error + 'static)) -> ErrorResponse {
///         let copy = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
///         ErrorResponse::resume().with_dead_letters([DeadLetter {
///             key: copy(context.source_raw_key),
///             value: copy(context.source_raw_value),
///             headers: context.headers.clone(),
///             ..DeadLetter::to("quarantine")
///         }])
///     }
/// }
///
/// let response = ErrorResponse::resume().with_dead_letters([DeadLetter::to("quarantine")]);
/// assert_eq!(response.result(), ErrorResult::Resume);
/// assert_eq!(response.dead_letters()[0].topic, "quarantine");
/// let _ = streams_core::StreamsConfig::new("app").with_deserialization_handler(Quarantine);
/// ```
#[derive(Clone, Debug)]
pub struct ErrorResponse {
    result: ErrorResult,
    dead_letters: Vec<DeadLetter>,
}

impl ErrorResponse {
    /// The task fails.
    pub fn fail() -> Self {
        Self { result: ErrorResult::Fail, dead_letters: Vec::new() }
    }

    /// The record is dropped, the task goes on.
    pub fn resume() -> Self {
        Self { result: ErrorResult::Resume, dead_letters: Vec::new() }
    }

    /// And these records are written, after those it has already. They go the way of all output, so those of a response that lets the task
    /// fail are written, but not in a transaction that is committed.
    #[must_use]
    pub fn with_dead_letters(mut self, records: impl IntoIterator<Item = DeadLetter>) -> Self {
        self.dead_letters.extend(records);
        self
    }

    /// Whether the task goes on.
    pub fn result(&self) -> ErrorResult {
        self.result
    }

    /// What is written.
    pub fn dead_letters(&self) -> &[DeadLetter] {
        &self.dead_letters
    }
}

/// A record for a dead letter topic. The topic must exist: it is not created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it goes.
    pub topic: String,
    /// Partition; `None` leaves the choice to the producer's partitioner.
    pub partition: Option<PartitionId>,
    /// Event time; `None` lets the producer stamp its wall clock.
    pub timestamp: Option<Timestamp>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Headers,
}

impl DeadLetter {
    /// An empty record for `topic`.
    pub fn to(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }
}

/// Where the error happened.
///
/// What is said of the source record is that of the record being processed; of updates that waited in a cache it is where they came from,
/// without the raw bytes, and in punctuators there is none.
#[derive(Clone, Debug)]
pub struct ErrorContext<'a> {
    /// The task.
    pub task: TaskId,
    /// The node: source, processor or sink.
    pub node: &'a str,
    /// Topic of the source record; empty if none.
    pub topic: &'a str,
    /// Its partition; -1 if none.
    pub partition: PartitionId,
    /// Its offset; -1 if none.
    pub offset: Offset,
    /// Timestamp of the record that failed; -1 if unknown.
    pub timestamp: Timestamp,
    /// Headers of the source record.
    pub headers: &'a Headers,
    /// Key of the source record as it was read; of a task behind a repartition topic, as it was read from there.
    pub source_raw_key: Option<&'a [u8]>,
    /// Value of the source record as it was read.
    pub source_raw_value: Option<&'a [u8]>,
    /// For production errors: the topic that was to be written.
    pub output_topic: Option<&'a str>,
    /// `errors.dead.letter.queue.topic.name`.
    pub dead_letter_topic: Option<&'a str>,
    pub(crate) kind: ErrorKind,
}

impl ErrorContext<'_> {
    /// The record that the built-in handlers write to the topic of `errors.dead.letter.queue.topic.name`, if that is set: raw key and value of
    /// the source record, its headers, and behind them what went wrong in the headers `__streams.errors.exception`, `.message`,
    /// `.stacktrace`, `.topic`, `.partition` and `.offset`.
    pub fn dead_letter(&self, error: &(dyn Error + 'static)) -> Option<DeadLetter> {
        let topic = self.dead_letter_topic?.to_owned();
        let mut headers = self.headers.clone();
        let mut add = |name: &str, text: Option<String>| {
            headers.add(format!("__streams.errors.{name}"), text.map(|text| Bytes::from(text.into_bytes())));
        };
        add("exception", Some(format!("{:?}", self.kind)));
        add("message", Some(error.to_string()));
        add("stacktrace", Some(trace(error)));
        add("topic", Some(self.topic.to_owned()).filter(|topic| !topic.is_empty()));
        add("partition", Some(self.partition.to_string()));
        add("offset", Some(self.offset.to_string()));
        Some(DeadLetter {
            topic,
            partition: None,
            timestamp: Some(self.timestamp).filter(|timestamp| *timestamp >= 0),
            key: self.source_raw_key.map(<[u8]>::to_vec),
            value: self.source_raw_value.map(<[u8]>::to_vec),
            headers,
        })
    }
}

/// The error and what it was caused by, one a line.
fn trace(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, "\ncaused by: {error}");
        cause = error.source();
    }
    text
}

/// Decides about a source record that could not be deserialised: `deserialization.exception.handler`.
pub trait DeserializationHandler: Send + Sync {
    /// Called once for each such record.
    fn handle(&self, context: &ErrorContext<'_>, error: &(dyn Error + 'static)) -> ErrorResponse;
}

/// Decides about an error returned by a processor or punctuator: `processing.exception.handler`.
pub trait ProcessingHandler: Send + Sync {
    /// Called once for each such error, for the node that returned it.
    fn handle(&self, context: &ErrorContext<'_>, error: &(dyn Error + 'static)) -> ErrorResponse;
}

/// Decides about an output record that could not be serialised or sent: `production.exception.handler`.
pub trait ProductionHandler: Send + Sync {
    /// Called once for each such record.
    fn handle(&self, context: &ErrorContext<'_>, error: &(dyn Error + 'static)) -> ErrorResponse;
}

/// Logs the error, writes [`ErrorContext::dead_letter`] and fails the task; the default of all three.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAndFail;

/// Logs the error, writes [`ErrorContext::dead_letter`], drops the record and goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAndContinue;

macro_rules! built_in {
    ($handler:ident, $what:literal) => {
        impl $handler for LogAndFail {
            fn handle(&self, context: &ErrorContext<'_>, error: &(dyn Error + 'static)) -> ErrorResponse {
                tracing::error!(task = %context.task, node = context.node, topic = context.topic,
                    partition = context.partition, offset = context.offset, %error, concat!($what, " failed"));
                ErrorResponse::fail().with_dead_letters(context.dead_letter(error))
            }
        }

        impl $handler for LogAndContinue {
            fn handle(&self, context: &ErrorContext<'_>, error: &(dyn Error + 'static)) -> ErrorResponse {
                tracing::warn!(task = %context.task, node = context.node, topic = context.topic,
                    partition = context.partition, offset = context.offset, %error, concat!($what, " failed, record dropped"));
                ErrorResponse::resume().with_dead_letters(context.dead_letter(error))
            }
        }
    };
}

built_in!(DeserializationHandler, "deserialisation");
built_in!(ProcessingHandler, "processing");
built_in!(ProductionHandler, "production");
