//! The transaction coordinator: the shards, their log, their locks, the requests that wait for them, and the markers.
//!
//! One lock per shard (a partition of `__transaction_state`). Under it a request changes the shard and its record is
//! appended, so that the log has them in the order of the changes; the answer waits in `in_flight` until the log says that
//! the record is durable. Answers and markers leave through an outbox that is emptied after the lock is released.
//!
//! What comes back (a durable record, a written marker) may do so with the lock held, or from another thread meanwhile. So
//! it is only noted in `events` and the lock tried; whoever holds the lock looks at `events` once more after letting go.
//!
//! The end of a transaction: `Prepare` durable, answered; markers durable on every partition; `Complete` durable. After a
//! restart it goes on from what the log has.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use base::hash::HashMap;
use base::{Now, Offset};
use protocol::api::ErrorCode;

use super::entry::{Change, Decision, Identity};
use super::environment::{Marker, STATE_TOPIC, TransactionEnvironment};
use super::log::{encode_batch, load};
use super::records::{TopicAndPartition, TransactionState};
use super::shard::{Shard, TransactionConfig};
use crate::group::environment::partition_of;
use crate::shards::{self, Alarm, Cells, answer_code};

/// Told what became of a request; called without locks.
pub type Held = Box<dyn FnOnce(Result<Identity, ErrorCode>) + Send>;

/// How long a marker that could not be written is left alone.
const MARKER_RETRY_MS: i64 = 100;

type Environment = Arc<dyn TransactionEnvironment>;

/// Things to do without locks.
type Outbox = Vec<Box<dyn FnOnce() + Send>>;

struct InFlight {
    id: u64,
    change: Box<Change>,
    answer: Result<Identity, ErrorCode>,
    held: Vec<Held>,
    result: Option<Result<(), ErrorCode>>,
}

/// Partitions to be added to a transaction while the id's last change, or its last transaction's end, is under way.
struct WaitingAdd {
    identity: Identity,
    partitions: BTreeSet<TopicAndPartition>,
    client_version: i16,
    /// When it is answered that it must be asked again, in ticks.
    deadline: i64,
    held: Held,
}

enum Event {
    Stored { id: u64, result: Result<(), ErrorCode> },
    Marked { id: Arc<str>, identity: Identity, partition: TopicAndPartition, result: Result<(), ErrorCode> },
}

#[derive(Default)]
struct CellState {
    shard: Shard,
    loaded: bool,
    in_flight: VecDeque<InFlight>,
    next_id: u64,
    waiting: HashMap<Arc<str>, Vec<WaitingAdd>>,
    /// Markers to be tried again, and when, in ticks.
    retries: Vec<(i64, Arc<str>, TopicAndPartition)>,
    outbox: Outbox,
    alarm: Alarm,
}

type Cell = shards::Cell<CellState, Event>;

struct Inner {
    config: TransactionConfig,
    cells: Cells<CellState, Event>,
}

/// All transactional ids of this broker. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

/// One shard, locked.
struct Session<'a> {
    state: &'a mut CellState,
    cell: &'a Arc<Cell>,
    inner: &'a Arc<Inner>,
    environment: &'a Environment,
    now: Now,
}

impl Coordinator {
    /// A coordinator that knows no id yet; they are read from the log as they are asked for.
    pub fn new(config: TransactionConfig) -> Self {
        Self { inner: Arc::new(Inner { config, cells: Cells::default() }) }
    }

    /// The broker has closed: forgets all ids, and who waits for them.
    pub fn close(&self) {
        self.inner.cells.close();
    }

    /// Its settings.
    pub fn config(&self) -> &TransactionConfig {
        &self.inner.config
    }

    /// InitProducerId of a transactional id: the identity to write under.
    pub fn init(
        &self,
        environment: &Environment,
        id: &Arc<str>,
        timeout_ms: i32,
        expected: Option<Identity>,
        held: Held,
    ) {
        let id = Arc::clone(id);
        self.decide(environment, Arc::clone(&id), held, move |shard, fresh, now| {
            shard.init(&id, timeout_ms, expected, fresh, now)
        });
    }

