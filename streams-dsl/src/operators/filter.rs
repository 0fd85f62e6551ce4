//! `filter` and `filter_not` of a stream: records that match, or do not, unchanged.

use crate::kstream::KStream;

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
        self.try_filter(move |key, value| Ok(predicate(key, value)))
    }

    /// Keeps the records that do not match, null values included.
    pub fn filter_not_nullable(
        &self,
        predicate: impl Fn(Option<&K>, Option<&V>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.try_filter(move |key, value| Ok(!predicate(key, value)))
    }
}
