//! The cut into sub-topologies: nodes that are connected, directly or through a store, run in one task. Also what each
//! sub-topology reads, writes and logs, under full names, for the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::StreamsConfig;
use crate::error::{ErrorKind, StreamsError};
use crate::store::Logging;
use crate::topology::builder::Topology;
use crate::topology::internal_topics::InternalTopicConfig;
use crate::topology::node::{NodeKind, SourceTopics};
use crate::topology::options::AutoOffsetReset;
use crate::topology::pattern::TopicPattern;

/// Nodes that belong together, by index, in insertion order.
pub(crate) struct NodeGroup {
    pub(crate) id: u32,
    pub(crate) nodes: Vec<usize>,
    pub(crate) is_global: bool,
}

/// The groups in the order of their ids: that in which their first member was added. Global groups take an id, too.
pub(crate) fn node_groups(topology: &Topology) -> Vec<NodeGroup> {
    let mut root: Vec<usize> = (0..topology.nodes.len()).collect();
    fn find(root: &mut [usize], mut node: usize) -> usize {
        while root[node] != node {
            root[node] = root[root[node]];
            node = root[node];
        }
        node
    }
    let mut unite = |a: usize, b: usize| {
        let (a, b) = (find(&mut root, a), find(&mut root, b));
        root[a.max(b)] = a.min(b);
    };
    for (index, node) in topology.nodes.iter().enumerate() {
        for &parent in &node.parents {
            unite(index, parent);
        }
    }
    for store in topology.stores.values() {
        for pair in store.users.windows(2) {
            unite(pair[0], pair[1]);
        }
    }
    let mut groups: Vec<NodeGroup> = Vec::new();
    let mut of_root: BTreeMap<usize, usize> = BTreeMap::new();
    for index in 0..topology.nodes.len() {
        let root = find(&mut root, index);
        let group = *of_root.entry(root).or_insert_with(|| {
            groups.push(NodeGroup { id: groups.len() as u32, nodes: Vec::new(), is_global: false });
            groups.len() - 1
        });
        groups[group].nodes.push(index);
    }
    let global_users: BTreeSet<usize> =
        topology.stores.values().filter(|store| store.is_global).flat_map(|store| store.users.clone()).collect();
    for group in &mut groups {
        group.is_global = group.nodes.iter().any(|node| global_users.contains(node));
    }
    groups
}

/// One sub-topology: what its tasks read, write and log. Topic names are full names.
#[derive(Clone, Debug)]
pub struct SubTopology {
    /// Its number, the first part of its tasks' ids.
    pub id: u32,
    /// Whether it serves global stores: no tasks, read as a whole by every process.
    pub is_global: bool,
    /// Topics its sources read by name, internal ones included.
    pub source_topics: Vec<String>,
    /// Regular expressions of sources that read by pattern.
    pub source_patterns: Vec<String>,
    /// Those of `source_topics` that are repartition topics.
    pub repartition_sources: Vec<InternalTopicConfig>,
    /// Repartition topics it writes.
    pub repartition_sinks: Vec<String>,
    /// Changelogs to create, with the store each belongs to.
    pub changelogs: BTreeMap<String, InternalTopicConfig>,
    /// Stores whose changelog is a source topic, with that topic.
    pub source_changelogs: BTreeMap<String, String>,
    /// Groups of source topics that must have equal numbers of partitions.
    pub copartition_groups: Vec<Vec<String>>,
    /// Where to begin without a committed offset, for topics whose source says so.
    pub resets: BTreeMap<String, AutoOffsetReset>,
    /// Names of its stores in the order of first use.
    pub stores: Vec<String>,
    /// Whether any of its stores survives the process.
    pub is_persistent: bool,
    pub(crate) nodes: Vec<usize>,
    patterns: Vec<TopicPattern>,
}

impl SubTopology {
    /// Whether a source that reads by pattern reads `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether its tasks keep state that is restored.
    pub fn is_stateful(&self) -> bool {
        !self.stores.is_empty()
    }
}

/// A topology made ready for an application: full names, sub-topologies, internal topics. Shared by all threads.
#[derive(Clone)]
pub struct BuiltTopology {
    pub(crate) topology: Topology,
    pub(crate) config: StreamsConfig,
    subtopologies: Vec<SubTopology>,
}

