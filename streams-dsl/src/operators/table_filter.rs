//! `filter` and `filter_not` of a table: keys whose value matches; the others are deleted.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::{BoxError, Change, Processor, ProcessorContext, Record};

use crate::ktable::{Getter, GetterAsOf, GetterAsOfSupplier, GetterSupplier, KTable, Table};
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::results::{Kept, Results, add_store};
use crate::operators::table_source::StoredTable;

type Predicate<K, V> = Arc<dyn Fn(Option<&K>, &V) -> bool + Send + Sync>;

struct TableFilter<K, V> {
    predicate: Predicate<K, V>,
    keep: bool,
    results: Results<K, V>,
    /// Whether the table filtered is versioned.
    is_versioned: bool,
}

fn matching<K, V>(predicate: &Predicate<K, V>, keep: bool, key: Option<&K>, value: Option<V>) -> Option<V> {
    value.filter(|value| predicate(key, value) == keep)
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, Change<V>, K, Change<V>> for TableFilter<K, V> {
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<V>>) -> Result<(), BoxError> {
        self.results.init(ctx)
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K, Change<V>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let Some(Change { new, old, is_latest }) = value else { return Ok(()) };
        let new = matching(&self.predicate, self.keep, key.as_ref(), new);
        let computed = || Ok(matching(&self.predicate, self.keep, key.as_ref(), old));
        let old = self.results.old(key.as_ref(), computed)?;
        // What went may be another version than the one that came, so neither says what was forwarded before.
        if !self.is_versioned && self.results.send_old_values && new.is_none() && old.is_none() {
            return Ok(());
        }
        self.results.send(Record { key, value: Some(Change { new, old, is_latest }), timestamp, headers }, ctx)
    }
}

/// A filtered table without store: looked up through the table it filters.
struct FilteredTable<K, V> {
    parent: Rc<dyn Table<K, V>>,
    predicate: Predicate<K, V>,
    keep: bool,
    /// Whether the operator was told how to materialise, though not in a store of what name.
    is_materialized: bool,
    old_values: Rc<Cell<bool>>,
}

impl<K: 'static, V: 'static> Table<K, V> for FilteredTable<K, V> {
    fn keep_store(&self) {
        self.parent.keep_store();
    }

    fn send_old_values(&self) -> bool {
        self.old_values.set(self.parent.send_old_values());
        self.old_values.get()
    }

    fn own_store(&self) -> Option<String> {
        None
    }

    fn lookup_stores(&self) -> Vec<String> {
        self.parent.lookup_stores()
    }

    fn is_versioned(&self) -> bool {
        // As in Kafka Streams, to be told how to materialise ends it, even without a name.
        !self.is_materialized && self.parent.is_versioned()
    }

    fn getter(&self) -> GetterSupplier<K, V> {
        let (parent, predicate, keep) = (self.parent.getter(), Arc::clone(&self.predicate), self.keep);
        Arc::new(move |ctx: &NodeContext| {
            let (parent, predicate) = (parent(ctx)?, Arc::clone(&predicate));
            let getter: Getter<K, V> =
                Box::new(move |key| Ok(parent(key)?.filter(|found| predicate(Some(key), &found.value) == keep)));
            Ok(getter)
        })
    }

    fn getter_as_of(&self) -> Option<GetterAsOfSupplier<K, V>> {
        let (parent, predicate, keep) = (self.parent.getter_as_of()?, Arc::clone(&self.predicate), self.keep);
        Some(Arc::new(move |ctx: &NodeContext| {
            let (parent, predicate) = (parent(ctx)?, Arc::clone(&predicate));
            let getter: GetterAsOf<K, V> = Box::new(move |key, time| {
                Ok(parent(key, time)?.filter(|found| predicate(Some(key), &found.value) == keep))
            });
            Ok(getter)
        }))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// The table of the keys whose value matches; a key whose new value does not is deleted (if the table keeps a store: only if its
    /// old value did).
    pub fn filter(&self, predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Self {
        self.add_filter(Arc::new(predicate), true, Materialized::unnamed())
    }

    /// As [`KTable::filter`], kept in a store if `materialized` names one.
    pub fn filter_materialized(
        &self,
        predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> Self {
        self.add_filter(Arc::new(predicate), true, materialized)
    }

    /// The table of the keys whose value does not match.
    pub fn filter_not(&self, predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Self {
        self.add_filter(Arc::new(predicate), false, Materialized::unnamed())
    }

    /// As [`KTable::filter_not`], kept in a store if `materialized` names one.
    pub fn filter_not_materialized(
        &self,
        predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> Self {
        self.add_filter(Arc::new(predicate), false, materialized)
    }

    fn add_filter(&self, predicate: Predicate<K, V>, keep: bool, materialized: Materialized<K, V>) -> Self {
        let kept = Kept::new(&self.place.graph, materialized, self.key.clone(), self.value.clone());
        let name = self.place.take_name(naming::TABLE_FILTER);
        let store_name = kept.store_name();
        // With old values at hand, a deletion of what never passed the filter is not forwarded.
        let old_values = Rc::new(Cell::new(self.table.send_old_values()));
        let table: Rc<dyn Table<K, V>> = match &store_name {
            Some(store) => StoredTable::with_old_values(store.clone(), Rc::clone(&old_values), kept.is_versioned),
            None => Rc::new(FilteredTable {
                parent: Rc::clone(&self.table),
                predicate: Arc::clone(&predicate),
                keep,
                is_materialized: kept.is_given,
                old_values: Rc::clone(&old_values),
            }),
        };
        let is_versioned = self.is_versioned();
        let (node, parent, store) = (name.clone(), self.place.node.clone(), kept.store);
        self.place.graph.add(move |topology| {
            let (predicate, store_name, send_old_values) =
                (Arc::clone(&predicate), store_name.clone(), old_values.get());
            let supplier = move || TableFilter {
                predicate: Arc::clone(&predicate),
                keep,
                is_versioned,
                results: Results::new(store_name.clone(), send_old_values),
            };
            topology.add_processor::<_, K, Change<V>, K, Change<V>>(&node, supplier, &[&parent])?;
            add_store(topology, store.as_ref(), &node)
        });
        KTable::new(self.place.at(name), kept.key, kept.value, table)
    }
}
