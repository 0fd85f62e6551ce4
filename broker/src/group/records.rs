//! Keys and values of `__consumer_offsets`, in Kafka's layouts: which of them is whose, and those of committed
//! offsets and classic groups.
//!
//! A key is an `int16` type and its fields; a value is an `int16` version and its fields; no value is a tombstone.
//! Written are the versions that Kafka 4.3 writes: offsets v4 (v1 when the commit carries an expiry of its own), groups
//! v3. Read are all versions. The records of consumer groups are [`super::consumer::records`]'s, those of share groups
//! [`super::share::records`]'s, those of streams groups [`super::streams::records`]'s; key types of kinds of groups that are not known are reported as [`Decoded::Other`] and
//! left alone.
//!
//! Invariant: what [`GroupRecord::encode`] writes, [`decode`] gives back unchanged. Input is never trusted: a record cut
//! short or with a length beyond its end is an error, and nothing is allocated from a declared length alone.

use std::sync::Arc;

use base::{Offset, PartitionId, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

use super::consumer::records::ConsumerRecord;
pub use super::layout::GroupRecordError;
use super::layout::{Reader, Writer};
use super::share::records::ShareGroupRecord;
use super::streams::records::StreamsRecord;

const LEGACY_OFFSET_KEY: i16 = 0;
const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The offset, as the client gave it.
    pub offset: Offset,
    /// Leader epoch of the last record consumed; -1 when unknown.
    pub leader_epoch: i32,
    /// What the client attached.
    pub metadata: Arc<str>,
    /// When the commit was made.
    pub commit_timestamp: Timestamp,
    /// When the offset ends, if the commit itself said so (old clients).
    pub expire_timestamp: Option<Timestamp>,
    /// Id of the topic at the time of the commit; nil when unknown.
    pub topic_id: Uuid,
}

/// One member of a stored classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    /// Id given by the coordinator.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// Client id of the member's connection.
    pub client_id: Arc<str>,
    /// Address of the member's connection.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the selected protocol.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

/// A stored classic group: one completed generation, or an empty group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue {
    /// `consumer`, `connect`, ..; empty for a group that never had a member.
    pub protocol_type: Arc<str>,
    /// Number of the generation.
    pub generation: i32,
    /// The protocol (assignor) selected.
    pub protocol: Option<Arc<str>>,
    /// Member id of the leader.
    pub leader: Option<Arc<str>>,
    /// When the group entered its state; -1 when unknown.
    pub state_timestamp: Timestamp,
    /// The members; none when the group is empty.
    pub members: Vec<MemberValue>,
}

/// One record of `__consumer_offsets` that this coordinator writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// A committed offset, or its removal.
    Offset {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// The commit; `None` removes it.
        value: Option<OffsetValue>,
    },
    /// A classic group, or its removal.
    Group {
        /// The group.
        group: Arc<str>,
        /// The group's state; `None` removes it.
        value: Option<GroupValue>,
    },
    /// A part of a consumer group, or its removal.
    Consumer {
        /// The group.
        group: Arc<str>,
        /// Which part, and what it is now.
        record: ConsumerRecord,
    },
    /// A part of a share group, or its removal.
    Share {
        /// The group.
        group: Arc<str>,
        /// Which part, and what it is now.
        record: ShareGroupRecord,
    },
    /// A part of a streams group, or its removal.
    Streams {
        /// The group.
        group: Arc<str>,
        /// Which part, and what it is now.
        record: StreamsRecord,
    },
}

/// What a record of `__consumer_offsets` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A record of this coordinator.
    Record(GroupRecord),
    /// A record of a kind of group that is not known.
    Other {
        /// Type of the key.
        key_type: i16,
    },
}

impl GroupRecord {
    /// Key and value as bytes; no value for a tombstone.
    ///
    /// # Errors
    /// `TooLong` for a string above 32767 bytes, which the layout cannot hold.
    pub fn encode(&self) -> Result<(Vec<u8>, Option<Vec<u8>>), GroupRecordError> {
        let mut key = Writer::default();
        match self {
            GroupRecord::Offset { group, topic, partition, value } => {
                key.i16(OFFSET_KEY);
                key.string("group", group)?;
                key.string("topic", topic)?;
                key.i32(*partition);
                Ok((key.0, value.as_ref().map(encode_offset).transpose()?))
            }
            GroupRecord::Group { group, value } => {
                key.i16(GROUP_KEY);
                key.string("group", group)?;
                Ok((key.0, value.as_ref().map(encode_group).transpose()?))
            }
            GroupRecord::Consumer { group, record } => {
                let value = record.encode(group, &mut key)?;
                Ok((key.0, value))
            }
            GroupRecord::Share { group, record } => {
                let value = record.encode(group, &mut key)?;
                Ok((key.0, value))
            }
            GroupRecord::Streams { group, record } => {
                let value = record.encode(group, &mut key)?;
                Ok((key.0, value))
            }
        }
    }
}

/// Reads one record.
///
/// # Errors
/// When key or value are not what their type and version say.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Decoded, GroupRecordError> {
    let mut key = Reader { bytes: key };
    let key_type = key.i16("key type")?;
    let record = match key_type {
        LEGACY_OFFSET_KEY | OFFSET_KEY => GroupRecord::Offset {
            group: key.string("group")?,
            topic: key.string("topic")?,
            partition: key.i32("partition")?,
            value: value.map(decode_offset).transpose()?,
        },
        GROUP_KEY => GroupRecord::Group { group: key.string("group")?, value: value.map(decode_group).transpose()? },
        key_type => match ConsumerRecord::decode(key_type, &mut key, value)? {
            Some((group, record)) => GroupRecord::Consumer { group, record },
            None => match ShareGroupRecord::decode(key_type, &mut key, value)? {
                Some((group, record)) => GroupRecord::Share { group, record },
                None => match StreamsRecord::decode(key_type, &mut key, value)? {
                    Some((group, record)) => GroupRecord::Streams { group, record },
                    None => return Ok(Decoded::Other { key_type }),
                },
            },
        },
    };
    key.end("key")?;
    Ok(Decoded::Record(record))
}

