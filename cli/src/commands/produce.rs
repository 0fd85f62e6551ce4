//! `millstream produce`: a record for each line of stdin or of a file.
//!
//! A line is headers, key and value, as far as they were asked for, with separators between them; it is bytes, UTF-8 or not. Lines are sent as
//! they are read; what became of them is told in their order.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, BufRead, BufReader};
use std::pin::Pin;

use bytes::Bytes;
use client::config::Property;
use client::{Acks, ClientConfig, ClientError, Producer, ProducerConfig, ProducerRecord, RecordMetadata, block_on};
use protocol::record::Headers;

use super::json::{Fields, print_lines};
use super::{connect, settings_for, unescaped};
use crate::options::ProduceOptions;
use crate::report::Failure;

/// Lines sent and not yet heard of; the producer's own bound is in bytes.
const UNHEARD_MAX: usize = 10_000;
/// How long a topic may be unknown before its first record fails; `--set max.block.ms` changes it.
const MAX_BLOCK_MS: i64 = 10_000;

type Sent = Pin<Box<dyn Future<Output = Result<RecordMetadata, ClientError>> + Send>>;

/// Sends all lines, then says how many could not be written.
pub fn run(options: &ProduceOptions) -> Result<(), Failure> {
    let format = Format::new(options);
    let [of_producer, of_client] = settings_for(&options.settings, [ProducerConfig::NAMES, ClientConfig::NAMES])?;
    let config = config(options, &of_producer)?;
    let transactional = config.transactional_id.is_some();
    let mut input: Box<dyn BufRead> = match &options.file {
        None => Box::new(io::stdin().lock()),
        Some(path) => Box::new(BufReader::new(
            File::open(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?,
        )),
    };
    let producer = Producer::new(connect(&options.cluster, &of_client)?, config)
        .map_err(|error| Failure::usage(error.to_string()))?;
    if transactional {
        block_on(producer.init_transactions())?;
        producer.begin_transaction()?;
    }
    let mut outcome = Outcome { json: options.json, ..Outcome::default() };
    let mut unheard: VecDeque<(u64, Sent)> = VecDeque::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read =
            input.read_until(b'\n', &mut line).map_err(|error| Failure::new(format!("cannot read on: {error}")))?;
        if read == 0 {
            break;
        }
        let record = match format.record(options, without_end(&line)) {
            Ok(record) => record,
            Err(reason) if options.ignore_error => {
                eprintln!("millstream: line {number} is left out: {reason}");
                continue;
            }
            Err(reason) => {
                outcome.failed(number, &reason);
                break;
            }
        };
        unheard.push_back((number, Box::pin(producer.send(record))));
        let keep = if options.sync { 0 } else { UNHEARD_MAX };
        while unheard.len() > keep {
            outcome.hear(&mut unheard)?;
        }
    }
    producer.flush_blocking();
    while !unheard.is_empty() {
        outcome.hear(&mut unheard)?;
    }
    if transactional {
        match outcome.first_failure {
            None => block_on(producer.commit_transaction())?,
            Some(_) => block_on(producer.abort_transaction())?,
        }
    }
    producer.close_blocking()?;
    outcome.end(transactional)
}

