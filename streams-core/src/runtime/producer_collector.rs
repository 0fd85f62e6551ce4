//! Where the output of a stream thread's tasks goes: straight into the open batches of the thread's own producer.
//!
//! Nothing blocks here. The thread steps the producer between rounds of processing and does not process while too much is unacknowledged
//! ([`ProducerCollector::is_congested`]), so `buffer.memory` only fills up when one round alone makes more output than fits.

use std::task::Waker;

use base::{Now, Offset, PartitionId};
use client::{Client, ClientError, ProducerConfig, ProducerCore, Step};

use crate::collector::{Collector, OutputRecord, TopicHandle};
use crate::error::{ErrorKind, StreamsError};

/// Processing pauses while so many bytes are unacknowledged.
const CONGESTED_BYTES: usize = 8 << 20;

/// A [`Collector`] over a producer.
pub struct ProducerCollector {
    producer: ProducerCore,
    /// The producer's handle of each topic, by our handle.
    topics: Vec<client::TopicHandle>,
    names: Vec<Box<str>>,
    /// Time of the round of processing that is under way.
    now: Now,
}

pub(crate) fn send_error(error: ClientError) -> StreamsError {
    let kind = match &error {
        ClientError::Fenced(_) => ErrorKind::TaskMigrated,
        ClientError::Unreachable { .. } | ClientError::Transport(_) | ClientError::Timeout { .. } => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Send,
    };
    StreamsError::caused_by(kind, error)
}

impl ProducerCollector {
    /// Sends through `client` with these settings.
    ///
    /// # Errors
    /// `Config` if the settings contradict each other.
    pub fn new(client: &Client, config: ProducerConfig) -> Result<Self, StreamsError> {
        let now = client.now();
        let producer = ProducerCore::new(client.clone(), config)
            .map_err(|error| StreamsError::caused_by(ErrorKind::Config, error))?;
        Ok(Self { producer, topics: Vec::new(), names: Vec::new(), now })
    }

    /// Sets the time that records without timestamp get.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// Sends what is due and settles what was answered.
    ///
    /// # Errors
    /// A record could not be written: the tasks may not commit beyond it.
    pub fn step(&mut self, now: Now, waker: &Waker) -> Result<Step, StreamsError> {
        self.now = now;
        if self.unknown_topic().is_some() && self.producer.client().metadata_version() > 0 {
            // A topic may be about to be created; without records for it the producer does not ask again.
            self.producer.client().refresh_metadata();
        }
        let step = self.producer.step(now, waker);
        match self.producer.take_error() {
            Some(error) => Err(send_error(error)),
            None => Ok(step),
        }
    }

    /// Whether processing should wait for acknowledgements.
    pub fn is_congested(&self) -> bool {
        self.producer.buffered_bytes() >= CONGESTED_BYTES
    }

    /// Name of the first topic whose partitions are not known yet; tasks start once there is none.
    pub fn unknown_topic(&self) -> Option<&str> {
        let unknown = self.topics.iter().position(|topic| self.producer.partition_count(*topic).is_none())?;
        Some(&self.names[unknown])
    }

    /// The producer, for flushing.
    pub fn producer(&mut self) -> &mut ProducerCore {
        &mut self.producer
    }
}

impl Collector for ProducerCollector {
    fn topic(&mut self, topic: &str) -> TopicHandle {
        let handle = self.producer.topic(topic);
        let index = match self.topics.iter().position(|known| *known == handle) {
            Some(index) => index,
            None => {
                self.topics.push(handle);
                self.names.push(topic.into());
                self.topics.len() - 1
            }
        };
        TopicHandle(index as u32)
    }

    fn partition_count(&mut self, topic: TopicHandle) -> Option<PartitionId> {
        self.producer.partition_count(*self.topics.get(topic.0 as usize)?)
    }

    #[inline]
    fn send(&mut self, record: OutputRecord<'_>) -> Result<(), StreamsError> {
        let OutputRecord { topic, partition, key, value, timestamp, headers } = record;
        let Some(&handle) = self.topics.get(topic.0 as usize) else {
            return Err(StreamsError::new(ErrorKind::IllegalState, "the topic handle belongs to another collector"));
        };
        match self.producer.send(handle, partition, timestamp, key, value, headers, self.now) {
            Ok(_) => Ok(()),
            Err(ClientError::BufferFull { .. }) => {
                // One round made more output than fits: what the broker takes at once makes room.
                let _ = self.producer.step(self.now, Waker::noop());
                let again = self.producer.send(handle, partition, timestamp, key, value, headers, self.now);
                again.map(|_| ()).map_err(send_error)
            }
            Err(error) => Err(send_error(error)),
        }
    }

    fn acked_offset(&self, topic: TopicHandle, partition: PartitionId) -> Option<Offset> {
        self.producer.acked_offset(*self.topics.get(topic.0 as usize)?, partition)
    }
}
