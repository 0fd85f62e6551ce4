//! The store of `suppress`: updates in the order in which they are due, in memory, with a changelog.
//!
//! Of each key only the latest update is held, in the place that its first one took. The changelog is written at each commit, one record
//! for each key touched since the last: header `v` = 3, no timestamp; key as serialised; value:
//!
//! ```text
//! timestamp(8) offset(8) topic length(4) topic partition(4) header count(4) {key length(4) key value length(4; -1 null) value}*
//! prior length(4; -1 none) prior | old length(4; -1 none, -2 as prior) old | new length(4; -1 none) new | due(8)
//! ```
//!
//! `prior` is the value before the first update held, `old` that before the latest. Records of the formats before 3 (Kafka Streams 2.3)
//! are refused.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use streams_core::collector::ChangelogPartition;
use streams_core::processor::RecordMetadata;
use streams_core::store::api::ChangeLog;
use streams_core::store::{Logging, RestoreRecord, StoreContext, StoreKind};
use streams_core::{ErrorKind, Headers, StateStore, StoreBuilder, StreamsError, Timestamp};

const VERSION_HEADER: &str = "v";
const VERSION: u8 = 3;
const NONE: i32 = -1;
const AS_PRIOR: i32 = -2;

/// One update that waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Buffered {
    prior: Option<Vec<u8>>,
    pub(crate) old: Option<Vec<u8>>,
    pub(crate) new: Option<Vec<u8>>,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
    pub(crate) source: Option<RecordMetadata>,
}

/// Keys touched since the last commit, in the order in which a `java.util.HashSet` would give them: that is the order of the changelog.
struct Touched {
    keys: Vec<Vec<u8>>,
    known: BTreeSet<Vec<u8>>,
    buckets: usize,
}

impl Default for Touched {
    fn default() -> Self {
        Self { keys: Vec::new(), known: BTreeSet::new(), buckets: 16 }
    }
}

impl Touched {
    fn add(&mut self, key: &[u8]) {
        if self.known.insert(key.to_vec()) {
            self.keys.push(key.to_vec());
            if self.keys.len() * 4 > self.buckets * 3 {
                self.buckets *= 2;
            }
        }
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        self.known.clear();
        let mut keys = std::mem::take(&mut self.keys);
        let mask = self.buckets as u32 - 1;
        keys.sort_by_key(|key| {
            let hash = key.iter().fold(1u32, |hash, &byte| hash.wrapping_mul(31).wrapping_add(byte as i8 as u32));
            (hash ^ (hash >> 16)) & mask
        });
        keys
    }
}

#[derive(Default)]
struct Content {
    /// By the time at which they are due, then key.
    entries: BTreeMap<(Timestamp, Vec<u8>), Buffered>,
    due: BTreeMap<Vec<u8>, Timestamp>,
    touched: Touched,
    bytes: usize,
}

impl Content {
    fn insert(&mut self, due: Timestamp, key: Vec<u8>, update: Buffered) {
        let due = *self.due.entry(key.clone()).or_insert(due);
        self.bytes += size(&key, &update);
        let place = (due, key);
        if let Some(before) = self.entries.remove(&place) {
            self.bytes -= size(&place.1, &before);
        }
        self.entries.insert(place, update);
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, due)) = self.due.remove_entry(key) {
            let place = (due, key);
            if let Some(before) = self.entries.remove(&place) {
                self.bytes -= size(&place.1, &before);
            }
        }
    }
}

/// Bytes as Kafka Streams counts them.
fn size(key: &[u8], update: &Buffered) -> usize {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let old = if update.old == update.prior { 0 } else { length(&update.old) };
    let utf16 = |text: &str| text.encode_utf16().count();
    let topic = update.source.as_ref().map_or(0, |source| utf16(&source.topic));
    let header =
        |header: &streams_core::Header| utf16(&header.key) + header.value.as_ref().map_or(0, |value| value.len());
    let headers: usize = update.headers.iter().map(header).sum();
    8 + key.len() + length(&update.prior) + old + length(&update.new) + 8 + 8 + topic + 4 + headers
}

/// The store of one task.
pub(crate) struct ChangeBuffer {
    name: String,
    changelog: Option<ChangelogPartition>,
    log: ChangeLog,
    content: RefCell<Content>,
}

/// What a processor puts in: all but what the buffer knows itself.
pub(crate) struct Update {
    pub(crate) old: Option<Vec<u8>>,
    pub(crate) new: Option<Vec<u8>>,
    pub(crate) timestamp: Timestamp,
    pub(crate) headers: Headers,
    pub(crate) source: Option<RecordMetadata>,
}

