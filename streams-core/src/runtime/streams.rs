//! [`Streams`]: an application running on OS threads. A driver: the only file of the runtime that starts threads and waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use base::TopicPartition;
use base::hash::HashMap;
use base::metrics::Metrics;
use client::admin::OffsetSpec;
use client::{Admin, Client, block_on};
use parking_lot::{Condvar, Mutex};
use storage::files::{Files, RealFiles};
use storage::state::Backend;

use super::application::{Application, Hooks, RestoreEvent, State, ThreadState, UncaughtErrorResponse};
use super::client_settings;
use super::global_thread;
use super::setup::set_up;
use super::state_directory::StateDirectory;
use super::stream_thread::StreamThread;
use super::task_manager::TaskManager;
use crate::config::StreamsConfig;
use crate::error::{ErrorKind, StreamsError};
use crate::store::StateStore;
use crate::topology::{BuiltTopology, Topology};

mod control;
mod global;

/// How long a failed thread tries to leave its group before it is given up.
const LEAVING_MS: i64 = 3_000;

/// Something to be done on a stream thread, between two rounds.
type Job = Box<dyn FnOnce(&TaskManager) + Send>;

/// One thread as the handle sees it.
#[derive(Default)]
struct Lane {
    jobs: Mutex<VecDeque<Job>>,
    waker: Mutex<Option<Waker>>,
}

struct Shared {
    application: Arc<Application>,
    lanes: Vec<Lane>,
    closing: AtomicBool,
    /// Stream threads at work: global stores are kept until there is none.
    working: AtomicUsize,
    global_waker: Mutex<Option<Waker>>,
}

/// Wakes a parked thread.
struct Unpark {
    thread: Thread,
    notified: AtomicBool,
}

