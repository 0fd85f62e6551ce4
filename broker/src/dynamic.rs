//! Which of the broker's properties may be changed while it runs, for this broker or as the default of all: those that something follows, and
//! those that have no effect here, now or ever. What else Kafka lets be changed is refused by name, since whoever changes it counts on the effect.

use std::collections::BTreeMap;

use storage::log::DirectorySettings;

use crate::config::{BrokerConfig, TOPIC_DEFAULTS};
use crate::connection_limits::LIMITS;
use crate::data_directory::directory_settings;
use crate::effects::DYNAMIC_WITHOUT_EFFECT;
use crate::metadata::{MetadataImage, RESOURCE_BROKER, RESOURCE_GROUP, Settings};

/// Besides limits of connections and defaults of topics. Sorted.
const FOLLOWED: &[&str] = &[
    "group.consumer.assignment.interval.ms",
    "group.share.assignment.interval.ms",
    "group.streams.assignment.interval.ms",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "producer.id.expiration.ms",
    "transaction.partition.verification.enable",
];

/// What Kafka changes while it runs and nothing follows here, by name or how names begin, and why.
const NOT_FOLLOWED: &[(&str, &str)] = &[
    ("config.providers", "values are taken as they are given"),
    ("cordoned.log.dirs", "there is one log directory"),
    ("leader.", "every partition has one replica"),
    ("listener", "listeners are opened where the broker is started"),
    ("advertised.listeners", "listeners are opened where the broker is started"),
    ("num.network.threads", "their number is set where the broker is started"),
    ("principal.builder.class", "no listener authenticates"),
    ("sasl.", "no listener authenticates"),
    ("ssl.", "no listener encrypts"),
];

/// Smallest memory of the cleaner's offset map, in bytes, as in Kafka.
const DEDUPE_BUFFER_MIN: i64 = 1 << 20;

/// Whether a property may be changed while the broker runs.
pub(crate) fn is_dynamic(name: &str) -> bool {
    LIMITS.contains(&name)
        || is_topic_default(name)
        || FOLLOWED.binary_search(&name).is_ok()
        || DYNAMIC_WITHOUT_EFFECT.binary_search(&name).is_ok()
}

fn is_topic_default(name: &str) -> bool {
    TOPIC_DEFAULTS.iter().any(|(_, properties)| properties.iter().any(|(property, _)| *property == name))
        && !matches!(name, "log.retention.minutes" | "log.retention.hours" | "log.roll.hours" | "log.roll.jitter.hours")
}

/// Why a property that is not dynamic cannot be changed.
pub(crate) fn refusal(name: &str) -> String {
    match NOT_FOLLOWED.iter().find(|(begin, _)| name.starts_with(begin)) {
        Some((_, reason)) => format!("Cannot update {name} while this broker runs: {reason}."),
        None => format!("Cannot update these configs dynamically: {name}"),
    }
}

/// Refuses a value that is of the right type but makes no sense.
///
/// # Errors
/// What it must be.
pub(crate) fn check_value(name: &str, value: &str) -> Result<(), String> {
    let least = match name {
        "log.cleaner.backoff.ms" => 0,
        "log.cleaner.dedupe.buffer.size" => DEDUPE_BUFFER_MIN,
        "max.connection.creation.rate" | "producer.id.expiration.ms" => 1,
        _ => return Ok(()),
    };
    match value.trim().parse::<i64>() {
        Ok(number) if number < least => {
            Err(format!("Invalid value {value} for configuration {name}: Value must be at least {least}"))
        }
        _ => Ok(()),
    }
}

/// What the data directory is to follow.
pub(crate) fn of_directory(properties: &BTreeMap<String, String>, config: &BrokerConfig) -> DirectorySettings {
    directory_settings(
        |name| properties.get(name).map(String::as_str).or_else(|| config.value(name)),
        |name| properties.contains_key(name),
    )
}

/// Whether produces are held against the transaction they name.
pub(crate) fn verifies_partitions(properties: &BTreeMap<String, String>) -> bool {
    let value = properties.get("transaction.partition.verification.enable");
    value.is_none_or(|value| !value.trim().eq_ignore_ascii_case("false"))
}

/// What is set for a group, over what was set for all groups while the broker ran.
pub(crate) fn group_settings(image: &MetadataImage, node_id: i32, group: &str) -> Settings {
    let mut settings = Settings::new();
    for layer in ["", &node_id.to_string()] {
        let set = image.settings(RESOURCE_BROKER, layer).into_iter().flatten();
        let of_groups = set.filter_map(|(name, value)| Some((name.strip_prefix("group.")?.to_owned(), value.clone())));
        settings.extend(of_groups);
    }
    if let Some(own) = image.settings(RESOURCE_GROUP, group) {
        settings.extend(own.clone());
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::PROPERTIES;

    #[test]
    fn what_is_not_followed_is_refused_by_name_with_the_reason() {
        assert!(FOLLOWED.windows(2).all(|pair| pair[0] < pair[1]));
        for name in FOLLOWED.iter().chain(&LIMITS) {
            assert!(is_dynamic(name) && PROPERTIES.iter().any(|(known, ..)| known == name), "{name}");
        }
        for name in ["num.network.threads", "ssl.keystore.location", "listeners"] {
            assert!(!is_dynamic(name), "{name}");
            let refusal = refusal(name);
            assert!(refusal.starts_with(&format!("Cannot update {name} while")), "{refusal}");
        }
        assert_eq!(refusal("num.partitions"), "Cannot update these configs dynamically: num.partitions");
        assert!(check_value("log.cleaner.dedupe.buffer.size", "1000").is_err());
        assert!(check_value("log.cleaner.backoff.ms", "0").is_ok());
    }
}