impl ChangeBuffer {
    /// Holds `update` until `due`, or until that of the update that it replaces.
    pub(crate) fn put(&self, due: Timestamp, key: Vec<u8>, update: Update) {
        let content = &mut *self.content.borrow_mut();
        let held = content.due.get(&key).and_then(|due| content.entries.get(&(*due, key.clone())));
        let prior = held.map_or_else(|| update.old.clone(), |held| held.prior.clone());
        let Update { old, new, timestamp, headers, source } = update;
        content.touched.add(&key);
        content.insert(due, key, Buffered { prior, old, new, timestamp, headers, source });
    }

    /// When the first update is due.
    pub(crate) fn first_due(&self) -> Option<Timestamp> {
        self.content.borrow().entries.first_key_value().map(|((due, _), _)| *due)
    }

    /// The update that is due first, with its key.
    pub(crate) fn first(&self) -> Option<(Vec<u8>, Buffered)> {
        let content = self.content.borrow();
        content.entries.first_key_value().map(|((_, key), update)| (key.clone(), update.clone()))
    }

    /// Lets go of `key`.
    pub(crate) fn remove(&self, key: &[u8]) {
        let mut content = self.content.borrow_mut();
        content.remove(key);
        content.touched.add(key);
    }

    /// The value before the updates held of `key`; outer `None` if none are.
    pub(crate) fn prior(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let content = self.content.borrow();
        let due = *content.due.get(key)?;
        content.entries.get(&(due, key.to_vec())).map(|held| held.prior.clone())
    }

    /// How many updates are held.
    pub(crate) fn record_count(&self) -> usize {
        self.content.borrow().entries.len()
    }

    /// Their size.
    pub(crate) fn size_bytes(&self) -> usize {
        self.content.borrow().bytes
    }

    /// Topic that serdes are told.
    pub(crate) fn serde_topic(&self) -> &str {
        self.changelog.as_ref().map_or(&self.name, |changelog| &changelog.partition.topic)
    }
}

fn write_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => out.extend(NONE.to_be_bytes()),
        Some(bytes) => {
            out.extend((bytes.len() as i32).to_be_bytes());
            out.extend(bytes);
        }
    }
}

fn write(due: Timestamp, update: &Buffered) -> Vec<u8> {
    let mut out = Vec::new();
    let source = update.source.as_ref();
    out.extend(update.timestamp.to_be_bytes());
    out.extend(source.map_or(-1, |source| source.offset).to_be_bytes());
    write_bytes(Some(source.map_or(&[][..], |source| source.topic.as_bytes())), &mut out);
    out.extend(source.map_or(-1, |source| source.partition).to_be_bytes());
    out.extend((update.headers.iter().count() as i32).to_be_bytes());
    for header in update.headers.iter() {
        write_bytes(Some(header.key.as_bytes()), &mut out);
        write_bytes(header.value.as_deref(), &mut out);
    }
    write_bytes(update.prior.as_deref(), &mut out);
    if update.old.is_some() && update.old == update.prior {
        out.extend(AS_PRIOR.to_be_bytes());
    } else {
        write_bytes(update.old.as_deref(), &mut out);
    }
    write_bytes(update.new.as_deref(), &mut out);
    out.extend(due.to_be_bytes());
    out
}

/// Reads from the front of a changelog value; `None` where it is too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Bytes behind `length`, which stands for null if it is -1.
    fn sized(&mut self, length: i32) -> Option<Option<Vec<u8>>> {
        match length {
            NONE => Some(None),
            _ => Some(Some(self.take(usize::try_from(length).ok()?)?.to_vec())),
        }
    }

    fn bytes(&mut self) -> Option<Option<Vec<u8>>> {
        let length = self.int()?;
        self.sized(length)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()??).ok()
    }
}

fn read(value: &[u8]) -> Option<(Timestamp, Buffered)> {
    let mut reader = Reader(value);
    let (timestamp, offset) = (reader.long()?, reader.long()?);
    let (topic, partition) = (reader.text()?, reader.int()?);
    let mut headers = Headers::default();
    for _ in 0..reader.int()? {
        let key = reader.text()?;
        headers.add(key.as_str(), reader.bytes()?.map(Into::into));
    }
    let prior = reader.bytes()?;
    let old = match reader.int()? {
        AS_PRIOR => prior.clone(),
        length => reader.sized(length)?,
    };
    let new = reader.bytes()?;
    let due = reader.long()?;
    let source = (!topic.is_empty()).then(|| RecordMetadata { topic: topic.into(), partition, offset });
    Some((due, Buffered { prior, old, new, timestamp, headers, source }))
}

