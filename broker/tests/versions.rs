//! Every API is answered in every version that ApiVersions lists: clients take the highest that both sides know, and
//! an answer that cannot be encoded in an old version would end their connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use bytes::Bytes;
use protocol::api::describe_share_group_offsets::{DescribeShareGroup, DescribeShareGroupOffsetsRequest};
use protocol::api::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use protocol::api::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig as WholeConfig};
use protocol::api::messages::create_acls_request::AclCreation;
use protocol::api::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::api::messages::delete_acls_request::DeleteAclsFilter;
use protocol::api::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::api::messages::delete_topics_request::DeleteTopicState;
use protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use protocol::api::messages::describe_producers_request::TopicRequest as ProducersTopic;
use protocol::api::messages::describe_topic_partitions_request::TopicRequest;
use protocol::api::messages::incremental_alter_configs_request::{
    AlterConfigsResource as Resource, AlterableConfig as OneConfig,
};
use protocol::api::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::api::messages::leave_group_request::MemberIdentity;
use protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::api::messages::metadata_request::MetadataRequestTopic;
use protocol::api::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::api::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use protocol::api::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use protocol::api::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use protocol::api::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use protocol::api::messages::*;
use protocol::api::share_acknowledge::ShareAcknowledgeRequest;
use protocol::api::share_fetch::{ShareFetchPartition, ShareFetchRequest, ShareFetchTopic};
use protocol::api::share_group_state::{
    ReadShareGroupStateSummaryRequest, ShareStateTopic, WriteShareGroupStateRequest,
};
use protocol::api::streams_group_describe::StreamsGroupDescribeRequest;
use protocol::api::streams_group_heartbeat::StreamsGroupHeartbeatRequest;
use protocol::api::write_txn_markers::{WritableTxnMarker, WriteTxnMarkersRequest};
use protocol::api::{ApiKey, Request, Response, Uuid};
use support::*;

const GROUP: &str = "g";

