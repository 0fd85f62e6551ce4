//! The settings of streams groups: the broker's, which each group can override.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use crate::config::BrokerConfig;

/// The setting's name as it is stored with a group.
const STANDBY_REPLICAS: &str = "num.standby.replicas";

/// Settings of one streams group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsConfig {
    /// `group.streams.session.timeout.ms`.
    pub session_timeout_ms: i64,
    /// `group.streams.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `group.streams.num.standby.replicas`.
    pub standby_replicas: usize,
    /// `group.streams.initial.rebalance.delay.ms`: how long the first members of a group wait for others.
    pub initial_rebalance_delay_ms: i64,
    /// `group.streams.assignment.interval.ms`: the least time between two distributions of tasks.
    pub assignment_interval_ms: i64,
    /// `group.streams.max.size`.
    pub max_size: usize,
    /// `group.streams.max.standby.replicas`.
    pub max_standby_replicas: usize,
    /// `group.streams.min.session.timeout.ms` and `group.streams.max.session.timeout.ms`.
    pub session_timeout_limits_ms: (i64, i64),
    /// `group.streams.min.heartbeat.interval.ms` and `group.streams.max.heartbeat.interval.ms`.
    pub heartbeat_interval_limits_ms: (i32, i32),
    /// `group.streams.min.assignment.interval.ms` and `group.streams.max.assignment.interval.ms`.
    pub assignment_interval_limits_ms: (i64, i64),
}

impl Default for StreamsConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            standby_replicas: 0,
            initial_rebalance_delay_ms: 3_000,
            assignment_interval_ms: 1_000,
            max_size: i32::MAX as usize,
            max_standby_replicas: 2,
            session_timeout_limits_ms: (45_000, 60_000),
            heartbeat_interval_limits_ms: (5_000, 15_000),
            assignment_interval_limits_ms: (0, 15_000),
        }
    }
}

impl StreamsConfig {
    /// Those that tasks are distributed by, as they are stored with the group.
    pub(super) fn for_assignment(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        BTreeMap::from([(STANDBY_REPLICAS.into(), self.standby_replicas.to_string().into())])
    }

    /// Number of standby replicas among the settings stored with a group.
    pub(super) fn standby_replicas_of(stored: &BTreeMap<Arc<str>, Arc<str>>) -> usize {
        stored.get(STANDBY_REPLICAS).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// With what the group itself sets (`streams.*`), where that is within the broker's limits.
    pub fn overridden(&self, setting: &dyn Fn(&str) -> Option<String>) -> Self {
        fn number<T: FromStr>(value: Option<String>, default: T) -> T {
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(default)
        }
        Self {
            session_timeout_ms: number(setting("streams.session.timeout.ms"), self.session_timeout_ms)
                .clamp(self.session_timeout_limits_ms.0, self.session_timeout_limits_ms.1),
            heartbeat_interval_ms: number(setting("streams.heartbeat.interval.ms"), self.heartbeat_interval_ms)
                .clamp(self.heartbeat_interval_limits_ms.0, self.heartbeat_interval_limits_ms.1),
            standby_replicas: number(setting("streams.num.standby.replicas"), self.standby_replicas)
                .min(self.max_standby_replicas),
            initial_rebalance_delay_ms: number(
                setting("streams.initial.rebalance.delay.ms"),
                self.initial_rebalance_delay_ms,
            )
            .max(0),
            assignment_interval_ms: number(setting("streams.assignment.interval.ms"), self.assignment_interval_ms)
                .clamp(self.assignment_interval_limits_ms.0, self.assignment_interval_limits_ms.1),
            ..self.clone()
        }
    }
}

impl From<&BrokerConfig> for StreamsConfig {
    fn from(config: &BrokerConfig) -> Self {
        fn number<T: FromStr>(config: &BrokerConfig, name: &str, default: T) -> T {
            let value = config.value(&format!("group.streams.{name}"));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(default)
        }
        /// A lower limit above the upper one would have no value between them.
        fn limits<T: Ord + Copy>(min: T, max: T) -> (T, T) {
            (min, max.max(min))
        }
        let or = Self::default();
        let broker = Self {
            session_timeout_limits_ms: limits(
                number(config, "min.session.timeout.ms", or.session_timeout_limits_ms.0),
                number(config, "max.session.timeout.ms", or.session_timeout_limits_ms.1),
            ),
            heartbeat_interval_limits_ms: limits(
                number(config, "min.heartbeat.interval.ms", or.heartbeat_interval_limits_ms.0),
                number(config, "max.heartbeat.interval.ms", or.heartbeat_interval_limits_ms.1),
            ),
            assignment_interval_limits_ms: limits(
                number(config, "min.assignment.interval.ms", or.assignment_interval_limits_ms.0),
                number(config, "max.assignment.interval.ms", or.assignment_interval_limits_ms.1),
            ),
            max_standby_replicas: number(config, "max.standby.replicas", or.max_standby_replicas),
            max_size: number(config, "max.size", or.max_size).max(1),
            ..or
        };
        let own = |name: &str| config.value(&format!("group.{name}")).map(str::to_owned);
        broker.overridden(&own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_overrides_the_broker_within_its_limits() {
        let broker = BrokerConfig::embedded("/nowhere")
            .with("group.streams.heartbeat.interval.ms", 6_000)
            .and_then(|config| config.with("group.streams.min.heartbeat.interval.ms", 500))
            .unwrap();
        let broker = StreamsConfig::from(&broker);
        assert_eq!((broker.heartbeat_interval_ms, broker.session_timeout_ms), (6_000, 45_000));
        let own = |name: &str| match name {
            "streams.heartbeat.interval.ms" => Some("700".to_owned()),
            "streams.num.standby.replicas" => Some("9".to_owned()),
            "streams.session.timeout.ms" => Some("much".to_owned()),
            _ => None,
        };
        let group = broker.overridden(&own);
        assert_eq!((group.heartbeat_interval_ms, group.standby_replicas, group.session_timeout_ms), (700, 2, 45_000));
    }
}
