//! How two streams are joined: serdes, names, and the stores that hold each side's records.

use std::collections::BTreeMap;
use std::sync::Arc;

use streams_core::serde::DefaultSerde;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::store::{Logging, Storage, Stores};
use streams_core::{Serde, SerdeRef};

use crate::windows::JoinWindows;

/// How two streams are joined: the serdes of the stores and repartition topics, names, and where the stores keep their records.
pub struct StreamJoined<K, L, R> {
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) left: Option<SerdeRef<L>>,
    pub(crate) right: Option<SerdeRef<R>>,
    pub(crate) name: Option<String>,
    pub(crate) store_name: Option<String>,
    pub(crate) store_names: Option<(String, String)>,
    pub(crate) logging: Logging,
    pub(crate) storage: Storage,
}

impl<K, L, R> StreamJoined<K, L, R> {
    /// With the default serdes of the three types.
    // Stands beside the trait's method so that a type without default serde is refused with `DefaultSerde`'s own message.
    #[allow(clippy::should_implement_trait)]
    pub fn default() -> Self
    where
        K: DefaultSerde,
        L: DefaultSerde,
        R: DefaultSerde,
    {
        Self::with(K::default_serde(), L::default_serde(), R::default_serde())
    }

    /// With these serdes of the key, of the left values, and of the right values.
    pub fn with(key: impl Serde<K> + 'static, left: impl Serde<L> + 'static, right: impl Serde<R> + 'static) -> Self {
        Self {
            key: Some(key.into_ref()),
            left: Some(left.into_ref()),
            right: Some(right.into_ref()),
            ..Self::inherited()
        }
    }

    /// With the serdes that the streams have from upstream.
    pub fn inherited() -> Self {
        Self {
            key: None,
            left: None,
            right: None,
            name: None,
            store_name: None,
            store_names: None,
            logging: Logging::default(),
            storage: Storage::Application,
        }
    }

    /// Names the join's nodes and repartition topics: `<name>-this-join`, `<name>-left-repartition`, ...
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Names the join's stores: `<name>-this-join-store`, ...
    #[must_use]
    pub fn with_store_name(mut self, name: &str) -> Self {
        self.store_name = Some(name.to_owned());
        self
    }

    /// Calls the stores of the two sides exactly so, as Kafka Streams does with store suppliers.
    #[must_use]
    pub fn with_store_names(mut self, left: &str, right: &str) -> Self {
        self.store_names = Some((left.to_owned(), right.to_owned()));
        self
    }

    /// With changelogs whose topic configuration is overridden by `configs`.
    #[must_use]
    pub fn with_logging(mut self, configs: BTreeMap<String, String>) -> Self {
        self.logging = Logging::Enabled(configs);
        self
    }

    /// Without changelogs: the records that wait are lost with the local directory.
    #[must_use]
    pub fn without_logging(mut self) -> Self {
        self.logging = Logging::Disabled;
        self
    }

    /// Keeps the records on the heap; they are restored from the changelogs at each start.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.storage = Storage::InMemory;
        self
    }

    /// The store of one side's records.
    pub(crate) fn window_store<V: Clone + 'static>(
        &self,
        name: String,
        windows: &JoinWindows,
        key: &SerdeRef<K>,
        value: &SerdeRef<V>,
    ) -> StoreBuilderRef
    where
        K: 'static,
    {
        let (key, value) = (Arc::clone(key), Arc::clone(value));
        let builder = Stores::window(name, windows.retention_ms(), windows.size_ms(), key, value)
            .with_duplicates()
            .with_storage(self.storage);
        match &self.logging {
            Logging::Enabled(configs) => Arc::new(builder.with_logging(configs.clone())),
            Logging::Disabled => Arc::new(builder.without_logging()),
        }
    }
}

impl<K: DefaultSerde, L: DefaultSerde, R: DefaultSerde> Default for StreamJoined<K, L, R> {
    fn default() -> Self {
        Self::with(K::default_serde(), L::default_serde(), R::default_serde())
    }
}
