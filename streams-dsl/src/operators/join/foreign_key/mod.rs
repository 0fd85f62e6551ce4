//! Joins of two tables by a foreign key: rows of the left table refer to keys of the right one.
//!
//! The sides are partitioned differently, so they send messages through two internal topics: a left row subscribes to its foreign key at
//! the right side, which answers at once and at each update of that key; the left side joins the answers that still fit its row.

mod left;
mod messages;
mod right;

use std::sync::Arc;

use streams_core::serde::ByteArraySerde;
use streams_core::store::Stores;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::topology::{PartitionChoice, RepartitionOptions};
use streams_core::{Change, SerdeRef, SinkOptions, SourceOptions, StreamsError, Topology};

use self::left::{Resolve, Subscribe};
use self::messages::{Response, ResponseSerde, Subscription, SubscriptionSerde};
use self::right::{AnswerSubscription, AnswerUpdate, Keys, Receive};
use crate::graph::{GraphRef, Place};
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::operators::results::connect;
use crate::operators::table_source::SourceTable;
use crate::options::TableJoined;

/// The key of the right table that a left row refers to.
type ForeignKey<K, V, F> = Arc<dyn Fn(&K, &V) -> Option<F> + Send + Sync>;

/// Value of the result of a left row and the right value.
type Joiner<V, T, R> = Arc<dyn Fn(&V, Option<&T>) -> Option<R> + Send + Sync>;

const SUBSCRIPTION: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-";
const OUTPUT: &str = "KTABLE-FK-JOIN-OUTPUT-";

/// Nodes, topics and stores of one join, numbered in this order.
struct Names {
    registration_topic: String,
    subscribe: String,
    registration_sink: String,
    registration_source: String,
    store: String,
    receive: String,
    answer_subscription: String,
    answer_update: String,
    response_topic: String,
    response_sink: String,
    response_source: String,
    resolve: String,
    output: String,
}

impl Names {
    /// Those that follow from `name`, else generated ones; numbers are used up in either case.
    fn new(graph: &GraphRef, name: Option<&str>) -> Self {
        let name = |prefix: &str, suffix: &str, generated_suffix: &str| {
            let generated = graph.next_name(prefix) + generated_suffix;
            name.map_or(generated, |name| format!("{name}-{suffix}"))
        };
        let processor = format!("{SUBSCRIPTION}PROCESSOR-");
        Self {
            registration_topic: name(
                &format!("{SUBSCRIPTION}REGISTRATION-"),
                "subscription-registration-topic",
                "-topic",
            ),
            subscribe: name(&format!("{SUBSCRIPTION}REGISTRATION-"), "subscription-registration-processor", ""),
            registration_sink: name("KTABLE-SINK-", "subscription-registration-sink", ""),
            registration_source: name("KTABLE-SOURCE-", "subscription-registration-source", ""),
            store: name(&format!("{SUBSCRIPTION}STATE-STORE-"), "subscription-store", ""),
            receive: name(&processor, "subscription-receive", ""),
            answer_subscription: name(&processor, "subscription-join-foreign", ""),
            answer_update: name(&processor, "foreign-join-subscription", ""),
            response_topic: name(&format!("{SUBSCRIPTION}RESPONSE-"), "subscription-response-topic", "-topic"),
            response_sink: name("KTABLE-SINK-", "subscription-response-sink", ""),
            response_source: name("KTABLE-SOURCE-", "subscription-response-source", ""),
            resolve: name(&format!("{SUBSCRIPTION}RESPONSE-RESOLVER-PROCESSOR-"), "subscription-response-resolver", ""),
            output: name(OUTPUT, "result", ""),
        }
    }
}

/// The serdes of both tables.
struct Serdes<K, V, F, T> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    foreign_key: SerdeRef<F>,
    foreign_value: SerdeRef<T>,
}

