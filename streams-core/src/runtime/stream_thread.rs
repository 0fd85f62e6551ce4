//! One stream thread: polls, processes, punctuates and commits its tasks.
//!
//! A state machine: [`StreamThread::step`] makes all the progress that is possible now and says when it wants to be called again. In
//! production an OS thread drives it (`streams.rs`), in the simulation the scheduler.
//!
//! ```text
//! step:  producer (send, settle) -> consumer (fetch, group) -> commit under way? -> rebalance events -> restore
//!        -> route fetched batches -> process a round of each task -> punctuate -> commit due? -> producer (send)
//! ```
//!
//! While a commit is under way no record is processed, and no partition is given up before its task is committed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use base::metrics::Counter;
use base::{Now, TopicPartition};
use client::Step;
use client::consumer::{ConsumerCore, ConsumerEvent};
use parking_lot::Mutex;

use super::application::{Application, ThreadState};
use super::assignor::{OwnTasks, StreamsAssignor};
use super::client_settings;
use super::commit::Commit;
use super::producer_collector::ProducerCollector;
use super::purge::Purge;
use super::summary::Summary;
use super::task_manager::TaskManager;
use super::thread_metadata::ThreadMetadata;
use crate::error::{ErrorKind, StreamsError};

/// Records that each task processes before the thread looks at its clients again.
const ROUND_RECORDS: usize = 1_000;

/// Obsolete state is not looked for more often than this, however short `state.cleanup.delay.ms` is.
const SHORTEST_CLEANUP_MS: i64 = 1_000;

/// Why a commit is made, and so what follows it.
enum CommitReason {
    /// It was due.
    Interval,
    /// These partitions are to be given up.
    Revocation(Vec<TopicPartition>),
    /// The thread closes.
    Close,
}

/// Where the thread is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Closing was asked for: a last commit, then the tasks are closed and the group is left.
    Closing,
    /// Tasks are closed, the consumer is leaving.
    Leaving,
    Closed,
}

/// A stream thread without the thread.
pub struct StreamThread {
    application: Arc<Application>,
    index: usize,
    name: String,
    consumer: ConsumerCore,
    collector: Rc<RefCell<ProducerCollector>>,
    tasks: TaskManager,
    own: Arc<Mutex<OwnTasks>>,
    phase: Phase,
    commit: Option<(Commit, CommitReason)>,
    last_commit_ticks_ms: i64,
    purge: Purge,
    processed: Counter,
    summary: Summary,
    commit_interval_ms: i64,
    cleanup_delay_ms: i64,
    next_cleanup_ticks_ms: i64,
    /// The member id that the state directory knows.
    noted_member: String,
    /// Whether that is all there is to note until the next rebalance.
    is_member_noted: bool,
}

impl StreamThread {
    /// Thread number `index` (from 0) of `application`; joins its group at the first step.
    ///
    /// # Errors
    /// `Config` if a client setting is wrong.
    pub fn new(application: Arc<Application>, index: usize) -> Result<Self, StreamsError> {
        let config = application.built.config().clone();
        let client = application.client.clone();
        let name = application.thread_name(index);
        let collector = ProducerCollector::new(&client, client_settings::producer(&config, &name)?)?;
        let collector = Rc::new(RefCell::new(collector));
        let bad_config = |error| StreamsError::caused_by(ErrorKind::Config, error);
        let main = client_settings::main_consumer(&config, &name, index)?;
        let mut consumer = ConsumerCore::new(client.clone(), main).map_err(bad_config)?;
        let restore = client_settings::restore_consumer(&config, &name)?;
        let restore = ConsumerCore::new(client.clone(), restore).map_err(bad_config)?;
        let with_state = application.directory.tasks_with_state()?.into_iter().collect();
        let own = Arc::new(Mutex::new(OwnTasks { with_state, ..OwnTasks::default() }));
        let assignor =
            StreamsAssignor::new(Arc::clone(&application.built), application.directory.process_id(), Arc::clone(&own));
        consumer.tell_member_id_first();
        let topics = application.built.subscription().into_iter().map(Into::into);
        consumer.subscribe(topics, vec![Box::new(assignor)]).map_err(bad_config)?;
        let processed = application.metrics.counter("stream-thread-metrics", "process-total", &[("thread-id", &name)]);
        let tasks = TaskManager::new(Arc::clone(&application), Rc::clone(&collector), restore);
        Ok(Self {
            index,
            name,
            consumer,
            collector,
            tasks,
            own,
            phase: Phase::Running,
            commit: None,
            last_commit_ticks_ms: client.now().ticks_ms,
            purge: Purge::new(&application.admin, &application.built),
            processed,
            summary: Summary::new(config.log_summary_interval_ms(), client.now()),
            commit_interval_ms: config.commit_interval_ms(),
            cleanup_delay_ms: config.state_cleanup_delay_ms(),
            next_cleanup_ticks_ms: client.now().ticks_ms,
            noted_member: String::new(),
            is_member_noted: false,
            application,
        })
    }

