//! Brings the stores of new tasks up to date from their changelogs, all partitions side by side, a bounded amount a step.
//!
//! For each changelog: ask for its start and end, wipe the store if its position lies outside (a topic made anew, a power cut under
//! `durability=process`), read from the store's position to the end. Reading is by a consumer of its own, without group, that sees everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use base::{Now, Offset, TopicPartition};
use client::Step;
use client::consumer::{ConsumerCore, OffsetSpec, OffsetsTicket};

use super::application::{Application, RestoreEvent};
use super::stall::Stall;
use crate::error::{ErrorKind, StreamsError};
use crate::task::{Changelog, Task, TaskId};

enum Stage {
    /// Start and end are being asked for.
    Bounds { earliest: Bound, latest: Bound },
    /// Records are being read.
    Reading { end: Offset, total: u64 },
}

/// An offset that is asked for. Each is answered, and asked for again after a passing error, by itself.
struct Bound {
    spec: OffsetSpec,
    answer: Answer,
    stall: Stall,
}

enum Answer {
    Asked(OffsetsTicket),
    Known(Offset),
}

impl Bound {
    fn ask(consumer: &mut ConsumerCore, partition: &TopicPartition, spec: OffsetSpec, timeout_ms: i64) -> Self {
        let answer = Answer::Asked(consumer.list_offsets(vec![(partition.clone(), spec)]));
        Self { spec, answer, stall: Stall::new(timeout_ms) }
    }

    /// The offset, once it is known. What was not answered in time is asked again, for `task.timeout.ms`.
    fn settle(
        &mut self,
        consumer: &mut ConsumerCore,
        partition: &TopicPartition,
        now: Now,
    ) -> Result<Option<Offset>, StreamsError> {
        if let Answer::Asked(ticket) = &mut self.answer {
            match consumer.list_offsets_result(*ticket) {
                None => return Ok(None),
                Some(Err(error)) => {
                    self.stall.failed(error, now)?;
                    *ticket = consumer.list_offsets(vec![(partition.clone(), self.spec)]);
                    return Ok(None);
                }
                Some(Ok(offsets)) => {
                    let found = offsets.first().and_then(|(_, found)| found.as_ref());
                    self.answer = Answer::Known(found.map_or(0, |found| found.offset));
                }
            }
        }
        match self.answer {
            Answer::Known(offset) => Ok(Some(offset)),
            Answer::Asked(_) => Ok(None),
        }
    }
}

struct Restoring {
    task: TaskId,
    changelog: Changelog,
    stage: Stage,
}

/// Restores the stores of one thread's tasks.
pub(crate) struct Restorer {
    application: Arc<Application>,
    consumer: ConsumerCore,
    under_way: BTreeMap<TopicPartition, Restoring>,
    /// Of reading.
    stall: Stall,
}

fn unavailable(error: client::ClientError) -> StreamsError {
    StreamsError::caused_by(ErrorKind::Unavailable, error)
}

impl Restorer {
    pub(crate) fn new(application: Arc<Application>, consumer: ConsumerCore) -> Self {
        let stall = Stall::new(application.built.config().task_timeout_ms());
        Self { application, consumer, under_way: BTreeMap::new(), stall }
    }

    /// Begins to restore all stores of `task`.
    pub(crate) fn add(&mut self, task: &Task) -> Result<(), StreamsError> {
        for changelog in task.changelogs()? {
            let partition = changelog.partition.clone();
            let timeout_ms = self.application.built.config().task_timeout_ms();
            let mut ask = |spec| Bound::ask(&mut self.consumer, &partition, spec, timeout_ms);
            let (earliest, latest) = (ask(OffsetSpec::Earliest), ask(OffsetSpec::Latest));
            let restoring = Restoring { task: task.id(), changelog, stage: Stage::Bounds { earliest, latest } };
            self.under_way.insert(partition, restoring);
        }
        Ok(())
    }

    /// Gives up restoring for a task that is being closed.
    pub(crate) fn remove(&mut self, task: TaskId) -> Result<(), StreamsError> {
        self.under_way.retain(|_, restoring| restoring.task != task);
        self.assign()
    }

    /// Whether all stores of `task` are complete.
    pub(crate) fn is_complete(&self, task: TaskId) -> bool {
        self.under_way.values().all(|restoring| restoring.task != task)
    }

    fn assign(&mut self) -> Result<(), StreamsError> {
        let reading = |restoring: &Restoring| matches!(restoring.stage, Stage::Reading { .. });
        let partitions: Vec<TopicPartition> = self
            .under_way
            .iter()
            .filter(|(_, restoring)| reading(restoring))
            .map(|(partition, _)| partition.clone())
            .collect();
        self.consumer.assign(partitions).map_err(unavailable)
    }

