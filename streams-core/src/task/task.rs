//! One partition of a sub-topology: queues, typed nodes, stores. Fed with fetched batches and the time, it processes,
//! punctuates and says what to commit; it neither waits nor talks to a broker.
//!
//! Order of a commit: [`Task::prepare_commit`] (caches are flushed, more output may come of it), then the owner waits
//! until the collector's records are acknowledged, commits the offsets, and calls [`Task::post_commit`], which writes the
//! stores together with the changelog positions they have reached. Between the two no record may be processed.

use std::rc::Rc;
use std::sync::Arc;

use base::metrics::Metrics;
use base::{LeaderEpoch, Now, Offset, Timestamp, TopicPartition};
use bytes::Bytes;
use storage::state::Backend;

use crate::collector::CollectorRef;
use crate::error::{ErrorKind, StreamsError};
use crate::processor::handlers::LogAndFail;
use crate::processor::punctuation::PunctuationType;
use crate::store::{GlobalStores, StateStore, ThreadCache};
use crate::task::changelog::{Changelog, Restored, restore_store};
use crate::task::metadata::CommitMetadata;
use crate::task::nodes::{Nodes, build_nodes, open_stores};
use crate::task::partition_group::PartitionGroup;
use crate::task::shared::{TaskEnvironment, TaskShared};
use crate::task::{TaskId, TaskState};
use crate::topology::{BuiltTopology, SubTopology};

mod commit;
mod inputs;

/// What a task is given by the thread that owns it.
#[derive(Clone)]
pub struct TaskSeams {
    /// Where output and changelog records go.
    pub collector: CollectorRef,
    /// The thread's cache.
    pub cache: Rc<ThreadCache>,
    /// Engine of persistent stores.
    pub backend: Backend,
    /// Directory of the application's state; the task's own is below it.
    pub state_directory: std::path::PathBuf,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// The global stores of the process.
    pub globals: GlobalStores,
}

/// An offset to commit for one input partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// The next record to process.
    pub offset: Offset,
    /// Leader epoch of the last batch; -1 if unknown.
    pub leader_epoch: LeaderEpoch,
    /// Partition time and processors' numbers, encoded.
    pub metadata: String,
}

/// One task.
pub struct Task {
    built: Arc<BuiltTopology>,
    seams: TaskSeams,
    partitions: Vec<TopicPartition>,
    state: TaskState,
    shared: Rc<TaskShared>,
    stores: Vec<Rc<dyn StateStore>>,
    nodes: Nodes,
    group: PartitionGroup,
    /// Processed or punctuated since the last commit.
    has_progress: bool,
    has_committed: bool,
    /// How far each store's changelog was at the last commit, and when the store was last written.
    marks: Vec<Mark>,
    /// Nodes were initialised and must be closed.
    initialized: bool,
}

/// Changelog offsets of one store.
#[derive(Clone, Copy, Default)]
struct Mark {
    committed: Option<Offset>,
    written: Option<Offset>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("id", &self.id()).field("state", &self.state).finish_non_exhaustive()
    }
}

fn shared(built: &BuiltTopology, seams: &TaskSeams, id: TaskId) -> Rc<TaskShared> {
    let mut handlers = built.config().handlers().clone();
    let is_global = built.subtopology(id.subtopology).is_some_and(|sub| sub.is_global);
    if is_global && !built.config().handles_global_errors() {
        // A global store that leaves out updates would differ between processes.
        handlers.processing = Arc::new(LogAndFail);
    }
    Rc::new(TaskShared::new(TaskEnvironment {
        id,
        application_id: built.config().application_id().into(),
        state_dir: seams.state_directory.join(if is_global { "global".to_owned() } else { id.to_string() }),
        metrics: seams.metrics.clone(),
        collector: Rc::clone(&seams.collector),
        handlers,
        globals: seams.globals.clone(),
        default_extractor: built.config().default_timestamp_extractor(),
        processor_wrapper: built.config().processor_wrapper().cloned(),
        is_global,
        // A global store's keeper has no producer.
        dead_letter_topic: built.config().dead_letter_topic().filter(|_| !is_global).map(str::to_owned),
    }))
}

