//! Looks offsets up at the partitions' leaders (ListOffsets): for tickets, and for partitions that must be reset.
//!
//! What fails for now is asked again after a back-off: for a ticket until its time is over, for a partition for ever.

use std::collections::{BTreeMap, VecDeque};

use base::TopicPartition;
use protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::api::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse};
use protocol::api::{ApiKey, ErrorCode, Request};

use super::config::IsolationLevel;
use super::core::{Context, ListOffsetsResult};
use super::partitions::Phase;
use super::types::{OffsetAndTimestamp, OffsetSpec, OffsetsTicket};
use crate::client::{Lane, Lookup, Target};
use crate::connection::Call;
use crate::error::ClientError;
use crate::retry::Backoff;
use crate::step::Step;
use crate::wire::{expect_response, topic};

#[derive(Default)]
pub(crate) struct Lookups {
    next_ticket: u64,
    tickets: BTreeMap<u64, Ticket>,
    waiting: Vec<Ask>,
    calls: Vec<(Call, Vec<Ask>)>,
}

struct Ticket {
    left: usize,
    found: Vec<(TopicPartition, Option<OffsetAndTimestamp>)>,
    /// Set by the first step.
    deadline_ticks_ms: Option<i64>,
    last_error: Option<String>,
    result: Option<ListOffsetsResult>,
}

struct Ask {
    name: TopicPartition,
    spec: OffsetSpec,
    by: Asker,
    not_before: i64,
    backoff: Option<Backoff>,
}

#[derive(Clone, Copy)]
enum Asker {
    Ticket(u64),
    /// A partition being read, by index and serial number.
    Partition(usize, u64),
}

impl Lookups {
    pub fn begin(&mut self, offsets: Vec<(TopicPartition, OffsetSpec)>) -> OffsetsTicket {
        self.next_ticket += 1;
        let id = self.next_ticket;
        let result = offsets.is_empty().then(|| Ok(Vec::new()));
        let ticket =
            Ticket { left: offsets.len(), found: Vec::new(), deadline_ticks_ms: None, last_error: None, result };
        self.tickets.insert(id, ticket);
        let ask = |(name, spec)| Ask { name, spec, by: Asker::Ticket(id), not_before: i64::MIN, backoff: None };
        self.waiting.extend(offsets.into_iter().map(ask));
        OffsetsTicket(id)
    }

    pub fn result(&mut self, ticket: OffsetsTicket) -> Option<ListOffsetsResult> {
        self.tickets.get(&ticket.0)?.result.as_ref()?;
        self.tickets.remove(&ticket.0)?.result
    }

    pub fn step(&mut self, context: &mut Context<'_>, lane: &Lane) -> Step {
        let mut step = Step::IDLE;
        self.collect_resets(context);
        if self.waiting.is_empty() && self.calls.is_empty() {
            return step;
        }
        step = step.and(self.expire(context));
        step = step.and(self.send(context, lane));
        step.did_work |= self.settle(context);
        for (call, _) in &self.calls {
            step = step.wake_at(call.deadline_ticks_ms());
        }
        step
    }

    fn collect_resets(&mut self, context: &mut Context<'_>) {
        if !context.partitions.needs_attention() {
            return;
        }
        for (index, partition) in context.partitions.iter_mut() {
            let Phase::NeedsLookup(spec) = partition.phase else { continue };
            if partition.asking {
                continue;
            }
            partition.asking = true;
            let by = Asker::Partition(index, partition.serial);
            self.waiting.push(Ask { name: partition.name.clone(), spec, by, not_before: i64::MIN, backoff: None });
        }
    }

    /// Ends the tickets whose time is over.
    fn expire(&mut self, context: &mut Context<'_>) -> Step {
        let mut step = Step::IDLE;
        let timeout_ms = context.config.default_api_timeout_ms;
        for ticket in self.tickets.values_mut().filter(|ticket| ticket.result.is_none()) {
            let deadline = *ticket.deadline_ticks_ms.get_or_insert(context.now.ticks_ms.saturating_add(timeout_ms));
            if context.now.ticks_ms < deadline {
                step = step.wake_at(deadline);
                continue;
            }
            ticket.result = Some(Err(ClientError::Timeout {
                what: "looking up offsets".into(),
                after_ms: timeout_ms,
                reason: ticket.last_error.take(),
            }));
        }
        let tickets = &self.tickets;
        let partitions = &context.partitions;
        self.waiting.retain(|ask| match ask.by {
            Asker::Ticket(id) => tickets.get(&id).is_some_and(|ticket| ticket.result.is_none()),
            Asker::Partition(index, serial) => partitions.at(index).is_some_and(|partition| partition.serial == serial),
        });
        step
    }

