//! `dump-log` on the files beside a log, and on the topics in which coordinators keep their state.

use std::fs;

use insta::assert_snapshot;

use super::support::{BrokerProcess, directory, refusal, succeeds, text};

/// Two segments of orders, read by a group, written in transactions of which one was aborted; the broker stopped.
fn used() -> tempfile::TempDir {
    let data = directory();
    let broker = BrokerProcess::start(
        data.path(),
        &["offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1"],
    );
    broker.ask(&["topics", "create", "orders", "--set", "index.interval.bytes=100"]);
    for _ in 0..5 {
        broker.tell(&["produce", "orders", "--transactional-id", "t1"], &format!("{}\n", "x".repeat(90)));
    }
    broker.ask(&["consume", "orders", "--group", "billing", "--from-beginning", "--max-messages", "5"]);
    broker.stop();
    data
}

#[test]
fn each_kind_of_file_is_listed() {
    let data = used();
    let folder = data.path().join("orders-0");
    let dump = |name: &str| succeeds(&["dump-log", text(&folder.join(name))]);
    let log = dump("00000000000000000000.log");
    assert_eq!(log.lines().count(), 10, "{log}");
    let index = dump("00000000000000000000.index");
    assert!(index.lines().count() >= 4 && index.lines().all(|line| line.starts_with("offset ")), "{index}");
    let times = dump("00000000000000000000.timeindex");
    assert!(!times.is_empty() && times.lines().all(|line| line.starts_with("timestamp ")), "{times}");
    assert_eq!(dump("leader-epoch-checkpoint"), "epoch 0 from offset 0\n");
    let snapshot = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let snapshot = snapshot.filter(|name| name.ends_with(".snapshot")).max().unwrap();
    let producers = succeeds(&["dump-log", "--json", text(&folder.join(snapshot))]);
    assert!(
        producers.contains(r#"{"producer_id":0,"#) && producers.contains(r#""transaction_first_offset":null"#),
        "{producers}"
    );
}

#[test]
fn indexes_are_compared_with_their_logs() {
    let data = used();
    let said = succeeds(&["dump-log", "--check-indexes", text(data.path())]);
    let (right, all) = said.split_once(" of ").unwrap();
    assert!(all.starts_with(&format!("{right} index files agree")) && right != "0", "{said}");
    let index = data.path().join("orders-0/00000000000000000000.index");
    let mut bytes = fs::read(&index).unwrap();
    bytes[7] ^= 1;
    fs::write(&index, bytes).unwrap();
    let said = super::support::run(&["dump-log", "--check-indexes", text(&index)]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), "0 of 1 index files agree with their logs\n"));
    assert!(said.stderr.contains("orders-0/00000000000000000000.index: no batch at byte "), "{}", said.stderr);
}

#[test]
fn state_of_coordinators_is_decoded() {
    let data = used();
    let meanings = |topic: &str| {
        let said = succeeds(&["dump-log", "--json", "--decode", text(&data.path().join(topic))]);
        let batches = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let records = batches.flat_map(|batch| batch["records"].as_array().unwrap().clone());
        records.map(|record| record["meaning"].clone()).collect::<Vec<_>>()
    };
    let groups = meanings("__consumer_offsets-0");
    assert!(groups.iter().any(|one| one["group"] == "billing" && one["topic"] == "orders"), "{groups:?}");
    assert!(groups.iter().any(|one| one["protocol_type"] == "consumer" && one["generation"] == 1), "{groups:?}");
    let transactions = meanings("__transaction_state-0");
    assert!(transactions.iter().all(|one| one["transactional_id"] == "t1"), "{transactions:?}");
    assert_eq!(transactions.last().unwrap()["state"], "CompleteCommit");
}

#[test]
fn files_that_are_not_what_their_names_say_are_refused() {
    let data = directory();
    let write = |name: &str, bytes: &[u8]| {
        let path = data.path().join(name);
        fs::write(&path, bytes).unwrap();
        refusal(&["dump-log", text(&path)], &[(text(data.path()), "DATA")])
    };
    let said = [
        write("00000000000000000000.index", b"123"),
        write("00000000000000000000.txnindex", b"123"),
        write("00000000000000000007.snapshot", b"\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"),
        write("leader-epoch-checkpoint", b"0\nmany\n"),
        write("notes.txt", b"hello"),
    ];
    assert_snapshot!(said.concat());
}
