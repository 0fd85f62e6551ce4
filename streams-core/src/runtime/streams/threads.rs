//! The stream threads of a running application: started, asked, added, removed. A driver.
//!
//! A [`Lane`] is what the handle knows of one OS thread: how to wake it, and what it is asked to do between two rounds. It stands in the list
//! of lanes from before the thread begins until it has ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Shared, Streams, Unpark, not_started, panicked, park};
use crate::error::{ErrorKind, StreamsError};
use crate::runtime::application::{State, ThreadState, UncaughtErrorResponse};
use crate::runtime::stream_thread::StreamThread;
use crate::runtime::thread_metadata::ThreadMetadata;

/// How long a failed thread tries to leave its group before it is given up.
const LEAVING_MS: i64 = 3_000;

/// Something to be done on a stream thread, between two rounds.
type Job = Box<dyn FnOnce(&StreamThread) + Send>;

/// One thread as the handle sees it.
pub(super) struct Lane {
    /// Number of the thread, from 0.
    index: usize,
    /// `None` once the thread has ended: it does nothing any more.
    jobs: Mutex<Option<VecDeque<Job>>>,
    waker: Mutex<Option<Waker>>,
    /// Whether the thread is to end, though the application goes on.
    is_removed: AtomicBool,
}

impl Lane {
    fn new(index: usize) -> Self {
        let jobs = Mutex::new(Some(VecDeque::new()));
        Self { index, jobs, waker: Mutex::default(), is_removed: AtomicBool::new(false) }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Asks the thread to do `job`, which is dropped undone if it has ended.
    fn ask(&self, job: Job) {
        if let Some(jobs) = &mut *self.jobs.lock() {
            jobs.push_back(job);
        }
        self.wake();
    }

    fn run_jobs(&self, thread: &StreamThread) {
        loop {
            let Some(job) = self.jobs.lock().as_mut().and_then(VecDeque::pop_front) else { return };
            job(thread);
        }
    }
}

/// What threads answered: one entry each, `None` of those that ended.
type Answers<R> = Arc<(Mutex<Vec<Option<R>>>, Condvar)>;

/// The answer of one thread, given when dropped.
struct Answer<R> {
    answers: Answers<R>,
    found: Option<R>,
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        self.answers.0.lock().push(self.found.take());
        self.answers.1.notify_all();
    }
}

impl Streams {
    pub(super) fn start_thread(&self, index: usize) -> Result<String, StreamsError> {
        let shared = Arc::clone(&self.shared);
        let name = shared.application.thread_name(index);
        let lane = Arc::new(Lane::new(index));
        shared.lanes.write().push(Arc::clone(&lane));
        shared.working.fetch_add(1, Ordering::AcqRel);
        let drive = move || drive(&shared, &lane);
        match std::thread::Builder::new().name(system_name(&self.shared, index)).spawn(drive) {
            Ok(thread) => {
                self.threads.lock().push(thread);
                Ok(name)
            }
            Err(error) => {
                self.shared.ended(index);
                Err(not_started(&error))
            }
        }
    }

    /// Calls `read` on each stream thread, between two records; `None` from those that end meanwhile.
    pub(super) fn ask_threads<R: Send + 'static>(
        &self,
        read: impl Fn(&StreamThread) -> R + Clone + Send + 'static,
    ) -> Vec<Option<R>> {
        let answers: Answers<R> = Arc::default();
        let lanes = self.shared.lanes.read().clone();
        for lane in &lanes {
            // Answers also when the job is dropped undone.
            let mut answer = Answer { answers: Arc::clone(&answers), found: None };
            let read = read.clone();
            lane.ask(Box::new(move |thread| {
                // The whole of it moves here, to be dropped with the job.
                let answer = &mut answer;
                answer.found = Some(read(thread));
            }));
        }
        let (answered, changed) = &*answers;
        let mut answered = answered.lock();
        changed.wait_while(&mut answered, |answered| answered.len() < lanes.len());
        std::mem::take(&mut *answered)
    }

    /// What each stream thread of this process does, in the order of their names: its state, clients and tasks with their offsets.
    ///
    /// ```no_run
    /// # fn show(streams: &streams_core::runtime::Streams) {
    /// for thread in streams.threads() {
    ///     for task in thread.active_tasks {
    ///         println!("{} {}: {:?} of {:?}", thread.name, task.id, task.committed_offsets, task.end_offsets);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn threads(&self) -> Vec<ThreadMetadata> {
        let mut threads: Vec<ThreadMetadata> = self.ask_threads(StreamThread::metadata).into_iter().flatten().collect();
        threads.sort_by(|a, b| a.name.cmp(&b.name));
        threads
    }

    /// Adds a stream thread, which joins the group and takes over some of the tasks; its name. `None`, and nothing is done, unless the
    /// application is running or rebalancing. Caches and what may wait for a commit are shared out anew.
    ///
    /// ```no_run
    /// # fn grow(streams: &streams_core::runtime::Streams) -> Result<(), streams_core::StreamsError> {
    /// if let Some(name) = streams.add_stream_thread()? {
    ///     println!("{name} takes part");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when the system has no thread to give.
    pub fn add_stream_thread(&self) -> Result<Option<String>, StreamsError> {
        if !matches!(self.state(), State::Running | State::Rebalancing) {
            return Ok(None);
        }
        let index = self.shared.application.add_thread();
        self.start_thread(index).map(Some)
    }

    /// Ends a stream thread, the one added last: it commits, closes its tasks and leaves the group, whose other members take them over, here
    /// or elsewhere. Waits until that is done; the thread's name. `None`, and nothing is done, if there is no other thread than the one that
    /// calls, or the application is neither running nor rebalancing.
    ///
    /// # Errors
    /// Never without a time limit; see [`Streams::remove_stream_thread_within`].
    pub fn remove_stream_thread(&self) -> Result<Option<String>, StreamsError> {
        self.remove_thread(None)
    }

    /// As [`Streams::remove_stream_thread`], but waits for `timeout` at most.
    ///
    /// # Errors
    /// `Unavailable` when the thread has not ended by then; it will by itself.
    pub fn remove_stream_thread_within(&self, timeout: Duration) -> Result<Option<String>, StreamsError> {
        self.remove_thread(Some(timeout))
    }

    fn remove_thread(&self, timeout: Option<Duration>) -> Result<Option<String>, StreamsError> {
        let application = &self.shared.application;
        if !matches!(self.state(), State::Running | State::Rebalancing) {
            return Ok(None);
        }
        let this = std::thread::current();
        let lanes = self.shared.lanes.read().clone();
        let chosen = lanes.iter().rev().find(|lane| {
            this.name() != Some(system_name(&self.shared, lane.index).as_str())
                && !lane.is_removed.swap(true, Ordering::AcqRel)
        });
        let Some(lane) = chosen else { return Ok(None) };
        lane.wake();
        let name = application.thread_name(lane.index);
        if application.wait_for_thread_end(lane.index, timeout) {
            return Ok(Some(name));
        }
        let message = format!("stream thread {name} has not ended in time: it is closing its tasks");
        Err(StreamsError::new(ErrorKind::Unavailable, message))
    }
}