impl Task {
    /// The task `id` over `partitions`, one of each source topic that has that partition. Opens nothing yet.
    ///
    /// # Errors
    /// The topology has no such sub-topology.
    pub fn new(
        built: &Arc<BuiltTopology>,
        id: TaskId,
        partitions: Vec<TopicPartition>,
        seams: TaskSeams,
    ) -> Result<Self, StreamsError> {
        if built.subtopology(id.subtopology).is_none() {
            let message = format!("the topology has no sub-topology {}", id.subtopology);
            return Err(StreamsError::new(ErrorKind::IllegalState, message).in_task(id));
        }
        let max_task_idle_ms = built.config().max_task_idle_ms();
        Ok(Self {
            shared: shared(built, &seams, id),
            built: Arc::clone(built),
            seams,
            partitions,
            state: TaskState::Created,
            stores: Vec::new(),
            nodes: Nodes::default(),
            group: PartitionGroup::new(Vec::new(), max_task_idle_ms),
            has_progress: false,
            has_committed: false,
            marks: Vec::new(),
            initialized: false,
        })
    }

    /// Identity.
    pub fn id(&self) -> TaskId {
        self.shared.id()
    }

    /// Where it is in its life.
    pub fn state(&self) -> TaskState {
        self.state
    }

    /// Its input partitions.
    pub fn input_partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// The sub-topology it runs.
    ///
    /// # Errors
    /// Never after [`Task::new`] succeeded.
    fn subtopology(&self) -> Result<&SubTopology, StreamsError> {
        self.built
            .subtopology(self.id().subtopology)
            .ok_or_else(|| StreamsError::new(ErrorKind::IllegalState, "the sub-topology is gone"))
    }

    /// Opens the stores and builds the nodes: `Created` (or `Suspended`) to `Restoring`. [`Task::changelogs`] then says
    /// what is to be restored.
    ///
    /// # Errors
    /// A store could not be opened; the task stays as it was.
    pub fn initialize(&mut self) -> Result<(), StreamsError> {
        if self.state == TaskState::Suspended {
            return self.state.transition(TaskState::Restoring);
        }
        let sub = self.subtopology()?;
        let stores = open_stores(&self.built, sub, &self.shared, &self.seams.cache, &self.seams.backend)?;
        let mut nodes = build_nodes(&self.built, sub, &self.shared, &stores, &self.partitions)?;
        self.shared.set_partitions(self.partitions.clone());
        let queues = std::mem::take(&mut nodes.queues);
        self.state.transition(TaskState::Restoring)?;
        self.group = PartitionGroup::new(queues, self.built.config().max_task_idle_ms());
        self.nodes = nodes;
        self.stores = stores;
        Ok(())
    }

    /// The changelogs of its stores, with where to begin.
    ///
    /// # Errors
    /// A store could not be read.
    pub fn changelogs(&self) -> Result<Vec<Changelog>, StreamsError> {
        let sub = self.subtopology()?;
        let mut changelogs = Vec::new();
        for store in &self.stores {
            let Some(changelog) = store.changelog() else { continue };
            changelogs.push(Changelog {
                store: store.name().to_owned(),
                partition: changelog.partition.clone(),
                start: store.changelog_offset().map_err(|error| error.in_task(self.id()))?.map(|offset| offset + 1),
                is_persistent: store.is_persistent(),
                is_source: sub.source_changelogs.contains_key(store.name()),
            });
        }
        Ok(changelogs)
    }

    /// Applies fetched batches of a changelog in bulk: records from `from` on and below `end`.
    ///
    /// # Errors
    /// The store failed, or the batches are corrupt; [`ErrorKind::IllegalState`] if no store has that changelog.
    pub fn restore(
        &mut self,
        changelog: &TopicPartition,
        fetched: &Bytes,
        from: Offset,
        end: Offset,
    ) -> Result<Restored, StreamsError> {
        let id = self.id();
        let store = self
            .stores
            .iter()
            .find(|store| store.changelog().is_some_and(|known| known.partition == *changelog))
            .ok_or_else(|| {
                StreamsError::new(ErrorKind::IllegalState, format!("no store has the changelog {changelog}"))
                    .in_task(id)
            })?;
        restore_store(&**store, changelog, fetched, from, end).map_err(|error| error.in_task(id))
    }

