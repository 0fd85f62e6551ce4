//! How a table is kept: the name of its store, serdes, cache, changelog, retention.

use std::collections::BTreeMap;

use streams_core::serde::DefaultSerde;
use streams_core::store::{Logging, Storage};
use streams_core::{Serde, SerdeRef};

/// What a table's store remembers of each key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// The last value and its time.
    #[default]
    Timestamped,
    /// The last value; its time goes to the changelog only.
    Untimed,
    /// The last value and its time, of so many keys.
    Bounded { entries: usize },
    /// Former values too.
    Versioned { history_ms: i64, segment_interval_ms: Option<i64> },
}

/// How the result of an aggregation, or a table, is materialised in a state store.
///
/// Without a name the store is called as Kafka Streams would call it. Caching is on: updates of a key within a commit interval become one.
pub struct Materialized<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) caching: bool,
    pub(crate) logging: Logging,
    pub(crate) storage: Storage,
    pub(crate) kind: TableKind,
    pub(crate) retention_ms: Option<i64>,
    /// Whether the store is as described here, whatever the application's settings and the windows say.
    pub(crate) is_supplied: bool,
    /// Whether it says anything: Kafka Streams counts names differently for calls with and without `Materialized`.
    pub(crate) is_given: bool,
}

impl<K, V> Materialized<K, V> {
    /// With the default serdes of both types.
    // Stands beside the trait's method so that a type without default serde is refused with `DefaultSerde`'s own message.
    #[allow(clippy::should_implement_trait)]
    pub fn default() -> Self
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        Self::with(K::default_serde(), V::default_serde())
    }

    /// A store with a generated name, and the serdes that follow from upstream: what Kafka Streams does where no `Materialized` is
    /// passed. (Passing one without name makes `count` use up one more number for names, there and here.)
    pub fn unnamed() -> Self {
        Self {
            name: None,
            key: None,
            value: None,
            caching: true,
            logging: Logging::default(),
            storage: Storage::Application,
            kind: TableKind::default(),
            retention_ms: None,
            is_supplied: false,
            is_given: false,
        }
    }

    /// The store `name`; its changelog is `<application.id>-<name>-changelog`.
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::unnamed() }
    }

    /// The store `name`, which keeps former values for `history_retention_ms` of stream time: updates may come late by time, and a stream
    /// joined with the table finds the value that was valid at its record's time. It has no cache.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Joined, Materialized, StreamsBuilder};
    /// let builder = StreamsBuilder::new();
    /// let history = Materialized::versioned("prices", 24 * 3_600_000);
    /// let prices = builder.table("prices", Consumed::<String, i64>::default(), history);
    /// let orders = builder.stream("orders", Consumed::<String, i64>::default());
    /// let paid = orders.join(&prices, |pieces, price| pieces * price, Joined::inherited());
    /// # builder.build().unwrap();
    /// ```
    pub fn versioned(name: &str, history_retention_ms: i64) -> Self {
        let kind = TableKind::Versioned { history_ms: history_retention_ms, segment_interval_ms: None };
        Self { kind, storage: Storage::Persistent, ..Self::named(name) }
    }

    /// Cuts the history of a versioned store into segments of `interval_ms` instead of ones that follow from the retention; of other stores
    /// it changes nothing.
    #[must_use]
    pub fn with_segment_interval_ms(mut self, interval_ms: i64) -> Self {
        if let TableKind::Versioned { segment_interval_ms, .. } = &mut self.kind {
            *segment_interval_ms = Some(interval_ms);
        }
        self
    }

    pub(crate) fn is_versioned(&self) -> bool {
        matches!(self.kind, TableKind::Versioned { .. })
    }

    /// A store with these serdes.
    pub fn with(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self::unnamed().with_key_serde(key).with_value_serde(value)
    }

    /// Calls the store `name`.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.is_given = true;
        self.name = Some(name.to_owned());
        self
    }

    /// Serialises keys so.
    #[must_use]
    pub fn with_key_serde(mut self, serde: impl Serde<K> + 'static) -> Self {
        self.is_given = true;
        self.key = Some(serde.into_ref());
        self
    }

    /// Serialises values so.
    #[must_use]
    pub fn with_value_serde(mut self, serde: impl Serde<V> + 'static) -> Self {
        self.is_given = true;
        self.value = Some(serde.into_ref());
        self
    }

    /// Without the cache: every update is forwarded and logged.
    #[must_use]
    pub fn without_caching(mut self) -> Self {
        self.is_given = true;
        self.caching = false;
        self
    }

    /// With a changelog whose topic configuration is overridden by `configs`.
    #[must_use]
    pub fn with_logging(mut self, configs: BTreeMap<String, String>) -> Self {
        self.is_given = true;
        self.logging = Logging::Enabled(configs);
        self
    }

    /// Without a changelog: the state is lost with the local directory.
    #[must_use]
    pub fn without_logging(mut self) -> Self {
        self.is_given = true;
        self.logging = Logging::Disabled;
        self
    }

    /// Keeps the state on the heap; it is restored from the changelog at each start.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.is_given = true;
        self.storage = Storage::InMemory;
        self
    }

    /// Keeps the state on disk, whatever `default.dsl.store` says.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.is_given = true;
        self.storage = Storage::Persistent;
        self
    }

    /// Forgets the time of updates once they are in the changelog: read back, a value has the time -1. It is what Kafka Streams does with
    /// a store without timestamps, such as `Stores.persistentKeyValueStore`; of sessions and versioned stores it changes nothing.
    #[must_use]
    pub fn without_timestamps(mut self) -> Self {
        self.is_given = true;
        if !self.is_versioned() {
            self.kind = TableKind::Untimed;
        }
        self
    }

    /// Keeps at most `entries` keys, in memory: one more, and the key read or written the longest ago is forgotten. Nothing is forwarded for
    /// it. Of windows and sessions it changes nothing but that they are kept in memory.
    #[must_use]
    pub fn with_max_entries(self, entries: usize) -> Self {
        Self { kind: TableKind::Bounded { entries }, ..self.in_memory() }
    }

    /// Takes the store exactly as it is described here, as Kafka Streams takes one from a store supplier: `dsl.store.format` does not
    /// count, and a retention is not held against the windows.
    #[must_use]
    pub fn as_supplied(mut self) -> Self {
        self.is_given = true;
        self.is_supplied = true;
        self
    }

    /// Keeps windows for `retention_ms` of stream time instead of their size plus grace.
    #[must_use]
    pub fn with_retention_ms(mut self, retention_ms: i64) -> Self {
        self.is_given = true;
        self.retention_ms = Some(retention_ms);
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Materialized<K, V> {
    fn default() -> Self {
        Self::with(K::default_serde(), V::default_serde())
    }
}
