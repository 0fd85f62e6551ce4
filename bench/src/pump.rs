//! A producer that fills topics from one thread: records are made in place, sent, and the program waits only when the producer is full.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Result;
use millstream::base::Timestamp;
use millstream::client::producer::{ProducerCore, TopicHandle};
use millstream::client::{Client, ClientError};
use millstream::prelude::ProducerConfig;
use millstream::protocol::record::Headers;

/// Longest wait for an answer before the producer is stepped again.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// See above.
pub struct Pump {
    client: Client,
    producer: ProducerCore,
    topic: TopicHandle,
    waker: Waker,
    headers: Headers,
}

impl Pump {
    /// Fills `topic`.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn new(client: Client, config: ProducerConfig, topic: &str) -> Result<Self> {
        let mut producer = ProducerCore::new(client.clone(), config)?;
        let topic = producer.topic(topic);
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        Ok(Self { client, producer, topic, waker, headers: Headers::default() })
    }

    /// Sends what is due and takes answers; whether anything happened.
    ///
    /// # Errors
    /// A record could not be written.
    pub fn step(&mut self) -> Result<bool> {
        let step = self.producer.step(self.client.now(), &self.waker);
        match self.producer.take_error() {
            Some(error) => Err(error.into()),
            None => Ok(step.did_work),
        }
    }

    /// Sends a record; waits while the producer's memory is full.
    ///
    /// # Errors
    /// The record is refused, or one before it could not be written.
    pub fn send(
        &mut self,
        partition: Option<i32>,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<()> {
        loop {
            let now = self.client.now();
            let (topic, value) = (self.topic, Some(value));
            match self.producer.send(topic, partition, Some(timestamp), key, value, &self.headers, now) {
                Ok(status) => {
                    if status.is_ready() {
                        self.step()?;
                    }
                    return Ok(());
                }
                Err(ClientError::BufferFull { .. } | ClientError::MetadataPending { .. }) => {
                    if !self.step()? {
                        std::thread::park_timeout(LONGEST_WAIT);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// A record could not be written.
    pub fn finish(&mut self) -> Result<()> {
        let mark = self.producer.begin_flush();
        while !self.producer.is_flush_done(mark) {
            if !self.step()? {
                std::thread::park_timeout(LONGEST_WAIT);
            }
        }
        Ok(())
    }
}
