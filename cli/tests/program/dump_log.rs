//! `dump-log` on a directory that Apache Kafka 4.3.1 wrote: line for line what the manifest lists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Map, Value, json};

use super::support::{command, content, directory, run, shown, succeeds, text};

/// The files of `tests/data/sample-log.zst` of the package `storage`: length of the name, length of the content (4 bytes each, big-endian),
/// name, content, and so on.
fn sample() -> BTreeMap<String, Vec<u8>> {
    let compressed = include_bytes!("../../../storage/tests/data/sample-log.zst");
    let bundle = zstd::stream::decode_all(&compressed[..]).unwrap();
    let mut files = BTreeMap::new();
    let mut rest = bundle.as_slice();
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at(length);
        rest = left;
        taken.to_vec()
    };
    let number = |bytes: Vec<u8>| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
    let mut left = bundle.len();
    while left > 0 {
        let (name, length) = (number(take(4)), number(take(4)));
        left -= 8 + name + length;
        files.insert(String::from_utf8(take(name)).unwrap(), take(length));
    }
    files
}

fn unpack(target: &Path, part: &str) {
    for (name, content) in sample() {
        if let Some(name) = name.strip_prefix(&format!("{part}/")) {
            let path = target.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
}

/// One line for each batch of the manifest, as an object; without the records, or with those whose fields are plain.
fn manifest() -> Vec<Map<String, Value>> {
    let manifest: Value = serde_json::from_slice(&sample()["manifest.json"]).unwrap();
    let mut lines = Vec::new();
    for partition in manifest["partitions"].as_array().unwrap() {
        for segment in partition["segments"].as_array().unwrap() {
            for batch in segment["batches"].as_array().unwrap() {
                let mut line = batch.as_object().unwrap().clone();
                line.insert("topic".to_owned(), partition["topic"].clone());
                line.insert("partition".to_owned(), partition["partition"].clone());
                line.insert("file".to_owned(), segment["file"].clone());
                lines.push(line);
            }
        }
    }
    lines
}

fn lines(output: &str) -> Vec<Map<String, Value>> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_of_json_is_a_batch_of_the_manifest() {
    let data = directory();
    unpack(data.path(), "clean");
    let before = content(data.path());
    let mut dumped = lines(&succeeds(&["dump-log", "--json", text(data.path())]));
    // Kafka's metadata log is in the directory, but not in the manifest.
    dumped.retain(|line| line["topic"] != "__cluster_metadata");
    let mut expected = manifest();
    for line in &mut expected {
        line.remove("records");
    }
    assert!(expected.len() > 100, "{}", expected.len());
    for (dumped, expected) in dumped.iter().zip(&expected) {
        assert_eq!(dumped, expected);
    }
    assert_eq!(dumped.len(), expected.len());
    assert!(content(data.path()) == before, "dump-log has changed the directory");
}

#[test]
fn the_records_of_each_batch_are_those_of_the_manifest() {
    let data = directory();
    unpack(data.path(), "clean");
    let mut dumped = lines(&succeeds(&["dump-log", "--json", "--records", text(data.path())]));
    dumped.retain(|line| line["topic"] != "__cluster_metadata");
    let mut compared = 0;
    for (dumped, expected) in dumped.iter().zip(manifest()) {
        let (dumped, expected) = (dumped["records"].as_array().unwrap(), expected["records"].as_array().unwrap());
        assert_eq!(dumped.len(), expected.len());
        for (dumped, expected) in dumped.iter().zip(expected) {
            compared += compare_record(dumped, expected);
        }
    }
    assert!(compared > 300, "{compared}");
}

/// The manifest shortens long values, decodes coordinators' records, and calls an absent value `value_hex` there; all else must be equal.
fn compare_record(dumped: &Value, expected: &Value) -> usize {
    if expected.get("value_sha256").is_some() {
        assert_eq!((&dumped["o"], &dumped["ts"]), (&expected["o"], &expected["ts"]));
        return 0;
    }
    let mut expected = expected.as_object().unwrap().clone();
    for decoded in ["key_version", "value_version", "type"] {
        expected.remove(decoded);
    }
    let absent = expected.get("value_hex").is_some_and(Value::is_null);
    if absent {
        expected.remove("value_hex");
        expected.insert("value".to_owned(), Value::Null);
    }
    for field in ["key", "value"] {
        let is_decoded = expected.get(field).is_some_and(Value::is_object);
        if is_decoded || expected.contains_key(&format!("{field}_hex")) {
            expected.remove(field);
        }
    }
    assert_eq!(dumped, &Value::Object(expected));
    1
}

#[test]
fn a_line_begins_with_where_the_batch_is() {
    let data = directory();
    unpack(data.path(), "clean");
    let output = succeeds(&["dump-log", "--json", text(&data.path().join("a-events-0"))]);
    insta::assert_snapshot!(output.lines().next().unwrap(), @r#"{"topic":"a-events","partition":0,"file":"00000000000000000000.log","pos":0,"size":475,"base":0,"last":6,"count":7,"codec":"none","leader_epoch":0,"max_ts":1700000006000,"ts_type":"CreateTime","pid":0,"epoch":0,"base_seq":0,"last_seq":6,"txn":false,"control":false,"crc32c":3131226206,"valid":true}"#);
    let output = succeeds(&["dump-log", text(&data.path().join("a-events-0"))]);
    insta::assert_snapshot!(output.lines().next().unwrap(), @r"a-events-0 00000000000000000000.log at byte 0: offsets 0..=6, 7 records, 475 bytes, none, leader epoch 0, CreateTime 1700000006000, producer 0 epoch 0 sequences 0..=6");
}

#[test]
fn bytes_that_are_no_batch_end_their_file_and_are_said_once_the_others_are_listed() {
    let data = directory();
    unpack(data.path(), "clean");
    let whole = succeeds(&["dump-log", "--json", text(data.path())]);
    let log = data.path().join("a-events-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes.truncate(bytes.len() - 10);
    fs::write(&log, bytes).unwrap();
    let arguments = ["dump-log", "--json", text(data.path())];
    let mut said = run(&arguments);
    assert_eq!(said.stdout.lines().count(), whole.lines().count() - 1);
    said.stdout.clear();
    insta::assert_snapshot!(shown(&arguments, &said, &[(text(data.path()), "DATA")]), @r"
    $ millstream dump-log --json DATA
    millstream: DATA/a-events-0/00000000000000000000.log at byte 13536: a batch of 1232 bytes, but 1222 are left
      the end of a log that was torn by a crash is cut when the broker starts; anything else needs a copy of the file
    exit 1
    ");
}

#[test]
fn a_wrong_checksum_is_seen_and_the_batch_listed_all_the_same() {
    let data = directory();
    unpack(data.path(), "clean");
    let log = data.path().join("a-events-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[70] ^= 1;
    fs::write(&log, bytes).unwrap();
    let partition = data.path().join("a-events-0");
    let arguments = ["dump-log", "--json", text(&partition)];
    let mut said = run(&arguments);
    let valid: Vec<Value> = lines(&said.stdout).iter().map(|line| line["valid"].clone()).collect();
    assert_eq!(valid.iter().filter(|valid| **valid == json!(false)).count(), 1);
    assert_eq!(valid[0], json!(false));
    said.stdout.clear();
    insta::assert_snapshot!(shown(&arguments, &said, &[(text(data.path()), "DATA")]), @r"
    $ millstream dump-log --json DATA/a-events-0
    millstream: DATA/a-events-0/00000000000000000000.log at byte 0: the batch's checksum is wrong
      the end of a log that was torn by a crash is cut when the broker starts; anything else needs a copy of the file
    exit 1
    ");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let data = directory();
    unpack(data.path(), "clean");
    let arguments = ["dump-log", "--json", "--records", text(data.path())];
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}
