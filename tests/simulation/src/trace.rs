//! What happened in a run, step by step: a hash of all of it, and the last part as text.

use std::collections::VecDeque;
use std::fmt;

/// How many events are kept as text.
const KEPT: usize = 80;

/// The trace of one run.
pub struct Trace {
    hash: u64,
    count: u64,
    last: VecDeque<String>,
    /// Whether each event goes to stderr as it happens.
    is_verbose: bool,
    step: u64,
    ticks_ms: i64,
}

impl Trace {
    /// An empty trace.
    pub fn new(is_verbose: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, count: 0, last: VecDeque::new(), is_verbose, step: 0, ticks_ms: 0 }
    }

    /// What is told from here on happens in step number `step`, at `ticks_ms`.
    pub fn at(&mut self, step: u64, ticks_ms: i64) {
        self.step = step;
        self.ticks_ms = ticks_ms;
        self.fold(&ticks_ms.to_le_bytes());
    }

    /// Takes part in the hash without being kept: what happens in every step.
    pub fn note(&mut self, what: u8, detail: u64) {
        self.fold(&[what]);
        self.fold(&detail.to_le_bytes());
    }

    /// An event worth reading about.
    pub fn tell(&mut self, event: fmt::Arguments<'_>) {
        let line = format!("step {:>6}  {:>7} ms  {event}", self.step, self.ticks_ms);
        self.fold(line.as_bytes());
        self.count += 1;
        if self.is_verbose {
            eprintln!("{line}");
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The hash of everything so far: equal for equal runs.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last events, oldest first.
    pub fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    /// FNV-1a.
    fn fold(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
