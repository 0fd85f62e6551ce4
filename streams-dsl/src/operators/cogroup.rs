//! `cogroup` of grouped streams: several streams, each with an aggregator of its own, fill one table.

mod windowed;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::store::builder::StoreBuilderRef;
use streams_core::{Change, SerdeRef, StreamsError, Topology};

use crate::graph::{GraphRef, Place};
use crate::grouped::KGroupedStream;
use crate::ktable::{KTable, Table};
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::aggregate::{Aggregate, Aggregator, Initial};
use crate::operators::merge::PassThrough;
use crate::operators::session_aggregate::{Functions, Merger, SessionPlan};
use crate::operators::store::SettledStore;
use crate::operators::table_source::StoredTable;
use crate::operators::window_aggregate::WindowPlan;
use crate::optimize::Kind;
use crate::windows::{EmitStrategy, FixedWindows, SessionWindows, Windows};

pub use windowed::{SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};

/// New aggregate from key, value (null values take part in windows) and the aggregate so far; `None` deletes it.
type Combine<K, V, A> = Arc<dyn Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync>;
/// Adds the aggregating node of one stream: its name, its parent's, and whether old values are sent.
type AddNode = Box<dyn Fn(&mut Topology, &str, &str, bool) -> Result<(), StreamsError>>;

/// One of the streams, with the type of its values erased.
trait Input<K, A> {
    fn graph(&self) -> &GraphRef;
    fn key(&self) -> Option<SerdeRef<K>>;
    /// Identity of the grouped stream.
    fn id(&self) -> *const ();
    /// Where the stream is partitioned by key, behind a repartition topic named after `store` if need be.
    fn partitioned(&self, store: &str) -> Place;
    /// Each of these aggregates into `store`.
    fn aggregate(&self, store: &str, initial: &Initial<A>) -> AddNode;
    fn windowed(&self, store: &str, windows: FixedWindows, initial: &Initial<A>) -> AddNode;
    fn sessions(&self, store: &str, windows: SessionWindows, initial: &Initial<A>, merger: &Merger<K, A>) -> AddNode;
}

struct TypedInput<K, V, A> {
    grouped: KGroupedStream<K, V>,
    combine: Combine<K, V, A>,
}

impl<K, V, A> Input<K, A> for TypedInput<K, V, A>
where
    K: Clone + 'static,
    V: Clone + 'static,
    A: Clone + 'static,
{
    fn graph(&self) -> &GraphRef {
        &self.grouped.stream.place.graph
    }

    fn key(&self) -> Option<SerdeRef<K>> {
        self.grouped.stream.key.clone()
    }

    fn id(&self) -> *const () {
        Rc::as_ptr(&self.grouped.repartitioned).cast()
    }

    fn partitioned(&self, store: &str) -> Place {
        self.grouped.partitioned_by_key(store).place
    }

    fn aggregate(&self, store: &str, initial: &Initial<A>) -> AddNode {
        let (combine, initial) = (Arc::clone(&self.combine), Arc::clone(initial));
        let aggregator: Aggregator<K, V, A> = Arc::new(move |key, value, so_far| combine(key, Some(value), so_far));
        let store = store.to_owned();
        Box::new(move |topology, name, parent, send_old_values| {
            let (store, initial, aggregator) = (store.clone(), Arc::clone(&initial), Arc::clone(&aggregator));
            let supplier = move || Aggregate::new(&store, &initial, &aggregator, send_old_values);
            topology.add_processor::<_, K, V, K, Change<A>>(name, supplier, &[parent]).map(|_| ())
        })
    }

    fn windowed(&self, store: &str, windows: FixedWindows, initial: &Initial<A>) -> AddNode {
        let (initial, aggregator) = (Arc::clone(initial), Arc::clone(&self.combine));
        let emit = EmitStrategy::OnWindowUpdate;
        let plan = Arc::new(WindowPlan { store_name: store.to_owned(), windows, emit, initial, aggregator });
        Box::new(move |topology, name, parent, send_old_values| {
            plan.add_processor(topology, name, parent, send_old_values)
        })
    }

    fn sessions(&self, store: &str, windows: SessionWindows, initial: &Initial<A>, merger: &Merger<K, A>) -> AddNode {
        let functions = Functions {
            initial: Arc::clone(initial),
            aggregator: Arc::clone(&self.combine),
            merger: Arc::clone(merger),
        };
        let emit = EmitStrategy::OnWindowUpdate;
        let plan = Arc::new(SessionPlan { store_name: store.to_owned(), windows, emit, functions });
        Box::new(move |topology, name, parent, send_old_values| {
            plan.add_processor(topology, name, parent, send_old_values)
        })
    }
}

