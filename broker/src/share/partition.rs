//! One share partition at work: its in-flight window behind one lock, the writes of its state, one at a time, and the fetches that wait for it.
//!
//! The window is read from the store when it is first asked for. What changes in it is queued in the order of the changes; while one write is on
//! its way the rest comes together in the next. No lock is held while the store works or an answer leaves.

use std::sync::{Arc, Weak};

use base::{Now, Offset};
use parking_lot::Mutex;
use protocol::api::{ErrorCode, Pieces};
use protocol::record::{Control, RecordBatch, batches, parse_control};
use storage::error::ErrorKind;
use storage::log::{AbortedTransaction, ReadLimit};

use super::config::{OffsetReset, ShareConfig};
use super::in_flight::{Acknowledgement, Acquired, ChangeId, InFlight, LogBatch, StateBatch, Take};
use super::records::{ShareKey, Snapshot};
use super::state::{NO_OFFSET, Write};
use super::store::Done;
use crate::partition::Partition;
use crate::state::BrokerState;

/// A fetch that waits for records of share partitions.
pub(crate) trait Woken: Send + Sync {
    /// Records may have become available. Called without locks.
    fn woken(&self);
    /// It has been answered and can be forgotten.
    fn is_done(&self) -> bool;
}

/// What a fetch got.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// The batches that hold what was acquired.
    pub records: Pieces,
    /// What was acquired.
    pub acquired: Vec<Acquired>,
}

/// Whose records are wanted, and how many.
pub(crate) struct Wanted<'a> {
    /// Settings of the group.
    pub config: &'a ShareConfig,
    /// Who acquires, until when and how many; `None` only to see how many bytes there are.
    pub take: Option<Take>,
    /// Most bytes, though always one batch.
    pub max_bytes: usize,
}

struct Loaded {
    window: InFlight,
    state_epoch: i32,
    leader_epoch: i32,
}

#[derive(Default)]
struct Inner {
    loaded: Option<Loaded>,
    next_change: ChangeId,
    queued: Vec<Queued>,
    is_writing: bool,
    /// It is not the share partition of this name any more: whoever has it must ask for it again.
    is_gone: bool,
}

/// What waits to be written.
struct Queued {
    change: ChangeId,
    batches: Vec<StateBatch>,
    done: Option<Done>,
}

/// See the module.
pub struct SharePartition {
    /// Which one.
    pub key: ShareKey,
    inner: Mutex<Inner>,
    waiting: Mutex<Vec<Weak<dyn Woken>>>,
}

impl SharePartition {
    pub(crate) fn new(key: ShareKey) -> Arc<Self> {
        Arc::new(Self { key, inner: Mutex::default(), waiting: Mutex::default() })
    }

