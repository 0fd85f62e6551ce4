//! Settings of a consumer under Kafka's names.

use crate::config::{Property, at_least, at_least_if_set, properties};
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

/// How the partitions of a group are shared out (`group.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// By one of the members, with an assignor of `partition.assignment.strategy`; every broker has it.
    Classic,
    /// By the coordinator, member by member, without a stop of the whole group (KIP-848): brokers from Kafka 4.0 on.
    Consumer,
}

impl Property for GroupProtocol {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            _ => Err("must be classic or consumer".into()),
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
        /// Who shares out the partitions: a member (`classic`) or the coordinator (`consumer`).
        "group.protocol" => group_protocol: GroupProtocol = GroupProtocol::Classic;
        /// How the group's leader assigns partitions; the first that all members know is taken. Used by `Consumer`.
        /// `None`: `range,cooperative-sticky`. Of the classic protocol only.
        "partition.assignment.strategy" => partition_assignment_strategy: Option<String> = None,
            check |value| match value {
                Some(names) => super::assignor::assignors_by_name(names).map(|_| ()).map_err(|error| error.to_string()),
                None => Ok(()),
            };
        /// The coordinator's assignor that this member asks for (`uniform` or `range`, as the broker has them); without
        /// one, the broker's first. Of the consumer protocol only.
        "group.remote.assignor" => group_remote_assignor: Option<String> = None;
        /// Where to start without a committed offset, or when the position is gone.
        "auto.offset.reset" => auto_offset_reset: OffsetReset = OffsetReset::Latest;
        /// Whether the positions of what was handed out are committed from time to time, on rebalance and on close.
        "enable.auto.commit" => enable_auto_commit: bool = true;
        /// How often they are.
        "auto.commit.interval.ms" => auto_commit_interval_ms: i64 = 5_000, check at_least!(0);
        /// Which records are seen.
        "isolation.level" => isolation_level: IsolationLevel = IsolationLevel::ReadUncommitted;
        /// How long the group waits for a silent member before it rebalances without it. `None`: 45,000 ms. Of the
        /// classic protocol only: under the other it is a setting of the group.
        "session.timeout.ms" => session_timeout_ms: Option<i32> = None, check at_least_if_set!(1);
        /// How often a member shows that it lives. `None`: 3,000 ms. Of the classic protocol only.
        "heartbeat.interval.ms" => heartbeat_interval_ms: Option<i32> = None, check at_least_if_set!(1);
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
        self.check_of_protocol()?;
        let (interval, session) = (self.classic_heartbeat_interval_ms(), self.classic_session_timeout_ms());
        if interval >= session {
            let allowed = format!("must be below session.timeout.ms={session}");
            return refuse("heartbeat.interval.ms", interval.to_string(), &allowed);
        }
        if self.group_id.as_deref() == Some("") {
            return refuse("group.id", String::new(), "must not be empty");
        }
        Ok(())
    }

    /// Refuses settings of the other group protocol: they would have no effect.
    fn check_of_protocol(&self) -> Result<(), ClientError> {
        let number = |value: Option<i32>| value.map(|value| value.to_string());
        let of_other = match self.group_protocol {
            GroupProtocol::Classic => vec![(
                "group.remote.assignor",
                self.group_remote_assignor.clone(),
                "cannot be set when group.protocol=classic: use partition.assignment.strategy",
            )],
            GroupProtocol::Consumer => vec![
                (
                    "partition.assignment.strategy",
                    self.partition_assignment_strategy.clone(),
                    "cannot be set when group.protocol=consumer: the broker assigns; use group.remote.assignor",
                ),
                (
                    "session.timeout.ms",
                    number(self.session_timeout_ms),
                    "cannot be set when group.protocol=consumer: set consumer.session.timeout.ms of the group",
                ),
                (
                    "heartbeat.interval.ms",
                    number(self.heartbeat_interval_ms),
                    "cannot be set when group.protocol=consumer: set consumer.heartbeat.interval.ms of the group",
                ),
            ],
        };
        match of_other.into_iter().find_map(|(name, value, advice)| Some((name, value?, advice))) {
            Some((name, value, advice)) => Err(crate::config::refuse(name, &value, advice)),
            None => Ok(()),
        }
    }

    /// `session.timeout.ms` as the classic protocol has it.
    pub(crate) fn classic_session_timeout_ms(&self) -> i32 {
        self.session_timeout_ms.unwrap_or(45_000)
    }

    /// `heartbeat.interval.ms` as the classic protocol has it.
    pub(crate) fn classic_heartbeat_interval_ms(&self) -> i32 {
        self.heartbeat_interval_ms.unwrap_or(3_000)
    }

    /// `partition.assignment.strategy` as the classic protocol has it.
    pub(crate) fn classic_assignment_strategy(&self) -> &str {
        self.partition_assignment_strategy.as_deref().unwrap_or("range,cooperative-sticky")
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

    #[test]
    fn settings_of_the_other_group_protocol_are_refused() {
        let refused = |properties: &[(&str, &str)]| {
            let config = ConsumerConfig::from_properties(properties.iter().copied()).unwrap();
            config.check_together().map_err(|error| error.to_string())
        };
        let consumer = ("group.protocol", "CONSUMER");
        for (name, value) in [
            ("session.timeout.ms", "45000"),
            ("heartbeat.interval.ms", "3000"),
            ("partition.assignment.strategy", "range"),
        ] {
            let error = refused(&[consumer, (name, value)]).unwrap_err();
            assert!(error.contains(&format!("{name}={value}: cannot be set when group.protocol=consumer")), "{error}");
        }
        let error = refused(&[("group.remote.assignor", "uniform")]).unwrap_err();
        assert!(error.contains("cannot be set when group.protocol=classic"), "{error}");
        refused(&[consumer, ("group.remote.assignor", "range")]).unwrap();
        let error = ConsumerConfig::from_properties([("group.protocol", "modern")]).unwrap_err();
        assert!(error.to_string().contains("must be classic or consumer"), "{error}");
    }
}
