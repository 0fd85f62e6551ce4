//! The threads of a broker that runs by itself: one that syncs, one that keeps time. A driver: it may start threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base::{Rng, SystemClock};
use protocol::transport::Transport;
use storage::files::RealFiles;

use crate::broker::{Broker, BrokerSeams};
use crate::config::BrokerConfig;
use crate::error::BrokerError;

/// The timer thread looks at the coordinators at least this often.
const TIMER_MAX_MS: i64 = 100;

/// A broker with its drivers; dropping it shuts it down.
pub struct RunningBroker {
    broker: Broker,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Opens the data directory on real files and starts the flusher and the timer.
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub fn start(config: BrokerConfig) -> Result<RunningBroker, BrokerError> {
        let seams = BrokerSeams {
            clock: SystemClock::shared(),
            rng: Rng::from_entropy(),
            files: Arc::new(RealFiles),
            connector: None,
        };
        Self::open(config, seams)?.run()
    }

    /// Starts the flusher and the timer of an open broker.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn run(self) -> Result<RunningBroker, BrokerError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = RunningBroker { broker: self, stop: Arc::clone(&stop), threads: Vec::new() };
        let flushing = (running.broker.clone(), Arc::clone(&stop));
        let flusher = spawn("broker-flusher", move || flush(&flushing.0, &flushing.1))?;
        let flusher_thread = flusher.thread().clone();
        running.broker.state().log.flusher().on_work(Arc::new(move || flusher_thread.unpark()));
        // Work may have come before the line above.
        flusher.thread().unpark();
        running.threads.push(flusher);
        let timing = (running.broker.clone(), stop);
        let timer = spawn("broker-timer", move || keep_time(&timing.0, &timing.1))?;
        let timer_thread = timer.thread().clone();
        running.broker.state().waiters.on_earlier(Box::new(move || timer_thread.unpark()));
        running.threads.push(timer);
        Ok(running)
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BrokerError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|error| {
        BrokerError::Storage(format!("cannot start the thread {name}: {error}\nraise the limit of processes"))
    })
}

fn flush(broker: &Broker, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        if broker.state().log.flusher().has_work() {
            broker.flush();
        } else {
            thread::park();
        }
    }
}

fn keep_time(broker: &Broker, stop: &AtomicBool) {
    let state = broker.state();
    while !stop.load(Ordering::Acquire) {
        // While nothing is planned every new deadline wakes us: none is missed between looking and sleeping.
        state.waiters.plan(i64::MAX);
        let now = state.clock.now();
        let step = broker.step_timers(now);
        let latest = now.ticks_ms + TIMER_MAX_MS;
        let wake = step.next_wake_ticks_ms.map_or(latest, |wake| wake.min(latest));
        state.waiters.plan(wake);
        let sleep_ms = wake - state.clock.now().ticks_ms;
        if let Ok(sleep_ms @ 1..) = u64::try_from(sleep_ms) {
            thread::park_timeout(Duration::from_millis(sleep_ms));
        }
    }
}

impl RunningBroker {
    /// The broker itself.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A new connection to this broker in process.
    pub fn transport(&self) -> Arc<dyn Transport> {
        self.broker.transport()
    }

    /// Ends connections, stops the threads and leaves the data directory clean.
    ///
    /// # Errors
    /// Something could not be written; the next open recovers.
    pub fn shutdown(mut self) -> Result<(), BrokerError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), BrokerError> {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a broker thread had panicked");
            }
        }
        self.broker.close()
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!("{error}");
        }
    }
}
