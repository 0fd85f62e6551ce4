//! What survives: topics, records, settings and identity over restarts; what opening a directory may refuse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use broker::{Broker, BrokerConfig, BrokerError};
use protocol::api::messages::metadata_request::MetadataRequestTopic;
use protocol::api::messages::{DeleteTopicsRequest, DescribeClusterRequest, MetadataRequest};
use protocol::api::{ErrorCode, Response};
use support::*;

fn leader_epoch(peer: &mut Peer, topic: &str) -> i32 {
    let topic = MetadataRequestTopic::default().with_name(Some(name_of(topic)));
    let Response::Metadata(response) = peer.call(9, MetadataRequest::default().with_topics(Some(vec![topic]))) else {
        panic!()
    };
    response.topics[0].partitions[0].leader_epoch
}

#[test]
fn topics_and_records_survive_a_restart() {
    for durability in ["process", "power"] {
        let mut broker = TestBroker::start(&[("durability", durability)]);
        let mut peer = broker.in_process();
        let id = peer.create_topic("t", 2, &[]);
        peer.create_topic("gone", 1, &[]);
        peer.produce("t", 1, -1, batch(&["a", "b"]));
        peer.call(4, DeleteTopicsRequest::default().with_topic_names(vec![name_of("gone")]));
        assert_eq!(leader_epoch(&mut peer, "t"), 0);
        broker.restart();
        assert!(broker.running().broker().recovery_report().clean);
        let mut peer = broker.tcp();
        assert_eq!(peer.values("t", 1, 0), ["a", "b"]);
        assert_eq!(peer.produce("t", 1, -1, batch(&["c"])).base_offset, 2);
        assert_eq!(peer.fetch("gone", 0, 0).error_code, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(leader_epoch(&mut peer, "t"), 1, "a restart is a new term");
        let mut stale = fetch_request("t", 1, 0, 0, 1);
        stale.topics[0].partitions[0].current_leader_epoch = 0;
        assert_eq!(fetched(peer.call(11, stale)).error_code, ErrorCode::FencedLeaderEpoch);
        let mut by_id = fetch_request("", 1, 2, 0, 1);
        by_id.topics[0].topic_id = id;
        assert_eq!(values(&fetched(peer.call(13, by_id)).records), ["c"]);
    }
}

#[test]
fn the_cluster_keeps_its_id() {
    let mut broker = TestBroker::start(&[]);
    let cluster_id = |broker: &TestBroker| {
        let request = DescribeClusterRequest::default().with_endpoint_type(1);
        let Response::DescribeCluster(response) = broker.in_process().call(0, request) else { panic!() };
        response.cluster_id.to_string()
    };
    let before = cluster_id(&broker);
    broker.restart();
    assert_eq!(cluster_id(&broker), before);
}

#[test]
fn records_survive_a_broker_that_was_not_closed() {
    let mut broker = TestBroker::start(&[("durability", "power")]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 1, &[]);
    peer.produce("t", 0, -1, batch(&["a"]));
    // The directory as a crash leaves it: a copy taken while the broker runs.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(broker.path(), copy.path());
    broker.listener = None;
    let config = BrokerConfig::embedded(copy.path());
    let again = Broker::start(config).unwrap();
    assert!(!again.broker().recovery_report().clean);
    let mut peer = Peer::InProcess { transport: again.transport(), waiting: Default::default() };
    assert_eq!(peer.values("t", 0, 0), ["a"]);
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn error_of(config: BrokerConfig) -> BrokerError {
    match Broker::start(config) {
        Ok(_) => panic!("the broker started"),
        Err(error) => error,
    }
}

#[test]
fn a_directory_in_use_is_refused_in_at_most_three_lines() {
    let broker = TestBroker::start(&[]);
    let error = error_of(broker.config.clone());
    assert!(matches!(error, BrokerError::DataDirectory(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("in use") && text.contains(&*broker.path().to_string_lossy()), "{text}");
    assert!(text.lines().count() <= 3);
}

#[test]
fn a_directory_that_cannot_be_made_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let text = error_of(BrokerConfig::embedded(file.join("data"))).to_string();
    assert!(text.contains("file") && text.lines().count() <= 3, "{text}");
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let mut broker = TestBroker::start(&[]);
    broker.listener = None;
    broker.running.take().unwrap().shutdown().unwrap();
    for (key, value) in [("node.id", "7"), ("cluster.id", "another")] {
        let text = error_of(broker.config.clone().with(key, value).unwrap()).to_string();
        assert!(text.contains("belongs to"), "{text}");
    }
    broker.restart();
    assert!(broker.running().broker().recovery_report().clean, "a refused start changes nothing");
}

/// A directory with the topics `first` and `second`, as a clean shutdown leaves it.
fn closed_with_two_topics() -> (TestBroker, std::path::PathBuf) {
    let mut broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.create_topic("first", 1, &[]);
    peer.create_topic("second", 1, &[]);
    broker.listener = None;
    broker.running.take().unwrap().shutdown().unwrap();
    let log = broker.path().join("__cluster_metadata-0").join("00000000000000000000.log");
    (broker, log)
}

#[test]
fn metadata_damaged_before_its_end_is_refused_and_nothing_changes() {
    let (mut broker, log) = closed_with_two_topics();
    let whole = std::fs::read(&log).unwrap();
    let clean = broker.path().join(".kafka_cleanshutdown");
    for crashed in [false, true] {
        for at in [9, 70, whole.len() / 2] {
            if crashed {
                std::fs::remove_file(&clean).ok();
            }
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&log, &damaged).unwrap();
            let text = error_of(broker.config.clone()).to_string();
            assert!(text.contains("is damaged at byte") && text.contains("restore that file"), "{text}");
            assert!(text.contains(&*log.to_string_lossy()) && text.lines().count() <= 3, "{text}");
            assert_eq!(std::fs::read(&log).unwrap(), damaged);
            assert_eq!(clean.exists(), !crashed);
        }
    }
    std::fs::write(&log, &whole).unwrap();
    broker.restart();
    let mut peer = broker.in_process();
    assert_eq!(peer.produce("second", 0, -1, batch(&["a"])).base_offset, 0);
}

#[test]
fn a_torn_tail_of_the_metadata_is_cut() {
    let (mut broker, log) = closed_with_two_topics();
    std::fs::remove_file(broker.path().join(".kafka_cleanshutdown")).unwrap();
    let mut torn = std::fs::read(&log).unwrap();
    let whole = torn.len();
    torn.extend_from_within(..whole / 3);
    torn[whole] ^= 1;
    std::fs::write(&log, &torn[..whole + 40]).unwrap();
    broker.restart();
    let cuts = &broker.running().broker().recovery_report().truncations;
    assert_eq!(cuts.iter().map(|cut| cut.position).collect::<Vec<_>>(), [whole as u64]);
    assert_eq!(broker.in_process().produce("second", 0, -1, batch(&["a"])).base_offset, 0);
}

#[test]
fn a_port_in_use_is_refused() {
    let broker = TestBroker::start(&[]);
    let address = broker.address().to_string();
    let error = broker::server::listen(broker.running().broker(), &address, None).err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[test]
fn requests_after_shutdown_are_refused() {
    let mut broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 1, &[]);
    peer.send(11, fetch_request("t", 0, 0, 600_000, 1));
    broker.listener = None;
    broker.running.take().unwrap().shutdown().unwrap();
    assert!(peer.try_receive().is_err(), "a waiting request is answered with the end of the connection");
    peer.send(11, fetch_request("t", 0, 0, 0, 1));
    assert!(peer.try_receive().is_err());
}
