//! Produce: appends batches, and answers as soon as the asked level of safety is reached.
//!
//! acks=0 is not answered; acks=1 is answered after the append; acks=-1 once the high watermark is past the batch, which
//! under `durability=power` is after the fsync that covers it, under `process` at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Now, Offset};
use parking_lot::Mutex;
use protocol::api::{
    ErrorCode, Pieces, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopicResponse, Response,
};
use protocol::record::{BatchHeader, Compression, HEADER_SIZE};

use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::partition::{Partition, append_error_code};
use crate::state::BrokerState;
use crate::topics::TopicEntry;
use crate::waiters::{Delayed, Ticket, Waiters};

use super::find_topic;

const FIRST_WITH_TOPIC_IDS: i16 = 13;
const FIRST_WITH_ZSTD: i16 = 7;
const ADMIN_CLIENT: &str = "__admin_client";

/// A batch that was appended and is not committed yet.
struct Uncommitted {
    topic: usize,
    position: usize,
    partition: Arc<Partition>,
    end_offset: Offset,
}

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: ProduceRequest) -> Outcome {
    let by_id = context.version >= FIRST_WITH_TOPIC_IDS;
    let rules = Rules {
        acks: request.acks,
        transactional: request.transactional_id.is_some(),
        zstd: context.version >= FIRST_WITH_ZSTD,
        may_write_internal: context.client_id.as_deref() == Some(ADMIN_CLIENT),
        now: context.now,
    };
    let mut uncommitted: Vec<Uncommitted> = Vec::new();
    let mut response = ProduceResponse { topics: Vec::with_capacity(request.topics.len()), ..Default::default() };
    for topic in request.topics {
        let entry = find_topic(state, by_id, &topic.name, &topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let (answer, appended) = rules.append(state, &entry, wanted);
            if let Some((partition, end_offset)) = appended
                && request.acks == -1
                && partition.committed(end_offset) != Some(Ok(()))
            {
                let place = (response.topics.len(), partitions.len());
                uncommitted.push(Uncommitted { topic: place.0, position: place.1, partition, end_offset });
            }
            partitions.push(answer);
        }
        response.topics.push(ProduceTopicResponse { name: topic.name, topic_id: topic.topic_id, partitions });
    }
    if request.acks == 0 {
        let failed = response.topics.iter().flat_map(|topic| &topic.partitions).find(|p| p.error_code.is_error());
        return match failed {
            Some(failed) => Outcome::Close(format!("a produce with acks=0 failed: {}", failed.error_code)),
            None => Outcome::NoReply,
        };
    }
    if uncommitted.is_empty() {
        return Outcome::Reply(Response::Produce(response));
    }
    let deadline = context.now.ticks_ms.saturating_add(i64::from(request.timeout_ms.max(0)));
    DelayedProduce::start(&state.waiters, deadline, context.defer(), response, uncommitted);
    Outcome::Deferred
}

struct Rules {
    acks: i16,
    transactional: bool,
    zstd: bool,
    may_write_internal: bool,
    now: Now,
}

impl Rules {
    fn append(
        &self,
        state: &BrokerState,
        entry: &Result<Arc<TopicEntry>, ErrorCode>,
        wanted: ProducePartition,
    ) -> (ProducePartitionResponse, Option<(Arc<Partition>, Offset)>) {
        let mut answer = ProducePartitionResponse { index: wanted.index, ..Default::default() };
        match self.check(state, entry, &wanted) {
            Err((code, message)) => {
                answer.error_code = code;
                answer.error_message = message.map(str::to_owned);
                (answer, None)
            }
            Ok((partition, records)) => match partition.append_from_client(records, self.now) {
                Ok(info) => {
                    answer.base_offset = info.base_offset;
                    answer.log_append_time_ms = info.log_append_time_ms;
                    answer.log_start_offset = info.log_start_offset;
                    (answer, Some((partition, info.last_offset + 1)))
                }
                Err(error) => {
                    answer.error_code = append_error_code(error.kind);
                    answer.error_message = Some(error.message);
                    answer.record_errors = error.record_errors.into_iter().map(|(i, m)| (i, Some(m))).collect();
                    (answer, None)
                }
            },
        }
    }

    fn check<'r>(
        &self,
        state: &BrokerState,
        entry: &Result<Arc<TopicEntry>, ErrorCode>,
        wanted: &'r ProducePartition,
    ) -> Result<(Arc<Partition>, &'r Pieces), Refused> {
        let refuse = |code| (code, None);
        if !(-1..=1).contains(&self.acks) {
            return Err(refuse(ErrorCode::InvalidRequiredAcks));
        }
        let entry = entry.as_ref().map_err(|code| refuse(*code))?;
        let Some(records) = wanted.records.as_ref().filter(|records| !records.is_empty()) else {
            return Err((ErrorCode::InvalidRecord, Some("a produce request must hold exactly one record batch")));
        };
        let header = read_header(records);
        if let Some(header) = &header {
            if header.attributes.is_transactional() {
                return Err(if self.transactional {
                    (ErrorCode::InvalidTxnState, Some("transactions are not served by this broker"))
                } else {
                    refuse(ErrorCode::TransactionalIdAuthorizationFailed)
                });
            }
            if !self.zstd && header.attributes.codec() == Ok(Compression::Zstd) {
                return Err((
                    ErrorCode::UnsupportedCompressionType,
                    Some("Produce requests with version less than 7 are not allowed to use ZStandard compression"),
                ));
            }
        }
        if entry.is_internal && !self.may_write_internal {
            return Err(refuse(ErrorCode::InvalidTopicException));
        }
        let partition = state.partition_of(entry, wanted.index).map_err(refuse)?;
        Ok((partition, records))
    }
}

/// Why a partition's records are not taken; the log's own refusals are said by the log.
type Refused = (ErrorCode, Option<&'static str>);

/// The batch's header, if there is one; what is wrong with it the log will say.
fn read_header(records: &Pieces) -> Option<BatchHeader> {
    match records.iter().next()? {
        protocol::api::Piece::Memory(bytes) if bytes.len() >= HEADER_SIZE => BatchHeader::read(bytes).ok(),
        _ => BatchHeader::read(&records.to_bytes().ok()?).ok(),
    }
}

/// A produce request with acks=-1 that waits for its batches to be committed.
struct DelayedProduce {
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
    fn start(
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
