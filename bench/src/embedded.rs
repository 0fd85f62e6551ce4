//! Runs with their own broker: its set-up, the load of the input, the check of the output.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use millstream::Client;
use millstream::base::TopicPartition;
use millstream::base::hash::HashMap;
use millstream::client::consumer::{Consumer, ConsumerConfig};
use millstream::prelude::*;

use crate::datasets::{Dataset, Datasets, Input, PARTITIONS, record_hash};
use crate::pump::Pump;
use crate::workloads::Workload;

/// A broker below `data_dir`. Kafka acknowledges before it syncs; `durability=process` does the same.
///
/// # Errors
/// The folder cannot be used.
pub fn broker(data_dir: &Path, durability: &str) -> Result<Embedded> {
    Ok(Embedded::builder(data_dir).set("durability", durability).set("log.retention.ms", -1).start()?)
}

/// The input topics of a workload in a broker of our own, in the order of its datasets.
pub fn inputs(workload: Workload) -> Vec<String> {
    workload.datasets().iter().map(|dataset| format!("in-{}", dataset.name())).collect()
}

/// Makes those topics and the output topic `output`, and writes the datasets of main size `n` to them.
///
/// # Errors
/// A topic could not be made, or a record not be written.
pub fn prepare(broker: &Embedded, workload: Workload, n: u64, output: &str) -> Result<()> {
    broker.create_topic(output, PARTITIONS)?;
    for (dataset, topic) in workload.datasets().iter().zip(inputs(workload)) {
        broker.create_topic(&topic, PARTITIONS)?;
        load(broker.client(), *dataset, n, &topic)?;
    }
    Ok(())
}

fn load(client: Client, dataset: Dataset, n: u64, topic: &str) -> Result<()> {
    let config = ProducerConfig::from_properties([("batch.size", "65536"), ("linger.ms", "5"), ("acks", "1")])?;
    let mut pump = Pump::new(client, config, topic)?;
    let datasets = Datasets::new();
    let mut input = Input::default();
    for index in 0..dataset.indexes(n) {
        if datasets.fill(dataset, index, &mut input) {
            let key = input.has_key.then_some(&input.key[..]);
            pump.send(input.partition, input.timestamp, key, &input.value)?;
        }
    }
    pump.finish()
}

/// What an output topic holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub updates: u64,
    /// Wrapping sum of the hashes of all records.
    pub updates_sum: u64,
    /// Last value of each key.
    table: HashMap<Vec<u8>, Vec<u8>>,
    is_table: bool,
}

impl Totals {
    /// Of a workload; the output of some is no table.
    pub fn of(workload: Workload) -> Self {
        Self { is_table: workload.makes_table(), ..Self::default() }
    }

    /// Takes one record in.
    pub fn add(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.updates += 1;
        self.updates_sum = self.updates_sum.wrapping_add(record_hash(key, value));
        let Some(key) = key.filter(|_| self.is_table) else { return };
        match value {
            Some(value) => drop(self.table.insert(key.to_owned(), value.to_owned())),
            None => drop(self.table.remove(key)),
        }
    }

    /// Takes the whole of `topic` in.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self, client: Client, topic: &str) -> Result<()> {
        let mut consumer =
            Consumer::new(client, ConsumerConfig::from_properties([("auto.offset.reset", "earliest")])?)?;
        let partitions: Vec<_> = (0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition)).collect();
        let ends = block_on(consumer.end_offsets(partitions.clone()))?;
        consumer.assign(partitions)?;
        let mut left: i64 = ends.into_iter().map(|(_, end)| end).sum();
        while left > 0 {
            let records = consumer.poll_blocking(Duration::from_secs(10))?;
            anyhow::ensure!(!records.is_empty(), "{topic}: {left} records could not be read within 10 s");
            left -= records.len() as i64;
            records.for_each(|_, record| self.add(record.key, record.value));
        }
        Ok(())
    }

    /// As the line `@CHECK` wants them.
    pub fn line(&self) -> String {
        let Self { updates, updates_sum, table, is_table } = self;
        if !is_table {
            return format!("{updates} {updates_sum} - -");
        }
        let sum = table.iter().fold(0u64, |sum, (key, value)| sum.wrapping_add(record_hash(Some(key), Some(value))));
        format!("{updates} {updates_sum} {} {sum}", table.len())
    }
}
