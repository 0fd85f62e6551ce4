//! Directories that Apache Kafka 4.3.1 wrote: one shut down cleanly, one copied from a running broker and damaged.
//!
//! `tests/data/sample-log.zst` is a sequence of files (length of the name, length of the content, name, content),
//! compressed: `clean/` and `crashed/`, `manifest.json` (what the reference reads in `clean/`) and
//! `crashed-expected.json` (what it recovers from `crashed/`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{ManualClock, Rng, TopicPartition};
use protocol::record::batches;
use serde_json::{Value, json};
use storage::files::{Files, OpenMode, RealFiles, SimFiles};
use storage::log::{Durability, LogConfig, LogDirectory, LogDirectoryOptions, PartitionLog, ReadLimit, dump};

fn sample() -> BTreeMap<String, Vec<u8>> {
    unbundle(include_bytes!("../data/sample-log.zst"))
}

/// The files of a bundle, by their names.
pub fn unbundle(compressed: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let bundle = zstd::stream::decode_all(compressed).unwrap();
    let mut files = BTreeMap::new();
    let mut rest = bundle.as_slice();
    let take = |rest: &mut &[u8], len: usize| {
        let (taken, left) = rest.split_at(len);
        *rest = left;
        taken.to_vec()
    };
    while !rest.is_empty() {
        let length = |rest: &mut &[u8]| u32::from_be_bytes(take(rest, 4).try_into().unwrap()) as usize;
        let (name, content) = (length(&mut rest), length(&mut rest));
        let name = String::from_utf8(take(&mut rest, name)).unwrap();
        files.insert(name, take(&mut rest, content));
    }
    files
}

fn unpack(files: &dyn Files, target: &Path, part: &str) {
    for (name, content) in sample() {
        if let Some(name) = name.strip_prefix(&format!("{part}/")) {
            let path = target.join(name);
            files.create_dir_all(path.parent().unwrap()).unwrap();
            files.open(&path, OpenMode::Truncate).unwrap().write_at(&content, 0).unwrap();
        }
    }
}

pub fn open(files: Arc<dyn Files>, path: &Path) -> LogDirectory {
    let options = LogDirectoryOptions {
        durability: Durability::Process,
        // As when the sample was written.
        default_config: LogConfig::from_map([("index.interval.bytes", "512")]).unwrap(),
        ..LogDirectoryOptions::new(ManualClock::new(1_795_300_000_000), Rng::from_seed(1))
    };
    LogDirectory::open(files, path, options).unwrap()
}

pub fn on_simulated_disk(part: &str) -> (Arc<dyn Files>, PathBuf) {
    let files: Arc<dyn Files> = Arc::new(SimFiles::new(ManualClock::new(1_795_300_000_000)));
    let path = PathBuf::from("/data");
    unpack(files.as_ref(), &path, part);
    (files, path)
}

fn json_of(name: &str) -> Value {
    serde_json::from_slice(&sample()[name]).unwrap()
}

/// Offsets of the data records from the log start on, as a client of that isolation level sees them.
fn visible(log: &PartitionLog, limit: ReadLimit) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut next = log.offsets().log_start;
    loop {
        let read = log.read(next, 5_000, limit, true).unwrap();
        let bytes = read.records.to_bytes().unwrap();
        let mut aborted = read.aborted.unwrap_or_default();
        let mut void = Vec::new();
        let before = next;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            let header = *batch.header();
            aborted.retain(|one| {
                let begun = one.first_offset <= header.last_offset();
                if begun {
                    void.push(one.producer_id);
                }
                !begun
            });
            if header.attributes.is_control() {
                // Any marker of a producer ends what is void; only aborts put it there.
                void.retain(|producer| *producer != header.producer_id);
            } else if !(header.attributes.is_transactional() && void.contains(&header.producer_id)) {
                let records = batch.records().unwrap();
                seen.extend(records.iter().map(|record| record.unwrap().offset).filter(|offset| *offset >= before));
            }
            next = header.next_offset();
        }
        if next == before {
            return seen;
        }
    }
}

