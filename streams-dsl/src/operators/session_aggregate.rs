//! `count`, `reduce` and `aggregate` of a grouped stream per session.
//!
//! A record and all sessions of its key within the gap become one session: the old ones are deleted, which shows downstream as a deletion each,
//! and the new one is put. As with time windows, the time by which records are late is read back from the store at a restart.

use std::rc::Rc;
use std::sync::Arc;

use streams_core::serde::{I64Serde, SessionWindowedSerde};
use streams_core::store::builder::StoreBuilderRef;
use streams_core::windowed::{Window, Windowed};
use streams_core::{
    BoxError, Change, Headers, Processor, ProcessorContext, Record, Serde, SerdeRef, SessionStore, StreamsError,
    Timestamp, Topology,
};

use crate::grouped::SessionWindowedKStream;
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::emit_on_close::EmitOnClose;
use crate::operators::store::SettledStore;
use crate::operators::table_source::WindowedTable;
use crate::windows::{EmitStrategy, SessionWindows};

/// New aggregate from key, value (null values take part) and the aggregate so far.
pub(super) type SessionAggregator<K, V, A> = Arc<dyn Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync>;

/// The aggregate of two sessions that have become one, of the key, what all before have come to, and the next.
pub(super) type Merger<K, A> = Arc<dyn Fn(&K, Option<A>, A) -> Option<A> + Send + Sync>;

/// The three functions of an aggregation.
pub(super) struct Functions<K, V, A> {
    pub(super) initial: Arc<dyn Fn() -> Option<A> + Send + Sync>,
    pub(super) aggregator: SessionAggregator<K, V, A>,
    pub(super) merger: Merger<K, A>,
}

/// What the processor is made from.
pub(super) struct SessionPlan<K, V, A> {
    pub(super) store_name: String,
    pub(super) windows: SessionWindows,
    pub(super) emit: EmitStrategy,
    pub(super) functions: Functions<K, V, A>,
}

impl<K: Clone + 'static, V: 'static, A: Clone + 'static> SessionPlan<K, V, A> {
    /// Adds the aggregating node `name` below `parent`.
    pub(super) fn add_processor(
        self: &Arc<Self>,
        topology: &mut Topology,
        name: &str,
        parent: &str,
        send_old_values: bool,
    ) -> Result<(), StreamsError> {
        let plan = Arc::clone(self);
        let supplier = move || SessionAggregate {
            plan: Arc::clone(&plan),
            send_old_values,
            store: None,
            forwards_on_flush: false,
            emit: None,
            stream_time: -1,
        };
        topology.add_processor::<_, K, V, Windowed<K>, Change<A>>(name, supplier, &[parent]).map(|_| ())
    }
}

struct SessionAggregate<K, V, A> {
    plan: Arc<SessionPlan<K, V, A>>,
    send_old_values: bool,
    store: Option<Rc<SessionStore<K, A>>>,
    forwards_on_flush: bool,
    /// For results that come out on close only.
    emit: Option<EmitOnClose>,
    /// Greatest timestamp seen by this operator.
    stream_time: Timestamp,
}

