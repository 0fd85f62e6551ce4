//! The producer for everyone who does not step: a handle to share, and one thread (`millstream-producer`) that steps the
//! core when time has passed or an answer has come.
//!
//! Whoever fills a batch sends it on its own thread; the driver thread sleeps until the core is due or is woken.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use base::{PartitionId, Timestamp, TopicName};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use protocol::record::Headers;

use super::config::ProducerConfig;
use super::core::{FlushMark, ProducerCore, SendStatus, TopicHandle};
use super::ticket::{RecordMetadata, Ticket};
use crate::client::Client;
use crate::driver::block_on;
use crate::error::ClientError;
use crate::timers::Sleep;

/// How long dropping the last handle waits for records under way; [`Producer::close`] waits for all of them.
const DROP_WAIT_MS: i64 = 5_000;

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub struct ProducerRecord {
    topic: Option<TopicName>,
    partition: Option<PartitionId>,
    timestamp: Option<Timestamp>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Headers,
}

impl ProducerRecord {
    /// A record for `topic`, so far without key and value.
    pub fn to(topic: impl Into<TopicName>) -> Self {
        Self { topic: Some(topic.into()), ..Self::default() }
    }

    /// With this key; it decides the partition unless one is given.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// For this partition, whatever the key.
    #[must_use]
    pub fn partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this timestamp (milliseconds since 1970) instead of the time of sending.
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, key: &str, value: impl Into<Bytes>) -> Self {
        self.headers.add(key, Some(value.into()));
        self
    }

    /// With these headers.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }
}

/// Writes records. Cheap to clone; clones share batches, memory and the thread. Dropping the last one flushes, for a few
/// seconds at most; [`Producer::close`] waits for everything and tells what could not be written.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What the clones share; its end is the producer's.
struct Handle {
    shared: Arc<Shared>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    client: Client,
    max_block_ms: i64,
    core: Mutex<ProducerCore>,
    /// Tick at which the driver wakes by itself.
    driver_due: AtomicI64,
    driver: Arc<DriverWaker>,
    waker: Waker,
    /// Who waits for memory, metadata or a flush.
    waiting: Mutex<Vec<Waker>>,
    /// Tick at which the driver ends even with records under way; `i64::MAX` while open.
    end_by: AtomicI64,
}

/// Wakes the driver thread, once there is one.
#[derive(Default)]
struct DriverWaker(Mutex<Option<Thread>>);

impl Wake for DriverWaker {
    fn wake(self: Arc<Self>) {
        if let Some(thread) = &*self.0.lock() {
            thread.unpark();
        }
    }
}

impl Shared {
    /// Steps the core; wakes who waits if it made progress.
    fn step(&self, mut core: MutexGuard<'_, ProducerCore>) -> Option<i64> {
        let step = core.step_silently(self.client.now(), &self.waker);
        let settled = std::mem::take(&mut core.settled);
        // Failures of records without a ticket: the shell sends none.
        while let Some(error) = core.take_error() {
            tracing::error!(%error, "record lost");
        }
        drop(core);
        settled.into_iter().for_each(|(outcome, result)| outcome.settle(result));
        if step.did_work {
            self.wake_waiting();
        }
        step.next_wake_ticks_ms
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// The driver must wake at `ticks_ms` at the latest.
    fn due(&self, ticks_ms: i64) {
        if ticks_ms < self.driver_due.fetch_min(ticks_ms, Ordering::AcqRel) {
            self.waker.wake_by_ref();
        }
    }

    fn drive(&self) {
        loop {
            // From here on, whoever needs the driver earlier says so.
            self.driver_due.store(i64::MAX, Ordering::Release);
            let next = self.step(self.core.lock());
            let now = self.client.now().ticks_ms;
            let end_by = self.end_by.load(Ordering::Acquire);
            if end_by != i64::MAX && (now >= end_by || self.core.lock().is_flushed()) {
                self.wake_waiting();
                return;
            }
            let next = next.unwrap_or(i64::MAX).min(end_by);
            let due = self.driver_due.fetch_min(next, Ordering::AcqRel).min(next);
            match due {
                i64::MAX => thread::park(),
                due if due > now => thread::park_timeout(Duration::from_millis((due - now) as u64)),
                _ => {}
            }
        }
    }
}

/// A record on its way through [`Producer::send`].
enum Sending {
    /// No room yet, or its topic is not known yet; until this tick.
    Waiting(ProducerRecord, i64, Option<Sleep>),
    Sent(Ticket),
    Refused(Option<ClientError>),
}

impl Producer {
    /// A producer on `client`, with its thread.
    ///
    /// # Errors
    /// `Config` if a setting is out of range, or settings contradict each other; `Invalid` if the system refuses the
    /// thread.
    pub fn new(client: Client, config: ProducerConfig) -> Result<Self, ClientError> {
        let max_block_ms = config.max_block_ms;
        let driver = Arc::new(DriverWaker::default());
        let shared = Arc::new(Shared {
            core: Mutex::new(ProducerCore::new(client.clone(), config)?),
            client,
            max_block_ms,
            driver_due: AtomicI64::new(i64::MAX),
            waker: Waker::from(Arc::clone(&driver)),
            driver,
            waiting: Mutex::default(),
            end_by: AtomicI64::new(i64::MAX),
        });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("millstream-producer".into())
            .spawn(move || of_thread.drive())
            .map_err(|error| ClientError::Invalid(format!("no thread for the producer: {error}")))?;
        *shared.driver.0.lock() = Some(thread.thread().clone());
        // It may have gone to sleep before it could be woken.
        thread.thread().unpark();
        Ok(Self { handle: Arc::new(Handle { shared, driver: Mutex::new(Some(thread)) }) })
    }

