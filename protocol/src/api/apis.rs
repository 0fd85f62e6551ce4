//! The table of APIs, and what follows from it: [`ApiKey`], [`Request`], [`Response`].

use bytes::Bytes;

use super::describe_share_group_offsets::{DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse};
use super::fetch::{FetchRequest, FetchResponse};
use super::guard::max_request_bytes;
use super::messages::*;
use super::newest;
use super::pieces::PieceWriter;
use super::produce::{ProduceRequest, ProduceResponse};
use super::share_acknowledge::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use super::share_fetch::{ShareFetchRequest, ShareFetchResponse};
use super::share_group_state::{
    ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse, WriteShareGroupStateRequest,
    WriteShareGroupStateResponse,
};
use super::streams_group_describe::{StreamsGroupDescribeRequest, StreamsGroupDescribeResponse};
use super::streams_group_heartbeat::{StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse};
use super::wire::{CodecError, WireMessage};
use super::write_txn_markers::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

/// Key, request struct, response struct, lowest and highest version that both Kafka 4.3.1 and this codec have, and
/// whether a Kafka broker serves it to clients (the others are between brokers and controllers).
macro_rules! apis {
    ($($name:ident = $key:literal, $request:ident, $response:ident, $min:literal, $max:literal, $client:literal;)*) => {
        /// Which request: the first number of every request frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        #[allow(missing_docs)] // the names are Kafka's
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// All keys, in the order of their numbers.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name,)*];

            /// The key with this number, if it is one that this codec knows.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name as in Kafka's documentation, for example `ListOffsets`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Lowest and highest version that can be encoded and decoded.
            pub(super) const fn codec_versions(self) -> (i16, i16) {
                match self {
                    $(Self::$name => ($min, $max),)*
                }
            }

            pub(super) const fn is_client_api(self) -> bool {
                match self {
                    $(Self::$name => $client,)*
                }
            }

            /// Version of the request header that goes with a version of the body; 2 from the first flexible one on.
            pub fn request_header_version(self, version: i16) -> i16 {
                match self {
                    $(Self::$name => <$request as WireMessage>::header_version_of(version),)*
                }
            }

            /// Version of the response header; ApiVersions always has 0.
            pub fn response_header_version(self, version: i16) -> i16 {
                match self {
                    $(Self::$name => <$response as WireMessage>::header_version_of(version),)*
                }
            }
        }

        /// A request.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, clippy::large_enum_variant)] // Kafka's names; built once per request
        pub enum Request {
            $($name($request),)*
        }

        /// A response.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, clippy::large_enum_variant)] // Kafka's names; built once per request
        pub enum Response {
            $($name($response),)*
        }

        impl Request {
            /// Which API this asks.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// Appends the body (without header) as `version` lays it out.
            pub(crate) fn encode_body(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
                if let Some(written) = newest::write_request(self, out, version) {
                    return written;
                }
                let version = newest::request_layout(self.api_key(), version);
                match self {
                    $(Self::$name(body) => body.encode_wire(out, version),)*
                }
            }

            /// Reads a body; what follows it in `bytes` is ignored, as by Kafka.
            pub(crate) fn decode_body(key: ApiKey, version: i16, bytes: Bytes) -> Result<Self, CodecError> {
                if bytes.len() > max_request_bytes(key) {
                    return Err(CodecError::invalid(key.name(), format!("a body of {} bytes is too large", bytes.len())));
                }
                if let Some(read) = newest::read_request(key, version, &bytes) {
                    return read;
                }
                let version = newest::request_layout(key, version);
                match key {
                    $(ApiKey::$name => Ok(Self::$name(<$request as WireMessage>::decode_wire(bytes, version)?)),)*
                }
            }
        }

        impl Response {
            /// Which API this answers.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// Appends the body (without header) as `version` lays it out.
            pub(crate) fn encode_body(&self, out: &mut PieceWriter, version: i16) -> Result<(), CodecError> {
                if let Some(written) = newest::write_response(self, out, version) {
                    return written;
                }
                let version = newest::response_layout(self.api_key(), version);
                match self {
                    $(Self::$name(body) => body.encode_wire(out, version),)*
                }
            }

            /// Reads a body; what follows it in `bytes` is ignored, as by Kafka.
            pub(crate) fn decode_body(key: ApiKey, version: i16, bytes: Bytes) -> Result<Self, CodecError> {
                if let Some(read) = newest::read_response(key, version, &bytes) {
                    return read;
                }
                let version = newest::response_layout(key, version);
                match key {
                    $(ApiKey::$name => Ok(Self::$name(<$response as WireMessage>::decode_wire(bytes, version)?)),)*
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(body: $request) -> Self {
                    Self::$name(body)
                }
            }

            impl From<$response> for Response {
                fn from(body: $response) -> Self {
                    Self::$name(body)
                }
            }
        )*
    };
}

