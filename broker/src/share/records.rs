//! The records of `__share_group_state` in Kafka's layouts: snapshots of a share partition's state, and updates to them.
//!
//! A key is an `int16` type (0 snapshot, 1 update), the group, the topic's id and the partition; a value is an `int16` version 0 and its
//! fields. A snapshot without a value removes the state.
//!
//! Invariant: what [`ShareRecord::encode`] writes, [`ShareRecord::decode`] gives back unchanged. Input is never trusted.

use std::sync::Arc;

use base::{Offset, PartitionId, Timestamp};
use uuid::Uuid;

use super::in_flight::StateBatch;
use crate::group::layout::{GroupRecordError, Reader, Writer};

const SNAPSHOT_KEY: i16 = 0;
const UPDATE_KEY: i16 = 1;
/// Tag of the field that has the number of records that are done with.
const COMPLETE_TAG: u32 = 0;

/// A partition as a share group has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareKey {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub partition: PartitionId,
}

/// All of a share partition's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the snapshot; updates name the one they are to.
    pub snapshot_epoch: i32,
    /// Term of the state: another one whenever somebody sets the start offset.
    pub state_epoch: i32,
    /// Term of the partition's leader.
    pub leader_epoch: i32,
    /// First record that is not done with; -1 before the first was read.
    pub start_offset: Offset,
    /// How many records from there on are done with; -1 unknown.
    pub complete_count: i32,
    /// When the state was made.
    pub created: Timestamp,
    /// When it was written.
    pub written: Timestamp,
    /// What is not as it was before anybody read.
    pub batches: Vec<StateBatch>,
}

/// A change of a share partition's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The snapshot it is to.
    pub snapshot_epoch: i32,
    /// Term of the partition's leader.
    pub leader_epoch: i32,
    /// First record that is not done with; -1 for no change.
    pub start_offset: Offset,
    /// How many records from there on are done with; -1 unknown.
    pub complete_count: i32,
    /// What changed.
    pub batches: Vec<StateBatch>,
}

/// One record of `__share_group_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareRecord {
    /// All of a share partition's state; `None` removes it.
    Snapshot(ShareKey, Option<Snapshot>),
    /// A change of it; `None`, which nobody writes, changes nothing.
    Update(ShareKey, Option<Update>),
}

impl ShareRecord {
    /// Key and value.
    ///
    /// # Errors
    /// When the group's name is too long.
    pub fn encode(&self) -> Result<(Vec<u8>, Option<Vec<u8>>), GroupRecordError> {
        let (key_type, key, value) = match self {
            Self::Snapshot(key, value) => (SNAPSHOT_KEY, key, value.as_ref().map(encode_snapshot)),
            Self::Update(key, value) => (UPDATE_KEY, key, value.as_ref().map(encode_update)),
        };
        let mut out = Writer::default();
        out.i16(key_type);
        out.string("group", &key.group)?;
        out.uuid(key.topic);
        out.i32(key.partition);
        Ok((out.0, value))
    }

    /// Reads one record; `None` for a type that is not known.
    ///
    /// # Errors
    /// When key or value are not what their type and version say.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, GroupRecordError> {
        let mut input = Reader { bytes: key };
        let key_type = input.i16("key type")?;
        if !matches!(key_type, SNAPSHOT_KEY | UPDATE_KEY) {
            return Ok(None);
        }
        let key = ShareKey {
            group: input.string("group")?,
            topic: input.uuid("topic id")?,
            partition: input.i32("partition")?,
        };
        input.end("key")?;
        Ok(Some(match key_type {
            SNAPSHOT_KEY => Self::Snapshot(key, value.map(decode_snapshot).transpose()?),
            _ => Self::Update(key, value.map(decode_update).transpose()?),
        }))
    }
}

fn encode_snapshot(value: &Snapshot) -> Vec<u8> {
    let mut out = Writer::default();
    out.i16(0);
    out.i32(value.snapshot_epoch);
    out.i32(value.state_epoch);
    out.i32(value.leader_epoch);
    out.i64(value.start_offset);
    out.i64(value.created);
    out.i64(value.written);
    encode_batches(&mut out, &value.batches);
    encode_complete(&mut out, value.complete_count);
    out.0
}

fn encode_update(value: &Update) -> Vec<u8> {
    let mut out = Writer::default();
    out.i16(0);
    out.i32(value.snapshot_epoch);
    out.i32(value.leader_epoch);
    out.i64(value.start_offset);
    encode_batches(&mut out, &value.batches);
    encode_complete(&mut out, value.complete_count);
    out.0
}

