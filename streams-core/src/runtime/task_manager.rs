//! The tasks of one stream thread: made from the consumer's assignment, restored, fed with fetched batches, closed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use base::hash::HashMap;
use base::{Now, Offset, TopicPartition};
use client::Step;
use client::consumer::{CommittedTicket, ConsumerCore, OffsetReset};

use super::application::{Application, ThreadState};
use super::assignor::tasks_with_partitions;
use super::commit::Commit;
use super::producer_collector::ProducerCollector;
use super::restore::Restorer;
use super::stall::Stall;
use super::task_folders::FolderInUse;
use super::thread_metadata::TaskMetadata;
use crate::config::StreamsConfig;
use crate::error::{ErrorKind, StreamsError};
use crate::store::ThreadCache;
use crate::task::{CommitMetadata, Task, TaskId, TaskSeams, TaskState};
use crate::topology::AutoOffsetReset;

/// Stores are written once so many changelog records of a thread's tasks are not in them: some 0.1 s of restoring.
const RESTORED_AT_MOST: u64 = 300_000;

/// How much of the changes to stores may wait in one thread's memory: its share of `statestore.pending.max.bytes`.
struct PendingLimits {
    /// From here on a commit is due.
    commit_at_bytes: usize,
    /// From here on a commit also writes the stores; below, and so before the other.
    write_at_bytes: usize,
}

impl PendingLimits {
    fn new(config: &StreamsConfig, threads: usize) -> Self {
        let of_thread = config.pending_max_bytes() / threads;
        Self { commit_at_bytes: of_thread.max(1), write_at_bytes: (of_thread / 4).max(1) }
    }
}

/// The tasks of one thread.
pub struct TaskManager {
    application: Arc<Application>,
    collector: Rc<RefCell<ProducerCollector>>,
    seams: TaskSeams,
    tasks: BTreeMap<TaskId, Task>,
    /// Let go after the task is closed.
    folders: BTreeMap<TaskId, FolderInUse>,
    by_partition: HashMap<TopicPartition, TaskId>,
    restorer: Restorer,
    /// Committed offsets being asked for, by task: their metadata holds stream time.
    committed: BTreeMap<TaskId, (CommittedTicket, Stall)>,
    /// What the group has last committed of the input partitions, as far as this thread knows.
    committed_offsets: HashMap<TopicPartition, Offset>,
    paused: BTreeSet<TopicPartition>,
    buffered_max: usize,
    pending: PendingLimits,
    /// How many threads share caches and pending changes.
    threads: usize,
    reported: Option<ThreadState>,
}

fn unavailable(error: client::ClientError) -> StreamsError {
    StreamsError::caused_by(ErrorKind::Unavailable, error)
}

fn offset_reset(policy: AutoOffsetReset) -> OffsetReset {
    match policy {
        AutoOffsetReset::Earliest => OffsetReset::Earliest,
        AutoOffsetReset::Latest => OffsetReset::Latest,
        AutoOffsetReset::None => OffsetReset::None,
        AutoOffsetReset::ByDuration(ms) => OffsetReset::ByDuration { ms },
    }
}

impl TaskManager {
    pub(crate) fn new(
        application: Arc<Application>,
        collector: Rc<RefCell<ProducerCollector>>,
        restore_consumer: ConsumerCore,
    ) -> Self {
        let threads = application.thread_count();
        let cache_bytes = application.built.config().cache_max_bytes() / threads;
        let seams = TaskSeams {
            collector: collector.clone(),
            cache: ThreadCache::new(cache_bytes),
            backend: application.backend.clone(),
            state_directory: application.directory.path().to_owned(),
            metrics: application.metrics.clone(),
            globals: application.globals.clone(),
        };
        Self {
            restorer: Restorer::new(Arc::clone(&application), restore_consumer),
            pending: PendingLimits::new(application.built.config(), threads),
            threads,
            buffered_max: application.built.config().buffered_records_per_partition(),
            application,
            collector,
            seams,
            tasks: BTreeMap::new(),
            folders: BTreeMap::new(),
            by_partition: HashMap::default(),
            committed: BTreeMap::new(),
            committed_offsets: HashMap::default(),
            paused: BTreeSet::new(),
            reported: None,
        }
    }

    /// Takes this thread's share of the memory for caches and pending changes, after threads came or went.
    pub(crate) fn share_memory(&mut self) {
        let threads = self.application.thread_count();
        if threads != self.threads {
            let config = self.application.built.config();
            self.threads = threads;
            self.pending = PendingLimits::new(config, threads);
            self.seams.cache.resize(config.cache_max_bytes() / threads);
        }
    }

