//! `filter` and `filter_not` of a stream: records that match, or do not, unchanged.

use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;

struct Filter<F> {
    predicate: Arc<F>,
    keep: bool,
}

impl<K, V, F> Processor<K, V, K, V> for Filter<F>
where
    K: Clone + 'static,
    V: Clone + 'static,
    F: Fn(Option<&K>, Option<&V>) -> bool + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        if (self.predicate)(record.key.as_ref(), record.value.as_ref()) == self.keep {
            ctx.forward(record)
        } else {
            Ok(())
        }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Keeps the records whose value is not null and matches.
    pub fn filter(&self, predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter_nullable(move |key, value| value.is_some_and(|value| predicate(key, value)))
    }

    /// Keeps the records that do not match; a null value does not match.
    pub fn filter_not(&self, predicate: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter_not_nullable(move |key, value| value.is_some_and(|value| predicate(key, value)))
    }

    /// Keeps the records that match, null values included.
    pub fn filter_nullable(&self, predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static) -> Self {
        self.add_filter(predicate, true)
    }

    /// Keeps the records that do not match, null values included.
    pub fn filter_not_nullable(
        &self,
        predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.add_filter(predicate, false)
    }

    fn add_filter(
        &self,
        predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static,
        keep: bool,
    ) -> Self {
        let name = self.place.take_name(naming::FILTER);
        let (node, parent, predicate) = (name.clone(), self.place.node.clone(), Arc::new(predicate));
        self.place.graph.add(move |topology| {
            let predicate = Arc::clone(&predicate);
            topology
                .add_processor(&node, move || Filter { predicate: Arc::clone(&predicate), keep }, &[&parent])
                .map(|_| ())
        });
        self.same(name)
    }
}
