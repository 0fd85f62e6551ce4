//! DescribeShareGroupOffsets (KIP-932), versions 0 and 1: our own structs, because `kafka-protocol` does not know version 1. Field for field as
//! in Kafka's `DescribeShareGroupOffsetsRequest.json` and `DescribeShareGroupOffsetsResponse.json` of 4.3.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::fields::{Field, wire_bodies, wire_structs};
use super::pieces::PieceWriter;
use super::wire::{CodecError, Reader, WireMessage, Writer};

/// First version that says how many records are yet to be delivered.
const FIRST_WITH_LAG: i16 = 1;

wire_structs! {
    /// Asks how far share groups have come.
    DescribeShareGroupOffsetsRequest {
        /// The groups.
        groups: Vec<DescribeShareGroup>,
    }

    /// Asks how far one group has come.
    DescribeShareGroup {
        /// The group.
        group_id: Arc<str>,
        /// The topics; `None` for all.
        topics: Option<Vec<DescribeShareTopic>>,
    }

    /// Partitions of a topic to describe.
    DescribeShareTopic {
        /// The topic.
        topic_name: Arc<str>,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

/// How far share groups have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeShareGroupOffsetsResponse {
    /// How long the client was held back, in ms.
    pub throttle_time_ms: i32,
    /// One for each that was asked for.
    pub groups: Vec<DescribedShareGroup>,
}

/// How far one group has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedShareGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// Its topics.
    pub topics: Vec<DescribedShareTopic>,
    /// What went wrong; 0 for nothing.
    pub error_code: i16,
    /// The same in words.
    pub error_message: Option<Arc<str>>,
}

/// How far a group has come in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedShareTopic {
    /// Its name.
    pub topic_name: Arc<str>,
    /// Its id.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<DescribedSharePartition>,
}

/// How far a group has come in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedSharePartition {
    /// Which one.
    pub partition_index: i32,
    /// Offset of the first record that is not done with; -1 before the first was read.
    pub start_offset: i64,
    /// Term of the leader.
    pub leader_epoch: i32,
    /// How many records are not done with; -1 unknown. Since version 1.
    pub lag: i64,
    /// What went wrong; 0 for nothing.
    pub error_code: i16,
    /// The same in words.
    pub error_message: Option<Arc<str>>,
}

wire_bodies! {
    DescribeShareGroupOffsetsRequest, 2;
}

impl DescribedShareGroup {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), CodecError> {
        self.group_id.write(writer)?;
        writer.array(Some(&self.topics), |writer, topic| {
            topic.topic_name.write(writer)?;
            topic.topic_id.write(writer)?;
            writer.array(Some(&topic.partitions), |writer, partition| partition.write(writer, version))?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        self.error_code.write(writer)?;
        self.error_message.write(writer)?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn read(reader: &mut Reader, version: i16) -> Result<Self, CodecError> {
        let group_id = reader.shared_str("group id")?;
        let topics = reader.array("topics", |reader| {
            let topic = DescribedShareTopic {
                topic_name: reader.shared_str("topic name")?,
                topic_id: reader.uuid("topic id")?,
                partitions: reader.array("partitions", |reader| DescribedSharePartition::read(reader, version))?,
            };
            reader.skip_tagged_fields()?;
            Ok(topic)
        })?;
        let error_code = reader.i16("error code")?;
        let group = Self { group_id, topics, error_code, error_message: Field::read(reader, "error message")? };
        reader.skip_tagged_fields()?;
        Ok(group)
    }
}

impl DescribedSharePartition {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), CodecError> {
        self.partition_index.write(writer)?;
        self.start_offset.write(writer)?;
        self.leader_epoch.write(writer)?;
        if version >= FIRST_WITH_LAG {
            self.lag.write(writer)?;
        }
        self.error_code.write(writer)?;
        self.error_message.write(writer)?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn read(reader: &mut Reader, version: i16) -> Result<Self, CodecError> {
        let partition = Self {
            partition_index: reader.i32("partition index")?,
            start_offset: reader.i64("start offset")?,
            leader_epoch: reader.i32("leader epoch")?,
            lag: if version >= FIRST_WITH_LAG { reader.i64("lag")? } else { -1 },
            error_code: reader.i16("error code")?,
            error_message: Field::read(reader, "error message")?,
        };
        reader.skip_tagged_fields()?;
        Ok(partition)
    }
}

impl WireMessage for DescribeShareGroupOffsetsResponse {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        let writer = &mut Writer { out, flexible: true, message: "DescribeShareGroupOffsetsResponse" };
        self.throttle_time_ms.write(writer)?;
        writer.array(Some(&self.groups), |writer, group| group.write(writer, version))?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        let reader = &mut Reader::new(bytes, true);
        let throttle_time_ms = reader.i32("throttle time")?;
        let groups = reader.array("groups", |reader| DescribedShareGroup::read(reader, version))?;
        reader.skip_tagged_fields()?;
        Ok(Self { throttle_time_ms, groups })
    }

    fn header_version_of(_version: i16) -> i16 {
        1
    }
}
