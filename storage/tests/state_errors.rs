//! What stores refuse, and that they say where and why.

mod state_support;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base::ManualClock;
use state_support::{backends, changelog, spec, write};
use storage::files::{Fault, SimFiles};
use storage::state::{
    Backend, BatchStore, ByteStore, FileStore, Layout, StateError, StateErrorKind, key_value_directory,
    segmented_directory,
};

fn persistent() -> impl Iterator<Item = (&'static str, Backend)> {
    backends().into_iter().filter(|(_, backend)| backend.is_persistent())
}

fn refusal<T>(result: Result<T, StateError>) -> (StateErrorKind, String) {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[test]
fn directory_in_use_is_refused_with_its_path() {
    for (name, backend) in persistent() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "counts");
        let mut store = backend.open_key_value(&spec).expect("open");
        write(&mut *store, &[], 0).expect("write");
        let (kind, text) = refusal(backend.open_key_value(&spec).and_then(|store| store.offsets()));
        assert_eq!(kind, StateErrorKind::InUse, "{name}: {text}");
        assert!(text.contains("rocksdb/counts"), "{name}: {text}");
        store.close().expect("close");
        let store = backend.open_key_value(&spec).expect("open");
        store.offsets().expect("free after closing");
    }
}

#[test]
fn state_of_kafka_streams_is_refused_and_left_alone() {
    for (name, backend) in persistent() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "counts");
        let key_value = key_value_directory(directory.path(), "counts");
        let segment = segmented_directory(directory.path(), "counts").join("counts.1700000340000");
        for database in [&key_value, &segment] {
            fs::create_dir_all(database).expect("make");
            fs::write(database.join("CURRENT"), "MANIFEST-000005\n").expect("write");
        }
        let (kind, text) = refusal(backend.open_key_value(&spec));
        assert_eq!(kind, StateErrorKind::Foreign, "{name}: {text}");
        assert!(text.contains("Kafka Streams") && text.contains("rocksdb/counts"), "{name}: {text}");
        let (kind, text) = refusal(backend.open_window(&spec, 1_000, Layout::KeyFirst, false));
        assert_eq!(kind, StateErrorKind::Foreign, "{name}: {text}");
        assert!(text.contains("counts.1700000340000"), "{name}: {text}");
        assert_eq!(fs::read_dir(&key_value).expect("list").count(), 1, "{name}");
        assert_eq!(fs::read_dir(&segment).expect("list").count(), 1, "{name}");
    }
}

#[test]
fn store_of_another_shape_format_or_engine_is_refused() {
    for (name, backend) in persistent() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "win");
        let layout = Layout::KeyFirst;
        backend.open_window(&spec, 200_000, layout, false).expect("open").close().expect("close");
        backend.open_window(&spec, 200_000, layout, true).expect("duplicates change no layout");
        let indexed = Layout::TimeFirst { key_index: true };
        let other_format = storage::state::StoreSpec { format: "timestamped", ..spec };
        for (result, found, wanted) in [
            (backend.open_window(&spec, 400_000, layout, false), "interval-ms=100000", "interval-ms=200000"),
            (backend.open_window(&spec, 200_000, indexed, false), "layout=key-first", "layout=time-first-with-index"),
            (backend.open_window(&other_format, 200_000, layout, false), "format=plain", "format=timestamped"),
        ] {
            let (kind, text) = refusal(result);
            assert_eq!(kind, StateErrorKind::Foreign, "{name}: {text}");
            assert!(text.contains(found) && text.contains(wanted), "{name}: {text}");
        }
        let (kind, text) = refusal(backend.open_session(&spec, 200_000, layout));
        assert_eq!(kind, StateErrorKind::Foreign, "{name}: {text}");
        for (other_name, other) in persistent().filter(|(other, _)| *other != name) {
            let (kind, text) = refusal(other.open_window(&spec, 200_000, layout, false));
            assert_eq!(kind, StateErrorKind::Foreign, "{other_name}: {text}");
            assert!(text.contains("engine="), "{other_name}: {text}");
        }
    }
}

