//! Internal topics as data: names and configurations of repartition and changelog topics, for the runtime to create.

use std::collections::BTreeMap;

use base::PartitionId;

use crate::store::StoreKind;

/// Added to the history of a versioned store's `min.compaction.lag.ms`; a constant in Kafka Streams.
pub(crate) const VERSIONED_LAG_MS: i64 = 86_400_000;

/// What an internal topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalTopicKind {
    /// Passes records between sub-topologies.
    Repartition,
    /// Logs a store.
    Changelog,
}

/// An internal topic to create. Its name carries the application's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopicConfig {
    /// Full name.
    pub name: String,
    /// What it is for.
    pub kind: InternalTopicKind,
    /// Enforced number of partitions of a repartition topic.
    pub enforced_partitions: Option<PartitionId>,
    /// Configuration set explicitly at creation.
    pub configs: BTreeMap<String, String>,
}

fn built_in(entries: &[(&str, String)]) -> BTreeMap<String, String> {
    let mut configs: BTreeMap<_, _> = entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    configs.insert("message.timestamp.type".to_owned(), "CreateTime".to_owned());
    configs
}

impl InternalTopicConfig {
    /// A repartition topic. `defaults` are the application's `topic.` settings.
    pub fn repartition(
        name: String,
        enforced_partitions: Option<PartitionId>,
        defaults: &BTreeMap<String, String>,
    ) -> Self {
        let mut configs = built_in(&[
            ("cleanup.policy", "delete".to_owned()),
            ("segment.bytes", "52428800".to_owned()),
            ("retention.ms", "-1".to_owned()),
        ]);
        configs.extend(defaults.clone());
        Self { name, kind: InternalTopicKind::Repartition, enforced_partitions, configs }
    }

    /// The changelog of a store. Later ones override earlier: built-in, the application's `topic.` settings (`defaults`),
    /// the store's own (`overrides`). The retention of windows is computed unless the store's own settings name one.
    pub fn changelog(
        name: String,
        kind: StoreKind,
        defaults: &BTreeMap<String, String>,
        overrides: &BTreeMap<String, String>,
        additional_retention_ms: i64,
    ) -> Self {
        let mut configs = match kind {
            StoreKind::KeyValue => built_in(&[("cleanup.policy", "compact".to_owned())]),
            StoreKind::Windowed { retain_duplicates: false, .. } => {
                built_in(&[("cleanup.policy", "compact,delete".to_owned())])
            }
            StoreKind::Windowed { retain_duplicates: true, .. } => built_in(&[("cleanup.policy", "delete".to_owned())]),
            StoreKind::Versioned { .. } => built_in(&[("cleanup.policy", "compact".to_owned())]),
        };
        configs.extend(defaults.clone());
        configs.extend(overrides.clone());
        match kind {
            StoreKind::Windowed { retention_ms, .. } if !overrides.contains_key("retention.ms") => {
                let retention = retention_ms.saturating_add(additional_retention_ms);
                configs.insert("retention.ms".to_owned(), retention.to_string());
            }
            StoreKind::Versioned { history_retention_ms } if !overrides.contains_key("min.compaction.lag.ms") => {
                let lag = history_retention_ms.saturating_add(VERSIONED_LAG_MS);
                configs.insert("min.compaction.lag.ms".to_owned(), lag.to_string());
            }
            _ => {}
        }
        Self { name, kind: InternalTopicKind::Changelog, enforced_partitions: None, configs }
    }
}