/// A request that reaches the handler's main path, as that version of the API can put it.
fn request(key: ApiKey, version: i16, topic_id: Uuid) -> Request {
    let group = || GroupId(text(GROUP));
    let name = || name_of("t");
    let id = || TransactionalId(text("id"));
    let resource = |kind: i8| (kind, text("t"));
    match key {
        ApiKey::Produce => {
            let mut request = produce_request("t", 0, -1, batch(&["a"]));
            request.topics[0].topic_id = if version >= 13 { topic_id } else { Uuid::nil() };
            request.into()
        }
        ApiKey::Fetch => {
            let mut request = fetch_request("t", 0, 0, 0, 1);
            request.topics[0].topic_id = if version >= 13 { topic_id } else { Uuid::nil() };
            request.session_epoch = -1;
            request.into()
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
            let topic = ListOffsetsTopic::default().with_name(name()).with_partitions(vec![partition]);
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]).into()
        }
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(name()));
            let request = MetadataRequest::default().with_topics(Some(vec![topic]));
            let request = request.with_include_topic_authorized_operations(version >= 8);
            request.with_include_cluster_authorized_operations((8..=10).contains(&version)).into()
        }
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
            let topic = OffsetCommitRequestTopic::default().with_name(name()).with_topic_id(topic_id);
            let topic = topic.with_partitions(vec![partition]);
            OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic]).into()
        }
        ApiKey::OffsetFetch if version < 8 => {
            let topic = OffsetFetchRequestTopic::default().with_name(name()).with_partition_indexes(vec![0]);
            OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic])).into()
        }
        ApiKey::OffsetFetch => {
            let topic = OffsetFetchRequestTopics::default().with_name(name()).with_topic_id(topic_id);
            let topic = topic.with_partition_indexes(vec![0]);
            let asked = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![topic]));
            OffsetFetchRequest::default().with_groups(vec![asked]).into()
        }
        ApiKey::FindCoordinator if version < 4 => FindCoordinatorRequest::default().with_key(text(GROUP)).into(),
        ApiKey::FindCoordinator => FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]).into(),
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::new());
            let request = JoinGroupRequest::default().with_group_id(GroupId(text(&format!("joined-{version}"))));
            let request = request.with_session_timeout_ms(6000).with_rebalance_timeout_ms(1);
            request.with_protocol_type(text("consumer")).with_protocols(vec![protocol]).into()
        }
        ApiKey::Heartbeat => HeartbeatRequest::default().with_group_id(group()).into(),
        ApiKey::LeaveGroup if version < 3 => {
            LeaveGroupRequest::default().with_group_id(group()).with_member_id(text("m")).into()
        }
        ApiKey::LeaveGroup => {
            let member = MemberIdentity::default().with_member_id(text("m"));
            LeaveGroupRequest::default().with_group_id(group()).with_members(vec![member]).into()
        }
        ApiKey::SyncGroup => {
            let request = SyncGroupRequest::default().with_group_id(group()).with_member_id(text("m"));
            let named = (version >= 5).then(|| text("range"));
            request.with_protocol_type(named.as_ref().map(|_| text("consumer"))).with_protocol_name(named).into()
        }
        ApiKey::DescribeGroups => {
            let request = DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("unknown"))]);
            request.with_include_authorized_operations(version >= 3).into()
        }
        ApiKey::ListGroups => ListGroupsRequest::default().into(),
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            request.with_client_software_name(text("test")).with_client_software_version(text("1")).into()
        }
        ApiKey::CreateTopics => CreateTopicsRequest::default()
            .with_topics(vec![topic(&format!("made-{version}"), 1, &[("retention.ms", "1000")])])
            .with_timeout_ms(5000)
            .into(),
        ApiKey::DeleteTopics if version < 6 => {
            DeleteTopicsRequest::default().with_topic_names(vec![name_of("none")]).with_timeout_ms(5000).into()
        }
        ApiKey::DeleteTopics => {
            let topic = DeleteTopicState::default().with_name(Some(name_of("none")));
            DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000).into()
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition::default().with_offset(0)];
            let topic = DeleteRecordsTopic::default().with_name(name()).with_partitions(partitions);
            DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000).into()
        }
        ApiKey::InitProducerId => InitProducerIdRequest::default().into(),
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(0);
            let topic = OffsetForLeaderTopic::default().with_topic(name()).with_partitions(vec![partition]);
            OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]).into()
        }
        ApiKey::DescribeConfigs => {
            let (kind, name) = resource(2);
            let asked = DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(name);
            let request = DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true);
            request.with_include_documentation(version >= 3).into()
        }
        ApiKey::AlterConfigs => {
            let (kind, name) = resource(2);
            let config = WholeConfig::default().with_name(text("retention.ms")).with_value(Some(text("5")));
            let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(name);
            AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]).into()
        }
        ApiKey::CreatePartitions => {
            let topic = CreatePartitionsTopic::default().with_name(name()).with_count(1);
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000).into()
        }
        ApiKey::DeleteGroups => DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("none"))]).into(),
        ApiKey::IncrementalAlterConfigs => {
            let (kind, name) = resource(2);
            let config = OneConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
            let resource = Resource::default().with_resource_type(kind).with_resource_name(name);
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]).into()
        }
        ApiKey::OffsetDelete => {
            let partitions = vec![OffsetDeleteRequestPartition::default()];
            let topic = OffsetDeleteRequestTopic::default().with_name(name()).with_partitions(partitions);
            OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic]).into()
        }
        ApiKey::DescribeCluster => {
            DescribeClusterRequest::default().with_include_cluster_authorized_operations(true).into()
        }
        ApiKey::DescribeProducers => {
            let topic = ProducersTopic::default().with_name(name()).with_partition_indexes(vec![0]);
            DescribeProducersRequest::default().with_topics(vec![topic]).into()
        }
        ApiKey::DescribeTopicPartitions => {
            let topic = TopicRequest::default().with_name(name());
            DescribeTopicPartitionsRequest::default().with_topics(vec![topic]).with_response_partition_limit(100).into()
        }
        ApiKey::AddPartitionsToTxn if version < 4 => {
            let topic = AddPartitionsToTxnTopic::default().with_name(name()).with_partitions(vec![0]);
            let request = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id());
            request.with_v3_and_below_topics(vec![topic]).into()
        }
        ApiKey::AddPartitionsToTxn => {
            let topic = AddPartitionsToTxnTopic::default().with_name(name()).with_partitions(vec![0]);
            let asked = AddPartitionsToTxnTransaction::default().with_transactional_id(id()).with_topics(vec![topic]);
            AddPartitionsToTxnRequest::default().with_transactions(vec![asked.with_verify_only(version == 5)]).into()
        }
        ApiKey::AddOffsetsToTxn => {
            AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(group()).into()
        }
        ApiKey::EndTxn => EndTxnRequest::default().with_transactional_id(id()).into(),
        ApiKey::WriteTxnMarkers => {
            let topics = vec![("t".into(), vec![0])];
            let marker = WritableTxnMarker { producer_id: 1, topics, ..WritableTxnMarker::default() };
            WriteTxnMarkersRequest { markers: vec![marker] }.into()
        }
        ApiKey::TxnOffsetCommit => {
            let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(1);
            let topic = TxnOffsetCommitRequestTopic::default().with_name(name()).with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default().with_transactional_id(id()).with_group_id(group());
            request.with_generation_id(-1).with_topics(vec![topic]).into()
        }
        ApiKey::DescribeTransactions => {
            DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]).into()
        }
        ApiKey::ListTransactions => ListTransactionsRequest::default().into(),
        ApiKey::StreamsGroupHeartbeat => StreamsGroupHeartbeatRequest {
            group_id: "streams".into(),
            member_id: "m".into(),
            member_epoch: 1,
            ..StreamsGroupHeartbeatRequest::default()
        }
        .into(),
        ApiKey::StreamsGroupDescribe => {
            StreamsGroupDescribeRequest { group_ids: vec![GROUP.into()], include_authorized_operations: true }.into()
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let request = ConsumerGroupHeartbeatRequest::default().with_group_id(GroupId(text("consumers")));
            let request = request.with_member_id(text("m")).with_rebalance_timeout_ms(1_000);
            request.with_subscribed_topic_names(Some(vec![name()])).with_topic_partitions(Some(Vec::new())).into()
        }
        ApiKey::ConsumerGroupDescribe => {
            ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("consumers"))]).into()
        }
        ApiKey::ShareGroupHeartbeat
        | ApiKey::ShareGroupDescribe
        | ApiKey::ShareFetch
        | ApiKey::ShareAcknowledge
        | ApiKey::InitializeShareGroupState
        | ApiKey::ReadShareGroupState
        | ApiKey::WriteShareGroupState
        | ApiKey::DeleteShareGroupState
        | ApiKey::ReadShareGroupStateSummary
        | ApiKey::DescribeShareGroupOffsets
        | ApiKey::AlterShareGroupOffsets
        | ApiKey::DeleteShareGroupOffsets => share_request(key, topic_id),
        other => admin_request(other),
    }
}

