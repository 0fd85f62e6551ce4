//! `suppress` of a table: holds updates back until a time, so that only the last of several comes out.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::{
    BoxError, Change, Headers, Processor, ProcessorContext, Record, SerdeRef, Timestamp, ValueAndTimestamp,
};

use crate::ktable::{Getter, GetterSupplier, KTable, Table};
use crate::naming;
use crate::operators::suppress_buffer::{ChangeBuffer, ChangeBufferBuilder, Update};
use crate::suppressed::{BufferConfig, Suppressed};

/// What all tasks' processors know.
struct Setup<K, V> {
    store_name: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    wait_ms: i64,
    due: Option<fn(&K) -> Timestamp>,
    buffer: BufferConfig,
}

struct Suppress<K, V> {
    setup: Arc<Setup<K, V>>,
    store: Option<Rc<ChangeBuffer>>,
    /// Greatest timestamp seen by this operator.
    stream_time: Timestamp,
}

fn bytes<T>(
    serde: &SerdeRef<T>,
    topic: &str,
    headers: &Headers,
    value: Option<&T>,
) -> Result<Option<Vec<u8>>, BoxError> {
    let Some(value) = value else { return Ok(None) };
    let mut bytes = Vec::new();
    serde.serialize(topic, headers, value, &mut bytes)?;
    Ok(Some(bytes))
}

impl<K: Clone + 'static, V: Clone + 'static> Suppress<K, V> {
    /// Forwards the update that is due first, and then lets go of it.
    fn emit(&self, store: &ChangeBuffer, ctx: &ProcessorContext<K, Change<V>>) -> Result<(), BoxError> {
        let Some((key, update)) = store.first() else { return Ok(()) };
        let topic = store.serde_topic();
        let read = |value: &Vec<u8>| self.setup.value.deserialize(topic, &update.headers, value);
        let new = update.new.as_ref().map(read).transpose()?;
        // Of a window that is closed nothing was ever seen: there is nothing to delete.
        if new.is_some() || self.setup.due.is_none() {
            let old = update.old.as_ref().map(read).transpose()?;
            let record = Record {
                key: Some(self.setup.key.deserialize(topic, &update.headers, &key)?),
                value: Some(Change::new(new, old)),
                timestamp: update.timestamp,
                headers: update.headers,
            };
            ctx.forward_from(update.source.as_ref(), record)?;
        }
        store.remove(&key);
        Ok(())
    }

    fn is_over(&self, store: &ChangeBuffer) -> bool {
        let buffer = &self.setup.buffer;
        store.record_count() > buffer.records_max || store.size_bytes() > buffer.bytes_max
    }
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, Change<V>, K, Change<V>> for Suppress<K, V> {
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<V>>) -> Result<(), BoxError> {
        self.store = Some(ctx.store::<ChangeBuffer>(&self.setup.store_name)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K, Change<V>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let (Some(key), Some(store), Some(change)) = (key, &self.store, value) else {
            ctx.count_dropped();
            return Ok(());
        };
        let setup = &self.setup;
        let topic = store.serde_topic();
        let Some(key_bytes) = bytes(&setup.key, topic, &headers, Some(&key))? else { return Ok(()) };
        let old = bytes(&setup.value, topic, &headers, change.old.as_ref())?;
        let new = bytes(&setup.value, topic, &headers, change.new.as_ref())?;
        self.stream_time = self.stream_time.max(timestamp);
        let due = setup.due.map_or(timestamp, |due| due(&key));
        store.put(due, key_bytes, Update { old, new, timestamp, headers, source: ctx.record_metadata() });
        let expired = self.stream_time - setup.wait_ms;
        while store.first_due().is_some_and(|due| due <= expired) {
            self.emit(store, ctx)?;
        }
        while self.is_over(store) {
            if !setup.buffer.emits_early {
                let (records, size) = (store.record_count(), store.size_bytes());
                let BufferConfig { records_max, bytes_max, .. } = setup.buffer;
                return Err(format!(
                    "the buffer of {} is full, and must not emit early: it holds {records} updates (at most {records_max}) of {size} \
                     bytes (at most {bytes_max})",
                    setup.store_name
                )
                .into());
            }
            self.emit(store, ctx)?;
        }
        Ok(())
    }
}

/// The table as it is behind the buffer: a key that waits still has the value from before.
struct SuppressedTable<K, V> {
    parent: Rc<dyn Table<K, V>>,
    setup: Option<Arc<Setup<K, V>>>,
}

impl<K: 'static, V: 'static> Table<K, V> for SuppressedTable<K, V> {
    fn keep_store(&self) {
        self.parent.keep_store();
    }