fn config(options: &ProduceOptions, settings: &[(&str, &str)]) -> Result<ProducerConfig, Failure> {
    let refused = |error: ClientError| Failure::usage(error.to_string());
    let mut config = ProducerConfig::default()
        .transactional_id(options.transactional_id.clone())
        .max_block_ms(MAX_BLOCK_MS)
        .enable_idempotence(options.idempotent);
    let acks =
        Acks::parse(&options.acks).map_err(|allowed| Failure::usage(format!("--acks {} {allowed}", options.acks)))?;
    config = config.acks(acks);
    let codec = Property::parse(&options.compression)
        .map_err(|allowed: String| Failure::usage(format!("--compression {} {allowed}", options.compression)))?;
    config.compression_type = codec;
    for (key, value) in settings {
        config.set(key, value).map_err(refused)?;
    }
    Ok(config)
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How a line is cut up; separators with their escapes resolved.
struct Format {
    key_separator: Option<String>,
    headers_delimiter: Option<String>,
    headers_separator: String,
    headers_key_separator: String,
}

impl Format {
    fn new(options: &ProduceOptions) -> Self {
        let separator = options.key_separator.as_deref().map(unescaped);
        Self {
            key_separator: separator.or_else(|| options.keys.then(|| "\t".to_owned())),
            headers_delimiter: options.headers.then(|| unescaped(&options.headers_delimiter)),
            headers_separator: unescaped(&options.headers_separator),
            headers_key_separator: unescaped(&options.headers_key_separator),
        }
    }

    /// The record that the line stands for.
    fn record(&self, options: &ProduceOptions, line: &[u8]) -> Result<ProducerRecord, String> {
        let or_null = |bytes: &[u8]| match &options.null_marker {
            Some(marker) if marker.as_bytes() == bytes => None,
            _ => Some(Bytes::copy_from_slice(bytes)),
        };
        let mut record = ProducerRecord::to(options.topic.as_str());
        let mut rest = line;
        if let Some(delimiter) = &self.headers_delimiter {
            let (headers, behind) =
                split(rest, delimiter).ok_or_else(|| format!("it has no headers: there is no {delimiter:?} in it"))?;
            let mut parsed = Headers::new();
            let mut left = (!headers.is_empty()).then_some(headers);
            while let Some(headers) = left {
                let (one, others) = match split(headers, &self.headers_separator) {
                    Some((one, others)) => (one, Some(others)),
                    None => (headers, None),
                };
                let (name, value) = split(one, &self.headers_key_separator)
                    .ok_or_else(|| format!("a header lacks the {:?} behind its name", self.headers_key_separator))?;
                parsed.add(&*String::from_utf8_lossy(name), or_null(value));
                left = others;
            }
            record = record.headers(parsed);
            rest = behind;
        }
        if let Some(separator) = &self.key_separator {
            let (key, value) =
                split(rest, separator).ok_or_else(|| format!("it has no key: there is no {separator:?} in it"))?;
            if let Some(key) = or_null(key) {
                record = record.key(key);
            }
            rest = value;
        }
        if let Some(value) = or_null(rest) {
            record = record.value(value);
        }
        if let Some(partition) = options.partition {
            record = record.partition(partition);
        }
        Ok(record)
    }
}

/// What stands before and behind the first `separator`.
fn split<'a>(bytes: &'a [u8], separator: &str) -> Option<(&'a [u8], &'a [u8])> {
    let separator = separator.as_bytes();
    if separator.is_empty() {
        return None;
    }
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// What became of the lines.
#[derive(Default)]
struct Outcome {
    json: bool,
    failures: u64,
    first_failure: Option<String>,
}

impl Outcome {
    /// Waits for the oldest line.
    fn hear(&mut self, unheard: &mut VecDeque<(u64, Sent)>) -> Result<(), Failure> {
        let Some((number, sent)) = unheard.pop_front() else { return Ok(()) };
        match block_on(sent) {
            Ok(written) if self.json => print_lines([Fields::default()
                .with("topic", &*written.topic)
                .with("partition", written.partition)
                .with("offset", (written.offset >= 0).then_some(written.offset))
                .with("timestamp", written.timestamp)])?,
            Ok(_) => {}
            Err(error) => self.failed(number, &error.to_string()),
        }
        Ok(())
    }

    fn failed(&mut self, number: u64, reason: &str) {
        self.failures += 1;
        self.first_failure.get_or_insert_with(|| format!("line {number} was not written: {reason}"));
    }

    fn end(self, transactional: bool) -> Result<(), Failure> {
        let Some(first) = self.first_failure else { return Ok(()) };
        let failure = Failure::new(first);
        Err(match (transactional, self.failures) {
            (true, _) => failure.hint("the transaction was aborted: nothing of it is seen by read_committed readers"),
            (false, 1) => failure.hint("the lines before it are written; correct it and go on from there"),
            (false, failures) => failure.hint(&format!("and {} more like that", failures - 1)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_or_without_a_carriage_return() {
        assert_eq!(
            [without_end(b"a\r\n"), without_end(b"a\n"), without_end(b"a"), without_end(b"\n")],
            [b"a", b"a", b"a", &b""[..]]
        );
    }

    #[test]
    fn separators_may_be_longer_than_a_byte() {
        assert_eq!(split(b"key=>value=>x", "=>"), Some((&b"key"[..], &b"value=>x"[..])));
        assert_eq!(split(b"key", "=>"), None);
    }
}