    /// Hands out records of `partition`, or only looks for some.
    ///
    /// # Errors
    /// `NotLeaderOrFollower` if it was forgotten meanwhile; when state or log cannot be read.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        partition: &Partition,
        wanted: &Wanted<'_>,
    ) -> Result<Handed, ErrorCode> {
        let (handed, deadline) = {
            let mut inner = self.inner.lock();
            let loaded = self.load(&mut inner, state, partition, wanted.config)?;
            let handed = hand_out(&mut loaded.window, partition, wanted)?;
            let deadline = if handed.acquired.is_empty() { None } else { loaded.window.next_deadline() };
            (handed, deadline)
        };
        self.write_out(state);
        if let Some(deadline) = deadline {
            state.shares.wake_at(state, deadline);
        }
        Ok(handed)
    }

    /// Takes up what a member says of records it acquired; `done` is told once it is durable.
    pub(crate) fn acknowledge(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        member: &Arc<str>,
        acknowledgements: &[Acknowledgement],
        until: i64,
        config: &ShareConfig,
        done: Done,
    ) {
        let refused = {
            let mut inner = self.inner.lock();
            let change = inner.next_change;
            inner.next_change += 1;
            // Nothing is acquired of what was not read yet.
            let told = match &mut inner.loaded {
                Some(loaded) => {
                    loaded.window.acknowledge(change, member, acknowledgements, until, config.delivery_limit())
                }
                None => Err(ErrorCode::InvalidRecordState),
            };
            match told {
                Ok(batches) if !batches.is_empty() => {
                    inner.queued.push(Queued { change, batches, done: Some(done) });
                    None
                }
                Ok(_) => Some((done, Ok(()))),
                Err(error) => Some((done, Err(error))),
            }
        };
        match refused {
            Some((done, result)) => done(result),
            None => self.write_out(state),
        }
    }

    /// Takes off the locks of a member.
    pub(crate) fn release(self: &Arc<Self>, state: &Arc<BrokerState>, member: &str, config: &ShareConfig) {
        self.unlock(state, |window| window.release(member, config.delivery_limit()));
    }

    /// Takes off the locks that end by `now`; gives when the next one ends, in ticks.
    pub(crate) fn expire(self: &Arc<Self>, state: &Arc<BrokerState>, now: Now, config: &ShareConfig) -> Option<i64> {
        self.unlock(state, |window| window.expire(now.ticks_ms, config.delivery_limit()));
        self.next_deadline()
    }

    /// When the next lock ends, in ticks.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.inner.lock().loaded.as_ref()?.window.next_deadline()
    }

    /// Nobody has anything of it acquired, and nothing is on its way: it can be read from the store again when it is asked for.
    pub(crate) fn forget_if_idle(&self) -> bool {
        let mut inner = self.inner.lock();
        let is_busy = inner.is_writing
            || !inner.queued.is_empty()
            || inner.loaded.as_ref().is_some_and(|loaded| loaded.window.has_locks());
        inner.is_gone |= !is_busy;
        !is_busy
    }

    /// Its state was set by somebody else, or is gone.
    pub(crate) fn forget(self: &Arc<Self>) {
        let queued = {
            let mut inner = self.inner.lock();
            (inner.is_gone, inner.loaded) = (true, None);
            std::mem::take(&mut inner.queued)
        };
        for done in queued.into_iter().filter_map(|queued| queued.done) {
            done(Err(ErrorCode::NotLeaderOrFollower));
        }
        self.wake();
    }

    /// Hangs a waiting fetch on it; the caller looks once more afterwards.
    pub(crate) fn watch(&self, waiting: Weak<dyn Woken>) {
        let mut list = self.waiting.lock();
        if list.len() >= 16 && list.len().is_power_of_two() {
            list.retain(|waiting| waiting.upgrade().is_some_and(|waiting| !waiting.is_done()));
        }
        list.push(waiting);
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for woken in waiting.iter().filter_map(Weak::upgrade) {
            woken.woken();
        }
        // Those that found nothing go on waiting.
        let left = waiting.into_iter().filter(|waiting| waiting.upgrade().is_some_and(|waiting| !waiting.is_done()));
        let left: Vec<_> = left.collect();
        self.waiting.lock().extend(left);
    }

    fn load<'a>(
        &self,
        inner: &'a mut Inner,
        state: &Arc<BrokerState>,
        partition: &Partition,
        config: &ShareConfig,
    ) -> Result<&'a mut Loaded, ErrorCode> {
        if inner.is_gone {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let loaded = match inner.loaded.take() {
            Some(loaded) => loaded,
            None => {
                let kept = self.kept(state, partition.leader_epoch)?;
                let (state_epoch, start, batches) = (kept.state_epoch, kept.start_offset, kept.batches);
                let window = match start {
                    NO_OFFSET => InFlight::new(first_offset(partition, config, state.clock.now())?),
                    start => InFlight::restore(start, &batches),
                };
                if start == NO_OFFSET {
                    // Where it begins is written at once: what is handed out must not be skipped after a crash.
                    let change = inner.next_change;
                    inner.next_change += 1;
                    inner.queued.push(Queued { change, batches: Vec::new(), done: None });
                }
                Loaded { window, state_epoch, leader_epoch: partition.leader_epoch }
            }
        };
        let loaded = inner.loaded.insert(loaded);
        loaded.window.trim(partition.offsets().log_start);
        Ok(loaded)
    }

    /// The persisted state. Members that fetch without having joined find none: it is made then.
    fn kept(&self, state: &Arc<BrokerState>, leader_epoch: i32) -> Result<Snapshot, ErrorCode> {
        let store = state.shares.store();
        match store.read_as(state, &self.key, leader_epoch) {
            Err(ErrorCode::InvalidRequest) => {
                store.initialize(state, vec![(self.key.clone(), NO_OFFSET)], 0, Box::new(|_| {}));
                store.read_as(state, &self.key, leader_epoch)
            }
            read => read,
        }
        .map_err(|error| if is_of_another(error) { ErrorCode::NotLeaderOrFollower } else { error })
    }

    fn unlock(self: &Arc<Self>, state: &Arc<BrokerState>, unlock: impl FnOnce(&mut InFlight) -> Vec<StateBatch>) {
        {
            let mut inner = self.inner.lock();
            let Some(loaded) = &mut inner.loaded else { return };
            let batches = unlock(&mut loaded.window);
            if batches.is_empty() {
                return;
            }
            let change = inner.next_change;
            inner.next_change += 1;
            inner.queued.push(Queued { change, batches, done: None });
        }
        self.write_out(state);
        self.wake();
    }

    /// Writes what is queued, unless a write is on its way: whoever ends that goes on.
    fn write_out(self: &Arc<Self>, state: &Arc<BrokerState>) {
        let (write, queued) = {
            let mut inner = self.inner.lock();
            if inner.is_writing || inner.queued.is_empty() {
                return;
            }
            let queued = std::mem::take(&mut inner.queued);
            let Some(loaded) = &inner.loaded else { return };
            let start_offset = loaded.window.start();
            let write = Write {
                state_epoch: loaded.state_epoch,
                leader_epoch: loaded.leader_epoch,
                start_offset,
                complete_count: i32::try_from(loaded.window.completed()).unwrap_or(i32::MAX),
                batches: queued.iter().flat_map(|queued| queued.batches.iter().copied()).collect(),
            };
            inner.is_writing = true;
            (write, queued)
        };
        let (partition, weak) = (Arc::clone(self), Arc::downgrade(state));
        let done = move |result: Result<(), ErrorCode>| partition.written(&weak, queued, result);
        state.shares.store().write(state, &self.key, &write, Box::new(done));
    }

    fn written(self: &Arc<Self>, state: &Weak<BrokerState>, queued: Vec<Queued>, result: Result<(), ErrorCode>) {
        {
            let mut inner = self.inner.lock();
            inner.is_writing = false;
            if let Some(loaded) = &mut inner.loaded {
                queued.iter().for_each(|queued| loaded.window.settle(queued.change, result.is_ok()));
            }
        }
        if let Err(error) = result {
            tracing::warn!(key = ?self.key, error = error.name(), "the state of a share partition could not be written");
        }
        let is_another = result.is_err_and(is_of_another);
        let answer = result.map_err(|error| if is_another { ErrorCode::NotLeaderOrFollower } else { error });
        for done in queued.into_iter().filter_map(|queued| queued.done) {
            done(answer);
        }
        if let Some(state) = state.upgrade() {
            if is_another {
                state.shares.forget(&self.key);
            }
            self.write_out(&state);
        }
        self.wake();
    }
}

