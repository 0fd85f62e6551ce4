//! Members of the consumer protocol under whatever may happen, drawn from seeds: joins, leaves, failures, moved coordinators, new
//! topics, slow owners. No partition is had by two members, no record is lost, and in the end every partition is read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod consumer_support;

use std::collections::BTreeMap;
use std::task::Waker;

use base::{Clock, Rng, TopicName, TopicPartition};
use client::consumer::{ConsumerConfig, ConsumerCore, ConsumerEvent, GroupProtocol, OffsetReset};
use consumer_support::{Cluster, settle, take};
use proptest::prelude::*;
use protocol::api::{ApiKey, ErrorCode};

/// Answers that cost a member nothing but time.
const HARMLESS: &[(ApiKey, ErrorCode)] = &[
    (ApiKey::ConsumerGroupHeartbeat, ErrorCode::CoordinatorLoadInProgress),
    (ApiKey::ConsumerGroupHeartbeat, ErrorCode::NotCoordinator),
    (ApiKey::OffsetCommit, ErrorCode::StaleMemberEpoch),
    (ApiKey::OffsetCommit, ErrorCode::CoordinatorLoadInProgress),
    (ApiKey::OffsetFetch, ErrorCode::StaleMemberEpoch),
];
const FENCING: &[ErrorCode] = &[ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId];

struct Member {
    core: ConsumerCore,
    /// Owes the core the acknowledgement of a revocation.
    owes: bool,
    /// What its events say it has.
    has: Vec<TopicPartition>,
}

struct World {
    cluster: Cluster,
    rng: Rng,
    members: Vec<Member>,
    leaving: Vec<Member>,
    next_seed: u64,
    written: u32,
    read: BTreeMap<String, u32>,
    /// A member was fenced: what it read may be read again.
    fenced: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let cluster = Cluster::new();
        cluster.topic("t0", 3);
        let rng = Rng::from_seed(seed);
        let (members, leaving, read) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { cluster, rng, members, leaving, next_seed: 1, written: 0, read, fenced: false }
    }

    fn join(&mut self) {
        let config = ConsumerConfig::default()
            .group_id("g".to_owned())
            .group_protocol(GroupProtocol::Consumer)
            .auto_offset_reset(OffsetReset::Earliest)
            .auto_commit_interval_ms(2_000);
        let mut core = self.cluster.consumer(self.next_seed, config);
        self.next_seed += 1;
        match self.rng.below(3) {
            0 => core.subscribe_pattern("t.*").unwrap(),
            _ => core.subscribe(["t0", "t1", "t2"].map(TopicName::from), Vec::new()).unwrap(),
        }
        self.members.push(Member { core, owes: false, has: Vec::new() });
    }

    fn act(&mut self, may_fence: bool) {
        match self.rng.below(12) {
            0 if self.members.len() < 4 => self.join(),
            1 if self.members.len() > 1 => {
                let index = self.rng.below(self.members.len() as u64) as usize;
                let mut member = self.members.swap_remove(index);
                member.core.begin_close();
                self.leaving.push(member);
            }
            2 => {
                let (api, code) = HARMLESS[self.rng.below(HARMLESS.len() as u64) as usize];
                self.cluster.fail(api, code);
            }
            3 if may_fence => {
                self.fenced = true;
                let code = FENCING[self.rng.below(2) as usize];
                self.cluster.fail(ApiKey::ConsumerGroupHeartbeat, code);
            }
            4 => {
                let mut state = self.cluster.state.lock();
                state.coordinator = 1 - state.coordinator;
            }
            5 => {
                let topics = self.cluster.state.lock().topics.len();
                if topics < 3 {
                    self.cluster.topic(&format!("t{topics}"), 2);
                }
            }
            6 | 7 => self.write(),
            _ => {
                let ms = self.rng.below(4_000) as i64;
                self.cluster.advance(ms);
            }
        }
        self.step(false);
    }

    fn write(&mut self) {
        let topics: Vec<(String, usize)> = {
            let state = self.cluster.state.lock();
            state.topics.iter().map(|(name, topic)| (name.clone(), topic.partitions.len())).collect()
        };
        let (name, partitions) = &topics[self.rng.below(topics.len() as u64) as usize];
        let partition = self.rng.below(*partitions as u64) as usize;
        self.cluster.append(name, partition, &[&self.written.to_string()]);
        self.written += 1;
    }

    /// Steps members, some of them; acknowledges what is revoked, now or later.
    fn step(&mut self, all: bool) {
        let now = self.cluster.clock.now();
        for member in self.members.iter_mut().chain(&mut self.leaving) {
            if !all && self.rng.chance(1, 3) {
                continue;
            }
            let _ = member.core.step(now, Waker::noop());
            for values in take(&mut member.core) {
                let (_, values) = values.split_once(": ").unwrap();
                values.split(' ').for_each(|value| *self.read.entry(value.to_owned()).or_default() += 1);
            }
            for event in member.core.take_events() {
                match event {
                    ConsumerEvent::Assigned(new) => member.has.extend(new),
                    ConsumerEvent::Revoked(gone) | ConsumerEvent::Lost(gone) => {
                        assert!(!member.owes, "told of more before the last was acknowledged");
                        assert!(gone.iter().all(|name| member.has.contains(name)), "{gone:?} of {:?}", member.has);
                        member.has.retain(|name| !gone.contains(name));
                        member.owes = true;
                    }
                    other => panic!("{other:?}"),
                }
            }
            if member.owes && (all || self.rng.chance(1, 2)) {
                member.owes = false;
                member.core.revocation_done();
            }
            assert!(member.core.take_error().is_none());
        }
        self.leaving.retain(|member| !member.core.is_closed());
        if !self.fenced {
            let mut had: Vec<TopicPartition> =
                self.members.iter().chain(&self.leaving).flat_map(|member| member.core.assignment()).collect();
            let count = had.len();
            had.sort();
            had.dedup();
            assert_eq!(had.len(), count, "a partition is had twice");
        }
    }

    fn end(mut self) {
        self.cluster.state.lock().failures.clear();
        for _ in 0..200 {
            self.cluster.advance(500);
            for _ in 0..4 {
                self.step(true);
            }
        }
        assert!(self.leaving.is_empty(), "a member did not leave");
        let mut had: Vec<TopicPartition> = self.members.iter().flat_map(|member| member.core.assignment()).collect();
        had.sort();
        let all: Vec<TopicPartition> = {
            let state = self.cluster.state.lock();
            let of = |(name, count): (&String, usize)| {
                let name = name.clone();
                (0..count as i32).map(move |partition| TopicPartition::new(name.as_str(), partition))
            };
            state.topics.iter().map(|(name, topic)| (name, topic.partitions.len())).flat_map(of).collect()
        };
        assert_eq!(had, all, "what is read in the end");
        assert!(self.members.iter().all(|member| member.core.is_stable()));
        assert_eq!(self.read.len() as u32, self.written, "records lost");
        if !self.fenced {
            assert!(self.read.values().all(|times| *times == 1), "read twice: {:?}", self.read);
        }
        let mut cores: Vec<&mut ConsumerCore> = self.members.iter_mut().map(|member| &mut member.core).collect();
        settle(&self.cluster, &mut cores);
    }
}

fn survive(seed: u64, may_fence: bool) {
    let mut world = World::new(seed);
    world.join();
    for _ in 0..150 {
        world.act(may_fence);
    }
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_read_twice_while_nobody_is_fenced(seed in any::<u64>()) {
        survive(seed, false);
    }

    #[test]
    fn nothing_is_lost_when_members_are_fenced(seed in any::<u64>()) {
        survive(seed, true);
    }
}
