//! WriteTxnMarkers: our own struct of the request, because `kafka-protocol`'s lacks version 2, which says for each marker of
//! which transaction protocol it is. The response is theirs.

use base::TopicName;
use bytes::{BufMut, Bytes};

use super::messages;
use super::pieces::PieceWriter;
use super::wire::{CodecError, Reader, WireMessage, Writer};

const FIRST_WITH_TRANSACTION_VERSION: i16 = 2;

/// Ends transactions on partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteTxnMarkersRequest {
    /// One per producer.
    pub markers: Vec<WritableTxnMarker>,
}

/// The end of one producer's transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WritableTxnMarker {
    /// The producer.
    pub producer_id: i64,
    /// Its epoch, as the marker carries it.
    pub producer_epoch: i16,
    /// Whether it is a commit.
    pub transaction_result: bool,
    /// Topics and their partitions that get the marker.
    pub topics: Vec<(TopicName, Vec<i32>)>,
    /// Leader epoch of the coordinator's partition.
    pub coordinator_epoch: i32,
    /// The transaction protocol (version 2 on): with 2 the marker's epoch must be above that of the data.
    pub transaction_version: i8,
}

impl WireMessage for WriteTxnMarkersRequest {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        let mut writer = Writer { out, flexible: true, message: "WriteTxnMarkersRequest" };
        writer.array(Some(&self.markers), |writer, marker| {
            writer.buffer().put_i64(marker.producer_id);
            writer.buffer().put_i16(marker.producer_epoch);
            writer.buffer().put_u8(marker.transaction_result.into());
            writer.array(Some(&marker.topics), |writer, (name, partitions)| {
                writer.string(Some(name))?;
                writer.array(Some(partitions), |writer, index| {
                    writer.buffer().put_i32(*index);
                    Ok(())
                })?;
                writer.tagged_fields(&[]);
                Ok(())
            })?;
            writer.buffer().put_i32(marker.coordinator_epoch);
            if version >= FIRST_WITH_TRANSACTION_VERSION {
                writer.buffer().put_i8(marker.transaction_version);
            }
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes, true);
        let markers = reader.array("markers", |reader| {
            let mut marker = WritableTxnMarker {
                producer_id: reader.i64("producer id")?,
                producer_epoch: reader.i16("producer epoch")?,
                transaction_result: reader.i8("transaction result")? != 0,
                ..WritableTxnMarker::default()
            };
            marker.topics = reader.array("topics", |reader| {
                let name = reader.shared_str("topic name")?;
                let partitions = reader.array("partition indexes", |reader| reader.i32("partition index"))?;
                reader.skip_tagged_fields()?;
                Ok((name, partitions))
            })?;
            marker.coordinator_epoch = reader.i32("coordinator epoch")?;
            if version >= FIRST_WITH_TRANSACTION_VERSION {
                marker.transaction_version = reader.i8("transaction version")?;
            }
            reader.skip_tagged_fields()?;
            Ok(marker)
        })?;
        reader.skip_tagged_fields()?;
        Ok(Self { markers })
    }

    fn header_version_of(_version: i16) -> i16 {
        2
    }
}

/// The answer, `kafka-protocol`'s: version 2 lays it out as version 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteTxnMarkersResponse(pub messages::WriteTxnMarkersResponse);

impl WireMessage for WriteTxnMarkersResponse {
    fn encode_wire(&self, out: &mut PieceWriter, _version: i16) -> Result<(), CodecError> {
        self.0.encode_wire(out, 1)
    }

    fn decode_wire(bytes: Bytes, _version: i16) -> Result<Self, CodecError> {
        messages::WriteTxnMarkersResponse::decode_wire(bytes, 1).map(Self)
    }

    fn header_version_of(_version: i16) -> i16 {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(transaction_version: i8) -> WriteTxnMarkersRequest {
        let marker = WritableTxnMarker {
            producer_id: 7,
            producer_epoch: 2,
            transaction_result: true,
            topics: vec![("orders".into(), vec![0, 5]), ("empty".into(), Vec::new())],
            coordinator_epoch: 3,
            transaction_version,
        };
        WriteTxnMarkersRequest { markers: vec![marker, WritableTxnMarker::default()] }
    }

    fn written<T: WireMessage>(message: &T, version: i16) -> Bytes {
        let mut out = PieceWriter::default();
        message.encode_wire(&mut out, version).unwrap();
        out.finish().to_bytes().unwrap()
    }

    #[test]
    fn version_1_is_that_of_kafka_protocol_and_version_2_has_one_byte_more_per_marker() {
        let bytes = written(&sample(0), 1);
        let theirs = messages::WriteTxnMarkersRequest::decode_wire(bytes.clone(), 1).unwrap();
        assert_eq!(theirs.markers[0].coordinator_epoch, 3);
        assert_eq!(theirs.markers[0].topics[0].partition_indexes, [0, 5]);
        assert_eq!(written(&theirs, 1), bytes);
        assert_eq!(WriteTxnMarkersRequest::decode_wire(bytes.clone(), 1).unwrap(), sample(0));
        let newer = written(&sample(2), 2);
        assert_eq!(newer.len(), bytes.len() + 2);
        assert_eq!(WriteTxnMarkersRequest::decode_wire(newer.clone(), 2).unwrap(), sample(2));
        for end in 0..newer.len() {
            assert!(WriteTxnMarkersRequest::decode_wire(newer.slice(..end), 2).is_err(), "cut at {end}");
        }
    }
}
