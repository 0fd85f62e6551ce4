//! Compaction: the newest record of each key stays, tombstones and markers go in two steps, crashes leave old or new.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::{Clock, Rng};
use protocol::record::BuilderOptions;
use storage::files::Files;
use storage::log::{Durability, LogDirectory, PartitionLog, ReadLimit, dump};

use super::helper::*;

fn compacted() -> Machine {
    Machine::new(Durability::Process)
        .with("cleanup.policy", "compact")
        .with("internal.segment.bytes", "300")
        .with("min.cleanable.dirty.ratio", "0.01")
        .with("delete.retention.ms", "1000")
}

/// Lets the cleaner run until it finds nothing more.
fn clean(machine: &Machine, directory: &LogDirectory) {
    for _ in 0..20 {
        machine.clock.advance_ms(15_000);
        directory.step(machine.clock.now());
    }
}

fn keys_of(records: &[String]) -> Vec<String> {
    records.iter().map(|record| record.split(':').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn newest_record_of_each_key_stays_at_its_offset() {
    let machine = compacted();
    let directory = machine.open();
    let log = machine.partition(&directory);
    for round in 0..20 {
        let value = format!("{round}");
        machine.append(&log, batch(&[("a", &value), ("b", &value)])).unwrap();
    }
    machine.append(&log, batch(&[("c", &"x".repeat(200))])).unwrap();
    let before = log.size_bytes();
    clean(&machine, &directory);
    assert!(log.size_bytes() < before / 2, "{} of {before}", log.size_bytes());
    let found = records(&log, ReadLimit::HighWatermark);
    assert_eq!(found[..2], ["38:a=19", "39:b=19"]);
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (0, 41));
    // Reading begins anywhere in the gap.
    assert_eq!(records_from(&log, 5, ReadLimit::HighWatermark, 1)[0], "38:a=19");
    directory.close().unwrap();
    drop((log, directory));
    let directory = machine.open();
    assert_eq!(records(&machine.partition(&directory), ReadLimit::HighWatermark), found);
}

#[test]
fn tombstones_go_after_their_horizon_only() {
    let machine = compacted();
    let directory = machine.open();
    let log = machine.partition(&directory);
    let fill = |key: &str| {
        for _ in 0..3 {
            machine.append(&log, batch(&[(key, &"f".repeat(150))])).unwrap();
        }
    };
    machine.append(&log, batch(&[("a", "1"), ("b", "1")])).unwrap();
    machine.append(&log, batch(&[("a", "null")])).unwrap();
    fill("c");
    machine.clock.advance_ms(15_000);
    directory.step(machine.clock.now());
    machine.clock.advance_ms(15_000);
    directory.step(machine.clock.now());
    let first = keys_of(&records(&log, ReadLimit::HighWatermark));
    assert_eq!(first[..2], ["b=1", "a=null"]);
    let files: Arc<dyn Files> = Arc::new(machine.files.clone());
    let horizons = dump(&files, log.folder()).unwrap().filter(|one| one.as_ref().unwrap().delete_horizon_ms.is_some());
    assert_eq!(horizons.count(), 1);
    machine.clock.advance_ms(2_000);
    fill("c");
    clean(&machine, &directory);
    let second = keys_of(&records(&log, ReadLimit::HighWatermark));
    assert_eq!(second[0], "b=1");
    assert!(!second.contains(&"a=null".to_owned()));
}

#[test]
fn aborted_data_never_hides_what_was_committed() {
    let machine = compacted();
    let directory = machine.open();
    let log = machine.partition(&directory);
    machine.append(&log, batch(&[("a", "kept")])).unwrap();
    machine.append(&log, batch_with(transactional(1, 0, 0), START_MS, &[("a", "void")])).unwrap();
    machine.append(&log, batch(&[("z", &"f".repeat(200))])).unwrap();
    machine.append(&log, batch(&[("z", &"f".repeat(200))])).unwrap();
    // The marker is in the active segment, the data it voids is not.
    machine.coordinator_append(&log, marker(1, 0, false, START_MS)).unwrap();
    clean(&machine, &directory);
    let found = records(&log, ReadLimit::LastStable);
    assert_eq!(found[0], "0:a=kept");
    assert!(!found.iter().any(|record| record.ends_with("=void")), "{found:?}");
    // The producer is still known: its last batch stays, emptied.
    let files: Arc<dyn Files> = Arc::new(machine.files.clone());
    let empty = dump(&files, log.folder()).unwrap().map(Result::unwrap).find(|one| one.count == 0).unwrap();
    assert_eq!((empty.size, empty.pid, empty.base, empty.valid), (61, 1, 1, true));
}

#[test]
fn open_transaction_stops_the_cleaner() {
    let machine = compacted();
    let directory = machine.open();
    let log = machine.partition(&directory);
    machine.append(&log, batch_with(transactional(1, 0, 0), START_MS, &[("a", "1")])).unwrap();
    for _ in 0..10 {
        machine.append(&log, batch(&[("b", &"f".repeat(100))])).unwrap();
    }
    let before = log.size_bytes();
    clean(&machine, &directory);
    assert_eq!(log.size_bytes(), before);
}

#[test]
fn first_dirty_offset_survives_a_restart_in_the_checkpoint() {
    let machine = compacted();
    let directory = machine.open();
    let log = machine.partition(&directory);
    for _ in 0..10 {
        machine.append(&log, batch(&[("b", &"f".repeat(100))])).unwrap();
    }
    clean(&machine, &directory);
    let text = machine.files.read(Path::new("/data/cleaner-offset-checkpoint")).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("0\n1\norders 0 "), "{text}");
}

