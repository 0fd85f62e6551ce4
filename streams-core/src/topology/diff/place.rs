//! The place of a store or internal topic in the graph: what uses it, what flows into that and out of it. Two places of
//! different topologies are compared without the numbers of generated names.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use base::hash::FixedState;

use crate::topology::description::{NodeRole, SinkTarget, TopicsDescription, TopologyDescription};

/// Digits of a generated name's number.
const NUMBER_DIGITS: usize = 10;
/// Neighbours further away than that make no difference.
const ROUNDS_MAX: usize = 64;

/// A store or internal topic where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    /// The name without number; `None` if the program gave it.
    generated: Option<String>,
    /// What uses a store, or writes a topic: names without numbers; `None` of what the program named.
    users: Vec<Option<String>>,
    /// Topics of others that flow into it and out of it.
    topics_above: BTreeSet<String>,
    topics_below: BTreeSet<String>,
    /// How many stores what flows into it has passed.
    stores_above: usize,
    /// Digests of everything above and below.
    above: u64,
    below: u64,
}

/// All places of a topology, each kind sorted by name.
pub(super) struct Places {
    pub(super) stores: Vec<Place>,
    pub(super) global_stores: Vec<Place>,
    pub(super) topics: Vec<Place>,
}

/// A name with `#` in place of each number that a builder gave.
pub(super) fn shape(name: &str) -> String {
    let mut shape = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('-') {
        let (before, after) = rest.split_at(at + 1);
        shape.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits >= NUMBER_DIGITS {
            shape.push('#');
            rest = &after[digits..];
        } else {
            rest = after;
        }
    }
    shape.push_str(rest);
    shape
}

fn generated(name: &str) -> Option<String> {
    let shape = shape(name);
    shape.contains('#').then_some(shape)
}

/// The nodes and topics of a topology with the arrows between them, across sub-topologies.
struct Graph<'a> {
    labels: Vec<Option<String>>,
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
    /// Vertexes of topics, and whether they are internal.
    topics: BTreeMap<&'a str, (usize, bool)>,
    /// Users of each store.
    stores: BTreeMap<&'a str, Vec<usize>>,
    global_stores: BTreeSet<&'a str>,
}

impl<'a> Graph<'a> {
    fn of(description: &'a TopologyDescription) -> Self {
        let internal = description.internal_topics();
        let mut graph = Self {
            labels: Vec::new(),
            above: Vec::new(),
            below: Vec::new(),
            topics: BTreeMap::new(),
            stores: BTreeMap::new(),
            global_stores: BTreeSet::new(),
        };
        for sub in &description.subtopologies {
            let first = graph.labels.len();
            for node in &sub.nodes {
                graph.add(generated(&node.name));
            }
            for (index, node) in sub.nodes.iter().enumerate() {
                let this = first + index;
                let below = node.successors.iter();
                for to in below.filter_map(|name| sub.nodes.iter().position(|known| known.name == *name)) {
                    graph.join(this, first + to);
                }
                match &node.role {
                    NodeRole::Source(TopicsDescription::Names(names)) => {
                        for name in names {
                            let topic = graph.topic(name, &internal);
                            graph.join(topic, this);
                        }
                    }
                    NodeRole::Source(TopicsDescription::Pattern(pattern)) => {
                        let topic = graph.topic(pattern, &internal);
                        graph.join(topic, this);
                    }
                    NodeRole::Sink(SinkTarget::Topic(name) | SinkTarget::Extracted(name)) => {
                        let topic = graph.topic(name, &internal);
                        graph.join(this, topic);
                    }
                    NodeRole::Processor { stores } => {
                        for store in stores {
                            graph.stores.entry(store).or_default().push(this);
                            if sub.is_global {
                                graph.global_stores.insert(store);
                            }
                        }
                    }
                }
            }
        }
        graph
    }

    fn add(&mut self, label: Option<String>) -> usize {
        self.labels.push(label);
        self.above.push(Vec::new());
        self.below.push(Vec::new());
        self.labels.len() - 1
    }

    fn topic(&mut self, name: &'a str, internal: &[&str]) -> usize {
        if let Some((vertex, _)) = self.topics.get(name) {
            return *vertex;
        }
        let is_internal = internal.contains(&name);
        let vertex = self.add((!is_internal).then(|| name.to_owned()));
        self.topics.insert(name, (vertex, is_internal));
        vertex
    }

    fn join(&mut self, from: usize, to: usize) {
        self.below[from].push(to);
        self.above[to].push(from);
    }

