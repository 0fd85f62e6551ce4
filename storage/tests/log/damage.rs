//! What disks do to a log: torn and flipped bytes, lost files, reads and writes that fail, and what remains then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Clock, Rng, TopicPartition};
use protocol::api::Pieces;
use protocol::record::batches;
use storage::error::ErrorKind;
use storage::files::{Fault, Files, OpenMode, RealFiles};
use storage::log::{AppendErrorKind, Durability, LogDirectory, PartitionLog, ReadLimit};
use uuid::Uuid;

use super::helper::*;

/// Three segments of a few small batches, as the end of the process leaves them.
fn killed() -> (Machine, Vec<String>) {
    let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "400");
    let directory = machine.open();
    let log = machine.partition(&directory);
    for index in 0..12 {
        machine.append(&log, batch_with(producer(5, 0, index), START_MS, &[("k", &index.to_string())])).unwrap();
    }
    let all = records(&log, ReadLimit::LogEnd);
    drop((log, directory));
    machine.files.kill();
    (machine, all)
}

fn path(name: &str) -> PathBuf {
    Path::new("/data/orders-0").join(name)
}

/// The `.log` files in order.
fn segments(machine: &Machine) -> Vec<String> {
    machine.names().into_iter().filter(|name| name.ends_with(".log")).collect()
}

fn overwrite(machine: &Machine, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = machine.files.read(&path(name)).unwrap();
    change(&mut content);
    machine.files.open(&path(name), OpenMode::Truncate).unwrap().write_at(&content, 0).unwrap();
}

#[test]
fn what_follows_the_last_whole_batch_is_cut_and_reported() {
    let half_batch = batch(&[("torn", "away")])[..40].to_vec();
    for garbage in [half_batch, vec![0; 4096], vec![0xff; 100], b"short".to_vec()] {
        let (machine, all) = killed();
        let last = segments(&machine).pop().unwrap();
        let size = machine.files.read(&path(&last)).unwrap().len() as u64;
        overwrite(&machine, &last, |content| content.extend_from_slice(&garbage));
        let directory = machine.open();
        let report = directory.recovery_report();
        let cut: Vec<_> = report.truncations.iter().map(|cut| (&cut.file, cut.position, cut.bytes)).collect();
        assert_eq!(cut, [(&last, size, garbage.len() as u64)]);
        let log = machine.partition(&directory);
        assert_eq!(records(&log, ReadLimit::LogEnd), all);
        assert_eq!(machine.files.read(&path(&last)).unwrap().len() as u64, size);
        let info = machine.append(&log, batch_with(producer(5, 0, 12), START_MS, &[("k", "next")])).unwrap();
        assert_eq!(info.base_offset, 12);
    }
}

#[test]
fn nothing_behind_a_flipped_byte_is_kept_and_all_that_went_is_reported() {
    let (machine, all) = killed();
    let names = segments(&machine);
    assert_eq!(names.len(), 3);
    let batch_size = machine.files.read(&path(&names[0])).unwrap().len() / 5;
    // The third batch of the second segment.
    overwrite(&machine, &names[1], |content| content[2 * batch_size + 65] ^= 0x10);
    let directory = machine.open();
    let cut: Vec<_> = directory.recovery_report().truncations.iter().map(|cut| (&cut.file, cut.log_end)).collect();
    assert_eq!(cut, [(&names[1], 7), (&names[2], 7)]);
    let log = machine.partition(&directory);
    assert_eq!(records(&log, ReadLimit::LogEnd), all[..7]);
    assert_eq!(log.producer(5).unwrap().last_sequence, 6);
    assert_eq!(segments(&machine), names[..2]);
}

#[test]
fn lost_indexes_are_made_again_byte_for_byte() {
    let machine =
        Machine::new(Durability::Process).with("internal.segment.bytes", "2000").with("index.interval.bytes", "100");
    let options = || storage::log::LogDirectoryOptions { default_config: machine.log_config(), ..machine.options() };
    let open = || LogDirectory::open(Arc::new(machine.files.clone()), "/data", options()).unwrap();
    let directory = open();
    let log = machine.partition(&directory);
    for index in 0..40 {
        let batch = batch_with(transactional(5, 0, index), START_MS + i64::from(index) * 10, &[("k", "some value")]);
        machine.append(&log, batch).unwrap();
        machine.coordinator_append(&log, marker(5, 0, index % 2 == 0, START_MS)).unwrap();
    }
    directory.close().unwrap();
    drop((log, directory));
    let indexes: Vec<String> = machine.names().into_iter().filter(|name| name.ends_with("index")).collect();
    assert!(indexes.iter().filter(|name| name.ends_with(".txnindex")).count() > 1);
    let before: Vec<Vec<u8>> = indexes.iter().map(|name| machine.files.read(&path(name)).unwrap()).collect();
    for lost in indexes.iter().filter(|name| !name.ends_with(".txnindex")) {
        for damage in ["gone", "torn"] {
            match damage {
                "gone" => machine.files.remove_file(&path(lost)).unwrap(),
                _ => overwrite(&machine, lost, |content| content.truncate(content.len() - 3)),
            }
            let directory = open();
            let log = machine.partition(&directory);
            assert_eq!(records_from(&log, 37, ReadLimit::LogEnd, 1).len(), 21, "{lost} {damage}");
            assert_eq!(log.offset_for_timestamp(START_MS + 255, ReadLimit::LogEnd).unwrap().unwrap().offset, 52);
            directory.close().unwrap();
            drop((log, directory));
            let after: Vec<Vec<u8>> = indexes.iter().map(|name| machine.files.read(&path(name)).unwrap()).collect();
            assert_eq!(after, before, "{lost} {damage}");
        }
    }
}

