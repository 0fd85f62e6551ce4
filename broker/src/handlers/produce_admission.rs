//! Batches that begin a transaction on their partition: the coordinator must know of the partition first, or nothing would
//! ever end the transaction there.
//!
//! Clients of the newer protocol (Produce 12 on, KIP-890) have their partitions added to the transaction here; of older
//! ones, who have added them by AddPartitionsToTxn, it is verified. Whoever has a transaction open on the partition passes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::ProducerId;
use protocol::api::{ErrorCode, ProduceRequest, ProduceResponse, Response};
use storage::log::ProducerInfo;

use super::produce::{Admitted, Appended, Rules, read_header};
use super::produce_wait::DelayedProduce;
use super::transaction_support::{ADD_WAIT_MS, refused_produce};
use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::state::BrokerState;
use crate::transaction::admission::Turn;
use crate::transaction::entry::{EPOCH_BUMPS, Identity};
use crate::transaction::records::TopicAndPartition;
use crate::transaction::service::TransactionAccess;

/// A transactional batch of a request.
struct Batch {
    place: (usize, usize),
    partition: TopicAndPartition,
    identity: Identity,
    /// What the partition knows of the producer.
    known: Option<ProducerInfo>,
}

impl Batch {
    /// Its transaction is open on the partition already; or the partition refuses the epoch without asking anybody.
    fn passes(&self) -> bool {
        self.known.is_some_and(|known| {
            known.producer_epoch == self.identity.epoch && known.current_transaction_first_offset >= 0
                || known.producer_epoch > self.identity.epoch
        })
    }

    fn markers(&self) -> u32 {
        self.known.map_or(0, |known| known.markers)
    }
}

/// The transactional batches of a request for partitions that are here.
fn batches(state: &BrokerState, rules: &Rules, request: &ProduceRequest) -> Vec<Batch> {
    let mut batches = Vec::new();
    for (topic_place, topic) in request.topics.iter().enumerate() {
        let Ok(entry) = rules.find(state, topic) else { continue };
        for (place, wanted) in topic.partitions.iter().enumerate() {
            let Some(header) = wanted.records.as_ref().and_then(read_header) else { continue };
            if !header.attributes.is_transactional() {
                continue;
            }
            let Ok(partition) = state.partition_of(&entry, wanted.index) else { continue };
            batches.push(Batch {
                place: (topic_place, place),
                partition: (Arc::clone(&entry.name), wanted.index),
                identity: Identity { producer_id: header.producer_id, epoch: header.producer_epoch },
                known: partition.log().producer(header.producer_id),
            });
        }
    }
    batches
}

/// The producer whose turn the request needs: it has batches that begin a transaction, or comes behind such a one. `None`
/// for a request that can be appended at once.
pub(super) fn producer_to_admit(state: &BrokerState, rules: &Rules, request: &ProduceRequest) -> Option<ProducerId> {
    let batches = batches(state, rules, request);
    let producer = batches.first()?.identity.producer_id;
    // Older protocol: a marker of the same epoch may come at any moment, so every batch says what it has seen.
    let asks = !rules.adds_partitions() || !batches.iter().all(Batch::passes);
    (asks || state.transactions.admissions.is_busy(producer)).then_some(producer)
}

/// A request in its turn.
struct Job {
    state: Arc<BrokerState>,
    rules: Rules,
    request: ProduceRequest,
    /// `None` with `acks=0`.
    responder: Option<Responder>,
}

/// Takes up a request when it is its producer's turn, and answers it.
pub(super) fn start(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    rules: Rules,
    request: ProduceRequest,
    producer: ProducerId,
) -> Outcome {
    let answers = request.acks != 0;
    let responder = answers.then(|| context.defer());
    let job = Job { state: Arc::clone(state), rules, request, responder };
    state.transactions.admissions.enter(producer, move |turn| job.run(turn));
    if answers { Outcome::Deferred } else { Outcome::NoReply }
}

