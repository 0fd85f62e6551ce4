//! Settings of a consumer under Kafka's names.

use crate::config::{Property, at_least, properties};
use crate::error::ClientError;

use super::types::OffsetReset;

/// Which records a consumer sees (`isolation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All up to the high watermark, those of open and aborted transactions included.
    ReadUncommitted,
    /// Up to the last stable offset, without those of aborted transactions.
    ReadCommitted,
}

impl Property for IsolationLevel {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "read_uncommitted" => Ok(Self::ReadUncommitted),
            "read_committed" => Ok(Self::ReadCommitted),
            _ => Err("must be read_uncommitted or read_committed".into()),
        }
    }
}

impl Property for OffsetReset {
    fn parse(text: &str) -> Result<Self, String> {
        OffsetReset::parse(text)
    }
}

properties! {
    /// Settings of a [`Consumer`](super::Consumer) or a [`ConsumerCore`](super::ConsumerCore); those of its connections
    /// are [`ClientConfig`](crate::ClientConfig)'s.
    pub struct ConsumerConfig {
        /// Name given with its requests, and the beginning of its member id; without one, the client's.
        "client.id" => client_id: Option<String> = None;
        /// The group to join and to commit offsets for. Without one there are only `assign` and `seek`.
        "group.id" => group_id: Option<String> = None;
        /// Makes the member static: a restart under the same name does not rebalance the group.
        "group.instance.id" => group_instance_id: Option<String> = None;
        /// How the group is coordinated. Only `classic` so far.
        "group.protocol" => group_protocol: String = "classic".to_owned(), check |value| match value.as_str() {
            "classic" => Ok(()),
            _ => Err("only classic is supported".into()),
        };
        /// How the group's leader assigns partitions; the first that all members know is taken. Used by `Consumer`.
        "partition.assignment.strategy" => partition_assignment_strategy: String = "range,cooperative-sticky".to_owned(),
            check |value| super::assignor::assignors_by_name(value).map(|_| ()).map_err(|error| error.to_string());
        /// Where to start without a committed offset, or when the position is gone.
        "auto.offset.reset" => auto_offset_reset: OffsetReset = OffsetReset::Latest;
        /// Whether the positions of what was handed out are committed from time to time, on rebalance and on close.
        "enable.auto.commit" => enable_auto_commit: bool = true;
        /// How often they are.
        "auto.commit.interval.ms" => auto_commit_interval_ms: i64 = 5_000, check at_least!(0);
        /// Which records are seen.
        "isolation.level" => isolation_level: IsolationLevel = IsolationLevel::ReadUncommitted;
        /// How long the group waits for a silent member before it rebalances without it.
        "session.timeout.ms" => session_timeout_ms: i32 = 45_000, check at_least!(1);
        /// How often a member shows that it lives.
        "heartbeat.interval.ms" => heartbeat_interval_ms: i32 = 3_000, check at_least!(1);
        /// How long the owner may take between two polls (or steps) before the member leaves its group; also how long the
        /// group waits for it in a rebalance.
        "max.poll.interval.ms" => max_poll_interval_ms: i32 = 300_000, check at_least!(1);
        /// Most records that one poll of a `Consumer` returns.
        "max.poll.records" => max_poll_records: i32 = 500, check at_least!(1);
        /// A fetch is answered once so many bytes are there.
        "fetch.min.bytes" => fetch_min_bytes: i32 = 1, check at_least!(0);
        /// Most bytes of one fetch; the first batch comes whole nevertheless.
        "fetch.max.bytes" => fetch_max_bytes: i32 = 52_428_800, check at_least!(0);
        /// How long a fetch may wait for `fetch.min.bytes`.
        "fetch.max.wait.ms" => fetch_max_wait_ms: i32 = 500, check at_least!(0);
        /// Most bytes of one partition in one fetch; its first batch comes whole nevertheless.
        "max.partition.fetch.bytes" => max_partition_fetch_bytes: i32 = 1_048_576, check at_least!(0);
        /// No further fetch is sent while so many bytes are fetched and not yet taken by the owner. Not a setting of the
        /// JVM client, whose memory is bounded by `fetch.max.bytes` per broker only.
        "fetch.buffer.bytes" => fetch_buffer_bytes: usize = 16_777_216, check at_least!(1);
        /// Whether the checksum of every batch is verified.
        "check.crcs" => check_crcs: bool = true;
        /// Whether topics of the broker itself are left out of pattern subscriptions.
        "exclude.internal.topics" => exclude_internal_topics: bool = true;
        /// Rack of this consumer: brokers may send it to a replica nearby.
        "client.rack" => client_rack: String = String::new();
        /// How long a call without a time-out of its own may take, with all its retries.
        "default.api.timeout.ms" => default_api_timeout_ms: i64 = 60_000, check at_least!(1);
        /// First wait before a failed request is sent again; doubles with each failure.
        "retry.backoff.ms" => retry_backoff_ms: i64 = 100, check at_least!(0);
        /// Longest wait before a failed request is sent again.
        "retry.backoff.max.ms" => retry_backoff_max_ms: i64 = 1_000, check at_least!(0);
    }
}

impl ConsumerConfig {
    /// Refuses what each setting allows but not all together.
    pub(crate) fn check_together(&self) -> Result<(), ClientError> {
        self.check()?;
        let refuse = |name: &str, value: String, allowed: &str| Err(crate::config::refuse(name, &value, allowed));
        if self.heartbeat_interval_ms >= self.session_timeout_ms {
            let allowed = format!("must be below session.timeout.ms={}", self.session_timeout_ms);
            return refuse("heartbeat.interval.ms", self.heartbeat_interval_ms.to_string(), &allowed);
        }
        if self.group_id.as_deref() == Some("") {
            return refuse("group.id", String::new(), "must not be empty");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_kafkas() {
        let config = ConsumerConfig::from_properties([
            ("group.id", "g"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
        ])
        .unwrap();
        assert_eq!(config.group_id.as_deref(), Some("g"));
        assert_eq!(config.auto_offset_reset, OffsetReset::Earliest);
        assert_eq!(config.isolation_level, IsolationLevel::ReadCommitted);
        let error = ConsumerConfig::from_properties([("max.pol.records", "1")]).unwrap_err();
        assert!(error.to_string().contains("did you mean max.poll.records?"), "{error}");
        let error = ConsumerConfig::from_properties([("partition.assignment.strategy", "fair")]).unwrap_err();
        assert!(error.to_string().contains("cooperative-sticky"), "{error}");
    }

    #[test]
    fn a_heartbeat_slower_than_the_session_is_refused() {
        let config = ConsumerConfig::default().session_timeout_ms(3_000);
        assert!(config.check_together().unwrap_err().to_string().contains("below session.timeout.ms=3000"));
    }
}
