//! ShareFetch: settles what a member has acquired, then hands out more, at once if there is some, else when records come or are released, or the
//! wait is over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use base::Now;
use parking_lot::Mutex;
use protocol::api::share_fetch::{
    AcquiredRecords, ShareFetchPartitionResponse, ShareFetchRequest, ShareFetchResponse, ShareFetchTopicResponse,
};
use protocol::api::{ErrorCode, Response};

use super::share_support::{Settled, Told, acknowledge, check_exists, session_key, take_apart};
use crate::dispatch::{Outcome, RequestContext, Responder};
use crate::partition::Partition;
use crate::share::config::ShareConfig;
use crate::share::in_flight::Take;
use crate::share::partition::{Handed, SharePartition, Wanted, Woken};
use crate::share::sessions::{CLOSING_EPOCH, OPENING_EPOCH, SessionKey, SharedPartition};
use crate::state::BrokerState;
use crate::waiters::{Delayed, Ticket};

/// Acquire mode that takes no more records than asked for.
const RECORD_LIMIT: i8 = 1;

/// One fetch on its way: what to hand out, and to whom.
struct Fetch {
    state: Arc<BrokerState>,
    key: SessionKey,
    config: ShareConfig,
    partitions: Vec<SharedPartition>,
    /// What is answered whatever is found: partitions that are not there, and what became of acknowledgements.
    refused: Vec<Settled>,
    settled: Vec<Settled>,
    min_bytes: usize,
    max_bytes: usize,
    max_records: i64,
    batch_size: i64,
    is_strict: bool,
    /// The answer leaves out partitions with nothing.
    incremental: bool,
}

/// What one look gave.
#[derive(Default)]
struct Gathered {
    answers: Vec<(SharedPartition, Result<Handed, ErrorCode>)>,
    /// There is something to tell.
    is_enough: bool,
}

pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: ShareFetchRequest) -> Outcome {
    let epoch = request.share_session_epoch;
    let (may_renew, max_wait_ms) = (request.is_renew_ack, request.max_wait_ms);
    let (fetch, told) = match prepare(state, context, request) {
        Ok(prepared) => prepared,
        Err(code) => return refused(code).into(),
    };
    let (responder, now) = (context.defer(), context.now);
    let (key, config) = (fetch.key.clone(), fetch.config.clone());
    let then = move |settled: Vec<Settled>| {
        let fetch = Fetch { settled, ..fetch };
        if epoch == CLOSING_EPOCH {
            fetch.state.shares.member_gone(&fetch.state, &fetch.key);
        }
        let deadline = now.ticks_ms.saturating_add(i64::from(max_wait_ms));
        if may_renew || epoch == CLOSING_EPOCH || fetch.partitions.is_empty() {
            return responder.send(fetch.answer(Gathered::default()));
        }
        let gathered = fetch.gather(max_wait_ms <= 0);
        if max_wait_ms <= 0 || gathered.is_enough {
            return responder.send(fetch.answer(gathered));
        }
        DelayedShareFetch::start(fetch, responder, deadline);
    };
    acknowledge(state, &key, told, may_renew, &config, now, then);
    Outcome::Deferred
}

/// The fetch of a request, from its body and its session.
fn prepare(
    state: &Arc<BrokerState>,
    context: &RequestContext,
    request: ShareFetchRequest,
) -> Result<(Fetch, Vec<Told>), ErrorCode> {
    let key = session_key(state, request.group_id, request.member_id)?;
    let epoch = request.share_session_epoch;
    let wants_more =
        request.max_bytes > 0 || request.min_bytes > 0 || request.max_records > 0 || request.max_wait_ms > 0;
    if request.is_renew_ack && wants_more {
        return Err(ErrorCode::InvalidRequest);
    }
    let (named, told) = take_apart(request.topics);
    if epoch == OPENING_EPOCH && !told.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let (mut known, mut unknown) = (Vec::with_capacity(named.len()), Vec::new());
    for partition in named {
        match check_exists(state, partition) {
            Ok(()) => known.push(partition),
            Err(error) => unknown.push((partition, error)),
        }
    }
    let sessions = state.shares.sessions();
    let partitions = match epoch {
        OPENING_EPOCH => sessions.open(&key, context.connection_id, &known)?,
        CLOSING_EPOCH if !sessions.has(&key) => return Err(ErrorCode::ShareSessionNotFound),
        CLOSING_EPOCH => Vec::new(),
        epoch => {
            let forgotten: Vec<SharedPartition> = request
                .forgotten_topics_data
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition)))
                .collect();
            let partitions = sessions.go_on(&key, epoch, &known, &forgotten)?;
            state.shares.release(state, &key, &forgotten);
            partitions
        }
    };
    let max_bytes = request.max_bytes.min(state.config.fetch_max_bytes).max(0) as usize;
    let fetch = Fetch {
        state: Arc::clone(state),
        config: state.shares.config_of(state, &key.group),
        key,
        partitions,
        refused: unknown,
        settled: Vec::new(),
        min_bytes: (request.min_bytes.max(0) as usize).min(max_bytes),
        max_bytes,
        max_records: i64::from(request.max_records),
        batch_size: i64::from(request.batch_size.max(1)),
        is_strict: request.share_acquire_mode == RECORD_LIMIT,
        incremental: epoch != OPENING_EPOCH,
    };
    Ok((fetch, told))
}

