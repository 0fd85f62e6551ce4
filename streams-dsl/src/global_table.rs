//! [`GlobalKTable`]: a table of which every process keeps the whole.

use std::marker::PhantomData;
use std::rc::Rc;

use streams_core::processor::{LogAndSkipOnInvalidTimestamp, ProcessorSupplier};
use streams_core::store::builder::StoreBuilderRef;
use streams_core::{BoxError, Processor, ProcessorContext, Record, TimestampedKeyValueStore, ValueAndTimestamp};

use crate::builder::StreamsBuilder;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::store::SettledStore;
use crate::options::Consumed;

/// A table that every process keeps whole, from all partitions of its topic: it can be joined by any key, without co-partitioning.
///
/// It is filled before the first record is processed and then runs beside the tasks: a join sees what has arrived so far.
pub struct GlobalKTable<K, V> {
    pub(crate) store: String,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for GlobalKTable<K, V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), types: PhantomData }
    }
}

impl<K, V> GlobalKTable<K, V> {
    /// Name of its store, which can be queried whether or not [`Materialized`] gave the name.
    pub fn store_name(&self) -> &str {
        &self.store
    }
}

/// Puts each record into the global store.
struct Update<K, V> {
    store_name: String,
    store: Option<Rc<TimestampedKeyValueStore<K, V>>>,
}

impl<K: 'static, V: Clone + 'static> Processor<K, V, (), ()> for Update<K, V> {
    fn init(&mut self, ctx: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        self.store = Some(ctx.timestamped_key_value_store(&self.store_name)?);
        Ok(())
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        let (Some(key), Some(store)) = (&record.key, &self.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        let timestamp = record.timestamp;
        Ok(store.put(key, record.value.map(|value| ValueAndTimestamp { value, timestamp }))?)
    }
}

impl StreamsBuilder {
    /// `topic` as a table that every process keeps whole, always in a store. Its values have the timestamps of the log, whatever extractor
    /// `consumed` names, as in Kafka Streams.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Materialized, Produced, StreamsBuilder};
    /// let builder = StreamsBuilder::new();
    /// let countries = builder.global_table("countries", Consumed::<String, String>::default(), Materialized::unnamed());
    /// builder
    ///     .stream("people", Consumed::<i64, String>::default())
    ///     .join_global(&countries, |_, person| person[..2].to_owned(), |person, country| format!("{person} of {country}"))
    ///     .to("origins", Produced::default());
    /// assert!(builder.build()?.describe().contains("for global store"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn global_table<K: Clone + 'static, V: Clone + 'static>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> GlobalKTable<K, V> {
        let store = match &materialized.name {
            Some(name) => name.clone(),
            None => self.graph.next_store_name(&format!("{topic}-")),
        };
        if materialized.is_versioned() {
            self.graph.fail(format!("store {store} of a global table cannot be versioned"));
        }
        let (key, value) = (consumed.key.clone(), consumed.value.clone());
        if let Some(settled) = SettledStore::new(&self.graph, store.clone(), materialized, Some(key), Some(value)) {
            let store_name = store.clone();
            let supplier = move || Update::<K, V> { store_name: store_name.clone(), store: None };
            self.add_global(topic, consumed, settled.key_value(), supplier);
        }
        GlobalKTable { store, types: PhantomData }
    }

    /// A store that every process keeps whole: a processor of `supplier` updates it from all partitions of `topic`. Any processor can
    /// read it by [`global_store`](streams_core::processor::context::NodeContext::global_store); it has no changelog.
    pub fn add_global_store<P, K: Clone + 'static, V: Clone + 'static>(
        &self,
        store: StoreBuilderRef,
        topic: &str,
        consumed: Consumed<K, V>,
        supplier: impl ProcessorSupplier<P> + Clone,
    ) -> &Self
    where
        P: Processor<K, V, (), ()>,
    {
        self.add_global(topic, consumed, store, supplier);
        self
    }

    fn add_global<P, K: Clone + 'static, V: Clone + 'static>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        store: StoreBuilderRef,
        supplier: impl ProcessorSupplier<P> + Clone,
    ) where
        P: Processor<K, V, (), ()>,
    {
        let source = consumed.name.as_ref().map(|name| format!("{name}-source"));
        let source = self.graph.name_or(source, naming::SOURCE);
        let name = self.graph.name_or(consumed.name.clone(), naming::TABLE_SOURCE);
        let (source, is_new) = self.graph.source(&[topic.to_owned()], source);
        if !is_new {
            self.graph.fail(format!("topic {topic} has already been registered by another source, {source}"));
        }
        let topic = topic.to_owned();
        self.graph.add(move |topology| {
            let store = StoreBuilderRef::clone(&store);
            let options = consumed.source_options().with_extractor(LogAndSkipOnInvalidTimestamp);
            topology
                .add_shared_global_store::<P, K, V>(store, &source, options, &topic, &name, supplier.clone())
                .map(|_| ())
        });
    }
}
