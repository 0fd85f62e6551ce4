//! Builds a topology by name. Nothing here is typed any more once a node is added; a mismatch between a node and its
//! parents is found when the node is added, and names both with their types.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{ErrorKind, StreamsError};
use crate::processor::api::{Processor, ProcessorSupplier};
use crate::store::builder::StoreBuilderRef;
use crate::store::{Logging, StoreBuilder, StoreKind};
use crate::task::sink::SinkTopic;
use crate::topology::describe;
use crate::topology::description::TopologyDescription;
use crate::topology::node::{EdgeType, Node, NodeKind, SourceTopics, TypedProcessor, TypedSink, TypedSource};
use crate::topology::optimization::Optimization;
use crate::topology::options::{RepartitionOptions, SinkOptions, SourceOptions, TopicNameExtractor};
use crate::topology::pattern::TopicPattern;

/// Limit of Kafka on the length of topic names.
const NAME_LENGTH_MAX: usize = 249;

/// A store and what is joined to it.
#[derive(Clone)]
pub(crate) struct StoreEntry {
    pub(crate) builder: StoreBuilderRef,
    /// Nodes that use it, in the order in which they were connected.
    pub(crate) users: Vec<usize>,
    /// The source topic that serves as its changelog.
    pub(crate) source_topic: Option<String>,
    pub(crate) is_global: bool,
}

/// A topology by name: sources, processors, sinks and state stores, and which are joined.
///
/// ```
/// use streams_core::{Processor, ProcessorContext, Record, BoxError, SinkOptions, SourceOptions, Topology};
///
/// struct Length;
/// impl Processor<String, String, String, i64> for Length {
///     fn process(
///         &mut self,
///         record: Record<String, String>,
///         ctx: &mut ProcessorContext<String, i64>,
///     ) -> Result<(), BoxError> {
///         ctx.forward(record.map_value(|text| text.map(|text| text.len() as i64)))
///     }
/// }
///
/// let mut topology = Topology::new();
/// topology
///     .add_source("lines", SourceOptions::<String, String>::default(), ["text"])?
///     .add_processor("length", || Length, &["lines"])?
///     .add_sink("out", SinkOptions::<String, i64>::default(), "lengths", &["length"])?;
/// assert!(topology.describe().contains("Processor: length (stores: [])"));
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
#[derive(Clone, Default)]
pub struct Topology {
    pub(crate) nodes: Vec<Node>,
    by_name: BTreeMap<Arc<str>, usize>,
    pub(crate) stores: BTreeMap<String, StoreEntry>,
    /// Names of stores in the order in which they were added.
    pub(crate) store_order: Vec<String>,
    pub(crate) repartition: BTreeMap<String, RepartitionOptions>,
    /// Groups of source names whose topics must have the same partitions.
    pub(crate) copartitions: Vec<Vec<String>>,
    /// How it was optimised; `None` if it was made by name.
    pub(crate) optimization: Option<Optimization>,
    redirects: Redirects,
}

/// Parents that nodes get in place of those that they name.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Redirects {
    /// In place of a source that is not made, where sources are compared.
    pub sources: BTreeMap<String, String>,
    /// In place of a source that is not made, as a parent.
    pub outputs: BTreeMap<String, String>,
    /// In place of a parent (second), for one child (first).
    pub edges: BTreeMap<(String, String), String>,
}

impl Redirects {
    fn source<'a>(&'a self, name: &'a str) -> &'a str {
        self.sources.get(name).map_or(name, String::as_str)
    }

    fn parent<'a>(&'a self, child: &str, parent: &'a str) -> &'a str {
        let parent = self.outputs.get(parent).map_or(parent, String::as_str);
        if self.edges.is_empty() {
            return parent;
        }
        self.edges.get(&(child.to_owned(), parent.to_owned())).map_or(parent, String::as_str)
    }
}

fn invalid(message: impl Into<String>) -> StreamsError {
    StreamsError::new(ErrorKind::Topology, message)
}

