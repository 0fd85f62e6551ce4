//! The settings of share groups: the broker's, and what is set for one group in their place.

use std::collections::BTreeMap;

use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::group::consumer::config::Bounded;

/// How a share partition that nobody has read from begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the beginning of the log.
    Earliest,
    /// At its end.
    Latest,
    /// At the first record that is no older than this, in ms.
    ByDuration(i64),
}

/// Settings of share groups.
#[derive(Clone, Debug)]
pub struct ShareConfig {
    /// `group.share.session.timeout.ms`: how long a member may be silent.
    pub session_timeout: Bounded,
    /// `group.share.heartbeat.interval.ms`: how often members are to come.
    pub heartbeat_interval: Bounded,
    /// `group.share.assignment.interval.ms`: how long a target assignment stands before the next may be computed.
    pub assignment_interval: Bounded,
    /// `group.share.record.lock.duration.ms`: how long a member has acquired records for itself.
    pub record_lock_duration: Bounded,
    /// `group.share.delivery.count.limit`: how often a record is handed out.
    pub delivery_count_limit: Bounded,
    /// `group.share.partition.max.record.locks`: how many records of a partition are in flight.
    pub max_record_locks: Bounded,
    /// `group.share.max.size`: members of a group.
    pub max_size: usize,
    /// `group.share.max.share.sessions`.
    pub max_sessions: usize,
    /// `share.coordinator.snapshot.update.records.per.snapshot`.
    pub updates_per_snapshot: u32,
    /// `share.coordinator.cold.partition.snapshot.interval.ms`.
    pub cold_snapshot_interval_ms: i64,
    /// `share.coordinator.state.topic.prune.interval.ms`.
    pub prune_interval_ms: i64,
    /// `share.auto.offset.reset` of a group.
    pub offset_reset: OffsetReset,
    /// `share.isolation.level` of a group.
    pub read_committed: bool,
    /// `share.renew.acknowledge.enable` of a group.
    pub renews: bool,
}

/// Names of the settings with bounds, as those of one group have them behind `share.`.
const BOUNDED: [&str; 6] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "assignment.interval.ms",
    "record.lock.duration.ms",
    "delivery.count.limit",
    "partition.max.record.locks",
];

impl Default for ShareConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        let bounded = |ms, min_ms, max_ms| Bounded { ms, min_ms, max_ms };
        Self {
            session_timeout: bounded(45_000, 45_000, 60_000),
            heartbeat_interval: bounded(5_000, 5_000, 15_000),
            assignment_interval: bounded(1_000, 0, 15_000),
            record_lock_duration: bounded(30_000, 15_000, 60_000),
            delivery_count_limit: bounded(5, 2, 10),
            max_record_locks: bounded(2_000, 100, 4_000),
            max_size: 200,
            max_sessions: 2_000,
            updates_per_snapshot: 500,
            cold_snapshot_interval_ms: 300_000,
            prune_interval_ms: 300_000,
            offset_reset: OffsetReset::Latest,
            read_committed: false,
            renews: true,
        }
    }
}

impl From<&BrokerConfig> for ShareConfig {
    fn from(config: &BrokerConfig) -> Self {
        let of = |name| bounded(config, name);
        let count = |name: &str| usize::try_from(long(config, name)).unwrap_or(1).max(1);
        Self {
            session_timeout: of("session.timeout.ms"),
            heartbeat_interval: of("heartbeat.interval.ms"),
            assignment_interval: of("assignment.interval.ms"),
            record_lock_duration: of("record.lock.duration.ms"),
            delivery_count_limit: of("delivery.count.limit"),
            max_record_locks: of("partition.max.record.locks"),
            max_size: count("group.share.max.size"),
            max_sessions: count("group.share.max.share.sessions"),
            updates_per_snapshot: u32::try_from(long(config, "share.coordinator.snapshot.update.records.per.snapshot"))
                .unwrap_or(0),
            cold_snapshot_interval_ms: long(config, "share.coordinator.cold.partition.snapshot.interval.ms"),
            prune_interval_ms: long(config, "share.coordinator.state.topic.prune.interval.ms").max(1),
            ..Self::default()
        }
    }
}

