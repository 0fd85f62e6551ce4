//! Fetch: asks for record batches from given offsets, and the answers that carry them. Versions 4 to 18; sessions from
//! 7, flexible from 12, topics by id from 13.

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use base::{LeaderEpoch, Offset, PartitionId, ProducerId, TopicName};

use super::error_code::ErrorCode;
use super::pieces::{PieceWriter, Pieces};
use super::produce::{LeaderIdAndEpoch, NodeEndpoint, check_version, read_topic, tagged, write_topic};
use super::wire::{CodecError, Reader, WireMessage, Writer};

const FIRST_WITH_SESSIONS: i16 = 7;
const FIRST_FLEXIBLE: i16 = 12;
const FIRST_WITH_TOPIC_IDS: i16 = 13;
/// From here the replica says who it is in a tagged field.
const FIRST_WITH_REPLICA_STATE: i16 = 15;
const FIRST_WITH_ENDPOINTS: i16 = 16;

/// Asks for batches.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    /// Id of the cluster that the client believes to talk to (version 12 on).
    pub cluster_id: Option<String>,
    /// Node id of a follower; -1 for a consumer.
    pub replica_id: i32,
    /// The follower's broker epoch (version 15 on); -1 for a consumer.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Answer as soon as there is this much.
    pub min_bytes: i32,
    /// Answer at most this much, but at least one batch.
    pub max_bytes: i32,
    /// 0 up to the high watermark, 1 up to the last stable offset.
    pub isolation_level: i8,
    /// Fetch session; 0 for none.
    pub session_id: i32,
    /// Its epoch: 0 begins a session, -1 wants none.
    pub session_epoch: i32,
    /// What to read.
    pub topics: Vec<FetchTopic>,
    /// What to take out of the session.
    pub forgotten: Vec<ForgottenTopic>,
    /// Rack of the consumer; empty if it has none.
    pub rack_id: String,
}

/// What to read from one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchTopic {
    /// Name; empty on the wire from version 13.
    pub name: TopicName,
    /// Id; nil before version 13.
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<FetchPartition>,
}

/// What to read from one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPartition {
    /// Which partition.
    pub index: PartitionId,
    /// The leader epoch known to the client; -1 if none.
    pub current_leader_epoch: LeaderEpoch,
    /// First offset wanted.
    pub fetch_offset: Offset,
    /// Epoch of the last record that a follower has; -1 if none.
    pub last_fetched_epoch: LeaderEpoch,
    /// First offset of a follower's log; -1 for a consumer.
    pub log_start_offset: Offset,
    /// At most this much of this partition.
    pub partition_max_bytes: i32,
    /// Log directory of the follower (version 17 on).
    pub replica_directory_id: Uuid,
    /// High watermark that the follower knows (version 18 on); `i64::MAX` if not said.
    pub high_watermark: Offset,
}

/// What to take out of a fetch session.
#[derive(Clone, Debug, PartialEq)]
pub struct ForgottenTopic {
    /// Name; empty on the wire from version 13.
    pub name: TopicName,
    /// Id; nil before version 13.
    pub topic_id: Uuid,
    /// Which partitions.
    pub partitions: Vec<PartitionId>,
}

/// Answers a [`FetchRequest`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchResponse {
    /// For how long the client should hold back.
    pub throttle_time_ms: i32,
    /// Error of the request as a whole (version 7 on).
    pub error_code: ErrorCode,
    /// The session; 0 for none.
    pub session_id: i32,
    /// What was read.
    pub topics: Vec<FetchTopicResponse>,
    /// Where the leaders named in the partitions listen (version 16 on).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What was read from one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchTopicResponse {
    /// Name; empty on the wire from version 13.
    pub name: TopicName,
    /// Id; nil before version 13.
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// What was read from one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPartitionResponse {
    /// Which partition.
    pub index: PartitionId,
    /// Whether it could be read.
    pub error_code: ErrorCode,
    /// High watermark; -1 on error.
    pub high_watermark: Offset,
    /// Last stable offset; -1 on error.
    pub last_stable_offset: Offset,
    /// First offset of the log; -1 on error.
    pub log_start_offset: Offset,
    /// Where the log of a follower begins to differ; the default for nowhere.
    pub diverging_epoch: EpochEndOffset,
    /// The leader, when it is somebody else.
    pub current_leader: LeaderIdAndEpoch,
    /// Snapshot that a follower must fetch first; the default for none.
    pub snapshot_id: EpochEndOffset,
    /// Aborted transactions within what was read; null unless reading committed.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// Replica that the consumer should read from; -1 for the leader.
    pub preferred_read_replica: i32,
    /// Whole batches, but for the last, which may be cut. Null reads as empty.
    pub records: Pieces,
}