/// Those of share groups.
fn share_request(key: ApiKey, topic_id: Uuid) -> Request {
    let group = || GroupId(text("shares"));
    match key {
        ApiKey::ShareGroupHeartbeat => {
            let request = ShareGroupHeartbeatRequest::default().with_group_id(group()).with_member_id(text("m"));
            request.with_subscribed_topic_names(Some(vec![name_of("t")])).into()
        }
        ApiKey::ShareGroupDescribe => ShareGroupDescribeRequest::default().with_group_ids(vec![group()]).into(),
        ApiKey::ShareFetch => {
            let partitions = vec![ShareFetchPartition::default()];
            ShareFetchRequest {
                group_id: Some("shares".into()),
                member_id: Some("m".into()),
                max_bytes: 1_000,
                max_records: 10,
                topics: vec![ShareFetchTopic { topic_id, partitions }],
                ..ShareFetchRequest::default()
            }
            .into()
        }
        ApiKey::ShareAcknowledge => ShareAcknowledgeRequest {
            group_id: Some("shares".into()),
            member_id: Some("m".into()),
            share_session_epoch: 1,
            ..ShareAcknowledgeRequest::default()
        }
        .into(),
        ApiKey::InitializeShareGroupState => InitializeShareGroupStateRequest::default()
            .with_group_id(text("shares"))
            .with_topics(vec![
                initialize_share_group_state_request::InitializeStateData::default()
                    .with_topic_id(topic_id)
                    .with_partitions(vec![Default::default()]),
            ])
            .into(),
        ApiKey::ReadShareGroupState => ReadShareGroupStateRequest::default()
            .with_group_id(text("shares"))
            .with_topics(vec![
                read_share_group_state_request::ReadStateData::default()
                    .with_topic_id(topic_id)
                    .with_partitions(vec![Default::default()]),
            ])
            .into(),
        ApiKey::WriteShareGroupState => WriteShareGroupStateRequest {
            group_id: "shares".into(),
            topics: vec![ShareStateTopic { topic_id, partitions: vec![Default::default()] }],
        }
        .into(),
        ApiKey::DeleteShareGroupState => DeleteShareGroupStateRequest::default()
            .with_group_id(text("shares"))
            .with_topics(vec![
                delete_share_group_state_request::DeleteStateData::default()
                    .with_topic_id(topic_id)
                    .with_partitions(vec![Default::default()]),
            ])
            .into(),
        ApiKey::ReadShareGroupStateSummary => ReadShareGroupStateSummaryRequest {
            group_id: "shares".into(),
            topics: vec![ShareStateTopic { topic_id, partitions: vec![Default::default()] }],
        }
        .into(),
        ApiKey::DescribeShareGroupOffsets => {
            let group = DescribeShareGroup { group_id: "shares".into(), topics: None };
            DescribeShareGroupOffsetsRequest { groups: vec![group] }.into()
        }
        ApiKey::AlterShareGroupOffsets => AlterShareGroupOffsetsRequest::default().with_group_id(group()).into(),
        _ => DeleteShareGroupOffsetsRequest::default().with_group_id(group()).into(),
    }
}

