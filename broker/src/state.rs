//! What every handler of the broker shares, and what several of them ask of it: a partition, an internal topic, producer ids.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::metrics::Metrics;
use base::{Clock, Offset, PartitionId, ProducerId, Rng, TopicPartition};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::api::{ErrorCode, Pieces};
use storage::log::{AppendInfo, LogDirectory, ReadLimit};
use uuid::Uuid;

use crate::client_quotas::ClientQuotas;
use crate::config::BrokerConfig;
use crate::connection_limits::OpenConnections;
use crate::data_directory::OrKeepEverything;
use crate::group::GroupCoordinator;
use crate::metadata::changes::{self, Planner, TopicWish};
use crate::metadata::{MetadataLog, MetadataRecord, Settings};
use crate::partition::{Partition, append_error_code};
use crate::replies::{ConnectionIds, EmbeddedReplies};
use crate::request_memory::RequestMemory;
use crate::sessions::FetchSessions;
use crate::share::ShareService;
use crate::topics::TopicTable;
use crate::transaction::TransactionCoordinator;
use crate::waiters::Waiters;

/// Largest piece of an internal topic's partition that is read at once, in bytes.
const LOAD_BYTES: usize = 1 << 20;

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
    /// Transactions and producer ids.
    pub transactions: TransactionCoordinator,
    /// Share groups at the side of the log.
    pub shares: ShareService,
    /// Incremental fetches.
    pub(crate) sessions: FetchSessions,
    pub(crate) embedded_connections: Mutex<Vec<Weak<EmbeddedReplies>>>,
    pub(crate) topic_defaults: RwLock<Arc<Settings>>,
    pub(crate) connection_ids: ConnectionIds,
    pub(crate) open_connections: Arc<OpenConnections>,
    /// `transaction.partition.verification.enable`.
    pub(crate) verifies_partitions: AtomicBool,
    pub(crate) request_memory: RequestMemory,
    pub(crate) client_quotas: ClientQuotas,
    pub(crate) closed: AtomicBool,
}

impl BrokerState {
    /// Whether the broker was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// After closing: lets go of all requests that wait. They hold this state, which holds them: it would never go, nor would its
    /// open files.
    pub(crate) fn let_go(&self) {
        self.waiters.close();
        for topic in self.topics.entries() {
            topic.opened().iter().for_each(|partition| partition.let_go());
        }
        self.groups.close();
        self.transactions.close();
    }

    pub(crate) fn next_connection_id(&self) -> u64 {
        self.connection_ids.next()
    }

    pub(crate) fn connection_closed(&self, connection_id: u64) {
        if !self.is_closed() {
            self.shares.connection_closed(self, connection_id);
        }
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
        // Updates of share state are good for their snapshot only: nothing may be left out of them.
        set("cleanup.policy", if name == "__share_group_state" { "delete" } else { "compact" }.to_owned());
        if name == "__share_group_state" {
            let number = |property| self.config.value(property).unwrap_or_default().trim().to_owned();
            set("compression.type", "producer".to_owned());
            set("retention.ms", "-1".to_owned());
            set("min.insync.replicas", "1".to_owned());
            set("segment.bytes", number("share.coordinator.state.topic.segment.bytes"));
            wish.partitions = number("share.coordinator.state.topic.num.partitions").parse().unwrap_or(50);
        } else if name == "__consumer_offsets" {
            set("compression.type", "producer".to_owned());
            set("segment.bytes", self.config.offsets_topic_segment_bytes.to_string());
            wish.partitions = self.config.offsets_topic_num_partitions;
        } else {
            set("min.insync.replicas", "1".to_owned());
            set("segment.bytes", self.config.transaction_state_log_segment_bytes.to_string());
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

    /// Makes a topic, unless it is there; it is there at the latest when the metadata is committed.
    ///
    /// # Errors
    /// Why it cannot be made, in words.
    pub fn create_topic(self: &Arc<Self>, wish: &TopicWish) -> Result<(), String> {
        let id = self.new_topic_id();
        self.change_metadata(
            |image| match self.with_planner(|planner| planner.plan_topic(image, wish, id)) {
                Ok(plan) => (plan.records, Ok(())),
                Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => (Vec::new(), Ok(())),
                Err(refusal) => (Vec::new(), Err(refusal.message)),
            },
            |_| {},
        )
    }

    /// Level of the feature `transaction.version`: from 2 on clients add partitions by writing to them (KIP-890).
    pub fn transaction_version(&self) -> i16 {
        self.metadata.current().features().get("transaction.version").copied().unwrap_or(0)
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
    /// committed (its end is below the high watermark), on whatever thread moved that, without locks held. The pair is
    /// `transaction_version` and `markers_seen` of [`storage::log::AppendOptions`].
    pub fn append_internal(
        self: &Arc<Self>,
        partition: &TopicPartition,
        batch: Bytes,
        (transaction_version, markers_seen): (i16, Option<u32>),
        deadline_ticks_ms: i64,
        done: impl FnOnce(Result<AppendInfo, ErrorCode>) + Send + 'static,
    ) {
        let found = match self.partition(&partition.topic, partition.partition) {
            Ok(found) => found,
            Err(code) => return done(Err(code)),
        };
        match found.append_from_coordinator(&Pieces::from(batch), transaction_version, markers_seen, self.clock.now()) {
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

    /// Whole batches of a partition of an internal topic, from the one that holds `from` on, up to some bound of bytes;
    /// empty at the end of the log.
    ///
    /// # Errors
    /// As [`BrokerState::partition`]; `KAFKA_STORAGE_ERROR` when the log cannot be read.
    pub fn read_internal(&self, partition: &TopicPartition, from: Offset) -> Result<Bytes, ErrorCode> {
        let found = self.partition(&partition.topic, partition.partition)?;
        let offsets = found.offsets();
        let from = from.max(offsets.log_start);
        if from >= offsets.log_end {
            return Ok(Bytes::new());
        }
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%partition, offset = from, %error, "cannot load a coordinator's state");
            ErrorCode::KafkaStorageError
        };
        let read = found.log().read(from, LOAD_BYTES, ReadLimit::LogEnd, true).map_err(|error| failed(&error))?;
        read.records.to_bytes().map_err(|error| failed(&error))
    }
}
