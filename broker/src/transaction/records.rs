//! Keys and values of `__transaction_state`, in Kafka's layouts.
//!
//! A key is `int16` 0 and the transactional id; a value is an `int16` version and its fields; no value says that the id
//! has expired. Value version 1 (from `transaction.version` 1 on) is flexible and has more fields, as tags.
//!
//! Invariant: what [`encode_value`] writes in version 1, [`decode`] gives back unchanged. Input is never trusted: a record
//! cut short or with a length beyond its end is an error, and nothing is allocated from a declared length alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{PartitionId, ProducerEpoch, ProducerId, Timestamp};

const KEY_VERSION: i16 = 0;

/// Where a transactional id stands. Numbers as on disk.
///
/// ```text
/// Empty ──────► Ongoing ──► PrepareCommit ──► CompleteCommit ─┐
///   ▲             │  ▲                                        ├─► Ongoing, Empty
///   │             └──┼────► PrepareAbort ───► CompleteAbort ──┘
///   └─ (initialised) │         ▲ with version 2 also from Empty and Complete: an abort raises the epoch
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// No transaction yet in this epoch.
    Empty,
    /// Partitions have been added.
    Ongoing,
    /// Decided: the commit markers are being written.
    PrepareCommit,
    /// Decided: the abort markers are being written.
    PrepareAbort,
    /// All commit markers are written.
    CompleteCommit,
    /// All abort markers are written.
    CompleteAbort,
    /// The id has expired; never on disk.
    Dead,
    /// The producer is being fenced; never on disk.
    PrepareEpochFence,
}

impl TransactionState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// As descriptions and filters name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a transaction's end is decided, and its markers are being written.
    pub const fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    const fn code(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
            Self::Dead => 6,
            Self::PrepareEpochFence => 7,
        }
    }
}

/// A topic's name and a partition of it.
pub type TopicAndPartition = (Arc<str>, PartitionId);

/// What is stored of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionValue {
    /// The producer's id.
    pub producer_id: ProducerId,
    /// Its id before the last change; -1 none.
    pub previous_producer_id: ProducerId,
    /// The id it will have once the transaction is complete, when its epochs are used up; -1 none.
    pub next_producer_id: ProducerId,
    /// The producer's epoch; -1 before the first.
    pub producer_epoch: ProducerEpoch,
    /// `transaction.timeout.ms`.
    pub timeout_ms: i32,
    /// Where it stands.
    pub state: TransactionState,
    /// The partitions of the open transaction.
    pub partitions: BTreeSet<TopicAndPartition>,
    /// When it last changed.
    pub last_update_ms: Timestamp,
    /// When the transaction began; -1 none.
    pub start_ms: Timestamp,
    /// The transaction protocol of the producer: 0, or 2 for KIP-890.
    pub client_version: i16,
}

/// Why a record of `__transaction_state` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionRecordError {
    /// The bytes end before the field does.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// The field's content is not allowed.
    #[error("{0} is invalid")]
    Invalid(&'static str),
    /// A version newer than the ones known.
    #[error("{0} has unknown version {1}")]
    UnknownVersion(&'static str, i16),
}

type Error = TransactionRecordError;

/// The key of a transactional id, of at most 32767 bytes (as requests hold them).
pub fn encode_key(id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + id.len());
    key.extend_from_slice(&KEY_VERSION.to_be_bytes());
    put_string(&mut key, id);
    key
}

/// The value, in the version that goes with the feature level `transaction_version`.
pub fn encode_value(value: &TransactionValue, transaction_version: i16) -> Vec<u8> {
    let flexible = transaction_version >= 1;
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&i16::from(flexible).to_be_bytes());
    out.extend_from_slice(&value.producer_id.to_be_bytes());
    out.extend_from_slice(&value.producer_epoch.to_be_bytes());
    out.extend_from_slice(&value.timeout_ms.to_be_bytes());
    out.extend_from_slice(&value.state.code().to_be_bytes());
    put_partitions(&mut out, value, flexible);
    out.extend_from_slice(&value.last_update_ms.to_be_bytes());
    out.extend_from_slice(&value.start_ms.to_be_bytes());
    if flexible {
        let ids = [(0, value.previous_producer_id), (1, value.next_producer_id)];
        let ids = ids.into_iter().filter(|(_, id)| *id != -1);
        let version = (value.client_version != 0).then_some(value.client_version);
        out.push((ids.clone().count() + version.iter().count()) as u8);
        for (tag, id) in ids {
            out.extend_from_slice(&[tag, 8]);
            out.extend_from_slice(&id.to_be_bytes());
        }
        if let Some(version) = version {
            out.extend_from_slice(&[2, 2]);
            out.extend_from_slice(&version.to_be_bytes());
        }
    }
    out
}

