//! Which member gets which task: balanced first, then where the task ran, then where its state lies.
//!
//! A pure function of the members' subscriptions, so that every leader gives the same answer. No member gets more than
//! one task more than another; within that, a task stays with the member that runs it, else goes to a member of a
//! process that holds state of it, else to the member with the fewest tasks (and of those, the fewest of the same
//! sub-topology, so that the partitions of one heavy sub-topology spread).

use std::collections::{BTreeMap, BTreeSet};

use super::subscription::{RUNNING, SubscriptionInfo};
use crate::task::TaskId;

/// Gives every task of `tasks` to exactly one member of `members` (by member id). No members: nothing.
pub fn balance(
    tasks: &BTreeSet<TaskId>,
    members: &BTreeMap<String, SubscriptionInfo>,
) -> BTreeMap<String, Vec<TaskId>> {
    let mut given: BTreeMap<String, Vec<TaskId>> = members.keys().map(|id| (id.clone(), Vec::new())).collect();
    if members.is_empty() {
        return given;
    }
    let most = tasks.len().div_ceil(members.len());
    // How many members may hold `most`; the others hold one less (none when the tasks divide evenly).
    let mut full_places = match tasks.len() % members.len() {
        0 => members.len(),
        rest => rest,
    };
    let mut open: BTreeSet<TaskId> = tasks.clone();
    let mut give = |given: &mut BTreeMap<String, Vec<TaskId>>, member: &str, task: TaskId| -> bool {
        let Some(held) = given.get_mut(member) else { return false };
        let fills = held.len() + 1 == most;
        if held.len() >= most || (fills && full_places == 0) {
            return false;
        }
        full_places -= usize::from(fills);
        held.push(task);
        true
    };
    for keeps in [|sum: i64| sum == RUNNING, |sum: i64| sum >= 0] {
        for (member, info) in members {
            let mut held: Vec<_> = info.tasks.iter().filter(|(_, sum)| keeps(*sum)).collect();
            held.sort();
            for (task, _) in held {
                if open.contains(task) && give(&mut given, member, *task) {
                    open.remove(task);
                }
            }
        }
    }
    for task in open {
        let mut candidates: Vec<(usize, usize, String)> = given
            .iter()
            .map(|(member, held)| {
                let same = held.iter().filter(|other| other.subtopology == task.subtopology).count();
                (held.len(), same, member.clone())
            })
            .collect();
        candidates.sort();
        for (_, _, member) in candidates {
            if give(&mut given, &member, task) {
                break;
            }
        }
    }
    for held in given.values_mut() {
        held.sort();
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(process: u8, tasks: &[(u32, i32, i64)]) -> SubscriptionInfo {
        SubscriptionInfo {
            process_id: [process; 16],
            endpoint: String::new(),
            tasks: tasks.iter().map(|(sub, partition, sum)| (TaskId::new(*sub, *partition), *sum)).collect(),
            unique_field: 0,
            error_code: 0,
        }
    }

    fn tasks(count: i32) -> BTreeSet<TaskId> {
        (0..count).map(|n| TaskId::new((n % 2) as u32, n / 2)).collect()
    }

    #[test]
    fn running_tasks_stay_and_the_rest_evens_out() {
        let members = BTreeMap::from([
            ("a".to_owned(), member(1, &[(0, 0, RUNNING), (1, 0, RUNNING), (0, 1, RUNNING), (1, 1, RUNNING)])),
            ("b".to_owned(), member(2, &[])),
        ]);
        let given = balance(&tasks(4), &members);
        assert_eq!(given["a"], [TaskId::new(0, 0), TaskId::new(0, 1)]);
        assert_eq!(given["b"], [TaskId::new(1, 0), TaskId::new(1, 1)]);
    }

    #[test]
    fn state_left_behind_attracts_its_task() {
        let members = BTreeMap::from([("a".to_owned(), member(1, &[])), ("b".to_owned(), member(2, &[(0, 0, 500)]))]);
        let given = balance(&tasks(2), &members);
        assert_eq!(given["b"], [TaskId::new(0, 0)]);
    }

    proptest! {
        #[test]
        fn every_task_has_one_owner_and_loads_differ_by_at_most_one(
            count in 0..40i32, members in 1..7usize, seed in any::<u64>()
        ) {
            let mut rng = base::Rng::from_seed(seed);
            let members: BTreeMap<String, SubscriptionInfo> = (0..members).map(|n| {
                let previous: Vec<_> = (0..count)
                    .filter(|_| rng.chance(1, 3))
                    .map(|n| ((n % 2) as u32, n / 2, if n % 3 == 0 { 10 } else { RUNNING }))
                    .collect();
                (format!("m{n}"), member(n as u8, &previous))
            }).collect();
            let all = tasks(count);
            let given = balance(&all, &members);
            let owned: Vec<TaskId> = given.values().flatten().copied().collect();
            prop_assert_eq!(owned.len(), all.len());
            prop_assert_eq!(owned.into_iter().collect::<BTreeSet<_>>(), all);
            let loads: Vec<usize> = given.values().map(Vec::len).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        }
    }
}
