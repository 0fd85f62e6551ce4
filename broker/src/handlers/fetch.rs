//! Fetch: reads batches, at once if there is enough to send, else when a partition advances or the wait is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Now, TopicName};
use parking_lot::Mutex;
use protocol::api::{
    AbortedTransaction, EpochEndOffset, ErrorCode, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopicResponse, LeaderIdAndEpoch, NodeEndpoint, Response,
};
use storage::error::ErrorKind;
use storage::log::ReadLimit;
use uuid::Uuid;

use crate::dispatch::{Endpoint, Outcome, RequestContext, Responder};
use crate::partition::Partition;
use crate::sessions::{Sent, Session, SessionPartition};
use crate::state::BrokerState;
use crate::waiters::{Delayed, Ticket};

use super::{check_leader_epoch, find_topic};

const FIRST_WITH_SESSIONS: i16 = 7;
const FIRST_WITH_TOPIC_IDS: i16 = 13;
const FIRST_WITH_ENDPOINTS: i16 = 16;
const READ_COMMITTED: i8 = 1;

/// One fetch on its way: what to read, and for whom.
struct Fetch {
    state: Arc<BrokerState>,
    by_id: bool,
    names_leaders: bool,
    endpoint: Arc<Endpoint>,
    limit: ReadLimit,
    min_bytes: usize,
    max_bytes: usize,
    partitions: Vec<SessionPartition>,
    session: Option<Arc<Mutex<Session>>>,
    /// The answer leaves out what has not changed.
    incremental: bool,
}

/// What one look at the logs gave.
struct Gathered {
    answers: Vec<FetchPartitionResponse>,
    bytes: usize,
    /// There is an error or a diverging epoch: nobody waits then.
    urgent: bool,
}

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: FetchRequest) -> Outcome {
    let by_id = context.version >= FIRST_WITH_TOPIC_IDS;
    let max_wait_ms = request.max_wait_ms;
    let max_bytes = request.max_bytes.min(state.config.fetch_max_bytes).max(0) as usize;
    let limit = match request.isolation_level {
        _ if request.replica_id >= 0 => ReadLimit::LogEnd,
        READ_COMMITTED => ReadLimit::LastStable,
        _ => ReadLimit::HighWatermark,
    };
    let min_bytes = (request.min_bytes.max(0) as usize).min(max_bytes);
    let chosen = match choose(state, context, by_id, request) {
        Ok(chosen) => chosen,
        Err(code) => {
            return Outcome::Reply(Response::Fetch(FetchResponse { error_code: code, ..FetchResponse::default() }));
        }
    };
    let fetch = Fetch {
        state: Arc::clone(state),
        by_id,
        names_leaders: context.version >= FIRST_WITH_ENDPOINTS,
        endpoint: Arc::clone(&context.endpoint),
        limit,
        min_bytes,
        max_bytes,
        partitions: chosen.partitions,
        session: chosen.session,
        incremental: chosen.incremental,
    };
    let gathered = fetch.gather();
    if max_wait_ms <= 0 || fetch.partitions.is_empty() || fetch.is_enough(&gathered) {
        return Outcome::Reply(fetch.answer(gathered));
    }
    let deadline = context.now.ticks_ms.saturating_add(i64::from(max_wait_ms));
    DelayedFetch::start(fetch, context.defer(), deadline);
    Outcome::Deferred
}

struct Chosen {
    partitions: Vec<SessionPartition>,
    session: Option<Arc<Mutex<Session>>>,
    incremental: bool,
}

/// The partitions of a request, from its body and its session.
fn choose(
    state: &BrokerState,
    context: &RequestContext,
    by_id: bool,
    request: FetchRequest,
) -> Result<Chosen, ErrorCode> {
    let (session_id, epoch) =
        if context.version >= FIRST_WITH_SESSIONS { (request.session_id, request.session_epoch) } else { (0, -1) };
    let mut listed: Vec<SessionPartition> = Vec::new();
    for topic in request.topics {
        // With ids the name is filled in, so that answers in process carry both.
        let name = match by_id {
            true => state.topics.by_id(&topic.topic_id).map_or(topic.name, |entry| Arc::clone(&entry.name)),
            false => topic.name,
        };
        for wanted in topic.partitions {
            listed.push(SessionPartition { topic: Arc::clone(&name), topic_id: topic.topic_id, wanted, sent: None });
        }
    }
    if epoch > 0 {
        let session = state.sessions.take_turn(session_id, epoch, by_id, context.now)?;
        let mut turn = session.lock();
        turn.update(listed);
        turn.forget(&request.forgotten);
        let partitions = turn.partitions.clone();
        drop(turn);
        if partitions.is_empty() {
            state.sessions.remove(session_id);
            return Ok(Chosen { partitions, session: None, incremental: true });
        }
        return Ok(Chosen { partitions, session: Some(session), incremental: true });
    }
    if session_id != 0 {
        state.sessions.remove(session_id);
    }
    let session = match epoch {
        0 if !listed.is_empty() => state.sessions.create(by_id, listed.clone(), context.now),
        _ => None,
    };
    Ok(Chosen { partitions: listed, session, incremental: false })
}

