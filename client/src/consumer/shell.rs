//! [`Consumer`]: what most programs read topics with.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use base::{Offset, Timestamp, TopicName, TopicPartition};
use parking_lot::Mutex;
use protocol::record::batches;

use super::config::ConsumerConfig;
use super::core::ConsumerCore;
use super::driver::Heartbeats;
use super::record::ConsumerRecords;
use super::types::{CommitTicket, ConsumerEvent, GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp, OffsetSpec};
use crate::client::Client;
use crate::driver::block_on;
use crate::error::ClientError;

mod open;
mod rebalance;
mod subscribing;

use self::open::Open;
pub use self::rebalance::{Rebalance, RebalanceListener};

/// How long a consumer that is dropped tries to commit and leave.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long [`Consumer::close`] does.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Ends a poll of its consumer from another thread. Cheap to clone.
#[derive(Clone, Default)]
pub struct Wakeup(Arc<WakeupState>);

#[derive(Default)]
struct WakeupState {
    called: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Wakeup {
    /// The current poll, or the next one, returns at once, possibly without records.
    pub fn wake(&self) {
        self.0.called.store(true, Ordering::Release);
        if let Some(waker) = self.0.waker.lock().take() {
            waker.wake();
        }
    }
}

/// Reads records of chosen partitions, or of the share of a group's topics that falls to it.
///
/// Heartbeats go on between polls from a thread of its own, until nothing has been polled for `max.poll.interval.ms`;
/// rebalances, with the listener's calls, happen within polls. Dropped, it commits (under `enable.auto.commit`) and
/// leaves its group at once; [`Consumer::close`] does the same and tells how it went.
///
/// ```no_run
/// # use client::{Client, ClientConfig, consumer::{Consumer, ConsumerConfig}};
/// # fn main() -> Result<(), client::ClientError> {
/// let client = Client::connect("localhost:9092", ClientConfig::default())?;
/// let config = ConsumerConfig::from_properties([("group.id", "readers"), ("auto.offset.reset", "earliest")])?;
/// let mut consumer = Consumer::new(client, config)?;
/// consumer.subscribe(["events"])?;
/// loop {
///     for record in consumer.poll_blocking(std::time::Duration::from_secs(1))? {
///         println!("{}-{}@{}: {:?}", record.topic, record.partition, record.offset, record.value);
///     }
/// }
/// # }
/// ```
pub struct Consumer {
    core: ConsumerCore,
    open: VecDeque<Open>,
    listener: Option<Box<dyn RebalanceListener>>,
    /// Commits that the listener began and the rebalance waits for.
    awaited: Vec<CommitTicket>,
    acknowledge: bool,
    /// Something was taken from the core since it was stepped: it can fetch on.
    took: bool,
    wakeup: Wakeup,
    heartbeats: Option<Heartbeats>,
}

impl Consumer {
    /// A consumer that reads nothing yet.
    ///
    /// # Errors
    /// `Config` if a setting is out of range.
    pub fn new(client: Client, config: ConsumerConfig) -> Result<Self, ClientError> {
        Ok(Self {
            core: ConsumerCore::new(client, config)?,
            open: VecDeque::new(),
            listener: None,
            awaited: Vec::new(),
            acknowledge: false,
            took: false,
            wakeup: Wakeup::default(),
            heartbeats: None,
        })
    }

    /// Sets the listener of rebalances, in the place of one set before.
    pub fn set_rebalance_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// Reads exactly these partitions, outside any group.
    ///
    /// # Errors
    /// `Invalid` while subscribed.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), ClientError> {
        self.core.assign(partitions)
    }

    /// Stops reading; a member leaves its group.
    ///
    /// # Errors
    /// `Timeout` if that was not through within `default.api.timeout.ms`.
    pub async fn unsubscribe(&mut self) -> Result<(), ClientError> {
        self.core.unsubscribe();
        self.within("leaving the group", |consumer| (!consumer.core.is_member()).then_some(Ok(()))).await
    }

