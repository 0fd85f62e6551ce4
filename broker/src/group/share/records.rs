//! The records of share groups in `__consumer_offsets` (key types 10 to 15), in Kafka's layouts. All values are version 0 and flexible.
//!
//! Invariant: what `ShareGroupRecord::encode` writes, `ShareGroupRecord::decode` gives back unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::PartitionId;
use uuid::Uuid;

use crate::group::consumer::records::{
    GroupEpoch, Partitions, decode_partitions, decode_target, encode_partitions, encode_target,
};
use crate::group::layout::{GroupRecordError, Reader, Writer};
use crate::group::target_epoch::TargetEpoch;

const MEMBER_KEY: i16 = 10;
const GROUP_KEY: i16 = 11;
const TARGET_EPOCH_KEY: i16 = 12;
const TARGET_KEY: i16 = 13;
const CURRENT_KEY: i16 = 14;
const STATE_PARTITIONS_KEY: i16 = 15;
/// The only state of a member: it has what it is to have.
const STABLE: i8 = 0;

/// One record of a share group; a value of `None` removes what its key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareGroupRecord {
    /// A member as it has introduced itself.
    Member {
        /// The member's id.
        member_id: Arc<str>,
        /// What it said.
        value: Option<MemberMetadata>,
    },
    /// The group's epoch.
    Group(Option<GroupEpoch>),
    /// The group epoch that the target assignment was computed for.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to read.
    Target {
        /// The member's id.
        member_id: Arc<str>,
        /// Its partitions.
        value: Option<Partitions>,
    },
    /// What a member reads.
    Current {
        /// The member's id.
        member_id: Arc<str>,
        /// Its epochs and partitions.
        value: Option<CurrentAssignment>,
    },
    /// The partitions whose share state is there.
    StatePartitions(Option<StatePartitions>),
}

/// A member as it has introduced itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// Client id of its connection.
    pub client_id: Arc<str>,
    /// Address of its connection.
    pub client_host: Arc<str>,
    /// Topics it wants; sorted.
    pub topic_names: BTreeSet<Arc<str>>,
}

/// What a member reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentAssignment {
    /// The assignment epoch it has come to.
    pub epoch: i32,
    /// The one before.
    pub previous_epoch: i32,
    /// Its partitions.
    pub assigned: Partitions,
}

/// Partitions of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPartitions {
    /// Name of the topic.
    pub name: Arc<str>,
    /// Its partitions.
    pub partitions: BTreeSet<PartitionId>,
}

/// The partitions whose share state is there, by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePartitions {
    /// Those whose state is being made.
    pub initializing: BTreeMap<Uuid, TopicPartitions>,
    /// Those whose state is there.
    pub initialized: BTreeMap<Uuid, TopicPartitions>,
    /// Topics whose state is being removed, with their names.
    pub deleting: BTreeMap<Uuid, Arc<str>>,
}

impl ShareGroupRecord {
    /// It removes what its key names.
    pub fn is_removal(&self) -> bool {
        match self {
            Self::Member { value, .. } => value.is_none(),
            Self::Group(value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target { value, .. } => value.is_none(),
            Self::Current { value, .. } => value.is_none(),
            Self::StatePartitions(value) => value.is_none(),
        }
    }

    /// Writes the key of this record of `group` and gives the value; none for a removal.
    pub(in crate::group) fn encode(&self, group: &str, key: &mut Writer) -> Result<Option<Vec<u8>>, GroupRecordError> {
        let mut start = |key_type: i16, member_id: Option<&str>| {
            key.i16(key_type);
            key.string("group", group)?;
            member_id.map_or(Ok(()), |member_id| key.string("member id", member_id))
        };
        match self {
            Self::Member { member_id, value } => {
                start(MEMBER_KEY, Some(member_id))?;
                Ok(value.as_ref().map(encode_member))
            }
            Self::Group(value) => {
                start(GROUP_KEY, None)?;
                Ok(value.as_ref().map(encode_group))
            }
            Self::TargetEpoch(value) => {
                start(TARGET_EPOCH_KEY, None)?;
                Ok(value.as_ref().map(TargetEpoch::encode))
            }
            Self::Target { member_id, value } => {
                start(TARGET_KEY, Some(member_id))?;
                Ok(value.as_ref().map(encode_target))
            }
            Self::Current { member_id, value } => {
                start(CURRENT_KEY, Some(member_id))?;
                Ok(value.as_ref().map(encode_current))
            }
            Self::StatePartitions(value) => {
                start(STATE_PARTITIONS_KEY, None)?;
                Ok(value.as_ref().map(encode_state_partitions))
            }
        }
    }

    /// Reads the rest of a key of this type and its value: the group and its record; `None` for a type of no share group.
    pub(in crate::group) fn decode(
        key_type: i16,
        key: &mut Reader<'_>,
        value: Option<&[u8]>,
    ) -> Result<Option<(Arc<str>, Self)>, GroupRecordError> {
        if !(MEMBER_KEY..=STATE_PARTITIONS_KEY).contains(&key_type) {
            return Ok(None);
        }
        let group = key.string("group")?;
        let record = match key_type {
            MEMBER_KEY => {
                Self::Member { member_id: key.string("member id")?, value: value.map(decode_member).transpose()? }
            }
            GROUP_KEY => Self::Group(value.map(decode_group).transpose()?),
            TARGET_EPOCH_KEY => Self::TargetEpoch(value.map(TargetEpoch::decode).transpose()?),
            TARGET_KEY => {
                Self::Target { member_id: key.string("member id")?, value: value.map(decode_target).transpose()? }
            }
            CURRENT_KEY => {
                Self::Current { member_id: key.string("member id")?, value: value.map(decode_current).transpose()? }
            }
            _ => Self::StatePartitions(value.map(decode_state_partitions).transpose()?),
        };
        Ok(Some((group, record)))
    }
}

fn encode_member(member: &MemberMetadata) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.compact_nullable_string(member.rack_id.as_deref());
    out.compact_string(&member.client_id);
    out.compact_string(&member.client_host);
    out.compact_length(member.topic_names.len());
    member.topic_names.iter().for_each(|name| out.compact_string(name));
    out.tags(&[]);
    out.0
}

