//! Transactions as clients of both protocols use them, against a broker in process and over TCP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says where it failed")]

mod support;
mod transaction_peer;

use std::collections::BTreeSet;

use protocol::api::{ErrorCode, Response};
use support::*;
use transaction_peer::*;

#[test]
fn a_committed_transaction_becomes_visible_as_a_whole() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 2, &[]);
        let producer = peer.init("id", 60_000);
        assert_eq!(producer.epoch, 0);
        assert_eq!(peer.write(V2, "id", producer, "t", 0, 0, &["a", "b"]).error_code, ErrorCode::None);
        assert_eq!(peer.write(V2, "id", producer, "t", 0, 2, &["c"]).error_code, ErrorCode::None);
        assert_eq!(peer.write(V2, "id", producer, "t", 1, 0, &["d"]).error_code, ErrorCode::None);
        assert_eq!(peer.committed("t", 0), Vec::<String>::new(), "nothing is stable yet");
        assert_eq!(peer.values("t", 0, 0), ["a", "b", "c"], "read_uncommitted sees it");
        let next = peer.end(5, "id", producer, true).unwrap();
        assert_eq!((next.id, next.epoch), (producer.id, 1), "the end raises the epoch");
        peer.until_complete("id");
        assert_eq!(peer.committed("t", 0), ["a", "b", "c"]);
        assert_eq!(peer.committed("t", 1), ["d"]);
        // The next one, under the new epoch, numbers from 0 again.
        assert_eq!(peer.write(V2, "id", next, "t", 0, 0, &["e"]).error_code, ErrorCode::None);
        assert_eq!(peer.end(5, "id", producer, true), Err(ErrorCode::ProducerFenced), "the old epoch is over");
        assert_eq!(peer.end(5, "id", next, true).unwrap().epoch, 2);
        peer.until_complete("id");
        assert_eq!(peer.committed("t", 0), ["a", "b", "c", "e"]);
    });
}

#[test]
fn the_records_of_an_aborted_transaction_are_listed_and_skipped() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        let mut producer = peer.init("id", 60_000);
        for (commit, value) in [(true, "a"), (false, "b"), (true, "c"), (false, "d")] {
            assert_eq!(peer.write(V2, "id", producer, "t", 0, 0, &[value]).error_code, ErrorCode::None);
            producer = peer.end(5, "id", producer, commit).unwrap();
            peer.until_complete("id");
        }
        assert_eq!(peer.committed("t", 0), ["a", "c"]);
        // An answer tells of those that may touch its own records: here a segment ends it.
        let mut aborted = BTreeSet::new();
        for offset in 0..8 {
            let fetched = peer.fetch_committed("t", 0, offset);
            assert_eq!(fetched.last_stable_offset, 8);
            aborted.extend(fetched.aborted.unwrap().iter().map(|aborted| aborted.first_offset));
        }
        assert_eq!(aborted, BTreeSet::from([2, 6]), "each is one record and a marker");
    });
}

#[test]
fn clients_of_the_older_protocol_add_partitions_themselves_and_keep_their_epoch() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        let producer = peer.init("id", 60_000);
        let before = peer.write(V1, "id", producer, "t", 0, 0, &["a"]).error_code;
        assert_eq!(before, ErrorCode::TransactionAbortable, "the partition was not added");
        let before = peer.write(9, "id", producer, "t", 0, 0, &["a"]).error_code;
        assert_eq!(before, ErrorCode::InvalidTxnState, "older clients do not know that code");
        assert_eq!(peer.end(3, "id", producer, true), Err(ErrorCode::InvalidTxnState), "nothing to commit");
        for round in 0..3 {
            assert_eq!(peer.add(3, "id", producer, "t", &[0]), [ErrorCode::None]);
            assert_eq!(peer.add(0, "id", producer, "t", &[0]), [ErrorCode::None], "again");
            let written = peer.write(V1, "id", producer, "t", 0, 2 * round, &["a", "b"]);
            assert_eq!(written.error_code, ErrorCode::None);
            let end = peer.end(3, "id", producer, round != 1).unwrap();
            assert_eq!((end.id, end.epoch), (-1, -1), "the answer has no identity");
            peer.until_complete("id");
            let again = peer.end(3, "id", producer, round != 1);
            assert!(again.is_ok(), "the same end again is answered as the first time");
            assert_eq!(peer.end(3, "id", producer, round == 1), Err(ErrorCode::InvalidTxnState));
        }
        assert_eq!(peer.committed("t", 0), ["a", "b", "a", "b"]);
        assert_eq!(peer.write(V1, "id", producer, "t", 0, 6, &["c"]).error_code, ErrorCode::TransactionAbortable);
    });
}

