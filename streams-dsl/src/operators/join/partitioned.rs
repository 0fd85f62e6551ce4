//! The repartition in front of a join.

use streams_core::SerdeRef;

use crate::graph::Place;
use crate::kstream::KStream;
use crate::operators::repartition::Through;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// The stream, repartitioned if its key may have changed: through the topic `<base>-repartition`, or one named after the node that the
    /// stream comes from. A join without a name shares the topic of the last join before it, whatever that is called.
    pub(crate) fn partitioned_for_join(
        &self,
        base: Option<String>,
        key: &Option<SerdeRef<K>>,
        value: &Option<SerdeRef<V>>,
        remedy: &str,
    ) -> Self {
        if !self.rekeyed {
            return self.clone();
        }
        let graph = &self.place.graph;
        let node = &self.place.node;
        if base.is_none()
            && let Some((source, repartitions)) = graph.repartition_of(node)
        {
            // The names of the nodes that would have been made are used up all the same.
            graph.skip_names(3);
            let place = Place { sources: vec![source.clone()], repartitions, ..self.place.at(source) };
            let (key, value) = (key.clone().or_else(|| self.key.clone()), value.clone().or_else(|| self.value.clone()));
            return Self::new(place, key, value, false);
        }
        let base = base.unwrap_or_else(|| node.clone());
        let Some((key, value)) = self.serdes(key, value, &format!("repartition topic {base}-repartition"), remedy)
        else {
            return self.clone();
        };
        let stream = self.through(Through::new(base, key, value));
        graph.keep_repartition(node, (stream.place.node.clone(), stream.place.repartitions.clone()));
        stream
    }
}
