//! Where the output of a stream thread's tasks goes: straight into the open batches of the thread's own producer.
//!
//! Nothing blocks here: output to a topic whose partitions are not known yet is kept until they are ([`super::held_records`]). The thread steps the producer between rounds of processing and does not process while too much is unacknowledged
//! ([`ProducerCollector::is_congested`]), so `buffer.memory` only fills up when one round alone makes more output than fits.

use std::task::Waker;

use base::{Now, Offset, PartitionId};
use client::{Client, ClientError, ProducerConfig, ProducerCore, Step};

use super::held_records::{HeldRecords, Partitions, not_known_in_time};
use crate::collector::{ChoosePartitions, Collector, OutputRecord, TopicHandle};
use crate::error::{ErrorKind, StreamsError};

/// Processing pauses while so many bytes are unacknowledged.
const CONGESTED_BYTES: usize = 8 << 20;

/// A [`Collector`] over a producer.
pub struct ProducerCollector {
    producer: ProducerCore,
    /// The producer's handle of each topic, by our handle.
    topics: Vec<client::TopicHandle>,
    names: Vec<Box<str>>,
    /// Output to topics whose partitions are not known yet.
    held: HeldRecords,
    /// How long it waits: `max.block.ms`.
    max_block_ms: i64,
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
        let (now, max_block_ms) = (client.now(), config.max_block_ms);
        let producer = ProducerCore::new(client.clone(), config)
            .map_err(|error| StreamsError::caused_by(ErrorKind::Config, error))?;
        Ok(Self { producer, topics: Vec::new(), names: Vec::new(), held: HeldRecords::default(), max_block_ms, now })
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
        let mut step = self.producer.step(now, waker);
        if !self.held.is_empty() {
            self.release_held()?;
            step = step.and(self.producer.step(now, waker));
            if let Some((_, since_ticks_ms)) = self.held.waiting().next() {
                step = step.wake_at(since_ticks_ms.saturating_add(self.max_block_ms).saturating_add(1));
            }
        }
        match self.producer.take_error() {
            Some(error) => Err(send_error(error)),
            None => Ok(step),
        }
    }

    /// Whether output waits until the partitions of its topic are known: a flush does not cover it.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sends what waits for topics that are known by now.
    fn release_held(&mut self) -> Result<(), StreamsError> {
        let mut held = std::mem::take(&mut self.held);
        let released = self.release(&mut held);
        self.held = held;
        released
    }

    fn release(&mut self, held: &mut HeldRecords) -> Result<(), StreamsError> {
        while let Some(record) = held.take_known(|topic| self.known_partitions(topic).is_some()) {
            let (topic, count) = (record.topic, self.known_partitions(record.topic).unwrap_or(0));
            let (record, choice) = record.choose(count);
            self.send_to(record.output(topic), choice)?;
        }
        for (topic, since_ticks_ms) in held.waiting() {
            let Some(&handle) = self.topics.get(topic.0 as usize) else { continue };
            match self.producer.topic_failure(handle) {
                Some(ClientError::MetadataPending { topic })
                    if self.now.ticks_ms - since_ticks_ms > self.max_block_ms =>
                {
                    return Err(not_known_in_time(&topic, self.max_block_ms));
                }
                Some(ClientError::MetadataPending { .. }) | None => {}
                Some(failure) => return Err(send_error(failure)),
            }
        }
        Ok(())
    }

    fn known_partitions(&self, topic: TopicHandle) -> Option<PartitionId> {
        self.producer.partition_count(*self.topics.get(topic.0 as usize)?)
    }

    /// Whether processing should wait for acknowledgements.
    pub fn is_congested(&self) -> bool {
        self.is_holding() || self.producer.buffered_bytes() >= CONGESTED_BYTES
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
        self.known_partitions(topic)
    }

    #[inline]
    fn send(&mut self, record: OutputRecord<'_>) -> Result<(), StreamsError> {
        let OutputRecord { topic, partition, key, value, timestamp, headers } = record;
        let Some(&handle) = self.topics.get(topic.0 as usize) else {
            return Err(StreamsError::new(ErrorKind::IllegalState, "the topic handle belongs to another collector"));
        };
        if !self.held.is_empty() && self.held.waiting().any(|(waiting, _)| waiting == topic) {
            self.held.hold(record, Partitions::Given(partition), self.now);
            return Ok(());
        }
        match self.producer.send(handle, partition, timestamp, key, value, headers, self.now) {
            Ok(_) => Ok(()),
            Err(ClientError::MetadataPending { .. }) => {
                self.held.hold(record, Partitions::Given(partition), self.now);
                Ok(())
            }
            Err(ClientError::BufferFull { .. }) => {
                // One round made more output than fits: what the broker takes at once makes room.
                let _ = self.producer.step(self.now, Waker::noop());
                let again = self.producer.send(handle, partition, timestamp, key, value, headers, self.now);
                again.map(|_| ()).map_err(send_error)
            }
            Err(error) => Err(send_error(error)),
        }
    }

    fn send_once_known(&mut self, record: OutputRecord<'_>, choose: ChoosePartitions) -> Result<(), StreamsError> {
        self.held.hold(record, Partitions::Chosen(choose), self.now);
        Ok(())
    }

    fn acked_offset(&self, topic: TopicHandle, partition: PartitionId) -> Option<Offset> {
        self.producer.acked_offset(*self.topics.get(topic.0 as usize)?, partition)
    }
}
