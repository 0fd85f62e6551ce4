//! Whatever producers of both protocols ask of a shard, in whatever order its records become durable and markers are
//! written: every transaction ends one way on all its partitions, a fenced producer never gets anything in, and replaying
//! the records gives the state.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says where it failed")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use base::Now;
use broker::transaction::entry::{Change, Decision, EPOCH_BUMPS, Identity};
use broker::transaction::records::{TopicAndPartition, TransactionState, decode, encode_key, encode_value};
use broker::transaction::shard::{Shard, TransactionConfig};
use proptest::prelude::*;
use protocol::api::ErrorCode;

const IDS: usize = 2;
const CLIENTS: usize = 4;
const PARTITIONS: i32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Init { client: usize, own: bool },
    Write { client: usize, partition: i32 },
    End { client: usize, commit: bool },
    Advance { ms: i64 },
    Store { fail: bool },
    Mark,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        3 => (client.clone(), any::<bool>()).prop_map(|(client, own)| Step::Init { client, own }),
        8 => (client.clone(), 0..PARTITIONS).prop_map(|(client, partition)| Step::Write { client, partition }),
        5 => (client, any::<bool>()).prop_map(|(client, commit)| Step::End { client, commit }),
        2 => (100..40_000i64).prop_map(|ms| Step::Advance { ms }),
        12 => (0..12u8).prop_map(|dice| Step::Store { fail: dice == 0 }),
        8 => Just(Step::Mark),
        1 => Just(Step::Restart),
    ]
}

/// Client `n` writes under id `n % IDS`; the upper half speaks the newer protocol.
fn id_of(client: usize) -> Arc<str> {
    format!("id-{}", client % IDS).into()
}

fn bumps(client: usize) -> bool {
    client >= CLIENTS / 2
}

/// What a request will learn once its record is durable.
enum Asked {
    Init(usize),
    Write { identity: Identity, partition: i32 },
    End { client: usize, identity: Identity, commit: bool },
    Nothing,
}

/// A record of a partition: a write, or a marker.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Data(Identity),
    Marker { identity: Identity, commit: bool },
}

struct World {
    shard: Shard,
    config: TransactionConfig,
    now: Now,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    queue: VecDeque<(Box<Change>, Result<Identity, ErrorCode>, Asked)>,
    identities: Vec<Option<Identity>>,
    /// Markers under way: id, identity, commit, partition.
    markers: VecDeque<(Arc<str>, Identity, bool, TopicAndPartition)>,
    partitions: BTreeMap<i32, Vec<Entry>>,
    /// Ends of the newer protocol that were answered, by the identity that asked: one transaction each.
    ended: Vec<(Identity, bool)>,
    next_id: i64,
}

fn place(partition: i32) -> TopicAndPartition {
    ("t".into(), partition)
}

impl World {
    fn new() -> Self {
        Self {
            shard: Shard::default(),
            config: TransactionConfig {
                max_timeout_ms: 900_000,
                id_expiration_ms: 500_000,
                abort_interval_ms: 1_000,
                expiration_interval_ms: 50_000,
            },
            now: Now { wall_ms: 1_000_000, ticks_ms: 0 },
            log: Vec::new(),
            queue: VecDeque::new(),
            identities: vec![None; CLIENTS],
            markers: VecDeque::new(),
            partitions: BTreeMap::new(),
            ended: Vec::new(),
            next_id: 0,
        }
    }