    /// The tasks it has, for queries.
    pub fn tasks(&self) -> &TaskManager {
        &self.tasks
    }

    /// What it does, as data.
    pub fn metadata(&self) -> ThreadMetadata {
        ThreadMetadata {
            name: self.name.clone(),
            state: self.application.thread_state(self.index),
            active_tasks: self.tasks.metadata(&self.consumer),
            consumer_client_id: format!("{}-consumer", self.name),
            restore_consumer_client_id: format!("{}-restore-consumer", self.name),
            producer_client_id: format!("{}-producer", self.name),
            admin_client_id: format!("{}-admin", self.application.client.config().client_id),
        }
    }

    /// Asks for a clean close; go on stepping until [`StreamThread::is_closed`].
    pub fn begin_close(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Closing;
        }
    }

    /// Whether it has closed.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Makes all the progress that is possible without waiting. `waker` is called when there is more.
    ///
    /// # Errors
    /// What no handler resumed from. The thread is then to be dropped after [`StreamThread::abandon`].
    pub fn step(&mut self, now: Now, waker: &Waker) -> Result<Step, StreamsError> {
        let mut step = self.collector.borrow_mut().step(now, waker)?;
        step = step.and(self.consumer.step(now, waker));
        if let Some(error) = self.consumer.take_error() {
            if !error.is_retriable() {
                return Err(StreamsError::caused_by(ErrorKind::Unavailable, error));
            }
            tracing::warn!(%error, "the consumer goes on after an error");
        }
        self.note_member()?;
        if self.commit.is_some() {
            step = step.and(self.advance_commit(now, waker)?);
            if self.commit.is_some() {
                return Ok(step);
            }
        }
        match self.phase {
            Phase::Running => {}
            Phase::Closing => {
                self.begin_commit(CommitReason::Close, now, waker)?;
                return Ok(Step { did_work: true, ..step });
            }
            Phase::Leaving => {
                step.did_work |= self.take_closing_events();
                if self.consumer.is_closed() {
                    // The member stays noted: a power cut may take its leaving back, and leaving twice does no harm.
                    self.phase = Phase::Closed;
                }
                return Ok(step);
            }
            Phase::Closed => return Ok(Step::IDLE),
        }
        step.did_work |= self.take_events(now, waker)?;
        self.tasks.share_memory();
        let is_paused = self.application.is_paused();
        if !is_paused {
            step = step.and(self.tasks.step_restoration(&mut self.consumer, now, waker)?);
        }
        step.did_work |= self.tasks.take_fetched(&mut self.consumer, now)?;
        let (mut processed, mut punctuations) = (0, 0);
        if !is_paused {
            processed = self.process_round(now)?;
            punctuations = self.tasks.punctuate(now)?;
            step.did_work |= processed + punctuations > 0;
        }
        self.summary.add(processed, punctuations);
        if let Some(done) = self.summary.take(now) {
            tracing::info!(thread = self.index + 1, "{done}");
        }
        step.did_work |= self.commit_if_due(processed, now, waker)?;
        let sent = self.collector.borrow_mut().step(now, waker)?;
        step = step.and(sent).and(self.purge.step(now, waker));
        self.report_state();
        self.clean_up(now);
        Ok(self.next_wake(step, now))
    }

    fn process_round(&mut self, now: Now) -> Result<usize, StreamsError> {
        if self.commit.is_some() || self.collector.borrow().is_congested() {
            return Ok(0);
        }
        let processed = self.tasks.process(ROUND_RECORDS, now)?;
        if processed > 0 {
            self.processed.add(processed as u64);
            self.tasks.resume_drained(&mut self.consumer);
        }
        Ok(processed)
    }

    /// Remembers the member id, so that whoever restarts on this directory can end this membership if the process dies.
    fn note_member(&mut self) -> Result<(), StreamsError> {
        // While leaving the member stays noted: see where the thread has closed.
        let is_leaving = matches!(self.phase, Phase::Leaving | Phase::Closed);
        if is_leaving || (self.consumer.is_stable() && self.is_member_noted) {
            return Ok(());
        }
        self.is_member_noted = self.consumer.is_stable();
        let member_id = self.consumer.group_metadata().member_id;
        if member_id != self.noted_member {
            self.noted_member = member_id;
            let member = Some(self.noted_member.as_str()).filter(|id| !id.is_empty());
            self.application.directory.note_member(self.index, member)?;
        }
        if self.consumer.is_stable() {
            self.application.directory.forget_former_members()?;
        }
        Ok(())
    }

    fn take_events(&mut self, now: Now, waker: &Waker) -> Result<bool, StreamsError> {
        let events = self.consumer.take_events();
        let any = !events.is_empty();
        for event in events {
            match event {
                ConsumerEvent::Revoked(partitions) => {
                    self.application.set_thread_state(self.index, ThreadState::Rebalancing);
                    self.begin_commit(CommitReason::Revocation(partitions), now, waker)?;
                }
                ConsumerEvent::Lost(partitions) => {
                    self.application.set_thread_state(self.index, ThreadState::Rebalancing);
                    tracing::warn!(?partitions, "partitions were lost: their tasks are closed without a commit");
                    self.tasks.close_lost(&partitions)?;
                    self.consumer.revocation_done();
                }
                ConsumerEvent::Assigned(_) => {
                    self.application.set_thread_state(self.index, ThreadState::Rebalancing);
                    self.tasks.take_assignment(&mut self.consumer)?;
                }
                ConsumerEvent::NoOffset(partitions) => self.tasks.reset(&mut self.consumer, &partitions, now)?,
                ConsumerEvent::OutOfRange { partition, offset } => {
                    tracing::warn!(%partition, offset, "the offset is not there any more; reading goes on elsewhere");
                }
                ConsumerEvent::Truncated { partition, position, offset } => {
                    tracing::warn!(%partition, position, offset, "the log was truncated below the position");
                }
            }
        }
        if any {
            self.own.lock().running = self.tasks.ids();
        }
        Ok(any)
    }

    /// While leaving, revocations only have to be acknowledged: all tasks are closed.
    /// Acknowledges what is taken away by leaving; the consumer goes on with that in its next step.
    fn take_closing_events(&mut self) -> bool {
        let mut any = false;
        for event in self.consumer.take_events() {
            if matches!(event, ConsumerEvent::Revoked(_) | ConsumerEvent::Lost(_)) {
                self.consumer.revocation_done();
                any = true;
            }
        }
        any
    }

    fn commit_if_due(&mut self, processed: usize, now: Now, waker: &Waker) -> Result<bool, StreamsError> {
        // A task's first commit follows its first records at once, so that first results show at once.
        let first = processed > 0 && self.tasks.first_commit_needed();
        let interval_over = now.ticks_ms - self.last_commit_ticks_ms > self.commit_interval_ms;
        let due = first
            || interval_over
            || (processed > 0 && self.tasks.commit_requested())
            || (processed > 0 && self.tasks.pending_is_full());
        if !due || self.commit.is_some() {
            return Ok(false);
        }
        self.last_commit_ticks_ms = now.ticks_ms;
        if !self.tasks.commit_needed() {
            return Ok(false);
        }
        self.begin_commit(CommitReason::Interval, now, waker)?;
        Ok(true)
    }

    fn begin_commit(&mut self, reason: CommitReason, now: Now, waker: &Waker) -> Result<(), StreamsError> {
        self.collector.borrow_mut().set_now(now);
        let commit = match &reason {
            CommitReason::Interval => {
                self.tasks.begin_commit(None, self.application.built.config().task_timeout_ms())?
            }
            // Whoever waits for these does not wait for long.
            CommitReason::Revocation(partitions) => self.tasks.begin_commit(Some(partitions), 0)?,
            CommitReason::Close => self.tasks.begin_commit(None, 0)?,
        };
        match commit {
            Some(commit) => {
                self.commit = Some((commit, reason));
                self.advance_commit(now, waker).map(|_| ())
            }
            None => self.committed(reason),
        }
    }

    fn advance_commit(&mut self, now: Now, waker: &Waker) -> Result<Step, StreamsError> {
        let Some((mut commit, reason)) = self.commit.take() else { return Ok(Step::IDLE) };
        let (done, step) = match self.tasks.step_commit(&mut commit, &mut self.consumer, now, waker) {
            Ok(done) => done,
            Err(error) if error.kind() == ErrorKind::TaskMigrated => {
                tracing::warn!(%error, "the commit came too late: all tasks are closed, and the thread rejoins");
                self.tasks.close_all_dirty()?;
                self.own.lock().running.clear();
                self.consumer.revocation_done();
                self.consumer.request_rejoin("a commit was refused");
                return Ok(Step { did_work: true, ..Step::IDLE });
            }
            Err(error) => return Err(error),
        };
        if !done {
            self.commit = Some((commit, reason));
            return Ok(step);
        }
        self.application.committed();
        self.summary.committed();
        self.purge.committed(commit.offsets(), now);
        self.committed(reason)?;
        Ok(Step { did_work: true, ..step })
    }

    /// What follows a commit.
    fn committed(&mut self, reason: CommitReason) -> Result<(), StreamsError> {
        match reason {
            CommitReason::Interval => {}
            CommitReason::Revocation(partitions) => {
                self.tasks.close_revoked(&partitions)?;
                self.consumer.revocation_done();
                self.own.lock().running = self.tasks.ids();
            }
            CommitReason::Close => {
                self.tasks.close_all_clean()?;
                self.consumer.begin_close();
                self.phase = Phase::Leaving;
            }
        }
        Ok(())
    }

    fn report_state(&mut self) {
        let is_running = self.consumer.is_stable() && self.tasks.all_running();
        self.tasks.report(is_running, |state| self.application.set_thread_state(self.index, state));
    }

    /// Removes state of tasks that have not been here for long.
    fn clean_up(&mut self, now: Now) {
        if now.ticks_ms < self.next_cleanup_ticks_ms {
            return;
        }
        self.next_cleanup_ticks_ms = now.ticks_ms.saturating_add(self.cleanup_delay_ms.max(SHORTEST_CLEANUP_MS));
        let directory = &self.application.directory;
        match directory.remove_unused(self.cleanup_delay_ms, now) {
            Ok(left) => self.own.lock().with_state = left.into_iter().collect(),
            Err(error) => tracing::warn!(%error, "state of tasks that are not here could not be looked for"),
        }
    }

    /// The earlier of what the clients want, the next commit and the next punctuation.
    fn next_wake(&self, step: Step, now: Now) -> Step {
        let mut step = step.wake_at(self.next_cleanup_ticks_ms);
        if self.tasks.commit_needed() {
            step = step.wake_at(self.last_commit_ticks_ms + self.commit_interval_ms + 1);
        }
        match self.tasks.next_wall_clock_deadline() {
            // Whoever resumes wakes.
            Some(wall_ms) if !self.application.is_paused() => {
                step.wake_at(now.ticks_ms + (wall_ms - now.wall_ms).max(0))
            }
            _ => step,
        }
    }

    /// Closes everything without a commit, after an error: what was not committed is processed again by whoever has the tasks next.
    pub fn abandon(&mut self) {
        if let Err(error) = self.tasks.close_all_dirty() {
            tracing::warn!(%error, "closing the tasks of a failed thread");
        }
        self.consumer.begin_close();
        self.phase = Phase::Leaving;
        self.commit = None;
    }
}
