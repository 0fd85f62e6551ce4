//! Fetches batches of the partitions that have room: one request under way per broker and lane.
//!
//! A broker holds a fetch back until there is something (`fetch.max.wait.ms`). A partition that becomes fetchable in
//! the meantime (taken, resumed, assigned) must not wait for that: it goes out on a second lane, whose wait ends with
//! the first one's, and then on a third one without waiting; when the first answer comes, all go together again. Lane 0
//! has a fetch session (KIP-227), so that only changes travel; the others ask in full. Lanes 1 and 2 are connected
//! when first needed.
//!
//! Memory: nothing is fetched for a partition that has anything buffered, nor anything at all beyond
//! `fetch.buffer.bytes` (but for the one batch that every answer may hold).

use std::collections::BTreeMap;

use base::Offset;
use base::hash::HashMap;
use protocol::api::{
    ApiKey, ErrorCode, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
    Request, Uuid,
};
use protocol::record::RecordError;

use super::batch_filter::filter;
use super::config::IsolationLevel;
use super::core::Context;
use super::partitions::{Partition, Phase};
use super::read_buffers::ReadBuffers;
use super::types::{ConsumerEvent, Fetched, OffsetReset, OffsetSpec};
use crate::client::{Client, Lane, Lookup, Target};
use crate::connection::{Call, Connection};
use crate::error::ClientError;
use crate::step::Step;
use crate::wire::expect_response;

const LANES: usize = 3;
/// The highest version of Fetch that names topics instead of giving their ids.
const HIGHEST_BY_NAME: i16 = 12;
/// Session epoch of a request outside any session.
const NO_SESSION: i32 = -1;

pub(crate) struct Fetcher {
    lanes: [Lane; LANES],
    nodes: BTreeMap<i32, Node>,
    answers: Answers,
    /// When a partition or node that is holding back may be asked again.
    retry_at: Option<i64>,
}

/// What the answers taken so far leave behind.
#[derive(Default)]
struct Answers {
    count: u64,
    buffers: ReadBuffers,
}

#[derive(Default)]
struct Node {
    in_flight: [Option<InFlight>; LANES],
    session: Session,
    /// The broker asked to be left alone until then.
    throttled_until: i64,
}

struct InFlight {
    call: Call,
    /// Sorted by index.
    items: Vec<Item>,
    /// When the broker stops holding it back.
    ends_at: i64,
    waits: bool,
}

/// How long a partition that had nothing waits for a long poll to end before it is asked for again. Not for all of the long poll: that one
/// may be about partitions in which nothing happens.
const MERGE_WAIT_MS: i64 = 2;

#[derive(Clone, Copy)]
struct Item {
    index: usize,
    serial: u64,
    offset: Offset,
}

/// What the broker remembers of our fetches on lane 0.
#[derive(Default)]
struct Session {
    id: i32,
    epoch: i32,
    by_id: bool,
    /// By the partition's name and topic id, what the broker was last told.
    known: HashMap<usize, Known>,
}

#[derive(Clone, PartialEq)]
struct Known {
    topic: base::TopicName,
    topic_id: Uuid,
    partition: i32,
    offset: Offset,
    leader_epoch: i32,
}

impl Session {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Fetcher {
    pub fn new(client: &Client, client_id: Option<&str>) -> Self {
        let lanes = [client.lane_as(client_id), client.lane_as(client_id), client.lane_as(client_id)];
        Self { lanes, nodes: BTreeMap::new(), answers: Answers::default(), retry_at: None }
    }

    /// Takes answers and sends what may be fetched; answers that are there at once are taken at once.
    pub fn step(&mut self, context: &mut Context<'_>) -> Step {
        let mut step = Step::IDLE;
        // In process the answer comes within the call: sent, taken, and nothing is left to fetch in the second round.
        for _ in 0..3 {
            let settled = self.settle(context);
            let retry = self.retry_at.is_some_and(|at| at <= context.now.ticks_ms);
            let sent = (context.partitions.changed || retry) && self.send(context);
            step.did_work |= settled || sent;
            if !sent {
                break;
            }
        }
        for in_flight in self.nodes.values().flat_map(|node| node.in_flight.iter().flatten()) {
            step = step.wake_at(in_flight.call.deadline_ticks_ms());
        }
        match self.retry_at {
            Some(at) => step.wake_at(at),
            None => step,
        }
    }

