//! `millstream perf consume`: how fast records of a topic are read, from its beginning.

use std::time::Duration;

use base::{Clock, SystemClock};
use client::consumer::{Consumer, ConsumerConfig, OffsetReset, OffsetSpec};
use client::{Admin, ClientConfig, block_on};

use super::super::partitions::{Selection, resolve};
use super::json::{Fields, print_lines};
use super::{connect, settings_for, throughput};
use crate::options::PerfConsumeOptions;
use crate::report::{Failure, print};

/// Reads, and reports.
pub(super) fn run(options: &PerfConsumeOptions) -> Result<(), Failure> {
    let [of_consumer, of_client] = settings_for(&options.settings, [ConsumerConfig::NAMES, ClientConfig::NAMES])?;
    let mut config = ConsumerConfig::default().group_id(options.group.clone()).auto_offset_reset(OffsetReset::Earliest);
    for (key, value) in of_consumer {
        config.set(key, value).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let client = connect(&options.result.cluster, &of_client)?;
    let admin = Admin::new(client.clone());
    let partitions = resolve(&admin, &[Selection { topic: options.topic.clone(), partitions: None }])?;
    let mut consumer = Consumer::new(client, config).map_err(|error| Failure::usage(error.to_string()))?;
    match options.group {
        Some(_) => consumer.subscribe([options.topic.as_str()])?,
        None => {
            consumer.assign(partitions.iter().cloned())?;
            consumer.seek_to(&partitions, OffsetSpec::Earliest)?;
        }
    }
    let clock = SystemClock::new();
    let start = clock.ticks_us();
    let (mut records, mut bytes, mut first) = (0, 0, None);
    let patience = Duration::from_millis(options.timeout_ms.unsigned_abs());
    while records < options.records {
        let polled = block_on(consumer.poll(patience))?;
        if polled.is_empty() {
            return Err(Failure::new(format!(
                "{records} of {} records were read, then none came for {} ms",
                options.records, options.timeout_ms
            ))
            .hint("the topic may hold fewer; `millstream offsets` shows where its partitions end"));
        }
        first.get_or_insert_with(|| clock.ticks_us() - start);
        polled.for_each(|_, record| {
            records += 1;
            bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
        });
    }
    let elapsed = clock.ticks_us() - start;
    consumer.close_blocking()?;
    let (rate, megabytes) = throughput(records, bytes, elapsed);
    let first_ms = first.unwrap_or(0) as f64 / 1e3;
    if options.result.json {
        return print_lines([Fields::default()
            .with("records", records)
            .with("bytes", bytes)
            .with("seconds", elapsed as f64 / 1e6)
            .with("records_per_second", rate)
            .with("mb_per_second", megabytes)
            .with("first_record_ms", first_ms)]);
    }
    print(&format!(
        "{records} records in {:.3} s: {rate:.0} records/s, {megabytes:.2} MB/s; the first after {first_ms:.1} ms\n",
        elapsed as f64 / 1e6,
    ))
}
