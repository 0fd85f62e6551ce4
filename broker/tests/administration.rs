//! Requests of administration, as one node answers them; and what they change is kept and takes effect.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says where it failed")]

mod support;

use protocol::api::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use protocol::api::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use protocol::api::messages::create_acls_request::AclCreation;
use protocol::api::messages::delete_acls_request::DeleteAclsFilter;
use protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use protocol::api::messages::describe_log_dirs_request::DescribableLogDirTopic;
use protocol::api::messages::describe_quorum_request::{PartitionData, TopicData};
use protocol::api::messages::elect_leaders_request::TopicPartitions;
use protocol::api::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::api::messages::update_features_request::FeatureUpdateKey;
use protocol::api::messages::*;
use protocol::api::{ErrorCode, Response};
use support::*;

const AUTHORIZER: [(&str, &str); 2] = [
    ("super.users", "User:ANONYMOUS"),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
];

macro_rules! ask {
    ($peer:expr, $version:expr, $request:expr, $kind:ident) => {
        match $peer.call($version, $request) {
            Response::$kind(response) => response,
            other => panic!("{other:?}"),
        }
    };
}

fn acl() -> AclCreation {
    AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text("orders"))
        .with_resource_pattern_type(3)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3)
}

fn all_acls() -> DescribeAclsRequest {
    let request = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
    let request = request.with_operation(1).with_permission_type(1);
    request.with_resource_name_filter(None).with_principal_filter(None).with_host_filter(None)
}

#[test]
fn without_an_authorizer_access_control_is_disabled() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let disabled = ErrorCode::SecurityDisabled.code();
    let create = CreateAclsRequest::default().with_creations(vec![acl()]);
    assert_eq!(ask!(peer, 3, create, CreateAcls).results[0].error_code, disabled);
    assert_eq!(ask!(peer, 3, all_acls(), DescribeAcls).error_code, disabled);
}

#[test]
fn access_control_entries_are_kept_once_shown_and_deleted() {
    let mut broker = TestBroker::start(&AUTHORIZER);
    let mut peer = broker.tcp();
    let wrong = acl().with_operation(1);
    let create = CreateAclsRequest::default().with_creations(vec![acl(), acl(), wrong]);
    let codes: Vec<i16> = ask!(peer, 3, create, CreateAcls).results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, 0, ErrorCode::InvalidRequest.code()]);
    broker.restart();
    let mut peer = broker.tcp();
    let described = ask!(peer, 3, all_acls(), DescribeAcls).resources;
    assert_eq!((described.len(), described[0].acls.len()), (1, 1));
    assert_eq!((&*described[0].resource_name, &*described[0].acls[0].principal), ("orders", "User:alice"));
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_resource_name_filter(Some(text("orders")))
        .with_pattern_type_filter(2)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1);
    let delete = DeleteAclsRequest::default().with_filters(vec![filter]);
    assert_eq!(ask!(peer, 3, delete, DeleteAcls).filter_results[0].matching_acls.len(), 1);
    assert!(ask!(peer, 3, all_acls(), DescribeAcls).resources.is_empty());
}

fn quota(client_id: Option<&str>, key: &str, value: f64) -> AlterClientQuotasRequest {
    let entity = EntityData::default().with_entity_type(text("client-id")).with_entity_name(client_id.map(text));
    let op = OpData::default().with_key(text(key)).with_value(value).with_remove(value == 0.0);
    let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
    AlterClientQuotasRequest::default().with_entries(vec![entry])
}

