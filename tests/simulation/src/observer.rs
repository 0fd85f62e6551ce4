//! A consumer that reads every topic from its beginning, in each life anew, and tells the ledger what it is shown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Waker;

use base::{Now, TopicPartition};
use broker::Broker;
use client::consumer::{ConsumerConfig, ConsumerCore, ConsumerEvent, OffsetReset};
use client::{Client, ClientError};
use parking_lot::Mutex;

use crate::ledger::Ledger;
use crate::network::read_records;

/// The consumer.
pub struct Observer {
    consumer: ConsumerCore,
    broker: Broker,
    ledger: Arc<Mutex<Ledger>>,
    assigned: BTreeSet<TopicPartition>,
}

impl Observer {
    /// An observer of `broker`, which it reaches by `client`.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn new(client: Client, broker: Broker, ledger: Arc<Mutex<Ledger>>) -> Result<Self, ClientError> {
        let config = ConsumerConfig::default().auto_offset_reset(OffsetReset::Earliest).enable_auto_commit(false);
        Ok(Self { consumer: ConsumerCore::new(client, config)?, broker, ledger, assigned: BTreeSet::new() })
    }

    /// Names of the topics that are not the broker's own.
    pub fn topics(&self) -> BTreeSet<String> {
        let image = self.broker.state().metadata.current();
        image.topics().map(|topic| topic.name.to_string()).filter(|name| !name.starts_with("__")).collect()
    }

    fn assign_all(&mut self) -> Result<(), ClientError> {
        let image = self.broker.state().metadata.current();
        let all: BTreeSet<TopicPartition> = image
            .topics()
            .filter(|topic| !topic.name.starts_with("__"))
            .flat_map(|topic| {
                let count = topic.partitions.len() as i32;
                (0..count).map(|index| TopicPartition::new(Arc::clone(&topic.name), index))
            })
            .collect();
        if all != self.assigned {
            self.consumer.assign(all.iter().cloned())?;
            self.assigned = all;
        }
        Ok(())
    }

    /// Reads on; whether there was anything.
    ///
    /// # Errors
    /// What the consumer cannot go on from by itself.
    pub fn step(&mut self, now: Now, waker: &Waker) -> Result<bool, ClientError> {
        self.assign_all()?;
        let mut did_work = self.consumer.step(now, waker).did_work;
        if let Some(error) = self.consumer.take_error() {
            return Err(error);
        }
        for event in self.consumer.take_events() {
            let mut ledger = self.ledger.lock();
            match event {
                ConsumerEvent::Truncated { partition, position, offset } => {
                    ledger.violated(format!("{partition} was truncated to {offset}; {position} had been shown"));
                }
                ConsumerEvent::OutOfRange { partition, offset } => {
                    ledger.trace.tell(format_args!("observed: {partition} no longer has {offset}"));
                }
                _ => {}
            }
        }
        while let Some(fetched) = self.consumer.take_fetched() {
            did_work = true;
            let mut records = read_records(&fetched.batches);
            records.retain(|(offset, _)| *offset >= fetched.fetch_offset);
            self.ledger.lock().seen(
                &fetched.partition,
                fetched.fetch_offset,
                fetched.next_offset,
                fetched.log_start_offset,
                records,
            );
        }
        Ok(did_work)
    }

    /// Whether it has read to the end of every partition.
    pub fn is_at_end(&self) -> bool {
        self.assigned.iter().all(|partition| self.consumer.lag(partition) == Some(0))
    }

    /// Whether it has read all that the ledger knows of.
    pub fn has_read_all_known(&self) -> bool {
        let ledger = self.ledger.lock();
        self.assigned.iter().all(|partition| self.consumer.position(partition).unwrap_or(0) >= ledger.end(partition))
    }

    /// Tells the ledger where the partitions end, once [`Observer::is_at_end`].
    pub fn tell_ends(&self) {
        for partition in &self.assigned {
            if let Some(end) = self.consumer.position(partition) {
                self.ledger.lock().end_found(partition, end);
            }
        }
    }
}