/// Those of administration; what they say of one node is the same with and without something in the request.
fn admin_request(key: ApiKey) -> Request {
    match key {
        ApiKey::SaslHandshake => SaslHandshakeRequest::default().into(),
        ApiKey::SaslAuthenticate => SaslAuthenticateRequest::default().into(),
        ApiKey::DescribeAcls => DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(3)
            .with_operation(1)
            .with_permission_type(1)
            .into(),
        ApiKey::CreateAcls => {
            let creation = AclCreation::default().with_resource_type(2).with_resource_pattern_type(3);
            CreateAclsRequest::default().with_creations(vec![creation.with_operation(3).with_permission_type(3)]).into()
        }
        ApiKey::DeleteAcls => {
            let filter = DeleteAclsFilter::default().with_resource_type_filter(1).with_pattern_type_filter(3);
            DeleteAclsRequest::default().with_filters(vec![filter.with_operation(1).with_permission_type(1)]).into()
        }
        ApiKey::AlterReplicaLogDirs => AlterReplicaLogDirsRequest::default().into(),
        ApiKey::DescribeLogDirs => DescribeLogDirsRequest::default().with_topics(None).into(),
        ApiKey::CreateDelegationToken => CreateDelegationTokenRequest::default().into(),
        ApiKey::RenewDelegationToken => RenewDelegationTokenRequest::default().into(),
        ApiKey::ExpireDelegationToken => ExpireDelegationTokenRequest::default().into(),
        ApiKey::DescribeDelegationToken => DescribeDelegationTokenRequest::default().into(),
        ApiKey::ElectLeaders => ElectLeadersRequest::default().with_topic_partitions(None).into(),
        ApiKey::AlterPartitionReassignments => AlterPartitionReassignmentsRequest::default().into(),
        ApiKey::ListPartitionReassignments => ListPartitionReassignmentsRequest::default().into(),
        ApiKey::DescribeClientQuotas => DescribeClientQuotasRequest::default().into(),
        ApiKey::AlterClientQuotas => AlterClientQuotasRequest::default().into(),
        ApiKey::DescribeUserScramCredentials => DescribeUserScramCredentialsRequest::default().into(),
        ApiKey::AlterUserScramCredentials => AlterUserScramCredentialsRequest::default().into(),
        ApiKey::DescribeQuorum => DescribeQuorumRequest::default().into(),
        ApiKey::UpdateFeatures => UpdateFeaturesRequest::default().into(),
        ApiKey::UnregisterBroker => UnregisterBrokerRequest::default().with_broker_id(BrokerId(9)).into(),
        ApiKey::ListConfigResources => ListConfigResourcesRequest::default().into(),
        ApiKey::AddRaftVoter => AddRaftVoterRequest::default().into(),
        ApiKey::RemoveRaftVoter => RemoveRaftVoterRequest::default().into(),
        other => panic!("{other} is served: give it a request here"),
    }
}

#[test]
fn every_listed_version_of_every_api_is_answered() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let topic_id = peer.create_topic("t", 1, &[]);
    let listed = match peer.call(0, ApiVersionsRequest::default()) {
        Response::ApiVersions(response) => response.api_keys,
        other => panic!("{other:?}"),
    };
    assert!(listed.len() >= 36, "{listed:?}");
    let mut failed = Vec::new();
    for api in listed {
        let key = ApiKey::ALL.iter().copied().find(|key| *key as i16 == api.api_key).unwrap();
        // Of Produce, versions are listed that clients only look for (0 to 2); they close the connection.
        let first = if key == ApiKey::Produce { 3 } else { api.min_version };
        for version in first..=api.max_version {
            peer.send(version, request(key, version, topic_id));
            if let Err(error) = peer.try_receive() {
                failed.push(format!("{key} version {version} got no answer: {error}"));
                peer = broker.tcp();
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
