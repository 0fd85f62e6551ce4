//! The in-flight window of one share partition: which records are being worked on, by whom and until when, which are done with.
//!
//! The window goes from the start offset (the first record that is not done with) to the first record that was never handed out. It is kept as
//! runs of neighbours in the same state, so that what is handed out and acknowledged in whole batches costs one entry, and single offsets
//! split a run. A pure state machine: time comes as an argument, and what must be persisted comes back as [`StateBatch`]es.
//!
//! ```text
//!   Available --acquire--> Acquired --accept--> Acknowledged        (the start offset passes these two)
//!       ^                   |  |  \---reject, gap, delivered too often--> Archived
//!       \---release, lock---/  \---renew---> Acquired
//! ```
//!
//! Invariant: the runs tile the window without holes, neighbours differ, and the first run is neither acknowledged nor archived.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Offset;
use protocol::api::ErrorCode;

/// Delivery state of records that may be handed out, as it is persisted.
pub const AVAILABLE: i8 = 0;
/// Delivery state of records that were accepted.
pub const ACKNOWLEDGED: i8 = 2;
/// Delivery state of records that will not be handed out again.
pub const ARCHIVED: i8 = 4;

/// A state of neighbouring records, as it is persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBatch {
    /// Offset of the first.
    pub first: Offset,
    /// Offset of the last.
    pub last: Offset,
    /// [`AVAILABLE`], [`ACKNOWLEDGED`] or [`ARCHIVED`].
    pub state: i8,
    /// How often they were handed out.
    pub count: i16,
}

/// What a member says of records it acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgeType {
    /// There is no such record.
    Gap,
    /// Done.
    Accept,
    /// Somebody else may try.
    Release,
    /// Nobody is to try again.
    Reject,
    /// Still at work: the lock starts anew.
    Renew,
}

impl AcknowledgeType {
    /// The type of this number in requests.
    pub fn of(code: i8) -> Option<Self> {
        Some(match code {
            0 => Self::Gap,
            1 => Self::Accept,
            2 => Self::Release,
            3 => Self::Reject,
            4 => Self::Renew,
            _ => return None,
        })
    }
}

/// Acknowledgement of neighbouring records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Offset of the first.
    pub first: Offset,
    /// Offset of the last.
    pub last: Offset,
    /// What is said of all of them.
    pub kind: AcknowledgeType,
}

/// A batch of the log that may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// Offset of its first record.
    pub first: Offset,
    /// Offset of its last record.
    pub last: Offset,
    /// It has nothing for consumers: a marker, or records of an aborted transaction.
    pub is_void: bool,
}

/// Records that were handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// Offset of the first.
    pub first: Offset,
    /// Offset of the last.
    pub last: Offset,
    /// How often they have been, this time included.
    pub count: i16,
}

/// How much a member takes.
#[derive(Clone, Debug)]
pub struct Take {
    /// Who.
    pub member: Arc<str>,
    /// Until when, in ticks.
    pub until: i64,
    /// Most records; exceeded to the end of a batch, unless `is_strict`.
    pub max_records: i64,
    /// No more than `max_records`, even if that divides a batch.
    pub is_strict: bool,
    /// Best size of what is handed out as one, in records.
    pub batch_size: i64,
    /// Largest window, in records; exceeded to the end of a batch.
    pub max_window: i64,
}

/// Names a change that is on its way to the log.
pub type ChangeId = u64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Available,
    Acquired {
        member: Arc<str>,
        until: i64,
    },
    /// Acknowledged by its member, as it will be (`to`) once that is persisted.
    Settling {
        change: ChangeId,
        to: i8,
        member: Arc<str>,
        until: i64,
    },
    Acknowledged,
    Archived,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    last: Offset,
    state: State,
    count: i16,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    start: Offset,
    next: Offset,
    runs: BTreeMap<Offset, Run>,
}

impl InFlight {
    /// An empty window at `start`.
    pub fn new(start: Offset) -> Self {
        Self { start, next: start, runs: BTreeMap::new() }
    }

