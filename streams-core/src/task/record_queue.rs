//! The buffered records of one input partition: fetched batches as they are, and one deserialised head.
//!
//! Records are decoded in place, one slot at a time; a batch is decompressed when its first record becomes head. The
//! head is made typed, and gets its timestamp, when the record before it is taken: errors of a record show one record
//! early, and a poison record behind the head is not seen yet.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use base::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use bytes::Bytes;
use protocol::record::{Headers, HeadersView, RecordBatch, RecordSlot, RecordView, Records, batches};

use crate::error::{BoxError, ErrorKind, StreamsError};
use crate::processor::chain::Children;
use crate::processor::extractor::{SourceRecord, TimestampExtractor};
use crate::processor::handlers::ErrorResult;
use crate::record::Record;
use crate::serde::{SerdeError, SerdeRef};
use crate::task::dead_letters::{Failure, RawPlace, RawRecord, Source};
use crate::task::shared::TaskShared;
use crate::topology::options::SourceOptions;

/// A record that was taken from a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) timestamp: Timestamp,
    /// False for the last of nothing but bad records: it only moves the offset.
    pub(crate) is_good: bool,
}

/// A queue with its types erased: one virtual call to take a record, one to process it.
pub(crate) trait SourceQueue {
    fn partition(&self) -> &TopicPartition;
    /// Adds whole batches; records below `from` are left out. Returns how many records that made.
    fn push(&mut self, fetched: &Bytes, from: Offset) -> Result<usize, StreamsError>;
    /// Moves the position over records that are not delivered (control records, aborted ones).
    fn advance_position(&mut self, offset: Offset);
    /// Records in the queue, the head among them.
    fn count(&self) -> usize;
    /// Timestamp of the head; `None` if the queue is empty.
    fn head_timestamp(&self) -> Option<Timestamp>;
    /// Takes the head and makes the next record head.
    fn take(&mut self) -> Result<Taken, StreamsError>;
    /// Sends the record that was taken through the topology.
    fn process(&mut self) -> Result<(), BoxError>;
    /// Offset to commit: the head's, or the position behind everything seen; `None` before the first record.
    fn committable(&self) -> Option<(Offset, LeaderEpoch)>;
    /// Whether [`SourceQueue::committable`] has moved since [`SourceQueue::committed`].
    fn needs_commit(&self) -> bool;
    fn committed(&mut self);
    fn partition_time(&self) -> Timestamp;
    fn set_partition_time(&mut self, timestamp: Timestamp);
    fn clear(&mut self);
}

enum Head<K, V> {
    Good(Record<K, V>),
    Bad,
}

struct Queued<K, V> {
    head: Head<K, V>,
    timestamp: Timestamp,
    offset: Offset,
}

/// The queue of one partition of a source of `K, V`.
pub(crate) struct TypedQueue<K, V> {
    name: Arc<str>,
    task: Rc<TaskShared>,
    children: Rc<Children<K, V>>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    extractor: Arc<dyn TimestampExtractor<K, V>>,
    /// Index of the partition among the task's inputs.
    source: u32,
    partition: TopicPartition,
    /// Batches, each with the offset from which on its records are wanted.
    waiting: VecDeque<(RecordBatch, Offset)>,
    current: Option<Records>,
    /// Records in `waiting` and `current`.
    undecoded: usize,
    head: Option<Queued<K, V>>,
    /// Where a good head lies in `current`.
    head_slot: Option<RecordSlot>,
    taken: Option<Queued<K, V>>,
    /// Where the record that was taken lies, for handlers of errors.
    place: Rc<RawPlace>,
    /// Whether `place` still holds the body of the batch before `current`.
    is_new_batch: bool,
    partition_time: Timestamp,
    /// Records below this one are not wanted. Of the records being read only: those that wait are not skipped by what is fetched later.
    from: Offset,
    /// Behind the last batch that was added.
    position: Offset,
    leader_epoch: LeaderEpoch,
    has_delivered: bool,
    committed: Offset,
}

