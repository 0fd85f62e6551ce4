//! Giving partitions up: commit where commits are automatic, tell the owner, wait until it has cleaned up.

use base::TopicPartition;

use crate::consumer::core::Context;
use crate::consumer::membership::{Acknowledged, Wish, announce, hold};
use crate::step::Step;

/// Partitions on their way out.
pub(super) struct Release {
    giving_up: Vec<TopicPartition>,
    /// They are others' already: nothing may be committed for them.
    lost: bool,
    committing: bool,
    acknowledged: Acknowledged,
}

impl Release {
    pub fn new(giving_up: Vec<TopicPartition>, lost: bool) -> Self {
        Self { giving_up, lost, committing: false, acknowledged: Acknowledged::Unasked }
    }

    /// Whether the owner was told.
    pub fn is_announced(&self) -> bool {
        self.acknowledged != Acknowledged::Unasked
    }

    pub fn acknowledge(&mut self) {
        if self.acknowledged == Acknowledged::Waiting {
            self.acknowledged = Acknowledged::Yes;
        }
    }

    /// Whether the owner is through with the partitions, which are removed then; and whether anything was done. `hurry`:
    /// without waiting for commits.
    pub fn step(&mut self, context: &mut Context<'_>, commits_idle: bool, hurry: bool) -> (bool, Step, Wish) {
        let work = Step { did_work: true, next_wake_ticks_ms: None };
        let mut step = Step::IDLE;
        if self.acknowledged == Acknowledged::Unasked {
            if !self.lost && context.config.enable_auto_commit && !self.giving_up.is_empty() {
                if !self.committing {
                    self.committing = true;
                    hold(context, &self.giving_up);
                    return (false, work, Wish { commit: true });
                }
                if !commits_idle && !hurry {
                    return (false, step, Wish::default());
                }
            }
            self.acknowledged = announce(context, &self.giving_up, self.lost);
            step = work;
        }
        let done = self.acknowledged == Acknowledged::Yes;
        if done {
            for name in &self.giving_up {
                context.partitions.remove(name);
            }
        }
        (done, step, Wish::default())
    }
}
