//! Writes a data directory with all that a log may hold, for another reader of Kafka's files to judge:
//! `write_log DIRECTORY`.
//!
//! All codecs, headers and nulls, log append time, transactions (committed, aborted, open), several segments with
//! index entries, deleted records, compacted partitions with tombstones and transactions.

use std::error::Error;
use std::sync::Arc;

use base::{Clock, ManualClock, Rng, TopicPartition};
use protocol::api::Pieces;
use protocol::record::{BatchBuilder, BuilderOptions, Compression, EndTransactionMarker, HeadersRef, RecordError};
use storage::files::RealFiles;
use storage::log::{AppendOptions, Durability, LogConfig, LogDirectory, LogDirectoryOptions, PartitionLog};
use uuid::Uuid;

const START_MS: i64 = 1_700_000_000_000;
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Output {
    clock: Arc<ManualClock>,
    directory: LogDirectory,
}

fn batch(
    codec: Compression,
    options: BuilderOptions,
    timestamp: i64,
    records: &[(Option<String>, Option<String>)],
) -> Result<Pieces, RecordError> {
    let mut builder = BatchBuilder::new(codec, options);
    for (index, (key, value)) in records.iter().enumerate() {
        let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
        let (key, value) = (bytes(key), bytes(value));
        builder.append(timestamp + index as i64, key.as_deref(), value.as_deref(), HeadersRef::EMPTY)?;
    }
    Ok(Pieces::from(builder.build()?))
}

fn of_producer(producer_id: i64, producer_epoch: i16, base_sequence: i32, transactional: bool) -> BuilderOptions {
    BuilderOptions { producer_id, producer_epoch, base_sequence, transactional, ..BuilderOptions::default() }
}

fn text(text: impl ToString) -> Option<String> {
    Some(text.to_string())
}

impl Output {
    fn partition(&self, topic: &str, config: &[(&str, &str)]) -> Outcome<Arc<PartitionLog>> {
        let config = LogConfig::from_map(config.iter().copied())?;
        let id = Uuid::from_u128(topic.bytes().fold(1, |id: u128, byte| id.rotate_left(7) ^ u128::from(byte)));
        Ok(self.directory.create_partition(&TopicPartition::new(topic, 0), id, config)?)
    }

    fn send(&self, log: &PartitionLog, records: &Pieces) -> Outcome<()> {
        log.append(records, AppendOptions::client(3, self.clock.now()))?;
        Ok(())
    }

