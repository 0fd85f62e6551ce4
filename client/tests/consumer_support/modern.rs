//! The coordinator of the consumer protocol (KIP-848) of the fake brokers: spreads partitions over members in order of their ids.

use std::collections::{BTreeMap, BTreeSet};

use protocol::api::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use protocol::api::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use protocol::api::{ErrorCode, Uuid};

use super::{State, text};

pub const INTERVAL_MS: i32 = 5_000;
const SESSION_MS: i64 = 45_000;

type Partitions = BTreeSet<(Uuid, i32)>;

#[derive(Default)]
pub struct ModernGroup {
    pub epoch: i32,
    pub members: BTreeMap<String, ModernMember>,
    /// Topics there were when targets were last made.
    topics: Vec<Uuid>,
}

#[derive(Default)]
pub struct ModernMember {
    pub epoch: i32,
    pub names: Vec<String>,
    pub pattern: Option<String>,
    pub instance: Option<String>,
    pub assignor: Option<String>,
    /// What it may read.
    pub assigned: Partitions,
    /// What it may still have, until it says that it has not.
    pub held: Partitions,
    pub away: bool,
    pub alive_until: i64,
}

impl State {
    pub fn expire_modern_members(&mut self) {
        let now = self.now_ms;
        for group in self.modern.values_mut() {
            let before = group.members.len();
            group.members.retain(|_, member| member.alive_until > now);
            group.epoch += i32::from(group.members.len() != before);
        }
    }

    pub fn modern_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        node: i32,
    ) -> ConsumerGroupHeartbeatResponse {
        let mut response = ConsumerGroupHeartbeatResponse::default();
        match self.try_modern_heartbeat(request, node, &mut response) {
            Ok(()) => {}
            Err(code) => {
                response.error_code = code.code();
                response.error_message = Some(text("the fake coordinator says no"));
            }
        }
        response
    }

    fn try_modern_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        node: i32,
        response: &mut ConsumerGroupHeartbeatResponse,
    ) -> Result<(), ErrorCode> {
        if node != self.coordinator {
            return Err(ErrorCode::NotCoordinator);
        }
        let (id, group_id) = (request.member_id.to_string(), request.group_id.to_string());
        if request.member_epoch == 0 {
            let full =
                request.rebalance_timeout_ms >= 0 && request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
            if !full || (request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none()) {
                return Err(ErrorCode::InvalidRequest);
            }
        }
        let now = self.now_ms;
        let group = self.modern.entry(group_id.clone()).or_default();
        match request.member_epoch {
            -1 => {
                group.members.remove(&id).ok_or(ErrorCode::UnknownMemberId)?;
                group.epoch += 1;
                return Ok(());
            }
            -2 => {
                group.members.get_mut(&id).ok_or(ErrorCode::UnknownMemberId)?.away = true;
                return Ok(());
            }
            0 => group.admit(&id, request.instance_id.as_ref().map(ToString::to_string))?,
            epoch => {
                let member = group.members.get(&id).ok_or(ErrorCode::UnknownMemberId)?;
                if member.epoch != epoch {
                    return Err(ErrorCode::FencedMemberEpoch);
                }
            }
        }
        let member = group.members.get_mut(&id).ok_or(ErrorCode::UnknownMemberId)?;
        member.alive_until = now + SESSION_MS;
        let changed = member.take(request);
        group.epoch += i32::from(changed);
        self.remake_targets(&group_id);
        let targets = self.modern_targets(&group_id);
        let group = self.modern.get_mut(&group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        let before = group.members[&id].assigned.clone();
        group.reconcile(&id, &targets[&id]);
        let member = &group.members[&id];
        response.member_id = Some(text(&id));
        response.member_epoch = member.epoch;
        response.heartbeat_interval_ms = INTERVAL_MS;
        if request.member_epoch == 0 || request.rebalance_timeout_ms >= 0 || member.assigned != before {
            let mut assignment = Assignment::default();
            let mut by_topic: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
            member.assigned.iter().for_each(|(id, partition)| by_topic.entry(*id).or_default().push(*partition));
            for (id, partitions) in by_topic {
                let mut topic = TopicPartitions::default();
                (topic.topic_id, topic.partitions) = (id, partitions);
                assignment.topic_partitions.push(topic);
            }
            response.assignment = Some(assignment);
        }
        Ok(())
    }

    /// Raises the group's epoch when topics came or went.
    fn remake_targets(&mut self, group: &str) {
        let topics: Vec<Uuid> = self.topics.values().map(|topic| topic.id).collect();
        if let Some(group) = self.modern.get_mut(group)
            && group.topics != topics
        {
            group.topics = topics;
            group.epoch += 1;
        }
    }

    fn modern_targets(&self, group: &str) -> BTreeMap<String, Partitions> {
        let group = &self.modern[group];
        let mut targets: BTreeMap<String, Partitions> =
            group.members.keys().map(|id| (id.clone(), Partitions::new())).collect();
        for (name, topic) in &self.topics {
            let wants: Vec<&String> =
                group.members.iter().filter(|(_, member)| member.wants(name)).map(|(id, _)| id).collect();
            for partition in 0..topic.partitions.len() {
                if let Some(id) = wants.get(partition % wants.len().max(1)) {
                    targets.entry((*id).clone()).or_default().insert((topic.id, partition as i32));
                }
            }
        }
        targets
    }

    /// What a commit or a fetch of offsets in the name of a member is answered with.
    pub fn modern_code(&self, group: &str, member: &str, epoch: i32) -> ErrorCode {
        match self.modern.get(group).map(|group| group.members.get(member)) {
            None => ErrorCode::None,
            Some(None) if epoch < 0 => ErrorCode::None,
            Some(None) => ErrorCode::UnknownMemberId,
            Some(Some(member)) if member.epoch == epoch => ErrorCode::None,
            Some(Some(_)) => ErrorCode::StaleMemberEpoch,
        }
    }
}

