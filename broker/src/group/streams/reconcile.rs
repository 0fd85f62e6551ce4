//! The way of one member from the tasks it has to those it is to have: first it gives up what it is not to keep, and only
//! when it says that this is done it gets what others have given up. A pure function: what the member has, what it is to
//! have, what it says and who has what, gives what it has next.
//!
//! Invariant: no task is active at two members, and no process has a task in two roles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tasks::{HeldTasks, TaskId, TaskIdSet, Tasks};

/// Where a member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have as of its epoch.
    #[default]
    Stable,
    /// It is to give tasks up, and has not said yet that it did.
    UnrevokedTasks,
    /// It waits for tasks that others have not given up yet.
    UnreleasedTasks,
    /// Read from a record of a later version: it must join anew.
    Unknown,
}

impl MemberState {
    /// The number in records.
    pub fn code(self) -> i8 {
        match self {
            Self::Stable => 1,
            Self::UnrevokedTasks => 2,
            Self::UnreleasedTasks => 3,
            Self::Unknown => 127,
        }
    }

    /// The state with that number.
    pub fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Stable,
            2 => Self::UnrevokedTasks,
            3 => Self::UnreleasedTasks,
            _ => Self::Unknown,
        }
    }
}

/// What a member has, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The epoch it has reached.
    pub epoch: i32,
    /// The epoch before that, should the answer with the newer one have been lost.
    pub previous_epoch: i32,
    /// Where it stands.
    pub state: MemberState,
    /// What it has.
    pub assigned: HeldTasks,
    /// What it is to give up.
    pub to_revoke: HeldTasks,
}

/// Which processes have which tasks, those to be given up included.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    active: BTreeMap<TaskId, Arc<str>>,
    copies: BTreeMap<TaskId, BTreeSet<Arc<str>>>,
}

impl Owners {
    /// Counts what a member of `process` has.
    pub fn add(&mut self, process: &Arc<str>, member: &Current) {
        for held in [&member.assigned, &member.to_revoke] {
            for task in held.active.keys() {
                self.active.insert(task.clone(), Arc::clone(process));
            }
            for task in held.standby.iter().chain(&held.warmup) {
                self.copies.entry(task.clone()).or_default().insert(Arc::clone(process));
            }
        }
    }

    fn has_copy(&self, task: &TaskId, process: &str) -> bool {
        self.copies.get(task).is_some_and(|processes| processes.contains(process))
    }

    /// An active task must be given up by its former owner, and by whoever has a copy in the same process.
    fn holds_back_active(&self, task: &TaskId, process: &str) -> bool {
        self.active.contains_key(task) || self.has_copy(task, process)
    }

    /// A copy must only not meet the task in its own process.
    fn holds_back_copy(&self, task: &TaskId, process: &str) -> bool {
        self.active.get(task).is_some_and(|owner| &**owner == process) || self.has_copy(task, process)
    }
}

/// What a member of `process` has next, on its way to `target`, which is of `target_epoch`. `owned` is what it says it
/// has, if it says so.
pub fn reconcile(
    member: &Current,
    process: &str,
    target_epoch: i32,
    target: &Tasks,
    owned: Option<&Tasks>,
    owners: &Owners,
) -> Current {
    let step = |epoch| next(member, epoch, process, target_epoch, target, owned, owners);
    match member.state {
        MemberState::Stable if member.epoch == target_epoch => member.clone(),
        MemberState::Stable | MemberState::UnreleasedTasks => step(member.epoch),
        MemberState::UnrevokedTasks if owned.is_none_or(|owned| owned.overlaps(&member.to_revoke)) => member.clone(),
        MemberState::UnrevokedTasks => step(member.epoch + 1),
        MemberState::Unknown => step(target_epoch),
    }
}

fn next(
    member: &Current,
    epoch: i32,
    process: &str,
    target_epoch: i32,
    target: &Tasks,
    owned: Option<&Tasks>,
    owners: &Owners,
) -> Current {
    let has = &member.assigned;
    let (kept, to_revoke) = split(has, target);
    if !to_revoke.is_empty() && owned.is_none_or(|owned| owned.overlaps(&to_revoke)) {
        let state = MemberState::UnrevokedTasks;
        return Current { epoch, previous_epoch: member.epoch, state, assigned: kept, to_revoke };
    }
    let mut assigned = kept;
    let mut waits = false;
    for task in target.active.iter().filter(|task| !has.active.contains_key(task)) {
        if owners.holds_back_active(task, process) {
            waits = true;
        } else {
            assigned.active.insert(task.clone(), target_epoch);
        }
    }
    let mut copies = |wanted: &TaskIdSet, had: &TaskIdSet, assigned: &mut TaskIdSet| {
        for task in wanted.difference(had) {
            if owners.holds_back_copy(task, process) {
                waits = true;
            } else {
                assigned.insert(task.clone());
            }
        }
    };
    copies(&target.standby, &has.standby, &mut assigned.standby);
    copies(&target.warmup, &has.warmup, &mut assigned.warmup);
    Current {
        epoch: target_epoch,
        previous_epoch: member.epoch,
        state: if waits { MemberState::UnreleasedTasks } else { MemberState::Stable },
        assigned,
        to_revoke: HeldTasks::default(),
    }
}

