//! Share groups: records as Kafka wrote them, members that come and go, and what a replay gives back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Now;
use protocol::api::ErrorCode;
use uuid::Uuid;

use super::ShareGroup;
use super::heartbeat::{Answer, Heartbeat};
use super::state_partitions::ToInitialize;
use crate::group::consumer::heartbeat::Refusal;
use crate::group::environment::Cluster;
use crate::group::output::Output;
use crate::group::records::{Decoded, GroupRecord, decode};
use crate::group::shard::Shard;
use crate::share::config::ShareConfig;

/// Key and value of each record of one group, in the order in which Apache Kafka 4.3.1 wrote them.
const RECORDS: &[(&str, Option<&str>)] = &[
    (
        "000a0009612d672d73686172650016775163356e3566375261474d6c455458353653377677",
        Some("0000000c612d636c692d73686172650b2f3132372e302e302e310205612d747800"),
    ),
    ("000b0009612d672d7368617265", Some("0000000000022280e7898ad782f800")),
    ("000d0009612d672d73686172650016775163356e3566375261474d6c455458353653377677", Some("00000100")),
    ("000c0009612d672d7368617265", Some("000000000002010008000001a1fd5c2ae4")),
    ("000e0009612d672d73686172650016775163356e3566375261474d6c455458353653377677", Some("00000000000200000000000100")),
    ("000f0009612d672d7368617265", Some("000002cd8abc83c59043d98de2869badc9452305612d7478020000000000010100")),
    ("000f0009612d672d7368617265", Some("00000102cd8abc83c59043d98de2869badc9452305612d74780200000000000100")),
    ("000b0009612d672d7368617265", Some("0000000000032280e7898ad782f800")),
    (
        "000d0009612d672d73686172650016775163356e3566375261474d6c455458353653377677",
        Some("000002cd8abc83c59043d98de2869badc9452302000000000000"),
    ),
    ("000c0009612d672d7368617265", Some("000000000003010008000001a1fd5c4030")),
    (
        "000e0009612d672d73686172650016775163356e3566375261474d6c455458353653377677",
        Some("000000000003000000020002cd8abc83c59043d98de2869badc9452302000000000000"),
    ),
    ("000e0009612d672d73686172650016775163356e3566375261474d6c455458353653377677", None),
    ("000d0009612d672d73686172650016775163356e3566375261474d6c455458353653377677", None),
    ("000a0009612d672d73686172650016775163356e3566375261474d6c455458353653377677", None),
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn now(ticks_ms: i64) -> Now {
    Now { wall_ms: 1_000_000 + ticks_ms, ticks_ms }
}

#[test]
fn records_of_kafka_are_read_and_written_to_the_byte() {
    let mut shard = Shard::default();
    let mut members = Vec::new();
    for (offset, (key, value)) in RECORDS.iter().enumerate() {
        let (key, value) = (bytes(key), value.map(bytes));
        let Decoded::Record(record) = decode(&key, value.as_deref()).unwrap() else { panic!("not known") };
        assert_eq!(record.encode().unwrap(), (key, value));
        shard.replay(record, offset as i64, None, now(0));
        let group = shard.group("a-g-share").and_then(|group| group.share()).unwrap();
        members.push((group.members().count(), group.epoch(), group.state_partitions().initialized.len()));
    }
    assert_eq!(members[10], (1, 3, 1));
    assert_eq!(members[13], (0, 3, 1));
}

/// Topics by name, with their numbers of partitions.
struct Topics(BTreeMap<&'static str, i32>);

fn id_of(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(1, |id, byte| id << 8 | u128::from(byte)))
}

impl Cluster for Topics {
    fn topics_version(&self) -> i64 {
        self.0.values().map(|count| i64::from(*count)).sum()
    }

    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.0.get(name).map(|count| (id_of(name), *count))
    }

    fn topic_name(&self, id: Uuid) -> Option<Arc<str>> {
        self.0.keys().find(|name| id_of(name) == id).map(|name| Arc::from(*name))
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        self.0.keys().map(|name| Arc::from(*name)).collect()
    }

    fn group_settings(&self, _group: &str) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

/// A shard with the records it gave, which are replayed after each step.
struct World {
    shard: Shard,
    replayed: Shard,
    topics: Topics,
    config: ShareConfig,
}

impl World {
    fn new() -> Self {
        let topics = Topics(BTreeMap::from([("t", 3), ("u", 1)]));
        Self { shard: Shard::default(), replayed: Shard::default(), topics, config: ShareConfig::default() }
    }

    fn beat(&mut self, at: i64, member: &str, epoch: i32, names: Option<&[&str]>) -> Result<Answer, Refusal> {
        let beat = Heartbeat {
            member_id: Arc::from(member),
            epoch,
            topic_names: names.map(|names| names.iter().map(|name| Arc::from(*name)).collect()),
            ..Heartbeat::default()
        };
        let id = Arc::from("g");
        let made: ToInitialize = self.shard.share_to_initialize(&id, &beat, &self.topics, &self.config);
        let (answer, output) = self.shard.share_heartbeat(&id, &beat, &made, &self.topics, now(at), &self.config)?;
        self.store(output);
        Ok(answer)
    }

    fn store(&mut self, output: Output) {
        for record in &output.records {
            let (key, value) = record.encode().unwrap();
            let Decoded::Record(read) = decode(&key, value.as_deref()).unwrap() else { panic!("not known") };
            assert_eq!(&read, record);
            self.replayed.replay(read, 0, None, now(0));
        }
        assert_eq!(self.shard.image(), self.replayed.image());
    }

    fn group(&self) -> &ShareGroup {
        self.shard.group("g").and_then(|group| group.share()).unwrap()
    }

    fn partitions(answer: &Answer) -> Vec<i32> {
        answer.assignment.iter().flat_map(|topics| topics.values()).flatten().copied().collect()
    }
}

#[test]
fn members_share_the_partitions_and_hear_of_changes() {
    let mut world = World::new();
    let first = world.beat(0, "a", 0, Some(&["t", "missing"])).unwrap();
    assert_eq!((first.epoch, World::partitions(&first), first.heartbeat_interval_ms), (2, vec![], 5_000));
    assert_eq!(world.beat(1, "a", 2, None).unwrap().assignment, None, "too young to be made anew");
    let first = world.beat(1_000, "a", 2, None).unwrap();
    assert_eq!((first.epoch, World::partitions(&first)), (3, vec![0, 1, 2]), "their state is there");
    assert_eq!(world.beat(1_001, "a", 3, None).unwrap().assignment, None, "it knows");
    let repeated = world.beat(1_002, "a", 3, Some(&["t", "missing"])).unwrap();
    assert_eq!(World::partitions(&repeated), [0, 1, 2], "who says what it wants is told what it has");
    let second = world.beat(1_010, "b", 0, Some(&["t"])).unwrap();
    assert_eq!((second.epoch, World::partitions(&second)), (3, vec![]));
    let second = world.beat(2_000, "b", 3, None).unwrap();
    assert_eq!((second.epoch, World::partitions(&second).len()), (4, 1));
    let first = world.beat(2_001, "a", 3, None).unwrap();
    assert_eq!((first.epoch, World::partitions(&first).len()), (4, 2));
    // An answer that was lost: the member repeats itself.
    assert_eq!(world.beat(2_002, "a", 3, None).unwrap().epoch, 4);
    assert_eq!(world.beat(2_003, "a", 2, None).unwrap_err().code, ErrorCode::FencedMemberEpoch);
    assert_eq!(world.beat(2_003, "c", 4, None).unwrap_err().code, ErrorCode::UnknownMemberId);
    world.topics.0.insert("t", 4);
    world.beat(9_000, "a", 4, None).unwrap();
    assert_eq!(world.group().state_partitions().initialized[&id_of("t")].partitions.len(), 4);
    assert_eq!(world.beat(9_001, "b", -1, None).unwrap().epoch, -1);
    let all = world.beat(11_000, "a", 5, None).unwrap();
    assert_eq!(World::partitions(&all), [0, 1, 2, 3]);
}

#[test]
fn a_silent_member_is_dropped_and_an_empty_group_keeps_its_state() {
    let mut world = World::new();
    world.beat(0, "a", 0, Some(&["u"])).unwrap();
    let config = crate::group::config::GroupConfig::default();
    for output in world.shard.step(&world.topics, now(44_999), &config) {
        world.store(output);
    }
    assert_eq!(world.group().members().count(), 1);
    for output in world.shard.step(&world.topics, now(45_000), &config) {
        world.store(output);
    }
    assert_eq!((world.group().members().count(), world.group().state().name()), (0, "Empty"));
    let keys = world.group().state_keys(None);
    assert_eq!(keys.len(), 1);
    let gone = BTreeSet::from([id_of("u")]);
    let (output, forgotten) = world.shard.forget_share_topics(&gone);
    world.store(output);
    assert_eq!((forgotten, world.group().state_keys(None).len()), (keys, 0));
    let output = world.shard.delete_group(&Arc::from("g")).unwrap();
    let last = output.records.last().cloned();
    assert!(matches!(last, Some(GroupRecord::Share { record: super::records::ShareGroupRecord::Group(None), .. })));
}
