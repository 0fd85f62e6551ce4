//! Commits offsets of the group, and asks for committed ones, at the group's coordinator.
//!
//! Commits go out one after the other, in the order in which they were begun, so that a retried one never overwrites a
//! later one. A partition that needs its committed offset to begin (after an assignment) is asked for here as well.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base::TopicPartition;
use protocol::api::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::api::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use protocol::api::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use protocol::api::{ApiKey, ErrorCode, Request};

use super::config::{GroupProtocol, IsolationLevel};
use super::core::{CommittedResult, Context};
use super::fetcher::reset_spec;
use super::partitions::Phase;
use super::types::{CommitTicket, CommittedTicket, ConsumerEvent, GroupMetadata, OffsetAndMetadata};
use crate::client::{Lane, Lookup, Target};
use crate::connection::{Call, Connection};
use crate::coordinator::CoordinatorKind;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::step::Step;
use crate::wire::{expect_response, text, topic};

/// The highest versions that name topics instead of giving their ids.
const HIGHEST_COMMIT: i16 = 9;
const HIGHEST_FETCH: i16 = 9;

/// An open connection to the group's coordinator.
pub(crate) fn coordinator(context: &Context<'_>, lane: &Lane, group: &str) -> Lookup<Arc<Connection>> {
    match context.client.coordinator(CoordinatorKind::Group, group, context.now, context.waker) {
        Lookup::Ready(node) => context.client.connection(lane, Target::Node(node), context.now, context.waker),
        Lookup::Wait { until_ticks_ms } => Lookup::Wait { until_ticks_ms },
        Lookup::Failed(error) => Lookup::Failed(error),
    }
}

/// Whether the answer means that the group has another coordinator now.
pub(crate) fn coordinator_is_gone(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
}

#[derive(Default)]
pub(crate) struct Commits {
    next_ticket: u64,
    queue: VecDeque<Commit>,
    in_flight: Option<Call>,
    results: BTreeMap<u64, Result<(), ClientError>>,
    questions: Vec<Question>,
    answers: BTreeMap<u64, CommittedResult>,
}

/// Who wants to know how a commit ended.
enum Outcome {
    Ticket(u64),
    /// Failures are errors of the core.
    Forget,
    /// Failures are only logged: the next one follows anyway. The last one, before partitions are given up, is retried.
    Auto {
        last: bool,
    },
}

struct Commit {
    offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    outcome: Outcome,
    /// Generation that it was sent in.
    generation: i32,
    trial: Trial,
}

/// How often something was tried, and until when it may be.
#[derive(Default)]
struct Trial {
    deadline_ticks_ms: Option<i64>,
    not_before: i64,
    backoff: Option<Backoff>,
    last_error: Option<String>,
}

struct Question {
    /// `None`: for the partitions themselves.
    ticket: Option<u64>,
    /// With the serial number of those being read.
    partitions: Vec<(TopicPartition, u64)>,
    call: Option<Call>,
    trial: Trial,
}

impl Trial {
    fn deadline(&mut self, context: &Context<'_>) -> i64 {
        let timeout_ms = context.config.default_api_timeout_ms;
        *self.deadline_ticks_ms.get_or_insert(context.now.ticks_ms.saturating_add(timeout_ms))
    }

    fn again(&mut self, context: &mut Context<'_>, error: String) {
        let config = context.config;
        let new = || Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms);
        let wait_ms = self.backoff.get_or_insert_with(new).next_ms(context.rng).max(1);
        self.not_before = context.now.ticks_ms + wait_ms;
        self.last_error = Some(error);
    }

    fn timeout(&mut self, what: String, context: &Context<'_>) -> ClientError {
        ClientError::Timeout { what, after_ms: context.config.default_api_timeout_ms, reason: self.last_error.take() }
    }
}

impl Commits {
    pub fn begin(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>) -> CommitTicket {
        self.next_ticket += 1;
        self.enqueue(offsets, Outcome::Ticket(self.next_ticket));
        CommitTicket(self.next_ticket)
    }

    pub fn begin_and_forget(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>) {
        self.enqueue(offsets, Outcome::Forget);
    }

    /// Commits the positions, in the place of such a commit that is waiting; `last`: before partitions are given up.
    pub fn begin_auto(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>, last: bool) {
        let sent = usize::from(self.in_flight.is_some());
        self.queue.iter_mut().skip(sent).for_each(|commit| {
            if matches!(commit.outcome, Outcome::Auto { .. }) {
                commit.offsets.clear();
            }
        });
        self.enqueue(offsets, Outcome::Auto { last });
    }

