//! What a broker costs that has nothing to do, and one that begins: CPU time as the kernel counts it, whatever else runs on the machine.

use std::fs;
use std::time::Duration;

use base::TopicPartition;
use client::admin::NewTopic;
use client::block_on;
use client::consumer::{Consumer, ConsumerConfig};

use super::support::{BrokerProcess, directory};

/// CPU time of all threads that are alive, in microseconds.
fn cpu_us(broker: &BrokerProcess) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", broker.pid())).unwrap();
    let ns = threads.map(|thread| {
        let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    ns.sum::<u64>() / 1_000
}

fn resident_kib(broker: &BrokerProcess) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_broker_serves_after_little_work_and_in_little_memory() {
    let data = directory();
    for _ in ["a new directory", "the same again"] {
        let broker = BrokerProcess::start(data.path(), &[]);
        let (cpu_us, resident_kib) = (cpu_us(&broker), resident_kib(&broker));
        println!("start: {cpu_us} us of CPU, {resident_kib} KiB");
        assert!(cpu_us < 50_000, "{cpu_us} us");
        assert!(resident_kib < 64 << 10, "{resident_kib} KiB");
        broker.stop();
    }
}

#[test]
fn a_broker_with_nothing_to_do_burns_nothing() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    block_on(broker.admin().create_topics(&[NewTopic::new("quiet", 1)])).unwrap()[0].1.as_ref().unwrap();
    // A fetch that the broker holds until its time is over: the test waits for an event, the broker for nothing.
    let config = ConsumerConfig { fetch_max_wait_ms: 5_000, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(broker.client(), config).unwrap();
    consumer.assign([TopicPartition::new("quiet", 0)]).unwrap();
    assert!(consumer.poll_blocking(Duration::from_millis(500)).unwrap().is_empty());
    let before = cpu_us(&broker);
    assert!(consumer.poll_blocking(Duration::from_secs(5)).unwrap().is_empty());
    let spent_us = cpu_us(&broker) - before;
    println!("5 s idle: {spent_us} us of CPU");
    // 1 % of one core.
    assert!(spent_us < 50_000, "{spent_us} us");
}
