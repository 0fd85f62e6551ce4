//! Produce: requests that carry one record batch per partition, and their answers. Versions 3 to 13; flexible from 9,
//! topics by id from 13.

use bytes::Bytes;
use uuid::Uuid;

use base::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicName};

use super::error_code::ErrorCode;
use super::pieces::{PieceWriter, Pieces};
use super::wire::{CodecError, Reader, WireMessage, Writer};

const FIRST_FLEXIBLE: i16 = 9;
const FIRST_WITH_TOPIC_IDS: i16 = 13;
/// From here an answer may name the partition's new leader.
const FIRST_WITH_LEADER: i16 = 10;

/// Asks a leader to append batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceRequest {
    /// The producer's transactional id, if it has one.
    pub transactional_id: Option<String>,
    /// Who must have the batch before the answer: 0 nobody (and no answer), 1 the leader, -1 all in-sync replicas.
    pub acks: i16,
    /// How long the leader may wait for the others.
    pub timeout_ms: i32,
    /// What to append.
    pub topics: Vec<ProduceTopic>,
}

/// The batches for one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceTopic {
    /// Name; empty on the wire from version 13.
    pub name: TopicName,
    /// Id; nil before version 13.
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<ProducePartition>,
}

/// The batch for one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProducePartition {
    /// Which partition.
    pub index: PartitionId,
    /// One record batch; null is malformed in spirit, but can be sent.
    pub records: Option<Pieces>,
}

/// Answers a [`ProduceRequest`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceResponse {
    /// One entry per topic of the request.
    pub topics: Vec<ProduceTopicResponse>,
    /// For how long the client should hold back.
    pub throttle_time_ms: i32,
    /// Where the leaders named in the partitions listen (version 10 on).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What became of one topic's batches.
#[derive(Clone, Debug, PartialEq)]
pub struct ProduceTopicResponse {
    /// Name; empty on the wire from version 13.
    pub name: TopicName,
    /// Id; nil before version 13.
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// What became of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducePartitionResponse {
    /// Which partition.
    pub index: PartitionId,
    /// Whether it was appended.
    pub error_code: ErrorCode,
    /// Offset of its first record; -1 on error.
    pub base_offset: Offset,
    /// When it was appended, if the topic uses append time; else -1.
    pub log_append_time_ms: Timestamp,
    /// First offset of the log; -1 if unknown.
    pub log_start_offset: Offset,
    /// Records at fault: index within the batch, and what is wrong.
    pub record_errors: Vec<(i32, Option<String>)>,
    /// Summary of the error.
    pub error_message: Option<String>,
    /// The leader, when it is somebody else (version 10 on).
    pub current_leader: LeaderIdAndEpoch,
}

/// Who leads a partition, and since which epoch; -1 for unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    /// Node id.
    pub leader_id: i32,
    /// Its term.
    pub leader_epoch: LeaderEpoch,
}

/// Where a node listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Node id.
    pub node_id: i32,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

impl Default for ProduceTopic {
    fn default() -> Self {
        Self { name: "".into(), topic_id: Uuid::nil(), partitions: Vec::new() }
    }
}

impl Default for ProduceTopicResponse {
    fn default() -> Self {
        Self { name: "".into(), topic_id: Uuid::nil(), partitions: Vec::new() }
    }
}

impl Default for ProducePartitionResponse {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: ErrorCode::None,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: LeaderIdAndEpoch::default(),
        }
    }
}

impl Default for LeaderIdAndEpoch {
    fn default() -> Self {
        Self { leader_id: -1, leader_epoch: -1 }
    }
}

pub(super) fn check_version(api: &'static str, version: i16, min: i16, max: i16) -> Result<(), CodecError> {
    if (min..=max).contains(&version) { Ok(()) } else { Err(CodecError::UnsupportedVersion { api, version }) }
}

/// Topics and partitions of one request, together.
const ELEMENTS_MAX: usize = 1 << 18;

fn check(version: i16) -> Result<(), CodecError> {
    check_version("Produce", version, 3, 13)
}

