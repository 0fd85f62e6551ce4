//! The records of consumer groups in `__consumer_offsets` (key types 3 to 8 and 16), in Kafka's layouts.
//!
//! All values are version 0 and flexible. Type 4 held the partitions of subscribed topics up to Kafka 4.0; since then the group's
//! record has a hash of them instead, and what is left of type 4 is removed.
//!
//! Invariant: what `ConsumerRecord::encode` writes, `ConsumerRecord::decode` gives back unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{PartitionId, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

use crate::group::layout::{GroupRecordError, Reader, Writer};
use crate::group::target_epoch::TargetEpoch;

const GROUP_KEY: i16 = 3;
const PARTITIONS_KEY: i16 = 4;
const MEMBER_KEY: i16 = 5;
const TARGET_EPOCH_KEY: i16 = 6;
const TARGET_KEY: i16 = 7;
const CURRENT_KEY: i16 = 8;
const REGEX_KEY: i16 = 16;

/// Partitions by topic id.
pub type Partitions = BTreeMap<Uuid, BTreeSet<PartitionId>>;

/// Partitions by topic id, each with the member epoch at which its member got it.
pub type AssignedPartitions = BTreeMap<Uuid, BTreeMap<PartitionId, i32>>;

/// One record of a consumer group; a value of `None` removes what its key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerRecord {
    /// The group's epoch.
    Group(Option<GroupEpoch>),
    /// Partitions of subscribed topics, as Kafka kept them up to 4.0: only their removal is written.
    SubscribedPartitions,
    /// A member as it has introduced itself.
    Member {
        /// The member's id.
        member_id: Arc<str>,
        /// What it said.
        value: Option<MemberMetadata>,
    },
    /// The group epoch that the target assignment was computed for.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to have.
    Target {
        /// The member's id.
        member_id: Arc<str>,
        /// Its partitions.
        value: Option<Partitions>,
    },
    /// What a member has.
    Current {
        /// The member's id.
        member_id: Arc<str>,
        /// Its epochs and partitions.
        value: Option<CurrentAssignment>,
    },
    /// The topics that a regular expression stands for.
    Regex {
        /// The expression.
        pattern: Arc<str>,
        /// Its topics.
        value: Option<ResolvedRegex>,
    },
}

/// The group's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEpoch {
    /// Rises with every change that asks for another assignment.
    pub epoch: i32,
    /// Hash of the subscribed topics: ids, names and numbers of partitions; 0 for none.
    pub metadata_hash: i64,
}

/// A member as it has introduced itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// Client id of its connection.
    pub client_id: Arc<str>,
    /// Address of its connection.
    pub client_host: Arc<str>,
    /// Topics it wants, by name; sorted.
    pub topic_names: BTreeSet<Arc<str>>,
    /// Topics it wants, by regular expression.
    pub topic_regex: Option<Arc<str>>,
    /// How long it may take to give partitions up, in ms; -1 when unknown.
    pub rebalance_timeout_ms: i32,
    /// `group.remote.assignor`.
    pub assignor: Option<Arc<str>>,
    /// Given for a member that speaks the classic protocol.
    pub classic: Option<ClassicMetadata>,
}

/// What is kept of a member that speaks the classic protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicMetadata {
    /// How long it may be silent, in ms.
    pub session_timeout_ms: i32,
    /// What it offers, first choice first: name and embedded subscription.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// How far a member has come towards its target assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have in its epoch.
    #[default]
    Stable,
    /// It has partitions to give up before it goes on.
    UnrevokedPartitions,
    /// It waits for partitions that others have yet to give up.
    UnreleasedPartitions,
    /// Written by a later version; the member must start over.
    Unknown,
}