fn put_partitions(out: &mut Vec<u8>, value: &TransactionValue, flexible: bool) {
    if value.state == TransactionState::Empty {
        match flexible {
            true => out.push(0),
            false => out.extend_from_slice(&(-1i32).to_be_bytes()),
        }
        return;
    }
    let mut topics: Vec<(&str, Vec<PartitionId>)> = Vec::new();
    for (topic, partition) in &value.partitions {
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic.as_ref() => partitions.push(*partition),
            _ => topics.push((topic, vec![*partition])),
        }
    }
    put_length(out, topics.len(), flexible);
    for (topic, partitions) in topics {
        if flexible {
            put_varint(out, topic.len() as u32 + 1);
            out.extend_from_slice(topic.as_bytes());
        } else {
            put_string(out, topic);
        }
        put_length(out, partitions.len(), flexible);
        for partition in partitions {
            out.extend_from_slice(&partition.to_be_bytes());
        }
        if flexible {
            out.push(0);
        }
    }
}

/// Topic names and ids come from requests and metadata, which hold at most 32767 bytes.
fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_length(out: &mut Vec<u8>, length: usize, flexible: bool) {
    match flexible {
        true => put_varint(out, length as u32 + 1),
        false => out.extend_from_slice(&(length as i32).to_be_bytes()),
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a record: the transactional id, and its state unless it has expired.
///
/// # Errors
/// When key or value are not what their version says.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<(Arc<str>, Option<TransactionValue>), Error> {
    let mut input = Reader(key);
    match input.i16("key version")? {
        KEY_VERSION => {}
        other => return Err(Error::UnknownVersion("key", other)),
    }
    let id = input.string("transactional id")?;
    Ok((id, value.map(decode_value).transpose()?))
}

fn decode_value(bytes: &[u8]) -> Result<TransactionValue, Error> {
    let mut input = Reader(bytes);
    let version = input.i16("value version")?;
    if !(0..=1).contains(&version) {
        return Err(Error::UnknownVersion("value", version));
    }
    let flexible = version == 1;
    let mut value = TransactionValue {
        producer_id: input.i64("producer id")?,
        previous_producer_id: -1,
        next_producer_id: -1,
        producer_epoch: input.i16("producer epoch")?,
        timeout_ms: input.i32("timeout")?,
        state: state_of(input.i8("status")?)?,
        partitions: input.partitions(flexible)?,
        last_update_ms: input.i64("last update")?,
        start_ms: input.i64("start")?,
        client_version: 0,
    };
    if flexible {
        for _ in 0..input.varint("tag count")? {
            let tag = input.varint("tag")?;
            let size = input.varint("tag size")? as usize;
            let mut content = Reader(input.take("tag content", size)?);
            match tag {
                0 => value.previous_producer_id = content.i64("previous producer id")?,
                1 => value.next_producer_id = content.i64("next producer id")?,
                2 => value.client_version = content.i16("client transaction version")?,
                _ => {}
            }
        }
    }
    Ok(value)
}

fn state_of(code: i8) -> Result<TransactionState, Error> {
    let state = usize::try_from(code).ok().and_then(|code| TransactionState::ALL.get(code)).copied();
    state
        .filter(|state| !matches!(state, TransactionState::Dead | TransactionState::PrepareEpochFence))
        .ok_or(Error::Invalid("status"))
}

/// Reads fields off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, size: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.0.split_at_checked(size).ok_or(Error::Truncated(field))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        self.take(field, N)?.try_into().map_err(|_| Error::Truncated(field))
    }

    fn i8(&mut self, field: &'static str) -> Result<i8, Error> {
        self.array(field).map(i8::from_be_bytes)
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, Error> {
        self.array(field).map(i16::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, Error> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, Error> {
        self.array(field).map(i64::from_be_bytes)
    }

    fn varint(&mut self, field: &'static str) -> Result<u32, Error> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Error::Invalid(field));
            }
        }
        Err(Error::Invalid(field))
    }

    /// `None` for null.
    fn length(&mut self, field: &'static str, flexible: bool) -> Result<Option<usize>, Error> {
        if flexible {
            return Ok(self.varint(field)?.checked_sub(1).map(|length| length as usize));
        }
        match self.i32(field)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Error::Invalid(field)),
        }
    }

    fn text(&mut self, field: &'static str, size: usize) -> Result<Arc<str>, Error> {
        let bytes = self.take(field, size)?;
        std::str::from_utf8(bytes).map(Arc::from).map_err(|_| Error::Invalid(field))
    }

    fn string(&mut self, field: &'static str) -> Result<Arc<str>, Error> {
        let size = usize::try_from(self.i16(field)?).map_err(|_| Error::Invalid(field))?;
        self.text(field, size)
    }

    fn partitions(&mut self, flexible: bool) -> Result<BTreeSet<TopicAndPartition>, Error> {
        let mut partitions = BTreeSet::new();
        for _ in 0..self.length("partitions", flexible)?.unwrap_or(0) {
            let topic = if flexible {
                let size = self.length("topic", true)?.ok_or(Error::Invalid("topic"))?;
                self.text("topic", size)?
            } else {
                self.string("topic")?
            };
            for _ in 0..self.length("partition ids", flexible)?.ok_or(Error::Invalid("partition ids"))? {
                partitions.insert((Arc::clone(&topic), self.i32("partition id")?));
            }
            if flexible {
                for _ in 0..self.varint("tag count")? {
                    self.varint("tag")?;
                    let size = self.varint("tag size")? as usize;
                    self.take("tag content", size)?;
                }
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn partitions(list: &[(&str, i32)]) -> BTreeSet<TopicAndPartition> {
        list.iter().map(|(topic, partition)| (Arc::from(*topic), *partition)).collect()
    }

    /// Written by Apache Kafka 4.3.1 for one transactional id with `transaction.version` 2.
    const KEY: &str = "00000007612d74786e2d31";
    const EMPTY: &str = "0001000000000000000b0000000dbba00000000001a1fd5bd8b0ffffffffffffffff010008000000000000000b";
    const ONGOING: &str = "0001000000000000000b0000000dbba0010205612d7478020000000000000001a1fd5bdb03000001a1fd5bdb03\
                           020008000000000000000b02020002";
    const COMMITTED: &str =
        "0001000000000000000b0001000dbba00401000001a1fd5bde34000001a1fd5bdb03020008000000000000000b02020002";

    #[test]
    fn records_that_kafka_wrote_are_read_and_written_back() {
        let key = unhex(KEY);
        let cases = [
            (EMPTY, TransactionState::Empty, 0, partitions(&[]), -1, 0),
            (ONGOING, TransactionState::Ongoing, 0, partitions(&[("a-tx", 0)]), 1_795_252_017_923, 2),
            (COMMITTED, TransactionState::CompleteCommit, 1, partitions(&[]), 1_795_252_017_923, 2),
        ];
        for (hex, state, epoch, partitions, start_ms, client_version) in cases {
            let bytes = unhex(hex);
            let (id, value) = decode(&key, Some(&bytes)).unwrap();
            let value = value.unwrap();
            assert_eq!(id.as_ref(), "a-txn-1");
            assert_eq!((value.state, value.producer_epoch, value.start_ms), (state, epoch, start_ms));
            assert_eq!((value.producer_id, value.previous_producer_id, value.next_producer_id), (11, 11, -1));
            assert_eq!((value.timeout_ms, value.client_version), (900_000, client_version));
            assert_eq!(value.partitions, partitions);
            assert_eq!(encode_value(&value, 2), bytes);
        }
        assert_eq!(encode_key("a-txn-1"), key);
        assert_eq!(decode(&key, None).unwrap(), (Arc::from("a-txn-1"), None));
    }

    #[test]
    fn the_older_layout_has_everything_but_the_tags() {
        let value = TransactionValue {
            producer_id: 7,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 3,
            timeout_ms: 60_000,
            state: TransactionState::Ongoing,
            partitions: partitions(&[("a", 0), ("a", 4), ("b", 1)]),
            last_update_ms: 5,
            start_ms: 4,
            client_version: 0,
        };
        let bytes = encode_value(&value, 0);
        assert_eq!(bytes[..2], [0, 0]);
        assert_eq!(decode(&encode_key("x"), Some(&bytes)).unwrap().1, Some(value.clone()));
        let empty =
            TransactionValue { state: TransactionState::Empty, partitions: BTreeSet::new(), start_ms: -1, ..value };
        assert_eq!(decode(&encode_key("x"), Some(&encode_value(&empty, 0))).unwrap().1, Some(empty));
    }

    #[test]
    fn no_cut_or_changed_byte_makes_a_record_panic() {
        let (key, value) = (unhex(KEY), unhex(ONGOING));
        for end in 0..value.len() {
            let _ = decode(&key, Some(&value[..end]));
        }
        for at in 0..value.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = value.clone();
                bytes[at] = byte;
                let _ = decode(&key, Some(&bytes));
            }
        }
        for end in 0..key.len() {
            assert!(decode(&key[..end], None).is_err());
        }
    }
}
