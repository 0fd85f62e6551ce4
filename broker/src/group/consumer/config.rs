//! The settings of consumer groups: the broker's, and what is set for one group in their place.

use std::collections::BTreeMap;

use super::assignor::Assignor;
use super::migration::MigrationPolicy;
use crate::config::BrokerConfig;
use crate::error::BrokerError;

const MIGRATION: &str = "group.consumer.migration.policy";

/// A time in ms, and the bounds within which it may be set for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// The time that holds.
    pub ms: i64,
    /// The least that may be set.
    pub min_ms: i64,
    /// The most that may be set.
    pub max_ms: i64,
}

/// Settings of consumer groups.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// `group.coordinator.rebalance.protocols` has `consumer`.
    pub enabled: bool,
    /// `group.consumer.session.timeout.ms`: how long a member may be silent.
    pub session_timeout: Bounded,
    /// `group.consumer.heartbeat.interval.ms`: how often members are to come.
    pub heartbeat_interval: Bounded,
    /// `group.consumer.assignment.interval.ms`: how long a target assignment stands before the next may be computed.
    pub assignment_interval: Bounded,
    /// `group.consumer.max.size`.
    pub max_size: usize,
    /// `group.consumer.assignors`, the default first.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: i64,
    /// `group.consumer.migration.policy`.
    pub migration: MigrationPolicy,
}

impl Default for ConsumerConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            enabled: true,
            session_timeout: Bounded { ms: 45_000, min_ms: 45_000, max_ms: 60_000 },
            heartbeat_interval: Bounded { ms: 5_000, min_ms: 5_000, max_ms: 15_000 },
            assignment_interval: Bounded { ms: 1_000, min_ms: 0, max_ms: 15_000 },
            max_size: i32::MAX as usize,
            assignors: Assignor::ALL.to_vec(),
            regex_refresh_interval_ms: 600_000,
            migration: MigrationPolicy::BIDIRECTIONAL,
        }
    }
}

impl From<&BrokerConfig> for ConsumerConfig {
    fn from(config: &BrokerConfig) -> Self {
        let names = |list: &str| list.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
        let protocols = config.value("group.coordinator.rebalance.protocols").map(names).unwrap_or_default();
        let assignors = config.value("group.consumer.assignors").map(names).unwrap_or_default();
        Self {
            enabled: protocols.iter().any(|protocol| protocol.eq_ignore_ascii_case("consumer")),
            session_timeout: bounded(config, "session.timeout.ms"),
            heartbeat_interval: bounded(config, "heartbeat.interval.ms"),
            assignment_interval: bounded(config, "assignment.interval.ms"),
            max_size: usize::try_from(long(config, "group.consumer.max.size")).unwrap_or(1).max(1),
            assignors: assignors.iter().filter_map(|name| Assignor::named(name)).collect(),
            regex_refresh_interval_ms: long(config, "group.consumer.regex.refresh.interval.ms"),
            migration: migration(config).unwrap_or(MigrationPolicy::BIDIRECTIONAL),
        }
    }
}

