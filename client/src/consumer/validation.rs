//! After a change of leader: whether the log still has what was read (KIP-320).
//!
//! An unclean election may cut the log below our position. The new leader says where the epoch of the last record read
//! ends in its log (OffsetForLeaderEpoch); if that is below the position, reading goes on there.

use std::collections::BTreeMap;

use protocol::api::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use protocol::api::messages::{BrokerId, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use protocol::api::{ApiKey, ErrorCode, Request};

use super::core::Context;
use super::fetcher::reset_spec;
use super::partitions::Phase;
use super::types::ConsumerEvent;
use crate::client::{Lane, Lookup, Target};
use crate::connection::Call;
use crate::step::Step;
use crate::wire::{expect_response, topic};

#[derive(Default)]
pub(crate) struct Validation {
    calls: Vec<(Call, Vec<(usize, u64)>)>,
    /// Partitions are looked at when this has come.
    retry_at: Option<i64>,
}

impl Validation {
    pub fn step(&mut self, context: &mut Context<'_>, lane: &Lane) -> Step {
        let mut step = Step::IDLE;
        if context.partitions.needs_attention() || self.retry_at.is_some_and(|at| at <= context.now.ticks_ms) {
            step = self.send(context, lane);
        }
        step.did_work |= self.settle(context);
        for (call, _) in &self.calls {
            step = step.wake_at(call.deadline_ticks_ms());
        }
        self.retry_at.map_or(step, |at| step.wake_at(at))
    }

    fn send(&mut self, context: &mut Context<'_>, lane: &Lane) -> Step {
        let mut step = Step::IDLE;
        self.retry_at = None;
        let mut by_leader: BTreeMap<i32, Vec<(usize, u64)>> = BTreeMap::new();
        for (index, partition) in context.partitions.iter() {
            let Some((leader, _)) = partition.leader else { continue };
            if partition.phase != Phase::NeedsValidation || partition.asking {
                continue;
            }
            if partition.not_before > context.now.ticks_ms {
                self.retry_at = Some(self.retry_at.map_or(partition.not_before, |at| at.min(partition.not_before)));
                continue;
            }
            by_leader.entry(leader).or_default().push((index, partition.serial));
        }
        for (leader, items) in by_leader {
            let connection = match context.client.connection(lane, Target::Node(leader), context.now, context.waker) {
                Lookup::Ready(connection) => connection,
                Lookup::Wait { until_ticks_ms } => {
                    let soon = context.now.ticks_ms + context.config.retry_backoff_ms.max(1);
                    self.retry_at = Some(until_ticks_ms.unwrap_or(soon).min(soon));
                    continue;
                }
                Lookup::Failed(error) => {
                    context.errors.push_back(error);
                    continue;
                }
            };
            // Older brokers cannot tell: reading goes on as it did with them.
            let Ok(version) = connection.version_within(ApiKey::OffsetForLeaderEpoch, 3, i16::MAX) else {
                items.iter().for_each(|item| ready(context, *item));
                continue;
            };
            let mut request = OffsetForLeaderEpochRequest::default();
            request.replica_id = BrokerId(-2);
            for (index, _) in &items {
                let Some(partition) = context.partitions.at_mut(*index) else { continue };
                partition.asking = true;
                let mut asked = OffsetForLeaderPartition::default();
                asked.partition = partition.name.partition;
                asked.current_leader_epoch = partition.leader.map_or(-1, |(_, epoch)| epoch);
                asked.leader_epoch = partition.fetch_epoch;
                match request.topics.iter_mut().find(|known| known.topic.as_str() == &*partition.name.topic) {
                    Some(known) => known.partitions.push(asked),
                    None => {
                        let mut of_topic = OffsetForLeaderTopic::default();
                        of_topic.topic = topic(&partition.name.topic);
                        of_topic.partitions.push(asked);
                        request.topics.push(of_topic);
                    }
                }
            }
            let call = connection.send(Request::OffsetForLeaderEpoch(request), version, context.now);
            self.calls.push((call, items));
            step.did_work = true;
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
            let (call, items) = self.calls.swap_remove(index);
            let address = call.connection().address().to_owned();
            let response = result.and_then(|response| expect_response!(response, OffsetForLeaderEpoch, &address));
            for item in items {
                self.answered(context, item, response.as_ref().ok());
            }
        }
        did_work
    }

    fn answered(
        &mut self,
        context: &mut Context<'_>,
        (index, serial): (usize, u64),
        response: Option<&OffsetForLeaderEpochResponse>,
    ) {
        let Some(partition) = context.partitions.at_mut(index) else { return };
        if partition.serial != serial || partition.phase != Phase::NeedsValidation {
            return;
        }
        partition.asking = false;
        let name = partition.name.clone();
        let found = response
            .into_iter()
            .flat_map(|response| &response.topics)
            .filter(|of_topic| of_topic.topic.as_str() == &*name.topic)
            .flat_map(|of_topic| &of_topic.partitions)
            .find(|answered| answered.partition == name.partition);
        let Some(found) = found.filter(|found| found.error_code == ErrorCode::None.code()) else {
            context.client.refresh_metadata();
            partition.not_before = context.now.ticks_ms + context.config.retry_backoff_ms.max(1);
            self.retry_at = Some(self.retry_at.map_or(partition.not_before, |at| at.min(partition.not_before)));
            return;
        };
        let position = partition.fetch_position;
        if found.end_offset >= position {
            return ready(context, (index, serial));
        }
        if found.end_offset >= 0 && found.leader_epoch >= 0 {
            tracing::warn!(partition = %name, position, offset = found.end_offset, "log truncated below the position");
            context.partitions.seek(index, found.end_offset, found.leader_epoch);
            context.events.push_back(ConsumerEvent::Truncated { partition: name, position, offset: found.end_offset });
            return;
        }
        // The new leader knows nothing of the epoch: nothing is in common.
        match reset_spec(context.config.auto_offset_reset, context.now.wall_ms) {
            Some(spec) => {
                context.partitions.enter(index, Phase::NeedsLookup(spec));
                context.events.push_back(ConsumerEvent::OutOfRange { partition: name, offset: position });
            }
            None => {
                context.partitions.enter(index, Phase::NeedsSeek);
                context.events.push_back(ConsumerEvent::NoOffset(vec![(name, position)]));
            }
        }
    }
}

fn ready(context: &mut Context<'_>, (index, serial): (usize, u64)) {
    if let Some(partition) = context.partitions.at_mut(index)
        && partition.serial == serial
    {
        partition.phase = Phase::Ready;
        context.partitions.changed = true;
    }
}