impl MemberState {
    fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    fn of(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentAssignment {
    /// The assignment epoch it has come to; -2 while a static member is away.
    pub epoch: i32,
    /// The one before.
    pub previous_epoch: i32,
    /// How far it has come.
    pub state: MemberState,
    /// What it may read.
    pub assigned: AssignedPartitions,
    /// What it has been asked to give up.
    pub pending_revocation: AssignedPartitions,
}

impl CurrentAssignment {
    /// What the member has: what it may read, and what it has yet to give up.
    pub fn owned(&self) -> Partitions {
        let mut owned = Partitions::new();
        for (topic, partitions) in self.assigned.iter().chain(&self.pending_revocation) {
            owned.entry(*topic).or_default().extend(partitions.keys());
        }
        owned
    }
}

/// The topics that a regular expression stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// Their names.
    pub topics: BTreeSet<Arc<str>>,
    /// Version of the cluster's metadata they were found in.
    pub version: i64,
    /// When.
    pub timestamp: Timestamp,
}

impl ConsumerRecord {
    /// It removes what its key names.
    pub fn is_removal(&self) -> bool {
        match self {
            Self::Group(value) => value.is_none(),
            Self::SubscribedPartitions => true,
            Self::Member { value, .. } => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target { value, .. } => value.is_none(),
            Self::Current { value, .. } => value.is_none(),
            Self::Regex { value, .. } => value.is_none(),
        }
    }

    /// Writes the key of this record of `group` and gives the value; none for a removal.
    pub(in crate::group) fn encode(&self, group: &str, key: &mut Writer) -> Result<Option<Vec<u8>>, GroupRecordError> {
        let mut start = |key_type: i16, more: Option<(&'static str, &str)>| {
            key.i16(key_type);
            key.string("group", group)?;
            more.map_or(Ok(()), |(field, text)| key.string(field, text))
        };
        match self {
            Self::Group(value) => {
                start(GROUP_KEY, None)?;
                Ok(value.as_ref().map(encode_group))
            }
            Self::SubscribedPartitions => start(PARTITIONS_KEY, None).map(|()| None),
            Self::Member { member_id, value } => {
                start(MEMBER_KEY, Some(("member id", member_id)))?;
                Ok(value.as_ref().map(encode_member))
            }
            Self::TargetEpoch(value) => {
                start(TARGET_EPOCH_KEY, None)?;
                Ok(value.as_ref().map(TargetEpoch::encode))
            }
            Self::Target { member_id, value } => {
                start(TARGET_KEY, Some(("member id", member_id)))?;
                Ok(value.as_ref().map(encode_target))
            }
            Self::Current { member_id, value } => {
                start(CURRENT_KEY, Some(("member id", member_id)))?;
                Ok(value.as_ref().map(encode_current))
            }
            Self::Regex { pattern, value } => {
                start(REGEX_KEY, Some(("regular expression", pattern)))?;
                Ok(value.as_ref().map(encode_regex))
            }
        }
    }

    /// Reads the rest of a key of this type and its value: the group and its record; `None` for a type of no consumer group.
    pub(in crate::group) fn decode(
        key_type: i16,
        key: &mut Reader<'_>,
        value: Option<&[u8]>,
    ) -> Result<Option<(Arc<str>, Self)>, GroupRecordError> {
        if !matches!(key_type, GROUP_KEY..=CURRENT_KEY | REGEX_KEY) {
            return Ok(None);
        }
        let group = key.string("group")?;
        let record = match key_type {
            GROUP_KEY => Self::Group(value.map(decode_group).transpose()?),
            PARTITIONS_KEY => Self::SubscribedPartitions,
            MEMBER_KEY => {
                Self::Member { member_id: key.string("member id")?, value: value.map(decode_member).transpose()? }
            }
            TARGET_EPOCH_KEY => Self::TargetEpoch(value.map(TargetEpoch::decode).transpose()?),
            TARGET_KEY => {
                Self::Target { member_id: key.string("member id")?, value: value.map(decode_target).transpose()? }
            }
            CURRENT_KEY => {
                Self::Current { member_id: key.string("member id")?, value: value.map(decode_current).transpose()? }
            }
            _ => {
                Self::Regex { pattern: key.string("regular expression")?, value: value.map(decode_regex).transpose()? }
            }
        };
        Ok(Some((group, record)))
    }
}

fn encode_group(group: &GroupEpoch) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.i32(group.epoch);
    let hash = group.metadata_hash.to_be_bytes();
    let tags: &[(u32, &[u8])] = &[(0, &hash)];
    out.tags(if group.metadata_hash == 0 { &[] } else { tags });
    out.0
}

