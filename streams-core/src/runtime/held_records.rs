//! Output whose topic has no known partitions yet: one that a record has named, or that is being created. It waits here, in order, and
//! nothing more is processed or committed until it is sent.

use std::collections::VecDeque;

use base::{Now, PartitionId, Timestamp};
use client::ClientError;
use protocol::record::Headers;

use super::producer_collector::send_error;
use crate::collector::{ChoosePartitions, OutputRecord, TopicHandle};
use crate::error::StreamsError;
use crate::topology::options::PartitionChoice;

/// How the partitions of a record are found.
pub(super) enum Partitions {
    /// One that is given, or none: the producer chooses.
    Given(Option<PartitionId>),
    /// By their number.
    Chosen(ChoosePartitions),
}

/// One record, owned.
pub(super) struct Held {
    pub(super) topic: TopicHandle,
    partitions: Partitions,
    record: Owned,
    since_ticks_ms: i64,
}

/// What of a record does not tell where it goes.
pub(super) struct Owned {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Timestamp,
    headers: Headers,
}

impl Held {
    /// The record, and where it goes: to partitions of `count`.
    pub(super) fn choose(self, count: PartitionId) -> (Owned, PartitionChoice) {
        let choice = match self.partitions {
            Partitions::Given(Some(partition)) => PartitionChoice::One(partition),
            Partitions::Given(None) => PartitionChoice::Default,
            Partitions::Chosen(choose) => choose(count),
        };
        (self.record, choice)
    }
}

impl Owned {
    /// The record again, for `topic`.
    pub(super) fn output(&self, topic: TopicHandle) -> OutputRecord<'_> {
        OutputRecord {
            topic,
            partition: None,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            timestamp: Some(self.timestamp),
            headers: &self.headers,
        }
    }
}

/// Records in the order in which they came.
#[derive(Default)]
pub(super) struct HeldRecords(VecDeque<Held>);

impl HeldRecords {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn hold(&mut self, record: OutputRecord<'_>, partitions: Partitions, now: Now) {
        let topic = record.topic;
        let record = Owned {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            // What the producer would have stamped now.
            timestamp: record.timestamp.unwrap_or(now.wall_ms),
            headers: record.headers.clone(),
        };
        self.0.push_back(Held { topic, partitions, record, since_ticks_ms: now.ticks_ms });
    }

    /// Takes the first record whose topic `is_known`.
    pub(super) fn take_known(&mut self, is_known: impl Fn(TopicHandle) -> bool) -> Option<Held> {
        let index = self.0.iter().position(|held| is_known(held.topic))?;
        self.0.remove(index)
    }

    /// The topics that are waited for, each with the time since when.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (TopicHandle, i64)> {
        self.0.iter().map(|held| (held.topic, held.since_ticks_ms))
    }
}

/// A topic did not show up in time.
pub(super) fn not_known_in_time(topic: &str, after_ms: i64) -> StreamsError {
    send_error(ClientError::Timeout {
        what: format!("looking up the partitions of topic {topic}, which a record is to be written to,"),
        after_ms,
        reason: Some("create it, or have the broker create topics (auto.create.topics.enable)".to_owned()),
    })
}
