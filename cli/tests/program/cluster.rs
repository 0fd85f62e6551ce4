//! `topics` and `groups` against a broker over TCP.

use client::admin::OffsetAndMetadata;
use client::{Producer, ProducerConfig, ProducerRecord, block_on};

use super::support::{BrokerProcess, directory, succeeds};

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &["num.partitions=3"]);
    let topics = |arguments: &[&str]| succeeds(&[&["topics"], arguments, &["--bootstrap", &broker.address]].concat());
    assert_eq!(topics(&["list"]), "");
    let create =
        ["create", "orders", "--partitions", "2", "--set", "cleanup.policy=compact", "--set", "retention.ms=5"];
    assert_eq!(topics(&create), "created topic orders with 2 partition(s)\n");
    assert_eq!(topics(&["create", "by-default"]), "created topic by-default with 3 partition(s)\n");
    assert_eq!(topics(&["list"]), "by-default\norders\n");
    let described = topics(&["describe", "orders"]);
    let (id, described) = described.strip_prefix("orders  id ").unwrap().split_once(' ').unwrap();
    assert_eq!(id.len(), 36);
    insta::assert_snapshot!(described, @r"
    2 partition(s)  cleanup.policy=compact min.insync.replicas=1 retention.ms=5
     PARTITION  LEADER  EPOCH  REPLICAS  IN SYNC
     0          1       0      1         1
     1          1       0      1         1
    ");
    assert_eq!(topics(&["delete", "orders", "by-default"]), "deleted topic orders\ndeleted topic by-default\n");
    assert_eq!(topics(&["list"]), "");
}

#[test]
fn groups_are_listed_and_described_with_what_they_have_left_to_read() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    let groups = |arguments: &[&str]| succeeds(&[&["groups"], arguments, &["--bootstrap", &broker.address]].concat());
    assert_eq!(groups(&["list"]), "");
    succeeds(&["topics", "create", "orders", "--partitions", "2", "--bootstrap", &broker.address]);
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    for value in ["one", "two", "three"] {
        producer.send_blocking(ProducerRecord::to("orders").partition(1).value(value)).unwrap();
    }
    let offset = OffsetAndMetadata { offset: 1, leader_epoch: -1, metadata: String::new() };
    let partition = base::TopicPartition::new("orders", 1);
    block_on(broker.admin().alter_group_offsets("billing", &[(partition, offset)])).unwrap();
    insta::assert_snapshot!(groups(&["list"]), @r"
    GROUP    STATE  TYPE     PROTOCOL
    billing  Empty  classic
    ");
    insta::assert_snapshot!(groups(&["describe", "billing"]), @r"
    billing  Empty  0 member(s)  type classic
      PARTITION  COMMITTED  LOG END  LAG
      orders-1   1          3        2
    ");
}
