//! How long a record takes to be appended to a batch and to be read from one; whole batches, divided by their records.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use protocol::record::{
    BatchBuilder, BuilderOptions, Compression, DEFAULT_DECOMPRESSED_LIMIT, Headers, HeadersRef, ProduceRules,
    RecordBatch, TimestampRule, batches, crc_of, murmur2, patch_for_append, validate_for_produce,
};

const RECORDS: u64 = 1000;

/// Values that compress about as well as small JSON does.
fn value(length: usize, seed: u64) -> Vec<u8> {
    let words = [b"\"user\":".as_slice(), b"\"click\",", b"page-", b"0123456789", b"{\"at\":17000", b"},null,"];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(words[(state % words.len() as u64) as usize]);
        bytes.push(state as u8);
    }
    bytes.truncate(length);
    bytes
}

fn fill(builder: &mut BatchBuilder, values: &[Vec<u8>], headers: &Headers) {
    for (index, value) in values.iter().enumerate() {
        let key = (index as u64).to_be_bytes();
        let timestamp = 1_700_000_000_000 + index as i64;
        builder.append(timestamp, Some(&key), Some(value), headers).expect("room");
    }
}

fn batch_of(codec: Compression, values: &[Vec<u8>], headers: &Headers) -> Bytes {
    let mut builder = BatchBuilder::new(codec, BuilderOptions::default());
    fill(&mut builder, values, headers);
    builder.build().expect("batch")
}

/// What a broker does with each batch that the reference's performance tool sends: records of 100 random capital letters
/// without a key, as many as its batches hold.
fn validation(criterion: &mut Criterion) {
    const IN_A_BATCH: u64 = 500;
    let mut state = 1u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'A' + ((state >> 33) % 26) as u8
    };
    let values: Vec<Vec<u8>> = (0..IN_A_BATCH).map(|_| (0..100).map(|_| letter()).collect()).collect();
    let rules = ProduceRules {
        max_message_bytes: 1 << 20,
        compacted: false,
        timestamps: TimestampRule::CreateTime {
            now: 1_700_000_000_000,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
        },
        compression: None,
        decompressed_limit: DEFAULT_DECOMPRESSED_LIMIT,
    };
    let mut group = criterion.benchmark_group("validate");
    group.throughput(Throughput::Elements(IN_A_BATCH));
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec, BuilderOptions::default());
        for value in &values {
            builder.append(1_700_000_000_000, None, Some(value), HeadersRef::EMPTY).expect("room");
        }
        let bytes = builder.build().expect("batch");
        group.bench_function(BenchmarkId::new("for produce", codec), |bencher| {
            bencher.iter(|| validate_for_produce(black_box(&bytes), &rules).expect("valid"));
        });
    }
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    let no_headers = Headers::new();
    let mut one_header = Headers::new();
    one_header.add("trace", Some("0123456789abcdef".into()));
    for (size, headers, name) in
        [(100, &no_headers, "100B"), (1000, &no_headers, "1000B"), (100, &one_header, "100B+header")]
    {
        let values: Vec<Vec<u8>> = (0..RECORDS).map(|seed| value(size, seed)).collect();
        let capacity = RECORDS as usize * (size + 64) + 256;

        let mut group = criterion.benchmark_group("append");
        group.throughput(Throughput::Elements(RECORDS));
        group.bench_function(BenchmarkId::new("records", name), |bencher| {
            let options = BuilderOptions { capacity, ..BuilderOptions::default() };
            bencher.iter_batched_ref(
                || BatchBuilder::new(Compression::None, options.clone()),
                |builder| fill(builder, &values, headers),
                criterion::BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("records and crc, new buffer each", name), |bencher| {
            let options = BuilderOptions { capacity, ..BuilderOptions::default() };
            let mut builder = BatchBuilder::new(Compression::None, options);
            bencher.iter(|| {
                fill(&mut builder, &values, headers);
                builder.build().expect("batch")
            });
        });
        group.finish();

        let mut group = criterion.benchmark_group("read");
        group.throughput(Throughput::Elements(RECORDS));
        let bytes = batch_of(Compression::None, &values, headers);
        group.bench_function(BenchmarkId::new("views", name), |bencher| {
            let records = RecordBatch::new(bytes.clone()).expect("batch").records().expect("records");
            bencher.iter(|| {
                let mut sum = 0;
                for record in &records {
                    let record = black_box(record.expect("record"));
                    sum += record.offset + record.value.map_or(0, <[u8]>::len) as i64;
                }
                sum
            });
        });
        group.bench_function(BenchmarkId::new("slots", name), |bencher| {
            let records = RecordBatch::new(bytes.clone()).expect("batch").records().expect("records");
            bencher.iter(|| {
                let mut records = records.clone();
                let mut sum = 0;
                while let Some(slot) = records.next_slot() {
                    sum += black_box(slot.expect("record")).value.len();
                }
                sum
            });
        });
        group.finish();
    }

    let values: Vec<Vec<u8>> = (0..RECORDS).map(|seed| value(100, seed)).collect();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(RECORDS));
    for codec in Compression::ALL {
        let bytes = batch_of(codec, &values, &no_headers);
        group.bench_function(BenchmarkId::new("write", codec), |bencher| {
            bencher.iter(|| batch_of(codec, &values, &no_headers));
        });
        group.bench_function(BenchmarkId::new("read", codec), |bencher| {
            bencher.iter(|| {
                let batch = batches(&bytes).next().expect("one").expect("batch");
                batch.records().expect("records").iter().filter(Result::is_ok).count()
            });
        });
    }
    group.finish();

    validation(criterion);

    let bytes = batch_of(Compression::None, &values, &no_headers);
    let mut group = criterion.benchmark_group("batch");
    group.bench_function("crc of 110 kB", |bencher| bencher.iter(|| crc_of(black_box(&bytes))));
    group
        .bench_function("patch_for_append", |bencher| bencher.iter(|| patch_for_append(black_box(&bytes), 7, 1, None)));
    group.bench_function("murmur2 of 8 bytes", |bencher| bencher.iter(|| murmur2(black_box(b"12345678"))));
    group.bench_function("builder of one record", |bencher| {
        bencher.iter(|| {
            let mut builder =
                BatchBuilder::new(Compression::None, BuilderOptions { capacity: 256, ..Default::default() });
            builder.append(1, Some(b"key"), Some(&values[0]), HeadersRef::EMPTY).expect("room");
            builder.build().expect("batch")
        });
    });
    group.finish();
}

criterion_group!(batch_codec, benches);
criterion_main!(batch_codec);
