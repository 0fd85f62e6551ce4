//! Tables grouped by another key, about to be aggregated: [`KGroupedTable`].

use std::cell::RefCell;
use std::rc::Rc;

use streams_core::SerdeRef;

use crate::graph::Place;

/// A table whose rows of one new key are to be aggregated: rows that come are added, rows that go are subtracted.
pub struct KGroupedTable<K, V> {
    /// Behind the node that selects the new keys and values.
    pub(crate) place: Place,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    /// Name of the repartition topic, if the user gave one.
    pub(crate) repartition_name: Option<String>,
    /// Where the topic of that name is read, once it is: all aggregations read it.
    pub(crate) repartitioned: Rc<RefCell<Option<Place>>>,
}

impl<K, V> Clone for KGroupedTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            repartition_name: self.repartition_name.clone(),
            repartitioned: Rc::clone(&self.repartitioned),
        }
    }
}

impl<K, V> KGroupedTable<K, V> {
    /// Gives the aggregation's node a name, in place of a generated one; its repartition's nodes are named after it.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { place: self.place.named(name), ..self.clone() }
    }
}
