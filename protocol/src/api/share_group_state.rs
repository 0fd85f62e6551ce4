//! WriteShareGroupState and ReadShareGroupStateSummary (KIP-932), versions 0 and 1: our own structs, because `kafka-protocol` does not know
//! version 1, which counts the records that are done with. Field for field as in Kafka's JSON files of 4.3. All four list partitions by topic,
//! [`ShareStateTopic`]; only what is said of a partition differs.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::fields::{Field, wire_bodies, wire_structs};
use super::pieces::PieceWriter;
use super::wire::{CodecError, Reader, WireMessage, Writer};

/// First version with the number of records that are done with.
const FIRST_WITH_COUNT: i16 = 1;
/// That number where it is not known.
const NO_COUNT: i32 = -1;

/// What is said of the partitions of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareStateTopic<P> {
    /// The topic.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<P>,
}

impl<P> ShareStateTopic<P> {
    fn write_with(
        &self,
        writer: &mut Writer<'_>,
        partition: impl Fn(&mut Writer<'_>, &P) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        self.topic_id.write(writer)?;
        writer.array(Some(&self.partitions), partition)?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn read_with(
        reader: &mut Reader,
        partition: impl Fn(&mut Reader) -> Result<P, CodecError>,
    ) -> Result<Self, CodecError> {
        let topic_id = reader.uuid("topic id")?;
        let topic = Self { topic_id, partitions: reader.array("partitions", partition)? };
        reader.skip_tagged_fields()?;
        Ok(topic)
    }
}

/// For partitions that are alike in all versions.
impl<P: Field> Field for ShareStateTopic<P> {
    fn read(reader: &mut Reader, _name: &'static str) -> Result<Self, CodecError> {
        Self::read_with(reader, |reader| P::read(reader, "partition"))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        self.write_with(writer, |writer, partition| partition.write(writer))
    }
}

/// Changes the state of share partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteShareGroupStateRequest {
    /// The group.
    pub group_id: Arc<str>,
    /// Its topics.
    pub topics: Vec<ShareStateTopic<WriteShareStatePartition>>,
}

/// Changes of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteShareStatePartition {
    /// Which one.
    pub partition: i32,
    /// Term of the state; -1 for any.
    pub state_epoch: i32,
    /// Term of the partition's leader; -1 for any.
    pub leader_epoch: i32,
    /// Offset of the first record that is not done with; -1 for no change.
    pub start_offset: i64,
    /// How many records from there on are done with; -1 unknown. Since version 1.
    pub delivery_complete_count: i32,
    /// What changed.
    pub state_batches: Vec<ShareStateBatch>,
}

wire_structs! {
    /// Delivery state of neighbouring records.
    ShareStateBatch {
        /// Offset of the first.
        first_offset: i64,
        /// Offset of the last.
        last_offset: i64,
        /// 0 available, 2 acknowledged, 4 archived.
        delivery_state: i8,
        /// How often they were handed out.
        delivery_count: i16,
    }

    /// What became of changes.
    WriteShareGroupStateResponse {
        /// One for each topic.
        results: Vec<ShareStateTopic<WrittenShareStatePartition>>,
    }

    /// What became of the changes of one partition.
    WrittenShareStatePartition {
        /// Which one.
        partition: i32,
        /// What went wrong; 0 for nothing.
        error_code: i16,
        /// The same in words.
        error_message: Option<Arc<str>>,
    }

    /// Asks how far share partitions have come.
    ReadShareGroupStateSummaryRequest {
        /// The group.
        group_id: Arc<str>,
        /// Its topics.
        topics: Vec<ShareStateTopic<SummaryOfSharePartition>>,
    }

    /// Asks how far one partition has come.
    SummaryOfSharePartition {
        /// Which one.
        partition: i32,
        /// Term of the partition's leader.
        leader_epoch: i32,
    }
}

/// How far share partitions have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadShareGroupStateSummaryResponse {
    /// One for each topic.
    pub results: Vec<ShareStateTopic<SummarizedSharePartition>>,
}

/// How far one partition has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummarizedSharePartition {
    /// Which one.
    pub partition: i32,
    /// What went wrong; 0 for nothing.
    pub error_code: i16,
    /// The same in words.
    pub error_message: Option<Arc<str>>,
    /// Term of the state.
    pub state_epoch: i32,
    /// Term of the partition's leader.
    pub leader_epoch: i32,
    /// Offset of the first record that is not done with; -1 before the first was read.
    pub start_offset: i64,
    /// How many records from there on are done with; -1 unknown. Since version 1.
    pub delivery_complete_count: i32,
}

wire_bodies! {
    WriteShareGroupStateResponse, 1;
    ReadShareGroupStateSummaryRequest, 2;
}

impl WriteShareStatePartition {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), CodecError> {
        self.partition.write(writer)?;
        self.state_epoch.write(writer)?;
        self.leader_epoch.write(writer)?;
        self.start_offset.write(writer)?;
        if version >= FIRST_WITH_COUNT {
            self.delivery_complete_count.write(writer)?;
        }
        self.state_batches.write(writer)?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn read(reader: &mut Reader, version: i16) -> Result<Self, CodecError> {
        let partition = Self {
            partition: reader.i32("partition")?,
            state_epoch: reader.i32("state epoch")?,
            leader_epoch: reader.i32("leader epoch")?,
            start_offset: reader.i64("start offset")?,
            delivery_complete_count: read_count(reader, version)?,
            state_batches: Field::read(reader, "state batches")?,
        };
        reader.skip_tagged_fields()?;
        Ok(partition)
    }
}

