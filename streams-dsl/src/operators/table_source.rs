//! Tables that records flow into: a topic read as a table ([`SourceTable`], also behind `to_table`), and the results of aggregations
//! ([`StoredTable`], [`WindowedTable`]).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::store::{TableStore, VersionedKeyValueStore};
use streams_core::windowed::Windowed;
use streams_core::{
    BoxError, Change, ErrorKind, Processor, ProcessorContext, Record, SerdeRef, StreamsError, ValueAndTimestamp,
};

use crate::graph::GraphRef;
use crate::ktable::{Getter, GetterAsOf, GetterAsOfSupplier, GetterSupplier, Table};
use crate::materialized::Materialized;
use crate::operators::store::SettledStore;

/// Puts each record into the store, if there is one, and forwards the change.
struct TableSource<K, V> {
    store_name: Option<String>,
    send_old_values: bool,
    store: Option<TableStore<K, V>>,
    forwards_on_flush: bool,
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, V, K, Change<V>> for TableSource<K, V> {
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<V>>) -> Result<(), BoxError> {
        if let Some(name) = &self.store_name {
            let store = ctx.table_store::<K, V>(name)?;
            self.forwards_on_flush = ctx.forward_table_on_flush(&store, self.send_old_values);
            self.store = Some(store);
        }
        Ok(())
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, Change<V>>) -> Result<(), BoxError> {
        let Some(key) = &record.key else {
            ctx.count_dropped();
            return Ok(());
        };
        let Some(store) = &self.store else {
            return ctx.forward(record.map_value(|new| Some(Change::new(new, None))));
        };
        let timestamp = record.timestamp;
        if self.forwards_on_flush {
            store.put(key, record.value, timestamp)?;
            return Ok(());
        }
        let old = if self.send_old_values { store.get(key)?.map(|old| old.value) } else { None };
        match store.put(key, record.value.clone(), timestamp)? {
            Some(is_latest) => ctx.forward(record.map_value(|new| Some(Change { new, old, is_latest }))),
            None => Ok(()),
        }
    }
}

/// A table made of the records of a topic or stream. Keeps a store once it has a name of its own or somebody needs one.
pub(crate) struct SourceTable<K, V> {
    store: String,
    is_named: bool,
    is_versioned: bool,
    builder: Option<StoreBuilderRef>,
    keeps_store: Rc<Cell<bool>>,
    old_values: Rc<Cell<bool>>,
    types: std::marker::PhantomData<(K, V)>,
}

impl<K: Clone + 'static, V: Clone + 'static> SourceTable<K, V> {
    pub(crate) fn new(
        store: String,
        materialized: &Materialized<K, V>,
        key: &SerdeRef<K>,
        value: &SerdeRef<V>,
    ) -> Rc<Self> {
        Self::of_result(store, materialized, Some(Arc::clone(key)), Some(Arc::clone(value)))
    }

    /// The table of a result, whose serdes need not be known unless it keeps a store.
    pub(crate) fn of_result(
        store: String,
        materialized: &Materialized<K, V>,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
    ) -> Rc<Self> {
        let key = materialized.key.clone().or(key);
        let value = materialized.value.clone().or(value);
        let settled = key.zip(value).map(|(key, value)| SettledStore {
            name: store.clone(),
            key,
            value,
            materialized: Materialized {
                name: materialized.name.clone(),
                key: None,
                value: None,
                caching: materialized.caching,
                logging: materialized.logging.clone(),
                storage: materialized.storage,
                kind: materialized.kind,
                retention_ms: None,
                is_supplied: materialized.is_supplied,
                is_given: materialized.is_given,
            },
        });
        Rc::new(Self {
            store,
            is_named: materialized.name.is_some(),
            is_versioned: materialized.is_versioned(),
            builder: settled.map(|settled| settled.key_value()),
            keeps_store: Rc::new(Cell::new(materialized.name.is_some())),
            old_values: Rc::default(),
            types: std::marker::PhantomData,
        })
    }

