//! Settings of a producer, under Kafka's names and with Kafka's defaults.

use protocol::record::Compression;

use crate::config::{Property, at_least, properties};
use crate::error::ClientError;

/// Who must have a record before it counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nobody: handed over is enough; no offsets are known, losses go unnoticed.
    None,
    /// The partition's leader.
    Leader,
    /// All in-sync replicas, and with `durability=power` the disk.
    All,
}

impl Acks {
    pub(super) const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

impl Property for Acks {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "0" => Ok(Self::None),
            "1" => Ok(Self::Leader),
            "all" | "-1" => Ok(Self::All),
            _ => Err("must be 0, 1 or all".into()),
        }
    }
}

impl Property for Compression {
    fn parse(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| "must be none, gzip, snappy, lz4 or zstd".into())
    }
}

impl Property for Option<bool> {
    fn parse(text: &str) -> Result<Self, String> {
        bool::parse(text).map(Some)
    }
}

properties! {
    /// Settings of a [`ProducerCore`](super::ProducerCore) or a [`Producer`](super::Producer).
    pub struct ProducerConfig {
        /// Name given with its requests; without one, the client's.
        "client.id" => client_id: Option<String> = None;
        /// Who must have a record before it counts as written.
        "acks" => acks: Acks = Acks::All;
        /// Bytes (before compression) at which an open batch is closed and sent.
        "batch.size" => batch_size: usize = 16_384;
        /// How long an open batch waits for more records, in milliseconds; 0: until the next step.
        "linger.ms" => linger_ms: i64 = 5, check at_least!(0);
        /// Bytes of records not yet acknowledged that the producer holds at most.
        "buffer.memory" => buffer_memory: usize = 33_554_432, check at_least!(1);
        /// Largest record, and largest request unless one batch alone is larger.
        "max.request.size" => max_request_size: usize = 1_048_576, check at_least!(1);
        /// How long a record may take from being sent to being acknowledged, with all retries.
        "delivery.timeout.ms" => delivery_timeout_ms: i64 = 120_000, check at_least!(1);
        /// How long one produce request may take.
        "request.timeout.ms" => request_timeout_ms: i64 = 30_000, check at_least!(1);
        /// How often a batch is sent again after a failure that may pass.
        "retries" => retries: u32 = i32::MAX as u32;
        /// First wait before a batch is sent again; doubles with each failure.
        "retry.backoff.ms" => retry_backoff_ms: i64 = 100, check at_least!(0);
        /// Longest wait before a batch is sent again.
        "retry.backoff.max.ms" => retry_backoff_max_ms: i64 = 1_000, check at_least!(0);
        /// Codec of the batches.
        "compression.type" => compression_type: Compression = Compression::None;
        /// Whether brokers keep each record exactly once and in order across retries; by default whenever `acks`,
        /// `retries` and the requests in flight allow it.
        "enable.idempotence" => enable_idempotence: Option<bool> = None;
        /// Name under which this producer's transactions are known across restarts; with it, records are sent in
        /// transactions only.
        "transactional.id" => transactional_id: Option<String> = None;
        /// How long a transaction may take before the brokers abort it.
        "transaction.timeout.ms" => transaction_timeout_ms: i32 = 60_000, check at_least!(1);
        /// Produce requests under way to one broker.
        "max.in.flight.requests.per.connection" => max_in_flight: usize = 5, check at_least!(1);
        /// How long `send` of a [`Producer`](super::Producer) waits for memory or for the topic's partitions.
        "max.block.ms" => max_block_ms: i64 = 60_000, check at_least!(0);
    }
}

impl ProducerConfig {
    /// Whether batches carry producer id and sequence.
    ///
    /// # Errors
    /// `Config` if it is asked for and another setting forbids it.
    pub(super) fn idempotent(&self) -> Result<bool, ClientError> {
        let obstacle = if self.acks != Acks::All {
            Some("acks=all")
        } else if self.max_in_flight > 5 {
            Some("max.in.flight.requests.per.connection of at most 5")
        } else if self.retries == 0 {
            Some("retries above 0")
        } else {
            None
        };
        let refused = |needed| Err(ClientError::Config(format!("transactional.id needs {needed}")));
        match (self.enable_idempotence, obstacle) {
            (Some(false), _) if self.transactional_id.is_some() => refused("enable.idempotence=true"),
            (_, Some(needed)) if self.transactional_id.is_some() => refused(needed),
            (Some(true), Some(needed)) => Err(ClientError::Config(format!("enable.idempotence=true needs {needed}"))),
            (Some(wanted), _) => Ok(wanted),
            (None, obstacle) => Ok(obstacle.is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotence_is_on_unless_another_setting_forbids_it() {
        assert!(ProducerConfig::default().idempotent().unwrap());
        assert!(!ProducerConfig::default().acks(Acks::Leader).idempotent().unwrap());
        let contradiction = ProducerConfig::from_properties([("acks", "1"), ("enable.idempotence", "true")]).unwrap();
        assert_eq!(
            contradiction.idempotent().unwrap_err().to_string(),
            "configuration: enable.idempotence=true needs acks=all"
        );
    }

    #[test]
    fn kafkas_words_for_values_are_understood() {
        let config =
            ProducerConfig::from_properties([("acks", "-1"), ("compression.type", "zstd"), ("linger.ms", "0")])
                .unwrap();
        assert_eq!((config.acks, config.compression_type, config.linger_ms), (Acks::All, Compression::Zstd, 0));
        let error = ProducerConfig::from_properties([("compression.type", "rar")]).unwrap_err();
        assert!(error.to_string().contains("must be none, gzip, snappy, lz4 or zstd"), "{error}");
    }
}
