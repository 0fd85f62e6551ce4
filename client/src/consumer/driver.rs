//! The thread of a [`Consumer`](super::Consumer): sends heartbeats while the user's thread is busy between two polls.
//!
//! One of the crate's driver files: the only one of the consumer that has a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::keep_alive::KeepAlive;
use crate::client::Client;
use crate::driver::Unpark;

/// Runs until dropped.
pub(crate) struct Heartbeats {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeats {
    pub fn start(client: Client, keep_alive: KeepAlive) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let waker = Unpark::current();
            while !stopped.load(Ordering::Acquire) {
                let now = client.now();
                let step = keep_alive.step(now, &waker);
                match step.next_wake_ticks_ms {
                    Some(at) => thread::park_timeout(Duration::from_millis((at - now.ticks_ms).max(1) as u64)),
                    None => thread::park(),
                }
            }
        };
        let thread = thread::Builder::new().name("millstream-heartbeat".into()).spawn(run);
        if let Err(error) = &thread {
            tracing::error!(%error, "no heartbeat thread: heartbeats go with polls only");
        }
        Self { stop, thread: thread.ok() }
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends within one step, which does not block; a panic there was its own business.
            drop(thread.join());
        }
    }
}
