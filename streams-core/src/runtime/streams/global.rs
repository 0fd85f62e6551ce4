//! The global stores of a running application: what their thread does, and reading them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::Waker;

use super::{Shared, Streams, Unpark, panicked, park};
use crate::error::StreamsError;
use crate::runtime::application::State;
use crate::runtime::global_thread::{Bounds, GlobalThread};
use crate::store::GlobalKeyValueStore;

/// How it is told that global stores hold what was in their topics at the start, or why they never will.
type Told = Result<(), StreamsError>;

impl Streams {
    /// Waits until the global stores hold what was in their topics when their thread began.
    pub(super) fn wait_for_global_stores(&self, told: &mpsc::Receiver<Told>) -> Result<(), StreamsError> {
        match told.recv() {
            Ok(result) => result,
            Err(_) => self.check(false, || "the thread of the global stores has ended".to_owned()),
        }
    }

    /// The global store `name`, to be read from any thread; of a global table, `V` is [`ValueAndTimestamp`](crate::ValueAndTimestamp).
    ///
    /// # Errors
    /// There is none of that name and type.
    pub fn global_store<K: 'static, V: 'static>(&self, name: &str) -> Result<GlobalKeyValueStore<K, V>, StreamsError> {
        self.shared.application.globals.key_value(name)
    }
}

/// What the OS thread of the global stores does.
pub(super) fn drive_global(shared: &Shared, bounds: &Bounds, tell: mpsc::Sender<Told>) {
    let unpark = Unpark::this_thread();
    let waker = Waker::from(Arc::clone(&unpark));
    *shared.global_waker.lock() = Some(waker.clone());
    let mut tell = Some(tell);
    let run = std::panic::AssertUnwindSafe(|| keep_global(shared, bounds, &unpark, &waker, &mut tell));
    let ended = std::panic::catch_unwind(run).unwrap_or_else(|panic| Err(panicked(&*panic)));
    *shared.global_waker.lock() = None;
    let Err(error) = ended else { return };
    let application = &shared.application;
    tracing::error!(application = application.built.config().application_id(), thread = "global", "{error}");
    let error = Arc::new(error);
    application.keep_error(&error);
    application.become_state(State::PendingError);
    if let Some(tell) = tell {
        // Whoever waits for the start takes the error.
        let _ = tell.send(Err(StreamsError::new(error.kind(), error.to_string())));
        application.become_state(State::Error);
    }
    shared.begin_close();
}

fn keep_global(
    shared: &Shared,
    bounds: &Bounds,
    unpark: &Unpark,
    waker: &Waker,
    tell: &mut Option<mpsc::Sender<Told>>,
) -> Result<(), StreamsError> {
    let application = &shared.application;
    let longest_ms = application.built.config().poll_ms();
    let mut thread = GlobalThread::new(application, bounds)?;
    while !(shared.closing.load(Ordering::Acquire) && shared.working.load(Ordering::Acquire) == 0) {
        let now = application.client.now();
        let step = thread.step(now, waker)?;
        if thread.has_caught_up()
            && let Some(tell) = tell.take()
        {
            // Nobody waits if the start was given up.
            let _ = tell.send(Ok(()));
        }
        if !step.did_work {
            park(unpark, step.next_wake_ticks_ms.map_or(longest_ms, |at| (at - now.ticks_ms).min(longest_ms)));
        }
    }
    thread.close()
}