apis! {
    Produce = 0, ProduceRequest, ProduceResponse, 3, 13, true;
    Fetch = 1, FetchRequest, FetchResponse, 4, 18, true;
    ListOffsets = 2, ListOffsetsRequest, ListOffsetsResponse, 1, 11, true;
    Metadata = 3, MetadataRequest, MetadataResponse, 0, 13, true;
    OffsetCommit = 8, OffsetCommitRequest, OffsetCommitResponse, 2, 10, true;
    OffsetFetch = 9, OffsetFetchRequest, OffsetFetchResponse, 1, 10, true;
    FindCoordinator = 10, FindCoordinatorRequest, FindCoordinatorResponse, 0, 6, true;
    JoinGroup = 11, JoinGroupRequest, JoinGroupResponse, 0, 9, true;
    Heartbeat = 12, HeartbeatRequest, HeartbeatResponse, 0, 4, true;
    LeaveGroup = 13, LeaveGroupRequest, LeaveGroupResponse, 0, 5, true;
    SyncGroup = 14, SyncGroupRequest, SyncGroupResponse, 0, 5, true;
    DescribeGroups = 15, DescribeGroupsRequest, DescribeGroupsResponse, 0, 6, true;
    ListGroups = 16, ListGroupsRequest, ListGroupsResponse, 0, 5, true;
    SaslHandshake = 17, SaslHandshakeRequest, SaslHandshakeResponse, 0, 1, true;
    ApiVersions = 18, ApiVersionsRequest, ApiVersionsResponse, 0, 4, true;
    CreateTopics = 19, CreateTopicsRequest, CreateTopicsResponse, 2, 7, true;
    DeleteTopics = 20, DeleteTopicsRequest, DeleteTopicsResponse, 1, 6, true;
    DeleteRecords = 21, DeleteRecordsRequest, DeleteRecordsResponse, 0, 2, true;
    InitProducerId = 22, InitProducerIdRequest, InitProducerIdResponse, 0, 5, true;
    OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, 2, 4, true;
    AddPartitionsToTxn = 24, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, 0, 5, true;
    AddOffsetsToTxn = 25, AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, 0, 4, true;
    EndTxn = 26, EndTxnRequest, EndTxnResponse, 0, 5, true;
    WriteTxnMarkers = 27, WriteTxnMarkersRequest, WriteTxnMarkersResponse, 1, 2, true;
    TxnOffsetCommit = 28, TxnOffsetCommitRequest, TxnOffsetCommitResponse, 0, 5, true;
    DescribeAcls = 29, DescribeAclsRequest, DescribeAclsResponse, 1, 3, true;
    CreateAcls = 30, CreateAclsRequest, CreateAclsResponse, 1, 3, true;
    DeleteAcls = 31, DeleteAclsRequest, DeleteAclsResponse, 1, 3, true;
    DescribeConfigs = 32, DescribeConfigsRequest, DescribeConfigsResponse, 1, 4, true;
    AlterConfigs = 33, AlterConfigsRequest, AlterConfigsResponse, 0, 2, true;
    AlterReplicaLogDirs = 34, AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, 1, 2, true;
    DescribeLogDirs = 35, DescribeLogDirsRequest, DescribeLogDirsResponse, 1, 5, true;
    SaslAuthenticate = 36, SaslAuthenticateRequest, SaslAuthenticateResponse, 0, 2, true;
    CreatePartitions = 37, CreatePartitionsRequest, CreatePartitionsResponse, 0, 3, true;
    CreateDelegationToken = 38, CreateDelegationTokenRequest, CreateDelegationTokenResponse, 1, 3, true;
    RenewDelegationToken = 39, RenewDelegationTokenRequest, RenewDelegationTokenResponse, 1, 2, true;
    ExpireDelegationToken = 40, ExpireDelegationTokenRequest, ExpireDelegationTokenResponse, 1, 2, true;
    DescribeDelegationToken = 41, DescribeDelegationTokenRequest, DescribeDelegationTokenResponse, 1, 3, true;
    DeleteGroups = 42, DeleteGroupsRequest, DeleteGroupsResponse, 0, 2, true;
    ElectLeaders = 43, ElectLeadersRequest, ElectLeadersResponse, 0, 2, true;
    IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, 0, 1, true;
    AlterPartitionReassignments = 45, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, 0, 1, true;
    ListPartitionReassignments = 46, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, 0, 0, true;
    OffsetDelete = 47, OffsetDeleteRequest, OffsetDeleteResponse, 0, 0, true;
    DescribeClientQuotas = 48, DescribeClientQuotasRequest, DescribeClientQuotasResponse, 0, 1, true;
    AlterClientQuotas = 49, AlterClientQuotasRequest, AlterClientQuotasResponse, 0, 1, true;
    DescribeUserScramCredentials = 50, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, 0, 0, true;
    AlterUserScramCredentials = 51, AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, 0, 0, true;
    Vote = 52, VoteRequest, VoteResponse, 0, 2, false;
    BeginQuorumEpoch = 53, BeginQuorumEpochRequest, BeginQuorumEpochResponse, 0, 1, false;
    EndQuorumEpoch = 54, EndQuorumEpochRequest, EndQuorumEpochResponse, 0, 1, false;
    DescribeQuorum = 55, DescribeQuorumRequest, DescribeQuorumResponse, 0, 2, true;
    AlterPartition = 56, AlterPartitionRequest, AlterPartitionResponse, 2, 3, false;
    UpdateFeatures = 57, UpdateFeaturesRequest, UpdateFeaturesResponse, 0, 2, true;
    Envelope = 58, EnvelopeRequest, EnvelopeResponse, 0, 0, false;
    FetchSnapshot = 59, FetchSnapshotRequest, FetchSnapshotResponse, 0, 1, false;
    DescribeCluster = 60, DescribeClusterRequest, DescribeClusterResponse, 0, 2, true;
    DescribeProducers = 61, DescribeProducersRequest, DescribeProducersResponse, 0, 0, true;
    BrokerRegistration = 62, BrokerRegistrationRequest, BrokerRegistrationResponse, 0, 4, false;
    BrokerHeartbeat = 63, BrokerHeartbeatRequest, BrokerHeartbeatResponse, 0, 1, false;
    UnregisterBroker = 64, UnregisterBrokerRequest, UnregisterBrokerResponse, 0, 0, true;
    DescribeTransactions = 65, DescribeTransactionsRequest, DescribeTransactionsResponse, 0, 0, true;
    ListTransactions = 66, ListTransactionsRequest, ListTransactionsResponse, 0, 2, true;
    AllocateProducerIds = 67, AllocateProducerIdsRequest, AllocateProducerIdsResponse, 0, 0, false;
    ConsumerGroupHeartbeat = 68, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, 0, 1, true;
    ConsumerGroupDescribe = 69, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, 0, 1, true;
    ControllerRegistration = 70, ControllerRegistrationRequest, ControllerRegistrationResponse, 0, 0, false;
    GetTelemetrySubscriptions = 71, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, 0, 0, false;
    PushTelemetry = 72, PushTelemetryRequest, PushTelemetryResponse, 0, 0, false;
    AssignReplicasToDirs = 73, AssignReplicasToDirsRequest, AssignReplicasToDirsResponse, 0, 0, false;
    ListConfigResources = 74, ListConfigResourcesRequest, ListConfigResourcesResponse, 0, 1, true;
    DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, 0, 0, true;
    ShareGroupHeartbeat = 76, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, 1, 1, true;
    ShareGroupDescribe = 77, ShareGroupDescribeRequest, ShareGroupDescribeResponse, 1, 1, true;
    ShareFetch = 78, ShareFetchRequest, ShareFetchResponse, 1, 2, true;
    ShareAcknowledge = 79, ShareAcknowledgeRequest, ShareAcknowledgeResponse, 1, 2, true;
    AddRaftVoter = 80, AddRaftVoterRequest, AddRaftVoterResponse, 0, 1, true;
    RemoveRaftVoter = 81, RemoveRaftVoterRequest, RemoveRaftVoterResponse, 0, 0, true;
    UpdateRaftVoter = 82, UpdateRaftVoterRequest, UpdateRaftVoterResponse, 0, 0, false;
    InitializeShareGroupState = 83, InitializeShareGroupStateRequest, InitializeShareGroupStateResponse, 0, 0, true;
    ReadShareGroupState = 84, ReadShareGroupStateRequest, ReadShareGroupStateResponse, 0, 0, true;
    WriteShareGroupState = 85, WriteShareGroupStateRequest, WriteShareGroupStateResponse, 0, 1, true;
    DeleteShareGroupState = 86, DeleteShareGroupStateRequest, DeleteShareGroupStateResponse, 0, 0, true;
    ReadShareGroupStateSummary = 87, ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse, 0, 1, true;
    StreamsGroupHeartbeat = 88, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, 0, 0, true;
    StreamsGroupDescribe = 89, StreamsGroupDescribeRequest, StreamsGroupDescribeResponse, 0, 0, true;
    DescribeShareGroupOffsets = 90, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, 0, 1, true;
    AlterShareGroupOffsets = 91, AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, 0, 0, true;
    DeleteShareGroupOffsets = 92, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, 0, 0, true;
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