/// What of `has` is also in `target`, and what is not.
fn split(has: &HeldTasks, target: &Tasks) -> (HeldTasks, HeldTasks) {
    let (kept, lost) = has
        .active
        .iter()
        .map(|(task, epoch)| (task.clone(), *epoch))
        .partition(|(task, _)| target.active.contains(task));
    let both = |had: &TaskIdSet, wanted: &TaskIdSet| -> (TaskIdSet, TaskIdSet) {
        had.iter().cloned().partition(|task| wanted.contains(task))
    };
    let (kept_standby, lost_standby) = both(&has.standby, &target.standby);
    let (kept_warmup, lost_warmup) = both(&has.warmup, &target.warmup);
    (
        HeldTasks { active: kept, standby: kept_standby, warmup: kept_warmup },
        HeldTasks { active: lost, standby: lost_standby, warmup: lost_warmup },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(partitions: &[i32]) -> TaskIdSet {
        partitions.iter().map(|partition| TaskId::new("0", *partition)).collect()
    }

    fn active(partitions: &[i32]) -> Tasks {
        Tasks { active: set(partitions), ..Tasks::default() }
    }

    fn held(partitions: &[i32], epoch: i32) -> HeldTasks {
        HeldTasks { active: set(partitions).into_iter().map(|task| (task, epoch)).collect(), ..HeldTasks::default() }
    }

    #[test]
    fn tasks_are_given_up_before_others_get_them_and_keep_their_epoch() {
        let process: Arc<str> = "p1".into();
        let first = Current { epoch: 2, previous_epoch: 0, assigned: held(&[0, 1], 2), ..Current::default() };
        let mut owners = Owners::default();
        owners.add(&process, &first);
        let revoking = reconcile(&first, &process, 3, &active(&[0]), None, &owners);
        assert_eq!((revoking.epoch, revoking.state), (2, MemberState::UnrevokedTasks));
        assert_eq!((&revoking.assigned, &revoking.to_revoke), (&held(&[0], 2), &held(&[1], 2)));
        // The other waits meanwhile.
        let mut owners = Owners::default();
        owners.add(&process, &revoking);
        let other = reconcile(&Current::default(), "p2", 3, &active(&[1]), Some(&Tasks::default()), &owners);
        assert_eq!((other.epoch, other.state, other.assigned.is_empty()), (3, MemberState::UnreleasedTasks, true));
        // Nothing said, or still had: it stays.
        assert_eq!(reconcile(&revoking, &process, 3, &active(&[0]), None, &owners), revoking);
        assert_eq!(reconcile(&revoking, &process, 3, &active(&[0]), Some(&active(&[0, 1])), &owners), revoking);
        let done = reconcile(&revoking, &process, 3, &active(&[0]), Some(&active(&[0])), &owners);
        assert_eq!((done.epoch, done.previous_epoch, done.state), (3, 2, MemberState::Stable));
        assert_eq!(done.assigned, held(&[0], 2));
        let mut owners = Owners::default();
        owners.add(&process, &done);
        let other = reconcile(&other, "p2", 3, &active(&[1]), None, &owners);
        assert_eq!((other.state, other.assigned), (MemberState::Stable, held(&[1], 3)));
    }

    #[test]
    fn a_process_that_has_a_copy_gives_it_up_before_it_gets_the_task() {
        let process: Arc<str> = "p".into();
        let copy = Current {
            epoch: 2,
            assigned: HeldTasks { standby: set(&[0]), ..HeldTasks::default() },
            ..Current::default()
        };
        let mut owners = Owners::default();
        owners.add(&process, &copy);
        let thread = reconcile(&Current::default(), &process, 3, &active(&[0]), None, &owners);
        assert_eq!(thread.state, MemberState::UnreleasedTasks);
        let elsewhere = reconcile(&Current::default(), "q", 3, &active(&[0]), None, &owners);
        assert_eq!(elsewhere.state, MemberState::Stable);
        let standby = Tasks { standby: set(&[0]), ..Tasks::default() };
        assert_eq!(reconcile(&Current::default(), &process, 3, &standby, None, &owners).assigned, HeldTasks::default());
        assert_eq!(reconcile(&Current::default(), "q", 3, &standby, None, &owners).assigned.standby, set(&[0]));
    }

    proptest! {
        /// Members step in any order towards targets that change in between: no task is ever active twice, and once the
        /// targets rest all members have what they are to have.
        #[test]
        fn no_task_is_active_twice_and_all_arrive(
            targets in proptest::collection::vec(proptest::collection::vec(0usize..3, 6), 1..5),
            steps in proptest::collection::vec((0usize..3, any::<bool>()), 0..60),
        ) {
            let processes: [Arc<str>; 3] = ["p".into(), "p".into(), "q".into()];
            let mut members = vec![Current::default(); 3];
            let mut round = 0;
            let target_of = |round: usize, member: usize| {
                let owners = &targets[round];
                active(&(0..6).filter(|task| owners[*task as usize] == member).collect::<Vec<i32>>())
            };
            let settle = (0..60).map(|step| (step % 3, true));
            for (count, (member, says)) in steps.into_iter().chain(settle).enumerate() {
                if count % 10 == 9 && round + 1 < targets.len() {
                    round += 1;
                }
                let mut owners = Owners::default();
                for (process, current) in processes.iter().zip(&members) {
                    owners.add(process, current);
                }
                let owned = members[member].assigned.tasks();
                let next = reconcile(&members[member], &processes[member], round as i32 + 2, &target_of(round, member), says.then_some(&owned), &owners);
                members[member] = next;
                let mut seen = TaskIdSet::new();
                for current in &members {
                    for task in current.assigned.active.keys().chain(current.to_revoke.active.keys()) {
                        prop_assert!(seen.insert(task.clone()), "{task:?} is active twice");
                    }
                }
            }
            for (member, current) in members.iter().enumerate() {
                prop_assert_eq!(current.state, MemberState::Stable);
                prop_assert_eq!(current.assigned.tasks(), target_of(targets.len() - 1, member));
            }
        }
    }
}