#[test]
fn nothing_is_added_when_one_of_the_partitions_does_not_exist() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 1, &[]);
    let producer = peer.init("id", 60_000);
    assert_eq!(
        peer.add(3, "id", producer, "t", &[0, 7]),
        [ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition]
    );
    assert_eq!(peer.describe("id").0, "Empty");
    let other = Producer { id: producer.id + 1, epoch: 0 };
    assert_eq!(peer.add(3, "id", other, "t", &[0]), [ErrorCode::InvalidProducerIdMapping]);
    assert_eq!(peer.add(3, "unknown", producer, "t", &[0]), [ErrorCode::InvalidProducerIdMapping]);
    let newer = Producer { epoch: 1, ..producer };
    assert_eq!(peer.add(3, "id", newer, "t", &[0]), [ErrorCode::ProducerFenced]);
    assert_eq!(peer.add(1, "id", newer, "t", &[0]), [ErrorCode::InvalidProducerEpoch]);
    assert_eq!(peer.add(3, "", producer, "t", &[0]), [ErrorCode::InvalidRequest]);
}

#[test]
fn a_second_producer_of_the_same_id_fences_the_first() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        let first = peer.init("id", 60_000);
        assert_eq!(peer.write(V2, "id", first, "t", 0, 0, &["lost"]).error_code, ErrorCode::None);
        assert_eq!(peer.try_init(5, "id", 60_000, None), Err(ErrorCode::ConcurrentTransactions), "its abort begins");
        peer.until_complete("id");
        let second = peer.init("id", 60_000);
        assert_eq!((second.id, second.epoch), (first.id, 2));
        assert_eq!(peer.write(V2, "id", first, "t", 0, 1, &["x"]).error_code, ErrorCode::InvalidProducerEpoch);
        assert_eq!(peer.add(3, "id", first, "t", &[0]), [ErrorCode::ProducerFenced]);
        assert_eq!(peer.end(5, "id", first, true), Err(ErrorCode::ProducerFenced));
        assert_eq!(peer.end(3, "id", first, true), Err(ErrorCode::ProducerFenced));
        assert_eq!(peer.try_init(4, "id", 60_000, Some(first)), Err(ErrorCode::ProducerFenced));
        assert_eq!(peer.try_init(3, "id", 60_000, Some(first)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(peer.write(V2, "id", second, "t", 0, 0, &["kept"]).error_code, ErrorCode::None);
        peer.end(5, "id", second, true).unwrap();
        peer.until_complete("id");
        assert_eq!(peer.committed("t", 0), ["kept"]);
        // Its own producer goes on after an error, and may ask twice.
        let third = Producer { epoch: second.epoch + 1, ..second };
        let fourth = peer.try_init(5, "id", 60_000, Some(third)).unwrap();
        assert_eq!(fourth.epoch, 4);
        assert_eq!(peer.try_init(5, "id", 60_000, Some(third)), Ok(fourth));
    });
}

