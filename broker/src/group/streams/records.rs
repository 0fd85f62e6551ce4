//! The records of streams groups in `__consumer_offsets` (key types 17 and 19 to 23), in Kafka's layouts. All values are
//! version 0 and flexible.
//!
//! Invariant: what `StreamsRecord::encode` writes, `StreamsRecord::decode` gives back unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::streams_group_heartbeat::{
    CopartitionGroup, StreamsEndpoint, StreamsKeyValue, StreamsSubtopology, StreamsTopicInfo, StreamsTopology,
};

use super::member::MemberInfo;
use super::reconcile::{Current, MemberState};
use super::tasks::{HeldTasks, TaskId, TaskIdSet, Tasks, to_wire};
use crate::group::layout::{GroupRecordError, Reader, Writer};
use crate::group::target_epoch::TargetEpoch;

const GROUP_KEY: i16 = 17;
const MEMBER_KEY: i16 = 19;
const TARGET_EPOCH_KEY: i16 = 20;
const TARGET_KEY: i16 = 21;
const CURRENT_KEY: i16 = 22;
const TOPOLOGY_KEY: i16 = 23;

/// One record of a streams group; a value of `None` removes what its key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamsRecord {
    /// The group's epoch, and what it depends on.
    Group(Option<GroupEpoch>),
    /// A member as it has introduced itself.
    Member {
        /// The member's id.
        member_id: Arc<str>,
        /// What it said.
        value: Option<MemberInfo>,
    },
    /// The group epoch that the tasks were distributed for.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to have.
    Target {
        /// The member's id.
        member_id: Arc<str>,
        /// Its tasks.
        value: Option<Tasks>,
    },
    /// What a member has.
    Current {
        /// The member's id.
        member_id: Arc<str>,
        /// Its epochs and tasks.
        value: Option<Current>,
    },
    /// The topology of the group.
    Topology(Option<StreamsTopology>),
}

/// The group's epoch, and what it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEpoch {
    /// Rises with every change that asks for another distribution of tasks.
    pub epoch: i32,
    /// Hash of the topics of the topology: ids, names and numbers of partitions.
    pub metadata_hash: i64,
    /// Epoch of the topology whose topics were found to be as they must be; -1 for none.
    pub validated_topology_epoch: i32,
    /// Settings that the tasks were distributed with.
    pub assignment_configs: BTreeMap<Arc<str>, Arc<str>>,
}

impl StreamsRecord {
    /// It removes what its key names.
    pub fn is_removal(&self) -> bool {
        match self {
            Self::Group(value) => value.is_none(),
            Self::Member { value, .. } => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target { value, .. } => value.is_none(),
            Self::Current { value, .. } => value.is_none(),
            Self::Topology(value) => value.is_none(),
        }
    }

    /// Writes the key of this record of `group` and gives the value; none for a removal.
    pub(in crate::group) fn encode(&self, group: &str, key: &mut Writer) -> Result<Option<Vec<u8>>, GroupRecordError> {
        let (key_type, member_id) = match self {
            Self::Group(_) => (GROUP_KEY, None),
            Self::Member { member_id, .. } => (MEMBER_KEY, Some(member_id)),
            Self::TargetEpoch(_) => (TARGET_EPOCH_KEY, None),
            Self::Target { member_id, .. } => (TARGET_KEY, Some(member_id)),
            Self::Current { member_id, .. } => (CURRENT_KEY, Some(member_id)),
            Self::Topology(_) => (TOPOLOGY_KEY, None),
        };
        key.i16(key_type);
        key.string("group", group)?;
        if let Some(member_id) = member_id {
            key.string("member id", member_id)?;
        }
        Ok(match self {
            Self::Group(value) => value.as_ref().map(encode_group),
            Self::Member { value, .. } => value.as_ref().map(encode_member),
            Self::TargetEpoch(value) => value.as_ref().map(TargetEpoch::encode),
            Self::Target { value, .. } => value.as_ref().map(encode_target),
            Self::Current { value, .. } => value.as_ref().map(encode_current),
            Self::Topology(value) => value.as_ref().map(encode_topology),
        })
    }

