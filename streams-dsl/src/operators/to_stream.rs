//! `to_stream` of a table: its updates as records.

use streams_core::{BoxError, Change, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::naming;

struct ToStream;

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, Change<V>, K, V> for ToStream {
    fn process(&mut self, record: Record<K, Change<V>>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        ctx.forward(record.map_value(|change| change.and_then(|change| change.new)))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// Each update of the table as a record; a deletion has a null value.
    pub fn to_stream(&self) -> KStream<K, V> {
        let name = self.place.take_name(naming::TO_STREAM);
        let (node, parent) = (name.clone(), self.place.node.clone());
        self.place.graph.add(move |topology| {
            topology.add_processor::<_, K, Change<V>, K, V>(&node, || ToStream, &[&parent]).map(|_| ())
        });
        KStream::new(self.place.at(name), self.key.clone(), self.value.clone(), false)
    }
}