    fn send(&mut self, context: &mut Context<'_>, lane: &Lane) -> Step {
        let mut step = Step::IDLE;
        let mut by_leader: BTreeMap<i32, Vec<(Ask, i32)>> = BTreeMap::new();
        let mut waiting = Vec::new();
        if let Some(failure) = context.client.failure() {
            let asks = std::mem::take(&mut self.waiting);
            self.fail(context, asks, &failure);
            return step;
        }
        for ask in self.waiting.drain(..) {
            if ask.not_before > context.now.ticks_ms {
                step = step.wake_at(ask.not_before);
                waiting.push(ask);
                continue;
            }
            match context.metadata.leader_of(&ask.name) {
                Some((leader, epoch)) => by_leader.entry(leader).or_default().push((ask, epoch)),
                None => {
                    context.client.want_topic(&ask.name.topic);
                    if let Some(code) = context.metadata.missing.get(&ask.name.topic) {
                        note(&mut self.tickets, &ask, code.to_string());
                    }
                    if context.metadata.version > 0 {
                        context.client.refresh_metadata();
                    }
                    waiting.push(ask);
                }
            }
        }
        self.waiting = waiting;
        for (leader, asks) in by_leader {
            let connection = match context.client.connection(lane, Target::Node(leader), context.now, context.waker) {
                Lookup::Ready(connection) => connection,
                Lookup::Wait { until_ticks_ms } => {
                    step = until_ticks_ms.map_or(step, |until| step.wake_at(until));
                    self.waiting.extend(asks.into_iter().map(|(ask, _)| ask));
                    continue;
                }
                Lookup::Failed(error) => {
                    self.fail(context, asks.into_iter().map(|(ask, _)| ask), &error);
                    continue;
                }
            };
            // Two questions about one partition may not travel together.
            let mut rounds: VecDeque<Vec<(Ask, i32)>> = VecDeque::new();
            for (ask, epoch) in asks {
                match rounds.iter_mut().find(|round| round.iter().all(|(other, _)| other.name != ask.name)) {
                    Some(round) => round.push((ask, epoch)),
                    None => rounds.push_back(vec![(ask, epoch)]),
                }
            }
            for round in rounds {
                let lowest = if round.iter().any(|(ask, _)| ask.spec == OffsetSpec::MaxTimestamp) { 7 } else { 1 };
                let version = match connection.version_within(ApiKey::ListOffsets, lowest, i16::MAX) {
                    Ok(version) => version,
                    Err(error) => {
                        self.fail(context, round.into_iter().map(|(ask, _)| ask), &error);
                        continue;
                    }
                };
                let request = request(context, &round);
                let call = connection.send(Request::ListOffsets(request), version, context.now);
                self.calls.push((call, round.into_iter().map(|(ask, _)| ask).collect()));
                step.did_work = true;
            }
        }
        step
    }

    fn settle(&mut self, context: &mut Context<'_>) -> bool {
        let mut did_work = false;
        let mut index = 0;
        while index < self.calls.len() {
            let Some(result) = self.calls[index].0.poll(context.now, context.waker) else {
                index += 1;
                continue;
            };
            did_work = true;
            let (call, asks) = self.calls.swap_remove(index);
            let address = call.connection().address().to_owned();
            match result.and_then(|response| expect_response!(response, ListOffsets, &address)) {
                Ok(response) => self.answered(context, asks, response),
                Err(error) if error.is_retriable() => asks.into_iter().for_each(|ask| self.again(context, ask, &error)),
                Err(error) => self.fail(context, asks, &error),
            }
        }
        did_work
    }

