//! [`KTable`]: the latest value of each key. Its operators are in `operators/`, one file each.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::{BoxError, SerdeRef, Timestamp, ValueAndTimestamp};

use crate::graph::Place;

/// A table: a changelog stream of which each record replaces the former value of its key, and a null value deletes it.
pub struct KTable<K, V> {
    pub(crate) place: Place,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) table: Rc<dyn Table<K, V>>,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            table: Rc::clone(&self.table),
        }
    }
}

impl<K, V> KTable<K, V> {
    pub(crate) fn new(
        place: Place,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
        table: Rc<dyn Table<K, V>>,
    ) -> Self {
        Self { place, key, value, table }
    }

    /// Gives the next operator's node a name, in place of a generated one.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { place: self.place.named(name), ..self.clone() }
    }

    /// Whether the table knows former values: then its updates may come late by time, and what follows passes over those that do.
    pub(crate) fn is_versioned(&self) -> bool {
        self.table.is_versioned()
    }

    /// Makes updates carry the value before, and the table or what it is made of keep a store for that.
    pub(crate) fn require_old_values(&self) {
        self.table.keep_store();
        self.table.send_old_values();
    }

    /// Name of the store that can be queried: the one given by [`Materialized`](crate::Materialized), `None` without it.
    pub fn store_name(&self) -> Option<String> {
        self.table.own_store()
    }
}

/// Looks up the present value of a key, in one task.
pub(crate) type Getter<K, V> = Box<dyn Fn(&K) -> Result<Option<ValueAndTimestamp<V>>, BoxError>>;

/// Makes the getters of tasks.
pub(crate) type GetterSupplier<K, V> = Arc<dyn Fn(&NodeContext) -> Result<Getter<K, V>, BoxError> + Send + Sync>;

/// Looks up the value that a key had at a time, in one task.
pub(crate) type GetterAsOf<K, V> = Box<dyn Fn(&K, Timestamp) -> Result<Option<ValueAndTimestamp<V>>, BoxError>>;

/// Makes such getters.
pub(crate) type GetterAsOfSupplier<K, V> =
    Arc<dyn Fn(&NodeContext) -> Result<GetterAsOf<K, V>, BoxError> + Send + Sync>;

/// What an operator further down can ask of a table: to keep a store, to send old values, to look up a key.
///
/// Both changes are asked for before the topology is written, and read when it is.
pub(crate) trait Table<K, V> {
    /// Makes the table, or the nearest one upstream that can, keep a store, so that it can be looked up.
    fn keep_store(&self);

    /// Makes updates carry the value before, if the table or the nearest one upstream that can keeps a store; returns whether they will.
    fn send_old_values(&self) -> bool;

    /// The store of the table itself, if the user has given it a name.
    fn own_store(&self) -> Option<String>;

    /// Stores that a processor must be connected to for looking up.
    fn lookup_stores(&self) -> Vec<String>;

    /// Looks up keys; works in processors that are connected to [`Table::lookup_stores`].
    fn getter(&self) -> GetterSupplier<K, V>;

    /// Looks up keys as of a time, like [`Table::getter`]; `None` if the table is not versioned. Updates of a versioned table may come late by
    /// time; they say so.
    fn getter_as_of(&self) -> Option<GetterAsOfSupplier<K, V>> {
        None
    }

    /// Whether what follows must expect updates that come late by time, and pass over them.
    fn is_versioned(&self) -> bool {
        self.getter_as_of().is_some()
    }
}
