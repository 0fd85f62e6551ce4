//! Keys and values of `__consumer_offsets` against bytes that the reference (Apache Kafka 4.3.1) wrote.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod group_cluster;

use broker::group::classic::Join;
use broker::group::config::GroupConfig;
use broker::group::coordinator::replay_batch;
use broker::group::records::{Decoded, GroupRecord, OffsetValue, decode};
use broker::group::shard::Shard;
use bytes::Bytes;
use group_cluster::FakeCluster;
use protocol::record::batches;

const PARTITION_0: &[u8] = include_bytes!("data/consumer-offsets-0.log");
const PARTITION_1: &[u8] = include_bytes!("data/consumer-offsets-1.log");
const NOW: base::Now = base::Now { wall_ms: 1_795_252_050_000, ticks_ms: 1_000 };

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn record(key: &[u8], value: Option<&[u8]>) -> GroupRecord {
    match decode(key, value).unwrap() {
        Decoded::Record(record) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_committed_offset_is_what_the_reference_wrote() {
    let key = hex("0001000b612d672d636c61737369630008612d6576656e747300000000");
    let value = hex("000400000000000000360000000001000001a1fd5bf3ea010010e3a6c63730b640699bfbad951d800815");
    let read = record(&key, Some(&value));
    let expected = GroupRecord::Offset {
        group: "a-g-classic".into(),
        topic: "a-events".into(),
        partition: 0,
        value: Some(OffsetValue {
            offset: 54,
            leader_epoch: 0,
            metadata: "".into(),
            commit_timestamp: 1_795_252_024_298,
            expire_timestamp: None,
            topic_id: "e3a6c637-30b6-4069-9bfb-ad951d800815".parse().unwrap(),
        }),
    };
    assert_eq!(read, expected);
    assert_eq!(read.encode().unwrap(), (key, Some(value)));
}

#[test]
fn a_commit_without_topic_id_has_no_tag() {
    let key = hex("00010007612d672d74786e0008612d6576656e747300000000");
    let value = hex("00040000000000000005000000000974786e2d6d657461000001a1fd5bde0800");
    assert_eq!(record(&key, Some(&value)).encode().unwrap(), (key, Some(value)));
}

#[test]
fn a_commit_with_an_expiry_of_its_own_uses_version_1() {
    let value = OffsetValue {
        offset: 7,
        leader_epoch: -1,
        metadata: "m".into(),
        commit_timestamp: 5,
        expire_timestamp: Some(9),
        topic_id: uuid::Uuid::nil(),
    };
    let written = GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 2, value: Some(value) };
    let (key, bytes) = written.encode().unwrap();
    assert_eq!(bytes.as_deref(), Some(&hex("0001000000000000000700016d00000000000000050000000000000009")[..]));
    assert_eq!(record(&key, bytes.as_deref()), written);
}

#[test]
fn older_versions_are_read() {
    let key = hex("000000016700017400000003");
    for (value, epoch) in [
        ("0000000000000000000900016d0000000000000005", -1),
        ("0002000000000000000900016d0000000000000005", -1),
        ("000300000000000000090000000400016d0000000000000005", 4),
    ] {
        let GroupRecord::Offset { partition: 3, value: Some(value), .. } = record(&key, Some(&hex(value))) else {
            panic!("{value}")
        };
        assert_eq!((value.offset, value.leader_epoch, &*value.metadata, value.commit_timestamp), (9, epoch, "m", 5));
    }
    let key = hex("0002000167");
    // Version 0: no state timestamp, no rebalance timeout, no instance id.
    let value =
        hex("00000001 63 00000003 0001 70 0001 6d 00000001 0001 6d 0001 69 0001 68 00000064 00000001 aa 00000001 bb"
            .replace(' ', "")
            .as_str());
    let GroupRecord::Group { value: Some(group), .. } = record(&key, Some(&value)) else { panic!() };
    assert_eq!((group.generation, group.state_timestamp), (3, -1));
    assert_eq!((group.members[0].rebalance_timeout_ms, group.members[0].session_timeout_ms), (100, 100));
}

#[test]
fn cut_and_damaged_records_are_refused() {
    let key = hex("0002000b612d672d636c6173736963");
    let whole = record_of_group_with_a_member();
    for end in 0..whole.len() {
        assert!(decode(&key, Some(&whole[..end])).is_err(), "cut at {end}");
    }
    assert!(decode(&key[..5], None).is_err());
    assert!(decode(&hex("0009"), None).is_ok_and(|read| read == Decoded::Other { key_type: 9 }));
    assert!(decode(&key, Some(&hex("0009"))).is_err(), "unknown value version");
    // A member count that no memory could hold.
    assert!(decode(&key, Some(&hex("0003000000000000ffffffff000001a1fd5bf3307fffffff"))).is_err());
}

fn record_of_group_with_a_member() -> Vec<u8> {
    let mut found = None;
    each_record(PARTITION_0, |key, value| {
        if let (Decoded::Record(GroupRecord::Group { value: Some(group), .. }), Some(value)) =
            (decode(key, value).unwrap(), value)
            && !group.members.is_empty()
        {
            found = Some(value.to_vec());
        }
    });
    found.unwrap()
}

fn each_record(log: &'static [u8], mut visit: impl FnMut(&[u8], Option<&[u8]>)) {
    for batch in batches(&Bytes::from_static(log)) {
        let batch = batch.unwrap();
        if batch.header().attributes.is_control() {
            continue;
        }
        for record in &batch.records().unwrap() {
            let record = record.unwrap();
            visit(record.key.unwrap(), record.value);
        }
    }
}

#[test]
fn every_record_is_written_as_the_reference_writes_it() {
    let mut records = 0;
    for log in [PARTITION_0, PARTITION_1] {
        each_record(log, |key, value| match decode(key, value).unwrap() {
            // Kafka writes topics in the order of a hash map.
            Decoded::Record(record @ GroupRecord::Consumer { .. }) => {
                records += 1;
                let (key_written, value_written) = record.encode().unwrap();
                assert_eq!((&key_written[..], value_written.as_ref().map(Vec::len)), (key, value.map(<[u8]>::len)));
                assert_eq!(decode(&key_written, value_written.as_deref()).unwrap(), Decoded::Record(record));
            }
            Decoded::Record(record) => {
                records += 1;
                assert_eq!(record.encode().unwrap(), (key.to_vec(), value.map(<[u8]>::to_vec)), "{record:?}");
            }
            Decoded::Other { key_type } => panic!("records of type {key_type} are known"),
        });
    }
    assert_eq!(records, 63);
}

fn replayed(log: &'static [u8]) -> Shard {
    let mut shard = Shard::default();
    for batch in batches(&Bytes::from_static(log)) {
        replay_batch(&mut shard, &batch.unwrap(), NOW);
    }
    shard.loaded(NOW, &GroupConfig::default(), &FakeCluster::default());
    shard
}

#[test]
fn groups_and_offsets_of_the_reference_are_read() {
    let shard = replayed(PARTITION_0);
    let offset = |group: &str, topic: &str, partition| {
        shard.group(group).and_then(|group| group.offsets.get(topic, partition)).map(|value| value.offset)
    };
    assert_eq!(offset("a-g-classic", "a-events", 0), Some(54));
    assert_eq!(offset("a-g-classic", "a-events", 1), Some(51));
    assert_eq!(offset("a-g-static", "a-tx", 0), Some(3));
    assert_eq!(offset("a-g-simple", "a-events", 0), Some(11));
    assert_eq!(offset("a-g-txn", "a-events", 0), Some(5), "committed by a transaction");
    let state = |group: &str| {
        let group = &shard.group(group).unwrap().classic().unwrap();
        (group.state().name(), group.generation(), group.members().count())
    };
    assert_eq!(state("a-g-classic"), ("Empty", 2, 0));
    assert_eq!(state("a-g-static"), ("Stable", 1, 1));
    assert_eq!(state("a-g-simple"), ("Empty", 0, 0));
    assert!(shard.group("a-g-static").unwrap().kind.is_subscribed("a-events"));

    let shard = replayed(PARTITION_1);
    assert!(shard.group("a-g-deleted").is_none());
    assert_eq!(shard.group("a-app").unwrap().offsets.get("a-streams-in", 1).unwrap().offset, 4);
}

#[test]
fn consumer_groups_of_the_reference_are_read() {
    let shard = replayed(PARTITION_1);
    let group = shard.group("a-g-modern").unwrap();
    assert_eq!(
        (group.kind.name(), group.kind.state_name(), group.kind.protocol_type()),
        ("consumer", "Stable", Some("consumer"))
    );
    let group = group.consumer().unwrap();
    assert_eq!((group.epoch(), group.target_epoch()), (2, 2));
    let member = group.members().next().unwrap();
    assert_eq!(member.current.assigned.values().map(|partitions| partitions.len()).collect::<Vec<_>>(), [1, 2]);
    assert!(group.is_subscribed("a-table") && !group.is_subscribed("a-tx"));
    let regex = shard.group("a-g-regex").unwrap().consumer().unwrap();
    assert!(regex.is_subscribed("a-tx"), "by its regular expression");
}

#[test]
fn a_member_that_stays_silent_after_a_restart_is_dropped_and_its_group_can_become_classic() {
    let mut shard = replayed(PARTITION_1);
    let config = GroupConfig::default();
    let id: std::sync::Arc<str> = "a-g-modern".into();
    let kept = shard.group(&id).unwrap().offsets.iter().count();
    assert!(kept > 0);
    let after = |ms: i64| base::Now { wall_ms: NOW.wall_ms + ms, ticks_ms: NOW.ticks_ms + ms };
    assert!(shard.step(&FakeCluster::default(), after(44_999), &config).is_empty());
    assert_eq!(shard.delete_group(&id).unwrap_err(), protocol::api::ErrorCode::NonEmptyGroup);
    let outputs = shard.step(&FakeCluster::default(), after(45_000), &config);
    let modern = outputs.iter().find(|output| {
        output.records.iter().any(|record| matches!(record, GroupRecord::Consumer { group, .. } if *group == id))
    });
    assert_eq!(modern.unwrap().records.len(), 4, "three removals and the group's new epoch");
    assert_eq!(shard.group(&id).unwrap().kind.state_name(), "Empty");

    let join = Join {
        ticket: 1,
        version: 3,
        member_id: "".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"m"))],
        fresh_uuid: "u".into(),
    };
    let out = shard.join(&id, join, &FakeCluster::default(), after(45_000), &config);
    assert_eq!(
        out.records.first().and_then(|record| record.encode().unwrap().1),
        None,
        "the consumer group is removed"
    );
    let group = shard.group(&id).unwrap();
    assert_eq!((group.kind.name(), group.offsets.iter().count()), ("classic", kept));
}
