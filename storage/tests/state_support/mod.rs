//! What the tests of byte stores share: every backend, and short ways to write and read.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;

use base::{Offset, TopicPartition};
use storage::files::RealFiles;
use storage::state::{Backend, BatchStore, ByteIterator, StateError, StoreSpec};

pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Every backend there is, by name.
pub fn backends() -> Vec<(&'static str, Backend)> {
    vec![
        ("memory", Backend::Memory),
        ("files", Backend::Files { files: RealFiles::shared(), sync_writes: false }),
        #[cfg(feature = "rocksdb")]
        ("rocksdb", Backend::RocksDb(storage::state::StateBudget::default())),
    ]
}

pub fn spec<'a>(directory: &'a Path, name: &'a str) -> StoreSpec<'a> {
    StoreSpec { name, task_directory: directory, format: "plain" }
}

pub fn changelog() -> TopicPartition {
    TopicPartition::new("app-store-changelog", 0)
}

pub fn write<S: BatchStore + ?Sized>(
    store: &mut S,
    changes: &[(Vec<u8>, Option<Vec<u8>>)],
    offset: Offset,
) -> Result<(), StateError> {
    let mut changes = changes.iter().map(|(key, value)| (&key[..], value.as_deref()));
    store.write(&mut changes, &[(changelog(), offset)])
}

pub fn entries(iterator: Result<Box<dyn ByteIterator + '_>, StateError>) -> Entries {
    iterator.and_then(|mut iterator| iterator.collect_entries()).expect("the scan works")
}
