//! Where the updates that a table operator makes go: through a store of its own, if the user has named one, or straight on.

use streams_core::store::TableStore;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::{BoxError, Change, ProcessorContext, Record, SerdeRef, StreamsError, Topology};

use crate::graph::GraphRef;
use crate::materialized::Materialized;
use crate::operators::store::SettledStore;

/// What an operator makes of its `Materialized`: the serdes of its result, and a store if that has a name.
pub(crate) struct Kept<K, V> {
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) store: Option<StoreBuilderRef>,
    /// Whether that store is versioned.
    pub(crate) is_versioned: bool,
    /// Whether anything was said of how to materialise.
    pub(crate) is_given: bool,
}

impl<K: 'static, V: Clone + 'static> Kept<K, V> {
    /// `key` and `value` are the serdes from upstream, used where `materialized` has none. Without a name it uses up the number of the
    /// store's name all the same, so it has to be called before the operator's own names are made.
    pub(crate) fn new(
        graph: &GraphRef,
        materialized: Materialized<K, V>,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
    ) -> Self {
        if materialized.is_given && materialized.name.is_none() {
            graph.skip_names(1);
        }
        Self::named(graph, materialized, key, value)
    }

    /// As [`Kept::new`], but without a name there is a store with a generated one, if `materialized` says anything at all.
    pub(crate) fn always(
        graph: &GraphRef,
        mut materialized: Materialized<K, V>,
        prefix: &str,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
    ) -> Self {
        if materialized.is_given && materialized.name.is_none() {
            materialized.name = Some(graph.next_store_name(prefix));
        }
        Self::named(graph, materialized, key, value)
    }

    fn named(
        graph: &GraphRef,
        materialized: Materialized<K, V>,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
    ) -> Self {
        let key = materialized.key.clone().or(key);
        let value = materialized.value.clone().or(value);
        let (is_versioned, is_given) = (materialized.is_versioned(), materialized.is_given);
        let store = materialized.name.clone().and_then(|name| {
            let settled = SettledStore::new(graph, name, materialized, key.clone(), value.clone());
            settled.map(|settled| settled.key_value())
        });
        Self { key, value, store, is_versioned, is_given }
    }

    pub(crate) fn store_name(&self) -> Option<String> {
        self.store.as_ref().map(|store| store.name().to_owned())
    }
}

/// Adds `store`, if there is one, for `node`.
pub(crate) fn add_store(
    topology: &mut Topology,
    store: Option<&StoreBuilderRef>,
    node: &str,
) -> Result<(), StreamsError> {
    match store {
        Some(store) => topology.add_shared_state_store(StoreBuilderRef::clone(store), &[node]).map(|_| ()),
        None => Ok(()),
    }
}

/// Lets `node` use `stores`.
pub(crate) fn connect(topology: &mut Topology, node: &str, stores: &[String]) -> Result<(), StreamsError> {
    let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
    topology.connect(node, &stores).map(|_| ())
}

/// Sends updates on, in one task.
pub(crate) struct Results<K, V> {
    store_name: Option<String>,
    pub(crate) send_old_values: bool,
    store: Option<TableStore<K, V>>,
    forwards_on_flush: bool,
}

impl<K: Clone + 'static, V: Clone + 'static> Results<K, V> {
    pub(crate) fn new(store_name: Option<String>, send_old_values: bool) -> Self {
        Self { store_name, send_old_values, store: None, forwards_on_flush: false }
    }

    pub(crate) fn init(&mut self, ctx: &ProcessorContext<K, Change<V>>) -> Result<(), BoxError> {
        if let Some(name) = &self.store_name {
            let store = ctx.table_store::<K, V>(name)?;
            self.forwards_on_flush = ctx.forward_table_on_flush(&store, self.send_old_values);
            self.store = Some(store);
        }
        Ok(())
    }

    /// The value before an update of `key`, if old values are sent: the stored one, or, without a store, what `computed` makes of the old
    /// value upstream.
    pub(crate) fn old(
        &self,
        key: Option<&K>,
        computed: impl FnOnce() -> Result<Option<V>, BoxError>,
    ) -> Result<Option<V>, BoxError> {
        match (&self.store, key) {
            _ if !self.send_old_values => Ok(None),
            (Some(store), Some(key)) => Ok(store.get(key)?.map(|found| found.value)),
            _ => computed(),
        }
    }

    /// Stores the update, if there is a store, and forwards it unless a cache will.
    pub(crate) fn send(
        &self,
        record: Record<K, Change<V>>,
        ctx: &ProcessorContext<K, Change<V>>,
    ) -> Result<(), BoxError> {
        let Some(store) = &self.store else { return ctx.forward(record) };
        let Some(key) = &record.key else {
            ctx.count_dropped();
            return Ok(());
        };
        let timestamp = record.timestamp;
        if self.forwards_on_flush {
            store.put(key, record.value.and_then(|change| change.new), timestamp)?;
            return Ok(());
        }
        let new = record.value.as_ref().and_then(|change| change.new.clone());
        match store.put(key, new, timestamp)? {
            Some(is_latest) => {
                ctx.forward(record.map_value(|change| change.map(|change| Change { is_latest, ..change })))
            }
            None => Ok(()),
        }
    }
}
