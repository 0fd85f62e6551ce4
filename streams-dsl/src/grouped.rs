//! Streams grouped by key, about to be aggregated: [`KGroupedStream`], [`TimeWindowedKStream`] and [`SessionWindowedKStream`].

use std::cell::RefCell;
use std::rc::Rc;

use crate::graph::Place;
use crate::kstream::KStream;
use crate::options::Grouped;
use crate::windows::{EmitStrategy, FixedWindows, SessionWindows, Windows};

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

    /// Aggregates per window of time: [`TimeWindows`](crate::TimeWindows), [`SlidingWindows`](crate::SlidingWindows), [`SessionWindows`] or
    /// [`UnlimitedWindows`](crate::UnlimitedWindows).
    pub fn windowed_by<W: Windows<K, V>>(&self, windows: W) -> W::Windowed {
        windows.of(self)
    }
}

macro_rules! windowed_stream {
    ($(#[$doc:meta])* $name:ident, $windows:ident) => {
        $(#[$doc])*
        pub struct $name<K, V> {
            pub(crate) grouped: KGroupedStream<K, V>,
            pub(crate) windows: $windows,
            pub(crate) emit: EmitStrategy,
        }

        impl<K, V> Clone for $name<K, V> {
            fn clone(&self) -> Self {
                Self { grouped: self.grouped.clone(), windows: self.windows, emit: self.emit }
            }
        }

        impl<K, V> $name<K, V> {
            pub(crate) fn new(grouped: &KGroupedStream<K, V>, windows: $windows) -> Self {
                if let Some(problem) = windows.problem() {
                    grouped.stream.place.graph.refuse(problem);
                }
                Self { grouped: grouped.clone(), windows, emit: EmitStrategy::default() }
            }

            /// Gives the aggregation's node a name, in place of a generated one.
            #[must_use]
            pub fn named(&self, name: &str) -> Self {
                Self { grouped: self.grouped.named(name), ..self.clone() }
            }

            /// When results come out. Unlimited windows never close, so [`EmitStrategy::OnWindowClose`] does not go with them.
            #[must_use]
            pub fn emit_strategy(&self, emit: EmitStrategy) -> Self {
                Self { emit, ..self.clone() }
            }
        }
    };
}

windowed_stream!(
    /// A stream whose records of one key and window are to be aggregated.
    TimeWindowedKStream, FixedWindows
);

windowed_stream!(
    /// A stream whose records of one key and session are to be aggregated.
    SessionWindowedKStream, SessionWindows
);
