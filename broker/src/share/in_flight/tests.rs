//! The window against a model that has every offset on its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const LIMIT: i16 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Available,
    Acquired(u8, i64),
    Settling(ChangeId, i8, u8, i64),
    Acknowledged,
    Archived,
}

/// State and delivery count of each offset that was handed out and is not below the start.
#[derive(Clone, Debug, Default)]
struct Model {
    start: Offset,
    next: Offset,
    cells: BTreeMap<Offset, (Cell, i16)>,
}

impl Model {
    fn advance(&mut self) {
        while matches!(self.cells.get(&self.start), Some((Cell::Acknowledged | Cell::Archived, _))) {
            self.cells.remove(&self.start);
            self.start += 1;
        }
    }

    fn acquire(
        &mut self,
        member: u8,
        until: i64,
        take: &Take,
        from: Offset,
        batches: &[LogBatch],
    ) -> Vec<(Offset, i16)> {
        let (mut acquired, mut at, mut taken) = (Vec::new(), from, 0);
        for batch in batches {
            if taken >= take.max_records {
                break;
            }
            let void = if batch.is_void { at..batch.last + 1 } else { at..batch.first };
            for offset in void {
                self.void(offset);
            }
            at = batch.last + 1;
            if batch.is_void {
                continue;
            }
            let (known, mut is_full) = (self.next, false);
            for offset in batch.first.max(self.start)..=batch.last {
                let enough = taken >= take.max_records;
                if offset < known {
                    // Runs are taken whole, unless the mode is strict.
                    let goes_on = acquired.last().is_some_and(|(before, _)| before + 1 == offset);
                    let is_run = self.cells[&offset].0 == Cell::Available
                        && goes_on
                        && acquired.last().map(|(_, count): &(Offset, i16)| *count) == Some(self.cells[&offset].1 + 1);
                    if enough && (take.is_strict || !is_run) {
                        is_full = true;
                        break;
                    }
                    if self.cells[&offset].0 == Cell::Available {
                        let count = self.cells[&offset].1 + 1;
                        self.cells.insert(offset, (Cell::Acquired(member, until), count));
                        acquired.push((offset, count));
                        taken += 1;
                    }
                }
            }
            if is_full || taken >= take.max_records || batch.last < known {
                continue;
            }
            let room = take.max_window - (self.next - self.start);
            if room <= 0 {
                break;
            }
            let mut limit = if take.is_strict { room.min(take.max_records - taken) } else { i64::MAX };
            for offset in self.next..=batch.last {
                if offset < batch.first {
                    self.void(offset);
                    continue;
                }
                if limit == 0 {
                    break;
                }
                limit -= 1;
                self.cells.insert(offset, (Cell::Acquired(member, until), 1));
                acquired.push((offset, 1));
                taken += 1;
                self.next = offset + 1;
            }
            if self.next <= batch.last {
                break;
            }
        }
        self.advance();
        acquired
    }

    fn void(&mut self, offset: Offset) {
        if offset < self.start {
            return;
        }
        if offset >= self.next {
            for hole in self.next..=offset {
                self.cells.insert(hole, (Cell::Archived, 0));
            }
            self.next = offset + 1;
        } else if let Some((cell @ Cell::Available, _)) = self.cells.get_mut(&offset) {
            *cell = Cell::Archived;
        }
    }

    fn acknowledge(
        &mut self,
        change: ChangeId,
        member: u8,
        told: &[Acknowledgement],
        until: i64,
    ) -> Option<Vec<(Offset, i8)>> {
        for told in told {
            for offset in told.first.max(self.start)..=told.last {
                if !matches!(self.cells.get(&offset), Some((Cell::Acquired(owner, _), _)) if *owner == member) {
                    return None;
                }
            }
            if told.last >= self.next {
                return None;
            }
        }
        let mut changed = Vec::new();
        for told in told {
            for offset in told.first.max(self.start)..=told.last {
                let Some((cell, count)) = self.cells.get_mut(&offset) else { continue };
                let Cell::Acquired(owner, before) = *cell else { continue };
                let to = match told.kind {
                    AcknowledgeType::Accept => ACKNOWLEDGED,
                    AcknowledgeType::Gap | AcknowledgeType::Reject => ARCHIVED,
                    AcknowledgeType::Release if *count >= LIMIT => ARCHIVED,
                    AcknowledgeType::Release => AVAILABLE,
                    AcknowledgeType::Renew => {
                        *cell = Cell::Acquired(owner, until);
                        continue;
                    }
                };
                *cell = Cell::Settling(change, to, owner, before);
                changed.push((offset, to));
            }
        }
        Some(changed)
    }

    fn unlock(&mut self, is_off: impl Fn(u8, i64) -> bool) {
        for (cell, count) in self.cells.values_mut() {
            if let Cell::Acquired(owner, until) = cell
                && is_off(*owner, *until)
            {
                *cell = if *count >= LIMIT { Cell::Archived } else { Cell::Available };
            }
        }
        self.advance();
    }