    /// Reads the rest of a key of this type and its value: the group and its record; `None` for a type of no streams group.
    pub(in crate::group) fn decode(
        key_type: i16,
        key: &mut Reader<'_>,
        value: Option<&[u8]>,
    ) -> Result<Option<(Arc<str>, Self)>, GroupRecordError> {
        if !matches!(key_type, GROUP_KEY | MEMBER_KEY..=TOPOLOGY_KEY) {
            return Ok(None);
        }
        let group = key.string("group")?;
        let record = match key_type {
            GROUP_KEY => Self::Group(value.map(decode_group).transpose()?),
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
            _ => Self::Topology(value.map(decode_topology).transpose()?),
        };
        Ok(Some((group, record)))
    }
}

fn encode_group(group: &GroupEpoch) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.i32(group.epoch);
    out.i64(group.metadata_hash);
    let epoch = group.validated_topology_epoch.to_be_bytes();
    let mut configs = Writer::default();
    configs.compact_length(group.assignment_configs.len());
    for (key, value) in &group.assignment_configs {
        configs.compact_string(key);
        configs.compact_string(value);
        configs.tags(&[]);
    }
    let mut tags: Vec<(u32, &[u8])> = vec![(1, &configs.0)];
    if group.validated_topology_epoch != -1 {
        tags.insert(0, (0, &epoch));
    }
    out.tags(&tags);
    out.0
}

fn decode_group(bytes: &[u8]) -> Result<GroupEpoch, GroupRecordError> {
    let mut input = Reader { bytes };
    input.version_0("streams group")?;
    let mut group = GroupEpoch {
        epoch: input.i32("group epoch")?,
        metadata_hash: input.i64("metadata hash")?,
        validated_topology_epoch: -1,
        assignment_configs: BTreeMap::new(),
    };
    input.tags(|tag, content| {
        let mut content = Reader { bytes: content };
        match tag {
            0 => group.validated_topology_epoch = content.i32("validated topology epoch")?,
            1 if content.bytes != [0] => {
                let configs = content.compact_array("assignment configs", |input| {
                    let config = (input.compact_string("config key")?, input.compact_string("config value")?);
                    input.no_tags()?;
                    Ok(config)
                })?;
                group.assignment_configs = configs.into_iter().collect();
            }
            _ => {}
        }
        Ok(())
    })?;
    input.end("streams group value")?;
    Ok(group)
}

fn encode_member(member: &MemberInfo) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.compact_nullable_string(member.instance_id.as_deref());
    out.compact_nullable_string(member.rack_id.as_deref());
    out.compact_string(&member.client_id);
    out.compact_string(&member.client_host);
    out.i32(member.rebalance_timeout_ms);
    out.i32(member.topology_epoch);
    out.compact_string(&member.process_id);
    match &member.user_endpoint {
        None => out.i8(-1),
        Some(endpoint) => {
            out.i8(1); // A structure that may be null says first that it is there.
            out.compact_string(&endpoint.host);
            out.i16(endpoint.port.cast_signed());
            out.tags(&[]);
        }
    }
    encode_pairs(&mut out, &member.client_tags);
    out.tags(&[]);
    out.0
}

fn decode_member(bytes: &[u8]) -> Result<MemberInfo, GroupRecordError> {
    Reader::whole_version_0(bytes, "streams group member", |input| {
        let mut member = MemberInfo {
            instance_id: input.compact_nullable_string("instance id")?,
            rack_id: input.compact_nullable_string("rack id")?,
            client_id: input.compact_string("client id")?,
            client_host: input.compact_string("client host")?,
            rebalance_timeout_ms: input.i32("rebalance timeout")?,
            topology_epoch: input.i32("topology epoch")?,
            process_id: input.compact_string("process id")?,
            ..MemberInfo::default()
        };
        if input.i8("user endpoint")? >= 0 {
            let host = input.compact_string("host")?;
            let port = input.i16("port")?.cast_unsigned();
            input.no_tags()?;
            member.user_endpoint = Some(StreamsEndpoint { host, port });
        }
        member.client_tags = decode_pairs(input)?;
        Ok(member)
    })
}

