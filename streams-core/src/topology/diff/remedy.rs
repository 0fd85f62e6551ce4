//! What a user writes to keep the state of an operator.

use super::place::shape;
use super::{Fate, StateChange, StateKind};

/// What keeps the state of a store or internal topic that would be lost; `None` where nothing would be.
pub fn remedy(change: &StateChange) -> Option<String> {
    if !change.loses_state() {
        return None;
    }
    let name = &change.name;
    let named = match change.kind {
        StateKind::InternalTopic => name_topic(name),
        StateKind::Store | StateKind::GlobalStore => name_store(name),
    };
    Some(match (&change.fate, change.kind) {
        (Fate::Misread, kind) => format!(
            "name the {kind} that has this name now otherwise; if what is kept under it is not needed any more, delete {}",
            if kind == StateKind::InternalTopic { "the topic" } else { "its changelog topic" }
        ),
        (Fate::Orphaned, StateKind::InternalTopic) => {
            format!("let the old topology process what is in it, then delete the topic; or {named}")
        }
        (Fate::Orphaned, _) => format!("{named}; if it is not needed any more, delete its changelog topic"),
        _ => named,
    })
}

/// How to give an operator's store this name.
fn name_store(store: &str) -> String {
    let shape = shape(store);
    let kept = "keep the operators before it as they were, and name it from the next start without state on";
    match shape.as_str() {
        _ if shape.starts_with("KSTREAM-JOIN") || shape.starts_with("KSTREAM-OUTER") => {
            format!("{kept}: StreamJoined's store name")
        }
        _ if shape.starts_with("KTABLE-SUPPRESS-") => format!("{kept}: Suppressed's name"),
        _ if shape.starts_with("KTABLE-FK-JOIN-") => format!("{kept}: TableJoined's name"),
        _ if shape.ends_with("-this-join-store")
            || shape.ends_with("-other-join-store")
            || shape.ends_with("-shared-join-store") =>
        {
            format!("give the join the store name that makes it {store} (StreamJoined)")
        }
        _ => format!("give the operator the store name {store}: Materialized::named(\"{store}\")"),
    }
}

/// How to give an operator's repartition topic this name.
fn name_topic(topic: &str) -> String {
    match topic.strip_suffix("-repartition") {
        Some(base) => format!(
            "give the operator the name {base}: Grouped::default().named(\"{base}\") of a grouping, Repartitioned or Joined of others"
        ),
        None => format!("give the join the name that makes its topic {topic} (TableJoined)"),
    }
}