impl Job {
    fn run(self, turn: Turn) {
        let batches = batches(&self.state, &self.rules, &self.request);
        let id: Arc<str> = Arc::from(self.request.transactional_id.as_deref().unwrap_or_default());
        let Some(identity) = batches.first().map(|batch| batch.identity) else {
            return self.append(&Admitted::default(), turn);
        };
        if id.is_empty() || batches.iter().any(|batch| batch.identity != identity) {
            let refused = match id.is_empty() {
                true => ErrorCode::TransactionalIdAuthorizationFailed,
                // One transaction at a time: the others' owner is not known.
                false => ErrorCode::InvalidProducerIdMapping,
            };
            return self.append(&refuse_all(&batches, refused), turn);
        }
        let access = self.state.transactions.access(&self.state);
        if !self.rules.adds_partitions() {
            let admitted = self.verify(&access, identity, &batches);
            return self.append(&admitted, turn);
        }
        let new: BTreeSet<TopicAndPartition> =
            batches.iter().filter(|batch| !batch.passes()).map(|batch| batch.partition.clone()).collect();
        if new.is_empty() {
            return self.append(&Admitted::default(), turn);
        }
        let held = move |added: Result<Identity, ErrorCode>| {
            let admitted = match added {
                Ok(_) => Admitted::default(),
                Err(error) => {
                    let new: Vec<Batch> = batches.into_iter().filter(|batch| !batch.passes()).collect();
                    refuse_all(&new, refused_produce(error, self.rules.version))
                }
            };
            self.append(&admitted, turn);
        };
        let (coordinator, environment) = (&access.coordinator, &access.environment);
        coordinator.add(environment, &id, identity, new, EPOCH_BUMPS, ADD_WAIT_MS, Box::new(held));
    }

    /// Asks whether the partitions are in the transaction, and notes which markers the partitions had before.
    fn verify(&self, access: &TransactionAccess, identity: Identity, batches: &[Batch]) -> Admitted {
        let mut verdicts: Vec<_> = batches.iter().map(|batch| (batch.place, Ok(Some(batch.markers())))).collect();
        let asked: Vec<(usize, TopicAndPartition)> = batches
            .iter()
            .enumerate()
            .filter(|(_, batch)| !batch.passes())
            .map(|(index, batch)| (index, batch.partition.clone()))
            .collect();
        if asked.is_empty() || !self.state.verifies_partitions.load(Ordering::Acquire) {
            return Admitted { verdicts };
        }
        let id = self.request.transactional_id.as_deref().unwrap_or_default();
        let partitions: Vec<TopicAndPartition> = asked.iter().map(|(_, partition)| partition.clone()).collect();
        let verified = access.coordinator.verify(&access.environment, id, identity, &partitions);
        for (position, (index, _)) in asked.iter().enumerate() {
            let result = match &verified {
                Ok(results) => results.get(position).copied().unwrap_or(Err(ErrorCode::UnknownServerError)),
                Err(error) => Err(*error),
            };
            if let Err(error) = result {
                verdicts[*index].1 = Err(refused_produce(error, self.rules.version));
            }
        }
        Admitted { verdicts }
    }

    fn append(self, admitted: &Admitted, turn: Turn) {
        let Appended { response, uncommitted } = self.rules.append_all(&self.state, &self.request, admitted);
        // The next request of the producer need not wait for the disk.
        drop(turn);
        match self.responder {
            None => log_failures(&response),
            Some(responder) if uncommitted.is_empty() => responder.send(Response::Produce(response)),
            Some(responder) => {
                let deadline = self.rules.deadline(&self.request);
                DelayedProduce::start(&self.state.waiters, deadline, responder, response, uncommitted);
            }
        }
    }
}

fn refuse_all(batches: &[Batch], error: ErrorCode) -> Admitted {
    Admitted { verdicts: batches.iter().map(|batch| (batch.place, Err(error))).collect() }
}

fn log_failures(response: &ProduceResponse) {
    for topic in &response.topics {
        for partition in topic.partitions.iter().filter(|partition| partition.error_code.is_error()) {
            let (topic, index) = (&topic.name, partition.index);
            tracing::warn!(%topic, index, error = %partition.error_code, "a transactional produce with acks=0 failed");
        }
    }
}
