//! Subscription and assignment bytes of the consumer protocol, which group members exchange through the coordinator.
//!
//! Format (big-endian, Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, never flexible):
//! version i16; subscription: topics [string], user data nullable bytes, v1 owned partitions [string, [i32]], v2
//! generation i32, v3 rack nullable string; assignment: partitions [string, [i32]], user data nullable bytes.
//! Versions above 3 are read as 3, their additional fields are left unread, as in Kafka.

use std::sync::Arc;

use base::hash::HashMap;
use base::{TopicName, TopicPartition};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::assignor::{Assignment, Subscription};

/// The version written.
const VERSION: i16 = 3;

/// The bytes were not written by the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} at byte {position}")]
pub struct MalformedProtocol {
    what: &'static str,
    position: usize,
}

/// A member's subscription as bytes.
pub fn encode_subscription(subscription: &Subscription) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(VERSION);
    out.put_i32(subscription.topics.len() as i32);
    for topic in &subscription.topics {
        put_string(&mut out, topic);
    }
    put_bytes(&mut out, subscription.user_data.as_ref());
    put_partitions(&mut out, &subscription.owned);
    out.put_i32(subscription.generation.unwrap_or(-1));
    match &subscription.rack {
        Some(rack) => put_string(&mut out, rack),
        None => out.put_i16(-1),
    }
    out.freeze()
}

/// A member's subscription from bytes.
///
/// # Errors
/// The bytes end early, or a length is negative or too large.
pub fn decode_subscription(bytes: &Bytes) -> Result<Subscription, MalformedProtocol> {
    let mut input = Input { bytes: bytes.clone(), start: bytes.len(), what: "subscription" };
    let version = input.version()?;
    let count = input.count(2)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        topics.push(TopicName::from(input.string()?.ok_or_else(|| input.error())?));
    }
    let user_data = input.nullable_bytes()?;
    let owned = if version >= 1 { input.partitions()? } else { Vec::new() };
    let generation = if version >= 2 { input.i32()? } else { -1 };
    let rack = if version >= 3 { input.string()? } else { None };
    Ok(Subscription { topics, user_data, owned, generation: (generation >= 0).then_some(generation), rack })
}

/// A member's assignment as bytes.
pub fn encode_assignment(assignment: &Assignment) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(VERSION);
    put_partitions(&mut out, &assignment.partitions);
    put_bytes(&mut out, assignment.user_data.as_ref());
    out.freeze()
}

/// A member's assignment from bytes; no bytes at all are an empty assignment (the leader did not list the member).
///
/// # Errors
/// As [`decode_subscription`].
pub fn decode_assignment(bytes: &Bytes) -> Result<Assignment, MalformedProtocol> {
    if bytes.is_empty() {
        return Ok(Assignment::default());
    }
    let mut input = Input { bytes: bytes.clone(), start: bytes.len(), what: "assignment" };
    input.version()?;
    Ok(Assignment { partitions: input.partitions()?, user_data: input.nullable_bytes()? })
}

fn put_string(out: &mut BytesMut, text: &str) {
    // Topic names end at 249 bytes, rack names far below 32 KiB: what is longer was refused before it came here.
    let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
    out.put_i16(text.len() as i16);
    out.put_slice(text);
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            out.put_i32(bytes.len() as i32);
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

/// Partitions grouped by topic, topics in order of first appearance, as the JVM client writes them.
fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut by_topic: Vec<(&str, Vec<i32>)> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::default();
    for partition in partitions {
        let at = *index.entry(&partition.topic).or_insert_with(|| {
            by_topic.push((&partition.topic, Vec::new()));
            by_topic.len() - 1
        });
        by_topic[at].1.push(partition.partition);
    }
    out.put_i32(by_topic.len() as i32);
    for (topic, partitions) in by_topic {
        put_string(out, topic);
        out.put_i32(partitions.len() as i32);
        partitions.into_iter().for_each(|partition| out.put_i32(partition));
    }
}

struct Input {
    bytes: Bytes,
    start: usize,
    what: &'static str,
}