impl<K, V, F, T> Serdes<K, V, F, T> {
    fn of(left: &KTable<K, V>, right: &KTable<F, T>) -> Option<Self> {
        let graph = &left.place.graph;
        let remedy = "Consumed or Materialized where the table is made";
        Some(Self {
            key: graph.need(left.key.clone(), "the key of a table with a foreign key", remedy)?,
            value: graph.need(left.value.clone(), "the value of a table with a foreign key", remedy)?,
            foreign_key: graph.need(right.key.clone(), "the key of a table that is referred to", remedy)?,
            foreign_value: graph.need(right.value.clone(), "the value of a table that is referred to", remedy)?,
        })
    }
}

/// Adds an internal topic with its sink below `parents`, and its source.
fn add_topic<K: Clone + 'static, V: Clone + 'static>(
    topology: &mut Topology,
    topic: &str,
    (sink, source): (&str, &str),
    options: SinkOptions<K, V>,
    parents: &[&str],
    reading: SourceOptions<K, V>,
) -> Result<(), StreamsError> {
    topology.add_repartition_topic(topic, RepartitionOptions::default())?;
    topology.add_sink(sink, options, topic, parents)?;
    topology.add_source(source, reading, [topic]).map(|_| ())
}

fn copartition(topology: &mut Topology, place: &Place, source: &str) -> Result<(), StreamsError> {
    let sources: Vec<&str> = place.sources.iter().map(String::as_str).chain([source]).collect();
    topology.copartition(&sources).map(|_| ())
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// The table of the rows of which the key that `foreign_key` finds is in `other`, joined with the value there. A row for which it finds
    /// none has no result.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Materialized, Produced, StreamsBuilder, TableJoined};
    /// # let builder = StreamsBuilder::new();
    /// let city_of_user = builder.table("users", Consumed::<String, String>::default(), Materialized::unnamed());
    /// let country_of_city = builder.table("cities", Consumed::<String, String>::default(), Materialized::unnamed());
    /// city_of_user
    ///     .join_foreign_key(
    ///         &country_of_city,
    ///         |_, city| Some(city.clone()),
    ///         |city, country| format!("{city}, {country}"),
    ///         TableJoined::new(),
    ///         Materialized::unnamed(),
    ///     )
    ///     .to_stream()
    ///     .to("addresses", Produced::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn join_foreign_key<F: Clone + 'static, T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<F, T>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        joiner: impl Fn(&V, &T) -> R + Send + Sync + 'static,
        joined: TableJoined<K, F>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let joiner = move |row: &V, found: &T| Some(joiner(row, found));
        self.join_foreign_key_nullable(other, foreign_key, joiner, joined, materialized)
    }

    /// As [`KTable::join_foreign_key`]; a key for which the joiner returns `None` is deleted.
    pub fn join_foreign_key_nullable<F: Clone + 'static, T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<F, T>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        joiner: impl Fn(&V, &T) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, F>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let joiner = move |row: &V, found: Option<&T>| joiner(row, found?);
        self.add_foreign_key_join(other, Arc::new(foreign_key), Arc::new(joiner), joined, materialized, false)
    }

    /// The table of all rows, joined with the value of `other` under the key that `foreign_key` finds, or with `None`.
    pub fn left_join_foreign_key<F: Clone + 'static, T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<F, T>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&T>) -> R + Send + Sync + 'static,
        joined: TableJoined<K, F>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let joiner = move |row: &V, found: Option<&T>| Some(joiner(row, found));
        self.left_join_foreign_key_nullable(other, foreign_key, joiner, joined, materialized)
    }

    /// As [`KTable::left_join_foreign_key`]; a key for which the joiner returns `None` is deleted.
    pub fn left_join_foreign_key_nullable<F: Clone + 'static, T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<F, T>,
        foreign_key: impl Fn(&K, &V) -> Option<F> + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&T>) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, F>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.add_foreign_key_join(other, Arc::new(foreign_key), Arc::new(joiner), joined, materialized, true)
    }

    fn add_foreign_key_join<F: Clone + 'static, T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<F, T>,
        foreign_key: ForeignKey<K, V, F>,
        joiner: Joiner<V, T, R>,
        joined: TableJoined<K, F>,
        materialized: Materialized<K, R>,
        is_left: bool,
    ) -> KTable<K, R> {
        let graph = &self.place.graph;
        self.require_old_values();
        other.require_old_values();
        let name = joined.name.clone().or_else(|| self.place.next_name.clone());
        let names = Names::new(graph, name.as_deref());
        let store = materialized.name.clone().unwrap_or_else(|| graph.next_store_name(OUTPUT));
        let key = materialized.key.clone().or_else(|| self.key.clone());
        let value = materialized.value.clone();
        let table = SourceTable::of_result(store, &materialized, key.clone(), value.clone());
        let mut place = self.place.at(names.output.clone());
        place.sources.push(names.response_source.clone());
        let output = names.output.clone();
        if let Some(serdes) = Serdes::of(self, other) {
            let resolve = names.resolve.clone();
            let step =
                Step { left: self.clone(), right: other.clone(), foreign_key, joiner, joined, serdes, names, is_left };
            step.add_to(graph);
            table.add_to(graph, output, resolve);
        }
        KTable::new(place, key, value, table)
    }
}

