//! Describes stores, to be added to a topology; each task makes its own from the description.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use storage::state::Layout;

use crate::error::StreamsError;
use crate::serde::{Serde, SerdeRef};
use crate::store::api::{StateStore, StoreContext, ValueAndTimestamp};
use crate::store::key_value::KeyValueStore;
use crate::store::session::SessionStore;
use crate::store::value::{PlainFormat, TimeForgottenFormat, TimestampedFormat, ValueFormat};
use crate::store::window::WindowStore;
use crate::store::with_headers::{
    AggregationWithHeaders, TimestampedWithHeadersFormat, ValueTimestampHeaders, WithHeadersFormat,
};

/// Where a store's bytes live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On disk, where the application's backend keeps its state (RocksDB by default).
    #[default]
    Persistent,
    /// In memory; restored from the changelog at each start.
    InMemory,
    /// As `default.dsl.store` says: persistent unless that is `in_memory`.
    Application,
}

/// The changelog of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logging {
    /// With a changelog; the map overrides its topic configuration.
    Enabled(BTreeMap<String, String>),
    /// Without: the state is lost with the local directory.
    Disabled,
}

impl Default for Logging {
    fn default() -> Self {
        Self::Enabled(BTreeMap::new())
    }
}

/// What the configuration of a changelog topic follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Compacted changelog.
    KeyValue,
    /// Compacted and deleted after the retention; of stores with duplicates, deleted only.
    Windowed {
        /// How long windows are kept.
        retention_ms: i64,
        /// Whether several values of one key and start are kept.
        retain_duplicates: bool,
    },
    /// Compacted, with a lag that protects the history.
    Versioned {
        /// How long old versions are kept.
        history_retention_ms: i64,
    },
}

/// Describes a store and makes it. The built-in ones come from [`Stores`].
pub trait StoreBuilder: Send + Sync + 'static {
    /// Name of the store, unique in the topology; its changelog is `<application.id>-<name>-changelog`.
    fn name(&self) -> &str;

    /// Whether and how it is logged.
    fn logging(&self) -> &Logging;

    /// What the changelog's configuration follows from.
    fn kind(&self) -> StoreKind;

    /// What kind of store it is, in a word: a store of another kind cannot read what this one has kept.
    fn kind_name(&self) -> &'static str {
        match self.kind() {
            StoreKind::KeyValue => "key-value",
            StoreKind::Windowed { .. } => "window",
            StoreKind::Versioned { .. } => "versioned",
        }
    }

    /// Whether its content survives the process, unless the application's settings say otherwise.
    fn is_persistent(&self) -> bool;

    /// Makes the store of one task.
    ///
    /// # Errors
    /// The store could not be opened.
    fn build(&self, context: &StoreContext) -> Result<Rc<dyn StateStore>, StreamsError>;
}

/// A shared description of a store.
pub type StoreBuilderRef = Arc<dyn StoreBuilder>;

/// Where to begin: descriptions of the built-in stores.
///
/// Persistent stores keep their state where the application's backend does; `in_memory_` ones on the heap.
#[derive(Clone, Copy, Debug)]
pub struct Stores;

impl Stores {
    /// A key-value store.
    pub fn key_value<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> KeyValueStoreBuilder<K, V> {
        let format: Arc<dyn ValueFormat<V>> = Arc::new(PlainFormat(value.into_ref()));
        KeyValueStoreBuilder { common: Common::new(name), key: key.into_ref(), format }
    }

    /// A key-value store that keeps the time of each key's last update.
    pub fn timestamped_key_value<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> KeyValueStoreBuilder<K, ValueAndTimestamp<V>> {
        let format: Arc<dyn ValueFormat<ValueAndTimestamp<V>>> = Arc::new(TimestampedFormat(value.into_ref()));
        KeyValueStoreBuilder { common: Common::new(name), key: key.into_ref(), format }
    }

