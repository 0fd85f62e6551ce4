//! A producer and a consumer on one partition, whose records say when they were sent: what both latency measurements share.
//!
//! A value begins with the number of the run and the microsecond at which it was sent, 8 bytes each.

use base::{Clock, SystemClock, TopicPartition};
use bytes::Bytes;
use client::consumer::{Consumer, ConsumerConfig, ConsumerRecords, OffsetSpec};
use client::{Admin, ClientConfig, Producer, ProducerConfig, ProducerRecord, block_on};

use super::{connect, ensure_topic, produce, settings_for};
use crate::options::ProbeOptions;
use crate::report::Failure;

pub(super) struct Probe {
    pub(super) producer: Producer,
    pub(super) consumer: Consumer,
    pub(super) clock: SystemClock,
    partition: TopicPartition,
    run: u64,
    filling: Bytes,
}

impl Probe {
    /// Both ends on partition 0 of the topic, which is made if it is not there; the consumer stands at its end.
    pub(super) fn new(options: &ProbeOptions, mut producing: ProducerConfig) -> Result<Self, Failure> {
        let topic = options.topic.as_str();
        let known = [ProducerConfig::NAMES, ConsumerConfig::NAMES, ClientConfig::NAMES];
        let [of_producer, of_consumer, of_client] = settings_for(&options.settings, known)?;
        let refused = |error: client::ClientError| Failure::usage(error.to_string());
        of_producer.iter().try_for_each(|(key, value)| producing.set(key, value)).map_err(refused)?;
        let consuming = ConsumerConfig::from_properties(of_consumer).map_err(refused)?;
        let client = connect(&options.result.cluster, &of_client)?;
        ensure_topic(&Admin::new(client.clone()), topic)?;
        let mut rng = client.fork_rng();
        let partition = TopicPartition::new(topic, 0);
        let mut consumer = Consumer::new(client.clone(), consuming).map_err(refused)?;
        consumer.assign([partition.clone()])?;
        consumer.seek_to(std::slice::from_ref(&partition), OffsetSpec::Latest)?;
        let ends = block_on(consumer.end_offsets(vec![partition.clone()]))?;
        ends.iter().try_for_each(|(partition, end)| consumer.seek(partition, *end))?;
        Ok(Self {
            run: rng.next_u64(),
            filling: produce::random(rng, options.size as usize),
            producer: Producer::new(client, producing).map_err(refused)?,
            consumer,
            clock: SystemClock::new(),
            partition,
        })
    }

    /// The next record, sent now.
    pub(super) fn record(&self) -> ProducerRecord {
        let mut value = self.filling.to_vec();
        value[..8].copy_from_slice(&self.run.to_be_bytes());
        value[8..16].copy_from_slice(&self.clock.ticks_us().to_be_bytes());
        ProducerRecord::to(self.partition.topic.clone()).partition(self.partition.partition).value(value)
    }

    /// Calls `each` with the microsecond at which each of this run's records was sent.
    pub(super) fn sent_at(run: u64, records: &ConsumerRecords, mut each: impl FnMut(u64)) {
        records.for_each(|_, record| {
            let Some((of, rest)) = record.value.and_then(|value| value.split_first_chunk::<8>()) else { return };
            let Some(sent) = rest.first_chunk::<8>() else { return };
            if u64::from_be_bytes(*of) == run {
                each(u64::from_be_bytes(*sent));
            }
        });
    }

    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// Closes both ends.
    pub(super) fn close(self) -> Result<(), Failure> {
        self.producer.close_blocking()?;
        Ok(self.consumer.close_blocking()?)
    }
}
