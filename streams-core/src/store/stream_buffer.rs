//! The store of a stream-table join with grace: records of the stream, by time, until the table has caught up with them.
//!
//! Key: `00 | timestamp (8) | key | sequence (4)`. Value: the record's context, then what Kafka Streams' buffers of changes have room for:
//!
//! ```text
//! timestamp(8) offset(8) topic length(4) topic partition(4) header count(4) {key length(4) key value length(4; -1 null) value}*
//! prior length(4) = -1 | old length(4) = -1 | value length(4) value
//! ```
//!
//! The changelog has 8 bytes more behind it, always zero, and no timestamps: its log stamps the records.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use base::{Offset, Timestamp};
use protocol::record::Headers;
use storage::state::Direction;

use crate::collector::ChangelogPartition;
use crate::error::{ErrorKind, StreamsError};
use crate::processor::context::RecordMetadata;
use crate::store::api::{RestoreRecord, StateStore, StoreContext};
use crate::store::builder::{Common, Logging, StoreBuilder, StoreKind};
use crate::store::layer::Layer;
use crate::store::value::FormatKind;

/// Bytes behind a value in the changelog.
const LOG_SUFFIX: [u8; 8] = [0; 8];
/// Name under which the greatest timestamp put is written with each commit.
const STREAM_TIME: &str = "buffer-stream-time";

/// A record that waits, with its place in the source topic.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferedRecord {
    /// Serialised key.
    pub key: Vec<u8>,
    /// Serialised value.
    pub value: Vec<u8>,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its headers.
    pub headers: Headers,
    /// Where it came from.
    pub source: Option<RecordMetadata>,
}

/// Records of a stream, in the order of time, key bytes and arrival.
pub struct StreamBuffer {
    name: Arc<str>,
    topic: Arc<str>,
    layer: Layer,
    sequence: Cell<i32>,
    /// Read from the store at the first use.
    stream_time: Cell<Option<Timestamp>>,
    key_buffer: RefCell<Vec<u8>>,
    /// No record has a lesser key: what was removed since the last commit need not be walked over again.
    first: RefCell<Vec<u8>>,
}

fn write_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => out.extend((-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend((bytes.len() as i32).to_be_bytes());
            out.extend(bytes);
        }
    }
}

fn write(record: &BufferedRecord) -> Vec<u8> {
    let mut out = Vec::new();
    let source = record.source.as_ref();
    out.extend(record.timestamp.to_be_bytes());
    out.extend(source.map_or(-1, |source| source.offset).to_be_bytes());
    write_bytes(Some(source.map_or(&[][..], |source| source.topic.as_bytes())), &mut out);
    out.extend(source.map_or(-1, |source| source.partition).to_be_bytes());
    out.extend((record.headers.iter().count() as i32).to_be_bytes());
    for header in record.headers.iter() {
        write_bytes(Some(header.key.as_bytes()), &mut out);
        write_bytes(header.value.as_deref(), &mut out);
    }
    write_bytes(None, &mut out);
    write_bytes(None, &mut out);
    write_bytes(Some(&record.value), &mut out);
    out
}

/// Takes from the front of `bytes`; `None` where they are too short.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_int(bytes: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(bytes, 4)?.try_into().ok()?))
}

fn take_long(bytes: &mut &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(take(bytes, 8)?.try_into().ok()?))
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_int(bytes)? {
        -1 => Some(None),
        length => Some(Some(take(bytes, usize::try_from(length).ok()?)?)),
    }
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_bytes(bytes)??.to_vec()).ok()
}

