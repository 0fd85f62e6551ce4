//! The producer for everyone who does not step: a handle to share, and one thread (`millstream-producer`) that steps the
//! core when time has passed or an answer has come.
//!
//! Whoever fills a batch sends it on its own thread; the driver thread sleeps until the core is due or is woken. Records
//! that the core cannot take yet wait in the [`Backlog`], in order; every step moves them on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use base::TopicPartition;
use parking_lot::{Mutex, MutexGuard};
use protocol::record::record_size;

use super::backlog::{Backlog, Placement};
use super::config::ProducerConfig;
use super::core::{FlushMark, ProducerCore};
use super::record::ProducerRecord;
use super::ticket::{RecordMetadata, Ticket};
use crate::client::{Client, Lookup};
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::driver::{Unpark, block_on};
use crate::error::ClientError;

/// How long dropping the last handle waits for records under way; [`Producer::close`] waits for all of them.
const DROP_WAIT_MS: i64 = 5_000;

/// Writes records. Cheap to clone; clones share batches, memory and the thread. Dropping the last one flushes, for a few
/// seconds at most; [`Producer::close`] waits for everything and tells what could not be written.
///
/// With a `transactional.id`, records are sent in transactions:
///
/// ```no_run
/// use client::{Client, ClientConfig, Producer, ProducerConfig, ProducerRecord, TransactionErrorClass};
///
/// # async fn example() -> Result<(), client::ClientError> {
/// let client = Client::connect("localhost:9092", ClientConfig::default())?;
/// let config = ProducerConfig::default().transactional_id(Some("orders-1".to_owned()));
/// let producer = Producer::new(client, config)?;
/// producer.init_transactions().await?;
/// producer.begin_transaction()?;
/// // What becomes of a record, the commit says as well.
/// drop(producer.send(ProducerRecord::to("orders").value("4711")));
/// match producer.commit_transaction().await {
///     Err(error) if error.transaction_class() == TransactionErrorClass::Abortable => {
///         producer.abort_transaction().await?;
///     }
///     result => result?,
/// }
/// # Ok(())
/// # }
/// ```
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
    buffer_memory: usize,
    inner: Mutex<Inner>,
    /// Tick at which the driver wakes by itself.
    driver_due: AtomicI64,
    driver: Arc<DriverWaker>,
    waker: Waker,
    /// Who waits for memory, metadata or a flush.
    waiting: Mutex<Vec<Waker>>,
    /// Tick at which the driver ends even with records under way; `i64::MAX` while open.
    end_by: AtomicI64,
}

struct Inner {
    core: ProducerCore,
    /// Records in front of the core.
    backlog: Backlog,
    /// No further records are taken; those in the backlog still are.
    closing: bool,
}

impl Inner {
    fn is_flushed(&self) -> bool {
        self.backlog.is_empty() && self.core.is_flushed()
    }
}

/// Wakes the driver thread, once there is one.
#[derive(Default)]
struct DriverWaker(Mutex<Option<Thread>>);

impl DriverWaker {
    fn is_current(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|thread| thread.id() == thread::current().id())
    }
}

impl Wake for DriverWaker {
    fn wake(self: Arc<Self>) {
        if let Some(thread) = &*self.0.lock() {
            thread.unpark();
        }
    }
}