/// The bytes of one tagged field's struct.
pub(super) fn tagged(
    message: &'static str,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), CodecError>,
) -> Result<bytes::BytesMut, CodecError> {
    let mut out = PieceWriter::default();
    write(&mut Writer { out: &mut out, flexible: true, message })?;
    Ok(out.buffer)
}

impl LeaderIdAndEpoch {
    pub(super) fn write(self, message: &'static str) -> Result<bytes::BytesMut, CodecError> {
        use bytes::BufMut;
        tagged(message, |writer| {
            writer.buffer().put_i32(self.leader_id);
            writer.buffer().put_i32(self.leader_epoch);
            writer.tagged_fields(&[]);
            Ok(())
        })
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, CodecError> {
        let leader = Self { leader_id: reader.i32("leader id")?, leader_epoch: reader.i32("leader epoch")? };
        reader.skip_tagged_fields()?;
        Ok(leader)
    }
}

impl NodeEndpoint {
    pub(super) fn write_all(nodes: &[Self], message: &'static str) -> Result<bytes::BytesMut, CodecError> {
        use bytes::BufMut;
        tagged(message, |writer| {
            writer.array(Some(nodes), |writer, node| {
                writer.buffer().put_i32(node.node_id);
                writer.string(Some(&node.host))?;
                writer.buffer().put_i32(node.port);
                writer.string(node.rack.as_deref())?;
                writer.tagged_fields(&[]);
                Ok(())
            })
        })
    }

    pub(super) fn read_all(reader: &mut Reader) -> Result<Vec<Self>, CodecError> {
        reader.array("node endpoints", |reader| {
            let node = Self {
                node_id: reader.i32("node id")?,
                host: reader.string("host")?,
                port: reader.i32("port")?,
                rack: reader.nullable_string("rack")?,
            };
            reader.skip_tagged_fields()?;
            Ok(node)
        })
    }
}

pub(super) fn write_topic(writer: &mut Writer<'_>, by_id: bool, name: &str, topic_id: Uuid) -> Result<(), CodecError> {
    use bytes::BufMut;
    if by_id {
        writer.buffer().put_slice(topic_id.as_bytes());
        Ok(())
    } else {
        writer.string(Some(name))
    }
}

pub(super) fn read_topic(reader: &mut Reader, by_id: bool) -> Result<(TopicName, Uuid), CodecError> {
    if by_id { Ok(("".into(), reader.uuid("topic id")?)) } else { Ok((reader.shared_str("topic name")?, Uuid::nil())) }
}

impl WireMessage for ProduceRequest {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        use bytes::BufMut;
        check(version)?;
        let flexible = version >= FIRST_FLEXIBLE;
        let mut writer = Writer { out, flexible, message: "ProduceRequest" };
        writer.string(self.transactional_id.as_deref())?;
        writer.buffer().put_i16(self.acks);
        writer.buffer().put_i32(self.timeout_ms);
        writer.array(Some(&self.topics), |writer, topic| {
            write_topic(writer, version >= FIRST_WITH_TOPIC_IDS, &topic.name, topic.topic_id)?;
            writer.array(Some(&topic.partitions), |writer, partition| {
                writer.buffer().put_i32(partition.index);
                writer.pieces(partition.records.as_ref())?;
                writer.tagged_fields(&[]);
                Ok(())
            })?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        check(version)?;
        let mut reader = Reader::new(bytes, version >= FIRST_FLEXIBLE).with_elements_max(ELEMENTS_MAX);
        let transactional_id = reader.nullable_string("transactional id")?;
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout")?;
        let topics = reader.array("topics", |reader| {
            let (name, topic_id) = read_topic(reader, version >= FIRST_WITH_TOPIC_IDS)?;
            let partitions = reader.array("partitions", |reader| {
                let index = reader.i32("partition index")?;
                let records = reader.nullable_bytes("records")?.map(Pieces::from);
                reader.skip_tagged_fields()?;
                Ok(ProducePartition { index, records })
            })?;
            reader.skip_tagged_fields()?;
            Ok(ProduceTopic { name, topic_id, partitions })
        })?;
        reader.skip_tagged_fields()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }

    fn header_version_of(version: i16) -> i16 {
        if version >= FIRST_FLEXIBLE { 2 } else { 1 }
    }
}

impl ProducePartitionResponse {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), CodecError> {
        use bytes::BufMut;
        writer.buffer().put_i32(self.index);
        writer.buffer().put_i16(self.error_code.code());
        writer.buffer().put_i64(self.base_offset);
        writer.buffer().put_i64(self.log_append_time_ms);
        if version >= 5 {
            writer.buffer().put_i64(self.log_start_offset);
        }
        if version >= 8 {
            writer.array(Some(&self.record_errors), |writer, (index, message)| {
                writer.buffer().put_i32(*index);
                writer.string(message.as_deref())?;
                writer.tagged_fields(&[]);
                Ok(())
            })?;
            writer.string(self.error_message.as_deref())?;
        }
        if version >= FIRST_WITH_LEADER && self.current_leader != LeaderIdAndEpoch::default() {
            let leader = self.current_leader.write(writer.message)?;
            writer.tagged_fields(&[(0, leader)]);
        } else {
            writer.tagged_fields(&[]);
        }
        Ok(())
    }

