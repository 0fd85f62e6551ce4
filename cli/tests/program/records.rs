//! `produce`, `consume`, `offsets`, `delete-records`: records in as lines, out as lines, found and deleted.

use insta::assert_snapshot;

use super::support::{BrokerProcess, awaited, directory, run_with};

#[test]
fn lines_become_records_and_records_lines() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    assert_eq!(broker.tell(&["produce", "orders"], "one\ntwo\r\nthree"), "");
    let all = ["consume", "orders", "--from-beginning", "--until-end"];
    assert_eq!(broker.ask(&all), "one\ntwo\nthree\n");
    let keyed = ["produce", "orders", "--keys", "--headers", "--null-marker", "NULL", "--partition", "0"];
    broker.tell(&keyed, "h1:a,h2:NULL\tk1\tv1\n\tNULL\tNULL\n");
    let parts = ["--print", "partition,offset,headers,key,value", "--offset", "3", "--until-end"];
    let printed = broker.ask(&[&["consume", "orders"], &parts[..]].concat());
    assert_snapshot!(printed.replace('\t', " "), @r"
    Partition:0 Offset:3 h1:a,h2:null k1 v1
    Partition:0 Offset:4 NO_HEADERS null null
    ");
    let separators = ["--key-separator", "=>", "--line-separator", "|", "--null-literal", "-", "--print", "key,value"];
    let printed = broker.ask(&[&["consume", "orders", "--offset", "-2", "--until-end"], &separators[..]].concat());
    assert_eq!(printed, "k1=>v1|-=>-|");
}

#[test]
fn each_codec_and_kind_of_acknowledgement_is_read_back() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    let mut expected = String::new();
    for (codec, acks) in [("none", "all"), ("gzip", "1"), ("snappy", "0"), ("lz4", "-1"), ("zstd", "all")] {
        let lines: String = (0..50).map(|number| format!("{codec}-{number}\n")).collect();
        broker.tell(&["produce", "orders", "--compression", codec, "--acks", acks], &lines);
        expected += &lines;
    }
    assert_eq!(broker.ask(&["consume", "orders", "--from-beginning", "--max-messages", "250"]), expected);
}

#[test]
fn json_says_where_records_were_written_and_all_that_is_in_them() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    let produce =
        ["produce", "orders", "--json", "--sync", "--headers", "--key-separator", ":", "--headers-delimiter", "|"];
    let written = broker.tell(&[&produce[..], &["--headers-key-separator", "="]].concat(), "a=1|k:v\n");
    let read = broker.ask(&["consume", "orders", "--json", "--from-beginning", "--max-messages", "1"]);
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let (written, read) = (parse(&written), parse(&read));
    assert_eq!(written["timestamp"], read["timestamp"]);
    let without_time = |line: &serde_json::Value| line.to_string().replace(&line["timestamp"].to_string(), "TIME");
    assert_snapshot!([without_time(&written), without_time(&read)].join("\n"), @r#"
    {"offset":0,"partition":0,"timestamp":TIME,"topic":"orders"}
    {"headers":[{"key":"a","value":"1"}],"key":"k","offset":0,"partition":0,"timestamp":TIME,"timestamp_type":"CreateTime","topic":"orders","value":"v"}
    "#);
}

#[test]
fn a_transaction_is_written_as_a_whole_or_not_seen() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    broker.tell(&["produce", "orders", "--transactional-id", "t1"], "one\ntwo\n");
    let arguments = ["produce", "orders", "--transactional-id", "t1", "--keys", "--bootstrap", &broker.address];
    let said = run_with(&arguments, "k\tthree\nno key\n");
    assert_eq!(said.code, Some(1));
    assert_snapshot!(said.stderr, @r#"
    millstream: line 2 was not written: it has no key: there is no "\t" in it
      the transaction was aborted: nothing of it is seen by read_committed readers
    "#);
    let read = |isolation: &str| {
        broker.ask(&["consume", "orders", "--from-beginning", "--until-end", "--isolation", isolation])
    };
    assert_eq!(read("read_committed"), "one\ntwo\n");
    assert_eq!(read("read_uncommitted"), "one\ntwo\nthree\n");
    // The producer is answered when the abort is decided, before its marker is in every partition.
    let is_complete = || broker.ask(&["transactions", "list", "--json"]).matches("CompleteAbort").count() == 1;
    awaited("completed abort", || is_complete().then_some(()));
}

