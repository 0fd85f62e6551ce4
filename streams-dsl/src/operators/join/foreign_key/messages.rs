//! What the two sides of a foreign-key join send each other, and its bytes.
//!
//! ```text
//! subscription: version, high bit set without hash (1) instruction(1) hash(16)? primary key, primary partition(4; not in version 0)
//! response:     version, high bit set without hash (1) hash(16)? foreign value, nothing for null
//! key of a stored subscription: length of the foreign key(4) foreign key, primary key
//! ```
//!
//! The hash is the 128-bit Murmur3 of the serialised left value: a response to a value that is no longer the row's is thereby known.

use streams_core::{Headers, Serde, SerdeError, SerdeRef};

const WITHOUT_HASH: u8 = 0x80;
const SUBSCRIPTION_VERSION: u8 = 1;
const RESPONSE_VERSION: u8 = 0;
const SEED: u64 = 104_729;

/// Murmur3 of a serialised left value.
pub(super) type Hash = [u8; 16];

/// What the right side does with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Forgets it and does not answer.
    Delete = 0,
    /// Forgets it and answers null.
    DeleteAndAnswer = 1,
    /// Keeps it and answers with the value or null.
    Answer = 2,
    /// Keeps it and answers if there is a value.
    AnswerValue = 3,
}

/// From left to right, under the foreign key: this row wants the values of that key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subscription<K> {
    pub(super) hash: Option<Hash>,
    pub(super) instruction: Instruction,
    pub(super) primary_key: K,
    /// Partition of the row; unknown of subscriptions that older versions of Kafka Streams wrote.
    pub(super) partition: Option<i32>,
}

/// From right to left, under the primary key: the value of the row's foreign key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Response<T> {
    pub(super) hash: Option<Hash>,
    pub(super) value: Option<T>,
    /// Where it goes; not part of its bytes.
    pub(super) partition: Option<i32>,
}

fn malformed(type_name: &'static str, reason: impl Into<String>) -> SerdeError {
    SerdeError::Malformed { type_name, reason: reason.into() }
}

fn write_head(version: u8, hash: Option<&Hash>, out: &mut Vec<u8>) {
    out.push(if hash.is_some() { version } else { version | WITHOUT_HASH });
}

/// Takes the hash off the front, if the first byte says that there is one.
fn read_hash<'a>(head: u8, bytes: &'a [u8], type_name: &'static str) -> Result<(Option<Hash>, &'a [u8]), SerdeError> {
    if head & WITHOUT_HASH != 0 {
        return Ok((None, bytes));
    }
    match bytes.split_first_chunk::<16>() {
        Some((hash, rest)) => Ok((Some(*hash), rest)),
        None => Err(malformed(type_name, "a hash cut short")),
    }
}

/// Subscriptions with primary keys of the serde within.
pub(super) struct SubscriptionSerde<K>(pub(super) SerdeRef<K>);

const SUBSCRIPTION: &str = "subscription of a foreign-key join";

impl<K> Serde<Subscription<K>> for SubscriptionSerde<K> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        value: &Subscription<K>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        let version = if value.partition.is_some() { SUBSCRIPTION_VERSION } else { 0 };
        write_head(version, value.hash.as_ref(), out);
        out.push(value.instruction as u8);
        out.extend(value.hash.iter().flatten());
        self.0.serialize(topic, headers, &value.primary_key, out)?;
        out.extend(value.partition.iter().flat_map(|partition| partition.to_be_bytes()));
        Ok(())
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Subscription<K>, SerdeError> {
        let [head, instruction, rest @ ..] = bytes else { return Err(malformed(SUBSCRIPTION, "cut short")) };
        let instruction = match instruction {
            0 => Instruction::Delete,
            1 => Instruction::DeleteAndAnswer,
            2 => Instruction::Answer,
            3 => Instruction::AnswerValue,
            other => return Err(malformed(SUBSCRIPTION, format!("the unknown instruction {other}"))),
        };
        let (hash, rest) = read_hash(*head, rest, SUBSCRIPTION)?;
        let (key, partition) = match head & !WITHOUT_HASH {
            0 => (rest, None),
            SUBSCRIPTION_VERSION => match rest.split_last_chunk::<4>() {
                Some((key, partition)) => (key, Some(i32::from_be_bytes(*partition))),
                None => return Err(malformed(SUBSCRIPTION, "a partition cut short")),
            },
            other => return Err(malformed(SUBSCRIPTION, format!("version {other}, which is not known"))),
        };
        let primary_key = self.0.deserialize(topic, headers, key)?;
        Ok(Subscription { hash, instruction, primary_key, partition })
    }

    fn is_infallible(&self) -> bool {
        self.0.is_infallible()
    }
}

