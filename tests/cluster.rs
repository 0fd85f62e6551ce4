//! The example programs on a broker in a process of its own: the results are those of an independent count, whatever is run again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;

use support::{assert_as_reference, broker_process, repository, result_of, shipped_text};

/// Digests of what the scripts say.
const SHIPPED: &str = "b10ef662cfbe81a1";
const BOTH: &str = "e64e822b06a5e247";
const CLICKS: &str = "ece7b67ff594b723";
const MORE: &str = "0d301aa5deb54004";

#[test]
fn words_are_counted_once_each_over_several_runs_and_a_killed_broker() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("broker");
    let broker = broker_process(&data, "127.0.0.1:0");
    let shipped = shipped_text();
    let added = folder.path().join("added.txt");
    fs::write(&added, "Straße, STRASSE; İstanbul\r\nquux quux the").unwrap();
    let counted = |files: &[&Path], address: &str| {
        let files = files.iter().map(|file| file.to_str().unwrap());
        result_of("word_count", ["--bootstrap", address, "--input"].into_iter().chain(files))
    };
    for _ in 0..2 {
        assert_as_reference(&counted(&[&shipped], &broker.address), "word_count.py", &[&shipped], SHIPPED);
    }
    let both = counted(&[&added], &broker.address);
    assert_as_reference(&both, "word_count.py", &[&shipped, &added], BOTH);
    let address = broker.address.clone();
    // kill -9
    drop(broker);
    let broker = broker_process(&data, &address);
    assert_eq!(counted(&[&shipped, &added], &broker.address), both);
}

#[test]
fn clicks_are_counted_once_each_over_several_runs() {
    let folder = tempfile::tempdir().unwrap();
    let broker = broker_process(&folder.path().join("broker"), "127.0.0.1:0");
    let clicks = repository("tests/reference/clicks.jsonl");
    let more = folder.path().join("more.jsonl");
    fs::write(&more, "{\"page\":\"/added\",\"user\":\"u\",\"ts\":1750000000000}\nno click\n").unwrap();
    let counted =
        |file: &Path| result_of("click_analytics", ["--bootstrap", &broker.address, "--input", file.to_str().unwrap()]);
    for _ in 0..2 {
        assert_as_reference(&counted(&clicks), "click_analytics.py", &[&clicks], CLICKS);
    }
    assert_as_reference(&counted(&more), "click_analytics.py", &[&clicks, &more], MORE);
}