impl Fetch {
    fn partition(&self, wanted: &SessionPartition) -> Result<Arc<Partition>, ErrorCode> {
        let entry = find_topic(&self.state, self.by_id, &wanted.topic, &wanted.topic_id)?;
        let partition = self.state.partition_of(&entry, wanted.wanted.index)?;
        if partition.is_deleted() {
            return Err(if self.by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition });
        }
        Ok(partition)
    }

    /// Reads all partitions in their order; each takes from what the limit leaves.
    fn gather(&self) -> Gathered {
        let mut gathered = Gathered { answers: Vec::with_capacity(self.partitions.len()), bytes: 0, urgent: false };
        for wanted in &self.partitions {
            let left = self.max_bytes.saturating_sub(gathered.bytes);
            let answer = match self.partition(wanted) {
                Ok(partition) => self.read(&partition, wanted, left, gathered.bytes == 0),
                Err(code) => error(wanted.wanted.index, code, Some(Vec::new())),
            };
            gathered.bytes += answer.records.len_bytes();
            gathered.urgent |= answer.error_code.is_error() || answer.diverging_epoch.epoch >= 0;
            gathered.answers.push(answer);
        }
        gathered
    }

    fn read(
        &self,
        partition: &Partition,
        wanted: &SessionPartition,
        left: usize,
        is_first: bool,
    ) -> FetchPartitionResponse {
        let wanted = &wanted.wanted;
        if let Err(code) = check_leader_epoch(partition, wanted.current_leader_epoch) {
            let mut answer = error(wanted.index, code, Some(Vec::new()));
            if self.names_leaders && code == ErrorCode::FencedLeaderEpoch {
                answer.current_leader =
                    LeaderIdAndEpoch { leader_id: self.state.config.node_id, leader_epoch: partition.leader_epoch };
            }
            return answer;
        }
        if wanted.last_fetched_epoch >= 0 {
            let end = partition.log().leader_epoch_end_offset(wanted.last_fetched_epoch);
            if end.leader_epoch < 0 {
                return error(wanted.index, ErrorCode::OffsetOutOfRange, None);
            }
            if end.leader_epoch < wanted.last_fetched_epoch || end.end_offset < wanted.fetch_offset {
                let offsets = partition.offsets();
                return FetchPartitionResponse {
                    index: wanted.index,
                    high_watermark: offsets.high_watermark,
                    last_stable_offset: offsets.last_stable,
                    log_start_offset: offsets.log_start,
                    diverging_epoch: EpochEndOffset { epoch: end.leader_epoch, end_offset: end.end_offset },
                    ..FetchPartitionResponse::default()
                };
            }
        }
        let max_bytes = left.min(wanted.partition_max_bytes.max(0) as usize);
        match partition.log().read(wanted.fetch_offset, max_bytes, self.limit, is_first) {
            Ok(read) => FetchPartitionResponse {
                index: wanted.index,
                high_watermark: read.offsets.high_watermark,
                last_stable_offset: read.offsets.last_stable,
                log_start_offset: read.offsets.log_start,
                aborted: (self.limit == ReadLimit::LastStable).then(|| {
                    let aborted = read.aborted.unwrap_or_default();
                    let convert = |aborted: storage::log::AbortedTransaction| AbortedTransaction {
                        producer_id: aborted.producer_id,
                        first_offset: aborted.first_offset,
                    };
                    aborted.into_iter().map(convert).collect()
                }),
                records: read.records,
                ..FetchPartitionResponse::default()
            },
            Err(failure) => {
                let code = match failure.kind() {
                    ErrorKind::OutOfRange => ErrorCode::OffsetOutOfRange,
                    ErrorKind::Closed | ErrorKind::NotFound => ErrorCode::UnknownTopicOrPartition,
                    ErrorKind::Corrupt => ErrorCode::CorruptMessage,
                    _ => ErrorCode::KafkaStorageError,
                };
                if code != ErrorCode::OffsetOutOfRange {
                    tracing::error!("fetch from {}: {failure}", partition.topic_partition);
                }
                error(wanted.index, code, None)
            }
        }
    }

    fn is_enough(&self, gathered: &Gathered) -> bool {
        gathered.urgent || gathered.bytes >= self.min_bytes
    }

    /// The response; in a session it takes note of what it says.
    fn answer(&self, gathered: Gathered) -> Response {
        let mut response = FetchResponse::default();
        let mut session = self.session.as_ref().map(|session| session.lock());
        if let Some(session) = &session {
            response.session_id = session.id;
        }
        let names_leader = gathered.answers.iter().any(|answer| answer.current_leader.leader_id >= 0);
        let mut had_data = Vec::new();
        for (wanted, answer) in self.partitions.iter().zip(gathered.answers) {
            let sent = Sent { high_watermark: answer.high_watermark, log_start: answer.log_start_offset };
            let has_data = !answer.records.is_empty();
            let is_plain = answer.error_code.is_ok() && answer.diverging_epoch.epoch < 0;
            if self.incremental && !has_data && is_plain && wanted.sent == Some(sent) {
                continue;
            }
            if let Some(session) = session.as_deref_mut() {
                // An error stays unsent, so that it is repeated until it is gone.
                note(session, wanted, self.by_id, is_plain.then_some(sent));
                if has_data {
                    had_data.push((wanted.topic_id, Arc::clone(&wanted.topic), wanted.wanted.index));
                }
            }
            push(&mut response, wanted, answer);
        }
        if let Some(session) = session.as_deref_mut() {
            move_to_end(session, &had_data);
        }
        if names_leader {
            response.node_endpoints.push(NodeEndpoint {
                node_id: self.state.config.node_id,
                host: self.endpoint.host.to_string(),
                port: i32::from(self.endpoint.port),
                rack: None,
            });
        }
        Response::Fetch(response)
    }
}