    /// Sends a record. It is in its batch when this returns, unless `buffer.memory` is full or the topic is not known
    /// yet; then it is sent when the future is polled, which waits up to `max.block.ms`. The future yields where the
    /// record was written; it need not be awaited one by one.
    ///
    /// # Errors
    /// Those of [`ProducerCore::send`], `NotWritten`, or `Timeout` after `max.block.ms`.
    pub fn send(
        &self,
        record: ProducerRecord,
    ) -> impl Future<Output = Result<RecordMetadata, ClientError>> + Send + 'static {
        let shared = Arc::clone(&self.handle.shared);
        let deadline = shared.client.now().ticks_ms.saturating_add(shared.max_block_ms);
        let mut sending = shared.try_send(record, deadline);
        poll_fn(move |context| {
            loop {
                sending = match &mut sending {
                    Sending::Sent(ticket) => return Pin::new(ticket).poll(context),
                    Sending::Refused(error) => {
                        let error = error.take().unwrap_or(ClientError::Closed("the future"));
                        return Poll::Ready(Err(error));
                    }
                    Sending::Waiting(record, deadline, sleep) => {
                        // Before trying: what becomes free afterwards wakes.
                        shared.wait(context.waker());
                        let timers = shared.client.timers();
                        let over = Pin::new(sleep.get_or_insert_with(|| timers.sleep_until(*deadline)))
                            .poll(context)
                            .is_ready();
                        match shared.try_send(std::mem::take(record), *deadline) {
                            Sending::Waiting(record, deadline, _) if over => {
                                Sending::Refused(Some(shared.blocked(&record, deadline)))
                            }
                            Sending::Waiting(returned, ..) => {
                                *record = returned;
                                return Poll::Pending;
                            }
                            other => other,
                        }
                    }
                }
            }
        })
    }

