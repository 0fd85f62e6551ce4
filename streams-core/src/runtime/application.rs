//! What all stream threads of one application share: the topology, the client, the state directory, the state of the whole.
//!
//! The states and their legal moves are Kafka Streams':
//!
//! ```text
//! CREATED -> REBALANCING <-> RUNNING        any of the three -> PENDING_SHUTDOWN -> NOT_RUNNING
//! REBALANCING, RUNNING -> PENDING_ERROR -> ERROR
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::metrics::Metrics;
use client::{Admin, Client};
use parking_lot::{Condvar, Mutex};
use storage::state::Backend;

use super::state_directory::StateDirectory;
use crate::error::StreamsError;
use crate::store::GlobalStores;
use crate::topology::BuiltTopology;

/// State of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not started.
    Created,
    /// Tasks are being assigned or restored.
    Rebalancing,
    /// Processing.
    Running,
    /// Closing.
    PendingShutdown,
    /// Closed.
    NotRunning,
    /// Failed, closing.
    PendingError,
    /// Failed and closed.
    Error,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "CREATED",
            Self::Rebalancing => "REBALANCING",
            Self::Running => "RUNNING",
            Self::PendingShutdown => "PENDING_SHUTDOWN",
            Self::NotRunning => "NOT_RUNNING",
            Self::PendingError => "PENDING_ERROR",
            Self::Error => "ERROR",
        })
    }
}

impl State {
    /// Whether the application may go from here to `to`.
    pub fn may_become(self, to: Self) -> bool {
        use State::{Created, Error, NotRunning, PendingError, PendingShutdown, Rebalancing, Running};
        match self {
            Created => matches!(to, Rebalancing | PendingShutdown | PendingError),
            Rebalancing => matches!(to, Running | PendingShutdown | PendingError),
            Running => matches!(to, Rebalancing | PendingShutdown | PendingError),
            PendingShutdown => to == NotRunning,
            PendingError => to == Error,
            NotRunning | Error => false,
        }
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::NotRunning | Self::Error)
    }
}

/// What becomes of the application when a stream thread fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UncaughtErrorResponse {
    /// A new thread takes the failed one's place.
    ReplaceThread,
    /// The application closes, in state `Error`.
    ShutdownClient,
}

/// Decides about an error that ended a stream thread.
pub type UncaughtErrorHandler = Arc<dyn Fn(&StreamsError) -> UncaughtErrorResponse + Send + Sync>;
/// Told of each change of state: new, old.
pub type StateListener = Arc<dyn Fn(State, State) + Send + Sync>;

/// Progress of restoring one store of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreEvent {
    /// Restoring begins: records from `start` up to, not including, `end` are to be applied.
    Started {
        /// First offset.
        start: i64,
        /// Offset behind the last.
        end: i64,
    },
    /// Records were applied; `offset` is next, `total` have been applied so far.
    Batch {
        /// Next offset.
        offset: i64,
        /// Records so far.
        total: u64,
    },
    /// The store is complete.
    Ended {
        /// Records in all.
        total: u64,
    },
}

/// Told of restoring: store, changelog partition, what happened.
pub type RestoreListener = Arc<dyn Fn(&str, &base::TopicPartition, &RestoreEvent) + Send + Sync>;

/// Listeners and handlers of one application.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Told of changes of state.
    pub state: Option<StateListener>,
    /// Told of restoring.
    pub restore: Option<RestoreListener>,
    /// Decides about errors that end a thread.
    pub uncaught: Option<UncaughtErrorHandler>,
}

/// What a stream thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadState {
    /// It has not been in the group yet.
    Starting,
    /// Tasks are being assigned or restored.
    Rebalancing,
    /// Processing.
    Running,
    /// It has ended.
    Dead,
}

struct Status {
    state: State,
    threads: Vec<ThreadState>,
    error: Option<Arc<StreamsError>>,
    commits: u64,
}

/// Shared by the handle and all threads.
pub struct Application {
    /// The topology, made ready.
    pub built: Arc<BuiltTopology>,
    /// The way to the brokers of all stream threads; its `client.id` is what their names begin with.
    pub client: Client,
    /// Administration: internal topics, purging, members that are dead.
    pub admin: Admin,
    /// The locked state directory.
    pub directory: StateDirectory,
    /// Engine of persistent stores.
    pub backend: Backend,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Global stores.
    pub globals: GlobalStores,
    pub(crate) hooks: Hooks,
    status: Mutex<Status>,
    changed: Condvar,
    paused: AtomicBool,
}

impl Application {
    pub(crate) fn new(
        built: Arc<BuiltTopology>,
        (client, admin): (Client, Admin),
        directory: StateDirectory,
        backend: Backend,
        metrics: Metrics,
        hooks: Hooks,
    ) -> Arc<Self> {
        let threads = vec![ThreadState::Starting; built.config().num_stream_threads()];
        Arc::new(Self {
            built,
            client,
            admin,
            directory,
            backend,
            metrics,
            globals: GlobalStores::default(),
            hooks,
            status: Mutex::new(Status { state: State::Created, threads, error: None, commits: 0 }),
            changed: Condvar::new(),
            paused: AtomicBool::new(false),
        })
    }

    /// State of the whole.
    pub fn state(&self) -> State {
        self.status.lock().state
    }

    /// Whether its tasks are held.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// What ended the application, if an error did.
    pub fn error(&self) -> Option<Arc<StreamsError>> {
        self.status.lock().error.clone()
    }

    pub(crate) fn keep_error(&self, error: &Arc<StreamsError>) {
        self.status.lock().error.get_or_insert_with(|| Arc::clone(error));
    }

