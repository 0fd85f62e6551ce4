//! The store of records that a left or outer join of streams has found no partner for yet: by timestamp, side and key, all values of one
//! key and instant in one list.
//!
//! Keys are `timestamp(8) | side(1) | key`. Values are Kafka's list of byte strings, `01 | count(4) | (length(4) | bytes)*`, of which each is
//! `side(1) | value`. A side is 01 for the left one and 00 for the right.

use std::sync::Arc;

use streams_core::store::builder::StoreBuilderRef;
use streams_core::store::{KeyValueStore, Logging, Storage, Stores};
use streams_core::{Headers, Serde, SerdeError, SerdeRef, Timestamp};

/// Which record of which side waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WaitingKey<K> {
    pub(super) timestamp: Timestamp,
    pub(super) is_left: bool,
    pub(super) key: K,
}

/// The value of a record of either side.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Waiting<L, R> {
    Left(L),
    Right(R),
}

/// The store of one task.
pub(super) type WaitingStore<K, L, R> = KeyValueStore<WaitingKey<K>, Vec<Waiting<L, R>>>;

/// Describes the store.
pub(super) fn store<K: 'static, L: Clone + 'static, R: Clone + 'static>(
    name: String,
    key: SerdeRef<K>,
    left: SerdeRef<L>,
    right: SerdeRef<R>,
    logging: &Logging,
    storage: Storage,
) -> StoreBuilderRef {
    let builder = Stores::key_value(name, KeySerde(key), ListSerde { left, right }).with_storage(storage);
    match logging {
        Logging::Enabled(configs) => Arc::new(builder.with_logging(configs.clone())),
        Logging::Disabled => Arc::new(builder.without_logging()),
    }
}

fn malformed(what: &'static str, reason: impl Into<String>) -> SerdeError {
    SerdeError::Malformed { type_name: what, reason: reason.into() }
}

fn side(byte: u8) -> Result<bool, SerdeError> {
    match byte {
        1 => Ok(true),
        0 => Ok(false),
        other => Err(malformed("side of a join", format!("{other} is neither 0 nor 1"))),
    }
}

struct KeySerde<K>(SerdeRef<K>);

impl<K> Serde<WaitingKey<K>> for KeySerde<K> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        value: &WaitingKey<K>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        out.extend_from_slice(&value.timestamp.to_be_bytes());
        out.push(u8::from(value.is_left));
        self.0.serialize(topic, headers, &value.key, out)
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<WaitingKey<K>, SerdeError> {
        let Some((timestamp, [is_left, key @ ..])) = bytes.split_first_chunk::<8>() else {
            return Err(SerdeError::Size { type_name: "key of a waiting record", expected: 9, actual: bytes.len() });
        };
        Ok(WaitingKey {
            timestamp: i64::from_be_bytes(*timestamp),
            is_left: side(*is_left)?,
            key: self.0.deserialize(topic, headers, key)?,
        })
    }
}

struct ListSerde<L, R> {
    left: SerdeRef<L>,
    right: SerdeRef<R>,
}

const LIST: &str = "list of waiting records";

/// Entries of varying length, each behind its length.
const BY_LENGTH: u8 = 1;

fn number(bytes: &mut &[u8]) -> Result<usize, SerdeError> {
    let Some((number, rest)) = bytes.split_first_chunk::<4>() else { return Err(malformed(LIST, "it ends early")) };
    *bytes = rest;
    usize::try_from(i32::from_be_bytes(*number)).map_err(|_| malformed(LIST, "a negative length"))
}

impl<L, R> Serde<Vec<Waiting<L, R>>> for ListSerde<L, R> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        value: &Vec<Waiting<L, R>>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        let length =
            |length: usize| i32::try_from(length).map(i32::to_be_bytes).map_err(|_| malformed(LIST, "more than 2 GiB"));
        out.push(BY_LENGTH);
        out.extend_from_slice(&length(value.len())?);
        for entry in value {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            match entry {
                Waiting::Left(value) => {
                    out.push(1);
                    self.left.serialize(topic, headers, value, out)?;
                }
                Waiting::Right(value) => {
                    out.push(0);
                    self.right.serialize(topic, headers, value, out)?;
                }
            }
            let size = length(out.len() - start - 4)?;
            out[start..start + 4].copy_from_slice(&size);
        }
        Ok(())
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Vec<Waiting<L, R>>, SerdeError> {
        let Some((&BY_LENGTH, mut rest)) = bytes.split_first() else {
            return Err(malformed(LIST, "it does not begin with 1"));
        };
        let count = number(&mut rest)?;
        let mut values = Vec::new();
        for _ in 0..count {
            let size = number(&mut rest)?;
            let (entry, behind) = rest.split_at_checked(size).ok_or_else(|| malformed(LIST, "an entry ends early"))?;
            let (is_left, value) = entry.split_first().ok_or_else(|| malformed(LIST, "an entry without side"))?;
            values.push(if side(*is_left)? {
                Waiting::Left(self.left.deserialize(topic, headers, value)?)
            } else {
                Waiting::Right(self.right.deserialize(topic, headers, value)?)
            });
            rest = behind;
        }
        Ok(values)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]
mod tests {
    use streams_core::serde::{I64Serde, StringSerde};

    use super::*;

    fn bytes<T>(serde: &impl Serde<T>, value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        serde.serialize("", &Headers::default(), value, &mut out).unwrap();
        out
    }

    fn list() -> ListSerde<String, i64> {
        ListSerde { left: StringSerde.into_ref(), right: I64Serde.into_ref() }
    }

    #[test]
    fn a_key_is_timestamp_side_and_key() {
        let serde = KeySerde(StringSerde.into_ref());
        let key = WaitingKey { timestamp: 10, is_left: true, key: "k".to_owned() };
        let written = bytes(&serde, &key);
        assert_eq!(written, b"\0\0\0\0\0\0\0\x0a\x01k");
        assert_eq!(serde.deserialize("", &Headers::default(), &written).unwrap(), key);
        assert!(serde.deserialize("", &Headers::default(), &written[..8]).is_err());
    }

    #[test]
    fn values_of_one_key_and_instant_are_a_list() {
        let values = vec![Waiting::Left("v0".to_owned()), Waiting::Right(7)];
        let written = bytes(&list(), &values);
        assert_eq!(written, b"\x01\0\0\0\x02\0\0\0\x03\x01v0\0\0\0\x09\0\0\0\0\0\0\0\0\x07");
        assert_eq!(list().deserialize("", &Headers::default(), &written).unwrap(), values);
    }

    #[test]
    fn a_list_that_is_cut_off_anywhere_is_an_error() {
        let written = bytes(&list(), &vec![Waiting::Left("v0".to_owned())]);
        for end in 0..written.len() {
            assert!(list().deserialize("", &Headers::default(), &written[..end]).is_err(), "{end}");
        }
        let huge = b"\x01\x7f\xff\xff\xff";
        assert!(list().deserialize("", &Headers::default(), huge).is_err());
    }
}
