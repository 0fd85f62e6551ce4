//! Compaction beside Apache Kafka's: the same segments, cleaned at the same time, come out the same. To the byte, but
//! for what compressors of another make the size of: such batches are compared record by record.
//!
//! `tests/data/cleaned-log.zst` (files as in `sample.rs`): two compacted partitions that Kafka 4.3.1 wrote, `before/`
//! and `after/` its cleaner passed, and again, with expired tombstones, `before2/` and `after2/`. `plain` holds batches
//! of all codecs with tombstones, `mixed` committed and aborted transactions of three producers among plain records.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::{ManualClock, Now, Rng, TopicPartition};
use bytes::Bytes;
use protocol::record::{BatchHeader, Compression, RecordBatch, batches};
use storage::files::{Files, OpenMode, SimFiles};
use storage::log::{DirectorySettings, Durability, LogConfig, LogDirectory, LogDirectoryOptions, dump};
use uuid::Uuid;

use super::sample::unbundle;

const DELETE_RETENTION_MS: i64 = 60_000;

fn part(bundle: &BTreeMap<String, Vec<u8>>, part: &str) -> Arc<dyn Files> {
    let files: Arc<dyn Files> = Arc::new(SimFiles::new(ManualClock::new(1_795_300_000_000)));
    for (name, content) in bundle {
        if let Some(name) = name.strip_prefix(&format!("{part}/")) {
            let path = Path::new("/data").join(name);
            files.create_dir_all(path.parent().unwrap()).unwrap();
            files.open(&path, OpenMode::Truncate).unwrap().write_at(content, 0).unwrap();
        }
    }
    files.open(Path::new("/data/.kafka_cleanshutdown"), OpenMode::Create).unwrap();
    files
}

fn newest_horizon(files: &Arc<dyn Files>, folder: &Path) -> i64 {
    dump(files, folder).unwrap().filter_map(|batch| batch.unwrap().delete_horizon_ms).max().unwrap_or(0)
}

/// What must be the same of the batches of a segment: everything if they are not compressed, else header and records.
fn essence(content: &[u8]) -> Vec<String> {
    let essence_of = |batch: RecordBatch| {
        batch.verify_crc().unwrap();
        let header = *batch.header();
        if header.attributes.codec().unwrap() == Compression::None {
            return format!("{:?}", batch.bytes());
        }
        let header = BatchHeader { crc: 0, batch_length: 0, ..header };
        let records = batch.records().unwrap();
        let records: Vec<String> = records.iter().map(|record| format!("{:?}", record.unwrap())).collect();
        format!("{header:?} {records:?}")
    };
    batches(&Bytes::copy_from_slice(content)).map(|batch| essence_of(batch.unwrap())).collect()
}

fn compare(before: &str, after: &str) {
    let bundle = unbundle(include_bytes!("../data/cleaned-log.zst"));
    for topic in ["plain", "mixed"] {
        let folder = Path::new("/data").join(format!("{topic}-0"));
        let files = part(&bundle, before);
        // When Kafka cleaned is told by the horizons that it set; if it set none, those there were had passed.
        let known = newest_horizon(&files, &folder);
        let newest = newest_horizon(&part(&bundle, after), &folder);
        let wall_ms = if newest > known { newest - DELETE_RETENTION_MS } else { known + 1 };
        let now = Now { wall_ms, ticks_ms: 1_000 };
        let options = LogDirectoryOptions {
            durability: Durability::Process,
            settings: DirectorySettings { cleaner_backoff_ms: 1, ..DirectorySettings::default() },
            ..LogDirectoryOptions::new(ManualClock::new(now.wall_ms), Rng::from_seed(1))
        };
        let directory = LogDirectory::open(Arc::clone(&files), "/data", options).unwrap();
        let config = LogConfig::from_map([
            ("cleanup.policy", "compact"),
            ("internal.segment.bytes", "2000"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("delete.retention.ms", "60000"),
            ("index.interval.bytes", "200"),
        ]);
        directory.create_partition(&TopicPartition::new(topic, 0), Uuid::nil(), config.unwrap()).unwrap();
        directory.step_cleaner(now);
        assert!(directory.step_cleaner(Now { ticks_ms: 2_000, ..now }).did_work);
        directory.close().unwrap();
        let mut ours = BTreeMap::new();
        for entry in files.list(&folder).unwrap().into_iter().filter(|entry| !entry.name.ends_with(".deleted")) {
            ours.insert(entry.name.clone(), files.read(&folder.join(&entry.name)).unwrap());
        }
        let prefix = format!("{after}/{topic}-0/");
        let theirs: BTreeMap<String, Vec<u8>> = bundle
            .iter()
            .filter_map(|(name, content)| Some((name.strip_prefix(&prefix)?.to_owned(), content.clone())))
            .collect();
        let logs = |files: &BTreeMap<String, Vec<u8>>| {
            files.keys().filter(|name| name.ends_with(".log")).cloned().collect::<Vec<_>>()
        };
        assert_eq!(logs(&ours), logs(&theirs), "{before} {topic}");
        for name in logs(&theirs) {
            assert_eq!(essence(&ours[&name]), essence(&theirs[&name]), "{before} {topic} {name}");
            let same = ours[&name] == theirs[&name];
            let compared = [(".index", same), (".timeindex", same), (".txnindex", true)];
            for suffix in compared.into_iter().filter_map(|(suffix, compared)| compared.then_some(suffix)) {
                let index = name.replace(".log", suffix);
                assert_eq!(ours.get(&index), theirs.get(&index), "{before} {topic} {index}");
            }
        }
    }
}

#[test]
fn cleaned_segments_are_kafkas() {
    compare("before", "after");
}

#[test]
fn segments_cleaned_again_are_kafkas() {
    compare("before2", "after2");
}