/// Grouped streams that are to be aggregated together; see [`KGroupedStream::cogroup`].
pub struct CogroupedKStream<K, A> {
    inputs: Vec<Rc<dyn Input<K, A>>>,
    name: Option<String>,
}

impl<K, A> Clone for CogroupedKStream<K, A> {
    fn clone(&self) -> Self {
        Self { inputs: self.inputs.clone(), name: self.name.clone() }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KGroupedStream<K, V> {
    /// Begins an aggregation to which several streams contribute, each by an aggregator of its own. Records with a null key or value do
    /// not take part.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let bought = builder.stream("bought", Consumed::<String, i64>::default()).group_by_key(Grouped::inherited());
    /// let sold = builder.stream("sold", Consumed::<String, String>::default()).group_by_key(Grouped::inherited());
    /// bought
    ///     .cogroup(|_, pieces, stock: i64| stock + pieces)
    ///     .cogroup(&sold, |_, _, stock| stock - 1)
    ///     .aggregate(|| 0, Materialized::default())
    ///     .to_stream()
    ///     .to("stock", Produced::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn cogroup<A: Clone + 'static>(
        &self,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        CogroupedKStream { inputs: Vec::new(), name: None }.cogroup(self, aggregator)
    }

    /// As [`KGroupedStream::cogroup`]; the aggregator is given `None` for a key without aggregate whose initial value is `None`, and deletes
    /// by returning it. In windows it is called for null values, too.
    pub fn cogroup_nullable<A: Clone + 'static>(
        &self,
        aggregator: impl Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        CogroupedKStream { inputs: Vec::new(), name: None }.cogroup_nullable(self, aggregator)
    }
}

