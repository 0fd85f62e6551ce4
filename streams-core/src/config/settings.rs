//! The settings by name: their defaults, what their values may be, and who uses them. A name that nothing uses does not stand here,
//! or stands here as refused: no setting is accepted and then ignored.

use crate::error::{ErrorKind, StreamsError};

/// Who uses a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Whoever calls this method of [`StreamsConfig`](crate::StreamsConfig); a test looks for a caller.
    ReadBy(&'static str),
    /// Nobody yet: only this value, which says how things are, is accepted; `None`: no value is.
    NotBuilt(Option<&'static str>),
    /// Nobody: it is to be set elsewhere, as the text says.
    Elsewhere(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    Any,
    NumberFrom(i64),
    OneOf(&'static [&'static str]),
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka Streams' name.
    pub name: &'static str,
    /// Its value where none is given.
    pub default: Option<&'static str>,
    /// Who uses it.
    pub used: Use,
    values: Values,
}

const fn text(name: &'static str, default: Option<&'static str>, reader: &'static str) -> Setting {
    Setting { name, default, used: Use::ReadBy(reader), values: Values::Any }
}

const fn number(name: &'static str, default: Option<&'static str>, least: i64, reader: &'static str) -> Setting {
    Setting { name, default, used: Use::ReadBy(reader), values: Values::NumberFrom(least) }
}

const fn choice(
    name: &'static str,
    default: &'static str,
    allowed: &'static [&'static str],
    reader: &'static str,
) -> Setting {
    Setting { name, default: Some(default), used: Use::ReadBy(reader), values: Values::OneOf(allowed) }
}

const fn not_built(name: &'static str, built: Option<&'static str>) -> Setting {
    Setting { name, default: built, used: Use::NotBuilt(built), values: Values::Any }
}

const fn elsewhere(name: &'static str, advice: &'static str) -> Setting {
    Setting { name, default: None, used: Use::Elsewhere(advice), values: Values::Any }
}

