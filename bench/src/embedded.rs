//! Runs with their own broker: its set-up, the load of the input, the check of the output.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use millstream::Client;
use millstream::base::TopicPartition;
use millstream::base::hash::HashMap;
use millstream::client::consumer::{Consumer, ConsumerConfig};
use millstream::prelude::*;

use crate::datasets::{Datasets, Input, PARTITIONS, record_hash};
use crate::pump::Pump;
use crate::workloads::Workload;

/// A broker below `data_dir`. Kafka acknowledges before it syncs; `durability=process` does the same.
///
/// # Errors
/// The folder cannot be used.
pub fn broker(data_dir: &Path, durability: &str) -> Result<Embedded> {
    Ok(Embedded::builder(data_dir).set("durability", durability).set("log.retention.ms", -1).start()?)
}

/// Writes the first `n` records of the workload's dataset to `topic`.
///
/// # Errors
/// A record could not be written.
pub fn load(client: Client, workload: Workload, n: u64, topic: &str) -> Result<()> {
    let config = ProducerConfig::from_properties([("batch.size", "65536"), ("linger.ms", "5"), ("acks", "1")])?;
    let mut pump = Pump::new(client, config, topic)?;
    let datasets = Datasets::new();
    let mut input = Input::default();
    for index in 0..n {
        datasets.fill(workload.dataset(), index, &mut input);
        let key = input.has_key.then_some(&input.key[..]);
        pump.send(input.partition, input.timestamp, key, &input.value)?;
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
    /// Of a workload; passthrough's output is no table.
    pub fn of(workload: Workload) -> Self {
        Self { is_table: workload != Workload::Passthrough, ..Self::default() }
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