impl BuiltTopology {
    /// Makes `topology` ready for the application of `config`.
    ///
    /// # Errors
    /// The topology has no source, or was optimised with another configuration.
    pub fn new(topology: &Topology, config: &StreamsConfig) -> Result<Arc<Self>, StreamsError> {
        if !topology.nodes.iter().any(|node| matches!(node.kind, NodeKind::Source { .. })) {
            let message = "the topology has no source: nothing would ever be processed";
            return Err(StreamsError::new(ErrorKind::Topology, message));
        }
        Self::made_ready(topology, config)
    }

    /// As [`BuiltTopology::new`], also of a topology without sources.
    fn made_ready(topology: &Topology, config: &StreamsConfig) -> Result<Arc<Self>, StreamsError> {
        if let Some(made) = topology.optimization
            && made != config.topology_optimization()
        {
            let message = "topology.optimization is another than when the topology was built: give the configuration to StreamsBuilder::build_with";
            return Err(StreamsError::new(ErrorKind::Topology, message));
        }
        let mut built = Self { topology: topology.clone(), config: config.clone(), subtopologies: Vec::new() };
        built.subtopologies = node_groups(topology).into_iter().map(|group| built.sub_topology(group)).collect();
        Ok(Arc::new(built))
    }

    /// As [`BuiltTopology::new`], with all sub-topologies but the global ones made one, number 0: what the test driver runs
    /// as one task. It may be empty.
    ///
    /// # Errors
    /// As [`BuiltTopology::new`].
    pub(crate) fn merged(topology: &Topology, config: &StreamsConfig) -> Result<Arc<Self>, StreamsError> {
        let mut built = Self::clone(&*Self::made_ready(topology, config)?);
        let mut all = NodeGroup { id: 0, nodes: Vec::new(), is_global: false };
        let mut groups = Vec::new();
        for group in node_groups(topology) {
            if group.is_global {
                groups.push(group);
            } else {
                all.nodes.extend(group.nodes);
            }
        }
        all.nodes.sort_unstable();
        groups.insert(0, all);
        for (id, group) in groups.iter_mut().enumerate() {
            group.id = id as u32;
        }
        built.subtopologies = groups.into_iter().map(|group| built.sub_topology(group)).collect();
        Ok(Arc::new(built))
    }

    /// Whether a source reads by pattern.
    pub fn has_patterns(&self) -> bool {
        self.subtopologies.iter().any(|sub| !sub.patterns.is_empty())
    }

    /// The same where these topics exist: sources that read by pattern read those that match and that no source names.
    pub(crate) fn where_exist(&self, topics: &[String]) -> Arc<Self> {
        let mut built = self.clone();
        let named: BTreeSet<String> =
            self.subtopologies.iter().flat_map(|sub| sub.source_topics.iter().cloned()).collect();
        for sub in &mut built.subtopologies {
            let matching = topics.iter().filter(|topic| sub.matches(topic) && !named.contains(*topic)).cloned();
            let mut matching: Vec<String> = matching.collect();
            matching.sort();
            for &index in &sub.nodes {
                if let NodeKind::Source { topics: SourceTopics::Pattern(pattern), factory } =
                    &self.topology.nodes[index].kind
                    && let Some(reset) = factory.reset()
                {
                    let own = matching.iter().filter(|topic| pattern.matches(topic));
                    sub.resets.extend(own.map(|topic| (topic.clone(), reset)));
                }
            }
            sub.source_topics.extend(matching);
        }
        Arc::new(built)
    }

    /// All sub-topologies in the order of their ids, global ones among them.
    pub fn subtopologies(&self) -> &[SubTopology] {
        &self.subtopologies
    }

    /// The sub-topology of that number.
    pub fn subtopology(&self, id: u32) -> Option<&SubTopology> {
        self.subtopologies.get(id as usize)
    }

    /// The configuration it was built with.
    pub fn config(&self) -> &StreamsConfig {
        &self.config
    }

    /// The topology as text.
    pub fn describe(&self) -> String {
        self.topology.describe()
    }

    /// Every topic that tasks (not global stores) read, sorted: what the group subscribes to.
    pub fn subscription(&self) -> Vec<String> {
        let topics: BTreeSet<&String> = self
            .subtopologies
            .iter()
            .filter(|subtopology| !subtopology.is_global)
            .flat_map(|subtopology| &subtopology.source_topics)
            .collect();
        topics.into_iter().cloned().collect()
    }

    /// Full name of a topic: internal ones carry the application's prefix.
    pub fn topic_name(&self, topic: &str) -> String {
        if self.topology.repartition.contains_key(topic) { self.internal(topic) } else { topic.to_owned() }
    }