impl<K, V> TypedQueue<K, V> {
    pub(crate) fn new(
        options: &SourceOptions<K, V>,
        name: Arc<str>,
        task: Rc<TaskShared>,
        children: Rc<Children<K, V>>,
        source: u32,
        partition: TopicPartition,
    ) -> Self {
        let extractor = options.extractor.clone().unwrap_or_else(|| task.default_extractor().extractor());
        let place = Rc::<RawPlace>::default();
        task.add_raw_place(source, Rc::clone(&place));
        Self {
            name,
            task,
            children,
            key: Arc::clone(&options.key),
            value: Arc::clone(&options.value),
            extractor,
            source,
            partition,
            waiting: VecDeque::new(),
            current: None,
            undecoded: 0,
            head: None,
            head_slot: None,
            taken: None,
            place,
            is_new_batch: false,
            partition_time: -1,
            from: -1,
            position: -1,
            leader_epoch: -1,
            has_delivered: false,
            committed: -1,
        }
    }

    fn corrupt(&self, error: impl Into<BoxError>, offset: Offset) -> StreamsError {
        StreamsError::caused_by(ErrorKind::Deserialization, error)
            .in_processor(&self.name)
            .in_task(self.task.id())
            .at_record(self.partition.clone(), offset)
    }

    /// The next record's place in the body of `current`.
    #[inline]
    fn next_slot(&mut self) -> Result<Option<RecordSlot>, StreamsError> {
        loop {
            if let Some(records) = &mut self.current {
                match records.next_slot() {
                    Some(Ok(slot)) => {
                        self.undecoded = self.undecoded.saturating_sub(1);
                        if slot.offset < self.from {
                            continue;
                        }
                        return Ok(Some(slot));
                    }
                    Some(Err(error)) => return Err(self.corrupt(error, self.from)),
                    None => self.current = None,
                }
            }
            let Some((batch, from)) = self.waiting.pop_front() else { return Ok(None) };
            self.from = self.from.max(from);
            self.is_new_batch = true;
            self.current = Some(batch.records().map_err(|error| self.corrupt(error, batch.header().base_offset))?);
        }
    }

    /// Makes the next good record head; if all that are left are bad, the last of them stands for their offsets.
    fn update_head(&mut self) -> Result<(), StreamsError> {
        let mut last_bad = None;
        while self.head.is_none() {
            let Some(slot) = self.next_slot()? else { break };
            self.from = slot.offset + 1;
            let Some(records) = &self.current else { break };
            let view = slot.view(records.body());
            let record = match self.read(view.key, view.value, view.headers) {
                Ok(record) => record,
                Err(error) => {
                    self.not_deserialized(error, &slot, view)?;
                    last_bad = Some(slot.offset);
                    continue;
                }
            };
            let timestamp = self.extract(&record, &slot)?;
            if timestamp < 0 {
                self.task.count_dropped();
                last_bad = Some(slot.offset);
                continue;
            }
            let record = record.with_timestamp(timestamp);
            self.head = Some(Queued { head: Head::Good(record), timestamp, offset: slot.offset });
            self.head_slot = Some(slot);
        }
        if let (None, Some(offset)) = (&self.head, last_bad) {
            self.head = Some(Queued { head: Head::Bad, timestamp: -1, offset });
        }
        Ok(())
    }

    #[inline]
    fn read(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: HeadersView<'_>,
    ) -> Result<Record<K, V>, SerdeError> {
        let headers = if headers.encoded().len() <= 1 { Headers::default() } else { headers.to_headers() };
        let topic = &*self.partition.topic;
        let key = match key {
            Some(bytes) => Some(self.key.deserialize(topic, &headers, bytes)?),
            None => None,
        };
        let value = match value {
            Some(bytes) => Some(self.value.deserialize(topic, &headers, bytes)?),
            None => None,
        };
        Ok(Record { key, value, timestamp: -1, headers })
    }

    #[inline]
    fn extract(&self, record: &Record<K, V>, slot: &RecordSlot) -> Result<Timestamp, StreamsError> {
        let source = SourceRecord {
            topic: &self.partition.topic,
            partition: self.partition.partition,
            offset: slot.offset,
            timestamp: slot.timestamp,
            key: record.key.as_ref(),
            value: record.value.as_ref(),
            headers: &record.headers,
        };
        self.extractor.extract(&source, self.partition_time, self.task.wall_clock()).map_err(|error| {
            StreamsError::caused_by(ErrorKind::Timestamp, error)
                .in_processor(&self.name)
                .in_task(self.task.id())
                .at_record(self.partition.clone(), slot.offset)
        })
    }

