//! `bench-streams growth`: what a record costs as the input grows. Each size is a run of its own with its own broker.

use std::time::Duration;

use anyhow::{Result, anyhow};
use millstream::prelude::*;

use crate::workloads::Workload;
use crate::{cpu, embedded};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Small sizes are run more often, the median counts.
const MOST_RUNS: u64 = 7;

/// Runs each workload at each size (records of its main input) and prints a table: CPU microseconds per processed record, from the first
/// look at which records were processed to the last record.
///
/// # Errors
/// A run failed.
pub fn run(workloads: &[Workload], sizes: &[u64], cache: &str) -> Result<()> {
    let columns: String = sizes.iter().map(|size| format!(" {size} |")).collect();
    println!("| CPU µs per processed record, main input of |{columns}");
    println!("|---|{}", "---|".repeat(sizes.len()));
    let largest = sizes.iter().max().copied().unwrap_or(1);
    for workload in workloads {
        let mut row = format!("| {} |", workload.name());
        for size in sizes {
            let runs = (largest / size.max(&1)).clamp(1, MOST_RUNS);
            let mut costs = (0..runs).map(|_| once(*workload, *size, cache)).collect::<Result<Vec<f64>>>()?;
            costs.sort_by(f64::total_cmp);
            row += &format!(" {:.2} |", costs[costs.len() / 2]);
        }
        println!("{row}");
    }
    Ok(())
}

fn once(workload: Workload, n: u64, cache: &str) -> Result<f64> {
    // The datasets' event times are years back: retention would take away what is yet to be read.
    let broker = Embedded::temporary_builder()?.set("log.retention.ms", -1).start()?;
    embedded::prepare(&broker, workload, n, "out")?;
    let (_, expect) = workload.records(n);
    let config = StreamsConfig::new("growth").with("state.dir", broker.state_dir().display())?;
    let config = config.with("statestore.cache.max.bytes", cache)?.with("auto.offset.reset", "earliest")?;
    let streams = Streams::start(workload.topology(&embedded::inputs(workload), "out")?, config, broker.client())?;
    let mut first = None;
    let cost = loop {
        let processed = streams.metrics().total("stream-thread-metrics", "process-total");
        let now = cpu::seconds();
        if processed > 0 {
            let (from, begun) = *first.get_or_insert((processed, now));
            if processed >= expect {
                break (now - begun) * 1e6 / (processed - from).max(1) as f64;
            }
        }
        if streams.state().is_final() {
            let error = streams.error().map_or_else(|| "no error was kept".to_owned(), |error| error.to_string());
            return Err(anyhow!("the application ended after {processed} of {expect} records: {error}"));
        }
        std::thread::sleep(LOOK);
    };
    streams.close()?;
    broker.shutdown()?;
    Ok(cost)
}
