//! Whose a topic is, what kind of store its configuration is that of, and what would be lost: decided from names and values alone.

use std::fmt;
use std::path::Path;

use crate::store::StoreKind;
use crate::topology::description::is_passed_on;
use crate::topology::internal_topics::VERSIONED_LAG_MS;
use crate::topology::{Fate, InternalTopicConfig, StateChange, StateKind, remedy};

/// Names of other stores in a message, at most.
const CANDIDATES_MAX: usize = 4;

/// State that a start would lose or misread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    store: Option<String>,
    text: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Loss {
    /// The store that is concerned.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// A topic that the topology does not use. `candidates` are names of its stores and topics that are not there yet.
    pub(super) fn orphaned(
        kind: StateKind,
        name: String,
        topic: String,
        renamed_to: Option<String>,
        candidates: &[&str],
    ) -> Self {
        let what = match kind {
            StateKind::InternalTopic => format!("topic {topic} holds records that are not processed yet"),
            StateKind::Store | StateKind::GlobalStore => format!("changelog {topic} holds the state of store {name}"),
        };
        let fate = match &renamed_to {
            Some(to) => Fate::Renamed { to: to.clone() },
            None => Fate::Orphaned,
        };
        let why = match &renamed_to {
            Some(to) => format!("which the topology calls {to}"),
            None if candidates.is_empty() => "which the topology does not have".to_owned(),
            None => {
                let some = candidates.iter().take(CANDIDATES_MAX).copied().collect::<Vec<_>>().join(", ");
                format!("which the topology does not have (new in it: {some})")
            }
        };
        let change = StateChange { kind, name: name.clone(), fate, is_taken_over: false, remedy: None };
        let remedy = remedy(&change).unwrap_or_default();
        let store = (kind == StateKind::Store).then_some(name);
        Self { store, text: format!("{what}, {why}: {remedy}") }
    }

    /// A store that keeps its name and becomes another kind.
    pub(super) fn kind(store: &str, topic: &str, was: &str, is: &str) -> Self {
        let text = format!(
            "changelog {topic} holds the state of a {was} store, but {store} is a {is} store now and would misread it: \
             give the new store another name, or delete the topic"
        );
        Self { store: Some(store.to_owned()), text }
    }

    /// A name that goes to another place of the topology.
    pub(super) fn taken_over(change: &StateChange, topic: String) -> Self {
        let StateChange { kind, name, .. } = change;
        let meant = match &change.fate {
            Fate::Renamed { to } => format!("that of what the topology calls {to} now"),
            _ => "of what the topology does not have any more".to_owned(),
        };
        let text = format!(
            "topic {topic} holds what is {meant}, but its name {name} has gone to another {kind}, which would misread it: {}",
            change.remedy.as_deref().unwrap_or_default()
        );
        Self { store: (*kind == StateKind::Store).then(|| name.clone()), text }
    }

    /// A store that was kept in a folder only.
    pub(super) fn folder(store: &str, folder: &Path) -> Self {
        let text = format!(
            "{} holds the state of store {store}, which has no changelog and which the topology does not have: \
             give the operator the store name {store}, or delete the folder",
            folder.display()
        );
        Self { store: Some(store.to_owned()), text }
    }
}

/// What kind of store a changelog's configuration fits. Windows and sessions, with duplicates or without, are configured alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    KeyValue,
    Windowed,
    Versioned,
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeyValue => "key-value",
            Self::Windowed => "window or session",
            Self::Versioned => "versioned",
        }
    }
}

/// The family that the configuration of an existing changelog is that of.
pub(super) fn topic_family<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Family {
    let deletes = value("cleanup.policy").unwrap_or_default().split(',').any(|policy| policy.trim() == "delete");
    // Of versioned stores it is a day more than the history. Less than that may come from the broker's own settings.
    let lag_ms = value("min.compaction.lag.ms").and_then(|lag| lag.parse::<i64>().ok()).unwrap_or(0);
    let lags = lag_ms >= VERSIONED_LAG_MS;
    match (deletes, lags) {
        (true, _) => Family::Windowed,
        (false, true) => Family::Versioned,
        (false, false) => Family::KeyValue,
    }
}

/// The family of a store; `None` where the program configures its changelog by itself, so that it says nothing of the kind.
pub(super) fn store_family(topic: &InternalTopicConfig, kind: StoreKind) -> Option<Family> {
    let family = match kind {
        StoreKind::KeyValue => Family::KeyValue,
        StoreKind::Windowed { .. } => Family::Windowed,
        StoreKind::Versioned { .. } => Family::Versioned,
    };
    let configured = topic_family(|name| topic.configs.get(name).map(String::as_str));
    (configured == family).then_some(family)
}

/// Whether a name without the application's prefix is one that Kafka Streams gives to internal topics.
pub(super) fn is_internal_name(name: &str) -> bool {
    name.ends_with("-changelog") || is_passed_on(name)
}

/// Whether another application's id is a longer beginning of the topic's name, and so more likely the one it was made with.
pub(super) fn is_owned_by_another(topic: &str, prefix: &str, groups: &[String]) -> bool {
    groups.iter().any(|group| {
        group.len() > prefix.len() && topic.strip_prefix(group.as_str()).is_some_and(|rest| rest.starts_with('-'))
    })
}

/// Whether a changelog's store can only be this application's: one whose name could be the end of another's id and a store's
/// name may be that other's.
pub(super) fn is_certainly_ours(store: &str) -> bool {
    !store.contains('-') || ["KSTREAM-", "KTABLE-", "COGROUPKSTREAM-"].iter().any(|prefix| store.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_belongs_to_the_longest_id_that_a_group_has() {
        let groups = ["app".to_owned(), "app-2".to_owned(), "app-20".to_owned()];
        assert!(is_owned_by_another("app-2-counts-changelog", "app", &groups));
        assert!(!is_owned_by_another("app-2-counts-changelog", "app-2", &groups));
        assert!(!is_owned_by_another("app-counts-changelog", "app", &groups));
        assert!(!is_owned_by_another("app-200-changelog", "app", &groups));
    }

    #[test]
    fn names_that_no_other_application_can_have_made_are_known() {
        assert!(is_certainly_ours("counts"));
        assert!(is_certainly_ours("KSTREAM-AGGREGATE-STATE-STORE-0000000002"));
        assert!(!is_certainly_ours("2-counts"));
        assert!(!is_certainly_ours("2-KSTREAM-AGGREGATE-STATE-STORE-0000000002"));
    }

    #[test]
    fn internal_topics_are_known_by_their_ends() {
        assert!(is_internal_name("counts-changelog") && is_internal_name("counts-repartition"));
        assert!(is_internal_name("KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-0000000014-topic"));
        assert!(is_internal_name("x-subscription-registration-topic"));
        assert!(!is_internal_name("changelog") && !is_internal_name("raw") && !is_internal_name("any-topic"));
    }

    #[test]
    fn kinds_are_told_by_the_policies_of_topics() {
        let family = |policy: &'static str, lag: &'static str| {
            topic_family(|name| match name {
                "cleanup.policy" => Some(policy),
                "min.compaction.lag.ms" => Some(lag),
                _ => None,
            })
        };
        assert_eq!(family("compact", "0"), Family::KeyValue);
        assert_eq!(family("compact,delete", "0"), Family::Windowed);
        assert_eq!(family("delete", "0"), Family::Windowed);
        assert_eq!(family("compact", "60000"), Family::KeyValue);
        assert_eq!(family("compact", "86400001"), Family::Versioned);
    }
}
