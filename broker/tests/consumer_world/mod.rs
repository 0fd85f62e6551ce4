//! One shard of the group coordinator for the tests of consumer groups: members come with heartbeats, give up what they are asked to,
//! and time moves when told to.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and says where it failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Now;
use broker::group::config::GroupConfig;
use broker::group::consumer::ConsumerGroup;
use broker::group::consumer::heartbeat::{Answer, Heartbeat, Refusal};
use broker::group::consumer::records::Partitions;
use broker::group::output::{JoinAnswer, Output, SyncAnswer};
use broker::group::records::{Decoded, decode};
use broker::group::shard::{Commit, Committer, Shard};
use protocol::api::ErrorCode;

use crate::group_cluster::FakeCluster;

pub const GROUP: &str = "g";

/// A shard whose records are durable as soon as they are appended.
pub struct World {
    pub shard: Shard,
    pub cluster: FakeCluster,
    pub config: GroupConfig,
    pub now: Now,
    pub log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Answers to members of the classic protocol.
    pub joins: Vec<(u64, JoinAnswer)>,
    pub syncs: Vec<(u64, SyncAnswer)>,
    next_ticket: u64,
}

/// A member that does what it is told.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub beat: Heartbeat,
    /// What it reads.
    pub owned: Partitions,
}

pub fn member(id: &str, topics: &[&str]) -> Member {
    Member {
        beat: Heartbeat {
            member_id: id.into(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: Some(60_000),
            topic_names: Some(topics.iter().map(|name| Arc::from(*name)).collect()),
            ..Heartbeat::default()
        },
        owned: Partitions::new(),
    }
}

pub fn static_member(id: &str, instance: &str, topics: &[&str]) -> Member {
    let mut member = member(id, topics);
    member.beat.instance_id = Some(instance.into());
    member
}

impl Member {
    pub fn epoch(&self) -> i32 {
        self.beat.epoch
    }

    /// Partition numbers that it reads, of all topics.
    pub fn numbers(&self) -> Vec<i32> {
        self.owned.values().flatten().copied().collect()
    }
}

impl World {
    pub fn new(topics: &[(&str, i32)]) -> Self {
        let mut config = GroupConfig::default();
        config.consumer.assignment_interval.ms = 0;
        Self {
            shard: Shard::default(),
            cluster: FakeCluster::of(topics),
            config,
            now: Now { wall_ms: 1_000_000, ticks_ms: 0 },
            log: Vec::new(),
            joins: Vec::new(),
            syncs: Vec::new(),
            next_ticket: 0,
        }
    }

    pub fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub fn take(&mut self, output: Output) {
        if output.records.is_empty() {
            self.joins.extend(output.joins);
            self.syncs.extend(output.syncs);
            return;
        }
        let first = self.log.len() as i64;
        self.log.extend(output.records.iter().map(|record| record.encode().unwrap()));
        let next = self.shard.stored(output, Ok(first), self.now, &self.config);
        self.take(next);
    }

    pub fn send(&mut self, beat: &Heartbeat) -> Result<Answer, Refusal> {
        let group = GROUP.into();
        let (answer, output) = self.shard.consumer_heartbeat(&group, beat, &self.cluster, self.now, &self.config)?;
        self.take(output);
        Ok(answer)
    }

    /// A heartbeat with everything in it; the member takes up the answer, and what it has to give up it gives up before the next.
    pub fn beat(&mut self, member: &mut Member) -> Answer {
        let owned = if member.beat.epoch == 0 { Partitions::new() } else { member.owned.clone() };
        let beat = Heartbeat { owned: Some(owned), ..member.beat.clone() };
        let answer = self.send(&beat).unwrap();
        member.beat.epoch = answer.epoch;
        if let Some(assignment) = &answer.assignment {
            member.owned =
                assignment.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect();
        }
        answer
    }

    /// Heartbeats of all members in turn until all of them have what they are to have.
    pub fn settle(&mut self, members: &mut [&mut Member]) {
        for _ in 0..10 {
            self.now.wall_ms += 1_000;
            self.now.ticks_ms += 1_000;
            members.iter_mut().for_each(|member| {
                self.beat(member);
            });
            if self.state() == "Stable" {
                return;
            }
        }
        panic!("not settled: {:?}", self.group());
    }

    /// Some heartbeats of one member, whatever becomes of the others.
    pub fn settle_without(&mut self, member: &mut Member) {
        for _ in 0..3 {
            self.beat(member);
        }
    }

    pub fn leave(&mut self, member: &Member, epoch: i32) -> Result<Answer, Refusal> {
        self.send(&Heartbeat { epoch, ..member.beat.clone() })
    }

    pub fn advance(&mut self, ms: i64) {
        self.now.wall_ms += ms;
        self.now.ticks_ms += ms;
        for output in self.shard.step(&self.cluster, self.now, &self.config) {
            self.take(output);
        }
    }

    pub fn group(&self) -> &ConsumerGroup {
        self.shard.group(GROUP).unwrap().consumer().unwrap()
    }

    pub fn state(&self) -> &'static str {
        self.shard.group(GROUP).map_or("none", |group| group.kind.state_name())
    }

    /// The log read anew.
    pub fn replayed(&self) -> Shard {
        let mut shard = Shard::default();
        for (offset, (key, value)) in self.log.iter().enumerate() {
            match decode(key, value.as_deref()).unwrap() {
                Decoded::Record(record) => shard.replay(record, offset as i64, None, self.now),
                other => panic!("{other:?}"),
            }
        }
        shard.loaded(self.now, &self.config, &self.cluster);
        shard
    }

    /// Only the last record of each key, as after compaction.
    pub fn compact(&mut self) {
        let mut last: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (at, (key, _)) in self.log.iter().enumerate() {
            last.insert(key.clone(), at);
        }
        let keep: BTreeSet<usize> = last.into_values().collect();
        let all = std::mem::take(&mut self.log);
        self.log = all.into_iter().enumerate().filter(|(at, _)| keep.contains(at)).map(|(_, record)| record).collect();
    }

    pub fn restart(&mut self) {
        self.shard = self.replayed();
    }

    pub fn commit(&mut self, member_id: &str, epoch: i32, topic: &str, partition: i32, version: i16) -> ErrorCode {
        let committer = Committer {
            group: GROUP.into(),
            member_id: member_id.into(),
            instance_id: None,
            generation: epoch,
            expire_timestamp: None,
            version: Some(version),
        };
        let commit = Commit {
            topic: topic.into(),
            topic_id: self.cluster.id(topic),
            partition,
            offset: 1,
            leader_epoch: -1,
            metadata: "".into(),
        };
        match self.shard.commit(&committer, vec![commit], self.now) {
            Ok((results, output)) => {
                self.take(output);
                results[0].err().unwrap_or(ErrorCode::None)
            }
            Err(error) => error,
        }
    }

    /// The kinds of the records from `from` on, with `-` for removals.
    pub fn kinds_since(&self, from: usize) -> Vec<String> {
        let name = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            let sign = if value.is_none() { "-" } else { "" };
            format!("{sign}{}", i16::from_be_bytes([key[0], key[1]]))
        };
        self.log[from..].iter().map(name).collect()
    }
}