    /// All tasks, as data.
    pub(crate) fn metadata(&self, consumer: &ConsumerCore) -> Vec<TaskMetadata> {
        let max_idle_ms = self.application.built.config().max_task_idle_ms();
        let metadata = |task: &Task| {
            let inputs = task.input_partitions();
            let offsets = |of: &dyn Fn(&TopicPartition) -> Option<Offset>| {
                inputs.iter().filter_map(|partition| Some((partition.clone(), of(partition)?))).collect()
            };
            TaskMetadata {
                id: task.id(),
                topic_partitions: inputs.to_vec(),
                committed_offsets: offsets(&|partition| self.committed_offsets.get(partition).copied()),
                end_offsets: offsets(&|partition| Some(consumer.position(partition)? + consumer.lag(partition)?)),
                idling_since: task.idle_deadline().map(|deadline| deadline - max_idle_ms),
            }
        };
        self.tasks.values().map(metadata).collect()
    }

    /// Ids of all tasks.
    pub fn ids(&self) -> BTreeSet<TaskId> {
        self.tasks.keys().copied().collect()
    }

    /// All tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// Makes the tasks of newly assigned partitions; they begin to be restored.
    pub(crate) fn take_assignment(&mut self, consumer: &mut ConsumerCore) -> Result<(), StreamsError> {
        let assigned: BTreeSet<TopicPartition> = consumer.assignment().into_iter().collect();
        let metadata = self.application.client.metadata();
        let all = tasks_with_partitions(&self.application.built, |topic| metadata.partition_count(topic)).map_err(
            |topic| {
                StreamsError::new(ErrorKind::Unavailable, format!("topic {topic} has disappeared; create it again"))
            },
        )?;
        for (id, partitions) in all {
            let is_ours = partitions.iter().all(|partition| assigned.contains(partition));
            if is_ours && !self.tasks.contains_key(&id) {
                self.add_task(id, partitions, consumer)?;
            }
        }
        Ok(())
    }

    fn add_task(
        &mut self,
        id: TaskId,
        partitions: Vec<TopicPartition>,
        consumer: &mut ConsumerCore,
    ) -> Result<(), StreamsError> {
        tracing::info!(task = %id, ?partitions, "task assigned");
        consumer.pause(&partitions);
        self.folders.insert(id, self.application.directory.folders().keep(id));
        let mut task = Task::new(&self.application.built, id, partitions.clone(), self.seams.clone())?;
        task.initialize()?;
        self.restorer.add(&task)?;
        let stall = Stall::new(self.application.built.config().task_timeout_ms());
        self.committed.insert(id, (consumer.committed(partitions.clone()), stall));
        self.by_partition.extend(partitions.into_iter().map(|partition| (partition, id)));
        self.tasks.insert(id, task);
        Ok(())
    }

    /// Restores, and starts the tasks that are complete.
    pub(crate) fn step_restoration(
        &mut self,
        consumer: &mut ConsumerCore,
        now: Now,
        waker: &Waker,
    ) -> Result<Step, StreamsError> {
        if self.tasks.values().all(|task| task.state() == TaskState::Running) {
            return Ok(Step::IDLE);
        }
        let mut step = self.restorer.step(&mut self.tasks, now, waker)?;
        if self.collector.borrow().unknown_topic().is_some() {
            return Ok(step);
        }
        let waiting: Vec<TaskId> = self
            .tasks
            .values()
            .filter(|task| task.state() == TaskState::Restoring && self.restorer.is_complete(task.id()))
            .map(Task::id)
            .collect();
        for id in waiting {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let Some((ticket, stall)) = self.committed.get_mut(&id) else { continue };
            let offsets = match consumer.committed_result(*ticket) {
                None => continue,
                Some(Err(error)) => {
                    stall.failed(error, now)?;
                    *ticket = consumer.committed(task.input_partitions().to_vec());
                    continue;
                }
                Some(Ok(offsets)) => offsets,
            };
            self.committed.remove(&id);
            let mut committed = Vec::with_capacity(offsets.len());
            for (partition, known) in offsets {
                let Some(known) = known else { continue };
                committed.push((partition.clone(), CommitMetadata::decode(&known.metadata)));
                self.committed_offsets.insert(partition, known.offset);
            }
            task.set_committed_metadata(&committed);
            task.complete_restoration(now)?;
            consumer.resume(task.input_partitions());
            step.did_work = true;
        }
        Ok(step)
    }

