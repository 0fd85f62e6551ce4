//! `count`, `reduce` and `aggregate` of a grouped stream per window of time.
//!
//! Late records: a window takes records until the greatest timestamp seen here reaches its end plus the grace period. Kafka Streams forgets that
//! timestamp at a restart and then accepts what it had refused; here it is read back from the store, so that a restart changes no
//! result.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::serde::{I64Serde, TimeWindowedSerde};
use streams_core::store::builder::StoreBuilderRef;
use streams_core::windowed::Windowed;
use streams_core::{
    BoxError, Change, Processor, ProcessorContext, Record, Serde, SerdeRef, Timestamp, TimestampedWindowStore,
    ValueAndTimestamp,
};

use crate::grouped::TimeWindowedKStream;
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::store::SettledStore;
use crate::operators::table_source::WindowedTable;
use crate::windows::TimeWindows;

/// New aggregate from key, value (null values take part in windows) and the aggregate so far.
pub(crate) type WindowAggregator<K, V, A> = Arc<dyn Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync>;

pub(crate) struct WindowAggregate<K, V, A> {
    store_name: String,
    windows: TimeWindows,
    aggregator: WindowAggregator<K, V, A>,
    send_old_values: bool,
    store: Option<Rc<TimestampedWindowStore<K, A>>>,
    forwards_on_flush: bool,
    /// Greatest timestamp seen by this operator.
    stream_time: Timestamp,
}

impl<K, V, A> WindowAggregate<K, V, A> {
    pub(crate) fn new(
        store_name: &str,
        windows: TimeWindows,
        aggregator: &WindowAggregator<K, V, A>,
        send_old_values: bool,
    ) -> Self {
        Self {
            store_name: store_name.to_owned(),
            windows,
            aggregator: Arc::clone(aggregator),
            send_old_values,
            store: None,
            forwards_on_flush: false,
            stream_time: -1,
        }
    }
}

/// The greatest timestamp that the stored windows have taken: it lies in a window with the latest start. -1 for an empty store.
fn latest_timestamp<K: 'static, A: Clone + 'static>(
    store: &TimestampedWindowStore<K, A>,
) -> Result<Timestamp, BoxError> {
    let latest_start = store.stream_time()?;
    if latest_start < 0 {
        return Ok(-1);
    }
    let mut latest = -1;
    for entry in store.fetch_all(latest_start, latest_start)? {
        latest = latest.max(entry?.1.timestamp);
    }
    Ok(latest)
}

impl<K, V, A> Processor<K, V, Windowed<K>, Change<A>> for WindowAggregate<K, V, A>
where
    K: Clone + 'static,
    V: 'static,
    A: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<Windowed<K>, Change<A>>) -> Result<(), BoxError> {
        let store = ctx.timestamped_window_store::<K, A>(&self.store_name)?;
        self.forwards_on_flush = ctx.forward_windows_on_flush(&store, self.send_old_values);
        self.stream_time = latest_timestamp(&store)?;
        self.store = Some(store);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        ctx: &mut ProcessorContext<Windowed<K>, Change<A>>,
    ) -> Result<(), BoxError> {
        let (Some(key), Some(store)) = (&record.key, &self.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        self.stream_time = self.stream_time.max(record.timestamp);
        let closed_up_to = self.stream_time - self.windows.grace_ms();
        for start in self.windows.starts(record.timestamp) {
            let window = self.windows.window(start);
            if window.end <= closed_up_to {
                ctx.count_dropped();
                continue;
            }
            let before = store.fetch(key, start)?;
            let timestamp = before.as_ref().map_or(record.timestamp, |before| before.timestamp.max(record.timestamp));
            let old = before.map(|before| before.value);
            let sent_old = if self.send_old_values && !self.forwards_on_flush { old.clone() } else { None };
            let new = (self.aggregator)(key, record.value.as_ref(), old);
            if self.forwards_on_flush {
                store.put(key, new.map(|value| ValueAndTimestamp { value, timestamp }), start)?;
                continue;
            }
            store.put(key, new.clone().map(|value| ValueAndTimestamp { value, timestamp }), start)?;
            let (key, value) = (Some(Windowed::new(key.clone(), window)), Some(Change::new(new, sent_old)));
            ctx.forward(Record { key, value, timestamp, headers: record.headers.clone() })?;
        }
        Ok(())
    }
}

