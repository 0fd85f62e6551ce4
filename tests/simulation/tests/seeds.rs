//! The simulation as a test: many seeds with nothing wrong, the same trace for the same seed, and flaws that the checks must see.

use simulation::{Flaw, Report, run};

const SEEDS: u64 = 200;
/// Among so many seeds a flaw must show.
const SEEDS_FOR_A_FLAW: u64 = 30;

#[test]
fn nothing_is_lost_and_nothing_counted_twice_without_cause() {
    let (mut crashes, mut without_crash, mut repeated) = (0, 0, 0);
    for seed in 0..SEEDS {
        let report = run(seed, Flaw::None, false);
        assert!(report.violation.is_none(), "{}", text(&report));
        crashes += report.crashes;
        repeated += report.counted.repeated;
        if report.crashes == 0 {
            without_crash += 1;
            assert_eq!((report.counted.repeated, report.counted.allowed), (0, 0), "{}", text(&report));
        }
    }
    // The seeds are worth something only if they crash, also while there is something to lose, and sometimes do not.
    assert!(crashes > SEEDS as u32 && without_crash > 10 && repeated > 0, "{crashes} {without_crash} {repeated}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hashes = |seed| (run(seed, Flaw::None, false).trace_hash, run(seed, Flaw::None, false).trace_hash);
    let (first, again): (Vec<u64>, Vec<u64>) = (1_000..1_020).map(hashes).unzip();
    assert_eq!(first, again);
    let mut different = first;
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 20);
}

#[test]
fn acknowledging_before_syncing_is_seen() {
    let found = violations(Flaw::DurabilityOfProcess);
    let is_loss = |violation: &&String| violation.contains("acknowledged or shown") || violation.contains("is gone");
    assert!(found.iter().any(|violation| is_loss(&violation)), "{found:#?}");
}

#[test]
fn words_that_are_dropped_are_seen() {
    let found = violations(Flaw::DropsWords);
    assert!(found.iter().any(|violation| violation.contains("counts")), "{found:#?}");
}

#[test]
fn words_counted_again_without_cause_are_seen() {
    let found = violations(Flaw::NoAllowance);
    assert!(found.iter().any(|violation| violation.contains("more may have been counted")), "{found:#?}");
}

fn violations(flaw: Flaw) -> Vec<String> {
    (0..SEEDS_FOR_A_FLAW).filter_map(|seed| run(seed, flaw, false).violation).collect()
}

fn text(report: &Report) -> String {
    format!(
        "seed {}: {:?}\n{}\nagain with: cargo run --release -p simulation -- --seed {0} --verbose",
        report.seed,
        report.violation,
        report.last_events.join("\n")
    )
}
