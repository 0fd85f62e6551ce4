//! What operators are told besides their functions: how topics are read and written, how streams are grouped and joined.
//!
//! Where both serdes have defaults (strings, numbers, bytes, ...), `Default` fills them in; `inherited()` takes those that the
//! stream has from upstream.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use streams_core::processor::TimestampExtractor;
use streams_core::serde::DefaultSerde;
use streams_core::topology::StreamPartitioner;
use streams_core::{AutoOffsetReset, Serde, SerdeRef, SourceOptions};

use crate::operators::print::Output;

/// How a topic is read.
pub struct Consumed<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) name: Option<String>,
    extractor: Option<Arc<dyn TimestampExtractor<K, V>>>,
    reset: Option<AutoOffsetReset>,
}

impl<K: 'static, V: 'static> Consumed<K, V> {
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

    /// Reads keys and values with these serdes.
    pub fn with(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self { key: key.into_ref(), value: value.into_ref(), name: None, extractor: None, reset: None }
    }

    /// Names the source.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Takes record timestamps from `extractor`.
    #[must_use]
    pub fn with_timestamp_extractor(mut self, extractor: impl TimestampExtractor<K, V> + 'static) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// Begins there in partitions without committed offset.
    #[must_use]
    pub fn with_offset_reset(mut self, reset: AutoOffsetReset) -> Self {
        self.reset = Some(reset);
        self
    }

    pub(crate) fn source_options(&self) -> SourceOptions<K, V> {
        let mut options = SourceOptions::new(Arc::clone(&self.key), Arc::clone(&self.value));
        if let Some(extractor) = &self.extractor {
            options = options.with_shared_extractor(Arc::clone(extractor));
        }
        if let Some(reset) = self.reset {
            options = options.with_reset(reset);
        }
        options
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Consumed<K, V> {
    fn default() -> Self {
        Self::with(K::default_serde(), V::default_serde())
    }
}

macro_rules! serde_pair {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* }) => {
        $(#[$doc])*
        pub struct $name<K, V> {
            pub(crate) key: Option<SerdeRef<K>>,
            pub(crate) value: Option<SerdeRef<V>>,
            pub(crate) name: Option<String>,
            $(pub(crate) $field: $type,)*
        }

        impl<K, V> $name<K, V> {
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

            /// With these serdes.
            pub fn with(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
                Self { key: Some(key.into_ref()), value: Some(value.into_ref()), ..Self::inherited() }
            }

            /// With the serdes that the stream has from upstream.
            pub fn inherited() -> Self {
                Self { key: None, value: None, name: None, $($field: Default::default(),)* }
            }

            /// Gives the name that Kafka Streams would take from this object.
            #[must_use]
            pub fn named(mut self, name: &str) -> Self {
                self.name = Some(name.to_owned());
                self
            }
        }

        impl<K: DefaultSerde, V: DefaultSerde> Default for $name<K, V> {
            fn default() -> Self {
                Self::with(K::default_serde(), V::default_serde())
            }
        }
    };
}

serde_pair!(
    /// How a topic is written.
    Produced { partitioner: Option<Arc<dyn StreamPartitioner<K, V>>> }
);

serde_pair!(
    /// How a stream is grouped: the serdes of the repartition topic, if one is needed, and its name.
    Grouped {}
);

serde_pair!(
    /// How a stream is repartitioned.
    Repartitioned { partitions: Option<i32>, partitioner: Option<Arc<dyn StreamPartitioner<K, V>>> }
);

serde_pair!(
    /// How a stream is joined with a table: the serdes of the stream's repartition topic, if one is needed, the name, and whether the stream's
    /// records wait for late updates of the table.
    Joined { grace_ms: Option<i64> }
);

impl<K, V> Joined<K, V> {
    /// Lets each record of the stream wait until stream time (of the stream's own records) has passed its timestamp by `grace_ms`, so that
    /// updates of the table that come late still count. The table must be versioned, with at least that much history.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Joined, Materialized, StreamsBuilder};
    /// let builder = StreamsBuilder::new();
    /// let prices = builder.table(
    ///     "prices",
    ///     Consumed::<String, i64>::default(),
    ///     Materialized::versioned("prices", 3_600_000),
    /// );
    /// let orders = builder.stream("orders", Consumed::<String, i64>::default());
    /// let paid = orders.join(&prices, |pieces, price| pieces * price, Joined::inherited().with_grace_ms(60_000));
    /// assert!(builder.build()?.describe().contains("KSTREAM-JOIN-0000000003-Buffer"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    #[must_use]
    pub fn with_grace_ms(mut self, grace_ms: i64) -> Self {
        self.grace_ms = Some(grace_ms);
        self
    }
}

/// Where and under which label the records of a stream are shown.
pub struct Printed {
    pub(crate) output: Output,
    pub(crate) label: Option<String>,
    pub(crate) name: Option<String>,
}

impl Printed {
    /// To the standard output.
    pub fn to_stdout() -> Self {
        Self::to_writer(std::io::stdout())
    }

    /// To `writer`, such as an open file.
    pub fn to_writer(writer: impl Write + Send + 'static) -> Self {
        Self { output: Arc::new(Mutex::new(writer)), label: None, name: None }
    }

    /// Begins each line with `label` instead of the name of the operator before.
    #[must_use]
    pub fn with_label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// Names the operator's node.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }
}

impl<K, V> Produced<K, V> {
    /// Chooses partitions by `partitioner` instead of the key's hash.
    #[must_use]
    pub fn with_partitioner(mut self, partitioner: impl StreamPartitioner<K, V> + 'static) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }
}

impl<K, V> Repartitioned<K, V> {
    /// Gives the topic that many partitions instead of what follows from its surroundings.
    #[must_use]
    pub fn with_partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Chooses partitions by `partitioner` instead of the key's hash.
    #[must_use]
    pub fn with_partitioner(mut self, partitioner: impl StreamPartitioner<K, V> + 'static) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }
}

/// How a table is joined with another one by a foreign key: the name, and how the messages between the two are partitioned.
pub struct TableJoined<K, F> {
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<Arc<dyn StreamPartitioner<K, ()>>>,
    pub(crate) other_partitioner: Option<Arc<dyn StreamPartitioner<F, ()>>>,
}

impl<K, F> TableJoined<K, F> {
    /// With generated names; each table is partitioned by the hash of its key.
    pub fn new() -> Self {
        Self { name: None, partitioner: None, other_partitioner: None }
    }

    /// Names nodes, store and internal topics after `name`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// How the table with the foreign key is partitioned. It is shown keys only.
    #[must_use]
    pub fn with_partitioner(mut self, partitioner: impl StreamPartitioner<K, ()> + 'static) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// How the table that is referred to is partitioned. It is shown keys only.
    #[must_use]
    pub fn with_other_partitioner(mut self, partitioner: impl StreamPartitioner<F, ()> + 'static) -> Self {
        self.other_partitioner = Some(Arc::new(partitioner));
        self
    }
}

impl<K, F> Default for TableJoined<K, F> {
    fn default() -> Self {
        Self::new()
    }
}
