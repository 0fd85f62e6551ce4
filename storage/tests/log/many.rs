//! A directory of many partitions: however many there are, few files are open at a time.

use std::path::Path;
use std::sync::Arc;

use base::Clock;
use base::TopicPartition;
use storage::files::Files;
use storage::log::{AppendOptions, Durability, LogDirectory, ReadLimit};
use uuid::Uuid;

use super::helper::*;

const PARTITIONS: i32 = 300;
/// Far fewer than the partitions have.
const OPEN_MAX: usize = 450;

fn open(machine: &Machine) -> LogDirectory {
    let options = storage::log::LogDirectoryOptions { open_files_max: 16, ..machine.options() };
    LogDirectory::open(Arc::new(machine.files.clone()), "/data", options).unwrap()
}

fn fill(machine: &Machine, directory: &LogDirectory, value: &str) {
    for number in 0..PARTITIONS {
        let partition = TopicPartition::new("many", number);
        let log = directory.create_partition(&partition, Uuid::from_u128(7), machine.log_config()).unwrap();
        let batch = protocol::api::Pieces::from(batch(&[("k", value)]));
        log.append(&batch, AppendOptions::client(0, machine.clock.now())).unwrap();
        if number % 50 == 49 {
            directory.flusher().step();
        }
    }
}

fn check(machine: &Machine, directory: &LogDirectory, expected: &[&str]) {
    for number in 0..PARTITIONS {
        let log = directory.partition(&TopicPartition::new("many", number)).unwrap().unwrap();
        let values: Vec<String> = records(&log, ReadLimit::HighWatermark);
        assert_eq!(values, expected, "partition {number} on {:?}", machine.durability);
    }
}

#[test]
fn closing_and_recovering_many_partitions_takes_few_open_files() {
    for durability in [Durability::Power, Durability::Process] {
        let machine = Machine::new(durability);
        machine.files.set_open_max(Some(OPEN_MAX));
        let directory = open(&machine);
        fill(&machine, &directory, "first");
        directory.close().unwrap();
        drop(directory);
        let directory = open(&machine);
        assert!(directory.recovery_report().clean, "{durability:?}");
        check(&machine, &directory, &["0:k=first"]);
        fill(&machine, &directory, "second");
        drop(directory);
        machine.files.kill();
        let directory = open(&machine);
        assert!(!directory.recovery_report().clean, "{durability:?}");
        assert!(directory.recovery_report().offline.is_empty(), "{durability:?}");
        check(&machine, &directory, &["0:k=first", "1:k=second"]);
        directory.close().unwrap();
        let left = machine.files.list(Path::new("/data/many-7")).unwrap();
        let snapshots: Vec<String> =
            left.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(".snapshot")).collect();
        assert_eq!(snapshots, ["00000000000000000002.snapshot"], "{durability:?}");
        let directory = open(&machine);
        assert!(directory.recovery_report().clean, "{durability:?}");
        check(&machine, &directory, &["0:k=first", "1:k=second"]);
    }
}
