//! The broker: opens the data directory, holds what handlers share, steps what is due, hands out transports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::metrics::Metrics;
use base::{Clock, Now, Offset, PartitionId, ProducerId, Rng, TopicPartition};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::api::{ErrorCode, Pieces};
use protocol::transport::{Connector, Transport};
use storage::files::Files;
use storage::log::{
    AppendInfo, Durability, LogConfig, LogDirectory, LogDirectoryOptions, MetaProperties, RecoveryReport,
};
use uuid::Uuid;

use crate::config::{BrokerConfig, DurabilityLevel};
use crate::connection::{ConnectionIds, EmbeddedConnection, EmbeddedReplies};
use crate::error::BrokerError;
use crate::group::GroupCoordinator;
use crate::metadata::changes::{self, Planner, TopicWish};
use crate::metadata::{MetadataImage, MetadataLog, MetadataRecord, RESOURCE_BROKER, Settings};
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
    topic_defaults: RwLock<Arc<Settings>>,
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
        let topic_defaults = config.topic_defaults(&config.explicit);
        changes::log_config(&topic_defaults, &Settings::new())
            .map_err(|refusal| BrokerError::Config(refusal.message))?;
        let options = directory_options(&config, &clock, &mut rng);
        let log = LogDirectory::open(files, &config.data_dir, options).map_err(|error| open_error(&config, &error))?;
        report_recovery(log.recovery_report());
        let cluster_id = identify(&mut config, &log, &mut rng)?;
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
        Step { did_work: flushed || timed.did_work, next_wake_ticks_ms: timed.next_wake_ticks_ms }
    }

    /// Syncs what is dirty and tells who waited for it; the flusher thread's part of [`Broker::step`].
    pub fn flush(&self) -> bool {
        if self.state.is_closed() {
            return false; // the directory may be somebody else's by now
        }
        let step = self.state.log.flusher().step();
        step.partitions + step.failed > 0
    }

    /// All of [`Broker::step`] but the flush; the timer thread's part.
    pub fn step_timers(&self, now: Now) -> Step {
        if self.state.is_closed() {
            return Step::default();
        }
        let (expired, deadline) = self.state.waiters.step(now);
        let groups = self.state.groups.step(&self.state, now);
        let directory = self.state.log.step(now);
        let directory_wake = Some(directory.next_wake_ticks_ms);
        Step {
            did_work: expired || directory.did_work,
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

    /// Makes a change of the metadata; see [`MetadataLog::change`].
    pub fn change_metadata<R>(
        self: &Arc<Self>,
        build: impl FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, R),
        done: impl FnOnce(Result<(), ErrorCode>) + Send + 'static,
    ) -> R {
        let result = self.metadata.change(self.clock.now(), build, done);
        self.commit_metadata();
        result
    }

    fn commit_metadata(&self) {
        self.metadata.commit(|records, image| self.put_into_effect(records, image));
    }

    /// Follows committed metadata: the table of topics, deleted partitions, settings of open logs.
    fn put_into_effect(&self, records: &[MetadataRecord], image: &MetadataImage) {
        let mut touched: Vec<Uuid> = Vec::new();
        let mut touch = |id: &Uuid| {
            if touched.last() != Some(id) && !touched.contains(id) {
                touched.push(*id);
            }
        };
        let mut reconfigured: Vec<&str> = Vec::new();
        let mut broker_reconfigured = false;
        for record in records {
            match record {
                MetadataRecord::Topic { id, .. } => touch(id),
                MetadataRecord::Partition(record) => touch(&record.topic_id),
                MetadataRecord::RemoveTopic(id) => self.remove_topic(id),
                MetadataRecord::Config { resource_type: RESOURCE_BROKER, .. } => broker_reconfigured = true,
                MetadataRecord::Config { resource_name, .. } => reconfigured.push(resource_name),
                _ => {}
            }
        }
        for id in touched {
            if let Some(topic) = image.topic_by_id(&id) {
                self.topics.put(topic);
            }
        }
        if broker_reconfigured {
            *self.topic_defaults.write() = Arc::new(self.defaults_with(image));
            for topic in image.topics() {
                self.reconfigure(topic);
            }
        } else {
            reconfigured.dedup();
            for topic in reconfigured.iter().filter_map(|name| image.topic(name)) {
                self.reconfigure(topic);
            }
        }
    }

    fn defaults_with(&self, image: &MetadataImage) -> Settings {
        let mut explicit = self.config.explicit.clone();
        for name in ["", &self.config.node_id.to_string()] {
            if let Some(settings) = image.settings(RESOURCE_BROKER, name) {
                explicit.extend(settings.clone());
            }
        }
        self.config.topic_defaults(&explicit)
    }

    fn reconfigure(&self, topic: &crate::metadata::TopicImage) {
        let config = changes::log_config(&self.topic_defaults(), &topic.settings).unwrap_or_default_logged();
        let Some(entry) = self.topics.by_id(&topic.id) else { return };
        for partition in entry.opened() {
            partition.log().update_config(config.clone());
        }
        // Those not opened yet take their configuration when they are; retention of them waits until then.
    }

    fn remove_topic(&self, id: &Uuid) {
        let Some(entry) = self.topics.remove(id) else { return };
        self.groups.topic_deleted(&entry.name, *id);
        let count = entry.partition_count();
        for partition in entry.close() {
            partition.mark_deleted();
        }
        let now = self.clock.now();
        for index in 0..count {
            let partition = TopicPartition { topic: Arc::clone(&entry.name), partition: index as PartitionId };
            if let Err(error) = self.log.delete_partition(&partition, now) {
                tracing::error!("cannot delete {partition}: {error}");
            }
        }
    }

    /// After opening: takes up the topics of the metadata log, and notes in it that this broker started, which begins a
    /// new leader epoch for every partition.
    fn take_the_lead(self: &Arc<Self>) -> Result<(), BrokerError> {
        let weak = Arc::downgrade(self);
        self.metadata.log().on_advance(Arc::new(move || {
            if let Some(state) = weak.upgrade() {
                state.commit_metadata();
            }
        }));
        let image = self.metadata.current();
        for topic in image.topics() {
            self.topics.put(topic);
        }
        *self.topic_defaults.write() = Arc::new(self.defaults_with(&image));
        let outcome: Arc<Mutex<Option<Result<(), ErrorCode>>>> = Arc::default();
        let told = Arc::clone(&outcome);
        let broker_id = self.config.node_id;
        self.change_metadata(
            |image| {
                let mut records = vec![MetadataRecord::RegisterBroker { broker_id }];
                if image.registrations() == 0 && image.features().is_empty() {
                    records.push(MetadataRecord::FeatureLevel { name: "metadata.version".to_owned(), level: 30 });
                }
                (records, ())
            },
            move |result| *told.lock() = Some(result),
        );
        // Under `power` the record is committed by the flusher, which nobody drives yet.
        while outcome.lock().is_none() {
            let step = self.log.flusher().step();
            if step.failed > 0 || (step.partitions == 0 && outcome.lock().is_none()) {
                return Err(BrokerError::Storage(format!(
                    "{}: the metadata log cannot be written\ncheck the disk and its free space",
                    self.config.data_dir.display()
                )));
            }
        }
        match *outcome.lock() {
            Some(Err(code)) => Err(BrokerError::Storage(format!(
                "{}: the metadata log cannot be written ({code})\ncheck the disk and its free space",
                self.config.data_dir.display()
            ))),
            _ => Ok(()),
        }?;
        self.configure_partitions_on_disk(&self.metadata.current());
        Ok(())
    }

    /// Gives every partition that has files its configuration, so that retention and compaction treat it as its topic
    /// says before anyone uses it.
    fn configure_partitions_on_disk(&self, image: &MetadataImage) {
        for partition in self.log.partitions() {
            let Some(topic) = image.topic(&partition.topic) else {
                if &*partition.topic != crate::metadata::log::METADATA_TOPIC {
                    tracing::warn!("{partition} is in the data directory but not in the metadata: left alone");
                }
                continue;
            };
            let config = changes::log_config(&self.topic_defaults(), &topic.settings).unwrap_or_default_logged();
            if let Err(error) = self.log.create_partition(&partition, topic.id, config) {
                tracing::error!("cannot configure {partition}: {error}");
            }
        }
    }
}

