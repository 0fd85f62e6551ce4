//! The group coordinator: the shards, their log, their locks, and the requests that wait for them.
//!
//! One lock per shard (a partition of `__consumer_offsets`). Under it a request changes the shard and its records are
//! appended, so that the log has them in the order of the changes; what the records hold back waits in `in_flight` until
//! the log says that they are durable. Answers leave through an outbox that is emptied after the lock is released.
//!
//! The log may say so from inside `append`, with the lock held, or from another thread meanwhile. So it only notes the
//! result in `events` and tries the lock; whoever holds the lock looks at `events` once more after letting go.
//!
//! A shard is read from its log when it is first asked for, or by [`Coordinator::step`], one shard at a time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::config::GroupConfig;
use super::environment::{GroupEnvironment, OFFSETS_TOPIC, partition_of};
use super::output::{Continuation, InTransaction, JoinAnswer, Output, SyncAnswer, Ticket};
use super::records::{Decoded, GroupRecord, decode};
use super::shard::Shard;
use super::share::records::ShareGroupRecord;
use crate::dispatch::Responder;
use crate::shards::{self, Alarm, Cells};
use base::hash::HashMap;
use base::{Now, Offset, PartitionId};
use bytes::Bytes;
use protocol::api::{ErrorCode, Response};
use protocol::record::{
    BatchBuilder, BuilderOptions, Compression, Control, HeadersRef, RecordBatch, control_marker, parse_control,
};
use uuid::Uuid;

/// What a request that waits for records does once they are durable (`Ok`) or have failed; called without locks.
pub type Held = Box<dyn FnOnce(Result<(), ErrorCode>) + Send>;

/// A request that is answered with what `build` makes once its records are durable or have failed.
pub fn held(
    responder: Responder,
    build: impl FnOnce(Result<(), ErrorCode>) -> Response + Send + 'static,
) -> Option<Held> {
    Some(Box::new(move |result| responder.send(build(result))))
}

/// A JoinGroup or SyncGroup that waits for its group.
enum Waiting {
    Join(Box<dyn FnOnce(JoinAnswer) + Send>),
    Sync(Box<dyn FnOnce(SyncAnswer) + Send>),
}

/// Answers to be given without locks.
type Outbox = Vec<Box<dyn FnOnce() + Send>>;

struct InFlight {
    id: u64,
    output: Output,
    held: Option<Held>,
    /// When the answer is given up, in ticks; the records may still become durable later.
    deadline: i64,
    result: Option<Result<Offset, ErrorCode>>,
}

#[derive(Default)]
struct CellState {
    shard: Shard,
    loaded: bool,
    in_flight: VecDeque<InFlight>,
    next_id: u64,
    waiting: HashMap<Ticket, Waiting>,
    outbox: Outbox,
    alarm: Alarm,
}

impl CellState {
    /// Forgets the groups, to read them anew; who waits for them must ask again.
    fn give_up(&mut self) {
        (self.shard, self.loaded) = (Shard::default(), false);
        for (_, waiting) in self.waiting.drain() {
            let error = ErrorCode::NotCoordinator;
            self.outbox.push(match waiting {
                Waiting::Join(reply) => Box::new(move || reply(JoinAnswer::error(error, Arc::from("")))),
                Waiting::Sync(reply) => Box::new(move || reply(SyncAnswer::error(error))),
            });
        }
    }
}

/// Results of appends come back as events.
type Cell = shards::Cell<CellState, (u64, Result<Offset, ErrorCode>)>;

struct Inner {
    config: GroupConfig,
    cells: Cells<CellState, (u64, Result<Offset, ErrorCode>)>,
    tickets: AtomicU64,
}

/// All groups of this broker. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

/// One shard, locked, within one request.
pub struct Session<'a> {
    state: &'a mut CellState,
    cell: &'a Arc<Cell>,
    inner: &'a Arc<Inner>,
    environment: &'a Arc<dyn GroupEnvironment>,
    /// When the request was taken up.
    pub now: Now,
}