impl<K: Clone + 'static, A: Clone + 'static> CogroupedKStream<K, A> {
    /// Names the nodes of the aggregation: `<name>-cogroup-agg-0` and so on, and `<name>-cogroup-merge`.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self.clone() }
    }

    /// Adds the records of `grouped`, by an aggregator of their own. One added before is replaced.
    #[must_use]
    pub fn cogroup<V: Clone + 'static>(
        &self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        self.cogroup_nullable(grouped, move |key, value, so_far| match (value, so_far) {
            (Some(value), Some(so_far)) => Some(aggregator(key, value, so_far)),
            (_, so_far) => so_far,
        })
    }

    /// As [`CogroupedKStream::cogroup`], with an aggregator as that of [`KGroupedStream::cogroup_nullable`].
    #[must_use]
    pub fn cogroup_nullable<V: Clone + 'static>(
        &self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> Self {
        let input = TypedInput { grouped: grouped.clone(), combine: Arc::new(aggregator) };
        let mut inputs = self.inputs.clone();
        let known = inputs.iter().position(|known| known.id() == input.id());
        let input: Rc<dyn Input<K, A>> = Rc::new(input);
        match known {
            Some(index) => inputs[index] = input,
            None => inputs.push(input),
        }
        Self { inputs, name: self.name.clone() }
    }

    /// One value per key, which begins as `initial()`.
    pub fn aggregate(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_nullable(move || Some(initial()), materialized)
    }

    /// As [`CogroupedKStream::aggregate`]; the initial value may be `None`.
    pub fn aggregate_nullable(
        &self,
        initial: impl Fn() -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let (graph, store_name, places) = self.begin(&materialized);
        let is_named = materialized.name.is_some();
        let table = StoredTable::new(store_name.clone(), is_named);
        let settled = SettledStore::new(&graph, store_name.clone(), materialized, self.key(), None);
        let initial: Initial<A> = Arc::new(initial);
        let adds = self.inputs.iter().map(|input| input.aggregate(&store_name, &initial)).collect();
        let (name, old_values) = (self.name.clone(), table.old_values());
        let made = Made { graph, places, adds, name, old_values, grace_ms: None };
        settled.iter().for_each(|settled| table.kept_in(settled));
        let store = settled.as_ref().map(SettledStore::key_value);
        let key = settled.as_ref().map(|settled| Arc::clone(&settled.key));
        made.finish(store, key, settled.map(|settled| settled.value), table)
    }

    /// Aggregates per window. Each stream has a time of its own by which its records are late.
    pub fn windowed_by<W: Windows<K, A>>(&self, windows: W) -> W::Cogrouped {
        windows.of_cogrouped(self)
    }

    /// Reports a problem with windows.
    fn fail(&self, problem: Option<String>) {
        if let (Some(problem), Some(input)) = (problem, self.inputs.first()) {
            input.graph().refuse(problem);
        }
    }

    fn key(&self) -> Option<SerdeRef<K>> {
        self.inputs.iter().find_map(|input| input.key())
    }

    /// The graph, the name of the store, and each stream's place behind its repartition.
    fn begin<K2>(&self, materialized: &Materialized<K2, A>) -> (GraphRef, String, Vec<Place>) {
        let graph = self.inputs.first().map(|input| input.graph().clone()).unwrap_or_default();
        let store = match &materialized.name {
            Some(name) => name.clone(),
            None => graph.next_store_name(naming::COGROUP_AGGREGATE),
        };
        let places = self.inputs.iter().map(|input| input.partitioned(&store)).collect();
        (graph, store, places)
    }
}

/// An aggregation whose nodes are still to be added.
struct Made {
    graph: GraphRef,
    places: Vec<Place>,
    adds: Vec<AddNode>,
    name: Option<String>,
    old_values: Rc<Cell<bool>>,
    /// As in [`Place`].
    grace_ms: Option<i64>,
}

impl Made {
    /// Adds a node for each stream, all on one store, and one into which they flow. Without a store the graph has an error.
    fn finish<K: Clone + 'static, A: Clone + 'static>(
        self,
        store: Option<StoreBuilderRef>,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<A>>,
        table: Rc<dyn Table<K, A>>,
    ) -> KTable<K, A> {
        let Self { graph, places, adds, name, old_values, grace_ms } = self;
        let named = |suffix: &str| name.as_ref().map(|name| format!("{name}-cogroup-{suffix}"));
        let mut nodes = Vec::with_capacity(places.len());
        for (index, (place, add)) in places.iter().zip(adds).enumerate() {
            let node = graph.name_or(named(&format!("agg-{index}")), naming::COGROUP_AGGREGATE);
            nodes.push(node.clone());
            let (parent, old_values) = (place.node.clone(), Rc::clone(&old_values));
            let store = store.clone();
            graph.add(move |topology| {
                add(topology, &node, &parent, old_values.get())?;
                match &store {
                    Some(store) => topology.add_shared_state_store(StoreBuilderRef::clone(store), &[&node]).map(|_| ()),
                    None => Ok(()),
                }
            });
        }
        let merge = graph.name_or(named("merge"), naming::COGROUP_MERGE);
        graph.mark(&merge, Kind::Merges);
        let mut all = places.into_iter();
        let first = all.next().unwrap_or_else(|| Place::source(graph.clone(), merge.clone()));
        let place = all.fold(first.at(merge.clone()), |place, other| place.joined(&other, merge.clone()));
        let place = Place { grace_ms, ..place };
        let sources = place.sources.clone();
        graph.add(move |topology| {
            let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
            topology.add_processor::<_, K, Change<A>, K, Change<A>>(&merge, || PassThrough, &nodes)?;
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            topology.copartition(&sources).map(|_| ())
        });
        KTable::new(place, key, value, table)
    }
}
