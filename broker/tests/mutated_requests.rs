//! Damaged requests that still can be read, handed to every handler: each is answered or closes its connection, no handler
//! panics, and the broker serves on. `MILLSTREAM_MUTATE_SECONDS=600` runs long.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

#[path = "../../protocol/tests/mutator/mod.rs"]
mod mutator;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use broker::dispatch::is_served;
use bytes::Bytes;
use mutator::Mutator;
use protocol::api::messages::MetadataRequest;
use protocol::api::{ApiKey, Response, supported_versions};
use protocol::frame::{LENGTH_BYTES, decode_request, encode_request};
use protocol::transport::RequestEnvelope;
use support::*;

/// Frames without their lengths: a request with records, and small bodies for every version of every API.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for version in [3, 7, 9, 12] {
        let request = produce_request("t", 0, -1, batch(&["a", "b"])).into();
        let envelope = RequestEnvelope { version, client_id: Some("m".into()), request };
        corpus.push(encode_request(&envelope, 1).unwrap().to_bytes().unwrap()[LENGTH_BYTES..].to_vec());
    }
    for version in [4, 7, 11, 12] {
        let envelope =
            RequestEnvelope { version, client_id: Some("m".into()), request: fetch_request("t", 0, 0, 0, 1).into() };
        corpus.push(encode_request(&envelope, 1).unwrap().to_bytes().unwrap()[LENGTH_BYTES..].to_vec());
    }
    for key in ApiKey::ALL.iter().filter(|key| is_served(**key)) {
        let (min, max) = supported_versions(*key);
        for version in min..=max {
            let mut frame = [(*key as i16).to_be_bytes(), version.to_be_bytes()].concat();
            frame.extend([0, 0, 0, 1, 0, 1, b'c']);
            frame.extend(vec![0; usize::from(key.request_header_version(version) >= 2)]);
            let head = frame.clone();
            for body in [
                &[0; 40][..],
                &[2, 2, b't', 2, 0, 0, 0, 0, 2, b't', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &[0, 1, b't', 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            ] {
                corpus.push([&head[..], body].concat());
            }
        }
    }
    corpus
}

#[test]
fn no_handler_panics_at_a_request_that_nobody_meant() {
    let broker = TestBroker::start(&[("num.partitions", "2")]);
    broker.tcp().create_topic("t", 2, &[]);
    let mut transport = broker.running().transport();
    let mut mutator = Mutator::new(corpus(), 20_000, 1.0);
    let mut served = 0_u64;
    while let Some(input) = mutator.next_input() {
        let bytes = Bytes::from(input);
        let Ok((header, request)) = decode_request(bytes.clone()) else { continue };
        if !is_served(header.api_key) || bytes.len() > 4096 {
            continue;
        }
        let envelope = RequestEnvelope { version: header.api_version, client_id: header.client_id, request };
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(transport.send(envelope))));
        assert!(
            outcome.is_ok(),
            "{} version {}: seed {}: {bytes:02x?}",
            header.api_key,
            header.api_version,
            mutator.seed()
        );
        served += 1;
        mutator.keep(bytes.into());
        if served.is_multiple_of(50) {
            transport.close();
            transport = broker.running().transport();
        }
    }
    assert!(served > 1000, "{served} requests could be read");
    println!("{served} requests were served");
    let mut peer = broker.tcp();
    assert!(matches!(peer.call(0, MetadataRequest::default()), Response::Metadata(_)));
    peer.create_topic("after", 1, &[]);
    peer.produce("after", 0, -1, batch(&["a"]));
    assert_eq!(peer.values("after", 0, 0), ["a"]);
}
