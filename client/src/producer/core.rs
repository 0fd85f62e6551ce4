//! The producer as a state machine: records in, acknowledged offsets out; its owner steps it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use base::hash::HashMap;
use base::{Now, Offset, PartitionId, Rng, Timestamp, TopicName};
use protocol::api::Uuid;
use protocol::record::{BatchBuilder, BuilderOptions, HEADER_SIZE, HeadersRef, partition_for_key, record_size};

use super::accumulator::{Batch, Body, Partition, Place, Topic};
use super::config::ProducerConfig;
use super::identity::ProducerIdentity;
use super::sender::ProduceCall;
use super::ticket::{Outcome, Ticket, Written};
use super::transaction::Transaction;
use crate::client::{Client, Lane};
use crate::error::ClientError;
use crate::retry::Backoff;

/// Room made for the first batch of a partition, before anything is known of its size.
const FIRST_BATCH_BYTES: usize = 1_024;

/// A topic of one [`ProducerCore`]; saves the look-up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicHandle(u32);

/// Which flush; see [`ProducerCore::begin_flush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushMark(u64);

/// What became of a record at once.
///
/// One word: as fields of their own they are written one by one and then moved together, a load that has to wait until the record's own
/// bytes have left for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendStatus(u64);

impl SendStatus {
    const READY: u64 = 1 << 32;
    const FIRST: u64 = 1 << 33;

    fn new(partition: PartitionId, ready: bool, first: bool) -> Self {
        let flags = (if ready { Self::READY } else { 0 }) | (if first { Self::FIRST } else { 0 });
        Self(u64::from(partition as u32) | flags)
    }

    /// Where it goes.
    pub fn partition(self) -> PartitionId {
        self.0 as u32 as PartitionId
    }

    /// Whether a step would send something now.
    pub fn is_ready(self) -> bool {
        self.0 & Self::READY != 0
    }

    /// Whether it is the first of its batch: a step is due when `linger.ms` is over.
    pub fn is_first(self) -> bool {
        self.0 & Self::FIRST != 0
    }
}

/// Writes records; stepped by its owner.
///
/// [`ProducerCore::send`] only appends to the open batch of the partition. [`ProducerCore::step`] closes batches whose
/// time has come, sends, retries and settles; with the embedded broker an answer is mostly there at once and is settled
/// in the same step. What could not be written is told by [`ProducerCore::take_error`], or to the record's [`Ticket`].
pub struct ProducerCore {
    pub(super) client: Client,
    pub(super) config: ProducerConfig,
    pub(super) lane: Lane,
    pub(super) rng: Rng,
    pub(super) topics: Vec<Topic>,
    pub(super) by_name: HashMap<TopicName, u32>,
    pub(super) by_id: HashMap<Uuid, u32>,
    pub(super) metadata_version: u64,
    pub(super) identity: ProducerIdentity,
    /// With `transactional.id`.
    pub(super) transaction: Option<Transaction>,
    /// Produce requests under way, in the order they were sent.
    pub(super) calls: Vec<ProduceCall>,
    pub(super) next_call: u64,
    /// Partitions with something queued.
    pub(super) listed: Vec<Place>,
    /// Open batches by the end of their linger time; entries of batches closed since are stale.
    lingering: VecDeque<(i64, Place, u64)>,
    pub(super) buffered_bytes: usize,
    pub(super) unacked: usize,
    pub(super) errors: VecDeque<ClientError>,
    /// What tickets are to be told at the end of the step.
    pub(super) settled: Vec<(Arc<Outcome>, Result<Written, ClientError>)>,
    /// Batches not settled, by flush; the first is that of `first_flush`, the last takes new batches.
    flushes: VecDeque<usize>,
    first_flush: u64,
    closing: bool,
}

impl ProducerCore {
    /// A producer on `client`.
    ///
    /// # Errors
    /// `Config` if a setting is out of range, or settings contradict each other.
    pub fn new(client: Client, config: ProducerConfig) -> Result<Self, ClientError> {
        config.check()?;
        let idempotent = config.idempotent()?;
        let backoff = Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms);
        let transaction = config.transactional_id.as_deref().map(|id| Transaction::new(id, &config));
        Ok(Self {
            lane: client.lane_as(config.client_id.as_deref()),
            rng: client.fork_rng(),
            client,
            config,
            topics: Vec::new(),
            by_name: HashMap::default(),
            by_id: HashMap::default(),
            metadata_version: 0,
            identity: ProducerIdentity::new(idempotent, backoff),
            transaction,
            calls: Vec::new(),
            next_call: 0,
            listed: Vec::new(),
            lingering: VecDeque::new(),
            buffered_bytes: 0,
            unacked: 0,
            errors: VecDeque::new(),
            settled: Vec::new(),
            flushes: VecDeque::from([0]),
            first_flush: 0,
            closing: false,
        })
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The settings.
    pub fn config(&self) -> &ProducerConfig {
        &self.config
    }

