//! The settings of the group coordinator, taken from the broker's configuration.

use super::consumer::config::ConsumerConfig;
use super::streams::config::StreamsConfig;
use crate::config::BrokerConfig;
use crate::share::config::ShareConfig;

/// How long a JoinGroup of a new member may wait before the member is dropped, as in Kafka.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// Settings of the group coordinator.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: i64,
    /// `group.max.size`.
    pub max_size: usize,
    /// How long a JoinGroup of a new member may wait.
    pub new_member_join_timeout_ms: i64,
    /// `offset.metadata.max.bytes`, counted in UTF-16 units as Kafka does.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
    /// `offsets.commit.timeout.ms`: how long an answer waits for its record to be durable.
    pub commit_timeout_ms: i64,
    /// Those of consumer groups.
    pub consumer: ConsumerConfig,
    /// Those of share groups.
    pub share: ShareConfig,
    /// Those of streams groups.
    pub streams: StreamsConfig,
}

impl Default for GroupConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            new_member_join_timeout_ms: NEW_MEMBER_JOIN_TIMEOUT_MS,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_check_interval_ms: 600_000,
            commit_timeout_ms: 5_000,
            consumer: ConsumerConfig::default(),
            share: ShareConfig::default(),
            streams: StreamsConfig::default(),
        }
    }
}

impl From<&BrokerConfig> for GroupConfig {
    fn from(config: &BrokerConfig) -> Self {
        Self {
            min_session_timeout_ms: config.group_min_session_timeout_ms,
            max_session_timeout_ms: config.group_max_session_timeout_ms,
            initial_rebalance_delay_ms: i64::from(config.group_initial_rebalance_delay_ms.max(0)),
            max_size: usize::try_from(config.group_max_size).unwrap_or(1).max(1),
            new_member_join_timeout_ms: NEW_MEMBER_JOIN_TIMEOUT_MS,
            offset_metadata_max: usize::try_from(config.offset_metadata_max_bytes).unwrap_or(0),
            offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            retention_check_interval_ms: config.offsets_retention_check_interval_ms.max(1),
            commit_timeout_ms: i64::from(config.offsets_commit_timeout_ms.max(1)),
            consumer: config.into(),
            share: config.into(),
            streams: config.into(),
        }
    }
}
