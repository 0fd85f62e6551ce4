//! Appending: offsets, checks, roll, what a restart finds.

use std::sync::Arc;

use base::Clock;
use protocol::api::Pieces;
use protocol::record::{BatchHeader, BuilderOptions, batches};
use storage::error::ErrorKind;
use storage::files::{Fault, Files};
use storage::log::{AppendErrorKind, AppendOptions, Durability, PartitionLog, ProducerInfo, ReadLimit};

use super::helper::*;

#[test]
fn batches_get_offsets_epoch_and_come_back_after_a_clean_restart() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    assert!(!machine.files.exists(std::path::Path::new("/data/orders-0")).unwrap());
    let options = AppendOptions::client(3, machine.clock.now());
    let first = log.append(&Pieces::from(batch(&[("a", "1"), ("b", "2")])), options).unwrap();
    let second = log.append(&Pieces::from(batch(&[("a", "3")])), options).unwrap();
    assert_eq!((first.base_offset, first.last_offset, second.base_offset), (0, 1, 2));
    let expected = ["0:a=1", "1:b=2", "2:a=3"];
    assert_eq!(records(&log, ReadLimit::HighWatermark), expected);
    directory.close().unwrap();
    drop(directory);

    let directory = machine.open();
    assert!(directory.recovery_report().clean);
    let log = directory.partition(&partition()).unwrap().unwrap();
    assert_eq!(records(&log, ReadLimit::HighWatermark), expected);
    assert_eq!(log.topic_id(), uuid::Uuid::from_u128(7));
    assert_eq!(log.latest_leader_epoch(), 3);
    let bytes = log.read(0, 1 << 20, ReadLimit::LogEnd, true).unwrap().records.to_bytes().unwrap();
    let headers: Vec<BatchHeader> = batches(&bytes).map(|batch| *batch.unwrap().header()).collect();
    assert_eq!(
        headers.iter().map(|header| (header.base_offset, header.leader_epoch)).collect::<Vec<_>>(),
        [(0, 3), (2, 3)]
    );
}

#[test]
fn power_moves_the_high_watermark_after_the_sync_only() {
    let machine = Machine::new(Durability::Power);
    let directory = machine.open();
    let log = machine.partition(&directory);
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&calls);
    log.on_advance(std::sync::Arc::new(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }));
    machine.append(&log, batch(&[("a", "1")])).unwrap();
    assert_eq!((log.offsets().log_end, log.offsets().high_watermark), (1, 0));
    assert!(records(&log, ReadLimit::HighWatermark).is_empty());
    assert!(directory.flusher().has_work());
    directory.flusher().step();
    assert_eq!(log.offsets().high_watermark, 1);
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(!directory.flusher().has_work());
}

#[test]
fn log_append_time_stamps_the_batch() {
    let machine = Machine::new(Durability::Process).with("message.timestamp.type", "LogAppendTime");
    let directory = machine.open();
    let log = machine.partition(&directory);
    machine.clock.advance_ms(77);
    let info = machine.append(&log, batch(&[("a", "1"), ("b", "2")])).unwrap();
    assert_eq!(info.log_append_time_ms, START_MS + 77);
    let bytes = log.read(0, 1 << 20, ReadLimit::LogEnd, true).unwrap().records.to_bytes().unwrap();
    let batch = batches(&bytes).next().unwrap().unwrap();
    batch.verify_crc().unwrap();
    assert!(batch.records().unwrap().iter().all(|record| record.unwrap().timestamp == START_MS + 77));
}

#[test]
fn codec_of_the_topic_rebuilds_the_batch() {
    let machine = Machine::new(Durability::Process).with("compression.type", "zstd");
    let directory = machine.open();
    let log = machine.partition(&directory);
    machine.append(&log, batch(&[("a", "1"), ("b", "2")])).unwrap();
    assert_eq!(records(&log, ReadLimit::LogEnd), ["0:a=1", "1:b=2"]);
    let bytes = log.read(0, 1 << 20, ReadLimit::LogEnd, true).unwrap().records.to_bytes().unwrap();
    let header = BatchHeader::read(&bytes).unwrap();
    assert_eq!(header.attributes.codec().unwrap(), protocol::record::Compression::Zstd);
}

