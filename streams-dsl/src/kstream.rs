//! [`KStream`]: records that happen, one after another. Its operators are in `operators/`, one file each.

use std::sync::Arc;

use streams_core::SerdeRef;

use crate::graph::Place;
use crate::optimize::Kind;

/// A stream of records of key `K` and value `V`, either of which may be null.
///
/// A closure that takes `&V` is called for records with a value: for a null value, `map_values` and its like pass null on and `filter` does
/// not match. Each such operator has a `_nullable` form, which is called for every record and takes and gives options, as in Kafka Streams.
pub struct KStream<K, V> {
    pub(crate) place: Place,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    /// Whether the key may have changed since the last repartition.
    pub(crate) rekeyed: bool,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self { place: self.place.clone(), key: self.key.clone(), value: self.value.clone(), rekeyed: self.rekeyed }
    }
}

impl<K, V> KStream<K, V> {
    pub(crate) fn new(place: Place, key: Option<SerdeRef<K>>, value: Option<SerdeRef<V>>, rekeyed: bool) -> Self {
        Self { place, key, value, rekeyed }
    }

    /// Gives the next operator's node a name, in place of a generated one.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, StreamsBuilder};
    /// let builder = StreamsBuilder::new();
    /// let lines = builder.stream("lines", Consumed::<String, String>::default());
    /// lines.named("shout").map_values(|line| line.to_uppercase());
    /// assert!(builder.build()?.describe().contains("Processor: shout"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { place: self.place.named(name), ..self.clone() }
    }

    /// The stream behind `node`, which replaces values: with the key as it was and no serde for the values.
    pub(crate) fn with_values<V2>(&self, node: String) -> KStream<K, V2> {
        self.place.graph.mark(&node, Kind::ChangesValue);
        KStream::new(self.place.at(node), self.key.clone(), None, self.rekeyed)
    }

    /// The stream behind `node`, unchanged.
    pub(crate) fn same(&self, node: String) -> Self {
        KStream::new(self.place.at(node), self.key.clone(), self.value.clone(), self.rekeyed)
    }

    /// The stream behind `node`, with other keys and values.
    pub(crate) fn rekeyed<K2, V2>(&self, node: String, value: Option<SerdeRef<V2>>) -> KStream<K2, V2> {
        self.place.graph.mark(&node, Kind::ChangesKey);
        KStream::new(self.place.at(node), None, value, true)
    }

    /// The serdes to write this stream with: those given, else those from upstream; an error of the graph if one is missing.
    pub(crate) fn serdes(
        &self,
        key: &Option<SerdeRef<K>>,
        value: &Option<SerdeRef<V>>,
        what: &str,
        remedy: &str,
    ) -> Option<(SerdeRef<K>, SerdeRef<V>)> {
        let graph = &self.place.graph;
        let key = graph.need(key.clone().or_else(|| self.key.clone()), &format!("the key of {what}"), remedy);
        let value = graph.need(value.clone().or_else(|| self.value.clone()), &format!("the value of {what}"), remedy);
        key.zip(value).map(|(key, value)| (Arc::clone(&key), Arc::clone(&value)))
    }
}
