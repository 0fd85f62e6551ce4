//! Asks the handlers about errors, and sends the dead letters that they answer with.
//!
//! Handlers are shown the source record as it was read. Nothing is copied for that as long as all goes well: of each input partition the
//! fetched batch that holds the record being processed is kept, and where in it the record lies ([`RawPlace`]).
//! Dead letters go the way of all output, so they are written if and only if the task's offsets are committed behind them.

use std::cell::{Cell, RefCell};
use std::error::Error;

use base::{Offset, Timestamp, TopicPartition};
use bytes::Bytes;
use protocol::record::{Headers, RecordSlot};

use crate::collector::OutputRecord;
use crate::error::{ErrorKind, StreamsError};
use crate::processor::handlers::{DeadLetter, ErrorContext, ErrorResponse, ErrorResult};
use crate::task::shared::TaskShared;

/// A source record as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawRecord {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Headers,
}

/// Where the record of one input partition that is being processed lies in the fetched batches.
#[derive(Default)]
pub(crate) struct RawPlace {
    body: RefCell<Bytes>,
    slot: Cell<Option<RecordSlot>>,
}

impl RawPlace {
    /// The records taken from now on lie in `body`. Once a batch.
    pub(crate) fn enter_batch(&self, body: &Bytes) {
        self.body.replace(body.clone());
    }

    /// The record that is taken lies at `slot`. Once a record: a copy of 40 bytes.
    #[inline]
    pub(crate) fn set(&self, slot: Option<RecordSlot>) {
        self.slot.set(slot);
    }

    /// The record, if it is the one at `offset`.
    fn read(&self, offset: Offset) -> Option<RawRecord> {
        let slot = self.slot.get().filter(|slot| slot.offset == offset)?;
        let body = self.body.borrow();
        Some(RawRecord {
            key: slot.key.slice(&body),
            value: slot.value.slice(&body),
            headers: slot.view(&body).headers.to_headers(),
        })
    }
}

/// An error that a handler is to be asked about.
pub(crate) struct Failure<'a> {
    pub(crate) kind: ErrorKind,
    pub(crate) node: &'a str,
    /// Of the record that failed.
    pub(crate) timestamp: Timestamp,
    /// The topic that was to be written.
    pub(crate) output_topic: Option<&'a str>,
}

/// Where the source record came from, and its bytes.
pub(crate) struct Source<'a> {
    pub(crate) position: Option<(&'a TopicPartition, Offset)>,
    pub(crate) raw: &'a RawRecord,
}

impl TaskShared {
    /// Asks the handler of that kind of error about the record being processed, and sends its dead letters.
    #[cold]
    pub(crate) fn ask(
        &self,
        failure: &Failure<'_>,
        error: &(dyn Error + 'static),
    ) -> Result<ErrorResult, StreamsError> {
        let position = self.position();
        let source = Source {
            position: position.as_ref().map(|(partition, offset)| (partition, *offset)),
            raw: &self.raw_record(),
        };
        self.ask_about(failure, &source, error)
    }

    /// [`TaskShared::ask`] about the record of `source`.
    pub(crate) fn ask_about(
        &self,
        failure: &Failure<'_>,
        source: &Source<'_>,
        error: &(dyn Error + 'static),
    ) -> Result<ErrorResult, StreamsError> {
        let context = ErrorContext {
            task: self.id(),
            node: failure.node,
            topic: source.position.map_or("", |(partition, _)| &*partition.topic),
            partition: source.position.map_or(-1, |(partition, _)| partition.partition),
            offset: source.position.map_or(-1, |(_, offset)| offset),
            timestamp: failure.timestamp,
            headers: &source.raw.headers,
            source_raw_key: source.raw.key.as_deref(),
            source_raw_value: source.raw.value.as_deref(),
            output_topic: failure.output_topic,
            dead_letter_topic: self.dead_letter_topic(),
            kind: failure.kind,
        };
        let handlers = self.handlers();
        let response = match failure.kind {
            ErrorKind::Deserialization => handlers.deserialization.handle(&context, error),
            ErrorKind::Serialization => handlers.production.handle(&context, error),
            _ => handlers.processing.handle(&context, error),
        };
        self.send_dead_letters(&response)?;
        if response.result() == ErrorResult::Resume {
            self.count_dropped();
        }
        Ok(response.result())
    }

    fn send_dead_letters(&self, response: &ErrorResponse) -> Result<(), StreamsError> {
        if self.is_global() && !response.dead_letters().is_empty() {
            tracing::warn!(task = %self.id(), "the keeper of global stores has no producer: dead letters are not written");
            return Ok(());
        }
        let mut collector = self.collector().borrow_mut();
        for DeadLetter { topic, partition, timestamp, key, value, headers } in response.dead_letters() {
            let record = OutputRecord {
                topic: collector.topic(topic),
                partition: *partition,
                key: key.as_deref(),
                value: value.as_deref(),
                timestamp: *timestamp,
                headers,
            };
            collector.send(record).map_err(|error| error.in_task(self.id()))?;
        }
        Ok(())
    }

    /// The record being processed as it was read, with what processors have changed in its headers; where there is none, or an update that
    /// waited in a cache is processed, the headers alone.
    fn raw_record(&self) -> RawRecord {
        match self.raw_place().and_then(|place| place.read(self.offset())) {
            Some(mut raw) => {
                self.refresh_headers(&mut raw.headers);
                raw
            }
            None => RawRecord { headers: self.context_headers(), ..RawRecord::default() },
        }
    }
}
