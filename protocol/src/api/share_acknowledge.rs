//! ShareAcknowledge (KIP-932), versions 1 and 2: our own structs, because `kafka-protocol` does not know version 2. Field for field as in
//! Kafka's `ShareAcknowledgeRequest.json` and `ShareAcknowledgeResponse.json` of 4.3.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::fields::{Field, wire_structs};
use super::pieces::PieceWriter;
use super::share_fetch::{ShareFetchTopic, ShareLeader, ShareNodeEndpoint};
use super::wire::{CodecError, Reader, WireMessage, Writer};

/// First version with renewals.
const FIRST_WITH_RENEWALS: i16 = 2;

/// Settles records that were acquired before. Its topics are those of a ShareFetch, field for field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareAcknowledgeRequest {
    /// The group.
    pub group_id: Option<Arc<str>>,
    /// The member.
    pub member_id: Option<Arc<str>>,
    /// -1 closes the share session; otherwise counts its requests.
    pub share_session_epoch: i32,
    /// Whether some acknowledgement is a renewal; since version 2.
    pub is_renew_ack: bool,
    /// The partitions, with what is acknowledged of them.
    pub topics: Vec<ShareFetchTopic>,
}

/// What became of acknowledgements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareAcknowledgeResponse {
    /// How long the client was held back, in ms.
    pub throttle_time_ms: i32,
    /// What went wrong; 0 for nothing.
    pub error_code: i16,
    /// The same in words.
    pub error_message: Option<Arc<str>>,
    /// How long renewed records are locked, in ms; since version 2.
    pub acquisition_lock_timeout_ms: i32,
    /// One for each topic.
    pub responses: Vec<ShareAcknowledgeTopicResponse>,
    /// Where the leaders are that the answer names.
    pub node_endpoints: Vec<ShareNodeEndpoint>,
}

wire_structs! {
    /// Acknowledgements of one topic.
    ShareAcknowledgeTopicResponse {
        /// The topic.
        topic_id: Uuid,
        /// Its partitions.
        partitions: Vec<ShareAcknowledgePartitionResponse>,
    }

    /// Acknowledgements of one partition.
    ShareAcknowledgePartitionResponse {
        /// Which one.
        partition_index: i32,
        /// What went wrong; 0 for nothing.
        error_code: i16,
        /// The same in words.
        error_message: Option<Arc<str>>,
        /// Who leads the partition.
        current_leader: ShareLeader,
    }
}

impl WireMessage for ShareAcknowledgeRequest {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        let message = "ShareAcknowledgeRequest";
        if self.is_renew_ack && version < FIRST_WITH_RENEWALS {
            return Err(CodecError::Unencodable { message, reason: format!("version {version} knows no renewals") });
        }
        let writer = &mut Writer { out, flexible: true, message };
        self.group_id.write(writer)?;
        self.member_id.write(writer)?;
        self.share_session_epoch.write(writer)?;
        if version >= FIRST_WITH_RENEWALS {
            self.is_renew_ack.write(writer)?;
        }
        self.topics.write(writer)?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        let reader = &mut Reader::new(bytes, true);
        let request = Self {
            group_id: Field::read(reader, "group id")?,
            member_id: Field::read(reader, "member id")?,
            share_session_epoch: reader.i32("share session epoch")?,
            is_renew_ack: version >= FIRST_WITH_RENEWALS && Field::read(reader, "is renew ack")?,
            topics: Field::read(reader, "topics")?,
        };
        reader.skip_tagged_fields()?;
        Ok(request)
    }

    fn header_version_of(_version: i16) -> i16 {
        2
    }
}

impl WireMessage for ShareAcknowledgeResponse {
    fn encode_wire(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
        let writer = &mut Writer { out, flexible: true, message: "ShareAcknowledgeResponse" };
        self.throttle_time_ms.write(writer)?;
        self.error_code.write(writer)?;
        self.error_message.write(writer)?;
        if version >= FIRST_WITH_RENEWALS {
            self.acquisition_lock_timeout_ms.write(writer)?;
        }
        self.responses.write(writer)?;
        self.node_endpoints.write(writer)?;
        writer.tagged_fields(&[]);
        Ok(())
    }

    fn decode_wire(bytes: Bytes, version: i16) -> Result<Self, CodecError> {
        let reader = &mut Reader::new(bytes, true);
        let response = Self {
            throttle_time_ms: reader.i32("throttle time")?,
            error_code: reader.i16("error code")?,
            error_message: Field::read(reader, "error message")?,
            acquisition_lock_timeout_ms: if version >= FIRST_WITH_RENEWALS { reader.i32("lock timeout")? } else { 0 },
            responses: Field::read(reader, "responses")?,
            node_endpoints: Field::read(reader, "node endpoints")?,
        };
        reader.skip_tagged_fields()?;
        Ok(response)
    }

    fn header_version_of(_version: i16) -> i16 {
        1
    }
}