    /// Takes over what was committed for its input partitions: partition times (and so stream time) and processors'
    /// numbers. To be called before [`Task::complete_restoration`].
    pub fn set_committed_metadata(&mut self, committed: &[(TopicPartition, CommitMetadata)]) {
        for (partition, metadata) in committed {
            if let Some(index) = self.group.index_of(partition) {
                self.group.queue_mut(index).set_partition_time(metadata.partition_time);
                self.shared.advance_stream_time(metadata.partition_time);
            }
            for (name, value) in &metadata.processors {
                if self.shared.processor_metadata(name).is_none_or(|known| known < *value) {
                    self.shared.set_processor_metadata(name, *value);
                }
            }
        }
    }

    /// Initialises the processors and starts running. To be called when every changelog is restored.
    ///
    /// # Errors
    /// A processor's `init` failed.
    pub fn complete_restoration(&mut self, now: Now) -> Result<(), StreamsError> {
        self.shared.set_wall_clock(now.wall_ms);
        self.state.transition(TaskState::Running)?;
        if !self.initialized {
            self.initialized = true;
            for (_, _, node) in &self.nodes.processors {
                node.init()?;
            }
        }
        Ok(())
    }

    /// Whether a record can be processed now: one is there, and no empty partition has to be waited for.
    pub fn is_processable(&mut self, now: Now) -> bool {
        self.state == TaskState::Running && self.group.is_ready(now.wall_ms)
    }

    /// When a task that waits for empty partitions may go on without them, on the wall clock.
    pub fn idle_deadline(&self) -> Option<Timestamp> {
        self.group.idle_deadline()
    }

    /// Processes up to `max` records, in the order of their timestamps; returns how many. Ends early when no record may be
    /// taken, when a processor asked for a commit, or when changes waiting in memory have reached `pending_max_bytes`.
    ///
    /// # Errors
    /// The first failure that no handler resumed from, naming processor, task and record. The task must then be closed.
    pub fn process(&mut self, max: usize, now: Now) -> Result<usize, StreamsError> {
        if self.state != TaskState::Running {
            return Ok(0);
        }
        self.shared.set_wall_clock(now.wall_ms);
        let mut done = 0;
        while done < max && self.group.is_ready(now.wall_ms) {
            let Some((index, taken)) = self.group.take()? else { break };
            self.shared.advance_stream_time(taken.timestamp);
            self.has_progress = true;
            done += 1;
            if taken.is_good {
                self.group.queue_mut(index).process().map_err(|error| self.uncaught(error))?;
            }
            if self.shared.commit_requested() {
                break;
            }
        }
        Ok(done)
    }

    /// Ends the record context: what is done from now on is of no record, at time 0.
    pub(crate) fn leave_record(&self) {
        self.shared.enter(0);
    }

    #[cold]
    fn uncaught(&self, error: crate::error::BoxError) -> StreamsError {
        let error = StreamsError::from_box(ErrorKind::Processing, error).in_task(self.id());
        match self.shared.position() {
            Some((partition, offset)) => error.at_record(partition, offset),
            None => error,
        }
    }

    /// Runs the stream-time punctuations that are due; returns how many.
    ///
    /// # Errors
    /// As [`Task::process`].
    pub fn punctuate_stream_time(&mut self) -> Result<usize, StreamsError> {
        match self.shared.stream_time() {
            -1 => Ok(0),
            time => self.punctuate(PunctuationType::StreamTime, time),
        }
    }

    /// Runs the wall-clock punctuations that are due; returns how many.
    ///
    /// # Errors
    /// As [`Task::process`].
    pub fn punctuate_wall_clock(&mut self, now: Now) -> Result<usize, StreamsError> {
        self.shared.set_wall_clock(now.wall_ms);
        self.punctuate(PunctuationType::WallClockTime, now.wall_ms)
    }

