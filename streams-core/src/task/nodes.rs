//! Makes the typed nodes and stores of one task from the topology's erased description.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use base::TopicPartition;
use storage::state::Backend;

use crate::collector::ChangelogPartition;
use crate::error::{ErrorKind, StreamsError};
use crate::processor::chain::TaskNode;
use crate::store::{StateStore, Storage, StoreContext, ThreadCache};
use crate::task::record_queue::SourceQueue;
use crate::task::shared::TaskShared;
use crate::topology::node::{ErasedChild, ErasedReceive, NodeKind, NodeSeed, QueueFactory, SourceTopics};
use crate::topology::{BuiltTopology, SubTopology};

/// The nodes of one task.
#[derive(Default)]
pub(crate) struct Nodes {
    /// Processors in insertion order, with their index in the topology.
    pub(crate) processors: Vec<(u32, Arc<str>, Box<dyn TaskNode>)>,
    /// One queue for each input partition, in the order given.
    pub(crate) queues: Vec<Box<dyn SourceQueue>>,
    /// For more of them.
    pub(crate) sources: Option<Sources>,
}

/// Opens the stores of a task, in the order of first use. A store that fails leaves the others to be dropped.
pub(crate) fn open_stores(
    built: &BuiltTopology,
    sub: &SubTopology,
    task: &Rc<TaskShared>,
    cache: &Rc<ThreadCache>,
    backend: &Backend,
) -> Result<Vec<Rc<dyn StateStore>>, StreamsError> {
    let mut stores = Vec::with_capacity(sub.stores.len());
    for name in &sub.stores {
        let Some(entry) = built.topology.stores.get(name) else { continue };
        let changelog = built.changelog_topic(name).map(|topic| ChangelogPartition {
            topic: task.collector().borrow_mut().topic(&topic),
            partition: TopicPartition::new(topic, task.id().partition),
        });
        let serde_topic = match &changelog {
            Some(changelog) => Arc::clone(&changelog.partition.topic),
            None => built.changelog_name(name).into(),
        };
        let context = StoreContext {
            task: Rc::clone(task),
            cache: Rc::clone(cache),
            backend: backend.clone(),
            in_memory_by_default: built.config().default_dsl_store() == Storage::InMemory,
            headers_by_default: built.config().keeps_headers(),
            changelog,
            source_is_changelog: entry.source_topic.is_some(),
            is_global: entry.is_global,
            serde_topic,
        };
        stores.push(entry.builder.build(&context).map_err(|error| error.in_store(name).in_task(task.id()))?);
    }
    Ok(stores)
}

/// Makes the nodes of a task: children before parents, since a node is made with its edges.
pub(crate) fn build_nodes(
    built: &Arc<BuiltTopology>,
    sub: &SubTopology,
    task: &Rc<TaskShared>,
    stores: &[Rc<dyn StateStore>],
    partitions: &[TopicPartition],
) -> Result<Nodes, StreamsError> {
    let resolve = |topic: &str| built.topic_name(topic);
    let mut receivers: BTreeMap<usize, ErasedReceive> = BTreeMap::new();
    let mut processors = Vec::new();
    let mut sources: Vec<(usize, Box<dyn QueueFactory>)> = Vec::new();
    for &index in sub.nodes.iter().rev() {
        let node = &built.topology.nodes[index];
        let mut children = Vec::with_capacity(node.children.len());
        for child in &node.children {
            let Some(receive) = receivers.get(child) else {
                // A child is always added after its parents.
                return Err(StreamsError::new(ErrorKind::Topology, format!("{} lies above its parent", child)));
            };
            children.push(ErasedChild { name: Arc::clone(&built.topology.nodes[*child].name), receive });
        }
        let mut seed =
            NodeSeed { name: Arc::clone(&node.name), index: index as u32, task: Rc::clone(task), stores: Vec::new() };
        match &node.kind {
            NodeKind::Source { factory, .. } => sources.push((index, factory.build(&seed, &children)?)),
            NodeKind::Sink { factory, .. } => {
                receivers.insert(index, factory.build(seed, &resolve));
            }
            NodeKind::Processor { stores: names, factory } => {
                seed.stores = stores
                    .iter()
                    .filter(|store| names.iter().any(|name| name == store.name()))
                    .map(Rc::clone)
                    .collect();
                let (receive, handle) = factory.build(seed, &children)?;
                receivers.insert(index, receive);
                processors.push((index as u32, Arc::clone(&node.name), handle));
            }
        }
    }
    processors.reverse();
    let sources = Sources { built: Arc::clone(built), sub: sub.id, factories: sources };
    let mut queues = Vec::with_capacity(partitions.len());
    for (index, partition) in partitions.iter().enumerate() {
        queues.push(sources.queue(index as u32, partition)?);
    }
    Ok(Nodes { processors, queues, sources: Some(sources) })
}

/// What makes the queues of a task.
pub(crate) struct Sources {
    built: Arc<BuiltTopology>,
    sub: u32,
    /// By index of the source's node, in reverse.
    factories: Vec<(usize, Box<dyn QueueFactory>)>,
}

impl Sources {
    /// The queue of input number `index`: of the source that names the topic, else of the first whose pattern matches.
    pub(crate) fn queue(&self, index: u32, partition: &TopicPartition) -> Result<Box<dyn SourceQueue>, StreamsError> {
        let reads = |node: usize, by_name: bool| match &self.built.topology.nodes[node].kind {
            NodeKind::Source { topics: SourceTopics::Names(topics), .. } => {
                by_name && topics.iter().any(|topic| *self.built.topic_name(topic) == *partition.topic)
            }
            NodeKind::Source { topics: SourceTopics::Pattern(pattern), .. } => {
                !by_name && pattern.matches(&partition.topic)
            }
            _ => false,
        };
        let find = |by_name| self.factories.iter().rev().find(|(node, _)| reads(*node, by_name));
        match find(true).or_else(|| find(false)) {
            Some((_, factory)) => Ok(factory.queue(index, partition.clone())),
            None => {
                let message = format!("no source of sub-topology {} reads {partition}", self.sub);
                Err(StreamsError::new(ErrorKind::Topology, message))
            }
        }
    }
}