/// The state was set anew, is gone, or is another leader's.
fn is_of_another(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::FencedStateEpoch | ErrorCode::FencedLeaderEpoch | ErrorCode::InvalidRequest)
}

/// Where a share partition begins that nobody has read from.
fn first_offset(partition: &Partition, config: &ShareConfig, now: Now) -> Result<Offset, ErrorCode> {
    let offsets = partition.offsets();
    let (end, limit) = match config.read_committed {
        true => (offsets.last_stable, ReadLimit::LastStable),
        false => (offsets.high_watermark, ReadLimit::HighWatermark),
    };
    match config.offset_reset {
        OffsetReset::Earliest => Ok(offsets.log_start),
        OffsetReset::Latest => Ok(end),
        OffsetReset::ByDuration(age_ms) => {
            let found = partition.log().offset_for_timestamp(now.wall_ms.saturating_sub(age_ms).max(0), limit);
            let found = found.map_err(|error| {
                tracing::error!("looking up the first offset of {}: {error}", partition.topic_partition);
                ErrorCode::KafkaStorageError
            })?;
            Ok(found.map_or(end, |found| found.offset.min(end)))
        }
    }
}

fn hand_out(window: &mut InFlight, partition: &Partition, wanted: &Wanted<'_>) -> Result<Handed, ErrorCode> {
    let offsets = partition.offsets();
    let (end, limit) = match wanted.config.read_committed {
        true => (offsets.last_stable, ReadLimit::LastStable),
        false => (offsets.high_watermark, ReadLimit::HighWatermark),
    };
    // What is void is passed over; it must not look as if there were nothing behind it.
    loop {
        let Some(from) = window.next_fetch(wanted.config.max_record_locks.ms).filter(|from| *from < end) else {
            return Ok(Handed::default());
        };
        let read =
            partition.log().read(from, wanted.max_bytes, limit, true).map_err(|failure| match failure.kind() {
                ErrorKind::OutOfRange => ErrorCode::OffsetOutOfRange,
                ErrorKind::Closed | ErrorKind::NotFound => ErrorCode::UnknownTopicOrPartition,
                ErrorKind::Corrupt => ErrorCode::CorruptMessage,
                _ => {
                    tracing::error!("share fetch from {}: {failure}", partition.topic_partition);
                    ErrorCode::KafkaStorageError
                }
            })?;
        let bytes = read.records.to_bytes().map_err(|error| {
            tracing::error!("share fetch from {}: {error}", partition.topic_partition);
            ErrorCode::KafkaStorageError
        })?;
        let Some(take) = &wanted.take else {
            return Ok(Handed { records: Pieces::from(bytes), acquired: Vec::new() });
        };
        let mut in_log = Vec::new();
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| {
                tracing::error!("share fetch from {} at {from}: {error}", partition.topic_partition);
                ErrorCode::CorruptMessage
            })?;
            if batch.header().last_offset() >= from && batch.header().base_offset < end {
                in_log.push(batch);
            }
        }
        let mut aborted = Aborted::new(read.aborted.unwrap_or_default());
        let listed = in_log.iter().map(|batch| LogBatch {
            first: batch.header().base_offset,
            last: batch.header().last_offset(),
            is_void: aborted.is_void(batch),
        });
        let listed: Vec<LogBatch> = listed.collect();
        let acquired = window.acquire(take, from, &listed);
        let is_stuck = window.next_fetch(wanted.config.max_record_locks.ms) == Some(from);
        if !acquired.is_empty() || is_stuck || in_log.is_empty() {
            return Ok(Handed { records: slices(&in_log, &acquired), acquired });
        }
    }
}