#[test]
fn a_group_goes_on_behind_the_last_record_that_was_printed() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    broker.tell(&["produce", "orders"], "1\n2\n3\n4\n5\n");
    let read = |count: &str| {
        broker.ask(&["consume", "orders", "--group", "billing", "--from-beginning", "--max-messages", count])
    };
    assert_eq!(read("2"), "1\n2\n");
    assert_eq!(read("3"), "3\n4\n5\n");
    let described = broker.ask(&["groups", "describe", "billing", "--json"]);
    assert!(described.contains(r#""committed":5,"lag":0,"log_end":5"#), "{described}");
    let silent = ["consume", "orders", "--group", "billing", "--timeout-ms", "300"];
    assert_eq!(broker.ask(&silent), "");
}

#[test]
fn topics_are_chosen_by_pattern_and_partitions_by_number() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    for topic in ["orders-eu", "orders-us", "prices"] {
        broker.ask(&["topics", "create", topic, "--partitions", "2"]);
        broker.tell(&["produce", topic, "--partition", "1"], &format!("{topic}\n"));
    }
    let read = |arguments: &[&str]| {
        let said = broker.ask(&[&["consume", "--from-beginning", "--until-end"], arguments].concat());
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        lines.join(" ")
    };
    assert_eq!(read(&["--include", "orders-.*"]), "orders-eu orders-us");
    assert_eq!(read(&["orders-eu", "prices", "--partition", "1"]), "orders-eu prices");
    assert_eq!(read(&["orders-eu", "--partition", "0"]), "");
}

#[test]
fn offsets_are_found_by_name_and_by_time() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders", "--partitions", "3"]);
    let written = broker.tell(&["produce", "orders", "--partition", "1", "--json"], "one\ntwo\n");
    let time =
        serde_json::from_str::<serde_json::Value>(written.lines().next().unwrap()).unwrap()["timestamp"].to_string();
    assert_eq!(broker.ask(&["offsets", "orders"]), "orders:0:0\norders:1:2\norders:2:0\n");
    assert_eq!(broker.ask(&["offsets", "orders:1-2", "--time", "earliest"]), "orders:1:0\norders:2:0\n");
    assert_eq!(broker.ask(&["offsets", "orders:1", "--time", &time]), "orders:1:0\n");
    assert_eq!(broker.ask(&["offsets", "orders:0", "--time", "max-timestamp"]), "orders:0:\n");
    assert_eq!(
        broker.ask(&["offsets", "--json", "orders:1", "--time", "latest-stable"]),
        "{\"topic\":\"orders\",\"partition\":1,\"offset\":2,\"timestamp\":null,\"leader_epoch\":0}\n"
    );
    assert_eq!(broker.ask(&["offsets", "--exclude-internal"]).lines().count(), 3);
}

#[test]
fn records_below_an_offset_are_deleted() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    broker.ask(&["topics", "create", "orders"]);
    broker.tell(&["produce", "orders"], "1\n2\n3\n4\n");
    assert_eq!(broker.ask(&["delete-records", "orders:0:2"]), "orders-0 begins with offset 2\n");
    assert_eq!(broker.ask(&["consume", "orders", "--from-beginning", "--until-end"]), "3\n4\n");
    let file = data.path().join("below.json");
    std::fs::write(&file, r#"{"version":1,"partitions":[{"topic":"orders","partition":0,"offset":3}]}"#).unwrap();
    let said = broker.ask(&["delete-records", "--json", "--offset-json-file", file.to_str().unwrap()]);
    assert_eq!(said, "{\"topic\":\"orders\",\"partition\":0,\"log_start_offset\":3}\n");
    assert_eq!(broker.ask(&["offsets", "orders", "--time", "earliest"]), "orders:0:3\n");
}

#[test]
fn what_cannot_be_written_read_found_or_deleted_is_explained() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &["auto.create.topics.enable=false"]);
    broker.ask(&["topics", "create", "orders"]);
    assert_snapshot!(broker.refuses(&[
        &["produce", "orders", "--acks", "2"],
        &["produce", "orders", "--compression", "rar"],
        &["produce", "orders", "--set", "lingr.ms=5"],
        &["produce", "orders", "--acks", "1", "--idempotent", "true"],
        &["consume"],
        &["consume", "order"],
        &["consume", "orders", "--partition", "7"],
        &["consume", "orders", "--offset", "soon"],
        &["consume", "--include", "("],
        &["consume", "--include", "nothing"],
        &["consume", "orders", "--isolation", "none"],
        &["consume", "orders", "--group", "g", "--partition", "0"],
        &["consume", "orders", "--print", "colour"],
        &["offsets", "orders:x"],
        &["offsets", "orders", "--time", "noon"],
        &["delete-records"],
        &["delete-records", "orders:0"],
        &["delete-records", "orders:0:7"],
        &["delete-records", "orders:1:7"],
        &["delete-records", "order:0:7"],
    ]));
}