    /// Records, as soon as there are some; none once `timeout` has passed. At most `max.poll.records`.
    ///
    /// Rebalances happen in here. What was returned before counts as processed: it is what automatic commits commit.
    ///
    /// # Errors
    /// What reading met and could not deal with: refused access, a corrupt batch (seek behind it to go on), no offset to
    /// begin at under `auto.offset.reset=none`, a fenced `group.instance.id`. Polling again tries again.
    pub async fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords, ClientError> {
        let limit = self.core.config().max_poll_records.max(1) as usize;
        let deadline = self.deadline(timeout);
        let woken = self.wakeup.clone();
        let polled = self.drive(deadline, |consumer| {
            match consumer.collect(limit) {
                Ok(records) if !records.is_empty() => return Some(Ok(records)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
            if let Some(error) = consumer.core.take_error() {
                return Some(Err(error));
            }
            woken.0.called.swap(false, Ordering::AcqRel).then(|| Ok(ConsumerRecords::default()))
        });
        Ok(polled.await?.unwrap_or_default())
    }

    /// [`Consumer::poll`] for programs without async.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub fn poll_blocking(&mut self, timeout: Duration) -> Result<ConsumerRecords, ClientError> {
        block_on(self.poll(timeout))
    }

    /// A handle that ends polls from other threads.
    pub fn wakeup_handle(&self) -> Wakeup {
        self.wakeup.clone()
    }

    /// Commits the positions: everything that polls returned.
    ///
    /// # Errors
    /// `Rebalanced` if the partitions went to others meanwhile; what the coordinator refused; `Timeout`.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let offsets = self.positions();
        self.commit_offsets(offsets).await
    }

