//! Settings of the clients of an application: defaults that fit streams, then the application's own (`request.timeout.ms`), then those
//! behind a client's prefix (`producer.`, `consumer.`, `main.consumer.`, `restore.consumer.`,
//! `global.consumer.`, `admin.`).
//!
//! Threads share one client and so its connections, each of their cores with a `client.id` of its own; administration has another.

use client::consumer::{ConsumerConfig, OffsetReset};
use client::{Client, ClientConfig, ClientError, ProducerConfig};

use crate::config::{ProcessingGuarantee, StreamsConfig};
use crate::error::{ErrorKind, StreamsError};

/// Settings of clients that the runtime sets, or that nothing in a stream thread uses: prefix, names, what to do instead.
const REFUSED: &[(&str, &[&str], &str)] = &[
    ("", &["client.id"], "the runtime names its clients: use client.id without prefix"),
    ("consumer.", &["group.id"], "it is the application's id: use application.id"),
    ("consumer.", &["enable.auto.commit", "auto.commit.interval.ms"], "the runtime commits: use commit.interval.ms"),
    ("consumer.", &["auto.offset.reset"], "use auto.offset.reset without prefix"),
    ("consumer.", &["group.protocol"], "use group.protocol without prefix"),
    (
        "consumer.",
        &["partition.assignment.strategy", "group.remote.assignor"],
        "the runtime assigns whole tasks: leave it out",
    ),
    ("consumer.", &["max.poll.records"], "whole batches are taken: use buffered.records.per.partition"),
    ("consumer.", &["exclude.internal.topics"], "topics are read by name: leave it out"),
    ("restore.consumer.", NAMES_OF_MEMBERS, "changelogs are read outside any group: use main.consumer."),
    ("global.consumer.", NAMES_OF_MEMBERS, "global stores are read outside any group: use main.consumer."),
    (
        "producer.",
        &["transactional.id", "transaction.timeout.ms"],
        "stream threads do not send in transactions of their own: leave it out",
    ),
    ("admin.", NAMES_OF_SOCKETS, "the application's clients connect as the Client that it is given: set it there"),
];
const NAMES_OF_MEMBERS: &[&str] =
    &["group.instance.id", "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms"];
const NAMES_OF_SOCKETS: &[&str] =
    &["bootstrap.servers", "send.buffer.bytes", "receive.buffer.bytes", "security.protocol"];

/// Prefixes of what is not built yet.
const NOT_BUILT: &[(&str, &str)] = &[("client.tag.", "standby replicas are not built yet")];

/// Whether `name` has the prefix of a client.
///
/// # Errors
/// It has, and the client has no such setting (the message names the nearest), the value is bad, or nothing would use it.
pub(crate) fn check_client_setting(name: &str, value: &str) -> Result<bool, StreamsError> {
    if let Some((_, reason)) = NOT_BUILT.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Err(StreamsError::new(ErrorKind::Config, format!("{name} has no effect: {reason}")));
    }
    let prefixes = ["main.consumer.", "restore.consumer.", "global.consumer.", "consumer.", "producer.", "admin."];
    let Some(prefix) = prefixes.into_iter().find(|prefix| name.starts_with(prefix)) else { return Ok(false) };
    let key = &name[prefix.len()..];
    if let Some((_, _, advice)) = REFUSED.iter().find(|(part, names, _)| prefix.ends_with(part) && names.contains(&key))
    {
        return Err(StreamsError::new(ErrorKind::Config, format!("{name} is not set here: {advice}")));
    }
    let checked = match prefix {
        "producer." => ProducerConfig::default().set(key, value),
        "admin." => ClientConfig::default().set(key, value),
        _ => ConsumerConfig::default().set(key, value),
    };
    let is_of_connections = ClientConfig::NAMES.contains(&key);
    checked.map(|()| true).map_err(|error| match prefix {
        "producer." if is_of_connections && !ProducerConfig::NAMES.contains(&key) => of_connections(name),
        "producer." | "admin." => bad(prefix, &error),
        _ if is_of_connections && !ConsumerConfig::NAMES.contains(&key) => of_connections(name),
        _ => bad(prefix, &error),
    })
}

fn bad(prefix: &str, error: &ClientError) -> StreamsError {
    StreamsError::new(ErrorKind::Config, format!("{prefix}*: {error}"))
}

fn of_connections(name: &str) -> StreamsError {
    let advice = "stream threads share their connections: set it on the Client that the application is given";
    StreamsError::new(ErrorKind::Config, format!("{name} is not set here: {advice}"))
}

/// `client.id`, or application id and process id as Kafka Streams joins them.
fn client_id(config: &StreamsConfig, process_id: [u8; 16]) -> String {
    match config.client_id() {
        Some(given) => given.to_owned(),
        None => format!("{}-{}", config.application_id(), uuid::Uuid::from_bytes(process_id)),
    }
}