    /// For each vertex a digest of its label and of all that is joined to it in one direction.
    fn digests(&self, joined: &[Vec<usize>]) -> Vec<u64> {
        let state = FixedState::default();
        let digest = |label: &Option<String>, others: &[u64]| state.hash_one((label, others));
        let mut digests: Vec<u64> = self.labels.iter().map(|label| digest(label, &[])).collect();
        for _ in 0..self.labels.len().min(ROUNDS_MAX) {
            let next = self.labels.iter().zip(joined).map(|(label, joined)| {
                let mut others: Vec<u64> = joined.iter().map(|other| digests[*other]).collect();
                others.sort_unstable();
                digest(label, &others)
            });
            digests = next.collect();
        }
        digests
    }

    /// All that can be reached from `starts` in one direction, these included.
    fn reach(joined: &[Vec<usize>], starts: &[usize]) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut walk = starts.to_vec();
        while let Some(vertex) = walk.pop() {
            if seen.insert(vertex) {
                walk.extend(&joined[vertex]);
            }
        }
        seen
    }

    fn external(&self, reached: &BTreeSet<usize>) -> BTreeSet<String> {
        let external = self.topics.iter().filter(|(_, (vertex, internal))| !internal && reached.contains(vertex));
        external.map(|(name, _)| (*name).to_owned()).collect()
    }

    fn place(&self, name: &str, users: &[usize], writers: &[usize], digests: (&[u64], &[u64])) -> Place {
        let (up, down) = (Self::reach(&self.above, users), Self::reach(&self.below, users));
        let mut labels: Vec<Option<String>> = writers.iter().map(|user| self.labels[*user].clone()).collect();
        labels.sort();
        let joint = |digests: &[u64]| {
            let mut all: Vec<u64> = users.iter().map(|user| digests[*user]).collect();
            all.sort_unstable();
            FixedState::default().hash_one(all)
        };
        let passed =
            self.stores.iter().filter(|(store, users)| **store != name && users.iter().all(|user| up.contains(user)));
        Place {
            name: name.to_owned(),
            generated: generated(name),
            users: labels,
            topics_above: self.external(&up),
            topics_below: self.external(&down),
            stores_above: passed.count(),
            above: joint(digests.0),
            below: joint(digests.1),
        }
    }
}

impl Places {
    pub(super) fn of(description: &TopologyDescription) -> Self {
        let graph = Graph::of(description);
        let (above, below) = (graph.digests(&graph.above), graph.digests(&graph.below));
        let digests = (above.as_slice(), below.as_slice());
        let stores = graph.stores.iter().map(|(name, users)| graph.place(name, users, users, digests));
        let (global_stores, stores) = stores.partition(|place| graph.global_stores.contains(place.name.as_str()));
        let internal = graph.topics.iter().filter(|(_, (_, internal))| *internal);
        let topics = internal.map(|(name, (vertex, _))| graph.place(name, &[*vertex], &graph.above[*vertex], digests));
        Self { stores, global_stores, topics: topics.collect() }
    }
}

/// How sure it is that two places are the same one; `None` if they are not.
pub(super) fn likeness(old: &Place, new: &Place) -> Option<u32> {
    let same_name = old.name == new.name;
    if same_name && old.generated.is_none() {
        // The program says so.
        return Some(u32::MAX);
    }
    let is_fed_alike = old.topics_above == new.topics_above || !old.topics_above.is_disjoint(&new.topics_above);
    let is_used_alike = [old, new].iter().any(|place| place.users.contains(&None))
        || old.users.iter().any(|user| new.users.contains(user));
    if !(is_fed_alike && is_used_alike) {
        return None;
    }
    // One of the same name may have got more users, or stores before it; of another name only what stands alike is the same.
    let kinds = match (&old.generated, &new.generated) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    let stands_alike = old.above == new.above || old.stores_above == new.stores_above;
    if !(same_name || kinds && stands_alike) {
        return None;
    }
    let points = [
        (old.above == new.above, 8),
        (old.topics_above == new.topics_above, 4),
        (old.below == new.below, 4),
        (same_name, 3),
        (old.topics_below == new.topics_below, 2),
        (old.users == new.users, 2),
        (old.stores_above == new.stores_above, 2),
    ];
    Some(points.iter().filter(|(holds, _)| *holds).map(|(_, points)| points).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_builders_are_left_out_and_others_kept() {
        assert_eq!(
            shape("KSTREAM-AGGREGATE-STATE-STORE-0000000003-repartition"),
            "KSTREAM-AGGREGATE-STATE-STORE-#-repartition"
        );
        assert_eq!(shape("KSTREAM-BRANCH-00000000011"), "KSTREAM-BRANCH-#");
        assert_eq!(generated("orders-2024"), None);
        assert_eq!(shape("-"), "-");
    }
}