    fn end_transaction(&self, log: &PartitionLog, producer_id: i64, epoch: i16, committed: bool) -> Outcome<()> {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 2 };
        let options = BuilderOptions { control: true, ..of_producer(producer_id, epoch, -1, true) };
        let mut builder = BatchBuilder::new(Compression::None, options);
        let (key, value) = (marker.control_type().to_key(), marker.to_value());
        builder.append(self.clock.wall_ms(), Some(&key[..]), Some(&value[..]), HeadersRef::EMPTY)?;
        log.append(&Pieces::from(builder.build()?), AppendOptions::coordinator(3, self.clock.now()))?;
        Ok(())
    }

    fn codecs(&self) -> Outcome<()> {
        let log = self.partition("codecs", &[("index.interval.bytes", "512"), ("internal.segment.bytes", "30000")])?;
        let mut sequence = 0;
        for round in 0..8i64 {
            for (index, codec) in CODECS.into_iter().enumerate() {
                let records: Vec<_> = (0..20)
                    .map(|n| {
                        let value = format!("value {n} of round {round}: {}", "lorem ipsum ".repeat(n));
                        (text(format!("key-{n}")).filter(|_| n % 7 != 0), text(value).filter(|_| n % 5 != 0))
                    })
                    .collect();
                let time = START_MS + round * 10_000 + index as i64 * 1_000;
                self.send(&log, &batch(codec, of_producer(100, 0, sequence, false), time, &records)?)?;
                sequence += 20;
            }
        }
        for codec in CODECS {
            // Larger than a block of any codec, hard to compress.
            let mut rng = Rng::from_seed(codec as u64);
            let value: String = (0..12_000).map(|_| char::from(b' ' + rng.below(90) as u8)).collect();
            self.send(&log, &batch(codec, BuilderOptions::default(), START_MS + 900_000, &[(None, text(value))])?)?;
        }
        log.delete_records(25)?;
        Ok(())
    }

    fn rebuilt(&self) -> Outcome<()> {
        for (topic, codec) in [
            ("to-gzip", "gzip"),
            ("to-snappy", "snappy"),
            ("to-lz4", "lz4"),
            ("to-zstd", "zstd"),
            ("to-none", "uncompressed"),
        ] {
            let log = self.partition(topic, &[("compression.type", codec), ("index.interval.bytes", "100")])?;
            for sent in CODECS {
                let records: Vec<_> = (0..30).map(|n| (text(n), text("rebuilt ".repeat(n)))).collect();
                self.send(&log, &batch(sent, BuilderOptions::default(), START_MS, &records)?)?;
            }
        }
        let log = self.partition("append-time", &[("message.timestamp.type", "LogAppendTime")])?;
        for codec in CODECS {
            self.clock.advance_ms(1_000);
            self.send(&log, &batch(codec, BuilderOptions::default(), START_MS, &[(text("k"), text("v"))])?)?;
        }
        Ok(())
    }

    fn transactions(&self) -> Outcome<()> {
        let log = self.partition(
            "transactions",
            &[("index.interval.bytes", "200"), ("internal.segment.bytes", "1500"), ("segment.jitter.ms", "0")],
        )?;
        let mut sequences = [0, 0];
        for round in 0..12 {
            for (producer, sequence) in sequences.iter_mut().enumerate() {
                let options = of_producer(producer as i64, 0, *sequence, true);
                let records: Vec<_> = (0..3).map(|n| (text(n), text(format!("{producer}.{round}")))).collect();
                self.send(&log, &batch(CODECS[round % 5], options, self.clock.wall_ms(), &records)?)?;
                *sequence += 3;
            }
            self.send(
                &log,
                &batch(
                    Compression::None,
                    of_producer(7, 0, round as i32, false),
                    self.clock.wall_ms(),
                    &[(None, text("plain"))],
                )?,
            )?;
            for producer in 0..2 {
                self.clock.advance_ms(10);
                self.end_transaction(&log, producer, 0, (round as i64 + producer) % 3 != 0)?;
            }
        }
        let open = of_producer(9, 4, 0, true);
        self.send(&log, &batch(Compression::None, open, self.clock.wall_ms(), &[(text("open"), text("end"))])?)
    }

    fn compacted(&self) -> Outcome<()> {
        let config = [
            ("cleanup.policy", "compact"),
            ("internal.segment.bytes", "2000"),
            ("index.interval.bytes", "100"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("delete.retention.ms", "60000"),
        ];
        let table = self.partition("table", &config)?;
        let mixed = self.partition("table-of-transactions", &config)?;
        let mut sequence = 0;
        for round in 0..40usize {
            let codec = CODECS[round % 5];
            let now = self.clock.wall_ms();
            let records: Vec<_> = (0..6)
                .map(|n| (text((round * 5 + n * 7) % 23), text(format!("{round} {}", "x".repeat(n * 9)))))
                .map(|(key, value)| (key, value.filter(|value| value.len() % 4 != 0)))
                .collect();
            self.send(&table, &batch(codec, BuilderOptions::default(), now, &records)?)?;
            self.send(&mixed, &batch(codec, of_producer(21, 0, sequence, true), now, &records)?)?;
            sequence += 6;
            self.end_transaction(&mixed, 21, 0, round % 4 != 1)?;
            self.clock.advance_ms(2_000);
            if round % 10 == 9 {
                // The cleaner runs every 15 seconds.
                self.clock.advance_ms(15_000);
                while self.directory.step(self.clock.now()).did_work {}
            }
        }
        Ok(())
    }
}

fn main() -> Outcome<()> {
    let folder = std::env::args_os().nth(1).ok_or("usage: write_log DIRECTORY")?;
    let clock = ManualClock::new(START_MS + 1_000_000);
    let options = LogDirectoryOptions {
        durability: Durability::Process,
        ..LogDirectoryOptions::new(Arc::clone(&clock) as Arc<dyn Clock>, Rng::from_seed(1))
    };
    let directory = LogDirectory::open(RealFiles::shared(), folder, options)?;
    let output = Output { clock, directory };
    output.directory.step(output.clock.now());
    output.codecs()?;
    output.rebuilt()?;
    output.transactions()?;
    output.compacted()?;
    output.directory.close()?;
    Ok(())
}
