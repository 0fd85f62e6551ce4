//! Topics: made, described, grown, deleted, with Kafka's error codes, over both targets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use protocol::api::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::api::messages::delete_topics_request::DeleteTopicState;
use protocol::api::messages::describe_topic_partitions_request::TopicRequest;
use protocol::api::messages::metadata_request::MetadataRequestTopic;
use protocol::api::messages::metadata_response::MetadataResponseTopic;
use protocol::api::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeTopicPartitionsRequest, MetadataRequest, MetadataResponse,
};
use protocol::api::{ErrorCode, Response, Uuid};
use support::*;

fn metadata(peer: &mut Peer, version: i16, request: MetadataRequest) -> MetadataResponse {
    match peer.call(version, request) {
        Response::Metadata(response) => response,
        other => panic!("{other:?}"),
    }
}

fn named(names: &[&str], auto_create: bool) -> MetadataRequest {
    let topics = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(name_of(name))));
    MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(auto_create)
}

fn names(response: &MetadataResponse) -> Vec<String> {
    response.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect()
}

fn only(response: MetadataResponse) -> MetadataResponseTopic {
    response.topics.into_iter().next().unwrap()
}

#[test]
fn a_topic_that_was_made_is_in_the_metadata() {
    on_each_target(&[], |peer| {
        let id = peer.create_topic("orders", 3, &[]);
        let topic = only(metadata(peer, 12, named(&["orders"], false)));
        assert_eq!((topic.error_code, topic.topic_id, topic.partitions.len()), (0, id, 3));
        let partition = &topic.partitions[2];
        assert_eq!((partition.partition_index, partition.leader_id.0, partition.leader_epoch), (2, 1, 0));
        assert_eq!((partition.replica_nodes.len(), partition.isr_nodes.len()), (1, 1));
        for name in [None, Some(name_of(""))] {
            // Kafka's admin client sends an empty name beside the id.
            let by_id = MetadataRequestTopic::default().with_name(name).with_topic_id(id);
            let topic = only(metadata(peer, 12, MetadataRequest::default().with_topics(Some(vec![by_id]))));
            assert_eq!(topic.name.unwrap(), name_of("orders"));
        }
    });
}

#[test]
fn metadata_of_all_none_and_unknown_topics() {
    on_each_target(&[], |peer| {
        peer.create_topic("a", 1, &[]);
        peer.create_topic("b", 1, &[]);
        assert_eq!(names(&metadata(peer, 9, MetadataRequest::default().with_topics(None))), ["a", "b"]);
        assert!(metadata(peer, 9, named(&[], false)).topics.is_empty());
        assert_eq!(names(&metadata(peer, 0, named(&[], true))), ["a", "b"], "version 0: an empty list is all");
        assert_eq!(only(metadata(peer, 9, named(&["no"], false))).error_code, 3);
        assert_eq!(only(metadata(peer, 9, named(&["a/b"], true))).error_code, 17);
        assert_eq!(only(metadata(peer, 9, named(&["__cluster_metadata"], true))).error_code, 3);
        let unknown = MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(5));
        let topic = only(metadata(peer, 12, MetadataRequest::default().with_topics(Some(vec![unknown]))));
        assert_eq!((topic.error_code, topic.name), (100, None));
        let early = MetadataRequestTopic::default().with_name(Some(name_of("a"))).with_topic_id(Uuid::from_u128(5));
        let topic = only(metadata(peer, 10, MetadataRequest::default().with_topics(Some(vec![early]))));
        assert_eq!(topic.error_code, ErrorCode::InvalidRequest.code());
    });
}

#[test]
fn a_topic_is_made_on_first_use_unless_that_is_off() {
    on_each_target(&[("num.partitions", "2")], |peer| {
        let asked_first = only(metadata(peer, 9, named(&["fresh"], true)));
        assert_eq!((asked_first.error_code, asked_first.partitions.len()), (3, 0), "it is only being made");
        let topic = only(metadata(peer, 9, named(&["fresh"], true)));
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 2));
        assert_eq!(only(metadata(peer, 9, named(&["other"], false))).error_code, 3);
    });
    on_each_target(&[("auto.create.topics.enable", "false")], |peer| {
        assert_eq!(only(metadata(peer, 9, named(&["fresh"], true))).error_code, 3);
    });
}