impl StateStore for ChangeBuffer {
    fn name(&self) -> &str {
        &self.name
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn flush_cache(&self) -> Result<(), StreamsError> {
        let content = &mut *self.content.borrow_mut();
        let touched = content.touched.take();
        if self.changelog.is_none() {
            return Ok(());
        }
        let mut headers = Headers::default();
        headers.add(VERSION_HEADER, Some(vec![VERSION].into()));
        for key in touched {
            let due = content.due.get(&key).copied();
            match due.and_then(|due| content.entries.get(&(due, key.clone())).map(|update| write(due, update))) {
                Some(value) => self.log.append(&key, Some(&value), None, &headers)?,
                None => self.log.append(&key, None, None, &Headers::default())?,
            }
        }
        Ok(())
    }

    fn changelog(&self) -> Option<&ChangelogPartition> {
        self.changelog.as_ref()
    }

    fn restore(&self, records: &mut dyn Iterator<Item = RestoreRecord<'_>>) -> Result<(), StreamsError> {
        let content = &mut *self.content.borrow_mut();
        for record in records {
            let Some(value) = record.value else {
                content.remove(record.key);
                continue;
            };
            let version = record.headers.iter().find(|header| &*header.key == VERSION_HEADER);
            let version = version.and_then(|header| header.value.as_ref()).and_then(|value| value.first().copied());
            if version != Some(VERSION) {
                let message =
                    format!("its changelog is of format {version:?} at offset {}, not {VERSION}", record.offset);
                return Err(StreamsError::new(ErrorKind::Store, message).in_store(&self.name));
            }
            let Some((due, update)) = read(value) else {
                let message = format!("its changelog holds broken bytes at offset {}", record.offset);
                return Err(StreamsError::new(ErrorKind::Store, message).in_store(&self.name));
            };
            content.insert(due, record.key.to_vec(), update);
        }
        Ok(())
    }

    fn close(&self) -> Result<(), StreamsError> {
        self.wipe()
    }

    fn wipe(&self) -> Result<(), StreamsError> {
        self.content.replace(Content::default());
        Ok(())
    }
}

/// Describes a [`ChangeBuffer`].
pub(crate) struct ChangeBufferBuilder {
    pub(crate) name: String,
    pub(crate) logging: Logging,
}

impl StoreBuilder for ChangeBufferBuilder {
    fn name(&self) -> &str {
        &self.name
    }

    fn logging(&self) -> &Logging {
        &self.logging
    }

    fn kind(&self) -> StoreKind {
        StoreKind::KeyValue
    }

    fn is_persistent(&self) -> bool {
        false
    }

    fn build(&self, context: &StoreContext) -> Result<Rc<dyn StateStore>, StreamsError> {
        Ok(Rc::new(ChangeBuffer {
            name: self.name.clone(),
            changelog: context.changelog().cloned(),
            log: context.change_log(),
            content: RefCell::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(prior: Option<&str>, old: Option<&str>) -> Buffered {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let mut headers = Headers::default();
        headers.add("h", Some(vec![1].into()));
        headers.add("n", None);
        let source = Some(RecordMetadata { topic: "t".into(), partition: 2, offset: 7 });
        Buffered { prior: bytes(prior), old: bytes(old), new: None, timestamp: 5, headers, source }
    }

    #[test]
    fn changelog_values_are_read_as_they_were_written() {
        for one in [update(None, None), update(Some("a"), Some("a")), update(Some("a"), None), update(None, Some("b"))]
        {
            assert_eq!(read(&write(9, &one)), Some((9, one)));
        }
        let whole = write(9, &update(Some("a"), Some("b")));
        assert!((0..whole.len()).all(|length| read(&whole[..length]).is_none()));
    }

    #[test]
    fn an_update_keeps_the_place_of_the_one_it_replaces() {
        let mut content = Content::default();
        content.insert(3, b"k".to_vec(), update(None, None));
        let bytes = content.bytes;
        content.insert(8, b"k".to_vec(), update(None, None));
        assert_eq!(content.entries.keys().collect::<Vec<_>>(), [&(3, b"k".to_vec())]);
        assert_eq!(content.bytes, bytes);
        content.remove(b"k");
        assert_eq!((content.entries.len(), content.due.len(), content.bytes), (0, 0, 0));
    }
}
