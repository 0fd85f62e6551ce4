//! The consumer's words: offsets with their metadata, rebalance events, whole batches handed over.

use std::fmt;

use base::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use bytes::Bytes;

/// An offset to commit, or one that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next record to read.
    pub offset: Offset,
    /// Leader epoch of the last record read; -1 when unknown.
    pub leader_epoch: LeaderEpoch,
    /// Free text stored beside the offset.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// `offset` without leader epoch and without text.
    pub fn new(offset: Offset) -> Self {
        Self { offset, leader_epoch: -1, metadata: String::new() }
    }
}

/// Answer of a search by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// Offset of the first record at or after the time searched for.
    pub offset: Offset,
    /// That record's timestamp; -1 for the answers to [`OffsetSpec::Earliest`] and [`OffsetSpec::Latest`].
    pub timestamp: Timestamp,
    /// Leader epoch of the record; -1 when unknown.
    pub leader_epoch: LeaderEpoch,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first offset still there.
    Earliest,
    /// The end: the high watermark, or the last stable offset under `isolation.level=read_committed`.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record with this timestamp or a later one.
    Timestamp(Timestamp),
}

impl OffsetSpec {
    pub(crate) fn as_timestamp(self) -> Timestamp {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::Timestamp(timestamp) => timestamp.max(0),
        }
    }
}

/// Where to start in a partition without a committed offset, or whose position is gone (`auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first offset still there.
    Earliest,
    /// At the end.
    Latest,
    /// Nowhere: [`ConsumerEvent::NoOffset`] leaves it to the owner.
    None,
    /// At the first record of the last so many milliseconds; at the end if there is none.
    ByDuration {
        /// How far back.
        ms: i64,
    },
}

impl OffsetReset {
    /// The value of `auto.offset.reset`: `earliest`, `latest`, `none`, or `by_duration:` and an ISO-8601 duration such
    /// as `P1D` or `PT12H30M`.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "must be earliest, latest, none or by_duration:<ISO-8601 duration, such as PT1H>";
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            "none" => Ok(Self::None),
            lower => match lower.strip_prefix("by_duration:").and_then(parse_duration_ms) {
                Some(ms) => Ok(Self::ByDuration { ms }),
                None => Err(ALLOWED.into()),
            },
        }
    }
}

/// Milliseconds of a non-negative ISO-8601 duration in days, hours, minutes and seconds, in lower case.
fn parse_duration_ms(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix('p')?;
    let (mut total, mut in_time, mut parts) = (0i64, false, 0);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('t') {
            if in_time {
                return None;
            }
            (in_time, rest) = (true, after);
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, unit) = (&rest[..end], &rest[end..=end]);
        let unit_ms: i64 = match (unit, in_time) {
            ("d", false) => 86_400_000,
            ("h", true) => 3_600_000,
            ("m", true) => 60_000,
            ("s", true) => 1_000,
            _ => return None,
        };
        let ms = match number.split_once('.') {
            None => number.parse::<i64>().ok()?.checked_mul(unit_ms)?,
            Some((whole, fraction)) if unit == "s" && !fraction.is_empty() => {
                let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
                whole.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(digits.parse().ok()?)?
            }
            Some(_) => return None,
        };
        total = total.checked_add(ms)?;
        parts += 1;
        rest = &rest[end + 1..];
    }
    (parts > 0).then_some(total)
}

/// What the owner of a [`ConsumerCore`](super::ConsumerCore) must hear of, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerEvent {
    /// These partitions are about to be given up. Finish and commit them, then call
    /// [`revocation_done`](super::ConsumerCore::revocation_done): until then the core does not rejoin.
    Revoked(Vec<TopicPartition>),
    /// These partitions were lost without notice (session over, fenced); others may own them already, so that nothing
    /// may be committed for them. Call [`revocation_done`](super::ConsumerCore::revocation_done) when they are cleaned up.
    Lost(Vec<TopicPartition>),
    /// The rebalance is complete; these partitions are new (none, when nothing was added).
    Assigned(Vec<TopicPartition>),
    /// These partitions have no position and `auto.offset.reset` is `none`: seek in them, or give up. With the offset
    /// that was out of range, or -1 when nothing was committed.
    NoOffset(Vec<(TopicPartition, Offset)>),
    /// The position was moved by the reset policy, since the offset was no longer there.
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The position that did not exist.
        offset: Offset,
    },
    /// The log was truncated below the position (unclean leader election); reading goes on at `offset`.
    Truncated {
        /// The partition.
        partition: TopicPartition,
        /// The position before.
        position: Offset,
        /// The end of what both sides have in common.
        offset: Offset,
    },
}

/// Whole record batches of one partition, as they were fetched: nothing copied, nothing decoded.
///
/// Read them with `protocol::record::batches`. Batches of aborted transactions (under `read_committed`) and control
/// batches are left out. Records below [`Fetched::fetch_offset`] are to be skipped.
#[derive(Clone)]
pub struct Fetched {
    /// Where the batches come from.
    pub partition: TopicPartition,
    /// One or more whole batches, back to back.
    pub batches: Bytes,
    /// First offset wanted; the first batch may begin below it.
    pub fetch_offset: Offset,
    /// Position after these batches, and after the control batches, aborted batches and gaps that follow them.
    pub next_offset: Offset,
    /// Leader epoch of the last batch; -1 when unknown.
    pub leader_epoch: LeaderEpoch,
    /// High watermark as the broker last said.
    pub high_watermark: Offset,
    /// Last stable offset as the broker last said.
    pub last_stable_offset: Offset,
    /// Log start offset as the broker last said.
    pub log_start_offset: Offset,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, batches, fetch_offset, next_offset, .. } = self;
        write!(f, "{partition} [{fetch_offset}, {next_offset}) in {} bytes", batches.len())
    }
}

/// Who this consumer is in its group; what a transactional producer sends along with offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: String,
    /// Generation joined, or the member's epoch with `group.protocol=consumer`; -1 outside the group.
    pub generation: i32,
    /// Member id; empty outside the group.
    pub member_id: String,
    /// `group.instance.id`, if set.
    pub group_instance_id: Option<String>,
}

/// A commit under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitTicket(pub(crate) u64);

/// A question for committed offsets under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommittedTicket(pub(crate) u64);

/// A look-up of offsets under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OffsetsTicket(pub(crate) u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_policies_are_read_as_kafka_writes_them() {
        assert_eq!(OffsetReset::parse("earliest"), Ok(OffsetReset::Earliest));
        assert_eq!(OffsetReset::parse("LATEST"), Ok(OffsetReset::Latest));
        assert_eq!(OffsetReset::parse("none"), Ok(OffsetReset::None));
        assert_eq!(OffsetReset::parse("by_duration:P1DT2H"), Ok(OffsetReset::ByDuration { ms: 93_600_000 }));
        assert_eq!(OffsetReset::parse("by_duration:PT1.5S"), Ok(OffsetReset::ByDuration { ms: 1_500 }));
        for wrong in
            ["", "first", "by_duration:", "by_duration:P", "by_duration:PT", "by_duration:-PT1S", "by_duration:P1H"]
        {
            assert!(OffsetReset::parse(wrong).is_err(), "{wrong}");
        }
    }
}
