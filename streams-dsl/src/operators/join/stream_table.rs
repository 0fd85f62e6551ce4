//! `join` and `left_join` of a stream with a table: each record with the table's value of its key at that moment.

use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::ktable::{GetterAsOf, GetterAsOfSupplier, KTable};
use crate::naming;
use crate::operators::join::stream_table_grace::Grace;
use crate::options::Joined;

/// Value of the result of key, stream's value and table's value.
type Joiner<K, V, T, R> = Arc<dyn Fn(Option<&K>, &V, Option<&T>) -> Option<R> + Send + Sync>;

pub(super) struct StreamTableJoin<K, V, T, R> {
    supplier: GetterAsOfSupplier<K, T>,
    joiner: Joiner<K, V, T, R>,
    is_left: bool,
    getter: Option<GetterAsOf<K, T>>,
}

impl<K, V, T, R> StreamTableJoin<K, V, T, R> {
    pub(super) fn prepare(&mut self, ctx: &NodeContext) -> Result<(), BoxError> {
        self.getter = Some((self.supplier)(ctx)?);
        Ok(())
    }

    /// Whether the record takes part in the join at all.
    pub(super) fn takes(&self, record: &Record<K, V>) -> bool {
        record.value.is_some() && (record.key.is_some() || self.is_left)
    }

    /// The joined value, which may be null; outer `None` if there is no result.
    pub(super) fn joined(&self, record: &Record<K, V>) -> Result<Option<Option<R>>, BoxError> {
        let Some(value) = &record.value else { return Ok(None) };
        let found = match (&record.key, &self.getter) {
            (Some(key), Some(getter)) => getter(key, record.timestamp)?,
            _ => None,
        };
        if found.is_none() && !self.is_left {
            return Ok(None);
        }
        Ok(Some((self.joiner)(record.key.as_ref(), value, found.as_ref().map(|found| &found.value))))
    }
}

impl<K, V, T, R> Processor<K, V, K, R> for StreamTableJoin<K, V, T, R>
where
    K: Clone + 'static,
    V: 'static,
    T: 'static,
    R: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        self.prepare(ctx)
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        if !self.takes(&record) {
            ctx.count_dropped();
            return Ok(());
        }
        match self.joined(&record)? {
            Some(joined) => ctx.forward(record.with_value(joined)),
            None => Ok(()),
        }
    }
}

/// Looks up the value at the time of a record, or, in a table that knows no former values, the present one.
fn at_record_time<K: 'static, T: 'static>(table: &KTable<K, T>) -> GetterAsOfSupplier<K, T> {
    if let Some(getter) = table.table.getter_as_of() {
        return getter;
    }
    let getter = table.table.getter();
    Arc::new(move |ctx| {
        let getter = getter(ctx)?;
        let at_any_time: GetterAsOf<K, T> = Box::new(move |key, _| getter(key));
        Ok(at_any_time)
    })
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Each record whose key is in the table, joined with the table's value. The stream's side alone triggers results.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Joined, Materialized, Produced, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let orders = builder.stream("orders", Consumed::<String, i64>::default());
    /// let prices = builder.table("prices", Consumed::<String, i64>::default(), Materialized::unnamed());
    /// orders.join(&prices, |pieces, price| pieces * price, Joined::inherited()).to("totals", Produced::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn join<T: Clone + 'static, R: Clone + 'static>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(&V, &T) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.join_nullable(table, move |_, value, found| Some(joiner(value, found)), joined)
    }

    /// As [`KStream::join`], with a look at the key; the result's value may be null.
    pub fn join_nullable<T: Clone + 'static, R: Clone + 'static>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(Option<&K>, &V, &T) -> Option<R> + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, value: &V, found: Option<&T>| joiner(key, value, found?);
        self.add_table_join(table, Arc::new(joiner), joined, false)
    }

    /// Each record, joined with the table's value of its key or with `None`.
    pub fn left_join<T: Clone + 'static, R: Clone + 'static>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(&V, Option<&T>) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.left_join_nullable(table, move |_, value, found| Some(joiner(value, found)), joined)
    }

    /// As [`KStream::left_join`], with a look at the key; the result's value may be null.
    pub fn left_join_nullable<T: Clone + 'static, R: Clone + 'static>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(Option<&K>, &V, Option<&T>) -> Option<R> + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.add_table_join(table, Arc::new(joiner), joined, true)
    }

    fn add_table_join<T: Clone + 'static, R: Clone + 'static>(
        &self,
        table: &KTable<K, T>,
        joiner: Joiner<K, V, T, R>,
        joined: Joined<K, V>,
        is_left: bool,
    ) -> KStream<K, R> {
        let given = joined.name.clone().or_else(|| self.place.next_name.clone());
        let remedy = "Joined::with(key serde, value serde)";
        let stream = self.partitioned_for_join(given.clone(), &joined.key, &joined.value, remedy);
        if is_left {
            stream.place.keep_null_keys();
        }
        table.table.keep_store();
        let graph = &self.place.graph;
        let name = graph.name_or(given, if is_left { naming::LEFT_JOIN } else { naming::JOIN });
        let mut place = stream.place.joined(&table.place, name.clone());
        // Records come from the stream alone: what is upstream of the table does not matter to joins further down.
        place.repartitions.clone_from(&stream.place.repartitions);
        let (parent, sources) = (stream.place.node.clone(), place.sources.clone());
        let (supplier, stores) = (at_record_time(table), table.table.lookup_stores());
        let grace = match joined.grace_ms {
            Some(_) if !table.is_versioned() => {
                graph.refuse(format!("{name}: a table must be versioned to be joined with a grace period"));
                None
            }
            Some(grace_ms) => {
                let buffer = format!("{name}-Buffer");
                let (what, remedy) = (format!("store {buffer}"), "Joined::with(key serde, value serde)");
                let serdes = stream.serdes(&joined.key, &joined.value, &what, remedy);
                serdes.map(|serdes| Grace { grace_ms, serdes, buffer })
            }
            None => None,
        };
        graph.add(move |topology| {
            let (supplier, joiner) = (Arc::clone(&supplier), Arc::clone(&joiner));
            let processor = move || StreamTableJoin {
                supplier: Arc::clone(&supplier),
                joiner: Arc::clone(&joiner),
                is_left,
                getter: None,
            };
            match &grace {
                Some(grace) => grace.add(topology, &name, processor, &parent, &stores)?,
                None => topology.add_processor::<_, K, V, K, R>(&name, processor, &[&parent]).map(|_| ())?,
            }
            let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
            topology.connect(&name, &stores)?;
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            topology.copartition(&sources).map(|_| ())
        });
        let key = stream.key.clone().or_else(|| table.key.clone());
        KStream::new(place, key, None, false)
    }
}
