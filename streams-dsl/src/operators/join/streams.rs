//! `join_stream`, `left_join_stream` and `outer_join_stream` of two streams: pairs of records of one key that are close in time.

use std::sync::Arc;

use streams_core::store::builder::StoreBuilderRef;

use super::self_join::SelfJoin;
use super::stream_stream::{Join, JoinPlan, Joiner, LeftSide, RightSide, Window};
use super::waiting;
use crate::kstream::KStream;
use crate::naming;
use crate::operators::merge::PassThrough;
use crate::stream_joined::StreamJoined;
use crate::windows::JoinWindows;

/// Of which sides records without partner come out.
#[derive(Clone, Copy)]
struct Unmatched {
    left: bool,
    right: bool,
}

/// Names of the nodes and stores of one join.
struct Names {
    this_window: String,
    other_window: String,
    this_join: String,
    other_join: String,
    merge: String,
    this_store: String,
    other_store: String,
    /// Of the store of records that wait, if there is one.
    waiting: Option<String>,
}

impl Names {
    fn new<K, L, R>(
        graph: &crate::graph::GraphRef,
        name: Option<&str>,
        joined: &StreamJoined<K, L, R>,
        unmatched: Unmatched,
    ) -> Self {
        let given = |suffix: &str| name.map(|name| format!("{name}{suffix}"));
        let (this_suffix, this_prefix) = match unmatched.right {
            true => ("-outer-this-join", naming::OUTER_THIS),
            false => ("-this-join", naming::JOIN_THIS),
        };
        let (other_suffix, other_prefix) = match unmatched.left {
            true => ("-outer-other-join", naming::OUTER_OTHER),
            false => ("-other-join", naming::JOIN_OTHER),
        };
        let shared_suffix = if unmatched.right { "-outer-shared-join" } else { "-left-shared-join" };
        let this_window = graph.name_or(given("-this-windowed"), naming::WINDOWED);
        let other_window = graph.name_or(given("-other-windowed"), naming::WINDOWED);
        // Stores are called after these even where the nodes have names of their own.
        let (this, other) = (graph.next_name(this_prefix), graph.next_name(other_prefix));
        let merge = graph.name_or(given("-merge"), naming::MERGE);
        let (this_store, other_store, shared) = match (&joined.store_names, &joined.store_name) {
            (Some((this, other)), _) => (this.clone(), other.clone(), format!("{this}{shared_suffix}-store")),
            (None, Some(base)) => (
                format!("{base}{this_suffix}-store"),
                format!("{base}{other_suffix}-store"),
                format!("{base}{shared_suffix}-store"),
            ),
            (None, None) => {
                let number = this.strip_prefix(this_prefix).unwrap_or(&this);
                (format!("{this}-store"), format!("{other}-store"), format!("{}{number}-store", naming::OUTER_SHARED))
            }
        };
        Self {
            this_window,
            other_window,
            this_join: given(this_suffix).unwrap_or(this),
            other_join: given(other_suffix).unwrap_or(other),
            merge,
            this_store,
            other_store,
            waiting: (unmatched.left || unmatched.right).then_some(shared),
        }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Each pair of a record here and a record of `other` that have the same key and lie within `windows` of each other. Each pair comes out
    /// once, when its second record arrives, with the later timestamp. Records with a null key or value do not take part.
    ///
    /// Both sides are repartitioned first where their keys may have changed.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, JoinWindows, Produced, StreamJoined, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let views = builder.stream("views", Consumed::<String, String>::default());
    /// let clicks = builder.stream("clicks", Consumed::<String, i64>::default());
    /// let windows = JoinWindows::of_difference_ms(60_000).before_ms(0).with_grace_ms(10_000);
    /// views
    ///     .join_stream(&clicks, |page, x| format!("{page} at {x}"), windows, StreamJoined::inherited())
    ///     .to("clicked", Produced::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn join_stream<V2: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(&V, &V2) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, R> {
        self.join_stream_nullable(other, move |_, left, right| Some(joiner(left, right)), windows, joined)
    }

