//! What an append, a read of the tail and a read from the files cost, for a batch of 16 KiB.

#![allow(clippy::unwrap_used, reason = "benchmarks")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::sync::Arc;

use base::{Clock, Rng, SystemClock, TopicPartition};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::api::Pieces;
use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef};
use storage::files::RealFiles;
use storage::log::{AppendOptions, Durability, LogConfig, LogDirectory, LogDirectoryOptions, PartitionLog, ReadLimit};
use uuid::Uuid;

/// 160 records of 100 bytes.
fn batch(clock: &dyn Clock) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    for index in 0..150u32 {
        let (key, value) = (index.to_be_bytes(), [7; 96]);
        builder.append(clock.wall_ms(), Some(&key[..]), Some(&value[..]), HeadersRef::EMPTY).unwrap();
    }
    builder.build().unwrap()
}

struct Bench {
    _folder: tempfile::TempDir,
    directory: LogDirectory,
    clock: Arc<dyn Clock>,
    log: Arc<PartitionLog>,
}

fn open(tail_bytes: usize, durability: Durability) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock::shared();
    let options = LogDirectoryOptions {
        durability,
        tail_partition_bytes: tail_bytes,
        tail_total_bytes: tail_bytes * 16,
        ..LogDirectoryOptions::new(Arc::clone(&clock), Rng::from_seed(1))
    };
    let directory = LogDirectory::open(RealFiles::shared(), folder.path(), options).unwrap();
    let config = LogConfig::from_map([
        ("retention.bytes", "67108864"),
        ("segment.bytes", "33554432"),
        ("file.delete.delay.ms", "0"),
    ]);
    let log = directory.create_partition(&TopicPartition::new("t", 0), Uuid::from_u128(1), config.unwrap()).unwrap();
    Bench { _folder: folder, directory, clock, log }
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, durability) in [("process", Durability::Process), ("power_group_of_one", Durability::Power)] {
        let bench = open(1 << 20, durability);
        let records = Pieces::from(batch(bench.clock.as_ref()));
        group.throughput(Throughput::Bytes(records.len_bytes() as u64));
        let mut count = 0u64;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let now = bench.clock.now();
                let info = bench.log.append(black_box(&records), AppendOptions::client(0, now)).unwrap();
                if durability == Durability::Power {
                    bench.directory.flusher().step();
                }
                count += 1;
                if count.is_multiple_of(8192) {
                    bench.log.apply_retention(now).unwrap();
                    bench.directory.step(base::Now { ticks_ms: now.ticks_ms + 100, ..now });
                }
                info
            });
        });
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    for (name, tail_bytes) in [("tail", 1 << 20), ("file", 0)] {
        let bench = open(tail_bytes, Durability::Process);
        let records = Pieces::from(batch(bench.clock.as_ref()));
        for _ in 0..1_000 {
            let end = bench.log.offsets().log_end;
            bench.log.read(end, 1, ReadLimit::HighWatermark, true).unwrap(); // the tail is kept for readers at the end
            bench.log.append(&records, AppendOptions::client(0, bench.clock.now())).unwrap();
        }
        let from = bench.log.offsets().log_end - 150;
        group.bench_function(format!("{name}_one_batch_located"), |bencher| {
            bencher.iter(|| bench.log.read(black_box(from), 1 << 20, ReadLimit::HighWatermark, true).unwrap());
        });
        group.bench_function(format!("{name}_one_batch_bytes"), |bencher| {
            bencher.iter(|| {
                let read = bench.log.read(black_box(from), 1 << 20, ReadLimit::HighWatermark, true).unwrap();
                read.records.to_bytes().unwrap()
            });
        });
    }
    let bench = open(1 << 20, Durability::Process);
    group.bench_function("offsets", |bencher| bencher.iter(|| bench.log.offsets()));
    group.finish();
}

criterion_group!(benches, appends, reads);
criterion_main!(benches);
