//! Tasks of a streams group: which there are, and who has which in what role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::PartitionId;
use protocol::api::streams_group_heartbeat::TaskIds;

/// A task: one partition of a subtopology.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The subtopology.
    pub subtopology: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
}

impl TaskId {
    /// The task of `subtopology` for `partition`.
    pub fn new(subtopology: impl Into<Arc<str>>, partition: PartitionId) -> Self {
        Self { subtopology: subtopology.into(), partition }
    }
}

/// Tasks in order.
pub type TaskIdSet = BTreeSet<TaskId>;

/// Tasks by role, as a member is to have them or says it has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// That process records.
    pub active: TaskIdSet,
    /// That keep a copy of the state.
    pub standby: TaskIdSet,
    /// That build a copy of the state, to become active.
    pub warmup: TaskIdSet,
}

impl Tasks {
    /// No task in any role.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// Whether a task has the same role in both.
    pub fn overlaps(&self, other: &HeldTasks) -> bool {
        other.active.keys().any(|task| self.active.contains(task))
            || !self.standby.is_disjoint(&other.standby)
            || !self.warmup.is_disjoint(&other.warmup)
    }

    /// Whether all tasks have the same role in `other`.
    pub fn is_within(&self, other: &HeldTasks) -> bool {
        self.active.iter().all(|task| other.active.contains_key(task))
            && self.standby.is_subset(&other.standby)
            && self.warmup.is_subset(&other.warmup)
    }

    /// All tasks, in whatever role.
    pub fn iter(&self) -> impl Iterator<Item = &TaskId> {
        self.active.iter().chain(&self.standby).chain(&self.warmup)
    }
}

/// Tasks by role, as a member has been given them: of the active ones it is known since which epoch, so that commits of
/// former owners can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldTasks {
    /// That process records, with the epoch at which the member got each.
    pub active: BTreeMap<TaskId, i32>,
    /// That keep a copy of the state.
    pub standby: TaskIdSet,
    /// That build a copy of the state, to become active.
    pub warmup: TaskIdSet,
}

impl HeldTasks {
    /// No task in any role.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// The tasks without epochs.
    pub fn tasks(&self) -> Tasks {
        Tasks {
            active: self.active.keys().cloned().collect(),
            standby: self.standby.clone(),
            warmup: self.warmup.clone(),
        }
    }

    /// Whether both have the same tasks in the same roles, whatever the epochs.
    pub fn same_tasks(&self, other: &Self) -> bool {
        self.active.keys().eq(other.active.keys()) && self.standby == other.standby && self.warmup == other.warmup
    }
}

/// Tasks as messages list them: partitions by subtopology.
pub fn to_wire<'a>(tasks: impl IntoIterator<Item = &'a TaskId>) -> Vec<TaskIds> {
    let mut lists: Vec<TaskIds> = Vec::new();
    for task in tasks {
        match lists.last_mut() {
            Some(last) if last.subtopology_id == task.subtopology => last.partitions.push(task.partition),
            _ => {
                lists.push(TaskIds { subtopology_id: Arc::clone(&task.subtopology), partitions: vec![task.partition] })
            }
        }
    }
    lists
}

/// Tasks that a message lists.
pub fn from_wire(lists: &[TaskIds]) -> TaskIdSet {
    let tasks = lists.iter().flat_map(|list| {
        list.partitions.iter().map(|partition| TaskId::new(Arc::clone(&list.subtopology_id), *partition))
    });
    tasks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_messages_hold_each_subtopology_once_and_read_back() {
        let tasks: TaskIdSet = [("1", 3), ("0", 2), ("0", 0)].map(|(id, partition)| TaskId::new(id, partition)).into();
        let lists = to_wire(&tasks);
        assert_eq!(
            lists.iter().map(|list| (&*list.subtopology_id, list.partitions.clone())).collect::<Vec<_>>(),
            [("0", vec![0, 2]), ("1", vec![3])]
        );
        assert_eq!(from_wire(&lists), tasks);
    }
}
