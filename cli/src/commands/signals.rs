//! Ctrl-C and SIGTERM as something to be awaited, so that a command can end in order.

use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::Failure;

/// Both signals, from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// The signals, and the runtime on which to await them.
    pub fn listen() -> Result<(Runtime, Self), Failure> {
        let failed = |error| Failure::new(format!("cannot wait for signals: {error}"));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let inside = runtime.enter();
        let signals = Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        };
        drop(inside);
        Ok((runtime, signals))
    }

    /// Either of the two.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
