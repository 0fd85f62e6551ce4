//! `count`, `reduce` and `aggregate` of a grouped stream: a table of one value per key.

use std::sync::Arc;

use streams_core::serde::I64Serde;
use streams_core::store::TableStore;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::{BoxError, Change, Processor, ProcessorContext, Record, Serde, SerdeRef};

use crate::grouped::KGroupedStream;
use crate::kstream::KStream;
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::repartition::Through;
use crate::operators::store::SettledStore;
use crate::operators::table_source::StoredTable;

/// New aggregate from key, value and the aggregate so far (the initial one for a key without); `None` deletes it.
pub(crate) type Aggregator<K, V, A> = Arc<dyn Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync>;

/// The aggregate that a key begins with; what the first update sends as its old value.
pub(crate) type Initial<A> = Arc<dyn Fn() -> Option<A> + Send + Sync>;

pub(crate) struct Aggregate<K, V, A> {
    store_name: String,
    initial: Initial<A>,
    aggregator: Aggregator<K, V, A>,
    send_old_values: bool,
    store: Option<TableStore<K, A>>,
    forwards_on_flush: bool,
}

impl<K, V, A> Aggregate<K, V, A> {
    pub(crate) fn new(
        store_name: &str,
        initial: &Initial<A>,
        aggregator: &Aggregator<K, V, A>,
        send_old_values: bool,
    ) -> Self {
        Self {
            store_name: store_name.to_owned(),
            initial: Arc::clone(initial),
            aggregator: Arc::clone(aggregator),
            send_old_values,
            store: None,
            forwards_on_flush: false,
        }
    }
}