#[test]
fn codec_of_the_topic_compresses_at_its_level() {
    let value: String = (0..20_000).map(|number| format!("{} ", number * number % 977)).collect();
    let stored = |settings: [(&'static str, &'static str); 2]| {
        let machine = settings
            .into_iter()
            .fold(Machine::new(Durability::Process), |machine, (name, value)| machine.with(name, value));
        let directory = machine.open();
        let log = machine.partition(&directory);
        machine.append(&log, batch(&[("k", &value)])).unwrap();
        assert_eq!(records(&log, ReadLimit::LogEnd), [format!("0:k={value}")]);
        log.read(0, 1 << 20, ReadLimit::LogEnd, true).unwrap().records.len_bytes()
    };
    for (codec, setting, low, high) in
        [("gzip", "compression.gzip.level", "1", "9"), ("zstd", "compression.zstd.level", "-50", "19")]
    {
        let sizes = [low, high].map(|level| stored([("compression.type", codec), (setting, level)]));
        assert!(sizes[1] < sizes[0], "{codec}: {sizes:?} bytes at levels {low} and {high}");
    }
}

#[test]
fn segments_roll_by_size_and_by_the_time_in_the_data() {
    let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "200").with("segment.ms", "1000");
    let directory = machine.open();
    let log = machine.partition(&directory);
    for _ in 0..5 {
        machine.append(&log, batch(&[("k", "0123456789")])).unwrap();
    }
    let logs = |names: Vec<String>| names.into_iter().filter(|name| name.ends_with(".log")).collect::<Vec<_>>();
    let expected = ["00000000000000000000.log", "00000000000000000002.log", "00000000000000000004.log"];
    assert_eq!(logs(machine.names()), expected);
    machine.append(&log, batch_with(BuilderOptions::default(), START_MS + 1_001, &[("k", "v")])).unwrap();
    assert_eq!(logs(machine.names()).last().unwrap(), "00000000000000000005.log");
    assert_eq!(records(&log, ReadLimit::LogEnd).len(), 6);
    assert_eq!(records_from(&log, 3, ReadLimit::LogEnd, 1).len(), 3);
}

#[test]
fn producers_are_checked_and_repeats_answered_from_memory() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    let send = |epoch, sequence| {
        let options = producer(9, epoch, sequence);
        machine.append(&log, batch_with(options, START_MS, &[("a", "1"), ("b", "2")]))
    };
    let kind = |result: Result<_, storage::log::AppendError>| result.map(|_| ()).unwrap_err().kind;
    assert_eq!(send(0, 5).unwrap().base_offset, 0);
    assert_eq!(send(0, 7).unwrap().base_offset, 2);
    assert_eq!(kind(send(0, 10)), AppendErrorKind::OutOfOrderSequence);
    let repeat = send(0, 5).unwrap();
    assert_eq!((repeat.duplicate, repeat.base_offset, repeat.log_append_time_ms), (true, 0, START_MS + 1));
    for sequence in [9, 11, 13, 15] {
        send(0, sequence).unwrap();
    }
    assert_eq!(kind(send(0, 5)), AppendErrorKind::OutOfOrderSequence);
    assert!(send(0, 7).unwrap().duplicate);
    assert_eq!(kind(send(1, 3)), AppendErrorKind::OutOfOrderSequence);
    send(1, 0).unwrap();
    assert_eq!(kind(send(0, 17)), AppendErrorKind::InvalidProducerEpoch);
    directory.close().unwrap();
    drop(directory);

    // Only the last batch is remembered over a restart.
    let directory = machine.open();
    let log = machine.partition(&directory);
    let again = machine.append(&log, batch_with(producer(9, 1, 0), START_MS, &[("a", "1"), ("b", "2")])).unwrap();
    assert!(again.duplicate);
}

#[test]
fn sequences_wrap_to_zero() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    let send = |sequence, count: usize| {
        machine.append(&log, batch_with(producer(9, 0, sequence), START_MS, &vec![("a", "1"); count]))
    };
    send(i32::MAX - 1, 4).unwrap();
    assert!(send(i32::MAX - 1, 4).unwrap().duplicate);
    assert_eq!(send(2, 1).unwrap().base_offset, 4);
}

