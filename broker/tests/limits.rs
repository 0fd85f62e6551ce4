//! Limits on what clients may take: memory of requests that are arriving, connections, size, idleness.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::*;

/// Whether the broker closes the connection before `seconds` pass without a byte.
fn is_closed_within(stream: &mut TcpStream, seconds: u64) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(seconds))).unwrap();
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

#[test]
fn begun_requests_that_fill_the_memory_for_requests_block_nobody() {
    let settings = [
        ("socket.request.max.bytes", "4000000"),
        ("queued.max.request.bytes", "8000000"),
        ("message.max.bytes", "3000000"),
    ];
    let broker = TestBroker::start(&settings);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    // Forty times 3 MB of 4 MB: what does not fit into the broker stays in the sockets, so writing may not block here.
    let part = vec![0; 3_000_000];
    let mut begun = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write(&4_000_000_i32.to_be_bytes());
        let mut sent = 0;
        while let Ok(count @ 1..) = stream.write(&part[sent..]) {
            sent += count;
        }
        begun.push(stream);
    }
    for round in 0..3 {
        let value = "x".repeat(2_000_000);
        assert_eq!(peer.produce("t", 0, -1, batch(&[&value])).base_offset, round, "a large request gets its turn");
    }
    drop(begun);
    assert_eq!(peer.produce("t", 0, -1, batch(&["a"])).base_offset, 3);
}

#[test]
fn a_bound_below_the_largest_request_is_refused() {
    let config = broker::BrokerConfig::embedded("/nowhere").with("queued.max.request.bytes", "1000").unwrap();
    let error = broker::Broker::start(config).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("socket.request.max.bytes"), "{error}");
}

#[test]
fn connections_above_the_limits_are_turned_away_and_a_closed_one_makes_room() {
    let broker =
        TestBroker::start(&[("max.connections.per.ip", "3"), ("max.connections.per.ip.overrides", "10.0.0.9:1")]);
    let mut peers = vec![broker.tcp(), broker.tcp(), broker.tcp()];
    peers.iter_mut().enumerate().for_each(|(index, peer)| {
        peer.create_topic(&format!("t{index}"), 1, &[]);
    });
    let mut fourth = TcpStream::connect(broker.address()).unwrap();
    assert!(is_closed_within(&mut fourth, 10));
    peers.pop();
    let is_served = || {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.write_all(&unhex("0000000d0012000000001b590003766563")).unwrap();
        !is_closed_within(&mut stream, 10)
    };
    let clock = base::SystemClock::shared();
    let give_up = clock.now().ticks_ms + 60_000;
    while !is_served() {
        assert!(clock.now().ticks_ms < give_up, "the broker does not see that one is gone");
    }
}

#[test]
fn who_reads_no_answers_is_not_read_from_and_slows_nobody() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    let value = "x".repeat(500_000);
    for _ in 0..20 {
        peer.produce("t", 0, -1, batch(&[&value]));
    }
    let mut lazy: Vec<Peer> = (0..8).map(|_| broker.tcp()).collect();
    for reader in &mut lazy {
        for _ in 0..40 {
            let mut request = fetch_request("t", 0, 0, 0, 1);
            request.topics[0].partitions[0].partition_max_bytes = 10 << 20;
            reader.send(11, request);
        }
    }
    for _ in 0..5 {
        peer.produce("t", 0, -1, batch(&["a"]));
        assert!(!peer.values("t", 0, 20).is_empty());
    }
    drop(lazy);
}