    fn send_old_values(&self) -> bool {
        self.parent.send_old_values()
    }

    fn own_store(&self) -> Option<String> {
        None
    }

    fn lookup_stores(&self) -> Vec<String> {
        let mut stores: Vec<String> = self.setup.iter().map(|setup| setup.store_name.clone()).collect();
        stores.extend(self.parent.lookup_stores());
        stores
    }

    fn getter(&self) -> GetterSupplier<K, V> {
        let Some(setup) = self.setup.clone() else { return self.parent.getter() };
        let parent = self.parent.getter();
        Arc::new(move |ctx: &NodeContext| {
            let (parent, setup) = (parent(ctx)?, Arc::clone(&setup));
            let store = ctx.store::<ChangeBuffer>(&setup.store_name)?;
            let getter: Getter<K, V> = Box::new(move |key| {
                let (topic, headers) = (store.serde_topic(), Headers::default());
                let Some(key_bytes) = bytes(&setup.key, topic, &headers, Some(key))? else { return Ok(None) };
                match store.prior(&key_bytes) {
                    None => parent(key),
                    Some(prior) => {
                        let value = prior.map(|prior| setup.value.deserialize(topic, &headers, &prior)).transpose()?;
                        Ok(value.map(|value| ValueAndTimestamp { value, timestamp: -1 }))
                    }
                }
            });
            Ok(getter)
        })
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// Holds updates back as `suppressed` says. Only a record that moves stream time lets updates out: without input nothing comes.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Grouped, Materialized, StreamsBuilder, StrictBuffer, Suppressed, TimeWindows};
    /// # let builder = StreamsBuilder::new();
    /// let clicks = builder.stream("clicks", Consumed::<String, String>::default());
    /// let windows = TimeWindows::of_size_ms(60_000).with_grace_ms(5_000);
    /// let counts = clicks.group_by_key(Grouped::default()).windowed_by(windows).count(Materialized::default());
    /// let final_counts = counts.suppress(Suppressed::until_window_closes(StrictBuffer::unbounded()));
    /// # builder.build().unwrap();
    /// ```
    pub fn suppress(&self, suppressed: Suppressed<K>) -> Self {
        let graph = &self.place.graph;
        self.require_old_values();
        let given = suppressed.name.or_else(|| self.place.next_name.clone());
        let (name, store_name) = match given {
            Some(name) => (name.clone(), format!("{name}-store")),
            None => (graph.next_name(naming::SUPPRESS), graph.next_store_name(naming::SUPPRESS)),
        };
        let place = self.place.at(name.clone());
        let remedy = "Materialized::with(key serde, value serde) where the table is made";
        let key = graph.need(self.key.clone(), &format!("the key of store {store_name}"), remedy);
        let value = graph.need(self.value.clone(), &format!("the value of store {store_name}"), remedy);
        let wait_ms = suppressed.wait_ms.or(self.place.grace_ms);
        if wait_ms.is_none() {
            graph.fail(format!("{name}: when a window closes is known of the results of windowed aggregations only"));
        }
        if self.is_versioned() {
            graph.fail(format!(
                "{name}: updates of a versioned table cannot be suppressed: the later ones may be older"
            ));
        }
        let parent = Rc::clone(&self.table);
        let (Some(key), Some(value), Some(wait_ms)) = (key, value, wait_ms) else {
            return Self::new(place, None, None, Rc::new(SuppressedTable { parent, setup: None }));
        };
        let logging = suppressed.buffer.logging.clone();
        let store: StoreBuilderRef = Arc::new(ChangeBufferBuilder { name: store_name.clone(), logging });
        let setup = Arc::new(Setup { store_name, key, value, wait_ms, due: suppressed.due, buffer: suppressed.buffer });
        let table = SuppressedTable { parent, setup: Some(Arc::clone(&setup)) };
        let parent = self.place.node.clone();
        graph.add(move |topology| {
            let setup = Arc::clone(&setup);
            let supplier = move || Suppress { setup: Arc::clone(&setup), store: None, stream_time: -1 };
            topology.add_processor::<_, K, Change<V>, K, Change<V>>(&name, supplier, &[&parent])?;
            topology.add_shared_state_store(StoreBuilderRef::clone(&store), &[&name]).map(|_| ())
        });
        Self::new(place, self.key.clone(), self.value.clone(), Rc::new(table))
    }
}