    /// Hands fetched batches to their tasks; pauses partitions whose queue is full.
    pub(crate) fn take_fetched(&mut self, consumer: &mut ConsumerCore, now: Now) -> Result<bool, StreamsError> {
        let mut any = false;
        while let Some(fetched) = consumer.take_fetched() {
            any = true;
            let partition = &fetched.partition;
            let Some(task) = self.by_partition.get(partition).and_then(|id| self.tasks.get_mut(id)) else { continue };
            task.add_records(partition, &fetched.batches, fetched.fetch_offset, now)?;
            task.advance_position(partition, fetched.next_offset)?;
            if task.buffered(partition) > self.buffered_max {
                consumer.pause(std::slice::from_ref(partition));
                self.paused.insert(partition.clone());
            }
        }
        for task in self.tasks.values_mut().filter(|task| task.input_partitions().len() > 1) {
            let lags: Vec<(TopicPartition, i64)> = task
                .input_partitions()
                .iter()
                .filter(|partition| task.buffered(partition) == 0)
                .filter_map(|partition| Some((partition.clone(), consumer.lag(partition)?)))
                .collect();
            for (partition, lag) in lags {
                task.set_lag(&partition, lag)?;
            }
        }
        Ok(any)
    }

    /// A round of each task; returns the number of records processed.
    pub(crate) fn process(&mut self, max: usize, now: Now) -> Result<usize, StreamsError> {
        self.tasks.values_mut().try_fold(0, |sum, task| Ok(sum + task.process(max, now)?))
    }

    /// Reads on in partitions whose queue has drained.
    pub(crate) fn resume_drained(&mut self, consumer: &mut ConsumerCore) {
        let (tasks, by_partition, max) = (&self.tasks, &self.by_partition, self.buffered_max);
        self.paused.retain(|partition| {
            let buffered =
                by_partition.get(partition).and_then(|id| tasks.get(id)).map(|task| task.buffered(partition));
            match buffered {
                Some(buffered) if buffered > max => true,
                Some(_) => {
                    consumer.resume(std::slice::from_ref(partition));
                    false
                }
                None => false,
            }
        });
    }

    /// Runs the punctuations that are due; returns how many.
    pub(crate) fn punctuate(&mut self, now: Now) -> Result<usize, StreamsError> {
        let mut fired = 0;
        for task in self.tasks.values_mut() {
            fired += task.punctuate_stream_time()?;
            fired += task.punctuate_wall_clock(now)?;
        }
        Ok(fired)
    }

    /// When the wall clock makes something happen: a punctuation, or the end of waiting for an empty partition.
    pub(crate) fn next_wall_clock_deadline(&self) -> Option<i64> {
        self.tasks.values().flat_map(|task| [task.next_wall_clock_punctuation(), task.idle_deadline()]).flatten().min()
    }

    pub(crate) fn commit_requested(&self) -> bool {
        self.tasks.values().any(Task::commit_requested)
    }

    pub(crate) fn commit_needed(&self) -> bool {
        self.tasks.values().any(Task::commit_needed)
    }

    pub(crate) fn first_commit_needed(&self) -> bool {
        self.tasks.values().any(Task::first_commit_needed)
    }

    /// Whether so much waits in memory that a commit is due.
    pub(crate) fn pending_is_full(&self) -> bool {
        self.pending_bytes() >= self.pending.commit_at_bytes
    }

    fn pending_bytes(&self) -> usize {
        self.tasks.values().map(Task::pending_bytes).sum()
    }

    /// Begins to commit all tasks, or those that read one of `partitions`; what passes is tried again for `timeout_ms`.
    pub(crate) fn begin_commit(
        &mut self,
        partitions: Option<&[TopicPartition]>,
        timeout_ms: i64,
    ) -> Result<Option<Commit>, StreamsError> {
        let wanted = |task: &Task| match partitions {
            None => true,
            Some(partitions) => task.input_partitions().iter().any(|input| partitions.contains(input)),
        };
        Commit::begin(&mut self.tasks, wanted, Stall::new(timeout_ms))
    }

    pub(crate) fn step_commit(
        &mut self,
        commit: &mut Commit,
        consumer: &mut ConsumerCore,
        now: Now,
        waker: &Waker,
    ) -> Result<(bool, Step), StreamsError> {
        let (done, step) = commit.step(&mut self.tasks, &self.collector, consumer, now, waker)?;
        if done {
            self.committed_offsets.extend(commit.offsets().iter().cloned());
            self.write_stores_if_due()?;
        }
        Ok((done, step))
    }

