//! The logical graph behind a [`StreamsBuilder`](crate::StreamsBuilder): operators in the order in which they were called.
//!
//! Calling an operator takes its names and adds a step; [`Graph::write`] runs the steps in order to make the topology. Between the two, later
//! operators may still change earlier ones (a join makes its table keep a store, a left join lets null keys through an
//! earlier repartition): such facts sit in shared cells that the steps read when they run.
//!
//! Operators return streams, not results: the first error is kept and reported by `build`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use streams_core::topology::{Optimization, Redirects};
use streams_core::{ErrorKind, StreamsError, Topology};

use crate::materialized::Materialized;
use crate::naming::{self, Names};
use crate::optimize::{self, Kind, Repartition};

/// Adds one operator's nodes and stores to the topology.
pub(crate) type AddNodes = Box<dyn Fn(&mut Topology) -> Result<(), StreamsError>>;

/// One operator.
pub(crate) enum Step {
    Nodes(AddNodes),
    Repartition(Rc<Repartition>),
}

/// All operators of one builder.
#[derive(Default)]
pub(crate) struct Graph {
    names: Names,
    optimization: Rc<Cell<Optimization>>,
    /// What nodes do, where the optimiser must know.
    kinds: BTreeMap<String, Kind>,
    steps: Vec<Step>,
    error: Option<StreamsError>,
    /// Source node by the topics it reads, so that the same topics are read once.
    sources: BTreeMap<Vec<String>, String>,
    /// Repartitions in front of joins, by the node whose output they take.
    repartitions: BTreeMap<String, SharedRepartition>,
}

/// Source node behind a repartition, and the repartitions upstream of it, itself among them.
pub(crate) type SharedRepartition = (String, Vec<NullKeys>);

/// The graph, shared by the builder and every stream and table made with it.
#[derive(Clone, Default)]
pub(crate) struct GraphRef(Rc<RefCell<Graph>>);

impl GraphRef {
    /// The name given, or `prefix` with the next number, which is used up in either case.
    pub(crate) fn name_or(&self, given: Option<String>, prefix: &str) -> String {
        let generated = self.0.borrow_mut().names.next(prefix);
        given.unwrap_or(generated)
    }

    /// `prefix` with the next number.
    pub(crate) fn next_name(&self, prefix: &str) -> String {
        self.0.borrow_mut().names.next(prefix)
    }

    /// Uses up `count` numbers.
    pub(crate) fn skip_names(&self, count: u32) {
        self.0.borrow_mut().names.skip(count);
    }

    /// Uses up a number for the store name that `count` of Kafka Streams makes and throws away when told how to materialise, but not
    /// under which name.
    pub(crate) fn name_of_count<K, V>(&self, materialized: &Materialized<K, V>) {
        if materialized.is_given && materialized.name.is_none() {
            self.skip_names(1);
        }
    }

    /// `prefix` with `STATE-STORE-` and the next number.
    pub(crate) fn next_store_name(&self, prefix: &str) -> String {
        self.0.borrow_mut().names.next_store(prefix)
    }

    /// Adds a step.
    pub(crate) fn add(&self, step: impl Fn(&mut Topology) -> Result<(), StreamsError> + 'static) {
        self.0.borrow_mut().steps.push(Step::Nodes(Box::new(step)));
    }

    /// Adds a repartition, which may be merged with others.
    pub(crate) fn add_repartition(&self, repartition: Repartition) {
        self.0.borrow_mut().steps.push(Step::Repartition(Rc::new(repartition)));
    }

    /// `source`, or, if an earlier repartition has a source of that name, another name.
    pub(crate) fn distinct_source(&self, source: &str) -> String {
        let graph = self.0.borrow();
        let is_same = |step: &&Step| matches!(step, Step::Repartition(known) if known.names.source == source);
        match graph.steps.iter().filter(is_same).count() {
            0 => source.to_owned(),
            earlier => format!("{source}-{}", earlier + 1),
        }
    }

    /// Notes what `node` does.
    pub(crate) fn mark(&self, node: &str, kind: Kind) {
        self.0.borrow_mut().kinds.insert(node.to_owned(), kind);
    }

    /// The optimisations to make, once the topology is being written.
    pub(crate) fn optimization(&self) -> Rc<Cell<Optimization>> {
        Rc::clone(&self.0.borrow().optimization)
    }

    /// Keeps the error, if it is the first.
    pub(crate) fn fail(&self, message: impl Into<String>) {
        self.0.borrow_mut().error.get_or_insert(StreamsError::new(ErrorKind::Topology, message));
    }

    /// As [`GraphRef::fail`], for an argument that is wrong by itself.
    pub(crate) fn refuse(&self, message: impl Into<String>) {
        self.0.borrow_mut().error.get_or_insert(StreamsError::new(ErrorKind::InvalidArgument, message));
    }

    /// `serde`, or, when there is none, an error that says where one is needed and how to give it.
    pub(crate) fn need<S>(&self, serde: Option<S>, what: &str, remedy: &str) -> Option<S> {
        if serde.is_none() {
            self.fail(format!("{what} has no serde: give one with {remedy}"));
        }
        serde
    }