#[test]
fn a_producer_above_its_quota_is_told_to_hold_back_and_is_not_read_from_meanwhile() {
    let mut broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    let set = quota(Some("fast"), "producer_byte_rate", 1000.0);
    assert_eq!(ask!(peer, 1, set, AlterClientQuotas).entries[0].error_code, 0);
    broker.restart();
    let mut peer = broker.tcp();
    let described = ask!(peer, 1, DescribeClientQuotasRequest::default(), DescribeClientQuotas).entries.unwrap();
    assert_eq!((described.len(), described[0].values[0].value), (1, 1000.0));
    let value = "x".repeat(11_000);
    let mut throttle_of = |client: &str| {
        peer.send_as(9, client, produce_request("t", 0, -1, batch(&[&value])));
        match peer.receive() {
            Response::Produce(response) => response.throttle_time_ms,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(throttle_of("slow"), 0);
    let clock = base::SystemClock::shared();
    // The broker holds back from its answer on, which comes after this; its clock and this one round to milliseconds.
    let before = base::Clock::now(&*clock).ticks_ms;
    let throttle_ms = throttle_of("fast");
    assert!((1000..1500).contains(&throttle_ms), "11 kB and a bit are 1 s above 1 kB/s over 10 s: {throttle_ms} ms");
    ask!(peer, 0, MetadataRequest::default(), Metadata);
    let waited_ms = base::Clock::now(&*clock).ticks_ms - before;
    assert!(waited_ms >= i64::from(throttle_ms) - 1, "the next request waits: {waited_ms} ms");
}

#[test]
fn quotas_that_are_not_enforced_are_refused() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    for (key, value) in [("request_percentage", 50.0), ("no_such_key", 1.0), ("producer_byte_rate", -1.0)] {
        let refused = ask!(peer, 1, quota(None, key, value), AlterClientQuotas).entries[0].error_code;
        assert_eq!(refused, ErrorCode::InvalidRequest.code(), "{key}");
    }
}

#[test]
fn one_node_needs_no_election_and_moves_nothing() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    let asked = |topic: &str, partition: i32| {
        TopicPartitions::default().with_topic(name_of(topic)).with_partitions(vec![partition])
    };
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![
        asked("t", 0),
        asked("t", 1),
        asked("none", 0),
    ]));
    let elected = ask!(peer, 2, request, ElectLeaders).replica_election_results;
    let codes: Vec<i16> = elected.iter().map(|topic| topic.partition_result[0].error_code).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(codes, [ErrorCode::ElectionNotNeeded.code(), unknown, unknown]);
    let all = ElectLeadersRequest::default().with_topic_partitions(None);
    assert!(ask!(peer, 2, all, ElectLeaders).replica_election_results.is_empty());
    let mut reassign = |replicas: Option<Vec<BrokerId>>| {
        let partition = ReassignablePartition::default().with_replicas(replicas);
        let topic = ReassignableTopic::default().with_name(name_of("t")).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        ask!(peer, 0, request, AlterPartitionReassignments).responses[0].partitions[0].error_code
    };
    assert_eq!(reassign(Some(vec![BrokerId(1)])), 0);
    assert_eq!(reassign(Some(vec![BrokerId(1), BrokerId(2)])), ErrorCode::InvalidReplicaAssignment.code());
    assert_eq!(reassign(Some(Vec::new())), ErrorCode::InvalidReplicaAssignment.code());
    assert_eq!(reassign(None), ErrorCode::NoReassignmentInProgress.code());
}

#[test]
fn the_log_directory_shows_the_size_of_partitions_and_of_its_volume() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 2, &[]);
    peer.produce("t", 1, -1, batch(&["a"]));
    let asked = DescribableLogDirTopic::default().with_topic(name_of("t")).with_partitions(vec![1]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
    let described = ask!(peer, 4, request, DescribeLogDirs).results.remove(0);
    assert_eq!(std::path::Path::new(&*described.log_dir), std::path::absolute(broker.path()).unwrap());
    assert!(described.total_bytes > described.usable_bytes && described.usable_bytes > 0);
    assert_eq!(described.topics[0].partitions.len(), 1);
    assert!(described.topics[0].partitions[0].partition_size > 0);
    let all = ask!(peer, 1, DescribeLogDirsRequest::default().with_topics(None), DescribeLogDirs);
    assert_eq!(all.results[0].topics[0].partitions.len(), 2);
}

#[test]
fn this_node_is_the_quorum() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let topic = |name: &str| {
        TopicData::default().with_topic_name(name_of(name)).with_partitions(vec![PartitionData::default()])
    };
    let request = DescribeQuorumRequest::default().with_topics(vec![topic("__cluster_metadata"), topic("t")]);
    let described = ask!(peer, 2, request, DescribeQuorum);
    let metadata = &described.topics[0].partitions[0];
    assert_eq!((metadata.leader_id, metadata.current_voters.len()), (BrokerId(1), 1));
    assert!(metadata.high_watermark > 0 && metadata.current_voters[0].log_end_offset >= metadata.high_watermark);
    assert!(!metadata.current_voters[0].replica_directory_id.is_nil());
    assert_eq!(described.topics[1].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(described.nodes[0].listeners[0].port, broker.address().port());
}

