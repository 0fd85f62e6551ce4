//! `aggregate` of cogrouped streams per window.

use std::sync::Arc;

use streams_core::Serde;
use streams_core::serde::{SessionWindowedSerde, TimeWindowedSerde};
use streams_core::windowed::Windowed;

use super::{CogroupedKStream, Made};
use crate::ktable::KTable;
use crate::materialized::Materialized;
use crate::operators::aggregate::Initial;
use crate::operators::session_aggregate::Merger;
use crate::operators::store::SettledStore;
use crate::operators::table_source::WindowedTable;
use crate::windows::{EmitStrategy, FixedWindows, SessionWindows};

macro_rules! windowed_cogroup {
    ($(#[$doc:meta])* $name:ident, $windows:ident) => {
        $(#[$doc])*
        pub struct $name<K, A> {
            cogrouped: CogroupedKStream<K, A>,
            windows: $windows,
        }

        impl<K, A> Clone for $name<K, A> {
            fn clone(&self) -> Self {
                Self { cogrouped: self.cogrouped.clone(), windows: self.windows }
            }
        }

        impl<K: Clone + 'static, A: Clone + 'static> $name<K, A> {
            pub(crate) fn new(cogrouped: &CogroupedKStream<K, A>, windows: $windows) -> Self {
                cogrouped.fail(windows.problem());
                Self { cogrouped: cogrouped.clone(), windows }
            }

            /// As [`CogroupedKStream::named`].
            #[must_use]
            pub fn named(&self, name: &str) -> Self {
                Self { cogrouped: self.cogrouped.named(name), windows: self.windows }
            }
        }
    };
}

windowed_cogroup!(
    /// Grouped streams that are to be aggregated together per window; see [`CogroupedKStream::windowed_by`].
    TimeWindowedCogroupedKStream, FixedWindows
);

windowed_cogroup!(
    /// Grouped streams that are to be aggregated together per session; see [`CogroupedKStream::windowed_by`].
    SessionWindowedCogroupedKStream, SessionWindows
);

impl<K: Clone + 'static, A: Clone + 'static> TimeWindowedCogroupedKStream<K, A> {
    /// One value per key and window, which begins as `initial()`.
    pub fn aggregate(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_nullable(move || Some(initial()), materialized)
    }

    /// As [`TimeWindowedCogroupedKStream::aggregate`]; the initial value may be `None`.
    pub fn aggregate_nullable(
        &self,
        initial: impl Fn() -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let Self { cogrouped, windows } = self;
        let (graph, store_name, places) = cogrouped.begin(&materialized);
        let table = WindowedTable::new(store_name.clone(), materialized.name.is_some());
        let settled = SettledStore::new(&graph, store_name.clone(), materialized, cogrouped.key(), None);
        cogrouped.fail(settled.as_ref().and_then(|settled| settled.retention_problem(windows.retention_ms())));
        let initial: Initial<A> = Arc::new(initial);
        let adds = cogrouped.inputs.iter().map(|input| input.windowed(&store_name, *windows, &initial)).collect();
        let name = cogrouped.name.clone();
        let grace_ms = Some(windows.grace_ms());
        let made = Made { graph, places, adds, name, old_values: table.old_values(), grace_ms };
        let store = settled.as_ref().map(|settled| settled.windowed(windows, EmitStrategy::OnWindowUpdate));
        let size = windows.size_ms();
        let key =
            settled.as_ref().map(|settled| TimeWindowedSerde::new(Arc::clone(&settled.key), Some(size)).into_ref());
        made.finish(store, key, settled.map(|settled| settled.value), table)
    }
}

impl<K: Clone + 'static, A: Clone + 'static> SessionWindowedCogroupedKStream<K, A> {
    /// One value per key and session, which begins as `initial()`. When a record joins sessions, `merger` folds their aggregates, in the
    /// order of the sessions, before the record is added.
    pub fn aggregate(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let initial = Arc::new(initial);
        let between = Arc::clone(&initial);
        let merger = move |key: &K, one: Option<A>, other| Some(merger(key, one.unwrap_or_else(&*between), other));
        self.aggregate_nullable(move || Some(initial()), merger, materialized)
    }

    /// As [`SessionWindowedCogroupedKStream::aggregate`]; `initial` and `merger` may return `None`, which is then what the next call is
    /// given.
    pub fn aggregate_nullable(
        &self,
        initial: impl Fn() -> Option<A> + Send + Sync + 'static,
        merger: impl Fn(&K, Option<A>, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let Self { cogrouped, windows } = self;
        let (graph, store_name, places) = cogrouped.begin(&materialized);
        let table = WindowedTable::of_sessions(store_name.clone(), materialized.name.is_some());
        let settled = SettledStore::new(&graph, store_name.clone(), materialized, cogrouped.key(), None);
        cogrouped.fail(settled.as_ref().and_then(|settled| settled.retention_problem(windows.retention_ms())));
        let (initial, merger): (Initial<A>, Merger<K, A>) = (Arc::new(initial), Arc::new(merger));
        let adds =
            cogrouped.inputs.iter().map(|input| input.sessions(&store_name, *windows, &initial, &merger)).collect();
        let name = cogrouped.name.clone();
        let grace_ms = Some(windows.retention_ms());
        let made = Made { graph, places, adds, name, old_values: table.old_values(), grace_ms };
        let store = settled.as_ref().map(|settled| settled.sessions(windows, EmitStrategy::OnWindowUpdate));
        let key = settled.as_ref().map(|settled| SessionWindowedSerde::new(Arc::clone(&settled.key)).into_ref());
        made.finish(store, key, settled.map(|settled| settled.value), table)
    }
}
