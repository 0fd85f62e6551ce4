//! The broker's configuration: Kafka's property names, checked at the border, typed inside.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::connection_limits::ConnectionLimits;
use crate::error::BrokerError;
use crate::properties::{ConfigType, PROPERTIES};

/// When an acknowledged record is safe; see the crate documentation of `storage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurabilityLevel {
    /// From a power cut: acknowledged (acks=all) after fsync.
    Power,
    /// From the end of the process: acknowledged once the operating system has it.
    Process,
}

/// Settings of one broker. Made from properties; the fields are what the code reads.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// What was set explicitly, by Kafka's name.
    pub explicit: BTreeMap<String, String>,
    /// `log.dirs`, one directory.
    pub data_dir: PathBuf,
    /// `durability`.
    pub durability: DurabilityLevel,
    /// `node.id`.
    pub node_id: i32,
    /// `cluster.id`; drawn at random for a new data directory when not set.
    pub cluster_id: Option<String>,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `message.max.bytes`.
    pub message_max_bytes: i32,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: i32,
    /// `connections.max.idle.ms`.
    pub connections_max_idle_ms: i64,
    /// `max.connections`, `max.connections.per.ip`, `max.connections.per.ip.overrides`.
    pub connection_limits: ConnectionLimits,
    /// `authorizer.class.name` is set, so that access control entries are kept.
    pub has_authorizer: bool,
    /// `queued.max.request.bytes`; negative for no bound.
    pub queued_max_request_bytes: i64,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: i32,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: i32,
    /// `num.network.threads`: worker threads of the TCP server.
    pub num_network_threads: i32,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.max.size`.
    pub group_max_size: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: i32,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout_ms: i32,
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: i32,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_num_partitions: i32,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: i32,
    /// `transaction.max.timeout.ms`.
    pub transaction_max_timeout_ms: i32,
    /// `transaction.state.log.num.partitions`.
    pub transaction_state_log_num_partitions: i32,
    /// `transaction.state.log.segment.bytes`.
    pub transaction_state_log_segment_bytes: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub transaction_abort_interval_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub transactional_id_expiration_interval_ms: i64,
    /// `transactional.id.expiration.ms`.
    pub transactional_id_expiration_ms: i64,
}

impl BrokerConfig {
    /// A broker inside an application: as [`BrokerConfig::standalone`], and its clients, which are of the same process, may
    /// have sessions as short as they like (`group.min.session.timeout.ms=10`).
    pub fn embedded(data_dir: impl Into<PathBuf>) -> Self {
        Self::single_node(data_dir.into(), &[("group.min.session.timeout.ms", "10")])
    }

    /// A broker for clients of any kind: Kafka's defaults but for waits and sizes that only a cluster needs
    /// (`group.initial.rebalance.delay.ms=0`, `offsets.topic.num.partitions=4`).
    pub fn standalone(data_dir: impl Into<PathBuf>) -> Self {
        Self::single_node(data_dir.into(), &[])
    }

    fn single_node(data_dir: PathBuf, more: &[(&str, &str)]) -> Self {
        let defaults = [
            ("node.id", "1"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("group.streams.initial.rebalance.delay.ms", "0"),
            ("offsets.topic.num.partitions", "4"),
            ("share.coordinator.state.topic.num.partitions", "4"),
            ("transaction.state.log.num.partitions", "4"),
        ];
        let mut explicit: BTreeMap<String, String> =
            defaults.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        explicit.insert("log.dirs".to_owned(), data_dir.to_string_lossy().into_owned());
        match Self::from_explicit(explicit) {
            Ok(mut config) => {
                config.data_dir = data_dir;
                config
            }
            Err(error) => unreachable!("the settings above are valid: {error}"),
        }
    }

    /// Reads properties by Kafka's names.
    ///
    /// # Errors
    /// An unknown name (the nearest known one is named), or a value of the wrong type.
    pub fn from_properties<K: Into<String>, V: Into<String>>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BrokerError> {
        Self::from_explicit(properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// This configuration with one more property set.
    ///
    /// # Errors
    /// As [`BrokerConfig::from_properties`].
    pub fn with(mut self, key: &str, value: impl ToString) -> Result<Self, BrokerError> {
        self.explicit.insert(key.to_owned(), value.to_string());
        Self::from_explicit(self.explicit)
    }

    /// The value of a property: what was set, else Kafka's default; `None` for neither or an unknown name.
    pub fn value(&self, key: &str) -> Option<&str> {
        if let Some(value) = self.explicit.get(key) {
            return Some(value);
        }
        let index = PROPERTIES.binary_search_by(|(name, ..)| (*name).cmp(key)).ok()?;
        let default = PROPERTIES[index].2;
        (!default.is_empty()).then_some(default)
    }

    /// Topic settings that this broker's own properties change from Kafka's defaults.
    pub fn topic_defaults(&self, explicit: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut defaults = BTreeMap::new();
        for (topic_name, broker_names) in TOPIC_DEFAULTS {
            for (broker_name, factor) in *broker_names {
                let Some(value) = explicit.get(*broker_name) else { continue };
                let value = match (factor, value.trim().parse::<i64>()) {
                    (1, _) | (_, Err(_)) => value.trim().to_owned(),
                    (_, Ok(number)) if number < 0 => "-1".to_owned(),
                    (factor, Ok(number)) => number.saturating_mul(*factor).to_string(),
                };
                defaults.insert((*topic_name).to_owned(), value);
                break;
            }
        }
        defaults
    }

    /// Checks what several properties say together; they are given one by one, so this waits until the broker is opened.
    pub(crate) fn check_together(&self) -> Result<(), BrokerError> {
        crate::effects::check_authorizer(&self.explicit)?;
        crate::group::consumer::config::check(self)?;
        crate::share::config::check(self)?;
        if (0..i64::from(self.socket_request_max_bytes)).contains(&self.queued_max_request_bytes) {
            return Err(BrokerError::Config(format!(
                "queued.max.request.bytes={} must not be below socket.request.max.bytes={}, or no request of that size \
                 could be read\nraise it, lower the other, or set -1 for no bound",
                self.queued_max_request_bytes, self.socket_request_max_bytes
            )));
        }
        Ok(())
    }

    fn from_explicit(explicit: BTreeMap<String, String>) -> Result<Self, BrokerError> {
        for (key, value) in &explicit {
            check(key, value)?;
        }
        crate::effects::refuse_unkept_promises(&explicit)?;
        let reader = Reader { explicit: &explicit };
        let data_dir = reader.text("log.dirs").or_else(|| reader.text("log.dir")).unwrap_or_default();
        if data_dir.contains(',') {
            return Err(BrokerError::Config(format!(
                "log.dirs={data_dir}: one data directory is supported\nname a single directory"
            )));
        }
        let durability = match reader.text("durability").unwrap_or_default().as_str() {
            "power" => DurabilityLevel::Power,
            "process" => DurabilityLevel::Process,
            other => {
                return Err(BrokerError::Config(format!(
                    "durability={other} is not known\nuse `power` (acknowledged records survive a power cut) or \
                     `process` (they survive the process only)"
                )));
            }
        };
        let node_id = match explicit.get("node.id").or_else(|| explicit.get("broker.id")) {
            Some(text) => text.trim().parse().unwrap_or(1),
            None => 1,
        };
        let queued_max_request_bytes = match explicit.contains_key("queued.max.request.bytes") {
            true => reader.long("queued.max.request.bytes"),
            false => reader.long("queued.max.request.bytes").max(reader.long("socket.request.max.bytes")),
        };
        Ok(Self {
            data_dir: PathBuf::from(data_dir),
            durability,
            node_id,
            cluster_id: reader.text("cluster.id"),
            num_partitions: reader.int("num.partitions"),
            auto_create_topics_enable: reader.boolean("auto.create.topics.enable"),
            delete_topic_enable: reader.boolean("delete.topic.enable"),
            fetch_max_bytes: reader.int("fetch.max.bytes"),
            message_max_bytes: reader.int("message.max.bytes"),
            socket_request_max_bytes: reader.int("socket.request.max.bytes"),
            connections_max_idle_ms: reader.long("connections.max.idle.ms"),
            connection_limits: ConnectionLimits::from_properties(&explicit)?,
            has_authorizer: explicit.get("authorizer.class.name").is_some_and(|name| !name.trim().is_empty()),
            queued_max_request_bytes,
            fetch_session_slots: reader.int("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: reader.int("max.request.partition.size.limit"),
            num_network_threads: reader.int("num.network.threads"),
            group_min_session_timeout_ms: reader.int("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: reader.int("group.max.session.timeout.ms"),
            group_initial_rebalance_delay_ms: reader.int("group.initial.rebalance.delay.ms"),
            group_max_size: reader.int("group.max.size"),
            offset_metadata_max_bytes: reader.int("offset.metadata.max.bytes"),
            offsets_commit_timeout_ms: reader.int("offsets.commit.timeout.ms"),
            offsets_retention_minutes: reader.int("offsets.retention.minutes"),
            offsets_retention_check_interval_ms: reader.long("offsets.retention.check.interval.ms"),
            offsets_topic_num_partitions: reader.int("offsets.topic.num.partitions"),
            offsets_topic_segment_bytes: reader.int("offsets.topic.segment.bytes"),
            transaction_max_timeout_ms: i32::try_from(reader.long("transaction.max.timeout.ms")).unwrap_or(i32::MAX),
            transaction_state_log_num_partitions: reader.int("transaction.state.log.num.partitions"),
            transaction_state_log_segment_bytes: reader.int("transaction.state.log.segment.bytes"),
            transaction_abort_interval_ms: reader.long("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
            transactional_id_expiration_interval_ms: reader
                .long("transaction.remove.expired.transaction.cleanup.interval.ms"),
            transactional_id_expiration_ms: reader.long("transactional.id.expiration.ms"),
            explicit,
        })
    }
}

/// For each topic setting the broker properties that give its default, first hit first, with their unit in the
/// setting's own.
pub const TOPIC_DEFAULTS: &[(&str, &[(&str, i64)])] = &[
    ("cleanup.policy", &[("log.cleanup.policy", 1)]),
    ("compression.gzip.level", &[("compression.gzip.level", 1)]),
    ("compression.lz4.level", &[("compression.lz4.level", 1)]),
    ("compression.type", &[("compression.type", 1)]),
    ("compression.zstd.level", &[("compression.zstd.level", 1)]),
    ("delete.retention.ms", &[("log.cleaner.delete.retention.ms", 1)]),
    ("file.delete.delay.ms", &[("log.segment.delete.delay.ms", 1)]),
    ("flush.messages", &[("log.flush.interval.messages", 1)]),
    ("flush.ms", &[("log.flush.interval.ms", 1)]),
    ("index.interval.bytes", &[("log.index.interval.bytes", 1)]),
    ("local.retention.bytes", &[("log.local.retention.bytes", 1)]),
    ("local.retention.ms", &[("log.local.retention.ms", 1)]),
    ("max.compaction.lag.ms", &[("log.cleaner.max.compaction.lag.ms", 1)]),
    ("max.message.bytes", &[("message.max.bytes", 1)]),
    ("message.timestamp.after.max.ms", &[("log.message.timestamp.after.max.ms", 1)]),
    ("message.timestamp.before.max.ms", &[("log.message.timestamp.before.max.ms", 1)]),
    ("message.timestamp.type", &[("log.message.timestamp.type", 1)]),
    ("min.cleanable.dirty.ratio", &[("log.cleaner.min.cleanable.ratio", 1)]),
    ("min.compaction.lag.ms", &[("log.cleaner.min.compaction.lag.ms", 1)]),
    ("min.insync.replicas", &[("min.insync.replicas", 1)]),
    ("preallocate", &[("log.preallocate", 1)]),
    ("retention.bytes", &[("log.retention.bytes", 1)]),
    ("retention.ms", &[("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)]),
    ("segment.bytes", &[("log.segment.bytes", 1)]),
    ("segment.index.bytes", &[("log.index.size.max.bytes", 1)]),
    ("segment.jitter.ms", &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)]),
    ("segment.ms", &[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)]),
    ("unclean.leader.election.enable", &[("unclean.leader.election.enable", 1)]),
];

/// Reads checked values; what does not parse was refused by [`check`] before.
struct Reader<'a> {
    explicit: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn text(&self, key: &str) -> Option<String> {
        if let Some(value) = self.explicit.get(key) {
            return Some(value.trim().to_owned());
        }
        let index = PROPERTIES.binary_search_by(|(name, ..)| (*name).cmp(key)).ok()?;
        let default = PROPERTIES[index].2;
        (!default.is_empty()).then(|| default.to_owned())
    }

    fn int(&self, key: &str) -> i32 {
        self.text(key).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn long(&self, key: &str) -> i64 {
        self.text(key).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn boolean(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }
}

fn check(key: &str, value: &str) -> Result<(), BrokerError> {
    let Ok(index) = PROPERTIES.binary_search_by(|(name, ..)| (*name).cmp(key)) else {
        let hint = match base::nearest(key, PROPERTIES.iter().map(|(name, ..)| *name)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "docs/kafka-compatibility.md lists the properties".to_owned(),
        };
        return Err(BrokerError::Config(format!("unknown broker property `{key}`\n{hint}")));
    };
    if !value_fits(PROPERTIES[index].1, value.trim()) {
        return Err(BrokerError::Config(format!(
            "broker property {key}={value} is not a value of type {:?}",
            PROPERTIES[index].1
        )));
    }
    Ok(())
}

pub(crate) fn value_fits(kind: ConfigType, value: &str) -> bool {
    match kind {
        ConfigType::Boolean => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
        ConfigType::Short => value.parse::<i16>().is_ok(),
        ConfigType::Int => value.parse::<i32>().is_ok(),
        ConfigType::Long => value.parse::<i64>().is_ok(),
        ConfigType::Double => value.parse::<f64>().is_ok(),
        ConfigType::String | ConfigType::List | ConfigType::Class | ConfigType::Password => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_sorted_and_their_defaults_fit_their_types() {
        assert!(PROPERTIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, kind, default) in PROPERTIES {
            assert!(default.is_empty() || value_fits(*kind, default), "{name}={default} as {kind:?}");
        }
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = BrokerConfig::from_properties([("log.dirs", "/tmp/x")]).unwrap();
        assert_eq!((config.num_partitions, config.offsets_topic_num_partitions), (1, 50));
        assert_eq!(config.socket_request_max_bytes, 104_857_600);
        assert_eq!(config.group_initial_rebalance_delay_ms, 3000);
        assert!(config.auto_create_topics_enable);
        assert_eq!(config.durability, DurabilityLevel::Power);
    }

    #[test]
    fn an_unknown_property_is_refused_with_the_nearest_name() {
        let error = BrokerConfig::from_properties([("num.partition", "3")]).unwrap_err();
        assert_eq!(error.to_string(), "unknown broker property `num.partition`\ndid you mean `num.partitions`?");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused() {
        assert!(BrokerConfig::from_properties([("num.partitions", "three")]).is_err());
        assert!(BrokerConfig::from_properties([("durability", "none")]).is_err());
    }
}