fn encode_offset(value: &OffsetValue) -> Result<Vec<u8>, GroupRecordError> {
    let mut out = Writer::default();
    if let Some(expire_timestamp) = value.expire_timestamp {
        out.i16(1);
        out.i64(value.offset);
        out.string("metadata", &value.metadata)?;
        out.i64(value.commit_timestamp);
        out.i64(expire_timestamp);
        return Ok(out.0);
    }
    out.i16(4);
    out.i64(value.offset);
    out.i32(value.leader_epoch);
    out.compact_string(&value.metadata);
    out.i64(value.commit_timestamp);
    if value.topic_id.is_nil() {
        out.varint(0);
    } else {
        out.varint(1);
        out.varint(0);
        out.varint(16);
        out.0.extend_from_slice(value.topic_id.as_bytes());
    }
    Ok(out.0)
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, GroupRecordError> {
    let mut input = Reader { bytes };
    let version = input.i16("value version")?;
    let flexible = version >= 4;
    if !(0..=4).contains(&version) {
        return Err(GroupRecordError::UnknownVersion { kind: "offset", version });
    }
    let mut value = OffsetValue {
        offset: input.i64("offset")?,
        leader_epoch: if version >= 3 { input.i32("leader epoch")? } else { -1 },
        metadata: if flexible { input.compact_string("metadata")? } else { input.string("metadata")? },
        commit_timestamp: input.i64("commit timestamp")?,
        expire_timestamp: None,
        topic_id: Uuid::nil(),
    };
    if version == 1 {
        let expire_timestamp = input.i64("expire timestamp")?;
        value.expire_timestamp = (expire_timestamp != -1).then_some(expire_timestamp);
    }
    if flexible {
        input.tags(|tag, content| {
            if tag == 0 {
                let id: [u8; 16] = content
                    .try_into()
                    .map_err(|_| GroupRecordError::Invalid { field: "topic id", reason: "not 16 bytes" })?;
                value.topic_id = Uuid::from_bytes(id);
            }
            Ok(())
        })?;
    }
    input.end("offset value")?;
    Ok(value)
}

fn encode_group(value: &GroupValue) -> Result<Vec<u8>, GroupRecordError> {
    let mut out = Writer::default();
    out.i16(3);
    out.string("protocol type", &value.protocol_type)?;
    out.i32(value.generation);
    out.nullable_string("protocol", value.protocol.as_deref())?;
    out.nullable_string("leader", value.leader.as_deref())?;
    out.i64(value.state_timestamp);
    out.length("members", value.members.len())?;
    for member in &value.members {
        out.string("member id", &member.member_id)?;
        out.nullable_string("group instance id", member.group_instance_id.as_deref())?;
        out.string("client id", &member.client_id)?;
        out.string("client host", &member.client_host)?;
        out.i32(member.rebalance_timeout_ms);
        out.i32(member.session_timeout_ms);
        out.length("subscription", member.subscription.len())?;
        out.0.extend_from_slice(&member.subscription);
        out.length("assignment", member.assignment.len())?;
        out.0.extend_from_slice(&member.assignment);
    }
    Ok(out.0)
}

fn decode_group(bytes: &[u8]) -> Result<GroupValue, GroupRecordError> {
    let mut input = Reader { bytes };
    let version = input.i16("value version")?;
    if !(0..=4).contains(&version) {
        return Err(GroupRecordError::UnknownVersion { kind: "group", version });
    }
    let flexible = version >= 4;
    let protocol_type =
        if flexible { input.compact_string("protocol type")? } else { input.string("protocol type")? };
    let generation = input.i32("generation")?;
    let protocol = input.either_nullable("protocol", flexible)?;
    let leader = input.either_nullable("leader", flexible)?;
    let state_timestamp = if version >= 2 { input.i64("state timestamp")? } else { -1 };
    let count = if flexible { input.compact_length("members")? } else { input.length("members")? };
    let mut members = Vec::new();
    for _ in 0..count {
        let member_id = if flexible { input.compact_string("member id")? } else { input.string("member id")? };
        let group_instance_id = if version >= 3 { input.either_nullable("group instance id", flexible)? } else { None };
        let client_id = if flexible { input.compact_string("client id")? } else { input.string("client id")? };
        let client_host = if flexible { input.compact_string("client host")? } else { input.string("client host")? };
        let rebalance_timeout = if version >= 1 { Some(input.i32("rebalance timeout")?) } else { None };
        let session_timeout_ms = input.i32("session timeout")?;
        let subscription = input.either_bytes("subscription", flexible)?;
        let assignment = input.either_bytes("assignment", flexible)?;
        if flexible {
            input.tags(|_, _| Ok(()))?;
        }
        members.push(MemberValue {
            member_id,
            group_instance_id,
            client_id,
            client_host,
            // As Kafka: -1 (or absent, version 0) means the session timeout.
            rebalance_timeout_ms: rebalance_timeout.filter(|ms| *ms != -1).unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription,
            assignment,
        });
    }
    if flexible {
        input.tags(|_, _| Ok(()))?;
    }
    input.end("group value")?;
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_timestamp, members })
}