    /// EndTxn; `bumps` for the protocol that raises the epoch (KIP-890).
    pub fn end(
        &self,
        environment: &Environment,
        id: &Arc<str>,
        identity: Identity,
        commit: bool,
        bumps: bool,
        held: Held,
    ) {
        let id = Arc::clone(id);
        self.decide(environment, Arc::clone(&id), held, move |shard, fresh, now| {
            shard.end(&id, identity, commit, bumps, fresh, now)
        });
    }

    /// Asks the shard, and once more with a new producer id if it needs one.
    fn decide(
        &self,
        environment: &Environment,
        id: Arc<str>,
        held: Held,
        mut ask: impl FnMut(&mut Shard, Option<i64>, Now) -> Decision + Send + 'static,
    ) {
        let mut held = Some(held);
        let needs = self.with_id(environment, &id, |session| {
            let decision = ask(&mut session.state.shard, None, session.now);
            if decision == Decision::NeedsProducerId {
                return true;
            }
            session.take(decision, held.take().into_iter().collect());
            false
        });
        match (needs, held) {
            (Ok(true), Some(held)) => {
                let (this, again) = (self.clone(), Arc::clone(environment));
                let done = move |fresh: Result<i64, ErrorCode>| match fresh {
                    Err(error) => held(Err(error)),
                    Ok(fresh) => {
                        let mut held = Some(held);
                        let asked = this.with_id(&again, &id, |session| {
                            let decision = ask(&mut session.state.shard, Some(fresh), session.now);
                            session.take(decision, held.take().into_iter().collect());
                        });
                        if let (Err(error), Some(held)) = (asked, held) {
                            held(Err(error));
                        }
                    }
                };
                environment.take_producer_id(Box::new(done));
            }
            (Err(error), Some(held)) => held(Err(error)),
            _ => {}
        }
    }

    /// Adds partitions to a producer's transaction. While the id is busy with what came before, it waits for that, up to
    /// `wait_ms`; then `ConcurrentTransactions`.
    #[expect(clippy::too_many_arguments, reason = "the fields of a request, borrowed from where they are")]
    pub fn add(
        &self,
        environment: &Environment,
        id: &Arc<str>,
        identity: Identity,
        partitions: BTreeSet<TopicAndPartition>,
        client_version: i16,
        wait_ms: i64,
        held: Held,
    ) {
        let mut held = Some(held);
        let asked = self.with_id(environment, id, |session| {
            let Some(held) = held.take() else { return };
            let deadline = session.now.ticks_ms.saturating_add(wait_ms);
            session.add(id, WaitingAdd { identity, partitions, client_version, deadline, held });
        });
        if let (Err(error), Some(held)) = (asked, held) {
            held(Err(error));
        }
    }

    /// For each partition whether it is in the producer's open transaction.
    ///
    /// # Errors
    /// As [`Coordinator::read`].
    pub fn verify(
        &self,
        environment: &Environment,
        id: &str,
        identity: Identity,
        partitions: &[TopicAndPartition],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        self.with_id(environment, id, |session| {
            partitions.iter().map(|partition| session.state.shard.verify(id, identity, partition)).collect()
        })
    }

    /// Runs `look` on the shard of an id.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while `__transaction_state` does not exist; as the log's when it cannot be read.
    pub fn read<R>(&self, environment: &Environment, id: &str, look: impl FnOnce(&Shard) -> R) -> Result<R, ErrorCode> {
        self.with_id(environment, id, |session| look(&session.state.shard))
    }

