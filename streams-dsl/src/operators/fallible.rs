//! `try_map_values` and `try_filter` of a stream: operators whose closures may fail, and what those that cannot are made of. What becomes of a
//! record whose closure failed is decided by `processing.exception.handler`.

use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;

struct TryMapValues<F>(Arc<F>);

impl<K, V, V2, F> Processor<K, V, K, V2> for TryMapValues<F>
where
    K: Clone + 'static,
    V: 'static,
    V2: Clone + 'static,
    F: Fn(Option<&K>, Option<&V>) -> Result<Option<V2>, BoxError> + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V2>) -> Result<(), BoxError> {
        let value = (self.0)(record.key.as_ref(), record.value.as_ref())?;
        ctx.forward(record.with_value(value))
    }
}

struct TryFilter<F>(Arc<F>);

impl<K, V, F> Processor<K, V, K, V> for TryFilter<F>
where
    K: Clone + 'static,
    V: Clone + 'static,
    F: Fn(Option<&K>, Option<&V>) -> Result<bool, BoxError> + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        if (self.0)(record.key.as_ref(), record.value.as_ref())? { ctx.forward(record) } else { Ok(()) }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// As [`KStream::map_values_nullable`] with a mapper that may fail.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Produced, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// builder
    ///     .stream("texts", Consumed::<String, String>::default())
    ///     .try_map_values(|_, text| Ok(text.map(|text| text.parse::<i64>()).transpose()?))
    ///     .to("numbers", Produced::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn try_map_values<V2: Clone + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> Result<Option<V2>, BoxError> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let name = self.place.take_name(naming::MAP_VALUES);
        let (node, parent, mapper) = (name.clone(), self.place.node.clone(), Arc::new(mapper));
        self.place.graph.add(move |topology| {
            let mapper = Arc::clone(&mapper);
            topology
                .add_processor::<_, K, V, K, V2>(&node, move || TryMapValues(Arc::clone(&mapper)), &[&parent])
                .map(|_| ())
        });
        self.with_values(name)
    }

    /// As [`KStream::filter_nullable`] with a predicate that may fail.
    pub fn try_filter(
        &self,
        predicate: impl Fn(Option<&K>, Option<&V>) -> Result<bool, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let name = self.place.take_name(naming::FILTER);
        let (node, parent, predicate) = (name.clone(), self.place.node.clone(), Arc::new(predicate));
        self.place.graph.add(move |topology| {
            let predicate = Arc::clone(&predicate);
            topology
                .add_processor::<_, K, V, K, V>(&node, move || TryFilter(Arc::clone(&predicate)), &[&parent])
                .map(|_| ())
        });
        self.same(name)
    }
}