fn encode_pairs(out: &mut Writer, pairs: &[StreamsKeyValue]) {
    out.compact_length(pairs.len());
    for pair in pairs {
        out.compact_string(&pair.key);
        out.compact_string(&pair.value);
        out.tags(&[]);
    }
}

fn decode_pairs(input: &mut Reader<'_>) -> Result<Vec<StreamsKeyValue>, GroupRecordError> {
    input.compact_array("pairs", |input| {
        let pair = StreamsKeyValue { key: input.compact_string("key")?, value: input.compact_string("value")? };
        input.no_tags()?;
        Ok(pair)
    })
}

fn encode_tasks(out: &mut Writer, tasks: &TaskIdSet) {
    let lists = to_wire(tasks);
    out.compact_length(lists.len());
    for list in &lists {
        out.compact_string(&list.subtopology_id);
        out.compact_length(list.partitions.len());
        list.partitions.iter().for_each(|partition| out.i32(*partition));
        out.tags(&[]);
    }
}

/// Active tasks with the epochs they were given at, which are a tagged field of their own.
fn encode_active(out: &mut Writer, tasks: &BTreeMap<TaskId, i32>) {
    let lists = to_wire(tasks.keys());
    let mut given = tasks.values();
    out.compact_length(lists.len());
    for list in &lists {
        out.compact_string(&list.subtopology_id);
        out.compact_length(list.partitions.len());
        list.partitions.iter().for_each(|partition| out.i32(*partition));
        let mut epochs = Writer::default();
        epochs.compact_length(list.partitions.len());
        given.by_ref().take(list.partitions.len()).for_each(|epoch| epochs.i32(*epoch));
        out.tags(&[(0, &epochs.0)]);
    }
}

