//! `map_values` of a table: the same keys, other values.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::{BoxError, Change, Processor, ProcessorContext, Record, ValueAndTimestamp};

use crate::ktable::{Getter, GetterAsOf, GetterAsOfSupplier, GetterSupplier, KTable, Table};
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::results::{Kept, Results, add_store};
use crate::operators::table_source::StoredTable;

type Mapper<K, V, V2> = Arc<dyn Fn(Option<&K>, &V) -> Option<V2> + Send + Sync>;

struct TableMapValues<K, V, V2> {
    mapper: Mapper<K, V, V2>,
    results: Results<K, V2>,
}

impl<K, V, V2> Processor<K, Change<V>, K, Change<V2>> for TableMapValues<K, V, V2>
where
    K: Clone + 'static,
    V: 'static,
    V2: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<V2>>) -> Result<(), BoxError> {
        self.results.init(ctx)
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K, Change<V2>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let Some(Change { new, old, is_latest }) = value else { return Ok(()) };
        let new = new.and_then(|new| (self.mapper)(key.as_ref(), &new));
        let computed = || Ok(old.and_then(|old| (self.mapper)(key.as_ref(), &old)));
        let old = self.results.old(key.as_ref(), computed)?;
        self.results.send(Record { key, value: Some(Change { new, old, is_latest }), timestamp, headers }, ctx)
    }
}

/// A mapped table without store: looked up through the table it maps.
struct MappedTable<K, V, V2> {
    parent: Rc<dyn Table<K, V>>,
    mapper: Mapper<K, V, V2>,
    /// Whether the operator was told how to materialise, though not in a store of what name.
    is_materialized: bool,
    old_values: Rc<Cell<bool>>,
}

impl<K: 'static, V: 'static, V2: 'static> Table<K, V2> for MappedTable<K, V, V2> {
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

    fn getter(&self) -> GetterSupplier<K, V2> {
        let (parent, mapper) = (self.parent.getter(), Arc::clone(&self.mapper));
        Arc::new(move |ctx: &NodeContext| {
            let (parent, mapper) = (parent(ctx)?, Arc::clone(&mapper));
            let getter: Getter<K, V2> = Box::new(move |key| {
                Ok(parent(key)?.and_then(|found| {
                    let value = mapper(Some(key), &found.value)?;
                    Some(ValueAndTimestamp { value, timestamp: found.timestamp })
                }))
            });
            Ok(getter)
        })
    }

    fn getter_as_of(&self) -> Option<GetterAsOfSupplier<K, V2>> {
        let (parent, mapper) = (self.parent.getter_as_of()?, Arc::clone(&self.mapper));
        Some(Arc::new(move |ctx: &NodeContext| {
            let (parent, mapper) = (parent(ctx)?, Arc::clone(&mapper));
            let getter: GetterAsOf<K, V2> = Box::new(move |key, time| {
                Ok(parent(key, time)?.and_then(|found| {
                    let value = mapper(Some(key), &found.value)?;
                    Some(ValueAndTimestamp { value, timestamp: found.timestamp })
                }))
            });
            Ok(getter)
        }))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// The table with each value replaced. The mapper runs again when the table is looked up, and should depend on its arguments only.
    pub fn map_values<V2: Clone + 'static>(&self, mapper: impl Fn(&V) -> V2 + Send + Sync + 'static) -> KTable<K, V2> {
        self.map_values_with_key(move |_, value| mapper(value))
    }

    /// As [`KTable::map_values`], with a look at the key.
    pub fn map_values_with_key<V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, &V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.map_values_nullable(move |key, value| Some(mapper(key, value)))
    }

    /// As [`KTable::map_values_with_key`]; a key whose mapper returns `None` is deleted.
    pub fn map_values_nullable<V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, &V) -> Option<V2> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.map_values_materialized(mapper, Materialized::unnamed())
    }

    /// As [`KTable::map_values_nullable`], kept in a store if `materialized` names one.
    pub fn map_values_materialized<V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, &V) -> Option<V2> + Send + Sync + 'static,
        materialized: Materialized<K, V2>,
    ) -> KTable<K, V2> {
        let kept = Kept::new(&self.place.graph, materialized, self.key.clone(), None);
        let name = self.place.take_name(naming::TABLE_MAP_VALUES);
        let mapper: Mapper<K, V, V2> = Arc::new(mapper);
        let store_name = kept.store_name();
        let old_values = Rc::new(Cell::new(false));
        let table: Rc<dyn Table<K, V2>> = match &store_name {
            Some(store) => StoredTable::with_old_values(store.clone(), Rc::clone(&old_values), kept.is_versioned),
            None => Rc::new(MappedTable {
                parent: Rc::clone(&self.table),
                mapper: Arc::clone(&mapper),
                is_materialized: kept.is_given,
                old_values: Rc::clone(&old_values),
            }),
        };
        let (node, parent, store) = (name.clone(), self.place.node.clone(), kept.store);
        self.place.graph.add(move |topology| {
            let (mapper, store_name, send_old_values) = (Arc::clone(&mapper), store_name.clone(), old_values.get());
            let supplier = move || TableMapValues {
                mapper: Arc::clone(&mapper),
                results: Results::new(store_name.clone(), send_old_values),
            };
            topology.add_processor::<_, K, Change<V>, K, Change<V2>>(&node, supplier, &[&parent])?;
            add_store(topology, store.as_ref(), &node)
        });
        KTable::new(self.place.at(name), kept.key, kept.value, table)
    }
}
