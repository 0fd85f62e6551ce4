//! What a stream thread has done, logged every `log.summary.interval.ms`.

use base::Now;

/// Counts since the last summary.
#[derive(Debug)]
pub(crate) struct Summary {
    interval_ms: Option<i64>,
    begun_ticks_ms: i64,
    processed: u64,
    punctuations: u64,
    commits: u64,
}

impl Summary {
    pub(crate) fn new(interval_ms: Option<i64>, now: Now) -> Self {
        Self { interval_ms, begun_ticks_ms: now.ticks_ms, processed: 0, punctuations: 0, commits: 0 }
    }

    pub(crate) fn add(&mut self, processed: usize, punctuations: usize) {
        self.processed += processed as u64;
        self.punctuations += punctuations as u64;
    }

    pub(crate) fn committed(&mut self) {
        self.commits += 1;
    }

    /// The summary, once it is due; counting then begins anew.
    pub(crate) fn take(&mut self, now: Now) -> Option<String> {
        let passed_ms = now.ticks_ms - self.begun_ticks_ms;
        if passed_ms < self.interval_ms? {
            return None;
        }
        let Self { processed, punctuations, commits, .. } = *self;
        *self = Self::new(self.interval_ms, now);
        Some(format!("{processed} records, {punctuations} punctuations and {commits} commits in {passed_ms} ms"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks_ms: i64) -> Now {
        Now { wall_ms: 0, ticks_ms }
    }

    #[test]
    fn a_summary_is_due_once_an_interval_and_counts_what_was_since() {
        let mut summary = Summary::new(Some(100), at(0));
        summary.add(3, 1);
        summary.committed();
        assert_eq!(summary.take(at(99)), None);
        assert_eq!(summary.take(at(101)).unwrap(), "3 records, 1 punctuations and 1 commits in 101 ms");
        assert_eq!(summary.take(at(200)), None);
        assert_eq!(summary.take(at(201)).unwrap(), "0 records, 0 punctuations and 0 commits in 100 ms");
        assert_eq!(Summary::new(None, at(0)).take(at(1_000_000)), None);
    }
}