#[test]
fn store_written_by_a_later_version_is_refused() {
    for (name, backend) in persistent() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "counts");
        backend.open_key_value(&spec).expect("open").close().expect("close");
        let marker = key_value_directory(directory.path(), "counts").join("millstream-store");
        let text = fs::read_to_string(&marker).expect("read").replace("version=1", "version=2");
        fs::write(&marker, text).expect("write");
        let (kind, text) = refusal(backend.open_key_value(&spec));
        assert_eq!(kind, StateErrorKind::Foreign, "{name}: {text}");
        assert!(text.contains("version=2"), "{name}: {text}");
    }
}

#[test]
fn directory_that_cannot_be_made_is_an_error_with_its_path() {
    for (name, backend) in persistent() {
        let directory = tempfile::tempdir().expect("a directory");
        let task = directory.path().join("0_0");
        fs::write(&task, "a file where the task's directory should be").expect("write");
        let opened = backend.open_key_value(&spec(&task, "counts"));
        let (kind, text) = refusal(opened.and_then(|mut store| write(&mut *store, &[], 0)));
        assert_eq!(kind, StateErrorKind::Poisoned, "{name}: {text}");
        assert!(text.contains("0_0/rocksdb/counts"), "{name}: {text}");
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn damaged_rocksdb_is_corrupt_and_can_be_deleted() {
    let backend = Backend::RocksDb(storage::state::StateBudget::default());
    let directory = tempfile::tempdir().expect("a directory");
    let spec = spec(directory.path(), "counts");
    let mut store = backend.open_key_value(&spec).expect("open");
    write(&mut *store, &[(b"k".to_vec(), Some(b"v".to_vec()))], 1).expect("write");
    store.close().expect("close");
    let files = fs::read_dir(key_value_directory(directory.path(), "counts")).expect("list").flatten();
    for table in files.filter(|entry| entry.path().extension().is_some_and(|name| name == "sst")) {
        fs::remove_file(table.path()).expect("remove");
    }
    let (kind, text) = refusal(backend.open_key_value(&spec).and_then(|store| store.offsets()));
    assert_eq!(kind, StateErrorKind::Corrupt, "{text}");
    backend.delete_key_value(&spec).expect("delete");
    assert_eq!(backend.open_key_value(&spec).expect("open anew").get(b"k").expect("get"), None);
}

#[test]
fn only_own_directories_are_deleted() {
    for (name, backend) in persistent() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(directory.path(), "counts");
        backend.delete_key_value(&spec).expect("nothing to delete");
        backend.open_window(&spec, 1_000, Layout::KeyFirst, false).expect("open").close().expect("close");
        backend.delete_segmented(&spec).expect("delete");
        assert!(!segmented_directory(directory.path(), "counts").exists(), "{name}");
        let foreign = key_value_directory(directory.path(), "counts");
        fs::create_dir_all(&foreign).expect("make");
        fs::write(foreign.join("CURRENT"), "").expect("write");
        assert_eq!(refusal(backend.delete_key_value(&spec)).0, StateErrorKind::Foreign, "{name}");
        assert!(foreign.exists(), "{name}");
    }
}

#[test]
fn failed_write_poisons_the_store_until_it_is_opened_again() {
    let files = Arc::new(SimFiles::new(ManualClock::new(0)));
    let open = || FileStore::open(files.clone(), Path::new("/state/rocksdb/counts"), "plain", true);
    let mut store = open().expect("open");
    write(&mut store, &[(b"a".to_vec(), Some(b"1".to_vec()))], 1).expect("write");
    files.fail_next(Fault::Sync, "store.log", io::ErrorKind::Other);
    for _ in 0..2 {
        let error = write(&mut store, &[(b"b".to_vec(), Some(b"2".to_vec()))], 2).expect_err("poisoned");
        assert_eq!(error.kind(), StateErrorKind::Poisoned);
        assert!(error.to_string().contains("/state/rocksdb/counts"), "{error}");
        assert_eq!(store.get(b"b").expect("reads go on"), None);
    }
    assert!(store.close().is_err());
    let store = open().expect("open again");
    assert!(!store.was_closed_cleanly().expect("open"));
    assert_eq!(store.get(b"a").expect("get"), Some(b"1".to_vec()));
    let offset = store.offset(&changelog()).expect("offset");
    assert_eq!(store.get(b"b").expect("get").is_some(), offset == Some(2));
}
