//! The `sticky` task assignor: spreads the active tasks of a topology evenly over processes, by their number of threads,
//! and over the threads of each; leaves tasks where they are as far as that allows, and else gives them to whoever has a
//! copy of their state; then places standby tasks on other processes in the same way.
//!
//! A pure function: members, what they were to have and the tasks give what they are to have. Ties go to what sorts first,
//! so that the same input has the same result.
//!
//! Invariant: every task is active at exactly one member; no process has a task twice; the members' numbers of active
//! tasks differ by no more than one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tasks::{TaskId, Tasks};

/// Members of the group by id: the process of each, and what it was to have.
pub type Members<'a> = BTreeMap<&'a Arc<str>, (&'a Arc<str>, Option<&'a Tasks>)>;

/// A subtopology, as far as the assignor must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subtopology {
    /// Its name.
    pub id: Arc<str>,
    /// Number of tasks.
    pub tasks: i32,
    /// Whether there is state to keep copies of.
    pub is_stateful: bool,
}

/// What each member is to have, with `standby_replicas` copies of each stateful task as far as there are processes for
/// them. Empty without members.
pub fn assign(
    members: &Members<'_>,
    subtopologies: &[Subtopology],
    standby_replicas: usize,
) -> BTreeMap<Arc<str>, Tasks> {
    if members.is_empty() {
        return BTreeMap::new();
    }
    let mut work = Work::new(members, subtopologies, standby_replicas);
    work.place_active(subtopologies);
    if standby_replicas > 0 {
        work.place_standbys(subtopologies, standby_replicas);
    }
    let result = members.keys().zip(work.members).map(|(id, member)| (Arc::clone(id), member.tasks));
    result.collect()
}

struct Member {
    process: usize,
    count: usize,
    tasks: Tasks,
}

#[derive(Default)]
struct Process {
    members: Vec<usize>,
    count: usize,
    /// All tasks at its members, in whatever role.
    tasks: BTreeSet<TaskId>,
}

/// How many tasks a member may have: the rest, shared out evenly among those that are not full yet.
struct Quota {
    tasks: usize,
    members: usize,
}

impl Quota {
    fn each(&self) -> usize {
        if self.members == 0 { 0 } else { self.tasks.div_ceil(self.members) }
    }

    /// A member has `count` tasks now: once it is full, it takes its share out.
    fn note(&mut self, count: usize) {
        if self.members > 0 && count == self.each() {
            self.members -= 1;
            self.tasks = self.tasks.saturating_sub(count);
        }
    }
}

struct Work {
    members: Vec<Member>,
    processes: Vec<Process>,
    was_active: BTreeMap<TaskId, usize>,
    was_copy: BTreeMap<TaskId, Vec<usize>>,
    active_quota: Quota,
    total_quota: Quota,
}

impl Work {
    fn new(members: &Members<'_>, subtopologies: &[Subtopology], standby_replicas: usize) -> Self {
        let mut by_name: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        let mut work = Self {
            members: Vec::with_capacity(members.len()),
            processes: Vec::new(),
            was_active: BTreeMap::new(),
            was_copy: BTreeMap::new(),
            active_quota: Quota { tasks: 0, members: members.len() },
            total_quota: Quota { tasks: 0, members: members.len() },
        };
        for (process, had) in members.values() {
            let at = *by_name.entry(process).or_insert(work.processes.len());
            if at == work.processes.len() {
                work.processes.push(Process::default());
            }
            let index = work.members.len();
            work.processes[at].members.push(index);
            work.members.push(Member { process: at, count: 0, tasks: Tasks::default() });
            let Some(had) = had else { continue };
            work.was_active.extend(had.active.iter().map(|task| (task.clone(), index)));
            for task in had.standby.iter().chain(&had.warmup) {
                work.was_copy.entry(task.clone()).or_default().push(index);
            }
        }
        for subtopology in subtopologies {
            let tasks = usize::try_from(subtopology.tasks).unwrap_or(0);
            work.active_quota.tasks += tasks;
            work.total_quota.tasks += if subtopology.is_stateful { tasks * (1 + standby_replicas) } else { tasks };
        }
        work
    }

    fn give(&mut self, index: usize, task: &TaskId, active: bool) {
        let Some(member) = self.members.get_mut(index) else { return };
        member.count += 1;
        let role = if active { &mut member.tasks.active } else { &mut member.tasks.standby };
        role.insert(task.clone());
        let count = member.count;
        if let Some(process) = self.processes.get_mut(member.process) {
            process.count += 1;
            process.tasks.insert(task.clone());
        }
        if active {
            self.active_quota.note(count);
        }
        self.total_quota.note(count);
    }

