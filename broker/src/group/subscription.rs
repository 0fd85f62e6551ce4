//! What consumers of the classic protocol embed in it: the subscription that each offers (`ConsumerProtocolSubscription`), and
//! the assignment that each gets (`ConsumerProtocolAssignment`). Mostly the broker passes them on as bytes; it reads the topics
//! of subscriptions, whose offsets neither expire nor can be deleted, and all of it where such a consumer is a member of a
//! consumer group.
//!
//! Layout: `int16` version; subscription: topic names, user data, from version 1 on owned partitions, from 2 on their generation,
//! from 3 on a rack; assignment: partitions by topic name, user data. Later versions are read as version 3.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::PartitionId;
use bytes::Bytes;

use super::layout::{GroupRecordError, Reader, Writer};

/// Protocol type of members that carry this metadata.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The last version that there is a layout for.
const LAST_VERSION: i16 = 3;

/// Partitions by the name of their topic.
pub type NamedPartitions = BTreeMap<Arc<str>, BTreeSet<PartitionId>>;

/// What a consumer wants and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Topics it wants.
    pub topics: BTreeSet<Arc<str>>,
    /// Partitions it has; none from a member that gives all up before it joins, or does not say.
    pub owned: NamedPartitions,
    /// Where it runs.
    pub rack: Option<Arc<str>>,
}

impl Subscription {
    /// Reads a member's metadata.
    ///
    /// # Errors
    /// When the bytes are not a consumer subscription.
    pub fn read(metadata: &[u8]) -> Result<Self, GroupRecordError> {
        let mut input = Reader { bytes: metadata };
        let version = read_version(&mut input)?;
        let mut subscription = Self::default();
        read_topics(&mut input, &mut subscription.topics)?;
        skip_user_data(&mut input)?;
        if version >= 1 {
            subscription.owned = read_partitions(&mut input)?;
        }
        if version >= 2 {
            input.i32("generation")?;
        }
        if version >= 3 {
            subscription.rack = input.nullable_string("rack")?;
        }
        Ok(subscription)
    }
}

/// Adds the topics that `metadata` subscribes to.
///
/// # Errors
/// When the bytes are not a consumer subscription.
pub fn subscribed_topics(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Result<(), GroupRecordError> {
    let mut input = Reader { bytes: metadata };
    read_version(&mut input)?;
    read_topics(&mut input, topics)
}

/// Reads what a member was assigned; no bytes at all are no partitions.
///
/// # Errors
/// When the bytes are not a consumer's assignment.
pub fn read_assignment(assignment: &[u8]) -> Result<NamedPartitions, GroupRecordError> {
    if assignment.is_empty() {
        return Ok(NamedPartitions::new());
    }
    let mut input = Reader { bytes: assignment };
    read_version(&mut input)?;
    read_partitions(&mut input)
}

/// An assignment in the version in which the member wrote `metadata`.
///
/// # Errors
/// When `metadata` is not a consumer subscription, or there is no room for what is assigned.
pub fn write_assignment(metadata: &[u8], partitions: &NamedPartitions) -> Result<Bytes, GroupRecordError> {
    let mut out = Writer::default();
    out.i16(read_version(&mut Reader { bytes: metadata })?);
    out.length("topics", partitions.len())?;
    for (topic, partitions) in partitions {
        out.string("topic", topic)?;
        out.length("partitions", partitions.len())?;
        partitions.iter().for_each(|partition| out.i32(*partition));
    }
    out.i32(-1); // no user data
    Ok(Bytes::from(out.0))
}

fn read_version(input: &mut Reader<'_>) -> Result<i16, GroupRecordError> {
    match input.i16("version of the embedded protocol")? {
        version if version < 0 => {
            Err(GroupRecordError::Invalid { field: "version of the embedded protocol", reason: "negative" })
        }
        version => Ok(version.min(LAST_VERSION)),
    }
}

fn read_topics(input: &mut Reader<'_>, topics: &mut BTreeSet<Arc<str>>) -> Result<(), GroupRecordError> {
    for _ in 0..input.length("topics")? {
        topics.insert(input.string("topic")?);
    }
    Ok(())
}

fn skip_user_data(input: &mut Reader<'_>) -> Result<(), GroupRecordError> {
    match usize::try_from(input.i32("user data")?) {
        Ok(size) => input.take("user data", size).map(|_| ()),
        Err(_) => Ok(()), // null
    }
}

fn read_partitions(input: &mut Reader<'_>) -> Result<NamedPartitions, GroupRecordError> {
    let mut topics = NamedPartitions::new();
    for _ in 0..input.length("partitions by topic")? {
        let partitions = topics.entry(input.string("topic")?).or_default();
        for _ in 0..input.length("partitions")? {
            partitions.insert(input.i32("partition")?);
        }
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_rubbish_is_refused() {
        let mut topics = BTreeSet::new();
        assert!(subscribed_topics(b"\0\x03\0\0\0\x01\0\x08a-events\xff\xff\xff\xff", &mut topics).is_ok());
        assert_eq!(topics.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["a-events"]);
        assert!(subscribed_topics(b"\x01\x02", &mut topics).is_err());
        assert!(subscribed_topics(b"\0\0\x7f\xff\xff\xff", &mut topics).is_err());
    }

    #[test]
    fn every_version_of_a_subscription_is_read_as_far_as_it_goes() {
        let whole: &[u8] =
            b"\0\0\0\x01\0\x01t\0\0\0\x02uu\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x03\0\0\0\x05\0\0\0\x07\0\x01r";
        let read = |version: u8, end: usize| Subscription::read(&[&[0, version], &whole[..end]].concat());
        let ends = [(0, 13), (1, 32), (2, 36), (3, 39), (9, 39)];
        for (version, end) in ends {
            let subscription = read(version, end).unwrap();
            assert!(subscription.topics.contains("t"), "version {version}");
            assert_eq!(subscription.owned.contains_key("t"), version >= 1, "version {version}");
            assert_eq!(subscription.rack.is_some(), version >= 3, "version {version}");
            for cut in 0..end {
                assert!(read(version, cut).is_err(), "version {version} cut at {cut}");
            }
        }
        assert_eq!(read(3, 39).unwrap().owned["t"], BTreeSet::from([3, 5]));
    }

    #[test]
    fn an_assignment_is_read_back_in_the_version_of_its_member() {
        let partitions = NamedPartitions::from([("t".into(), BTreeSet::from([0, 7])), ("u".into(), BTreeSet::new())]);
        let bytes = write_assignment(b"\0\x01..", &partitions).unwrap();
        assert_eq!(bytes[..2], [0, 1]);
        assert_eq!(read_assignment(&bytes).unwrap(), partitions);
        assert_eq!(read_assignment(b"").unwrap(), NamedPartitions::new());
        assert!(read_assignment(&bytes[..10]).is_err());
        assert!(write_assignment(b"", &partitions).is_err());
    }
}
