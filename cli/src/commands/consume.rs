//! `millstream consume`: records of topics on stdout, as text or JSON; as a member of a group, or alone from chosen places.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use base::{Offset, TopicPartition};
use client::admin::OffsetSpec as AdminSpec;
use client::consumer::{
    Consumer, ConsumerConfig, ConsumerRecord, ConsumerRecords, IsolationLevel, OffsetReset, OffsetSpec,
};
use client::{Admin, ClientConfig, ClientError, block_on};
use protocol::record::TimestampType;
use regex::Regex;
use serde_json::{Value, json};

use super::json::{Fields, hex, printable};
use super::partitions::{Selection, resolve};
use super::signals::Signals;
use super::{connect, settings_for, unescaped};
use crate::options::{ConsumeOptions, Part};
use crate::report::{Failure, written};

/// How long one poll waits; signals and ends are looked for in between.
const POLL: Duration = Duration::from_millis(500);

/// Where to begin in a partition.
#[derive(Clone, Copy)]
enum Begin {
    Earliest,
    Latest,
    At(Offset),
    BeforeEnd(Offset),
}

/// Prints records until there is a reason to end.
pub fn run(options: &ConsumeOptions) -> Result<(), Failure> {
    let begin = begin(options)?;
    let include = options.include.as_deref().map(whole_name).transpose()?;
    let [of_consumer, of_client] = settings_for(&options.settings, [ConsumerConfig::NAMES, ClientConfig::NAMES])?;
    let config = config(options, begin, &of_consumer)?;
    let isolation = config.isolation_level;
    let client = connect(&options.cluster, &of_client)?;
    let admin = Admin::new(client.clone());
    let mut consumer = Consumer::new(client, config).map_err(|error| Failure::usage(error.to_string()))?;
    let mut ends = Vec::new();
    if options.group.is_some() {
        match include {
            Some(pattern) => consumer.subscribe_matching(move |topic| pattern.is_match(topic))?,
            None => consumer.subscribe(options.topics.iter().map(String::as_str))?,
        }
    } else {
        let partitions = partitions(&admin, options, include.as_ref())?;
        consumer.assign(partitions.iter().cloned())?;
        if options.until_end {
            let end = match isolation {
                IsolationLevel::ReadCommitted => AdminSpec::LatestStable,
                IsolationLevel::ReadUncommitted => AdminSpec::Latest,
            };
            ends = find(&admin, &partitions, end)?;
        }
        seek(&mut consumer, &admin, &partitions, begin)?;
    }
    let count = print(&mut consumer, options, &ends)?;
    consumer.close_blocking()?;
    tracing::info!("{count} record(s) printed");
    Ok(())
}

fn begin(options: &ConsumeOptions) -> Result<Begin, Failure> {
    let Some(text) = &options.offset else {
        return Ok(if options.from_beginning { Begin::Earliest } else { Begin::Latest });
    };
    Ok(match (text.as_str(), text.parse::<Offset>()) {
        ("earliest", _) => Begin::Earliest,
        ("latest", _) => Begin::Latest,
        (_, Ok(offset @ 0..)) => Begin::At(offset),
        (_, Ok(offset)) => Begin::BeforeEnd(offset.saturating_neg()),
        _ => {
            return Err(Failure::usage(format!("--offset {text} is no offset"))
                .hint("write earliest, latest, an offset, or -10 for ten records before the end"));
        }
    })
}

fn whole_name(pattern: &str) -> Result<Regex, Failure> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        let reason = error.to_string();
        Failure::usage(format!("--include {pattern}: {}", reason.lines().last().unwrap_or_default()))
    })
}

fn config(options: &ConsumeOptions, begin: Begin, settings: &[(&str, &str)]) -> Result<ConsumerConfig, Failure> {
    let reset = if matches!(begin, Begin::Earliest) { OffsetReset::Earliest } else { OffsetReset::Latest };
    let mut config = ConsumerConfig::default().group_id(options.group.clone()).auto_offset_reset(reset);
    config.set("isolation.level", &options.isolation).map_err(|_| {
        Failure::usage(format!("--isolation {} is not known", options.isolation))
            .hint("write read_uncommitted or read_committed")
    })?;
    for (key, value) in settings {
        config.set(key, value).map_err(|error| Failure::usage(error.to_string()))?;
    }
    Ok(config)
}

