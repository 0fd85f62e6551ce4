//! `select_key` of a stream: another key, the same value.

use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;

struct SelectKey<F>(Arc<F>);

impl<K, V, K2, F> Processor<K, V, K2, V> for SelectKey<F>
where
    K: 'static,
    V: Clone + 'static,
    K2: Clone + 'static,
    F: Fn(Option<&K>, Option<&V>) -> Option<K2> + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K2, V>) -> Result<(), BoxError> {
        let key = (self.0)(record.key.as_ref(), record.value.as_ref());
        ctx.forward(record.with_key(key))
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Gives each record the key that `selector` finds in it; one with a null value gets a null key. What follows and works by key first
    /// repartitions.
    pub fn select_key<K2: Clone + 'static>(
        &self,
        selector: impl Fn(Option<&K>, &V) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        self.select_key_nullable(move |key, value| value.map(|value| selector(key, value)))
    }

    /// As [`KStream::select_key`], called for null values too; may return a null key.
    pub fn select_key_nullable<K2: Clone + 'static>(
        &self,
        selector: impl Fn(Option<&K>, Option<&V>) -> Option<K2> + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let name = self.place.take_name(naming::KEY_SELECT);
        let (node, parent, selector) = (name.clone(), self.place.node.clone(), Arc::new(selector));
        self.place.graph.add(move |topology| {
            let selector = Arc::clone(&selector);
            topology
                .add_processor::<_, K, V, K2, V>(&node, move || SelectKey(Arc::clone(&selector)), &[&parent])
                .map(|_| ())
        });
        self.rekeyed(name, self.value.clone())
    }
}