    /// Stores are written less often than offsets are committed: what their changelogs hold is not lost, and changes of one key join in
    /// memory. What bounds it is memory, and the time that a restart after a crash takes to restore.
    fn write_stores_if_due(&mut self) -> Result<(), StreamsError> {
        let deferred = self.tasks.values().map(Task::deferred_records).fold(0, u64::saturating_add);
        if deferred < RESTORED_AT_MOST && self.pending_bytes() < self.pending.write_at_bytes {
            return Ok(());
        }
        self.tasks.values_mut().try_for_each(Task::write_stores)
    }

    fn tasks_of(&self, partitions: &[TopicPartition]) -> BTreeSet<TaskId> {
        partitions.iter().filter_map(|partition| self.by_partition.get(partition)).copied().collect()
    }

    fn forget(&mut self, id: TaskId) -> Result<Option<Task>, StreamsError> {
        self.restorer.remove(id)?;
        self.committed.remove(&id);
        self.by_partition.retain(|_, owner| *owner != id);
        let task = self.tasks.remove(&id);
        if let Some(task) = &task {
            self.paused.retain(|partition| !task.input_partitions().contains(partition));
            self.committed_offsets.retain(|partition, _| !task.input_partitions().contains(partition));
        }
        Ok(task)
    }

    fn close_clean(&mut self, id: TaskId) -> Result<(), StreamsError> {
        if let Some(mut task) = self.forget(id)? {
            task.suspend()?;
            task.close_clean()?;
        }
        self.folders.remove(&id);
        Ok(())
    }

    fn close_dirty(&mut self, id: TaskId) -> Result<(), StreamsError> {
        if let Some(mut task) = self.forget(id)? {
            task.close_dirty();
        }
        self.folders.remove(&id);
        Ok(())
    }

    /// Closes the tasks of partitions that are given up; they have been committed.
    pub(crate) fn close_revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamsError> {
        self.tasks_of(partitions).into_iter().try_for_each(|id| self.close_clean(id))
    }

    /// Closes the tasks of partitions that others may own already.
    pub(crate) fn close_lost(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamsError> {
        self.tasks_of(partitions).into_iter().try_for_each(|id| self.close_dirty(id))
    }

    /// Closes all tasks after a commit.
    pub(crate) fn close_all_clean(&mut self) -> Result<(), StreamsError> {
        self.ids().into_iter().try_for_each(|id| self.close_clean(id))
    }

    /// Closes all tasks after a failure.
    pub(crate) fn close_all_dirty(&mut self) -> Result<(), StreamsError> {
        self.ids().into_iter().try_for_each(|id| self.close_dirty(id))
    }

    /// Says where to begin in partitions without a usable offset: as their source or the configuration says.
    pub(crate) fn reset(
        &self,
        consumer: &mut ConsumerCore,
        partitions: &[(TopicPartition, Offset)],
        now: Now,
    ) -> Result<(), StreamsError> {
        for (partition, offset) in partitions {
            let policy = self.reset_policy(partition);
            if policy == OffsetReset::None {
                let what =
                    if *offset < 0 { "no offset is committed".to_owned() } else { format!("offset {offset} is gone") };
                let advice = "set auto.offset.reset to earliest or latest, or commit an offset";
                let message = format!("{partition}: {what}, and auto.offset.reset is none: {advice}");
                return Err(StreamsError::new(ErrorKind::Config, message));
            }
            consumer.reset(std::slice::from_ref(partition), policy, now).map_err(unavailable)?;
        }
        Ok(())
    }

    fn reset_policy(&self, partition: &TopicPartition) -> OffsetReset {
        let built = &self.application.built;
        for sub in built.subtopologies() {
            if sub.repartition_sources.iter().any(|topic| *topic.name == *partition.topic) {
                return OffsetReset::Earliest;
            }
            if let Some(policy) = sub.resets.get(&*partition.topic) {
                return offset_reset(*policy);
            }
        }
        offset_reset(built.config().auto_offset_reset())
    }

    /// Whether every task is running.
    pub(crate) fn all_running(&self) -> bool {
        self.tasks.values().all(|task| task.state() == TaskState::Running)
    }

    /// Tells `tell` once whenever the thread begins to run.
    pub(crate) fn report(&mut self, is_running: bool, tell: impl FnOnce(ThreadState)) {
        let state = if is_running { ThreadState::Running } else { ThreadState::Rebalancing };
        if self.reported != Some(state) {
            self.reported = Some(state);
            tell(state);
        }
    }
}
