//! Which engine the stores of an application live in, and how one is opened there.

use std::path::Path;

#[cfg(feature = "rocksdb")]
use super::budget::StateBudget;
use super::byte_store::ByteStore;
use super::engine::Engine;
use super::error::StateError;
use super::key_value::KeyValueStore;
use super::memory::MemoryEngine;
use super::scan::Layout;
use super::session::SessionBytes;
use super::window::WindowBytes;

/// What lies in a store; kept with it, so that a store of another shape is refused instead of misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// [`Backend::open_key_value`].
    KeyValue,
    /// [`Backend::open_window`].
    Window,
    /// [`Backend::open_session`].
    Session,
}

/// Name and format of a store to open.
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
#[derive(Clone, Debug)]
pub enum Backend {
    /// On the heap; restored from the changelog at every start.
    Memory,
    /// In RocksDB, all stores sharing one budget of memory.
    #[cfg(feature = "rocksdb")]
    RocksDb(StateBudget),
}

impl Backend {
    /// Opens or makes a key-value store.
    ///
    /// # Errors
    /// `InUse`, `Foreign`, `Corrupt` or `Poisoned`, see [`StateErrorKind`](super::StateErrorKind).
    pub fn open_key_value(&self, spec: &StoreSpec<'_>) -> Result<Box<dyn ByteStore>, StateError> {
        Ok(Box::new(KeyValueStore::new(self.open_engine(spec, StoreKind::KeyValue, "")?)))
    }

    /// Opens or makes a window store.
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
        let engine = self.open_engine(spec, StoreKind::Window, "")?;
        WindowBytes::new(engine, retention_ms, layout, retain_duplicates)
    }

    /// Opens or makes a session store.
    ///
    /// # Errors
    /// As [`Backend::open_window`].
    pub fn open_session(
        &self,
        spec: &StoreSpec<'_>,
        retention_ms: i64,
        layout: Layout,
    ) -> Result<SessionBytes, StateError> {
        SessionBytes::new(self.open_engine(spec, StoreKind::Session, "")?, retention_ms, layout)
    }

    /// Whether its stores survive the process.
    pub fn is_persistent(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    fn open_engine(&self, spec: &StoreSpec<'_>, kind: StoreKind, shape: &str) -> Result<Box<dyn Engine>, StateError> {
        let _ = (kind, shape);
        match self {
            Self::Memory => Ok(Box::new(MemoryEngine::new(spec.name))),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(budget) => super::rocks::open(spec, kind, budget),
        }
    }
}