fn long(config: &BrokerConfig, property: &str) -> i64 {
    config.value(property).and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn migration(config: &BrokerConfig) -> Option<MigrationPolicy> {
    MigrationPolicy::named(config.value(MIGRATION).unwrap_or_default())
}

fn bounded(config: &BrokerConfig, name: &str) -> Bounded {
    Bounded {
        ms: long(config, &format!("group.consumer.{name}")),
        min_ms: long(config, &format!("group.consumer.min.{name}")),
        max_ms: long(config, &format!("group.consumer.max.{name}")),
    }
}

impl ConsumerConfig {
    /// These settings with what is set for one group; a value that lies outside of today's bounds is taken to the nearest.
    pub fn with_settings(&self, settings: &BTreeMap<String, String>) -> Self {
        let mut config = self.clone();
        for (name, time) in [
            ("consumer.session.timeout.ms", &mut config.session_timeout),
            ("consumer.heartbeat.interval.ms", &mut config.heartbeat_interval),
            ("consumer.assignment.interval.ms", &mut config.assignment_interval),
        ] {
            if let Some(ms) = settings.get(name).and_then(|value| value.trim().parse::<i64>().ok()) {
                time.ms = ms.max(time.min_ms).min(time.max_ms);
            }
        }
        config
    }

    /// The bounds of a setting of one group, by its name; `None` for one that is not of consumer groups.
    pub fn bounds(&self, setting: &str) -> Option<Bounded> {
        match setting {
            "consumer.session.timeout.ms" => Some(self.session_timeout),
            "consumer.heartbeat.interval.ms" => Some(self.heartbeat_interval),
            "consumer.assignment.interval.ms" => Some(self.assignment_interval),
            _ => None,
        }
    }
}

/// Refuses settings of consumer groups that contradict one another, or ask for an assignor that is not there.
///
/// # Errors
/// Naming the property and what it must be.
pub(crate) fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    let refuse = |text: String| Err(BrokerError::Config(text));
    for name in ["session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"] {
        let Bounded { ms, min_ms, max_ms } = bounded(config, name);
        if min_ms > max_ms || ms < min_ms || ms > max_ms {
            return refuse(format!(
                "group.consumer.{name}={ms} is not between group.consumer.min.{name}={min_ms} and \
                 group.consumer.max.{name}={max_ms}\nset all three to values that agree"
            ));
        }
    }
    let heartbeat = bounded(config, "heartbeat.interval.ms").ms;
    let session = bounded(config, "session.timeout.ms").ms;
    if heartbeat >= session {
        return refuse(format!(
            "group.consumer.heartbeat.interval.ms={heartbeat} is not below group.consumer.session.timeout.ms={session}\nmembers \
             must come several times in a session"
        ));
    }
    if migration(config).is_none() {
        return refuse(format!(
            "{MIGRATION}={}: there is no such policy\nuse `bidirectional`, `upgrade`, `downgrade` or `disabled`",
            config.value(MIGRATION).unwrap_or_default()
        ));
    }
    let assignors = config.value("group.consumer.assignors").unwrap_or_default();
    for name in assignors.split(',').map(str::trim) {
        if Assignor::named(name).is_none() {
            return refuse(format!(
                "group.consumer.assignors={assignors}: there is no assignor `{name}`\nuse `uniform`, `range` or both, the default \
                 first"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Result<ConsumerConfig, BrokerError> {
        let config = BrokerConfig::from_properties(settings.iter().copied())?;
        check(&config)?;
        Ok(ConsumerConfig::from(&config))
    }

    #[test]
    fn what_is_set_for_a_group_is_kept_within_the_brokers_bounds() {
        let config = of(&[]).unwrap();
        assert_eq!(
            (config.session_timeout.ms, config.heartbeat_interval.ms, config.assignment_interval.ms),
            (45_000, 5_000, 1_000)
        );
        let settings = BTreeMap::from([
            ("consumer.session.timeout.ms".to_owned(), "50000".to_owned()),
            ("consumer.heartbeat.interval.ms".to_owned(), "1".to_owned()),
        ]);
        let config = config.with_settings(&settings);
        assert_eq!((config.session_timeout.ms, config.heartbeat_interval.ms), (50_000, 5_000));
    }

    #[test]
    fn settings_that_contradict_one_another_are_refused() {
        assert!(of(&[("group.consumer.heartbeat.interval.ms", "1000")]).is_err(), "below its minimum");
        let both =
            [("group.consumer.heartbeat.interval.ms", "1000"), ("group.consumer.min.heartbeat.interval.ms", "1000")];
        assert_eq!(of(&both).unwrap().heartbeat_interval.ms, 1000);
        assert!(of(&[("group.consumer.assignors", "uniform,mine")]).is_err());
        assert!(of(&[("group.consumer.migration.policy", "both")]).is_err());
        assert!(!of(&[("group.consumer.migration.policy", "DOWNGRADE")]).unwrap().migration.upgrades);
        assert_eq!(of(&[("group.consumer.assignors", "range")]).unwrap().assignors, [Assignor::Range]);
        assert!(!of(&[("group.coordinator.rebalance.protocols", "classic")]).unwrap().enabled);
    }
}