/// Refuses what Kafka would refuse as the name of a topic, and so of a store or node.
///
/// # Errors
/// [`ErrorKind::Topology`], naming the rule.
pub fn check_name(what: &str, name: &str) -> Result<(), StreamsError> {
    if name.is_empty() || name == "." || name == ".." {
        return Err(invalid(format!("{what} \"{name}\" is illegal: it must not be empty, \".\" or \"..\"")));
    }
    if name.len() > NAME_LENGTH_MAX {
        return Err(invalid(format!("{what} \"{name}\" is longer than {NAME_LENGTH_MAX} characters")));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        let rule = "ASCII letters, digits, '.', '_' and '-' are allowed";
        return Err(invalid(format!("{what} \"{name}\" contains other characters: {rule}")));
    }
    Ok(())
}

impl Topology {
    /// An empty topology.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source that reads `topics` (one partition of all of them per task) as records of `K, V`.
    ///
    /// # Errors
    /// The name is taken, there is no topic, or a topic has a source already.
    pub fn add_source<K: Clone + 'static, V: Clone + 'static>(
        &mut self,
        name: &str,
        options: SourceOptions<K, V>,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<&mut Self, StreamsError> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        if topics.is_empty() {
            return Err(invalid(format!("source {name} needs at least one topic")));
        }
        for topic in &topics {
            check_name("topic name", topic)?;
            if let Some(other) = self.source_of(topic) {
                return Err(invalid(format!(
                    "topic {topic} has already been registered by another source, {}",
                    self.nodes[other].name
                )));
            }
        }
        let factory = Arc::new(TypedSource { options });
        self.add_node(name, NodeKind::Source { topics: SourceTopics::Names(topics), factory }, &[])
    }

    /// Adds a source that reads every topic whose whole name matches the regular expression `pattern` when the application starts (in the
    /// test driver: when a record is piped into it).
    ///
    /// # Errors
    /// The name is taken, or the pattern is no regular expression.
    pub fn add_pattern_source<K: Clone + 'static, V: Clone + 'static>(
        &mut self,
        name: &str,
        options: SourceOptions<K, V>,
        pattern: &str,
    ) -> Result<&mut Self, StreamsError> {
        let factory = Arc::new(TypedSource { options });
        let topics = SourceTopics::Pattern(TopicPattern::new(pattern)?);
        self.add_node(name, NodeKind::Source { topics, factory }, &[])
    }

    /// Adds a processor below `parents`, whose output types must be its input types.
    ///
    /// # Errors
    /// The name is taken, a parent is unknown or a sink, or types do not match.
    pub fn add_processor<P, KIn, VIn, KOut, VOut>(
        &mut self,
        name: &str,
        supplier: impl ProcessorSupplier<P>,
        parents: &[&str],
    ) -> Result<&mut Self, StreamsError>
    where
        P: Processor<KIn, VIn, KOut, VOut>,
        KIn: 'static,
        VIn: 'static,
        KOut: 'static,
        VOut: 'static,
    {
        if parents.is_empty() {
            return Err(invalid(format!("processor {name} needs at least one parent")));
        }
        let stores = supplier.stores();
        let factory = Arc::new(TypedProcessor::<_, P, KIn, VIn, KOut, VOut>::new(supplier));
        self.add_node(name, NodeKind::Processor { stores: Vec::new(), factory }, parents)?;
        for store in stores {
            self.add_shared_state_store(store, &[name])?;
        }
        Ok(self)
    }

    /// Adds a sink that writes `topic`; a topic named by [`Topology::add_repartition_topic`] gets the application's
    /// prefix.
    ///
    /// # Errors
    /// As [`Topology::add_processor`].
    pub fn add_sink<K: 'static, V: 'static>(
        &mut self,
        name: &str,
        options: SinkOptions<K, V>,
        topic: &str,
        parents: &[&str],
    ) -> Result<&mut Self, StreamsError> {
        check_name("topic name", topic)?;
        let factory = Arc::new(TypedSink { options, topic: SinkTopic::Name(topic.to_owned()) });
        let kind = NodeKind::Sink { topic: Some(topic.to_owned()), description: String::new(), factory };
        self.add_sink_node(name, kind, parents)
    }

    /// Adds a sink that asks `extractor` for the topic of each record.
    ///
    /// # Errors
    /// As [`Topology::add_processor`].
    pub fn add_dynamic_sink<K: 'static, V: 'static>(
        &mut self,
        name: &str,
        options: SinkOptions<K, V>,
        extractor: Arc<dyn TopicNameExtractor<K, V>>,
        parents: &[&str],
    ) -> Result<&mut Self, StreamsError> {
        let description = extractor.describe();
        let factory = Arc::new(TypedSink { options, topic: SinkTopic::Extracted(extractor) });
        self.add_sink_node(name, NodeKind::Sink { topic: None, description, factory }, parents)
    }

