//! What the records of `__consumer_offsets` and `__transaction_state` mean.

use broker::group::records::{Decoded, GroupRecord, decode as decode_group};
use broker::transaction::records::decode as decode_transaction;
use serde_json::{Value, json};

/// The record in words, as JSON; `None` for other topics. What cannot be read says why.
pub(super) fn meaning(topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Value> {
    let key = key.unwrap_or_default();
    match topic {
        "__consumer_offsets" => Some(match decode_group(key, value) {
            Ok(Decoded::Record(record)) => group_record(&record),
            Ok(other) => json!({ "other": format!("{other:?}") }),
            Err(error) => json!({ "unreadable": error.to_string() }),
        }),
        "__transaction_state" => Some(match decode_transaction(key, value) {
            Ok((id, None)) => json!({ "transactional_id": &*id, "removed": true }),
            Ok((id, Some(value))) => json!({
                "transactional_id": &*id,
                "producer_id": value.producer_id,
                "producer_epoch": value.producer_epoch,
                "state": value.state.name(),
                "timeout_ms": value.timeout_ms,
                "start_ms": value.start_ms,
                "last_update_ms": value.last_update_ms,
                "partitions": value.partitions.iter().map(|(topic, index)| format!("{topic}-{index}")).collect::<Vec<_>>(),
            }),
            Err(error) => json!({ "unreadable": error.to_string() }),
        }),
        _ => None,
    }
}

fn group_record(record: &GroupRecord) -> Value {
    match record {
        GroupRecord::Offset { group, topic, partition, value } => json!({
            "group": &**group,
            "topic": &**topic,
            "partition": partition,
            "offset": value.as_ref().map(|value| value.offset),
            "metadata": value.as_ref().map(|value| value.metadata.to_string()),
            "commit_timestamp": value.as_ref().map(|value| value.commit_timestamp),
            "removed": value.is_none(),
        }),
        GroupRecord::Group { group, value: None } => json!({ "group": &**group, "removed": true }),
        GroupRecord::Group { group, value: Some(value) } => json!({
            "group": &**group,
            "protocol_type": &*value.protocol_type,
            "generation": value.generation,
            "assignor": value.protocol.as_deref(),
            "leader": value.leader.as_deref(),
            "members": value.members.iter().map(|member| member.member_id.to_string()).collect::<Vec<_>>(),
        }),
        // Groups of the newer protocols are many small records each: shown as they are read.
        other => json!({ "record": format!("{other:?}") }),
    }
}
