//! Dead letters: a copy of the source record of each error that a handler was asked about, in a topic of its own.
//!
//! A record has the raw key and value of the source record, as far as there is one, and its headers with the error behind them, as
//! Kafka Streams writes it. It goes the way of all output, so it is written if and only if the task's offsets are committed behind it.

use std::error::Error;
use std::fmt::Write;
use std::rc::Rc;

use base::Timestamp;
use bytes::Bytes;
use protocol::record::Headers;

use crate::collector::OutputRecord;
use crate::error::{ErrorKind, StreamsError};
use crate::task::shared::TaskShared;

/// A source record as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawRecord {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Headers,
}

/// The error and what it was caused by, one a line.
fn trace(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, "\ncaused by: {error}");
        cause = error.source();
    }
    text
}

impl TaskShared {
    /// Sends the record being processed, or `raw` of the place given, to the dead letter topic, if there is one.
    pub(crate) fn dead_letter(
        &self,
        kind: ErrorKind,
        error: &(dyn Error + 'static),
        timestamp: Timestamp,
        unread: Option<(RawRecord, (&str, i32, i64))>,
    ) -> Result<(), StreamsError> {
        let Some(topic) = self.dead_letter_topic() else { return Ok(()) };
        let position = self.position();
        let (raw, place) = match &unread {
            Some((raw, place)) => (raw.clone(), Some(*place)),
            None => {
                let place = position.as_ref().map(|(at, offset)| (&*at.topic, at.partition, *offset));
                (self.raw_record(), place)
            }
        };
        let RawRecord { key, value, mut headers } = raw;
        let mut add = |name: &str, text: Option<String>| {
            headers.add(format!("__streams.errors.{name}"), text.map(|text| Bytes::from(text.into_bytes())));
        };
        add("exception", Some(format!("{kind:?}")));
        add("message", Some(error.to_string()));
        add("stacktrace", Some(trace(error)));
        add("topic", place.map(|(topic, ..)| topic.to_owned()));
        add("partition", place.map(|(_, partition, _)| partition.to_string()));
        add("offset", place.map(|(.., offset)| offset.to_string()));
        let mut collector = self.collector().borrow_mut();
        let record = OutputRecord {
            topic: collector.topic(topic),
            partition: None,
            key: key.as_deref(),
            value: value.as_deref(),
            timestamp: Some(timestamp).filter(|timestamp| *timestamp >= 0),
            headers: &headers,
        };
        collector.send(record).map_err(|error| error.in_task(self.id()))
    }

    /// Keeps the raw form of the record that is processed next.
    pub(crate) fn keep_raw(&self, raw: Option<Rc<RawRecord>>) {
        self.raw().replace(raw);
    }

    fn raw_record(&self) -> RawRecord {
        let raw = self.raw().borrow();
        raw.as_deref().cloned().unwrap_or_default()
    }
}
