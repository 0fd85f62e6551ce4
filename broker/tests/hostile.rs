//! Bytes that are no request: the connection ends, and nobody else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base::Rng;
use support::*;

/// What the broker answers to `bytes` until it closes the connection or is silent after the last of them.
fn answer_to(broker: &TestBroker, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn still_works(broker: &TestBroker, topic: &str) {
    let mut peer = broker.tcp();
    peer.create_topic(topic, 1, &[]);
    peer.produce(topic, 0, -1, batch(&["a"]));
    assert_eq!(peer.values(topic, 0, 0), ["a"]);
}

#[test]
fn what_is_no_request_closes_the_connection_without_an_answer() {
    let broker = TestBroker::start(&[]);
    let mut others = broker.tcp();
    others.create_topic("t", 1, &[]);
    let cases: &[(&str, Vec<u8>)] = &[
        ("size 0", vec![0; 4]),
        ("negative size", vec![0xff; 4]),
        ("size above the limit", 104_857_601_i32.to_be_bytes().to_vec()),
        ("no header", frame(&[0])),
        ("unknown api key", frame(&unhex("03e700000000000100017a"))),
        ("an api between brokers (Vote)", frame(&unhex("003400000000000100017a00"))),
        ("unsupported version of Metadata", frame(&unhex("000300630000000100017a00"))),
        ("Produce version 2", frame(&unhex("00000002000000010001 7a0001000003e800000000".replace(' ', "").as_str()))),
        ("Metadata cut short", frame(&unhex("000300010000000100017a000000ff"))),
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("tls", unhex("16030100c8010000c403")),
    ];
    for (name, bytes) in cases {
        if *name == "tls" {
            // A length of 0x16030100 is above the limit.
            assert!(answer_to(&broker, bytes).is_empty(), "{name}");
            continue;
        }
        assert!(answer_to(&broker, bytes).is_empty(), "{name}");
    }
    others.produce("t", 0, -1, batch(&["a"]));
    assert_eq!(others.values("t", 0, 0), ["a"], "an older connection goes on");
    still_works(&broker, "after");
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_the_form_of_version_0() {
    let broker = TestBroker::start(&[]);
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.write_all(&frame(&unhex("001200630000000700017a00"))).unwrap();
    let answer = read_frame(&mut stream).unwrap();
    assert_eq!(&answer[..], unhex("00000007002300000001001200000004"));
}

#[test]
fn requests_may_arrive_in_any_pieces() {
    let broker = TestBroker::start(&[]);
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = frame(&unhex("0012000000001b590003766563"));
    let twice = [request.clone(), request].concat();
    for byte in twice {
        stream.write_all(&[byte]).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(read_frame(&mut stream).unwrap()[..4], unhex("00001b59"));
    }
}

#[test]
fn bytes_behind_a_valid_body_are_ignored() {
    let broker = TestBroker::start(&[]);
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.write_all(&frame(&unhex("0012000000001b590003766563ffff"))).unwrap();
    assert_eq!(read_frame(&mut stream).unwrap()[..4], unhex("00001b59"));
}

#[test]
fn random_bytes_hurt_nobody() {
    let broker = TestBroker::start(&[]);
    let mut rng = Rng::from_seed(1);
    for round in 0..300 {
        let length = rng.below(60) as usize;
        let mut body: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
        if body.len() >= 4 && round % 2 == 0 {
            // A known key and a low version, so that bodies are reached too.
            body[..4].copy_from_slice(&[0, rng.below(76) as u8, 0, rng.below(10) as u8]);
        }
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        let _ = stream.write_all(&frame(&body));
    }
    still_works(&broker, "after");
}

#[test]
fn a_declared_length_alone_costs_no_memory_and_half_a_request_blocks_nobody() {
    let broker = TestBroker::start(&[]);
    let mut half: Vec<TcpStream> = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.write_all(&100_000_000_i32.to_be_bytes()).unwrap();
        stream.write_all(&[0, 0]).unwrap();
        half.push(stream);
    }
    still_works(&broker, "after");
}

#[test]
fn a_request_of_many_megabytes_is_served() {
    let broker = TestBroker::start(&[("message.max.bytes", "60000000")]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    let value = "x".repeat(50 << 20);
    assert_eq!(peer.produce("t", 0, -1, batch(&[&value])).base_offset, 0);
    let mut request = fetch_request("t", 0, 0, 0, 1);
    request.topics[0].partitions[0].partition_max_bytes = 60 << 20;
    peer.send(11, request);
    assert_eq!(values(&fetched(peer.receive()).records), [value]);
}

#[test]
fn closing_the_listener_ends_its_connections() {
    let mut broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    peer.send(11, fetch_request("t", 0, 0, 600_000, 1));
    broker.listener = None;
    assert!(peer.try_receive().is_err());
}
