//! Settings of the clients that a stream thread uses: defaults that fit streams, overridden by the application's prefixed settings
//! (`producer.`, `consumer.`, `main.consumer.`, `restore.consumer.`).

use client::consumer::{ConsumerConfig, OffsetReset};
use client::{ClientError, ProducerConfig};

use crate::config::{ProcessingGuarantee, StreamsConfig};
use crate::error::{ErrorKind, StreamsError};

fn bad(prefix: &str, error: &ClientError) -> StreamsError {
    StreamsError::new(ErrorKind::Config, format!("{prefix}*: {error}"))
}

/// The thread's producer. It never lingers: what a round of processing has made goes out at its end, which is a large batch when there is
/// much to do and a small one when there is little.
pub(crate) fn producer(config: &StreamsConfig) -> Result<ProducerConfig, StreamsError> {
    if config.processing_guarantee() == ProcessingGuarantee::ExactlyOnceV2 {
        let message = "processing.guarantee=exactly_once_v2 is not built yet: use at_least_once";
        return Err(StreamsError::new(ErrorKind::Config, message));
    }
    // A commit flushes whole caches at once: twice over, as changelog and as output, with room for the rest.
    let memory = (128usize << 20).max(config.cache_max_bytes().saturating_mul(4));
    let mut settings = ProducerConfig::default().linger_ms(0).batch_size(65_536usize).buffer_memory(memory);
    for (name, value) in config.with_prefix("producer.") {
        settings.set(&name, &value).map_err(|error| bad("producer.", &error))?;
    }
    Ok(settings)
}

/// The consumer of the input topics.
pub(crate) fn main_consumer(config: &StreamsConfig) -> Result<ConsumerConfig, StreamsError> {
    let mut settings = ConsumerConfig::default()
        .group_id(Some(config.application_id().to_owned()))
        .enable_auto_commit(false)
        // The thread resets by itself, as each source says.
        .auto_offset_reset(OffsetReset::None)
        .fetch_max_bytes(4 << 20)
        .max_partition_fetch_bytes(1 << 20)
        .fetch_buffer_bytes(4usize << 20);
    for prefix in ["consumer.", "main.consumer."] {
        for (name, value) in config.with_prefix(prefix) {
            if ["group.id", "enable.auto.commit", "auto.offset.reset"].contains(&name.as_str()) {
                let message = format!("{prefix}{name} is set by the runtime; use application.id or auto.offset.reset");
                return Err(StreamsError::new(ErrorKind::Config, message));
            }
            settings.set(&name, &value).map_err(|error| bad(prefix, &error))?;
        }
    }
    Ok(settings)
}

/// The consumer of the changelogs.
pub(crate) fn restore_consumer(config: &StreamsConfig) -> Result<ConsumerConfig, StreamsError> {
    let mut settings = ConsumerConfig::default()
        .enable_auto_commit(false)
        .auto_offset_reset(OffsetReset::Earliest)
        .fetch_max_bytes(8 << 20)
        .max_partition_fetch_bytes(2 << 20)
        .fetch_buffer_bytes(8usize << 20);
    for (name, value) in config.with_prefix("restore.consumer.") {
        settings.set(&name, &value).map_err(|error| bad("restore.consumer.", &error))?;
    }
    Ok(settings)
}
