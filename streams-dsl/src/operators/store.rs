//! The store of an aggregation or table, from what the user said and what follows from upstream.

use std::sync::Arc;

use streams_core::SerdeRef;
use streams_core::store::builder::StoreBuilderRef;
use streams_core::store::{Logging, Stores};

use crate::graph::GraphRef;
use crate::materialized::{Materialized, TableKind};
use crate::windows::{EmitStrategy, FixedWindows, SessionWindows};

/// Name and description of a store with its serdes settled.
pub(crate) struct SettledStore<K, V> {
    pub(crate) name: String,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) materialized: Materialized<K, V>,
}

impl<K: 'static, V: Clone + 'static> SettledStore<K, V> {
    /// Takes the serdes of `materialized`, else those from upstream; an error of the graph if one is missing.
    pub(crate) fn new(
        graph: &GraphRef,
        name: String,
        materialized: Materialized<K, V>,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
    ) -> Option<Self> {
        let remedy = "Materialized::with(key serde, value serde)";
        let key = graph.need(materialized.key.clone().or(key), &format!("the key of store {name}"), remedy);
        let value = graph.need(materialized.value.clone().or(value), &format!("the value of store {name}"), remedy);
        let (key, value) = key.zip(value)?;
        Some(Self { name, key, value, materialized })
    }

    /// The key-value store of a table.
    pub(crate) fn key_value(&self) -> StoreBuilderRef {
        match self.materialized.kind {
            TableKind::Timestamped | TableKind::Untimed | TableKind::Bounded { .. } => self.unversioned(),
            TableKind::Versioned { history_ms, segment_interval_ms } => self.versioned(history_ms, segment_interval_ms),
        }
    }

    fn versioned(&self, history_ms: i64, segment_interval_ms: Option<i64>) -> StoreBuilderRef {
        let (key, value) = (Arc::clone(&self.key), Arc::clone(&self.value));
        let mut builder = Stores::versioned_key_value(self.name.clone(), history_ms, key, value)
            .with_storage(self.materialized.storage);
        if let Some(interval) = segment_interval_ms {
            builder = builder.with_segment_interval_ms(interval);
        }
        match &self.materialized.logging {
            Logging::Enabled(configs) => Arc::new(builder.with_logging(configs.clone())),
            Logging::Disabled => Arc::new(builder.without_logging()),
        }
    }

    fn unversioned(&self) -> StoreBuilderRef {
        let Materialized { caching, logging, storage, kind, is_supplied, .. } = &self.materialized;
        let (key, value) = (Arc::clone(&self.key), Arc::clone(&self.value));
        let builder = match kind {
            TableKind::Untimed => Stores::untimed_key_value(self.name.clone(), key, value),
            _ => Stores::timestamped_key_value(self.name.clone(), key, value),
        };
        let mut builder = builder.with_caching(*caching).with_storage(*storage);
        if let TableKind::Bounded { entries } = kind {
            builder = builder.with_max_entries(*entries);
        }
        if !is_supplied {
            builder = builder.with_application_format();
        }
        match logging {
            Logging::Enabled(configs) => Arc::new(builder.with_logging(configs.clone())),
            Logging::Disabled => Arc::new(builder.without_logging()),
        }
    }

    /// A timestamped window store for `windows`.
    pub(crate) fn windowed(&self, windows: &FixedWindows, emit: EmitStrategy) -> StoreBuilderRef {
        let Materialized { caching, logging, storage, kind, is_supplied, .. } = &self.materialized;
        let retention = self.retention_ms(windows.retention_ms());
        let (key, value) = (Arc::clone(&self.key), Arc::clone(&self.value));
        let builder = match kind {
            TableKind::Untimed => Stores::untimed_window(self.name.clone(), retention, windows.size_ms(), key, value),
            _ => Stores::timestamped_window(self.name.clone(), retention, windows.size_ms(), key, value),
        };
        let mut builder = builder.with_caching(*caching).with_storage(*storage);
        if !is_supplied {
            builder = builder.with_application_format();
        }
        if emit == EmitStrategy::OnWindowClose {
            let is_sliding = matches!(windows, FixedWindows::Sliding(_));
            // A store that is supplied is arranged as always; results then come by key within a segment of time.
            builder = if *is_supplied { builder } else { builder.time_first(is_sliding) };
            builder = builder.with_caching(*caching && !is_sliding);
        }
        match logging {
            Logging::Enabled(configs) => Arc::new(builder.with_logging(configs.clone())),
            Logging::Disabled => Arc::new(builder.without_logging()),
        }
    }

    /// A session store for `windows`.
    pub(crate) fn sessions(&self, windows: &SessionWindows, emit: EmitStrategy) -> StoreBuilderRef {
        let Materialized { caching, logging, storage, is_supplied, .. } = &self.materialized;
        let retention = self.retention_ms(windows.retention_ms());
        let (key, value) = (Arc::clone(&self.key), Arc::clone(&self.value));
        let mut builder =
            Stores::session(self.name.clone(), retention, key, value).with_caching(*caching).with_storage(*storage);
        if !is_supplied {
            builder = builder.with_application_format();
        }
        if emit == EmitStrategy::OnWindowClose {
            builder = builder.time_first(true).with_caching(false);
        }
        match logging {
            Logging::Enabled(configs) => Arc::new(builder.with_logging(configs.clone())),
            Logging::Disabled => Arc::new(builder.without_logging()),
        }
    }

    fn retention_ms(&self, needed: i64) -> i64 {
        self.materialized.retention_ms.unwrap_or(needed)
    }

    /// What is wrong with the retention for windows that need `needed` ms, if anything.
    pub(crate) fn retention_problem(&self, needed: i64) -> Option<String> {
        let given = self.materialized.retention_ms.filter(|_| !self.materialized.is_supplied)?;
        (given < needed).then(|| {
            format!(
                "store {}: a retention of {given} ms is too short for its windows and their grace, which need {needed} ms",
                self.name
            )
        })
    }
}