    fn add_sink_node(&mut self, name: &str, kind: NodeKind, parents: &[&str]) -> Result<&mut Self, StreamsError> {
        if parents.is_empty() {
            return Err(invalid(format!("sink {name} needs at least one parent")));
        }
        self.add_node(name, kind, parents)
    }

    fn add_node(&mut self, name: &str, kind: NodeKind, parents: &[&str]) -> Result<&mut Self, StreamsError> {
        if name.is_empty() {
            return Err(invalid("a processor name must not be empty"));
        }
        if self.by_name.contains_key(name) {
            return Err(invalid(format!("processor {name} is already added")));
        }
        let mut indexes = Vec::with_capacity(parents.len());
        for parent in parents {
            let parent = self.redirects.parent(name, parent);
            let Some(&index) = self.by_name.get(parent) else {
                return Err(invalid(format!("{name} names the parent {parent}, which is not added yet")));
            };
            if !indexes.contains(&index) {
                indexes.push(index);
            }
        }
        let input = match &kind {
            NodeKind::Source { .. } => None,
            NodeKind::Processor { factory, .. } => Some(factory.input()),
            NodeKind::Sink { factory, .. } => Some(factory.input()),
        };
        for &parent in &indexes {
            self.check_edge(&self.nodes[parent], name, input)?;
        }
        let index = self.nodes.len();
        for &parent in &indexes {
            self.nodes[parent].children.push(index);
        }
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), index);
        self.nodes.push(Node { name, parents: indexes, children: Vec::new(), kind });
        Ok(self)
    }

    fn check_edge(&self, parent: &Node, name: &str, input: Option<EdgeType>) -> Result<(), StreamsError> {
        let Some(output) = parent.output() else {
            return Err(invalid(format!("{name} cannot be below {}: it is a sink", parent.name)));
        };
        match input {
            Some(input) if !output.is(input) => {
                Err(invalid(format!("{} sends records of {output}, but {name} below it takes {input}", parent.name)))
            }
            _ => Ok(()),
        }
    }

    /// Adds a store and connects it to `processors`.
    ///
    /// # Errors
    /// Another store has that name, or a processor is unknown.
    pub fn add_state_store(
        &mut self,
        builder: impl StoreBuilder,
        processors: &[&str],
    ) -> Result<&mut Self, StreamsError> {
        self.add_shared_state_store(Arc::new(builder), processors)
    }

    /// As [`Topology::add_state_store`] with a shared builder; adding the same one twice is allowed.
    ///
    /// # Errors
    /// As [`Topology::add_state_store`].
    pub fn add_shared_state_store(
        &mut self,
        builder: StoreBuilderRef,
        processors: &[&str],
    ) -> Result<&mut Self, StreamsError> {
        let name = builder.name().to_owned();
        check_name("store name", &name)?;
        match self.stores.get(&name) {
            Some(known) if !Arc::ptr_eq(&known.builder, &builder) => {
                return Err(invalid(format!("a different store {name} is already added")));
            }
            Some(_) => {}
            None => self.insert_store(builder, None, false),
        }
        self.connect_all(&name, processors)
    }

    fn insert_store(&mut self, builder: StoreBuilderRef, source_topic: Option<String>, is_global: bool) {
        let name = builder.name().to_owned();
        self.store_order.push(name.clone());
        self.stores.insert(name, StoreEntry { builder, users: Vec::new(), source_topic, is_global });
    }

    fn connect_all(&mut self, store: &str, processors: &[&str]) -> Result<&mut Self, StreamsError> {
        for processor in processors {
            self.connect(processor, &[store])?;
        }
        Ok(self)
    }

    /// Lets `processor` use `stores`, which thereby become part of one sub-topology with it.
    ///
    /// # Errors
    /// The processor or a store is unknown, or a store is global (those need no connecting).
    pub fn connect(&mut self, processor: &str, stores: &[&str]) -> Result<&mut Self, StreamsError> {
        let Some(&index) = self.by_name.get(processor) else {
            return Err(invalid(format!("processor {processor} is not added yet, stores cannot be connected to it")));
        };
        for store in stores {
            let Some(entry) = self.stores.get_mut(*store) else {
                return Err(invalid(format!("store {store} is not added yet, {processor} cannot be connected to it")));
            };
            if entry.is_global {
                return Err(invalid(format!("global store {store} can be read without connecting it to {processor}")));
            }
            let NodeKind::Processor { stores, .. } = &mut self.nodes[index].kind else {
                return Err(invalid(format!("{processor} is a source or sink and cannot use store {store}")));
            };
            if !stores.iter().any(|known| known == store) {
                stores.push((*store).to_owned());
                entry.users.push(index);
            }
        }
        Ok(self)
    }

    /// Adds a global store: `processor`, below a source of its own, keeps it up to date in every process from all
    /// partitions of `topic`. It has no changelog; any processor may read it.
    ///
    /// # Errors
    /// A name is taken, the topic has a source already, or types do not match.
    pub fn add_global_store<P, K, V>(
        &mut self,
        builder: impl StoreBuilder,
        source: &str,
        options: SourceOptions<K, V>,
        topic: &str,
        processor: &str,
        supplier: impl ProcessorSupplier<P>,
    ) -> Result<&mut Self, StreamsError>
    where
        P: Processor<K, V, (), ()>,
        K: Clone + 'static,
        V: Clone + 'static,
    {
        self.add_shared_global_store(Arc::new(builder), source, options, topic, processor, supplier)
    }

    /// As [`Topology::add_global_store`] with a shared builder.
    ///
    /// # Errors
    /// As [`Topology::add_global_store`].
    pub fn add_shared_global_store<P, K, V>(
        &mut self,
        builder: StoreBuilderRef,
        source: &str,
        options: SourceOptions<K, V>,
        topic: &str,
        processor: &str,
        supplier: impl ProcessorSupplier<P>,
    ) -> Result<&mut Self, StreamsError>
    where
        P: Processor<K, V, (), ()>,
        K: Clone + 'static,
        V: Clone + 'static,
    {
        let name = builder.name().to_owned();
        check_name("store name", &name)?;
        if self.stores.contains_key(&name) {
            return Err(invalid(format!("a different store {name} is already added")));
        }
        self.add_source(source, options, [topic])?;
        self.add_processor::<P, K, V, (), ()>(processor, supplier, &[source])?;
        self.insert_store(builder, Some(topic.to_owned()), false);
        self.connect(processor, &[&name])?;
        if let Some(entry) = self.stores.get_mut(&name) {
            entry.is_global = true;
        }
        Ok(self)
    }

    /// Adds a store that `processor`, below a source of its own, fills from `topic`, which serves as its changelog. The
    /// builder's logging is not used.
    ///
    /// # Errors
    /// As [`Topology::add_global_store`].
    pub fn add_read_only_state_store<P, K, V>(
        &mut self,
        builder: impl StoreBuilder,
        source: &str,
        options: SourceOptions<K, V>,
        topic: &str,
        processor: &str,
        supplier: impl ProcessorSupplier<P>,
    ) -> Result<&mut Self, StreamsError>
    where
        P: Processor<K, V, (), ()>,
        K: Clone + 'static,
        V: Clone + 'static,
    {
        let name = builder.name().to_owned();
        self.add_source(source, options, [topic])?;
        self.add_processor::<P, K, V, (), ()>(processor, supplier, &[source])?;
        self.add_state_store(builder, &[processor])?;
        self.use_source_as_changelog(&name, topic)
    }

    /// Lets the source topic `topic` serve as the changelog of `store`: nothing is logged, restoring reads the topic.
    ///
    /// # Errors
    /// The store or the topic's source is unknown.
    pub fn use_source_as_changelog(&mut self, store: &str, topic: &str) -> Result<&mut Self, StreamsError> {
        if self.source_of(topic).is_none() {
            return Err(invalid(format!("topic {topic} has no source, it cannot be the changelog of {store}")));
        }
        match self.stores.get_mut(store) {
            Some(entry) => entry.source_topic = Some(topic.to_owned()),
            None => return Err(invalid(format!("store {store} is not added yet"))),
        }
        Ok(self)
    }

    /// Makes `topic` internal: its full name is `<application.id>-<topic>`, and the runtime creates it.
    ///
    /// # Errors
    /// The name is not a topic's, or it was added with other options.
    pub fn add_repartition_topic(
        &mut self,
        topic: &str,
        options: RepartitionOptions,
    ) -> Result<&mut Self, StreamsError> {
        check_name("topic name", topic)?;
        match self.repartition.get(topic) {
            Some(known) if *known != options => {
                Err(invalid(format!("repartition topic {topic} is already added with other options")))
            }
            _ => {
                self.repartition.insert(topic.to_owned(), options);
                Ok(self)
            }
        }
    }

    /// Demands that the topics of these sources have the same number of partitions.
    ///
    /// # Errors
    /// A source is unknown.
    pub fn copartition(&mut self, sources: &[&str]) -> Result<&mut Self, StreamsError> {
        let sources: Vec<&str> = sources.iter().map(|source| self.redirects.source(source)).collect();
        for source in &sources {
            match self.by_name.get(*source).map(|&index| &self.nodes[index].kind) {
                Some(NodeKind::Source { .. }) => {}
                _ => return Err(invalid(format!("{source} is not a source that could be co-partitioned"))),
            }
        }
        let sources = sources.into_iter().map(str::to_owned).collect();
        self.copartitions.push(sources);
        Ok(self)
    }

    /// Names of all nodes in the order in which they were added.
    pub fn node_names(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| &*node.name).collect()
    }

    /// Names of all stores in the order in which they were added.
    pub fn store_names(&self) -> Vec<&str> {
        self.store_order.iter().map(String::as_str).collect()
    }

    /// Names of all repartition topics, without the application's prefix.
    pub fn internal_topics(&self) -> Vec<&str> {
        self.repartition.keys().map(String::as_str).collect()
    }

    /// Names of the parents of a node.
    pub fn parents(&self, name: &str) -> Vec<&str> {
        let node = self.by_name.get(name).map(|&index| &self.nodes[index]);
        node.map_or_else(Vec::new, |node| node.parents.iter().map(|&parent| &*self.nodes[parent].name).collect())
    }

    /// For a builder that optimises: notes how, and where nodes added from now on go in place of where they say.
    #[doc(hidden)]
    pub fn set_optimization(&mut self, optimization: Optimization, redirects: Redirects) {
        self.optimization = Some(optimization);
        self.redirects = redirects;
    }

    /// For a builder that optimises: the node below which `name` comes when it names `parent`.
    #[doc(hidden)]
    pub fn parent_for<'a>(&'a self, name: &str, parent: &'a str) -> &'a str {
        self.redirects.parent(name, parent)
    }

    /// The topology as text, in Kafka Streams' format: that of [`Topology::description`].
    pub fn describe(&self) -> String {
        self.description().to_string()
    }

    /// What is in the topology and how it is joined, as data: to be drawn, or compared with another.
    ///
    /// ```
    /// use streams_core::topology::NodeRole;
    /// use streams_core::{SourceOptions, Topology};
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("lines", SourceOptions::<String, String>::default(), ["text"])?;
    /// let description = topology.description();
    /// assert!(matches!(description.subtopologies[0].nodes[0].role, NodeRole::Source(_)));
    /// assert!(description.to_mermaid().starts_with("flowchart TD"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn description(&self) -> TopologyDescription {
        describe::describe(self)
    }

    /// Whether a node of that name was added.
    pub fn has_node(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether a store of that name was added.
    pub fn has_store(&self, name: &str) -> bool {
        self.stores.contains_key(name)
    }

    /// Names of the stores that no processor is connected to: nothing makes them.
    pub fn unconnected_stores(&self) -> Vec<String> {
        let unconnected = self.stores.iter().filter(|(_, entry)| entry.users.is_empty());
        unconnected.map(|(name, _)| name.clone()).collect()
    }

    /// What kind of store was added under that name.
    pub fn store_kind(&self, name: &str) -> Option<StoreKind> {
        self.stores.get(name).map(|entry| entry.builder.kind())
    }

    pub(crate) fn source_of(&self, topic: &str) -> Option<usize> {
        self.nodes.iter().position(|node| match &node.kind {
            NodeKind::Source { topics: SourceTopics::Names(topics), .. } => topics.iter().any(|known| known == topic),
            _ => false,
        })
    }

    /// Whether the store logs to a changelog topic of its own.
    pub(crate) fn has_changelog(entry: &StoreEntry) -> bool {
        entry.source_topic.is_none() && matches!(entry.builder.logging(), Logging::Enabled(_))
    }
}
