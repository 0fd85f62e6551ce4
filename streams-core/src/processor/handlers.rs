//! What happens to a record that cannot be read, processed or written: the exception handlers.

use base::{Offset, PartitionId, Timestamp};

use crate::task::TaskId;

/// What a handler decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorResponse {
    /// The task fails; the error reaches the uncaught-exception handler.
    Fail,
    /// The record is dropped, counted in `dropped-records`, and the task goes on.
    Resume,
}

/// Where the error happened.
#[derive(Clone, Debug)]
pub struct ErrorContext<'a> {
    /// The task.
    pub task: TaskId,
    /// The node: source, processor or sink.
    pub node: &'a str,
    /// Source topic of the record being processed; empty in punctuators. For production errors: the output topic.
    pub topic: &'a str,
    /// Its partition; -1 if none.
    pub partition: PartitionId,
    /// Its offset; -1 if none.
    pub offset: Offset,
    /// Its timestamp; -1 if unknown.
    pub timestamp: Timestamp,
}

/// Decides about a source record that could not be deserialised: `deserialization.exception.handler`.
pub trait DeserializationHandler: Send + Sync {
    /// Called once for each such record.
    fn handle(&self, context: &ErrorContext<'_>, error: &(dyn std::error::Error + 'static)) -> ErrorResponse;
}

/// Decides about an error returned by a processor or punctuator: `processing.exception.handler`.
pub trait ProcessingHandler: Send + Sync {
    /// Called once for each such error, for the node that returned it.
    fn handle(&self, context: &ErrorContext<'_>, error: &(dyn std::error::Error + 'static)) -> ErrorResponse;
}

/// Decides about an output record that could not be serialised or sent: `production.exception.handler`.
pub trait ProductionHandler: Send + Sync {
    /// Called once for each such record.
    fn handle(&self, context: &ErrorContext<'_>, error: &(dyn std::error::Error + 'static)) -> ErrorResponse;
}

/// Logs the error and fails the task; the default of all three.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAndFail;

/// Logs the error, drops the record and goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAndContinue;

macro_rules! built_in {
    ($handler:ident, $what:literal) => {
        impl $handler for LogAndFail {
            fn handle(&self, context: &ErrorContext<'_>, error: &(dyn std::error::Error + 'static)) -> ErrorResponse {
                tracing::error!(task = %context.task, node = context.node, topic = context.topic,
                    partition = context.partition, offset = context.offset, %error, concat!($what, " failed"));
                ErrorResponse::Fail
            }
        }

        impl $handler for LogAndContinue {
            fn handle(&self, context: &ErrorContext<'_>, error: &(dyn std::error::Error + 'static)) -> ErrorResponse {
                tracing::warn!(task = %context.task, node = context.node, topic = context.topic,
                    partition = context.partition, offset = context.offset, %error, concat!($what, " failed, record dropped"));
                ErrorResponse::Resume
            }
        }
    };
}

built_in!(DeserializationHandler, "deserialisation");
built_in!(ProcessingHandler, "processing");
built_in!(ProductionHandler, "production");