impl<K: Clone + 'static, V: 'static, A: Clone + 'static> SessionAggregate<K, V, A> {
    /// Forwards an update; those of sessions carry the end of the session and no headers.
    fn forward(
        &self,
        session: Windowed<K>,
        new: Option<A>,
        old: Option<A>,
        ctx: &ProcessorContext<Windowed<K>, Change<A>>,
    ) -> Result<(), BoxError> {
        if self.forwards_on_flush || self.emit.is_some() {
            return Ok(());
        }
        let timestamp = session.window.end;
        ctx.forward(Record::new(session, Change::new(new, old.filter(|_| self.send_old_values)), timestamp))
    }

    /// Sessions that end before this are closed.
    fn close_time(&self) -> Timestamp {
        self.stream_time.saturating_sub(self.plan.windows.retention_ms())
    }

    fn update(
        &self,
        record: &Record<K, V>,
        key: &K,
        store: &SessionStore<K, A>,
        ctx: &ProcessorContext<Windowed<K>, Change<A>>,
    ) -> Result<(), BoxError> {
        let (functions, gap) = (&self.plan.functions, self.plan.windows.gap_ms());
        let timestamp = record.timestamp;
        let alone = Window::new(timestamp, timestamp);
        let (mut window, mut aggregate, mut merged) = (alone, (functions.initial)(), Vec::new());
        for entry in store.find_sessions(key, timestamp.saturating_sub(gap), timestamp.saturating_add(gap))? {
            let (session, value) = entry?;
            aggregate = (functions.merger)(key, aggregate, value.clone());
            window = Window::new(window.start.min(session.window.start), window.end.max(session.window.end));
            merged.push((session, value));
        }
        if window.end < self.close_time() {
            ctx.count_dropped();
            return Ok(());
        }
        if window != alone {
            for (session, value) in merged {
                store.remove(&session)?;
                self.forward(session, None, Some(value), ctx)?;
            }
        }
        let aggregate = (functions.aggregator)(key, record.value.as_ref(), aggregate);
        let session = Windowed::new(key.clone(), window);
        store.put(&session, aggregate.clone())?;
        self.forward(session, aggregate, None, ctx)
    }

    /// Forwards the sessions that have closed since the last time.
    fn emit_closed(
        &mut self,
        headers: &Headers,
        ctx: &ProcessorContext<Windowed<K>, Change<A>>,
    ) -> Result<(), BoxError> {
        let close_time = self.close_time();
        let (Some(emit), Some(store)) = (&mut self.emit, &self.store) else { return Ok(()) };
        let Some(last) = emit.due(close_time) else { return Ok(()) };
        let (from, to) = (last.max(0), close_time.saturating_sub(1));
        if to < from {
            return Ok(());
        }
        for entry in store.find_sessions_by_end(from, to)? {
            let (session, value) = entry?;
            let timestamp = session.window.end;
            let change = Change::new(Some(value), None);
            ctx.forward(Record::new(session, change, timestamp).with_headers(headers.clone()))?;
        }
        emit.done(ctx, close_time);
        Ok(())
    }
}