    /// The handle of a topic; its metadata is asked for if it is new, and with the embedded broker known on return.
    pub fn topic(&mut self, name: &str) -> TopicHandle {
        if let Some(index) = self.by_name.get(name) {
            return TopicHandle(*index);
        }
        let index = self.topics.len() as u32;
        let name: TopicName = Arc::from(name);
        self.by_name.insert(Arc::clone(&name), index);
        self.client.want_topic(&name);
        self.topics.push(Topic::new(name));
        // Whoever steps registers a waker of its own if the answer is still on its way.
        let _ = self.client.step(self.client.now(), Waker::noop());
        self.metadata_version = 0;
        self.update_metadata();
        TopicHandle(index)
    }

    /// Name of a topic.
    pub fn topic_name(&self, topic: TopicHandle) -> Option<&TopicName> {
        self.topics.get(topic.0 as usize).map(|topic| &topic.name)
    }

    /// How many partitions the topic has, once that is known.
    pub fn partition_count(&self, topic: TopicHandle) -> Option<i32> {
        let count = self.topics.get(topic.0 as usize)?.partitions.len();
        (count > 0).then_some(count as i32)
    }

    /// Why a topic's partitions are not known: `MetadataPending` while they are asked for, else what makes asking vain. `None` once they
    /// are known.
    pub fn topic_failure(&self, topic: TopicHandle) -> Option<ClientError> {
        let topic = self.topics.get(topic.0 as usize).filter(|topic| topic.partitions.is_empty())?;
        let name = &topic.name;
        Some(match topic.missing {
            Some(code) if !code.is_retriable() => ClientError::broker(format!("topic {name}"), code, None),
            _ => self.client.failure().unwrap_or_else(|| ClientError::MetadataPending { topic: name.to_string() }),
        })
    }