    /// Runs `look` on every shard.
    ///
    /// # Errors
    /// The first of a shard that cannot be read.
    pub fn read_all(&self, environment: &Environment, mut look: impl FnMut(&Shard)) -> Result<(), ErrorCode> {
        let partitions = environment.partitions().unwrap_or(0);
        for index in 0..partitions {
            let cell = self.inner.cells.of(index, partitions);
            self.inner.with_cell(environment, &cell, environment.now(), |session| look(&session.state.shard))?;
        }
        Ok(())
    }

    fn with_id<R>(
        &self,
        environment: &Environment,
        id: &str,
        work: impl FnOnce(&mut Session<'_>) -> R,
    ) -> Result<R, ErrorCode> {
        let partitions = environment.partitions().ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let cell = self.inner.cells.of(partition_of(id, partitions), partitions);
        self.inner.with_cell(environment, &cell, environment.now(), work)
    }

    /// Does what is due at `now`: loading, markers to write again, transactions that last too long, ids that expire.
    /// Returns whether something was done, and when it wants to be called next, in ticks.
    pub fn step(&self, environment: &Environment, now: Now) -> (bool, Option<i64>) {
        let Some(partitions) = environment.partitions() else { return (false, None) };
        self.inner.cells.step(STATE_TOPIC, partitions, now, |cell| {
            self.inner.with_cell(environment, cell, now, |session| session.step())
        })
    }
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Inner {
    fn with_cell<R>(
        self: &Arc<Self>,
        environment: &Environment,
        cell: &Arc<Cell>,
        now: Now,
        work: impl FnOnce(&mut Session<'_>) -> R,
    ) -> Result<R, ErrorCode> {
        let mut state = cell.state.lock();
        let loads = !state.loaded;
        if loads {
            state.shard = load(environment.as_ref(), cell.partition).map_err(answer_code)?;
            state.loaded = true;
        }
        let mut session = Session { state: &mut state, cell, inner: self, environment, now };
        if loads {
            session.resume();
        }
        let result = work(&mut session);
        session.settle();
        let outbox = self.finish(&mut state, cell, environment, now);
        drop(state);
        outbox.into_iter().for_each(|action| action());
        self.drain(environment, cell, now);
        Ok(result)
    }

    /// Takes up what came back while the lock was held; by whoever held it, or by whoever brings it.
    fn drain(self: &Arc<Self>, environment: &Environment, cell: &Arc<Cell>, now: Now) {
        while !cell.events.lock().is_empty() {
            let Some(mut state) = cell.state.try_lock() else { return };
            Session { state: &mut state, cell, inner: self, environment, now }.settle();
            let outbox = self.finish(&mut state, cell, environment, now);
            drop(state);
            outbox.into_iter().for_each(|action| action());
        }
    }

    fn finish(&self, state: &mut CellState, cell: &Cell, environment: &Environment, now: Now) -> Outbox {
        let waiting = state.waiting.values().flatten().map(|add| add.deadline).min();
        let retries = state.retries.iter().map(|(at, ..)| *at).min();
        let due = state.shard.next_wake(now, &self.config);
        let wake = [waiting, retries, due].into_iter().flatten().min().unwrap_or(i64::MAX);
        cell.wake.store(wake, Ordering::Release);
        if state.alarm.arm(wake, now) {
            environment.wake_at(wake);
        }
        std::mem::take(&mut state.outbox)
    }
}

impl Session<'_> {
    /// Goes on with the ends that were decided before the restart.
    fn resume(&mut self) {
        for id in self.state.shard.prepared() {
            self.write_markers(&id);
        }
    }

    fn answer(&mut self, held: Vec<Held>, answer: Result<Identity, ErrorCode>) {
        for held in held {
            self.state.outbox.push(Box::new(move || held(answer)));
        }
    }

    fn take(&mut self, decision: Decision, held: Vec<Held>) {
        match decision {
            Decision::Answer(answer) => self.answer(held, answer),
            Decision::Write(change, answer) => self.submit(change, answer, held),
            // Asked with a new id, which is always enough.
            Decision::NeedsProducerId => self.answer(held, Err(ErrorCode::UnknownServerError)),
        }
    }

    /// Appends a change; the answer leaves once it is durable.
    fn submit(&mut self, change: Box<Change>, answer: Result<Identity, ErrorCode>, held: Vec<Held>) {
        let batch = encode_batch(&change, self.environment.transaction_version(), self.now);
        let id = self.state.next_id;
        self.state.next_id += 1;
        self.state.in_flight.push_back(InFlight { id, change, answer, held, result: None });
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return self.cell.events.lock().push_back(Event::Stored { id, result: Err(error) }),
        };
        let report = self.reporter();
        let done = move |result: Result<Offset, ErrorCode>| {
            report(Event::Stored { id, result: result.map(|_| ()).map_err(answer_code) });
        };
        self.environment.append(self.cell.partition, batch, Box::new(done));
    }

    /// Brings an event to this shard, on whatever thread.
    fn reporter(&self) -> impl FnOnce(Event) + Send + 'static {
        let cell = Arc::clone(self.cell);
        let inner = Arc::downgrade(self.inner);
        let environment: Weak<dyn TransactionEnvironment> = Arc::downgrade(self.environment);
        move |event| {
            cell.events.lock().push_back(event);
            if let (Some(inner), Some(environment)) = (inner.upgrade(), environment.upgrade()) {
                let now = environment.now();
                inner.drain(&environment, &cell, now);
            }
        }
    }