/// Settings were checked when they were made; should they not hold any more, the log keeps its data.
trait OrKeepEverything {
    fn unwrap_or_default_logged(self) -> LogConfig;
}

impl OrKeepEverything for Result<LogConfig, changes::Refusal> {
    fn unwrap_or_default_logged(self) -> LogConfig {
        self.unwrap_or_else(|refusal| {
            tracing::error!("settings of a topic are not usable: {}; its records are kept", refusal.message);
            keep_everything()
        })
    }
}

fn keep_everything() -> LogConfig {
    LogConfig { retention_ms: -1, retention_bytes: -1, ..LogConfig::default() }
}

fn directory_options(config: &BrokerConfig, clock: &Arc<dyn Clock>, rng: &mut Rng) -> LogDirectoryOptions {
    let mut options = LogDirectoryOptions::new(Arc::clone(clock), rng.fork());
    let long = |key: &str, default: i64| config.value(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    options.durability = match config.durability {
        DurabilityLevel::Power => Durability::Power,
        DurabilityLevel::Process => Durability::Process,
    };
    // Partitions without a topic in the metadata are not ours to delete from.
    options.default_config = keep_everything();
    options.retention_check_interval_ms = long("log.retention.check.interval.ms", options.retention_check_interval_ms);
    options.offset_checkpoint_interval_ms =
        long("log.flush.offset.checkpoint.interval.ms", options.offset_checkpoint_interval_ms);
    options.high_watermark_checkpoint_interval_ms =
        long("replica.high.watermark.checkpoint.interval.ms", options.high_watermark_checkpoint_interval_ms);
    options.cleaner_enable = config.value("log.cleaner.enable").is_none_or(|text| text != "false");
    options.cleaner_backoff_ms = long("log.cleaner.backoff.ms", options.cleaner_backoff_ms);
    if config.explicit.contains_key("log.cleaner.dedupe.buffer.size") {
        let bytes = long("log.cleaner.dedupe.buffer.size", 0);
        options.cleaner_dedupe_buffer_bytes = usize::try_from(bytes).unwrap_or(options.cleaner_dedupe_buffer_bytes);
    }
    options.producer_id_expiration_ms = config.producer_id_expiration_ms;
    options.producer_id_expiration_check_interval_ms =
        long("producer.id.expiration.check.interval.ms", options.producer_id_expiration_check_interval_ms);
    options
}

fn open_error(config: &BrokerConfig, error: &storage::error::StorageError) -> BrokerError {
    use storage::error::ErrorKind;
    let directory = config.data_dir.display();
    BrokerError::DataDirectory(match error.kind() {
        ErrorKind::InUse => format!(
            "data directory {directory} is in use by another process\nstop that process, or name another directory"
        ),
        ErrorKind::Corrupt | ErrorKind::Invalid => format!(
            "data directory {directory} cannot be used: {error}\nrestore the named file from a copy, or name another \
             directory"
        ),
        ErrorKind::Full => format!("data directory {directory}: the disk is full\nmake room and start again ({error})"),
        _ => format!(
            "data directory {directory} cannot be opened: {error}\ncheck that it can be made, read and written by this \
             user"
        ),
    })
}

fn report_recovery(report: &RecoveryReport) {
    for cut in &report.truncations {
        tracing::warn!(
            "recovery cut {} bytes of {} at byte {} of {} (log end is now {}): {}",
            cut.bytes,
            cut.partition,
            cut.position,
            cut.file,
            cut.log_end,
            cut.reason
        );
    }
    for (partition, error) in &report.offline {
        tracing::error!("{partition} is offline: {error}");
    }
}

/// The cluster's id: as the directory has it, as configured, or a new one. A directory of another node is refused.
fn identify(config: &mut BrokerConfig, log: &LogDirectory, rng: &mut Rng) -> Result<String, BrokerError> {
    if let Some(known) = log.meta_properties() {
        if config.cluster_id.as_ref().is_some_and(|wanted| *wanted != known.cluster_id) {
            return Err(BrokerError::DataDirectory(format!(
                "data directory {} belongs to cluster {}, not to {}\nname another directory, or leave cluster.id out",
                config.data_dir.display(),
                known.cluster_id,
                config.cluster_id.as_deref().unwrap_or_default()
            )));
        }
        let node_id_is_set = config.explicit.contains_key("node.id") || config.explicit.contains_key("broker.id");
        if node_id_is_set && known.node_id != config.node_id {
            return Err(BrokerError::DataDirectory(format!(
                "data directory {} belongs to node {}, but node.id is {}\nset node.id={}, or name another directory",
                config.data_dir.display(),
                known.node_id,
                config.node_id,
                known.node_id
            )));
        }
        config.node_id = known.node_id;
        return Ok(known.cluster_id);
    }
    let cluster_id = config.cluster_id.clone().unwrap_or_else(|| short_uuid(rng.uuid_bytes()));
    let properties = MetaProperties {
        cluster_id: cluster_id.clone(),
        node_id: config.node_id,
        directory_id: short_uuid(rng.uuid_bytes()),
    };
    log.set_meta_properties(properties).map_err(|error| open_error(config, &error))?;
    Ok(cluster_id)
}

/// Kafka's text form of a UUID: 22 characters of URL-safe base 64.
fn short_uuid(bytes: [u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from_be_bytes(bytes);
    let mut text = String::with_capacity(22);
    for digit in 0..22 {
        // 21 digits of 6 bits from the top, then the last 2 bits followed by zeros.
        let bits = if digit < 21 { number >> (122 - 6 * digit) } else { number << 4 };
        text.push(char::from(DIGITS[(bits & 63) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_kafka_writes_it() {
        assert_eq!(short_uuid(1u128.to_be_bytes()), "AAAAAAAAAAAAAAAAAAAAAQ");
        // `cd8abc83c59043d98de2869badc94523` of Kafka's own files.
        let bytes = 0xcd8abc83_c59043d9_8de2869b_adc94523_u128.to_be_bytes();
        assert_eq!(short_uuid(bytes), "zYq8g8WQQ9mN4oabrclFIw");
    }
}
