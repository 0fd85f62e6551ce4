//! `bench-streams lat`: paced end-to-end latency with sender, application and reader in one process.
//!
//! As in the JVM's `bench lat`, a sample is the time of receipt minus the scheduled time of sending, which travels as record timestamp
//! (microseconds; milliseconds for clicks, whose windows need them, so that its samples are up to 1 ms too long).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use millstream::base::TopicPartition;
use millstream::client::consumer::{Consumer, ConsumerConfig};
use millstream::prelude::*;

use crate::datasets::{Dataset, Datasets, Input, PARTITIONS};
use crate::embedded;
use crate::pump::Pump;
use crate::workloads::Workload;

/// What is measured, and how long.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The application; `None`: producer, broker and consumer alone.
    pub workload: Option<Workload>,
    /// Records a second.
    pub rate: u64,
    /// Seconds measured.
    pub seconds: u64,
    /// Seconds before that.
    pub warmup: u64,
    /// Record cache in bytes, as a property.
    pub cache: &'a str,
    /// `process` or `power`.
    pub durability: &'a str,
}

/// Timestamps of clicks begin here, in ms: some real time, aligned to a minute.
const BASE_MS: i64 = 1_700_000_040_000;

/// Runs the plan; prints a JSON line.
///
/// # Errors
/// A part of it failed.
pub fn run(plan: Plan<'_>) -> Result<()> {
    if let Some(workload) = plan.workload {
        anyhow::ensure!(workload.datasets().len() == 1, "{} has no paced input of its own", workload.name());
    }
    let folder = std::env::temp_dir().join(format!("bench-lat-{}", std::process::id()));
    let broker = embedded::broker(&folder, plan.durability)?;
    broker.create_topic("in", PARTITIONS)?;
    broker.create_topic("out", PARTITIONS)?;
    let streams = match plan.workload {
        None => None,
        Some(workload) => {
            let config = StreamsConfig::new("lat").with("state.dir", broker.state_dir().display())?;
            let config = config.with("statestore.cache.max.bytes", plan.cache)?;
            let streams = Streams::start(workload.topology(&["in".to_owned()], "out")?, config, broker.client())?;
            streams.wait_until_running(Duration::from_secs(30))?;
            Some(streams)
        }
    };
    let clicks = plan.workload == Some(Workload::Clicks);
    let base = Instant::now() + Duration::from_millis(200);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (stop, client) = (Arc::clone(&stop), broker.client());
        let topic = if streams.is_some() { "out" } else { "in" };
        let window = plan.warmup * 1_000_000..(plan.warmup + plan.seconds) * 1_000_000;
        std::thread::spawn(move || read(client, topic, clicks, base, window, &stop))
    };
    send(&broker, plan, clicks, base)?;
    // The last outputs are due within the time-out of the reader's poll.
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Release);
    let mut samples = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    samples.sort_unstable();
    let quantile = |q: f64| {
        let index = (q * samples.len() as f64).ceil() as usize;
        samples.get(index.clamp(1, samples.len().max(1)) - 1).map_or(-1.0, |micros| *micros as f64 / 1000.0)
    };
    println!(
        "{}",
        serde_json::json!({
            "workload": plan.workload.map_or_else(|| "latency-none".to_owned(), |workload| format!("latency-{}", workload.name())),
            "variant": format!("embedded, durability {}", plan.durability),
            "rate": plan.rate, "seconds": plan.seconds, "samples": samples.len(),
            "p50_ms": quantile(0.5), "p95_ms": quantile(0.95), "p99_ms": quantile(0.99), "p99.9_ms": quantile(0.999),
            "pmax_ms": quantile(1.0),
        })
    );
    if let Some(streams) = streams {
        streams.close()?;
    }
    broker.shutdown()?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))
}

fn send(broker: &Embedded, plan: Plan<'_>, clicks: bool, base: Instant) -> Result<()> {
    let properties = [("linger.ms", "1"), ("acks", "1"), ("enable.idempotence", "false"), ("batch.size", "65536")];
    let mut pump = Pump::new(broker.client(), ProducerConfig::from_properties(properties)?, "in")?;
    let datasets = Datasets::new();
    let mut input = Input::default();
    let dataset = plan.workload.and_then(|workload| workload.datasets().first().copied()).unwrap_or(Dataset::Pass);
    for index in 0..plan.rate * (plan.warmup + plan.seconds) {
        let due_micros = index * 1_000_000 / plan.rate;
        let due = base + Duration::from_micros(due_micros);
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if !pump.step()? {
                std::thread::sleep(left.min(Duration::from_micros(200)));
            }
        }
        datasets.fill(dataset, index, &mut input);
        let timestamp = if clicks { BASE_MS + (due_micros / 1000) as i64 } else { due_micros as i64 };
        let key = input.has_key.then_some(&input.key[..]);
        pump.send(input.partition, timestamp, key, &input.value)?;
    }
    pump.finish()
}

fn read(
    client: Client,
    topic: &str,
    clicks: bool,
    base: Instant,
    window: std::ops::Range<u64>,
    stop: &AtomicBool,
) -> Result<Vec<u64>> {
    let mut consumer = Consumer::new(client, ConsumerConfig::from_properties([("auto.offset.reset", "earliest")])?)?;
    consumer.assign((0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition)))?;
    let mut samples = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let records = consumer.poll_blocking(Duration::from_millis(50))?;
        let now = Instant::now().saturating_duration_since(base).as_micros() as u64;
        records.for_each(|_, record| {
            let sent = if clicks { (record.timestamp - BASE_MS) * 1000 } else { record.timestamp } as u64;
            if window.contains(&sent) {
                samples.push(now.saturating_sub(sent));
            }
        });
    }
    Ok(samples)
}
