//! Configuration of one partition's log: Kafka's topic configuration names, types, defaults and limits.

use crate::error::{ErrorKind, StorageError};

/// What a log does to batches whose codec differs from the topic's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// Keep what the producer chose.
    Producer,
    /// No compression.
    Uncompressed,
    /// gzip
    Gzip,
    /// snappy
    Snappy,
    /// lz4
    Lz4,
    /// zstd
    Zstd,
}

/// Whose clock stamps records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when the batch is appended.
    LogAppendTime,
}

/// What is removed from a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments, by size and time.
    pub delete: bool,
    /// Older records of a key.
    pub compact: bool,
}

/// Configuration of one partition's log. Field names are Kafka's with `_` for `.`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`
    pub compression_type: CompressionType,
    /// `compression.gzip.level`
    pub compression_gzip_level: i32,
    /// `compression.lz4.level`
    pub compression_lz4_level: i32,
    /// `compression.zstd.level`
    pub compression_zstd_level: i32,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`
    pub file_delete_delay_ms: i64,
    /// `flush.messages`
    pub flush_messages: i64,
    /// `flush.ms`
    pub flush_ms: i64,
    /// `index.interval.bytes`
    pub index_interval_bytes: i32,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`
    pub max_message_bytes: i32,
    /// `message.timestamp.after.max.ms`
    pub message_timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.type`
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`
    pub min_insync_replicas: i32,
    /// `preallocate`
    pub preallocate: bool,
    /// `retention.bytes`; -1 unlimited
    pub retention_bytes: i64,
    /// `retention.ms`; -1 unlimited
    pub retention_ms: i64,
    /// `segment.bytes`, or `internal.segment.bytes` when that is set
    pub segment_bytes: i32,
    /// `segment.index.bytes`
    pub segment_index_bytes: i32,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: i64,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`
    pub unclean_leader_election_enable: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            cleanup_policy: CleanupPolicy { delete: true, compact: false },
            compression_type: CompressionType::Producer,
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_zstd_level: 3,
            delete_retention_ms: 86_400_000,
            file_delete_delay_ms: 60_000,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            index_interval_bytes: 4096,
            max_compaction_lag_ms: i64::MAX,
            max_message_bytes: 1_048_588,
            message_timestamp_after_max_ms: 3_600_000,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_type: TimestampType::CreateTime,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            min_insync_replicas: 1,
            preallocate: false,
            retention_bytes: -1,
            retention_ms: 604_800_000,
            segment_bytes: 1_073_741_824,
            segment_index_bytes: 10_485_760,
            segment_jitter_ms: 0,
            segment_ms: 604_800_000,
            unclean_leader_election_enable: false,
        }
    }
}

/// Kafka's type of a configuration value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// Floating point.
    Double,
    /// Text.
    String,
    /// Texts with commas between them.
    List,
}

/// One topic configuration: name, type, default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigDefinition {
    /// Kafka's name.
    pub name: &'static str,
    /// Type of its value.
    pub kind: ConfigType,
    /// Default as text; `None` for null.
    pub default: Option<&'static str>,
}

const fn definition(name: &'static str, kind: ConfigType, default: &'static str) -> ConfigDefinition {
    ConfigDefinition { name, kind, default: Some(default) }
}

const MAX: &str = "9223372036854775807";

/// All topic configurations of Kafka 4.3, by name. Those of tiered storage and replication throttling are accepted and
/// have no effect on a log.
pub const TOPIC_CONFIGS: &[ConfigDefinition] = &[
    definition("cleanup.policy", ConfigType::List, "delete"),
    definition("compression.gzip.level", ConfigType::Int, "-1"),
    definition("compression.lz4.level", ConfigType::Int, "9"),
    definition("compression.type", ConfigType::String, "producer"),
    definition("compression.zstd.level", ConfigType::Int, "3"),
    definition("delete.retention.ms", ConfigType::Long, "86400000"),
    definition("file.delete.delay.ms", ConfigType::Long, "60000"),
    definition("flush.messages", ConfigType::Long, MAX),
    definition("flush.ms", ConfigType::Long, MAX),
    definition("follower.replication.throttled.replicas", ConfigType::List, ""),
    definition("index.interval.bytes", ConfigType::Int, "4096"),
    ConfigDefinition { name: "internal.segment.bytes", kind: ConfigType::Int, default: None },
    definition("leader.replication.throttled.replicas", ConfigType::List, ""),
    definition("local.retention.bytes", ConfigType::Long, "-2"),
    definition("local.retention.ms", ConfigType::Long, "-2"),
    definition("max.compaction.lag.ms", ConfigType::Long, MAX),
    definition("max.message.bytes", ConfigType::Int, "1048588"),
    definition("message.timestamp.after.max.ms", ConfigType::Long, "3600000"),
    definition("message.timestamp.before.max.ms", ConfigType::Long, MAX),
    definition("message.timestamp.type", ConfigType::String, "CreateTime"),
    definition("min.cleanable.dirty.ratio", ConfigType::Double, "0.5"),
    definition("min.compaction.lag.ms", ConfigType::Long, "0"),
    definition("min.insync.replicas", ConfigType::Int, "1"),
    definition("preallocate", ConfigType::Boolean, "false"),
    definition("remote.log.copy.disable", ConfigType::Boolean, "false"),
    definition("remote.log.delete.on.disable", ConfigType::Boolean, "false"),
    definition("remote.storage.enable", ConfigType::Boolean, "false"),
    definition("retention.bytes", ConfigType::Long, "-1"),
    definition("retention.ms", ConfigType::Long, "604800000"),
    definition("segment.bytes", ConfigType::Int, "1073741824"),
    definition("segment.index.bytes", ConfigType::Int, "10485760"),
    definition("segment.jitter.ms", ConfigType::Long, "0"),
    definition("segment.ms", ConfigType::Long, "604800000"),
    definition("unclean.leader.election.enable", ConfigType::Boolean, "false"),
];

impl LogConfig {
    /// The defaults, changed by Kafka's names and values.
    ///
    /// # Errors
    /// `Invalid` for an unknown name (the message has the nearest known one) and for a value out of its range.
    pub fn from_map<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, StorageError> {
        let mut config = Self::default();
        let mut internal_segment_bytes = None;
        for (name, value) in entries {
            config.set(name, value, &mut internal_segment_bytes)?;
        }
        if let Some(bytes) = internal_segment_bytes {
            config.segment_bytes = bytes;
        }
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(invalid(format!(
                "conflict between topic config setting min.compaction.lag.ms ({}) and max.compaction.lag.ms ({})",
                config.min_compaction_lag_ms, config.max_compaction_lag_ms
            )));
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str, internal_segment_bytes: &mut Option<i32>) -> Result<(), StorageError> {
        let value = value.trim();
        match name {
            "cleanup.policy" => self.cleanup_policy = parse_cleanup_policy(value)?,
            "compression.type" => self.compression_type = parse_compression_type(value)?,
            "compression.gzip.level" => {
                let level = integer(name, value, -1, 9)?;
                if level == 0 {
                    return Err(refused(name, value, "must be -1 or between 1 and 9"));
                }
                self.compression_gzip_level = level;
            }
            "compression.lz4.level" => self.compression_lz4_level = integer(name, value, 1, 17)?,
            "compression.zstd.level" => self.compression_zstd_level = integer(name, value, -131_072, 22)?,
            "delete.retention.ms" => self.delete_retention_ms = long(name, value, 0)?,
            "file.delete.delay.ms" => self.file_delete_delay_ms = long(name, value, 0)?,
            "flush.messages" => self.flush_messages = long(name, value, 1)?,
            "flush.ms" => self.flush_ms = long(name, value, 0)?,
            "index.interval.bytes" => self.index_interval_bytes = integer(name, value, 0, i32::MAX)?,
            "internal.segment.bytes" => *internal_segment_bytes = Some(integer(name, value, 1, i32::MAX)?),
            "max.compaction.lag.ms" => self.max_compaction_lag_ms = long(name, value, 1)?,
            "max.message.bytes" => self.max_message_bytes = integer(name, value, 0, i32::MAX)?,
            "message.timestamp.after.max.ms" => self.message_timestamp_after_max_ms = long(name, value, 0)?,
            "message.timestamp.before.max.ms" => self.message_timestamp_before_max_ms = long(name, value, 0)?,
            "message.timestamp.type" => self.message_timestamp_type = parse_timestamp_type(value)?,
            "min.cleanable.dirty.ratio" => {
                let ratio: f64 = value.parse().map_err(|_| refused(name, value, "not a number of type DOUBLE"))?;
                if !(0.0..=1.0).contains(&ratio) {
                    return Err(refused(name, value, "must be between 0 and 1"));
                }
                self.min_cleanable_dirty_ratio = ratio;
            }
            "min.compaction.lag.ms" => self.min_compaction_lag_ms = long(name, value, 0)?,
            "min.insync.replicas" => self.min_insync_replicas = integer(name, value, 1, i32::MAX)?,
            "preallocate" => self.preallocate = boolean(name, value)?,
            "retention.bytes" => self.retention_bytes = long(name, value, i64::MIN)?,
            "retention.ms" => self.retention_ms = long(name, value, -1)?,
            "segment.bytes" => self.segment_bytes = integer(name, value, 1_048_576, i32::MAX)?,
            "segment.index.bytes" => self.segment_index_bytes = integer(name, value, 4, i32::MAX)?,
            "segment.jitter.ms" => self.segment_jitter_ms = long(name, value, 0)?,
            "segment.ms" => self.segment_ms = long(name, value, 1)?,
            "unclean.leader.election.enable" => self.unclean_leader_election_enable = boolean(name, value)?,
            "remote.log.copy.disable" | "remote.log.delete.on.disable" => {
                boolean(name, value)?;
            }
            "remote.storage.enable" => {
                if boolean(name, value)? {
                    return Err(refused(name, value, "tiered storage is not supported"));
                }
            }
            "local.retention.bytes" | "local.retention.ms" => {
                long(name, value, -2)?;
            }
            "follower.replication.throttled.replicas" | "leader.replication.throttled.replicas" => {}
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn invalid(message: String) -> StorageError {
    StorageError::new(ErrorKind::Invalid, message)
}

fn refused(name: &str, value: &str, why: &str) -> StorageError {
    invalid(format!("invalid value {value} for configuration {name}: {why}"))
}

fn unknown(name: &str) -> StorageError {
    invalid(match base::nearest(name, TOPIC_CONFIGS.iter().map(|known| known.name)) {
        Some(nearest) => format!("unknown topic config name {name}; the nearest known one is {nearest}"),
        None => format!("unknown topic config name {name}"),
    })
}

fn integer(name: &str, value: &str, min: i32, max: i32) -> Result<i32, StorageError> {
    let number: i32 = value.parse().map_err(|_| refused(name, value, "not a number of type INT"))?;
    if number < min {
        return Err(refused(name, value, &format!("value must be at least {min}")));
    }
    if number > max {
        return Err(refused(name, value, &format!("value must be no more than {max}")));
    }
    Ok(number)
}

fn long(name: &str, value: &str, min: i64) -> Result<i64, StorageError> {
    let number: i64 = value.parse().map_err(|_| refused(name, value, "not a number of type LONG"))?;
    if number < min {
        return Err(refused(name, value, &format!("value must be at least {min}")));
    }
    Ok(number)
}

fn boolean(name: &str, value: &str) -> Result<bool, StorageError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(refused(name, value, "expected value to be either true or false")),
    }
}

fn parse_cleanup_policy(value: &str) -> Result<CleanupPolicy, StorageError> {
    let mut policy = CleanupPolicy { delete: false, compact: false };
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part {
            "delete" => policy.delete = true,
            "compact" => policy.compact = true,
            _ => return Err(refused("cleanup.policy", value, "must be one of compact, delete")),
        }
    }
    Ok(policy)
}

fn parse_compression_type(value: &str) -> Result<CompressionType, StorageError> {
    Ok(match value {
        "producer" => CompressionType::Producer,
        "uncompressed" => CompressionType::Uncompressed,
        "gzip" => CompressionType::Gzip,
        "snappy" => CompressionType::Snappy,
        "lz4" => CompressionType::Lz4,
        "zstd" => CompressionType::Zstd,
        _ => {
            let why = "must be one of uncompressed, zstd, lz4, snappy, gzip, producer";
            return Err(refused("compression.type", value, why));
        }
    })
}

fn parse_timestamp_type(value: &str) -> Result<TimestampType, StorageError> {
    match value {
        "CreateTime" => Ok(TimestampType::CreateTime),
        "LogAppendTime" => Ok(TimestampType::LogAppendTime),
        _ => Err(refused("message.timestamp.type", value, "must be one of CreateTime, LogAppendTime")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_definitions() {
        let named = TOPIC_CONFIGS.iter().filter_map(|known| known.default.map(|value| (known.name, value)));
        assert_eq!(LogConfig::from_map(named).unwrap(), LogConfig::default());
    }

    #[test]
    fn unknown_name_is_refused_with_the_nearest() {
        let error = LogConfig::from_map([("retention.msec", "1")]).unwrap_err();
        assert_eq!(error.message(), "unknown topic config name retention.msec; the nearest known one is retention.ms");
    }

    #[test]
    fn small_segments_need_the_internal_name() {
        assert!(LogConfig::from_map([("segment.bytes", "1048575")]).is_err());
        let config = LogConfig::from_map([("internal.segment.bytes", "100"), ("segment.bytes", "1048576")]).unwrap();
        assert_eq!(config.segment_bytes, 100);
    }

    #[test]
    fn cleanup_policy_may_be_empty_or_both() {
        let policy = |text| LogConfig::from_map([("cleanup.policy", text)]).unwrap().cleanup_policy;
        assert_eq!(policy(""), CleanupPolicy { delete: false, compact: false });
        assert_eq!(policy("compact, delete"), CleanupPolicy { delete: true, compact: true });
    }
}