    /// As [`KStream::join_stream`], with a look at the key; the result's value may be null.
    pub fn join_stream_nullable<V2: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(&K, &V, &V2) -> Option<R> + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, left: Option<&V>, right: Option<&V2>| joiner(key?, left?, right?);
        self.add_stream_join(other, Arc::new(joiner), windows, joined, Unmatched { left: false, right: false })
    }

    /// As [`KStream::join_stream`], and each record here without partner, joined with `None` when stream time has passed its window and the
    /// grace period. Only records that arrive move stream time. Records with a null key have no partner and come out at once.
    pub fn left_join_stream<V2: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(&V, Option<&V2>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, R> {
        self.left_join_stream_nullable(other, move |_, left, right| Some(joiner(left, right)), windows, joined)
    }

    /// As [`KStream::left_join_stream`], with a look at the key; the result's value may be null.
    pub fn left_join_stream_nullable<V2: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(Option<&K>, &V, Option<&V2>) -> Option<R> + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, left: Option<&V>, right: Option<&V2>| joiner(key, left?, right);
        self.add_stream_join(other, Arc::new(joiner), windows, joined, Unmatched { left: true, right: false })
    }

    /// As [`KStream::left_join_stream`], and so for the records of `other` too: the joiner is given at least one value.
    pub fn outer_join_stream<V2: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(Option<&V>, Option<&V2>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, R> {
        self.outer_join_stream_nullable(other, move |_, left, right| Some(joiner(left, right)), windows, joined)
    }

    /// As [`KStream::outer_join_stream`], with a look at the key; the result's value may be null.
    pub fn outer_join_stream_nullable<V2: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(Option<&K>, Option<&V>, Option<&V2>) -> Option<R> + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, R> {
        self.add_stream_join(other, Arc::new(joiner), windows, joined, Unmatched { left: true, right: true })
    }

    fn add_stream_join<V2: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KStream<K, V2>,
        joiner: Joiner<K, V, V2, R>,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
        unmatched: Unmatched,
    ) -> KStream<K, R> {
        let graph = &self.place.graph;
        if let Some(problem) = windows.problem() {
            graph.refuse(problem);
        }
        let remedy = "StreamJoined::with(key serde, left serde, right serde)";
        let name = joined.name.clone().or_else(|| self.place.next_name.clone());
        let base = |side: &str| name.as_ref().map(|name| format!("{name}-{side}"));
        let left = self.partitioned_for_join(base("left"), &joined.key, &joined.left, remedy);
        let right = other.partitioned_for_join(base("right"), &joined.key, &joined.right, remedy);
        if unmatched.left || unmatched.right {
            left.place.keep_null_keys();
            right.place.keep_null_keys();
        }
        let names = Names::new(graph, name.as_deref(), &joined, unmatched);
        let place = left.place.joined(&right.place, names.merge.clone());
        let key = joined.key.clone().or_else(|| left.key.clone()).or_else(|| right.key.clone());
        let what = |part: &str| format!("the {part} of join {}", names.merge);
        let settled = (
            graph.need(key.clone(), &what("key"), remedy),
            graph.need(joined.left.clone().or_else(|| left.value.clone()), &what("left value"), remedy),
            graph.need(joined.right.clone().or_else(|| right.value.clone()), &what("right value"), remedy),
        );
        let result = KStream::new(place.clone(), key, None, false);
        let (Some(key), Some(left_value), Some(right_value)) = settled else { return result };
        let this_store = joined.window_store(names.this_store.clone(), &windows, &key, &left_value);
        let other_store = joined.window_store(names.other_store.clone(), &windows, &key, &right_value);
        let waiting_store = names
            .waiting
            .clone()
            .map(|name| waiting::store(name, key, left_value, right_value, &joined.logging, joined.storage));
        let plan = Arc::new(JoinPlan { name: names.merge.clone(), windows, joiner, waiting: names.waiting.clone() });
        let (left_parent, right_parent) = (left.place.node.clone(), right.place.node.clone());
        let sources = place.sources.clone();
        let optimization = graph.optimization();
        graph.add(move |topology| {
            let store = names.this_store.clone();
            let window = move || Window::<K, V>::new(store.clone());
            topology.add_processor::<_, K, V, K, V>(&names.this_window, window, &[&left_parent])?;
            let right_place = topology.parent_for(&names.other_window, &right_parent);
            if optimization.get().single_store_self_join && topology.parents(&names.this_window) == [right_place] {
                let (shared, store) = (Arc::clone(&plan), names.this_store.clone());
                let join = move || SelfJoin::<K, V, V2, R>::new(&shared, &store);
                topology.add_processor::<_, K, V, K, R>(&names.merge, join, &[&names.this_window])?;
                let store = StoreBuilderRef::clone(&this_store);
                return topology.add_shared_state_store(store, &[&names.this_window, &names.merge]).map(|_| ());
            }
            let store = names.other_store.clone();
            let window = move || Window::<K, V2>::new(store.clone());
            topology.add_processor::<_, K, V2, K, V2>(&names.other_window, window, &[&right_parent])?;
            let (shared, other, keeps) = (Arc::clone(&plan), names.other_store.clone(), unmatched.left);
            let join = move || Join::<LeftSide, K, V, V2, R>::new(&shared, &other, keeps);
            topology.add_processor::<_, K, V, K, R>(&names.this_join, join, &[&names.this_window])?;
            let (shared, other, keeps) = (Arc::clone(&plan), names.this_store.clone(), unmatched.right);
            let join = move || Join::<RightSide, K, V, V2, R>::new(&shared, &other, keeps);
            topology.add_processor::<_, K, V2, K, R>(&names.other_join, join, &[&names.other_window])?;
            let joins: [&str; 2] = [&names.this_join, &names.other_join];
            topology.add_processor::<_, K, R, K, R>(&names.merge, || PassThrough, &joins)?;
            let store = StoreBuilderRef::clone(&this_store);
            topology.add_shared_state_store(store, &[&names.this_window, &names.other_join])?;
            let store = StoreBuilderRef::clone(&other_store);
            topology.add_shared_state_store(store, &[&names.other_window, &names.this_join])?;
            if let Some(store) = &waiting_store {
                topology.add_shared_state_store(StoreBuilderRef::clone(store), &joins)?;
            }
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            topology.copartition(&sources).map(|_| ())
        });
        result
    }
}
