//! A broker that is shut down while requests wait in it goes as a whole: nothing that waits keeps it, or its open files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says where it failed")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use protocol::api::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::api::messages::{GroupId, JoinGroupRequest};
use support::*;

/// Long enough that nothing is answered before the end.
const LONG_MS: i32 = 60_000;

#[test]
fn requests_that_wait_do_not_keep_a_broker_that_was_shut_down() {
    let mut broker = TestBroker::start(&[
        ("group.initial.rebalance.delay.ms", &LONG_MS.to_string()),
        ("offsets.topic.num.partitions", "1"),
    ]);
    let mut peers = vec![broker.in_process(), broker.tcp()];
    peers[0].create_topic("t", 2, &[]);
    for peer in &mut peers {
        peer.produce("t", 0, -1, batch(&["a"]));
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::new());
        let join = JoinGroupRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_session_timeout_ms(LONG_MS)
            .with_rebalance_timeout_ms(LONG_MS)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        // Version 3 joins at once, and waits for others.
        peer.send(3, join);
        peer.send(11, fetch_request("t", 1, 0, LONG_MS, 1));
    }
    // Everything sent before this has been taken up.
    assert_eq!(broker.tcp().values("t", 0, 0), ["a", "a"]);
    while broker.running().broker().state().waiters.len() < 2 {
        std::thread::yield_now();
    }
    let state = Arc::downgrade(broker.running().broker().state());
    broker.listener = None;
    broker.running.take().unwrap().shutdown().unwrap();
    drop(peers);
    assert_eq!(state.strong_count(), 0);
}