/// All that the nodes of a join need to know.
struct Step<K, V, F, T, R> {
    left: KTable<K, V>,
    right: KTable<F, T>,
    foreign_key: ForeignKey<K, V, F>,
    joiner: Joiner<V, T, R>,
    joined: TableJoined<K, F>,
    serdes: Serdes<K, V, F, T>,
    names: Names,
    is_left: bool,
}

impl<K, V, F, T, R> Step<K, V, F, T, R>
where
    K: Clone + 'static,
    V: Clone + 'static,
    F: Clone + 'static,
    T: Clone + 'static,
    R: Clone + 'static,
{
    fn add_to(self, graph: &GraphRef) {
        let builder = Stores::timestamped_key_value(
            self.names.store.clone(),
            ByteArraySerde,
            SubscriptionSerde(Arc::clone(&self.serdes.key)),
        );
        let store: StoreBuilderRef = Arc::new(builder.with_logged_headers());
        graph.add(move |topology| {
            self.add_subscribe(topology)?;
            self.add_answers(topology, &store)?;
            self.add_resolve(topology)
        });
    }

    fn add_subscribe(&self, topology: &mut Topology) -> Result<(), StreamsError> {
        let names = &self.names;
        let (foreign_key, is_left) = (Arc::clone(&self.foreign_key), self.is_left);
        let (foreign_serde, value_serde) = (Arc::clone(&self.serdes.foreign_key), Arc::clone(&self.serdes.value));
        let registration = names.registration_topic.clone();
        let is_versioned = self.left.is_versioned();
        let subscribe = move || Subscribe {
            foreign_key: Arc::clone(&foreign_key),
            foreign_serde: Arc::clone(&foreign_serde),
            value_serde: Arc::clone(&value_serde),
            is_left,
            is_versioned,
            registration: registration.clone(),
            topics: Default::default(),
        };
        let parent = self.left.place.node.as_str();
        topology.add_processor::<_, K, Change<V>, F, Subscription<K>>(&names.subscribe, subscribe, &[parent])?;
        let (key, value) = (Arc::clone(&self.serdes.foreign_key), Arc::clone(&self.serdes.key));
        let mut sink = SinkOptions::new(Arc::clone(&key), SubscriptionSerde(Arc::clone(&value)));
        if let Some(partitioner) = self.joined.other_partitioner.clone() {
            sink = sink.with_partitioner(
                move |topic: &str, key: Option<&F>, _: Option<&Subscription<K>>, partitions: i32| {
                    partitioner.partitions(topic, key, None, partitions)
                },
            );
        }
        let source = SourceOptions::new(key, SubscriptionSerde(value));
        let nodes = (names.registration_sink.as_str(), names.registration_source.as_str());
        add_topic(topology, &names.registration_topic, nodes, sink, &[&names.subscribe], source)
    }

    fn keys(&self) -> impl Fn() -> Keys<K, F> + Send + Sync + 'static + use<K, V, F, T, R> {
        let (foreign, primary) = (Arc::clone(&self.serdes.foreign_key), Arc::clone(&self.serdes.key));
        let registration = self.names.registration_topic.clone();
        move || Keys {
            foreign: Arc::clone(&foreign),
            primary: Arc::clone(&primary),
            registration: registration.clone(),
            topics: Default::default(),
        }
    }

    fn add_answers(&self, topology: &mut Topology, store: &StoreBuilderRef) -> Result<(), StreamsError> {
        let names = &self.names;
        let (keys, store_name) = (self.keys(), names.store.clone());
        let receive = move || Receive { store_name: store_name.clone(), keys: keys(), store: None };
        let parent = names.registration_source.as_str();
        topology.add_processor::<_, F, Subscription<K>, F, Subscription<K>>(&names.receive, receive, &[parent])?;
        topology.add_shared_state_store(StoreBuilderRef::clone(store), &[&names.receive])?;
        let supplier = self.right.table.getter();
        let answer = move || AnswerSubscription { supplier: Arc::clone(&supplier), getter: None };
        let (node, parent) = (names.answer_subscription.as_str(), names.receive.as_str());
        topology.add_processor::<_, F, Subscription<K>, K, Response<T>>(node, answer, &[parent])?;
        connect(topology, node, &self.right.table.lookup_stores())?;
        let (keys, store_name) = (self.keys(), names.store.clone());
        let is_versioned = self.right.is_versioned();
        let update = move || AnswerUpdate { store_name: store_name.clone(), keys: keys(), is_versioned, store: None };
        let parent = self.right.place.node.as_str();
        topology.add_processor::<_, F, Change<T>, K, Response<T>>(&names.answer_update, update, &[parent])?;
        topology.connect(&names.answer_update, &[&names.store])?;
        copartition(topology, &self.right.place, &names.registration_source)
    }

    fn add_resolve(&self, topology: &mut Topology) -> Result<(), StreamsError> {
        let names = &self.names;
        let (key, value) = (Arc::clone(&self.serdes.key), Arc::clone(&self.serdes.foreign_value));
        let sink = SinkOptions::new(Arc::clone(&key), ResponseSerde(Arc::clone(&value)));
        let partitioner = self.joined.partitioner.clone();
        let sink = sink.with_partitioner(
            move |topic: &str, key: Option<&K>, response: Option<&Response<T>>, partitions: i32| match &partitioner {
                Some(partitioner) => partitioner.partitions(topic, key, None, partitions),
                None => response
                    .and_then(|response| response.partition)
                    .map_or(PartitionChoice::Default, PartitionChoice::One),
            },
        );
        let source = SourceOptions::new(key, ResponseSerde(value));
        let nodes = (names.response_sink.as_str(), names.response_source.as_str());
        let parents = [names.answer_subscription.as_str(), names.answer_update.as_str()];
        add_topic(topology, &names.response_topic, nodes, sink, &parents, source)?;
        let (supplier, joiner) = (self.left.table.getter(), Arc::clone(&self.joiner));
        let (serde, is_left) = (Arc::clone(&self.serdes.value), self.is_left);
        let registration = names.registration_topic.clone();
        let resolve = move || Resolve::new(&supplier, &joiner, &serde, is_left, &registration);
        let parent = names.response_source.as_str();
        topology.add_processor::<_, K, Response<T>, K, R>(&names.resolve, resolve, &[parent])?;
        connect(topology, &names.resolve, &self.left.table.lookup_stores())?;
        copartition(topology, &self.left.place, &names.response_source)
    }
}