#[test]
fn creation_is_refused_with_kafkas_codes() {
    on_each_target(&[], |peer| {
        peer.create_topic("a.b", 1, &[]);
        let twice = topic("twice", 1, &[]);
        let wanted = vec![
            topic("a.b", 1, &[]),
            topic("a_b", 1, &[]),
            topic("a/b", 1, &[]),
            topic("zero", 0, &[]),
            topic("two-replicas", 1, &[]).with_replication_factor(2),
            topic("config", 1, &[("no.such.config", "1")]),
            topic("value", 1, &[("retention.ms", "soon")]),
            topic("many", 20_000, &[]),
            topic("__cluster_metadata", 1, &[]),
            twice.clone(),
            twice,
        ];
        let response = peer.create_topics(wanted);
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [36, 17, 17, 37, 38, 40, 40, 44, 42, 42]);
        assert_eq!(names(&metadata(peer, 9, MetadataRequest::default().with_topics(None))), ["a.b"]);
    });
}

#[test]
fn every_version_may_leave_partitions_and_replicas_to_the_cluster() {
    on_each_target(&[("num.partitions", "3")], |peer| {
        for version in 2..=7 {
            let name = format!("by-{version}");
            let wanted = topic(&name, -1, &[]).with_replication_factor(-1);
            match peer.call(version, CreateTopicsRequest::default().with_topics(vec![wanted])) {
                Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0, "version {version}"),
                other => panic!("{other:?}"),
            }
            let made = only(metadata(peer, 9, named(&[&name], false)));
            assert_eq!(made.partitions.len(), 3, "version {version}");
        }
    });
}