    /// Orders processes by tasks per member, without fractions.
    fn load(&self, process: usize) -> Load {
        self.processes.get(process).map_or(Load(0, 1), |process| Load(process.count, process.members.len().max(1)))
    }

    /// The member with fewest tasks among the processes that do not have `task`; of several, one in the process with the
    /// smallest load.
    fn least_loaded(&self, task: &TaskId) -> Option<usize> {
        let free = self.processes.iter().filter(|process| !process.tasks.contains(task));
        let members = free.flat_map(|process| process.members.iter().copied());
        members.min_by_key(|index| (self.members[*index].count, self.load(self.members[*index].process)))
    }

    /// Of those that had a copy of `task`, one in the process with the smallest load that does not have the task.
    fn former_copy(&self, task: &TaskId) -> Option<usize> {
        let had = self.was_copy.get(task)?.iter().copied();
        let free = had.filter(|index| !self.processes[self.members[*index].process].tasks.contains(task));
        free.min_by_key(|index| (self.load(self.members[*index].process), self.members[*index].count))
    }

    fn place_active(&mut self, subtopologies: &[Subtopology]) {
        // By partition first: tasks of the same partition that were together stay together.
        let mut tasks = by_partition(subtopologies.iter());
        tasks.retain(|task| match self.was_active.get(task).copied() {
            Some(index) if self.members[index].count < self.active_quota.each() => {
                self.give(index, task, true);
                false
            }
            _ => true,
        });
        tasks.retain(|task| match self.former_copy(task) {
            Some(index) if self.members[index].count < self.active_quota.each() => {
                self.give(index, task, true);
                false
            }
            _ => true,
        });
        tasks.sort();
        for task in tasks {
            if let Some(index) = self.least_loaded(&task) {
                self.give(index, &task, true);
            }
        }
    }

    fn place_standbys(&mut self, subtopologies: &[Subtopology], replicas: usize) {
        let mut tasks = by_partition(subtopologies.iter().filter(|subtopology| subtopology.is_stateful));
        // From the other end than the active ones, so that copies do not crowd where those were placed first.
        tasks.reverse();
        let mut rest = Vec::new();
        for task in tasks {
            let mut missing = replicas;
            let was_active = self.was_active.get(&task).copied();
            if let Some(index) = was_active
                && !self.processes[self.members[index].process].tasks.contains(&task)
                && self.members[index].count < self.total_quota.each()
            {
                self.give(index, &task, false);
                missing -= 1;
            }
            while missing > 0
                && let Some(index) = self.former_copy(&task)
                && self.members[index].count < self.total_quota.each()
            {
                self.give(index, &task, false);
                missing -= 1;
            }
            if missing > 0 {
                rest.push((task, missing));
            }
        }
        rest.sort_by(|(one, _), (other, _)| other.cmp(one));
        for (task, missing) in rest {
            for _ in 0..missing {
                let Some(index) = self.least_loaded(&task) else { break };
                self.give(index, &task, false);
            }
        }
    }
}

/// Tasks per member, compared as fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load(usize, usize);

impl Ord for Load {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0 * other.1).cmp(&(other.0 * self.1))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn by_partition<'a>(subtopologies: impl Iterator<Item = &'a Subtopology>) -> Vec<TaskId> {
    let tasks = subtopologies.flat_map(|subtopology| {
        (0..subtopology.tasks).map(|partition| TaskId::new(Arc::clone(&subtopology.id), partition))
    });
    let mut tasks: Vec<TaskId> = tasks.collect();
    tasks.sort_by(|one, other| (one.partition, &one.subtopology).cmp(&(other.partition, &other.subtopology)));
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subtopology(id: &str, tasks: i32, is_stateful: bool) -> Subtopology {
        Subtopology { id: id.into(), tasks, is_stateful }
    }

    fn assigned(
        members: &[(&str, &str)],
        before: &BTreeMap<Arc<str>, Tasks>,
        subtopologies: &[Subtopology],
        replicas: usize,
    ) -> BTreeMap<Arc<str>, Tasks> {
        let names: Vec<(Arc<str>, Arc<str>)> =
            members.iter().map(|(id, process)| ((*id).into(), (*process).into())).collect();
        let members = names.iter().map(|(id, process)| (id, (process, before.get(id)))).collect();
        assign(&members, subtopologies, replicas)
    }