/// All settings without a prefix.
pub const SETTINGS: &[Setting] = &[
    elsewhere("allow.os.group.write.access", "folders are made as the process's umask says"),
    text("application.id", None, "application_id"),
    not_built("application.server", None),
    choice("auto.offset.reset", "earliest", &["earliest", "latest", "none"], "auto_offset_reset"),
    elsewhere("bootstrap.servers", "the application uses the Client that it is given: name brokers in Client::connect"),
    number("buffered.records.per.partition", Some("1000"), 1, "buffered_records_per_partition"),
    number("cache.max.bytes.buffering", None, 0, "cache_max_bytes"),
    text("client.id", None, "client_id"),
    number("commit.interval.ms", Some("100"), 0, "commit_interval_ms"),
    text("default.deserialization.exception.handler", None, "handlers"),
    choice("default.dsl.store", "rocksDB", &["rocksDB", "in_memory"], "default_dsl_store"),
    text("default.production.exception.handler", None, "handlers"),
    text("default.timestamp.extractor", Some("FailOnInvalidTimestamp"), "default_timestamp_extractor"),
    text("deserialization.exception.handler", Some("LogAndFailExceptionHandler"), "handlers"),
    choice("dsl.store.format", "DEFAULT", &["DEFAULT", "HEADERS"], "keeps_headers"),
    text("errors.dead.letter.queue.topic.name", None, "dead_letter_topic"),
    not_built("group.protocol", Some("classic")),
    choice(
        "ensure.explicit.internal.resource.naming",
        "false",
        &["true", "false"],
        "ensure_explicit_internal_resource_naming",
    ),
    number("log.summary.interval.ms", Some("120000"), i64::MIN, "log_summary_interval_ms"),
    number("max.task.idle.ms", Some("0"), -1, "max_task_idle_ms"),
    not_built("num.standby.replicas", Some("0")),
    number("num.stream.threads", Some("1"), 1, "num_stream_threads"),
    number("poll.ms", Some("100"), 0, "poll_ms"),
    text("processing.exception.handler", Some("LogAndFailProcessingExceptionHandler"), "handlers"),
    choice("processing.exception.handler.global.enabled", "false", &["true", "false"], "handles_global_errors"),
    choice("processing.guarantee", "at_least_once", &["at_least_once", "exactly_once_v2"], "processing_guarantee"),
    elsewhere("processor.wrapper.class", "give the wrapper itself to StreamsConfig::with_processor_wrapper"),
    text("production.exception.handler", Some("DefaultProductionExceptionHandler"), "handlers"),
    number("repartition.purge.interval.ms", Some("30000"), 0, "repartition_purge_interval_ms"),
    number("replication.factor", Some("-1"), -1, "replication_factor"),
    number("request.timeout.ms", None, 1, "request_timeout_ms"),
    number("retry.backoff.ms", None, 0, "retry_backoff_ms"),
    number("state.cleanup.delay.ms", Some("600000"), 0, "state_cleanup_delay_ms"),
    number("state.cleanup.dir.max.age.ms", Some("-1"), -1, "state_cleanup_dir_max_age_ms"),
    text("state.dir", None, "state_dir"),
    choice("state.mismatch", "refuse", &["refuse", "accept"], "state_mismatch"),
    number("statestore.cache.max.bytes", Some("10485760"), 0, "cache_max_bytes"),
    number("statestore.pending.max.bytes", Some("67108864"), 0, "pending_max_bytes"),
    number("task.timeout.ms", Some("300000"), 0, "task_timeout_ms"),
    text("topology.optimization", Some("none"), "topology_optimization"),
    number(
        "windowstore.changelog.additional.retention.ms",
        Some("86400000"),
        0,
        "windowstore_changelog_additional_retention_ms",
    ),
    // Results are not held back: an interval of 0.
    not_built("__emit.interval.ms.kstreams.outer.join.spurious.results.fix__", Some("0")),
    not_built("__emit.interval.ms.kstreams.windowed.aggregation__", Some("0")),
    text("__internal.override.topic.prefix__", None, "internal_topic_prefix"),
];

pub(crate) fn invalid(message: String) -> StreamsError {
    StreamsError::new(ErrorKind::Config, message)
}

/// The setting of that name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The error of a name that nobody knows.
pub(crate) fn unknown(name: &str) -> StreamsError {
    invalid(match base::nearest(name, SETTINGS.iter().map(|setting| setting.name)) {
        Some(nearest) => format!("{name} is not a setting; did you mean {nearest}?"),
        None => format!("{name} is not a setting of Kafka Streams"),
    })
}

impl Setting {
    /// Refuses a value that is not allowed, and any value that would have no effect.
    pub(crate) fn check(&self, value: &str) -> Result<(), StreamsError> {
        let name = self.name;
        match self.used {
            Use::ReadBy(_) => {}
            Use::NotBuilt(built) if built == Some(value) => {}
            Use::NotBuilt(built) => {
                let remedy = built.map_or_else(|| "leave it out".to_owned(), |built| format!("use {built}"));
                return Err(invalid(format!("{name}={value} is not built yet: {remedy}")));
            }
            Use::Elsewhere(advice) => return Err(invalid(format!("{name} is not set here: {advice}"))),
        }
        match self.values {
            Values::Any => Ok(()),
            Values::NumberFrom(least) => match value.parse::<i64>() {
                Ok(number) if number >= least => Ok(()),
                Ok(_) => Err(invalid(format!("{name} must be at least {least}, not {value}"))),
                Err(_) => Err(invalid(format!("{name} must be a whole number, not {value}"))),
            },
            Values::OneOf(allowed) if allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(value)) => Ok(()),
            Values::OneOf(allowed) => Err(invalid(format!("{name} must be one of {allowed:?}, not {value}"))),
        }
    }
}