    /// Ends the sessions, so that the brokers need not wait for them to age.
    pub fn close(&mut self, context: &mut Context<'_>) {
        for (id, node) in &mut self.nodes {
            let session = std::mem::take(&mut node.session);
            if session.id == 0 {
                continue;
            }
            let connection = context.client.connection(&self.lanes[1], Target::Node(*id), context.now, context.waker);
            if let Lookup::Ready(connection) = connection
                && let Ok(version) = version(&connection, session.by_id)
            {
                let request =
                    FetchRequest { session_id: session.id, session_epoch: NO_SESSION, ..FetchRequest::default() };
                // The answer tells nothing that matters any more.
                drop(connection.send(Request::Fetch(request), version, context.now));
            }
        }
        self.nodes.clear();
    }

    fn settle(&mut self, context: &mut Context<'_>) -> bool {
        let mut did_work = false;
        for node in self.nodes.values_mut() {
            for lane in 0..LANES {
                let Some(in_flight) = &mut node.in_flight[lane] else { continue };
                let Some(result) = in_flight.call.poll(context.now, context.waker) else { continue };
                did_work = true;
                context.partitions.changed = true;
                let address = in_flight.call.connection().address().to_owned();
                let Some(in_flight) = node.in_flight[lane].take() else { continue };
                for item in &in_flight.items {
                    if let Some(partition) = context.partitions.at_mut(item.index)
                        && partition.serial == item.serial
                    {
                        partition.fetching = false;
                    }
                }
                match result.and_then(|response| expect_response!(response, Fetch, &address)) {
                    Ok(response) => {
                        self.answers.count += 1;
                        let merge_at = if lane > 0 && !in_flight.waits { node.long_poll_ends() } else { None };
                        node.throttled_until = context.now.ticks_ms + i64::from(response.throttle_time_ms);
                        let session = (lane == 0).then_some(&mut node.session);
                        take_response(context, response, session, &in_flight.items, &mut self.answers, merge_at);
                    }
                    Err(error) => {
                        tracing::debug!(%address, %error, "fetch failed");
                        if lane == 0 {
                            node.session.reset();
                        }
                        hold_back(context, &in_flight.items);
                    }
                }
            }
        }
        did_work
    }

    fn send(&mut self, context: &mut Context<'_>) -> bool {
        context.partitions.changed = false;
        self.retry_at = None;
        let now = context.now.ticks_ms;
        let buffered = context.partitions.buffered_bytes();
        if buffered >= context.config.fetch_buffer_bytes {
            return false;
        }
        let mut room = context.config.fetch_buffer_bytes - buffered;
        let mut fetchable: BTreeMap<i32, Vec<(u64, usize)>> = BTreeMap::new();
        for (index, partition) in context.partitions.iter() {
            if partition.not_before > now && partition.is_fetchable(i64::MAX) {
                self.retry_at = earliest(self.retry_at, partition.not_before);
            } else if partition.is_fetchable(now)
                && let Some((leader, _)) = partition.leader
            {
                fetchable.entry(leader).or_default().push((partition.last_served, index));
            }
        }
        let mut sent = false;
        for (id, mut indices) in fetchable {
            let node = self.nodes.entry(id).or_default();
            if node.throttled_until > now {
                self.retry_at = earliest(self.retry_at, node.throttled_until);
                continue;
            }
            // All lanes busy: an answer will mark the partitions as changed again.
            let Some(lane) = node.in_flight.iter().position(Option::is_none) else { continue };
            if room == 0 {
                context.partitions.changed = true;
                continue;
            }
            let connection =
                match context.client.connection(&self.lanes[lane], Target::Node(id), context.now, context.waker) {
                    Lookup::Ready(connection) => connection,
                    Lookup::Wait { until_ticks_ms } => {
                        context.partitions.changed = true;
                        if let Some(until) = until_ticks_ms {
                            self.retry_at = earliest(self.retry_at, until);
                        }
                        continue;
                    }
                    Lookup::Failed(error) => {
                        context.errors.push_back(error);
                        self.retry_at = earliest(self.retry_at, now + context.config.retry_backoff_ms.max(1));
                        continue;
                    }
                };
            // Who was served longest ago comes first: the broker fills the answer in this order.
            indices.sort_unstable();
            let max_bytes = room.min(context.config.fetch_max_bytes as usize);
            if let Some(error) = node.send(lane, &connection, &indices, max_bytes, context) {
                context.errors.push_back(error);
                self.retry_at = earliest(self.retry_at, now + context.config.retry_backoff_ms.max(1));
                continue;
            }
            room = room.saturating_sub(max_bytes);
            sent = true;
        }
        sent
    }
}

fn earliest(a: Option<i64>, b: i64) -> Option<i64> {
    Some(a.map_or(b, |a| a.min(b)))
}

fn version(connection: &Connection, by_id: bool) -> Result<i16, ClientError> {
    connection.version_within(ApiKey::Fetch, 4, if by_id { i16::MAX } else { HIGHEST_BY_NAME })
}

impl Node {
    /// When the fetch that waits longest on lanes 0 and 1 is answered at the latest.
    fn long_poll_ends(&self) -> Option<i64> {
        self.in_flight.iter().flatten().filter(|in_flight| in_flight.waits).map(|in_flight| in_flight.ends_at).min()
    }

