//! `merge.repartition.topics`: all repartitions that follow one change of keys, with no change of values in between, become one right
//! behind that change.
//!
//! Works on a topology that is written already, for its edges, and says where in a second one the edges go instead. Which
//! repartitions belong to which change follows Kafka Streams' search to the letter, since names of topics come of it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use streams_core::topology::Redirects;
use streams_core::{StreamsError, Topology};

use crate::graph::{NullKeys, Step};

/// What the optimiser must know of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ChangesKey,
    ChangesValue,
    Merges,
}

/// Names of a repartition's topic and nodes.
#[derive(Clone, Debug)]
pub(crate) struct RepartitionNames {
    pub(crate) topic: String,
    pub(crate) filter: String,
    pub(crate) sink: String,
    pub(crate) source: String,
}

/// Adds a repartition of these names below a parent; records without key pass if the last is true.
type AddRepartition = Box<dyn Fn(&mut Topology, &RepartitionNames, &str, bool) -> Result<(), StreamsError>>;

/// A repartition of a stream.
pub(crate) struct Repartition {
    pub(crate) names: RepartitionNames,
    /// What nodes further down call its source: the name, or another one if an earlier repartition has that name, which is no fault if the two
    /// become one.
    pub(crate) source: String,
    pub(crate) parent: String,
    pub(crate) null_keys: NullKeys,
    /// Whether it may be merged: not if the user asked for it.
    pub(crate) may_merge: bool,
    pub(crate) add: AddRepartition,
}

impl Repartition {
    pub(crate) fn write(&self, topology: &mut Topology) -> Result<(), StreamsError> {
        (self.add)(topology, &self.names, &self.parent, self.null_keys.get())
    }

    /// As [`Repartition::write`], under names that no other repartition has.
    pub(crate) fn write_distinct(&self, topology: &mut Topology) -> Result<(), StreamsError> {
        let Some(suffix) = self.source.strip_prefix(&self.names.source).filter(|suffix| !suffix.is_empty()) else {
            return self.write(topology);
        };
        let RepartitionNames { topic, filter, sink, source } = &self.names;
        let [topic, filter, sink, source] = [topic, filter, sink, source].map(|name| format!("{name}{suffix}"));
        let names = RepartitionNames { topic, filter, sink, source };
        (self.add)(topology, &names, &self.parent, self.null_keys.get())
    }
}

/// A repartition in place of several.
pub(crate) struct Merged {
    /// The node behind which it comes.
    behind: String,
    /// One of those that it replaces: the first.
    first: Rc<Repartition>,
    names: RepartitionNames,
    keep_null_keys: bool,
    is_written: Cell<bool>,
}

/// What is to be done otherwise.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) merged: Vec<Merged>,
    pub(crate) redirects: Redirects,
    /// Sources of repartitions that stay, though nodes further down call them by another name.
    pub(crate) kept: BTreeSet<String>,
}

impl Plan {
    /// Whether another repartition comes in place of this one.
    pub(crate) fn replaces(&self, repartition: &Repartition) -> bool {
        self.redirects.sources.contains_key(&repartition.source) && !self.kept.contains(&repartition.source)
    }

    /// Writes the repartitions whose place has come.
    pub(crate) fn write_behind(&self, topology: &mut Topology) -> Result<(), StreamsError> {
        for merged in &self.merged {
            if !merged.is_written.get() && topology.has_node(&merged.behind) {
                merged.is_written.set(true);
                (merged.first.add)(topology, &merged.names, &merged.behind, merged.keep_null_keys)?;
            }
        }
        Ok(())
    }
}

/// The graph of the topology as it is written.
struct Edges<'a> {
    topology: &'a Topology,
    kinds: &'a BTreeMap<String, Kind>,
    /// Repartitions by their source.
    repartitions: BTreeMap<&'a str, &'a Rc<Repartition>>,
}

impl<'a> Edges<'a> {
    fn parents(&self, node: &str) -> Vec<String> {
        match self.repartitions.get(node) {
            Some(repartition) => vec![repartition.parent.clone()],
            None => self.topology.parents(node).into_iter().map(str::to_owned).collect(),
        }
    }

