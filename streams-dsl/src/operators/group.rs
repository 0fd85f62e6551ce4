//! `group_by_key` and `group_by` of a stream: what to aggregate by.

use crate::grouped::KGroupedStream;
use crate::kstream::KStream;
use crate::options::Grouped;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Groups by the key as it is; repartitions first only if an operator upstream may have changed it.
    pub fn group_by_key(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        KGroupedStream::new(self, grouped)
    }

    /// Groups by the key that `selector` finds in each record, after a repartition. Records with a null value or key do not take part.
    pub fn group_by<K2: Clone + 'static>(
        &self,
        selector: impl Fn(Option<&K>, &V) -> K2 + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V> {
        self.group_by_nullable(move |key, value| value.map(|value| selector(key, value)), grouped)
    }

    /// As [`KStream::group_by`], called for null values too; records given a null key do not take part.
    pub fn group_by_nullable<K2: Clone + 'static>(
        &self,
        selector: impl Fn(Option<&K>, Option<&V>) -> Option<K2> + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V> {
        let named = match &grouped.name {
            Some(name) => self.named(name),
            None => self.clone(),
        };
        KGroupedStream::new(&named.select_key_nullable(selector), grouped)
    }
}