    fn punctuate(&mut self, kind: PunctuationType, time: Timestamp) -> Result<usize, StreamsError> {
        if self.state != TaskState::Running {
            return Ok(0);
        }
        let mut fired = 0;
        loop {
            let Some((schedule, node)) = self.shared.schedules().borrow_mut().take_due(kind, time) else { break };
            self.has_progress = true;
            fired += 1;
            self.shared.enter_punctuation(time);
            if let Some((_, _, node)) = self.nodes.processors.iter().find(|(index, ..)| *index == node) {
                node.punctuate(schedule, time).map_err(|error| error.in_task(self.shared.id()))?;
            }
        }
        Ok(fired)
    }

    /// When the next wall-clock punctuation is due.
    pub fn next_wall_clock_punctuation(&self) -> Option<Timestamp> {
        self.shared.schedules().borrow().next_wall_clock()
    }

    /// The task's stream time; -1 before the first record.
    pub fn stream_time(&self) -> Timestamp {
        self.shared.stream_time()
    }

    /// Stops processing: any state but `Closed` to `Suspended`. Queued records stay until it is closed.
    ///
    /// # Errors
    /// It is closed.
    pub fn suspend(&mut self) -> Result<(), StreamsError> {
        if self.state == TaskState::Suspended {
            return Ok(());
        }
        self.state.transition(TaskState::Suspended)
    }

    /// Closes processors and stores after a successful commit: `Suspended` to `Closed`.
    ///
    /// # Errors
    /// It is not suspended, or a store failed; everything is released all the same.
    pub fn close_clean(&mut self) -> Result<(), StreamsError> {
        self.state.transition(TaskState::Closed)?;
        let written = self.write_stores();
        written.and(self.release())
    }

    /// Closes after a failure, from any state. What was not committed is lost, as it must be; errors are logged.
    pub fn close_dirty(&mut self) {
        if self.state == TaskState::Closed {
            return;
        }
        // Every state but Closed may be suspended, and Suspended closed.
        if self.suspend().is_ok() {
            let _ = self.state.transition(TaskState::Closed);
        }
        if let Err(error) = self.release() {
            tracing::warn!(task = %self.id(), %error, "closing a failed task");
        }
    }

    fn release(&mut self) -> Result<(), StreamsError> {
        if std::mem::take(&mut self.initialized) {
            for (_, _, node) in &self.nodes.processors {
                node.close();
            }
        }
        let mut result = Ok(());
        for store in &self.stores {
            if let Err(error) = store.close() {
                result = Err(error.in_store(store.name()).in_task(self.id()));
            }
        }
        self.group.clear();
        self.group = PartitionGroup::new(Vec::new(), 0);
        self.nodes = Nodes::default();
        self.stores.clear();
        self.marks.clear();
        self.shared.schedules().borrow_mut().clear();
        result
    }

    /// Makes a closed task ready to be initialised again, after its state was found corrupt.
    ///
    /// # Errors
    /// It is not closed.
    pub fn revive(&mut self) -> Result<(), StreamsError> {
        self.state.transition(TaskState::Created)?;
        self.shared = shared(&self.built, &self.seams, self.id());
        self.has_progress = false;
        Ok(())
    }

    /// Deletes the content of its stores, of all or of one: the next restore starts from the beginning.
    ///
    /// # Errors
    /// A store failed.
    pub fn wipe_stores(&mut self, only: Option<&str>) -> Result<(), StreamsError> {
        for store in &self.stores {
            if only.is_none_or(|name| name == store.name()) {
                store.wipe().map_err(|error| error.in_store(store.name()).in_task(self.id()))?;
            }
        }
        Ok(())
    }

    /// Its stores in the order of first use.
    pub fn stores(&self) -> &[Rc<dyn StateStore>] {
        &self.stores
    }

    /// The store called `name`, by the type that its builder makes; for queries and tests.
    pub fn store<S: StateStore>(&self, name: &str) -> Option<Rc<S>> {
        let store = self.stores.iter().find(|store| store.name() == name)?;
        Rc::clone(store).into_any().downcast().ok()
    }
}