    /// The node that reads exactly `topics`: the one that was added for them before, or `name` from now on (`true`).
    pub(crate) fn source(&self, topics: &[String], name: String) -> (String, bool) {
        let mut key = topics.to_vec();
        key.sort();
        match self.0.borrow_mut().sources.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => (known.get().clone(), false),
            std::collections::btree_map::Entry::Vacant(place) => (place.insert(name).clone(), true),
        }
    }

    /// The repartition that an earlier join has put behind `node`.
    pub(crate) fn repartition_of(&self, node: &str) -> Option<SharedRepartition> {
        self.0.borrow().repartitions.get(node).cloned()
    }

    /// Remembers the repartition behind `node` for later joins.
    pub(crate) fn keep_repartition(&self, node: &str, repartition: SharedRepartition) {
        self.0.borrow_mut().repartitions.insert(node.to_owned(), repartition);
    }

    /// Refuses stores and internal topics of `topology` that have generated names.
    pub(crate) fn check_names(&self, topology: &Topology) -> Result<(), StreamsError> {
        let names = &self.0.borrow().names;
        let topics = topology.internal_topics();
        let generated = topology.store_names().into_iter().filter(|store| names.has_made(store)).chain(
            topics
                .into_iter()
                .filter(|topic| names.has_made(topic.strip_suffix(naming::REPARTITION_SUFFIX).unwrap_or(topic))),
        );
        let generated: Vec<&str> = generated.collect();
        if generated.is_empty() {
            return Ok(());
        }
        let message = format!(
            "ensure.explicit.internal.resource.naming is set, but these stores and repartition topics have generated names: {}",
            generated.join(", ")
        );
        Err(StreamsError::new(ErrorKind::Topology, message))
    }

    /// The topology of all operators so far, with these optimisations.
    pub(crate) fn write(&self, optimization: Optimization) -> Result<Topology, StreamsError> {
        let graph = &mut *self.0.borrow_mut();
        if let Some(error) = graph.error.take() {
            return Err(error);
        }
        graph.optimization.set(optimization);
        let mut plan = optimize::Plan::default();
        if optimization.merge_repartitions {
            let mut topology = Topology::new();
            topology.set_optimization(optimization, Redirects::default());
            for step in &graph.steps {
                match step {
                    Step::Nodes(add) => add(&mut topology)?,
                    Step::Repartition(repartition) => repartition.write_distinct(&mut topology)?,
                }
            }
            plan = optimize::merge_repartitions(&topology, &graph.steps, &graph.kinds);
        }
        for step in &graph.steps {
            if let Step::Repartition(repartition) = step
                && repartition.source != repartition.names.source
                && !plan.redirects.sources.contains_key(&repartition.source)
            {
                plan.redirects.sources.insert(repartition.source.clone(), repartition.names.source.clone());
                plan.redirects.outputs.insert(repartition.source.clone(), repartition.names.source.clone());
                plan.kept.insert(repartition.source.clone());
            }
        }
        let mut merged = Topology::new();
        merged.set_optimization(optimization, plan.redirects.clone());
        for step in &graph.steps {
            match step {
                Step::Nodes(add) => add(&mut merged)?,
                Step::Repartition(repartition) if plan.replaces(repartition) => {}
                Step::Repartition(repartition) => repartition.write(&mut merged)?,
            }
            plan.write_behind(&mut merged)?;
        }
        Ok(merged)
    }
}

/// Whether a repartition lets records without key through, as it must when a left join follows.
pub(crate) type NullKeys = Rc<Cell<bool>>;

/// What every stream and table knows of where it stands in the graph.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) graph: GraphRef,
    /// The topology node whose output this is.
    pub(crate) node: String,
    /// Sources of the same sub-topology: what must be co-partitioned in a join.
    pub(crate) sources: Vec<String>,
    /// Repartitions upstream.
    pub(crate) repartitions: Vec<NullKeys>,
    /// Name for the next operator.
    pub(crate) next_name: Option<String>,
    /// How long after the end of a window its result may still change, behind windowed aggregations.
    pub(crate) grace_ms: Option<i64>,
}

impl Place {
    pub(crate) fn source(graph: GraphRef, node: String) -> Self {
        Self { graph, sources: vec![node.clone()], node, repartitions: Vec::new(), next_name: None, grace_ms: None }
    }

    /// Behind this place, where windows close `grace_ms` after their end.
    pub(crate) fn with_grace(self, grace_ms: i64) -> Self {
        Self { grace_ms: Some(grace_ms), ..self }
    }

    /// Behind this place, at `node`.
    pub(crate) fn at(&self, node: String) -> Self {
        Self { node, next_name: None, ..self.clone() }
    }

    /// The same place, whose next operator is called `name`.
    pub(crate) fn named(&self, name: &str) -> Self {
        Self { next_name: Some(name.to_owned()), ..self.clone() }
    }

    /// Name of the next operator: the one given, or `prefix` with the next number.
    pub(crate) fn take_name(&self, prefix: &str) -> String {
        self.graph.name_or(self.next_name.clone(), prefix)
    }

    /// Where `self` and `other` flow together, at `node`.
    pub(crate) fn joined(&self, other: &Self, node: String) -> Self {
        let mut place = self.at(node);
        for source in &other.sources {
            if !place.sources.contains(source) {
                place.sources.push(source.clone());
            }
        }
        place.repartitions.extend(other.repartitions.iter().cloned());
        place.grace_ms = self.grace_ms.zip(other.grace_ms).map(|(one, two)| one.max(two));
        place
    }

    /// Lets records without key through all repartitions upstream.
    pub(crate) fn keep_null_keys(&self) {
        self.repartitions.iter().for_each(|flag| flag.set(true));
    }
}
