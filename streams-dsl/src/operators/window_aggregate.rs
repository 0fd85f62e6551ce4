//! `count`, `reduce` and `aggregate` of a grouped stream per window of time: the methods, and the processor of windows that do not slide.
//!
//! Late records: a window takes records until the greatest timestamp seen here reaches its end plus the grace period. Kafka Streams forgets that
//! timestamp at a restart and then accepts what it had refused; here it is read back from the store, so that a restart changes no
//! result.

use std::sync::Arc;

use streams_core::serde::{I64Serde, TimeWindowedSerde};
use streams_core::store::builder::StoreBuilderRef;
use streams_core::windowed::Windowed;
use streams_core::{
    BoxError, Change, Processor, ProcessorContext, Record, Serde, SerdeRef, StreamsError, Timestamp, Topology,
    ValueAndTimestamp,
};

use crate::grouped::TimeWindowedKStream;
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::aggregate::Initial;
use crate::operators::sliding_aggregate::SlidingAggregate;
use crate::operators::store::SettledStore;
use crate::operators::table_source::WindowedTable;
use crate::operators::window_state::WindowState;
use crate::windows::{EmitStrategy, FixedWindows};

/// New aggregate from key, value (null values take part in windows) and the aggregate so far.
pub(super) type WindowAggregator<K, V, A> = Arc<dyn Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync>;

/// What the processor of a windowed aggregation is made from.
pub(super) struct WindowPlan<K, V, A> {
    pub(super) store_name: String,
    pub(super) windows: FixedWindows,
    pub(super) emit: EmitStrategy,
    pub(super) initial: Initial<A>,
    pub(super) aggregator: WindowAggregator<K, V, A>,
}

impl<K: Clone + 'static, V: 'static, A: Clone + 'static> WindowPlan<K, V, A> {
    /// Adds the aggregating node `name` below `parent`.
    pub(super) fn add_processor(
        self: &Arc<Self>,
        topology: &mut Topology,
        name: &str,
        parent: &str,
        send_old_values: bool,
    ) -> Result<(), StreamsError> {
        let plan = Arc::clone(self);
        if matches!(plan.windows, FixedWindows::Sliding(_)) {
            let supplier = move || SlidingAggregate::new(Arc::clone(&plan), send_old_values);
            topology.add_processor::<_, K, V, Windowed<K>, Change<A>>(name, supplier, &[parent])?;
        } else {
            let supplier = move || WindowAggregate(WindowState::new(Arc::clone(&plan), send_old_values));
            topology.add_processor::<_, K, V, Windowed<K>, Change<A>>(name, supplier, &[parent])?;
        }
        Ok(())
    }
}

struct WindowAggregate<K, V, A>(WindowState<K, V, A>);

/// Where the windows that have closed since `last` start.
fn closed_since(windows: &FixedWindows, last: Timestamp, close_time: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let to = close_time.saturating_sub(windows.size_ms());
    if to < 0 {
        return None;
    }
    let from = if last == -1 { 0 } else { (last - windows.size_ms()).max(0) + 1 };
    let none_has_closed = last != -1 && windows.starts(to).eq(windows.starts(from - 1));
    (!none_has_closed).then_some((from, to))
}

