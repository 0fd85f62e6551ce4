//! The assignors on the server side: who is to read which partition. Pure functions of the members, what they want and had, and the
//! number of partitions of each topic.
//!
//! Invariant: each partition of a topic that somebody wants goes to exactly one member that wants it.

mod range;
mod uniform;
mod uniform_mixed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::PartitionId;
use uuid::Uuid;

use super::records::Partitions;

/// A member as an assignor sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The topics it wants, of those that exist.
    pub topics: BTreeSet<Uuid>,
    /// What it was to have so far.
    pub target: Partitions,
}

/// Members by id.
pub type Subscribers = BTreeMap<Arc<str>, Subscriber>;

/// Number of partitions by topic.
pub type PartitionCounts = BTreeMap<Uuid, PartitionId>;

/// What each member is to have.
pub type Assignment = BTreeMap<Arc<str>, Partitions>;

/// An assignor that the broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Partitions in equal numbers, moved as little as can be.
    Uniform,
    /// Neighbouring partitions of each topic, so that those of one number meet in one member.
    Range,
}

impl Assignor {
    /// All there are, in the order of Kafka's `group.consumer.assignors`.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// The name that members ask for it by.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The assignor of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each of `members` is to have of the topics that they want, whose numbers of partitions are `counts`.
    pub fn assign(self, members: &Subscribers, counts: &PartitionCounts) -> Assignment {
        let Some(first) = members.values().next() else { return Assignment::new() };
        match self {
            Assignor::Range => range::assign(members, counts),
            Assignor::Uniform if members.values().all(|member| member.topics == first.topics) => {
                uniform::assign(members, &first.topics, counts)
            }
            Assignor::Uniform => uniform_mixed::assign(members, counts),
        }
    }
}

/// Number of partitions of a topic; none for one that has just gone.
fn count_of(counts: &PartitionCounts, topic: &Uuid) -> PartitionId {
    counts.get(topic).copied().unwrap_or(0).max(0)
}

#[cfg(test)]
mod tests;
