//! `millstream perf produce`: as many records as go, or at a rate, and how long each took to be acknowledged.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use base::{Clock, Rng, SystemClock};
use bytes::Bytes;
use client::{ClientConfig, ClientError, Producer, ProducerConfig, ProducerRecord, RecordMetadata, block_on};

use super::json::{Fields, print_lines};
use super::{Samples, connect, settings_for, table, throughput};
use crate::options::PerfProduceOptions;
use crate::report::{Failure, print};

/// Records under way whose times are kept; the producer's own bound is in bytes.
const UNDER_WAY_MAX: usize = 1_000_000;

/// Sends, and reports.
pub(super) fn run(options: &PerfProduceOptions) -> Result<(), Failure> {
    let [of_producer, of_client] = settings_for(&options.settings, [ProducerConfig::NAMES, ClientConfig::NAMES])?;
    let config = ProducerConfig::from_properties(of_producer).map_err(|error| Failure::usage(error.to_string()))?;
    let client = connect(&options.result.cluster, &of_client)?;
    let producer = Producer::new(client.clone(), config).map_err(|error| Failure::usage(error.to_string()))?;
    let clock = SystemClock::new();
    let value = random(client.fork_rng(), options.size as usize);
    // The first record waits for the topic's metadata, the others do not.
    block_on(producer.partition_count(&options.topic))?;
    let start = clock.ticks_us();
    let mut samples = Samples::default();
    block_on(async {
        let mut under_way = VecDeque::new();
        for number in 0..options.records {
            if let Some(rate) = options.rate {
                let due = start + number.saturating_mul(1_000_000) / rate;
                let mut sleep = None;
                poll_fn(|context| {
                    loop {
                        settle(&mut under_way, context, &clock, &mut samples)?;
                        let now = clock.ticks_us();
                        if now >= due {
                            return Poll::Ready(Ok::<(), ClientError>(()));
                        }
                        // Whole milliseconds: what comes due earlier is sent in one go.
                        let ms = i64::try_from((due - now).div_ceil(1000)).unwrap_or(i64::MAX);
                        let waiting = sleep.get_or_insert_with(|| client.timers().sleep(ms));
                        if Pin::new(waiting).poll(context).is_pending() {
                            return Poll::Pending;
                        }
                        // Timers count from the begun millisecond, so it may have come early.
                        sleep = None;
                    }
                })
                .await?;
            } else {
                poll_fn(|context| match settle(&mut under_way, context, &clock, &mut samples) {
                    Ok(()) if under_way.len() >= UNDER_WAY_MAX => Poll::Pending,
                    settled => Poll::Ready(settled),
                })
                .await?;
            }
            let record = ProducerRecord::to(options.topic.as_str()).value(value.clone());
            under_way.push_back((clock.ticks_us(), producer.send(record)));
        }
        poll_fn(|context| match settle(&mut under_way, context, &clock, &mut samples) {
            Ok(()) if !under_way.is_empty() => Poll::Pending,
            settled => Poll::Ready(settled),
        })
        .await
    })?;
    let elapsed = clock.ticks_us() - start;
    producer.close_blocking()?;
    report(options, elapsed, samples)
}

/// Takes the times of the oldest records as far as these are acknowledged.
fn settle<F: Future<Output = Result<RecordMetadata, ClientError>> + Unpin>(
    under_way: &mut VecDeque<(u64, F)>,
    context: &mut Context<'_>,
    clock: &SystemClock,
    samples: &mut Samples,
) -> Result<(), ClientError> {
    while let Some((sent, future)) = under_way.front_mut() {
        match Pin::new(future).poll(context) {
            Poll::Pending => break,
            Poll::Ready(written) => {
                written?;
                samples.add(clock.ticks_us() - *sent);
                under_way.pop_front();
            }
        }
    }
    Ok(())
}

/// Bytes that no codec makes smaller.
pub(super) fn random(mut rng: Rng, size: usize) -> Bytes {
    let words = std::iter::repeat_with(|| rng.next_u64()).take(size.div_ceil(8));
    words.flat_map(u64::to_le_bytes).take(size).collect::<Vec<u8>>().into()
}

fn report(options: &PerfProduceOptions, elapsed: u64, mut samples: Samples) -> Result<(), Failure> {
    let (rate, megabytes) = throughput(options.records, options.records * u64::from(options.size), elapsed);
    if options.result.json {
        return print_lines([Fields::default()
            .with("records", options.records)
            .with("seconds", elapsed as f64 / 1e6)
            .with("records_per_second", rate)
            .with("mb_per_second", megabytes)
            .with("acknowledged", samples.as_json())]);
    }
    let rows = [Samples::heads("MICROSECONDS"), samples.row("acknowledged")];
    print(&format!(
        "{} records in {:.3} s: {rate:.0} records/s, {megabytes:.2} MB/s\n{}",
        options.records,
        elapsed as f64 / 1e6,
        table(&rows)
    ))
}
