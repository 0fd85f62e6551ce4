//! `millstream perf end-to-end`: how long records take from producer to consumer while they are sent at a fixed rate.
//!
//! A record counts from the moment it was due, so that a stall shows in all records that it kept waiting.

use std::time::Duration;

use base::Clock;
use client::{ProducerConfig, block_on};

use super::json::{Fields, print_lines};
use super::probe::Probe;
use super::{Samples, table, throughput};
use crate::options::PerfEndToEndOptions;
use crate::report::{Failure, print};

/// Records that have not come by then are lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures, and reports.
pub(super) fn run(options: &PerfEndToEndOptions) -> Result<(), Failure> {
    let config = ProducerConfig::default();
    let mut probe = Probe::new(&options.probe, config)?;
    let start = probe.clock.ticks_us();
    let due = |number: u64| start + number.saturating_mul(1_000_000) / options.rate;
    let run = probe.run();
    let mut times = Samples::default();
    let (mut sent, mut arrived) = (0u64, 0u64);
    while arrived < options.records {
        let now = probe.clock.ticks_us();
        while sent < options.records && due(sent) <= now {
            // What becomes of it shows in its arrival.
            drop(probe.producer.send(probe.record()));
            sent += 1;
        }
        let wait = match sent < options.records {
            true => Duration::from_micros(due(sent).saturating_sub(probe.clock.ticks_us()).max(1_000)),
            false => PATIENCE,
        };
        let records = block_on(probe.consumer.poll(wait))?;
        if records.is_empty() && sent == options.records {
            return Err(Failure::new(format!("{arrived} of {sent} records arrived within {} s", PATIENCE.as_secs()))
                .hint("is somebody deleting records of that topic? name another one"));
        }
        let now = probe.clock.ticks_us();
        Probe::sent_at(run, &records, |_| {
            times.add(now.saturating_sub(due(arrived)));
            arrived += 1;
        });
    }
    let elapsed = probe.clock.ticks_us() - start;
    probe.close()?;
    let (rate, megabytes) = throughput(arrived, arrived * u64::from(options.probe.size), elapsed);
    if options.probe.result.json {
        return print_lines([Fields::default()
            .with("records", arrived)
            .with("seconds", elapsed as f64 / 1e6)
            .with("records_per_second", rate)
            .with("end_to_end", times.as_json())]);
    }
    let rows = [Samples::heads("MICROSECONDS"), times.row("end to end")];
    print(&format!(
        "{arrived} records in {:.3} s: {rate:.0} records/s, {megabytes:.2} MB/s\n{}",
        elapsed as f64 / 1e6,
        table(&rows)
    ))
}