fn decode_group(bytes: &[u8]) -> Result<GroupEpoch, GroupRecordError> {
    let mut input = Reader { bytes };
    input.version_0("consumer group")?;
    let epoch = input.i32("group epoch")?;
    let mut metadata_hash = 0;
    input.tags(|tag, content| {
        if tag == 0 {
            metadata_hash = Reader { bytes: content }.i64("metadata hash")?;
        }
        Ok(())
    })?;
    input.end("consumer group value")?;
    Ok(GroupEpoch { epoch, metadata_hash })
}

fn encode_member(member: &MemberMetadata) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.compact_nullable_string(member.instance_id.as_deref());
    out.compact_nullable_string(member.rack_id.as_deref());
    out.compact_string(&member.client_id);
    out.compact_string(&member.client_host);
    out.compact_length(member.topic_names.len());
    member.topic_names.iter().for_each(|name| out.compact_string(name));
    out.compact_string(member.topic_regex.as_deref().unwrap_or_default());
    out.i32(member.rebalance_timeout_ms);
    out.compact_nullable_string(member.assignor.as_deref());
    let mut content = Writer::default();
    // A structure that may be null says first, in a tagged field by a varint, whether it is there.
    let Some(classic) = &member.classic else {
        content.varint(0);
        out.tags(&[(0, &content.0)]);
        return out.0;
    };
    content.varint(1);
    content.i32(classic.session_timeout_ms);
    content.compact_length(classic.protocols.len());
    for (name, metadata) in &classic.protocols {
        content.compact_string(name);
        content.compact_bytes(metadata);
        content.tags(&[]);
    }
    content.tags(&[]);
    out.tags(&[(0, &content.0)]);
    out.0
}

fn decode_member(bytes: &[u8]) -> Result<MemberMetadata, GroupRecordError> {
    let mut input = Reader { bytes };
    input.version_0("consumer group member")?;
    let mut member = MemberMetadata {
        instance_id: input.compact_nullable_string("instance id")?,
        rack_id: input.compact_nullable_string("rack id")?,
        client_id: input.compact_string("client id")?,
        client_host: input.compact_string("client host")?,
        topic_names: input
            .compact_array("topic names", |input| input.compact_string("topic name"))?
            .into_iter()
            .collect(),
        topic_regex: input.compact_nullable_string("topic regex")?.filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: input.i32("rebalance timeout")?,
        assignor: input.compact_nullable_string("assignor")?,
        classic: None,
    };
    input.tags(|tag, content| {
        if tag == 0 {
            member.classic = decode_classic(content)?;
        }
        Ok(())
    })?;
    input.end("consumer group member value")?;
    Ok(member)
}

fn decode_classic(bytes: &[u8]) -> Result<Option<ClassicMetadata>, GroupRecordError> {
    let mut input = Reader { bytes };
    if input.varint("classic member metadata")? == 0 {
        return Ok(None);
    }
    let session_timeout_ms = input.i32("session timeout")?;
    let protocols = input.compact_array("protocols", |input| {
        let protocol = (input.compact_string("protocol name")?, input.either_bytes("protocol metadata", true)?);
        input.no_tags()?;
        Ok(protocol)
    })?;
    input.no_tags()?;
    Ok(Some(ClassicMetadata { session_timeout_ms, protocols }))
}

/// Writes partitions by topic; share groups have them in the same layout.
pub(in crate::group) fn encode_partitions(out: &mut Writer, partitions: &Partitions) {
    out.compact_length(partitions.len());
    for (topic, partitions) in partitions {
        out.uuid(*topic);
        out.compact_length(partitions.len());
        partitions.iter().for_each(|partition| out.i32(*partition));
        out.tags(&[]);
    }
}

