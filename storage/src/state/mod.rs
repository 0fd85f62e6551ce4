//! Byte stores under state stores: memory, RocksDB and a light log-structured store on the seam to the disk, with
//! key-value, window and session layouts over each of them.
//!
//! ```text
//!   KeyValueStore (ByteStore)     WindowBytes   SessionBytes       what a typed store calls
//!           |                          \          /
//!           |                         SegmentedStore               time segments, expiry, key layouts
//!           |                              |
//!           +------------- Engine ---------+                       families of sorted bytes, one atomic batch
//!              MemoryEngine  RocksEngine  FileEngine
//! ```
//!
//! Owns the bytes of one store and how far the store has read its changelog: both change in one atomic step
//! ([`BatchStore::write`]). Does not know serdes, changelog topics' contents, caches, or what a window means: a window
//! or session is a key with timestamps in it, and time only decides when a segment may be thrown away.
//!
//! One thread writes (`&mut self`); any number may read meanwhile what is not being written (`&self`, all `Sync`).

mod backend;
mod budget;
mod byte_store;
mod directory;
mod engine;
mod error;
mod file;
mod key_filter;
mod key_value;
pub mod keys;
mod memory;
mod merge;
pub mod offsets;
#[cfg(feature = "rocksdb")]
mod rocks;
mod scan;
mod segmented;
mod session;
pub mod versioned;
mod window;

pub use backend::{Backend, StoreSpec};
pub use budget::{BudgetOptions, StateBudget};
pub use byte_store::{BatchStore, ByteIterator, ByteStore, Change, Direction, EmptyIterator, Entry, OwnedEntry};
pub use directory::{key_value_directory, segment_name, segmented_directory};
pub use engine::{Engine, Family};
pub use error::{StateError, StateErrorKind};
pub use file::{FileEngine, FileStore};
pub use key_value::KeyValueStore;
pub use memory::{MemoryEngine, MemoryStore};
pub use merge::MergedIterator;
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksEngine, RocksStore};
pub use scan::{Keys, Layout, Scan, TimeBounds};
pub use segmented::{SegmentedOptions, SegmentedStore};
pub use session::SessionBytes;
pub use versioned::{FoundVersion, VersionedPut, VersionedRows, Versions, versioned_segment_interval_ms};
pub use window::{WindowBytes, segment_interval_ms};
