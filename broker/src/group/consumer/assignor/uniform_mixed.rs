//! The uniform assignor for members that want different topics: what each was to have stays, what nobody has goes to the subscriber
//! with the least, and then partitions move from those with the most to those with the least until no topic can be evened out.
//!
//! By the rules of Kafka's `UniformHeterogeneousAssignmentBuilder`, which also gives up after so many rounds. Where that goes by the
//! order of a hash map, this goes by id.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::PartitionId;
use uuid::Uuid;

use super::{Assignment, PartitionCounts, Subscribers, count_of};

/// Rounds over all topics after which an uneven assignment is left as it is.
const MAX_ROUNDS: usize = 16;

/// A topic: the indexes of its subscribers, and of the owner of each partition.
struct Topic {
    id: Uuid,
    subscribers: Vec<usize>,
    owners: Vec<Option<usize>>,
}

pub(super) fn assign(members: &Subscribers, counts: &PartitionCounts) -> Assignment {
    let mut topics: BTreeMap<Uuid, Topic> = BTreeMap::new();
    let mut sizes = vec![0usize; members.len()];
    for (index, member) in members.values().enumerate() {
        for id in &member.topics {
            let partitions = usize::try_from(count_of(counts, id)).unwrap_or(0);
            let new = || Topic { id: *id, subscribers: Vec::new(), owners: vec![None; partitions] };
            let topic = topics.entry(*id).or_insert_with(new);
            topic.subscribers.push(index);
            for partition in member.target.get(id).into_iter().flatten() {
                let owner = usize::try_from(*partition).ok().and_then(|partition| topic.owners.get_mut(partition));
                if let Some(owner @ None) = owner {
                    *owner = Some(index);
                    sizes[index] += 1;
                }
            }
        }
    }
    let mut topics: Vec<Topic> = topics.into_values().collect();
    // Most partitions for a subscriber first (compared as fractions), then fewest subscribers.
    topics.sort_by(|a, b| {
        let (of_a, of_b) = (a.owners.len() * b.subscribers.len(), b.owners.len() * a.subscribers.len());
        of_b.cmp(&of_a).then(a.subscribers.len().cmp(&b.subscribers.len())).then(a.id.cmp(&b.id))
    });
    topics.iter_mut().for_each(|topic| fill(topic, &mut sizes));
    even_out(&mut topics, &mut sizes);
    gather(members, &topics)
}

/// Gives what nobody has to the subscriber with the least.
fn fill(topic: &mut Topic, sizes: &mut [usize]) {
    for owner in topic.owners.iter_mut().filter(|owner| owner.is_none()) {
        if let Some(least) = topic.subscribers.iter().copied().min_by_key(|index| (sizes[*index], *index)) {
            *owner = Some(least);
            sizes[least] += 1;
        }
    }
}

fn even_out(topics: &mut [Topic], sizes: &mut [usize]) {
    for _ in 0..MAX_ROUNDS {
        let mut moved = 0;
        for topic in topics.iter_mut().filter(|topic| topic.subscribers.len() >= 2) {
            moved += even_out_topic(topic, sizes);
        }
        if moved == 0 {
            return;
        }
    }
}

/// Moves partitions of one topic from the subscriber with the most to that with the least, while that is two or more apart.
fn even_out_topic(topic: &mut Topic, sizes: &mut [usize]) -> usize {
    let mut owned: BTreeMap<usize, Vec<PartitionId>> = BTreeMap::new();
    for (partition, owner) in topic.owners.iter().enumerate() {
        if let Some(owner) = owner {
            owned.entry(*owner).or_default().push(partition as PartitionId);
        }
    }
    let mut moved = 0;
    loop {
        let least = topic.subscribers.iter().copied().min_by_key(|index| (sizes[*index], *index));
        let givers =
            topic.subscribers.iter().copied().filter(|index| owned.get(index).is_some_and(|own| !own.is_empty()));
        let most = givers.max_by_key(|index| (sizes[*index], *index));
        let (Some(least), Some(most)) = (least, most) else { return moved };
        if sizes[most] <= sizes[least] + 1 {
            return moved;
        }
        let Some(partition) = owned.get_mut(&most).and_then(Vec::pop) else { return moved };
        topic.owners[partition as usize] = Some(least);
        sizes[most] -= 1;
        sizes[least] += 1;
        moved += 1;
    }
}

fn gather(members: &Subscribers, topics: &[Topic]) -> Assignment {
    let ids: Vec<&Arc<str>> = members.keys().collect();
    let mut assignment: Assignment = ids.iter().map(|id| (Arc::clone(id), super::Partitions::new())).collect();
    for topic in topics {
        for (partition, owner) in topic.owners.iter().enumerate() {
            let owner = owner.and_then(|owner| assignment.get_mut(ids[owner]));
            if let Some(own) = owner {
                own.entry(topic.id).or_default().insert(partition as PartitionId);
            }
        }
    }
    assignment
}
