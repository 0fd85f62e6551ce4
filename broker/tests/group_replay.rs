//! Whatever is asked of a shard, in whatever order its records become durable: replaying them gives its state.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod group_cluster;

use std::collections::VecDeque;
use std::sync::Arc;

use base::Now;
use broker::group::classic::{Join, Sync};
use broker::group::config::GroupConfig;
use broker::group::output::{JoinAnswer, Output};
use broker::group::records::{Decoded, GroupRecord, decode};
use broker::group::shard::{Commit, Committer, Shard};
use bytes::Bytes;
use group_cluster::FakeCluster;
use proptest::prelude::*;
use protocol::api::ErrorCode;

const GROUPS: usize = 2;
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Join { group: usize, client: usize, metadata: u8, version: i16 },
    Sync { group: usize, client: usize },
    Heartbeat { group: usize, client: usize },
    Leave { group: usize, client: usize },
    Commit { group: usize, client: Option<usize>, partition: i32, offset: i64 },
    DeleteOffset { group: usize, partition: i32 },
    DeleteGroup { group: usize },
    Advance { ms: i64 },
    Store { fail: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let group = 0..GROUPS;
    let client = 0..CLIENTS;
    prop_oneof![
        6 => (group.clone(), client.clone(), 0..3u8, prop_oneof![Just(3i16), Just(9i16)])
            .prop_map(|(group, client, metadata, version)| Step::Join { group, client, metadata, version }),
        6 => (group.clone(), client.clone()).prop_map(|(group, client)| Step::Sync { group, client }),
        2 => (group.clone(), client.clone()).prop_map(|(group, client)| Step::Heartbeat { group, client }),
        2 => (group.clone(), client.clone()).prop_map(|(group, client)| Step::Leave { group, client }),
        4 => (group.clone(), proptest::option::of(client), 0..3i32, 0..100i64)
            .prop_map(|(group, client, partition, offset)| Step::Commit { group, client, partition, offset }),
        1 => (group.clone(), 0..3i32).prop_map(|(group, partition)| Step::DeleteOffset { group, partition }),
        1 => group.prop_map(|group| Step::DeleteGroup { group }),
        2 => (100..30_000i64).prop_map(|ms| Step::Advance { ms }),
        8 => (0..10u8).prop_map(|dice| Step::Store { fail: dice == 0 }),
        1 => Just(Step::Restart),
    ]
}

/// Clients that do what their last answers say, a log, and a queue of what is not durable yet.
struct World {
    shard: Shard,
    config: GroupConfig,
    now: Now,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    queue: VecDeque<Output>,
    joined: Vec<Vec<Option<JoinAnswer>>>,
    tickets: Vec<(u64, usize, usize)>,
    answered: std::collections::BTreeSet<u64>,
    next: u64,
}

fn group_id(group: usize) -> Arc<str> {
    format!("group-{group}").into()
}

/// Clients 0 and 1 are static members.
fn instance_of(client: usize) -> Option<Arc<str>> {
    (client < 2).then(|| format!("instance-{client}").into())
}

impl World {
    fn new() -> Self {
        Self {
            shard: Shard::default(),
            config: GroupConfig {
                initial_rebalance_delay_ms: 0,
                retention_check_interval_ms: 5_000,
                offsets_retention_ms: 40_000,
                ..GroupConfig::default()
            },
            now: Now { wall_ms: 1_000_000, ticks_ms: 0 },
            log: Vec::new(),
            queue: VecDeque::new(),
            joined: vec![vec![None; CLIENTS]; GROUPS],
            tickets: Vec::new(),
            answered: Default::default(),
            next: 0,
        }
    }

    fn take(&mut self, output: Output) {
        if !output.records.is_empty() {
            self.queue.push_back(output);
            return;
        }
        for (ticket, answer) in output.joins {
            assert!(self.answered.insert(ticket), "join {ticket} was answered twice");
            if let Some((_, group, client)) = self.tickets.iter().find(|(known, ..)| *known == ticket) {
                self.joined[*group][*client] = Some(answer);
            }
        }
        for (ticket, _) in output.syncs {
            assert!(self.answered.insert(ticket), "sync {ticket} was answered twice");
        }
    }

