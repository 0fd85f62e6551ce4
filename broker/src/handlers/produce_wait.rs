//! A produce with acks=-1 whose batches are appended and not committed yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Now, Offset};
use parking_lot::Mutex;
use protocol::api::{ErrorCode, ProduceResponse, Response};

use crate::dispatch::Responder;
use crate::partition::Partition;
use crate::waiters::{Delayed, Ticket, Waiters};

/// A batch that was appended and is not committed yet.
pub(super) struct Uncommitted {
    pub(super) topic: usize,
    pub(super) position: usize,
    pub(super) partition: Arc<Partition>,
    pub(super) end_offset: Offset,
}

/// A produce request with acks=-1 that waits for its batches to be committed.
pub(super) struct DelayedProduce {
    ticket: Ticket,
    waiters: Arc<Waiters>,
    waiting: Mutex<Option<Waiting>>,
    is_done: AtomicBool,
}

struct Waiting {
    responder: Responder,
    response: ProduceResponse,
    uncommitted: Vec<Uncommitted>,
}

impl DelayedProduce {
    /// Answers once all batches are committed, or at the deadline.
    pub(super) fn start(
        waiters: &Arc<Waiters>,
        deadline_ticks_ms: i64,
        responder: Responder,
        response: ProduceResponse,
        uncommitted: Vec<Uncommitted>,
    ) {
        let partitions: Vec<Arc<Partition>> = uncommitted.iter().map(|batch| Arc::clone(&batch.partition)).collect();
        let ticket = waiters.ticket(deadline_ticks_ms);
        let delayed = Arc::new(Self {
            ticket,
            waiters: Arc::clone(waiters),
            waiting: Mutex::new(Some(Waiting { responder, response, uncommitted })),
            is_done: AtomicBool::new(false),
        });
        waiters.add(ticket, delayed.clone());
        for partition in &partitions {
            partition.watch(delayed.clone());
        }
        delayed.look(|_| true);
    }

    /// Takes out the batches whose wait is over, of the partitions that `concerns` names; answers if none is left.
    fn look(&self, concerns: impl Fn(&Partition) -> bool) {
        let finished = {
            let mut waiting = self.waiting.lock();
            let Some(wait) = waiting.as_mut() else { return };
            let Waiting { response, uncommitted, .. } = wait;
            uncommitted.retain(|batch| {
                if !concerns(&batch.partition) {
                    return true;
                }
                match batch.partition.committed(batch.end_offset) {
                    None => true,
                    Some(result) => {
                        if let Err(code) = result {
                            fail(response, batch, code);
                        }
                        false
                    }
                }
            });
            if uncommitted.is_empty() { waiting.take() } else { None }
        };
        if let Some(finished) = finished {
            self.answer(finished);
        }
    }

    fn answer(&self, finished: Waiting) {
        self.is_done.store(true, Ordering::Release);
        self.waiters.remove(self.ticket);
        finished.responder.send(Response::Produce(finished.response));
    }
}

fn fail(response: &mut ProduceResponse, batch: &Uncommitted, code: ErrorCode) {
    let answer = &mut response.topics[batch.topic].partitions[batch.position];
    answer.error_code = code;
    answer.base_offset = -1;
}

impl Delayed for DelayedProduce {
    fn advanced(&self, partition: &Partition) {
        self.look(|waiting| std::ptr::eq(waiting, partition));
    }

    fn expire(&self, _now: Now) {
        let expired = self.waiting.lock().take();
        if let Some(mut expired) = expired {
            for batch in &expired.uncommitted {
                fail(&mut expired.response, batch, ErrorCode::RequestTimedOut);
            }
            self.answer(expired);
        }
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}
