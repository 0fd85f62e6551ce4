//! The broker: opens the data directory, holds what handlers share, steps what is due, hands out transports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::metrics::Metrics;
use base::{Clock, Now, Rng};
use parking_lot::{Mutex, RwLock};
use protocol::transport::{Connector, Transport};
use storage::error::ErrorKind;
use storage::files::Files;
use storage::log::RecoveryReport;

use crate::client_quotas::ClientQuotas;
use crate::config::BrokerConfig;
use crate::connection::EmbeddedConnection;
use crate::connection_limits::OpenConnections;
use crate::data_directory::{self, directory_options, identify, report_recovery};
use crate::error::BrokerError;
use crate::group::GroupCoordinator;
use crate::metadata::changes;
use crate::metadata::{MetadataLog, Settings};
use crate::replies::ConnectionIds;
use crate::request_memory::RequestMemory;
use crate::sessions::FetchSessions;
use crate::share::ShareService;
use crate::state::BrokerState;
use crate::topics::TopicTable;
use crate::transaction::TransactionCoordinator;

/// Where the outside world enters.
pub struct BrokerSeams {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness (topic ids, member ids, session ids).
    pub rng: Rng,
    /// The disk.
    pub files: Arc<dyn Files>,
    /// How other brokers are reached; not used by a single broker.
    pub connector: Option<Arc<dyn Connector>>,
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

impl Broker {
    /// Opens the data directory and recovers what is in it. Starts no thread: the owner calls [`Broker::step`].
    ///
    /// # Errors
    /// The directory is in use, unreadable, or of another cluster; or the settings are wrong.
    pub fn open(mut config: BrokerConfig, seams: BrokerSeams) -> Result<Self, BrokerError> {
        let BrokerSeams { clock, mut rng, files, connector: _ } = seams;
        if config.data_dir.as_os_str().is_empty() {
            return Err(BrokerError::Config("log.dirs is not set\nname the directory that holds the data".to_owned()));
        }
        config.check_together()?;
        for key in crate::effects::without_effect(&config.explicit) {
            tracing::warn!("the broker property {key} has no effect in this broker");
        }
        let topic_defaults = config.topic_defaults(&config.explicit);
        changes::log_config(&topic_defaults, &Settings::new())
            .map_err(|refusal| BrokerError::Config(refusal.message))?;
        let options = directory_options(&config, &clock, &mut rng);
        let log = data_directory::open(&mut config, files, options)?;
        report_recovery(log.recovery_report());
        let cluster_id = identify(&config, &log, &mut rng)?;
        let metadata = MetadataLog::open(&log)?;
        let groups = GroupCoordinator::open(&config);
        let transactions = TransactionCoordinator::open(&config);
        let shares = ShareService::open(&config);
        let slots = usize::try_from(config.fetch_session_slots).unwrap_or(0);
        let open_connections = Arc::new(OpenConnections::new(config.connection_limits.clone()));
        let frame_max_bytes = usize::try_from(config.socket_request_max_bytes).unwrap_or(0);
        let request_memory = RequestMemory::new(config.queued_max_request_bytes, frame_max_bytes);
        let state = Arc::new(BrokerState {
            sessions: FetchSessions::new(slots, rng.fork()),
            config,
            clock,
            rng: Mutex::new(rng),
            metrics: Metrics::default(),
            cluster_id,
            log,
            metadata,
            topics: TopicTable::default(),
            waiters: Arc::default(),
            groups,
            transactions,
            shares,
            embedded_connections: Mutex::default(),
            topic_defaults: RwLock::new(Arc::new(topic_defaults)),
            connection_ids: ConnectionIds::default(),
            open_connections,
            verifies_partitions: AtomicBool::new(true),
            request_memory,
            client_quotas: ClientQuotas::default(),
            closed: AtomicBool::new(false),
        });
        state.take_the_lead()?;
        Ok(Self { state })
    }