#[test]
fn producers_come_from_the_newest_snapshot_that_can_be_read() {
    // After a clean shutdown: bad ones are removed and the one before is used, together with the batches behind it.
    let (machine, _) = killed();
    let directory = machine.open();
    directory.close().unwrap();
    drop(directory);
    let snapshots = || machine.names().into_iter().filter(|name| name.ends_with(".snapshot")).collect::<Vec<_>>();
    let newest = snapshots().pop().unwrap();
    overwrite(&machine, &newest, |content| content[20] ^= 1);
    let directory = machine.open();
    assert_eq!(machine.partition(&directory).producer(5).unwrap().last_sequence, 11);
    assert!(!snapshots().contains(&newest));
    directory.close().unwrap();
    drop(directory);
    // No snapshot at all after a clean shutdown: as in Kafka nothing is known.
    for name in snapshots() {
        machine.files.remove_file(&path(&name)).unwrap();
    }
    let directory = machine.open();
    assert_eq!(machine.partition(&directory).producer(5), None);
    drop(directory);
    // After a crash everything is read.
    machine.files.kill();
    let directory = machine.open();
    assert_eq!(machine.partition(&directory).producer(5).unwrap().last_sequence, 11);
}

#[test]
fn partition_that_cannot_be_read_is_offline_and_the_others_serve() {
    let (machine, all) = killed();
    let other = TopicPartition::new("payments", 0);
    let directory = machine.open();
    let log = directory.create_partition(&other, Uuid::from_u128(8), machine.log_config()).unwrap();
    machine.append(&log, batch(&[("a", "1")])).unwrap();
    machine.partition(&directory).delete_records(2).unwrap();
    for _ in 0..2 {
        machine.clock.advance_ms(61_000);
        directory.step(machine.clock.now());
    }
    drop((log, directory));
    machine.files.kill();

    machine.files.fail_next(Fault::Read, "orders-0/00000000000000000000.log", std::io::ErrorKind::Other);
    let directory = machine.open();
    let [(offline, error)] = &directory.recovery_report().offline[..] else { panic!("one partition is offline") };
    assert_eq!((offline, error.kind()), (&partition(), ErrorKind::Io));
    assert!(error.message().contains("/data/orders-0/00000000000000000000.log"), "{error}");
    assert_eq!(directory.partition(&partition()).err().unwrap(), *error);
    assert!(directory.create_partition(&partition(), Uuid::from_u128(7), machine.log_config()).is_err());
    let log = directory.partition(&other).unwrap().unwrap();
    machine.append(&log, batch(&[("a", "2")])).unwrap();
    assert_eq!(records(&log, ReadLimit::HighWatermark), ["0:a=1", "1:a=2"]);
    // No clean mark is left behind: the offline one must be recovered; where it starts is not forgotten.
    directory.close().unwrap();
    let starts = machine.files.read(Path::new("/data/log-start-offset-checkpoint")).unwrap();
    assert_eq!(String::from_utf8_lossy(&starts), "0\n1\norders 0 2\n");
    drop((log, directory));
    let directory = machine.open();
    assert!(!directory.recovery_report().clean);
    assert_eq!(records(&machine.partition(&directory), ReadLimit::HighWatermark), all[2..]);
}

#[test]
fn failed_write_stops_its_partition_only() {
    let machine = Machine::new(Durability::Power);
    let directory = machine.open();
    let log = machine.partition(&directory);
    let other = TopicPartition::new("payments", 0);
    let payments = directory.create_partition(&other, Uuid::from_u128(8), machine.log_config()).unwrap();
    machine.append(&log, batch(&[("a", "1")])).unwrap();
    machine.append(&payments, batch(&[("b", "1")])).unwrap();
    assert_eq!(directory.flusher().step().partitions, 2);
    machine.files.fail_next(Fault::Write, "orders-0", std::io::ErrorKind::Other);
    let error = machine.append(&log, batch(&[("a", "2")])).unwrap_err();
    assert_eq!(error.kind, AppendErrorKind::Storage);
    assert!(error.message.contains("/data/orders-0/00000000000000000000.log"), "{error}");
    let again = machine.append(&log, batch(&[("a", "3")])).unwrap_err();
    assert!(again.message.contains("must be reopened"), "{again}");
    machine.append(&payments, batch(&[("b", "2")])).unwrap();
    directory.flusher().step();
    assert_eq!(records(&payments, ReadLimit::HighWatermark), ["0:b=1", "1:b=2"]);
    assert_eq!(records(&log, ReadLimit::HighWatermark), ["0:a=1"]);
    let log = directory.reopen_partition(&partition()).unwrap().unwrap();
    assert_eq!(machine.append(&log, batch(&[("a", "2")])).unwrap().base_offset, 1);
}