#[test]
fn a_transaction_that_lasts_too_long_is_aborted() {
    let broker = TestBroker::start(&[("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10")]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 1, &[]);
    let producer = peer.init("id", 50);
    assert_eq!(peer.write(V2, "id", producer, "t", 0, 0, &["lost"]).error_code, ErrorCode::None);
    peer.until_state("id", "CompleteAbort");
    assert_eq!(peer.fetch_committed("t", 0, 0).last_stable_offset, 2);
    assert_eq!(peer.committed("t", 0), Vec::<String>::new());
    assert_eq!(peer.write(V2, "id", producer, "t", 0, 1, &["x"]).error_code, ErrorCode::InvalidProducerEpoch);
    assert_eq!(peer.add(3, "id", producer, "t", &[0]), [ErrorCode::ProducerFenced]);
    assert_eq!(peer.end(4, "id", producer, true), Err(ErrorCode::ProducerFenced));
    assert_eq!(peer.end(5, "id", producer, true), Err(ErrorCode::InvalidTxnState));
    let next = peer.end(5, "id", producer, false).unwrap();
    assert_eq!(next.epoch, 1, "its own abort finds what it wanted done");
    assert_eq!(peer.try_init(5, "id", 50, Some(producer)), Ok(next));
}

#[test]
fn offsets_of_a_transaction_count_once_it_is_committed() {
    on_each_target(&[], |peer| {
        peer.create_topic("in", 1, &[]);
        peer.find_coordinators("g", "id");
        let mut producer = peer.init("id", 60_000);
        for (round, commit) in [(1, true), (2, false), (3, true)] {
            assert_eq!(peer.commit_offset(5, "id", producer, "g", "in", round), ErrorCode::None);
            assert_eq!(peer.committed_offset("g", "in", true), Err(ErrorCode::UnstableOffsetCommit));
            producer = peer.end(5, "id", producer, commit).unwrap();
            peer.until_complete("id");
            let expected = if round == 2 { 1 } else { round };
            assert_eq!(peer.committed_offset("g", "in", true), Ok(expected));
        }
        // The older protocol says first which group it is.
        let unknown = peer.commit_offset(4, "id", producer, "g", "in", 9);
        assert_eq!(unknown, ErrorCode::TransactionAbortable);
        assert_eq!(peer.commit_offset(3, "id", producer, "g", "in", 9), ErrorCode::InvalidTxnState);
        assert_eq!(peer.add_offsets("id", producer, "g"), ErrorCode::None);
        assert_eq!(peer.commit_offset(3, "id", producer, "g", "in", 9), ErrorCode::None);
        assert_eq!(peer.committed_offset("g", "in", false), Ok(3), "not yet");
        peer.end(3, "id", producer, true).unwrap();
        peer.until_complete("id");
        assert_eq!(peer.committed_offset("g", "in", true), Ok(9));
        let stale = Producer { epoch: producer.epoch - 1, ..producer };
        assert_eq!(peer.commit_offset(5, "id", stale, "g", "in", 10), ErrorCode::InvalidProducerEpoch);
    });
}

#[test]
fn transactions_survive_a_restart() {
    let mut broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 1, &[]);
    peer.find_coordinators("g", "open");
    let done = peer.init("done", 60_000);
    peer.write(V2, "done", done, "t", 0, 0, &["a"]);
    let done = peer.end(5, "done", done, true).unwrap();
    peer.until_complete("done");
    let open = peer.init("open", 60_000);
    peer.write(V2, "open", open, "t", 0, 0, &["b"]);
    assert_eq!(peer.commit_offset(5, "open", open, "g", "t", 1), ErrorCode::None);
    broker.restart();
    let mut peer = broker.in_process();
    assert_eq!(peer.describe("done").0, "CompleteCommit");
    let (state, partitions) = peer.describe("open");
    assert_eq!((state.as_str(), partitions), ("Ongoing", 2));
    assert_eq!(peer.committed("t", 0), ["a"], "up to the open transaction");
    assert_eq!(peer.committed_offset("g", "t", true), Err(ErrorCode::UnstableOffsetCommit));
    assert_eq!(peer.write(V2, "open", open, "t", 0, 1, &["c"]).error_code, ErrorCode::None);
    peer.end(5, "open", open, true).unwrap();
    peer.until_complete("open");
    assert_eq!(peer.committed_offset("g", "t", true), Ok(1));
    assert_eq!(peer.committed("t", 0), ["a", "b", "c"]);
    assert_eq!(peer.write(V2, "done", done, "t", 0, 0, &["d"]).error_code, ErrorCode::None);
}

