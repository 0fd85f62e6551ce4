//! Configuration of an application, under Kafka Streams' names. A name that nobody knows is refused, with the nearest
//! known one; so is one that would have no effect.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use storage::log::LogConfig;

use self::settings::invalid;
use crate::error::StreamsError;
use crate::processor::extractor::DefaultExtractor;
use crate::processor::handlers::{DeserializationHandler, LogAndContinue, ProcessingHandler, ProductionHandler};
use crate::processor::wrapper::ProcessorWrapper;
use crate::runtime::check_client_setting;
use crate::store::Storage;
use crate::task::shared::Handlers;
use crate::topology::builder::check_name;
use crate::topology::{AutoOffsetReset, Optimization};

mod settings;

pub use settings::{SETTINGS, Setting, Use};

/// How often a record's effects may show after failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcessingGuarantee {
    /// At least once.
    #[default]
    AtLeastOnce,
    /// Exactly once, by transactions.
    ExactlyOnceV2,
}

/// What becomes of a start that would lose existing state or misread it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateMismatch {
    /// It is refused, with the name of the store and what keeps its state.
    #[default]
    Refuse,
    /// It goes on; what would be lost is logged.
    Accept,
}

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
    processor_wrapper: Option<Arc<dyn ProcessorWrapper>>,
}

impl fmt::Debug for StreamsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.values.iter()).finish()
    }
}