    fn store(&mut self, fail: bool) {
        let Some(output) = self.queue.pop_front() else { return };
        // A group's own passage to Empty goes ahead of the log (as in Kafka), so only what waits for the log may fail.
        let result = if fail && output.continuation.is_some() {
            Err(ErrorCode::NotCoordinator)
        } else {
            let first = self.log.len() as i64;
            self.log.extend(output.records.iter().map(|record| record.encode().unwrap()));
            Ok(first)
        };
        let next = self.shard.stored(output, result, self.now, &self.config);
        self.take(next);
    }

    fn replayed(&self) -> Shard {
        let mut shard = Shard::default();
        for (offset, (key, value)) in self.log.iter().enumerate() {
            let Decoded::Record(record) = decode(key, value.as_deref()).unwrap() else { panic!() };
            shard.replay(record, offset as i64, None, self.now);
        }
        shard.loaded(self.now, &self.config, &FakeCluster::default());
        shard
    }

    fn run(&mut self, step: Step) {
        self.next += 1;
        let ticket = self.next;
        match step {
            Step::Join { group, client, metadata, version } => {
                let known = self.joined[group][client].as_ref();
                // A static client now and then comes as a new process.
                let fresh = instance_of(client).is_some() && metadata == 2;
                let member_id = known.filter(|_| !fresh).map(|answer| answer.member_id.clone());
                let join = Join {
                    ticket,
                    version,
                    member_id: member_id.unwrap_or_else(|| "".into()),
                    instance_id: instance_of(client),
                    client_id: format!("client-{client}").into(),
                    client_host: "/h".into(),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 15_000,
                    protocol_type: "consumer".into(),
                    protocols: vec![("p".into(), Bytes::from(vec![metadata.min(1)]))],
                    fresh_uuid: format!("u{ticket}").into(),
                };
                self.tickets.push((ticket, group, client));
                let output = self.shard.join(&group_id(group), join, &FakeCluster::default(), self.now, &self.config);
                self.take(output);
            }
            Step::Sync { group, client } => {
                let Some(answer) = self.joined[group][client].clone() else { return };
                let members = answer.members.iter();
                let assignments = members
                    .map(|member| (member.member_id.clone(), Bytes::from(format!("{}-{ticket}", member.member_id))))
                    .collect();
                let sync = Sync {
                    ticket,
                    member_id: answer.member_id,
                    instance_id: instance_of(client),
                    generation: answer.generation,
                    protocol_type: None,
                    protocol: None,
                    assignments,
                };
                let output = self.shard.sync(&group_id(group), sync, &FakeCluster::default(), self.now);
                self.take(output);
            }
            Step::Heartbeat { group, client } => {
                let Some(answer) = self.joined[group][client].clone() else { return };
                let instance = instance_of(client);
                let id = group_id(group);
                let _ = self.shard.heartbeat(&id, &answer.member_id, instance.as_deref(), answer.generation, self.now);
            }
            Step::Leave { group, client } => {
                let Some(answer) = self.joined[group][client].take() else { return };
                let leaving = [(answer.member_id, None)];
                let (_, output) =
                    self.shard.leave(&group_id(group), &leaving, &FakeCluster::default(), self.now, &self.config);
                self.take(output);
            }
            Step::Commit { group, client, partition, offset } => {
                let member = client.and_then(|client| self.joined[group][client].clone());
                let committer = Committer {
                    group: group_id(group),
                    member_id: member.as_ref().map_or_else(|| "".into(), |member| member.member_id.clone()),
                    instance_id: None,
                    generation: member.map_or(-1, |member| member.generation),
                    expire_timestamp: (offset % 10 == 0).then_some(self.now.wall_ms + 20_000),
                    version: Some(9),
                };
                let commit = Commit {
                    topic: "t".into(),
                    topic_id: uuid::Uuid::from_u128(offset as u128),
                    partition,
                    offset,
                    leader_epoch: if offset % 10 == 0 { -1 } else { 3 },
                    metadata: "m".into(),
                };
                let commit = if offset % 10 == 0 { Commit { topic_id: uuid::Uuid::nil(), ..commit } } else { commit };
                if let Ok((_, output)) = self.shard.commit(&committer, vec![commit], self.now) {
                    self.take(output);
                }
            }
            Step::DeleteOffset { group, partition } => {
                if let Ok((_, output)) = self.shard.delete_offsets(&group_id(group), &[("t".into(), partition)]) {
                    self.take(output);
                }
            }
            Step::DeleteGroup { group } => {
                if let Ok(output) = self.shard.delete_group(&group_id(group)) {
                    self.take(output);
                }
            }
            Step::Advance { ms } => {
                self.now.wall_ms += ms;
                self.now.ticks_ms += ms;
                for output in self.shard.step(&FakeCluster::default(), self.now, &self.config) {
                    self.take(output);
                }
            }
            Step::Store { fail } => self.store(fail),
            Step::Restart => {
                // What was not durable is lost; who waited is disconnected.
                self.queue.clear();
                self.shard = self.replayed();
            }
        }
    }
}

