//! A store's directory: where it lies, and the marker file that says whose it is.

use std::path::{Path, PathBuf};

/// Directory of a key-value store within its task's directory: `rocksdb/<store>`, as in Kafka Streams.
pub fn key_value_directory(task_directory: &Path, store: &str) -> PathBuf {
    task_directory.join("rocksdb").join(store)
}

/// Directory of a window or session store within its task's directory: `<store>`, as in Kafka Streams.
pub fn segmented_directory(task_directory: &Path, store: &str) -> PathBuf {
    task_directory.join(store)
}
