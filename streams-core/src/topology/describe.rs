//! What `describe()` says of a topology, in the order of Kafka Streams, so that its text is the same character for character.
//!
//! Nodes are listed by the size of what is below them, largest first, then by name. The lists behind the arrows use the
//! same order, but the JVM fills them while the sizes are still growing, walking a hash map keyed by name; so their
//! order follows Java's string hashes and the shape of its trees ([`java_order`](super::java_order)).

use std::cmp::Ordering;

use crate::topology::builder::Topology;
use crate::topology::description::{
    NodeDescription, NodeRole, SinkTarget, SubTopologyDescription, TopicsDescription, TopologyDescription,
};
use crate::topology::java_order::{JavaSet, JavaTree};
use crate::topology::node::{NodeKind, SourceTopics};
use crate::topology::sub_topology::{NodeGroup, node_groups};

/// A node while its group is described; indexes are into the group.
struct Described {
    name: String,
    /// Nodes below, counted per path, itself included.
    size: usize,
    predecessors: Vec<usize>,
    successors: Vec<usize>,
}

/// Larger nodes first, then by name.
fn order(a: &(String, usize), b: &(String, usize)) -> Ordering {
    (std::cmp::Reverse(a.1), &a.0).cmp(&(std::cmp::Reverse(b.1), &b.0))
}

fn describe_group(topology: &Topology, group: &NodeGroup) -> Vec<(usize, Described)> {
    let position = |node: usize| group.nodes.iter().position(|&member| member == node);
    // Name and size so far, as the comparator sees them.
    let mut keys: Vec<(String, usize)> =
        group.nodes.iter().map(|&node| (topology.nodes[node].name.to_string(), 1)).collect();
    let mut predecessors: Vec<JavaTree> = keys.iter().map(|_| JavaTree::default()).collect();
    let mut successors: Vec<JavaTree> = keys.iter().map(|_| JavaTree::default()).collect();
    let names: Vec<String> = keys.iter().map(|(name, _)| name.clone()).collect();
    let first: JavaSet<'_> = names.iter().map(String::as_str).collect();
    let second: JavaSet<'_> = first.iter().collect();
    for name in second.iter() {
        let Some(node) = names.iter().position(|known| known == name) else { continue };
        for parent in topology.nodes[group.nodes[node]].parents.iter().filter_map(|&parent| position(parent)) {
            predecessors[node].insert(parent, |a, b| order(&keys[a], &keys[b]));
            successors[parent].insert(node, |a, b| order(&keys[a], &keys[b]));
            let added = keys[node].1;
            grow(parent, added, &mut keys, &predecessors);
        }
    }
    let mut described: Vec<(usize, Described)> = keys
        .into_iter()
        .zip(predecessors)
        .zip(successors)
        .enumerate()
        .map(|(index, (((name, size), predecessors), successors))| {
            (index, Described { name, size, predecessors: predecessors.items(), successors: successors.items() })
        })
        .collect();
    described.sort_by(|(_, a), (_, b)| (std::cmp::Reverse(a.size), &a.name).cmp(&(std::cmp::Reverse(b.size), &b.name)));
    described
}

/// Adds to the size of a node and of all that are above it so far.
fn grow(node: usize, added: usize, keys: &mut [(String, usize)], predecessors: &[JavaTree]) {
    keys[node].1 += added;
    for above in predecessors[node].items() {
        grow(above, added, keys, predecessors);
    }
}

fn names(list: &[usize], names: &[String]) -> Vec<String> {
    list.iter().map(|&node| names[node].clone()).collect()
}

/// All groups in the order of their ids.
pub(crate) fn describe(topology: &Topology) -> TopologyDescription {
    let subtopologies = node_groups(topology).into_iter().map(|group| {
        let all: Vec<String> = group.nodes.iter().map(|&node| topology.nodes[node].name.to_string()).collect();
        let described = describe_group(topology, &group);
        let nodes = described.into_iter().map(|(index, node)| NodeDescription {
            role: role(&topology.nodes[group.nodes[index]].kind),
            successors: names(&node.successors, &all),
            predecessors: names(&node.predecessors, &all),
            name: node.name,
        });
        SubTopologyDescription { id: group.id, is_global: group.is_global, nodes: nodes.collect() }
    });
    TopologyDescription { subtopologies: subtopologies.collect() }
}

fn role(kind: &NodeKind) -> NodeRole {
    let in_order = |set: JavaSet<'_>| set.iter().map(str::to_owned).collect();
    match kind {
        NodeKind::Source { topics: SourceTopics::Names(topics), .. } => {
            NodeRole::Source(TopicsDescription::Names(in_order(topics.iter().map(String::as_str).collect())))
        }
        NodeKind::Source { topics: SourceTopics::Pattern(pattern), .. } => {
            NodeRole::Source(TopicsDescription::Pattern(pattern.to_string()))
        }
        NodeKind::Processor { stores, .. } => {
            NodeRole::Processor { stores: in_order(stores.iter().map(String::as_str).collect()) }
        }
        NodeKind::Sink { topic: Some(topic), .. } => NodeRole::Sink(SinkTarget::Topic(topic.clone())),
        NodeKind::Sink { topic: None, description, .. } => NodeRole::Sink(SinkTarget::Extracted(description.clone())),
    }
}