#[test]
fn features_move_within_what_is_understood() {
    let mut broker = TestBroker::start(&[]);
    let update = |name: &str, level: i16, upgrade_type: i8| {
        let update = FeatureUpdateKey::default()
            .with_feature(text(name))
            .with_max_version_level(level)
            .with_upgrade_type(upgrade_type);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
        let response = ask!(broker.tcp(), 1, request, UpdateFeatures);
        let results: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
        // What is refused is refused as a whole; otherwise each feature is named.
        assert_eq!(results, if response.error_code == 0 { vec![0] } else { vec![] });
        response.error_code
    };
    let refused = ErrorCode::InvalidUpdateVersion.code();
    assert_eq!(update("no.such", 1, 1), refused);
    assert_eq!(update("transaction.version", 99, 1), refused);
    assert_eq!(update("transaction.version", 1, 1), refused, "a downgrade must be said");
    assert_eq!(update("transaction.version", 1, 2), 0);
    broker.restart();
    let mut peer = broker.tcp();
    let request =
        ApiVersionsRequest::default().with_client_software_name(text("test")).with_client_software_version(text("1"));
    let features = ask!(peer, 3, request, ApiVersions).finalized_features;
    let level = features.iter().find(|feature| &*feature.name == "transaction.version").unwrap();
    assert_eq!(level.max_version_level, 1);
}

#[test]
fn min_insync_replicas_is_the_clusters_while_replicas_are_eligible() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let refused = ErrorCode::InvalidConfig.code();
    assert_eq!(set_config(&mut peer, 4, "1", "min.insync.replicas", "2"), refused);
    assert_eq!(set_config(&mut peer, 4, "", "min.insync.replicas", "2"), 0);
    let resource = DescribeConfigsResource::default().with_resource_type(4).with_resource_name(text(""));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let described = ask!(peer, 4, request, DescribeConfigs);
    let found = described.results[0].configs.iter().find(|config| &*config.name == "min.insync.replicas").unwrap();
    assert_eq!(found.value.as_deref(), Some("2"));
    // 3: a dynamic default of all brokers.
    assert_eq!(found.config_source, 3);
}

#[test]
fn telemetry_is_answered_and_asks_for_nothing() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let given = ask!(peer, 0, GetTelemetrySubscriptionsRequest::default(), GetTelemetrySubscriptions);
    assert!(!given.client_instance_id.is_nil() && given.requested_metrics.is_empty());
    let push = PushTelemetryRequest::default().with_client_instance_id(given.client_instance_id);
    assert_eq!(ask!(peer, 0, push.clone(), PushTelemetry).error_code, 0);
    let unknown = push.with_subscription_id(7);
    assert_eq!(ask!(peer, 0, unknown, PushTelemetry).error_code, ErrorCode::UnknownSubscriptionId.code());
}

fn set_config(peer: &mut Peer, kind: i8, resource: &str, name: &str, value: &str) -> i16 {
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    ask!(peer, 1, request, IncrementalAlterConfigs).responses[0].error_code
}

#[test]
fn a_limit_of_connections_that_is_set_while_the_broker_runs_holds_and_others_are_refused() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let refused = ErrorCode::InvalidRequest.code();
    assert_eq!(set_config(&mut peer, 4, "1", "num.partitions", "3"), refused);
    assert_eq!(set_config(&mut peer, 8, "1", "root", "DEBUG"), refused);
    assert_eq!(set_config(&mut peer, 16, "all", "metrics", "*"), refused);
    assert_eq!(set_config(&mut peer, 4, "1", "max.connections.per.ip", "1"), 0);
    let mut second = Peer::tcp(broker.address());
    second.send(0, MetadataRequest::default());
    assert!(second.try_receive().is_err(), "turned away");
    assert_eq!(set_config(&mut peer, 4, "1", "max.connections.per.ip", "10"), 0);
    ask!(broker.tcp(), 0, MetadataRequest::default(), Metadata);
}

#[test]
fn resources_with_settings_are_listed_by_type() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    let list = |peer: &mut Peer, version: i16, types: Vec<i8>| {
        let request = ListConfigResourcesRequest::default().with_resource_types(types);
        let response = ask!(peer, version, request, ListConfigResources);
        let resources = response.config_resources.iter();
        (response.error_code, resources.map(|r| (r.resource_type, r.resource_name.to_string())).collect::<Vec<_>>())
    };
    assert_eq!(list(&mut peer, 0, Vec::new()), (0, Vec::new()));
    assert_eq!(list(&mut peer, 1, vec![2]), (0, vec![(2, "t".to_owned())]));
    let all = [(2, "t".to_owned()), (4, "1".to_owned()), (8, "1".to_owned())];
    assert_eq!(list(&mut peer, 1, Vec::new()), (0, all.to_vec()));
    assert_eq!(list(&mut peer, 1, vec![3]).0, ErrorCode::UnsupportedVersion.code());
}