fn push(response: &mut FetchResponse, wanted: &SessionPartition, answer: FetchPartitionResponse) {
    match response.topics.last_mut() {
        Some(topic) if topic.topic_id == wanted.topic_id && topic.name == wanted.topic => topic.partitions.push(answer),
        _ => response.topics.push(FetchTopicResponse {
            name: Arc::clone(&wanted.topic),
            topic_id: wanted.topic_id,
            partitions: vec![answer],
        }),
    }
}

fn is_same(known: &SessionPartition, topic_id: &Uuid, topic: &TopicName, index: i32, by_id: bool) -> bool {
    known.wanted.index == index && if by_id { known.topic_id == *topic_id } else { known.topic == *topic }
}

fn note(session: &mut Session, wanted: &SessionPartition, by_id: bool, sent: Option<Sent>) {
    let known = session
        .partitions
        .iter_mut()
        .find(|known| is_same(known, &wanted.topic_id, &wanted.topic, wanted.wanted.index, by_id));
    if let Some(known) = known {
        known.sent = sent;
    }
}

/// Partitions that gave data go behind those that did not, so that a full answer starves nobody.
fn move_to_end(session: &mut Session, had_data: &[(Uuid, TopicName, i32)]) {
    if had_data.is_empty() || had_data.len() == session.partitions.len() {
        return;
    }
    let by_id = session.uses_topic_ids;
    let served = |known: &SessionPartition| {
        had_data.iter().any(|(topic_id, topic, index)| is_same(known, topic_id, topic, *index, by_id))
    };
    session.partitions.sort_by_cached_key(served);
}

/// An error's answer; all offsets are -1.
fn error(index: i32, code: ErrorCode, aborted: Option<Vec<AbortedTransaction>>) -> FetchPartitionResponse {
    FetchPartitionResponse {
        index,
        error_code: code,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted,
        ..FetchPartitionResponse::default()
    }
}

/// A fetch that waits for more.
struct DelayedFetch {
    ticket: Ticket,
    fetch: Fetch,
    responder: Mutex<Option<Responder>>,
    is_done: AtomicBool,
}

impl DelayedFetch {
    fn start(fetch: Fetch, responder: Responder, deadline_ticks_ms: i64) {
        let partitions: Vec<Arc<Partition>> =
            fetch.partitions.iter().filter_map(|wanted| fetch.partition(wanted).ok()).collect();
        let waiters = Arc::clone(&fetch.state.waiters);
        let ticket = waiters.ticket(deadline_ticks_ms);
        let delayed =
            Arc::new(Self { ticket, fetch, responder: Mutex::new(Some(responder)), is_done: AtomicBool::new(false) });
        waiters.add(ticket, delayed.clone());
        for partition in &partitions {
            partition.watch(delayed.clone());
        }
        // Whoever appended before the last of these was registered did not see us.
        delayed.answer_if(|gathered| delayed.fetch.is_enough(gathered));
    }

    fn answer_if(&self, enough: impl FnOnce(&Gathered) -> bool) {
        if self.is_done() {
            return;
        }
        let gathered = self.fetch.gather();
        if !enough(&gathered) {
            return;
        }
        let responder = self.responder.lock().take();
        if let Some(responder) = responder {
            self.is_done.store(true, Ordering::Release);
            self.fetch.state.waiters.remove(self.ticket);
            responder.send(self.fetch.answer(gathered));
        }
    }
}

impl Delayed for DelayedFetch {
    fn advanced(&self, _partition: &Partition) {
        self.answer_if(|gathered| self.fetch.is_enough(gathered));
    }

    fn expire(&self, _now: Now) {
        self.answer_if(|_| true);
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}
