//! `join`, `left_join` and `outer_join` of two tables: a table of the rows of both with the same key.
//!
//! Each side has a processor of its own, which looks up the other side at each of its updates; both send into one node, which keeps the
//! result if the user has named a store.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::processor::context::NodeContext;
use streams_core::{BoxError, Change, Processor, ProcessorContext, Record, ValueAndTimestamp};

use crate::ktable::{Getter, GetterAsOfSupplier, GetterSupplier, KTable, Table};
use crate::materialized::Materialized;
use crate::naming;
use crate::operators::results::{Kept, Results, add_store, connect};
use crate::operators::table_source::{store_getter, versioned_getter};

/// Value of the result of a left and a right value, of which at least one is there.
type Joiner<V, T, R> = Arc<dyn Fn(Option<&V>, Option<&T>) -> Option<R> + Send + Sync>;

/// Which sides a result cannot be without.
#[derive(Clone, Copy)]
struct Required {
    left: bool,
    right: bool,
}

/// One side of the join: `V` are its own values, `T` those of the other side.
struct JoinSide<K, V, T, R> {
    supplier: GetterSupplier<K, T>,
    joiner: Joiner<V, T, R>,
    own_required: bool,
    other_required: bool,
    send_old_values: bool,
    /// Whether the table of this side is versioned.
    is_versioned: bool,
    getter: Option<Getter<K, T>>,
}

impl<K, V, T, R> Processor<K, Change<V>, K, Change<R>> for JoinSide<K, V, T, R>
where
    K: Clone + 'static,
    V: 'static,
    T: 'static,
    R: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<R>>) -> Result<(), BoxError> {
        self.getter = Some((self.supplier)(ctx)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        ctx: &mut ProcessorContext<K, Change<R>>,
    ) -> Result<(), BoxError> {
        let Record { key, value, timestamp, headers } = record;
        let (Some(key), Some(getter)) = (key, &self.getter) else {
            ctx.count_dropped();
            return Ok(());
        };
        let Some(Change { new, old, is_latest }) = value else { return Ok(()) };
        if self.is_versioned && !is_latest {
            ctx.count_dropped();
            return Ok(());
        }
        let other = getter(&key)?;
        if other.is_none() && (self.other_required || (new.is_none() && old.is_none())) {
            return Ok(());
        }
        let timestamp = other.as_ref().map_or(timestamp, |other| other.timestamp.max(timestamp));
        let other = other.map(|other| other.value);
        let join = |own: Option<&V>| match (own, &other) {
            (None, _) if self.own_required => None,
            (None, None) => None,
            (own, other) => (self.joiner)(own, other.as_ref()),
        };
        let old = if self.send_old_values { join(old.as_ref()) } else { None };
        let change = Change { new: join(new.as_ref()), old, is_latest };
        ctx.forward(Record { key: Some(key), value: Some(change), timestamp, headers })
    }
}

/// Where the results of both sides flow together.
struct Merge<K, R> {
    results: Results<K, R>,
}

impl<K, R> Processor<K, Change<R>, K, Change<R>> for Merge<K, R>
where
    K: Clone + 'static,
    R: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, Change<R>>) -> Result<(), BoxError> {
        self.results.init(ctx)
    }

    fn process(
        &mut self,
        record: Record<K, Change<R>>,
        ctx: &mut ProcessorContext<K, Change<R>>,
    ) -> Result<(), BoxError> {
        self.results.send(record, ctx)
    }
}

/// The joined table; without a store it is looked up by looking up both sides.
struct JoinedTable<K, V, T, R> {
    left: Rc<dyn Table<K, V>>,
    right: Rc<dyn Table<K, T>>,
    joiner: Joiner<V, T, R>,
    required: Required,
    store: Option<String>,
    /// Whether that store is versioned.
    is_versioned: bool,
    old_values: Rc<Cell<bool>>,
}

