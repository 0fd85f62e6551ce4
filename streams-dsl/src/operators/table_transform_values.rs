//! `transform_values` of a table: other values, by an object of the user's own that may use stores.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::{BoxError, Change, Processor, ProcessorContext, Record, ValueAndTimestamp};

use crate::ktable::{Getter, GetterSupplier, KTable, Table};
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::results::{Kept, Results, add_store, connect};
use crate::operators::table_source::StoredTable;

/// Makes the values of [`KTable::transform_values`]; one for each task, and one more where the result is looked up without a store.
pub trait ValueTransformer<K, V, V2>: 'static {
    /// Called once before the first value; stores are fetched here.
    ///
    /// # Errors
    /// An error closes the task.
    fn init(&mut self, ctx: &NodeContext) -> Result<(), BoxError> {
        let _ = ctx;
        Ok(())
    }

    /// The new value for `value`, which is `None` after a deletion.
    ///
    /// # Errors
    /// An error goes to the processing exception handler.
    fn transform(&mut self, key: Option<&K>, value: Option<&V>) -> Result<Option<V2>, BoxError>;

    /// Called once when the task closes.
    fn close(&mut self) {}
}

type Supplier<T> = Arc<dyn Fn() -> T + Send + Sync>;

struct TransformValues<T, K, V2> {
    transformer: T,
    results: Results<K, V2>,
}

impl<T, K, V, V2> Processor<K, Change<V>, K, Change<V2>> for TransformValues<T, K, V2>
where
    T: ValueTransformer<K, V, V2>,
    K: Clone + 'static,
    V: 'static,
    V2: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<V2>>) -> Result<(), BoxError> {
        self.transformer.init(ctx)?;
        self.results.init(ctx)
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K, Change<V2>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let Some(Change { new, old, is_latest }) = value else { return Ok(()) };
        let new = self.transformer.transform(key.as_ref(), new.as_ref())?;
        let transformer = &mut self.transformer;
        let old = self.results.old(key.as_ref(), || transformer.transform(key.as_ref(), old.as_ref()))?;
        self.results.send(Record { key, value: Some(Change { new, old, is_latest }), timestamp, headers }, ctx)
    }

    fn close(&mut self) {
        self.transformer.close();
    }
}

/// The table without a store: looked up through the table it transforms.
struct TransformedTable<T, K, V> {
    parent: Rc<dyn Table<K, V>>,
    supplier: Supplier<T>,
    stores: Vec<String>,
    /// Whether the operator was told how to materialise, though not in a store of what name.
    is_materialized: bool,
    old_values: Rc<Cell<bool>>,
}

impl<T, K, V, V2> Table<K, V2> for TransformedTable<T, K, V>
where
    T: ValueTransformer<K, V, V2>,
    K: 'static,
    V: 'static,
    V2: 'static,
{
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
        [self.parent.lookup_stores(), self.stores.clone()].concat()
    }

    fn is_versioned(&self) -> bool {
        // As in Kafka Streams, to be told how to materialise ends it, even without a name.
        !self.is_materialized && self.parent.is_versioned()
    }

    fn getter(&self) -> GetterSupplier<K, V2> {
        let (parent, supplier) = (self.parent.getter(), Arc::clone(&self.supplier));
        Arc::new(move |ctx: &NodeContext| {
            let (parent, mut transformer) = (parent(ctx)?, supplier());
            transformer.init(ctx)?;
            let transformer = RefCell::new(transformer);
            let getter: Getter<K, V2> = Box::new(move |key| {
                let found = parent(key)?;
                let value = found.as_ref().map(|found| &found.value);
                let value = transformer.borrow_mut().transform(Some(key), value)?;
                let timestamp = found.map_or(-1, |found| found.timestamp);
                Ok(value.map(|value| ValueAndTimestamp { value, timestamp }))
            });
            Ok(getter)
        })
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// The table with each value replaced by what a transformer makes of it, which may use the stores named. Kept in a store if
    /// `materialized` names one.
    pub fn transform_values<T, V2>(
        &self,
        supplier: impl Fn() -> T + Send + Sync + 'static,
        stores: &[&str],
        materialized: Materialized<K, V2>,
    ) -> KTable<K, V2>
    where
        T: ValueTransformer<K, V, V2>,
        V2: Clone + 'static,
    {
        let kept = Kept::new(&self.place.graph, materialized, self.key.clone(), None);
        let name = self.place.take_name(naming::TABLE_TRANSFORM_VALUES);
        let supplier: Supplier<T> = Arc::new(supplier);
        let stores: Vec<String> = stores.iter().map(|&store| store.to_owned()).collect();
        let store_name = kept.store_name();
        let old_values = Rc::new(Cell::new(false));
        let table: Rc<dyn Table<K, V2>> = match &store_name {
            Some(store) => StoredTable::with_old_values(store.clone(), Rc::clone(&old_values), kept.is_versioned),
            None => Rc::new(TransformedTable {
                parent: Rc::clone(&self.table),
                supplier: Arc::clone(&supplier),
                stores: stores.clone(),
                is_materialized: kept.is_given,
                old_values: Rc::clone(&old_values),
            }),
        };
        let (node, parent, store) = (name.clone(), self.place.node.clone(), kept.store);
        self.place.graph.add(move |topology| {
            let (supplier, store_name, send_old_values) = (Arc::clone(&supplier), store_name.clone(), old_values.get());
            let processor = move || TransformValues::<T, K, V2> {
                transformer: supplier(),
                results: Results::new(store_name.clone(), send_old_values),
            };
            topology.add_processor::<_, K, Change<V>, K, Change<V2>>(&node, processor, &[&parent])?;
            connect(topology, &node, &stores)?;
            add_store(topology, store.as_ref(), &node)
        });
        KTable::new(self.place.at(name), kept.key, kept.value, table)
    }
}