fn partitions(
    admin: &Admin,
    options: &ConsumeOptions,
    include: Option<&Regex>,
) -> Result<Vec<TopicPartition>, Failure> {
    let only = (!options.partition.is_empty()).then(|| options.partition.clone());
    let topics: Vec<String> = match include {
        None => options.topics.clone(),
        Some(pattern) => {
            let all = block_on(admin.list_topics())?;
            all.iter().filter(|topic| pattern.is_match(&topic.name)).map(|topic| topic.name.to_string()).collect()
        }
    };
    if topics.is_empty() {
        return Err(Failure::new(format!("no topic matches {}", options.include.as_deref().unwrap_or_default()))
            .hint("`millstream topics list` shows those that there are"));
    }
    let selections: Vec<Selection> =
        topics.into_iter().map(|topic| Selection { topic, partitions: only.clone() }).collect();
    resolve(admin, &selections)
}

fn find(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: AdminSpec,
) -> Result<Vec<(TopicPartition, Offset)>, Failure> {
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let found = block_on(admin.list_offsets(&asked))?;
    let offsets = found.into_iter().map(|(partition, found)| Ok((partition, found?.offset)));
    Ok(offsets.collect::<Result<_, ClientError>>()?)
}

fn seek(consumer: &mut Consumer, admin: &Admin, partitions: &[TopicPartition], begin: Begin) -> Result<(), Failure> {
    match begin {
        Begin::Earliest => consumer.seek_to(partitions, OffsetSpec::Earliest)?,
        Begin::Latest => consumer.seek_to(partitions, OffsetSpec::Latest)?,
        Begin::At(offset) => partitions.iter().try_for_each(|partition| consumer.seek(partition, offset))?,
        Begin::BeforeEnd(back) => {
            let first = find(admin, partitions, AdminSpec::Earliest)?;
            for ((partition, last), (_, first)) in find(admin, partitions, AdminSpec::Latest)?.iter().zip(first) {
                consumer.seek(partition, (last - back).max(first))?;
            }
        }
    }
    Ok(())
}

/// Prints what comes; how many records that were.
fn print(consumer: &mut Consumer, options: &ConsumeOptions, ends: &[(TopicPartition, Offset)]) -> Result<u64, Failure> {
    let (runtime, mut signals) = Signals::listen()?;
    let clock = base::SystemClock::shared();
    let printer = Printer::new(options);
    let mut out = BufWriter::new(io::stdout().lock());
    let left = |count: u64| options.max_messages.map_or(u64::MAX, |max| max - count);
    let mut count = 0;
    let mut last_record_ms = clock.now().ticks_ms;
    loop {
        let at_end =
            |(partition, end): &(TopicPartition, Offset)| consumer.position(partition).is_some_and(|at| at >= *end);
        let idle_ms = clock.now().ticks_ms - last_record_ms;
        let waited = options.timeout_ms.is_some_and(|timeout_ms| idle_ms >= timeout_ms);
        if left(count) == 0 || waited || (options.until_end && ends.iter().all(at_end)) {
            return Ok(count);
        }
        let wait = options.timeout_ms.map_or(POLL, |ms| POLL.min(Duration::from_millis((ms - idle_ms).unsigned_abs())));
        let polled = runtime.block_on(async {
            tokio::select! {
                () = signals.next() => None,
                polled = consumer.poll(wait) => Some(polled),
            }
        });
        let Some(polled) = polled else { return Ok(count) };
        let records = polled?;
        if records.is_empty() {
            continue;
        }
        last_record_ms = clock.now().ticks_ms;
        let (printed, goes_on) = printer.print(&records, left(count), &mut out)?;
        count += printed;
        if !goes_on || left(count) == 0 {
            give_back(consumer, &records, printed)?;
            return Ok(count);
        }
    }
}