impl Shared {
    /// Steps the core and moves the backlog on; wakes who waits if there was progress.
    fn step(&self, mut guard: MutexGuard<'_, Inner>) -> Option<i64> {
        let Inner { core, backlog, closing } = &mut *guard;
        let mut did_work = false;
        let mut placed = Vec::new();
        let next = loop {
            let now = self.client.now();
            let step = core.step_silently(now, &self.waker);
            did_work |= step.did_work;
            if backlog.is_empty() {
                break step.next_wake_ticks_ms;
            }
            let gave_up = |topic: &str, deadline| self.blocked(topic, deadline);
            let moved = backlog.advance(core, now, *closing, &gave_up, &mut placed);
            did_work |= moved;
            if !moved {
                break step.next_wake_ticks_ms.into_iter().chain(backlog.next_deadline()).min();
            }
        };
        let settled = std::mem::take(&mut core.settled);
        // Failures of records without a ticket: the shell sends none.
        while let Some(error) = core.take_error() {
            tracing::error!(%error, "record lost");
        }
        drop(guard);
        placed.into_iter().for_each(|(placement, result)| placement.settle(result));
        settled.into_iter().for_each(|(outcome, result)| outcome.settle(result));
        if did_work {
            self.wake_waiting();
        }
        next
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
            let next = self.step(self.inner.lock());
            let now = self.client.now().ticks_ms;
            let end_by = self.end_by.load(Ordering::Acquire);
            if end_by != i64::MAX && (now >= end_by || self.inner.lock().is_flushed()) {
                let left = self.inner.lock().backlog.take_all();
                left.into_iter().for_each(|placement| placement.settle(Err(ClientError::Closed("the producer"))));
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
    /// In the backlog.
    Waiting(Arc<Placement>),
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
        let (max_block_ms, buffer_memory) = (config.max_block_ms, config.buffer_memory);
        let driver = Arc::new(DriverWaker::default());
        let core = ProducerCore::new(client.clone(), config)?;
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner { core, backlog: Backlog::default(), closing: false }),
            client,
            max_block_ms,
            buffer_memory,
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

    /// Sends a record; records of one topic stay in the order of their calls. The future yields where the record was
    /// written; the record is sent whether or not it is polled.
    ///
    /// While `buffer.memory` is full or the topic's partitions are not known yet, records wait in the producer in order,
    /// each for `max.block.ms` at most. Once another `buffer.memory` of them wait, this call blocks as Kafka's does.
    ///
    /// # Errors
    /// Those of [`ProducerCore::send`], `NotWritten`, or `Timeout` after `max.block.ms`.
    pub fn send(
        &self,
        record: ProducerRecord,
    ) -> impl Future<Output = Result<RecordMetadata, ClientError>> + Send + 'static {
        let mut sending = self.handle.shared.send(record);
        poll_fn(move |context| {
            loop {
                sending = match &mut sending {
                    Sending::Sent(ticket) => return Pin::new(ticket).poll(context),
                    Sending::Refused(error) => {
                        let error = error.take().unwrap_or(ClientError::Closed("the future"));
                        return Poll::Ready(Err(error));
                    }
                    Sending::Waiting(placement) => match placement.poll(context) {
                        Poll::Ready(Ok(ticket)) => Sending::Sent(ticket),
                        Poll::Ready(Err(error)) => Sending::Refused(Some(error)),
                        Poll::Pending => return Poll::Pending,
                    },
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
        Arc::clone(&self.handle.shared).flush().await;
    }

    /// [`Producer::flush`], waiting on this thread.
    pub fn flush_blocking(&self) {
        block_on(self.flush());
    }

    /// Aborts an open transaction, flushes, refuses further records of all clones, and waits until everything is written or given up
    /// (`delivery.timeout.ms` at the latest).
    ///
    /// # Errors
    /// `Invalid`, with the number of records, if some were not.
    pub async fn close(&self) -> Result<(), ClientError> {
        let shared = Arc::clone(&self.handle.shared);
        if shared.inner.lock().core.in_transaction()
            && let Err(error) = self.abort_transaction().await
        {
            tracing::warn!(%error, "the open transaction was not aborted; the brokers will");
        }
        shared.inner.lock().closing = true;
        shared.flush().await;
        let left = {
            let mut inner = shared.inner.lock();
            inner.core.begin_close();
            inner.core.unacked() + inner.backlog.len()
        };
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

    /// Takes over the transactional id: whoever wrote under it before is fenced, and his transaction ended. Once, before
    /// the first transaction.
    ///
    /// # Errors
    /// `Config` without `transactional.id`; `Timeout` after `max.block.ms` (call again); otherwise the producer is of no
    /// use, see [`ClientError::transaction_class`].
    pub async fn init_transactions(&self) -> Result<(), ClientError> {
        self.handle.shared.transact("taking over the transactional id", ProducerCore::init_transactions).await
    }

    /// Begins a transaction: records sent from here on, by all clones, are part of it.
    ///
    /// # Errors
    /// As [`ProducerCore::begin_transaction`].
    pub fn begin_transaction(&self) -> Result<(), ClientError> {
        self.handle.shared.inner.lock().core.begin_transaction()
    }

    /// Sends a group's offsets, which are committed if the transaction is.
    ///
    /// # Errors
    /// `Abortable`: abort the transaction. `Fenced`: a newer producer has the transactional id. `Timeout` after
    /// `max.block.ms`: call again, or abort.
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        group: &GroupMetadata,
    ) -> Result<(), ClientError> {
        let begin = |core: &mut ProducerCore| core.send_offsets_to_transaction(offsets, group);
        self.handle.shared.transact("sending offsets to the transaction", begin).await
    }

    /// Commits the transaction: waits until all that was sent is written, then makes it visible as a whole.
    ///
    /// # Errors
    /// As [`Producer::send_offsets_to_transaction`]; after `Timeout` the outcome is open until a call again tells it.
    pub async fn commit_transaction(&self) -> Result<(), ClientError> {
        let shared = &self.handle.shared;
        let sent_before = shared.inner.lock().backlog.next_number();
        shared.until(|inner| inner.backlog.is_past(sent_before)).await;
        shared.transact("committing the transaction", ProducerCore::commit_transaction).await
    }

    /// Aborts the transaction: nothing of it is ever seen by `read_committed` consumers.
    ///
    /// # Errors
    /// `Invalid` without an open transaction; `Fenced`; `Timeout` after `max.block.ms` (call again).
    pub async fn abort_transaction(&self) -> Result<(), ClientError> {
        let shared = &self.handle.shared;
        let waiting = shared.inner.lock().backlog.take_all();
        let aborted = || ClientError::Invalid("the transaction was aborted".into());
        waiting.into_iter().for_each(|placement| placement.settle(Err(aborted())));
        shared.transact("aborting the transaction", ProducerCore::abort_transaction).await
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
    fn send(&self, record: ProducerRecord) -> Sending {
        match self.try_send(record) {
            Ok(sending) => sending,
            Err(error) => Sending::Refused(Some(error)),
        }
    }

    fn try_send(&self, record: ProducerRecord) -> Result<Sending, ClientError> {
        let Some(name) = &record.topic else {
            return Err(ClientError::Invalid("a record without a topic".into()));
        };
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let now = self.client.now();
        let deadline = now.ticks_ms.saturating_add(self.max_block_ms);
        let mut inner = self.inner.lock();
        if inner.closing {
            return Err(ClientError::Closed("the producer"));
        }
        let Inner { core, backlog, .. } = &mut *inner;
        let topic = core.topic(name);
        if !backlog.holds_back(topic) {
            let sent =
                core.send_with_ticket(topic, record.partition, record.timestamp, key, value, &record.headers, now);
            match sent {
                Ok((status, ticket)) => {
                    if status.is_ready() {
                        self.step_and_arm(inner);
                    } else if status.is_first() {
                        let due = core.linger_ends();
                        drop(inner);
                        due.into_iter().for_each(|ticks_ms| self.due(ticks_ms));
                    }
                    return Ok(Sending::Sent(ticket));
                }
                Err(ClientError::BufferFull { .. } | ClientError::MetadataPending { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let size = record_size(key, value, &record.headers);
        let mut inner = self.wait_for_backlog(inner, size, name, deadline)?;
        let first = inner.backlog.is_empty();
        let placement = inner.backlog.push(topic, record, size, deadline);
        if first {
            // With the embedded broker a step makes room, or knows the topic, at once.
            self.step_and_arm(inner);
        }
        Ok(Sending::Waiting(placement))
    }

    /// Holds the calling thread while the backlog is full.
    fn wait_for_backlog<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        size: usize,
        topic: &str,
        deadline: i64,
    ) -> Result<MutexGuard<'a, Inner>, ClientError> {
        loop {
            let has_room = inner.backlog.is_empty() || inner.backlog.bytes() + size <= self.buffer_memory;
            // Nobody else would make room for the driver's own thread, on which wakers of others run.
            if has_room || self.driver.is_current() {
                return Ok(inner);
            }
            // Before unlocking: what becomes free afterwards wakes.
            self.wait(&Unpark::current());
            drop(inner);
            let left_ms = deadline.saturating_sub(self.client.now().ticks_ms);
            if left_ms <= 0 {
                return Err(self.blocked(topic, deadline));
            }
            thread::park_timeout(Duration::from_millis(left_ms as u64));
            inner = self.inner.lock();
            if inner.closing {
                return Err(ClientError::Closed("the producer"));
            }
        }
    }

    fn step_and_arm(&self, inner: MutexGuard<'_, Inner>) {
        if let Some(ticks_ms) = self.step(inner) {
            self.due(ticks_ms);
        }
    }

    fn blocked(&self, topic: &str, deadline: i64) -> ClientError {
        let now = self.client.now();
        let after_ms = now.ticks_ms.saturating_sub(deadline).saturating_add(self.max_block_ms);
        let missing = self.client.metadata().missing.get(topic).copied();
        match missing {
            Some(code) => ClientError::broker(format!("topic {topic}, after {after_ms} ms"), code, None),
            None => self.client.gave_up(&format!("finding room or partitions for a record of {topic}"), after_ms, now),
        }
    }

    /// Waits until all that was sent before is settled; first what is in the backlog, then what is in the core.
    async fn flush(&self) {
        let sent_before = self.inner.lock().backlog.next_number();
        self.until(|inner| inner.backlog.is_past(sent_before)).await;
        let mark: FlushMark = {
            let mut inner = self.inner.lock();
            let mark = inner.core.begin_flush();
            self.step_and_arm(inner);
            mark
        };
        self.until(|inner| inner.core.is_flush_done(mark) || inner.is_flushed()).await;
    }

    /// Has the core do something about the transaction, and waits for its end.
    async fn transact(
        &self,
        what: &str,
        begin: impl FnOnce(&mut ProducerCore) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let deadline = self.client.now().ticks_ms.saturating_add(self.max_block_ms);
        {
            let mut inner = self.inner.lock();
            begin(&mut inner.core)?;
            self.step_and_arm(inner);
        }
        let attempt = |_, waker: &Waker| {
            self.wait(waker);
            match self.inner.lock().core.take_transaction_result() {
                Some(Ok(())) => Lookup::Ready(()),
                Some(Err(error)) => Lookup::Failed(error),
                None if self.end_by.load(Ordering::Acquire) != i64::MAX => {
                    Lookup::Failed(ClientError::Closed("the producer"))
                }
                None => Lookup::Wait { until_ticks_ms: None },
            }
        };
        self.client.wait_for(what, deadline, attempt).await
    }

    async fn until(&self, done: impl Fn(&Inner) -> bool) {
        poll_fn(|context| {
            self.wait(context.waker());
            let done = done(&self.inner.lock());
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
            let mut inner = self.shared.inner.lock();
            inner.closing = true;
            inner.core.begin_flush();
            drop(inner);
            self.end(DROP_WAIT_MS);
        }
    }
}
