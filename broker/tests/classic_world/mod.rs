//! One shard of the group coordinator for the tests of the classic protocol: clients join, sync, commit and leave, time
//! moves when told to.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

use base::Now;
use broker::group::classic::{Join, Sync};
use broker::group::config::GroupConfig;
use broker::group::output::{JoinAnswer, Output, SyncAnswer};
use broker::group::records::GroupRecord;
use broker::group::shard::{Commit, Committer, Shard};
use bytes::Bytes;
use protocol::api::ErrorCode;
use std::sync::Arc;

use crate::group_cluster::FakeCluster;

pub const GROUP: &str = "g";

/// A shard whose records are durable as soon as they are appended, unless held back.
pub struct World {
    pub shard: Shard,
    pub config: GroupConfig,
    pub now: Now,
    pub log: Vec<GroupRecord>,
    pub held: Vec<Output>,
    pub hold: bool,
    pub joins: Vec<(u64, JoinAnswer)>,
    pub syncs: Vec<(u64, SyncAnswer)>,
    pub next: u64,
}

#[derive(Clone)]
pub struct Client {
    pub version: i16,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub session_timeout_ms: i32,
    pub protocols: Vec<(&'static str, &'static [u8])>,
}

pub fn client() -> Client {
    Client {
        version: 9,
        member_id: "".into(),
        instance_id: None,
        session_timeout_ms: 10_000,
        protocols: vec![("range", b"m")],
    }
}

pub fn instance(name: &str) -> Client {
    Client { instance_id: Some(name.into()), ..client() }
}

impl World {
    pub fn new() -> Self {
        Self {
            shard: Shard::default(),
            config: GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() },
            now: Now { wall_ms: 1_000_000, ticks_ms: 0 },
            log: Vec::new(),
            held: Vec::new(),
            hold: false,
            joins: Vec::new(),
            syncs: Vec::new(),
            next: 0,
        }
    }

    pub fn take(&mut self, output: Output) {
        if self.hold && !output.records.is_empty() {
            self.held.push(output);
            return;
        }
        let first = self.log.len() as i64;
        self.log.extend(output.records.iter().cloned());
        if output.records.is_empty() {
            self.joins.extend(output.joins);
            self.syncs.extend(output.syncs);
        } else {
            let next = self.shard.stored(output, Ok(first), self.now, &self.config);
            self.take(next);
        }
    }

    pub fn release(&mut self, result: Result<(), ErrorCode>) {
        self.hold = false;
        for output in std::mem::take(&mut self.held) {
            match result {
                Ok(()) => self.take(output),
                Err(error) => {
                    let next = self.shard.stored(output, Err(error), self.now, &self.config);
                    self.take(next);
                }
            }
        }
    }

    pub fn advance(&mut self, ms: i64) {
        // In steps: timers must not be skipped.
        for _ in 0..ms / 100 {
            self.now.wall_ms += 100;
            self.now.ticks_ms += 100;
            for output in self.shard.step(&FakeCluster::default(), self.now, &self.config) {
                self.take(output);
            }
        }
    }

    pub fn send_join(&mut self, client: &Client) -> u64 {
        self.next += 1;
        let ticket = self.next;
        let join = Join {
            ticket,
            version: client.version,
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: client.session_timeout_ms,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: client
                .protocols
                .iter()
                .map(|(name, metadata)| (Arc::from(*name), Bytes::from_static(metadata)))
                .collect(),
            fresh_uuid: format!("u{ticket}").into(),
        };
        let output = self.shard.join(&GROUP.into(), join, &FakeCluster::default(), self.now, &self.config);
        self.take(output);
        ticket
    }

    pub fn joined(&mut self, ticket: u64) -> Option<JoinAnswer> {
        let at = self.joins.iter().position(|(known, _)| *known == ticket)?;
        Some(self.joins.remove(at).1)
    }

    /// Joins, taking up the id that is handed out first.
    pub fn enter(&mut self, client: &mut Client) -> u64 {
        let ticket = self.send_join(client);
        if client.instance_id.is_none() && client.version >= 4 && client.member_id.is_empty() {
            let answer = self.joined(ticket).unwrap();
            assert_eq!(answer.error, ErrorCode::MemberIdRequired);
            client.member_id = answer.member_id;
            return self.send_join(client);
        }
        ticket
    }

    pub fn send_sync(&mut self, member: &JoinAnswer, assignments: &[(&Arc<str>, &'static [u8])]) -> u64 {
        self.next += 1;
        let sync = Sync {
            ticket: self.next,
            member_id: member.member_id.clone(),
            instance_id: None,
            generation: member.generation,
            protocol_type: Some("consumer".into()),
            protocol: member.protocol.clone(),
            assignments: assignments.iter().map(|(id, bytes)| (Arc::clone(id), Bytes::from_static(bytes))).collect(),
        };
        let output = self.shard.sync(&GROUP.into(), sync, &FakeCluster::default(), self.now);
        self.take(output);
        self.next
    }

    pub fn synced(&mut self, ticket: u64) -> Option<SyncAnswer> {
        let at = self.syncs.iter().position(|(known, _)| *known == ticket)?;
        Some(self.syncs.remove(at).1)
    }

    pub fn heartbeat(&mut self, member: &JoinAnswer) -> ErrorCode {
        let result = self.shard.heartbeat(&GROUP.into(), &member.member_id, None, member.generation, self.now);
        result.err().unwrap_or(ErrorCode::None)
    }

    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let leaving: Vec<_> = members.iter().map(|(id, instance)| (Arc::from(*id), instance.map(Arc::from))).collect();
        let (results, output) =
            self.shard.leave(&GROUP.into(), &leaving, &FakeCluster::default(), self.now, &self.config);
        self.take(output);
        results
    }

    pub fn commit(&mut self, group: &str, member_id: &str, generation: i32, offset: i64) -> ErrorCode {
        let committer = Committer {
            group: group.into(),
            member_id: member_id.into(),
            instance_id: None,
            generation,
            expire_timestamp: None,
            version: Some(9),
        };
        let commit = Commit {
            topic: "t".into(),
            topic_id: uuid::Uuid::nil(),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: "".into(),
        };
        match self.shard.commit(&committer, vec![commit], self.now) {
            Ok((_, output)) => {
                self.take(output);
                ErrorCode::None
            }
            Err(error) => error,
        }
    }

    pub fn offset(&self, group: &str) -> Option<i64> {
        Some(self.shard.group(group)?.offsets.get("t", 0)?.offset)
    }

    pub fn state(&self) -> &'static str {
        self.shard.group(GROUP).map_or("none", |group| group.kind.state_name())
    }

    /// One member alone, stable in generation 1.
    pub fn alone(&mut self, client: &mut Client) -> JoinAnswer {
        let ticket = self.enter(client);
        let answer = self.joined(ticket).unwrap();
        assert_eq!(answer.error, ErrorCode::None);
        client.member_id = answer.member_id.clone();
        let sync = self.send_sync(&answer, &[(&answer.member_id, b"all")]);
        assert_eq!(self.synced(sync).unwrap().assignment.as_ref(), b"all");
        assert_eq!(self.state(), "Stable");
        answer
    }
}
