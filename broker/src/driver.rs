//! The threads of a broker that runs by itself: one that syncs, one that keeps time, one that compacts. Each sleeps until
//! it has something to do. A driver: it may start threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base::{Rng, SystemClock};
use protocol::transport::Transport;
use storage::files::{RealFiles, raise_open_files_limit};

use crate::broker::{Broker, BrokerSeams};
use crate::config::BrokerConfig;
use crate::error::BrokerError;

/// A broker with its drivers; dropping it shuts it down.
pub struct RunningBroker {
    broker: Broker,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Opens the data directory on real files and starts the flusher, the timer and the cleaner. The process's limit of open files is
    /// raised to what the system allows.
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub fn start(config: BrokerConfig) -> Result<RunningBroker, BrokerError> {
        raise_open_files_limit();
        let seams = BrokerSeams {
            clock: SystemClock::shared(),
            rng: Rng::from_entropy(),
            files: Arc::new(RealFiles),
            connector: None,
        };
        Self::open(config, seams)?.run()
    }

    /// Starts the flusher, the timer and the cleaner of an open broker.
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
        let timing = (running.broker.clone(), Arc::clone(&stop));
        let timer = spawn("broker-timer", move || keep_time(&timing.0, &timing.1))?;
        let timer_thread = timer.thread().clone();
        running.broker.state().waiters.on_earlier(Box::new(move || timer_thread.unpark()));
        // A deadline may have come before the line above.
        timer.thread().unpark();
        running.threads.push(timer);
        let cleaning = (running.broker.clone(), stop);
        let cleaner = spawn("broker-cleaner", move || clean(&cleaning.0, &cleaning.1))?;
        let cleaner_thread = cleaner.thread().clone();
        running.broker.state().log.on_settings(Box::new(move || cleaner_thread.unpark()));
        running.threads.push(cleaner);
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
        let wake = step.next_wake_ticks_ms.unwrap_or(i64::MAX);
        state.waiters.plan(wake);
        sleep_until(broker, wake);
    }
}

fn clean(broker: &Broker, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let step = broker.step_cleaner(broker.state().clock.now());
        sleep_until(broker, step.next_wake_ticks_ms.unwrap_or(i64::MAX));
    }
}

/// Sleeps until then, or until the thread is unparked.
fn sleep_until(broker: &Broker, ticks_ms: i64) {
    let sleep_ms = ticks_ms.saturating_sub(broker.state().clock.now().ticks_ms);
    match u64::try_from(sleep_ms) {
        Ok(_) if ticks_ms == i64::MAX => thread::park(),
        Ok(sleep_ms @ 1..) => thread::park_timeout(Duration::from_millis(sleep_ms)),
        _ => {}
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
