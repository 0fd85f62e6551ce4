//! What is drawn: the nodes, stores and topics of a description with short ids, and the lines between them.

use crate::topology::description::{
    NodeRole, SinkTarget, SubTopologyDescription, TopicsDescription, TopologyDescription,
};

/// What a topic is to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicKind {
    /// Exists outside of it.
    External,
    /// Created by it, between sub-topologies.
    Internal,
    /// All topics that match a regular expression.
    Pattern,
    /// Named for each record.
    Extracted,
}

pub(super) struct Topic {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: TopicKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeShape {
    Source,
    Processor,
    Sink,
}

pub(super) struct Node {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) shape: NodeShape,
}

pub(super) struct Store {
    pub(super) id: String,
    pub(super) name: String,
    /// Processors that use it: indexes into the group's nodes.
    pub(super) users: Vec<usize>,
}

/// A sub-topology.
pub(super) struct Group {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) is_global: bool,
    pub(super) nodes: Vec<Node>,
    pub(super) stores: Vec<Store>,
    /// From node to node of this group.
    pub(super) edges: Vec<(usize, usize)>,
}

/// Between a topic and a node: indexes of the topic, the group, and the node in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) topic: usize,
    pub(super) group: usize,
    pub(super) node: usize,
}

#[derive(Default)]
pub(super) struct Graph {
    pub(super) topics: Vec<Topic>,
    pub(super) groups: Vec<Group>,
    pub(super) reads: Vec<Link>,
    pub(super) writes: Vec<Link>,
}

impl Graph {
    pub(super) fn of(description: &TopologyDescription) -> Self {
        let internal = description.internal_topics();
        let mut graph = Self::default();
        let (mut nodes_before, mut stores_before) = (0, 0);
        for (group, sub) in description.subtopologies.iter().enumerate() {
            for (node, described) in sub.nodes.iter().enumerate() {
                let kind_of = |name: &str| match internal.contains(&name) {
                    true => TopicKind::Internal,
                    false => TopicKind::External,
                };
                match &described.role {
                    NodeRole::Source(TopicsDescription::Names(names)) => {
                        for name in names {
                            let topic = graph.topic(name, kind_of(name));
                            graph.reads.push(Link { topic, group, node });
                        }
                    }
                    NodeRole::Source(TopicsDescription::Pattern(pattern)) => {
                        let topic = graph.topic(pattern, TopicKind::Pattern);
                        graph.reads.push(Link { topic, group, node });
                    }
                    NodeRole::Sink(SinkTarget::Topic(name)) => {
                        let topic = graph.topic(name, kind_of(name));
                        graph.writes.push(Link { topic, group, node });
                    }
                    NodeRole::Sink(SinkTarget::Extracted(class)) => {
                        let topic = graph.topic(class, TopicKind::Extracted);
                        graph.writes.push(Link { topic, group, node });
                    }
                    NodeRole::Processor { .. } => {}
                }
            }
            let made = group_of(sub, nodes_before, stores_before);
            nodes_before += made.nodes.len();
            stores_before += made.stores.len();
            graph.groups.push(made);
        }
        graph
    }

    /// The topic of that name, added where it is new.
    fn topic(&mut self, name: &str, kind: TopicKind) -> usize {
        let known = self.topics.iter().position(|topic| topic.name == name && topic.kind == kind);
        known.unwrap_or_else(|| {
            let id = format!("topic{}", self.topics.len());
            self.topics.push(Topic { id, name: name.to_owned(), kind });
            self.topics.len() - 1
        })
    }
}

fn group_of(sub: &SubTopologyDescription, nodes_before: usize, stores_before: usize) -> Group {
    let mut group = Group {
        id: format!("sub{}", sub.id),
        title: match sub.is_global {
            true => format!("Sub-topology {} (global store)", sub.id),
            false => format!("Sub-topology {}", sub.id),
        },
        is_global: sub.is_global,
        nodes: Vec::new(),
        stores: Vec::new(),
        edges: Vec::new(),
    };
    for (index, node) in sub.nodes.iter().enumerate() {
        let shape = match node.role {
            NodeRole::Source(_) => NodeShape::Source,
            NodeRole::Processor { .. } => NodeShape::Processor,
            NodeRole::Sink(_) => NodeShape::Sink,
        };
        let id = format!("node{}", nodes_before + index);
        group.nodes.push(Node { id, name: node.name.clone(), shape });
        for store in node.stores() {
            match group.stores.iter_mut().find(|known| known.name == *store) {
                Some(known) => known.users.push(index),
                None => {
                    let id = format!("store{}", stores_before + group.stores.len());
                    group.stores.push(Store { id, name: store.clone(), users: vec![index] });
                }
            }
        }
        let below = node.successors.iter().filter_map(|name| sub.nodes.iter().position(|node| node.name == *name));
        group.edges.extend(below.map(|below| (index, below)));
    }
    group
}