fn encode_batches(out: &mut Writer, batches: &[StateBatch]) {
    out.compact_length(batches.len());
    for batch in batches {
        out.i64(batch.first);
        out.i64(batch.last);
        out.i8(batch.state);
        out.i16(batch.count);
        out.tags(&[]);
    }
}

fn encode_complete(out: &mut Writer, complete_count: i32) {
    let count = complete_count.to_be_bytes();
    let tags: &[(u32, &[u8])] = &[(COMPLETE_TAG, &count)];
    out.tags(if complete_count == -1 { &[] } else { tags });
}

fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, GroupRecordError> {
    let mut input = Reader { bytes };
    input.version_0("share snapshot")?;
    let mut value = Snapshot {
        snapshot_epoch: input.i32("snapshot epoch")?,
        state_epoch: input.i32("state epoch")?,
        leader_epoch: input.i32("leader epoch")?,
        start_offset: input.i64("start offset")?,
        complete_count: -1,
        created: input.i64("create timestamp")?,
        written: input.i64("write timestamp")?,
        batches: decode_batches(&mut input)?,
    };
    value.complete_count = decode_complete(&mut input)?;
    input.end("share snapshot value")?;
    Ok(value)
}

fn decode_update(bytes: &[u8]) -> Result<Update, GroupRecordError> {
    let mut input = Reader { bytes };
    input.version_0("share update")?;
    let mut value = Update {
        snapshot_epoch: input.i32("snapshot epoch")?,
        leader_epoch: input.i32("leader epoch")?,
        start_offset: input.i64("start offset")?,
        complete_count: -1,
        batches: decode_batches(&mut input)?,
    };
    value.complete_count = decode_complete(&mut input)?;
    input.end("share update value")?;
    Ok(value)
}

fn decode_batches(input: &mut Reader<'_>) -> Result<Vec<StateBatch>, GroupRecordError> {
    input.compact_array("state batches", |input| {
        let batch = StateBatch {
            first: input.i64("first offset")?,
            last: input.i64("last offset")?,
            state: input.i8("delivery state")?,
            count: input.i16("delivery count")?,
        };
        input.tags(|_, _| Ok(()))?;
        if batch.first < 0 || batch.last < batch.first || batch.last == Offset::MAX {
            return Err(GroupRecordError::Invalid { field: "state batch", reason: "not a range of offsets" });
        }
        Ok(batch)
    })
}

fn decode_complete(input: &mut Reader<'_>) -> Result<i32, GroupRecordError> {
    let mut complete_count = -1;
    input.tags(|tag, content| {
        if tag == COMPLETE_TAG {
            complete_count = Reader { bytes: content }.i32("delivery complete count")?;
        }
        Ok(())
    })?;
    Ok(complete_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0009612d672d7368617265cd8abc83c59043d98de2869badc9452300000000";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn read(key: &str, value: &str) -> ShareRecord {
        let (key, value) = (bytes(key), bytes(value));
        let record = ShareRecord::decode(&key, Some(&value)).unwrap().unwrap();
        assert_eq!(record.encode().unwrap(), (key, Some(value)));
        record
    }

    /// As Apache Kafka 4.3.1 wrote them.
    #[test]
    fn records_of_kafka_are_read_and_written_to_the_byte() {
        let value = "0000000000000000000200000000ffffffffffffffff000001a1fd5c3293000001a1fd5c32930100";
        let ShareRecord::Snapshot(key, Some(snapshot)) = read(&format!("0000{KEY}"), value) else { panic!("snapshot") };
        assert_eq!((key.group.as_ref(), key.partition), ("a-g-share", 0));
        assert_eq!((snapshot.state_epoch, snapshot.start_offset, snapshot.complete_count), (2, -1, -1));
        let value = "00000000000000000000000000000000000002000000000000000000000000000000040200010001000400000005";
        let ShareRecord::Update(_, Some(update)) = read(&format!("0001{KEY}"), value) else { panic!("update") };
        assert_eq!((update.start_offset, update.complete_count), (0, 5));
        assert_eq!(update.batches, [StateBatch { first: 0, last: 4, state: 2, count: 1 }]);
    }

    #[test]
    fn records_cut_short_are_errors() {
        let value =
            bytes("00000000000000000000000000000000000002000000000000000000000000000000040200010001000400000005");
        let key = bytes(&format!("0001{KEY}"));
        for end in 0..value.len() {
            assert!(ShareRecord::decode(&key, Some(&value[..end])).is_err(), "{end}");
        }
        for end in 0..key.len() {
            assert!(ShareRecord::decode(&key[..end], Some(&value)).is_err(), "{end}");
        }
    }
}