    fn internal(&self, topic: &str) -> String {
        format!("{}-{topic}", self.config.internal_topic_prefix())
    }

    /// Name of the changelog topic of `store`: its own, or the source topic that serves as such.
    pub fn changelog_topic(&self, store: &str) -> Option<String> {
        let entry = self.topology.stores.get(store)?;
        match &entry.source_topic {
            Some(topic) => Some(self.topic_name(topic)),
            None if Topology::has_changelog(entry) => Some(self.changelog_name(store)),
            None => None,
        }
    }

    /// Name that the changelog of `store` has or would have; what its serdes are told.
    pub(crate) fn changelog_name(&self, store: &str) -> String {
        self.internal(&format!("{store}-changelog"))
    }

    fn sub_topology(&self, group: NodeGroup) -> SubTopology {
        let topology = &self.topology;
        let mut sub = SubTopology {
            id: group.id,
            is_global: group.is_global,
            source_topics: Vec::new(),
            source_patterns: Vec::new(),
            repartition_sources: Vec::new(),
            repartition_sinks: Vec::new(),
            changelogs: BTreeMap::new(),
            source_changelogs: BTreeMap::new(),
            copartition_groups: Vec::new(),
            resets: BTreeMap::new(),
            stores: Vec::new(),
            is_persistent: false,
            nodes: group.nodes,
            patterns: Vec::new(),
        };
        let defaults = self.config.topic_defaults();
        for &index in &sub.nodes {
            let node = &topology.nodes[index];
            match &node.kind {
                NodeKind::Source { topics: SourceTopics::Names(topics), factory } => {
                    for topic in topics {
                        let full = self.topic_name(topic);
                        if let Some(options) = topology.repartition.get(topic) {
                            sub.repartition_sources.push(InternalTopicConfig::repartition(
                                full.clone(),
                                options.partitions,
                                defaults,
                            ));
                        }
                        if let Some(reset) = factory.reset() {
                            sub.resets.insert(full.clone(), reset);
                        }
                        sub.source_topics.push(full);
                    }
                }
                NodeKind::Source { topics: SourceTopics::Pattern(pattern), .. } => {
                    sub.source_patterns.push(pattern.to_string());
                    sub.patterns.push(pattern.clone());
                }
                NodeKind::Processor { stores, .. } => {
                    for store in stores {
                        if !sub.stores.contains(store) {
                            sub.stores.push(store.clone());
                        }
                    }
                }
                NodeKind::Sink { topic, .. } => {
                    if let Some(topic) = topic
                        && topology.repartition.contains_key(topic)
                    {
                        sub.repartition_sinks.push(self.topic_name(topic));
                    }
                }
            }
        }
        for name in &sub.stores {
            let Some(entry) = topology.stores.get(name) else { continue };
            sub.is_persistent |= entry.builder.is_persistent();
            if let Some(topic) = &entry.source_topic {
                sub.source_changelogs.insert(name.clone(), self.topic_name(topic));
            } else if let Logging::Enabled(overrides) = entry.builder.logging() {
                let config = InternalTopicConfig::changelog(
                    self.changelog_name(name),
                    entry.builder.kind(),
                    defaults,
                    overrides,
                    self.config.windowstore_changelog_additional_retention_ms(),
                );
                sub.changelogs.insert(name.clone(), config);
            }
        }
        sub.copartition_groups = self.copartition_groups(&sub.nodes);
        sub
    }

    /// The demanded groups among these nodes as topics; groups that share a topic are one.
    fn copartition_groups(&self, nodes: &[usize]) -> Vec<Vec<String>> {
        let mut groups: Vec<BTreeSet<String>> = Vec::new();
        for group in &self.topology.copartitions {
            let mut topics = BTreeSet::new();
            for &index in nodes {
                let node = &self.topology.nodes[index];
                if let NodeKind::Source { topics: SourceTopics::Names(names), .. } = &node.kind
                    && group.iter().any(|source| **source == *node.name)
                {
                    topics.extend(names.iter().map(|topic| self.topic_name(topic)));
                }
            }
            if topics.is_empty() {
                continue;
            }
            let (joined, apart): (Vec<_>, Vec<_>) =
                groups.into_iter().partition(|known: &BTreeSet<String>| !known.is_disjoint(&topics));
            topics.extend(joined.into_iter().flatten());
            groups = apart;
            groups.push(topics);
        }
        groups.into_iter().map(|group| group.into_iter().collect()).collect()
    }
}