    fn add(&mut self, id: &Arc<str>, add: WaitingAdd) {
        let now = self.now;
        let decision = self.state.shard.add(id, add.identity, &add.partitions, add.client_version, now);
        match decision {
            Decision::Answer(Err(ErrorCode::ConcurrentTransactions)) if add.deadline > now.ticks_ms => {
                self.state.waiting.entry(Arc::clone(id)).or_default().push(add);
            }
            decision => self.take(decision, vec![add.held]),
        }
    }

    /// The id is free again: those who waited have their turn, those of one producer together.
    fn wake_waiting(&mut self, id: &Arc<str>) {
        if self.state.waiting.is_empty() || self.state.shard.entry(id).is_some_and(|entry| entry.is_pending()) {
            return;
        }
        let Some(waiting) = self.state.waiting.remove(id) else { return };
        let mut waiting = waiting.into_iter().peekable();
        while let Some(mut first) = waiting.next() {
            let mut others: Vec<Held> = Vec::new();
            while let Some(next) =
                waiting.next_if(|next| next.identity == first.identity && next.client_version == first.client_version)
            {
                first.partitions.extend(next.partitions);
                first.deadline = first.deadline.max(next.deadline);
                others.push(next.held);
            }
            if !others.is_empty() {
                let one = first.held;
                first.held = Box::new(move |answer| {
                    one(answer);
                    others.into_iter().for_each(|held| held(answer));
                });
            }
            self.add(id, first);
        }
    }

    /// Takes up what came back, records in the order of the log.
    fn settle(&mut self) {
        loop {
            let events = std::mem::take(&mut *self.cell.events.lock());
            if events.is_empty() {
                return;
            }
            for event in events {
                match event {
                    Event::Stored { id, result } => {
                        if let Some(flight) = self.state.in_flight.iter_mut().find(|flight| flight.id == id) {
                            flight.result = Some(result);
                        }
                    }
                    Event::Marked { id, identity, partition, result } => {
                        self.marked(&id, identity, partition, result);
                    }
                }
            }
            while let Some(result) = self.state.in_flight.front().and_then(|flight| flight.result) {
                let Some(flight) = self.state.in_flight.pop_front() else { break };
                self.stored(flight, result);
            }
        }
    }

    fn stored(&mut self, flight: InFlight, result: Result<(), ErrorCode>) {
        self.state.shard.stored(&flight.change, result);
        self.answer(flight.held, result.and(flight.answer));
        let id = &flight.change.id;
        if result.is_ok() && flight.change.value.as_ref().is_some_and(|value| value.state.is_prepared()) {
            self.write_markers(id);
        }
        self.wake_waiting(id);
    }