#[test]
fn validate_only_makes_nothing() {
    on_each_target(&[], |peer| {
        let request = CreateTopicsRequest::default().with_topics(vec![topic("a", 4, &[])]).with_validate_only(true);
        match peer.call(7, request) {
            Response::CreateTopics(response) => {
                let topic = &response.topics[0];
                assert_eq!((topic.error_code, topic.num_partitions, topic.topic_id), (0, 4, Uuid::nil()));
                let configs = topic.configs.as_ref().unwrap();
                assert!(
                    configs
                        .iter()
                        .any(|config| &*config.name == "retention.ms" && config.value.as_deref() == Some("604800000"))
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(only(metadata(peer, 9, named(&["a"], false))).error_code, 3);
    });
}

fn delete(peer: &mut Peer, version: i16, names: &[&str], ids: &[Uuid]) -> Vec<i16> {
    let mut request = DeleteTopicsRequest::default().with_timeout_ms(1000);
    if version >= 6 {
        let named = names.iter().map(|name| DeleteTopicState::default().with_name(Some(name_of(name))));
        let by_id = ids.iter().map(|id| DeleteTopicState::default().with_name(None).with_topic_id(*id));
        request.topics = named.chain(by_id).collect();
    } else {
        request.topic_names = names.iter().map(|name| name_of(name)).collect();
    }
    match peer.call(version, request) {
        Response::DeleteTopics(response) => response.responses.iter().map(|result| result.error_code).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    on_each_target(&[], |peer| {
        let id = peer.create_topic("a", 1, &[]);
        peer.create_topic("b", 1, &[]);
        peer.produce("a", 0, -1, batch(&["x"]));
        assert_eq!(delete(peer, 6, &["no"], &[id, Uuid::from_u128(1)]), [3, 0, 100]);
        assert_eq!(delete(peer, 4, &["b", "b2"], &[]), [0, 3]);
        assert_eq!(peer.fetch("a", 0, 0).error_code, ErrorCode::UnknownTopicOrPartition);
        let again = peer.create_topic("a", 1, &[]);
        assert_ne!(again, id);
        assert!(peer.values("a", 0, 0).is_empty(), "a topic made anew is empty");
    });
    on_each_target(&[("delete.topic.enable", "false")], |peer| {
        peer.create_topic("a", 1, &[]);
        assert_eq!(delete(peer, 4, &["a"], &[]), [73]);
    });
}

#[test]
fn a_topic_can_be_given_more_partitions() {
    on_each_target(&[], |peer| {
        peer.create_topic("a", 2, &[]);
        let mut grow = |name: &str, count: i32, validate_only: bool| {
            let topic =
                CreatePartitionsTopic::default().with_name(name_of(name)).with_count(count).with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
            match peer.call(3, request.with_validate_only(validate_only).with_timeout_ms(1000)) {
                Response::CreatePartitions(response) => response.results[0].error_code,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((grow("a", 2, false), grow("a", 1, false), grow("no", 5, false)), (37, 37, 3));
        assert_eq!((grow("a", 9, true), grow("a", 4, false)), (0, 0));
        assert_eq!(only(metadata(peer, 9, named(&["a"], false))).partitions.len(), 4);
        assert_eq!(peer.produce("a", 3, -1, batch(&["x"])).error_code, ErrorCode::None);
    });
}

#[test]
fn topics_are_described_in_pieces() {
    on_each_target(&[], |peer| {
        peer.create_topic("a", 3, &[]);
        peer.create_topic("b", 2, &[]);
        let mut cursor = None;
        let mut seen = Vec::new();
        for _ in 0..10 {
            let request = DescribeTopicPartitionsRequest::default()
                .with_topics(["b", "a", "no"].map(|name| TopicRequest::default().with_name(name_of(name))).to_vec())
                .with_response_partition_limit(2)
                .with_cursor(cursor.take());
            let Response::DescribeTopicPartitions(response) = peer.call(0, request) else { panic!() };
            for topic in &response.topics {
                let indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
                seen.push((topic.name.as_ref().unwrap().to_string(), topic.error_code, indexes));
            }
            let Some(next) = response.next_cursor else { break };
            cursor = Some(
                protocol::api::messages::describe_topic_partitions_request::Cursor::default()
                    .with_topic_name(next.topic_name)
                    .with_partition_index(next.partition_index),
            );
        }
        let expected = [
            ("a".to_owned(), 0, vec![0, 1]),
            ("a".to_owned(), 0, vec![2]),
            ("b".to_owned(), 0, vec![0]),
            ("b".to_owned(), 0, vec![1]),
            ("no".to_owned(), 3, vec![]),
        ];
        assert_eq!(seen, expected);
    });
}

#[test]
fn the_cluster_is_one_broker_that_says_where_it_listens() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let Response::DescribeCluster(response) = peer.call(1, DescribeClusterRequest::default().with_endpoint_type(1))
    else {
        panic!()
    };
    let node = &response.brokers[0];
    assert_eq!((node.broker_id.0, &*node.host, node.port), (1, "127.0.0.1", i32::from(broker.address().port())));
    assert_eq!(response.cluster_id.len(), 22);
    let Response::DescribeCluster(response) = peer.call(1, DescribeClusterRequest::default().with_endpoint_type(2))
    else {
        panic!()
    };
    assert_eq!(response.error_code, 114);
    let metadata = metadata(&mut peer, 9, named(&[], false));
    assert_eq!((&*metadata.brokers[0].host, metadata.controller_id.0), ("127.0.0.1", 1));
}

#[test]
fn api_versions_lists_what_is_served_and_checks_the_software_name() {
    on_each_target(&[], |peer| {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("test"))
            .with_client_software_version(text("1.0"));
        for version in [0, 3, 4] {
            let request = if version == 0 { ApiVersionsRequest::default() } else { request.clone() };
            let Response::ApiVersions(response) = peer.call(version, request) else { panic!() };
            assert_eq!(response.error_code, 0);
            let produce = &response.api_keys[0];
            assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
            assert!(response.api_keys.iter().all(|key| key.api_key != 58), "Envelope is not for clients");
        }
        let Response::ApiVersions(response) = peer.call(3, ApiVersionsRequest::default()) else { panic!() };
        assert_eq!((response.error_code, response.api_keys.len()), (42, 0));
    });
}