    /// As [`Producer::send`], waiting on this thread until the record is written.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn send_blocking(&self, record: ProducerRecord) -> Result<RecordMetadata, ClientError> {
        block_on(self.send(record))
    }

    /// Sends everything at once, without waiting for `linger.ms`, and waits until all that was sent before this call is
    /// written or given up. The futures of [`Producer::send`] tell which.
    pub async fn flush(&self) {
        let shared = Arc::clone(&self.handle.shared);
        let mark = {
            let mut core = shared.core.lock();
            let mark = core.begin_flush();
            shared.step_and_arm(core);
            mark
        };
        shared.flushed(mark).await;
    }

    /// [`Producer::flush`], waiting on this thread.
    pub fn flush_blocking(&self) {
        block_on(self.flush());
    }

    /// Flushes, refuses further records of all clones, and waits until everything is written or given up
    /// (`delivery.timeout.ms` at the latest).
    ///
    /// # Errors
    /// `Invalid`, with the number of records, if some were not.
    pub async fn close(&self) -> Result<(), ClientError> {
        let shared = Arc::clone(&self.handle.shared);
        let mark = {
            let mut core = shared.core.lock();
            core.begin_close();
            let mark = core.begin_flush();
            shared.step_and_arm(core);
            mark
        };
        shared.flushed(mark).await;
        let left = shared.core.lock().unacked();
        self.handle.end(0);
        if left == 0 {
            return Ok(());
        }
        Err(ClientError::Invalid(format!("{left} record(s) were not acknowledged when the producer was closed")))
    }

    /// [`Producer::close`], waiting on this thread.
    ///
    /// # Errors
    /// As [`Producer::close`].
    pub fn close_blocking(&self) -> Result<(), ClientError> {
        block_on(self.close())
    }

    /// How many partitions the topic has, asked for if need be.
    ///
    /// # Errors
    /// `Timeout` or `Unreachable` after `max.block.ms`.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, ClientError> {
        let shared = &self.handle.shared;
        let deadline = shared.client.now().ticks_ms.saturating_add(shared.max_block_ms);
        let topic = shared.client.topic(&Arc::from(topic), deadline).await?;
        Ok(topic.partitions.len() as i32)
    }
}

impl Shared {
    fn try_send(&self, record: ProducerRecord, deadline: i64) -> Sending {
        match self.try_send_once(record, deadline) {
            // That has made room at once if the broker is embedded.
            Sending::Waiting(record, deadline, _) => self.try_send_once(record, deadline),
            other => other,
        }
    }

    fn try_send_once(&self, record: ProducerRecord, deadline: i64) -> Sending {
        let now = self.client.now();
        let mut core = self.core.lock();
        let Some(name) = &record.topic else {
            return Sending::Refused(Some(ClientError::Invalid("a record without a topic".into())));
        };
        let topic: TopicHandle = core.topic(name);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        match core.send_with_ticket(topic, record.partition, record.timestamp, key, value, &record.headers, now) {
            Ok((SendStatus { ready, first, .. }, ticket)) => {
                if ready {
                    self.step_and_arm(core);
                } else if first {
                    let due = core.linger_ends();
                    drop(core);
                    due.into_iter().for_each(|ticks_ms| self.due(ticks_ms));
                }
                Sending::Sent(ticket)
            }
            Err(ClientError::BufferFull { .. } | ClientError::MetadataPending { .. }) => {
                // Full, or unknown: sends what there is, asks for the topic.
                core.begin_flush();
                self.step_and_arm(core);
                Sending::Waiting(record, deadline, None)
            }
            Err(error) => Sending::Refused(Some(error)),
        }
    }

    fn step_and_arm(&self, core: MutexGuard<'_, ProducerCore>) {
        if let Some(ticks_ms) = self.step(core) {
            self.due(ticks_ms);
        }
    }

    fn blocked(&self, record: &ProducerRecord, deadline: i64) -> ClientError {
        let topic = record.topic.as_deref().unwrap_or_default();
        let now = self.client.now();
        let after_ms = now.ticks_ms.saturating_sub(deadline).saturating_add(self.max_block_ms);
        let missing = self.client.metadata().missing.get(topic).copied();
        match missing {
            Some(code) => ClientError::broker(format!("topic {topic}, after {after_ms} ms"), code, None),
            None => self.client.gave_up(&format!("finding room or partitions for a record of {topic}"), after_ms, now),
        }
    }

    async fn flushed(&self, mark: FlushMark) {
        poll_fn(|context| {
            self.wait(context.waker());
            let done = {
                let core = self.core.lock();
                core.is_flush_done(mark) || core.is_flushed()
            };
            if done || self.end_by.load(Ordering::Acquire) != i64::MAX { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Handle {
    /// Ends the driver thread, which may use `wait_ms` for what is under way; waits for it.
    fn end(&self, wait_ms: i64) {
        let Some(driver) = self.driver.lock().take() else { return };
        let end_by = self.shared.client.now().ticks_ms.saturating_add(wait_ms);
        self.shared.end_by.store(end_by, Ordering::Release);
        driver.thread().unpark();
        // The last handle may be dropped by a waker that the driver itself calls.
        if driver.thread().id() != thread::current().id() && driver.join().is_err() {
            tracing::error!("the producer's thread panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.driver.lock().is_some() {
            self.shared.core.lock().begin_close();
            self.end(DROP_WAIT_MS);
        }
    }
}
