//! One step of a member towards its target assignment: first it gives up what it is not to have any more, then it gets what it is to
//! have, as far as others have given that up. By the rules of Kafka's `CurrentAssignmentBuilder`.
//!
//! ```text
//!             nothing to give up          gives up, has given up
//!   Stable ------------------------> .. <------------------------ UnrevokedPartitions <----+
//!     ^                              |                                                     |
//!     |  has all of its target       |  something is still with others                     | another target:
//!     +------------------------------+----------------------------> UnreleasedPartitions --+ has to give up
//! ```

use std::collections::BTreeSet;

use base::PartitionId;
use uuid::Uuid;

use super::records::{AssignedPartitions, CurrentAssignment, MemberState, Partitions};

/// What a step goes by.
pub(super) struct Step<'a> {
    /// The member as it is.
    pub current: &'a CurrentAssignment,
    /// The epoch of the target assignment.
    pub target_epoch: i32,
    /// What it is to have in that epoch.
    pub target: &'a Partitions,
    /// The topics it wants now.
    pub subscribed: &'a BTreeSet<Uuid>,
    /// It has changed what it wants since the target was computed, perhaps.
    pub subscription_changed: bool,
    /// What it says to have; `None` if it does not say.
    pub owned: Option<&'a Partitions>,
}

/// The member after the step; `is_taken` says of a partition whether some member has it, or has yet to give it up.
pub(super) fn step(step: &Step<'_>, is_taken: impl Fn(Uuid, PartitionId) -> bool) -> CurrentAssignment {
    match step.current.state {
        MemberState::Stable if step.current.epoch == step.target_epoch => step.without_unwanted(),
        MemberState::UnrevokedPartitions if step.still_owns(&step.current.pending_revocation) => {
            step.without_unwanted()
        }
        MemberState::Unknown => step.next(step.target_epoch, is_taken),
        _ => step.next(step.current.epoch, is_taken),
    }
}

impl Step<'_> {
    /// Whether the member has some of these, for all that is known.
    fn still_owns(&self, partitions: &AssignedPartitions) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, owned)| {
            partitions.get(topic).is_some_and(|asked| owned.iter().any(|partition| asked.contains_key(partition)))
        })
    }

    /// The target stays as it is; only topics that are not wanted any more go.
    fn without_unwanted(&self) -> CurrentAssignment {
        let mut next = self.current.clone();
        if !self.subscription_changed {
            return next;
        }
        let unwanted: Vec<Uuid> =
            next.assigned.keys().filter(|topic| !self.subscribed.contains(topic)).copied().collect();
        if unwanted.is_empty() {
            return next;
        }
        let mut pending = next.pending_revocation.clone();
        for topic in unwanted {
            let partitions = next.assigned.remove(&topic).unwrap_or_default();
            pending.entry(topic).or_default().extend(partitions);
        }
        next.previous_epoch = next.epoch;
        if self.still_owns(&pending) {
            next.state = MemberState::UnrevokedPartitions;
            next.pending_revocation = pending;
        }
        next
    }

    fn next(&self, epoch: i32, is_taken: impl Fn(Uuid, PartitionId) -> bool) -> CurrentAssignment {
        let (mut assigned, mut revoked) = (AssignedPartitions::new(), AssignedPartitions::new());
        let wanted = |topic: &Uuid| self.target.get(topic).filter(|_| self.subscribed.contains(topic));
        for (topic, partitions) in &self.current.assigned {
            for (partition, since) in partitions {
                let stays = wanted(topic).is_some_and(|wanted| wanted.contains(partition));
                let side = if stays { &mut assigned } else { &mut revoked };
                side.entry(*topic).or_default().insert(*partition, *since);
            }
        }
        if !revoked.is_empty() && self.still_owns(&revoked) {
            return CurrentAssignment {
                epoch,
                previous_epoch: self.current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned,
                pending_revocation: revoked,
            };
        }
        let mut unreleased = false;
        let is_own = |side: &AssignedPartitions, topic: &Uuid, partition| {
            side.get(topic).is_some_and(|own| own.contains_key(partition))
        };
        for topic in self.target.keys() {
            for partition in wanted(topic).into_iter().flatten() {
                if is_own(&assigned, topic, partition) {
                    continue;
                }
                // What it has just given up itself is as good as free.
                if is_taken(*topic, *partition) && !is_own(&self.current.pending_revocation, topic, partition) {
                    unreleased = true;
                } else {
                    assigned.entry(*topic).or_default().insert(*partition, self.target_epoch);
                }
            }
        }
        CurrentAssignment {
            epoch: self.target_epoch,
            previous_epoch: self.current.epoch,
            state: if unreleased { MemberState::UnreleasedPartitions } else { MemberState::Stable },
            assigned,
            pending_revocation: AssignedPartitions::new(),
        }
    }
}