    fn send(
        &mut self,
        lane: usize,
        connection: &std::sync::Arc<Connection>,
        indices: &[(u64, usize)],
        max_bytes: usize,
        context: &mut Context<'_>,
    ) -> Option<ClientError> {
        let now = context.now.ticks_ms;
        let config = context.config;
        let remaining = match (lane, self.in_flight.iter().flatten().map(|in_flight| in_flight.ends_at).max()) {
            (0, _) | (1, None) => i64::from(config.fetch_max_wait_ms),
            (1, Some(ends_at)) => (ends_at - now).clamp(0, i64::from(config.fetch_max_wait_ms)),
            _ => 0,
        };
        let mut wanted = Vec::with_capacity(indices.len());
        let mut items = Vec::with_capacity(indices.len());
        let mut by_id = true;
        for (_, index) in indices {
            let Some(partition) = context.partitions.at_mut(*index) else { continue };
            let Some((_, leader_epoch)) = partition.leader else { continue };
            by_id &= !partition.topic_id.is_nil();
            partition.fetching = true;
            items.push(Item { index: *index, serial: partition.serial, offset: partition.fetch_position });
            let known = Known {
                topic: partition.name.topic.clone(),
                topic_id: partition.topic_id,
                partition: partition.name.partition,
                offset: partition.fetch_position,
                leader_epoch,
            };
            wanted.push((*index, known));
        }
        let version = version(connection, by_id);
        let version = match version {
            Ok(version) => version,
            Err(error) => {
                items.iter().for_each(|item| {
                    if let Some(partition) = context.partitions.at_mut(item.index) {
                        partition.fetching = false;
                    }
                });
                return Some(error);
            }
        };
        let by_id = version > HIGHEST_BY_NAME;
        let mut request = FetchRequest {
            max_wait_ms: remaining as i32,
            min_bytes: if remaining > 0 { config.fetch_min_bytes } else { 0 },
            max_bytes: i32::try_from(max_bytes).unwrap_or(i32::MAX),
            isolation_level: i8::from(config.isolation_level == IsolationLevel::ReadCommitted),
            rack_id: config.client_rack.clone(),
            session_epoch: NO_SESSION,
            ..FetchRequest::default()
        };
        if lane == 0 && version >= 7 {
            self.session.next(&mut request, &mut wanted, by_id);
        }
        request.topics = topics(&wanted, config.max_partition_fetch_bytes);
        items.sort_unstable_by_key(|item| item.index);
        let timeout_ms = context.client.config().request_timeout_ms.saturating_add(remaining);
        let call = connection.send_within(Request::Fetch(request), version, timeout_ms, context.now);
        self.in_flight[lane] = Some(InFlight { call, items, ends_at: now + remaining, waits: remaining > 0 });
        None
    }
}

impl Session {
    /// Makes `request` the session's next; leaves in `wanted` what the broker does not know yet.
    fn next(&mut self, request: &mut FetchRequest, wanted: &mut Vec<(usize, Known)>, by_id: bool) {
        if self.id == 0 || self.by_id != by_id {
            // A session of names cannot go on with ids: the old one is given up within the same request.
            (request.session_id, request.session_epoch) = (self.id, 0);
            self.reset();
            self.by_id = by_id;
            self.known = wanted.iter().cloned().collect();
            return;
        }
        (request.session_id, request.session_epoch) = (self.id, self.epoch);
        let mut before = std::mem::take(&mut self.known);
        self.known.reserve(wanted.len());
        wanted.retain(|(index, known)| {
            let old = before.remove(index);
            let same = old.as_ref() == Some(known);
            if let Some(old) = old
                && (old.topic_id != known.topic_id || old.topic != known.topic || old.partition != known.partition)
            {
                forget(&mut request.forgotten, &old);
            }
            self.known.insert(*index, known.clone());
            !same
        });
        let mut gone: Vec<(usize, Known)> = before.into_iter().collect();
        gone.sort_unstable_by_key(|(index, _)| *index);
        gone.iter().for_each(|(_, known)| forget(&mut request.forgotten, known));
    }