#[test]
fn a_request_cannot_write_for_two_producers_or_without_its_id() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 2, &[]);
    let (a, b) = (peer.init("a", 60_000), peer.init("b", 60_000));
    let batch = |producer| transactional_batch(producer, 0, &["x"]);
    let mut request = produce_request("t", 0, -1, batch(a));
    assert_eq!(produced(peer.call(9, request.clone())).error_code, ErrorCode::TransactionalIdAuthorizationFailed);
    request.transactional_id = Some("a".to_owned());
    request.topics[0].partitions.extend(produce_request("t", 1, -1, batch(b)).topics.remove(0).partitions);
    match peer.call(12, request) {
        Response::Produce(response) => {
            let codes: Vec<ErrorCode> = response.topics[0].partitions.iter().map(|one| one.error_code).collect();
            assert_eq!(codes, [ErrorCode::InvalidProducerIdMapping; 2]);
        }
        other => panic!("{other:?}"),
    }
    // No state of the producer here: the newer protocol begins with sequence 0.
    assert_eq!(peer.write(V2, "a", a, "t", 0, 5, &["x"]).error_code, ErrorCode::OutOfOrderSequenceNumber);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.find_coordinators("g", "id");
    assert_eq!(peer.try_init(5, "id", 0, None), Err(ErrorCode::InvalidTransactionTimeout));
    assert_eq!(peer.try_init(5, "id", 900_001, None), Err(ErrorCode::InvalidTransactionTimeout));
    assert_eq!(peer.try_init(5, "", 1000, None), Err(ErrorCode::InvalidRequest));
    let half = Producer { id: 5, epoch: -1 };
    assert_eq!(peer.try_init(5, "id", 1000, Some(half)), Err(ErrorCode::InvalidRequest));
    let nobody = Producer { id: 1, epoch: 0 };
    assert_eq!(peer.end(5, "unknown", nobody, true), Err(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(peer.end(5, "", nobody, true), Err(ErrorCode::InvalidRequest));
    let producer = peer.init("id", 60_000);
    assert_eq!(peer.end(5, "id", producer, true), Err(ErrorCode::InvalidTxnState), "nothing to commit");
    assert_eq!(peer.end(5, "id", producer, false).unwrap().epoch, 1, "an abort of nothing raises the epoch");
}

#[test]
fn transactions_are_listed_by_state_producer_age_and_name() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.in_process();
    peer.create_topic("t", 1, &[]);
    let open = peer.init("orders-1", 60_000);
    peer.init("orders-2", 60_000);
    peer.init("other", 60_000);
    peer.write(V2, "orders-1", open, "t", 0, 0, &["x"]);
    assert_eq!(peer.list(2, &[], &[], -1, None), ["orders-1", "orders-2", "other"]);
    assert_eq!(peer.list(0, &["Ongoing"], &[], -1, None), ["orders-1"]);
    assert_eq!(peer.list(0, &["Nonsense"], &[], -1, None), Vec::<String>::new());
    assert_eq!(peer.list(1, &[], &[open.id], -1, None), ["orders-1"]);
    assert_eq!(peer.list(1, &[], &[], 3_600_000, None), Vec::<String>::new());
    assert_eq!(peer.list(2, &[], &[], -1, Some("orders-.*")), ["orders-1", "orders-2"]);
    assert_eq!(peer.list(2, &[], &[], -1, Some("orders")), Vec::<String>::new(), "the whole id must match");
    assert_eq!(peer.list(2, &[], &[], -1, Some("(")), ["INVALID_REGULAR_EXPRESSION"]);
    assert_eq!(peer.describe("nobody").0, "TRANSACTIONAL_ID_NOT_FOUND");
}
