//! What the handlers of transactional requests share.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::{ErrorCode, Response};

use crate::dispatch::Responder;

/// How long the addition of a partition waits for the id's last transaction to be over, before the client is told to come
/// back: as long as Kafka's brokers try among themselves.
pub(crate) const ADD_WAIT_MS: i64 = 100;

/// The first version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn whose clients know `PRODUCER_FENCED`.
const FIRST_WITH_FENCED: i16 = 2;

/// What clients of older versions take for a fenced producer.
pub(crate) fn fenced_as_known(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < FIRST_WITH_FENCED => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

/// How a client of Produce learns that the coordinator does not take a batch into its transaction.
pub(crate) fn refused_produce(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version <= 10 => ErrorCode::InvalidTxnState,
        ErrorCode::ConcurrentTransactions if version <= 11 => ErrorCode::NotEnoughReplicas,
        ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator => {
            ErrorCode::NotEnoughReplicas
        }
        other => other,
    }
}

/// An answer made of several results, which come one by one from any thread.
pub(crate) struct Gather<T> {
    state: Mutex<Option<Gathering<T>>>,
}

struct Gathering<T> {
    results: Vec<Option<T>>,
    missing: usize,
    responder: Responder,
    build: Box<dyn FnOnce(Vec<T>) -> Response + Send>,
}

impl<T: Send + 'static> Gather<T> {
    /// Waits for `count` results, at least one; `build` makes the answer of them, in their order.
    pub(crate) fn new(
        count: usize,
        responder: Responder,
        build: impl FnOnce(Vec<T>) -> Response + Send + 'static,
    ) -> Arc<Self> {
        let results = std::iter::repeat_with(|| None).take(count).collect();
        let gathering = Gathering { results, missing: count, responder, build: Box::new(build) };
        Arc::new(Self { state: Mutex::new(Some(gathering)) })
    }

    /// Puts one result down; the last one answers. To be called without locks held.
    pub(crate) fn settle(&self, index: usize, result: T) {
        let complete = {
            let mut state = self.state.lock();
            let Some(gathering) = state.as_mut() else { return };
            let Some(slot) = gathering.results.get_mut(index) else { return };
            if slot.replace(result).is_none() {
                gathering.missing -= 1;
            }
            if gathering.missing > 0 {
                return;
            }
            state.take()
        };
        if let Some(complete) = complete {
            let results = complete.results.into_iter().flatten().collect();
            complete.responder.send((complete.build)(results));
        }
    }
}
