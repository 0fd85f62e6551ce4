//! The assignor of share groups, `simple`: every partition is read by somebody who wants it, every member has something to read, and as few
//! members as possible share a partition. What fits stays where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::PartitionId;
use uuid::Uuid;

use crate::group::consumer::records::Partitions;

/// Name of the assignor.
pub const NAME: &str = "simple";

/// A member that is to be given partitions.
#[derive(Clone, Debug, Default)]
pub struct Subscriber {
    /// Topics it wants.
    pub topics: BTreeSet<Uuid>,
    /// What it was to read so far.
    pub target: Partitions,
}

type Slot = (Uuid, PartitionId);

/// Who reads what, being made.
struct Draft<'a> {
    subscribers: &'a BTreeMap<Arc<str>, Subscriber>,
    /// Numbers of members by partition.
    readers: BTreeMap<Slot, usize>,
    given: BTreeMap<Arc<str>, BTreeSet<Slot>>,
}

/// Gives `partitions` to `subscribers`; each of them has an entry.
pub fn assign(subscribers: &BTreeMap<Arc<str>, Subscriber>, partitions: &Partitions) -> BTreeMap<Arc<str>, Partitions> {
    let readers: BTreeMap<Slot, usize> = slots(partitions).map(|slot| (slot, 0)).collect();
    let given = subscribers.keys().map(|id| (Arc::clone(id), BTreeSet::new())).collect();
    let mut draft = Draft { subscribers, readers, given };
    draft.keep();
    draft.cover();
    draft.employ();
    draft.level();
    let assignment = draft.given.into_iter().map(|(id, given)| {
        let mut partitions = Partitions::new();
        for (topic, partition) in given {
            partitions.entry(topic).or_default().insert(partition);
        }
        (id, partitions)
    });
    assignment.collect()
}

fn slots(partitions: &Partitions) -> impl Iterator<Item = Slot> {
    partitions.iter().flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
}

