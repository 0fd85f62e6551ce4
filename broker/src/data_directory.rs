//! The data directory as the broker opens it: options, identity, what went wrong and what recovery did, in words.

use std::sync::Arc;

use base::{Clock, Rng, TopicPartition};
use storage::error::ErrorKind;
use storage::files::Files;
use storage::log::{
    ClaimedDirectory, DirectorySettings, Durability, LogConfig, LogDirectory, LogDirectoryOptions, MetaProperties,
    RecoveryReport,
};
use uuid::Uuid;

use crate::config::{BrokerConfig, DurabilityLevel};
use crate::error::BrokerError;
use crate::metadata::changes;
use crate::metadata::log::METADATA_TOPIC;

/// Settings were checked when they were made; should they not hold any more, the log keeps its data.
pub(crate) trait OrKeepEverything {
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

pub(crate) fn keep_everything() -> LogConfig {
    LogConfig { retention_ms: -1, retention_bytes: -1, ..LogConfig::default() }
}

pub(crate) fn directory_options(config: &BrokerConfig, clock: &Arc<dyn Clock>, rng: &mut Rng) -> LogDirectoryOptions {
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
    options.settings = crate::dynamic::of_directory(&config.explicit, config);
    options.producer_id_expiration_check_interval_ms =
        long("producer.id.expiration.check.interval.ms", options.producer_id_expiration_check_interval_ms);
    options
}

/// What of the data directory may change while it is open, from the value of each property, and whether somebody set it.
pub(crate) fn directory_settings<'a>(
    value: impl Fn(&str) -> Option<&'a str>,
    is_set: impl Fn(&str) -> bool,
) -> DirectorySettings {
    let mut settings = DirectorySettings::default();
    let long = |key: &str, default: i64| value(key).and_then(|text| text.trim().parse().ok()).unwrap_or(default);
    settings.cleaner_backoff_ms = long("log.cleaner.backoff.ms", settings.cleaner_backoff_ms);
    // Kafka's default is more than a small broker should take without being told.
    if is_set("log.cleaner.dedupe.buffer.size") {
        let bytes = long("log.cleaner.dedupe.buffer.size", 0);
        settings.cleaner_dedupe_buffer_bytes = usize::try_from(bytes).unwrap_or(settings.cleaner_dedupe_buffer_bytes);
    }
    settings.producer_id_expiration_ms = long("producer.id.expiration.ms", settings.producer_id_expiration_ms);
    settings
}

pub(crate) fn open_error(config: &BrokerConfig, error: &storage::error::StorageError) -> BrokerError {
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

pub(crate) fn report_recovery(report: &RecoveryReport) {
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

/// Opens the data directory unless it is another's or lost part of what it says of topics; then nothing in it changes.
pub(crate) fn open(
    config: &mut BrokerConfig,
    files: Arc<dyn Files>,
    options: LogDirectoryOptions,
) -> Result<LogDirectory, BrokerError> {
    let claimed = ClaimedDirectory::claim(files, &config.data_dir).map_err(|error| open_error(config, &error))?;
    if let Some(known) = claimed.meta_properties() {
        check_identity(config, known)?;
        config.node_id = known.node_id;
    }
    claimed.check_whole(&TopicPartition::new(METADATA_TOPIC, 0)).map_err(|error| match error.kind() {
        ErrorKind::Corrupt => BrokerError::DataDirectory(format!(
            "data directory {} cannot be used: {error}\nrestore that file from a copy; or cut it at that byte \
             (truncate -s BYTE FILE), which forgets the topics made since",
            config.data_dir.display()
        )),
        _ => open_error(config, &error),
    })?;
    claimed.open(options).map_err(|error| open_error(config, &error))
}

/// A directory of another cluster or node is refused.
fn check_identity(config: &BrokerConfig, known: &MetaProperties) -> Result<(), BrokerError> {
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
    Ok(())
}

/// The cluster's id: as the directory has it, as configured, or a new one.
pub(crate) fn identify(config: &BrokerConfig, log: &LogDirectory, rng: &mut Rng) -> Result<String, BrokerError> {
    if let Some(known) = log.meta_properties() {
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

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's text form of a UUID: 22 characters of URL-safe base 64.
pub(crate) fn short_uuid(bytes: [u8; 16]) -> String {
    let number = u128::from_be_bytes(bytes);
    let mut text = String::with_capacity(22);
    for digit in 0..22 {
        // 21 digits of 6 bits from the top, then the last 2 bits followed by zeros.
        let bits = if digit < 21 { number >> (122 - 6 * digit) } else { number << 4 };
        text.push(char::from(DIGITS[(bits & 63) as usize]));
    }
    text
}

/// The UUID of Kafka's text form.
pub(crate) fn parse_short_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut number: u128 = 0;
    for (digit, byte) in text.bytes().enumerate() {
        let bits = DIGITS.iter().position(|known| *known == byte)? as u128;
        number = if digit < 21 { number << 6 | bits } else { number << 2 | bits >> 4 };
    }
    Some(Uuid::from_u128(number))
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
        assert_eq!(parse_short_uuid("zYq8g8WQQ9mN4oabrclFIw"), Some(Uuid::from_bytes(bytes)));
        assert_eq!(parse_short_uuid("zYq8g8WQQ9mN4oabrclFI"), None);
    }
}
