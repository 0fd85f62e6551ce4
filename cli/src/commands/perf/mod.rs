//! `millstream perf`: throughput and latency of a cluster, as one client sees them.

mod consume;
mod end_to_end;
mod latency;
mod probe;
mod produce;

use client::{Admin, ClientError, block_on};
use protocol::api::ErrorCode;
use serde_json::{Value, json};

use super::{connect, json, settings_for, table};
use crate::options::PerfCommand;
use crate::report::Failure;

/// Runs what was asked.
pub fn run(command: &PerfCommand) -> Result<(), Failure> {
    match command {
        PerfCommand::Produce(options) => produce::run(options),
        PerfCommand::Consume(options) => consume::run(options),
        PerfCommand::EndToEnd(options) => end_to_end::run(options),
        PerfCommand::Latency(options) => latency::run(options),
    }
}

/// Times in microseconds.
#[derive(Default)]
struct Samples(Vec<u64>);

/// What is told of samples: label, and the share of them that took no longer, in thousandths.
const PERCENTILES: [(&str, u64); 4] = [("p50", 500), ("p99", 990), ("p99.9", 999), ("max", 1000)];

impl Samples {
    fn add(&mut self, microseconds: u64) {
        self.0.push(microseconds);
    }

    fn average(&self) -> f64 {
        self.0.iter().sum::<u64>() as f64 / self.0.len().max(1) as f64
    }

    /// The times of [`PERCENTILES`], by nearest rank.
    fn percentiles(&mut self) -> [u64; 4] {
        self.0.sort_unstable();
        let count = self.0.len() as u64;
        PERCENTILES.map(|(_, thousandths)| {
            let rank = (count * thousandths).div_ceil(1000).max(1);
            self.0.get(rank as usize - 1).copied().unwrap_or(0)
        })
    }

    fn as_json(&mut self) -> Value {
        let percentiles = self.percentiles();
        let mut fields: serde_json::Map<String, Value> = PERCENTILES
            .iter()
            .zip(percentiles)
            .map(|((name, _), value)| (format!("{name}_us"), json!(value)))
            .collect();
        fields.insert("avg_us".to_owned(), json!(self.average()));
        Value::Object(fields)
    }

    fn row(&mut self, label: &str) -> Vec<String> {
        let average = format!("{:.1}", self.average());
        let percentiles = self.percentiles().map(|value| value.to_string());
        [label.to_owned(), average].into_iter().chain(percentiles).collect()
    }

    fn heads(label: &str) -> Vec<String> {
        let names = PERCENTILES.iter().map(|(name, _)| (*name).to_owned());
        [label.to_owned(), "avg".to_owned()].into_iter().chain(names).collect()
    }
}

/// How much in how long.
fn throughput(records: u64, bytes: u64, microseconds: u64) -> (f64, f64) {
    let seconds = microseconds.max(1) as f64 / 1e6;
    (records as f64 / seconds, bytes as f64 / seconds / 1_048_576.0)
}

/// Makes the topic with one partition if it is not there.
fn ensure_topic(admin: &Admin, name: &str) -> Result<(), Failure> {
    for (_, result) in block_on(admin.create_topics(&[client::admin::NewTopic::new(name, 1)]))? {
        match result {
            Err(ClientError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let mut samples = Samples((1..=1000).rev().collect());
        assert_eq!(samples.percentiles(), [500, 990, 999, 1000]);
        assert_eq!(samples.average(), 500.5);
        assert_eq!(Samples(vec![7]).percentiles(), [7; 4]);
        assert_eq!(Samples::default().percentiles(), [0; 4]);
    }
}