    /// Writes the markers of a prepared end that are not written yet.
    fn write_markers(&mut self, id: &Arc<str>) {
        let Some(entry) = self.state.shard.entry(id) else { return };
        let partitions: Vec<TopicAndPartition> = entry.unmarked().iter().cloned().collect();
        if partitions.is_empty()
            && let Some(change) = self.state.shard.complete(id, self.now)
        {
            self.submit(change, Err(ErrorCode::UnknownServerError), Vec::new());
        }
        for partition in partitions {
            self.write_marker(id, partition);
        }
    }

    /// Writes the marker of one partition, if the prepared end still lacks it.
    fn write_marker(&mut self, id: &Arc<str>, partition: TopicAndPartition) {
        let Some(entry) = self.state.shard.entry(id).filter(|entry| entry.unmarked().contains(&partition)) else {
            return;
        };
        let marker = Marker {
            partition,
            identity: entry.identity(),
            commit: entry.value().state == TransactionState::PrepareCommit,
            coordinator_epoch: self.environment.leader_epoch(self.cell.partition),
            transaction_version: entry.value().client_version,
        };
        let (id, environment, report) = (Arc::clone(id), Arc::clone(self.environment), self.reporter());
        self.state.outbox.push(Box::new(move || {
            let (identity, partition) = (marker.identity, marker.partition.clone());
            let done = move |result| report(Event::Marked { id, identity, partition, result });
            environment.write_marker(&marker, Box::new(done));
        }));
    }

    fn marked(
        &mut self,
        id: &Arc<str>,
        identity: Identity,
        partition: TopicAndPartition,
        result: Result<(), ErrorCode>,
    ) {
        match result {
            Ok(()) => {}
            // The topic has been deleted, and its part of the transaction with it.
            Err(ErrorCode::UnknownTopicOrPartition) => {}
            Err(error @ (ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced)) => {
                tracing::warn!(%id, topic = %partition.0, partition = partition.1, error = error.name(),
                    "the partition knows a newer end of the transaction");
            }
            Err(error) => {
                tracing::warn!(%id, topic = %partition.0, partition = partition.1, error = error.name(),
                    "a transaction marker could not be written; it will be tried again");
                let at = self.now.ticks_ms.saturating_add(MARKER_RETRY_MS);
                self.state.retries.push((at, Arc::clone(id), partition));
                return;
            }
        }
        if let Some(change) = self.state.shard.marked(id, identity, &partition, self.now) {
            self.submit(change, Err(ErrorCode::UnknownServerError), Vec::new());
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let retries = std::mem::take(&mut self.state.retries);
        let (due, later): (Vec<_>, Vec<_>) = retries.into_iter().partition(|(at, ..)| *at <= now.ticks_ms);
        self.state.retries = later;
        for (_, id, partition) in due {
            self.write_marker(&id, partition);
        }
        let late = |add: &WaitingAdd| add.deadline <= now.ticks_ms;
        let ids: Vec<Arc<str>> =
            self.state.waiting.iter().filter(|(_, adds)| adds.iter().any(late)).map(|(id, _)| Arc::clone(id)).collect();
        for id in ids {
            let adds = self.state.waiting.remove(&id).unwrap_or_default();
            let (late, waiting): (Vec<_>, Vec<_>) = adds.into_iter().partition(late);
            if !waiting.is_empty() {
                self.state.waiting.insert(id, waiting);
            }
            self.answer(late.into_iter().map(|add| add.held).collect(), Err(ErrorCode::ConcurrentTransactions));
        }
        for change in self.state.shard.step(now, &self.inner.config) {
            if change.value.is_some() {
                tracing::info!(id = %change.id, "a transaction is aborted: it has lasted longer than its timeout");
            }
            self.submit(change, Err(ErrorCode::UnknownServerError), Vec::new());
        }
    }
}