    fn read(reader: &mut Reader, version: i16) -> Result<Self, CodecError> {
        let mut partition = Self {
            index: reader.i32("partition index")?,
            error_code: reader.i16("error code")?.into(),
            base_offset: reader.i64("base offset")?,
            log_append_time_ms: reader.i64("log append time")?,
            ..Self::default()
        };
        if version >= 5 {
            partition.log_start_offset = reader.i64("log start offset")?;
        }
        if version >= 8 {
            partition.record_errors = reader.array("record errors", |reader| {
                let error = (reader.i32("record index")?, reader.nullable_string("record error")?);
                reader.skip_tagged_fields()?;
                Ok(error)
            })?;
            partition.error_message = reader.nullable_string("error message")?;
        }
        reader.tagged_fields(|tag, field| {
            if tag == 0 && version >= FIRST_WITH_LEADER {
                partition.current_leader = LeaderIdAndEpoch::read(field)?;
            }
            Ok(())
        })?;
        Ok(partition)
    }
}

impl WireMessage for ProduceResponse {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        use bytes::BufMut;
        check(version)?;
        let flexible = version >= FIRST_FLEXIBLE;
        let mut writer = Writer { out, flexible, message: "ProduceResponse" };
        writer.array(Some(&self.topics), |writer, topic| {
            write_topic(writer, version >= FIRST_WITH_TOPIC_IDS, &topic.name, topic.topic_id)?;
            writer.array(Some(&topic.partitions), |writer, partition| partition.write(writer, version))?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        writer.buffer().put_i32(self.throttle_time_ms);
        if version >= FIRST_WITH_LEADER && !self.node_endpoints.is_empty() {
            let nodes = NodeEndpoint::write_all(&self.node_endpoints, writer.message)?;
            writer.tagged_fields(&[(0, nodes)]);
        } else {
            writer.tagged_fields(&[]);
        }
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        check(version)?;
        let mut reader = Reader::new(bytes, version >= FIRST_FLEXIBLE);
        let topics = reader.array("topics", |reader| {
            let (name, topic_id) = read_topic(reader, version >= FIRST_WITH_TOPIC_IDS)?;
            let partitions = reader.array("partitions", |reader| ProducePartitionResponse::read(reader, version))?;
            reader.skip_tagged_fields()?;
            Ok(ProduceTopicResponse { name, topic_id, partitions })
        })?;
        let throttle_time_ms = reader.i32("throttle time")?;
        let mut node_endpoints = Vec::new();
        reader.tagged_fields(|tag, field| {
            if tag == 0 && version >= FIRST_WITH_LEADER {
                node_endpoints = NodeEndpoint::read_all(field)?;
            }
            Ok(())
        })?;
        Ok(Self { topics, throttle_time_ms, node_endpoints })
    }

    fn header_version_of(version: i16) -> i16 {
        if version >= FIRST_FLEXIBLE { 1 } else { 0 }
    }
}
