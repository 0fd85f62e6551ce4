//! `millstream perf latency`: one record at a time. acks=all and no linger; the next one is sent when the last has arrived.
//!
//! Acknowledgement and arrival are awaited side by side on one thread, so that each is timed when it happens.

use std::time::Duration;

use base::Clock;
use client::{Acks, ProducerConfig, block_on};

use super::json::{Fields, print_lines};
use super::probe::Probe;
use super::{Samples, table};
use crate::options::PerfLatencyOptions;
use crate::report::{Failure, print};

/// A record that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures, and reports.
pub(super) fn run(options: &PerfLatencyOptions) -> Result<(), Failure> {
    let config = ProducerConfig::default().acks(Acks::All).linger_ms(0);
    let mut probe = Probe::new(&options.probe, config)?;
    let (mut acknowledged, mut arrived) = (Samples::default(), Samples::default());
    for number in 0..options.warmup.saturating_add(options.records) {
        let (ack, arrival) = block_on(one(&mut probe))?;
        if number >= options.warmup {
            acknowledged.add(ack);
            arrived.add(arrival);
        }
    }
    probe.close()?;
    if options.probe.result.json {
        return print_lines([Fields::default()
            .with("records", options.records)
            .with("size", options.probe.size)
            .with("acknowledged", acknowledged.as_json())
            .with("end_to_end", arrived.as_json())]);
    }
    let rows = [Samples::heads("MICROSECONDS"), acknowledged.row("acknowledged"), arrived.row("end to end")];
    print(&table(&rows))
}

/// Microseconds until one record was acknowledged, and until it was there.
async fn one(probe: &mut Probe) -> Result<(u64, u64), Failure> {
    let record = probe.record();
    let run = probe.run();
    let Probe { producer, consumer, clock, .. } = probe;
    let begun = clock.ticks_us();
    let sent = producer.send(record);
    let acknowledged = async {
        sent.await?;
        Ok::<u64, Failure>(clock.ticks_us() - begun)
    };
    let arrived = async {
        let mut found = false;
        while !found {
            let records = consumer.poll(PATIENCE).await?;
            if records.is_empty() {
                return Err(Failure::new(format!("a record did not arrive within {} s", PATIENCE.as_secs()))
                    .hint("is somebody deleting records of that topic? name another one"));
            }
            Probe::sent_at(run, &records, |_| found = true);
        }
        Ok(clock.ticks_us() - begun)
    };
    let (acknowledged, arrived) = tokio::join!(acknowledged, arrived);
    Ok((acknowledged?, arrived?))
}
