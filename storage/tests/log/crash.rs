//! Crashes: nothing acknowledged is lost, torn tails are cut, what a crash interrupted is finished.

use base::Rng;
use protocol::record::BuilderOptions;
use storage::log::{Durability, ReadLimit};

use super::helper::*;

/// Appends, flushes, rolls and crashes at random; everything below the high watermark must be there afterwards.
fn run(seed: u64, durability: Durability) {
    let mut rng = Rng::from_seed(seed);
    let machine = Machine::new(durability).with("internal.segment.bytes", "400").with("index.interval.bytes", "60");
    let mut acknowledged: Vec<String> = Vec::new();
    for life in 0..6 {
        let directory = machine.open();
        assert!(directory.recovery_report().offline.is_empty(), "seed {seed}");
        let log = machine.partition(&directory);
        let found = records(&log, ReadLimit::LogEnd);
        assert!(found.len() >= acknowledged.len(), "seed {seed} life {life}: {found:?} lost of {acknowledged:?}");
        assert_eq!(found[..acknowledged.len()], acknowledged, "seed {seed} life {life}");
        assert_eq!(log.offsets().high_watermark, log.offsets().log_end, "seed {seed} life {life}");
        drop(found);
        for step in 0..rng.below(30) {
            match rng.below(5) {
                0 => {
                    directory.flusher().step();
                }
                1 if rng.chance(1, 4) => {
                    machine.clock.advance_ms(70_000);
                    directory.step(base::Clock::now(machine.clock.as_ref()));
                }
                _ => {
                    let value = format!("{life}.{step}");
                    let options = if rng.chance(1, 3) {
                        let next = log.producer(3).map_or(0, |known| known.last_sequence + 1);
                        producer(3, 0, next)
                    } else {
                        BuilderOptions::default()
                    };
                    machine.append(&log, batch_with(options, START_MS, &[("k", &value)])).unwrap();
                }
            }
        }
        acknowledged = records(&log, ReadLimit::HighWatermark);
        if rng.chance(1, 5) {
            directory.close().unwrap();
            acknowledged = records(&log, ReadLimit::LogEnd);
        }
        drop((log, directory));
        match durability {
            Durability::Power => machine.files.crash(&mut rng),
            Durability::Process => machine.files.kill(),
        }
    }
}

#[test]
fn nothing_acknowledged_under_power_is_lost_by_a_power_cut() {
    (0..300).for_each(|seed| run(seed, Durability::Power));
}

#[test]
fn nothing_acknowledged_under_process_is_lost_by_the_end_of_the_process() {
    (0..100).for_each(|seed| run(seed, Durability::Process));
}