    fn names(tasks: &BTreeSet<TaskId>) -> String {
        tasks.iter().map(|task| format!("{}_{}", task.subtopology, task.partition)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn threads_of_a_process_get_equally_many_and_keep_them_when_others_come() {
        let two = [subtopology("0", 3, false), subtopology("1", 3, true)];
        let first = assigned(&[("m1", "p1"), ("m2", "p1")], &BTreeMap::new(), &two, 0);
        assert_eq!(
            first.values().map(|tasks| names(&tasks.active)).collect::<Vec<_>>(),
            ["0_0 0_2 1_1", "0_1 1_0 1_2"]
        );
        let second = assigned(&[("m1", "p1"), ("m2", "p1"), ("m3", "p2")], &first, &two, 0);
        assert!(
            second["m1"].active.is_subset(&first["m1"].active) && second["m2"].active.is_subset(&first["m2"].active)
        );
        assert_eq!(second.values().map(|tasks| tasks.active.len()).collect::<Vec<_>>(), [2, 2, 2]);
    }

    #[test]
    fn a_copy_takes_over_and_copies_are_on_other_processes() {
        let one = [subtopology("0", 1, true)];
        let first = assigned(&[("m1", "p1"), ("m2", "p2"), ("m3", "p3")], &BTreeMap::new(), &one, 1);
        let holder = first.iter().find(|(_, tasks)| tasks.standby.contains(&TaskId::new("0", 0))).unwrap().0.clone();
        let owner = first.iter().find(|(_, tasks)| tasks.active.contains(&TaskId::new("0", 0))).unwrap().0.clone();
        assert_ne!(holder, owner);
        let left: Vec<(&str, &str)> =
            [("m1", "p1"), ("m2", "p2"), ("m3", "p3")].into_iter().filter(|(id, _)| **id != *owner).collect();
        let second = assigned(&left, &first, &one, 1);
        assert!(second[&holder].active.contains(&TaskId::new("0", 0)), "{second:?}");
        // No copy where there is no other process.
        let alone = assigned(&[("m1", "p1"), ("m2", "p1")], &first, &one, 1);
        assert!(alone.values().all(|tasks| tasks.standby.is_empty()));
    }

    proptest! {
        #[test]
        fn all_tasks_are_active_once_and_evenly_spread(
            processes in proptest::collection::vec(1usize..4, 1..5),
            sizes in proptest::collection::vec((0i32..9, any::<bool>()), 1..4),
            replicas in 0usize..3,
            gone in 0usize..3,
        ) {
            let subtopologies: Vec<Subtopology> = sizes.iter().enumerate().map(|(id, (tasks, stateful))| subtopology(&id.to_string(), *tasks, *stateful)).collect();
            let mut members: Vec<(String, String)> = Vec::new();
            for (process, threads) in processes.iter().enumerate() {
                members.extend((0..*threads).map(|thread| (format!("m{process}{thread}"), format!("p{process}"))));
            }
            let all: Vec<(&str, &str)> = members.iter().map(|(id, process)| (id.as_str(), process.as_str())).collect();
            let mut before = BTreeMap::new();
            for left in [&all[..], &all[gone.min(all.len() - 1)..], &all[..]] {
                let result = assigned(left, &before, &subtopologies, replicas);
                let process_of: BTreeMap<&str, &str> = left.iter().copied().collect();
                let mut active = BTreeSet::new();
                let mut by_process: BTreeMap<&str, BTreeSet<TaskId>> = BTreeMap::new();
                for (id, tasks) in &result {
                    for task in &tasks.active {
                        prop_assert!(active.insert(task.clone()));
                    }
                    for task in tasks.iter() {
                        prop_assert!(by_process.entry(process_of[&**id]).or_default().insert(task.clone()), "{} twice in a process", task.partition);
                    }
                }
                prop_assert_eq!(active.len() as i32, sizes.iter().map(|(tasks, _)| tasks).sum::<i32>());
                let counts: Vec<usize> = result.values().map(|tasks| tasks.active.len()).collect();
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
                let wanted = replicas.min(process_of.values().collect::<BTreeSet<_>>().len() - 1);
                let copies: usize = result.values().map(|tasks| tasks.standby.len()).sum();
                let stateful: i32 = sizes.iter().filter(|(_, stateful)| *stateful).map(|(tasks, _)| tasks).sum();
                prop_assert_eq!(copies, wanted * stateful as usize);
                // Nothing has changed: nothing moves.
                let again = assigned(left, &result, &subtopologies, replicas);
                for (id, tasks) in &result {
                    prop_assert_eq!(&again[id].active, &tasks.active);
                }
                before = result;
            }
        }
    }
}
