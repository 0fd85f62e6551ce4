//! `filter` and `filter_not` of a table: keys whose value matches; the others are deleted.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::{BoxError, Change, Processor, ProcessorContext, Record};

use crate::ktable::{Getter, GetterAsOf, GetterAsOfSupplier, GetterSupplier, KTable, Table};
use crate::naming;

type Predicate<K, V> = Arc<dyn Fn(Option<&K>, &V) -> bool + Send + Sync>;

struct TableFilter<K, V> {
    predicate: Predicate<K, V>,
    keep: bool,
    send_old_values: bool,
    /// Whether the table filtered is versioned.
    is_versioned: bool,
}

fn matching<K, V>(predicate: &Predicate<K, V>, keep: bool, key: Option<&K>, value: Option<V>) -> Option<V> {
    value.filter(|value| predicate(key, value) == keep)
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, Change<V>, K, Change<V>> for TableFilter<K, V> {
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K, Change<V>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let Some(Change { new, old, is_latest }) = value else { return Ok(()) };
        let new = matching(&self.predicate, self.keep, key.as_ref(), new);
        let old = if self.send_old_values { matching(&self.predicate, self.keep, key.as_ref(), old) } else { None };
        // What went may be another version than the one that came, so neither says what was forwarded before.
        if !self.is_versioned && self.send_old_values && new.is_none() && old.is_none() {
            return Ok(());
        }
        ctx.forward(Record { key, value: Some(Change { new, old, is_latest }), timestamp, headers })
    }
}

/// A filtered table without store: looked up through the table it filters.
struct FilteredTable<K, V> {
    parent: Rc<dyn Table<K, V>>,
    predicate: Predicate<K, V>,
    keep: bool,
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
        self.add_filter(Arc::new(predicate), true)
    }

    /// The table of the keys whose value does not match.
    pub fn filter_not(&self, predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Self {
        self.add_filter(Arc::new(predicate), false)
    }

    fn add_filter(&self, predicate: Predicate<K, V>, keep: bool) -> Self {
        let name = self.place.take_name(naming::TABLE_FILTER);
        let old_values = Rc::new(Cell::new(false));
        let table = Rc::new(FilteredTable {
            parent: Rc::clone(&self.table),
            predicate: Arc::clone(&predicate),
            keep,
            old_values: Rc::clone(&old_values),
        });
        // With old values at hand, a deletion of what never passed the filter is not forwarded.
        table.send_old_values();
        let is_versioned = self.table.getter_as_of().is_some();
        let (node, parent) = (name.clone(), self.place.node.clone());
        self.place.graph.add(move |topology| {
            let (predicate, send_old_values) = (Arc::clone(&predicate), old_values.get());
            let supplier =
                move || TableFilter { predicate: Arc::clone(&predicate), keep, send_old_values, is_versioned };
            topology.add_processor::<_, K, Change<V>, K, Change<V>>(&node, supplier, &[&parent]).map(|_| ())
        });
        KTable::new(self.place.at(name), self.key.clone(), self.value.clone(), table)
    }
}
