//! DescribeTransactions: where transactional ids stand, and which partitions are in their transactions.

use protocol::api::messages::describe_transactions_response::{TopicData, TransactionState};
use protocol::api::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TransactionalId};
use protocol::api::{ErrorCode, Response};

use super::group_support::wire;
use super::topic_name;
use crate::dispatch::Outcome;
use crate::transaction::records::TransactionValue;
use crate::transaction::service::TransactionAccess;

pub(crate) fn serve(access: &TransactionAccess, request: DescribeTransactionsRequest) -> Outcome {
    let states = request.transactional_ids.into_iter().map(|id| {
        let found = match id.is_empty() {
            true => Err(ErrorCode::InvalidRequest),
            false => access.coordinator.read(&access.environment, &id, |shard| {
                let stored = shard.entry(&id).map(|entry| entry.value()).filter(|value| value.producer_epoch != -1);
                stored.cloned()
            }),
        };
        match found {
            Ok(Some(value)) => describe(id, &value),
            Ok(None) => failed(id, ErrorCode::TransactionalIdNotFound),
            Err(error) => failed(id, error),
        }
    });
    Response::from(DescribeTransactionsResponse::default().with_transaction_states(states.collect())).into()
}

fn failed(id: TransactionalId, error: ErrorCode) -> TransactionState {
    TransactionState::default().with_transactional_id(id).with_error_code(error.code())
}

fn describe(id: TransactionalId, value: &TransactionValue) -> TransactionState {
    let mut topics: Vec<TopicData> = Vec::new();
    for (topic, partition) in &value.partitions {
        match topics.last_mut() {
            Some(last) if last.topic.as_str() == topic.as_ref() => last.partitions.push(*partition),
            _ => topics.push(TopicData::default().with_topic(topic_name(topic)).with_partitions(vec![*partition])),
        }
    }
    TransactionState::default()
        .with_transactional_id(id)
        .with_transaction_state(wire(value.state.name()))
        .with_transaction_timeout_ms(value.timeout_ms)
        .with_transaction_start_time_ms(value.start_ms)
        .with_producer_id(ProducerId(value.producer_id))
        .with_producer_epoch(value.producer_epoch)
        .with_topics(topics)
}
