//! How long to wait before trying again: exponential, with jitter so that many clients do not come back at once.

use base::Rng;

/// Waiting times of one thing that is tried again and again; reset by success.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial_ms: i64,
    max_ms: i64,
    attempts: u32,
}

impl Backoff {
    /// Doubles from `initial_ms` up to `max_ms`.
    pub fn new(initial_ms: i64, max_ms: i64) -> Self {
        Self { initial_ms: initial_ms.max(0), max_ms: max_ms.max(initial_ms).max(0), attempts: 0 }
    }

    /// Milliseconds to wait after one more failure: the doubled time, give or take 20 percent, as in Kafka.
    pub fn next_ms(&mut self, rng: &mut Rng) -> i64 {
        let attempts = self.attempts;
        self.attempts = attempts.saturating_add(1);
        self.nth_ms(attempts, rng)
    }

    /// Milliseconds to wait after the failure before which there were `failures`.
    pub fn nth_ms(&self, failures: u32, rng: &mut Rng) -> i64 {
        let exponent = failures.min(30);
        let base = self.initial_ms.saturating_mul(1 << exponent).min(self.max_ms);
        let spread = base / 5;
        base - spread + rng.below(2 * spread as u64 + 1) as i64
    }

    /// Failures since the last [`Backoff::reset`].
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_within_the_jitter() {
        let mut backoff = Backoff::new(100, 1_000);
        let mut rng = Rng::from_seed(1);
        for expected in [100, 200, 400, 800, 1_000, 1_000] {
            let ms = backoff.next_ms(&mut rng);
            assert!((expected * 8 / 10..=expected * 12 / 10).contains(&ms), "{ms} for {expected}");
        }
        assert_eq!(backoff.attempts(), 6);
        backoff.reset();
        assert!(backoff.next_ms(&mut rng) <= 120);
    }

    #[test]
    fn no_backoff_is_no_wait() {
        assert_eq!(Backoff::new(0, 0).next_ms(&mut Rng::from_seed(1)), 0);
    }
}