    /// Moves to `to` if that is legal; the listener is called outside the lock. Returns whether it moved.
    pub(crate) fn become_state(&self, to: State) -> bool {
        let from = {
            let mut status = self.status.lock();
            if !status.state.may_become(to) {
                return false;
            }
            std::mem::replace(&mut status.state, to)
        };
        self.changed.notify_all();
        tracing::info!(application = self.built.config().application_id(), "state {from} -> {to}");
        if let Some(listener) = &self.hooks.state {
            listener(to, from);
        }
        true
    }

    /// Notes what a thread does, and moves the whole along: to `Rebalancing` when one begins to, to `Running` when all run.
    pub(crate) fn set_thread_state(&self, thread: usize, state: ThreadState) {
        let all_run = {
            let mut status = self.status.lock();
            if let Some(known) = status.threads.get_mut(thread) {
                *known = state;
            }
            let any_runs = status.threads.contains(&ThreadState::Running);
            any_runs && status.threads.iter().all(|state| matches!(state, ThreadState::Running | ThreadState::Dead))
        };
        match state {
            ThreadState::Rebalancing => {
                self.become_state(State::Rebalancing);
            }
            // Also when the one thread is gone that did not run.
            ThreadState::Running | ThreadState::Dead if all_run => {
                self.become_state(State::Running);
            }
            _ => {}
        }
        self.changed.notify_all();
    }

    /// Makes room for one more thread; its number: that of one that has ended, if there is any.
    pub(crate) fn add_thread(&self) -> usize {
        let mut status = self.status.lock();
        let free = status.threads.iter().position(|state| *state == ThreadState::Dead);
        let index = free.unwrap_or(status.threads.len());
        match free {
            Some(free) => status.threads[free] = ThreadState::Starting,
            None => status.threads.push(ThreadState::Starting),
        }
        index
    }

    /// How many threads share what is set for all of them.
    pub(crate) fn thread_count(&self) -> usize {
        self.status.lock().threads.iter().filter(|state| **state != ThreadState::Dead).count().max(1)
    }

    /// Name of thread `thread`, which the names of its clients begin with.
    pub(crate) fn thread_name(&self, thread: usize) -> String {
        format!("{}-StreamThread-{}", self.client.config().client_id, thread + 1)
    }

    /// What thread `thread` does.
    pub(crate) fn thread_state(&self, thread: usize) -> ThreadState {
        self.status.lock().threads.get(thread).copied().unwrap_or(ThreadState::Dead)
    }

    /// Waits until thread `thread` has ended, or the time is over; whether it has.
    pub(crate) fn wait_for_thread_end(&self, thread: usize, timeout: Option<std::time::Duration>) -> bool {
        let mut status = self.status.lock();
        let is_alive =
            |status: &mut Status| status.threads.get(thread).is_some_and(|state| *state != ThreadState::Dead);
        match timeout {
            Some(timeout) => !self.changed.wait_while_for(&mut status, is_alive, timeout).timed_out(),
            None => {
                self.changed.wait_while(&mut status, is_alive);
                true
            }
        }
    }

    pub(crate) fn all_threads_are_dead(&self) -> bool {
        self.status.lock().threads.iter().all(|state| *state == ThreadState::Dead)
    }

    /// Counts a commit, for whoever waits for progress.
    pub(crate) fn committed(&self) {
        self.status.lock().commits += 1;
        self.changed.notify_all();
    }

    /// Number of commits so far.
    pub(crate) fn commits(&self) -> u64 {
        self.status.lock().commits
    }

    /// Waits until `wanted` holds for the state, or the time is over; returns the state.
    pub(crate) fn wait_for_state(&self, wanted: impl Fn(State) -> bool, timeout: Option<std::time::Duration>) -> State {
        let mut status = self.status.lock();
        let waited = |status: &mut parking_lot::MutexGuard<'_, Status>| match timeout {
            Some(timeout) => self.changed.wait_while_for(status, |status| !wanted(status.state), timeout).timed_out(),
            None => {
                self.changed.wait_while(status, |status| !wanted(status.state));
                false
            }
        };
        waited(&mut status);
        status.state
    }

    /// Waits until there were more commits than `seen`, the application ended, or the time is over.
    pub(crate) fn wait_for_commit(&self, seen: u64, timeout: std::time::Duration) {
        let mut status = self.status.lock();
        self.changed.wait_while_for(&mut status, |status| status.commits <= seen && !status.state.is_final(), timeout);
    }

    pub(crate) fn tell_restore(&self, store: &str, changelog: &base::TopicPartition, event: &RestoreEvent) {
        if let Some(listener) = &self.hooks.restore {
            listener(store, changelog, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_legal_moves_are_allowed() {
        use State::*;
        let all = [Created, Rebalancing, Running, PendingShutdown, NotRunning, PendingError, Error];
        let legal: Vec<String> = all
            .iter()
            .flat_map(|from| all.iter().map(move |to| (from, to)))
            .filter(|(from, to)| from.may_become(**to))
            .map(|(from, to)| format!("{from}->{to}"))
            .collect();
        assert_eq!(
            legal,
            [
                "CREATED->REBALANCING",
                "CREATED->PENDING_SHUTDOWN",
                "CREATED->PENDING_ERROR",
                "REBALANCING->RUNNING",
                "REBALANCING->PENDING_SHUTDOWN",
                "REBALANCING->PENDING_ERROR",
                "RUNNING->REBALANCING",
                "RUNNING->PENDING_SHUTDOWN",
                "RUNNING->PENDING_ERROR",
                "PENDING_SHUTDOWN->NOT_RUNNING",
                "PENDING_ERROR->ERROR",
            ]
        );
    }
}
