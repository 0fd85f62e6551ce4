//! Data directories that Apache Kafka 4.3.1 wrote (one node, KRaft) are opened and served: topics with their settings,
//! records, committed offsets, transactions, quotas and access control entries.
//!
//! `tests/data/kafka-directory.zst` is a sequence of files (length of the name, length of the content, name, content),
//! compressed: `clean/`, after a clean shutdown, and `killed/`, of the running broker before. Their metadata log begins behind
//! a checkpoint. In it: `orders` (3 partitions, 100 records, zstd), `payments` (four transactions, the second and the fourth
//! aborted, and an open one), `gone` (deleted), offsets of a classic group, of one of the consumer protocol and of a
//! transaction, 40 changes of a setting, an access control entry, a quota.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says where it failed")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use broker::{BrokerConfig, RunningBroker};
use protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::api::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::api::messages::*;
use protocol::api::{ErrorCode, Response};
use support::*;
use tempfile::TempDir;

fn unpack(part: &str, target: &Path) {
    let bundle = zstd::stream::decode_all(&include_bytes!("data/kafka-directory.zst")[..]).unwrap();
    let mut rest = bundle.as_slice();
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken
    };
    let total = bundle.len();
    let mut read = 0;
    while read < total {
        let length = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        let (name, content) = (length(take(4)), length(take(4)));
        read += 8 + name + content;
        let name = String::from_utf8(take(name).to_vec()).unwrap();
        let content = take(content);
        if let Some(name) = name.strip_prefix(part).and_then(|name| name.strip_prefix('/')) {
            let path = target.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
}

struct Opened {
    running: RunningBroker,
    directory: TempDir,
}

fn open(part: &str) -> Opened {
    let directory = tempfile::tempdir().unwrap();
    unpack(part, directory.path());
    let running = start(directory.path());
    Opened { running, directory }
}

fn start(path: &Path) -> RunningBroker {
    let config = BrokerConfig::from_properties([
        ("log.dirs", path.to_str().unwrap()),
        ("durability", "process"),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:ANONYMOUS"),
        // The clock of this test is later than the directory's.
        ("offsets.retention.minutes", "2147483647"),
    ]);
    broker::Broker::start(config.unwrap()).unwrap()
}

impl Opened {
    fn peer(&self) -> Peer {
        Peer::InProcess { transport: self.running.transport(), waiting: Default::default() }
    }

    fn restart(self) -> Self {
        let Self { running, directory } = self;
        running.shutdown().unwrap();
        let running = start(directory.path());
        Self { running, directory }
    }
}

/// Values of a partition, as a client of that isolation level reads them, control batches left out.
fn read(peer: &mut Peer, topic: &str, index: i32, isolation_level: i8) -> Vec<String> {
    let mut offset = 0;
    let mut found = Vec::new();
    loop {
        let mut request = fetch_request(topic, index, offset, 0, 0);
        request.isolation_level = isolation_level;
        peer.send(11, request);
        let answer = fetched(peer.receive());
        assert_eq!(answer.error_code, ErrorCode::None);
        let aborted = answer.aborted.unwrap_or_default();
        let bytes = answer.records.to_bytes().unwrap();
        if bytes.is_empty() {
            return found;
        }
        for batch in protocol::record::batches(&bytes) {
            let batch = batch.unwrap();
            let header = *batch.header();
            offset = header.next_offset();
            let is_aborted = |first: i64| header.base_offset == first;
            let skip = header.attributes.is_control()
                || aborted
                    .iter()
                    .any(|entry| entry.producer_id == header.producer_id && is_aborted(entry.first_offset));
            if !skip {
                let mut records = batch.records().unwrap();
                while let Some(record) = records.next() {
                    found.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
                }
            }
        }
    }
}

fn committed(peer: &mut Peer, group: &str, partitions: i32) -> Vec<i64> {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(name_of("orders"))
        .with_partition_indexes((0..partitions).collect());
    let asked = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topic]));
    loop {
        // The coordinator may still be reading its partition.
        let response = match peer.call(8, OffsetFetchRequest::default().with_groups(vec![asked.clone()])) {
            Response::OffsetFetch(response) => response,
            other => panic!("{other:?}"),
        };
        let group = &response.groups[0];
        if group.error_code == ErrorCode::CoordinatorLoadInProgress.code() {
            std::thread::yield_now();
            continue;
        }
        assert_eq!(group.error_code, 0);
        let mut offsets: Vec<(i32, i64)> =
            group.topics[0].partitions.iter().map(|entry| (entry.partition_index, entry.committed_offset)).collect();
        offsets.sort_unstable();
        return offsets.into_iter().map(|(_, offset)| offset).collect();
    }
}

