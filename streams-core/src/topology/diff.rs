//! What becomes of the state of an application whose topology changes: each store and internal topic by name.
//!
//! State belongs to names: a store's to its changelog `<application.id>-<store>-changelog`, unprocessed records to the
//! repartition topics. Generated names carry numbers, which move when an operator is added before them. So a store of the same
//! place in the graph may have got another name, and a name may have gone to another store; [`diff`] finds both.

use std::fmt;

use serde::Serialize;

use crate::topology::description::TopologyDescription;

mod place;
mod remedy;

use place::{Place, Places, likeness};
pub use remedy::remedy;

/// What keeps something under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateKind {
    /// A state store, with its changelog.
    Store,
    /// A global store: filled from its topic again wherever it is missing, so that nothing is lost with it.
    GlobalStore,
    /// A topic that the application creates to pass records between its sub-topologies.
    InternalTopic,
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "store",
            Self::GlobalStore => "global store",
            Self::InternalTopic => "internal topic",
        })
    }
}

/// What becomes of a store or internal topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Fate {
    /// There is one of that name in the same place.
    Same,
    /// Its place is there, but under another name: what is kept under the old one would not be found.
    Renamed {
        /// The name in the new topology.
        to: String,
    },
    /// The old topology has nothing in its place and nothing of its name.
    New,
    /// The new topology has nothing in its place and does not use its name.
    Orphaned,
    /// The new topology has nothing in its place, but gives its name to something else, which would read what is not its own.
    Misread,
}

/// A store or internal topic and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// What it is.
    pub kind: StateKind,
    /// Its name in the old topology, or in the new one if it is new.
    pub name: String,
    /// What becomes of it.
    #[serde(flatten)]
    pub fate: Fate,
    /// Whether the new topology gives this name to something in another place, which would take what is kept under it for its own.
    pub is_taken_over: bool,
    /// What keeps the state, where something would be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl StateChange {
    /// Whether what is kept under the name would be lost or taken for something else.
    pub fn loses_state(&self) -> bool {
        self.kind != StateKind::GlobalStore && (self.is_taken_over || !matches!(self.fate, Fate::Same | Fate::New))
    }
}

/// Every store and internal topic of two topologies, stores first, each kind sorted by name.
///
/// What a text does not say is not known here: a store without a changelog, or whose source topic serves as one, counts as one
/// with a changelog.
///
/// Prints one line for each, and a second with the remedy where state would be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TopologyDiff {
    /// The stores and internal topics.
    pub changes: Vec<StateChange>,
}

impl TopologyDiff {
    /// Whether anything that the old topology keeps would be lost or misread by the new one.
    pub fn loses_state(&self) -> bool {
        self.changes.iter().any(StateChange::loses_state)
    }

    /// As a JSON object: `loses_state`, and `changes` with `kind`, `name`, `fate`, `to`, `is_taken_over`, `remedy`.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            loses_state: bool,
            changes: &'a [StateChange],
        }
        let whole = Whole { loses_state: self.loses_state(), changes: &self.changes };
        // Strings and booleans only: nothing that could fail.
        serde_json::to_string_pretty(&whole).unwrap_or_default()
    }

    /// What becomes of the store of that name in the old topology.
    pub fn store(&self, name: &str) -> Option<&StateChange> {
        self.changes.iter().find(|change| change.kind == StateKind::Store && change.name == name)
    }
}

impl fmt::Display for TopologyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

impl fmt::Display for StateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, .. } = self;
        match &self.fate {
            Fate::Same => write!(f, "same      {kind} {name}")?,
            Fate::Renamed { to } => write!(f, "renamed   {kind} {name} -> {to}")?,
            Fate::New => write!(f, "new       {kind} {name}")?,
            Fate::Orphaned => write!(f, "orphaned  {kind} {name}")?,
            Fate::Misread => write!(f, "misread   {kind} {name}")?,
        }
        if self.is_taken_over {
            write!(f, "\n          its name goes to another {kind}, which would read what is not its own")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\n          {remedy}"),
            None => Ok(()),
        }
    }
}

/// Says what becomes of each store and internal topic of `old` in `new`.
///
/// Names that the program gives are taken at their word; generated ones are compared by their place: the operators that use
/// them and what flows into and out of these.
///
/// ```
/// use streams_core::topology::{Fate, diff};
///
/// let text = |number: u32| format!(
///     "Topologies:\n   Sub-topology: 0\n    Source: KSTREAM-SOURCE-0000000000 (topics: [lines])\n      --> KSTREAM-AGGREGATE-000000000{0}\n    \
///      Processor: KSTREAM-AGGREGATE-000000000{0} (stores: [KSTREAM-AGGREGATE-STATE-STORE-000000000{1}])\n      --> none\n      \
///      <-- KSTREAM-SOURCE-0000000000\n\n", number + 1, number);
/// let changes = diff(&text(1).parse()?, &text(2).parse()?);
/// let to = "KSTREAM-AGGREGATE-STATE-STORE-0000000002".to_owned();
/// assert_eq!(changes.changes[0].fate, Fate::Renamed { to });
/// assert!(changes.loses_state());
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
pub fn diff(old: &TopologyDescription, new: &TopologyDescription) -> TopologyDiff {
    let (old, new) = (Places::of(old), Places::of(new));
    let mut changes = compare(StateKind::Store, &old.stores, &new.stores);
    changes.extend(compare(StateKind::GlobalStore, &old.global_stores, &new.global_stores));
    changes.extend(compare(StateKind::InternalTopic, &old.topics, &new.topics));
    TopologyDiff { changes }
}

/// For each old place, its new one: the most alike first, the same name before another, then in order.
fn pair(old: &[Place], new: &[Place]) -> Vec<Option<usize>> {
    let mut candidates: Vec<(u32, usize, usize)> = Vec::new();
    for (of, place) in old.iter().enumerate() {
        for (to, other) in new.iter().enumerate() {
            if let Some(likeness) = likeness(place, other) {
                candidates.push((likeness, of, to));
            }
        }
    }
    // Sorted by name on both sides, so that generated names are in order of their numbers.
    candidates.sort_by_key(|(likeness, of, to)| (std::cmp::Reverse(*likeness), *of, *to));
    let mut pairs = vec![None; old.len()];
    let mut taken = vec![false; new.len()];
    for (_, of, to) in candidates {
        if pairs[of].is_none() && !taken[to] {
            pairs[of] = Some(to);
            taken[to] = true;
        }
    }
    pairs
}

fn compare(kind: StateKind, old: &[Place], new: &[Place]) -> Vec<StateChange> {
    let pairs = pair(old, new);
    let mut changes: Vec<StateChange> = Vec::new();
    for (place, pair) in old.iter().zip(&pairs) {
        let name = place.name.clone();
        let in_new = new.iter().position(|other| other.name == name);
        let fate = match (pair.map(|to| &new[to].name), in_new) {
            (Some(to), _) if *to == name => Fate::Same,
            (Some(to), _) => Fate::Renamed { to: to.clone() },
            (None, Some(_)) => Fate::Misread,
            (None, None) => Fate::Orphaned,
        };
        let is_taken_over = in_new.is_some() && fate != Fate::Same;
        let mut change = StateChange { kind, name, fate, is_taken_over, remedy: None };
        change.remedy = remedy(&change);
        changes.push(change);
    }
    for (index, place) in new.iter().enumerate() {
        let is_known = pairs.contains(&Some(index)) || old.iter().any(|other| other.name == place.name);
        if !is_known {
            let name = place.name.clone();
            changes.push(StateChange { kind, name, fate: Fate::New, is_taken_over: false, remedy: None });
        }
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}
