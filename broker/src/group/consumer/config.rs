//! The settings of consumer groups, taken from the broker's configuration.

use crate::config::BrokerConfig;

/// Settings of consumer groups.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i64,
}

impl Default for ConsumerConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self { session_timeout_ms: 45_000 }
    }
}

impl From<&BrokerConfig> for ConsumerConfig {
    fn from(config: &BrokerConfig) -> Self {
        Self { session_timeout_ms: i64::from(config.group_consumer_session_timeout_ms) }
    }
}
