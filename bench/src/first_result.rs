//! `bench-streams first-result`: how long a word count takes from the start of its process to its first result.

use std::io::BufRead;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millstream::base::TopicPartition;
use millstream::client::consumer::{Consumer, ConsumerConfig};
use millstream::prelude::*;

use crate::workloads::Workload;

/// Starts the word count `rounds` times as a process of its own; prints a JSON line.
///
/// # Errors
/// A round failed.
pub fn run(rounds: usize) -> Result<()> {
    let mut millis = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("first-result-once")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("the child has no output")?;
        let mut line = String::new();
        std::io::BufReader::new(out).read_line(&mut line)?;
        millis.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(child.wait()?.success() && line.trim() == "be 1", "the child printed {line:?}");
    }
    millis.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({ "what": "first result", "rounds": rounds, "median_ms": millis[rounds / 2], "worst_ms": millis.last() })
    );
    Ok(())
}

/// One start: broker, topics, application, one line in, first count out.
///
/// # Errors
/// A part of it failed.
pub fn once() -> Result<()> {
    let broker = Embedded::temporary()?;
    broker.create_topic("in", 1)?;
    broker.create_topic("out", 1)?;
    let producer = Producer::new(broker.client(), ProducerConfig::default())?;
    producer.send_blocking(ProducerRecord::to("in").value("be"))?;
    let config = StreamsConfig::new("first").with("state.dir", broker.state_dir().display())?;
    let streams = Streams::start(Workload::Wordcount.topology(&["in".to_owned()], "out")?, config, broker.client())?;
    let mut consumer =
        Consumer::new(broker.client(), ConsumerConfig::from_properties([("auto.offset.reset", "earliest")])?)?;
    consumer.assign([TopicPartition::new("out", 0)])?;
    for record in consumer.poll_blocking(Duration::from_secs(10))? {
        let count =
            record.value.as_deref().and_then(|value| value.first_chunk()).map_or(0, |bytes| i64::from_be_bytes(*bytes));
        println!("{} {count}", String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()));
    }
    streams.close()?;
    Ok(broker.shutdown()?)
}