    /// Notes where the record that is taken lies, before the next one is looked for: handlers of its errors are shown its bytes.
    #[inline]
    fn keep_place(&mut self) {
        if self.is_new_batch
            && let Some(records) = &self.current
        {
            self.place.enter_batch(records.body());
            self.is_new_batch = false;
        }
        self.place.set(self.head_slot.take());
    }

    #[cold]
    fn not_deserialized(&self, error: SerdeError, slot: &RecordSlot, view: RecordView<'_>) -> Result<(), StreamsError> {
        let failure = Failure {
            kind: ErrorKind::Deserialization,
            node: &self.name,
            timestamp: slot.timestamp,
            output_topic: None,
        };
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let raw = RawRecord { key: copy(view.key), value: copy(view.value), headers: view.headers.to_headers() };
        let source = Source { position: Some((&self.partition, slot.offset)), raw: &raw };
        match self.task.ask_about(&failure, &source, &error)? {
            ErrorResult::Resume => Ok(()),
            ErrorResult::Fail => Err(self.corrupt(error, slot.offset)),
        }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> SourceQueue for TypedQueue<K, V> {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn push(&mut self, fetched: &Bytes, from: Offset) -> Result<usize, StreamsError> {
        let from = self.from.max(from);
        let mut added = 0;
        for batch in batches(fetched) {
            let batch = batch.map_err(|error| self.corrupt(error, from))?;
            let header = batch.header();
            let next = header.next_offset();
            self.leader_epoch = header.leader_epoch;
            if next > from && !header.attributes.is_control() {
                let below = (from - header.base_offset).clamp(0, i64::from(i32::MAX)) as usize;
                added += (header.record_count.max(0) as usize).saturating_sub(below);
                self.undecoded += header.record_count.max(0) as usize;
                self.waiting.push_back((batch, from));
            }
            self.position = self.position.max(next);
        }
        if self.head.is_none() {
            self.update_head()?;
        }
        Ok(added)
    }

    fn advance_position(&mut self, offset: Offset) {
        self.position = self.position.max(offset);
    }

    fn count(&self) -> usize {
        self.undecoded + usize::from(self.head.is_some())
    }

    #[inline]
    fn head_timestamp(&self) -> Option<Timestamp> {
        self.head.as_ref().map(|head| head.timestamp)
    }

    #[inline]
    fn take(&mut self) -> Result<Taken, StreamsError> {
        let Some(head) = self.head.take() else {
            return Err(StreamsError::new(ErrorKind::IllegalState, "an empty queue was asked for a record"));
        };
        self.partition_time = self.partition_time.max(head.timestamp);
        let taken = Taken { timestamp: head.timestamp, is_good: matches!(head.head, Head::Good(_)) };
        self.has_delivered = true;
        self.taken = Some(head);
        self.keep_place();
        self.update_head()?;
        Ok(taken)
    }

    #[inline]
    fn process(&mut self) -> Result<(), BoxError> {
        let Some(Queued { head: Head::Good(record), timestamp, offset }) = self.taken.take() else {
            return Ok(());
        };
        self.task.set_source(self.source, offset);
        self.task.enter(timestamp);
        self.children.forward(record)
    }

    fn committable(&self) -> Option<(Offset, LeaderEpoch)> {
        if !self.has_delivered {
            return None;
        }
        let offset = self.head.as_ref().map_or(self.position, |head| head.offset);
        Some((offset, self.leader_epoch))
    }

    fn needs_commit(&self) -> bool {
        self.committable().is_some_and(|(offset, _)| offset != self.committed)
    }

    fn committed(&mut self) {
        if let Some((offset, _)) = self.committable() {
            self.committed = offset;
        }
    }

    fn partition_time(&self) -> Timestamp {
        self.partition_time
    }

    fn set_partition_time(&mut self, timestamp: Timestamp) {
        self.partition_time = self.partition_time.max(timestamp);
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.current = None;
        self.undecoded = 0;
        self.head = None;
        self.taken = None;
        self.from = -1;
    }
}