    /// Does what is due at `now`: syncs dirty logs, completes delayed requests, steps coordinators and retention.
    pub fn step(&self, now: Now) -> Step {
        let flushed = self.flush();
        let timed = self.step_timers(now);
        let cleaned = self.step_cleaner(now);
        Step {
            did_work: flushed || timed.did_work || cleaned.did_work,
            next_wake_ticks_ms: timed.next_wake_ticks_ms.into_iter().chain(cleaned.next_wake_ticks_ms).min(),
        }
    }

    /// Syncs what is dirty and tells who waited for it; the flusher thread's part of [`Broker::step`].
    pub fn flush(&self) -> bool {
        if self.state.is_closed() {
            return false; // the directory may be somebody else's by now
        }
        let step = self.state.log.flusher().step();
        step.partitions + step.failed > 0
    }

    /// Compacts a log, if it is time to look and one needs it; the cleaner thread's part of [`Broker::step`], since it
    /// may take long.
    pub fn step_cleaner(&self, now: Now) -> Step {
        if self.state.is_closed() {
            return Step::default();
        }
        let step = self.state.log.step_cleaner(now);
        let next_wake_ticks_ms = Some(step.next_wake_ticks_ms).filter(|ticks_ms| *ticks_ms != i64::MAX);
        Step { did_work: step.did_work, next_wake_ticks_ms }
    }

    /// The quick part of [`Broker::step`], without the flush; the timer thread's.
    pub fn step_timers(&self, now: Now) -> Step {
        if self.state.is_closed() {
            return Step::default();
        }
        let (expired, deadline) = self.state.waiters.step(now);
        let (coordinated, groups) = self.state.groups.step(&self.state, now);
        let (ended, transactions) = self.state.transactions.step(&self.state, now);
        let (unlocked, shares) = self.state.shares.step(&self.state, now);
        let directory = self.state.log.step_duties(now);
        let directory_wake = Some(directory.next_wake_ticks_ms);
        Step {
            did_work: expired || coordinated || ended || unlocked || directory.did_work,
            next_wake_ticks_ms: [deadline, groups, transactions, shares, directory_wake].into_iter().flatten().min(),
        }
    }

    /// A new connection to this broker in process.
    pub fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(EmbeddedConnection::new(Arc::clone(&self.state)))
    }

    /// What handlers share.
    pub fn state(&self) -> &Arc<BrokerState> {
        &self.state
    }

    /// What opening the data directory found.
    pub fn recovery_report(&self) -> &RecoveryReport {
        self.state.log.recovery_report()
    }

    /// Why the data directory takes no more writes, once it has failed; until then `None`. Partitions that failed answer
    /// `KAFKA_STORAGE_ERROR`. Nothing mends that but a restart, so who runs a broker should end it, as Kafka does when its
    /// last log directory fails.
    pub fn failure(&self) -> Option<BrokerError> {
        self.state.log.failure().map(|error| {
            let advice = match error.kind() {
                ErrorKind::Full => "free some space",
                _ => "see to the disk",
            };
            BrokerError::Storage(format!(
                "data directory {} failed: {error}
{advice} and start again: nothing that was acknowledged is lost",
                self.state.config.data_dir.display()
            ))
        })
    }

    /// Sets what is called at that failure, on whatever thread met it, with locks held: it may wake somebody, no more.
    pub fn on_failure(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.state.log.on_failure(Arc::new(listener));
    }

    /// Refuses requests from now on, ends connections, and leaves the data directory so that the next open need not
    /// scan it.
    ///
    /// # Errors
    /// Something could not be written; the next open recovers.
    pub fn close(&self) -> Result<(), BrokerError> {
        if self.state.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let connections = std::mem::take(&mut *self.state.embedded_connections.lock());
        for connection in connections.iter().filter_map(Weak::upgrade) {
            connection.close();
        }
        let closed = self.state.log.close();
        self.state.let_go();
        closed.map_err(|error| {
            BrokerError::Storage(format!(
                "{} was not closed cleanly: {error}\nit will be recovered at the next start",
                self.state.config.data_dir.display()
            ))
        })
    }
}