    /// Tells, when the topology is written, the name of the store if it is kept.
    pub(crate) fn store_cell(&self) -> impl Fn() -> Option<String> + use<K, V> {
        let (keeps_store, store) = (Rc::clone(&self.keeps_store), self.store.clone());
        move || keeps_store.get().then(|| store.clone())
    }

    /// Adds the processor `name` below `parent`, and the store if it turns out to be kept.
    pub(crate) fn add_to(&self, graph: &GraphRef, name: String, parent: String) {
        let (keeps_store, old_values) = (Rc::clone(&self.keeps_store), Rc::clone(&self.old_values));
        let (store, builder) = (self.store.clone(), self.builder.clone());
        graph.add(move |topology| {
            let store_name = keeps_store.get().then(|| store.clone());
            let send_old_values = old_values.get();
            let supplier = move || TableSource::<K, V> {
                store_name: store_name.clone(),
                send_old_values,
                store: None,
                forwards_on_flush: false,
            };
            topology.add_processor::<_, K, V, K, Change<V>>(&name, supplier, &[&parent])?;
            match &builder {
                Some(builder) if keeps_store.get() => {
                    topology.add_shared_state_store(StoreBuilderRef::clone(builder), &[&name]).map(|_| ())
                }
                None if keeps_store.get() => {
                    let message = format!(
                        "store {store} of table {name} has no serde: give one with Materialized::with(key serde, value serde)"
                    );
                    Err(StreamsError::new(ErrorKind::Topology, message))
                }
                _ => Ok(()),
            }
        });
    }
}

impl<K: 'static, V: Clone + 'static> Table<K, V> for SourceTable<K, V> {
    fn keep_store(&self) {
        self.keeps_store.set(true);
    }

    fn send_old_values(&self) -> bool {
        // Only a store knows what was there before.
        if self.keeps_store.get() {
            self.old_values.set(true);
        }
        self.keeps_store.get()
    }

    fn own_store(&self) -> Option<String> {
        self.is_named.then(|| self.store.clone())
    }

    fn lookup_stores(&self) -> Vec<String> {
        vec![self.store.clone()]
    }

    fn getter(&self) -> GetterSupplier<K, V> {
        store_getter(&self.store)
    }

    fn getter_as_of(&self) -> Option<GetterAsOfSupplier<K, V>> {
        self.is_versioned.then(|| versioned_getter(&self.store))
    }
}

/// The table of an aggregation: always in a store.
pub(crate) struct StoredTable {
    store: String,
    is_named: bool,
    is_versioned: Cell<bool>,
    old_values: Rc<Cell<bool>>,
}

impl StoredTable {
    /// `is_named`: the user gave the store's name.
    pub(crate) fn new(store: String, is_named: bool) -> Rc<Self> {
        Rc::new(Self { store, is_named, is_versioned: Cell::default(), old_values: Rc::default() })
    }

    /// Notes what kind of store the table has.
    pub(crate) fn kept_in<K, V>(&self, store: &SettledStore<K, V>) {
        self.is_versioned.set(store.materialized.is_versioned());
    }

    /// A table whose store the user has named; whether it sends old values stands in `old_values`.
    pub(crate) fn with_old_values(store: String, old_values: Rc<Cell<bool>>, is_versioned: bool) -> Rc<Self> {
        Rc::new(Self { store, is_named: true, is_versioned: Cell::new(is_versioned), old_values })
    }

    pub(crate) fn old_values(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.old_values)
    }
}

impl<K: 'static, V: Clone + 'static> Table<K, V> for StoredTable {
    fn keep_store(&self) {}

    fn send_old_values(&self) -> bool {
        self.old_values.set(true);
        true
    }

    fn own_store(&self) -> Option<String> {
        self.is_named.then(|| self.store.clone())
    }