/// What `write` has written, with anything behind it.
fn read(key: &[u8], mut bytes: &[u8]) -> Option<BufferedRecord> {
    let bytes = &mut bytes;
    let (timestamp, offset) = (take_long(bytes)?, take_long(bytes)?);
    let (topic, partition) = (take_text(bytes)?, take_int(bytes)?);
    let mut headers = Headers::default();
    for _ in 0..take_int(bytes)? {
        let name = take_text(bytes)?;
        headers.add(name.as_str(), take_bytes(bytes)?.map(|value| value.to_vec().into()));
    }
    take_bytes(bytes)?;
    take_bytes(bytes)?;
    let value = take_bytes(bytes)??.to_vec();
    let source = (!topic.is_empty()).then(|| RecordMetadata { topic: topic.into(), partition, offset });
    let key = key.get(9..key.len().checked_sub(4)?)?.to_vec();
    Some(BufferedRecord { key, value, timestamp, headers, source })
}

fn timestamp_of(key: &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_be_bytes(*key.get(1..)?.first_chunk()?))
}

impl StreamBuffer {
    /// Topic that serdes are told.
    pub fn serde_topic(&self) -> &str {
        &self.topic
    }

    /// The greatest timestamp put so far; -1 before the first.
    ///
    /// # Errors
    /// The store failed.
    pub fn stream_time(&self) -> Result<Timestamp, StreamsError> {
        if let Some(time) = self.stream_time.get() {
            return Ok(time);
        }
        let stored = self.layer.metadata(STREAM_TIME)?.and_then(|bytes| Some(*bytes.first_chunk::<8>()?));
        let time = stored.map_or(-1, Timestamp::from_be_bytes);
        self.stream_time.set(Some(time));
        Ok(time)
    }

    fn advance(&self, timestamp: Timestamp) -> Result<(), StreamsError> {
        let time = self.stream_time()?.max(timestamp);
        self.stream_time.set(Some(time));
        Ok(())
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// The store or its changelog failed.
    pub fn put(&self, record: &BufferedRecord) -> Result<(), StreamsError> {
        self.advance(record.timestamp)?;
        // Numbers records of one key and time in the order of arrival; not kept over restarts, as in Kafka Streams.
        self.sequence.set(self.sequence.get().wrapping_add(1) & i32::MAX);
        let mut key = self.key_buffer.borrow_mut();
        key.clear();
        key.push(0);
        key.extend(record.timestamp.to_be_bytes());
        key.extend(&record.key);
        key.extend(self.sequence.get().to_be_bytes());
        let mut first = self.first.borrow_mut();
        if *key < *first {
            first.clone_from(&key);
        }
        let mut value = write(record);
        self.layer.put_local(&key, Some(&value));
        value.extend(LOG_SUFFIX);
        self.layer.log(&key, Some(&value), None, &Headers::default())
    }

    /// The first record, if its timestamp is not greater than `latest`, and the key to [`StreamBuffer::remove_first`] it by.
    ///
    /// # Errors
    /// The store failed, or holds what was not put there.
    pub fn first_until(&self, latest: Timestamp) -> Result<Option<(Vec<u8>, BufferedRecord)>, StreamsError> {
        let from = self.first.borrow().clone();
        let first = self.layer.range(Some(&from), None, Direction::Forward, |entries| {
            Ok(if entries.advance()? { Some((entries.key().to_vec(), entries.value().to_vec())) } else { None })
        })?;
        let Some((key, value)) = first else { return Ok(None) };
        match (timestamp_of(&key), read(&key, &value)) {
            (Some(timestamp), _) if timestamp > latest => Ok(None),
            (Some(_), Some(record)) => Ok(Some((key, record))),
            _ => {
                let message = "a buffered record is not what was written";
                Err(StreamsError::new(ErrorKind::TaskCorrupted, message).in_store(&self.name))
            }
        }
    }

    /// Forgets the first record.
    ///
    /// # Errors
    /// The changelog failed.
    pub fn remove_first(&self, key: &[u8]) -> Result<(), StreamsError> {
        self.layer.put_local(key, None);
        self.first.replace(key.to_vec());
        self.layer.log(key, None, None, &Headers::default())
    }

    fn note_stream_time(&self) -> Result<(), StreamsError> {
        match self.stream_time.get() {
            Some(time) => self.layer.put_metadata(STREAM_TIME, &time.to_be_bytes()),
            None => Ok(()),
        }
    }
}

impl StateStore for StreamBuffer {
    fn name(&self) -> &str {
        &self.name
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn is_persistent(&self) -> bool {
        self.layer.is_persistent()
    }

    fn commit(&self, changelog_offset: Option<Offset>) -> Result<(), StreamsError> {
        self.note_stream_time()?;
        self.layer.commit(changelog_offset)
    }

    fn pending_bytes(&self) -> usize {
        self.layer.pending_bytes()
    }

    fn changelog(&self) -> Option<&ChangelogPartition> {
        self.layer.changelog()
    }

    fn changelog_offset(&self) -> Result<Option<Offset>, StreamsError> {
        self.layer.changelog_offset()
    }

    fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
        let mut last = None;
        for record in records {
            let Some(timestamp) = timestamp_of(record.key) else {
                let message = format!("its changelog holds a broken key at offset {}", record.offset);
                return Err(StreamsError::new(ErrorKind::Store, message).in_store(&self.name));
            };
            self.advance(timestamp)?;
            let value = record.value.map(|value| value.strip_suffix(&LOG_SUFFIX).unwrap_or(value));
            self.layer.put_local(record.key, value);
            self.first.borrow_mut().clear();
            last = Some(record.offset);
        }
        self.note_stream_time()?;
        self.layer.commit_restored(last)
    }