/// A transaction that was aborted: its records from `first_offset` up to its ABORT marker are to be dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// First offset of its records.
    pub first_offset: Offset,
}

/// An epoch and the offset at which it ends; -1 for unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// One past its last offset.
    pub end_offset: Offset,
}

impl Default for FetchRequest {
    fn default() -> Self {
        Self {
            cluster_id: None,
            replica_id: -1,
            replica_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten: Vec::new(),
            rack_id: String::new(),
        }
    }
}

impl Default for FetchTopic {
    fn default() -> Self {
        Self { name: "".into(), topic_id: Uuid::nil(), partitions: Vec::new() }
    }
}

impl Default for ForgottenTopic {
    fn default() -> Self {
        Self { name: "".into(), topic_id: Uuid::nil(), partitions: Vec::new() }
    }
}

impl Default for FetchTopicResponse {
    fn default() -> Self {
        Self { name: "".into(), topic_id: Uuid::nil(), partitions: Vec::new() }
    }
}

impl Default for FetchPartition {
    fn default() -> Self {
        Self {
            index: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 0,
            replica_directory_id: Uuid::nil(),
            high_watermark: i64::MAX,
        }
    }
}

impl Default for FetchPartitionResponse {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: ErrorCode::None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: EpochEndOffset::default(),
            current_leader: LeaderIdAndEpoch::default(),
            snapshot_id: EpochEndOffset::default(),
            aborted: None,
            preferred_read_replica: -1,
            records: Pieces::new(),
        }
    }
}

impl Default for EpochEndOffset {
    fn default() -> Self {
        Self { epoch: -1, end_offset: -1 }
    }
}

fn check(version: i16) -> Result<(), CodecError> {
    check_version("Fetch", version, 4, 18)
}

impl FetchPartition {
    fn write(&self, writer: &mut Writer<'_>, version: i16) {
        writer.buffer().put_i32(self.index);
        if version >= 9 {
            writer.buffer().put_i32(self.current_leader_epoch);
        }
        writer.buffer().put_i64(self.fetch_offset);
        if version >= 12 {
            writer.buffer().put_i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            writer.buffer().put_i64(self.log_start_offset);
        }
        writer.buffer().put_i32(self.partition_max_bytes);
        let mut tags = Vec::new();
        if version >= 17 && !self.replica_directory_id.is_nil() {
            tags.push((0, self.replica_directory_id.as_bytes().as_slice().into()));
        }
        if version >= 18 && self.high_watermark != i64::MAX {
            tags.push((1, self.high_watermark.to_be_bytes().as_slice().into()));
        }
        writer.tagged_fields(&tags);
    }

