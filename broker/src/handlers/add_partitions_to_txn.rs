//! AddPartitionsToTxn: partitions that a producer is about to write to in its transaction. From version 4 on it is a call
//! among brokers: several transactions at once, each to be added to or only looked at.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::api::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use protocol::api::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use protocol::api::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use protocol::api::{ErrorCode, Response};

use super::group_support::own;
use super::transaction_support::{ADD_WAIT_MS, Gather, fenced_as_known};
use crate::dispatch::{Outcome, RequestContext};
use crate::state::BrokerState;
use crate::transaction::entry::{EPOCH_BUMPS, Identity};
use crate::transaction::records::TopicAndPartition;
use crate::transaction::service::TransactionAccess;

const FIRST_OF_BROKERS: i16 = 4;

type Topics = Vec<AddPartitionsToTxnTopic>;
type TopicResults = Vec<AddPartitionsToTxnTopicResult>;

pub(crate) fn serve(
    access: &TransactionAccess,
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: AddPartitionsToTxnRequest,
) -> Outcome {
    let version = context.version;
    if version >= FIRST_OF_BROKERS {
        return serve_brokers(access, state, context, request.transactions);
    }
    let topics = request.v3_and_below_topics;
    let answer =
        |results| Response::from(AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results));
    if request.v3_and_below_transactional_id.is_empty() {
        return answer(results(&topics, |_, _| ErrorCode::InvalidRequest)).into();
    }
    if let Some(refused) = unknown_partitions(state, &topics) {
        return answer(refused).into();
    }
    let identity =
        Identity { producer_id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
    let id = own(&request.v3_and_below_transactional_id);
    let responder = context.defer();
    let partitions = partitions_of(&topics);
    let held = move |added: Result<Identity, ErrorCode>| {
        let error = fenced_as_known(added.err().unwrap_or(ErrorCode::None), version);
        let results = results(&topics, |_, _| error);
        responder.send(AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results).into());
    };
    access.coordinator.add(&access.environment, &id, identity, partitions, 0, ADD_WAIT_MS, Box::new(held));
    Outcome::Deferred
}

fn serve_brokers(
    access: &TransactionAccess,
    state: &Arc<BrokerState>,
    context: &RequestContext,
    transactions: Vec<AddPartitionsToTxnTransaction>,
) -> Outcome {
    let build = |results: Vec<AddPartitionsToTxnResult>| {
        Response::from(AddPartitionsToTxnResponse::default().with_results_by_transaction(results))
    };
    if transactions.is_empty() {
        return build(Vec::new()).into();
    }
    let gather = Gather::new(transactions.len(), context.defer(), build);
    for (index, transaction) in transactions.into_iter().enumerate() {
        let identity = Identity { producer_id: transaction.producer_id.0, epoch: transaction.producer_epoch };
        let topics = transaction.topics;
        let name = transaction.transactional_id;
        let id = own(&name);
        let result = move |topics: TopicResults| {
            AddPartitionsToTxnResult::default().with_transactional_id(name).with_topic_results(topics)
        };
        if id.is_empty() {
            gather.settle(index, result(results(&topics, |_, _| ErrorCode::InvalidRequest)));
        } else if let Some(refused) = unknown_partitions(state, &topics) {
            gather.settle(index, result(refused));
        } else if transaction.verify_only {
            gather.settle(index, result(verified(access, &id, identity, &topics)));
        } else {
            let gather = Arc::clone(&gather);
            let partitions = partitions_of(&topics);
            let held = move |added: Result<Identity, ErrorCode>| {
                let error = added.err().unwrap_or(ErrorCode::None);
                gather.settle(index, result(results(&topics, |_, _| error)));
            };
            let (coordinator, environment) = (&access.coordinator, &access.environment);
            coordinator.add(environment, &id, identity, partitions, EPOCH_BUMPS, 0, Box::new(held));
        }
    }
    Outcome::Deferred
}

fn verified(access: &TransactionAccess, id: &str, identity: Identity, topics: &Topics) -> TopicResults {
    let asked: Vec<TopicAndPartition> = partitions_of(topics).into_iter().collect();
    match access.coordinator.verify(&access.environment, id, identity, &asked) {
        Err(error) => results(topics, |_, _| error),
        Ok(verified) => results(topics, |topic, partition| {
            let found = asked.iter().position(|(name, index)| name.as_ref() == topic && *index == partition);
            let result = found.and_then(|at| verified.get(at)).copied();
            result.map_or(ErrorCode::UnknownServerError, |result| result.err().unwrap_or(ErrorCode::None))
        }),
    }
}

fn partitions_of(topics: &Topics) -> BTreeSet<TopicAndPartition> {
    let mut partitions = BTreeSet::new();
    for topic in topics {
        let name = own(&topic.name);
        partitions.extend(topic.partitions.iter().map(|partition| (Arc::clone(&name), *partition)));
    }
    partitions
}

/// The answer to a request that names partitions which are not there: nothing is added.
fn unknown_partitions(state: &BrokerState, topics: &Topics) -> Option<TopicResults> {
    let exists = |topic: &str, partition: i32| {
        let count = state.topics.by_name(topic).map_or(0, |entry| entry.partition_count());
        usize::try_from(partition).is_ok_and(|partition| partition < count)
    };
    let all = topics.iter().all(|topic| topic.partitions.iter().all(|partition| exists(&topic.name, *partition)));
    (!all).then(|| {
        results(topics, |topic, partition| match exists(topic, partition) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        })
    })
}

fn results(topics: &Topics, error: impl Fn(&str, i32) -> ErrorCode) -> TopicResults {
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(error(&topic.name, *partition).code())
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    results.collect()
}
