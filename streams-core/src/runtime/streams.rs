//! [`Streams`]: an application running on OS threads. A driver: with `streams/threads.rs`, whose stream threads it starts, the only file of the
//! runtime that starts threads and waits.

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
use parking_lot::{Mutex, RwLock};
use storage::files::{Files, RealFiles};
use storage::state::Backend;

use super::application::{Application, Hooks, RestoreEvent, State, UncaughtErrorResponse};
use super::client_settings;
use super::global_thread;
use super::setup::set_up;
use super::state_directory::StateDirectory;
use crate::config::StreamsConfig;
use crate::error::{ErrorKind, StreamsError};
use crate::store::StateStore;
use crate::topology::{BuiltTopology, Topology};

mod control;
mod global;
mod threads;

use threads::Lane;

struct Shared {
    application: Arc<Application>,
    /// The stream threads that have not ended.
    lanes: RwLock<Vec<Arc<Lane>>>,
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
    /// [`StreamThread`](super::StreamThread) by stepping, as a simulation does.
    ///
    /// # Errors
    /// The topology or a setting is wrong, the state directory is in use.
    pub fn prepare(self) -> Result<Arc<Application>, StreamsError> {
        let built = BuiltTopology::new(&self.topology, &self.config)?;
        let mut rng = self.client.fork_rng();
        let directory =
            StateDirectory::open(self.files, &self.config.state_dir(), self.config.application_id(), &mut rng)?;
        if let Some(age_ms) = self.config.state_cleanup_dir_max_age_ms() {
            directory.remove_older(age_ms, self.client.now())?;
        }
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
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let bounds = block_on(global_thread::bounds(&application))?;
        let shared = Arc::new(Shared {
            application,
            lanes: RwLock::default(),
            closing: AtomicBool::new(false),
            working: AtomicUsize::new(0),
            global_waker: Mutex::default(),
        });
        shared.application.become_state(State::Rebalancing);
        let streams = Self { shared, threads: Mutex::default(), is_closed_elsewhere: false };
        if streams.shared.application.built.subtopologies().iter().any(|sub| sub.is_global) {
            let (shared, (tell, told)) = (Arc::clone(&streams.shared), mpsc::channel());
            let name = format!("{}-global", shared.application.built.config().application_id());
            let drive = move || global::drive_global(&shared, &bounds, tell);
            let thread = std::thread::Builder::new().name(name).spawn(drive);
            streams.threads.lock().push(thread.map_err(|error| not_started(&error))?);
            streams.wait_for_global_stores(&told)?;
        }
        for index in 0..count {
            streams.start_thread(index)?;
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
        let store_name = name.to_owned();
        let answered = self.ask_threads(move |thread| {
            let stores = thread.tasks().tasks().filter_map(|task| task.store::<S>(&store_name));
            stores.map(|store| read(&store)).collect::<Vec<R>>()
        });
        let complete = answered.iter().all(Option::is_some);
        let results: Vec<R> = answered.into_iter().flatten().flatten().collect();
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
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
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
        self.lanes.read().iter().for_each(|lane| lane.wake());
    }
}

fn not_started(error: &std::io::Error) -> StreamsError {
    StreamsError::new(ErrorKind::Unavailable, format!("a stream thread could not be started: {error}"))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> StreamsError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    StreamsError::new(ErrorKind::Processing, format!("a stream thread panicked: {}", text.unwrap_or("(no message)")))
}

/// Waits for a wake-up, for `ms` milliseconds at most.
fn park(unpark: &Unpark, ms: i64) {
    if !unpark.notified.swap(false, Ordering::AcqRel) {
        std::thread::park_timeout(Duration::from_millis(ms.max(0) as u64));
        unpark.notified.store(false, Ordering::Release);
    }
}