    fn enqueue(&mut self, offsets: Vec<(TopicPartition, OffsetAndMetadata)>, outcome: Outcome) {
        self.queue.push_back(Commit { offsets, outcome, generation: -1, trial: Trial::default() });
    }

    pub fn result(&mut self, ticket: CommitTicket) -> Option<Result<(), ClientError>> {
        self.results.remove(&ticket.0)
    }

    /// Whether no commit is waiting or under way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn ask(&mut self, partitions: Vec<TopicPartition>) -> CommittedTicket {
        self.next_ticket += 1;
        let partitions = partitions.into_iter().map(|name| (name, 0)).collect();
        let ticket = Some(self.next_ticket);
        self.questions.push(Question { ticket, partitions, call: None, trial: Trial::default() });
        CommittedTicket(self.next_ticket)
    }

    pub fn answer(&mut self, ticket: CommittedTicket) -> Option<CommittedResult> {
        self.answers.remove(&ticket.0)
    }

    /// `Some` code in `lost` when an answer shows that the member's generation is over.
    pub fn step(
        &mut self,
        context: &mut Context<'_>,
        lane: &Lane,
        member: &GroupMetadata,
        in_group: bool,
        lost: &mut Option<(ErrorCode, i32)>,
    ) -> Step {
        let mut step = Step::IDLE;
        // In process a commit is answered within the call: all that wait go through at once.
        while !self.queue.is_empty() {
            let (one, done) = self.commit_step(context, lane, member, in_group, lost);
            step = step.and(one);
            if !done {
                break;
            }
            step.did_work = true;
        }
        step.and(self.questions_step(context, lane, member))
    }

    /// One step with the oldest commit; whether it is done.
    fn commit_step(
        &mut self,
        context: &mut Context<'_>,
        lane: &Lane,
        member: &GroupMetadata,
        in_group: bool,
        lost: &mut Option<(ErrorCode, i32)>,
    ) -> (Step, bool) {
        let mut step = Step::IDLE;
        let Some(commit) = self.queue.front_mut() else { return (step, false) };
        let what = || format!("commit of offsets of group {}", member.group_id);
        if commit.offsets.is_empty() {
            self.end(context, Ok(()));
            return (step, true);
        }
        if self.in_flight.is_none() {
            if member.group_id.is_empty() {
                self.end(context, Err(ClientError::Invalid("offsets can only be committed with group.id".into())));
                return (step, true);
            }
            if in_group && member.generation < 0 {
                let text = "not committed: no longer a member of the group; the partitions were given to others".into();
                self.end(context, Err(ClientError::Rebalanced(text)));
                return (step, true);
            }
            let deadline = commit.trial.deadline(context);
            if context.now.ticks_ms >= deadline {
                let error = commit.trial.timeout(what(), context);
                self.end(context, Err(error));
                return (step, true);
            }
            if context.now.ticks_ms < commit.trial.not_before {
                return (Step::at(commit.trial.not_before.min(deadline)), false);
            }
            let connection = match coordinator(context, lane, &member.group_id) {
                Lookup::Ready(connection) => connection,
                Lookup::Wait { until_ticks_ms } => {
                    let until = until_ticks_ms.unwrap_or(deadline).min(deadline);
                    return (Step::at(until), false);
                }
                Lookup::Failed(error) => {
                    self.end(context, Err(error));
                    return (step, true);
                }
            };
            match connection.version_within(ApiKey::OffsetCommit, 2, HIGHEST_COMMIT) {
                Ok(version) => {
                    commit.generation = member.generation;
                    let request = Request::OffsetCommit(commit_request(member, &commit.offsets));
                    self.in_flight = Some(connection.send(request, version, context.now));
                    step.did_work = true;
                }
                Err(error) => {
                    self.end(context, Err(error));
                    return (step, true);
                }
            }
        }
        let Some(call) = &mut self.in_flight else { return (step, false) };
        let Some(result) = call.poll(context.now, context.waker) else {
            return (step.wake_at(call.deadline_ticks_ms()), false);
        };
        step.did_work = true;
        let address = call.connection().address().to_owned();
        self.in_flight = None;
        let result = result.and_then(|response| expect_response!(response, OffsetCommit, &address));
        let Some(commit) = self.queue.front_mut() else { return (step, false) };
        let failed = match result {
            Ok(response) => match first_failure(&response) {
                None => {
                    self.end(context, Ok(()));
                    return (step, true);
                }
                Some((partition, code)) => (code, ClientError::broker(format!("commit of {partition}"), code, None)),
            },
            Err(error) => (ErrorCode::NetworkException, error),
        };
        let (code, error) = failed;
        if coordinator_is_gone(code) || code == ErrorCode::NetworkException {
            context.client.forget_coordinator(CoordinatorKind::Group, &member.group_id);
        }
        let retry = !matches!(commit.outcome, Outcome::Auto { last: false });
        let error = match code {
            ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                if in_group {
                    *lost = Some((code, commit.generation));
                }
                ClientError::Rebalanced(format!("{}: {code}: the partitions were given to others", what()))
            }
            ErrorCode::RebalanceInProgress => {
                ClientError::Rebalanced(format!("{}: a rebalance is in progress; commit again after it", what()))
            }
            ErrorCode::FencedInstanceId => {
                *lost = Some((code, commit.generation));
                ClientError::Fenced(format!("{}: another instance has this group.instance.id", what()))
            }
            // The coordinator is further than the member knows: its next heartbeat tells the epoch to commit in.
            ErrorCode::StaleMemberEpoch => {
                *lost = Some((code, commit.generation));
                commit.trial.again(context, error.to_string());
                return (step, true);
            }
            _ if error.is_retriable() && retry => {
                commit.trial.again(context, error.to_string());
                return (step, true);
            }
            _ => error,
        };
        self.end(context, Err(error));
        (step, true)
    }

    fn end(&mut self, context: &mut Context<'_>, result: Result<(), ClientError>) {
        let Some(commit) = self.queue.pop_front() else { return };
        match (commit.outcome, result) {
            (Outcome::Ticket(id), result) => {
                self.results.insert(id, result);
            }
            (Outcome::Forget, Err(error)) => context.errors.push_back(error),
            (Outcome::Auto { .. }, Err(error)) => tracing::warn!(%error, "automatic commit failed"),
            (_, Ok(())) => {}
        }
    }

    fn questions_step(&mut self, context: &mut Context<'_>, lane: &Lane, member: &GroupMetadata) -> Step {
        if context.partitions.needs_attention() {
            self.collect_partitions(context);
        }
        let mut step = Step::IDLE;
        let mut index = 0;
        while index < self.questions.len() {
            match self.question_step(index, context, lane, member) {
                Some(one) => {
                    step = step.and(one);
                    index += 1;
                }
                None => {
                    step.did_work = true;
                    self.questions.swap_remove(index);
                }
            }
        }
        step
    }

    fn collect_partitions(&mut self, context: &mut Context<'_>) {
        let mut partitions = Vec::new();
        for (_, partition) in context.partitions.iter_mut() {
            if partition.phase == Phase::NeedsCommitted && !partition.asking {
                partition.asking = true;
                partitions.push((partition.name.clone(), partition.serial));
            }
        }
        if !partitions.is_empty() {
            self.questions.push(Question { ticket: None, partitions, call: None, trial: Trial::default() });
        }
    }

    /// One step with a question; `None` when it is answered.
    fn question_step(
        &mut self,
        index: usize,
        context: &mut Context<'_>,
        lane: &Lane,
        member: &GroupMetadata,
    ) -> Option<Step> {
        let question = &mut self.questions[index];
        let what = || format!("committed offsets of group {}", member.group_id);
        let mut step = Step::IDLE;
        let error = 'failed: {
            if question.call.is_none() {
                if member.group_id.is_empty() {
                    break 'failed ClientError::Invalid("offsets are committed for a group only: set group.id".into());
                }
                let deadline = question.trial.deadline(context);
                // Partitions ask for ever: they cannot be read without.
                if context.now.ticks_ms >= deadline && question.ticket.is_some() {
                    break 'failed question.trial.timeout(what(), context);
                }
                if context.now.ticks_ms < question.trial.not_before {
                    return Some(Step::at(question.trial.not_before));
                }
                let connection = match coordinator(context, lane, &member.group_id) {
                    Lookup::Ready(connection) => connection,
                    Lookup::Wait { until_ticks_ms } => {
                        let until =
                            if question.ticket.is_some() { until_ticks_ms.or(Some(deadline)) } else { until_ticks_ms };
                        return Some(Step { did_work: false, next_wake_ticks_ms: until });
                    }
                    Lookup::Failed(error) => break 'failed error,
                };
                let version = match connection.version_within(ApiKey::OffsetFetch, 1, HIGHEST_FETCH) {
                    Ok(version) => version,
                    Err(error) => break 'failed error,
                };
                let stable = context.config.isolation_level == IsolationLevel::ReadCommitted;
                // Only under the consumer protocol are members known to this request.
                let known = context.config.group_protocol == GroupProtocol::Consumer && member.generation > 0;
                let request = fetch_request(member, known, &question.partitions, version, stable);
                let request = Request::OffsetFetch(request);
                question.call = Some(connection.send(request, version, context.now));
                step.did_work = true;
            }
            let call = question.call.as_mut()?;
            let Some(result) = call.poll(context.now, context.waker) else {
                return Some(step.wake_at(call.deadline_ticks_ms()));
            };
            let address = call.connection().address().to_owned();
            question.call = None;
            match result.and_then(|response| expect_response!(response, OffsetFetch, &address)) {
                Ok(response) => match read_committed(&question.partitions, &response) {
                    Ok(found) => {
                        let question = &mut self.questions[index];
                        let partitions = std::mem::take(&mut question.partitions);
                        match question.ticket {
                            Some(ticket) => drop(self.answers.insert(ticket, Ok(found))),
                            None => begin(context, partitions, found),
                        }
                        return None;
                    }
                    Err((name, code)) => {
                        if coordinator_is_gone(code) {
                            context.client.forget_coordinator(CoordinatorKind::Group, &member.group_id);
                        }
                        let about = name.map_or_else(what, |name| format!("committed offset of {name}"));
                        ClientError::broker(about, code, None)
                    }
                },
                Err(error) => {
                    context.client.forget_coordinator(CoordinatorKind::Group, &member.group_id);
                    error
                }
            }
        };
        let question = &mut self.questions[index];
        // The coordinator is further than the member knows, whose next heartbeat tells: it is asked again as who it is then.
        let outdated = matches!(error.code(), Some(ErrorCode::StaleMemberEpoch | ErrorCode::UnknownMemberId));
        if (error.is_retriable() || outdated)
            && !matches!(error, ClientError::Timeout { .. } if question.trial.last_error.is_none())
        {
            question.trial.again(context, error.to_string());
            return Some(Step { did_work: true, next_wake_ticks_ms: Some(question.trial.not_before) });
        }
        match question.ticket {
            Some(ticket) => {
                self.answers.insert(ticket, Err(error));
                None
            }
            None => {
                context.errors.push_back(error.clone());
                question.trial.again(context, error.to_string());
                Some(Step::at(question.trial.not_before))
            }
        }
    }
}