impl Input {
    fn error(&self) -> MalformedProtocol {
        MalformedProtocol { what: self.what, position: self.start - self.bytes.len() }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, MalformedProtocol> {
        if length > self.bytes.len() {
            return Err(self.error());
        }
        Ok(self.bytes.split_to(length))
    }

    fn i16(&mut self) -> Result<i16, MalformedProtocol> {
        Ok(self.take(2)?.get_i16())
    }

    fn i32(&mut self) -> Result<i32, MalformedProtocol> {
        Ok(self.take(4)?.get_i32())
    }

    fn version(&mut self) -> Result<i16, MalformedProtocol> {
        let version = self.i16()?;
        if version < 0 { Err(self.error()) } else { Ok(version) }
    }

    /// Number of elements, each of at least `least` bytes: more than fit is malformed, so nothing is reserved in vain.
    fn count(&mut self, least: usize) -> Result<usize, MalformedProtocol> {
        let count = usize::try_from(self.i32()?).map_err(|_| self.error())?;
        if count > self.bytes.len() / least { Err(self.error()) } else { Ok(count) }
    }

    fn string(&mut self) -> Result<Option<String>, MalformedProtocol> {
        let length = self.i16()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.error())?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| self.error())
    }

    fn nullable_bytes(&mut self) -> Result<Option<Bytes>, MalformedProtocol> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.error())?;
        self.take(length).map(Some)
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>, MalformedProtocol> {
        let mut partitions = Vec::new();
        for _ in 0..self.count(6)? {
            let topic: Arc<str> = self.string()?.ok_or_else(|| self.error())?.into();
            let count = self.count(4)?;
            partitions.reserve(count);
            for _ in 0..count {
                partitions.push(TopicPartition::new(topic.clone(), self.i32()?));
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Bytes {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Both as Kafka 4.3.1's own consumer wrote them into `__consumer_offsets`.
    #[test]
    fn bytes_are_those_of_the_jvm_client() {
        let subscription = Subscription { topics: vec!["a-events".into()], ..Subscription::default() };
        let bytes = hex("0003000000010008612d6576656e7473ffffffff00000000ffffffffffff");
        assert_eq!(encode_subscription(&subscription), bytes);
        assert_eq!(decode_subscription(&bytes), Ok(subscription));

        let partitions = vec![TopicPartition::new("a-events", 0), TopicPartition::new("a-events", 1)];
        let assignment = Assignment { partitions, user_data: None };
        let bytes = hex("0003000000010008612d6576656e7473000000020000000000000001ffffffff");
        assert_eq!(encode_assignment(&assignment), bytes);
        assert_eq!(decode_assignment(&bytes), Ok(assignment));
    }

    #[test]
    fn older_and_newer_versions_are_read() {
        let oldest = decode_subscription(&hex("000000000001000161ffffffff")).unwrap();
        assert_eq!(oldest.topics, ["a".into()]);
        let newer = decode_subscription(&hex("00090000000100016100000001000000000000000007ffff00")).unwrap();
        assert_eq!((newer.user_data, newer.generation, newer.rack), (Some(Bytes::from_static(&[0])), Some(7), None));
    }

    #[test]
    fn an_assignment_without_bytes_is_empty() {
        assert_eq!(decode_assignment(&Bytes::new()), Ok(Assignment::default()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            topics in prop::collection::vec("[a-z]{1,8}", 0..4),
            owned in prop::collection::btree_set(("[a-z]{1,4}", 0..9i32), 0..9),
            user_data in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            generation in prop::option::of(0..i32::MAX),
            rack in prop::option::of("[a-z]{0,5}"),
        ) {
            let subscription = Subscription {
                topics: topics.into_iter().map(TopicName::from).collect(),
                user_data: user_data.map(Bytes::from),
                owned: owned.into_iter().map(|(topic, partition)| TopicPartition::new(topic, partition)).collect(),
                generation,
                rack,
            };
            prop_assert_eq!(decode_subscription(&encode_subscription(&subscription)), Ok(subscription));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_subscription(&bytes);
            let _ = decode_assignment(&bytes);
        }
    }
}