    /// A key-value store that keeps the time and the headers of each key's last update. In the changelog they are those of the record; a
    /// deletion's record carries the headers of the record that deleted.
    ///
    /// ```
    /// use streams_core::serde::StringSerde;
    /// use streams_core::store::{Stores, ValueTimestampHeaders};
    /// use streams_core::{BoxError, Processor, ProcessorContext, Record, SourceOptions, StreamsConfig, Topology, TopologyTestDriver};
    ///
    /// /// Keeps the last record of each key.
    /// struct Keep;
    ///
    /// impl Processor<String, String, (), ()> for Keep {
    ///     fn process(&mut self, record: Record<String, String>, ctx: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
    ///         let store = ctx.timestamped_key_value_store_with_headers::<String, String>("last")?;
    ///         let (timestamp, headers) = (record.timestamp, record.headers);
    ///         let value = record.value.map(|value| ValueTimestampHeaders::new(value, timestamp, headers));
    ///         Ok(store.put(&record.key.unwrap_or_default(), value)?)
    ///     }
    /// }
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", SourceOptions::<String, String>::default(), ["in"])?;
    /// topology.add_processor("keep", || Keep, &["in"])?;
    /// let store = Stores::timestamped_key_value_with_headers("last", StringSerde, StringSerde);
    /// topology.add_state_store(store, &["keep"])?;
    /// let driver = TopologyTestDriver::new(&topology, StreamsConfig::new("app"))?;
    /// let mut record = Record::new("k".to_owned(), "v".to_owned(), 7);
    /// record.headers.add("trace", Some("42".into()));
    /// driver.input_topic::<String, String>("in").pipe_record(record)?;
    /// let store = driver.timestamped_key_value_store_with_headers::<String, String>("last").ok_or("no store")?;
    /// let last = store.get(&"k".to_owned())?.ok_or("no value")?;
    /// assert_eq!((last.value.as_str(), last.timestamp, last.headers.len()), ("v", 7, 1));
    /// # Ok::<(), streams_core::BoxError>(())
    /// ```
    pub fn timestamped_key_value_with_headers<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> KeyValueStoreBuilder<K, ValueTimestampHeaders<V>> {
        let format: Arc<dyn ValueFormat<ValueTimestampHeaders<V>>> =
            Arc::new(TimestampedWithHeadersFormat(value.into_ref()));
        KeyValueStoreBuilder { common: Common::new(name), key: key.into_ref(), format }
    }

    /// As [`Stores::timestamped_key_value`], but the time of an update goes to the changelog only: what is read back from the store has the
    /// time -1. It is what Kafka Streams makes of a table in a store without timestamps.
    pub fn untimed_key_value<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> KeyValueStoreBuilder<K, ValueAndTimestamp<V>> {
        let format: Arc<dyn ValueFormat<ValueAndTimestamp<V>>> = Arc::new(TimeForgottenFormat(value.into_ref()));
        KeyValueStoreBuilder { common: Common::new(name), key: key.into_ref(), format }
    }

    /// A window store of windows of `window_size_ms`, kept for `retention_ms` of stream time.
    pub fn window<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        retention_ms: i64,
        window_size_ms: i64,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> WindowStoreBuilder<K, V> {
        let format: Arc<dyn ValueFormat<V>> = Arc::new(PlainFormat(value.into_ref()));
        WindowStoreBuilder::new(name, retention_ms, window_size_ms, key.into_ref(), format)
    }

    /// A window store that keeps the time of each window's last update.
    pub fn timestamped_window<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        retention_ms: i64,
        window_size_ms: i64,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> WindowStoreBuilder<K, ValueAndTimestamp<V>> {
        let format: Arc<dyn ValueFormat<ValueAndTimestamp<V>>> = Arc::new(TimestampedFormat(value.into_ref()));
        WindowStoreBuilder::new(name, retention_ms, window_size_ms, key.into_ref(), format)
    }

    /// A window store that keeps the time and the headers of each window's last update, as
    /// [`Stores::timestamped_key_value_with_headers`].
    pub fn timestamped_window_with_headers<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        retention_ms: i64,
        window_size_ms: i64,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> WindowStoreBuilder<K, ValueTimestampHeaders<V>> {
        let format: Arc<dyn ValueFormat<ValueTimestampHeaders<V>>> =
            Arc::new(TimestampedWithHeadersFormat(value.into_ref()));
        WindowStoreBuilder::new(name, retention_ms, window_size_ms, key.into_ref(), format)
    }

    /// As [`Stores::timestamped_window`], but the time of an update is forgotten as in [`Stores::untimed_key_value`].
    pub fn untimed_window<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        retention_ms: i64,
        window_size_ms: i64,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> WindowStoreBuilder<K, ValueAndTimestamp<V>> {
        let format: Arc<dyn ValueFormat<ValueAndTimestamp<V>>> = Arc::new(TimeForgottenFormat(value.into_ref()));
        WindowStoreBuilder::new(name, retention_ms, window_size_ms, key.into_ref(), format)
    }

