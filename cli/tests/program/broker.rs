//! The broker as a process: three lines when it serves, settings from a file, several listeners, a clean end on either signal, the same data after a restart.

use std::fs;
use std::path::Path;
use std::process::Command;

use client::{Producer, ProducerConfig, ProducerRecord};

use super::support::{BrokerProcess, directory, succeeds, text};

const CLEAN: &str = ".kafka_cleanshutdown";

#[test]
fn three_lines_say_where_the_data_is_how_durable_and_where_it_serves() {
    let data = directory();
    let broker = BrokerProcess::start(data.path(), &["durability=process", "cluster.id=here"]);
    let secrets = [(text(data.path()), "DATA"), (&broker.address, "ADDRESS"), (env!("CARGO_PKG_VERSION"), "VERSION")];
    let said = secrets.iter().fold(broker.said.clone(), |said, (secret, name)| said.replace(secret, name));
    insta::assert_snapshot!(said, @r"
    millstream broker VERSION keeps 0 topic(s) of cluster here in DATA
    durability process: records acknowledged survive the end of this process, not a power cut
    millstream broker serves ADDRESS
    ");
    assert!(!broker.address.ends_with(":0"), "{}", broker.address);
}

#[test]
fn a_file_of_kafkas_properties_starts_it_and_options_win_over_the_file() {
    let data = directory();
    let file = data.path().join("server.properties");
    let log = data.path().join("log");
    let properties = format!(
        "process.roles=broker,controller\nnode.id=4\ncontroller.quorum.voters=4@localhost:9093\n\
         listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\ncontroller.listener.names=CONTROLLER\n\
         advertised.listeners=PLAINTEXT://localhost:1\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\nnum.partitions=3\ndurability=process\nnum.partitons=4\n",
        log.display()
    );
    fs::write(&file, properties).unwrap();
    let broker = BrokerProcess::start_with(&["--config", text(&file), "--set", "num.partitions=5"]);
    assert!(
        broker.said.contains(
            "server.properties line 11: unknown property num.partitons is left out; did you mean num.partitions?"
        ),
        "{}",
        broker.said
    );
    assert!(broker.said.contains("(clients are told localhost:1)"), "{}", broker.said);
    assert!(broker.said.contains(&format!("in {}\ndurability process", log.display())), "{}", broker.said);
    assert!(log.join("__cluster_metadata-0").exists());
    broker.stop();
}

#[test]
fn who_comes_in_by_a_listener_is_told_of_its_address() {
    let data = directory();
    let listeners = ["--listen", "127.0.0.1:0", "--listen", "LAN://127.0.0.1:0", "--advertise", "LAN://localhost:7"];
    let broker = BrokerProcess::start_with(&[&listeners[..], &["--data", text(data.path())]].concat());
    let second = broker.said.trim_end().rsplit(" and ").next().unwrap();
    let (lan, told) = second.split_once(' ').unwrap();
    assert_eq!(told, "(LAN, clients are told localhost:7)");
    for (address, expected) in [(broker.address.as_str(), broker.address.as_str()), (lan, "localhost:7")] {
        let client = super::support::client(address);
        client::block_on(client.ready()).unwrap();
        let cluster = client::block_on(client::Admin::new(client).describe_cluster()).unwrap();
        let brokers: Vec<String> = cluster.brokers.iter().map(|one| format!("{}:{}", one.host, one.port)).collect();
        assert_eq!(brokers, [expected]);
    }
    broker.stop();
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
    assert_eq!(broker.said.lines().count(), 4, "{}", broker.said);
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
