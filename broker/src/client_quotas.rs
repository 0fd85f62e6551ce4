//! Byte rates of clients, measured and held as Kafka does: the average over eleven samples of a second each; who is above
//! his quota is told for how long (`throttle_time_ms`), and is not read from for so long.
//!
//! Clients in the same process are not measured: they have no frames. A fetch above the quota is answered with its records
//! all the same (Kafka answers it empty); the time that follows is the longer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Now;
use base::hash::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::metadata::quotas::{CONSUMER_BYTE_RATE, PRODUCER_BYTE_RATE, Quotas, quota_in_force};

const SAMPLE_MS: i64 = 1_000;
const SAMPLES: usize = 11;
/// The rate is never taken over less, so that a first burst does not count as if it went on.
const WINDOW_MIN_MS: i64 = SAMPLE_MS * (SAMPLES as i64 - 1);
const THROTTLE_MAX_MS: i64 = SAMPLE_MS * SAMPLES as i64;
/// Above so many measured clients, those that have been silent for a window are forgotten.
const WINDOWS_KEPT: usize = 1024;
/// Name of every client, since there is no authentication.
const ANONYMOUS: &str = "ANONYMOUS";

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Produced,
    Fetched,
}

/// Who shares a quota.
type Sharers = (Direction, Option<String>, Option<String>);

/// See the module.
#[derive(Default)]
pub(crate) struct ClientQuotas {
    is_any: AtomicBool,
    quotas: RwLock<Arc<Quotas>>,
    windows: Mutex<HashMap<Sharers, Window>>,
}

/// Bytes by the second in which they were counted, oldest first.
#[derive(Default)]
struct Window {
    samples: VecDeque<(i64, f64)>,
}

impl ClientQuotas {
    /// From now on these hold.
    pub(crate) fn set(&self, quotas: &Arc<Quotas>) {
        *self.quotas.write() = Arc::clone(quotas);
        self.is_any.store(!quotas.is_empty(), Ordering::Release);
    }

    /// Whether there is any quota; if not, nothing need be counted.
    pub(crate) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// Counts `bytes` of a client; returns for how many milliseconds it must hold back.
    pub(crate) fn count(&self, direction: Direction, client_id: Option<&str>, bytes: usize, now: Now) -> i32 {
        let key = match direction {
            Direction::Produced => PRODUCER_BYTE_RATE,
            Direction::Fetched => CONSUMER_BYTE_RATE,
        };
        let quotas = Arc::clone(&self.quotas.read());
        let Some(quota) = quota_in_force(&quotas, key, ANONYMOUS, client_id.unwrap_or_default()) else { return 0 };
        let mut windows = self.windows.lock();
        if windows.len() > WINDOWS_KEPT {
            windows.retain(|_, window| window.is_recent(now));
        }
        windows.entry((direction, quota.user, quota.client_id)).or_default().count(bytes, quota.value, now)
    }
}

impl Window {
    fn is_recent(&self, now: Now) -> bool {
        self.samples.back().is_some_and(|(start, _)| now.ticks_ms - start < THROTTLE_MAX_MS)
    }

    fn count(&mut self, bytes: usize, bound: f64, now: Now) -> i32 {
        self.samples.retain(|(start, _)| now.ticks_ms - start < THROTTLE_MAX_MS);
        match self.samples.back_mut() {
            Some((start, sum)) if now.ticks_ms - *start < SAMPLE_MS => *sum += bytes as f64,
            _ => self.samples.push_back((now.ticks_ms, bytes as f64)),
        }
        let oldest = self.samples.front().map_or(now.ticks_ms, |(start, _)| *start);
        let window_ms = (now.ticks_ms - oldest).max(WINDOW_MIN_MS) as f64;
        let total: f64 = self.samples.iter().map(|(_, sum)| sum).sum();
        let rate = total * 1000.0 / window_ms;
        if rate <= bound {
            return 0;
        }
        ((rate - bound) / bound * window_ms).round().min(THROTTLE_MAX_MS as f64) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::quotas::{CLIENT_ID, QuotaEntity};

    fn at(ticks_ms: i64) -> Now {
        Now { wall_ms: 0, ticks_ms }
    }

    fn quotas(value: f64) -> ClientQuotas {
        let quotas = ClientQuotas::default();
        let entity = QuotaEntity::from([(CLIENT_ID.to_owned(), None)]);
        let keys = [(PRODUCER_BYTE_RATE.to_owned(), value)].into();
        quotas.set(&Arc::new(Quotas::from([(entity, keys)])));
        quotas
    }

    #[test]
    fn who_stays_within_the_average_is_never_held_back() {
        let quotas = quotas(1000.0);
        for second in 0..60 {
            assert_eq!(quotas.count(Direction::Produced, Some("a"), 900, at(second * 1000)), 0, "second {second}");
        }
        assert_eq!(quotas.count(Direction::Fetched, Some("a"), 1 << 30, at(60_000)), 0, "no quota that way");
    }

    #[test]
    fn a_burst_is_held_back_until_the_average_is_below_the_quota_again() {
        let quotas = quotas(1000.0);
        assert_eq!(quotas.count(Direction::Produced, Some("a"), 10_000, at(0)), 0);
        assert_eq!(quotas.count(Direction::Produced, Some("a"), 5_000, at(0)), 5_000, "15 s worth in a window of 10 s");
        assert_eq!(quotas.count(Direction::Produced, Some("b"), 5_000, at(0)), 0, "each client id has its own");
        assert_eq!(
            quotas.count(Direction::Produced, Some("a"), 1 << 30, at(0)),
            11_000,
            "never longer than the window"
        );
        assert_eq!(quotas.count(Direction::Produced, Some("a"), 1, at(11_000)), 0, "and then it is forgotten");
    }
}