    /// A session store, kept for `retention_ms` of stream time.
    pub fn session<K: 'static, V: Clone + 'static>(
        name: impl Into<String>,
        retention_ms: i64,
        key: impl Serde<K> + 'static,
        value: impl Serde<V> + 'static,
    ) -> SessionStoreBuilder<K, V> {
        let format: Arc<dyn ValueFormat<V>> = Arc::new(PlainFormat(value.into_ref()));
        SessionStoreBuilder::new(name, retention_ms, key.into_ref(), format)
    }

    /// A session store that keeps the headers of each session's last update, as [`Stores::timestamped_key_value_with_headers`].
    pub fn session_with_headers<K: 'static, A: Clone + 'static>(
        name: impl Into<String>,
        retention_ms: i64,
        key: impl Serde<K> + 'static,
        aggregation: impl Serde<A> + 'static,
    ) -> SessionStoreBuilder<K, AggregationWithHeaders<A>> {
        let format: Arc<dyn ValueFormat<AggregationWithHeaders<A>>> =
            Arc::new(WithHeadersFormat(aggregation.into_ref()));
        SessionStoreBuilder::new(name, retention_ms, key.into_ref(), format)
    }
}

/// What all built-in builders have.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) name: Arc<str>,
    pub(crate) storage: Storage,
    pub(crate) logging: Logging,
    pub(crate) caching: bool,
    /// Whether changelog records carry the headers of the record being processed.
    pub(crate) logs_headers: bool,
    /// Whether `dsl.store.format` says what is kept.
    pub(crate) application_format: bool,
    /// How many entries there may be; then the one not used for longest goes.
    pub(crate) entries_max: Option<usize>,
}

impl Common {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        let name: String = name.into();
        Self {
            name: name.into(),
            storage: Storage::Persistent,
            logging: Logging::default(),
            caching: false,
            logs_headers: false,
            application_format: false,
            entries_max: None,
        }
    }
}

/// Describes a [`KeyValueStore`].
pub struct KeyValueStoreBuilder<K, V> {
    pub(crate) common: Common,
    pub(crate) key: SerdeRef<K>,
    pub(crate) format: Arc<dyn ValueFormat<V>>,
}

/// Describes a [`WindowStore`].
pub struct WindowStoreBuilder<K, V> {
    pub(crate) common: Common,
    pub(crate) retention_ms: i64,
    pub(crate) window_size_ms: i64,
    pub(crate) retain_duplicates: bool,
    pub(crate) layout: Layout,
    pub(crate) key: SerdeRef<K>,
    pub(crate) format: Arc<dyn ValueFormat<V>>,
}

/// Describes a [`SessionStore`].
pub struct SessionStoreBuilder<K, V> {
    pub(crate) common: Common,
    pub(crate) retention_ms: i64,
    pub(crate) layout: Layout,
    pub(crate) key: SerdeRef<K>,
    pub(crate) format: Arc<dyn ValueFormat<V>>,
}

/// Where the bytes are kept, and whether changes are logged: of all built-in builders.
macro_rules! storage_options {
    ($builder:ident) => {
        impl<K, V> $builder<K, V> {
            /// Keeps the bytes there.
            #[must_use]
            pub fn with_storage(mut self, storage: $crate::store::builder::Storage) -> Self {
                self.common.storage = storage;
                self
            }

            /// Keeps the bytes in memory.
            #[must_use]
            pub fn in_memory(self) -> Self {
                self.with_storage($crate::store::builder::Storage::InMemory)
            }

            /// With a changelog of which `configs` overrides the topic configuration.
            #[must_use]
            pub fn with_logging(mut self, configs: std::collections::BTreeMap<String, String>) -> Self {
                self.common.logging = $crate::store::builder::Logging::Enabled(configs);
                self
            }

            /// Without a changelog.
            #[must_use]
            pub fn without_logging(mut self) -> Self {
                self.common.logging = $crate::store::builder::Logging::Disabled;
                self
            }
        }
    };
}

pub(crate) use storage_options;

