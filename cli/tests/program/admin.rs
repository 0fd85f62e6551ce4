//! `topics alter`, `configs`, `transactions`: what is changed is changed, what cannot be is explained.

use client::{Producer, ProducerConfig, ProducerRecord, block_on};
use insta::assert_snapshot;

use super::support::{BrokerProcess, directory};

#[test]
fn topics_are_altered_and_described_as_json() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders", "--set", "retention.ms=5"]);
    let alter = [
        "topics",
        "alter",
        "orders",
        "--partitions",
        "2",
        "--set",
        "cleanup.policy=compact",
        "--delete",
        "retention.ms",
    ];
    assert_eq!(broker.ask(&alter), "topic orders has 2 partition(s)\nchanged 2 setting(s) of topic orders\n");
    let described: serde_json::Value = serde_json::from_str(&broker.ask(&["topics", "describe", "--json"])).unwrap();
    assert_eq!(described["settings"], serde_json::json!({ "cleanup.policy": "compact", "min.insync.replicas": "1" }));
    assert_eq!(described["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(broker.ask(&["topics", "create", "orders", "--if-not-exists"]), "topic orders is there already\n");
    assert_eq!(broker.ask(&["topics", "delete", "order", "--if-exists"]), "there is no topic order\n");
    assert_snapshot!(broker.refuses(&[
        &["topics", "alter", "orders"],
        &["topics", "alter", "orders", "--partitions", "1"],
        &["topics", "alter", "order", "--partitions", "4"],
        &["topics", "alter", "orders", "--set", "retention.mss=1"],
    ]));
}

#[test]
fn settings_are_shown_and_changed() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    let of_topic = |arguments: &[&str]| broker.ask(&[&["configs"], arguments, &["--topic", "orders"]].concat());
    // What is no default: also what holds for all brokers, as this does in a new cluster.
    assert_eq!(of_topic(&["describe"]), "SETTING              VALUE\nmin.insync.replicas  1\n");
    let changed = of_topic(&["alter", "--set", "retention.ms=7777", "--append", "cleanup.policy=compact"]);
    assert_eq!(changed, "changed 2 setting(s) of topic orders\n");
    assert_snapshot!(of_topic(&["describe"]), @r"
    SETTING              VALUE
    cleanup.policy       delete,compact
    min.insync.replicas  1
    retention.ms         7777
    ");
    of_topic(&["alter", "--delete", "retention.ms", "--subtract", "cleanup.policy=compact"]);
    let all = of_topic(&["describe", "--all", "--json"]);
    assert!(
        all.lines().count() > 20 && all.contains(r#"{"name":"retention.ms","value":"604800000","default":true"#),
        "{all}"
    );
    assert!(broker.ask(&["configs", "describe", "--broker", "1", "--all"]).contains("num.partitions"));
    let defaults = ["--broker-defaults"];
    let changed = broker.ask(&[&["configs", "alter", "--set", "log.retention.ms=8888"][..], &defaults].concat());
    assert_eq!(changed, "changed 1 setting(s) of the defaults of brokers\n");
    assert!(broker.ask(&[&["configs", "describe"][..], &defaults].concat()).contains("log.retention.ms     8888"));
    broker.ask(&[&["configs", "alter", "--delete", "log.retention.ms"][..], &defaults].concat());
    assert_snapshot!(broker.refuses(&[
        &["configs", "describe"],
        &["configs", "describe", "--topic", "orders", "--group", "billing"],
        &["configs", "describe", "--topic", "order"],
        &["configs", "describe", "--broker", "7"],
        &["configs", "alter", "--topic", "orders"],
        &["configs", "alter", "--topic", "orders", "--set", "retention.ms"],
        &["configs", "alter", "--topic", "orders", "--set", "no.such.config=1"],
    ]));
}

#[test]
fn open_transactions_are_seen_and_ended() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    let config = ProducerConfig::default().transactional_id(Some("t1".to_owned()));
    let producer = Producer::new(broker.client(), config).unwrap();
    block_on(producer.init_transactions()).unwrap();
    producer.begin_transaction().unwrap();
    producer.send_blocking(ProducerRecord::to("orders").value("one")).unwrap();
    let transactions = |arguments: &[&str]| broker.ask(&[&["transactions"], arguments].concat());
    assert!(transactions(&["list", "--state", "Ongoing"]).contains("t1"));
    assert_eq!(transactions(&["list", "--pattern", "x.*"]), "");
    let described = transactions(&["describe", "t1"]);
    assert!(described.contains("Ongoing") && described.contains("ms on orders-0"), "{described}");
    let on_orders = ["--topic", "orders", "--partition", "0"];
    let producers = transactions(&[&["describe-producers", "--json"], &on_orders[..]].concat());
    assert!(producers.contains(r#""transaction_start_offset":0"#), "{producers}");
    // Its coordinator knows it: it does not hang.
    assert_eq!(transactions(&["find-hanging", "--older-than-ms", "0"]), "");
    let aborted = transactions(&[&["abort", "--start-offset", "0"], &on_orders[..]].concat());
    assert!(aborted.ends_with("that began at offset 0 of orders-0\n"), "{aborted}");
    assert_eq!(
        broker.ask(&["consume", "orders", "--from-beginning", "--until-end", "--isolation", "read_committed"]),
        ""
    );
    assert_snapshot!(broker.refuses(&[
        &["transactions", "describe", "nobody"],
        &["transactions", "abort", "--topic", "orders", "--partition", "0"],
        &["transactions", "abort", "--topic", "orders", "--partition", "0", "--start-offset", "0"],
        &["transactions", "describe-producers", "--topic", "orders", "--partition", "3"],
        &["transactions", "list", "--pattern", "("],
    ]));
}