impl Draft<'_> {
    fn give(&mut self, id: &Arc<str>, slot: Slot) {
        if let (Some(given), Some(readers)) = (self.given.get_mut(id), self.readers.get_mut(&slot))
            && given.insert(slot)
        {
            *readers += 1;
        }
    }

    fn take(&mut self, id: &Arc<str>, slot: Slot) {
        if let (Some(given), Some(readers)) = (self.given.get_mut(id), self.readers.get_mut(&slot))
            && given.remove(&slot)
        {
            *readers -= 1;
        }
    }

    fn wants(&self, id: &str, slot: Slot) -> bool {
        self.subscribers.get(id).is_some_and(|subscriber| subscriber.topics.contains(&slot.0))
    }

    /// What was, as far as it is wanted still, each partition with no more readers than it must have.
    fn keep(&mut self) {
        let most = self.subscribers.len().div_ceil(self.readers.len().max(1)).max(1);
        for (id, subscriber) in self.subscribers {
            for slot in slots(&subscriber.target) {
                if self.wants(id, slot) && self.readers.get(&slot).is_some_and(|readers| *readers < most) {
                    self.give(id, slot);
                }
            }
        }
    }

    /// Partitions without a reader go to whoever wants them and has the least.
    fn cover(&mut self) {
        let idle: Vec<Slot> =
            self.readers.iter().filter(|(_, readers)| **readers == 0).map(|(slot, _)| *slot).collect();
        for slot in idle {
            let least = self.given.iter().filter(|(id, _)| self.wants(id, slot)).min_by_key(|(_, given)| given.len());
            if let Some(id) = least.map(|(id, _)| Arc::clone(id)) {
                self.give(&id, slot);
            }
        }
    }

    /// Members with nothing get a partition: one of a member that has more, else the one with the fewest readers.
    fn employ(&mut self) {
        let idle: Vec<Arc<str>> =
            self.given.iter().filter(|(_, given)| given.is_empty()).map(|(id, _)| Arc::clone(id)).collect();
        for id in idle {
            if self.move_to(&id, 2) {
                continue;
            }
            let wanted = self.readers.iter().filter(|(slot, _)| self.wants(&id, **slot));
            if let Some(slot) = wanted.min_by_key(|(_, readers)| **readers).map(|(slot, _)| *slot) {
                self.give(&id, slot);
            }
        }
    }

    /// Partitions go from those with more to those with less, until nobody has two more than another who wants the same.
    fn level(&mut self) {
        let ids: Vec<Arc<str>> = self.given.keys().cloned().collect();
        for id in ids {
            // Each move brings the member closer to the others: it ends.
            while self.given.get(&id).is_some_and(|given| {
                let least = given.len() + 2;
                self.given.values().any(|other| other.len() >= least)
            }) {
                let least = self.given.get(&id).map_or(0, BTreeSet::len) + 2;
                if !self.move_to(&id, least) {
                    break;
                }
            }
        }
    }

    /// Moves a partition to this member from one that has at least `least`; whether there was one.
    fn move_to(&mut self, id: &Arc<str>, least: usize) -> bool {
        let own = self.given.get(id).cloned().unwrap_or_default();
        let mut others: Vec<(&Arc<str>, &BTreeSet<Slot>)> =
            self.given.iter().filter(|(other, given)| *other != id && given.len() >= least).collect();
        others.sort_by_key(|(_, given)| std::cmp::Reverse(given.len()));
        let found = others.into_iter().find_map(|(other, given)| {
            let slot = given.iter().rev().find(|slot| self.wants(id, **slot) && !own.contains(*slot))?;
            Some((Arc::clone(other), *slot))
        });
        let Some((other, slot)) = found else { return false };
        self.take(&other, slot);
        self.give(id, slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u8) -> Uuid {
        Uuid::from_u128(u128::from(number) + 1)
    }

    fn subscriber(topics: &[u8], target: Partitions) -> Subscriber {
        Subscriber { topics: topics.iter().map(|number| topic(*number)).collect(), target }
    }

    fn partition_count(partitions: &Partitions) -> usize {
        partitions.values().map(BTreeSet::len).sum()
    }

    #[test]
    fn more_members_than_partitions_share_them() {
        let partitions = Partitions::from([(topic(0), BTreeSet::from([0, 1]))]);
        let members = ["a", "b", "c", "d", "e"].map(|id| (Arc::from(id), subscriber(&[0], Partitions::new())));
        let given = assign(&BTreeMap::from(members), &partitions);
        assert!(given.values().all(|given| partition_count(given) == 1));
        let readers = |partition| given.values().filter(|given| given[&topic(0)].contains(&partition)).count();
        assert_eq!([readers(0), readers(1)].iter().max(), Some(&3));
    }

    proptest! {
        #[test]
        fn nothing_is_left_over_and_nobody_is_idle(
            wants in prop::collection::vec(prop::collection::btree_set(0..4_u8, 1..4), 1..9),
            sizes in prop::collection::vec(1..6_i32, 4),
            joins in prop::collection::vec(prop::collection::btree_set(0..4_u8, 1..4), 0..4),
        ) {
            let partitions: Partitions =
                sizes.iter().enumerate().map(|(index, size)| (topic(index as u8), (0..*size).collect())).collect();
            let mut members = BTreeMap::new();
            let mut given: BTreeMap<Arc<str>, Partitions> = BTreeMap::new();
            for batch in [&wants, &joins] {
                for wanted in batch.iter() {
                    let id: Arc<str> = Arc::from(format!("m{}", members.len()));
                    members.insert(id, subscriber(&wanted.iter().copied().collect::<Vec<_>>(), Partitions::new()));
                }
                for (id, member) in &mut members {
                    member.target = given.get(id).cloned().unwrap_or_default();
                }
                given = assign(&members, &partitions);
                prop_assert_eq!(given.len(), members.len());
                for (id, member) in &members {
                    prop_assert!(given[id].keys().all(|topic| member.topics.contains(topic)));
                    prop_assert!(partition_count(&given[id]) > 0);
                }
                for (wanted, count) in &partitions {
                    let is_wanted = members.values().any(|member| member.topics.contains(wanted));
                    for partition in count {
                        let readers = given.values().filter(|given| given.get(wanted).is_some_and(|of| of.contains(partition)));
                        prop_assert_eq!(readers.count() > 0, is_wanted);
                    }
                }
            }
        }

        #[test]
        fn of_members_that_want_the_same_nothing_moves_at_rest(count in 1..9_usize, sizes in prop::collection::vec(1..6_i32, 1..4)) {
            let partitions: Partitions =
                sizes.iter().enumerate().map(|(index, size)| (topic(index as u8), (0..*size).collect())).collect();
            let wanted: Vec<u8> = (0..sizes.len() as u8).collect();
            let mut members: BTreeMap<Arc<str>, Subscriber> =
                (0..count).map(|index| (Arc::from(format!("m{index}")), subscriber(&wanted, Partitions::new()))).collect();
            let given = assign(&members, &partitions);
            let (least, most) = (given.values().map(partition_count).min(), given.values().map(partition_count).max());
            prop_assert!(most <= least.map(|least| least + 1));
            for (id, member) in &mut members {
                member.target = given[id].clone();
            }
            prop_assert_eq!(assign(&members, &partitions), given);
        }
    }
}