    fn settle(&mut self, change: ChangeId, is_persisted: bool) {
        for (cell, _) in self.cells.values_mut() {
            if let Cell::Settling(of, to, owner, until) = *cell
                && of == change
            {
                *cell = match (is_persisted, to) {
                    (false, _) => Cell::Acquired(owner, until),
                    (true, ACKNOWLEDGED) => Cell::Acknowledged,
                    (true, ARCHIVED) => Cell::Archived,
                    (true, _) => Cell::Available,
                };
            }
        }
        self.advance();
    }

    fn check(&self, window: &InFlight) {
        assert_eq!((window.start, window.next), (self.start, self.next));
        let mut at = window.start;
        let mut before: Option<&Run> = None;
        for (first, run) in &window.runs {
            assert_eq!(*first, at, "a hole in {window:?}");
            assert!(before.is_none_or(|before| (&before.state, before.count) != (&run.state, run.count)), "{window:?}");
            for offset in *first..=run.last {
                let cell = match &run.state {
                    State::Available => Cell::Available,
                    State::Acquired { member, until } => Cell::Acquired(number(member), *until),
                    State::Settling { change, to, member, until } => {
                        Cell::Settling(*change, *to, number(member), *until)
                    }
                    State::Acknowledged => Cell::Acknowledged,
                    State::Archived => Cell::Archived,
                };
                assert_eq!(Some(&(cell, run.count)), self.cells.get(&offset), "offset {offset}");
            }
            (at, before) = (run.last + 1, Some(run));
        }
        assert_eq!(at, window.next);
    }
}

fn number(member: &str) -> u8 {
    member.parse().unwrap()
}

fn name(member: u8) -> Arc<str> {
    Arc::from(member.to_string())
}

