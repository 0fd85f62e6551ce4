//! The client's one error type, cut by what the caller can do about it.

use base::{Offset, TopicPartition};
use protocol::api::ErrorCode;
use protocol::transport::TransportError;

/// Why something was not done. Every message names what it is about and, where there is one, the way out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// A setting is unknown or out of range: correct it.
    #[error("configuration: {0}")]
    Config(String),
    /// The call was wrong: correct it; nothing has changed.
    #[error("{0}")]
    Invalid(String),
    /// No broker could be reached within the time allowed: start one, or correct the address.
    #[error("no broker at {address}: {reason}")]
    Unreachable {
        /// The addresses tried.
        address: String,
        /// What the last attempt ended with, and how long was tried.
        reason: String,
    },
    /// The time allowed was over before the work was done; it may or may not have taken effect.
    #[error("{what} did not complete within {after_ms} ms{}", because(.reason))]
    Timeout {
        /// What was waited for.
        what: String,
        /// The time allowed.
        after_ms: i64,
        /// The last failure met on the way.
        reason: Option<String>,
    },
    /// The connection failed under a request; it may or may not have been served. Trying again is in order.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A broker answered with an error code.
    #[error("{what}: {}{}", code.name(), because(.message))]
    Broker {
        /// What the answer is about: a topic-partition, a group, a topic, and what was being done.
        what: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker added.
        message: Option<String>,
    },
    /// Records of one partition were not acknowledged and will not be sent again.
    #[error("{partition}: {records} record(s) not written: {reason}; {advice}")]
    NotWritten {
        /// The partition.
        partition: TopicPartition,
        /// How many records of the batch are lost to the caller.
        records: usize,
        /// Kafka's error code, if a broker refused them.
        code: Option<ErrorCode>,
        /// Why.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// `buffer.memory` is full: step or wait until records are acknowledged, then send again.
    #[error("buffer.memory ({limit_bytes} bytes) is full of records that are not yet acknowledged")]
    BufferFull {
        /// The bound.
        limit_bytes: usize,
    },
    /// The topic's partitions are not known yet: step or wait, then send again.
    #[error("the partitions of {topic} are not known yet")]
    MetadataPending {
        /// The topic.
        topic: String,
    },
    /// Stored bytes are not what a producer wrote.
    #[error("{partition} at offset {offset}: {reason}")]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// Where reading failed.
        offset: Offset,
        /// What is wrong with the bytes.
        reason: String,
    },
    /// A newer instance took over this identity (transactional id, member id, group instance id): stop.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The open transaction cannot be committed: abort it, then begin another.
    #[error("{reason}; abort the transaction")]
    Abortable {
        /// Kafka's error code, if a broker said so.
        code: Option<ErrorCode>,
        /// Why.
        reason: String,
    },
    /// No group member any more, or an old generation: rejoin.
    #[error("{0}")]
    Rebalanced(String),
    /// The broker in this process has failed, and with it everything that asks it: mend the cause, start again.
    #[error("{0}")]
    BrokerFailed(String),
    /// The broker is too old or too new for what was asked.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The producer, consumer or client was closed.
    #[error("{0} is closed")]
    Closed(&'static str),
}

/// What a transactional producer can do about an error, by KIP-1050.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionErrorClass {
    /// Do the same again.
    Retriable,
    /// Abort the transaction, then begin another.
    Abortable,
    /// Close this producer and go on with another one; another instance of the application may have taken over.
    ApplicationRecoverable,
    /// Correct settings, rights or the call.
    InvalidConfiguration,
}

fn because(reason: &Option<String>) -> String {
    match reason {
        Some(reason) if !reason.is_empty() => format!(" ({reason})"),
        _ => String::new(),
    }
}

impl ClientError {
    /// A broker's error code about `what`, with the broker's own words if it sent some.
    pub fn broker(what: impl Into<String>, code: ErrorCode, message: Option<String>) -> Self {
        Self::Broker { what: what.into(), code, message }
    }

    /// A response of another kind, or without the parts it must have.
    pub fn malformed(address: &str, reason: impl Into<String>) -> Self {
        Self::Transport(TransportError::Malformed { address: address.into(), reason: reason.into() })
    }

    /// The broker's error code, if one is the reason.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            Self::NotWritten { code, .. } | Self::Abortable { code, .. } => *code,
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Broker { code, .. } => code.is_retriable(),
            Self::Transport(TransportError::Disconnected { .. })
            | Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::BufferFull { .. }
            | Self::MetadataPending { .. }
            | Self::Rebalanced(_) => true,
            _ => false,
        }
    }

    /// What a transactional producer can do about it.
    pub fn transaction_class(&self) -> TransactionErrorClass {
        match self {
            Self::Abortable { .. } | Self::NotWritten { .. } => TransactionErrorClass::Abortable,
            Self::Fenced(_) | Self::Closed(_) => TransactionErrorClass::ApplicationRecoverable,
            error if error.is_retriable() => TransactionErrorClass::Retriable,
            Self::Broker { code: ErrorCode::InvalidProducerIdMapping | ErrorCode::UnknownProducerId, .. } => {
                TransactionErrorClass::ApplicationRecoverable
            }
            _ => TransactionErrorClass::InvalidConfiguration,
        }
    }

    /// Whether the coordinator is elsewhere, or not there yet: forget it and ask again.
    pub fn coordinator_moved(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress)
        )
    }
}