impl StreamsConfig {
    /// The defaults, for an application of that id: the name of its consumer group and the prefix of its topics.
    pub fn new(application_id: impl Into<String>) -> Self {
        let values = BTreeMap::from([("application.id".to_owned(), application_id.into())]);
        Self {
            values: Arc::new(values),
            topic_defaults: Arc::default(),
            handlers: Handlers::default(),
            processor_wrapper: None,
        }
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
    /// The name is unknown (the message names the nearest), the value bad, or it would have no effect.
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Result<Self, StreamsError> {
        let value = value.to_string();
        if let Some(topic_config) = name.strip_prefix("topic.") {
            LogConfig::from_map([(topic_config, value.as_str())])
                .map_err(|error| invalid(format!("topic.*: {}", error.message())))?;
            Arc::make_mut(&mut self.topic_defaults).insert(topic_config.to_owned(), value.clone());
        } else if !check_client_setting(name, &value)? {
            settings::find(name).ok_or_else(|| settings::unknown(name))?.check(&value)?;
        }
        self.set_handler(name, &value)?;
        match name {
            "topology.optimization" => drop(Optimization::parse(&value)?),
            "default.timestamp.extractor" => drop(DefaultExtractor::named(&value)?),
            "errors.dead.letter.queue.topic.name" => check_name("dead letter topic", &value)?,
            _ => {}
        }
        Arc::make_mut(&mut self.values).insert(name.to_owned(), value);
        Ok(self)
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

    /// With that wrapper around every processor: Kafka Streams' `processor.wrapper.class`.
    #[must_use]
    pub fn with_processor_wrapper(mut self, wrapper: impl ProcessorWrapper + 'static) -> Self {
        self.processor_wrapper = Some(Arc::new(wrapper));
        self
    }

    /// What is around every processor.
    pub fn processor_wrapper(&self) -> Option<&Arc<dyn ProcessorWrapper>> {
        self.processor_wrapper.as_ref()
    }

    /// The exception handlers.
    pub fn handlers(&self) -> &Handlers {
        &self.handlers
    }

    /// The value of a setting, or its default; `None` if it has neither.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).or_else(|| settings::find(name)?.default)
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

    fn number_if_set(&self, name: &str) -> Option<i64> {
        // Values were checked when they were set.
        self.get(name)?.parse().ok()
    }

    fn number(&self, name: &str) -> i64 {
        // Numeric settings that are read here have a numeric default.
        self.number_if_set(name).unwrap_or_default()
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
            Some(guarantee) if guarantee.eq_ignore_ascii_case("exactly_once_v2") => ProcessingGuarantee::ExactlyOnceV2,
            _ => ProcessingGuarantee::AtLeastOnce,
        }
    }

    /// `num.stream.threads`.
    pub fn num_stream_threads(&self) -> usize {
        self.number("num.stream.threads").max(1) as usize
    }

    /// `auto.offset.reset`: where to begin in source topics without a committed offset.
    pub fn auto_offset_reset(&self) -> AutoOffsetReset {
        match self.get("auto.offset.reset") {
            Some(policy) if policy.eq_ignore_ascii_case("latest") => AutoOffsetReset::Latest,
            Some(policy) if policy.eq_ignore_ascii_case("none") => AutoOffsetReset::None,
            _ => AutoOffsetReset::Earliest,
        }
    }

    /// `errors.dead.letter.queue.topic.name`: where records go that could not be read, processed or written.
    pub fn dead_letter_topic(&self) -> Option<&str> {
        self.get("errors.dead.letter.queue.topic.name")
    }

    /// `default.timestamp.extractor`: how sources that say nothing of it get timestamps.
    pub fn default_timestamp_extractor(&self) -> DefaultExtractor {
        // Checked when it was set.
        let given = self.get("default.timestamp.extractor").and_then(|name| DefaultExtractor::named(name).ok());
        given.unwrap_or_default()
    }

    /// `ensure.explicit.internal.resource.naming`: whether the DSL refuses stores and internal topics with generated names.
    pub fn ensure_explicit_internal_resource_naming(&self) -> bool {
        self.get("ensure.explicit.internal.resource.naming").is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// `topology.optimization`.
    pub fn topology_optimization(&self) -> Optimization {
        // Checked when it was set.
        self.get("topology.optimization").and_then(|text| Optimization::parse(text).ok()).unwrap_or_default()
    }

    /// `default.dsl.store`: where stores of the DSL are kept that say nothing of it.
    pub fn default_dsl_store(&self) -> Storage {
        match self.get("default.dsl.store") {
            Some(store) if store.eq_ignore_ascii_case("in_memory") => Storage::InMemory,
            _ => Storage::Persistent,
        }
    }

    /// `dsl.store.format`: whether stores that the DSL makes keep headers, where nothing else is said of them.
    pub fn keeps_headers(&self) -> bool {
        self.get("dsl.store.format").is_some_and(|format| format.eq_ignore_ascii_case("headers"))
    }

    /// `client.id`: what the names of the application's clients begin with; by default application id and process id.
    pub fn client_id(&self) -> Option<&str> {
        self.get("client.id")
    }

    /// `request.timeout.ms` of the application's clients; by default that of the client it is given.
    pub fn request_timeout_ms(&self) -> Option<i64> {
        self.number_if_set("request.timeout.ms")
    }

    /// `retry.backoff.ms` of the application's clients; by default that of the client it is given.
    pub fn retry_backoff_ms(&self) -> Option<i64> {
        self.number_if_set("retry.backoff.ms")
    }

    /// `poll.ms`: how long a stream thread sleeps at most when nothing is due and nothing wakes it.
    pub fn poll_ms(&self) -> i64 {
        self.number("poll.ms")
    }

    /// `state.cleanup.delay.ms`: for how long the local state of a task that is not here is kept.
    pub fn state_cleanup_delay_ms(&self) -> i64 {
        self.number("state.cleanup.delay.ms")
    }

    /// `state.cleanup.dir.max.age.ms`: at the start, local state that was not written for so long is removed; `None` keeps all.
    pub fn state_cleanup_dir_max_age_ms(&self) -> Option<i64> {
        Some(self.number("state.cleanup.dir.max.age.ms")).filter(|age| *age >= 0)
    }

    /// `log.summary.interval.ms`: how often a stream thread logs how much it has done; `None` for never.
    pub fn log_summary_interval_ms(&self) -> Option<i64> {
        Some(self.number("log.summary.interval.ms")).filter(|interval| *interval > 0)
    }

    /// `task.timeout.ms`: for how long a task repeats what brokers do not answer before its thread fails; with 0 it does not.
    pub fn task_timeout_ms(&self) -> i64 {
        self.number("task.timeout.ms")
    }

    /// `processing.exception.handler.global.enabled`: whether errors of processors of global stores go to the processing handler, too. A
    /// store then leaves out what the handler drops; dead letters are not written there. By default such errors are fatal.
    pub fn handles_global_errors(&self) -> bool {
        self.get("processing.exception.handler.global.enabled").is_some_and(|text| text.eq_ignore_ascii_case("true"))
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

    /// `state.mismatch` (ours): whether a start that would lose state which an earlier topology left, or misread it, is refused.
    ///
    /// ```
    /// use streams_core::config::{StateMismatch, StreamsConfig};
    ///
    /// let config = StreamsConfig::new("word-count");
    /// assert_eq!(config.state_mismatch(), StateMismatch::Refuse);
    /// assert_eq!(config.with("state.mismatch", "accept")?.state_mismatch(), StateMismatch::Accept);
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn state_mismatch(&self) -> StateMismatch {
        match self.get("state.mismatch") {
            Some(choice) if choice.eq_ignore_ascii_case("accept") => StateMismatch::Accept,
            _ => StateMismatch::Refuse,
        }
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

    /// `topic.` settings, without the prefix: configuration of internal topics.
    pub fn topic_defaults(&self) -> &BTreeMap<String, String> {
        &self.topic_defaults
    }
}