impl<K, V, A> Processor<K, V, K, Change<A>> for Aggregate<K, V, A>
where
    K: Clone + 'static,
    V: 'static,
    A: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<A>>) -> Result<(), BoxError> {
        let store = ctx.table_store::<K, A>(&self.store_name)?;
        self.forwards_on_flush = ctx.forward_table_on_flush(&store, self.send_old_values);
        self.store = Some(store);
        Ok(())
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, Change<A>>) -> Result<(), BoxError> {
        let (Some(key), Some(value), Some(store)) = (&record.key, &record.value, &self.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        let before = store.get(key)?;
        let timestamp = before.as_ref().map_or(record.timestamp, |before| before.timestamp.max(record.timestamp));
        let old = before.map(|before| before.value).or_else(|| (self.initial)());
        let sent_old = if self.send_old_values && !self.forwards_on_flush { old.clone() } else { None };
        let new = (self.aggregator)(key, value, old);
        if self.forwards_on_flush {
            store.put(key, new, timestamp)?;
            return Ok(());
        }
        let Some(is_latest) = store.put(key, new.clone(), timestamp)? else { return Ok(()) };
        let change = Change { new, old: sent_old, is_latest };
        ctx.forward(record.with_value(Some(change)).with_timestamp(timestamp))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KGroupedStream<K, V> {
    /// How many records each key has had. Records with a null key or value do not count.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        self.add_count(materialized, Some(I64Serde.into_ref()))
    }

    /// As [`KGroupedStream::count`], under another type for numbers: one that other streams have, to be merged with, say. `materialized`
    /// has its serde; names are those of `count`.
    ///
    /// ```
    /// use streams_core::serde::{I64Serde, Serde, SerdeError, StringSerde};
    /// use streams_dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Votes(i64);
    /// impl From<i64> for Votes {
    ///     fn from(votes: i64) -> Self {
    ///         Self(votes)
    ///     }
    /// }
    /// impl From<Votes> for i64 {
    ///     fn from(votes: Votes) -> Self {
    ///         votes.0
    ///     }
    /// }
    /// # #[derive(Clone)]
    /// # struct VotesSerde;
    /// # impl Serde<Votes> for VotesSerde {
    /// #     fn serialize(&self, topic: &str, headers: &streams_core::Headers, votes: &Votes, to: &mut Vec<u8>) -> Result<(), SerdeError> {
    /// #         I64Serde.serialize(topic, headers, &votes.0, to)
    /// #     }
    /// #     fn deserialize(&self, topic: &str, headers: &streams_core::Headers, bytes: &[u8]) -> Result<Votes, SerdeError> {
    /// #         I64Serde.deserialize(topic, headers, bytes).map(Votes)
    /// #     }
    /// # }
    /// let builder = StreamsBuilder::new();
    /// let by_post = builder.stream("by-post", Consumed::with(StringSerde, VotesSerde));
    /// let ballots = builder.stream("ballots", Consumed::<String, String>::default());
    /// let counted = ballots.group_by_key(Grouped::default()).count_as::<Votes>(Materialized::with(StringSerde, VotesSerde));
    /// counted.to_stream().merge(&by_post).to("votes", Produced::with(StringSerde, VotesSerde));
    /// builder.build()?;
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn count_as<N: From<i64> + Into<i64> + Clone + 'static>(
        &self,
        materialized: Materialized<K, N>,
    ) -> KTable<K, N> {
        self.add_count(materialized, None)
    }

    fn add_count<N: From<i64> + Into<i64> + Clone + 'static>(
        &self,
        materialized: Materialized<K, N>,
        serde: Option<SerdeRef<N>>,
    ) -> KTable<K, N> {
        self.stream.place.graph.name_of_count(&materialized);
        let aggregator = |_: &K, _: &V, count: Option<N>| Some(N::from(count.map_or(0, N::into) + 1));
        self.add_aggregate(naming::AGGREGATE, Arc::new(|| Some(N::from(0))), Arc::new(aggregator), materialized, serde)
    }

    /// Combines the values of each key; the first value stands for itself.
    pub fn reduce(
        &self,
        reducer: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.reduce_nullable(move |so_far, value| Some(reducer(so_far, value)), materialized)
    }

    /// As [`KGroupedStream::reduce`]; a key whose reducer returns `None` is deleted.
    pub fn reduce_nullable(
        &self,
        reducer: impl Fn(V, &V) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let aggregator = move |_: &K, value: &V, so_far: Option<V>| match so_far {
            Some(so_far) => reducer(so_far, value),
            None => Some(value.clone()),
        };
        let value = self.stream.value.clone();
        self.add_aggregate(naming::REDUCE, Arc::new(|| None), Arc::new(aggregator), materialized, value)
    }

    /// Folds the values of each key into an aggregate of another type that begins as `initial()`.
    pub fn aggregate<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_nullable(
            move || Some(initial()),
            move |key, value, so_far| so_far.map(|so_far| aggregator(key, value, so_far)),
            materialized,
        )
    }

    /// As [`KGroupedStream::aggregate`]; the initial aggregate may be null, and the aggregator deletes by returning `None`.
    pub fn aggregate_nullable<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.add_aggregate(naming::AGGREGATE, Arc::new(initial), Arc::new(aggregator), materialized, None)
    }

    fn add_aggregate<A: Clone + 'static>(
        &self,
        prefix: &str,
        initial: Initial<A>,
        aggregator: Aggregator<K, V, A>,
        materialized: Materialized<K, A>,
        value: Option<SerdeRef<A>>,
    ) -> KTable<K, A> {
        let graph = &self.stream.place.graph;
        let store_name = materialized.name.clone().unwrap_or_else(|| graph.next_store_name(prefix));
        let name = self.stream.place.take_name(prefix);
        let stream = self.partitioned_by_key(&store_name);
        let key = self.stream.key.clone();
        let is_named = materialized.name.is_some();
        let settled = SettledStore::new(graph, store_name.clone(), materialized, key, value);
        let table = StoredTable::new(store_name.clone(), is_named);
        let place = stream.place.at(name.clone());
        let Some(settled) = settled else { return KTable::new(place, None, None, table) };
        table.kept_in(&settled);
        let (key, value) = (Arc::clone(&settled.key), Arc::clone(&settled.value));
        let store = settled.key_value();
        let (parent, old_values) = (stream.place.node.clone(), table.old_values());
        graph.add(move |topology| {
            let (store_name, aggregator, send_old_values) =
                (store_name.clone(), Arc::clone(&aggregator), old_values.get());
            let initial = Arc::clone(&initial);
            let supplier = move || Aggregate::new(&store_name, &initial, &aggregator, send_old_values);
            topology.add_processor::<_, K, V, K, Change<A>>(&name, supplier, &[&parent])?;
            topology.add_shared_state_store(StoreBuilderRef::clone(&store), &[&name]).map(|_| ())
        });
        KTable::new(place, Some(key), Some(value), table)
    }

    /// The grouped stream, repartitioned if its key may have changed; `store` names the topic unless the user did.
    pub(crate) fn partitioned_by_key(&self, store: &str) -> KStream<K, V> {
        if !self.stream.rekeyed {
            return self.stream.clone();
        }
        if let Some(stream) = &*self.repartitioned.borrow() {
            // The names of the nodes that would have been made are used up all the same.
            self.stream.place.graph.skip_names(3);
            return stream.clone();
        }
        let base = self.repartition_name.clone().unwrap_or_else(|| store.to_owned());
        let remedy = "Grouped::with(key serde, value serde)";
        match self.stream.serdes(&None, &None, &format!("repartition topic {base}-repartition"), remedy) {
            Some((key, value)) => {
                let stream = self.stream.through(Through::new(base, key, value));
                if self.repartition_name.is_some() {
                    self.repartitioned.replace(Some(stream.clone()));
                }
                stream
            }
            None => self.stream.clone(),
        }
    }
}
