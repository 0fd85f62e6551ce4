//! Files to the byte: the batches that Apache Kafka 4.3.1 was sent are sent again, and every file of the partition
//! comes out as the reference wrote it: batches, indexes, transaction index, producer snapshots, checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::{Now, TopicPartition};
use bytes::Bytes;
use protocol::api::Pieces;
use protocol::record::{batches, crc_of};
use storage::files::{Files, SimFiles};
use storage::log::{AppendOptions, LogConfig};

use super::sample::{on_simulated_disk, open};

type Config = &'static [(&'static str, &'static str)];

/// Topics that were not compacted, with what their configuration has to do with their files.
const TOPICS: [(&str, i32, Config); 8] = [
    ("a-events", 2, &[("index.interval.bytes", "512"), ("internal.segment.bytes", "20000")]),
    ("a-tx", 1, &[("index.interval.bytes", "512")]),
    ("a-open", 1, &[]),
    ("a-appendtime", 1, &[("message.timestamp.type", "LogAppendTime")]),
    ("a-streams-in", 2, &[]),
    ("a-streams-out", 2, &[]),
    ("a-app-counts-changelog", 2, &[("cleanup.policy", "compact")]),
    ("__transaction_state", 2, &[]),
];

/// As a producer sends it.
fn unsent(batch: &Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[..8].fill(0);
    bytes[12..16].fill(0xff);
    bytes.into()
}

fn folder(files: &dyn Files, path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = files.list(path).unwrap();
    entries.into_iter().map(|entry| (entry.name.clone(), files.read(&path.join(&entry.name)).unwrap())).collect()
}

#[test]
fn what_the_reference_was_sent_gives_the_files_it_wrote() {
    let (reference_files, reference_path) = on_simulated_disk("clean");
    let reference = open(Arc::clone(&reference_files), &reference_path);
    let machine = super::helper::Machine::new(storage::log::Durability::Process);
    let files: Arc<dyn Files> = Arc::new(SimFiles::new(machine.clock.clone()));
    let ours = open(Arc::clone(&files), Path::new("/ours"));
    let partitions = || {
        TOPICS.into_iter().flat_map(|(topic, count, config)| {
            (0..count).map(move |partition| (TopicPartition::new(topic, partition), config))
        })
    };
    for (partition, config) in partitions() {
        let written = reference.partition(&partition).unwrap().unwrap();
        let config = LogConfig::from_map(config.iter().copied()).unwrap();
        let log = ours.create_partition(&partition, written.topic_id(), config).unwrap();
        let written_files = folder(reference_files.as_ref(), &reference_path.join(partition.to_string()));
        for (_, content) in written_files.into_iter().filter(|(name, _)| name.ends_with(".log")) {
            for batch in batches(&Bytes::from(content)) {
                let batch = batch.unwrap();
                let header = *batch.header();
                let wall_ms = if header.attributes.is_log_append_time() {
                    header.max_timestamp
                } else {
                    header.max_timestamp.max(1_795_252_000_000)
                };
                let internal = header.attributes.is_control() || partition.topic.starts_with("__");
                let origin = if internal { AppendOptions::coordinator } else { AppendOptions::client };
                let mut sent = unsent(batch.bytes());
                if header.attributes.is_log_append_time() {
                    // The producer's bytes had create times; those of the reference's log stand in for them.
                    let mut create_time = sent.to_vec();
                    create_time[22] &= !8;
                    let crc = crc_of(&create_time);
                    create_time[17..21].copy_from_slice(&crc.to_be_bytes());
                    sent = create_time.into();
                }
                let options = origin(header.leader_epoch, Now { wall_ms, ticks_ms: 0 });
                let info = log.append(&Pieces::from(sent), options).unwrap();
                assert_eq!(info.base_offset, header.base_offset, "{partition}");
            }
        }
        log.delete_records(written.offsets().log_start).unwrap();
    }
    ours.close().unwrap();
    for (partition, _) in partitions() {
        let name = partition.to_string();
        let wanted = folder(reference_files.as_ref(), &reference_path.join(&name));
        let written = folder(files.as_ref(), &Path::new("/ours").join(&name));
        assert_eq!(written.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{name}");
        for (file, content) in &wanted {
            assert_eq!(&written[file], content, "{name}/{file}");
        }
    }
}
