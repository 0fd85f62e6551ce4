//! A commit, step by step: caches flushed, changelog and output acknowledged, offsets committed, then, if enough has come together,
//! the stores written together with their changelog positions.
//!
//! In this order a crash at any point loses nothing: what was processed after the last committed offset is processed again, and a store is
//! never ahead of the changelog that can restore it. Between the first and the last step the thread processes no record.

use std::collections::BTreeMap;
use std::task::Waker;

use base::{Now, Offset, TopicPartition};
use client::consumer::{CommitTicket, ConsumerCore, OffsetAndMetadata};
use client::producer::FlushMark;
use client::{ClientError, Step};

use super::producer_collector::ProducerCollector;
use super::stall::Stall;
use crate::error::{ErrorKind, StreamsError};
use crate::task::{CommitOffset, Task, TaskId};

enum Stage {
    /// Output is being acknowledged; without a mark while some of it waits for a topic's partitions.
    Flushing { mark: Option<FlushMark>, offsets: Vec<(TopicPartition, OffsetAndMetadata)> },
    /// Offsets are being committed.
    Offsets { ticket: CommitTicket, offsets: Vec<(TopicPartition, OffsetAndMetadata)> },
}

/// A commit under way.
pub(crate) struct Commit {
    tasks: Vec<TaskId>,
    /// What is committed, for whoever acts on it afterwards.
    offsets: Vec<(TopicPartition, Offset)>,
    stage: Stage,
    stall: Stall,
}

impl Commit {
    /// Flushes the caches of the tasks that need a commit, and begins it; `None` if none does.
    pub(crate) fn begin(
        tasks: &mut BTreeMap<TaskId, Task>,
        wanted: impl Fn(&Task) -> bool,
        stall: Stall,
    ) -> Result<Option<Self>, StreamsError> {
        let mut committing = Vec::new();
        let mut offsets = Vec::new();
        for (id, task) in tasks.iter_mut().filter(|(_, task)| wanted(task) && task.commit_needed()) {
            for offset in task.prepare_commit()? {
                let CommitOffset { partition, offset, leader_epoch, metadata } = offset;
                offsets.push((partition, OffsetAndMetadata { offset, leader_epoch, metadata }));
            }
            committing.push(*id);
        }
        if committing.is_empty() {
            return Ok(None);
        }
        let committed = offsets.iter().map(|(partition, commit)| (partition.clone(), commit.offset)).collect();
        let stage = Stage::Flushing { mark: None, offsets };
        Ok(Some(Self { tasks: committing, offsets: committed, stage, stall }))
    }

    /// The offsets that it commits.
    pub(crate) fn offsets(&self) -> &[(TopicPartition, Offset)] {
        &self.offsets
    }

    /// Makes progress; whether the commit is complete, and when to go on with it.
    ///
    /// # Errors
    /// `TaskMigrated` when the group has moved on: what was not committed belongs to others now.
    pub(crate) fn step(
        &mut self,
        tasks: &mut BTreeMap<TaskId, Task>,
        collector: &std::cell::RefCell<ProducerCollector>,
        consumer: &mut ConsumerCore,
        now: Now,
        waker: &Waker,
    ) -> Result<(bool, Step), StreamsError> {
        let mut step = Step::IDLE;
        if let Stage::Flushing { mark, offsets } = &mut self.stage {
            let mut collector = collector.borrow_mut();
            if mark.is_none() && !collector.is_holding() {
                *mark = Some(collector.producer().begin_flush());
            }
            step = collector.step(now, waker)?;
            if !mark.is_some_and(|mark| collector.producer().is_flush_done(mark)) {
                return Ok((false, step));
            }
            drop(collector);
            let offsets = std::mem::take(offsets);
            let ticket = consumer.commit(offsets.clone());
            self.stage = Stage::Offsets { ticket, offsets };
        }
        if let Stage::Offsets { ticket, offsets } = &mut self.stage {
            // Sends the request, and with the embedded broker takes its answer.
            step = step.and(consumer.step(now, waker));
            match consumer.commit_result(*ticket) {
                None => return Ok((false, step)),
                Some(Ok(())) => {}
                Some(Err(error @ (ClientError::Rebalanced(_) | ClientError::Fenced(_)))) => {
                    return Err(StreamsError::caused_by(ErrorKind::TaskMigrated, error));
                }
                Some(Err(error)) => {
                    self.stall.failed(error, now)?;
                    *ticket = consumer.commit(offsets.clone());
                    return Ok((false, Step { did_work: true, ..step }));
                }
            }
        }
        for id in &self.tasks {
            if let Some(task) = tasks.get_mut(id) {
                task.post_commit_deferred()?;
            }
        }
        Ok((true, step))
    }
}