/// Responses with values of the serde within.
pub(super) struct ResponseSerde<T>(pub(super) SerdeRef<T>);

const RESPONSE: &str = "response of a foreign-key join";

impl<T> Serde<Response<T>> for ResponseSerde<T> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        value: &Response<T>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        write_head(RESPONSE_VERSION, value.hash.as_ref(), out);
        out.extend(value.hash.iter().flatten());
        match &value.value {
            Some(value) => self.0.serialize(topic, headers, value, out),
            None => Ok(()),
        }
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Response<T>, SerdeError> {
        let Some((head, rest)) = bytes.split_first() else { return Err(malformed(RESPONSE, "no bytes")) };
        if head & !WITHOUT_HASH != RESPONSE_VERSION {
            return Err(malformed(RESPONSE, format!("version {}, which is not known", head & !WITHOUT_HASH)));
        }
        let (hash, rest) = read_hash(*head, rest, RESPONSE)?;
        let value = if rest.is_empty() { None } else { Some(self.0.deserialize(topic, headers, rest)?) };
        Ok(Response { hash, value, partition: None })
    }
}

/// 128-bit Murmur3 (x64) of `bytes`, big-endian.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    fn finish(mut k: u64) -> u64 {
        k ^= k >> 33;
        k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
        k ^= k >> 33;
        k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        k ^ (k >> 33)
    }
    fn half(bytes: &[u8]) -> u64 {
        bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut h1, mut h2) = (SEED, SEED);
    let blocks = bytes.chunks_exact(16);
    let tail = blocks.remainder();
    for block in blocks {
        let (low, high) = block.split_at(8);
        h1 = (h1 ^ mix1(half(low))).rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(half(high))).rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = tail.split_at(tail.len().min(8));
    h2 ^= mix2(half(high));
    h1 ^= mix1(half(low));
    h1 ^= bytes.len() as u64;
    h2 ^= bytes.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2) = (finish(h1), finish(h2));
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (u128::from(h1) << 64 | u128::from(h2)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use streams_core::serde::StringSerde;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_hash_is_that_of_kafka_streams() {
        let (h1, h2) = (3_347_342_061_710_392_543_u128, 5_899_738_534_132_323_688_u128);
        assert_eq!(hash(b"value"), (h1 << 64 | h2).to_be_bytes());
        assert_eq!(hex(&hash(b"x|p")), "db7be97d86bf76a5c22e49245b5095e9");
    }

    #[test]
    fn messages_have_the_bytes_of_kafka_streams() {
        let serde = SubscriptionSerde(StringSerde.into_ref());
        let headers = Headers::default();
        let mut subscription = Subscription {
            hash: Some(hash(b"value")),
            instruction: Instruction::AnswerValue,
            primary_key: "p1".to_owned(),
            partition: Some(3),
        };
        let mut bytes = Vec::new();
        serde.serialize("t", &headers, &subscription, &mut bytes).unwrap();
        assert_eq!(hex(&bytes), "01032e7425dec1f8bcdf51e014f04aa41568703100000003");
        assert_eq!(serde.deserialize("t", &headers, &bytes).unwrap(), subscription);
        subscription = Subscription { hash: None, partition: None, ..subscription };
        bytes.clear();
        serde.serialize("t", &headers, &subscription, &mut bytes).unwrap();
        assert_eq!(hex(&bytes), "80037031");
        assert_eq!(serde.deserialize("t", &headers, &bytes).unwrap(), subscription);
        let serde = ResponseSerde(StringSerde.into_ref());
        for value in [Some("fv".to_owned()), None] {
            let response = Response { hash: Some(hash(b"value")), value, partition: None };
            bytes.clear();
            serde.serialize("t", &headers, &response, &mut bytes).unwrap();
            assert_eq!(serde.deserialize("t", &headers, &bytes).unwrap(), response);
        }
    }

    #[test]
    fn broken_bytes_are_errors() {
        let subscriptions = SubscriptionSerde::<String>(StringSerde.into_ref());
        let responses = ResponseSerde::<String>(StringSerde.into_ref());
        for bytes in [&[][..], &[1], &[1, 9], &[1, 3, 0, 0], &[0x81, 3, 0, 0], &[0x82, 3, 0, 0, 0, 0]] {
            assert!(subscriptions.deserialize("t", &Headers::default(), bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&[][..], &[1], &[0, 1], &[0x81, 1]] {
            assert!(responses.deserialize("t", &Headers::default(), bytes).is_err(), "{bytes:?}");
        }
    }
}
