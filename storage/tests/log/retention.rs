//! Retention by size and time, delete-records, truncation, deletion of partitions.

use base::Clock;
use protocol::record::BuilderOptions;
use storage::error::ErrorKind;
use storage::files::Files;
use storage::log::{Durability, ReadLimit};

use super::helper::*;

fn fill(machine: &Machine, log: &storage::log::PartitionLog, count: i64) {
    for index in 0..count {
        let options = BuilderOptions::default();
        machine.append(log, batch_with(options, START_MS + index, &[("k", "0123456789")])).unwrap();
    }
}

#[test]
fn size_keeps_at_least_what_is_asked_for() {
    let machine = Machine::new(Durability::Process)
        .with("internal.segment.bytes", "200")
        .with("retention.bytes", "400")
        .with("file.delete.delay.ms", "1000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill(&machine, &log, 20);
    log.apply_retention(machine.clock.now()).unwrap();
    assert!((400..600).contains(&log.size_bytes()), "{}", log.size_bytes());
    let start = log.offsets().log_start;
    assert_eq!(records(&log, ReadLimit::LogEnd).len() as i64, 20 - start);
    assert!(machine.names().iter().any(|name| name.ends_with(".log.deleted")));
    machine.clock.advance_ms(1_001);
    directory.step(machine.clock.now());
    assert!(!machine.names().iter().any(|name| name.ends_with(".deleted")));
}

#[test]
fn time_removes_everything_in_the_end_and_offsets_go_on() {
    let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "200").with("retention.ms", "60000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill(&machine, &log, 7);
    machine.clock.advance_ms(60_000);
    assert_eq!(log.apply_retention(machine.clock.now()).unwrap(), 0);
    machine.clock.advance_ms(100);
    assert_eq!(log.apply_retention(machine.clock.now()).unwrap(), 4);
    assert_eq!((log.offsets().log_start, log.size_bytes()), (7, 0));
    assert_eq!(log.apply_retention(machine.clock.now()).unwrap(), 0);
    directory.close().unwrap();
    drop((log, directory));
    let directory = machine.open();
    let log = machine.partition(&directory);
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (7, 7));
    assert_eq!(machine.append(&log, batch(&[("a", "1")])).unwrap().base_offset, 7);
}

#[test]
fn segments_below_a_deleted_offset_go_and_the_start_survives_a_restart() {
    let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "200").with("retention.ms", "-1");
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill(&machine, &log, 10);
    log.delete_records(5).unwrap();
    assert_eq!(log.apply_retention(machine.clock.now()).unwrap(), 2);
    assert_eq!(log.offsets().log_start, 5);
    directory.close().unwrap();
    drop((log, directory));
    let directory = machine.open();
    assert_eq!(machine.partition(&directory).offsets().log_start, 5);
}

#[test]
fn truncated_log_goes_on_where_it_was_cut() {
    let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "200");
    let directory = machine.open();
    let log = machine.partition(&directory);
    for sequence in 0..10 {
        machine.append(&log, batch_with(producer(1, 0, sequence), START_MS, &[("k", "0123456789")])).unwrap();
    }
    log.truncate_to(3).unwrap();
    assert_eq!(log.offsets().log_end, 3);
    assert_eq!(log.producer(1).unwrap().last_sequence, 2);
    machine.append(&log, batch_with(producer(1, 0, 3), START_MS, &[("k", "new")])).unwrap();
    assert_eq!(records(&log, ReadLimit::LogEnd).last().unwrap(), "3:k=new");
    drop((log, directory));
    machine.files.kill();
    let directory = machine.open();
    let log = machine.partition(&directory);
    assert_eq!(records(&log, ReadLimit::LogEnd).last().unwrap(), "3:k=new");
    log.truncate_fully_and_start_at(100).unwrap();
    assert_eq!(machine.append(&log, batch(&[("a", "1")])).unwrap().base_offset, 100);
    assert_eq!(log.offsets().log_start, 100);
}

