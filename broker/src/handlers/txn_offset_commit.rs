//! TxnOffsetCommit: offsets that count once the producer's transaction is committed.
//!
//! The group's partition of `__consumer_offsets` must be in the transaction: clients of the newer protocol (version 5 on)
//! have it added here, older ones have said so by AddOffsetsToTxn. Answered when the offsets are durable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::api::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use protocol::api::messages::{TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use protocol::api::{ErrorCode, Response};

use super::group_support::{own, own_nullable};
use super::transaction_support::ADD_WAIT_MS;
use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::group::coordinator::Held;
use crate::group::environment::{OFFSETS_TOPIC, partition_of};
use crate::group::output::InTransaction;
use crate::group::service::GroupAccess;
use crate::group::shard::{Commit, Committer};
use crate::state::BrokerState;
use crate::transaction::entry::{EPOCH_BUMPS, Identity};
use crate::transaction::service::TransactionAccess;

const FIRST_THAT_ADDS: i16 = 5;

/// A topic of the request, and what is known of its partitions; `None` for those that the group decides.
struct Topic {
    name: TopicName,
    partitions: Vec<(i32, Option<ErrorCode>)>,
}

/// A request that passed the checks which need no coordinator.
struct Asked {
    version: i16,
    identity: Identity,
    committer: Committer,
    commits: Vec<Commit>,
    topics: Vec<Topic>,
    responder: Responder,
}

pub(crate) fn serve(
    access: &TransactionAccess,
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: TxnOffsetCommitRequest,
) -> Outcome {
    let groups = state.groups.access(state);
    let mut commits = Vec::new();
    let topics = read_topics(&groups, &request, &mut commits);
    if request.transactional_id.is_empty() {
        return response(topics, ErrorCode::InvalidRequest).into();
    }
    if commits.is_empty() {
        return response(topics, ErrorCode::None).into();
    }
    let Some(partitions) = groups.environment.offsets_partitions() else {
        return response(topics, ErrorCode::CoordinatorNotAvailable).into();
    };
    let identity = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let partition = partition_of(&request.group_id, partitions);
    let asked = Asked {
        version: context.version,
        identity,
        committer: Committer {
            group: own(&request.group_id),
            member_id: own(&request.member_id),
            instance_id: own_nullable(request.group_instance_id.as_ref()),
            generation: request.generation_id,
            expire_timestamp: None,
            version: None,
        },
        commits,
        topics,
        responder: context.defer(),
    };
    let known = state.partition(OFFSETS_TOPIC, partition).ok().and_then(|p| p.log().producer(identity.producer_id));
    let is_open = known
        .is_some_and(|known| known.producer_epoch == identity.epoch && known.current_transaction_first_offset >= 0);
    // The older protocol: a marker of the same epoch may come at any moment.
    let seen = (context.version < FIRST_THAT_ADDS).then(|| known.map_or(0, |known| known.markers));
    if is_open {
        asked.commit(&groups, seen);
        return Outcome::Deferred;
    }
    let id = own(&request.transactional_id);
    let offsets = (Arc::from(OFFSETS_TOPIC), partition);
    if context.version >= FIRST_THAT_ADDS {
        let held = move |added: Result<Identity, ErrorCode>| match added {
            Ok(_) => asked.commit(&groups, None),
            Err(error) => asked.refuse(error),
        };
        let partitions = BTreeSet::from([offsets]);
        let (coordinator, environment) = (&access.coordinator, &access.environment);
        coordinator.add(environment, &id, identity, partitions, EPOCH_BUMPS, ADD_WAIT_MS, Box::new(held));
        return Outcome::Deferred;
    }
    let verified = match state.verifies_partitions.load(Ordering::Acquire) {
        true => access.coordinator.verify(&access.environment, &id, identity, &[offsets]),
        false => Ok(vec![Ok(())]),
    };
    match verified.and_then(|results| results.into_iter().collect::<Result<Vec<()>, _>>()) {
        Ok(_) => asked.commit(&groups, seen),
        Err(error) => asked.refuse(error),
    }
    Outcome::Deferred
}

fn read_topics(groups: &GroupAccess, request: &TxnOffsetCommitRequest, commits: &mut Vec<Commit>) -> Vec<Topic> {
    let limit = groups.coordinator.config().offset_metadata_max;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let name = own(&topic.name);
        let known = groups.environment.topic(&name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let metadata = partition.committed_metadata.clone().unwrap_or_default();
            let error = match &known {
                Some((id, count)) if (0..*count).contains(&index) => {
                    if metadata.len() > limit && metadata.encode_utf16().count() > limit {
                        Some(ErrorCode::OffsetMetadataTooLarge)
                    } else {
                        commits.push(Commit {
                            topic: Arc::clone(&name),
                            topic_id: *id,
                            partition: index,
                            offset: partition.committed_offset,
                            leader_epoch: partition.committed_leader_epoch,
                            metadata: own(&metadata),
                        });
                        None
                    }
                }
                _ => Some(ErrorCode::UnknownTopicOrPartition),
            };
            partitions.push((index, error));
        }
        topics.push(Topic { name: topic.name.clone(), partitions });
    }
    topics
}

impl Asked {
    /// Writes the offsets into the transaction; for `markers_seen` see [`InTransaction`].
    fn commit(self, groups: &GroupAccess, markers_seen: Option<u32>) {
        let Self { version, identity, committer, commits, topics, responder } = self;
        let transaction = InTransaction {
            producer_id: identity.producer_id,
            producer_epoch: identity.epoch,
            marker: None,
            version: 0,
            markers_seen,
        };
        let mut waiting = Some((topics, responder));
        let now = groups.environment.now();
        let group = Arc::clone(&committer.group);
        let served = groups.coordinator.with_group(&groups.environment, &group, now, |session| {
            let now = session.now;
            let (results, output) = session.shard().commit_in_transaction(&committer, transaction, commits, now)?;
            let held = waiting.take().map(|(mut topics, responder)| -> Held {
                note_results(&mut topics, results, version);
                Box::new(move |written: Result<(), ErrorCode>| {
                    let error = as_known(written.err().unwrap_or(ErrorCode::None), version);
                    responder.send(response(topics, error));
                })
            });
            session.submit(output, held);
            Ok(())
        });
        if let (Err(error) | Ok(Err(error)), Some((topics, responder))) = (served, waiting) {
            responder.send(response(topics, as_known(error, version)));
        }
    }

    fn refuse(self, error: ErrorCode) {
        self.responder.send(response(self.topics, as_known(error, self.version)));
    }
}

/// Puts the group's word on each partition that it decided.
fn note_results(topics: &mut [Topic], results: Vec<Result<(), ErrorCode>>, version: i16) {
    let undecided = topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|(_, known)| known.is_none());
    for ((_, known), result) in undecided.zip(results) {
        *known = result.err().map(|error| as_known(error, version));
    }
}

/// What clients of that version understand.
fn as_known(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version <= 3 => ErrorCode::InvalidTxnState,
        ErrorCode::ConcurrentTransactions if version < FIRST_THAT_ADDS => ErrorCode::CoordinatorNotAvailable,
        // TxnOffsetCommit speaks of generations, also to members that have epochs.
        ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
        ErrorCode::CoordinatorLoadInProgress if version <= 1 => ErrorCode::CoordinatorNotAvailable,
        other => other,
    }
}

fn response(topics: Vec<Topic>, otherwise: ErrorCode) -> Response {
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, error)| {
            let error = error.unwrap_or(otherwise);
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect()).into()
}