/// Appends while writes, syncs, names and reads fail at random and the disk fills up; partitions are reopened, or the
/// machine crashes.
#[test]
fn nothing_acknowledged_is_lost_when_the_disk_fails_at_random() {
    for seed in 0..300 {
        let mut rng = Rng::from_seed(seed);
        let machine = Machine::new(Durability::Power)
            .with("internal.segment.bytes", "400")
            .with("index.interval.bytes", "60")
            .with("file.delete.delay.ms", "0");
        let mut acknowledged: Vec<String> = Vec::new();
        for life in 0..4 {
            let directory = machine.open();
            let mut log = machine.partition(&directory);
            let found = acknowledged_of(&log);
            assert!(found.starts_with(&acknowledged), "seed {seed} life {life}: {found:?} lost of {acknowledged:?}");
            for (offset, record) in found.iter().enumerate() {
                assert!(record.starts_with(&format!("{offset}:")), "seed {seed} life {life}: a hole in {found:?}");
            }
            for step in 0..rng.below(40) {
                match rng.below(12) {
                    0..3 => {
                        directory.flusher().step();
                    }
                    3 => {
                        let fault = [Fault::Write, Fault::Sync, Fault::Name, Fault::Read][rng.below(4) as usize];
                        machine.files.fail_next(fault, "orders-0", std::io::ErrorKind::Other);
                    }
                    4 => {
                        let room = rng.chance(2, 3).then(|| machine.files.used_bytes() + rng.below(300));
                        machine.files.set_capacity(room);
                    }
                    5 => {
                        machine.clock.advance_ms(70_000);
                        directory.step(machine.clock.now());
                    }
                    _ => {
                        let value = format!("{life}.{step}");
                        if machine.append(&log, batch(&[("k", &value)])).is_err() && rng.chance(1, 2) {
                            acknowledged = acknowledged_of(&log);
                            machine.files.set_capacity(None);
                            // It may fail again; a later one will not.
                            log = std::iter::repeat_with(|| directory.reopen_partition(&partition()))
                                .take(20)
                                .find_map(Result::ok)
                                .unwrap()
                                .unwrap_or_else(|| machine.partition(&directory));
                            let found = acknowledged_of(&log);
                            assert!(found.starts_with(&acknowledged), "seed {seed} life {life}: {found:?}");
                        }
                    }
                }
            }
            acknowledged = acknowledged_of(&log);
            machine.files.set_capacity(None);
            drop((log, directory));
            machine.files.crash(&mut rng);
        }
    }
}

/// What was acknowledged: reads may fail too, but not for ever.
fn acknowledged_of(log: &PartitionLog) -> Vec<String> {
    let until_it_succeeds = || {
        let end = log.offsets().high_watermark;
        let mut read = Pieces::new();
        let mut next = log.offsets().log_start;
        while next < end {
            let records = log.read(next, 1 << 20, ReadLimit::HighWatermark, true).ok()?.records.to_bytes().ok()?;
            next = batches(&records).last()?.ok()?.header().next_offset();
            read.push(protocol::api::Piece::Memory(records));
        }
        Some(read)
    };
    let read = std::iter::repeat_with(until_it_succeeds).take(50).flatten().next().unwrap();
    records_of(&read.to_bytes().unwrap(), 0)
}

#[test]
fn directory_of_another_process_is_refused() {
    if std::env::var_os("LOG_TEST_HOLDS").is_some() {
        // The other process: tells that it holds the directory, and holds it until its input ends.
        let folder = std::env::var_os("LOG_TEST_HOLDS").unwrap();
        let machine = Machine::new(Durability::Process);
        let _held = LogDirectory::open(RealFiles::shared(), PathBuf::from(folder), machine.options()).unwrap();
        println!("held");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log::damage::directory_of_another_process_is_refused", "--nocapture"])
        .env("LOG_TEST_HOLDS", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(other.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("held")));
    let machine = Machine::new(Durability::Process);
    let open = || LogDirectory::open(RealFiles::shared(), folder.path(), machine.options());
    let error = open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.message().contains(&*folder.path().to_string_lossy()), "{error}");
    // Killed, it holds nothing any more.
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(open().is_ok());
}
