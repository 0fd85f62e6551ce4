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
    /// Each update of the table as a record under the key that `selector` finds for it; one without a new value may be given a key, too.
    pub fn to_stream_with_key<K2: Clone + 'static>(
        &self,
        selector: impl Fn(Option<&K>, Option<&V>) -> Option<K2> + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let unnamed = Self { place: self.place.at(self.place.node.clone()), ..self.clone() };
        let stream = unnamed.to_stream();
        match &self.place.next_name {
            Some(name) => stream.named(name).select_key_nullable(selector),
            None => stream.select_key_nullable(selector),
        }
    }
}