impl<K: Clone + 'static, V: Clone + 'static> TimeWindowedKStream<K, V> {
    /// How many records each key has had in each window. Records with a null key do not count; those with a null value do.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        self.grouped.stream.place.graph.name_of_count(&materialized);
        let aggregator = |_: &K, _: Option<&V>, count: Option<i64>| Some(count.unwrap_or(0) + 1);
        self.add_aggregate(naming::AGGREGATE, Arc::new(aggregator), materialized, Some(I64Serde.into_ref()))
    }

    /// Combines the values of each key and window; the first value stands for itself, null values change nothing.
    pub fn reduce(
        &self,
        reducer: impl Fn(V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        self.reduce_nullable(
            move |so_far, value| match value {
                Some(value) => Some(reducer(so_far, value)),
                None => Some(so_far),
            },
            materialized,
        )
    }

    /// As [`TimeWindowedKStream::reduce`], called for null values too; a window whose reducer returns `None` is deleted.
    pub fn reduce_nullable(
        &self,
        reducer: impl Fn(V, Option<&V>) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        let aggregator = move |_: &K, value: Option<&V>, so_far: Option<V>| match so_far {
            Some(so_far) => reducer(so_far, value),
            None => value.cloned(),
        };
        let value = self.grouped.stream.value.clone();
        self.add_aggregate(naming::REDUCE, Arc::new(aggregator), materialized, value)
    }

    /// Folds the values of each key and window into an aggregate of another type that begins as `initial()`; null values change nothing.
    pub fn aggregate<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_nullable(
            move |key, value, so_far| {
                let so_far = so_far.unwrap_or_else(&initial);
                Some(match value {
                    Some(value) => aggregator(key, value, so_far),
                    None => so_far,
                })
            },
            materialized,
        )
    }

    /// As [`TimeWindowedKStream::aggregate`], called for null values too; the aggregator is given `None` for a window without aggregate,
    /// and deletes by returning it.
    pub fn aggregate_nullable<A: Clone + 'static>(
        &self,
        aggregator: impl Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.add_aggregate(naming::AGGREGATE, Arc::new(aggregator), materialized, None)
    }

    fn add_aggregate<A: Clone + 'static>(
        &self,
        prefix: &str,
        aggregator: WindowAggregator<K, V, A>,
        materialized: Materialized<K, A>,
        value: Option<SerdeRef<A>>,
    ) -> KTable<Windowed<K>, A> {
        let stream = &self.grouped.stream;
        let graph = &stream.place.graph;
        let store_name = materialized.name.clone().unwrap_or_else(|| graph.next_store_name(prefix));
        let name = stream.place.take_name(prefix);
        let partitioned = self.grouped.partitioned_by_key(&store_name);
        let is_named = materialized.name.is_some();
        let settled = SettledStore::new(graph, store_name.clone(), materialized, stream.key.clone(), value);
        let table = WindowedTable::new(store_name.clone(), is_named);
        let place = partitioned.place.at(name.clone());
        let Some(settled) = settled else { return KTable::new(place, None, None, table) };
        if let Some(problem) = settled.retention_problem(&self.windows) {
            graph.fail(problem);
        }
        let windows = self.windows;
        let key = TimeWindowedSerde::new(Arc::clone(&settled.key), Some(windows.size_ms())).into_ref();
        let value = Arc::clone(&settled.value);
        let store = settled.windowed(&windows);
        let (parent, old_values) = (partitioned.place.node.clone(), table.old_values());
        graph.add(move |topology| {
            let (store_name, aggregator, send_old_values) =
                (store_name.clone(), Arc::clone(&aggregator), old_values.get());
            let supplier = move || WindowAggregate::new(&store_name, windows, &aggregator, send_old_values);
            topology.add_processor::<_, K, V, Windowed<K>, Change<A>>(&name, supplier, &[&parent])?;
            topology.add_shared_state_store(StoreBuilderRef::clone(&store), &[&name]).map(|_| ())
        });
        KTable::new(place, Some(key), Some(value), table)
    }
}