impl<K, V, A> Processor<K, V, Windowed<K>, Change<A>> for WindowAggregate<K, V, A>
where
    K: Clone + 'static,
    V: 'static,
    A: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<Windowed<K>, Change<A>>) -> Result<(), BoxError> {
        self.0.open(ctx, 0)
    }

    fn process(
        &mut self,
        record: Record<K, V>,
        ctx: &mut ProcessorContext<Windowed<K>, Change<A>>,
    ) -> Result<(), BoxError> {
        let state = &mut self.0;
        let (Some(key), Some(store)) = (&record.key, &state.store) else {
            ctx.count_dropped();
            return Ok(());
        };
        state.stream_time = state.stream_time.max(record.timestamp);
        let closed_up_to = state.stream_time - state.plan.windows.grace_ms();
        for start in state.plan.windows.starts(record.timestamp) {
            let window = state.plan.windows.window(start);
            if window.end <= closed_up_to {
                ctx.count_dropped();
                continue;
            }
            let before = store.fetch(key, start)?;
            let timestamp = before.as_ref().map_or(record.timestamp, |before| before.timestamp.max(record.timestamp));
            let old = before.map(|before| before.value).or_else(|| (state.plan.initial)());
            let sent_old = if state.send_old_values && !state.forwards_on_flush { old.clone() } else { None };
            let new = (state.plan.aggregator)(key, record.value.as_ref(), old);
            if state.forwards_on_flush || state.emit.is_some() {
                store.put(key, new.map(|value| ValueAndTimestamp { value, timestamp }), start)?;
                continue;
            }
            store.put(key, new.clone().map(|value| ValueAndTimestamp { value, timestamp }), start)?;
            let (key, value) = (Some(Windowed::new(key.clone(), window)), Some(Change::new(new, sent_old)));
            ctx.forward(Record { key, value, timestamp, headers: record.headers.clone() })?;
        }
        state.emit_closed(&record.headers, ctx, closed_since)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> TimeWindowedKStream<K, V> {
    /// How many records each key has had in each window. Records with a null key do not count; those with a null value do, except in
    /// sliding windows, which do not take them.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        self.add_count(materialized, Some(I64Serde.into_ref()))
    }

    /// As [`TimeWindowedKStream::count`], under another type for numbers; see
    /// [`KGroupedStream::count_as`](crate::KGroupedStream::count_as).
    pub fn count_as<N: From<i64> + Into<i64> + Clone + 'static>(
        &self,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N> {
        self.add_count(materialized, None)
    }

    fn add_count<N: From<i64> + Into<i64> + Clone + 'static>(
        &self,
        materialized: Materialized<K, N>,
        serde: Option<SerdeRef<N>>,
    ) -> KTable<Windowed<K>, N> {
        // Sliding windows do without that name.
        if !matches!(self.windows, FixedWindows::Sliding(_)) {
            self.grouped.stream.place.graph.name_of_count(&materialized);
        }
        let aggregator = |_: &K, _: Option<&V>, count: Option<N>| Some(N::from(count.map_or(0, N::into) + 1));
        self.add_aggregate(naming::AGGREGATE, Arc::new(|| Some(N::from(0))), Arc::new(aggregator), materialized, serde)
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
        self.add_aggregate(naming::REDUCE, Arc::new(|| None), Arc::new(aggregator), materialized, value)
    }

    /// Folds the values of each key and window into an aggregate of another type that begins as `initial()`; null values change nothing.
    pub fn aggregate<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_nullable(
            move || Some(initial()),
            move |key, value, so_far| match value {
                Some(value) => so_far.map(|so_far| aggregator(key, value, so_far)),
                None => so_far,
            },
            materialized,
        )
    }

    /// As [`TimeWindowedKStream::aggregate`], called for null values too; the initial aggregate may be null, and the aggregator
    /// deletes by returning `None`.
    pub fn aggregate_nullable<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.add_aggregate(naming::AGGREGATE, Arc::new(initial), Arc::new(aggregator), materialized, None)
    }

    fn add_aggregate<A: Clone + 'static>(
        &self,
        prefix: &str,
        initial: Initial<A>,
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
        let place = partitioned.place.at(name.clone()).with_grace(self.windows.grace_ms());
        let Some(settled) = settled else { return KTable::new(place, None, None, table) };
        let (windows, emit) = (self.windows, self.emit);
        if let Some(problem) = settled.retention_problem(windows.retention_ms()) {
            graph.refuse(problem);
        }
        if emit == EmitStrategy::OnWindowClose && matches!(windows, FixedWindows::Unlimited(_)) {
            graph.refuse(format!("{name}: unlimited windows do not close, so nothing would come out on window close"));
        }
        let key = TimeWindowedSerde::new(Arc::clone(&settled.key), Some(windows.size_ms())).into_ref();
        let value = Arc::clone(&settled.value);
        let store = settled.windowed(&windows, emit);
        let plan = Arc::new(WindowPlan { store_name, windows, emit, initial, aggregator });
        let (parent, old_values) = (partitioned.place.node.clone(), table.old_values());
        graph.add(move |topology| {
            plan.add_processor(topology, &name, &parent, old_values.get())?;
            topology.add_shared_state_store(StoreBuilderRef::clone(&store), &[&name]).map(|_| ())
        });
        KTable::new(place, Some(key), Some(value), table)
    }
}