    fn close(&self) -> Result<(), StreamsError> {
        self.stream_time.set(None);
        self.layer.close()
    }

    fn wipe(&self) -> Result<(), StreamsError> {
        self.first.borrow_mut().clear();
        self.stream_time.set(None);
        self.layer.wipe()
    }
}

/// Describes a [`StreamBuffer`].
pub struct StreamBufferBuilder {
    common: Common,
}

impl StreamBufferBuilder {
    /// The buffer `name`, with a changelog.
    pub fn new(name: impl Into<String>) -> Self {
        Self { common: Common::new(name) }
    }

    /// With a changelog of which `configs` overrides the topic configuration.
    #[must_use]
    pub fn with_logging(mut self, configs: BTreeMap<String, String>) -> Self {
        self.common.logging = Logging::Enabled(configs);
        self
    }
}

impl StoreBuilder for StreamBufferBuilder {
    fn name(&self) -> &str {
        &self.common.name
    }

    fn logging(&self) -> &Logging {
        &self.common.logging
    }

    fn kind(&self) -> StoreKind {
        StoreKind::KeyValue
    }

    fn is_persistent(&self) -> bool {
        true
    }

    fn build(&self, context: &StoreContext) -> Result<Rc<dyn StateStore>, StreamsError> {
        Ok(Rc::new(StreamBuffer {
            name: Arc::clone(&self.common.name),
            topic: Arc::clone(&context.serde_topic),
            layer: Layer::open_as(&self.common, context, FormatKind::Plain, "stream-buffer")?,
            sequence: Cell::new(0),
            stream_time: Cell::new(None),
            key_buffer: RefCell::default(),
            first: RefCell::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written_and_refused_if_cut() {
        let mut headers = Headers::default();
        headers.add("h", Some(vec![1].into()));
        headers.add("n", None);
        let source = Some(RecordMetadata { topic: "t".into(), partition: 2, offset: 7 });
        let record = BufferedRecord { key: b"k".to_vec(), value: b"v".to_vec(), timestamp: 5, headers, source };
        let key = [&[0][..], &5i64.to_be_bytes(), b"k", &[0, 0, 0, 1]].concat();
        let bytes = write(&record);
        assert_eq!(read(&key, &bytes).as_ref(), Some(&record));
        assert!((0..bytes.len()).all(|length| read(&key, &bytes[..length]).is_none()));
        assert_eq!(read(&key[..10], &bytes), None);
    }
}