fn long(config: &BrokerConfig, property: &str) -> i64 {
    config.value(property).and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn bounded(config: &BrokerConfig, name: &str) -> Bounded {
    Bounded {
        ms: long(config, &format!("group.share.{name}")),
        min_ms: long(config, &format!("group.share.min.{name}")),
        max_ms: long(config, &format!("group.share.max.{name}")),
    }
}

impl ShareConfig {
    fn bounded_mut(&mut self, name: &str) -> Option<&mut Bounded> {
        Some(match name {
            "session.timeout.ms" => &mut self.session_timeout,
            "heartbeat.interval.ms" => &mut self.heartbeat_interval,
            "assignment.interval.ms" => &mut self.assignment_interval,
            "record.lock.duration.ms" => &mut self.record_lock_duration,
            "delivery.count.limit" => &mut self.delivery_count_limit,
            "partition.max.record.locks" => &mut self.max_record_locks,
            _ => return None,
        })
    }

    /// These settings with what is set for one group; a number that lies outside of today's bounds is taken to the nearest.
    pub fn with_settings(&self, settings: &BTreeMap<String, String>) -> Self {
        let mut config = self.clone();
        for (name, value) in settings {
            let Some(name) = name.strip_prefix("share.") else { continue };
            let value = value.trim();
            match name {
                "auto.offset.reset" => config.offset_reset = offset_reset(value).unwrap_or(config.offset_reset),
                "isolation.level" => config.read_committed = value == "read_committed",
                "renew.acknowledge.enable" => config.renews = !value.eq_ignore_ascii_case("false"),
                name => {
                    if let (Some(setting), Ok(number)) = (config.bounded_mut(name), value.parse::<i64>()) {
                        setting.ms = number.max(setting.min_ms).min(setting.max_ms);
                    }
                }
            }
        }
        config
    }

    /// The bounds of a setting of one group, by its name; `None` for one that is not of share groups, or has none.
    pub fn bounds(&self, setting: &str) -> Option<Bounded> {
        self.clone().bounded_mut(setting.strip_prefix("share.")?).map(|bounded| *bounded)
    }

    /// How often a record is handed out.
    pub fn delivery_limit(&self) -> i16 {
        i16::try_from(self.delivery_count_limit.ms).unwrap_or(i16::MAX)
    }
}

/// What a setting of one group that is no number must be; `None` if `value` is that.
pub fn wrong_value(setting: &str, value: &str) -> Option<&'static str> {
    let value = value.trim();
    match setting {
        "share.auto.offset.reset" if offset_reset(value).is_none() => Some(
            "`earliest`, `latest` or `by_duration:` with an ISO 8601 duration that is not negative (`by_duration:PT1H`)",
        ),
        "share.isolation.level" if !matches!(value, "read_committed" | "read_uncommitted") => {
            Some("`read_committed` or `read_uncommitted`")
        }
        _ => None,
    }
}

fn offset_reset(value: &str) -> Option<OffsetReset> {
    match value {
        "earliest" => Some(OffsetReset::Earliest),
        "latest" => Some(OffsetReset::Latest),
        text => duration_ms(&text.strip_prefix("by_duration:")?.to_lowercase()).map(OffsetReset::ByDuration),
    }
}

/// Milliseconds of an ISO 8601 duration of days, hours, minutes and seconds (`p1dt2h3m4.5s`), in lower case.
fn duration_ms(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('p')?;
    let (days, time) = rest.split_once('t').map_or((rest, None), |(days, time)| (days, Some(time)));
    if days.is_empty() && time.is_none_or(str::is_empty) || time == Some("") {
        return None;
    }
    let days = sum_of(days, &[('d', 86_400_000.0)])?;
    let time = sum_of(time.unwrap_or_default(), &[('h', 3_600_000.0), ('m', 60_000.0), ('s', 1_000.0)])?;
    let ms = days + time;
    (ms.is_finite() && (0.0..9e15).contains(&ms)).then_some(ms as i64)
}

/// The sum of numbers with these units behind them, each at most once and in this order.
fn sum_of(mut text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut sum = 0.0;
    for (unit, size) in units {
        if let Some((number, rest)) = text.split_once(*unit) {
            let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' && *unit == 's');
            sum += number.parse::<f64>().ok().filter(|_| plain)? * size;
            text = rest;
        }
    }
    text.is_empty().then_some(sum)
}

/// Refuses settings of share groups that contradict one another.
///
/// # Errors
/// Naming the property and what it must be.
pub(crate) fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    for name in BOUNDED {
        let Bounded { ms, min_ms, max_ms } = bounded(config, name);
        if min_ms > max_ms || ms < min_ms || ms > max_ms {
            return Err(BrokerError::Config(format!(
                "group.share.{name}={ms} is not between group.share.min.{name}={min_ms} and \
                 group.share.max.{name}={max_ms}\nset all three to values that agree"
            )));
        }
    }
    let (heartbeat, session) = (bounded(config, "heartbeat.interval.ms").ms, bounded(config, "session.timeout.ms").ms);
    if heartbeat >= session {
        return Err(BrokerError::Config(format!(
            "group.share.heartbeat.interval.ms={heartbeat} is not below group.share.session.timeout.ms={session}\nmembers must \
             come several times in a session"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_iso_8601() {
        for (text, ms) in [("pt1h", 3_600_000), ("p1d", 86_400_000), ("p2dt3m", 172_980_000), ("pt1.5s", 1_500)] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "p", "pt", "1h", "pt-1h", "p1h", "pt1s1h", "p1dt", "-pt1h", "pt1h1"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_set_for_a_group_holds_within_the_brokers_bounds() {
        let config = ShareConfig::from(&BrokerConfig::from_properties([("log.dirs", "x")]).unwrap());
        assert_eq!((config.delivery_limit(), config.max_record_locks.ms, config.max_size), (5, 2_000, 200));
        let settings = BTreeMap::from(
            [
                ("share.auto.offset.reset", "by_duration:PT1H"),
                ("share.isolation.level", "read_committed"),
                ("share.record.lock.duration.ms", "1"),
                ("share.delivery.count.limit", "3"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let config = config.with_settings(&settings);
        assert_eq!(config.offset_reset, OffsetReset::ByDuration(3_600_000));
        assert!(config.read_committed);
        assert_eq!((config.record_lock_duration.ms, config.delivery_limit()), (15_000, 3));
        assert!(wrong_value("share.auto.offset.reset", "never").is_some());
        assert!(wrong_value("share.isolation.level", "READ_COMMITTED").is_some());
        assert!(wrong_value("share.auto.offset.reset", "Latest").is_some());
    }
}