/// Puts the partitions where the group was, or where the reset policy says.
fn begin(
    context: &mut Context<'_>,
    partitions: Vec<(TopicPartition, u64)>,
    found: Vec<(TopicPartition, Option<OffsetAndMetadata>)>,
) {
    let mut none = Vec::new();
    for ((name, serial), (_, committed)) in partitions.into_iter().zip(found) {
        let Some(index) = context.partitions.index(&name) else { continue };
        let waits = context
            .partitions
            .at(index)
            .is_some_and(|partition| partition.serial == serial && partition.phase == Phase::NeedsCommitted);
        if !waits {
            continue;
        }
        match committed.filter(|committed| committed.offset >= 0) {
            Some(committed) => context.partitions.seek(index, committed.offset, committed.leader_epoch),
            None => match reset_spec(context.config.auto_offset_reset, context.now.wall_ms) {
                Some(spec) => context.partitions.enter(index, Phase::NeedsLookup(spec)),
                None => {
                    context.partitions.enter(index, Phase::NeedsSeek);
                    none.push((name, -1));
                }
            },
        }
    }
    if !none.is_empty() {
        context.events.push_back(ConsumerEvent::NoOffset(none));
    }
}

fn commit_request(member: &GroupMetadata, offsets: &[(TopicPartition, OffsetAndMetadata)]) -> OffsetCommitRequest {
    let mut request = OffsetCommitRequest::default();
    request.group_id = GroupId(text(&member.group_id));
    request.generation_id_or_member_epoch = member.generation;
    request.member_id = text(&member.member_id);
    request.group_instance_id = member.group_instance_id.as_deref().map(text);
    request.retention_time_ms = -1;
    let mut by_topic: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (name, offset) in offsets {
        let mut partition = OffsetCommitRequestPartition::default();
        partition.partition_index = name.partition;
        partition.committed_offset = offset.offset;
        partition.committed_leader_epoch = offset.leader_epoch;
        partition.committed_metadata = Some(text(&offset.metadata));
        by_topic.entry(&name.topic).or_default().push(partition);
    }
    for (name, partitions) in by_topic {
        let mut of_topic = OffsetCommitRequestTopic::default();
        of_topic.name = topic(name);
        of_topic.partitions = partitions;
        request.topics.push(of_topic);
    }
    request
}