fn read_count(reader: &mut Reader, version: i16) -> Result<i32, CodecError> {
    if version >= FIRST_WITH_COUNT { reader.i32("delivery complete count") } else { Ok(NO_COUNT) }
}

impl WireMessage for WriteShareGroupStateRequest {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        let writer = &mut Writer { out, flexible: true, message: "WriteShareGroupStateRequest" };
        self.group_id.write(writer)?;
        writer.array(Some(&self.topics), |writer, topic| {
            topic.write_with(writer, |writer, partition| partition.write(writer, version))
        })?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        let reader = &mut Reader::new(bytes, true);
        let group_id = reader.shared_str("group id")?;
        let topics = reader.array("topics", |reader| {
            ShareStateTopic::read_with(reader, |reader| WriteShareStatePartition::read(reader, version))
        })?;
        reader.skip_tagged_fields()?;
        Ok(Self { group_id, topics })
    }

    fn header_version_of(_version: i16) -> i16 {
        2
    }
}

impl SummarizedSharePartition {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), CodecError> {
        self.partition.write(writer)?;
        self.error_code.write(writer)?;
        self.error_message.write(writer)?;
        self.state_epoch.write(writer)?;
        self.leader_epoch.write(writer)?;
        self.start_offset.write(writer)?;
        if version >= FIRST_WITH_COUNT {
            self.delivery_complete_count.write(writer)?;
        }
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn read(reader: &mut Reader, version: i16) -> Result<Self, CodecError> {
        let partition = Self {
            partition: reader.i32("partition")?,
            error_code: reader.i16("error code")?,
            error_message: Field::read(reader, "error message")?,
            state_epoch: reader.i32("state epoch")?,
            leader_epoch: reader.i32("leader epoch")?,
            start_offset: reader.i64("start offset")?,
            delivery_complete_count: read_count(reader, version)?,
        };
        reader.skip_tagged_fields()?;
        Ok(partition)
    }
}

impl WireMessage for ReadShareGroupStateSummaryResponse {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        let writer = &mut Writer { out, flexible: true, message: "ReadShareGroupStateSummaryResponse" };
        writer.array(Some(&self.results), |writer, topic| {
            topic.write_with(writer, |writer, partition| partition.write(writer, version))
        })?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        let reader = &mut Reader::new(bytes, true);
        let results = reader.array("results", |reader| {
            ShareStateTopic::read_with(reader, |reader| SummarizedSharePartition::read(reader, version))
        })?;
        reader.skip_tagged_fields()?;
        Ok(Self { results })
    }

    fn header_version_of(_version: i16) -> i16 {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Bytes {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    fn same<T: WireMessage>(version: i16, hex: &str) -> T {
        let message = T::decode_wire(bytes(hex), version).expect("readable");
        let mut out = PieceWriter::default();
        message.encode_wire(&mut out, version).expect("encodable");
        assert_eq!(out.finish().to_bytes().expect("in memory"), bytes(hex), "version {version}");
        message
    }

    /// As the classes of Apache Kafka 4.3.1 write them.
    #[test]
    fn messages_of_kafka_are_read_and_written_to_the_byte() {
        let id = "cd8abc83c59043d98de2869badc94523";
        let begin = format!("026702{id}0200000003000000040000000500000000000000");
        let batch = "020000000000000008000000000000000902000100000000";
        let old: WriteShareGroupStateRequest = same(0, &format!("{begin}06{batch}"));
        let new: WriteShareGroupStateRequest = same(1, &format!("{begin}0600000007{batch}"));
        let (old, new) = (&old.topics[0].partitions[0], &new.topics[0].partitions[0]);
        assert_eq!((old.delivery_complete_count, new.delivery_complete_count), (NO_COUNT, 7));
        assert_eq!((new.state_epoch, new.leader_epoch, new.start_offset), (4, 5, 6));
        let batch = ShareStateBatch { first_offset: 8, last_offset: 9, delivery_state: 2, delivery_count: 1 };
        assert_eq!(new.state_batches, [batch]);
        for version in [0, 1] {
            same::<WriteShareGroupStateResponse>(version, &format!("02{id}0200000003007c036e6f000000"));
            same::<ReadShareGroupStateSummaryRequest>(version, &format!("026702{id}020000000300000005000000"));
        }
        let begin = format!("02{id}0200000003000001000000040000000500000000000000");
        let old: ReadShareGroupStateSummaryResponse = same(0, &format!("{begin}06000000"));
        let new: ReadShareGroupStateSummaryResponse = same(1, &format!("{begin}0600000007000000"));
        assert_eq!(old.results[0].partitions[0].delivery_complete_count, NO_COUNT);
        assert_eq!(new.results[0].partitions[0].delivery_complete_count, 7);
    }
}