/// Reads what [`encode_partitions`] writes.
pub(in crate::group) fn decode_partitions(input: &mut Reader<'_>) -> Result<Partitions, GroupRecordError> {
    let topics = input.compact_array("topics", |input| {
        let topic = input.uuid("topic id")?;
        let partitions = input.compact_array("partitions", |input| input.i32("partition"))?;
        input.no_tags()?;
        Ok((topic, partitions.into_iter().collect()))
    })?;
    Ok(topics.into_iter().collect())
}

/// The value of a target assignment; that of share groups is the same.
pub(in crate::group) fn encode_target(partitions: &Partitions) -> Vec<u8> {
    let mut out = Writer::version_0();
    encode_partitions(&mut out, partitions);
    out.tags(&[]);
    out.0
}

/// Reads what [`encode_target`] writes.
pub(in crate::group) fn decode_target(bytes: &[u8]) -> Result<Partitions, GroupRecordError> {
    Reader::whole_version_0(bytes, "target assignment", decode_partitions)
}

fn encode_current(current: &CurrentAssignment) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.i32(current.epoch);
    out.i32(current.previous_epoch);
    out.i8(current.state.code());
    encode_assigned(&mut out, &current.assigned);
    encode_assigned(&mut out, &current.pending_revocation);
    out.tags(&[]);
    out.0
}

fn encode_assigned(out: &mut Writer, topics: &AssignedPartitions) {
    out.compact_length(topics.len());
    for (topic, partitions) in topics {
        out.uuid(*topic);
        out.compact_length(partitions.len());
        partitions.keys().for_each(|partition| out.i32(*partition));
        let mut epochs = Writer::default();
        epochs.compact_length(partitions.len());
        partitions.values().for_each(|epoch| epochs.i32(*epoch));
        out.tags(&[(0, &epochs.0)]);
    }
}

fn decode_current(bytes: &[u8]) -> Result<CurrentAssignment, GroupRecordError> {
    Reader::whole_version_0(bytes, "current assignment", |input| {
        let epoch = input.i32("member epoch")?;
        Ok(CurrentAssignment {
            epoch,
            previous_epoch: input.i32("previous member epoch")?,
            state: MemberState::of(input.i8("member state")?),
            assigned: decode_assigned(input, epoch)?,
            pending_revocation: decode_assigned(input, epoch)?,
        })
    })
}

/// Records of older versions of Kafka do not say when a partition was assigned: then it was at the member's epoch.
fn decode_assigned(input: &mut Reader<'_>, member_epoch: i32) -> Result<AssignedPartitions, GroupRecordError> {
    let topics = input.compact_array("topics", |input| {
        let topic = input.uuid("topic id")?;
        let partitions = input.compact_array("partitions", |input| input.i32("partition"))?;
        let mut epochs = Vec::new();
        input.tags(|tag, content| {
            if tag == 0 {
                epochs = Reader { bytes: content }.compact_array("epochs", |input| input.i32("assignment epoch"))?;
            }
            Ok(())
        })?;
        let epoch_of = |at: usize| epochs.get(at).copied().unwrap_or(member_epoch);
        let partitions = partitions.into_iter().enumerate().map(|(at, partition)| (partition, epoch_of(at)));
        Ok((topic, partitions.collect()))
    })?;
    Ok(topics.into_iter().collect())
}

fn encode_regex(regex: &ResolvedRegex) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.compact_length(regex.topics.len());
    regex.topics.iter().for_each(|topic| out.compact_string(topic));
    out.i64(regex.version);
    out.i64(regex.timestamp);
    out.tags(&[]);
    out.0
}

fn decode_regex(bytes: &[u8]) -> Result<ResolvedRegex, GroupRecordError> {
    Reader::whole_version_0(bytes, "regular expression", |input| {
        Ok(ResolvedRegex {
            topics: input.compact_array("topics", |input| input.compact_string("topic"))?.into_iter().collect(),
            version: input.i64("metadata version")?,
            timestamp: input.i64("timestamp")?,
        })
    })
}
