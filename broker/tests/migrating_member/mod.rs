//! A consumer of the classic protocol, for the tests of groups that change their kind: it joins, assigns if it is the leader,
//! syncs and sends heartbeats, one request at a time. Eager ones give up all they have before they join, cooperative ones only what
//! they are not to have any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker::group::classic::{Join, Sync};
use broker::group::output::{JoinAnswer, Output, SyncAnswer};
use broker::group::subscription::{NamedPartitions, Subscription, read_assignment, write_assignment};
use bytes::Bytes;
use protocol::api::ErrorCode;

use crate::consumer_world::{GROUP, World};
use crate::group_cluster::FakeCluster;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// To join.
    Out,
    Joining(u64),
    Syncing(u64),
    Stable,
}

pub struct ClassicMember {
    pub id: Arc<str>,
    pub generation: i32,
    pub owned: NamedPartitions,
    pub phase: Phase,
    pub protocol_type: &'static str,
    /// The error that it cannot go on from.
    pub refused: Option<ErrorCode>,
    pub is_eager: bool,
    pub instance: Option<&'static str>,
}

impl ClassicMember {
    pub fn new(is_eager: bool) -> Self {
        Self {
            id: "".into(),
            generation: -1,
            owned: NamedPartitions::new(),
            phase: Phase::Out,
            protocol_type: "consumer",
            refused: None,
            is_eager,
            instance: None,
        }
    }

    fn protocol(&self) -> &'static str {
        if self.is_eager { "range" } else { "cooperative-sticky" }
    }

    /// `ConsumerProtocolSubscription`, version 1, of the topic `t`.
    fn subscription(&self) -> Bytes {
        let mut out = b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff".to_vec();
        let owned: Vec<i32> = self.owned.values().flatten().copied().collect();
        out.extend(i32::from(!owned.is_empty()).to_be_bytes());
        if !owned.is_empty() {
            out.extend(b"\0\x01t");
            out.extend((owned.len() as i32).to_be_bytes());
            owned.iter().for_each(|partition| out.extend(partition.to_be_bytes()));
        }
        out.into()
    }

    /// Sends the next request, or takes up the answer to the last.
    pub fn go_on(&mut self, world: &mut World) {
        match self.phase {
            Phase::Out => self.join(world),
            Phase::Joining(ticket) => {
                if let Some(answer) = taken(&mut world.joins, ticket) {
                    self.joined(world, answer);
                }
            }
            Phase::Syncing(ticket) => {
                if let Some(answer) = taken(&mut world.syncs, ticket) {
                    self.synced(answer);
                }
            }
            Phase::Stable => {
                let error = self.heartbeat(world);
                self.failed(error);
            }
        }
    }

    fn join(&mut self, world: &mut World) {
        if self.is_eager {
            self.owned.clear();
        }
        let ticket = world.ticket();
        let join = Join {
            ticket,
            version: 9,
            member_id: Arc::clone(&self.id),
            instance_id: self.instance.map(Arc::from),
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: self.protocol_type.into(),
            protocols: vec![(self.protocol().into(), self.subscription())],
            fresh_uuid: format!("u{ticket}").into(),
        };
        let output = world.shard.join(&GROUP.into(), join, &world.cluster, world.now, &world.config);
        world.take(output);
        self.phase = Phase::Joining(ticket);
    }

    fn joined(&mut self, world: &mut World, answer: JoinAnswer) {
        if answer.error == ErrorCode::MemberIdRequired {
            self.id = answer.member_id;
            self.phase = Phase::Out;
            return;
        }
        if answer.error != ErrorCode::None {
            return self.failed(answer.error);
        }
        (self.id, self.generation) = (answer.member_id.clone(), answer.generation);
        let assignments =
            if answer.leader == self.id { assign(&world.cluster, &answer, self.is_eager) } else { Vec::new() };
        let ticket = world.ticket();
        let sync = Sync {
            ticket,
            member_id: Arc::clone(&self.id),
            instance_id: self.instance.map(Arc::from),
            generation: self.generation,
            protocol_type: Some("consumer".into()),
            protocol: answer.protocol,
            assignments,
        };
        let output = world.shard.sync(&GROUP.into(), sync, &world.cluster, world.now);
        world.take(output);
        self.phase = Phase::Syncing(ticket);
    }

    fn synced(&mut self, answer: SyncAnswer) {
        if answer.error != ErrorCode::None {
            return self.failed(answer.error);
        }
        let assigned = read_assignment(&answer.assignment).unwrap();
        let kept = |topic: &Arc<str>, partition: &i32| assigned.get(topic).is_some_and(|own| own.contains(partition));
        let gives_up = self.owned.iter().any(|(topic, own)| own.iter().any(|partition| !kept(topic, partition)));
        self.owned = assigned;
        self.phase = if gives_up { Phase::Out } else { Phase::Stable };
    }

    pub fn heartbeat(&mut self, world: &mut World) -> ErrorCode {
        let result = world.shard.heartbeat(&GROUP.into(), &self.id, self.instance, self.generation, world.now);
        result.err().unwrap_or(ErrorCode::None)
    }

    fn failed(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => self.phase = Phase::Out,
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                if error == ErrorCode::UnknownMemberId {
                    self.id = "".into();
                }
                self.owned.clear();
                self.phase = Phase::Out;
            }
            error => self.refused = Some(error),
        }
    }

    pub fn leave(&mut self, world: &mut World) -> Vec<ErrorCode> {
        let leaving = [(Arc::clone(&self.id), None)];
        let (results, output): (_, Output) =
            world.shard.leave(&GROUP.into(), &leaving, &world.cluster, world.now, &world.config);
        world.take(output);
        *self = Self { instance: self.instance, ..Self::new(self.is_eager) };
        results
    }

    /// What it waits for will not come.
    pub fn reconnect(&mut self) {
        if matches!(self.phase, Phase::Joining(_) | Phase::Syncing(_)) {
            self.phase = Phase::Out;
        }
    }
}

fn taken<T>(answers: &mut Vec<(u64, T)>, ticket: u64) -> Option<T> {
    let at = answers.iter().position(|(known, _)| *known == ticket)?;
    Some(answers.remove(at).1)
}

/// The leader's work: partitions in turn; a cooperative one gives nobody what another still has.
fn assign(cluster: &FakeCluster, answer: &JoinAnswer, is_eager: bool) -> Vec<(Arc<str>, Bytes)> {
    let read = |metadata: &Bytes| Subscription::read(metadata).unwrap();
    let owned: BTreeMap<&Arc<str>, BTreeSet<i32>> = answer
        .members
        .iter()
        .map(|member| (&member.member_id, read(&member.metadata).owned.into_values().flatten().collect()))
        .collect();
    let mut shares: BTreeMap<&Arc<str>, BTreeSet<i32>> = BTreeMap::new();
    for (_, partition) in cluster.partitions() {
        let member = &answer.members[partition as usize % answer.members.len()].member_id;
        let taken = owned.iter().any(|(other, owned)| *other != member && owned.contains(&partition));
        if is_eager || !taken {
            shares.entry(member).or_default().insert(partition);
        }
    }
    let share =
        |member: &Arc<str>| NamedPartitions::from([("t".into(), shares.get(member).cloned().unwrap_or_default())]);
    let write = |metadata: &Bytes, member: &Arc<str>| write_assignment(metadata, &share(member)).unwrap();
    answer.members.iter().map(|member| (member.member_id.clone(), write(&member.metadata, &member.member_id))).collect()
}
