//! State stores: what user code sees ([`KeyValueStore`], [`WindowStore`], [`SessionStore`]), how they are made
//! ([`builder`]), and the layers below.
//!
//! ```text
//!   typed facade        KeyValueStore / WindowStore / SessionStore: serialises keys, reads what is missing above
//!   write-back cache    typed values by serialised key, bounded in bytes, shared by the thread's tasks
//!   changelog           each write becomes a record of the changelog topic
//!   pending layer       changes since the last commit, in memory
//!   byte store          storage::state, written once per commit together with the changelog position
//! ```
//!
//! Whatever lies in the upper layers, every read, range and expiry answers as if each put had gone to the byte store at
//! once.

pub mod api;
pub mod builder;
pub(crate) mod cache;
pub mod global;
pub(crate) mod key_index;
pub mod key_value;
pub(crate) mod layer;
pub(crate) mod pending;
pub(crate) mod recency;
pub(crate) mod segmented;
pub mod session;
pub mod stream_buffer;
pub mod table_store;
pub(crate) mod value;
pub mod versioned;
pub mod versioned_builder;
pub mod window;
pub mod with_headers;

pub use api::{Flushed, RestoreRecord, StateStore, StoreContext, ValueAndTimestamp};
pub use builder::{
    KeyValueStoreBuilder, Logging, SessionStoreBuilder, Storage, StoreBuilder, StoreKind, Stores, WindowStoreBuilder,
};
pub use cache::ThreadCache;
pub use global::{GlobalKeyValueStore, GlobalStores};
pub use key_value::{KeyValueIterator, KeyValueStore, TimestampedKeyValueStore};
pub use session::{SessionIterator, SessionStore};
pub use stream_buffer::{BufferedRecord, StreamBuffer, StreamBufferBuilder};
pub use table_store::TableStore;
pub use versioned::{VersionedKeyValueStore, VersionedPut, VersionedRecord};
pub use versioned_builder::VersionedStoreBuilder;
pub use window::{TimestampedWindowStore, WindowIterator, WindowStore, WindowStoreIterator};
pub use with_headers::{
    AggregationWithHeaders, SessionStoreWithHeaders, TimestampedKeyValueStoreWithHeaders,
    TimestampedWindowStoreWithHeaders, ValueTimestampHeaders,
};
