//! Reading the metadata log: from its beginning, or from the newest checkpoint if what came before was cleaned away; records of
//! a metadata transaction take effect together at its end, or not at all.

use base::{Offset, TopicPartition};
use protocol::record;
use storage::log::{LogDirectory, PartitionLog, ReadLimit};

use super::image::{DoesNotFit, MetadataImage};
use super::records::MetadataRecord;
use crate::error::BrokerError;

const READ_BYTES: usize = 1 << 20;
const CHECKPOINT: &str = ".checkpoint";

/// The image that the records so far make.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) image: MetadataImage,
    /// Records since the begin of a transaction that has not ended.
    transaction: Option<Vec<MetadataRecord>>,
}

impl Replay {
    /// Whether the log ends inside a transaction. Its records are void; who writes on must say so first.
    pub(super) fn is_inside_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    fn take(&mut self, record: MetadataRecord) -> Result<(), DoesNotFit> {
        match (record, &mut self.transaction) {
            (MetadataRecord::BeginTransaction, open) => *open = Some(Vec::new()),
            (MetadataRecord::AbortTransaction, open) => *open = None,
            (MetadataRecord::EndTransaction, open) => {
                return open.take().unwrap_or_default().iter().try_for_each(|record| self.image.apply(record));
            }
            (record, Some(waiting)) => waiting.push(record),
            (record, None) => return self.image.apply(&record),
        }
        Ok(())
    }

    /// Takes up whole batches; returns the offset behind the last.
    fn take_batches(&mut self, bytes: &[u8], from: Offset) -> Result<Offset, BrokerError> {
        let mut position = from;
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        for batch in record::batches(&bytes) {
            let batch = batch.map_err(|error| refused(position, &error))?;
            batch.verify_crc().map_err(|error| refused(position, &error))?;
            if !batch.header().attributes.is_control() {
                let mut records = batch.records().map_err(|error| refused(position, &error))?;
                while let Some(entry) = records.next() {
                    let entry = entry.map_err(|error| refused(position, &error))?;
                    let Some(value) = entry.value else { continue };
                    let change = MetadataRecord::decode(value).map_err(|error| refused(entry.offset, &error))?;
                    self.take(change).map_err(|error| refused(entry.offset, &error))?;
                }
            }
            position = batch.header().next_offset();
        }
        Ok(position)
    }
}

fn refused(position: Offset, error: &dyn std::fmt::Display) -> BrokerError {
    BrokerError::Storage(format!("the metadata log cannot be used at offset {position}: {error}"))
}

/// Reads all of `log`, and the checkpoint it needs.
pub(super) fn replay(
    directory: &LogDirectory,
    partition: &TopicPartition,
    log: &PartitionLog,
) -> Result<Replay, BrokerError> {
    let mut replay = Replay::default();
    let offsets = log.offsets();
    let mut position = offsets.log_start;
    if position > 0 {
        let (end, bytes) = newest_checkpoint(directory, partition, offsets.log_start, offsets.log_end)?;
        replay.take_batches(&bytes, 0)?;
        position = end;
    }
    while position < offsets.log_end {
        let read =
            log.read(position, READ_BYTES, ReadLimit::LogEnd, true).map_err(|error| refused(position, &error))?;
        let bytes = read.records.to_bytes().map_err(|error| refused(position, &error))?;
        let next = replay.take_batches(&bytes, position)?;
        if next <= position {
            return Err(refused(position, &"no whole batch where one must be"));
        }
        position = next;
    }
    Ok(replay)
}

/// The checkpoint (`OFFSET-EPOCH.checkpoint`, the state before that offset) from which the log goes on.
fn newest_checkpoint(
    directory: &LogDirectory,
    partition: &TopicPartition,
    log_start: Offset,
    log_end: Offset,
) -> Result<(Offset, Vec<u8>), BrokerError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        BrokerError::Storage(format!("the metadata log begins at offset {log_start}, and its checkpoint: {error}"))
    };
    let names = directory.files_beside(partition, CHECKPOINT).map_err(|error| unreadable(&error))?;
    let ends = names.iter().filter_map(|name| {
        let end: Offset = name.split_once('-')?.0.parse().ok()?;
        (log_start..=log_end).contains(&end).then_some((end, name))
    });
    let (end, name) = ends.max().ok_or_else(|| unreadable(&"there is none; restore it from a copy"))?;
    let bytes = directory.read_beside(partition, name).map_err(|error| unreadable(&error))?;
    Ok((end, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(level: i16) -> MetadataRecord {
        MetadataRecord::FeatureLevel { name: "f".into(), level }
    }

    fn level(replay: &Replay) -> Option<i16> {
        replay.image.features().get("f").copied()
    }

    #[test]
    fn a_transaction_takes_effect_at_its_end_or_not_at_all() {
        let mut replay = Replay::default();
        for record in [feature(1), MetadataRecord::BeginTransaction, feature(2)] {
            replay.take(record).unwrap();
        }
        assert_eq!((level(&replay), replay.is_inside_transaction()), (Some(1), true));
        replay.take(MetadataRecord::AbortTransaction).unwrap();
        assert_eq!((level(&replay), replay.is_inside_transaction()), (Some(1), false));
        for record in [MetadataRecord::BeginTransaction, feature(3), MetadataRecord::EndTransaction] {
            replay.take(record).unwrap();
        }
        assert_eq!((level(&replay), replay.is_inside_transaction()), (Some(3), false));
    }
}
