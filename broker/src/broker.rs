//! The broker: opens the data directory, holds what handlers share, steps what is due, hands out transports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::metrics::Metrics;
use base::{Clock, Now, Offset, PartitionId, ProducerId, Rng, TopicPartition};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::api::{ErrorCode, Pieces};
use protocol::transport::{Connector, Transport};
use storage::error::ErrorKind;
use storage::files::Files;
use storage::log::{AppendInfo, LogDirectory, RecoveryReport};
use uuid::Uuid;

use crate::config::BrokerConfig;
use crate::connection::{ConnectionIds, EmbeddedConnection, EmbeddedReplies};
use crate::data_directory::{self, OrKeepEverything, directory_options, identify, report_recovery};
use crate::error::BrokerError;
use crate::group::GroupCoordinator;
use crate::metadata::changes::{self, Planner, TopicWish};
use crate::metadata::{MetadataLog, MetadataRecord, Settings};
use crate::partition::{Partition, append_error_code};
use crate::sessions::FetchSessions;
use crate::topics::TopicTable;
use crate::waiters::Waiters;

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

/// What every handler shares. Fine locks inside: per partition, per group.
pub struct BrokerState {
    /// Settings.
    pub config: BrokerConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Mutex<Rng>,
    /// Counters.
    pub metrics: Metrics,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// The data directory.
    pub log: LogDirectory,
    /// Topics and settings.
    pub metadata: MetadataLog,
    /// Partitions that are led here.
    pub topics: TopicTable,
    /// Delayed requests.
    pub waiters: Arc<Waiters>,
    /// Groups and offsets.
    pub groups: GroupCoordinator,
    /// Incremental fetches.
    pub(crate) sessions: FetchSessions,
    pub(crate) embedded_connections: Mutex<Vec<Weak<EmbeddedReplies>>>,
    pub(crate) topic_defaults: RwLock<Arc<Settings>>,
    connection_ids: ConnectionIds,
    closed: AtomicBool,
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
        let slots = usize::try_from(config.fetch_session_slots).unwrap_or(0);
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
            embedded_connections: Mutex::default(),
            topic_defaults: RwLock::new(Arc::new(topic_defaults)),
            connection_ids: ConnectionIds::default(),
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
        let directory = self.state.log.step_duties(now);
        let directory_wake = Some(directory.next_wake_ticks_ms);
        Step {
            did_work: expired || coordinated || directory.did_work,
            next_wake_ticks_ms: [deadline, groups, directory_wake].into_iter().flatten().min(),
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
        self.state.log.close().map_err(|error| {
            BrokerError::Storage(format!(
                "{} was not closed cleanly: {error}\nit will be recovered at the next start",
                self.state.config.data_dir.display()
            ))
        })
    }
}