/// The batches that hold something of what was acquired; both are in the order of their offsets.
fn slices(batches: &[RecordBatch], acquired: &[Acquired]) -> Pieces {
    let mut records = Pieces::new();
    let mut acquired = acquired.iter().peekable();
    for batch in batches {
        while acquired.next_if(|acquired| acquired.last < batch.header().base_offset).is_some() {}
        if acquired.peek().is_some_and(|acquired| acquired.first <= batch.header().last_offset()) {
            records.push_bytes(batch.bytes().clone());
        }
    }
    records
}

/// Which batches have nothing for consumers, seen in the order of the log.
struct Aborted {
    /// Transactions that were aborted and have not begun yet, the first one last.
    to_come: Vec<AbortedTransaction>,
    open: Vec<i64>,
}

impl Aborted {
    fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
        Self { to_come: aborted, open: Vec::new() }
    }

    fn is_void(&mut self, batch: &RecordBatch) -> bool {
        let header = batch.header();
        while let Some(aborted) = self.to_come.pop_if(|aborted| aborted.first_offset <= header.last_offset()) {
            self.open.push(aborted.producer_id);
        }
        if header.attributes.is_control() {
            let ends = batch.records().ok().and_then(|records| {
                let record = records.iter().next()?.ok()?;
                match parse_control(record.key, record.value) {
                    Ok(Control::EndTransaction(marker)) => Some(!marker.committed),
                    _ => None,
                }
            });
            if ends == Some(true) {
                self.open.retain(|producer| *producer != header.producer_id);
            }
            return true;
        }
        header.attributes.is_transactional() && self.open.contains(&header.producer_id)
    }
}
