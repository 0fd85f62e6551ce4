//! Configuration of an application, under Kafka Streams' names. A name that nobody knows is refused, with the nearest
//! known one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{ErrorKind, StreamsError};
use crate::processor::handlers::{DeserializationHandler, LogAndContinue, ProcessingHandler, ProductionHandler};
use crate::task::shared::Handlers;

/// How often a record's effects may show after failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcessingGuarantee {
    /// At least once.
    #[default]
    AtLeastOnce,
    /// Exactly once, by transactions.
    ExactlyOnceV2,
}

/// Settings this crate uses: name, default, what it means.
const KNOWN: &[(&str, Option<&str>)] = &[
    ("application.id", None),
    ("application.server", None),
    ("auto.offset.reset", Some("earliest")),
    ("bootstrap.servers", None),
    ("buffered.records.per.partition", Some("1000")),
    ("cache.max.bytes.buffering", None),
    ("client.id", None),
    ("commit.interval.ms", Some("100")),
    ("default.deserialization.exception.handler", None),
    ("default.dsl.store", Some("rocksDB")),
    ("default.production.exception.handler", None),
    ("deserialization.exception.handler", Some("LogAndFailExceptionHandler")),
    ("dsl.store.format", Some("DEFAULT")),
    ("errors.dead.letter.queue.topic.name", None),
    ("group.protocol", Some("classic")),
    ("max.task.idle.ms", Some("0")),
    ("num.standby.replicas", Some("0")),
    ("num.stream.threads", Some("1")),
    ("poll.ms", Some("100")),
    ("processing.exception.handler", Some("LogAndFailProcessingExceptionHandler")),
    ("processing.guarantee", Some("at_least_once")),
    ("production.exception.handler", Some("DefaultProductionExceptionHandler")),
    ("repartition.purge.interval.ms", Some("30000")),
    ("replication.factor", Some("-1")),
    ("request.timeout.ms", Some("40000")),
    ("retry.backoff.ms", Some("100")),
    ("state.cleanup.delay.ms", Some("600000")),
    ("state.dir", None),
    ("statestore.cache.max.bytes", Some("10485760")),
    ("statestore.pending.max.bytes", Some("67108864")),
    ("task.timeout.ms", Some("300000")),
    ("topology.optimization", Some("none")),
    ("windowstore.changelog.additional.retention.ms", Some("86400000")),
    ("__emit.interval.ms.kstreams.outer.join.spurious.results.fix__", Some("1000")),
    ("__emit.interval.ms.kstreams.windowed.aggregation__", Some("1000")),
    ("__internal.override.topic.prefix__", None),
];

/// Settings of which only one value, or none, is built.
const NOT_BUILT: &[(&str, Option<&str>)] = &[
    ("default.dsl.store", Some("rocksDB")),
    ("dsl.store.format", Some("DEFAULT")),
    ("errors.dead.letter.queue.topic.name", None),
    ("group.protocol", Some("classic")),
    ("num.standby.replicas", Some("0")),
    ("topology.optimization", Some("none")),
];

/// Settings behind these prefixes are handed on: to the clients, to internal topics, to the assignor.
const PREFIXES: &[&str] = &[
    "main.consumer.",
    "restore.consumer.",
    "global.consumer.",
    "consumer.",
    "producer.",
    "admin.",
    "topic.",
    "client.tag.",
];

/// Configuration of one application; cheap to clone.
///
/// ```
/// use streams_core::StreamsConfig;
///
/// let config = StreamsConfig::new("word-count").with("num.stream.threads", 2)?.with("producer.linger.ms", 5)?;
/// assert_eq!(config.num_stream_threads(), 2);
/// let error = StreamsConfig::new("word-count").with("num.stream.thread", 2).unwrap_err();
/// assert!(error.to_string().contains("num.stream.threads"));
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
#[derive(Clone)]
pub struct StreamsConfig {
    values: Arc<BTreeMap<String, String>>,
    topic_defaults: Arc<BTreeMap<String, String>>,
    handlers: Handlers,
}

impl fmt::Debug for StreamsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.values.iter()).finish()
    }
}

fn invalid(message: String) -> StreamsError {
    StreamsError::new(ErrorKind::Config, message)
}