/// Fifteen batches of one key, a minute apart by their timestamps, in segments of four.
fn fill_by_the_minute(machine: &Machine, log: &PartitionLog) {
    for minute in 0..15 {
        let timestamp = START_MS + minute * 60_000;
        machine.append(log, batch_with(BuilderOptions::default(), timestamp, &[("a", "1")])).unwrap();
    }
}

#[test]
fn young_segments_are_left_alone_until_the_minimum_lag_is_over() {
    let machine = compacted().with("min.compaction.lag.ms", "600000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill_by_the_minute(&machine, &log);
    let count = || records(&log, ReadLimit::HighWatermark).len();
    // At minute 5 plus the cleaner's rounds nothing is ten minutes old.
    machine.clock.set_wall_ms(START_MS + 300_000);
    clean(&machine, &directory);
    assert_eq!(count(), 15);
    // Five minutes later the first segment is (its newest record of minute 3).
    machine.clock.set_wall_ms(START_MS + 800_000);
    machine.clock.advance_ms(15_000);
    directory.step(machine.clock.now());
    machine.clock.advance_ms(15_000);
    directory.step(machine.clock.now());
    assert_eq!(count(), 12);
    machine.clock.set_wall_ms(START_MS + 3_600_000);
    clean(&machine, &directory);
    // All but the newest of what lies before the active segment, and the active one.
    assert_eq!(count(), 4);
}

#[test]
fn overdue_log_is_cleaned_however_little_of_it_is_dirty() {
    let machine = Machine { config: Vec::new(), ..compacted() }
        .with("cleanup.policy", "compact")
        .with("internal.segment.bytes", "300")
        .with("min.cleanable.dirty.ratio", "1")
        .with("max.compaction.lag.ms", "3600000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    fill_by_the_minute(&machine, &log);
    clean(&machine, &directory);
    assert_eq!(records(&log, ReadLimit::HighWatermark).len(), 15);
    machine.clock.set_wall_ms(START_MS + 3_600_001);
    clean(&machine, &directory);
    assert_eq!(records(&log, ReadLimit::HighWatermark).len(), 4);
}

#[test]
fn little_dirt_waits_for_more() {
    let machine = Machine { config: Vec::new(), ..compacted() }
        .with("cleanup.policy", "compact")
        .with("internal.segment.bytes", "300")
        .with("min.cleanable.dirty.ratio", "0.5");
    let directory = machine.open();
    let log = machine.partition(&directory);
    let value = "f".repeat(150);
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        machine.append(&log, batch(&[(key, &value)])).unwrap();
    }
    clean(&machine, &directory);
    let count = || records(&log, ReadLimit::HighWatermark).len();
    // Seven segments are clean now; the eighth is active.
    for expected in [9, 10, 11, 12, 13, 14, 15] {
        machine.append(&log, batch(&[("a", &value)])).unwrap();
        clean(&machine, &directory);
        assert_eq!(count(), expected);
    }
    machine.append(&log, batch(&[("a", &value)])).unwrap();
    clean(&machine, &directory);
    // Eight of fifteen are more than half: of `a` remain the newest and the active one.
    assert_eq!(count(), 9);
}

#[test]
fn both_policies_clean_and_delete() {
    let machine = Machine { config: Vec::new(), ..compacted() }
        .with("cleanup.policy", "compact,delete")
        .with("internal.segment.bytes", "300")
        .with("min.cleanable.dirty.ratio", "0.01")
        .with("retention.ms", "3600000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    machine.append(&log, batch(&[("old", &"f".repeat(150))])).unwrap();
    machine.clock.advance_ms(1_800_000);
    for _ in 0..12 {
        let options = BuilderOptions::default();
        machine.append(&log, batch_with(options, START_MS + 1_800_000, &[("a", "1")])).unwrap();
    }
    clean(&machine, &directory);
    let found = records(&log, ReadLimit::HighWatermark);
    assert!(found[0].starts_with("0:old=") && found.len() < 8, "{found:?}");
    machine.clock.advance_ms(1_800_000);
    directory.step(machine.clock.now());
    let found = records(&log, ReadLimit::HighWatermark);
    assert!(log.offsets().log_start > 0 && !found.is_empty());
    assert!(found.iter().all(|record| record.ends_with("a=1")), "{found:?}");
}

/// What a table made of the records holds.
fn table(records: &[String]) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for record in records {
        let (key, value) = record.split_once(':').unwrap().1.split_once('=').unwrap();
        match value {
            "null" => table.remove(key),
            _ => table.insert(key.to_owned(), value.to_owned()),
        };
    }
    table
}

#[test]
fn cleaning_and_crashing_never_changes_the_table() {
    for seed in 0..150 {
        let mut rng = Rng::from_seed(seed);
        let machine = Machine { durability: Durability::Power, ..compacted() };
        let mut expected = BTreeMap::new();
        for life in 0..4 {
            let directory = machine.open();
            let log = machine.partition(&directory);
            assert!(directory.recovery_report().offline.is_empty(), "seed {seed}");
            assert_eq!(table(&visible(&log)), expected, "seed {seed} life {life}");
            let mut sequence = log.producer(1).map_or(0, |known| known.last_sequence + 1);
            for step in 0..rng.below(40) {
                let key = format!("k{}", rng.below(6));
                let value = if rng.chance(1, 5) { "null".to_owned() } else { format!("{life}.{step}") };
                match rng.below(8) {
                    0 => {
                        directory.flusher().step();
                        machine.clock.advance_ms(15_000);
                        directory.step(machine.clock.now());
                    }
                    1 => {
                        let committed = rng.chance(1, 2);
                        let options = transactional(1, 0, sequence);
                        machine.append(&log, batch_with(options, START_MS, &[(&key, &value)])).unwrap();
                        if rng.chance(1, 2) {
                            machine.append(&log, batch(&[("k9", &"f".repeat(200))])).unwrap();
                        }
                        machine.coordinator_append(&log, marker(1, 0, committed, START_MS)).unwrap();
                        sequence += 1;
                    }
                    _ => {
                        machine
                            .append(&log, batch_with(BuilderOptions::default(), START_MS, &[(&key, &value)]))
                            .unwrap();
                    }
                }
            }
            directory.flusher().step();
            expected = table(&visible(&log));
            if rng.chance(1, 2) {
                machine.clock.advance_ms(15_000);
                directory.step(machine.clock.now());
            }
            assert_eq!(table(&visible(&log)), expected, "seed {seed} life {life}");
            drop((log, directory));
            machine.files.crash(&mut rng);
        }
    }
}