    /// Makes progress; `tasks` are those being restored.
    pub(crate) fn step(
        &mut self,
        tasks: &mut BTreeMap<TaskId, Task>,
        now: Now,
        waker: &Waker,
    ) -> Result<Step, StreamsError> {
        if self.under_way.is_empty() {
            return Ok(Step::IDLE);
        }
        let mut step = self.consumer.step(now, waker);
        if let Some(error) = self.consumer.take_error() {
            self.stall.failed(error, now)?;
        }
        // Events are not of interest here: there is no group, and positions are set by hand.
        let _ = self.consumer.take_events();
        step.did_work |= self.settle_bounds(tasks, now)?;
        if self.apply(tasks)? {
            self.stall.answered();
            step.did_work = true;
        }
        Ok(step)
    }

    /// Turns answered questions for start and end into reading.
    fn settle_bounds(&mut self, tasks: &mut BTreeMap<TaskId, Task>, now: Now) -> Result<bool, StreamsError> {
        let mut begun = Vec::new();
        let mut done = Vec::new();
        for (partition, restoring) in &mut self.under_way {
            let Stage::Bounds { earliest, latest } = &mut restoring.stage else { continue };
            let bounds = (
                earliest.settle(&mut self.consumer, partition, now)?,
                latest.settle(&mut self.consumer, partition, now)?,
            );
            let (Some(earliest), Some(end)) = bounds else { continue };
            let Some(task) = tasks.get_mut(&restoring.task) else { continue };
            let start = match restoring.changelog.start {
                Some(start) if start > end || start < earliest => {
                    tracing::warn!(
                        task = %restoring.task,
                        store = restoring.changelog.store,
                        "the store is at offset {start} of {partition}, which holds {earliest} to {end}: it is wiped and restored"
                    );
                    task.wipe_stores(Some(&restoring.changelog.store))?;
                    earliest
                }
                Some(start) => start,
                None => earliest,
            };
            restoring.stage = Stage::Reading { end, total: 0 };
            if start >= end {
                done.push(partition.clone());
            } else {
                self.application.tell_restore(
                    &restoring.changelog.store,
                    partition,
                    &RestoreEvent::Started { start, end },
                );
                begun.push((partition.clone(), start));
            }
        }
        let changed = !begun.is_empty() || !done.is_empty();
        for partition in done {
            self.under_way.remove(&partition);
        }
        if !begun.is_empty() {
            self.assign()?;
            for (partition, start) in begun {
                self.consumer.seek(&partition, start).map_err(unavailable)?;
            }
        }
        Ok(changed)
    }

    /// Applies what was fetched.
    fn apply(&mut self, tasks: &mut BTreeMap<TaskId, Task>) -> Result<bool, StreamsError> {
        let mut changed = false;
        let mut finished = false;
        while let Some(fetched) = self.consumer.take_fetched() {
            changed = true;
            let Some(restoring) = self.under_way.get_mut(&fetched.partition) else { continue };
            let Stage::Reading { end, total } = &mut restoring.stage else { continue };
            let Some(task) = tasks.get_mut(&restoring.task) else { continue };
            let restored = task.restore(&fetched.partition, &fetched.batches, fetched.fetch_offset, *end)?;
            *total += restored.records;
            let store = &restoring.changelog.store;
            let event = RestoreEvent::Batch { offset: restored.next_offset, total: *total };
            self.application.tell_restore(store, &fetched.partition, &event);
            if fetched.next_offset >= *end {
                let event = RestoreEvent::Ended { total: *total };
                self.application.tell_restore(store, &fetched.partition, &event);
                self.under_way.remove(&fetched.partition);
                finished = true;
            }
        }
        // The log may end in control records, which are never handed over: the position tells.
        let passed: Vec<TopicPartition> = self
            .under_way
            .iter()
            .filter(|(partition, restoring)| match restoring.stage {
                Stage::Reading { end, .. } => self.consumer.position(partition).is_some_and(|position| position >= end),
                Stage::Bounds { .. } => false,
            })
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in passed {
            if let Some(restoring) = self.under_way.remove(&partition)
                && let Stage::Reading { total, .. } = restoring.stage
            {
                let event = RestoreEvent::Ended { total };
                self.application.tell_restore(&restoring.changelog.store, &partition, &event);
            }
            finished = true;
        }
        if finished {
            self.assign()?;
        }
        Ok(changed || finished)
    }
}