fn check_against_manifest(files: &Arc<dyn Files>, path: &Path) {
    let directory = open(Arc::clone(files), path);
    assert!(directory.recovery_report().clean);
    assert_eq!(directory.meta_properties().unwrap().cluster_id, "MkU3OEVBNTcwNTJENDM2Qg");
    let manifest = json_of("manifest.json");
    for expected in manifest["partitions"].as_array().unwrap() {
        let partition = expected["partition"].as_i64().unwrap() as i32;
        let name = TopicPartition::new(expected["topic"].as_str().unwrap(), partition);
        let log = directory.partition(&name).unwrap().unwrap();
        let mut segments: Vec<Value> = Vec::new();
        for batch in dump(files, &path.join(name.to_string())).unwrap() {
            let mut batch = serde_json::to_value(batch.unwrap()).unwrap();
            let file = batch.as_object_mut().unwrap().remove("file").unwrap();
            if segments.last().is_none_or(|last| last["file"] != file) {
                segments.push(json!({ "file": file, "batches": [] }));
            }
            segments.last_mut().unwrap()["batches"].as_array_mut().unwrap().push(batch);
        }
        let mut wanted: Vec<Value> = Vec::new();
        for segment in expected["segments"].as_array().unwrap() {
            let mut list = segment["batches"].as_array().unwrap().clone();
            list.iter_mut().for_each(|batch| drop(batch.as_object_mut().unwrap().remove("records")));
            if !list.is_empty() {
                wanted.push(json!({ "file": segment["file"], "batches": list }));
            }
        }
        assert_eq!(segments, wanted, "{name}");

        let offsets = log.offsets();
        let max = log.max_timestamp().unwrap().map(|max| json!([max.offset, max.timestamp]));
        let listed = json!({
            "earliest": offsets.log_start, "latest": offsets.high_watermark,
            "latest_committed": offsets.last_stable, "max_timestamp": max,
        });
        assert_eq!(listed, expected["list_offsets"], "{name}");
        assert_eq!(json!(visible(&log, ReadLimit::HighWatermark)), expected["visible_read_uncommitted"], "{name}");
        assert_eq!(json!(visible(&log, ReadLimit::LastStable)), expected["visible_read_committed"], "{name}");
    }
}

#[test]
fn clean_directory_reads_as_the_reference_reads_it() {
    let (files, path) = on_simulated_disk("clean");
    check_against_manifest(&files, &path);
}

#[test]
fn clean_directory_is_unchanged_by_opening_and_closing() {
    let folder = tempfile::tempdir().unwrap();
    let files: Arc<dyn Files> = RealFiles::shared();
    unpack(files.as_ref(), folder.path(), "clean");
    check_against_manifest(&files, folder.path());
    // That directory was not closed: what a crash would leave is recovered to the same.
    let directory = open(Arc::clone(&files), folder.path());
    assert!(!directory.recovery_report().clean);
    assert_eq!(directory.recovery_report().truncations, []);
    directory.close().unwrap();
    drop(directory);
    check_against_manifest(&files, folder.path());
    // All data and epochs stay; indexes are the reference's where its interval is known and nothing was compacted.
    let rebuilt = |name: &String| {
        let known = ["a-events-", "a-tx-", "a-open-"].iter().any(|topic| name.starts_with(topic));
        (known && name.ends_with("index")) || name.ends_with(".log") || name.ends_with("epoch-checkpoint")
    };
    for (name, content) in sample() {
        if let Some(name) = name.strip_prefix("clean/").map(str::to_owned).filter(rebuilt) {
            let now = files.read(&folder.path().join(&name)).unwrap();
            assert_eq!(now, content, "{name}");
        }
    }
}

#[test]
fn crashed_directory_is_recovered_to_what_the_reference_recovers() {
    let (files, path) = on_simulated_disk("crashed");
    let directory = open(Arc::clone(&files), &path);
    let report = directory.recovery_report();
    assert!(!report.clean && report.offline.is_empty());
    let cut: Vec<_> =
        report.truncations.iter().map(|cut| (cut.partition.to_string(), cut.position, cut.log_end)).collect();
    assert_eq!(cut, [("a-events-0".to_owned(), 10_463, 62), ("a-tx-0".to_owned(), 538, 14)]);
    let expected = json_of("crashed-expected.json");
    for (name, expected) in expected["after_recovery"].as_object().unwrap() {
        let (topic, partition) = name.rsplit_once('-').unwrap();
        let name = TopicPartition::new(topic, partition.parse().unwrap());
        let offsets = directory.partition(&name).unwrap().unwrap().offsets();
        let found = json!({
            "log_start": offsets.log_start, "log_end": offsets.log_end, "last_stable": offsets.last_stable,
        });
        assert_eq!(&found, expected, "{name}");
    }
}

#[test]
fn recovered_directory_closes_cleanly_and_reads_the_same_again() {
    let (files, path) = on_simulated_disk("crashed");
    let offsets = |directory: &LogDirectory| {
        let of = |name| (TopicPartition::clone(&name), directory.partition(&name).unwrap().unwrap().offsets());
        directory.partitions().into_iter().map(of).collect::<Vec<_>>()
    };
    let directory = open(Arc::clone(&files), &path);
    let recovered = offsets(&directory);
    directory.close().unwrap();
    drop(directory);
    let directory = open(files, &path);
    assert!(directory.recovery_report().clean);
    assert_eq!(offsets(&directory), recovered);
}