/// Tasks of a list with their epochs; `otherwise` where there is none.
fn decode_active(input: &mut Reader<'_>, otherwise: i32) -> Result<BTreeMap<TaskId, i32>, GroupRecordError> {
    let lists = input.compact_array("tasks", |input| {
        let subtopology = input.compact_string("subtopology")?;
        let partitions = input.compact_array("partitions", |input| input.i32("partition"))?;
        let mut epochs = Vec::new();
        input.tags(|tag, content| {
            if tag == 0 && content != [0] {
                epochs = Reader { bytes: content }.compact_array("epochs", |input| input.i32("epoch"))?;
            }
            Ok(())
        })?;
        let epochs = epochs.into_iter().chain(std::iter::repeat(otherwise));
        let tasks =
            partitions.into_iter().map(|partition| TaskId::new(Arc::clone(&subtopology), partition)).zip(epochs);
        Ok(tasks.collect::<Vec<(TaskId, i32)>>())
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn decode_tasks(input: &mut Reader<'_>) -> Result<TaskIdSet, GroupRecordError> {
    Ok(decode_active(input, 0)?.into_keys().collect())
}

fn encode_target(tasks: &Tasks) -> Vec<u8> {
    let mut out = Writer::version_0();
    for role in [&tasks.active, &tasks.standby, &tasks.warmup] {
        encode_tasks(&mut out, role);
    }
    out.tags(&[]);
    out.0
}

fn decode_target(bytes: &[u8]) -> Result<Tasks, GroupRecordError> {
    Reader::whole_version_0(bytes, "target assignment", |input| {
        Ok(Tasks { active: decode_tasks(input)?, standby: decode_tasks(input)?, warmup: decode_tasks(input)? })
    })
}

fn encode_current(current: &Current) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.i32(current.epoch);
    out.i32(current.previous_epoch);
    out.i8(current.state.code());
    for held in [&current.assigned, &current.to_revoke] {
        encode_active(&mut out, &held.active);
        encode_tasks(&mut out, &held.standby);
        encode_tasks(&mut out, &held.warmup);
    }
    out.tags(&[]);
    out.0
}

fn decode_current(bytes: &[u8]) -> Result<Current, GroupRecordError> {
    Reader::whole_version_0(bytes, "current assignment", |input| {
        let epoch = input.i32("member epoch")?;
        let previous_epoch = input.i32("previous member epoch")?;
        let state = MemberState::from_code(input.i8("member state")?);
        let mut held = || {
            Ok::<_, GroupRecordError>(HeldTasks {
                active: decode_active(input, epoch)?,
                standby: decode_tasks(input)?,
                warmup: decode_tasks(input)?,
            })
        };
        let (assigned, to_revoke) = (held()?, held()?);
        Ok(Current { epoch, previous_epoch, state, assigned, to_revoke })
    })
}

fn encode_names(out: &mut Writer, names: &[Arc<str>]) {
    out.compact_length(names.len());
    names.iter().for_each(|name| out.compact_string(name));
}

fn decode_names(input: &mut Reader<'_>, field: &'static str) -> Result<Vec<Arc<str>>, GroupRecordError> {
    input.compact_array(field, |input| input.compact_string(field))
}

fn encode_topics(out: &mut Writer, topics: &[StreamsTopicInfo]) {
    out.compact_length(topics.len());
    for topic in topics {
        out.compact_string(&topic.name);
        out.i32(topic.partitions);
        out.i16(topic.replication_factor);
        encode_pairs(out, &topic.topic_configs);
        out.tags(&[]);
    }
}

fn decode_topics(input: &mut Reader<'_>) -> Result<Vec<StreamsTopicInfo>, GroupRecordError> {
    input.compact_array("topics", |input| {
        let topic = StreamsTopicInfo {
            name: input.compact_string("topic name")?,
            partitions: input.i32("partitions")?,
            replication_factor: input.i16("replication factor")?,
            topic_configs: decode_pairs(input)?,
        };
        input.no_tags()?;
        Ok(topic)
    })
}

fn encode_topology(topology: &StreamsTopology) -> Vec<u8> {
    let mut out = Writer::version_0();
    out.i32(topology.epoch);
    out.compact_length(topology.subtopologies.len());
    for subtopology in &topology.subtopologies {
        out.compact_string(&subtopology.subtopology_id);
        encode_names(&mut out, &subtopology.source_topics);
        encode_names(&mut out, &subtopology.source_topic_regex);
        encode_topics(&mut out, &subtopology.state_changelog_topics);
        encode_names(&mut out, &subtopology.repartition_sink_topics);
        encode_topics(&mut out, &subtopology.repartition_source_topics);
        out.compact_length(subtopology.copartition_groups.len());
        for group in &subtopology.copartition_groups {
            for indexes in [&group.source_topics, &group.source_topic_regex, &group.repartition_source_topics] {
                out.compact_length(indexes.len());
                indexes.iter().for_each(|index| out.i16(*index));
            }
            out.tags(&[]);
        }
        out.tags(&[]);
    }
    out.tags(&[]);
    out.0
}

fn decode_topology(bytes: &[u8]) -> Result<StreamsTopology, GroupRecordError> {
    Reader::whole_version_0(bytes, "streams group topology", |input| {
        let epoch = input.i32("topology epoch")?;
        Ok(StreamsTopology { epoch, subtopologies: input.compact_array("subtopologies", decode_subtopology)? })
    })
}

fn decode_subtopology(input: &mut Reader<'_>) -> Result<StreamsSubtopology, GroupRecordError> {
    let subtopology = StreamsSubtopology {
        subtopology_id: input.compact_string("subtopology id")?,
        source_topics: decode_names(input, "source topics")?,
        source_topic_regex: decode_names(input, "source topic regex")?,
        state_changelog_topics: decode_topics(input)?,
        repartition_sink_topics: decode_names(input, "repartition sink topics")?,
        repartition_source_topics: decode_topics(input)?,
        copartition_groups: input.compact_array("copartition groups", |input| {
            let mut indexes = || input.compact_array("indexes", |input| input.i16("index"));
            let group = CopartitionGroup {
                source_topics: indexes()?,
                source_topic_regex: indexes()?,
                repartition_source_topics: indexes()?,
            };
            input.no_tags()?;
            Ok(group)
        })?,
    };
    input.no_tags()?;
    Ok(subtopology)
}

#[cfg(test)]
mod tests;