    fn read(reader: &mut Reader, version: i16) -> Result<Self, CodecError> {
        let mut partition = Self { index: reader.i32("partition index")?, ..Self::default() };
        if version >= 9 {
            partition.current_leader_epoch = reader.i32("current leader epoch")?;
        }
        partition.fetch_offset = reader.i64("fetch offset")?;
        if version >= 12 {
            partition.last_fetched_epoch = reader.i32("last fetched epoch")?;
        }
        if version >= 5 {
            partition.log_start_offset = reader.i64("log start offset")?;
        }
        partition.partition_max_bytes = reader.i32("partition max bytes")?;
        reader.tagged_fields(|tag, field| {
            match tag {
                0 if version >= 17 => partition.replica_directory_id = field.uuid("replica directory id")?,
                1 if version >= 18 => partition.high_watermark = field.i64("high watermark")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(partition)
    }
}

impl WireMessage for FetchRequest {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        check(version)?;
        let flexible = version >= FIRST_FLEXIBLE;
        let by_id = version >= FIRST_WITH_TOPIC_IDS;
        let mut writer = Writer { out, flexible, message: "FetchRequest" };
        if version < FIRST_WITH_REPLICA_STATE {
            writer.buffer().put_i32(self.replica_id);
        }
        writer.buffer().put_i32(self.max_wait_ms);
        writer.buffer().put_i32(self.min_bytes);
        writer.buffer().put_i32(self.max_bytes);
        writer.buffer().put_i8(self.isolation_level);
        if version >= FIRST_WITH_SESSIONS {
            writer.buffer().put_i32(self.session_id);
            writer.buffer().put_i32(self.session_epoch);
        }
        writer.array(Some(&self.topics), |writer, topic| {
            write_topic(writer, by_id, &topic.name, topic.topic_id)?;
            writer.array(Some(&topic.partitions), |writer, partition| {
                partition.write(writer, version);
                Ok(())
            })?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        if version >= FIRST_WITH_SESSIONS {
            writer.array(Some(&self.forgotten), |writer, topic| {
                write_topic(writer, by_id, &topic.name, topic.topic_id)?;
                writer.array(Some(&topic.partitions), |writer, partition| {
                    writer.buffer().put_i32(*partition);
                    Ok(())
                })?;
                writer.tagged_fields(&[]);
                Ok(())
            })?;
        }
        if version >= 11 {
            writer.string(Some(&self.rack_id))?;
        }
        let mut tags = Vec::new();
        if flexible && self.cluster_id.is_some() {
            tags.push((0, tagged(writer.message, |writer| writer.string(self.cluster_id.as_deref()))?));
        }
        if version >= FIRST_WITH_REPLICA_STATE && (self.replica_id, self.replica_epoch) != (-1, -1) {
            let state = tagged(writer.message, |writer| {
                writer.buffer().put_i32(self.replica_id);
                writer.buffer().put_i64(self.replica_epoch);
                writer.tagged_fields(&[]);
                Ok(())
            })?;
            tags.push((1, state));
        }
        writer.tagged_fields(&tags);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        check(version)?;
        let by_id = version >= FIRST_WITH_TOPIC_IDS;
        let mut reader = Reader::new(bytes, version >= FIRST_FLEXIBLE);
        let mut request = Self::default();
        if version < FIRST_WITH_REPLICA_STATE {
            request.replica_id = reader.i32("replica id")?;
        }
        request.max_wait_ms = reader.i32("max wait")?;
        request.min_bytes = reader.i32("min bytes")?;
        request.max_bytes = reader.i32("max bytes")?;
        request.isolation_level = reader.i8("isolation level")?;
        if version >= FIRST_WITH_SESSIONS {
            request.session_id = reader.i32("session id")?;
            request.session_epoch = reader.i32("session epoch")?;
        }
        request.topics = reader.array("topics", |reader| {
            let (name, topic_id) = read_topic(reader, by_id)?;
            let partitions = reader.array("partitions", |reader| FetchPartition::read(reader, version))?;
            reader.skip_tagged_fields()?;
            Ok(FetchTopic { name, topic_id, partitions })
        })?;
        if version >= FIRST_WITH_SESSIONS {
            request.forgotten = reader.array("forgotten topics", |reader| {
                let (name, topic_id) = read_topic(reader, by_id)?;
                let partitions = reader.array("partitions", |reader| reader.i32("partition index"))?;
                reader.skip_tagged_fields()?;
                Ok(ForgottenTopic { name, topic_id, partitions })
            })?;
        }
        if version >= 11 {
            request.rack_id = reader.string("rack id")?;
        }
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => request.cluster_id = field.nullable_string("cluster id")?,
                1 if version >= FIRST_WITH_REPLICA_STATE => {
                    request.replica_id = field.i32("replica id")?;
                    request.replica_epoch = field.i64("replica epoch")?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(request)
    }

    fn header_version_of(version: i16) -> i16 {
        if version >= FIRST_FLEXIBLE { 2 } else { 1 }
    }
}

impl FetchPartitionResponse {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), CodecError> {
        writer.buffer().put_i32(self.index);
        writer.buffer().put_i16(self.error_code.code());
        writer.buffer().put_i64(self.high_watermark);
        writer.buffer().put_i64(self.last_stable_offset);
        if version >= 5 {
            writer.buffer().put_i64(self.log_start_offset);
        }
        writer.array(self.aborted.as_deref(), |writer, aborted| {
            writer.buffer().put_i64(aborted.producer_id);
            writer.buffer().put_i64(aborted.first_offset);
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        if version >= 11 {
            writer.buffer().put_i32(self.preferred_read_replica);
        }
        writer.pieces(Some(&self.records))?;
        let mut tags = Vec::new();
        if version >= FIRST_FLEXIBLE {
            if self.diverging_epoch != EpochEndOffset::default() {
                let diverging = tagged(writer.message, |writer| {
                    writer.buffer().put_i32(self.diverging_epoch.epoch);
                    writer.buffer().put_i64(self.diverging_epoch.end_offset);
                    writer.tagged_fields(&[]);
                    Ok(())
                })?;
                tags.push((0, diverging));
            }
            if self.current_leader != LeaderIdAndEpoch::default() {
                tags.push((1, self.current_leader.write(writer.message)?));
            }
            if self.snapshot_id != EpochEndOffset::default() {
                // Same fields as the diverging epoch, the other way round.
                let snapshot = tagged(writer.message, |writer| {
                    writer.buffer().put_i64(self.snapshot_id.end_offset);
                    writer.buffer().put_i32(self.snapshot_id.epoch);
                    writer.tagged_fields(&[]);
                    Ok(())
                })?;
                tags.push((2, snapshot));
            }
        }
        writer.tagged_fields(&tags);
        Ok(())
    }

    fn read(reader: &mut Reader, version: i16) -> Result<Self, CodecError> {
        let mut partition = Self {
            index: reader.i32("partition index")?,
            error_code: reader.i16("error code")?.into(),
            high_watermark: reader.i64("high watermark")?,
            last_stable_offset: reader.i64("last stable offset")?,
            ..Self::default()
        };
        if version >= 5 {
            partition.log_start_offset = reader.i64("log start offset")?;
        }
        partition.aborted = reader.nullable_array("aborted transactions", |reader| {
            let aborted = AbortedTransaction {
                producer_id: reader.i64("producer id")?,
                first_offset: reader.i64("first offset")?,
            };
            reader.skip_tagged_fields()?;
            Ok(aborted)
        })?;
        if version >= 11 {
            partition.preferred_read_replica = reader.i32("preferred read replica")?;
        }
        partition.records = reader.nullable_bytes("records")?.unwrap_or_default().into();
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => {
                    partition.diverging_epoch.epoch = field.i32("diverging epoch")?;
                    partition.diverging_epoch.end_offset = field.i64("diverging end offset")?;
                }
                1 => partition.current_leader = LeaderIdAndEpoch::read(field)?,
                2 => {
                    partition.snapshot_id.end_offset = field.i64("snapshot end offset")?;
                    partition.snapshot_id.epoch = field.i32("snapshot epoch")?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(partition)
    }
}

impl WireMessage for FetchResponse {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        check(version)?;
        let flexible = version >= FIRST_FLEXIBLE;
        let mut writer = Writer { out, flexible, message: "FetchResponse" };
        writer.buffer().put_i32(self.throttle_time_ms);
        if version >= FIRST_WITH_SESSIONS {
            writer.buffer().put_i16(self.error_code.code());
            writer.buffer().put_i32(self.session_id);
        }
        writer.array(Some(&self.topics), |writer, topic| {
            write_topic(writer, version >= FIRST_WITH_TOPIC_IDS, &topic.name, topic.topic_id)?;
            writer.array(Some(&topic.partitions), |writer, partition| partition.write(writer, version))?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        if version >= FIRST_WITH_ENDPOINTS && !self.node_endpoints.is_empty() {
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
        let mut response = Self { throttle_time_ms: reader.i32("throttle time")?, ..Self::default() };
        if version >= FIRST_WITH_SESSIONS {
            response.error_code = reader.i16("error code")?.into();
            response.session_id = reader.i32("session id")?;
        }
        response.topics = reader.array("topics", |reader| {
            let (name, topic_id) = read_topic(reader, version >= FIRST_WITH_TOPIC_IDS)?;
            let partitions = reader.array("partitions", |reader| FetchPartitionResponse::read(reader, version))?;
            reader.skip_tagged_fields()?;
            Ok(FetchTopicResponse { name, topic_id, partitions })
        })?;
        reader.tagged_fields(|tag, field| {
            if tag == 0 && version >= FIRST_WITH_ENDPOINTS {
                response.node_endpoints = NodeEndpoint::read_all(field)?;
            }
            Ok(())
        })?;
        Ok(response)
    }

    fn header_version_of(version: i16) -> i16 {
        if version >= FIRST_FLEXIBLE { 1 } else { 0 }
    }
}
