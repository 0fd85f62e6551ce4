//! The target assignment of a consumer group: computed anew for each epoch of the group, at most once in an interval.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Now;

use super::assignor::{Assignor, PartitionCounts, Subscriber, Subscribers};
use super::config::ConsumerConfig;
use super::group::ConsumerGroup;
use super::records::ConsumerRecord;
use crate::group::target_epoch::TargetEpoch;

impl ConsumerGroup {
    /// Computes the target assignment of the group's epoch, unless there is one or the last one is too young.
    pub(super) fn update_target(&mut self, now: Now, config: &ConsumerConfig, records: &mut Vec<ConsumerRecord>) {
        let age = now.wall_ms.saturating_sub(self.target_timestamp);
        // A clock that was set back must not stop the group.
        let is_young = self.target_timestamp != 0 && (0..config.assignment_interval.ms).contains(&age);
        if self.epoch <= self.target_epoch || is_young {
            return;
        }
        let subscribers: Subscribers = self
            .members
            .values()
            .map(|member| {
                let subscriber = Subscriber {
                    instance_id: member.metadata.instance_id.clone(),
                    topics: self.wanted_ids(&member.metadata),
                    target: self.targets.get(&member.id).cloned().unwrap_or_default(),
                };
                (Arc::clone(&member.id), subscriber)
            })
            .collect();
        let counts: PartitionCounts = self.known.topics.values().copied().collect();
        let assignment = self.assignor(config).assign(&subscribers, &counts);
        for (member_id, value) in assignment {
            if self.targets.get(&member_id) != Some(&value) {
                self.push(ConsumerRecord::Target { member_id, value: Some(value) }, records);
            }
        }
        let value = TargetEpoch { epoch: self.epoch, timestamp: now.wall_ms };
        self.push(ConsumerRecord::TargetEpoch(Some(value)), records);
    }

    /// The assignor that most members ask for, else the broker's first.
    pub fn assignor(&self, config: &ConsumerConfig) -> Assignor {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|member| member.metadata.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let chosen = votes.into_iter().max_by_key(|(_, votes)| *votes).and_then(|(name, _)| Assignor::named(name));
        chosen.or(config.assignors.first().copied()).unwrap_or(Assignor::Uniform)
    }
}