impl Shared {
    /// Forgets the thread of that number.
    fn ended(&self, index: usize) {
        self.lanes.write().retain(|lane| lane.index != index);
        self.working.fetch_sub(1, Ordering::AcqRel);
        self.wake_global();
        self.application.set_thread_state(index, ThreadState::Dead);
    }
}

/// What the system calls the thread: short, since it shows little of it.
fn system_name(shared: &Shared, index: usize) -> String {
    format!("{}-{}", shared.application.built.config().application_id(), index + 1)
}

/// What one OS thread does: builds stream threads, one after another if they are replaced, and runs them to their end.
fn drive(shared: &Arc<Shared>, lane: &Lane) {
    let unpark = Unpark::this_thread();
    let waker = Waker::from(Arc::clone(&unpark));
    *lane.waker.lock() = Some(waker.clone());
    loop {
        // A panic in a processor ends this thread as an error does, and is told in the same ways.
        let run = std::panic::AssertUnwindSafe(|| run_to_end(shared, lane, &unpark, &waker));
        let ended = std::panic::catch_unwind(run).unwrap_or_else(|panic| Err(panicked(&*panic)));
        let Err(error) = ended else { break };
        tracing::error!(
            application = shared.application.built.config().application_id(),
            thread = lane.index + 1,
            "{error}"
        );
        let error = Arc::new(error);
        let response = match &shared.application.hooks.uncaught {
            Some(handler) => handler(&error),
            None => UncaughtErrorResponse::ShutdownClient,
        };
        let closing = shared.closing.load(Ordering::Acquire) || lane.is_removed.load(Ordering::Acquire);
        if response == UncaughtErrorResponse::ReplaceThread && !closing {
            continue;
        }
        shared.application.keep_error(&error);
        shared.application.become_state(State::PendingError);
        shared.begin_close();
        break;
    }
    *lane.waker.lock() = None;
    // What is asked from now on is dropped, and so answered.
    drop(lane.jobs.lock().take());
    shared.ended(lane.index);
    if shared.application.all_threads_are_dead() {
        // Legal only after an error; a clean close is completed by whoever closes.
        shared.application.become_state(State::Error);
    }
}

fn run_to_end(shared: &Shared, lane: &Lane, unpark: &Unpark, waker: &Waker) -> Result<(), StreamsError> {
    let application = &shared.application;
    let longest_ms = application.built.config().poll_ms();
    let mut thread = StreamThread::new(Arc::clone(application), lane.index)?;
    while !thread.is_closed() {
        if shared.closing.load(Ordering::Acquire) || lane.is_removed.load(Ordering::Acquire) {
            thread.begin_close();
        }
        lane.run_jobs(&thread);
        let now = application.client.now();
        match thread.step(now, waker) {
            Ok(step) if step.did_work => {}
            Ok(step) => {
                park(unpark, step.next_wake_ticks_ms.map_or(longest_ms, |at| (at - now.ticks_ms).min(longest_ms)))
            }
            Err(error) => {
                leave(shared, thread, unpark, waker);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Lets a failed thread leave its group, so that others need not wait out its session; bounded.
fn leave(shared: &Shared, mut thread: StreamThread, unpark: &Unpark, waker: &Waker) {
    thread.abandon();
    let clock = shared.application.client.clock();
    let until = clock.now().ticks_ms + LEAVING_MS;
    while !thread.is_closed() && clock.now().ticks_ms < until {
        match thread.step(clock.now(), waker) {
            Ok(step) if step.did_work => {}
            Ok(step) => {
                park(unpark, step.next_wake_ticks_ms.map_or(100, |ticks| ticks - clock.now().ticks_ms).min(100))
            }
            Err(_) => return,
        }
    }
}