/// Moves the position back to the first record of each partition that was not printed, so that it is not committed as read.
fn give_back(consumer: &mut Consumer, records: &ConsumerRecords, printed: u64) -> Result<(), Failure> {
    let mut seen: Vec<TopicPartition> = Vec::new();
    for record in records.iter().skip(usize::try_from(printed).unwrap_or(usize::MAX)) {
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        if !seen.contains(&partition) {
            consumer.seek(&partition, record.offset)?;
            seen.push(partition);
        }
    }
    Ok(())
}

/// How a record is printed; separators with their escapes resolved.
struct Printer<'a> {
    options: &'a ConsumeOptions,
    between: String,
    after: String,
    between_headers: String,
}

impl<'a> Printer<'a> {
    fn new(options: &'a ConsumeOptions) -> Self {
        Self {
            options,
            between: unescaped(&options.key_separator),
            after: unescaped(&options.line_separator),
            between_headers: unescaped(&options.headers_separator),
        }
    }

    /// Prints at most `left` records; how many, and whether somebody still reads.
    fn print(&self, records: &ConsumerRecords, left: u64, out: &mut impl Write) -> Result<(u64, bool), Failure> {
        let mut printed = 0;
        for record in records.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            let line = if self.options.json { json_line(&record)? } else { self.text(&record) };
            if !written(out.write_all(&line))? {
                return Ok((printed, false));
            }
            printed += 1;
        }
        Ok((printed, written(out.flush())?))
    }

    fn text(&self, record: &ConsumerRecord) -> Vec<u8> {
        let parts = [Part::Timestamp, Part::Partition, Part::Offset, Part::Headers, Part::Key, Part::Value];
        let mut line = Vec::new();
        for part in parts.into_iter().filter(|part| self.options.print.contains(part)) {
            if !line.is_empty() {
                line.extend_from_slice(self.between.as_bytes());
            }
            let null = self.options.null_literal.as_bytes();
            match part {
                Part::Timestamp => line.extend_from_slice(timestamp(record).as_bytes()),
                Part::Partition => line.extend_from_slice(format!("Partition:{}", record.partition).as_bytes()),
                Part::Offset => line.extend_from_slice(format!("Offset:{}", record.offset).as_bytes()),
                Part::Headers if record.headers.is_empty() => line.extend_from_slice(b"NO_HEADERS"),
                Part::Headers => {
                    for (index, header) in record.headers.iter().enumerate() {
                        let before = if index > 0 { self.between_headers.as_bytes() } else { b"" };
                        line.extend_from_slice(before);
                        line.extend_from_slice(header.key.as_bytes());
                        line.push(b':');
                        line.extend_from_slice(header.value.as_deref().unwrap_or(null));
                    }
                }
                Part::Key => line.extend_from_slice(record.key.as_deref().unwrap_or(null)),
                Part::Value => line.extend_from_slice(record.value.as_deref().unwrap_or(null)),
            }
        }
        line.extend_from_slice(self.after.as_bytes());
        line
    }
}

fn timestamp(record: &ConsumerRecord) -> String {
    match record.timestamp_type {
        _ if record.timestamp < 0 => "NO_TIMESTAMP".to_owned(),
        TimestampType::CreateTime => format!("CreateTime:{}", record.timestamp),
        TimestampType::LogAppendTime => format!("LogAppendTime:{}", record.timestamp),
    }
}

fn json_line(record: &ConsumerRecord) -> Result<Vec<u8>, Failure> {
    let header = |header: &protocol::record::Header| {
        let (name, value) = match header.value.as_deref().map(|bytes| (printable(bytes), bytes)) {
            None => ("value", Value::Null),
            Some((Some(text), _)) => ("value", json!(text)),
            Some((None, bytes)) => ("value_hex", json!(hex(bytes))),
        };
        json!({ "key": &*header.key, name: value })
    };
    let mut fields = Fields::default()
        .with("topic", &*record.topic)
        .with("partition", record.partition)
        .with("offset", record.offset)
        .with("timestamp", record.timestamp)
        .with("timestamp_type", format!("{:?}", record.timestamp_type));
    fields.put_bytes("key", "key_hex", record.key.as_deref());
    fields.put_bytes("value", "value_hex", record.value.as_deref());
    if !record.headers.is_empty() {
        fields.put("headers", record.headers.iter().map(header).collect::<Vec<Value>>());
    }
    Ok(fields.line()?.into_bytes())
}
