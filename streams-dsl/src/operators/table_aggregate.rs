//! `count`, `reduce` and `aggregate` of a grouped table: what went is subtracted, what came is added, in that order.

use std::sync::Arc;

use streams_core::serde::I64Serde;
use streams_core::store::TableStore;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::{BoxError, Change, Processor, ProcessorContext, Record, Serde, SerdeRef};

use crate::grouped_table::KGroupedTable;
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::aggregate::Aggregator;
use crate::operators::store::SettledStore;
use crate::operators::table_source::StoredTable;

/// New aggregate from key, value gone and the aggregate so far; `None` deletes it.
type Subtractor<K, V, A> = Arc<dyn Fn(&K, &V, A) -> Option<A> + Send + Sync>;

struct TableAggregate<K, V, A> {
    store_name: String,
    adder: Aggregator<K, V, A>,
    subtractor: Subtractor<K, V, A>,
    send_old_values: bool,
    store: Option<TableStore<K, A>>,
    forwards_on_flush: bool,
}

impl<K, V, A> Processor<K, Change<V>, K, Change<A>> for TableAggregate<K, V, A>
where
    K: Clone + 'static,
    V: 'static,
    A: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<A>>) -> Result<(), BoxError> {
        let store = ctx.table_store::<K, A>(&self.store_name)?;
        self.forwards_on_flush = ctx.forward_table_on_flush(&store, self.send_old_values);
        self.store = Some(store);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K, Change<A>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let (Some(key), Some(store)) = (key, &self.store) else {
            return Err(format!("a record without key reached the aggregation in store {}", self.store_name).into());
        };
        let Some(Change { new: came, old: went, .. }) = value else { return Ok(()) };
        let before = store.get(&key)?;
        let latest = before.as_ref().map_or(timestamp, |before| before.timestamp.max(timestamp));
        let mut result_time = timestamp;
        let old = before.map(|before| before.value);
        let sent_old = if self.send_old_values && !self.forwards_on_flush { old.clone() } else { None };
        let mut aggregate = old;
        if let Some(went) = &went
            && let Some(so_far) = aggregate.take()
        {
            aggregate = (self.subtractor)(&key, went, so_far);
            result_time = latest;
        }
        if let Some(came) = &came {
            aggregate = (self.adder)(&key, came, aggregate);
            result_time = latest;
        }
        if self.forwards_on_flush {
            store.put(&key, aggregate, result_time)?;
            return Ok(());
        }
        let Some(is_latest) = store.put(&key, aggregate.clone(), result_time)? else { return Ok(()) };
        let value = Some(Change { new: aggregate, old: sent_old, is_latest });
        ctx.forward(Record { key: Some(key), value, timestamp: result_time, headers })
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KGroupedTable<K, V> {
    /// How many rows each key has.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        self.add_count(materialized, Some(I64Serde.into_ref()))
    }

    /// As [`KGroupedTable::count`], under another type for numbers; see [`KGroupedStream::count_as`](crate::KGroupedStream::count_as).
    pub fn count_as<N: From<i64> + Into<i64> + Clone + 'static>(
        &self,
        materialized: Materialized<K, N>,
    ) -> KTable<K, N> {
        self.add_count(materialized, None)
    }

    fn add_count<N: From<i64> + Into<i64> + Clone + 'static>(
        &self,
        materialized: Materialized<K, N>,
        serde: Option<SerdeRef<N>>,
    ) -> KTable<K, N> {
        let adder = |_: &K, _: &V, count: Option<N>| Some(N::from(count.map_or(0, N::into) + 1));
        let subtractor = |_: &K, _: &V, count: N| Some(N::from(count.into() - 1));
        self.add_table_aggregate(naming::TABLE_AGGREGATE, Arc::new(adder), Arc::new(subtractor), materialized, serde)
    }

    /// Combines the values of each key: `adder` with one that came, `subtractor` with one that went. The first value stands for itself.
    pub fn reduce(
        &self,
        adder: impl Fn(V, &V) -> V + Send + Sync + 'static,
        subtractor: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.reduce_nullable(
            move |so_far, value| Some(adder(so_far, value)),
            move |so_far, value| Some(subtractor(so_far, value)),
            materialized,
        )
    }

    /// As [`KGroupedTable::reduce`]; a key for which `None` is returned is deleted.
    pub fn reduce_nullable(
        &self,
        adder: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        subtractor: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let adder = move |_: &K, value: &V, so_far: Option<V>| match so_far {
            Some(so_far) => adder(so_far, value),
            None => Some(value.clone()),
        };
        let subtractor = move |_: &K, value: &V, so_far: V| subtractor(so_far, value);
        let value = self.value.clone();
        self.add_table_aggregate(naming::TABLE_REDUCE, Arc::new(adder), Arc::new(subtractor), materialized, value)
    }

    /// Folds the rows of each key into an aggregate of another type that begins as `initial()`: `adder` takes one that came in,
    /// `subtractor` one that went out.
    pub fn aggregate<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        adder: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_nullable(
            move |key, value, so_far| Some(adder(key, value, so_far.unwrap_or_else(&initial))),
            move |key, value, so_far| Some(subtractor(key, value, so_far)),
            materialized,
        )
    }

    /// As [`KGroupedTable::aggregate`]; the adder is given `None` for a key without aggregate, and both delete by returning it.
    pub fn aggregate_nullable<A: Clone + 'static>(
        &self,
        adder: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.add_table_aggregate(naming::TABLE_AGGREGATE, Arc::new(adder), Arc::new(subtractor), materialized, None)
    }

    fn add_table_aggregate<A: Clone + 'static>(
        &self,
        prefix: &str,
        adder: Aggregator<K, V, A>,
        subtractor: Subtractor<K, V, A>,
        materialized: Materialized<K, A>,
        value: Option<SerdeRef<A>>,
    ) -> KTable<K, A> {
        let graph = &self.place.graph;
        // The store of a reduction is named after aggregations, too.
        let store_name = materialized.name.clone().unwrap_or_else(|| graph.next_store_name(naming::TABLE_AGGREGATE));
        let source = self.repartitioned(&store_name);
        let name = self.place.take_name(prefix);
        let table = StoredTable::new(store_name.clone(), materialized.name.is_some());
        let settled = SettledStore::new(graph, store_name.clone(), materialized, self.key.clone(), value);
        let (Some(settled), Some(source)) = (settled, source) else {
            return KTable::new(self.place.at(name), None, None, table);
        };
        table.kept_in(&settled);
        let (key, value) = (Arc::clone(&settled.key), Arc::clone(&settled.value));
        let store = settled.key_value();
        let (node, parent, old_values) = (name.clone(), source.node.clone(), table.old_values());
        graph.add(move |topology| {
            let (adder, subtractor) = (Arc::clone(&adder), Arc::clone(&subtractor));
            let (store_name, send_old_values) = (store_name.clone(), old_values.get());
            let supplier = move || TableAggregate {
                store_name: store_name.clone(),
                adder: Arc::clone(&adder),
                subtractor: Arc::clone(&subtractor),
                send_old_values,
                store: None,
                forwards_on_flush: false,
            };
            topology.add_processor::<_, K, Change<V>, K, Change<A>>(&node, supplier, &[&parent])?;
            topology.add_shared_state_store(StoreBuilderRef::clone(&store), &[&node]).map(|_| ())
        });
        KTable::new(source.at(name), Some(key), Some(value), table)
    }
}
