//! ShareFetch (KIP-932), versions 1 and 2: our own structs, because `kafka-protocol` does not know version 2, and because the answer carries
//! record batches. Field for field as in Kafka's `ShareFetchRequest.json` and `ShareFetchResponse.json` of 4.3.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::fields::{Field, wire_bodies, wire_structs};
use super::pieces::{PieceWriter, Pieces};
use super::wire::{CodecError, Reader, WireMessage, Writer};

/// First version with an acquire mode and renewals.
const FIRST_WITH_RENEWALS: i16 = 2;

/// Asks for records to work on, and settles records that were acquired before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareFetchRequest {
    /// The group.
    pub group_id: Option<Arc<str>>,
    /// The member.
    pub member_id: Option<Arc<str>>,
    /// 0 opens a share session, -1 closes it; otherwise counts its requests.
    pub share_session_epoch: i32,
    /// How long to wait for records, in ms.
    pub max_wait_ms: i32,
    /// Bytes to wait for.
    pub min_bytes: i32,
    /// Most bytes of the answer; one batch may be larger.
    pub max_bytes: i32,
    /// Most records to acquire; whole batches may be more.
    pub max_records: i32,
    /// Best number of records in a batch of acquired records.
    pub batch_size: i32,
    /// 0 to acquire whole batches, 1 to acquire no more than `max_records`; since version 2.
    pub share_acquire_mode: i8,
    /// Whether some acknowledgement is a renewal; since version 2.
    pub is_renew_ack: bool,
    /// The partitions, with what is acknowledged of them.
    pub topics: Vec<ShareFetchTopic>,
    /// Partitions to take out of the session.
    pub forgotten_topics_data: Vec<ForgottenShareTopic>,
}

wire_structs! {
    /// Partitions of one topic to fetch from.
    ShareFetchTopic {
        /// The topic.
        topic_id: Uuid,
        /// Its partitions.
        partitions: Vec<ShareFetchPartition>,
    }

    /// A partition to fetch from.
    ShareFetchPartition {
        /// Which one.
        partition_index: i32,
        /// What is acknowledged of it.
        acknowledgement_batches: Vec<AcknowledgementBatch>,
    }

    /// What became of acquired records.
    AcknowledgementBatch {
        /// Offset of the first.
        first_offset: i64,
        /// Offset of the last.
        last_offset: i64,
        /// One for all, or one for each: 0 there is no such record, 1 accept, 2 release, 3 reject, 4 renew.
        acknowledge_types: Vec<i8>,
    }

    /// Partitions that a session forgets.
    ForgottenShareTopic {
        /// The topic.
        topic_id: Uuid,
        /// Its partitions.
        partitions: Vec<i32>,
    }

    /// Records that were acquired.
    ShareFetchResponse {
        /// How long the client was held back, in ms.
        throttle_time_ms: i32,
        /// What went wrong; 0 for nothing.
        error_code: i16,
        /// The same in words.
        error_message: Option<Arc<str>>,
        /// How long acquired records are locked, in ms.
        acquisition_lock_timeout_ms: i32,
        /// One for each topic.
        responses: Vec<ShareFetchTopicResponse>,
        /// Where the leaders are that the answer names.
        node_endpoints: Vec<ShareNodeEndpoint>,
    }

    /// Records of one topic.
    ShareFetchTopicResponse {
        /// The topic.
        topic_id: Uuid,
        /// Its partitions.
        partitions: Vec<ShareFetchPartitionResponse>,
    }

    /// Records of one partition.
    ShareFetchPartitionResponse {
        /// Which one.
        partition_index: i32,
        /// What went wrong with fetching; 0 for nothing.
        error_code: i16,
        /// The same in words.
        error_message: Option<Arc<str>>,
        /// What went wrong with acknowledging; 0 for nothing.
        acknowledge_error_code: i16,
        /// The same in words.
        acknowledge_error_message: Option<Arc<str>>,
        /// Who leads the partition.
        current_leader: ShareLeader,
        /// Whole batches, which may hold more than what was acquired.
        records: Pieces,
        /// What was acquired.
        acquired_records: Vec<AcquiredRecords>,
    }

    /// The leader of a partition.
    ShareLeader {
        /// Its node; -1 unknown.
        leader_id: i32,
        /// Its term.
        leader_epoch: i32,
    }

    /// Acquired records.
    AcquiredRecords {
        /// Offset of the first.
        first_offset: i64,
        /// Offset of the last.
        last_offset: i64,
        /// How often they have been handed out, this time included.
        delivery_count: i16,
    }

    /// Where a node is.
    ShareNodeEndpoint {
        /// The node.
        node_id: i32,
        /// Host name or address.
        host: Arc<str>,
        /// TCP port.
        port: i32,
        /// Rack.
        rack: Option<Arc<str>>,
    }
}

wire_bodies! {
    ShareFetchResponse, 1;
}

impl WireMessage for ShareFetchRequest {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        let message = "ShareFetchRequest";
        if self.is_renew_ack && version < FIRST_WITH_RENEWALS {
            return Err(CodecError::Unencodable { message, reason: format!("version {version} knows no renewals") });
        }
        let writer = &mut Writer { out, flexible: true, message };
        self.group_id.write(writer)?;
        self.member_id.write(writer)?;
        for number in [
            self.share_session_epoch,
            self.max_wait_ms,
            self.min_bytes,
            self.max_bytes,
            self.max_records,
            self.batch_size,
        ] {
            number.write(writer)?;
        }
        if version >= FIRST_WITH_RENEWALS {
            self.share_acquire_mode.write(writer)?;
            self.is_renew_ack.write(writer)?;
        }
        self.topics.write(writer)?;
        self.forgotten_topics_data.write(writer)?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        let reader = &mut Reader::new(bytes, true);
        let renews = version >= FIRST_WITH_RENEWALS;
        let request = Self {
            group_id: Field::read(reader, "group id")?,
            member_id: Field::read(reader, "member id")?,
            share_session_epoch: reader.i32("share session epoch")?,
            max_wait_ms: reader.i32("max wait")?,
            min_bytes: reader.i32("min bytes")?,
            max_bytes: reader.i32("max bytes")?,
            max_records: reader.i32("max records")?,
            batch_size: reader.i32("batch size")?,
            share_acquire_mode: if renews { reader.i8("share acquire mode")? } else { 0 },
            is_renew_ack: renews && Field::read(reader, "is renew ack")?,
            topics: Field::read(reader, "topics")?,
            forgotten_topics_data: Field::read(reader, "forgotten topics")?,
        };
        reader.skip_tagged_fields()?;
        Ok(request)
    }

    fn header_version_of(_version: i16) -> i16 {
        2
    }
}