fn expand(acquired: &[Acquired]) -> Vec<(Offset, i16)> {
    acquired.iter().flat_map(|of| (of.first..=of.last).map(|offset| (offset, of.count))).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Acquire { member: u8, max: i64, strict: bool, sizes: Vec<(i64, i64, bool)> },
    Acknowledge { member: u8, back: i64, size: i64, kind: i8 },
    Settle { persisted: bool },
    Expire { later: i64 },
    Release { member: u8 },
    Trim { more: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop::collection::vec((0..3_i64, 1..6_i64, prop::bool::weighted(0.15)), 1..4);
    prop_oneof![
        4 => (0..3_u8, 1..12_i64, any::<bool>(), sizes)
            .prop_map(|(member, max, strict, sizes)| Step::Acquire { member, max, strict, sizes }),
        6 => (0..3_u8, 0..20_i64, 1..6_i64, 0..5_i8)
            .prop_map(|(member, back, size, kind)| Step::Acknowledge { member, back, size, kind }),
        3 => prop::bool::weighted(0.8).prop_map(|persisted| Step::Settle { persisted }),
        1 => (0..8_i64).prop_map(|later| Step::Expire { later }),
        1 => (0..3_u8).prop_map(|member| Step::Release { member }),
        1 => (0..4_i64).prop_map(|more| Step::Trim { more }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_window_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let (mut window, mut model) = (InFlight::new(0), Model::default());
        let (mut open, mut change, mut now) = (Vec::new(), 0, 0);
        for step in steps {
            match step {
                Step::Acquire { member, max, strict, sizes } => {
                    let Some(from) = window.next_fetch(30) else { continue };
                    let mut at = from;
                    let batches: Vec<LogBatch> = sizes.iter().map(|(hole, size, is_void)| {
                        let first = at + hole;
                        at = first + size;
                        LogBatch { first, last: at - 1, is_void: *is_void }
                    }).collect();
                    let take = Take {
                        member: name(member), until: now + 10, max_records: max, is_strict: strict, batch_size: 4, max_window: 30,
                    };
                    let acquired = window.acquire(&take, from, &batches);
                    prop_assert_eq!(expand(&acquired), model.acquire(member, now + 10, &take, from, &batches));
                    if strict {
                        prop_assert!(expand(&acquired).len() as i64 <= max);
                    }
                }
                Step::Acknowledge { member, back, size, kind } => {
                    let first = (window.next - back).max(0);
                    let told = [Acknowledgement { first, last: first + size - 1, kind: AcknowledgeType::of(kind).unwrap() }];
                    let before = window.clone();
                    let done = window.acknowledge(change, &name(member), &told, now + 10, LIMIT);
                    let expected = model.acknowledge(change, member, &told, now + 10);
                    prop_assert_eq!(done.is_ok(), expected.is_some());
                    match (done, expected) {
                        (Ok(changed), Some(expected)) => {
                            let changed: Vec<(Offset, i8)> = changed
                                .iter()
                                .flat_map(|of| (of.first..=of.last).map(|offset| (offset, of.state)))
                                .collect();
                            prop_assert_eq!(&changed, &expected);
                            if !changed.is_empty() {
                                open.push(change);
                            }
                        }
                        _ => prop_assert_eq!(&window, &before),
                    }
                    change += 1;
                }
                Step::Settle { persisted } => {
                    if let Some(change) = open.pop() {
                        window.settle(change, persisted);
                        model.settle(change, persisted);
                    }
                }
                Step::Expire { later } => {
                    now += later;
                    window.expire(now, LIMIT);
                    model.unlock(|_, until| until <= now);
                    prop_assert!(window.next_deadline().is_none_or(|at| at > now));
                }
                Step::Release { member } => {
                    window.release(&name(member), LIMIT);
                    model.unlock(|owner, _| owner == member);
                }
                Step::Trim { more } => {
                    let to = window.start + more;
                    window.trim(to);
                    if to > model.start {
                        model.cells = model.cells.split_off(&to);
                        model.start = to;
                        model.next = model.next.max(to);
                        model.advance();
                    }
                }
            }
            model.check(&window);
        }
    }

    #[test]
    fn a_restored_window_has_what_was_persisted(
        start in 0..5_i64,
        sizes in prop::collection::vec((0..3_i64, 1..4_i64, prop::sample::select(vec![AVAILABLE, ACKNOWLEDGED, ARCHIVED]), 0..4_i16), 0..6),
    ) {
        let mut at = start;
        let batches: Vec<StateBatch> = sizes.into_iter().map(|(hole, size, state, count)| {
            let first = at + hole;
            at = first + size;
            StateBatch { first, last: at - 1, state, count }
        }).collect();
        let window = InFlight::restore(start, &batches);
        let done = |offset: Offset| batches.iter().any(|of| (of.first..=of.last).contains(&offset) && of.state != AVAILABLE);
        let expected = (start..at).find(|offset| !done(*offset)).unwrap_or(at);
        prop_assert_eq!((window.start(), window.next()), (expected, at));
        prop_assert_eq!(window.completed(), (expected..at).filter(|offset| done(*offset)).count() as i64);
        prop_assert!(!window.has_locks());
    }
}

fn take(member: &str, max_records: i64) -> Take {
    Take { member: Arc::from(member), until: 10, max_records, is_strict: false, batch_size: 100, max_window: 1_000 }
}

fn whole(first: Offset, last: Offset) -> LogBatch {
    LogBatch { first, last, is_void: false }
}

#[test]
fn records_are_archived_after_they_were_handed_out_too_often() {
    let mut window = InFlight::new(0);
    for count in 1..=LIMIT {
        assert_eq!(window.acquire(&take("a", 9), 0, &[whole(0, 4)]), [Acquired { first: 0, last: 4, count }]);
        let state = if count == LIMIT { ARCHIVED } else { AVAILABLE };
        assert_eq!(window.expire(10, LIMIT), [StateBatch { first: 0, last: 4, state, count }]);
    }
    assert_eq!((window.start(), window.next()), (5, 5));
}

#[test]
fn the_start_waits_for_what_is_on_its_way() {
    let mut window = InFlight::new(0);
    window.acquire(&take("a", 9), 0, &[whole(0, 4)]);
    let accept = |first, last| [Acknowledgement { first, last, kind: AcknowledgeType::Accept }];
    let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a"), Arc::from("b"));
    assert_eq!(window.acknowledge(0, &b, &accept(0, 1), 0, LIMIT), Err(ErrorCode::InvalidRecordState));
    assert_eq!(window.acknowledge(0, &a, &accept(3, 5), 0, LIMIT), Err(ErrorCode::InvalidRequest));
    window.acknowledge(0, &a, &accept(0, 1), 0, LIMIT).unwrap();
    assert_eq!((window.start(), window.completed()), (0, 2));
    window.settle(0, true);
    assert_eq!(window.start(), 2);
    // What is below the start is settled for good.
    assert_eq!(window.acknowledge(1, &a, &accept(0, 1), 0, LIMIT), Ok(Vec::new()));
}

#[test]
fn a_full_window_hands_out_only_what_is_released() {
    let mut window = InFlight::new(0);
    let take = Take { max_window: 4, ..take("a", 100) };
    window.acquire(&take, 0, &[whole(0, 2), whole(3, 5), whole(6, 8)]);
    assert_eq!((window.next(), window.next_fetch(4)), (6, None));
    let release = [Acknowledgement { first: 1, last: 1, kind: AcknowledgeType::Release }];
    window.acknowledge(0, &take.member, &release, 0, LIMIT).unwrap();
    window.settle(0, true);
    assert_eq!(window.next_fetch(4), Some(1));
    assert_eq!(window.acquire(&take, 1, &[whole(0, 2), whole(3, 5)]), [Acquired { first: 1, last: 1, count: 2 }]);
}
