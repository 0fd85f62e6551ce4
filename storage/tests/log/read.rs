//! Reading: limits, files and tail, timestamps.

use protocol::api::Piece;
use protocol::record::BuilderOptions;
use storage::error::ErrorKind;
use storage::log::{Durability, ReadLimit};

use super::helper::*;

#[test]
fn tail_and_files_give_the_same_records() {
    for tail_bytes in [0, 700, 1 << 20] {
        let machine =
            Machine { tail_bytes, ..Machine::new(Durability::Process) }.with("internal.segment.bytes", "1000");
        let directory = machine.open();
        let log = machine.partition(&directory);
        let mut expected = Vec::new();
        for index in 0..100 {
            let value = format!("value {index}");
            // The tail is kept for those who read at the end.
            assert!(log.read(index * 2, 1, ReadLimit::LogEnd, true).unwrap().records.is_empty());
            machine.append(&log, batch(&[("a", &value), ("b", &value)])).unwrap();
            expected.push(format!("{}:a={value}", index * 2));
            expected.push(format!("{}:b={value}", index * 2 + 1));
        }
        for max_bytes in [1, 150, 1_000, 1 << 20] {
            assert_eq!(records_from(&log, 0, ReadLimit::LogEnd, max_bytes), expected, "tail {tail_bytes}, {max_bytes}");
            assert_eq!(records_from(&log, 101, ReadLimit::LogEnd, max_bytes), expected[101..]);
        }
        let last = log.read(198, 1 << 20, ReadLimit::LogEnd, true).unwrap().records;
        assert_eq!(last.iter().all(|piece| matches!(piece, Piece::Memory(_))), tail_bytes > 0);
    }
}

#[test]
fn the_tail_is_kept_from_the_first_read_at_the_end_on() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    let in_memory = |offset: i64| {
        let records = log.read(offset, 1 << 20, ReadLimit::LogEnd, true).unwrap().records;
        records.iter().all(|piece| matches!(piece, Piece::Memory(_)))
    };
    for _ in 0..3 {
        machine.append(&log, batch(&[("a", "1")])).unwrap();
    }
    assert!(!in_memory(1), "nobody had read when it was appended; this read goes to the end");
    machine.append(&log, batch(&[("a", "1")])).unwrap();
    assert!(in_memory(3) && !in_memory(2));
}

#[test]
fn reads_outside_the_log_are_refused_and_at_its_end_empty() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    assert!(log.read(0, 1, ReadLimit::LogEnd, true).unwrap().records.is_empty());
    assert_eq!(log.read(1, 1, ReadLimit::LogEnd, true).unwrap_err().kind(), ErrorKind::OutOfRange);
    for _ in 0..4 {
        machine.append(&log, batch(&[("a", "1")])).unwrap();
    }
    assert_eq!(log.delete_records(2).unwrap(), 2);
    assert_eq!(log.read(1, 1, ReadLimit::LogEnd, true).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(records(&log, ReadLimit::LogEnd), ["2:a=1", "3:a=1"]);
    assert_eq!(log.delete_records(5).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(log.delete_records(-1).unwrap(), 4);
}

#[test]
fn nothing_comes_when_the_first_batch_does_not_fit() {
    for tail_bytes in [0, 1 << 20] {
        let machine = Machine { tail_bytes, ..Machine::new(Durability::Process) };
        let directory = machine.open();
        let log = machine.partition(&directory);
        machine.append(&log, batch(&[("a", "1")])).unwrap();
        assert!(log.read(0, 10, ReadLimit::LogEnd, false).unwrap().records.is_empty());
        assert_eq!(log.read(0, 10, ReadLimit::LogEnd, true).unwrap().records.len_bytes(), 70);
    }
}

#[test]
fn timestamps_lead_to_the_first_record_at_or_after() {
    let machine =
        Machine::new(Durability::Process).with("internal.segment.bytes", "500").with("index.interval.bytes", "100");
    let directory = machine.open();
    let log = machine.partition(&directory);
    assert_eq!(log.max_timestamp().unwrap(), None);
    for index in 0..50 {
        let options = BuilderOptions::default();
        machine.append(&log, batch_with(options, START_MS + index * 10, &[("a", "1"), ("b", "2")])).unwrap();
    }
    let find = |timestamp| {
        let found = log.offset_for_timestamp(timestamp, ReadLimit::HighWatermark).unwrap();
        found.map(|found| (found.offset, found.timestamp))
    };
    assert_eq!(find(0), Some((0, START_MS)));
    assert_eq!(find(START_MS + 1), Some((1, START_MS + 1)));
    assert_eq!(find(START_MS + 2), Some((2, START_MS + 10)));
    assert_eq!(find(START_MS + 250), Some((50, START_MS + 250)));
    assert_eq!(find(START_MS + 491), Some((99, START_MS + 491)));
    assert_eq!(find(START_MS + 492), None);
    let max = log.max_timestamp().unwrap().unwrap();
    assert_eq!((max.offset, max.timestamp), (99, START_MS + 491));
}