impl StreamsConfig {
    /// The defaults, for an application of that id: the name of its consumer group and the prefix of its topics.
    pub fn new(application_id: impl Into<String>) -> Self {
        let values = BTreeMap::from([("application.id".to_owned(), application_id.into())]);
        Self { values: Arc::new(values), topic_defaults: Arc::default(), handlers: Handlers::default() }
    }

    /// From settings by name, as a properties file has them.
    ///
    /// # Errors
    /// A name is unknown, a value bad, or `application.id` missing.
    pub fn from_properties<N, V>(properties: impl IntoIterator<Item = (N, V)>) -> Result<Self, StreamsError>
    where
        N: AsRef<str>,
        V: fmt::Display,
    {
        let mut config = Self::new("");
        for (name, value) in properties {
            config = config.with(name.as_ref(), value)?;
        }
        if config.application_id().is_empty() {
            return Err(invalid(
                "application.id is missing: it names the consumer group and prefixes internal topics".into(),
            ));
        }
        Ok(config)
    }

    /// With `name` set to `value`.
    ///
    /// # Errors
    /// The name is unknown (the message names the nearest) or the value bad.
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Result<Self, StreamsError> {
        let value = value.to_string();
        if let Some(topic_config) = name.strip_prefix("topic.") {
            Arc::make_mut(&mut self.topic_defaults).insert(topic_config.to_owned(), value.clone());
        } else if !PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            self.check(name, &value)?;
        }
        self.set_handler(name, &value)?;
        Arc::make_mut(&mut self.values).insert(name.to_owned(), value);
        Ok(self)
    }

    fn check(&self, name: &str, value: &str) -> Result<(), StreamsError> {
        let Some((_, default)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            return Err(invalid(match base::nearest(name, KNOWN.iter().map(|(known, _)| *known)) {
                Some(nearest) => format!("{name} is not a setting; did you mean {nearest}?"),
                None => format!("{name} is not a setting of Kafka Streams"),
            }));
        };
        if let Some((_, built)) = NOT_BUILT.iter().find(|(known, built)| *known == name && *built != Some(value)) {
            let remedy = built.map_or_else(|| "leave it out".to_owned(), |built| format!("use {built}"));
            return Err(invalid(format!("{name}={value} is not built yet: {remedy}")));
        }
        if default.is_some_and(|default| default.parse::<i64>().is_ok()) && value.parse::<i64>().is_err() {
            return Err(invalid(format!("{name} must be a whole number, not {value}")));
        }
        let allowed: &[&str] = match name {
            "processing.guarantee" => &["at_least_once", "exactly_once_v2"],
            "auto.offset.reset" => &["earliest", "latest", "none"],
            _ => return Ok(()),
        };
        if allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(value)) {
            return Ok(());
        }
        Err(invalid(format!("{name} must be one of {allowed:?}, not {value}")))
    }

    /// Handlers by the names that Kafka Streams gives its built-in ones.
    fn set_handler(&mut self, name: &str, value: &str) -> Result<(), StreamsError> {
        let is_handler = name.ends_with("exception.handler");
        if !is_handler {
            return Ok(());
        }
        let class = value.rsplit('.').next().unwrap_or(value);
        let resume = class.starts_with("LogAndContinue");
        if !resume && !class.starts_with("LogAndFail") && class != "DefaultProductionExceptionHandler" {
            return Err(invalid(format!(
                "{name} must be a LogAndFail.. or LogAndContinue.. handler, not {value}; others are set in code"
            )));
        }
        match name {
            "deserialization.exception.handler" | "default.deserialization.exception.handler" if resume => {
                self.handlers.deserialization = Arc::new(LogAndContinue);
            }
            "processing.exception.handler" if resume => self.handlers.processing = Arc::new(LogAndContinue),
            "production.exception.handler" | "default.production.exception.handler" if resume => {
                self.handlers.production = Arc::new(LogAndContinue);
            }
            _ => {}
        }
        Ok(())
    }

    /// With that handler for source records that cannot be deserialised.
    #[must_use]
    pub fn with_deserialization_handler(mut self, handler: impl DeserializationHandler + 'static) -> Self {
        self.handlers.deserialization = Arc::new(handler);
        self
    }

    /// With that handler for errors of processors.
    #[must_use]
    pub fn with_processing_handler(mut self, handler: impl ProcessingHandler + 'static) -> Self {
        self.handlers.processing = Arc::new(handler);
        self
    }

    /// With that handler for output that cannot be written.
    #[must_use]
    pub fn with_production_handler(mut self, handler: impl ProductionHandler + 'static) -> Self {
        self.handlers.production = Arc::new(handler);
        self
    }

    /// The exception handlers.
    pub fn handlers(&self) -> &Handlers {
        &self.handlers
    }

    /// The value of a setting, or its default; `None` if it has neither.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .or_else(|| KNOWN.iter().find(|(known, _)| *known == name).and_then(|(_, default)| *default))
    }

    /// Settings behind `prefix` (`producer.`), without it.
    pub fn with_prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        self.values
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())))
            .collect()
    }

    /// Whether a setting was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn number(&self, name: &str) -> i64 {
        // Values were checked when they were set, and numeric settings have a numeric default.
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// `application.id`.
    pub fn application_id(&self) -> &str {
        self.get("application.id").unwrap_or_default()
    }

    /// What internal topics' names begin with: the application id unless overridden.
    pub fn internal_topic_prefix(&self) -> &str {
        self.get("__internal.override.topic.prefix__").unwrap_or_else(|| self.application_id())
    }

    /// `commit.interval.ms`; here 100 by default under both guarantees.
    pub fn commit_interval_ms(&self) -> i64 {
        self.number("commit.interval.ms")
    }

    /// `processing.guarantee`.
    pub fn processing_guarantee(&self) -> ProcessingGuarantee {
        match self.get("processing.guarantee") {
            Some("exactly_once_v2") => ProcessingGuarantee::ExactlyOnceV2,
            _ => ProcessingGuarantee::AtLeastOnce,
        }
    }

    /// `num.stream.threads`.
    pub fn num_stream_threads(&self) -> usize {
        self.number("num.stream.threads").max(1) as usize
    }

    /// `num.standby.replicas`.
    pub fn num_standby_replicas(&self) -> usize {
        self.number("num.standby.replicas").max(0) as usize
    }

    /// `max.task.idle.ms`.
    pub fn max_task_idle_ms(&self) -> i64 {
        self.number("max.task.idle.ms")
    }

    /// `buffered.records.per.partition`.
    pub fn buffered_records_per_partition(&self) -> usize {
        self.number("buffered.records.per.partition").max(1) as usize
    }

    /// `statestore.cache.max.bytes`: caches of all threads together. The old name counts where the new one is not set.
    pub fn cache_max_bytes(&self) -> usize {
        let name = if !self.is_set("statestore.cache.max.bytes") && self.is_set("cache.max.bytes.buffering") {
            "cache.max.bytes.buffering"
        } else {
            "statestore.cache.max.bytes"
        };
        self.number(name).max(0) as usize
    }

    /// `statestore.pending.max.bytes` (ours): changes of one commit interval that may wait in memory, over all threads;
    /// reaching it commits early.
    pub fn pending_max_bytes(&self) -> usize {
        self.number("statestore.pending.max.bytes").max(0) as usize
    }

    /// `state.dir`, by default `millstream` in the platform's directory for temporary files.
    pub fn state_dir(&self) -> PathBuf {
        self.get("state.dir").map_or_else(|| std::env::temp_dir().join("millstream"), PathBuf::from)
    }

    /// `windowstore.changelog.additional.retention.ms`.
    pub fn windowstore_changelog_additional_retention_ms(&self) -> i64 {
        self.number("windowstore.changelog.additional.retention.ms")
    }

    /// `replication.factor` of internal topics; -1 is the broker's default.
    pub fn replication_factor(&self) -> i16 {
        self.number("replication.factor").clamp(-1, i64::from(i16::MAX)) as i16
    }

    /// `repartition.purge.interval.ms`: how often records of repartition topics that all readers have committed are deleted.
    pub fn repartition_purge_interval_ms(&self) -> i64 {
        self.number("repartition.purge.interval.ms")
    }

    /// `task.timeout.ms`.
    pub fn task_timeout_ms(&self) -> i64 {
        self.number("task.timeout.ms")
    }

    /// `topic.` settings, without the prefix: configuration of internal topics.
    pub fn topic_defaults(&self) -> &BTreeMap<String, String> {
        &self.topic_defaults
    }
}