impl Unpark {
    fn this_thread() -> Arc<Self> {
        Arc::new(Self { thread: std::thread::current(), notified: AtomicBool::new(false) })
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.notified.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Sets up an application before it starts; see [`Streams::builder`].
pub struct StreamsBuilder {
    topology: Topology,
    config: StreamsConfig,
    client: Client,
    hooks: Hooks,
    backend: Option<Backend>,
    files: Arc<dyn Files>,
    metrics: Metrics,
}

impl StreamsBuilder {
    /// Calls `listener` with the new and the old state at each change.
    #[must_use]
    pub fn on_state_change(mut self, listener: impl Fn(State, State) + Send + Sync + 'static) -> Self {
        self.hooks.state = Some(Arc::new(listener));
        self
    }

    /// Calls `listener` with store, changelog partition and progress while stores are restored.
    #[must_use]
    pub fn on_restore(
        mut self,
        listener: impl Fn(&str, &TopicPartition, &RestoreEvent) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.restore = Some(Arc::new(listener));
        self
    }

    /// Lets `handler` decide about errors that end a stream thread; without it the application closes.
    #[must_use]
    pub fn on_uncaught_error(
        mut self,
        handler: impl Fn(&StreamsError) -> UncaughtErrorResponse + Send + Sync + 'static,
    ) -> Self {
        self.hooks.uncaught = Some(Arc::new(handler));
        self
    }

    /// Keeps persistent stores there instead of in the default engine.
    #[must_use]
    pub fn with_backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Keeps the state directory on this disk; the backend is told apart, see [`Backend::Files`].
    #[must_use]
    pub fn with_files(mut self, files: Arc<dyn Files>) -> Self {
        self.files = files;
        self
    }

    /// Counts in these metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Starts the application: creates its internal topics, joins its group, and returns; [`Streams::wait_until_running`] waits for the tasks.
    ///
    /// # Errors
    /// The topology or a setting is wrong, a source topic is missing, the state directory is in use, no broker can be reached.
    pub fn start(self) -> Result<Streams, StreamsError> {
        let application = self.prepare()?;
        block_on(set_up(Arc::clone(&application)))?;
        Streams::run(application)
    }

    /// What [`StreamsBuilder::start`] does before it asks a broker: for whoever drives [`set_up`] and then each
    /// [`StreamThread`] by stepping, as a simulation does.
    ///
    /// # Errors
    /// The topology or a setting is wrong, the state directory is in use.
    pub fn prepare(self) -> Result<Arc<Application>, StreamsError> {
        let built = BuiltTopology::new(&self.topology, &self.config)?;
        let mut rng = self.client.fork_rng();
        let directory =
            StateDirectory::open(self.files, &self.config.state_dir(), self.config.application_id(), &mut rng)?;
        let backend = self.backend.unwrap_or_else(default_backend);
        let process_id = directory.process_id();
        let client = client_settings::threads(&self.config, &self.client, process_id)?;
        let admin = Admin::new(client_settings::admin(&self.config, &self.client, process_id)?);
        let built = if built.has_patterns() { block_on(with_topics(&built, &admin))? } else { built };
        Ok(Application::new(built, (client, admin), directory, backend, self.metrics, self.hooks))
    }
}

/// The topology with the topics that patterns match now.
async fn with_topics(built: &BuiltTopology, admin: &Admin) -> Result<Arc<BuiltTopology>, StreamsError> {
    let topics = admin.list_topics().await.map_err(|error| StreamsError::caused_by(ErrorKind::Unavailable, error))?;
    let names = topics.into_iter().filter(|topic| !topic.internal).map(|topic| topic.name.to_string());
    Ok(built.where_exist(&names.collect::<Vec<_>>()))
}

#[cfg(feature = "rocksdb")]
fn default_backend() -> Backend {
    use storage::state::{BudgetOptions, StateBudget};
    static PROCESS: std::sync::LazyLock<StateBudget> =
        std::sync::LazyLock::new(|| StateBudget::new(BudgetOptions::default()));
    Backend::RocksDb(PROCESS.clone())
}

#[cfg(not(feature = "rocksdb"))]
fn default_backend() -> Backend {
    Backend::Memory
}

/// A running application. Dropping it closes it cleanly.
pub struct Streams {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Another thread waits for those of the application.
    is_closed_elsewhere: bool,
}

impl Streams {
    /// Begins to set up the application of `topology` and `config` over `client`.
    pub fn builder(topology: Topology, config: StreamsConfig, client: Client) -> StreamsBuilder {
        StreamsBuilder {
            topology,
            config,
            client,
            hooks: Hooks::default(),
            backend: None,
            files: Arc::new(RealFiles),
            metrics: Metrics::default(),
        }
    }

    /// As [`Streams::builder`] and [`StreamsBuilder::start`], without anything in between.
    ///
    /// # Errors
    /// As [`StreamsBuilder::start`].
    pub fn start(topology: Topology, config: StreamsConfig, client: Client) -> Result<Self, StreamsError> {
        Self::builder(topology, config, client).start()
    }

    fn run(application: Arc<Application>) -> Result<Self, StreamsError> {
        let count = application.built.config().num_stream_threads();
        let lanes = (0..count).map(|_| Lane::default()).collect();
        let bounds = block_on(global_thread::bounds(&application))?;
        let shared = Arc::new(Shared {
            application,
            lanes,
            closing: AtomicBool::new(false),
            working: AtomicUsize::new(0),
            global_waker: Mutex::default(),
        });
        shared.application.become_state(State::Rebalancing);
        let mut streams = Self { shared, threads: Vec::new(), is_closed_elsewhere: false };
        if streams.shared.application.built.subtopologies().iter().any(|sub| sub.is_global) {
            let (shared, (tell, told)) = (Arc::clone(&streams.shared), mpsc::channel());
            let name = format!("{}-global", shared.application.built.config().application_id());
            let drive = move || global::drive_global(&shared, &bounds, tell);
            let thread = std::thread::Builder::new().name(name).spawn(drive);
            streams.threads.push(thread.map_err(|error| not_started(&error))?);
            streams.wait_for_global_stores(&told)?;
        }
        for index in 0..count {
            let shared = Arc::clone(&streams.shared);
            let name = format!("{}-{}", shared.application.built.config().application_id(), index + 1);
            streams.shared.working.fetch_add(1, Ordering::AcqRel);
            let spawned = std::thread::Builder::new().name(name).spawn(move || drive(&shared, index));
            match spawned {
                Ok(thread) => streams.threads.push(thread),
                Err(error) => {
                    streams.shared.working.fetch_sub(1, Ordering::AcqRel);
                    return Err(not_started(&error));
                }
            }
        }
        Ok(streams)
    }

    /// State of the application.
    pub fn state(&self) -> State {
        self.shared.application.state()
    }

    /// The error that ended the application, in state `Error`.
    pub fn error(&self) -> Option<Arc<StreamsError>> {
        self.shared.application.error()
    }

    /// The metrics of the application.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.application.metrics
    }

    /// The topology as text.
    pub fn describe(&self) -> String {
        self.shared.application.built.describe()
    }

    /// Waits until all tasks run, for `timeout` at most.
    ///
    /// # Errors
    /// The application failed, was closed, or is not running in time.
    pub fn wait_until_running(&self, timeout: Duration) -> Result<(), StreamsError> {
        let state = self
            .shared
            .application
            .wait_for_state(|state| state == State::Running || state >= State::PendingShutdown, Some(timeout));
        self.check(state == State::Running, || format!("the application is {state} after {timeout:?}"))
    }

    /// Waits until the application has ended, by an error or a call of [`Streams::close`]; the state it ended in.
    pub fn wait_until_ended(&self) -> State {
        self.shared.application.wait_for_state(State::is_final, None)
    }

    fn check(&self, is_good: bool, message: impl FnOnce() -> String) -> Result<(), StreamsError> {
        if is_good {
            return Ok(());
        }
        let message = match self.error() {
            Some(error) => error.to_string(),
            None => message(),
        };
        Err(StreamsError::new(ErrorKind::IllegalState, message))
    }

    /// Waits until everything that is in the input topics at some moment during the call is processed and committed, repartition topics
    /// included, by whichever instance of the application, and until this instance runs its tasks, so that its stores can be read.
    ///
    /// # Errors
    /// The application ended, or the brokers cannot be reached.
    pub fn wait_until_caught_up(&self) -> Result<(), StreamsError> {
        let application = &self.shared.application;
        loop {
            let seen = application.commits();
            let is_caught_up = block_on(caught_up(application))
                .map_err(|error| StreamsError::caused_by(ErrorKind::Unavailable, error))?;
            if is_caught_up {
                let state = application.wait_for_state(|state| state >= State::Running, None);
                return self.check(state == State::Running, || format!("the application is {state}"));
            }
            self.check(!self.state().is_final(), || "the application has ended".to_owned())?;
            // Other instances' commits are not heard of, hence the bound.
            application.wait_for_commit(seen, Duration::from_millis(100));
        }
    }

    /// Calls `read` with the store `name` of each task in this process, on the task's own thread, between two records; the results, in no
    /// particular order. `S` is the type that the store's builder makes, such as
    /// [`TimestampedKeyValueStore<String, i64>`](crate::TimestampedKeyValueStore) for the result of a count.
    ///
    /// # Errors
    /// No task here has such a store, it is of another type, or a thread ended meanwhile.
    pub fn with_store<S: StateStore, R: Send + 'static>(
        &self,
        name: &str,
        read: impl Fn(&S) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, StreamsError> {
        let answers: Answers<R> = Arc::default();
        let expected = self.shared.lanes.len();
        for lane in &self.shared.lanes {
            let (answers, read, name) = (Arc::clone(&answers), read.clone(), name.to_owned());
            // Answers also when the job is dropped unrun, because its thread has ended.
            let mut answer = Answer { answers, found: None };
            lane.jobs.lock().push_back(Box::new(move |tasks| {
                let stores = tasks.tasks().filter_map(|task| task.store::<S>(&name));
                let answer = &mut answer;
                answer.found = Some(stores.map(|store| read(&store)).collect());
            }));
            if let Some(waker) = &*lane.waker.lock() {
                waker.wake_by_ref();
            }
        }
        let (answered, changed) = &*answers;
        let mut answered = answered.lock();
        changed.wait_while(&mut answered, |answered| answered.len() < expected);
        let complete = answered.iter().all(Option::is_some);
        let results: Vec<R> = answered.drain(..).flatten().flatten().collect();
        if results.is_empty() || !complete {
            let message = format!(
                "no running task here has a store {name} of type {}: check the name, and that the application is RUNNING",
                std::any::type_name::<S>()
            );
            return Err(StreamsError::new(ErrorKind::IllegalState, message).in_store(name));
        }
        Ok(results)
    }

    /// Closes the application: a last commit, stores closed, the group left. Waits until that is done.
    ///
    /// # Errors
    /// The error that ended the application before, if one did.
    pub fn close(mut self) -> Result<(), StreamsError> {
        self.shut_down();
        match self.error() {
            Some(error) => Err(StreamsError::new(error.kind(), error.to_string())),
            None => Ok(()),
        }
    }

    fn shut_down(&mut self) {
        self.shared.application.become_state(State::PendingShutdown);
        self.shared.begin_close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so; there is nothing to add.
            let _ = thread.join();
        }
        self.shared.application.become_state(State::NotRunning);
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if !self.is_closed_elsewhere {
            self.shut_down();
        }
    }
}

