//! `to_table` of a stream: its records as updates of a table.

use std::sync::Arc;

use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::repartition::Through;
use crate::operators::table_source::SourceTable;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Takes each record as the new value of its key; a null value deletes, records without key are dropped. Repartitions first if
    /// the key may have changed. It keeps a store only once a name is given or an operator needs one.
    pub fn to_table(&self, materialized: Materialized<K, V>) -> KTable<K, V> {
        let graph = &self.place.graph;
        let name = self.place.take_name(naming::TO_TABLE);
        let store = materialized.name.clone().unwrap_or_else(|| graph.next_store_name(naming::TO_TABLE));
        let remedy = "Materialized::with(key serde, value serde)";
        let serdes = self.serdes(&materialized.key, &materialized.value, &format!("table {name}"), remedy);
        let Some((key, value)) = serdes else {
            // The graph holds the error; the table only has to have a type.
            return KTable::new(
                self.place.at(name),
                None,
                None,
                crate::operators::table_source::StoredTable::new(store, false),
            );
        };
        let stream = if self.rekeyed {
            self.through(Through::new(name.clone(), Arc::clone(&key), Arc::clone(&value)))
        } else {
            self.clone()
        };
        let table = SourceTable::new(store, &materialized, &key, &value);
        table.add_to(graph, name.clone(), stream.place.node.clone());
        KTable::new(stream.place.at(name), Some(key), Some(value), table)
    }
}