impl<K, V, T, R> Table<K, R> for JoinedTable<K, V, T, R>
where
    K: 'static,
    V: 'static,
    T: 'static,
    R: Clone + 'static,
{
    fn keep_store(&self) {
        // Both sides keep one already: they look each other up.
    }

    fn send_old_values(&self) -> bool {
        self.left.send_old_values();
        self.right.send_old_values();
        self.old_values.set(true);
        true
    }

    fn own_store(&self) -> Option<String> {
        self.store.clone()
    }

    fn lookup_stores(&self) -> Vec<String> {
        match &self.store {
            Some(store) => vec![store.clone()],
            None => {
                let mut stores = self.left.lookup_stores();
                stores.extend(self.right.lookup_stores());
                stores
            }
        }
    }

    fn getter_as_of(&self) -> Option<GetterAsOfSupplier<K, R>> {
        self.store.as_ref().filter(|_| self.is_versioned).map(|store| versioned_getter(store))
    }

    fn getter(&self) -> GetterSupplier<K, R> {
        if let Some(store) = &self.store {
            return store_getter(store);
        }
        let (left, right) = (self.left.getter(), self.right.getter());
        let (joiner, required) = (Arc::clone(&self.joiner), self.required);
        Arc::new(move |ctx: &NodeContext| {
            let (left, right, joiner) = (left(ctx)?, right(ctx)?, Arc::clone(&joiner));
            let getter: Getter<K, R> = Box::new(move |key| {
                let (left, right) = (left(key)?, right(key)?);
                let timestamp = match (&left, &right) {
                    (None, _) if required.left => return Ok(None),
                    (_, None) if required.right => return Ok(None),
                    (None, None) => return Ok(None),
                    (Some(left), Some(right)) => left.timestamp.max(right.timestamp),
                    (Some(one), None) => one.timestamp,
                    (None, Some(one)) => one.timestamp,
                };
                let value = joiner(left.as_ref().map(|left| &left.value), right.as_ref().map(|right| &right.value));
                Ok(value.map(|value| ValueAndTimestamp { value, timestamp }))
            });
            Ok(getter)
        })
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KTable<K, V> {
    /// The table of the keys that both tables have. An update of either side updates the result; a deletion of either deletes it.
    ///
    /// ```
    /// # use streams_dsl::{Consumed, Materialized, Produced, StreamsBuilder};
    /// # let builder = StreamsBuilder::new();
    /// let names = builder.table("names", Consumed::<String, String>::default(), Materialized::unnamed());
    /// let ages = builder.table("ages", Consumed::<String, i64>::default(), Materialized::unnamed());
    /// names
    ///     .join(&ages, |name, age| format!("{name} ({age})"), Materialized::unnamed())
    ///     .to_stream()
    ///     .to("people", Produced::default());
    /// # builder.build().unwrap();
    /// ```
    pub fn join<T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<K, T>,
        joiner: impl Fn(&V, &T) -> R + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.join_nullable(other, move |left, right| Some(joiner(left, right)), materialized)
    }

    /// As [`KTable::join`]; a key for which `None` is returned is deleted.
    pub fn join_nullable<T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<K, T>,
        joiner: impl Fn(&V, &T) -> Option<R> + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let joiner = move |left: Option<&V>, right: Option<&T>| joiner(left?, right?);
        self.add_join(other, Arc::new(joiner), Required { left: true, right: true }, materialized)
    }

    /// The table of the keys of this table, with the other's value or `None`.
    pub fn left_join<T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<K, T>,
        joiner: impl Fn(&V, Option<&T>) -> R + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.left_join_nullable(other, move |left, right| Some(joiner(left, right)), materialized)
    }

    /// As [`KTable::left_join`]; a key for which `None` is returned is deleted.
    pub fn left_join_nullable<T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<K, T>,
        joiner: impl Fn(&V, Option<&T>) -> Option<R> + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let joiner = move |left: Option<&V>, right: Option<&T>| joiner(left?, right);
        self.require_old_values();
        self.add_join(other, Arc::new(joiner), Required { left: true, right: false }, materialized)
    }

    /// The table of the keys that either table has. The joiner is called with at least one value.
    pub fn outer_join<T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<K, T>,
        joiner: impl Fn(Option<&V>, Option<&T>) -> R + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.outer_join_nullable(other, move |left, right| Some(joiner(left, right)), materialized)
    }

    /// As [`KTable::outer_join`]; a key for which `None` is returned is deleted.
    pub fn outer_join_nullable<T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<K, T>,
        joiner: impl Fn(Option<&V>, Option<&T>) -> Option<R> + Send + Sync + 'static,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.require_old_values();
        other.require_old_values();
        self.add_join(other, Arc::new(joiner), Required { left: false, right: false }, materialized)
    }

    fn add_join<T: Clone + 'static, R: Clone + 'static>(
        &self,
        other: &KTable<K, T>,
        joiner: Joiner<V, T, R>,
        required: Required,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let graph = &self.place.graph;
        let key = self.key.clone().or_else(|| other.key.clone());
        let kept = Kept::always(graph, materialized, naming::TABLE_MERGE, key, None);
        let merge = self.place.take_name(naming::TABLE_MERGE);
        let side_name = |suffix: &str, prefix: &str| {
            graph.name_or(self.place.next_name.as_ref().map(|name| format!("{name}-join-{suffix}")), prefix)
        };
        let this_name = side_name("this", naming::TABLE_JOIN_THIS);
        let other_name = side_name("other", naming::TABLE_JOIN_OTHER);
        self.table.keep_store();
        other.table.keep_store();
        let (left_is_versioned, right_is_versioned) = (self.is_versioned(), other.is_versioned());
        let (store_name, is_versioned) = (kept.store_name(), kept.is_versioned);
        let old_values = Rc::new(Cell::new(false));
        let table = Rc::new(JoinedTable {
            left: Rc::clone(&self.table),
            right: Rc::clone(&other.table),
            joiner: Arc::clone(&joiner),
            required,
            store: store_name.clone(),
            is_versioned,
            old_values: Rc::clone(&old_values),
        });
        let place = self.place.joined(&other.place, merge.clone());
        let sources = place.sources.clone();
        let (this_parent, other_parent) = (self.place.node.clone(), other.place.node.clone());
        let (left, right) = (self.table.getter(), other.table.getter());
        let (left_stores, right_stores) = (self.table.lookup_stores(), other.table.lookup_stores());
        let store = kept.store;
        graph.add(move |topology| {
            let send_old_values = old_values.get();
            let (supplier, this_joiner) = (Arc::clone(&right), Arc::clone(&joiner));
            let this_side = move || JoinSide {
                supplier: Arc::clone(&supplier),
                joiner: Arc::clone(&this_joiner),
                own_required: required.left,
                other_required: required.right,
                send_old_values,
                is_versioned: left_is_versioned,
                getter: None,
            };
            topology.add_processor::<_, K, Change<V>, K, Change<R>>(&this_name, this_side, &[&this_parent])?;
            let (supplier, swapped) = (Arc::clone(&left), Arc::clone(&joiner));
            let swapped: Joiner<T, V, R> = Arc::new(move |right, left| swapped(left, right));
            let other_side = move || JoinSide {
                supplier: Arc::clone(&supplier),
                joiner: Arc::clone(&swapped),
                own_required: required.right,
                other_required: required.left,
                send_old_values,
                is_versioned: right_is_versioned,
                getter: None,
            };
            topology.add_processor::<_, K, Change<T>, K, Change<R>>(&other_name, other_side, &[&other_parent])?;
            let store_name = store_name.clone();
            let merged = move || Merge { results: Results::<K, R>::new(store_name.clone(), send_old_values) };
            topology.add_processor::<_, K, Change<R>, K, Change<R>>(&merge, merged, &[&this_name, &other_name])?;
            connect(topology, &this_name, &right_stores)?;
            connect(topology, &other_name, &left_stores)?;
            add_store(topology, store.as_ref(), &merge)?;
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            topology.copartition(&sources).map(|_| ())
        });
        KTable::new(place, kept.key, kept.value, table)
    }
}
