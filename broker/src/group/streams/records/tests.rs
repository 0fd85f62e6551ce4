//! Records that Apache Kafka 4.3.1 wrote for a word count that found its topics missing first, read and written back.

use super::*;
use proptest::prelude::*;

/// Key and value, in the order of the log.
const KAFKAS: &[(&str, &str)] = &[
    (
        "00130005612d61707000166d6153705a43413852722d43516c5730664e47427577",
        "0000000026612d636c692d73747265616d732d53747265616d5468726561642d312d636f6e73756d65720b2f3132372e302e302e31000493e0000000002534333065626135352d373364352d343230642d383333332d323139663632316437383366ff0100",
    ),
    (
        "00170005612d617070",
        "000000000000030230020d612d73747265616d732d696e01010216612d6170702d6772702d7265706172746974696f6e010100023101010217612d6170702d636f756e74732d6368616e67656c6f6700000000ffff030f636c65616e75702e706f6c69637908636f6d7061637400176d6573736167652e74696d657374616d702e747970650b43726561746554696d650000010216612d6170702d6772702d7265706172746974696f6e00000000ffff050f636c65616e75702e706f6c6963790764656c65746500176d6573736167652e74696d657374616d702e747970650b43726561746554696d65000d726574656e74696f6e2e6d73032d31000e7365676d656e742e62797465730935323432383830300000010000",
    ),
    ("00110005612d617070", "0000000000024029602a156d289301011902156e756d2e7374616e6462792e7265706c69636173023000"),
    ("00150005612d61707000166d6153705a43413852722d43516c5730664e47427577", "000001010100"),
    ("00140005612d617070", "000000000002010008000001a1fd5bf9c7"),
    ("00160005612d61707000166d6153705a43413852722d43516c5730664e47427577", "000000000002000000000101010101010100"),
    (
        "00110005612d617070",
        "00000000000316c1003cdedde32802000400000000011902156e756d2e7374616e6462792e7265706c69636173023000",
    ),
    (
        "00150005612d61707000166d6153705a43413852722d43516c5730664e47427577",
        "000003023003000000000000000100023103000000000000000100010100",
    ),
    ("00140005612d617070", "000000000003010008000001a1fd5c0d9d"),
    (
        "00160005612d61707000166d6153705a43413852722d43516c5730664e47427577",
        "00000000000300000002010302300300000000000000010100090300000003000000030231030000000000000001010009030000000300000003010101010100",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    let pairs =
        hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    pairs.collect()
}

fn read(key: &[u8], value: Option<&[u8]>) -> Result<StreamsRecord, GroupRecordError> {
    let mut key = Reader { bytes: key };
    let key_type = key.i16("key type")?;
    let (group, record) = StreamsRecord::decode(key_type, &mut key, value)?.expect("of a streams group");
    assert_eq!(&*group, "a-app");
    key.end("key")?;
    Ok(record)
}

fn written(record: &StreamsRecord) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut key = Writer::default();
    let value = record.encode("a-app", &mut key).unwrap();
    (key.0, value)
}

#[test]
fn records_of_kafka_are_read_and_written_back_to_the_same_bytes() {
    let mut records = Vec::new();
    for (key, value) in KAFKAS {
        let (key, value) = (bytes(key), bytes(value));
        let record = read(&key, Some(&value)).unwrap();
        assert_eq!(written(&record), (key.clone(), Some(value.clone())));
        for end in 0..value.len() {
            assert!(read(&key, Some(&value[..end])).is_err(), "cut at {end}");
        }
        let removal = read(&key, None).unwrap();
        assert!(removal.is_removal() && !record.is_removal());
        assert_eq!(written(&removal), (key, None));
        records.push(record);
    }
    let StreamsRecord::Member { member_id, value: Some(member) } = &records[0] else { panic!("{:?}", records[0]) };
    assert_eq!((&**member_id, member.rebalance_timeout_ms), ("maSpZCA8Rr-CQlW0fNGBuw", 300_000));
    let StreamsRecord::Topology(Some(topology)) = &records[1] else { panic!("{:?}", records[1]) };
    assert_eq!(&*topology.subtopologies[1].repartition_source_topics[0].name, "a-app-grp-repartition");
    let StreamsRecord::Group(Some(group)) = &records[6] else { panic!("{:?}", records[6]) };
    assert_eq!((group.epoch, group.validated_topology_epoch, group.assignment_configs.len()), (3, 0, 1));
    let StreamsRecord::Current { value: Some(current), .. } = &records[9] else { panic!("{:?}", records[9]) };
    assert_eq!((current.epoch, current.previous_epoch, current.state), (3, 2, MemberState::Stable));
    assert_eq!(current.assigned.active.get(&TaskId::new("1", 1)), Some(&3));
}

#[test]
fn an_endpoint_and_tags_of_a_member_come_back() {
    let info = MemberInfo {
        rack_id: Some("r".into()),
        user_endpoint: Some(StreamsEndpoint { host: "h".into(), port: 65_535 }),
        client_tags: vec![StreamsKeyValue { key: "zone".into(), value: "z1".into() }],
        ..MemberInfo::default()
    };
    let record = StreamsRecord::Member { member_id: "m".into(), value: Some(info) };
    let (key, value) = written(&record);
    assert_eq!(read(&key, value.as_deref()).unwrap(), record);
}

fn tasks() -> impl Strategy<Value = BTreeMap<TaskId, i32>> {
    let one = ("[0-2]", 0i32..5, 2i32..9)
        .prop_map(|(subtopology, partition, epoch)| (TaskId::new(subtopology, partition), epoch));
    proptest::collection::btree_map(0u8..20, one, 0..8).prop_map(|tasks| tasks.into_values().collect())
}

fn held() -> impl Strategy<Value = HeldTasks> {
    let ids = || tasks().prop_map(|tasks| tasks.into_keys().collect::<TaskIdSet>());
    (tasks(), ids(), ids()).prop_map(|(active, standby, warmup)| HeldTasks { active, standby, warmup })
}

proptest! {
    #[test]
    fn what_members_have_and_are_to_have_comes_back(assigned in held(), to_revoke in held(), epoch in 0i32..100, state in 1i8..4) {
        let target = StreamsRecord::Target { member_id: "m".into(), value: Some(assigned.tasks()) };
        let current = Current { epoch, previous_epoch: epoch - 1, state: MemberState::from_code(state), assigned, to_revoke };
        let current = StreamsRecord::Current { member_id: "m".into(), value: Some(current) };
        for record in [target, current] {
            let (key, value) = written(&record);
            prop_assert_eq!(read(&key, value.as_deref()).unwrap(), record);
        }
    }

    #[test]
    fn rubbish_is_refused_and_does_not_panic(key in 17i16..24, value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut start = Writer::default();
        start.i16(key);
        start.string("group", "a-app").unwrap();
        start.string("member id", "m").unwrap();
        let mut reader = Reader { bytes: &start.0[2..] };
        let _ = StreamsRecord::decode(key, &mut reader, Some(&value));
    }
}