impl Fetch {
    fn partition(&self, (topic, index): SharedPartition) -> Result<Arc<Partition>, ErrorCode> {
        let entry = self.state.topics.by_id(&topic).ok_or(ErrorCode::UnknownTopicId)?;
        let partition = self.state.partition_of(&entry, index)?;
        if partition.is_deleted() { Err(ErrorCode::UnknownTopicId) } else { Ok(partition) }
    }

    /// Hands out what there is, partition by partition, if it is as much as was asked for, or `in_any_case`.
    fn gather(&self, in_any_case: bool) -> Gathered {
        let mut gathered = Gathered { is_enough: !self.refused.is_empty(), ..Gathered::default() };
        if self.min_bytes > 1 && !in_any_case && !gathered.is_enough && self.bytes() < self.min_bytes {
            return gathered;
        }
        let (mut bytes_left, mut records_left) = (self.max_bytes, self.max_records);
        let share = self.max_bytes.div_ceil(self.partitions.len().max(1));
        let until = self.state.clock.now().ticks_ms.saturating_add(self.config.record_lock_duration.ms);
        for shared in &self.partitions {
            if bytes_left == 0 || records_left <= 0 {
                break;
            }
            let take = Take {
                member: Arc::clone(&self.key.member),
                until,
                max_records: records_left,
                is_strict: self.is_strict,
                batch_size: self.batch_size,
                max_window: self.config.max_record_locks.ms,
            };
            let answer = self.fetch(*shared, Some(take), share.min(bytes_left));
            if let Ok(handed) = &answer {
                bytes_left = bytes_left.saturating_sub(handed.records.len_bytes());
                records_left -= handed.acquired.iter().map(|acquired| acquired.last - acquired.first + 1).sum::<i64>();
            }
            gathered.is_enough |= answer.as_ref().map_or(true, |handed| !handed.acquired.is_empty());
            gathered.answers.push((*shared, answer));
        }
        gathered
    }

    /// How many bytes there are to hand out, as far as they are asked for.
    fn bytes(&self) -> usize {
        let mut bytes = 0;
        for shared in &self.partitions {
            match self.fetch(*shared, None, self.max_bytes) {
                Ok(found) => bytes += found.records.len_bytes(),
                Err(_) => return usize::MAX,
            }
            if bytes >= self.min_bytes {
                break;
            }
        }
        bytes
    }

    fn fetch(&self, shared: SharedPartition, take: Option<Take>, max_bytes: usize) -> Result<Handed, ErrorCode> {
        let partition = self.partition(shared)?;
        let wanted = Wanted { config: &self.config, take, max_bytes };
        match self.shared(shared).fetch(&self.state, &partition, &wanted) {
            // Its state was set meanwhile: it is another one now.
            Err(ErrorCode::NotLeaderOrFollower) => self.shared(shared).fetch(&self.state, &partition, &wanted),
            result => result,
        }
    }

    fn shared(&self, (topic, index): SharedPartition) -> Arc<SharePartition> {
        self.state.shares.partition(&self.key.group, topic, index)
    }