    /// Appends a record to the open batch of its partition: the one given, else the one of the key's hash, else the
    /// sticky one. Without a timestamp it gets that of `now`.
    ///
    /// # Errors
    /// `BufferFull` and `MetadataPending`: step, or wait, then send again. `Invalid`: unknown partition, negative
    /// timestamp, or larger than `max.request.size`. `Broker`: the topic does not exist and will not by itself.
    #[expect(clippy::too_many_arguments, reason = "the fields of a record, borrowed from where they are")]
    pub fn send<'a>(
        &mut self,
        topic: TopicHandle,
        partition: Option<PartitionId>,
        timestamp: Option<Timestamp>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<HeadersRef<'a>>,
        now: Now,
    ) -> Result<SendStatus, ClientError> {
        self.append(topic, partition, timestamp, key, value, headers.into(), now, false).map(|(status, _)| status)
    }

    /// As [`ProducerCore::send`], with a [`Ticket`] to learn what became of the record. Its failure is told to the
    /// ticket, not by [`ProducerCore::take_error`].
    ///
    /// # Errors
    /// As [`ProducerCore::send`].
    #[expect(clippy::too_many_arguments, reason = "the fields of a record, borrowed from where they are")]
    pub fn send_with_ticket<'a>(
        &mut self,
        topic: TopicHandle,
        partition: Option<PartitionId>,
        timestamp: Option<Timestamp>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Into<HeadersRef<'a>>,
        now: Now,
    ) -> Result<(SendStatus, Ticket), ClientError> {
        let (status, ticket) = self.append(topic, partition, timestamp, key, value, headers.into(), now, true)?;
        match ticket {
            Some(ticket) => Ok((status, ticket)),
            None => Err(ClientError::Invalid("a record without its ticket".into())),
        }
    }

    /// Once per record: finds the partition, checks the bounds, appends. No allocation while the open batch has room.
    #[expect(clippy::too_many_arguments, reason = "the fields of a record, borrowed from where they are")]
    #[inline]
    fn append(
        &mut self,
        handle: TopicHandle,
        partition: Option<PartitionId>,
        timestamp: Option<Timestamp>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: HeadersRef<'_>,
        now: Now,
        with_ticket: bool,
    ) -> Result<(SendStatus, Option<Ticket>), ClientError> {
        // An upper bound: what it really takes is counted once it is written.
        let size = record_size(key, value, headers);
        let Some(topic) = self.topics.get_mut(handle.0 as usize) else {
            return Err(ClientError::Invalid("the topic handle belongs to another producer".into()));
        };
        let count = topic.partitions.len();
        let timestamp = timestamp.unwrap_or(now.wall_ms);
        if count == 0
            || self.closing
            || self.transaction.as_ref().is_some_and(|transaction| !transaction.takes_records())
            || timestamp < 0
            || size + HEADER_SIZE > self.config.max_request_size
            || self.buffered_bytes + size > self.config.buffer_memory
        {
            return Err(self.refusal(handle, timestamp, size));
        }
        let partition = match (partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, count as i32),
            (None, None) => topic.sticky_partition(size, self.config.batch_size, &mut self.rng),
        };
        let Some(target) = usize::try_from(partition).ok().and_then(|index| topic.partitions.get_mut(index)) else {
            return Err(ClientError::Invalid(format!(
                "{}-{partition}: the topic has {count} partition(s), counted from 0",
                topic.name
            )));
        };
        let place = Place { topic: handle.0, partition: partition as u32 };
        let mut ready = self.config.linger_ms == 0;
        if let Some(Batch { body: Body::Open(builder), .. }) = &target.open
            && builder.size_bytes() + size > self.config.batch_size
        {
            close_open(target, place, &mut self.listed);
            ready = true;
        }
        let first = target.open.is_none();
        let batch = match &mut target.open {
            Some(batch) => batch,
            open => {
                let capacity = match target.last_size {
                    0 => FIRST_BATCH_BYTES.min(self.config.batch_size),
                    last => (last + last / 8).min(self.config.batch_size),
                };
                let options = BuilderOptions {
                    capacity: capacity.max(HEADER_SIZE + size),
                    transactional: self.transaction.is_some(),
                    ..BuilderOptions::default()
                };
                let number = target.next_number;
                target.next_number += 1;
                self.lingering.push_back((now.ticks_ms.saturating_add(self.config.linger_ms), place, number));
                if let Some(batches) = self.flushes.back_mut() {
                    *batches += 1;
                }
                open.insert(Batch {
                    number,
                    body: Body::Open(BatchBuilder::new(self.config.compression_type, options)),
                    records: 0,
                    accounted_bytes: 0,
                    opened_ticks_ms: now.ticks_ms,
                    attempts: 0,
                    sequence: -1,
                    flush: self.first_flush + self.flushes.len() as u64 - 1,
                    outcome: None,
                    untracked: false,
                    failure: None,
                })
            }
        };
        let Body::Open(builder) = &mut batch.body else {
            return Err(ClientError::Invalid(format!("{}-{partition}: the open batch is closed", topic.name)));
        };
        builder
            .append(timestamp, key, value, headers)
            .map_err(|error| ClientError::Invalid(format!("{}-{partition}: {error}", topic.name)))?;
        let written = builder.size_bytes();
        self.buffered_bytes += written - batch.accounted_bytes;
        batch.accounted_bytes = written;
        self.unacked += 1;
        let index = batch.records;
        batch.records += 1;
        let ticket = if with_ticket {
            let outcome = batch.outcome.get_or_insert_with(|| Outcome::new(Arc::clone(&topic.name), partition));
            Some(Ticket { outcome: Arc::clone(outcome), index, timestamp })
        } else {
            batch.untracked = true;
            None
        };
        if written >= self.config.batch_size {
            close_open(target, place, &mut self.listed);
            ready = true;
        }
        Ok((SendStatus::new(partition, ready, first), ticket))
    }

    #[cold]
    fn refusal(&self, handle: TopicHandle, timestamp: Timestamp, size: usize) -> ClientError {
        let topic = &self.topics[handle.0 as usize];
        let name = &topic.name;
        if self.closing {
            ClientError::Closed("the producer")
        } else if let Some(transaction) = self.transaction.as_ref().filter(|transaction| !transaction.takes_records()) {
            transaction.refusal()
        } else if timestamp < 0 {
            ClientError::Invalid(format!("{name}: timestamp {timestamp} is negative"))
        } else if size + HEADER_SIZE > self.config.max_request_size {
            ClientError::Invalid(format!(
                "{name}: a record of about {size} bytes is larger than max.request.size ({})",
                self.config.max_request_size
            ))
        } else if size > self.config.buffer_memory {
            ClientError::Invalid(format!(
                "{name}: a record of about {size} bytes is larger than buffer.memory ({})",
                self.config.buffer_memory
            ))
        } else if let Some(failure) = self.topic_failure(handle) {
            failure
        } else {
            ClientError::BufferFull { limit_bytes: self.config.buffer_memory }
        }
    }

    /// Offset of the last record of that partition that was acknowledged, once there is one.
    pub fn acked_offset(&self, topic: TopicHandle, partition: PartitionId) -> Option<Offset> {
        self.topics.get(topic.0 as usize)?.partitions.get(usize::try_from(partition).ok()?)?.acked
    }

    /// Records sent that are neither acknowledged nor given up.
    pub fn unacked(&self) -> usize {
        self.unacked
    }

    /// Bytes of those records.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Closes all open batches: they go out at the next step, without waiting for `linger.ms`. The mark tells when all
    /// that was sent before this call is settled: [`ProducerCore::is_flush_done`].
    pub fn begin_flush(&mut self) -> FlushMark {
        self.close_lingering(i64::MAX);
        let mark = FlushMark(self.first_flush + self.flushes.len() as u64 - 1);
        self.flushes.push_back(0);
        self.drop_done_flushes();
        mark
    }

    /// Whether all that was sent before that [`ProducerCore::begin_flush`] is acknowledged or given up.
    pub fn is_flush_done(&self, mark: FlushMark) -> bool {
        mark.0 < self.first_flush
    }

    /// Whether everything sent is acknowledged or given up.
    pub fn is_flushed(&self) -> bool {
        self.unacked == 0
    }

    /// The next failure of records without a ticket that nobody was told yet.
    pub fn take_error(&mut self) -> Option<ClientError> {
        self.errors.pop_front()
    }

    /// Flushes, and refuses further records. Closed once [`ProducerCore::is_flushed`].
    pub fn begin_close(&mut self) {
        self.closing = true;
        self.begin_flush();
    }

    /// Closes the open batches whose linger time is over at `ticks_ms`.
    pub(super) fn close_lingering(&mut self, ticks_ms: i64) {
        while let Some((deadline, place, number)) = self.lingering.front().copied() {
            if deadline > ticks_ms {
                break;
            }
            self.lingering.pop_front();
            let partition = &mut self.topics[place.topic as usize].partitions[place.partition as usize];
            if partition.open.as_ref().is_some_and(|open| open.number == number) {
                close_open(partition, place, &mut self.listed);
            }
        }
    }

    /// Tick at which the next open batch has lingered long enough.
    pub(super) fn linger_ends(&self) -> Option<i64> {
        self.lingering.front().map(|(deadline, ..)| *deadline)
    }

    /// Takes a settled batch out of the books.
    pub(super) fn release(&mut self, batch: &Batch) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(batch.accounted_bytes);
        self.unacked = self.unacked.saturating_sub(batch.records as usize);
        let flush = batch.flush.checked_sub(self.first_flush).and_then(|index| usize::try_from(index).ok());
        if let Some(batches) = flush.and_then(|index| self.flushes.get_mut(index)) {
            *batches = batches.saturating_sub(1);
        }
        self.drop_done_flushes();
    }

    /// The last one stays: new batches belong to it.
    fn drop_done_flushes(&mut self) {
        while self.flushes.len() > 1 && self.flushes.front() == Some(&0) {
            self.flushes.pop_front();
            self.first_flush += 1;
        }
    }

    /// Takes over new metadata; whether there was any.
    pub(super) fn update_metadata(&mut self) -> bool {
        if self.client.metadata_version() == self.metadata_version {
            return false;
        }
        let metadata = self.client.metadata();
        self.metadata_version = metadata.version;
        for (index, topic) in self.topics.iter_mut().enumerate() {
            let name = Arc::clone(&topic.name);
            match metadata.topic(&name) {
                Some(known) => {
                    topic.update(known, |partition| metadata.leader(&name, partition).map(|(leader, _)| leader));
                    if !known.id.is_nil() {
                        self.by_id.insert(known.id, index as u32);
                    }
                }
                None => {
                    topic.missing = metadata.missing.get(&name).copied();
                    topic.partitions.iter_mut().for_each(|partition| partition.leader = None);
                }
            }
        }
        true
    }
}

impl Drop for ProducerCore {
    fn drop(&mut self) {
        if self.unacked > 0 {
            tracing::warn!(records = self.unacked, "producer dropped with records that were not acknowledged");
        }
        let batches = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions).flat_map(|partition| {
            let sent = partition.sent.drain(..).map(|sent| sent.batch);
            sent.chain(partition.queue.drain(..)).chain(partition.open.take())
        });
        for outcome in batches.filter_map(|batch| batch.outcome) {
            outcome.settle(Err(ClientError::Closed("the producer")));
        }
    }
}

/// Moves the open batch to the queue, and the partition to the list of those with something queued.
fn close_open(partition: &mut Partition, place: Place, listed: &mut Vec<Place>) {
    if let Some(batch) = partition.open.take() {
        partition.last_size = batch.accounted_bytes;
        partition.queue.push_back(batch);
        if !std::mem::replace(&mut partition.listed, true) {
            listed.push(place);
        }
    }
}