    /// Commits these offsets.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_offsets(
        &mut self,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    ) -> Result<(), ClientError> {
        let ticket = self.core.commit(offsets);
        self.within("a commit", move |consumer| consumer.core.commit_result(ticket)).await
    }

    /// [`Consumer::commit`] for programs without async (Kafka's `commitSync`).
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub fn commit_blocking(&mut self) -> Result<(), ClientError> {
        block_on(self.commit())
    }

    /// Begins to commit the positions and does not wait (Kafka's `commitAsync`); a failure is an error of a later poll.
    pub fn commit_later(&mut self) {
        let offsets = self.positions();
        self.core.commit_and_forget(offsets);
        let now = self.core.client().now();
        let _ = self.core.step(now, Waker::noop());
    }

    /// The group's committed offsets; `None` where there is none.
    ///
    /// # Errors
    /// What the coordinator refused; `Timeout`.
    pub async fn committed(
        &mut self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndMetadata>)>, ClientError> {
        let ticket = self.core.committed(partitions);
        self.within("asking for committed offsets", move |consumer| consumer.core.committed_result(ticket)).await
    }

    /// Offsets of the first records that are still there.
    ///
    /// # Errors
    /// What the leaders refused; `Timeout`.
    pub async fn beginning_offsets(
        &mut self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Offset)>, ClientError> {
        self.bounds(partitions, OffsetSpec::Earliest).await
    }

    /// The ends of the partitions, as far as this consumer's `isolation.level` lets it read.
    ///
    /// # Errors
    /// What the leaders refused; `Timeout`.
    pub async fn end_offsets(
        &mut self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Offset)>, ClientError> {
        self.bounds(partitions, OffsetSpec::Latest).await
    }

    /// The first record of each partition with the given timestamp or a later one.
    ///
    /// # Errors
    /// What the leaders refused; `Timeout`.
    pub async fn offsets_for_times(
        &mut self,
        times: Vec<(TopicPartition, Timestamp)>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>, ClientError> {
        self.list(times.into_iter().map(|(name, time)| (name, OffsetSpec::Timestamp(time))).collect()).await
    }

    /// Offset of the next record that polls return; `None` while unknown, or not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.core.position(partition)
    }

    /// Reads on from `offset`.
    ///
    /// # Errors
    /// `Invalid` if the partition is not assigned, or the offset is negative.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        self.core.seek(partition, offset)
    }

    /// Reads on from the beginning, the end, or a time.
    ///
    /// # Errors
    /// `Invalid` if a partition is not assigned.
    pub fn seek_to(&mut self, partitions: &[TopicPartition], to: OffsetSpec) -> Result<(), ClientError> {
        self.core.seek_to(partitions, to)
    }

    /// Returns no records of these partitions until resumed.
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        self.core.pause(partitions);
    }

    /// Ends a pause.
    pub fn resume(&mut self, partitions: &[TopicPartition]) {
        self.core.resume(partitions);
    }

    /// Partitions that are read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.core.assignment()
    }

    /// Topics subscribed.
    pub fn subscription(&self) -> Vec<TopicName> {
        self.core.subscription()
    }

    /// How many offsets lie between the position and the end, as the last fetch said.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        self.core.lag(partition)
    }

    /// Who this consumer is in its group.
    pub fn group_metadata(&self) -> GroupMetadata {
        self.core.group_metadata()
    }

    /// Asks for a rebalance. With `group.protocol=consumer` the coordinator alone decides: nothing but a warning in the log.
    pub fn enforce_rebalance(&mut self, reason: &str) {
        self.core.request_rejoin(reason);
    }

    /// Commits (under `enable.auto.commit`), leaves the group at once, and closes.
    ///
    /// # Errors
    /// `Timeout` if that was not through within 30 seconds.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.shut(CLOSE_TIMEOUT).await
    }

    /// [`Consumer::close`] for programs without async.
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub fn close_blocking(self) -> Result<(), ClientError> {
        block_on(self.close())
    }

    async fn shut(&mut self, timeout: Duration) -> Result<(), ClientError> {
        self.core.begin_close();
        let deadline = self.deadline(timeout);
        let closed = self.drive(deadline, |consumer| consumer.core.is_closed().then_some(Ok(()))).await?;
        self.heartbeats = None;
        closed.ok_or(ClientError::Timeout {
            what: "closing the consumer".into(),
            after_ms: timeout.as_millis() as i64,
            reason: self.core.take_error().map(|error| error.to_string()),
        })
    }

    fn start_heartbeats(&mut self) {
        let core = &self.core;
        self.heartbeats.get_or_insert_with(|| Heartbeats::start(core.client().clone(), core.keep_alive()));
    }

    fn deadline(&self, timeout: Duration) -> i64 {
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        self.core.client().now().ticks_ms.saturating_add(timeout_ms)
    }

    fn positions(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let committed = |name: TopicPartition| {
            let position = self.core.position_to_commit(&name)?;
            Some((name, position))
        };
        self.core.assignment().into_iter().filter_map(committed).collect()
    }

    async fn list(
        &mut self,
        offsets: Vec<(TopicPartition, OffsetSpec)>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>, ClientError> {
        let ticket = self.core.list_offsets(offsets);
        self.within("looking up offsets", move |consumer| consumer.core.list_offsets_result(ticket)).await
    }

    async fn bounds(
        &mut self,
        partitions: Vec<TopicPartition>,
        spec: OffsetSpec,
    ) -> Result<Vec<(TopicPartition, Offset)>, ClientError> {
        let found = self.list(partitions.into_iter().map(|name| (name, spec)).collect()).await?;
        Ok(found.into_iter().filter_map(|(name, found)| Some((name, found?.offset))).collect())
    }

    /// Drives the core until `attempt` has a result, for at most `default.api.timeout.ms` (and what the core needs to
    /// notice that by itself).
    async fn within<T>(
        &mut self,
        what: &str,
        attempt: impl FnMut(&mut Self) -> Option<Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let timeout_ms = self.core.config().default_api_timeout_ms;
        let deadline = self.deadline(Duration::from_millis(timeout_ms as u64 + 1_000));
        let done = self.drive(deadline, attempt).await?;
        done.ok_or_else(|| ClientError::Timeout { what: what.into(), after_ms: timeout_ms, reason: None })
    }

    /// Steps the core and hands its events to the listener until `attempt` has a result; `None` after `deadline`.
    async fn drive<T>(
        &mut self,
        deadline_ticks_ms: i64,
        mut attempt: impl FnMut(&mut Self) -> Option<Result<T, ClientError>>,
    ) -> Result<Option<T>, ClientError> {
        let timers = self.core.client().timers().clone();
        let mut sleep = None;
        poll_fn(move |context| {
            loop {
                *self.wakeup.0.waker.lock() = Some(context.waker().clone());
                let now = timers.now();
                let step = self.core.step(now, context.waker());
                let heard = match self.hear() {
                    Ok(heard) => heard,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                if let Some(done) = attempt(self) {
                    return Poll::Ready(done.map(Some));
                }
                if now.ticks_ms >= deadline_ticks_ms {
                    return Poll::Ready(Ok(None));
                }
                if step.did_work || heard || std::mem::take(&mut self.took) {
                    continue;
                }
                let until = step.next_wake_ticks_ms.map_or(deadline_ticks_ms, |at| at.min(deadline_ticks_ms));
                let sleep = sleep.insert(timers.sleep_until(until));
                match Pin::new(sleep).poll(context) {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Hands events to the listener; whether there were any.
    fn hear(&mut self) -> Result<bool, ClientError> {
        let events = self.core.take_events();
        let heard = !events.is_empty();
        let mut failure = None;
        for event in events {
            let mut listener = self.listener.take();
            let mut rebalance = Rebalance { core: &mut self.core, commits: &mut self.awaited };
            match &event {
                ConsumerEvent::Revoked(partitions) => {
                    if let Some(listener) = &mut listener {
                        listener.on_partitions_revoked(&mut rebalance, partitions);
                    }
                    self.acknowledge = true;
                }
                ConsumerEvent::Lost(partitions) => {
                    if let Some(listener) = &mut listener {
                        listener.on_partitions_lost(&mut rebalance, partitions);
                    }
                    self.acknowledge = true;
                }
                ConsumerEvent::Assigned(partitions) => {
                    if let Some(listener) = &mut listener {
                        listener.on_partitions_assigned(&mut rebalance, partitions);
                    }
                }
                ConsumerEvent::NoOffset(partitions) => {
                    let names: Vec<String> = partitions.iter().map(|(name, _)| name.to_string()).collect();
                    failure = Some(ClientError::Invalid(format!(
                        "no offset to read from in {}: seek, or set auto.offset.reset",
                        names.join(", ")
                    )));
                }
                ConsumerEvent::OutOfRange { .. } | ConsumerEvent::Truncated { .. } => {}
            }
            self.listener = listener;
        }
        let core = &mut self.core;
        let mut refused = Vec::new();
        self.awaited.retain(|ticket| match core.commit_result(*ticket) {
            None => true,
            Some(Ok(())) => false,
            Some(Err(error)) => {
                refused.push(error);
                false
            }
        });
        let acknowledged = self.acknowledge && self.awaited.is_empty();
        if acknowledged {
            self.acknowledge = false;
            self.core.revocation_done();
        }
        match failure.or(refused.into_iter().next()) {
            Some(error) => Err(error),
            None => Ok(heard || acknowledged),
        }
    }

    /// Up to `limit` records of what is there.
    fn collect(&mut self, limit: usize) -> Result<ConsumerRecords, ClientError> {
        let mut records = ConsumerRecords::default();
        let mut left = limit;
        let mut paused = VecDeque::new();
        let mut failure = None;
        while left > 0 {
            let Some(mut open) = self.open.pop_front().or_else(|| self.open_next()) else { break };
            let name = &open.fetched.partition;
            if self.core.serial(name) != Some(open.serial) {
                continue;
            }
            if self.core.is_paused(name) {
                paused.push_back(open);
                continue;
            }
            let before = left;
            open.take(&mut left, &mut records.parts);
            self.core.set_position(&open.fetched.partition, open.position, open.fetched.leader_epoch);
            if let Some(error) = &open.failed {
                // Said again by every poll until the owner seeks; what came before it is handed out first.
                if before == left {
                    failure = Some(ClientError::Corrupt {
                        partition: open.fetched.partition.clone(),
                        offset: open.position,
                        reason: error.to_string(),
                    });
                }
                paused.push_back(open);
            } else if !open.is_done() {
                self.open.push_front(open);
            }
        }
        self.open.append(&mut paused);
        match failure {
            Some(error) if records.is_empty() => Err(error),
            _ => Ok(records),
        }
    }

    fn open_next(&mut self) -> Option<Open> {
        loop {
            let fetched = self.core.take_fetched()?;
            self.took = true;
            if let Some(serial) = self.core.serial(&fetched.partition) {
                return Some(Open {
                    batches: batches(&fetched.batches),
                    position: fetched.fetch_offset,
                    records: None,
                    failed: None,
                    serial,
                    fetched,
                });
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.core.is_closed() {
            return;
        }
        // A panicking owner has not processed what it was given: leave, but commit nothing.
        if std::thread::panicking() {
            return;
        }
        if let Err(error) = block_on(self.shut(DROP_TIMEOUT)) {
            tracing::warn!(%error, "the consumer was dropped without leaving its group");
        }
    }
}