/// What threads answered to [`Streams::with_store`]: one entry each, `None` of those that ended.
type Answers<R> = Arc<(Mutex<Vec<Option<Vec<R>>>>, Condvar)>;

/// The answer of one thread to [`Streams::with_store`], given when dropped.
struct Answer<R> {
    answers: Answers<R>,
    found: Option<Vec<R>>,
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        self.answers.0.lock().push(self.found.take());
        self.answers.1.notify_all();
    }
}

async fn caught_up(application: &Application) -> Result<bool, client::ClientError> {
    let admin = &application.admin;
    let topics = application.built.subscription();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut ends = Vec::new();
    for (name, topic) in admin.describe_topics(&names).await? {
        let count = topic?.partitions.len() as i32;
        ends.extend(
            (0..count).map(|partition| (TopicPartition::new(Arc::clone(&name), partition), OffsetSpec::Latest)),
        );
    }
    let starts: Vec<_> = ends.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::Earliest)).collect();
    // Before the ends: what was written to a repartition topic before this commit is then among them, and nothing is missed
    // that was written between two looks.
    let group = application.built.config().application_id();
    let committed: HashMap<TopicPartition, i64> = admin
        .list_group_offsets(group)
        .await?
        .into_iter()
        .map(|(partition, committed)| (partition, committed.offset))
        .collect();
    let starts = admin.list_offsets(&starts).await?;
    let ends = admin.list_offsets(&ends).await?;
    for ((partition, end), (_, start)) in ends.into_iter().zip(starts) {
        let (end, start) = (end?.offset, start?.offset);
        // An empty partition is never committed.
        let done = committed.get(&partition).map_or(end <= start, |committed| *committed >= end);
        if !done {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Shared {
    fn wake_global(&self) {
        if let Some(waker) = &*self.global_waker.lock() {
            waker.wake_by_ref();
        }
    }

    fn begin_close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake_global();
        self.wake();
    }

    /// Wakes every stream thread.
    fn wake(&self) {
        for lane in &self.lanes {
            if let Some(waker) = &*lane.waker.lock() {
                waker.wake_by_ref();
            }
        }
    }
}

fn not_started(error: &std::io::Error) -> StreamsError {
    StreamsError::new(ErrorKind::Unavailable, format!("a stream thread could not be started: {error}"))
}

/// What one OS thread does: builds stream threads, one after another if they are replaced, and runs them to their end.
fn drive(shared: &Arc<Shared>, index: usize) {
    let unpark = Unpark::this_thread();
    let waker = Waker::from(Arc::clone(&unpark));
    *shared.lanes[index].waker.lock() = Some(waker.clone());
    loop {
        // A panic in a processor ends this thread as an error does, and is told in the same ways.
        let run = std::panic::AssertUnwindSafe(|| run_to_end(shared, index, &unpark, &waker));
        let ended = std::panic::catch_unwind(run).unwrap_or_else(|panic| Err(panicked(&*panic)));
        let Err(error) = ended else { break };
        tracing::error!(
            application = shared.application.built.config().application_id(),
            thread = index + 1,
            "{error}"
        );
        let error = Arc::new(error);
        let response = match &shared.application.hooks.uncaught {
            Some(handler) => handler(&error),
            None => UncaughtErrorResponse::ShutdownClient,
        };
        let closing = shared.closing.load(Ordering::Acquire);
        if response == UncaughtErrorResponse::ReplaceThread && !closing {
            continue;
        }
        shared.application.keep_error(&error);
        shared.application.become_state(State::PendingError);
        shared.begin_close();
        break;
    }
    shared.working.fetch_sub(1, Ordering::AcqRel);
    shared.wake_global();
    shared.application.set_thread_state(index, ThreadState::Dead);
    *shared.lanes[index].waker.lock() = None;
    shared.lanes[index].jobs.lock().clear();
    if shared.application.all_threads_are_dead() {
        // Legal only after an error; a clean close is completed by whoever closes.
        shared.application.become_state(State::Error);
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> StreamsError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    StreamsError::new(ErrorKind::Processing, format!("a stream thread panicked: {}", text.unwrap_or("(no message)")))
}

fn run_to_end(shared: &Shared, index: usize, unpark: &Unpark, waker: &Waker) -> Result<(), StreamsError> {
    let application = &shared.application;
    let longest_ms = application.built.config().poll_ms();
    let mut thread = StreamThread::new(Arc::clone(application), index)?;
    while !thread.is_closed() {
        if shared.closing.load(Ordering::Acquire) {
            thread.begin_close();
        }
        run_jobs(&shared.lanes[index], thread.tasks());
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

fn run_jobs(lane: &Lane, tasks: &TaskManager) {
    loop {
        let Some(job) = lane.jobs.lock().pop_front() else { return };
        job(tasks);
    }
}

/// Waits for a wake-up, for `ms` milliseconds at most.
fn park(unpark: &Unpark, ms: i64) {
    if !unpark.notified.swap(false, Ordering::AcqRel) {
        std::thread::park_timeout(Duration::from_millis(ms.max(0) as u64));
        unpark.notified.store(false, Ordering::Release);
    }
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
