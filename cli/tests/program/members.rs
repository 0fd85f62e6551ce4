//! Members of a group of the consumer protocol (KIP-848): through `millstream consume`, and over a broker that is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use client::admin::NewTopic;
use client::block_on;
use client::consumer::{Consumer, ConsumerConfig};

use super::support::{BrokerProcess, directory};

const SETTINGS: &[&str] = &[
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=100",
    "group.consumer.min.assignment.interval.ms=0",
    "group.consumer.assignment.interval.ms=0",
];
/// Long enough that what is waited for comes before.
const POLLS: usize = 3_000;

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number}\t{number}\n")).collect()
}

/// Polls the members in turn until they have read `enough` values and share the four partitions as two and two.
fn poll(members: &mut [Consumer; 2], read: &mut BTreeMap<String, u32>, enough: usize) {
    for _ in 0..POLLS {
        if read.len() == enough && members.iter().all(|member| member.assignment().len() == 2) {
            return;
        }
        for member in members.iter_mut() {
            for record in member.poll_blocking(Duration::from_millis(20)).unwrap() {
                *read.entry(String::from_utf8(record.value.unwrap().to_vec()).unwrap()).or_default() += 1;
            }
        }
    }
    panic!("{} of {enough} values were read", read.len());
}

#[test]
fn members_go_on_over_kills_of_the_broker_and_read_every_record_once() {
    let data = directory();
    let mut broker = BrokerProcess::start(data.path(), SETTINGS);
    let address = broker.address.clone();
    block_on(broker.admin().create_topics(&[NewTopic::new("t", 4)])).unwrap()[0].1.as_ref().unwrap();
    let member = || {
        let settings = [("group.id", "g"), ("group.protocol", "consumer"), ("auto.offset.reset", "earliest")];
        let mut member = Consumer::new(broker.client(), ConsumerConfig::from_properties(settings).unwrap()).unwrap();
        member.subscribe(["t"]).unwrap();
        member
    };
    let mut members = [member(), member()];
    let mut read = BTreeMap::new();
    for round in 0..4 {
        broker.tell(&["produce", "t", "--keys"], &numbers(round * 100..(round + 1) * 100));
        poll(&mut members, &mut read, (round as usize + 1) * 100);
        let before = members.each_ref().map(Consumer::group_metadata);
        for member in &mut members {
            member.commit_blocking().unwrap();
        }
        broker.kill();
        broker = BrokerProcess::start_on(&address, data.path(), SETTINGS);
        assert_eq!(members.each_ref().map(Consumer::group_metadata), before, "round {round}");
    }
    assert_eq!(read.values().max(), Some(&1), "a record was read twice");
    members.into_iter().for_each(|member| member.close_blocking().unwrap());
    broker.stop();
}

#[test]
fn consume_joins_with_the_protocol_that_is_set() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), SETTINGS);
    block_on(broker.admin().create_topics(&[NewTopic::new("t", 1)])).unwrap()[0].1.as_ref().unwrap();
    broker.tell(&["produce", "t"], "a\nb\nc\n");
    let consume = ["consume", "t", "--group", "g", "--from-beginning", "--max-messages"];
    let with = |count: &'static str, setting: &'static str| [&consume[..], &[count, "--set", setting]].concat();
    assert_eq!(broker.ask(&with("2", "group.protocol=consumer")), "a\nb\n");
    assert_eq!(broker.ask(&with("1", "group.protocol=consumer")), "c\n");
    assert!(broker.ask(&["groups", "describe", "g"]).contains("type consumer"));
    insta::assert_snapshot!(broker.refuses(&[
        &[&with("1", "group.protocol=consumer")[..], &["--set", "session.timeout.ms=45000"]].concat(),
        &[&with("1", "group.protocol=consumer")[..], &["--set", "group.remote.assignor=fair"]].concat(),
        &with("1", "group.protocol=streams"),
    ]));
    broker.stop();
}