    fn lookup_stores(&self) -> Vec<String> {
        vec![self.store.clone()]
    }

    fn getter(&self) -> GetterSupplier<K, V> {
        store_getter(&self.store)
    }

    fn getter_as_of(&self) -> Option<GetterAsOfSupplier<K, V>> {
        self.is_versioned.get().then(|| versioned_getter(&self.store))
    }
}

/// The kind of store behind a [`WindowedTable`].
#[derive(Clone, Copy)]
enum Windows {
    OfTime,
    Sessions,
}

/// The table of an aggregation per window or session.
pub(crate) struct WindowedTable {
    store: String,
    is_named: bool,
    windows: Windows,
    old_values: Rc<Cell<bool>>,
}

impl WindowedTable {
    /// Of windows of time. `is_named`: the user gave the store's name.
    pub(crate) fn new(store: String, is_named: bool) -> Rc<Self> {
        Rc::new(Self { store, is_named, windows: Windows::OfTime, old_values: Rc::default() })
    }

    /// As [`WindowedTable::new`], of sessions.
    pub(crate) fn of_sessions(store: String, is_named: bool) -> Rc<Self> {
        Rc::new(Self { store, is_named, windows: Windows::Sessions, old_values: Rc::default() })
    }

    pub(crate) fn old_values(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.old_values)
    }
}

fn window_getter<K: 'static, V: Clone + 'static>(
    ctx: &NodeContext,
    store: &str,
) -> Result<Getter<Windowed<K>, V>, BoxError> {
    let store = ctx.timestamped_window_store::<K, V>(store)?;
    Ok(Box::new(move |key| Ok(store.fetch(&key.key, key.window.start)?)))
}

fn session_getter<K: 'static, V: Clone + 'static>(
    ctx: &NodeContext,
    store: &str,
) -> Result<Getter<Windowed<K>, V>, BoxError> {
    let store = ctx.session_store::<K, V>(store)?;
    Ok(Box::new(move |key| {
        let (start, end) = (key.window.start, key.window.end);
        let value = store.fetch_session(&key.key, start, end)?;
        Ok(value.map(|value| ValueAndTimestamp { value, timestamp: end }))
    }))
}

impl<K: 'static, V: Clone + 'static> Table<Windowed<K>, V> for WindowedTable {
    fn keep_store(&self) {}

    fn send_old_values(&self) -> bool {
        self.old_values.set(true);
        true
    }

    fn own_store(&self) -> Option<String> {
        self.is_named.then(|| self.store.clone())
    }

    fn lookup_stores(&self) -> Vec<String> {
        vec![self.store.clone()]
    }

    fn getter(&self) -> GetterSupplier<Windowed<K>, V> {
        let (name, windows) = (self.store.clone(), self.windows);
        Arc::new(move |ctx: &NodeContext| match windows {
            Windows::OfTime => window_getter(ctx, &name),
            Windows::Sessions => session_getter(ctx, &name),
        })
    }
}

pub(crate) fn store_getter<K: 'static, V: Clone + 'static>(store: &str) -> GetterSupplier<K, V> {
    let name = store.to_owned();
    Arc::new(move |ctx: &NodeContext| {
        let store = ctx.table_store::<K, V>(&name)?;
        let getter: Getter<K, V> = Box::new(move |key| Ok(store.get(key)?));
        Ok(getter)
    })
}

pub(crate) fn versioned_getter<K: 'static, V: Clone + 'static>(store: &str) -> GetterAsOfSupplier<K, V> {
    let name = store.to_owned();
    Arc::new(move |ctx: &NodeContext| {
        let store = ctx.store::<VersionedKeyValueStore<K, V>>(&name)?;
        let getter: GetterAsOf<K, V> = Box::new(move |key, time| {
            let found = store.get_as_of(key, time)?;
            Ok(found.map(|found| ValueAndTimestamp { value: found.value, timestamp: found.timestamp }))
        });
        Ok(getter)
    })
}
