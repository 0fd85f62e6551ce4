//! The broker as a process: one line when it serves, a clean end on either signal, the same data after a restart.

use std::fs;
use std::path::Path;
use std::process::Command;

use client::{Producer, ProducerConfig, ProducerRecord};

use super::support::{BrokerProcess, directory, succeeds, text};

const CLEAN: &str = ".kafka_cleanshutdown";

#[test]
fn one_line_says_where_it_serves() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &["durability=process"]);
    let data = text(data.path());
    assert_eq!(broker.said, format!("millstream broker serves {} from {data} (durability process)\n", broker.address));
    assert!(!broker.address.ends_with(":0"), "{}", broker.address);
}

#[test]
fn either_signal_ends_it_cleanly() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let data = directory();
        let broker = BrokerProcess::start(data.path(), &[]);
        assert!(!data.path().join(CLEAN).exists());
        broker.signal(signal);
        let (said, status) = broker.end();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
        assert!(data.path().join(CLEAN).exists());
    }
}

#[test]
fn an_open_connection_does_not_keep_it_from_ending() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    let client = broker.client();
    client::block_on(client.ready()).unwrap();
    broker.stop();
}

#[test]
fn it_serves_the_same_records_after_a_restart() {
    let data = directory();
    let first = BrokerProcess::start(data.path(), &[]);
    succeeds(&["topics", "create", "orders", "--bootstrap", &first.address]);
    let producer = Producer::new(first.client(), ProducerConfig::default()).unwrap();
    for value in ["one", "two"] {
        producer.send_blocking(ProducerRecord::to("orders").value(value)).unwrap();
    }
    producer.close_blocking().unwrap();
    first.stop();
    let second = BrokerProcess::start(data.path(), &[]);
    assert_eq!(values(data.path()), ["one", "two"]);
    second.stop();
    assert_eq!(values(data.path()), ["one", "two"]);
}

fn values(data: &Path) -> Vec<String> {
    let dumped = succeeds(&["dump-log", "--json", "--records", text(&data.join("orders-0"))]);
    let batches = dumped.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    batches
        .flat_map(|batch| batch["records"].as_array().unwrap().clone())
        .map(|record| record["value"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_tail_torn_by_a_crash_is_cut_and_said_in_one_line() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    succeeds(&["topics", "create", "orders", "--bootstrap", &broker.address]);
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    for value in ["one", "two"] {
        producer.send_blocking(ProducerRecord::to("orders").value(value)).unwrap();
    }
    broker.kill();
    let log = data.path().join("orders-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes.truncate(bytes.len() - 5);
    fs::write(&log, bytes).unwrap();
    let broker = BrokerProcess::start(data.path(), &[]);
    assert_eq!(broker.said.lines().count(), 2, "{}", broker.said);
    assert!(broker.said.contains(" WARN recovery cut "), "{}", broker.said);
    assert!(broker.said.contains(" of orders-0 at byte "), "{}", broker.said);
    broker.stop();
    assert_eq!(values(data.path()), ["one"]);
}

#[test]
fn missing_indexes_are_made_again() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &[]);
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    producer.send_blocking(ProducerRecord::to("orders").value("one")).unwrap();
    producer.close_blocking().unwrap();
    broker.stop();
    for kind in ["index", "timeindex"] {
        fs::remove_file(data.path().join(format!("orders-0/00000000000000000000.{kind}"))).unwrap();
    }
    let broker = BrokerProcess::start(data.path(), &[]);
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    assert_eq!(producer.send_blocking(ProducerRecord::to("orders").value("two")).unwrap().offset, 1);
    producer.close_blocking().unwrap();
    broker.stop();
    assert_eq!(values(data.path()), ["one", "two"]);
}

#[test]
fn a_full_disk_ends_it_with_the_reason_and_nothing_acknowledged_is_lost() {
    let disk = directory();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(disk.path());
        command.output().is_ok_and(|output| output.status.success())
    };
    if !mount("size=1m") {
        eprintln!("no file system can be mounted here: a full disk is not tested");
        return;
    }
    let unmount = Unmount(disk.path());
    let data = disk.path().join("data");
    let broker = BrokerProcess::start(&data, &[]);
    succeeds(&["topics", "create", "orders", "--bootstrap", &broker.address]);
    let config = ProducerConfig::default().delivery_timeout_ms(2_000);
    let producer = Producer::new(broker.client(), config).unwrap();
    let value = "x".repeat(10_000);
    let acknowledged = (0..1000)
        .take_while(|_| producer.send_blocking(ProducerRecord::to("orders").value(value.clone())).is_ok())
        .count();
    assert!((1..1000).contains(&acknowledged), "{acknowledged}");
    let (said, status) = broker.end();
    assert_eq!(status.code(), Some(1));
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains(" ERROR ") && !line.contains(" WARN ")).collect();
    assert!((1..=3).contains(&lines.len()), "{said}");
    assert!(lines[0].contains(text(&data)) && lines[0].contains("No space left on device"), "{said}");
    assert!(lines[1].contains("free some space and start again"), "{said}");
    assert!(mount("remount,size=100m"));
    let broker = BrokerProcess::start(&data, &[]);
    let producer = Producer::new(broker.client(), ProducerConfig::default()).unwrap();
    producer.send_blocking(ProducerRecord::to("orders").value("after")).unwrap();
    producer.close_blocking().unwrap();
    broker.stop();
    let values = values(&data);
    assert!(values.len() > acknowledged, "{} of {acknowledged}", values.len());
    assert!(values[..acknowledged].iter().all(|stored| *stored == value));
    assert_eq!(values.last().unwrap(), "after");
    drop(unmount);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        // Whatever is left goes with the mount.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