    /// The window that was persisted. What lies between `batches` was handed out and not settled: it is available again.
    pub fn restore(start: Offset, batches: &[StateBatch]) -> Self {
        let mut window = Self::new(start);
        let mut sorted: Vec<&StateBatch> = batches.iter().filter(|batch| batch.first <= batch.last).collect();
        sorted.sort_by_key(|batch| batch.first);
        for batch in sorted {
            let first = batch.first.max(window.next);
            if batch.last < first {
                continue;
            }
            window.extend(first - 1, State::Available, 0);
            window.extend(batch.last, state_of(batch.state), batch.count);
        }
        window.tidy();
        window
    }

    /// Offset of the first record that is not done with.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Offset of the first record that was never handed out.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// How many records of the window are done with, those on their way included.
    pub fn completed(&self) -> i64 {
        let done = self.runs.iter().filter(|(_, run)| match &run.state {
            State::Acknowledged | State::Archived => true,
            State::Settling { to, .. } => *to != AVAILABLE,
            State::Available | State::Acquired { .. } => false,
        });
        done.map(|(first, run)| run.last - first + 1).sum()
    }

    /// Where there may be something to hand out; `None` while the window is full and nothing of it is available.
    pub fn next_fetch(&self, max_window: i64) -> Option<Offset> {
        let available = self.runs.iter().find(|(_, run)| run.state == State::Available).map(|(first, _)| *first);
        available.or_else(|| (self.next - self.start < max_window).then_some(self.next))
    }

    /// When the first lock ends, in ticks.
    pub fn next_deadline(&self) -> Option<i64> {
        let locks = self.runs.values().filter_map(|run| match &run.state {
            State::Acquired { until, .. } => Some(*until),
            _ => None,
        });
        locks.min()
    }

    /// Whether some record is locked by a member.
    pub fn has_locks(&self) -> bool {
        self.runs.values().any(|run| matches!(run.state, State::Acquired { .. } | State::Settling { .. }))
    }

    /// The log begins at `log_start` now: what was below is gone.
    pub fn trim(&mut self, log_start: Offset) {
        if log_start <= self.start {
            return;
        }
        if log_start >= self.next {
            *self = Self::new(log_start);
            return;
        }
        self.split(log_start);
        self.runs = self.runs.split_off(&log_start);
        self.start = log_start;
        self.tidy();
    }

    /// Hands out records of `batches`, which are all that the log has from `from` to the end of the last of them.
    pub fn acquire(&mut self, take: &Take, from: Offset, batches: &[LogBatch]) -> Vec<Acquired> {
        let mut acquired: Vec<Acquired> = Vec::new();
        let (mut left, mut at) = (take.max_records, from);
        for batch in batches {
            if left <= 0 {
                break;
            }
            self.archive_hole(at, batch.first - 1);
            at = batch.last + 1;
            if batch.is_void {
                self.archive_hole(batch.first, batch.last);
                continue;
            }
            self.acquire_available(take, batch, &mut left, &mut acquired);
            if batch.last >= self.next && left > 0 {
                let room = take.max_window - (self.next - self.start);
                if room <= 0 {
                    break;
                }
                let first = batch.first.max(self.next);
                let last = if take.is_strict { batch.last.min(first + left.min(room) - 1) } else { batch.last };
                self.archive_hole(self.next, first - 1);
                self.extend(last, State::Acquired { member: Arc::clone(&take.member), until: take.until }, 1);
                left -= last - first + 1;
                note(&mut acquired, Acquired { first, last, count: 1 }, take.batch_size);
                if last < batch.last {
                    break;
                }
            }
        }
        self.tidy();
        acquired
    }