impl Coordinator {
    /// A coordinator of no groups yet; they are read from the log as they are asked for.
    pub fn new(config: GroupConfig) -> Self {
        Self { inner: Arc::new(Inner { config, cells: Cells::default(), tickets: AtomicU64::new(0) }) }
    }

    /// Its settings.
    pub fn config(&self) -> &GroupConfig {
        &self.inner.config
    }

    /// The broker has closed: forgets all groups, and who waits for them.
    pub fn close(&self) {
        self.inner.cells.close();
    }

    /// Runs `work` on the shard of `group`.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while `__consumer_offsets` does not exist; as the log's when it cannot be read.
    pub fn with_group<R>(
        &self,
        environment: &Arc<dyn GroupEnvironment>,
        group: &str,
        now: Now,
        work: impl FnOnce(&mut Session<'_>) -> R,
    ) -> Result<R, ErrorCode> {
        let partitions = environment.offsets_partitions().ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let cell = self.inner.cells.of(partition_of(group, partitions), partitions);
        self.inner.with_cell(environment, &cell, now, work)
    }

    /// Ends a producer's transaction on a partition of `__consumer_offsets`: `done` is told once the marker is durable and
    /// the offsets committed in it count, or are dropped.
    pub fn end_transaction(
        &self,
        environment: &Arc<dyn GroupEnvironment>,
        partition: PartitionId,
        transaction: InTransaction,
        now: Now,
        done: Held,
    ) {
        let partitions = environment.offsets_partitions().unwrap_or(0);
        if !(0..partitions).contains(&partition) {
            return done(Err(ErrorCode::UnknownTopicOrPartition));
        }
        let cell = self.inner.cells.of(partition, partitions);
        let mut done = Some(done);
        let served = self.inner.with_cell(environment, &cell, now, |session| {
            let output = session.shard().end_transaction(transaction);
            session.submit(output, done.take());
        });
        if let (Err(error), Some(done)) = (served, done) {
            done(Err(error));
        }
    }

    /// Runs `work` on every shard; one that cannot be read gives its error.
    pub fn with_all<R>(
        &self,
        environment: &Arc<dyn GroupEnvironment>,
        now: Now,
        mut work: impl FnMut(&mut Session<'_>) -> R,
    ) -> Vec<Result<R, ErrorCode>> {
        let partitions = environment.offsets_partitions().unwrap_or(0);
        (0..partitions)
            .map(|index| {
                let cell = self.inner.cells.of(index, partitions);
                self.inner.with_cell(environment, &cell, now, &mut work)
            })
            .collect()
    }

    /// Removes all offsets of topics that were deleted.
    pub fn forget_topics(
        &self,
        environment: &Arc<dyn GroupEnvironment>,
        now: Now,
        topics: &BTreeSet<(Arc<str>, Uuid)>,
    ) {
        let ids = topics.iter().map(|(_, id)| *id).collect();
        self.with_all(environment, now, |session| {
            let output = session.shard().forget_topics(topics);
            session.submit(output, None);
            let (output, keys) = session.shard().forget_share_topics(&ids);
            session.submit(output, None);
            if !keys.is_empty() {
                let environment = Arc::clone(environment);
                session.state.outbox.push(Box::new(move || environment.delete_share_state(keys, Box::new(|_| {}))));
            }
        });
    }

    /// Does what is due at `now`: loading, session timeouts, rebalances, expiry. Returns whether something was done, and
    /// when it wants to be called next, in ticks.
    pub fn step(&self, environment: &Arc<dyn GroupEnvironment>, now: Now) -> (bool, Option<i64>) {
        let Some(partitions) = environment.offsets_partitions() else { return (false, None) };
        self.inner.cells.step(OFFSETS_TOPIC, partitions, now, |cell| {
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
        environment: &Arc<dyn GroupEnvironment>,
        cell: &Arc<Cell>,
        now: Now,
        work: impl FnOnce(&mut Session<'_>) -> R,
    ) -> Result<R, ErrorCode> {
        let mut state = cell.state.lock();
        if state.shard.is_lost() {
            // What is still on its way must have come or failed before the log is read.
            if !state.in_flight.is_empty() {
                return Err(ErrorCode::NotCoordinator);
            }
            state.give_up();
        }
        if !state.loaded {
            state.shard = load(environment.as_ref(), cell.partition, now, &self.config).map_err(answer_code)?;
            state.loaded = true;
        }
        let mut session = Session { state: &mut state, cell, inner: self, environment, now };
        let result = work(&mut session);
        session.settle();
        let outbox = self.finish(&mut state, cell, environment, now);
        drop(state);
        send(outbox);
        self.drain(environment, cell, now);
        Ok(result)
    }

    /// Takes up results that came while the lock was held; by whoever held it, or by whoever brings them.
    fn drain(self: &Arc<Self>, environment: &Arc<dyn GroupEnvironment>, cell: &Arc<Cell>, now: Now) {
        while !cell.events.lock().is_empty() {
            let Some(mut state) = cell.state.try_lock() else { return };
            Session { state: &mut state, cell, inner: self, environment, now }.settle();
            let outbox = self.finish(&mut state, cell, environment, now);
            drop(state);
            send(outbox);
        }
    }

    fn finish(&self, state: &mut CellState, cell: &Cell, environment: &Arc<dyn GroupEnvironment>, now: Now) -> Outbox {
        let answers = state.in_flight.iter().map(|flight| flight.deadline);
        let lost = state.shard.is_lost().then_some(now.ticks_ms);
        let wake = answers.chain(state.shard.next_wake()).chain(lost).min().unwrap_or(i64::MAX);
        cell.wake.store(wake, Ordering::Release);
        if state.alarm.arm(wake, now) {
            environment.wake_at(wake);
        }
        std::mem::take(&mut state.outbox)
    }
}

fn send(outbox: Outbox) {
    for answer in outbox {
        answer();
    }
}

impl Session<'_> {
    /// The groups.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.state.shard
    }

    /// The settings.
    pub fn config(&self) -> &GroupConfig {
        &self.inner.config
    }

    /// A ticket under which a JoinGroup waits; `build` makes its response.
    pub fn hold_join(
        &mut self,
        responder: Responder,
        build: impl FnOnce(JoinAnswer) -> Response + Send + 'static,
    ) -> Ticket {
        self.hold(Waiting::Join(Box::new(move |answer| responder.send(build(answer)))))
    }

    /// A ticket under which a SyncGroup waits; `build` makes its response.
    pub fn hold_sync(
        &mut self,
        responder: Responder,
        build: impl FnOnce(SyncAnswer) -> Response + Send + 'static,
    ) -> Ticket {
        self.hold(Waiting::Sync(Box::new(move |answer| responder.send(build(answer)))))
    }

    fn hold(&mut self, waiting: Waiting) -> Ticket {
        let ticket = self.inner.tickets.fetch_add(1, Ordering::Relaxed);
        self.state.waiting.insert(ticket, waiting);
        ticket
    }

    /// Appends what `output` has to append. Its answers, and that of `held`, leave once that is durable; at once when
    /// there is nothing to append.
    pub fn submit(&mut self, output: Output, held: Option<Held>) {
        self.tell_of_gone_members(&output);
        if output.records.is_empty() && output.transaction.is_none() {
            self.answer(output.joins, output.syncs);
            if let Some(held) = held {
                self.state.outbox.push(Box::new(move || held(Ok(()))));
            }
            return;
        }
        let batch = encode_batch(&output, self.now);
        let terms = output.transaction.map_or((0, None), |transaction| (transaction.version, transaction.markers_seen));
        let id = self.put_in_flight(output, held);
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return self.cell.events.lock().push_back((id, Err(error))),
        };
        let cell = Arc::clone(self.cell);
        let inner = Arc::downgrade(self.inner);
        let environment: Weak<dyn GroupEnvironment> = Arc::downgrade(self.environment);
        let done = move |result: Result<Offset, ErrorCode>| {
            cell.events.lock().push_back((id, result));
            if let (Some(inner), Some(environment)) = (inner.upgrade(), environment.upgrade()) {
                let now = environment.now();
                inner.drain(&environment, &cell, now);
            }
        };
        self.environment.append(self.cell.partition, batch, terms, Box::new(done));
    }

    /// What members of share groups have acquired is released when they go.
    fn tell_of_gone_members(&mut self, output: &Output) {
        for record in &output.records {
            if let GroupRecord::Share { group, record: ShareGroupRecord::Member { member_id, value: None } } = record {
                let (environment, group, member) =
                    (Arc::clone(self.environment), Arc::clone(group), Arc::clone(member_id));
                self.state.outbox.push(Box::new(move || environment.share_member_gone(&group, &member)));
            }
        }
    }

    /// Puts `output` behind all that is being appended. Returns the id under which its result is awaited.
    fn put_in_flight(&mut self, output: Output, held: Option<Held>) -> u64 {
        let id = self.state.next_id;
        self.state.next_id += 1;
        let deadline = self.now.ticks_ms.saturating_add(self.inner.config.commit_timeout_ms);
        self.state.in_flight.push_back(InFlight { id, output, held, deadline, result: None });
        id
    }

    /// Tells `held` once everything that is being appended is durable or has failed; at once when nothing is.
    pub fn after_appends(&mut self, held: Held) {
        let id = self.put_in_flight(Output::default(), Some(held));
        // It has nothing of its own to wait for. The result goes through the events like any other: appends may all have
        // ended meanwhile, and then no other event would make anybody look at it.
        self.cell.events.lock().push_back((id, Ok(0)));
    }

    /// Takes up the results of appends, in the order of the log.
    fn settle(&mut self) {
        loop {
            let results = std::mem::take(&mut *self.cell.events.lock());
            if results.is_empty() {
                return;
            }
            for (id, result) in results {
                if let Some(flight) = self.state.in_flight.iter_mut().find(|flight| flight.id == id) {
                    flight.result = Some(result);
                }
            }
            while let Some(result) = self.state.in_flight.front().and_then(|flight| flight.result) {
                let Some(flight) = self.state.in_flight.pop_front() else { break };
                let result = result.map_err(answer_code);
                let config = &self.inner.config;
                let next = self.state.shard.stored(flight.output, result, self.now, config);
                if let Some(held) = flight.held {
                    self.state.outbox.push(Box::new(move || held(result.map(|_| ()))));
                }
                self.submit(next, None);
            }
        }
    }

    fn answer(&mut self, joins: Vec<(Ticket, JoinAnswer)>, syncs: Vec<(Ticket, SyncAnswer)>) {
        for (ticket, answer) in joins {
            if let Some(Waiting::Join(reply)) = self.state.waiting.remove(&ticket) {
                self.state.outbox.push(Box::new(move || reply(answer)));
            }
        }
        for (ticket, answer) in syncs {
            if let Some(Waiting::Sync(reply)) = self.state.waiting.remove(&ticket) {
                self.state.outbox.push(Box::new(move || reply(answer)));
            }
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        for flight in &mut self.state.in_flight {
            if flight.deadline <= now.ticks_ms {
                flight.deadline = i64::MAX;
                // Offsets and removals take effect whenever they become durable; everything else has failed.
                let lasting = flight.output.continuation.as_ref().is_some_and(Continuation::is_lasting);
                let continuation = if lasting { None } else { flight.output.continuation.take() };
                let joins = std::mem::take(&mut flight.output.joins);
                let syncs = std::mem::take(&mut flight.output.syncs);
                late.push((Output { continuation, joins, syncs, ..Output::default() }, flight.held.take()));
            }
        }
        for (output, held) in late {
            let error = ErrorCode::CoordinatorNotAvailable;
            if let Some(held) = held {
                self.state.outbox.push(Box::new(move || held(Err(error))));
            }
            let next = self.state.shard.stored(output, Err(error), now, &self.inner.config);
            self.submit(next, None);
        }
        for output in self.state.shard.step(&**self.environment, now, &self.inner.config) {
            self.submit(output, None);
        }
    }
}

/// As [`shards::answer_code`].
fn answer_code(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => shards::answer_code(other),
    }
}

/// One uncompressed batch of all records, or the marker that ends a transaction; those of one operation are atomic.
fn encode_batch(output: &Output, now: Now) -> Result<Bytes, ErrorCode> {
    let mut options = BuilderOptions::default();
    if let Some(transaction) = output.transaction {
        let (id, epoch) = (transaction.producer_id, transaction.producer_epoch);
        if let Some(marker) = transaction.marker {
            return control_marker(marker, id, epoch, now.wall_ms, 0, -1).map_err(|_| ErrorCode::UnknownServerError);
        }
        (options.producer_id, options.producer_epoch, options.transactional) = (id, epoch, true);
    }
    let mut builder = BatchBuilder::new(Compression::None, options);
    for record in &output.records {
        let (key, value) = record.encode().map_err(|error| {
            tracing::warn!(%error, "cannot write a group's record");
            ErrorCode::UnknownServerError
        })?;
        builder
            .append(now.wall_ms, Some(&key), value.as_deref(), HeadersRef::EMPTY)
            .map_err(|_| ErrorCode::UnknownServerError)?;
    }
    builder.build().map_err(|_| ErrorCode::UnknownServerError)
}

/// Reads a whole shard from its log.
fn load(
    environment: &dyn GroupEnvironment,
    partition: PartitionId,
    now: Now,
    config: &GroupConfig,
) -> Result<Shard, ErrorCode> {
    let mut shard = Shard::default();
    let read = |from| environment.read(partition, from);
    shards::replay_all(OFFSETS_TOPIC, partition, read, |batch| replay_batch(&mut shard, batch, now))?;
    shard.loaded(now, config, environment);
    Ok(shard)
}

/// Replays one batch of a partition of `__consumer_offsets`; records that cannot be read are named in the log and left out.
pub fn replay_batch(shard: &mut Shard, batch: &RecordBatch, now: Now) {
    let header = *batch.header();
    let skip = |offset: Offset, error: &dyn std::fmt::Display| {
        tracing::warn!(offset, %error, "a record of __consumer_offsets cannot be read and is left out");
    };
    let records = match batch.records() {
        Ok(records) => records,
        Err(error) => return skip(header.base_offset, &error),
    };
    for record in &records {
        let record = match record {
            Ok(record) => record,
            Err(error) => return skip(header.base_offset, &error),
        };
        if header.attributes.is_control() {
            match parse_control(record.key, record.value) {
                Ok(Control::EndTransaction(marker)) => {
                    shard.replay_marker(header.producer_id, marker.committed);
                }
                Ok(_) => {}
                Err(error) => skip(record.offset, &error),
            }
            continue;
        }
        let producer = header.attributes.is_transactional().then_some(header.producer_id);
        match decode(record.key.unwrap_or_default(), record.value) {
            Ok(Decoded::Record(record_read)) => shard.replay(record_read, record.offset, producer, now),
            Ok(Decoded::Other { key_type }) => {
                tracing::debug!(
                    key_type,
                    offset = record.offset,
                    "a record of a kind of group that is not known is left out"
                );
            }
            Err(error) => skip(record.offset, &error),
        }
    }
}