/// What stores with a cache have besides.
macro_rules! common_options {
    ($builder:ident) => {
        storage_options!($builder);

        impl<K, V> $builder<K, V> {
            /// Keeps headers, where it is persistent, if the application's `dsl.store.format` is `HEADERS`. As in Kafka Streams 4.3, what the
            /// DSL writes has none; what differs is that a deletion's changelog record carries the headers of the record that deleted.
            #[must_use]
            pub fn with_application_format(mut self) -> Self {
                self.common.application_format = true;
                self
            }

            /// With the write-back cache, or (the default) without.
            #[must_use]
            pub fn with_caching(mut self, caching: bool) -> Self {
                self.common.caching = caching;
                self
            }
        }
    };
}

common_options!(KeyValueStoreBuilder);
common_options!(WindowStoreBuilder);
common_options!(SessionStoreBuilder);

impl<K, V> KeyValueStoreBuilder<K, V> {
    /// Keeps at most `entries` of them (at least one), in memory: one more, and the entry read or written the longest ago goes. Of a
    /// store without timestamps, that is logged as a deletion, as in Kafka Streams.
    #[must_use]
    pub fn with_max_entries(mut self, entries: usize) -> Self {
        self.common.storage = Storage::InMemory;
        self.common.entries_max = Some(entries.max(1));
        self
    }

    /// Gives changelog records the headers of the record being processed, as Kafka Streams does for the subscriptions of foreign-key
    /// joins; they are not restored.
    #[must_use]
    pub fn with_logged_headers(mut self) -> Self {
        self.common.logs_headers = true;
        self
    }
}

impl<K, V> WindowStoreBuilder<K, V> {
    fn new(
        name: impl Into<String>,
        retention_ms: i64,
        window_size_ms: i64,
        key: SerdeRef<K>,
        format: Arc<dyn ValueFormat<V>>,
    ) -> Self {
        Self {
            common: Common::new(name),
            retention_ms,
            window_size_ms,
            retain_duplicates: false,
            layout: Layout::KeyFirst,
            key,
            format,
        }
    }

    /// Keeps every value put for a key and start instead of the last one, as stream-stream joins need. Such a store
    /// has no cache, and ignores puts of null.
    #[must_use]
    pub fn with_duplicates(mut self) -> Self {
        self.retain_duplicates = true;
        self
    }
}

impl<K, V> SessionStoreBuilder<K, V> {
    fn new(name: impl Into<String>, retention_ms: i64, key: SerdeRef<K>, format: Arc<dyn ValueFormat<V>>) -> Self {
        Self { common: Common::new(name), retention_ms, layout: Layout::KeyFirst, key, format }
    }
}

macro_rules! layout_option {
    ($builder:ident) => {
        impl<K, V> $builder<K, V> {
            /// Arranges entries by time, then key, with an index by key if `key_index`: for results that are emitted when
            /// windows close. Changelog and reads are the same.
            #[must_use]
            pub fn time_first(mut self, key_index: bool) -> Self {
                self.layout = Layout::TimeFirst { key_index };
                self
            }
        }
    };
}

layout_option!(WindowStoreBuilder);
layout_option!(SessionStoreBuilder);

macro_rules! store_builder {
    ($builder:ident, $store:ident, $name:literal, $self:ident => $kind:expr) => {
        impl<K: 'static, V: Clone + 'static> StoreBuilder for $builder<K, V> {
            fn name(&self) -> &str {
                &self.common.name
            }

            fn logging(&self) -> &Logging {
                &self.common.logging
            }

            fn kind(&$self) -> StoreKind {
                $kind
            }

            fn kind_name(&self) -> &'static str {
                $name
            }

            fn is_persistent(&self) -> bool {
                self.common.storage != Storage::InMemory
            }

            fn build(&self, context: &StoreContext) -> Result<Rc<dyn StateStore>, StreamsError> {
                Ok(Rc::new($store::open(self, context)?))
            }
        }
    };
}

store_builder!(KeyValueStoreBuilder, KeyValueStore, "key-value", self => StoreKind::KeyValue);
store_builder!(WindowStoreBuilder, WindowStore, "window", self => StoreKind::Windowed {
    retention_ms: self.retention_ms,
    retain_duplicates: self.retain_duplicates,
});
store_builder!(SessionStoreBuilder, SessionStore, "session", self => StoreKind::Windowed {
    retention_ms: self.retention_ms,
    retain_duplicates: false,
});
