//! Which engine the stores of an application live in, and how one is opened there.

use std::path::Path;
use std::sync::Arc;

use crate::files::Files;

#[cfg(feature = "rocksdb")]
use super::budget::StateBudget;
use super::byte_store::ByteStore;
use super::directory::{self, Shape, key_value_directory, segmented_directory};
use super::engine::Engine;
use super::error::StateError;
use super::file::FileEngine;
use super::key_value::KeyValueStore;
use super::keys::KeyKind;
use super::memory::MemoryEngine;
use super::scan::Layout;
use super::session::SessionBytes;
use super::window::{WindowBytes, segment_interval_ms};

/// Name, place and format of a store to open.
#[derive(Clone, Copy, Debug)]
pub struct StoreSpec<'a> {
    /// Name of the store, which is that of its directory.
    pub name: &'a str,
    /// Directory of the task (`0_1`, `global`) that owns the store; not used in memory.
    pub task_directory: &'a Path,
    /// Name of the format of its values (`plain`, `timestamped` ..): a store kept under another name is refused.
    pub format: &'a str,
}

/// Where stores live.
#[derive(Clone)]
pub enum Backend {
    /// On the heap; restored from the changelog at every start.
    Memory,
    /// On the heap, with the expiry and the order of results of stores on disk: for test drivers.
    MemoryAsDisk,
    /// In RocksDB, all stores sharing one budget of memory.
    #[cfg(feature = "rocksdb")]
    RocksDb(StateBudget),
    /// On the heap and in a log on that disk: for small stores, and for simulated disks.
    Files {
        /// The disk.
        files: Arc<dyn Files>,
        /// Whether each write is synced, so that it survives a power cut.
        sync_writes: bool,
    },
}

impl Backend {
    /// Opens or makes a key-value store, in [`key_value_directory`].
    ///
    /// RocksDB is opened in the background; whatever needs it first waits, except that a new store reads as empty
    /// meanwhile. So open all stores before reading the offsets of any.
    ///
    /// # Errors
    /// `InUse`, `Foreign`, `Corrupt` or `Poisoned`, see [`StateErrorKind`](super::StateErrorKind); of RocksDB, all but
    /// `Foreign` may come from the first call that needs it instead.
    pub fn open_key_value(&self, spec: &StoreSpec<'_>) -> Result<Box<dyn ByteStore>, StateError> {
        let directory = key_value_directory(spec.task_directory, spec.name);
        Ok(Box::new(KeyValueStore::new(self.open_engine(spec, &directory, Shape::KeyValue)?)))
    }

    /// Opens or makes a window store, in [`segmented_directory`].
    ///
    /// # Errors
    /// As [`Backend::open_key_value`]; `Invalid` if the retention is negative.
    pub fn open_window(
        &self,
        spec: &StoreSpec<'_>,
        retention_ms: i64,
        layout: Layout,
        retain_duplicates: bool,
    ) -> Result<WindowBytes, StateError> {
        let engine = self.open_segmented(spec, KeyKind::Window, retention_ms, layout)?;
        WindowBytes::new(engine, retention_ms, layout, retain_duplicates)
    }

    /// Opens or makes a session store, in [`segmented_directory`].
    ///
    /// # Errors
    /// As [`Backend::open_window`].
    pub fn open_session(
        &self,
        spec: &StoreSpec<'_>,
        retention_ms: i64,
        layout: Layout,
    ) -> Result<SessionBytes, StateError> {
        let engine = self.open_segmented(spec, KeyKind::Session, retention_ms, layout)?;
        SessionBytes::new(engine, retention_ms, layout)
    }

    /// Deletes a key-value store that is not open, as one that is `Corrupt`; no error if there is none.
    ///
    /// # Errors
    /// `Foreign` if its directory was not written by this program, `Poisoned` if it cannot be deleted.
    pub fn delete_key_value(&self, spec: &StoreSpec<'_>) -> Result<(), StateError> {
        self.delete(&key_value_directory(spec.task_directory, spec.name))
    }

    /// Deletes a window or session store that is not open; no error if there is none.
    ///
    /// # Errors
    /// As [`Backend::delete_key_value`].
    pub fn delete_segmented(&self, spec: &StoreSpec<'_>) -> Result<(), StateError> {
        self.delete(&segmented_directory(spec.task_directory, spec.name))
    }

    fn delete(&self, directory: &Path) -> Result<(), StateError> {
        match self {
            Self::Memory | Self::MemoryAsDisk => Ok(()),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => directory::delete(&crate::files::RealFiles, directory),
            Self::Files { files, .. } => directory::delete(&**files, directory),
        }
    }

    /// Whether its stores survive the process.
    pub fn is_persistent(&self) -> bool {
        !matches!(self, Self::Memory | Self::MemoryAsDisk)
    }

    fn open_segmented(
        &self,
        spec: &StoreSpec<'_>,
        kind: KeyKind,
        retention_ms: i64,
        layout: Layout,
    ) -> Result<Box<dyn Engine>, StateError> {
        let directory = segmented_directory(spec.task_directory, spec.name);
        let segment_interval_ms = segment_interval_ms(retention_ms);
        self.open_engine(spec, &directory, Shape::Segmented { kind, layout, segment_interval_ms })
    }

    fn open_engine(&self, spec: &StoreSpec<'_>, directory: &Path, shape: Shape) -> Result<Box<dyn Engine>, StateError> {
        match self {
            Self::Memory => Ok(Box::new(MemoryEngine::new(spec.name))),
            Self::MemoryAsDisk => Ok(Box::new(MemoryEngine::as_disk(spec.name))),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(budget) => {
                let engine = super::rocks::RocksEngine::open(directory, spec.name, spec.format, shape, budget)?;
                Ok(Box::new(engine))
            }
            Self::Files { files, sync_writes } => {
                let engine = FileEngine::open(Arc::clone(files), directory, spec.format, shape, *sync_writes)?;
                Ok(Box::new(engine))
            }
        }
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::MemoryAsDisk => "MemoryAsDisk",
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => "RocksDb",
            Self::Files { .. } => "Files",
        })
    }
}