#[test]
fn open_transaction_holds_the_last_stable_offset_and_an_aborted_one_is_listed() {
    for durability in [Durability::Process, Durability::Power] {
        let machine = Machine::new(durability);
        let directory = machine.open();
        let log = machine.partition(&directory);
        let flush = || directory.flusher().step();
        machine.append(&log, batch(&[("p", "0")])).unwrap();
        machine.append(&log, batch_with(transactional(1, 0, 0), START_MS, &[("a", "1")])).unwrap();
        machine.append(&log, batch_with(transactional(2, 0, 0), START_MS, &[("b", "2")])).unwrap();
        flush();
        assert_eq!((log.offsets().last_stable, log.offsets().high_watermark), (1, 3));
        let plain = machine.append(&log, batch_with(producer(1, 0, 1), START_MS, &[("a", "x")]));
        assert_eq!(plain.unwrap_err().kind, AppendErrorKind::InvalidTransactionState);
        machine.coordinator_append(&log, marker(1, 0, false, START_MS)).unwrap();
        flush();
        assert_eq!(log.offsets().last_stable, 2);
        machine.coordinator_append(&log, marker(2, 0, true, START_MS)).unwrap();
        flush();
        assert_eq!(log.offsets().last_stable, 5);
        let read = log.read(0, 1 << 20, ReadLimit::LastStable, true).unwrap();
        let aborted: Vec<_> = read.aborted.unwrap().iter().map(|one| (one.producer_id, one.first_offset)).collect();
        assert_eq!(aborted, [(1, 1)]);
        assert!(machine.names().contains(&"00000000000000000000.txnindex".to_owned()));
        let late = machine.coordinator_append(&log, marker(1, -1, true, START_MS));
        assert_eq!(late.unwrap_err().kind, AppendErrorKind::InvalidProducerEpoch);
    }
}

#[test]
fn full_disk_poisons_until_the_partition_is_reopened() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    machine.append(&log, batch(&[("a", "1")])).unwrap();
    machine.files.set_capacity(Some(machine.files.used_bytes() + 30));
    assert_eq!(machine.append(&log, batch(&[("a", "2")])).unwrap_err().kind, AppendErrorKind::Storage);
    machine.files.set_capacity(None);
    assert_eq!(machine.append(&log, batch(&[("a", "2")])).unwrap_err().kind, AppendErrorKind::Storage);
    assert_eq!(log.failure().unwrap().kind(), ErrorKind::Full);
    assert_eq!(records(&log, ReadLimit::LogEnd), ["0:a=1"]);
    let log = directory.reopen_partition(&partition()).unwrap().unwrap();
    machine.append(&log, batch(&[("a", "3")])).unwrap();
    assert_eq!(records(&log, ReadLimit::LogEnd), ["0:a=1", "1:a=3"]);
}

#[test]
fn failed_sync_poisons_and_never_acknowledges() {
    let machine = Machine::new(Durability::Power);
    let directory = machine.open();
    let log = machine.partition(&directory);
    machine.append(&log, batch(&[("a", "1")])).unwrap();
    machine.files.fail_next(Fault::Sync, ".log", std::io::ErrorKind::Other);
    assert_eq!(directory.flusher().step().failed, 1);
    assert_eq!(log.offsets().high_watermark, 0);
    assert_eq!(machine.append(&log, batch(&[("a", "2")])).unwrap_err().kind, AppendErrorKind::Storage);
}

#[test]
fn directory_in_use_is_refused() {
    let machine = Machine::new(Durability::Process);
    let _directory = machine.open();
    assert_eq!(machine.try_open().err().unwrap().kind(), ErrorKind::InUse);
}

#[test]
fn older_leader_epoch_is_fenced() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    log.start_leader_epoch(4).unwrap();
    assert_eq!(machine.append(&log, batch(&[("a", "1")])).unwrap_err().kind, AppendErrorKind::FencedLeaderEpoch);
    log.append(&Pieces::from(batch(&[("a", "1")])), AppendOptions::client(5, machine.clock.now())).unwrap();
    assert_eq!(log.leader_epoch_end_offset(4).end_offset, 0);
    assert_eq!(log.leader_epoch_end_offset(5).end_offset, 1);
}

/// The second version of the transaction protocol: markers carry a higher epoch than the data, and a producer of whom
/// nothing is known begins at sequence 0.
#[test]
fn second_transaction_version_asks_for_more() {
    let machine = Machine::new(Durability::Process);
    let directory = machine.open();
    let log = machine.partition(&directory);
    let now = machine.clock.now();
    let send = |epoch, sequence| {
        let sent = batch_with(transactional(4, epoch, sequence), START_MS, &[("a", "1")]);
        log.append(&Pieces::from(sent), AppendOptions { transaction_version: 2, ..AppendOptions::client(0, now) })
    };
    let end = |epoch, coordinator_epoch| {
        let marker = marker_of_coordinator(4, epoch, true, START_MS, coordinator_epoch);
        let options = AppendOptions { transaction_version: 2, ..AppendOptions::coordinator(0, now) };
        log.append(&Pieces::from(marker), options)
    };
    let kind = |result: Result<_, storage::log::AppendError>| result.map(|_| ()).unwrap_err().kind;
    assert_eq!(kind(send(0, 3)), AppendErrorKind::OutOfOrderSequence);
    assert_eq!(send(0, 0).unwrap().base_offset, 0);
    assert_eq!(kind(end(0, 5)), AppendErrorKind::InvalidProducerEpoch);
    assert_eq!(log.offsets().last_stable, 0);
    end(1, 5).unwrap();
    assert_eq!(log.offsets().last_stable, 2);
    // Sent again, for the coordinator did not hear the answer: it is written again and changes nothing.
    end(1, 5).unwrap();
    assert_eq!((log.offsets().last_stable, log.offsets().log_end), (3, 3));
    assert_eq!(kind(end(2, 4)), AppendErrorKind::TransactionCoordinatorFenced);
    assert_eq!(kind(send(0, 1)), AppendErrorKind::InvalidProducerEpoch);
    send(1, 0).unwrap();
    assert_eq!(log.producer(4).unwrap().current_transaction_first_offset, 3);
}

