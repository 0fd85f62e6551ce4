//! Produce: appends batches, and answers as soon as the asked level of safety is reached.
//!
//! acks=0 is not answered; acks=1 is answered after the append; acks=-1 once the high watermark is past the batch, which
//! under `durability=power` is after the fsync that covers it, under `process` at once. Batches of transactions pass
//! `produce_admission` first.

use std::sync::Arc;

use base::{Now, Offset};
use protocol::api::{
    ErrorCode, Pieces, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
    ProduceTopicResponse, Response,
};
use protocol::record::{BatchHeader, Compression, HEADER_SIZE};
use storage::log::{AppendError, AppendInfo};

use crate::dispatch::{Outcome, RequestContext};
use crate::partition::{Partition, append_error_code};
use crate::state::BrokerState;
use crate::topics::TopicEntry;
use crate::transaction::entry::EPOCH_BUMPS;

use super::find_topic;
use super::produce_admission;
use super::produce_wait::{DelayedProduce, Uncommitted};

const FIRST_WITH_TOPIC_IDS: i16 = 13;
const FIRST_THAT_ADDS_PARTITIONS: i16 = 12;
const FIRST_WITH_ZSTD: i16 = 7;
const ADMIN_CLIENT: &str = "__admin_client";

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: ProduceRequest) -> Outcome {
    let rules = Rules::of(context, &request);
    if request.transactional_id.is_some()
        && let Some(producer) = produce_admission::producer_to_admit(state, &rules, &request)
    {
        return produce_admission::start(state, context, rules, request, producer);
    }
    let Appended { response, uncommitted } = rules.append_all(state, &request, &Admitted::default());
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
    DelayedProduce::start(&state.waiters, rules.deadline(&request), context.defer(), response, uncommitted);
    Outcome::Deferred
}

/// What became of a request's batches so far.
pub(super) struct Appended {
    pub(super) response: ProduceResponse,
    pub(super) uncommitted: Vec<Uncommitted>,
}

/// Of one batch: where it is in the request, and the markers seen when the coordinator was asked, or why it is refused.
pub(super) type Verdict = ((usize, usize), Result<Option<u32>, ErrorCode>);

/// What the transaction coordinator said about batches that begin a transaction on their partition, by the places of
/// their topic and partition in the request.
#[derive(Default)]
pub(super) struct Admitted {
    pub(super) verdicts: Vec<Verdict>,
}

impl Admitted {
    fn of(&self, topic: usize, partition: usize) -> Result<Option<u32>, ErrorCode> {
        let found = self.verdicts.iter().find(|(place, _)| *place == (topic, partition));
        found.map_or(Ok(None), |(_, verdict)| *verdict)
    }
}

/// What a request's version and header say about how its batches are taken.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) version: i16,
    by_id: bool,
    acks: i16,
    transactional: bool,
    zstd: bool,
    may_write_internal: bool,
    now: Now,
}

impl Rules {
    fn of(context: &RequestContext, request: &ProduceRequest) -> Self {
        Self {
            version: context.version,
            by_id: context.version >= FIRST_WITH_TOPIC_IDS,
            acks: request.acks,
            transactional: request.transactional_id.is_some(),
            zstd: context.version >= FIRST_WITH_ZSTD,
            may_write_internal: context.client_id.as_deref() == Some(ADMIN_CLIENT),
            now: context.now,
        }
    }

    /// The topic of a request.
    pub(super) fn find(&self, state: &BrokerState, topic: &ProduceTopic) -> Result<Arc<TopicEntry>, ErrorCode> {
        find_topic(state, self.by_id, &topic.name, &topic.topic_id)
    }

    /// Tick at which the request is answered in any case.
    pub(super) fn deadline(&self, request: &ProduceRequest) -> i64 {
        self.now.ticks_ms.saturating_add(i64::from(request.timeout_ms.max(0)))
    }

    /// Whether clients of this version have partitions added to their transaction by writing to them (KIP-890).
    pub(super) fn adds_partitions(&self) -> bool {
        self.version >= FIRST_THAT_ADDS_PARTITIONS
    }

    /// Appends every batch that is in order.
    pub(super) fn append_all(&self, state: &BrokerState, request: &ProduceRequest, admitted: &Admitted) -> Appended {
        let mut uncommitted: Vec<Uncommitted> = Vec::new();
        let mut response = ProduceResponse { topics: Vec::with_capacity(request.topics.len()), ..Default::default() };
        for (topic_place, topic) in request.topics.iter().enumerate() {
            let entry = self.find(state, topic);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (place, wanted) in topic.partitions.iter().enumerate() {
                let (answer, appended) = self.append(state, &entry, wanted, admitted.of(topic_place, place));
                if let Some((partition, end_offset)) = appended
                    && request.acks == -1
                    && partition.committed(end_offset) != Some(Ok(()))
                {
                    uncommitted.push(Uncommitted { topic: topic_place, position: place, partition, end_offset });
                }
                partitions.push(answer);
            }
            let (name, topic_id) = (Arc::clone(&topic.name), topic.topic_id);
            response.topics.push(ProduceTopicResponse { name, topic_id, partitions });
        }
        Appended { response, uncommitted }
    }

    fn append(
        &self,
        state: &BrokerState,
        entry: &Result<Arc<TopicEntry>, ErrorCode>,
        wanted: &ProducePartition,
        admitted: Result<Option<u32>, ErrorCode>,
    ) -> (ProducePartitionResponse, Option<(Arc<Partition>, Offset)>) {
        let mut answer = ProducePartitionResponse { index: wanted.index, ..Default::default() };
        let checked = self.check(state, entry, wanted);
        match checked.and_then(|(partition, records)| Ok((partition, records, admitted.map_err(|code| (code, None))?)))
        {
            Err((code, message)) => {
                answer.error_code = code;
                answer.error_message = message.map(str::to_owned);
                (answer, None)
            }
            Ok((partition, records, seen)) => match self.append_to(&partition, records, seen) {
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

    fn append_to(
        &self,
        partition: &Partition,
        records: &Pieces,
        markers_seen: Option<u32>,
    ) -> Result<AppendInfo, AppendError> {
        let transaction_version = if self.adds_partitions() { EPOCH_BUMPS } else { 0 };
        partition.append_from_client(records, transaction_version, markers_seen, self.now)
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
            if header.attributes.is_transactional() && !self.transactional {
                return Err(refuse(ErrorCode::TransactionalIdAuthorizationFailed));
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
pub(super) fn read_header(records: &Pieces) -> Option<BatchHeader> {
    match records.iter().next()? {
        protocol::api::Piece::Memory(bytes) if bytes.len() >= HEADER_SIZE => BatchHeader::read(bytes).ok(),
        _ => BatchHeader::read(&records.to_bytes().ok()?).ok(),
    }
}