    fn is(&self, node: &str, kind: Kind) -> bool {
        self.kinds.get(node) == Some(&kind)
    }

    /// `start`, or the first node found above it, for which `wanted` holds. As in Kafka Streams, of several parents whose own parents
    /// are searched the last decides.
    fn find_above(&self, start: &str, wanted: &dyn Fn(&str) -> bool) -> Option<String> {
        if wanted(start) {
            return Some(start.to_owned());
        }
        let mut found = None;
        for parent in self.parents(start) {
            if wanted(&parent) {
                return Some(parent);
            }
            found = self.find_above(&parent, wanted);
        }
        found
    }

    /// The node right below `above` through which `below` hangs on it.
    fn child_towards(&self, below: &str, above: &str) -> Option<String> {
        self.find_above(below, &|node| self.parents(node).iter().any(|parent| parent == above))
    }

    /// The change of keys behind which `repartition` could move up.
    fn key_change(&self, repartition: &Repartition) -> Option<String> {
        let source = &repartition.source;
        let any = |node: &str| self.is(node, Kind::ChangesKey) || self.is(node, Kind::ChangesValue);
        let nearest = self.find_above(source, &any)?;
        let key_change = self.find_above(source, &|node| self.is(node, Kind::ChangesKey))?;
        (nearest == key_change).then_some(key_change)
    }
}

/// Which repartitions become one, and where.
pub(crate) fn merge_repartitions(topology: &Topology, steps: &[Step], kinds: &BTreeMap<String, Kind>) -> Plan {
    let repartitions: Vec<&Rc<Repartition>> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Repartition(repartition) => Some(repartition),
            Step::Nodes(_) => None,
        })
        .collect();
    let by_source = repartitions.iter().map(|known| (known.source.as_str(), *known)).collect();
    let edges = Edges { topology, kinds, repartitions: by_source };
    let mut groups: Vec<(String, Vec<&Rc<Repartition>>)> = Vec::new();
    let nodes = topology.node_names();
    for node in nodes.iter().filter(|node| edges.is(node, Kind::ChangesKey)) {
        groups.push(((*node).to_owned(), Vec::new()));
    }
    for repartition in repartitions.into_iter().filter(|repartition| repartition.may_merge) {
        let Some(key_change) = edges.key_change(repartition) else { continue };
        if let Some((_, members)) = groups.iter_mut().find(|(node, _)| *node == key_change) {
            members.push(repartition);
        }
    }
    for merge in nodes.iter().filter(|node| edges.is(node, Kind::Merges)) {
        let moves = |(key_change, members): &(String, Vec<&Rc<Repartition>>)| {
            members.iter().all(|member| edges.child_towards(&member.source, merge).is_some())
                && edges.child_towards(merge, key_change).is_some()
        };
        let (moved, kept): (Vec<_>, Vec<_>) = groups.into_iter().partition(moves);
        groups = kept;
        groups.push(((*merge).to_owned(), moved.into_iter().flat_map(|(_, members)| members).collect()));
    }
    let mut plan = Plan::default();
    for (behind, members) in groups {
        let Some(first) = members.first() else { continue };
        let topic = first.names.topic.clone();
        let names = RepartitionNames {
            filter: format!("{topic}-filter"),
            sink: format!("{topic}-sink"),
            source: format!("{topic}-source"),
            topic,
        };
        let redirects = &mut plan.redirects;
        for member in &members {
            let source = member.source.clone();
            redirects.sources.insert(source.clone(), names.source.clone());
            match edges.child_towards(&source, &behind) {
                Some(child) if child != source => {
                    redirects.outputs.insert(source, member.parent.clone());
                    redirects.edges.insert((child, behind.clone()), names.source.clone());
                }
                _ => {
                    redirects.outputs.insert(source, names.source.clone());
                }
            }
        }
        let keep_null_keys = members.iter().any(|member| member.null_keys.get());
        let first = Rc::clone(first);
        plan.merged.push(Merged { behind, first, names, keep_null_keys, is_written: Cell::new(false) });
    }
    plan
}
