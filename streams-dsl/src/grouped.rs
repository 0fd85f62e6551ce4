//! Streams grouped by key, about to be aggregated: [`KGroupedStream`] and [`TimeWindowedKStream`].

use std::cell::RefCell;
use std::rc::Rc;

use crate::graph::Place;
use crate::kstream::KStream;
use crate::options::Grouped;
use crate::windows::TimeWindows;

/// A stream whose records of one key are to be aggregated.
pub struct KGroupedStream<K, V> {
    /// The stream; rekeyed if a repartition must come first.
    pub(crate) stream: KStream<K, V>,
    /// Name of the repartition topic, if the user gave one.
    pub(crate) repartition_name: Option<String>,
    /// The stream behind the repartition topic, once one is made under a name that the user gave: all aggregations read it.
    pub(crate) repartitioned: Rc<RefCell<Option<KStream<K, V>>>>,
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            stream: self.stream.clone(),
            repartition_name: self.repartition_name.clone(),
            repartitioned: Rc::clone(&self.repartitioned),
        }
    }
}

impl<K, V> KGroupedStream<K, V> {
    pub(crate) fn new(stream: &KStream<K, V>, grouped: Grouped<K, V>) -> Self {
        let stream = KStream::new(
            Place { next_name: None, ..stream.place.clone() },
            grouped.key.or_else(|| stream.key.clone()),
            grouped.value.or_else(|| stream.value.clone()),
            stream.rekeyed,
        );
        Self { stream, repartition_name: grouped.name, repartitioned: Rc::default() }
    }

    /// Gives the aggregation's node a name, in place of a generated one.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { stream: self.stream.named(name), ..self.clone() }
    }

    /// Aggregates per window of time.
    pub fn windowed_by(&self, windows: TimeWindows) -> TimeWindowedKStream<K, V> {
        if let Some(problem) = windows.problem() {
            self.stream.place.graph.fail(problem);
        }
        TimeWindowedKStream { grouped: self.clone(), windows }
    }
}

/// A stream whose records of one key and window are to be aggregated.
pub struct TimeWindowedKStream<K, V> {
    pub(crate) grouped: KGroupedStream<K, V>,
    pub(crate) windows: TimeWindows,
}

impl<K, V> Clone for TimeWindowedKStream<K, V> {
    fn clone(&self) -> Self {
        Self { grouped: self.grouped.clone(), windows: self.windows }
    }
}

impl<K, V> TimeWindowedKStream<K, V> {
    /// Gives the aggregation's node a name, in place of a generated one.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { grouped: self.grouped.named(name), windows: self.windows }
    }
}
