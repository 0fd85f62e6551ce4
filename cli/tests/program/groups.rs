//! `groups`: offsets moved each way there is, deleted, and groups with members left alone.

use insta::assert_snapshot;

use super::support::{BrokerProcess, awaited, command, directory};

/// A topic of ten records in two partitions, and a group that has read them.
fn read_by_billing(broker: &BrokerProcess) {
    broker.ask(&["topics", "create", "orders", "--partitions", "2"]);
    for partition in ["0", "1"] {
        broker.tell(&["produce", "orders", "--partition", partition], "1\n2\n3\n4\n5\n");
    }
    let read = ["consume", "orders", "--group", "billing", "--from-beginning", "--max-messages", "10"];
    assert_eq!(broker.ask(&read).lines().count(), 10);
}

#[test]
fn offsets_are_moved_each_way_there_is() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    read_by_billing(&broker);
    broker.ask(&["delete-records", "orders:0:1"]);
    let reset = |arguments: &[&str]| broker.ask(&[&["groups", "reset-offsets", "billing"], arguments].concat());
    assert_snapshot!(reset(&["--topic", "orders", "--to-earliest"]), @r"
    PARTITION  COMMITTED  NEW OFFSET
    orders-0   5          1
    orders-1   5          0
    nothing was changed: --execute commits these offsets
    ");
    let csv = |arguments: &[&str]| reset(&[arguments, &["--export", "--execute"]].concat()).replace('\n', " ");
    assert_eq!(csv(&["--all-topics", "--to-earliest"]), "orders,0,1 orders,1,0 ");
    assert_eq!(csv(&["--topic", "orders:0", "--shift-by", "2"]), "orders,0,3 ");
    assert_eq!(csv(&["--topic", "orders", "--shift-by", "-9"]), "orders,0,1 orders,1,0 ");
    assert_eq!(csv(&["--topic", "orders:1", "--to-offset", "4"]), "orders,1,4 ");
    assert_eq!(csv(&["--topic", "orders:1", "--to-offset", "99"]), "orders,1,5 ");
    assert_eq!(csv(&["--topic", "orders", "--to-current"]), "orders,0,1 orders,1,5 ");
    assert_eq!(csv(&["--topic", "orders", "--to-datetime", "1970-01-01T00:00:00.000"]), "orders,0,1 orders,1,0 ");
    assert_eq!(csv(&["--topic", "orders", "--by-duration", "PT0S"]), "orders,0,5 orders,1,5 ");
    let file = data.path().join("offsets.csv");
    std::fs::write(&file, "orders,0,2\n\"other\",\"orders\",1,3\n\"billing\",\"orders\",1,4\n").unwrap();
    assert_eq!(csv(&["--from-file", file.to_str().unwrap()]), "orders,0,2 orders,1,4 ");
    assert_snapshot!(broker.ask(&["groups", "describe", "billing"]), @r"
    billing  Empty  0 member(s)  type classic
      PARTITION  COMMITTED  LOG END  LAG
      orders-0   2          5        3
      orders-1   4          5        1
    ");
    // A group comes to be with its first offset.
    broker.ask(&["groups", "reset-offsets", "fresh", "--topic", "orders", "--to-latest", "--execute"]);
    assert_eq!(broker.ask(&["groups", "list", "--state", "empty", "--json"]).lines().count(), 2);
    assert_eq!(broker.ask(&["groups", "list", "--state", "stable"]), "");
}

#[test]
fn groups_and_their_offsets_are_deleted() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    read_by_billing(&broker);
    let said = broker.ask(&["groups", "delete-offsets", "billing", "--topic", "orders:1"]);
    assert_eq!(said, "deleted the offset of orders-1\n");
    assert!(!broker.ask(&["groups", "describe", "billing"]).contains("orders-1"));
    assert_eq!(broker.ask(&["groups", "delete", "billing"]), "deleted group billing\n");
    assert_eq!(broker.ask(&["groups", "list"]), "");
}

#[test]
fn a_group_with_members_is_described_and_left_alone() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &["group.initial.rebalance.delay.ms=0"]);
    read_by_billing(&broker);
    let member = ["consume", "orders", "--group", "billing", "--bootstrap", &broker.address];
    let mut member = command(&member).spawn().unwrap();
    let joined = || broker.ask(&["groups", "describe", "billing"]).contains("orders-0 orders-1");
    awaited("the member in the group", || joined().then_some(()));
    let described: serde_json::Value =
        serde_json::from_str(&broker.ask(&["groups", "describe", "billing", "--json"])).unwrap();
    assert_eq!(
        (&described["state"], &described["members"][0]["client_id"]),
        (&"Stable".into(), &"millstream-cli".into())
    );
    assert_snapshot!(broker.refuses(&[
        &["groups", "delete", "billing"],
        &["groups", "reset-offsets", "billing", "--topic", "orders", "--to-earliest", "--execute"],
        &["groups", "delete-offsets", "billing", "--topic", "orders"],
    ]));
    member.kill().unwrap();
    member.wait().unwrap();
}

#[test]
fn what_is_asked_of_groups_in_the_wrong_way_is_explained() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    read_by_billing(&broker);
    let file = data.path().join("offsets.csv");
    std::fs::write(&file, "orders;0;2\n").unwrap();
    let said = broker.refuses(&[
        &["groups", "reset-offsets", "billing", "--topic", "orders"],
        &["groups", "reset-offsets", "billing", "--to-earliest"],
        &["groups", "reset-offsets", "billing", "--topic", "orders", "--to-earliest", "--to-latest"],
        &["groups", "reset-offsets", "billing", "--topic", "orders", "--to-earliest", "--dry-run", "--execute"],
        &["groups", "reset-offsets", "billing", "--topic", "orders", "--to-datetime", "noon"],
        &["groups", "reset-offsets", "billing", "--topic", "orders", "--by-duration", "1h"],
        &["groups", "reset-offsets", "billing", "--from-file", file.to_str().unwrap()],
        &["groups", "reset-offsets", "fresh", "--topic", "orders", "--shift-by", "1"],
        &["groups", "reset-offsets", "billing", "--topic", "order", "--to-earliest"],
        &["groups", "delete", "nobody"],
        &["groups", "describe", "nobody"],
    ]);
    assert_snapshot!(said.replace(data.path().to_str().unwrap(), "DATA"));
}
