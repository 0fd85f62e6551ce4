//! Holding a running application, ending it within a time, and clearing the local state of one that does not run.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::{Streams, StreamsBuilder};
use crate::error::{ErrorKind, StreamsError};
use crate::runtime::application::State;
use crate::runtime::state_directory::StateDirectory;

impl Streams {
    /// Holds the application: no task processes, restores or punctuates until [`Streams::resume`]. It stays in its group and keeps its tasks,
    /// what was processed is committed, and global stores go on being filled.
    pub fn pause(&self) {
        self.shared.application.set_paused(true);
    }

    /// Lets the application go on after [`Streams::pause`].
    pub fn resume(&self) {
        self.shared.application.set_paused(false);
        self.shared.wake();
    }

    /// Whether the application is held by [`Streams::pause`].
    pub fn is_paused(&self) -> bool {
        self.shared.application.is_paused()
    }

    /// As [`Streams::close`], but waits for `timeout` at most; whether it has closed by then. If not, closing goes on by itself.
    ///
    /// # Errors
    /// As [`Streams::close`]; `Unavailable` when no thread could be started to wait.
    pub fn close_within(mut self, timeout: Duration) -> Result<bool, StreamsError> {
        let application = Arc::clone(&self.shared.application);
        application.become_state(State::PendingShutdown);
        self.shared.begin_close();
        let (threads, closing) = (std::mem::take(&mut *self.threads.lock()), Arc::clone(&application));
        let (tell, told) = mpsc::channel();
        let wait = move || {
            for thread in threads {
                // A thread that panicked has told so; there is nothing to add.
                let _ = thread.join();
            }
            closing.become_state(State::NotRunning);
            // The state directory is free before anybody is told.
            drop(closing);
            // Whoever waited may have given up.
            let _ = tell.send(());
        };
        let name = format!("{}-close", application.built.config().application_id());
        std::thread::Builder::new().name(name).spawn(wait).map_err(|error| {
            StreamsError::new(
                ErrorKind::Unavailable,
                format!("no thread could be started to wait for the close: {error}"),
            )
        })?;
        self.is_closed_elsewhere = true;
        let is_closed = told.recv_timeout(timeout).is_ok();
        match self.error() {
            Some(error) => Err(StreamsError::new(error.kind(), error.to_string())),
            None => Ok(is_closed),
        }
    }
}

impl StreamsBuilder {
    /// Removes the local state of the application, which must not be running: the stores of its tasks and its global stores. They are
    /// restored at the next start; a store without changelog is lost.
    ///
    /// # Errors
    /// `IllegalState` when a process runs it on this `state.dir`; `Store` when a folder cannot be removed.
    pub fn clean_up(&self) -> Result<(), StreamsError> {
        let mut rng = self.client.fork_rng();
        let (dir, id) = (self.config.state_dir(), self.config.application_id());
        StateDirectory::open(Arc::clone(&self.files), &dir, id, &mut rng)?.clear()
    }
}
