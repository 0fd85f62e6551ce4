//! The coordinator's records as batches of `__transaction_state`: written one by one, read as a whole at start.

use base::{Now, Offset, PartitionId};
use bytes::Bytes;
use protocol::api::ErrorCode;
use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef, RecordBatch};

use super::entry::Change;
use super::environment::{STATE_TOPIC, TransactionEnvironment};
use super::records::{decode, encode_key, encode_value};
use super::shard::Shard;
use crate::shards::replay_all;

/// The batch of one change.
pub(super) fn encode_batch(change: &Change, transaction_version: i16, now: Now) -> Result<Bytes, ErrorCode> {
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    let value = change.value.as_ref().map(|value| encode_value(value, transaction_version));
    builder
        .append(now.wall_ms, Some(&encode_key(&change.id)), value.as_deref(), HeadersRef::EMPTY)
        .and_then(|()| builder.build())
        .map_err(|_| ErrorCode::UnknownServerError)
}

/// Reads a whole shard from its log.
pub(super) fn load(environment: &dyn TransactionEnvironment, partition: PartitionId) -> Result<Shard, ErrorCode> {
    let mut shard = Shard::default();
    let read = |from| environment.read(partition, from);
    replay_all(STATE_TOPIC, partition, read, |batch| replay_batch(&mut shard, batch))?;
    Ok(shard)
}

/// Replays one batch of a partition of `__transaction_state`; records that cannot be read are named in the log and left
/// out.
fn replay_batch(shard: &mut Shard, batch: &RecordBatch) {
    let header = *batch.header();
    let skip = |offset: Offset, error: &dyn std::fmt::Display| {
        tracing::warn!(offset, %error, "a record of __transaction_state cannot be read and is left out");
    };
    if header.attributes.is_control() {
        return;
    }
    let records = match batch.records() {
        Ok(records) => records,
        Err(error) => return skip(header.base_offset, &error),
    };
    for record in &records {
        match record {
            Err(error) => return skip(header.base_offset, &error),
            Ok(record) => match decode(record.key.unwrap_or_default(), record.value) {
                Ok((id, value)) => shard.replay(id, value),
                Err(error) => skip(record.offset, &error),
            },
        }
    }
}