fn shared(config: &StreamsConfig, given: &Client, client_id: String) -> ClientConfig {
    let mut settings = given.config().clone().client_id(client_id);
    if let Some(ms) = config.request_timeout_ms() {
        settings = settings.request_timeout_ms(ms);
    }
    if let Some(ms) = config.retry_backoff_ms() {
        settings = settings.retry_backoff_ms(ms);
    }
    settings
}

/// The client that all stream threads share.
pub(crate) fn threads(config: &StreamsConfig, given: &Client, process_id: [u8; 16]) -> Result<Client, StreamsError> {
    let settings = shared(config, given, client_id(config, process_id));
    given.sibling(settings).map_err(|error| StreamsError::caused_by(ErrorKind::Config, error))
}

/// The client of administration: internal topics, purging, members that are dead.
pub(crate) fn admin(config: &StreamsConfig, given: &Client, process_id: [u8; 16]) -> Result<Client, StreamsError> {
    let mut settings = shared(config, given, format!("{}-admin", client_id(config, process_id)));
    for (name, value) in config.with_prefix("admin.") {
        settings.set(&name, &value).map_err(|error| bad("admin.", &error))?;
    }
    given.sibling(settings).map_err(|error| bad("admin.", &error))
}

/// The producer of the thread of that name. It never lingers: what a round of processing has made goes out at its end, which is a large
/// batch when there is much to do and a small one when there is little.
pub(crate) fn producer(config: &StreamsConfig, thread: &str) -> Result<ProducerConfig, StreamsError> {
    if config.processing_guarantee() == ProcessingGuarantee::ExactlyOnceV2 {
        let message = "processing.guarantee=exactly_once_v2 is not built yet: use at_least_once";
        return Err(StreamsError::new(ErrorKind::Config, message));
    }
    // A commit flushes whole caches at once: twice over, as changelog and as output, with room for the rest.
    let memory = (128usize << 20).max(config.cache_max_bytes().saturating_mul(4));
    let mut settings = ProducerConfig::default()
        .client_id(Some(format!("{thread}-producer")))
        .linger_ms(0)
        .batch_size(65_536usize)
        .buffer_memory(memory);
    if let Some(ms) = config.request_timeout_ms() {
        settings = settings.request_timeout_ms(ms);
    }
    if let Some(ms) = config.retry_backoff_ms() {
        settings = settings.retry_backoff_ms(ms);
    }
    for (name, value) in config.with_prefix("producer.") {
        settings.set(&name, &value).map_err(|error| bad("producer.", &error))?;
    }
    Ok(settings)
}

/// The consumer of the input topics, of the thread of that name and number (from 0).
pub(crate) fn main_consumer(
    config: &StreamsConfig,
    thread: &str,
    index: usize,
) -> Result<ConsumerConfig, StreamsError> {
    let settings = ConsumerConfig::default()
        .client_id(Some(format!("{thread}-consumer")))
        .group_id(Some(config.application_id().to_owned()))
        .enable_auto_commit(false)
        // The thread resets by itself, as each source says.
        .auto_offset_reset(OffsetReset::None)
        .fetch_max_bytes(4 << 20)
        .max_partition_fetch_bytes(1 << 20)
        .fetch_buffer_bytes(4usize << 20);
    let mut settings = overridden(settings, config, &["consumer.", "main.consumer."])?;
    // One member a thread, each with a name of its own.
    settings.group_instance_id = settings.group_instance_id.map(|name| format!("{name}-{}", index + 1));
    Ok(settings)
}

/// The consumer of the changelogs.
pub(crate) fn restore_consumer(config: &StreamsConfig, thread: &str) -> Result<ConsumerConfig, StreamsError> {
    let settings = ConsumerConfig::default()
        .client_id(Some(format!("{thread}-restore-consumer")))
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest)
        .fetch_max_bytes(8 << 20)
        .max_partition_fetch_bytes(2 << 20)
        .fetch_buffer_bytes(8usize << 20);
    overridden(settings, config, &["consumer.", "restore.consumer."])
}

/// The consumer of the topics of global stores.
pub(crate) fn global_consumer(config: &StreamsConfig, thread: &str) -> Result<ConsumerConfig, StreamsError> {
    let settings = ConsumerConfig::default()
        .client_id(Some(format!("{thread}-global-consumer")))
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::None)
        .fetch_max_bytes(8 << 20)
        .max_partition_fetch_bytes(2 << 20)
        .fetch_buffer_bytes(8usize << 20);
    overridden(settings, config, &["consumer.", "global.consumer."])
}

fn overridden(
    mut settings: ConsumerConfig,
    config: &StreamsConfig,
    prefixes: &[&str],
) -> Result<ConsumerConfig, StreamsError> {
    if let Some(ms) = config.retry_backoff_ms() {
        settings = settings.retry_backoff_ms(ms);
    }
    for prefix in prefixes {
        for (name, value) in config.with_prefix(prefix) {
            settings.set(&name, &value).map_err(|error| bad(prefix, &error))?;
        }
    }
    Ok(settings)
}