impl ModernGroup {
    fn admit(&mut self, id: &str, instance: Option<String>) -> Result<(), ErrorCode> {
        let holder = instance.as_ref().and_then(|instance| {
            self.members.iter().find(|(_, member)| member.instance.as_ref() == Some(instance)).map(|(id, _)| id.clone())
        });
        let mut member = match holder {
            Some(holder) if holder != id && !self.members[&holder].away => return Err(ErrorCode::UnreleasedInstanceId),
            // It comes back: its place, and no other epoch of the group.
            Some(holder) => self.members.remove(&holder).unwrap_or_default(),
            None => {
                self.epoch += 1;
                self.members.remove(id).unwrap_or_default()
            }
        };
        member.epoch = 0;
        member.away = false;
        member.instance = instance;
        self.members.insert(id.to_owned(), member);
        Ok(())
    }

    fn reconcile(&mut self, id: &str, target: &Partitions) {
        let others: Partitions = self
            .members
            .iter()
            .filter(|(other, _)| *other != id)
            .flat_map(|(_, other)| other.assigned.union(&other.held))
            .copied()
            .collect();
        let epoch = self.epoch;
        let Some(member) = self.members.get_mut(id) else { return };
        let kept: Partitions = member.held.intersection(target).copied().collect();
        if kept.len() < member.held.len() && member.epoch > 0 {
            member.assigned = kept;
            return;
        }
        member.assigned = target.difference(&others).copied().collect();
        member.held = member.assigned.clone();
        member.epoch = epoch;
    }
}

impl ModernMember {
    fn wants(&self, name: &str) -> bool {
        let matches = self.pattern.as_ref().is_some_and(|pattern| name.starts_with(pattern.trim_end_matches(".*")));
        matches || self.names.iter().any(|wanted| wanted == name)
    }

    /// Takes in what a heartbeat says; whether it wants something else now.
    fn take(&mut self, request: &ConsumerGroupHeartbeatRequest) -> bool {
        let before = (self.names.clone(), self.pattern.clone());
        if let Some(names) = &request.subscribed_topic_names {
            self.names = names.iter().map(|name| name.to_string()).collect();
        }
        if let Some(pattern) = &request.subscribed_topic_regex {
            self.pattern = Some(pattern.to_string()).filter(|pattern| !pattern.is_empty());
        }
        if let Some(assignor) = &request.server_assignor {
            self.assignor = Some(assignor.to_string());
        }
        if let Some(owned) = &request.topic_partitions {
            let owned = owned.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index)));
            self.held = owned.collect();
        }
        before != (self.names.clone(), self.pattern.clone())
    }
}