    fn acquire_available(&mut self, take: &Take, batch: &LogBatch, left: &mut i64, acquired: &mut Vec<Acquired>) {
        let (mut at, end) = (batch.first.max(self.start), batch.last.min(self.next - 1));
        while at <= end && *left > 0 {
            let Some((first, run)) = self.runs.range(..=at).next_back().map(|(first, run)| (*first, run.clone()))
            else {
                return;
            };
            let after = run.last + 1;
            if run.state == State::Available {
                let first = first.max(at);
                let last = run.last.min(end);
                let last = if take.is_strict { last.min(first + *left - 1) } else { last };
                let count = run.count.saturating_add(1);
                self.set(
                    first,
                    last,
                    State::Acquired { member: Arc::clone(&take.member), until: take.until },
                    Some(count),
                );
                *left -= last - first + 1;
                note(acquired, Acquired { first, last, count }, take.batch_size);
            }
            at = after;
        }
    }

    /// There is nothing for consumers from `first` to `last`.
    fn archive_hole(&mut self, first: Offset, last: Offset) {
        let first = first.max(self.start);
        if last < first {
            return;
        }
        let within: Vec<(Offset, Offset)> = self
            .overlapping(first, last.min(self.next - 1))
            .filter(|(_, run)| run.state == State::Available)
            .map(|(from, run)| (from.max(first), run.last.min(last)))
            .collect();
        for (first, last) in within {
            self.set(first, last, State::Archived, None);
        }
        self.extend(last, State::Archived, 0);
    }

    /// Takes up what `member` says of records it acquired. What comes back must be persisted; then [`InFlight::settle`] is due for `change`,
    /// unless it is empty.
    ///
    /// # Errors
    /// `InvalidRecordState` if some record is not acquired by the member, `InvalidRequest` if it was never handed out; nothing has changed
    /// then.
    pub fn acknowledge(
        &mut self,
        change: ChangeId,
        member: &Arc<str>,
        acknowledgements: &[Acknowledgement],
        until: i64,
        delivery_limit: i16,
    ) -> Result<Vec<StateBatch>, ErrorCode> {
        for told in acknowledgements {
            if told.last >= self.next {
                return Err(ErrorCode::InvalidRequest);
            }
            let is_owner = |state: &State| matches!(state, State::Acquired { member: owner, .. } if owner == member);
            if !self.overlapping(told.first.max(self.start), told.last).all(|(_, run)| is_owner(&run.state)) {
                return Err(ErrorCode::InvalidRecordState);
            }
        }
        let mut changes = Vec::new();
        for told in acknowledgements {
            let first = told.first.max(self.start);
            let told_runs: Vec<(Offset, Run)> =
                self.overlapping(first, told.last).map(|(first, run)| (first, run.clone())).collect();
            for (from, run) in told_runs {
                let State::Acquired { until: before, .. } = run.state else { continue };
                let (first, last) = (from.max(first), run.last.min(told.last));
                let to = match told.kind {
                    AcknowledgeType::Accept => ACKNOWLEDGED,
                    AcknowledgeType::Gap | AcknowledgeType::Reject => ARCHIVED,
                    AcknowledgeType::Release => after_release(run.count, delivery_limit),
                    AcknowledgeType::Renew => {
                        self.set(first, last, State::Acquired { member: Arc::clone(member), until }, None);
                        continue;
                    }
                };
                self.set(first, last, State::Settling { change, to, member: Arc::clone(member), until: before }, None);
                changes.push(StateBatch { first, last, state: to, count: run.count });
            }
        }
        self.tidy();
        Ok(changes)
    }

    /// A change is persisted, or could not be: then its records are acquired as before.
    pub fn settle(&mut self, change: ChangeId, is_persisted: bool) {
        for run in self.runs.values_mut() {
            match &run.state {
                State::Settling { change: of, to, member, until } if *of == change => {
                    run.state = match is_persisted {
                        true => state_of(*to),
                        false => State::Acquired { member: Arc::clone(member), until: *until },
                    };
                }
                _ => {}
            }
        }
        self.tidy();
    }

    /// Locks that end by `now_ticks` are off; what comes back is to be persisted.
    pub fn expire(&mut self, now_ticks: i64, delivery_limit: i16) -> Vec<StateBatch> {
        self.unlock(delivery_limit, |_, until| until <= now_ticks)
    }

