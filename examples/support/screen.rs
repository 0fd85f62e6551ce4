//! What the user sees while an example runs: a bar on a terminal, a line a second otherwise, on stderr from the first moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use millstream::base::metrics::Metrics;
use millstream::base::{Clock, SystemClock};
use millstream::prelude::State;

use super::options::Common;

/// How many results are shown while running.
const SHOWN: usize = 5;

/// The display; clones share it.
#[derive(Clone)]
pub struct Screen {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    clock: SystemClock,
    started_ms: i64,
    metrics: Metrics,
    bar: Option<ProgressBar>,
    fed: AtomicU64,
    top: Mutex<Top>,
    /// Least count that can still enter the top of the present group.
    bar_to_enter: AtomicI64,
    group: AtomicI64,
    has_result: AtomicBool,
}

/// The greatest counts of the latest group.
#[derive(Default)]
struct Top {
    counts: BTreeMap<String, i64>,
}

/// Ends the ticking when dropped.
pub struct Ticking {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Screen {
    /// The display of the example `name`; `metrics` are those of its application. It is kept up to date until the second value is dropped.
    pub fn start(name: &'static str, metrics: &Metrics) -> (Self, Ticking) {
        let clock = SystemClock::new();
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {elapsed}  {msg}");
            ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let shared = Arc::new(Shared {
            name,
            started_ms: clock.now().ticks_ms,
            clock,
            metrics: metrics.clone(),
            bar,
            fed: AtomicU64::new(0),
            top: Mutex::default(),
            bar_to_enter: AtomicI64::new(0),
            group: AtomicI64::new(i64::MIN),
            has_result: AtomicBool::new(false),
        });
        let (end, ended) = mpsc::channel();
        let ticker = Arc::clone(&shared);
        let thread = std::thread::spawn(move || ticker.tick_until(&ended));
        (Self { shared }, Ticking { end: Some(end), thread: Some(thread) })
    }

    /// Says something, with the time since the start.
    pub fn say(&self, what: &str) {
        self.shared.say(what);
    }

    /// Ends the display with a summary: throughput, then `what`.
    pub fn done(&self, ticking: Ticking, what: &str) {
        let (elapsed_ms, processed) = (self.shared.elapsed_ms().max(1), self.shared.processed());
        drop(ticking);
        self.say(&format!(
            "{} records processed in {:.2} s, {}/s; {what}",
            grouped(processed),
            elapsed_ms as f64 / 1000.0,
            grouped(processed * 1000 / elapsed_ms as u64)
        ));
    }

    /// Says where the example is going to run.
    pub fn starting(&self, options: &Common) {
        match (&options.bootstrap, &options.data) {
            (Some(bootstrap), _) => self.say(&format!("connecting to {bootstrap}")),
            (None, Some(folder)) => {
                self.say(&format!("starting a broker in this process, with its data in {}", folder.display()))
            }
            (None, None) => self.say("starting a broker in this process, with temporary data"),
        }
    }

    /// A listener that says when the application runs: its tasks are assigned, and their state is restored.
    pub fn on_state_change(&self) -> impl Fn(State, State) + Send + Sync + 'static {
        let screen = self.clone();
        move |state, _| {
            if state == State::Running {
                screen.say("running");
            }
        }
    }

    /// Feeding of a source begins at `position`.
    pub fn source(&self, name: &str, position: u64, end: Option<u64>) {
        match (position, end) {
            (position, Some(end)) if position >= end => {
                self.say(&format!("{name} was read to its end before: nothing to add"))
            }
            (0, _) => self.say(&format!("reading {name}")),
            _ => self.say(&format!("reading {name}, going on behind {position}")),
        }
        self.shared.fed.store(position, Ordering::Relaxed);
        if let Some(bar) = &self.shared.bar {
            bar.set_length(end.unwrap_or(0).max(1));
        }
    }

    /// Lines up to this end position are on their way.
    pub fn fed(&self, end: u64) {
        self.shared.fed.store(end, Ordering::Relaxed);
    }

    /// Shows a count while it is among the greatest of the latest group. Called for each result: mostly two loads.
    pub fn show(&self, group: i64, name: &str, count: i64) {
        let shared = &self.shared;
        if !shared.has_result.swap(true, Ordering::Relaxed) {
            self.say(&format!("first result: {name} {count}"));
        }
        let latest = shared.group.load(Ordering::Relaxed);
        if group < latest || (group == latest && count < shared.bar_to_enter.load(Ordering::Relaxed)) {
            return;
        }
        let mut top = lock(&shared.top);
        if group > latest {
            shared.group.store(group, Ordering::Relaxed);
            top.counts.clear();
        }
        top.counts.insert(name.to_owned(), count);
        let sorted = top.sorted();
        if let Some((_, least)) = sorted.get(SHOWN - 1) {
            shared.bar_to_enter.store(*least, Ordering::Relaxed);
            top.counts = sorted.into_iter().take(SHOWN).collect();
        } else {
            shared.bar_to_enter.store(0, Ordering::Relaxed);
        }
    }
}

impl Top {
    /// Highest count first, ties by name.
    fn sorted(&self) -> Vec<(String, i64)> {
        let mut sorted: Vec<(String, i64)> = self.counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
        sorted.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
        sorted
    }
}

impl Shared {
    fn elapsed_ms(&self) -> i64 {
        self.clock.now().ticks_ms - self.started_ms
    }

    fn processed(&self) -> u64 {
        self.metrics.total("stream-thread-metrics", "process-total")
    }

    fn say(&self, what: &str) {
        let seconds = self.elapsed_ms() as f64 / 1000.0;
        let line = format!("{}: [{seconds:7.3} s] {what}", self.name);
        match &self.bar {
            Some(bar) => bar.suspend(|| print(&line)),
            None => print(&line),
        }
    }

    fn status(&self) -> String {
        let processed = self.processed();
        let rate = processed * 1000 / self.elapsed_ms().max(1) as u64;
        let mut text = format!("{} records processed, {}/s", grouped(processed), grouped(rate));
        for (index, (name, count)) in lock(&self.top).sorted().iter().take(SHOWN).enumerate() {
            let lead = if index == 0 { "; top: " } else { ", " };
            let name: String = name.chars().take(24).collect();
            let _ = write!(text, "{lead}{name} {}", grouped(*count as u64));
        }
        text
    }

    fn tick_until(&self, ended: &mpsc::Receiver<()>) {
        let pause = Duration::from_millis(if self.bar.is_some() { 100 } else { 1000 });
        while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            match &self.bar {
                Some(bar) => {
                    bar.set_position(self.fed.load(Ordering::Relaxed));
                    bar.set_message(self.status());
                }
                None if self.processed() > 0 => self.say(&self.status()),
                None => {}
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It only prints; if it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

/// A closed stderr does not stop an example.
fn print(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
