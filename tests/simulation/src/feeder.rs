//! A producer that sends lines of random words.

use std::task::Waker;

use base::{Now, Rng};
use client::{Client, ClientError, ProducerConfig, ProducerCore, TopicHandle};

use protocol::record::HeadersRef;

use crate::topology::{LINES, Line};

/// The producer, for one life.
pub struct Feeder {
    producer: ProducerCore,
    topic: TopicHandle,
}

/// What is fed; outlives the machine.
pub struct Script {
    rng: Rng,
    next_id: u64,
    vocabulary: u64,
    /// Lines still to be sent.
    pub left: u64,
}

impl Script {
    /// Lines of `vocabulary` different words.
    pub fn new(rng: Rng, vocabulary: u64) -> Self {
        Self { rng, next_id: 0, vocabulary, left: 0 }
    }

    fn next_line(&mut self) -> Line {
        self.next_id += 1;
        self.left -= 1;
        let count = self.rng.below(6);
        // The smaller of two numbers: some words are frequent, some rare.
        let mut word = || format!("w{}", self.rng.below(self.vocabulary).min(self.rng.below(self.vocabulary)));
        Line { id: self.next_id, words: (0..count).map(|_| word()).collect() }
    }
}

impl Feeder {
    /// A producer for the input topic.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn new(client: Client, largest_batch_bytes: u64, rng: &mut Rng) -> Result<Self, ClientError> {
        let linger_ms = [0i64, 5, 20][rng.below(3) as usize];
        let batch_size = [100, 1_000, largest_batch_bytes][rng.below(3) as usize] as usize;
        let config = ProducerConfig::default().linger_ms(linger_ms).batch_size(batch_size);
        let mut producer = ProducerCore::new(client, config)?;
        let topic = producer.topic(LINES);
        Ok(Self { producer, topic })
    }

    /// Sends a few lines and what waits; whether it did anything.
    ///
    /// # Errors
    /// A line was refused or could not be written.
    pub fn step(&mut self, script: &mut Script, now: Now, waker: &Waker) -> Result<bool, ClientError> {
        let mut did_work = false;
        if script.left > 0 && self.producer.partition_count(self.topic).is_some() {
            for _ in 0..1 + script.rng.below(4).min(script.left - 1) {
                let line = script.next_line();
                // Without a key lines go to any partition, with one always to the same.
                let key = script.rng.chance(1, 2).then(|| format!("k{}", line.id % 5));
                let key = key.as_deref().map(str::as_bytes);
                self.producer.send(
                    self.topic,
                    None,
                    None,
                    key,
                    Some(line.text().as_bytes()),
                    HeadersRef::EMPTY,
                    now,
                )?;
                did_work = true;
            }
        }
        did_work |= self.producer.step(now, waker).did_work;
        match self.producer.take_error() {
            Some(error) => Err(error),
            None => Ok(did_work),
        }
    }

    /// Whether all that was sent is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.producer.unacked() == 0
    }
}
