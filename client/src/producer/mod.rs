//! Writes topics.

use base::{Now, Offset, PartitionId};
use std::task::Waker;

use crate::client::Client;
use crate::config::{at_least, properties};
use crate::error::ClientError;
use crate::step::Step;

properties! {
    /// Settings of a producer.
    pub struct ProducerConfig {
        /// Bytes at which an open batch is closed and sent.
        "batch.size" => batch_size: usize = 16_384;
        /// How long an open batch waits for more records.
        "linger.ms" => linger_ms: i64 = 5, check at_least!(0);
    }
}

/// A topic of one [`ProducerCore`]; saves the look-up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicHandle(pub(crate) u32);

/// Writes records; stepped by its owner.
pub struct ProducerCore {
    client: Client,
}

impl ProducerCore {
    /// A producer on `client`.
    ///
    /// # Errors
    /// `Config` if settings contradict each other.
    pub fn new(client: Client, config: ProducerConfig) -> Result<Self, ClientError> {
        config.check()?;
        Ok(Self { client })
    }

    /// The handle of a topic.
    pub fn topic(&mut self, _name: &str) -> TopicHandle {
        TopicHandle(0)
    }

    /// How many partitions the topic has, once that is known.
    pub fn partition_count(&self, _topic: TopicHandle) -> Option<i32> {
        None
    }

    /// Offset of the last record acknowledged.
    pub fn acked_offset(&self, _topic: TopicHandle, _partition: PartitionId) -> Option<Offset> {
        None
    }

    /// Records sent and not yet acknowledged.
    pub fn unacked(&self) -> usize {
        0
    }

    /// Bytes held for records not yet acknowledged.
    pub fn buffered_bytes(&self) -> usize {
        0
    }

    /// Sends what is ready, settles what was answered.
    pub fn step(&mut self, now: Now, waker: &Waker) -> Step {
        self.client.step(now, waker)
    }

    /// Closes all open batches: they go out at the next step, without waiting for `linger.ms`.
    pub fn begin_flush(&mut self) {}

    /// Whether everything sent so far is settled.
    pub fn is_flushed(&self) -> bool {
        true
    }

    /// The next error that nobody was told yet.
    pub fn take_error(&mut self) -> Option<ClientError> {
        None
    }

    /// Flushes, and refuses further records.
    pub fn begin_close(&mut self) {}
}