    fn fresh(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    fn decide(&mut self, asked: Asked, mut ask: impl FnMut(&mut Shard, Option<i64>, Now) -> Decision) {
        let mut decision = ask(&mut self.shard, None, self.now);
        if decision == Decision::NeedsProducerId {
            let fresh = self.fresh();
            decision = ask(&mut self.shard, Some(fresh), self.now);
        }
        match decision {
            Decision::Answer(answer) => self.answer(asked, answer),
            Decision::Write(change, answer) => self.queue.push_back((change, answer, asked)),
            Decision::NeedsProducerId => panic!("asked with a new id"),
        }
    }

    fn answer(&mut self, asked: Asked, answer: Result<Identity, ErrorCode>) {
        match (asked, answer) {
            (Asked::Init(client), Ok(identity)) => self.identities[client] = Some(identity),
            (Asked::Write { identity, partition }, Ok(_)) => self.append(identity, partition),
            (Asked::End { client, identity, commit }, Ok(next)) => {
                if !bumps(client) {
                    return;
                }
                self.ended.push((identity, commit));
                if self.identities[client] == Some(identity) {
                    self.identities[client] = Some(next);
                }
            }
            _ => {}
        }
    }

    /// The partition takes the batch unless it knows a newer epoch of the producer.
    fn append(&mut self, identity: Identity, partition: i32) {
        let entries = self.partitions.entry(partition).or_default();
        let newest = entries.iter().rev().find_map(|entry| match entry {
            Entry::Data(known) | Entry::Marker { identity: known, .. } => {
                (known.producer_id == identity.producer_id).then_some(known.epoch)
            }
        });
        if newest.is_none_or(|epoch| epoch <= identity.epoch) {
            entries.push(Entry::Data(identity));
        }
    }

    fn write(&mut self, client: usize, partition: i32) {
        let Some(identity) = self.identities[client] else { return };
        let (id, version) = (id_of(client), if bumps(client) { EPOCH_BUMPS } else { 0 });
        let asked = Asked::Write { identity, partition };
        let partitions = BTreeSet::from([place(partition)]);
        self.decide(asked, |shard, _, now| shard.add(&id, identity, &partitions, version, now));
    }

    fn store(&mut self, fail: bool) {
        let Some((change, answer, asked)) = self.queue.pop_front() else { return };
        if fail {
            self.shard.stored(&change, Err(ErrorCode::NotCoordinator));
            return self.answer(asked, Err(ErrorCode::NotCoordinator));
        }
        self.log.push((encode_key(&change.id), change.value.as_ref().map(|value| encode_value(value, 2))));
        self.shard.stored(&change, Ok(()));
        self.answer(asked, answer);
        if change.value.as_ref().is_some_and(|value| value.state.is_prepared()) {
            self.mark_all(&change.id);
        }
    }

    fn mark_all(&mut self, id: &Arc<str>) {
        let entry = self.shard.entry(id).unwrap();
        let (identity, commit) = (entry.identity(), entry.value().state == TransactionState::PrepareCommit);
        if entry.unmarked().is_empty() {
            if let Some(change) = self.shard.complete(id, self.now) {
                self.queue.push_back((change, Ok(identity), Asked::Nothing));
            }
            return;
        }
        for partition in entry.unmarked().clone() {
            self.markers.push_back((Arc::clone(id), identity, commit, partition));
        }
    }

    fn mark(&mut self) {
        let Some((id, identity, commit, partition)) = self.markers.pop_front() else { return };
        self.partitions.entry(partition.1).or_default().push(Entry::Marker { identity, commit });
        if let Some(change) = self.shard.marked(&id, identity, &partition, self.now) {
            self.queue.push_back((change, Ok(identity), Asked::Nothing));
        }
    }

    /// What is not durable is gone, and the state is what the log says.
    fn restart(&mut self) {
        self.queue.clear();
        self.markers.clear();
        let image = self.shard.image();
        self.shard = self.replayed();
        assert_eq!(self.shard.image(), image);
        for id in self.shard.prepared() {
            self.mark_all(&id);
        }
    }

    fn replayed(&self) -> Shard {
        let mut shard = Shard::default();
        for (key, value) in &self.log {
            let (id, value) = decode(key, value.as_deref()).unwrap();
            shard.replay(id, value);
        }
        shard
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Init { client, own } => {
                let (id, own) = (id_of(client), self.identities[client].filter(|_| own));
                self.decide(Asked::Init(client), |shard, fresh, now| shard.init(&id, 60_000, own, fresh, now));
            }
            Step::Write { client, partition } => self.write(client, partition),
            Step::End { client, commit } => {
                let Some(identity) = self.identities[client] else { return };
                let id = id_of(client);
                let asked = Asked::End { client, identity, commit };
                self.decide(asked, |shard, fresh, now| shard.end(&id, identity, commit, bumps(client), fresh, now));
            }
            Step::Advance { ms } => {
                self.now = Now { wall_ms: self.now.wall_ms + ms, ticks_ms: self.now.ticks_ms + ms };
                let wake = self.shard.next_wake(self.now, &self.config);
                let changes = self.shard.step(self.now, &self.config);
                assert!(changes.is_empty() || wake.is_some_and(|wake| wake <= self.now.ticks_ms), "woken too late");
                self.queue.extend(changes.into_iter().map(|change| (change, Err(ErrorCode::None), Asked::Nothing)));
            }
            Step::Store { fail } => self.store(fail),
            Step::Mark => self.mark(),
            Step::Restart => self.restart(),
        }
    }

    fn settle(&mut self) {
        while !self.queue.is_empty() || !self.markers.is_empty() {
            self.store(false);
            self.mark();
        }
    }

    /// On every partition the data of a producer's epoch is followed by one kind of marker, the same on all partitions.
    fn check(&self) {
        let mut outcomes: BTreeMap<(i64, i16), bool> = BTreeMap::new();
        for entries in self.partitions.values() {
            let mut open: BTreeMap<i64, Identity> = BTreeMap::new();
            for entry in entries {
                match entry {
                    Entry::Data(identity) => {
                        open.insert(identity.producer_id, *identity);
                    }
                    Entry::Marker { identity, commit } => {
                        if let Some(data) = open.remove(&identity.producer_id) {
                            assert!(data.epoch <= identity.epoch, "{data:?} ended by an older epoch");
                            if data.epoch < identity.epoch {
                                // The newer protocol, or a fence: one transaction per epoch.
                                let key = (data.producer_id, data.epoch);
                                let known = outcomes.entry(key).or_insert(*commit);
                                assert_eq!(known, commit, "one transaction, two ends");
                            }
                        }
                    }
                }
            }
            for (producer, identity) in open {
                let current = self.shard.entries().map(|(_, entry)| entry).find(|entry| entry.identity() == identity);
                let ongoing = current.is_some_and(|entry| entry.value().state == TransactionState::Ongoing);
                assert!(ongoing, "a transaction of producer {producer} hangs: {identity:?}");
            }
        }
        for (identity, commit) in &self.ended {
            if let Some(outcome) = outcomes.get(&(identity.producer_id, identity.epoch)) {
                assert_eq!(outcome, commit, "{identity:?} was told something else");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_transaction_ends_one_way_and_replay_gives_the_state(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.settle();
        world.check();
        prop_assert_eq!(world.replayed().image(), world.shard.image());
    }
}
