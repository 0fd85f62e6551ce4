//! `flat_map_values` and `flat_map` of a stream: any number of records for each record.

use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;

struct FlatMapValues<F>(Arc<F>);

impl<K, V, V2, I, F> Processor<K, V, K, V2> for FlatMapValues<F>
where
    K: Clone + 'static,
    V: 'static,
    V2: Clone + 'static,
    I: IntoIterator<Item = Option<V2>>,
    F: Fn(Option<&K>, Option<&V>) -> I + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V2>) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        for value in (self.0)(key.as_ref(), value.as_ref()) {
            ctx.forward(Record { key: key.clone(), value, timestamp, headers: headers.clone() })?;
        }
        Ok(())
    }
}

struct FlatMap<F>(Arc<F>);

impl<K, V, K2, V2, I, F> Processor<K, V, K2, V2> for FlatMap<F>
where
    K: 'static,
    V: 'static,
    K2: Clone + 'static,
    V2: Clone + 'static,
    I: IntoIterator<Item = (Option<K2>, Option<V2>)>,
    F: Fn(Option<&K>, Option<&V>) -> I + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K2, V2>) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        for (key, value) in (self.0)(key.as_ref(), value.as_ref()) {
            ctx.forward(Record { key, value, timestamp, headers: headers.clone() })?;
        }
        Ok(())
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// A record for each value that `mapper` returns, with the key of the record it came from. Null stays null.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let lines = builder.stream("lines", Consumed::<String, String>::default());
    /// let words = lines.flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    /// # let _ = words;
    /// ```
    pub fn flat_map_values<V2: Clone + 'static, I: IntoIterator<Item = V2> + 'static>(
        &self,
        mapper: impl Fn(&V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_map_values_with_key(move |_, value| mapper(value))
    }

    /// As [`KStream::flat_map_values`], with a look at the key.
    pub fn flat_map_values_with_key<V2: Clone + 'static, I: IntoIterator<Item = V2> + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, &V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_map_values_nullable(move |key, value| {
            let mapped = value.map(|value| mapper(key, value).into_iter().map(Some));
            let null = mapped.is_none().then_some(None);
            mapped.into_iter().flatten().chain(null)
        })
    }

    /// As [`KStream::flat_map_values_with_key`], called for null values too; values may be null.
    pub fn flat_map_values_nullable<V2: Clone + 'static, I: IntoIterator<Item = Option<V2>>>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let name = self.place.take_name(naming::FLAT_MAP_VALUES);
        let (node, parent, mapper) = (name.clone(), self.place.node.clone(), Arc::new(mapper));
        self.place.graph.add(move |topology| {
            let mapper = Arc::clone(&mapper);
            topology
                .add_processor::<_, K, V, K, V2>(&node, move || FlatMapValues(Arc::clone(&mapper)), &[&parent])
                .map(|_| ())
        });
        self.with_values(name)
    }

    /// A record for each key and value that `mapper` returns. A record with a null value gives one with null key and value.
    pub fn flat_map<K2: Clone + 'static, V2: Clone + 'static, I: IntoIterator<Item = (K2, V2)> + 'static>(
        &self,
        mapper: impl Fn(Option<&K>, &V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.flat_map_nullable(move |key, value| {
            let mapped = value.map(|value| mapper(key, value).into_iter().map(|(key, value)| (Some(key), Some(value))));
            let null = mapped.is_none().then_some((None, None));
            mapped.into_iter().flatten().chain(null)
        })
    }

    /// As [`KStream::flat_map`], called for null values too; keys and values may be null.
    pub fn flat_map_nullable<K2, V2, I>(
        &self,
        mapper: impl Fn(Option<&K>, Option<&V>) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Clone + 'static,
        V2: Clone + 'static,
        I: IntoIterator<Item = (Option<K2>, Option<V2>)>,
    {
        let name = self.place.take_name(naming::FLAT_MAP);
        let (node, parent, mapper) = (name.clone(), self.place.node.clone(), Arc::new(mapper));
        self.place.graph.add(move |topology| {
            let mapper = Arc::clone(&mapper);
            topology
                .add_processor::<_, K, V, K2, V2>(&node, move || FlatMap(Arc::clone(&mapper)), &[&parent])
                .map(|_| ())
        });
        self.rekeyed(name, None)
    }
}