    fn answered(&mut self, id: i32) {
        if id == 0 {
            self.reset();
            return;
        }
        self.epoch = if self.id == id && self.epoch < i32::MAX { self.epoch + 1 } else { 1 };
        self.id = id;
    }
}

fn forget(forgotten: &mut Vec<ForgottenTopic>, known: &Known) {
    match forgotten.iter_mut().find(|topic| topic.name == known.topic && topic.topic_id == known.topic_id) {
        Some(topic) => topic.partitions.push(known.partition),
        None => forgotten.push(ForgottenTopic {
            name: known.topic.clone(),
            topic_id: known.topic_id,
            partitions: vec![known.partition],
        }),
    }
}

/// Partitions grouped by topic where neighbours are of the same: the order matters more than few groups.
fn topics(wanted: &[(usize, Known)], partition_max_bytes: i32) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (_, known) in wanted {
        let partition = FetchPartition {
            index: known.partition,
            current_leader_epoch: known.leader_epoch,
            fetch_offset: known.offset,
            partition_max_bytes,
            ..FetchPartition::default()
        };
        match topics.last_mut() {
            Some(topic) if topic.name == known.topic => topic.partitions.push(partition),
            _ => topics.push(FetchTopic {
                name: known.topic.clone(),
                topic_id: known.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn hold_back(context: &mut Context<'_>, items: &[Item]) {
    let until = context.now.ticks_ms + context.config.retry_backoff_ms.max(1);
    for item in items {
        if let Some(partition) = context.partitions.at_mut(item.index) {
            partition.not_before = until;
        }
    }
}

fn take_response(
    context: &mut Context<'_>,
    response: FetchResponse,
    session: Option<&mut Session>,
    items: &[Item],
    answers: &mut Answers,
    merge_at: Option<i64>,
) {
    if response.error_code.is_error() {
        tracing::debug!(code = %response.error_code, "fetch refused");
        if let Some(session) = session {
            session.reset();
        }
        let lost_session = matches!(
            response.error_code,
            ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError
        );
        if !lost_session {
            context.client.refresh_metadata();
            hold_back(context, items);
        }
        return;
    }
    if let Some(session) = session {
        session.answered(response.session_id);
    }
    if let Some(merge_at) = merge_at {
        // What was asked without waiting and had nothing waits for the long poll, and goes with the next one.
        for item in items {
            if let Some(partition) = context.partitions.at_mut(item.index) {
                partition.not_before = merge_at.min(context.now.ticks_ms + MERGE_WAIT_MS);
            }
        }
    }
    for topic in response.topics {
        for partition in topic.partitions {
            let Some(index) = context.partitions.find(topic.topic_id, &topic.name, partition.index) else { continue };
            let Ok(at) = items.binary_search_by_key(&index, |item| item.index) else { continue };
            take_partition(context, items[at], partition, answers);
        }
    }
}

/// One partition's answer. Answers to a question asked before a seek or a new assignment are dropped.
fn take_partition(context: &mut Context<'_>, item: Item, response: FetchPartitionResponse, answers: &mut Answers) {
    let retry_at = context.now.ticks_ms + context.config.retry_backoff_ms.max(1);
    let Some(partition) = context.partitions.at_mut(item.index) else { return };
    if partition.serial != item.serial || partition.phase != Phase::Ready {
        return;
    }
    if response.error_code.is_error() {
        partition.not_before = retry_at;
        let name = partition.name.clone();
        return refused(context, item, name, response.error_code);
    }
    partition.high_watermark = response.high_watermark;
    partition.last_stable_offset = response.last_stable_offset;
    partition.log_start_offset = response.log_start_offset;
    if response.records.is_empty() {
        return;
    }
    partition.not_before = i64::MIN;
    partition.last_served = answers.count;
    let name = partition.name.clone();
    let corrupt = |offset: Offset, error: RecordError| ClientError::Corrupt {
        partition: name.clone(),
        offset,
        reason: error.to_string(),
    };
    let bytes = match answers.buffers.read(&response.records) {
        Ok(bytes) => bytes,
        Err(error) => {
            partition.not_before = retry_at;
            context.errors.push_back(ClientError::Invalid(format!("{name} at offset {}: {error}", item.offset)));
            return;
        }
    };
    let aborted = match context.config.isolation_level {
        IsolationLevel::ReadCommitted => Some(response.aborted.unwrap_or_default()),
        IsolationLevel::ReadUncommitted => None,
    };
    let filtered = filter(&bytes, item.offset, aborted, context.config.check_crcs);
    if let Some((offset, error)) = filtered.error {
        partition.not_before = retry_at;
        context.errors.push_back(corrupt(offset, error));
    } else if filtered.next_offset < 0 && filtered.cut_bytes > 0 {
        partition.not_before = retry_at;
        context.errors.push_back(ClientError::Invalid(format!(
            "{name} at offset {}: the batch is larger than max.partition.fetch.bytes={}",
            item.offset, context.config.max_partition_fetch_bytes
        )));
    }
    let template = template(partition);
    let mut fetch_offset = item.offset;
    let nothing = filtered.runs.is_empty();
    for run in filtered.runs {
        let fetched = Fetched {
            batches: run.batches,
            fetch_offset,
            next_offset: run.next_offset,
            leader_epoch: run.leader_epoch,
            ..template.clone()
        };
        fetch_offset = run.next_offset;
        context.partitions.buffer(item.index, fetched);
    }
    if nothing && filtered.next_offset > item.offset {
        context.partitions.skip_to(item.index, filtered.next_offset, filtered.leader_epoch);
    }
}

fn template(partition: &Partition) -> Fetched {
    Fetched {
        partition: partition.name.clone(),
        batches: bytes::Bytes::new(),
        fetch_offset: -1,
        next_offset: -1,
        leader_epoch: -1,
        high_watermark: partition.high_watermark,
        last_stable_offset: partition.last_stable_offset,
        log_start_offset: partition.log_start_offset,
    }
}

fn refused(context: &mut Context<'_>, item: Item, name: base::TopicPartition, code: ErrorCode) {
    match code {
        ErrorCode::OffsetOutOfRange => {
            tracing::info!(partition = %name, offset = item.offset, "offset is out of range");
            match reset_spec(context.config.auto_offset_reset, context.now.wall_ms) {
                Some(spec) => {
                    context.partitions.enter(item.index, Phase::NeedsLookup(spec));
                    context.events.push_back(ConsumerEvent::OutOfRange { partition: name, offset: item.offset });
                }
                None => {
                    context.partitions.enter(item.index, Phase::NeedsSeek);
                    context.events.push_back(ConsumerEvent::NoOffset(vec![(name, item.offset)]));
                }
            }
        }
        ErrorCode::UnknownLeaderEpoch | ErrorCode::OffsetNotAvailable => {}
        code if code.is_retriable() => {
            tracing::debug!(partition = %name, %code, "fetch refused");
            context.client.refresh_metadata();
        }
        code => {
            let what = format!("fetch of {name} at offset {}", item.offset);
            context.errors.push_back(ClientError::broker(what, code, None));
        }
    }
}

/// What a reset policy looks up; `None` if it leaves it to the owner.
pub(crate) fn reset_spec(policy: OffsetReset, wall_ms: i64) -> Option<OffsetSpec> {
    match policy {
        OffsetReset::Earliest => Some(OffsetSpec::Earliest),
        OffsetReset::Latest => Some(OffsetSpec::Latest),
        OffsetReset::ByDuration { ms } => Some(OffsetSpec::Timestamp(wall_ms.saturating_sub(ms).max(0))),
        OffsetReset::None => None,
    }
}