/// Producers, open transactions and the newest batch of each come back from snapshots after a clean shutdown, and from
/// the batches after a crash.
#[test]
fn producers_and_open_transactions_survive_restarts() {
    for clean in [true, false] {
        let machine = Machine::new(Durability::Process).with("internal.segment.bytes", "300");
        let directory = machine.open();
        let log = machine.partition(&directory);
        for sequence in 0..6 {
            machine.append(&log, batch_with(producer(1, 2, sequence), START_MS, &[("a", "1")])).unwrap();
        }
        machine.append(&log, batch_with(transactional(2, 0, 0), START_MS, &[("b", "1")])).unwrap();
        for sequence in 6..12 {
            machine.append(&log, batch_with(producer(1, 2, sequence), START_MS, &[("a", "1")])).unwrap();
        }
        machine.append(&log, batch_with(transactional(3, 0, 0), START_MS, &[("c", "1")])).unwrap();
        machine.coordinator_append(&log, marker(3, 0, false, START_MS)).unwrap();
        // Markers are counted from the opening of the log.
        let producers_of = |log: &PartitionLog| {
            log.producers().into_iter().map(|info| ProducerInfo { markers: 0, ..info }).collect::<Vec<_>>()
        };
        let (producers, offsets) = (producers_of(&log), log.offsets());
        assert_eq!((offsets.last_stable, offsets.high_watermark), (6, 15));
        if clean {
            directory.close().unwrap();
        }
        drop((log, directory));
        machine.files.kill();
        let directory = machine.open();
        let log = machine.partition(&directory);
        assert_eq!((producers_of(&log), log.offsets()), (producers, offsets), "clean: {clean}");
        assert!(machine.append(&log, batch_with(producer(1, 2, 11), START_MS, &[("a", "1")])).unwrap().duplicate);
        let read = log.read(13, 1 << 20, ReadLimit::LogEnd, true).unwrap();
        assert_eq!(read.aborted, None);
        machine.coordinator_append(&log, marker(2, 0, true, START_MS)).unwrap();
        assert_eq!(log.offsets().last_stable, 16);
        let read = log.read(13, 1 << 20, ReadLimit::LastStable, true).unwrap();
        let aborted: Vec<_> = read.aborted.unwrap().iter().map(|one| (one.producer_id, one.first_offset)).collect();
        assert_eq!(aborted, [(3, 13)]);
    }
}

/// Group commit: one step syncs what all partitions have appended, however often, and moves each high watermark once.
#[test]
fn one_step_commits_for_all_who_wait() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let machine = Machine::new(Durability::Power);
    let directory = machine.open();
    let logs: Vec<_> = (0..20)
        .map(|number| {
            let name = base::TopicPartition::new("orders", number);
            directory.create_partition(&name, uuid::Uuid::from_u128(7), machine.log_config()).unwrap()
        })
        .collect();
    let advances = Arc::new(AtomicUsize::new(0));
    for log in &logs {
        let advances = Arc::clone(&advances);
        log.on_advance(Arc::new(move || _ = advances.fetch_add(1, Ordering::SeqCst)));
        for value in ["1", "2", "3"] {
            machine.append(log, batch(&[("a", value)])).unwrap();
        }
        assert_eq!(log.offsets().high_watermark, 0);
    }
    let step = directory.flusher().step();
    assert_eq!((step.partitions, step.failed, advances.load(Ordering::SeqCst)), (20, 0, 20));
    assert!(logs.iter().all(|log| log.offsets().high_watermark == 3));
    assert!(!directory.flusher().has_work());
}
