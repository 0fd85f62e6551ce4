//! Restoring a store from its changelog: what is to be read, and fetched batches applied in bulk.

use base::{Offset, TopicPartition};
use bytes::Bytes;
use protocol::record::{Headers, batches};

use crate::error::{ErrorKind, StreamsError};
use crate::store::{RestoreRecord, StateStore};

/// A changelog partition to restore from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changelog {
    /// Store to restore.
    pub store: String,
    /// Where from.
    pub partition: TopicPartition,
    /// First offset that the store does not contain; `None` if its position is unknown (restore from the beginning).
    pub start: Option<Offset>,
    /// Whether the store's content survives the process.
    pub is_persistent: bool,
    /// Whether the changelog is a source topic: it must not be restored beyond the committed offset.
    pub is_source: bool,
}

/// What one call of [`Task::restore`](crate::task::Task::restore) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Records applied.
    pub records: u64,
    /// Offset behind everything that was looked at, control records included.
    pub next_offset: Offset,
}

/// Applies the records of fetched changelog batches that lie in `from..end` to a store.
pub(crate) fn restore_store(
    store: &dyn StateStore,
    changelog: &TopicPartition,
    fetched: &Bytes,
    from: Offset,
    end: Offset,
) -> Result<Restored, StreamsError> {
    let corrupt = |error| {
        StreamsError::caused_by(ErrorKind::Deserialization, error)
            .in_store(store.name())
            .at_record(changelog.clone(), from)
    };
    let mut restored = Restored { records: 0, next_offset: from };
    for batch in batches(fetched) {
        let batch = batch.map_err(corrupt)?;
        let header = *batch.header();
        if header.next_offset() <= from || header.base_offset >= end {
            continue;
        }
        restored.next_offset = restored.next_offset.max(header.next_offset().min(end));
        if header.attributes.is_control() {
            continue;
        }
        let records = batch.records().map_err(corrupt)?;
        let mut failure = None;
        let mut count = 0;
        let mut source = records.iter();
        // Headers are lent with each record; almost none has any.
        let mut lent: Vec<(protocol::record::RecordView<'_>, Headers)> = Vec::new();
        for record in &mut source {
            match record {
                Ok(view) if view.offset < from || view.offset >= end => {}
                Ok(view) => lent.push((view, view.headers.to_headers())),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failure {
            return Err(corrupt(error));
        }
        if let Some((keyless, _)) = lent.iter().find(|(view, _)| view.key.is_none()) {
            let message = "a changelog record has no key: the topic is no changelog, or was written by something else";
            return Err(StreamsError::new(ErrorKind::Deserialization, message)
                .in_store(store.name())
                .at_record(changelog.clone(), keyless.offset));
        }
        store.restore(&mut lent.iter().filter_map(|(view, headers)| {
            count += 1;
            Some(RestoreRecord {
                offset: view.offset,
                timestamp: view.timestamp,
                key: view.key?,
                value: view.value,
                headers,
            })
        }))?;
        restored.records += count;
    }
    Ok(restored)
}