fn decode_member(bytes: &[u8]) -> Result<MemberMetadata, GroupRecordError> {
    Reader::whole_version_0(bytes, "share group member", |input| {
        Ok(MemberMetadata {
            rack_id: input.compact_nullable_string("rack id")?,
            client_id: input.compact_string("client id")?,
            client_host: input.compact_string("client host")?,
            topic_names: input
                .compact_array("topic names", |input| input.compact_string("topic name"))?
                .into_iter()
                .collect(),
        })
    })
}

fn encode_group(group: &GroupEpoch) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.i32(group.epoch);
    out.i64(group.metadata_hash);
    out.tags(&[]);
    out.0
}

fn decode_group(bytes: &[u8]) -> Result<GroupEpoch, GroupRecordError> {
    Reader::whole_version_0(bytes, "share group", |input| {
        Ok(GroupEpoch { epoch: input.i32("group epoch")?, metadata_hash: input.i64("metadata hash")? })
    })
}

fn encode_current(current: &CurrentAssignment) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.i32(current.epoch);
    out.i32(current.previous_epoch);
    out.i8(STABLE);
    encode_partitions(&mut out, &current.assigned);
    out.tags(&[]);
    out.0
}

fn decode_current(bytes: &[u8]) -> Result<CurrentAssignment, GroupRecordError> {
    Reader::whole_version_0(bytes, "share current assignment", |input| {
        let (epoch, previous_epoch) = (input.i32("member epoch")?, input.i32("previous member epoch")?);
        input.i8("member state")?;
        Ok(CurrentAssignment { epoch, previous_epoch, assigned: decode_partitions(input)? })
    })
}

fn encode_state_partitions(parts: &StatePartitions) -> Vec<u8> {
    let mut out = Writer::version_0();
    for topics in [&parts.initializing, &parts.initialized] {
        out.compact_length(topics.len());
        for (topic, known) in topics {
            out.uuid(*topic);
            out.compact_string(&known.name);
            out.compact_length(known.partitions.len());
            known.partitions.iter().for_each(|partition| out.i32(*partition));
            out.tags(&[]);
        }
    }
    out.compact_length(parts.deleting.len());
    for (topic, name) in &parts.deleting {
        out.uuid(*topic);
        out.compact_string(name);
        out.tags(&[]);
    }
    out.tags(&[]);
    out.0
}

fn decode_state_partitions(bytes: &[u8]) -> Result<StatePartitions, GroupRecordError> {
    fn topics(input: &mut Reader<'_>) -> Result<BTreeMap<Uuid, TopicPartitions>, GroupRecordError> {
        let topics = input.compact_array("topics", |input| {
            let topic = input.uuid("topic id")?;
            let name = input.compact_string("topic name")?;
            let partitions = input.compact_array("partitions", |input| input.i32("partition"))?;
            input.no_tags()?;
            Ok((topic, TopicPartitions { name, partitions: partitions.into_iter().collect() }))
        })?;
        Ok(topics.into_iter().collect())
    }
    Reader::whole_version_0(bytes, "share state partitions", |input| {
        let (initializing, initialized) = (topics(input)?, topics(input)?);
        let deleting = input.compact_array("deleting topics", |input| {
            let topic = (input.uuid("topic id")?, input.compact_string("topic name")?);
            input.no_tags()?;
            Ok(topic)
        })?;
        Ok(StatePartitions { initializing, initialized, deleting: deleting.into_iter().collect() })
    })
}
