//! `join_global` and `left_join_global` of a stream: each record with a global table's value of a key found in the record.

use std::sync::Arc;

use streams_core::store::GlobalKeyValueStore;
use streams_core::{BoxError, Processor, ProcessorContext, Record, ValueAndTimestamp};

use crate::global_table::GlobalKTable;
use crate::kstream::KStream;
use crate::naming;

/// The table's key of key and value.
type Selector<K, V, T> = Arc<dyn Fn(Option<&K>, Option<&V>) -> Option<T> + Send + Sync>;
/// Value of the result of key, stream's value and table's value.
type Joiner<K, V, T, R> = Arc<dyn Fn(Option<&K>, &V, Option<&T>) -> Option<R> + Send + Sync>;

struct StreamGlobalJoin<K, V, GK, GV, R> {
    store_name: String,
    selector: Selector<K, V, GK>,
    joiner: Joiner<K, V, GV, R>,
    is_left: bool,
    store: Option<GlobalKeyValueStore<GK, ValueAndTimestamp<GV>>>,
}

impl<K, V, GK, GV, R> Processor<K, V, K, R> for StreamGlobalJoin<K, V, GK, GV, R>
where
    K: Clone + 'static,
    V: 'static,
    GK: 'static,
    GV: 'static,
    R: Clone + 'static,
{
    fn init(&mut self, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        self.store = Some(ctx.global_store(&self.store_name)?);
        Ok(())
    }

    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, R>) -> Result<(), BoxError> {
        let key = (self.selector)(record.key.as_ref(), record.value.as_ref());
        let Some(value) = record.value.as_ref().filter(|_| key.is_some() || self.is_left) else {
            ctx.count_dropped();
            return Ok(());
        };
        let found = match (&key, &self.store) {
            (Some(key), Some(store)) => store.get(key)?,
            _ => None,
        };
        if found.is_none() && !self.is_left {
            return Ok(());
        }
        let joined = (self.joiner)(record.key.as_ref(), value, found.as_ref().map(|found| &found.value));
        ctx.forward(record.with_value(joined))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Each record for whose `key` the global table has a value, joined with that. The record keeps its own key; the stream's side alone
    /// triggers results.
    pub fn join_global<GK: 'static, GV: 'static, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key: impl Fn(Option<&K>, &V) -> GK + Send + Sync + 'static,
        joiner: impl Fn(&V, &GV) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let key = move |own: Option<&K>, value: Option<&V>| value.map(|value| key(own, value));
        self.join_global_nullable(table, key, move |_, value, found| Some(joiner(value, found)))
    }

    /// As [`KStream::join_global`], with a look at the key; `key` is called for null values too, and a record for which it finds none has no
    /// result. The result's value may be null.
    pub fn join_global_nullable<GK: 'static, GV: 'static, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key: impl Fn(Option<&K>, Option<&V>) -> Option<GK> + Send + Sync + 'static,
        joiner: impl Fn(Option<&K>, &V, &GV) -> Option<R> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let joiner = move |key: Option<&K>, value: &V, found: Option<&GV>| joiner(key, value, found?);
        self.add_global_join(table, Arc::new(key), Arc::new(joiner), false)
    }

    /// Each record, joined with the global table's value of its `key` or with `None`.
    pub fn left_join_global<GK: 'static, GV: 'static, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key: impl Fn(Option<&K>, &V) -> GK + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&GV>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        let key = move |own: Option<&K>, value: Option<&V>| value.map(|value| key(own, value));
        self.left_join_global_nullable(table, key, move |_, value, found| Some(joiner(value, found)))
    }

    /// As [`KStream::left_join_global`], with a look at the key; a record for which `key` finds none is joined with `None`. The result's
    /// value may be null.
    pub fn left_join_global_nullable<GK: 'static, GV: 'static, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<GK, GV>,
        key: impl Fn(Option<&K>, Option<&V>) -> Option<GK> + Send + Sync + 'static,
        joiner: impl Fn(Option<&K>, &V, Option<&GV>) -> Option<R> + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.add_global_join(table, Arc::new(key), Arc::new(joiner), true)
    }

    fn add_global_join<GK: 'static, GV: 'static, R: Clone + 'static>(
        &self,
        table: &GlobalKTable<GK, GV>,
        selector: Selector<K, V, GK>,
        joiner: Joiner<K, V, GV, R>,
        is_left: bool,
    ) -> KStream<K, R> {
        if is_left {
            self.place.keep_null_keys();
        }
        // Kafka Streams calls both kinds so.
        let name = self.place.take_name(naming::LEFT_JOIN);
        let (node, parent, store_name) = (name.clone(), self.place.node.clone(), table.store.clone());
        self.place.graph.add(move |topology| {
            let (store_name, selector, joiner) = (store_name.clone(), Arc::clone(&selector), Arc::clone(&joiner));
            let supplier = move || StreamGlobalJoin {
                store_name: store_name.clone(),
                selector: Arc::clone(&selector),
                joiner: Arc::clone(&joiner),
                is_left,
                store: None,
            };
            topology.add_processor::<_, K, V, K, R>(&node, supplier, &[&parent]).map(|_| ())
        });
        KStream::new(self.place.at(name), self.key.clone(), None, self.rekeyed)
    }
}