    fn answered(&mut self, context: &mut Context<'_>, asks: Vec<Ask>, response: ListOffsetsResponse) {
        for ask in asks {
            let found = response
                .topics
                .iter()
                .filter(|topic| topic.name.as_str() == &*ask.name.topic)
                .flat_map(|topic| &topic.partitions)
                .find(|partition| partition.partition_index == ask.name.partition);
            let Some(found) = found else {
                let error = ClientError::malformed("list offsets", format!("no answer for {}", ask.name));
                self.fail(context, [ask], &error);
                continue;
            };
            match ErrorCode::from_code(found.error_code) {
                ErrorCode::None => {
                    let offset = (found.offset >= 0).then_some(OffsetAndTimestamp {
                        offset: found.offset,
                        timestamp: found.timestamp,
                        leader_epoch: found.leader_epoch,
                    });
                    self.found(context, ask, offset);
                }
                code => {
                    let error = ClientError::broker(format!("offsets of {}", ask.name), code, None);
                    if code.is_retriable() {
                        context.client.refresh_metadata();
                        self.again(context, ask, &error);
                    } else {
                        self.fail(context, [ask], &error);
                    }
                }
            }
        }
    }

    fn found(&mut self, context: &mut Context<'_>, ask: Ask, offset: Option<OffsetAndTimestamp>) {
        match ask.by {
            Asker::Ticket(id) => {
                let Some(ticket) = self.tickets.get_mut(&id) else { return };
                ticket.found.push((ask.name, offset));
                ticket.left -= 1;
                if ticket.left == 0 && ticket.result.is_none() {
                    ticket.result = Some(Ok(std::mem::take(&mut ticket.found)));
                }
            }
            Asker::Partition(index, serial) => {
                if context.partitions.at(index).is_none_or(|partition| partition.serial != serial) {
                    return;
                }
                match offset {
                    Some(found) => {
                        tracing::debug!(partition = %ask.name, offset = found.offset, "position reset");
                        context.partitions.seek(index, found.offset, found.leader_epoch);
                    }
                    // Nothing that late: the end.
                    None => context.partitions.enter(index, Phase::NeedsLookup(OffsetSpec::Latest)),
                }
            }
        }
    }

    fn again(&mut self, context: &mut Context<'_>, mut ask: Ask, error: &ClientError) {
        note(&mut self.tickets, &ask, error.to_string());
        let config = context.config;
        let backoff =
            ask.backoff.get_or_insert_with(|| Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms));
        ask.not_before = context.now.ticks_ms + backoff.next_ms(context.rng).max(1);
        self.waiting.push(ask);
    }

    fn fail(&mut self, context: &mut Context<'_>, asks: impl IntoIterator<Item = Ask>, error: &ClientError) {
        for ask in asks {
            match ask.by {
                Asker::Ticket(id) => {
                    if let Some(ticket) = self.tickets.get_mut(&id) {
                        ticket.result.get_or_insert_with(|| Err(error.clone()));
                    }
                }
                // The owner learns of it, and the partition goes on asking: rights may be granted.
                Asker::Partition(..) => {
                    context.errors.push_back(error.clone());
                    self.again(context, ask, error);
                }
            }
        }
    }
}

fn note(tickets: &mut BTreeMap<u64, Ticket>, ask: &Ask, error: String) {
    if let Asker::Ticket(id) = ask.by
        && let Some(ticket) = tickets.get_mut(&id)
    {
        ticket.last_error = Some(error);
    }
}

fn request(context: &Context<'_>, round: &[(Ask, i32)]) -> ListOffsetsRequest {
    let mut request = ListOffsetsRequest::default();
    request.replica_id = BrokerId(-1);
    request.isolation_level = i8::from(context.config.isolation_level == IsolationLevel::ReadCommitted);
    request.timeout_ms = i32::try_from(context.client.config().request_timeout_ms).unwrap_or(i32::MAX);
    for (ask, epoch) in round {
        let mut partition = ListOffsetsPartition::default();
        partition.partition_index = ask.name.partition;
        partition.current_leader_epoch = *epoch;
        partition.timestamp = ask.spec.as_timestamp();
        match request.topics.iter_mut().find(|topic| topic.name.as_str() == &*ask.name.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => {
                let mut of_topic = ListOffsetsTopic::default();
                of_topic.name = topic(&ask.name.topic);
                of_topic.partitions.push(partition);
                request.topics.push(of_topic);
            }
        }
    }
    request
}