fn first_failure(response: &OffsetCommitResponse) -> Option<(TopicPartition, ErrorCode)> {
    let mut failures = response.topics.iter().flat_map(|topic| {
        let of = |partition: i32| TopicPartition::new(topic.name.as_str(), partition);
        topic
            .partitions
            .iter()
            .filter(|partition| partition.error_code != 0)
            .map(move |partition| (of(partition.partition_index), ErrorCode::from_code(partition.error_code)))
    });
    failures.next()
}

fn fetch_request(
    member: &GroupMetadata,
    known: bool,
    partitions: &[(TopicPartition, u64)],
    version: i16,
    require_stable: bool,
) -> OffsetFetchRequest {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (name, _) in partitions {
        by_topic.entry(&name.topic).or_default().push(name.partition);
    }
    let mut request = OffsetFetchRequest::default();
    request.require_stable = require_stable && version >= 7;
    if version >= 8 {
        let mut group = OffsetFetchRequestGroup::default();
        group.group_id = GroupId(text(&member.group_id));
        let named = known && version >= 9;
        group.member_epoch = if named { member.generation } else { -1 };
        group.member_id = named.then(|| text(&member.member_id));
        let of = |(name, partitions): (&str, Vec<i32>)| {
            let mut of_topic = OffsetFetchRequestTopics::default();
            of_topic.name = topic(name);
            of_topic.partition_indexes = partitions;
            of_topic
        };
        group.topics = Some(by_topic.into_iter().map(of).collect());
        request.groups.push(group);
        return request;
    }
    request.group_id = GroupId(text(&member.group_id));
    let of = |(name, partitions): (&str, Vec<i32>)| {
        let mut of_topic = OffsetFetchRequestTopic::default();
        of_topic.name = topic(name);
        of_topic.partition_indexes = partitions;
        of_topic
    };
    request.topics = Some(by_topic.into_iter().map(of).collect());
    request
}

