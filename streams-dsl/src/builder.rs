//! Where a topology begins: [`StreamsBuilder`].

use std::sync::Arc;

use streams_core::store::StoreBuilder;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::topology::Optimization;
use streams_core::{StreamsConfig, StreamsError, Topology};

use crate::graph::{GraphRef, Place};
use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::table_source::SourceTable;
use crate::options::Consumed;

/// Builds a topology from streams and tables.
///
/// Operators may be called in any order; mistakes are collected and the first is reported by [`StreamsBuilder::build`].
///
/// ```
/// use streams_dsl::{Consumed, Produced, StreamsBuilder};
///
/// let builder = StreamsBuilder::new();
/// builder
///     .stream("lines", Consumed::<String, String>::default())
///     .map_values(|line| line.len() as i64)
///     .to("lengths", Produced::default());
/// let topology = builder.build()?;
/// assert!(topology.describe().contains("KSTREAM-MAPVALUES-0000000001"));
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
#[derive(Clone, Default)]
pub struct StreamsBuilder {
    pub(crate) graph: GraphRef,
}

impl StreamsBuilder {
    /// A builder without operators.
    pub fn new() -> Self {
        Self::default()
    }

    /// The records of `topic`.
    pub fn stream<K: Clone + 'static, V: Clone + 'static>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        self.stream_of([topic], consumed)
    }

    /// The records of several topics. Two streams of exactly the same topics share one source.
    pub fn stream_of<K: Clone + 'static, V: Clone + 'static>(
        &self,
        topics: impl IntoIterator<Item = impl Into<String>>,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        let name = self.graph.name_or(consumed.name.clone(), naming::SOURCE);
        let (node, is_new) = self.graph.source(&topics, name);
        let (key, value) = (Arc::clone(&consumed.key), Arc::clone(&consumed.value));
        if is_new {
            let node = node.clone();
            self.graph.add(move |topology| {
                topology.add_source(&node, consumed.source_options(), topics.iter().map(String::as_str)).map(|_| ())
            });
        }
        KStream::new(Place::source(self.graph.clone(), node), Some(key), Some(value), false)
    }

    /// The records of every topic whose whole name matches the regular expression `pattern` when the application starts. Two streams of the same pattern share one
    /// source.
    pub fn stream_matching<K: Clone + 'static, V: Clone + 'static>(
        &self,
        pattern: &str,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let name = self.graph.name_or(consumed.name.clone(), naming::SOURCE);
        // No topic's name can have these characters.
        let (node, is_new) = self.graph.source(&[format!("/{pattern}/")], name);
        let (key, value) = (Arc::clone(&consumed.key), Arc::clone(&consumed.value));
        if is_new {
            let (node, pattern) = (node.clone(), pattern.to_owned());
            self.graph.add(move |topology| {
                topology.add_pattern_source(&node, consumed.source_options(), &pattern).map(|_| ())
            });
        }
        KStream::new(Place::source(self.graph.clone(), node), Some(key), Some(value), false)
    }

    /// `topic` as a table: the latest value of each key. It keeps a store only once a name is given or an operator needs one.
    pub fn table<K: Clone + 'static, V: Clone + 'static>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let store = match &materialized.name {
            Some(name) => name.clone(),
            None => self.graph.next_store_name(&format!("{topic}-")),
        };
        let source = consumed.name.as_ref().map(|name| format!("{name}-source"));
        let source = self.graph.name_or(source, naming::SOURCE);
        let name = self.graph.name_or(consumed.name.clone(), naming::TABLE_SOURCE);
        let (node, is_new) = self.graph.source(&[topic.to_owned()], source);
        if !is_new {
            self.graph.fail(format!("topic {topic} has already been registered by another source, {node}"));
        }
        let table = SourceTable::new(store, &materialized, &consumed.key, &consumed.value);
        let place = Place::source(self.graph.clone(), node.clone());
        let (key, value) = (Arc::clone(&consumed.key), Arc::clone(&consumed.value));
        let topic = topic.to_owned();
        let of_topic = topic.clone();
        let source_node = node.clone();
        self.graph.add(move |topology| {
            topology.add_source(&source_node, consumed.source_options(), [topic.as_str()]).map(|_| ())
        });
        let changelog = table.store_cell();
        table.add_to(&self.graph, name.clone(), node);
        let (optimization, of_topic) = (self.graph.optimization(), of_topic);
        self.graph.add(move |topology| match changelog() {
            Some(store) if optimization.get().reuse_source_topics => {
                topology.use_source_as_changelog(&store, &of_topic).map(|_| ())
            }
            _ => Ok(()),
        });
        KTable::new(place.at(name), Some(key), Some(value), table)
    }

    /// Adds a store for processors that name it in [`KStream::process`].
    pub fn add_state_store(&self, builder: impl StoreBuilder) -> &Self {
        self.add_shared_state_store(Arc::new(builder))
    }

    /// As [`StreamsBuilder::add_state_store`] with a shared builder.
    pub fn add_shared_state_store(&self, builder: StoreBuilderRef) -> &Self {
        self.graph.add(move |topology| topology.add_shared_state_store(Arc::clone(&builder), &[]).map(|_| ()));
        self
    }

    /// The topology of all operators called so far.
    ///
    /// # Errors
    /// The first mistake made: a missing serde, a name taken twice, a topic read in two ways.
    pub fn build(&self) -> Result<Topology, StreamsError> {
        self.graph.write(Optimization::default())
    }

    /// As [`StreamsBuilder::build`], with the optimisations of `topology.optimization`, and held to
    /// `ensure.explicit.internal.resource.naming`.
    ///
    /// # Errors
    /// As [`StreamsBuilder::build`], and a store or internal topic with a generated name if there must be none.
    pub fn build_with(&self, config: &StreamsConfig) -> Result<Topology, StreamsError> {
        let topology = self.graph.write(config.topology_optimization())?;
        if config.ensure_explicit_internal_resource_naming() {
            self.graph.check_names(&topology)?;
        }
        Ok(topology)
    }
}