#[test]
fn deleted_partition_is_gone_at_once_and_its_folder_later() {
    let machine = Machine::new(Durability::Process).with("file.delete.delay.ms", "1000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill(&machine, &log, 3);
    assert!(directory.delete_partition(&partition(), machine.clock.now()).unwrap());
    assert!(!directory.delete_partition(&partition(), machine.clock.now()).unwrap());
    assert!(machine.append(&log, batch(&[("a", "1")])).is_err());
    assert!(directory.partitions().is_empty());
    let again = machine.partition(&directory);
    assert_eq!(machine.append(&again, batch(&[("a", "1")])).unwrap().base_offset, 0);
    let folders =
        || machine.files.list(std::path::Path::new("/data")).unwrap().into_iter().filter(|one| one.is_dir).count();
    assert_eq!(folders(), 2);
    machine.clock.advance_ms(1_001);
    directory.step(machine.clock.now());
    assert_eq!(folders(), 1);
}

#[test]
fn partition_deleted_before_its_sync_fails_nothing() {
    for durability in [Durability::Process, Durability::Power] {
        let machine = Machine::new(durability);
        let directory = machine.open();
        let log = machine.partition(&directory);
        fill(&machine, &log, 3);
        assert!(directory.flusher().has_work());
        assert!(directory.delete_partition(&partition(), machine.clock.now()).unwrap());
        assert_eq!(directory.flusher().step().failed, 0);
        assert_eq!(directory.failure(), None);
        assert_eq!(log.failure(), None);
        let again = machine.partition(&directory);
        fill(&machine, &again, 3);
        directory.flusher().step();
        assert_eq!(again.offsets().high_watermark, 3);
    }
}

#[test]
fn silent_producers_are_forgotten() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    directory.step(machine.clock.now());
    machine.append(&log, batch_with(producer(1, 0, 0), START_MS, &[("a", "1")])).unwrap();
    machine.append(&log, batch_with(transactional(2, 0, 0), START_MS, &[("a", "1")])).unwrap();
    machine.clock.advance_ms(86_400_001);
    directory.step(machine.clock.now());
    assert_eq!(log.producers().iter().map(|one| one.producer_id).collect::<Vec<_>>(), [2]);
}

#[test]
fn records_are_deleted_up_to_the_high_watermark_only() {
    let machine = Machine::new(Durability::Power);
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill(&machine, &log, 3);
    directory.flusher().step();
    fill(&machine, &log, 2);
    assert_eq!(log.delete_records(4).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(log.delete_records(-2).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(log.delete_records(2).unwrap(), 2);
    // Never back.
    assert_eq!(log.delete_records(1).unwrap(), 2);
    assert_eq!(log.delete_records(-1).unwrap(), 3);
    assert_eq!(log.read(2, 1, ReadLimit::LogEnd, true).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(records(&log, ReadLimit::LogEnd).len(), 2);
}

#[test]
fn record_of_the_future_keeps_its_segment_and_those_behind_it() {
    let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "200").with("retention.ms", "60000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill(&machine, &log, 4);
    let options = BuilderOptions::default();
    machine.append(&log, batch_with(options, START_MS + 3_000_000, &[("k", "from the future")])).unwrap();
    fill(&machine, &log, 4);
    machine.clock.advance_ms(120_000);
    log.apply_retention(machine.clock.now()).unwrap();
    assert_eq!(log.offsets().log_start, 4);
    machine.clock.advance_ms(3_000_000);
    log.apply_retention(machine.clock.now()).unwrap();
    assert_eq!(log.offsets().log_start, 9);
}

#[test]
fn without_timestamps_the_time_of_the_file_counts() {
    let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "200").with("retention.ms", "60000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    for _ in 0..4 {
        machine.append(&log, batch_with(BuilderOptions::default(), -1, &[("k", "0123456789")])).unwrap();
    }
    machine.clock.advance_ms(60_000);
    assert_eq!(log.apply_retention(machine.clock.now()).unwrap(), 0);
    machine.clock.advance_ms(1);
    assert_eq!(log.apply_retention(machine.clock.now()).unwrap(), 2);
}