/// Runs `steps`, lets everything become durable, and compares the shard with what its log says.
fn check_replay(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for step in steps {
        world.run(step);
    }
    while !world.queue.is_empty() {
        world.store(false);
    }
    let (live, replayed) = (world.shard.image(), world.replayed().image());
    for (id, image) in &live {
        let again = replayed.get(id);
        prop_assert_eq!(&image.offsets, &again.map(|again| again.offsets.clone()).unwrap_or_default(), "{}", id);
        if let Some(group) = &image.group {
            prop_assert_eq!(Some(group), again.and_then(|again| again.group.as_ref()), "{}", id);
        }
    }
    for (id, image) in &replayed {
        prop_assert!(live.contains_key(id) || image.offsets.is_empty(), "{} is only in the log", id);
    }
    Ok(())
}

#[test]
fn a_group_that_is_being_removed_for_age_is_not_removed_again_from_the_one_that_follows_it() {
    let commit = Step::Commit { group: 1, client: None, partition: 1, offset: 0 };
    let store = Step::Store { fail: false };
    let check = Step::Advance { ms: 15_000 };
    let delete = Step::DeleteGroup { group: 1 };
    let checks = [check.clone(), check.clone(), check];
    let steps = [vec![commit.clone(), store.clone()], checks.to_vec(), vec![store.clone(), commit, store, delete]];
    check_replay(steps.concat()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replaying_the_records_gives_the_state(steps in proptest::collection::vec(step(), 1..120)) {
        check_replay(steps)?;
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(key in proptest::collection::vec(any::<u8>(), 0..40), value in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode(&key, Some(&value));
        let _ = decode(&key, None);
        let mut typed = vec![0, 2, 0, 1, b'g'];
        typed.extend_from_slice(&[]);
        let _ = decode(&typed, Some(&value));
    }

    #[test]
    fn every_record_is_read_as_it_was_written(
        group in ".{0,20}", topic in ".{0,20}", partition in any::<i32>(), offset in any::<i64>(), metadata in ".{0,200}", id in any::<u128>(),
    ) {
        let value = broker::group::records::OffsetValue {
            offset,
            leader_epoch: partition,
            metadata: metadata.into(),
            commit_timestamp: offset,
            expire_timestamp: None,
            topic_id: uuid::Uuid::from_u128(id),
        };
        let record = GroupRecord::Offset { group: group.into(), topic: topic.into(), partition, value: Some(value) };
        let (key, bytes) = record.encode().unwrap();
        prop_assert_eq!(decode(&key, bytes.as_deref()).unwrap(), Decoded::Record(record));
    }
}
