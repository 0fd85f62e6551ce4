//! The log against a list of records: whatever is appended, rolled, restarted or deleted, reads agree.

use proptest::prelude::*;
use storage::log::{Durability, ReadLimit};

use super::helper::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    DeleteBefore(u8),
    TruncateTo(u8),
    Restart,
    Crash,
    Read { from: u8, max_bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 1..5).prop_map(Step::Append),
        1 => any::<u8>().prop_map(Step::DeleteBefore),
        1 => any::<u8>().prop_map(Step::TruncateTo),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        3 => (any::<u8>(), 1..2_000usize).prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn log_is_a_list(steps in prop::collection::vec(step(), 1..40), tail_bytes in prop_oneof![Just(0usize), Just(600), Just(1 << 20)]) {
        let machine = Machine { tail_bytes, ..Machine::new(Durability::Process) }
            .with("internal.segment.bytes", "400")
            .with("index.interval.bytes", "100");
        let mut directory = machine.open();
        let mut log = machine.partition(&directory);
        let mut list: Vec<String> = Vec::new();
        let mut start = 0usize;
        for step in steps {
            match step {
                Step::Append(values) => {
                    let texts: Vec<String> = values.iter().map(|value| format!("{value}")).collect();
                    let pairs: Vec<(&str, &str)> = texts.iter().map(|text| ("k", text.as_str())).collect();
                    let info = machine.append(&log, batch(&pairs)).unwrap();
                    prop_assert_eq!(info.base_offset as usize, list.len());
                    for text in &texts {
                        list.push(format!("{}:k={text}", list.len()));
                    }
                }
                Step::DeleteBefore(at) => {
                    let at = usize::from(at) % (list.len() + 1);
                    start = start.max(at);
                    prop_assert_eq!(log.delete_records(at as i64).unwrap() as usize, start);
                    directory.close().unwrap();
                    drop((log, directory));
                    directory = machine.open();
                    log = machine.partition(&directory);
                }
                Step::TruncateTo(at) => {
                    let at = start + usize::from(at) % (list.len() - start + 1);
                    log.truncate_to(at as i64).unwrap();
                    // Whole batches go: the log may end before.
                    let end = log.offsets().log_end as usize;
                    prop_assert!(end <= list.len() && (end <= at || at >= list.len()));
                    list.truncate(end);
                    start = start.min(end);
                    prop_assume!(log.offsets().log_start as usize == start);
                }
                Step::Restart => {
                    directory.close().unwrap();
                    drop((log, directory));
                    directory = machine.open();
                    log = machine.partition(&directory);
                }
                Step::Crash => {
                    // Log starts are written by the clock; without that they would be taken back.
                    machine.clock.advance_ms(61_000);
                    directory.step(base::Clock::now(machine.clock.as_ref()));
                    directory.step(base::Clock::now(machine.clock.as_ref()));
                    machine.clock.advance_ms(61_000);
                    directory.step(base::Clock::now(machine.clock.as_ref()));
                    drop((log, directory));
                    machine.files.kill();
                    directory = machine.open();
                    log = machine.partition(&directory);
                }
                Step::Read { from, max_bytes } => {
                    let from = start + usize::from(from) % (list.len() - start + 1);
                    prop_assert_eq!(&records_from(&log, from as i64, ReadLimit::LogEnd, max_bytes), &list[from..]);
                }
            }
            prop_assert_eq!(log.offsets().log_end as usize, list.len());
            prop_assert_eq!(log.offsets().log_start as usize, start);
        }
        prop_assert_eq!(&records(&log, ReadLimit::HighWatermark), &list[start..]);
    }
}