    fn answer(&self, gathered: Gathered) -> Response {
        // The session may have ended while this waited: nobody will hear of what was handed out.
        let is_heard = self.state.shares.sessions().has(&self.key);
        let mut unheard: Vec<SharedPartition> = Vec::new();
        let mut answers: BTreeMap<SharedPartition, ShareFetchPartitionResponse> = BTreeMap::new();
        for (shared, answer) in gathered.answers {
            match answer {
                Ok(handed) if handed.acquired.is_empty() && self.incremental => {}
                Ok(handed) if !is_heard && !handed.acquired.is_empty() => unheard.push(shared),
                Ok(handed) => {
                    let acquired = handed.acquired.iter().map(|acquired| AcquiredRecords {
                        first_offset: acquired.first,
                        last_offset: acquired.last,
                        delivery_count: acquired.count,
                    });
                    let partition = answers.entry(shared).or_default();
                    (partition.acquired_records, partition.records) = (acquired.collect(), handed.records);
                }
                Err(error) => set_error(answers.entry(shared).or_default(), error),
            }
        }
        for (shared, error) in &self.refused {
            set_error(answers.entry(*shared).or_default(), *error);
        }
        for (shared, error) in &self.settled {
            let partition = answers.entry(*shared).or_default();
            partition.acknowledge_error_code = error.code();
            partition.acknowledge_error_message = error.is_error().then(|| Arc::from(error.message()));
        }
        if !unheard.is_empty() {
            self.state.shares.release(&self.state, &self.key, &unheard);
        }
        let lock_ms = i32::try_from(self.config.record_lock_duration.ms).unwrap_or(i32::MAX);
        let mut response = ShareFetchResponse { acquisition_lock_timeout_ms: lock_ms, ..Default::default() };
        for ((topic_id, partition_index), mut partition) in answers {
            partition.partition_index = partition_index;
            match response.responses.last_mut() {
                Some(topic) if topic.topic_id == topic_id => topic.partitions.push(partition),
                _ => response.responses.push(ShareFetchTopicResponse { topic_id, partitions: vec![partition] }),
            }
        }
        response.into()
    }
}

fn set_error(partition: &mut ShareFetchPartitionResponse, error: ErrorCode) {
    partition.error_code = error.code();
    partition.error_message = Some(Arc::from(error.message()));
}

fn refused(error: ErrorCode) -> Response {
    let error_message = Some(Arc::from(error.message()));
    ShareFetchResponse { error_code: error.code(), error_message, ..Default::default() }.into()
}

/// A fetch that waits for records.
struct DelayedShareFetch {
    ticket: Ticket,
    fetch: Fetch,
    responder: Mutex<Option<Responder>>,
    is_done: AtomicBool,
    /// Something happened since the last look began.
    is_news: AtomicBool,
    is_over: AtomicBool,
}

impl DelayedShareFetch {
    fn start(fetch: Fetch, responder: Responder, deadline_ticks_ms: i64) {
        let waiters = Arc::clone(&fetch.state.waiters);
        let ticket = waiters.ticket(deadline_ticks_ms);
        let delayed = Arc::new(Self {
            ticket,
            fetch,
            responder: Mutex::new(Some(responder)),
            is_done: AtomicBool::new(false),
            is_news: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        waiters.add(ticket, delayed.clone());
        for shared in &delayed.fetch.partitions {
            let weak: Weak<Self> = Arc::downgrade(&delayed);
            delayed.fetch.shared(*shared).watch(weak);
            if let Ok(partition) = delayed.fetch.partition(*shared) {
                partition.watch(delayed.clone());
            }
        }
        // Whoever made progress before the last of these was registered did not see us.
        delayed.look();
    }

    /// Answers if there is something to answer. Only one thread looks at a time, for what is handed out must be heard of; another one
    /// leaves word, also when it is the same thread further down, which a look may wake.
    fn look(&self) {
        self.is_news.store(true, Ordering::SeqCst);
        while !self.is_done.load(Ordering::SeqCst) && self.is_news.load(Ordering::SeqCst) {
            let Some(mut responder) = self.responder.try_lock() else { return };
            if !self.is_news.swap(false, Ordering::SeqCst) || responder.is_none() {
                return;
            }
            let is_over = self.is_over.load(Ordering::SeqCst);
            let gathered = self.fetch.gather(is_over);
            if is_over || gathered.is_enough {
                let taken = responder.take();
                drop(responder);
                self.is_done.store(true, Ordering::SeqCst);
                self.fetch.state.waiters.remove(self.ticket);
                if let Some(taken) = taken {
                    taken.send(self.fetch.answer(gathered));
                }
                return;
            }
        }
    }
}

impl Delayed for DelayedShareFetch {
    fn advanced(&self, _partition: &Partition) {
        self.look();
    }

    fn expire(&self, _now: Now) {
        self.is_over.store(true, Ordering::SeqCst);
        self.look();
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}

impl Woken for DelayedShareFetch {
    fn woken(&self) {
        self.look();
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}