impl BrokerState {
    /// Whether the broker was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn next_connection_id(&self) -> u64 {
        self.connection_ids.next()
    }

    pub(crate) fn connection_closed(&self, _connection_id: u64) {
        let mut connections = self.embedded_connections.lock();
        connections.retain(|connection| connection.strong_count() > 0);
    }

    /// A partition led here, opened on first use.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or `KAFKA_STORAGE_ERROR` when its files cannot be opened.
    pub fn partition(&self, topic: &str, index: PartitionId) -> Result<Arc<Partition>, ErrorCode> {
        let entry = self.topics.by_name(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.partition_of(&entry, index)
    }

    /// As [`BrokerState::partition`], of a topic that was found before.
    ///
    /// # Errors
    /// As [`BrokerState::partition`].
    pub fn partition_of(
        &self,
        entry: &crate::topics::TopicEntry,
        index: PartitionId,
    ) -> Result<Arc<Partition>, ErrorCode> {
        let open = |partition: TopicPartition| {
            let image = self.metadata.current();
            let topic = image.topic_by_id(&entry.id).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let leader_epoch = usize::try_from(index)
                .ok()
                .and_then(|index| topic.partitions.get(index))
                .map(|partition| image.leader_epoch(partition))
                .ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let config = changes::log_config(&self.topic_defaults(), &topic.settings).unwrap_or_default_logged();
            let log = self.log.create_partition(&partition, entry.id, config).map_err(|error| {
                tracing::error!("cannot open {partition}: {error}");
                ErrorCode::KafkaStorageError
            })?;
            Ok::<_, ErrorCode>(Partition::new(partition, entry.id, leader_epoch, log))
        };
        entry.partition(index, open)?.ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// Topic settings of a topic that sets nothing itself, where they differ from Kafka's.
    pub fn topic_defaults(&self) -> Arc<Settings> {
        Arc::clone(&self.topic_defaults.read())
    }

    /// Runs `use_planner` with what topic changes are checked against.
    pub(crate) fn with_planner<R>(&self, use_planner: impl FnOnce(&Planner<'_>) -> R) -> R {
        let defaults = self.topic_defaults();
        use_planner(&Planner {
            node_id: self.config.node_id,
            default_partitions: self.config.num_partitions,
            defaults: &defaults,
        })
    }

    /// An identity that no topic has.
    pub fn new_topic_id(&self) -> Uuid {
        loop {
            let id = Uuid::from_bytes(self.rng.lock().uuid_bytes());
            // Kafka avoids ids whose text starts with a dash, since tools read it as an option: 0xf8..=0xfb lead to it.
            if id.as_bytes()[0] & 0xfc != 0xf8 {
                return id;
            }
        }
    }

    /// Makes a topic of Kafka's own (`__consumer_offsets`) unless it is there; asks for it again until it is.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` while it is being made.
    pub fn ensure_internal_topic(self: &Arc<Self>, name: &str) -> Result<(), ErrorCode> {
        if self.metadata.current().topic(name).is_some() {
            return Ok(());
        }
        let mut wish = TopicWish { name: name.to_owned(), replication_factor: 1, ..TopicWish::default() };
        let mut set = |name: &str, value: String| wish.settings.insert(name.to_owned(), Some(value));
        set("cleanup.policy", "compact".to_owned());
        if name == "__consumer_offsets" {
            set("compression.type", "producer".to_owned());
            set("segment.bytes", self.config.offsets_topic_segment_bytes.to_string());
            wish.partitions = self.config.offsets_topic_num_partitions;
        } else {
            set("min.insync.replicas", "1".to_owned());
            set("segment.bytes", (100 << 20).to_string());
            wish.partitions = self.config.transaction_state_log_num_partitions;
        }
        let id = self.new_topic_id();
        self.change_metadata(
            |image| match self.with_planner(|planner| planner.plan_topic(image, &wish, id)) {
                Ok(plan) => (plan.records, ()),
                Err(refusal) => {
                    if refusal.code != ErrorCode::TopicAlreadyExists {
                        tracing::error!("cannot make {}: {}", wish.name, refusal.message);
                    }
                    (Vec::new(), ())
                }
            },
            |_| {},
        );
        if self.metadata.current().topic(name).is_some() { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) }
    }

    /// Takes a block of `count` producer ids that was never given out; `done` gets the first.
    pub fn allocate_producer_ids(
        self: &Arc<Self>,
        count: i64,
        done: impl FnOnce(Result<ProducerId, ErrorCode>) + Send + 'static,
    ) {
        let (broker_id, broker_epoch) = (self.config.node_id, i64::from(self.metadata.current().registrations()));
        let first = Arc::new(Mutex::new(0));
        let given = Arc::clone(&first);
        self.change_metadata(
            |image| {
                let next = image.next_producer_id();
                *first.lock() = next;
                (vec![MetadataRecord::ProducerIds { broker_id, broker_epoch, next: next + count }], ())
            },
            move |result| {
                let first = *given.lock();
                done(result.map(|()| first));
            },
        );
    }

    /// Appends a coordinator's batch to a partition of an internal topic; `done` gets where it went once it is
    /// committed (its end is below the high watermark), on whatever thread moved that, without locks held.
    pub fn append_internal(
        self: &Arc<Self>,
        partition: &TopicPartition,
        batch: Bytes,
        deadline_ticks_ms: i64,
        done: impl FnOnce(Result<AppendInfo, ErrorCode>) + Send + 'static,
    ) {
        let found = match self.partition(&partition.topic, partition.partition) {
            Ok(found) => found,
            Err(code) => return done(Err(code)),
        };
        match found.append_from_coordinator(&Pieces::from(batch), self.clock.now()) {
            Ok(info) => {
                let end: Offset = info.last_offset + 1;
                found.when_committed(&self.waiters, end, deadline_ticks_ms, move |result| {
                    done(result.map(|()| info));
                });
            }
            Err(error) => {
                tracing::warn!("append to {partition} refused: {error}");
                done(Err(append_error_code(error.kind)));
            }
        }
    }
}