fn latest(peer: &mut Peer, topic: &str, isolation_level: i8) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(name_of(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    match peer.call(7, request.with_isolation_level(isolation_level)) {
        Response::ListOffsets(response) => response.topics[0].partitions[0].offset,
        other => panic!("{other:?}"),
    }
}

fn check_contents(peer: &mut Peer) {
    let metadata = match peer.call(12, MetadataRequest::default().with_topics(None)) {
        Response::Metadata(response) => response,
        other => panic!("{other:?}"),
    };
    let topics: BTreeMap<String, usize> = metadata
        .topics
        .iter()
        .map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.partitions.len()))
        .collect();
    assert_eq!((topics["orders"], topics["payments"], topics.contains_key("gone")), (3, 1, false));
    for partition in metadata.topics.iter().flat_map(|topic| &topic.partitions) {
        assert_eq!(
            (partition.error_code, partition.leader_id, partition.isr_nodes.as_slice()),
            (0, BrokerId(1), &[BrokerId(1)][..])
        );
    }
    let mut orders: Vec<String> = (0..3).flat_map(|index| read(peer, "orders", index, 0)).collect();
    orders.sort_unstable();
    let mut expected: Vec<String> = (0..100).map(|i| format!("o{i}")).collect();
    expected.sort_unstable();
    assert_eq!(orders, expected);
    for group in ["classic-group", "consumer-group"] {
        assert_eq!(committed(peer, group, 3), [34, 33, 33], "{group}");
    }
    assert_eq!(committed(peer, "txn-group", 1), [12]);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("orders"))
        .with_configuration_keys(Some(vec![text("max.message.bytes"), text("retention.ms")]));
    let configs = match peer.call(4, DescribeConfigsRequest::default().with_resources(vec![resource])) {
        Response::DescribeConfigs(mut response) => response.results.remove(0).configs,
        other => panic!("{other:?}"),
    };
    let values: Vec<&str> = configs.iter().filter_map(|config| config.value.as_deref()).collect();
    assert_eq!(values, ["1000039", "-1"]);
    let all = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
    let all = all.with_resource_name_filter(None).with_principal_filter(None).with_host_filter(None);
    match peer.call(3, all.with_operation(1).with_permission_type(1)) {
        Response::DescribeAcls(response) => assert_eq!(&*response.resources[0].acls[0].principal, "User:alice"),
        other => panic!("{other:?}"),
    }
    match peer.call(1, DescribeClientQuotasRequest::default()) {
        Response::DescribeClientQuotas(response) => {
            assert_eq!(response.entries.unwrap()[0].values[0].value, 1_048_576.0);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_that_kafka_shut_down_is_served_and_written_on() {
    let opened = open("clean");
    let mut peer = opened.peer();
    check_contents(&mut peer);
    assert_eq!(read(&mut peer, "payments", 0, 1), ["p0", "p2"]);
    let appended = peer.produce("orders", 0, -1, batch(&["new"]));
    assert_eq!((appended.error_code, appended.base_offset), (ErrorCode::None, 34));
    peer.create_topic("made-here", 2, &[]);
    let opened = opened.restart();
    let mut peer = opened.peer();
    assert_eq!(read(&mut peer, "orders", 0, 0).last().map(String::as_str), Some("new"));
    assert_eq!(peer.produce("made-here", 1, -1, batch(&["a"])).base_offset, 0);
    assert_eq!(committed(&mut peer, "classic-group", 3), [34, 33, 33]);
}

#[test]
fn a_directory_of_a_killed_kafka_is_recovered_with_its_open_transaction() {
    let opened = open("killed");
    let mut peer = opened.peer();
    check_contents(&mut peer);
    assert_eq!(read(&mut peer, "payments", 0, 1), ["p0", "p2"], "the open transaction is not seen");
    assert_eq!(read(&mut peer, "payments", 0, 0), ["p0", "p1", "p2", "open", "late"]);
    // Its producer comes again: the transaction that it left is aborted.
    loop {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text("mover"))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        match peer.call(4, request) {
            Response::InitProducerId(response) if response.error_code == 0 => break,
            Response::InitProducerId(_) => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
    while latest(&mut peer, "payments", 1) < latest(&mut peer, "payments", 0) {
        std::thread::yield_now();
    }
    assert_eq!(read(&mut peer, "payments", 0, 1), ["p0", "p2"]);
}

#[test]
fn a_directory_of_a_larger_cluster_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    unpack("clean", directory.path());
    let properties = std::fs::read_to_string(directory.path().join("meta.properties")).unwrap();
    std::fs::write(directory.path().join("meta.properties"), properties.replace("node.id=1", "node.id=2")).unwrap();
    let config = BrokerConfig::from_properties([("log.dirs", directory.path().to_str().unwrap())]).unwrap();
    let error = broker::Broker::start(config).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("is of a cluster with other brokers"), "{error}");
}
