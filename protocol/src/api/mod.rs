//! Requests and responses of Kafka's protocol, typed: one enum variant per API, encoded and decoded by (API key,
//! version).
//!
//! Everything but Produce, Fetch, WriteTxnMarkers, ShareFetch, ShareAcknowledge, DescribeShareGroupOffsets,
//! WriteShareGroupState and ReadShareGroupStateSummary (of which that crate lacks the newest versions) and the APIs of streams groups (which it lacks) is
//! `kafka-protocol`'s structs ([`messages`]), with the newest versions of a few of them in `newest.rs`; this folder is the only place that names that crate. [`produce`] and [`fetch`] are our own, because they carry the record batches: their records are
//! [`Pieces`], which may lie in a file, and are never copied into a message.

mod apis;
pub mod describe_share_group_offsets;
pub mod error_code;
pub mod fetch;
mod fields;
mod guard;
mod newest;
#[cfg(test)]
mod oracle_tests;
pub mod pieces;
pub mod produce;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod share_group_state;
pub mod streams_group_describe;
pub mod streams_group_heartbeat;
mod versions;
mod wire;
pub mod write_txn_markers;

pub use apis::{ApiKey, Request, Response};
pub use error_code::ErrorCode;
pub use fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopic, FetchTopicResponse, ForgottenTopic,
};
pub(crate) use pieces::PieceWriter;
pub use pieces::{Piece, Pieces, RawFd, ReadAt};
pub use produce::{
    LeaderIdAndEpoch, NodeEndpoint, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopic, ProduceTopicResponse,
};
pub use uuid::Uuid;
pub use versions::{advertised_versions, is_client_api, supported_versions};
pub use wire::CodecError;
pub(crate) use wire::Reader;

/// A string that shares the bytes of the frame it was read from; what `kafka-protocol`'s structs hold.
pub use kafka_protocol::protocol::StrBytes;

/// `kafka-protocol`'s structs of all other APIs, with their nested structs in one module per message, and its new
/// types ([`BrokerId`](messages::BrokerId), [`GroupId`](messages::GroupId), [`TopicName`](messages::TopicName)...).
pub mod messages {
    pub use kafka_protocol::messages::*;
}
