//! What byte stores cost: a batch of 1000 sorted changes, a get that hits and one that misses, 100 entries of a range,
//! a window fetch.

use std::hint::black_box;
use std::path::Path;

use base::{Rng, TopicPartition};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use storage::files::RealFiles;
use storage::state::keys::WindowKey;
use storage::state::{Backend, BatchStore, ByteIterator, ByteStore, Direction, Layout, StoreSpec};

const ENTRIES: u64 = 100_000;
const BATCH: usize = 1_000;

type Batch = Vec<([u8; 8], [u8; 50])>;

fn backends() -> Vec<(&'static str, Backend)> {
    vec![
        ("memory", Backend::Memory),
        ("files", Backend::Files { files: RealFiles::shared(), sync_writes: false }),
        #[cfg(feature = "rocksdb")]
        ("rocksdb", Backend::RocksDb(storage::state::StateBudget::default())),
    ]
}

fn spec<'a>(directory: &'a Path, name: &'a str) -> StoreSpec<'a> {
    StoreSpec { name, task_directory: directory, format: "plain" }
}

fn batch(rng: &mut Rng) -> Batch {
    let mut batch: Batch = (0..BATCH).map(|_| ((2 * rng.below(ENTRIES)).to_be_bytes(), [7; 50])).collect();
    batch.sort_unstable();
    batch
}

fn write(store: &mut dyn ByteStore, batch: &Batch) {
    let offsets = [(TopicPartition::new("changelog", 0), 1)];
    let mut changes = batch.iter().map(|(key, value)| (&key[..], Some(&value[..])));
    store.write(&mut changes, &offsets).expect("write");
}

fn key_value(criterion: &mut Criterion) {
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = backend.open_key_value(&spec(directory.path(), "bench")).expect("open");
        let mut rng = Rng::from_seed(1);
        for _ in 0..3 * ENTRIES / BATCH as u64 {
            write(&mut *store, &batch(&mut rng));
        }
        store.flush().expect("flush");
        let mut group = criterion.benchmark_group(name);
        group.bench_function("get hit or near", |bencher| {
            bencher.iter(|| {
                let key = (2 * rng.below(ENTRIES)).to_be_bytes();
                store.get_with(&key, &mut |value| _ = black_box(value)).expect("get")
            });
        });
        group.bench_function("get miss", |bencher| {
            bencher.iter(|| {
                let key = (2 * rng.below(ENTRIES) + 1).to_be_bytes();
                store.get_with(&key, &mut |value| _ = black_box(value)).expect("get")
            });
        });
        group.throughput(Throughput::Elements(100));
        group.bench_function("range of 100", |bencher| {
            bencher.iter(|| {
                let from = (2 * rng.below(ENTRIES - 1_000)).to_be_bytes();
                let mut range = store.range(Some(&from), None, Direction::Forward).expect("range");
                for _ in 0..100 {
                    black_box(range.next_entry().expect("entry"));
                }
            });
        });
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function("write 1000 sorted", |bencher| {
            bencher.iter_batched(|| batch(&mut rng), |batch| write(&mut *store, &batch), BatchSize::SmallInput);
        });
        group.finish();
    }
}

fn window(criterion: &mut Criterion) {
    for (name, backend) in backends() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "windows");
        let mut store = backend.open_window(&spec, 3_600_000, Layout::KeyFirst, false).expect("open");
        for key in 0_u64..1_000 {
            let keys: Vec<Vec<u8>> = (0..60)
                .map(|n| WindowKey { key: &key.to_be_bytes(), start: n * 60_000, sequence: 0 }.to_bytes())
                .collect();
            let mut changes = keys.iter().map(|key| (&key[..], Some(&[7_u8; 20][..])));
            store.write(&mut changes, &[]).expect("write");
        }
        store.flush().expect("flush");
        let mut rng = Rng::from_seed(1);
        criterion.bench_function(&format!("{name}/fetch 10 windows of a key"), |bencher| {
            bencher.iter(|| {
                let key = rng.below(1_000).to_be_bytes();
                let from = 60_000 * rng.below(50) as i64;
                let mut windows = store.fetch(&key, from, from + 9 * 60_000, Direction::Forward).expect("fetch");
                while let Some(entry) = windows.next_entry().expect("entry") {
                    black_box(entry);
                }
            });
        });
    }
}

criterion_group!(benches, key_value, window);
criterion_main!(benches);
