//! `map_values` and `map` of a stream: one record for each record.

use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;

struct Map<F>(Arc<F>);

impl<K, V, K2, V2, F> Processor<K, V, K2, V2> for Map<F>
where
    K: 'static,
    V: 'static,
    K2: Clone + 'static,
    V2: Clone + 'static,
    F: Fn(Option<&K>, Option<&V>) -> (Option<K2>, Option<V2>) + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K2, V2>) -> Result<(), BoxError> {
        let (key, value) = (self.0)(record.key.as_ref(), record.value.as_ref());
        ctx.forward(record.with_key(key).with_value(value))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Replaces each value; the key, and so the partitioning, stays. Null stays null.
    pub fn map_values<V2: Clone + 'static>(&self, mapper: impl Fn(&V) -> V2 + Send + Sync + 'static) -> KStream<K, V2> {
        self.map_values_nullable(move |_, value| value.map(&mapper))
    }

    /// As [`KStream::map_values`], with a look at the key.
    pub fn map_values_with_key<V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, &V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.map_values_nullable(move |key, value| value.map(|value| mapper(key, value)))
    }

    /// As [`KStream::map_values`], called for null values too; may return null.
    pub fn map_values_nullable<V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.try_map_values(move |key, value| Ok(mapper(key, value)))
    }

    /// Replaces key and value of each record. A record with a null value becomes one with null key and value.
    pub fn map<K2: Clone + 'static, V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, &V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.map_nullable(move |key, value| value.map(|value| mapper(key, value)).unzip())
    }

    /// As [`KStream::map`], called for null values too; key and value may become null.
    pub fn map_nullable<K2: Clone + 'static, V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> (Option<K2>, Option<V2>) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let name = self.place.take_name(naming::MAP);
        let (node, parent, mapper) = (name.clone(), self.place.node.clone(), Arc::new(mapper));
        self.place.graph.add(move |topology| {
            let mapper = Arc::clone(&mapper);
            topology.add_processor::<_, K, V, K2, V2>(&node, move || Map(Arc::clone(&mapper)), &[&parent]).map(|_| ())
        });
        self.rekeyed(name, None)
    }
}
