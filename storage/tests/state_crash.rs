//! Crashes: data and changelog offset are those of one and the same batch, whatever was lost.

mod state_support;

use std::path::Path;
use std::sync::Arc;

use base::{ManualClock, Rng};
use state_support::{changelog, entries};
use storage::files::{Files, SimFiles};
use storage::state::{Backend, BatchStore, Direction, FileStore, StoreSpec};

/// Batch `number` sets these keys to `number` (every batch the first ones), so that a batch that is there in part shows.
fn batch(number: i64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = number.to_be_bytes().to_vec();
    let mut keys: Vec<Vec<u8>> = (0_u8..8).map(|n| vec![n]).collect();
    keys.push([&[9][..], &value].concat());
    keys.into_iter().map(|key| (key, value.clone())).collect()
}

fn write_batch<S: BatchStore + ?Sized>(store: &mut S, batch: &[(Vec<u8>, Vec<u8>)], number: i64) -> bool {
    let mut changes = batch.iter().map(|(key, value)| (&key[..], Some(&value[..])));
    store.write(&mut changes, &[(changelog(), number)]).is_ok()
}

#[test]
fn synced_batches_survive_any_power_cut_and_unsynced_ones_wholly_or_not() {
    for seed in 0..200 {
        let mut rng = Rng::from_seed(seed);
        let files = Arc::new(SimFiles::new(ManualClock::new(0)));
        let sync_writes = rng.chance(1, 2);
        let backend = Backend::Files { files: files.clone(), sync_writes };
        let spec = StoreSpec { name: "counts", task_directory: Path::new("/state/app/0_0"), format: "plain" };
        // What is durable, what the next life must see at least, and what was written last.
        let (mut durable, mut expected, mut number) = (-1, -1, -1);
        for _ in 0..4 {
            let mut store = backend.open_key_value(&spec).expect("open after a crash");
            let offset = store.offset(&changelog()).expect("offset").unwrap_or(-1);
            assert!((expected..=number).contains(&offset), "seed {seed}: {expected} {offset} {number}");
            for (key, value) in entries(store.range(None, None, Direction::Forward)) {
                let written = i64::from_be_bytes(value.try_into().expect("8 bytes"));
                let expected = if key.len() == 1 { written == offset } else { written <= offset };
                assert!(expected, "seed {seed}: {key:?} of batch {written} at offset {offset}");
            }
            number = offset;
            for _ in 0..rng.below(20) {
                number += 1;
                assert!(write_batch(&mut *store, &batch(number), number), "seed {seed}");
                if sync_writes {
                    durable = number;
                }
            }
            if rng.chance(1, 3) {
                store.flush().expect("flush");
                durable = number;
            }
            if rng.chance(1, 4) {
                store.close().expect("close");
                durable = number;
            }
            if rng.chance(1, 2) {
                files.crash(&mut rng);
                expected = durable;
            } else {
                files.kill();
                expected = number;
            }
        }
    }
}

#[test]
fn log_that_has_grown_is_written_anew_with_the_same_content() {
    let files = Arc::new(SimFiles::new(ManualClock::new(0)));
    let open = || FileStore::open(files.clone(), Path::new("/state/counts"), "plain", true).expect("open");
    let mut store = open();
    let value = vec![7; 1 << 16];
    for number in 0..200 {
        let batch = [(b"k".to_vec(), value.clone()), (vec![number as u8], vec![1])];
        assert!(write_batch(&mut store, &batch, number));
    }
    let size = files.metadata(Path::new("/state/counts/store.log")).expect("the log").len;
    assert!(size < 2 << 20, "{size} bytes");
    let before = entries(storage::state::ByteStore::range(&store, None, None, Direction::Forward));
    drop(store);
    files.crash(&mut Rng::from_seed(1));
    let store = open();
    assert_eq!(entries(storage::state::ByteStore::range(&store, None, None, Direction::Forward)), before);
    assert_eq!(store.offset(&changelog()).expect("offset"), Some(199));
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use std::process::Command;

    use super::*;
    use storage::state::keys::WindowKey;
    use storage::state::{BudgetOptions, Layout, StateBudget, WindowBytes};

    const DIRECTORY: &str = "STATE_CRASH_DIRECTORY";
    const RETENTION_MS: i64 = 400_000;

    fn backend() -> Backend {
        // Write buffers so small that they are flushed in the middle of the run.
        let options = BudgetOptions {
            write_buffer_bytes: 1 << 20,
            family_write_buffer_bytes: 256 << 10,
            ..BudgetOptions::default()
        };
        Backend::RocksDb(StateBudget::new(options))
    }

    fn spec(directory: &Path) -> StoreSpec<'_> {
        StoreSpec { name: "win", task_directory: directory, format: "plain" }
    }

    fn open_window(directory: &Path) -> WindowBytes {
        backend().open_window(&spec(directory), RETENTION_MS, Layout::KeyFirst, false).expect("open")
    }

    /// Entries of batch `number`, one in each of three segments.
    fn window_batch(number: i64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let value = [&number.to_be_bytes()[..], &[0; 500]].concat();
        let entry = |start| (WindowKey { key: b"k", start, sequence: 0 }.to_bytes(), value.clone());
        [199_999, 300_000, 400_000].map(entry).into()
    }

    /// Not a test by itself: the process that [`killed_process_leaves_data_and_offsets_of_one_batch`] starts.
    #[test]
    fn child_that_is_killed() {
        let Some(directory) = std::env::var_os(DIRECTORY) else { return };
        let directory = Path::new(&directory);
        let mut counts = backend().open_key_value(&spec(directory)).expect("open");
        let mut windows = open_window(directory);
        for number in 0..4_000 {
            assert!(write_batch(&mut *counts, &batch(number), number));
            assert!(write_batch(&mut *windows, &window_batch(number), number));
        }
        std::process::abort();
    }

    #[test]
    fn killed_process_leaves_data_and_offsets_of_one_batch() {
        let directory = tempfile::tempdir().expect("a directory");
        let this = std::env::current_exe().expect("this program");
        let child = Command::new(this)
            .args(["--exact", "rocksdb::child_that_is_killed", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .output()
            .expect("start");
        assert!(!child.status.success());

        let counts = backend().open_key_value(&spec(directory.path())).expect("open");
        assert!(!counts.was_closed_cleanly().expect("open"));
        let offset = counts.offset(&changelog()).expect("offset");
        for (key, value) in entries(counts.range(None, None, Direction::Forward)) {
            let written = i64::from_be_bytes(value.try_into().expect("8 bytes"));
            assert!(if key.len() == 1 { Some(written) == offset } else { Some(written) <= offset }, "{key:?}");
        }

        let windows = open_window(directory.path());
        let offset = windows.offset(&changelog()).expect("offset");
        assert!(offset.is_some_and(|offset| offset < 3_999), "was flushed in the middle: {offset:?}");
        let found = entries(windows.all(Direction::Forward));
        assert_eq!(found.len(), 3);
        for (_, value) in found {
            let written = value.first_chunk::<8>().map(|number| i64::from_be_bytes(*number));
            assert_eq!(written, offset);
        }
    }
}
