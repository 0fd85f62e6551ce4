//! For how long a task repeats what brokers do not answer: `task.timeout.ms`.

use base::Now;
use client::ClientError;

use crate::error::{ErrorKind, StreamsError};

/// Repetitions of one question.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    timeout_ms: i64,
    /// Tick of the first failure since it was last answered.
    since_ticks_ms: Option<i64>,
}

impl Stall {
    pub(crate) fn new(timeout_ms: i64) -> Self {
        Self { timeout_ms, since_ticks_ms: None }
    }

    /// The question failed: it is to be asked again. With a timeout above 0 that is so at least once.
    ///
    /// # Errors
    /// `Unavailable` when the error does not pass, or the time is over.
    pub(crate) fn failed(&mut self, error: ClientError, now: Now) -> Result<(), StreamsError> {
        let begun = *self.since_ticks_ms.get_or_insert(now.ticks_ms);
        let is_first = begun == now.ticks_ms;
        let is_over = self.timeout_ms == 0 || (!is_first && now.ticks_ms - begun > self.timeout_ms);
        if is_over || !error.is_retriable() {
            return Err(StreamsError::caused_by(ErrorKind::Unavailable, error));
        }
        tracing::warn!(%error, "not answered, tried again for {} ms at most", self.timeout_ms - (now.ticks_ms - begun));
        Ok(())
    }

    /// The question was answered.
    pub(crate) fn answered(&mut self) {
        self.since_ticks_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks_ms: i64) -> Now {
        Now { wall_ms: 0, ticks_ms }
    }

    fn passing() -> ClientError {
        ClientError::Unreachable { address: "a:1".into(), reason: "refused".into() }
    }

    #[test]
    fn what_passes_is_repeated_until_the_time_is_over() {
        let mut stall = Stall::new(100);
        assert!(stall.failed(passing(), at(1_000)).is_ok());
        assert!(stall.failed(passing(), at(1_100)).is_ok());
        assert!(stall.failed(passing(), at(1_101)).is_err());
        stall.answered();
        assert!(stall.failed(passing(), at(5_000)).is_ok(), "a new stall has its own time");
    }

    #[test]
    fn without_time_the_first_failure_counts() {
        assert!(Stall::new(0).failed(passing(), at(0)).is_err());
    }
}
