//! What became of a record: one outcome per batch, shared by the tickets of its records.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use base::{Offset, PartitionId, Timestamp, TopicName};
use parking_lot::Mutex;

use crate::error::ClientError;

/// Where a record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Topic.
    pub topic: TopicName,
    /// Partition.
    pub partition: PartitionId,
    /// Offset; -1 with `acks=0`, or if the broker had it already and no longer knows where.
    pub offset: Offset,
    /// The record's timestamp, or when the broker appended it, if the topic wants that.
    pub timestamp: Timestamp,
}

/// What a broker said about a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub base_offset: Offset,
    pub log_append_time_ms: Timestamp,
}

/// The outcome of one batch.
pub(super) struct Outcome {
    pub topic: TopicName,
    pub partition: PartitionId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    result: Option<Result<Written, ClientError>>,
    wakers: Vec<Waker>,
}

impl Outcome {
    pub(super) fn new(topic: TopicName, partition: PartitionId) -> Arc<Self> {
        Arc::new(Self { topic, partition, state: Mutex::default() })
    }

    pub(super) fn settle(&self, result: Result<Written, ClientError>) {
        let wakers = {
            let mut state = self.state.lock();
            state.result.get_or_insert(result);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One record under way: a future of where it was written, or why not. Dropping it changes nothing for the record.
pub struct Ticket {
    pub(super) outcome: Arc<Outcome>,
    pub(super) index: u32,
    pub(super) timestamp: Timestamp,
}

impl Ticket {
    /// The partition that the record goes to.
    pub fn partition(&self) -> PartitionId {
        self.outcome.partition
    }

    /// The result, if it is known.
    pub fn try_result(&self) -> Option<Result<RecordMetadata, ClientError>> {
        let state = self.outcome.state.lock();
        state.result.as_ref().map(|result| self.result_of(result))
    }

    fn result_of(&self, result: &Result<Written, ClientError>) -> Result<RecordMetadata, ClientError> {
        match result {
            Ok(written) => Ok(RecordMetadata {
                topic: Arc::clone(&self.outcome.topic),
                partition: self.outcome.partition,
                offset: if written.base_offset < 0 { -1 } else { written.base_offset + i64::from(self.index) },
                timestamp: if written.log_append_time_ms >= 0 { written.log_append_time_ms } else { self.timestamp },
            }),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Future for Ticket {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.outcome.state.lock();
        if let Some(result) = &state.result {
            return Poll::Ready(self.result_of(result));
        }
        if !state.wakers.iter().any(|known| known.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}