impl<K, V, A> Processor<K, V, Windowed<K>, Change<A>> for SessionAggregate<K, V, A>
where
    K: Clone + 'static,
    V: 'static,
    A: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<Windowed<K>, Change<A>>) -> Result<(), BoxError> {
        let store = ctx.session_store::<K, A>(&self.plan.store_name)?;
        match self.plan.emit {
            EmitStrategy::OnWindowUpdate => {
                self.forwards_on_flush = ctx.forward_sessions_on_flush(&store, self.send_old_values);
            }
            EmitStrategy::OnWindowClose => self.emit = Some(EmitOnClose::new(ctx, &self.plan.store_name)),
        }
        self.stream_time = store.stream_time()?;
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
        self.update(&record, key, store, ctx)?;
        self.emit_closed(&record.headers, ctx)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> SessionWindowedKStream<K, V> {
    /// How many records each key has had in each session. Records with a null key do not count; those with a null value do.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        self.add_count(materialized, Some(I64Serde.into_ref()))
    }

    /// As [`SessionWindowedKStream::count`], under another type for numbers; see
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
        self.grouped.stream.place.graph.name_of_count(&materialized);
        let sum = |a: Option<N>, b: i64| Some(N::from(a.map_or(0, N::into) + b));
        let functions = Functions {
            initial: Arc::new(|| Some(N::from(0))),
            aggregator: Arc::new(move |_: &K, _: Option<&V>, count| sum(count, 1)),
            merger: Arc::new(move |_: &K, one, other: N| sum(one, other.into())),
        };
        self.add_aggregate(naming::AGGREGATE, functions, materialized, serde)
    }

    /// Combines the values of each key and session; the first value stands for itself, null values change nothing. Sessions that become one
    /// are combined in the same way.
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

    /// As [`SessionWindowedKStream::reduce`], called for null values too; a session whose reducer returns `None` is deleted.
    pub fn reduce_nullable(
        &self,
        reducer: impl Fn(V, Option<&V>) -> Option<V> + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        let reducer = Arc::new(reducer);
        let merge = Arc::clone(&reducer);
        let functions = Functions {
            initial: Arc::new(|| None),
            aggregator: Arc::new(move |_: &K, value: Option<&V>, so_far| match so_far {
                Some(so_far) => reducer(so_far, value),
                None => value.cloned(),
            }),
            merger: Arc::new(move |_: &K, one, other: V| match one {
                Some(one) => merge(one, Some(&other)),
                None => Some(other),
            }),
        };
        self.add_aggregate(naming::REDUCE, functions, materialized, self.grouped.stream.value.clone())
    }

    /// Folds the values of each key and session into an aggregate of another type that begins as `initial()`; null values change nothing.
    /// When a record joins sessions, `merger` folds their aggregates, in the order of the sessions, before the record is added.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Grouped, Materialized, SessionWindows, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let clicks = builder.stream("clicks", Consumed::<String, i64>::default());
    /// clicks
    ///     .group_by_key(Grouped::inherited())
    ///     .windowed_by(SessionWindows::of_gap_ms(300_000))
    ///     .aggregate(|| 0, |_, click, sum| sum + click, |_, one, other| one + other, Materialized::<String, i64>::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn aggregate<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let initial = Arc::new(initial);
        let (before, between) = (Arc::clone(&initial), Arc::clone(&initial));
        self.aggregate_nullable(
            move || Some(initial()),
            move |key, value, so_far| {
                let so_far = so_far.unwrap_or_else(&*before);
                Some(match value {
                    Some(value) => aggregator(key, value, so_far),
                    None => so_far,
                })
            },
            move |key, one, other| Some(merger(key, one.unwrap_or_else(&*between), other)),
            materialized,
        )
    }

    /// As [`SessionWindowedKStream::aggregate`], called for null values too; an aggregator that returns `None` deletes the session. `initial`
    /// and `merger` may return `None`, which is then what the next call is given.
    pub fn aggregate_nullable<A: Clone + 'static>(
        &self,
        initial: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync + 'static,
        merger: impl Fn(&K, Option<A>, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let functions =
            Functions { initial: Arc::new(initial), aggregator: Arc::new(aggregator), merger: Arc::new(merger) };
        self.add_aggregate(naming::AGGREGATE, functions, materialized, None)
    }

    fn add_aggregate<A: Clone + 'static>(
        &self,
        prefix: &str,
        functions: Functions<K, V, A>,
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
        let table = WindowedTable::of_sessions(store_name.clone(), is_named);
        let grace = self.windows.retention_ms();
        let place = partitioned.place.at(name.clone()).with_grace(grace);
        let Some(settled) = settled else { return KTable::new(place, None, None, table) };
        let (windows, emit) = (self.windows, self.emit);
        if let Some(problem) = settled.retention_problem(windows.retention_ms()) {
            graph.refuse(problem);
        }
        let key = SessionWindowedSerde::new(Arc::clone(&settled.key)).into_ref();
        let value = Arc::clone(&settled.value);
        let store = settled.sessions(&windows, emit);
        let plan = Arc::new(SessionPlan { store_name, windows, emit, functions });
        let (parent, old_values) = (partitioned.place.node.clone(), table.old_values());
        graph.add(move |topology| {
            plan.add_processor(topology, &name, &parent, old_values.get())?;
            topology.add_shared_state_store(StoreBuilderRef::clone(&store), &[&name]).map(|_| ())
        });
        KTable::new(place, Some(key), Some(value), table)
    }
}