    /// All locks of `member` are off; what comes back is to be persisted.
    pub fn release(&mut self, member: &str, delivery_limit: i16) -> Vec<StateBatch> {
        self.unlock(delivery_limit, |owner, _| owner == member)
    }

    fn unlock(&mut self, delivery_limit: i16, is_off: impl Fn(&str, i64) -> bool) -> Vec<StateBatch> {
        let mut changes = Vec::new();
        for (first, run) in &mut self.runs {
            if let State::Acquired { member, until } = &run.state
                && is_off(member, *until)
            {
                let state = after_release(run.count, delivery_limit);
                run.state = state_of(state);
                changes.push(StateBatch { first: *first, last: run.last, state, count: run.count });
            }
        }
        if !changes.is_empty() {
            self.tidy();
        }
        changes
    }

    /// The runs that have an offset in common with `first` to `last`.
    fn overlapping(&self, first: Offset, last: Offset) -> impl Iterator<Item = (Offset, &Run)> {
        let begin = self.runs.range(..=first).next_back().map_or(first, |(begin, _)| *begin);
        let end = last.max(begin.saturating_sub(1));
        self.runs
            .range(begin..=end.max(begin))
            .map(|(begin, run)| (*begin, run))
            .filter(move |(begin, run)| run.last >= first && *begin <= last)
    }

    /// Adds what was never handed out, up to `last`.
    fn extend(&mut self, last: Offset, state: State, count: i16) {
        if last >= self.next {
            self.runs.insert(self.next, Run { last, state, count });
            self.next = last + 1;
        }
    }

    /// Makes a run begin at `at`, if it is inside of one.
    fn split(&mut self, at: Offset) {
        let Some((first, run)) = self.runs.range_mut(..at).next_back() else { return };
        if run.last < at || *first == at {
            return;
        }
        let upper = run.clone();
        run.last = at - 1;
        self.runs.insert(at, upper);
    }

    /// Sets what is between `first` and `last`, which lie in one run.
    fn set(&mut self, first: Offset, last: Offset, state: State, count: Option<i16>) {
        self.split(first);
        self.split(last + 1);
        if let Some(run) = self.runs.get_mut(&first) {
            run.state = state;
            run.count = count.unwrap_or(run.count);
        }
    }

    /// Moves the start over what is done with, and joins neighbours that are alike.
    fn tidy(&mut self) {
        while let Some(entry) = self.runs.first_entry() {
            if !matches!(entry.get().state, State::Acknowledged | State::Archived) {
                break;
            }
            self.start = entry.remove().last + 1;
        }
        if self.runs.is_empty() {
            self.start = self.next;
        }
        let mut joined: Vec<Offset> = Vec::new();
        let mut before: Option<(Offset, &Run)> = None;
        for (first, run) in &self.runs {
            match before {
                Some((_, known)) if known.state == run.state && known.count == run.count => joined.push(*first),
                _ => {}
            }
            before = Some((*first, run));
        }
        // From the end, so that a whole row of them ends up in its first.
        for first in joined.into_iter().rev() {
            if let Some(run) = self.runs.remove(&first)
                && let Some((_, known)) = self.runs.range_mut(..first).next_back()
            {
                known.last = run.last;
            }
        }
    }
}

fn state_of(state: i8) -> State {
    match state {
        ACKNOWLEDGED => State::Acknowledged,
        ARCHIVED => State::Archived,
        _ => State::Available,
    }
}

fn after_release(count: i16, delivery_limit: i16) -> i8 {
    if count >= delivery_limit { ARCHIVED } else { AVAILABLE }
}

/// Adds what was handed out; to what came before, while that is below the best size and was handed out as often.
fn note(acquired: &mut Vec<Acquired>, more: Acquired, batch_size: i64) {
    match acquired.last_mut() {
        Some(before)
            if before.last + 1 == more.first
                && before.count == more.count
                && before.last - before.first + 1 < batch_size =>
        {
            before.last = more.last;
        }
        _ => acquired.push(more),
    }
}

#[cfg(test)]
mod tests;
