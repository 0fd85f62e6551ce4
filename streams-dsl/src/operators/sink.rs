//! `to` of a stream: writes a topic.

use std::sync::Arc;

use streams_core::topology::TopicNameExtractor;
use streams_core::{SinkOptions, StreamsError, Topology};

use crate::kstream::KStream;
use crate::naming;
use crate::options::Produced;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Writes every record to `topic`, which must exist or be created by the broker on first use. Records without key are spread over the
    /// partitions.
    pub fn to(&self, topic: &str, produced: Produced<K, V>) {
        let topic = topic.to_owned();
        self.add_sink(&format!("sink {topic}"), produced, move |topology, name, options, parent| {
            topology.add_sink(name, options, &topic, &[parent]).map(|_| ())
        });
    }

    /// Writes every record to the topic that `extractor` names. A topic that is new to the application is looked up first; nothing more is
    /// processed until it is known, and the application fails after `producer.max.block.ms` if it does not exist and the broker does not
    /// create it.
    ///
    /// ```
    /// use streams_core::topology::TopicContext;
    /// use streams_dsl::{Consumed, Produced, StreamsBuilder};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream("events", Consumed::<String, String>::default()).to_dynamic(
    ///     |_: Option<&String>, event: Option<&String>, _: &TopicContext<'_>| {
    ///         let kind = event.and_then(|event| event.split(':').next()).unwrap_or("unknown");
    ///         format!("events-{kind}")
    ///     },
    ///     Produced::default(),
    /// );
    /// builder.build()?;
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn to_dynamic(&self, extractor: impl TopicNameExtractor<K, V> + 'static, produced: Produced<K, V>) {
        let extractor: Arc<dyn TopicNameExtractor<K, V>> = Arc::new(extractor);
        self.add_sink("the dynamic sink", produced, move |topology, name, options, parent| {
            topology.add_dynamic_sink(name, options, Arc::clone(&extractor), &[parent]).map(|_| ())
        });
    }

    fn add_sink(
        &self,
        what: &str,
        produced: Produced<K, V>,
        add: impl Fn(&mut Topology, &str, SinkOptions<K, V>, &str) -> Result<(), StreamsError> + 'static,
    ) {
        let given = produced.name.clone().or_else(|| self.place.next_name.clone());
        let name = self.place.graph.name_or(given, naming::SINK);
        let remedy = "Produced::with(key serde, value serde)";
        let Some((key, value)) = self.serdes(&produced.key, &produced.value, what, remedy) else {
            return;
        };
        let parent = self.place.node.clone();
        self.place.graph.add(move |topology| {
            let mut options = SinkOptions::new(Arc::clone(&key), Arc::clone(&value));
            if let Some(partitioner) = &produced.partitioner {
                options = options.with_shared_partitioner(Arc::clone(partitioner));
            }
            add(topology, &name, options, &parent)
        });
    }
}
