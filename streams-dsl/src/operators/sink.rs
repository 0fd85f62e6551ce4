//! `to` of a stream: writes a topic.

use std::sync::Arc;

use streams_core::SinkOptions;

use crate::kstream::KStream;
use crate::naming;
use crate::options::Produced;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Writes every record to `topic`, which must exist or be created by the broker on first use. Records without key are spread over the
    /// partitions.
    pub fn to(&self, topic: &str, produced: Produced<K, V>) {
        let given = produced.name.clone().or_else(|| self.place.next_name.clone());
        let name = self.place.graph.name_or(given, naming::SINK);
        let remedy = "Produced::with(key serde, value serde)";
        let Some((key, value)) = self.serdes(&produced.key, &produced.value, &format!("sink {topic}"), remedy) else {
            return;
        };
        let (parent, topic) = (self.place.node.clone(), topic.to_owned());
        self.place.graph.add(move |topology| {
            let mut options = SinkOptions::new(Arc::clone(&key), Arc::clone(&value));
            if let Some(partitioner) = &produced.partitioner {
                options = options.with_shared_partitioner(Arc::clone(partitioner));
            }
            topology.add_sink(&name, options, &topic, &[&parent]).map(|_| ())
        });
    }
}