type Committed = (i64, i32, String, ErrorCode);
/// What is committed for each partition asked for; or the code that spoils it, and of which partition.
type ReadCommitted = Result<Vec<(TopicPartition, Option<OffsetAndMetadata>)>, (Option<TopicPartition>, ErrorCode)>;

fn read_committed(partitions: &[(TopicPartition, u64)], response: &OffsetFetchResponse) -> ReadCommitted {
    let code = response.groups.first().map_or(response.error_code, |group| group.error_code);
    if code != 0 {
        return Err((None, ErrorCode::from_code(code)));
    }
    let mut by_name: BTreeMap<(&str, i32), Committed> = BTreeMap::new();
    for topic in response.groups.iter().flat_map(|group| &group.topics) {
        for found in &topic.partitions {
            let metadata = found.metadata.as_ref().map(ToString::to_string).unwrap_or_default();
            let code = ErrorCode::from_code(found.error_code);
            let committed = (found.committed_offset, found.committed_leader_epoch, metadata, code);
            by_name.insert((topic.name.as_str(), found.partition_index), committed);
        }
    }
    for topic in &response.topics {
        for found in &topic.partitions {
            let metadata = found.metadata.as_ref().map(ToString::to_string).unwrap_or_default();
            let code = ErrorCode::from_code(found.error_code);
            let committed = (found.committed_offset, found.committed_leader_epoch, metadata, code);
            by_name.insert((topic.name.as_str(), found.partition_index), committed);
        }
    }
    let mut all = Vec::with_capacity(partitions.len());
    for (name, _) in partitions {
        let committed = match by_name.remove(&(&*name.topic, name.partition)) {
            Some((_, _, _, code)) if code.is_error() => return Err((Some(name.clone()), code)),
            Some((offset, leader_epoch, metadata, _)) if offset >= 0 => {
                Some(OffsetAndMetadata { offset, leader_epoch, metadata })
            }
            _ => None,
        };
        all.push((name.clone(), committed));
    }
    Ok(all)
}
