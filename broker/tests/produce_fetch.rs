//! Produce, Fetch, ListOffsets, DeleteRecords, OffsetForLeaderEpoch over both targets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use bytes::Bytes;
use protocol::api::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::api::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use protocol::api::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
};
use protocol::api::{ErrorCode, FetchPartition, FetchRequest, FetchTopic, Response, Uuid};
use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef};
use support::*;

#[test]
fn what_is_produced_is_fetched_byte_for_byte() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 2, &[]);
        let sent = batch(&["a", "b"]);
        let answer = peer.produce("t", 1, -1, sent.clone());
        assert_eq!((answer.error_code, answer.base_offset, answer.log_append_time_ms), (ErrorCode::None, 0, -1));
        assert_eq!(peer.produce("t", 1, 1, batch(&["c"])).base_offset, 2);
        let read = peer.fetch("t", 1, 0);
        assert_eq!((read.high_watermark, read.last_stable_offset, read.log_start_offset), (3, 3, 0));
        assert_eq!(read.aborted, None);
        assert_eq!(values(&read.records), ["a", "b", "c"]);
        // All but base offset and leader epoch (the first 16 bytes) is as it was sent.
        assert_eq!(read.records.to_bytes().unwrap()[16..sent.len()], sent[16..]);
        assert_eq!(peer.values("t", 1, 2), ["c"]);
        assert!(peer.values("t", 1, 3).is_empty());
        assert!(peer.values("t", 0, 0).is_empty());
    });
}

#[test]
fn topics_are_named_by_id_from_version_13() {
    on_each_target(&[], |peer| {
        let id = peer.create_topic("t", 1, &[]);
        let by_id = |id: Uuid| {
            let mut request = produce_request("", 0, -1, batch(&["a"]));
            request.topics[0].topic_id = id;
            request
        };
        assert_eq!(produced(peer.call(13, by_id(id))).error_code, ErrorCode::None);
        assert_eq!(produced(peer.call(13, by_id(Uuid::from_u128(3)))).error_code, ErrorCode::UnknownTopicId);
        let mut request = fetch_request("", 0, 0, 0, 1);
        request.topics[0].topic_id = id;
        assert_eq!(values(&fetched(peer.call(13, request.clone())).records), ["a"]);
        request.topics[0].topic_id = Uuid::from_u128(3);
        assert_eq!(fetched(peer.call(13, request)).error_code, ErrorCode::UnknownTopicId);
    });
}

#[test]
fn produce_is_refused_with_kafkas_codes() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        peer.create_topic("small", 1, &[("max.message.bytes", "100")]);
        peer.create_topic("__consumer_offsets", 1, &[]);
        let mut code =
            |topic: &str, index: i32, acks: i16, batch: Bytes| peer.produce(topic, index, acks, batch).error_code;
        assert_eq!(code("no", 0, -1, batch(&["a"])), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code("t", 1, -1, batch(&["a"])), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code("t", -1, -1, batch(&["a"])), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code("t", 0, 2, batch(&["a"])), ErrorCode::InvalidRequiredAcks);
        assert_eq!(code("t", 0, -1, Bytes::new()), ErrorCode::InvalidRecord);
        assert_eq!(code("small", 0, -1, batch(&[&"x".repeat(100)])), ErrorCode::MessageTooLarge);
        assert_eq!(code("__consumer_offsets", 0, -1, batch(&["a"])), ErrorCode::InvalidTopicException);
        let mut torn = batch(&["a"]).to_vec();
        torn[65] ^= 1;
        assert_eq!(code("t", 0, -1, torn.into()), ErrorCode::CorruptMessage);
        let two = [batch(&["a"]), batch(&["b"])].concat();
        assert_eq!(code("t", 0, -1, two.into()), ErrorCode::InvalidRecord);
        let options = BuilderOptions {
            transactional: true,
            producer_id: 1,
            producer_epoch: 0,
            base_sequence: 0,
            ..BuilderOptions::default()
        };
        let mut builder = BatchBuilder::new(Compression::None, options);
        builder.append(1, None, Some(b"a"), HeadersRef::EMPTY).unwrap();
        assert_eq!(code("t", 0, -1, builder.build().unwrap()), ErrorCode::TransactionalIdAuthorizationFailed);
        let mut zstd = BatchBuilder::new(Compression::Zstd, BuilderOptions::default());
        zstd.append(1, None, Some(b"a"), HeadersRef::EMPTY).unwrap();
        let zstd = zstd.build().unwrap();
        let answer = produced(peer.call(6, produce_request("t", 0, -1, zstd.clone())));
        assert_eq!(answer.error_code, ErrorCode::UnsupportedCompressionType);
        assert_eq!(produced(peer.call(7, produce_request("t", 0, -1, zstd))).error_code, ErrorCode::None);
        assert_eq!(peer.fetch("t", 0, 0).high_watermark, 1, "nothing refused was written");
    });
}

#[test]
fn a_retried_idempotent_batch_is_written_once() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        let numbered = |sequence: i32| {
            let options = BuilderOptions {
                producer_id: 7,
                producer_epoch: 0,
                base_sequence: sequence,
                ..BuilderOptions::default()
            };
            let mut builder = BatchBuilder::new(Compression::None, options);
            builder.append(1, None, Some(b"a"), HeadersRef::EMPTY).unwrap();
            builder.build().unwrap()
        };
        assert_eq!(peer.produce("t", 0, -1, numbered(0)).base_offset, 0);
        assert_eq!(peer.produce("t", 0, -1, numbered(1)).base_offset, 1);
        let again = peer.produce("t", 0, -1, numbered(0));
        assert_eq!((again.error_code, again.base_offset), (ErrorCode::None, 0));
        assert_eq!(peer.produce("t", 0, -1, numbered(5)).error_code, ErrorCode::OutOfOrderSequenceNumber);
    });
}

#[test]
fn acks_0_is_not_answered_and_its_failure_closes_the_connection() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    peer.send(9, produce_request("t", 0, 0, batch(&["a"])));
    if let Peer::Tcp { sent, .. } = &mut peer {
        sent.clear();
    }
    assert_eq!(peer.values("t", 0, 0), ["a"], "the next answer is the next request's");
    peer.send(9, produce_request("no", 0, 0, batch(&["a"])));
    assert!(peer.try_receive().is_err());
    let mut embedded = broker.in_process();
    assert!(
        matches!(embedded.call(9, produce_request("t", 0, 0, batch(&["b"]))), Response::Produce(answer) if answer.topics.is_empty())
    );
    embedded.send(9, produce_request("no", 0, 0, batch(&["a"])));
    assert!(embedded.try_receive().is_err());
}

#[test]
fn fetch_is_refused_with_kafkas_codes() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        peer.produce("t", 0, -1, batch(&["a"]));
        for offset in [-1, 2] {
            let answer = peer.fetch("t", 0, offset);
            assert_eq!(answer.error_code, ErrorCode::OffsetOutOfRange);
            assert_eq!((answer.high_watermark, answer.last_stable_offset, answer.log_start_offset), (-1, -1, -1));
        }
        assert_eq!(peer.fetch("no", 0, 0).error_code, ErrorCode::UnknownTopicOrPartition);
        let mut with_epoch = |epoch: i32| {
            let mut request = fetch_request("t", 0, 0, 0, 1);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            fetched(peer.call(11, request)).error_code
        };
        assert_eq!((with_epoch(0), with_epoch(1)), (ErrorCode::None, ErrorCode::UnknownLeaderEpoch));
    });
}

#[test]
fn a_fetch_without_data_is_answered_when_its_wait_is_over() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        peer.produce("t", 0, -1, batch(&["a"]));
        let answer = fetched(peer.call(11, fetch_request("t", 0, 1, 50, 1)));
        assert_eq!((answer.error_code, answer.high_watermark, answer.records.len_bytes()), (ErrorCode::None, 1, 0));
        // Not enough data is handed out all the same once the wait is over.
        let answer = fetched(peer.call(11, fetch_request("t", 0, 0, 50, 1_000_000)));
        assert_eq!(values(&answer.records), ["a"]);
    });
}

#[test]
fn a_waiting_fetch_is_woken_by_a_produce_on_another_connection() {
    let broker = TestBroker::start(&[]);
    for mut waiting in [broker.in_process(), broker.tcp()] {
        for mut producing in [broker.in_process(), broker.tcp()] {
            let topic = format!("t-{}-{}", waiting.is_tcp(), producing.is_tcp());
            producing.create_topic(&topic, 1, &[]);
            // The wait is far longer than the test may take.
            waiting.send(11, fetch_request(&topic, 0, 0, 600_000, 1));
            producing.produce(&topic, 0, -1, batch(&["a"]));
            assert_eq!(values(&fetched(waiting.receive()).records), ["a"]);
        }
    }
}

#[test]
fn a_waiting_fetch_learns_that_its_topic_was_deleted() {
    let broker = TestBroker::start(&[]);
    let (mut waiting, mut other) = (broker.in_process(), broker.in_process());
    other.create_topic("t", 1, &[]);
    waiting.send(11, fetch_request("t", 0, 0, 600_000, 1));
    let request = protocol::api::messages::DeleteTopicsRequest::default().with_topic_names(vec![name_of("t")]);
    other.call(4, request);
    assert_eq!(fetched(waiting.receive()).error_code, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn answers_come_in_the_order_of_requests_behind_a_long_poll() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        peer.send(11, fetch_request("t", 0, 0, 100, 1));
        peer.send(0, ApiVersionsRequest::default());
        assert!(matches!(peer.receive(), Response::Fetch(_)));
        assert!(matches!(peer.receive(), Response::ApiVersions(_)));
    });
}

#[test]
fn requests_may_be_pipelined() {
    on_each_target(&[("durability", "power")], |peer| {
        peer.create_topic("t", 1, &[]);
        for _ in 0..300 {
            peer.send(9, produce_request("t", 0, -1, batch(&["a"])));
        }
        for offset in 0..300 {
            assert_eq!(produced(peer.receive()).base_offset, offset);
        }
    });
}

#[test]
fn a_request_sees_what_those_before_it_on_its_connection_changed() {
    let broker = TestBroker::start(&[("durability", "power")]);
    let mut peer = broker.tcp();
    for round in 1..=20 {
        peer.send(7, CreateTopicsRequest::default().with_topics(vec![topic("t", 1, &[])]).with_timeout_ms(5000));
        for value in ["a", "b", "c"] {
            peer.send(9, produce_request("t", 0, -1, batch(&[value])));
        }
        peer.send(7, list_offsets_request(-1));
        peer.send(11, fetch_request("t", 0, 0, 0, 0));
        peer.send(5, DeleteTopicsRequest::default().with_topic_names(vec![name_of("t")]).with_timeout_ms(5000));
        peer.send(7, list_offsets_request(-1));
        let Response::CreateTopics(created) = peer.receive() else { panic!() };
        assert_eq!(created.topics[0].error_code, 0, "round {round}: the topic of the round before is gone");
        for offset in 0..3 {
            assert_eq!(produced(peer.receive()).base_offset, offset);
        }
        assert_eq!(listed(peer.receive()), (0, -1, 3));
        assert_eq!(values(&fetched(peer.receive()).records), ["a", "b", "c"]);
        assert!(matches!(peer.receive(), Response::DeleteTopics(deleted) if deleted.responses[0].error_code == 0));
        assert_eq!(listed(peer.receive()).0, ErrorCode::UnknownTopicOrPartition.code());
    }
}

#[test]
fn limits_cut_a_fetch_but_one_batch_always_comes() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 2, &[]);
        let value = "x".repeat(1000);
        for index in 0..2 {
            for _ in 0..3 {
                peer.produce("t", index, -1, batch(&[&value]));
            }
        }
        let mut sizes = |partition_max: i32, max_bytes: i32| -> Vec<usize> {
            let wanted = |index| FetchPartition {
                index,
                fetch_offset: 0,
                partition_max_bytes: partition_max,
                ..FetchPartition::default()
            };
            let topics =
                vec![FetchTopic { name: "t".into(), topic_id: Uuid::nil(), partitions: vec![wanted(0), wanted(1)] }];
            let request = FetchRequest { max_bytes, min_bytes: 1, topics, ..FetchRequest::default() };
            let response = fetch_response(peer.call(11, request));
            response
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|answer| answer.records.len_bytes())
                .collect()
        };
        let one = batch(&[&value]).len();
        assert_eq!(sizes(1, 1), [one, 0], "the first batch comes whole however small the limits");
        assert_eq!(sizes(1 << 20, 1 << 20), [3 * one, 3 * one]);
        // What the limit cuts may be sent in part or left out; what was sent in part is no whole batch.
        assert!(sizes(1200, 1 << 20).iter().all(|size| (one..=1200).contains(size)));
        let sizes = sizes(1 << 20, 3 * one as i32 + 100);
        assert!(sizes[0] == 3 * one && sizes[1] <= 100, "{sizes:?}");
    });
}

fn incremental(session_id: i32, epoch: i32, topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest {
        session_id,
        session_epoch: epoch,
        max_bytes: 1 << 20,
        min_bytes: 1,
        topics,
        ..FetchRequest::default()
    }
}

fn from_offset(name: &str, index: i32, offset: i64) -> FetchTopic {
    let wanted =
        FetchPartition { index, fetch_offset: offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    FetchTopic { name: name.into(), topic_id: Uuid::nil(), partitions: vec![wanted] }
}

#[test]
fn a_fetch_session_answers_only_what_changed() {
    on_each_target(&[], |peer| {
        peer.create_topic("a", 1, &[]);
        peer.create_topic("b", 1, &[]);
        let full = incremental(0, 0, vec![from_offset("a", 0, 0), from_offset("b", 0, 0)]);
        let response = fetch_response(peer.call(11, full));
        let id = response.session_id;
        assert!(id != 0);
        assert_eq!(response.topics.len(), 2);
        let response = fetch_response(peer.call(11, incremental(id, 1, Vec::new())));
        assert_eq!((response.session_id, response.topics.len()), (id, 0), "nothing changed");
        peer.produce("b", 0, -1, batch(&["x"]));
        let response = fetch_response(peer.call(11, incremental(id, 2, Vec::new())));
        assert_eq!(response.topics.len(), 1);
        assert_eq!(values(&response.topics[0].partitions[0].records), ["x"]);
        let response = fetch_response(peer.call(11, incremental(id, 3, vec![from_offset("b", 0, 1)])));
        assert_eq!(response.topics.len(), 0);
        let mut forget = incremental(id, 4, Vec::new());
        forget.forgotten.push(protocol::api::ForgottenTopic {
            name: "b".into(),
            topic_id: Uuid::nil(),
            partitions: vec![0],
        });
        peer.call(11, forget);
        peer.produce("b", 0, -1, batch(&["y"]));
        assert_eq!(fetch_response(peer.call(11, incremental(id, 5, Vec::new()))).topics.len(), 0);
    });
}

#[test]
fn fetch_sessions_are_refused_with_kafkas_codes() {
    on_each_target(&[], |peer| {
        let topic_id = peer.create_topic("a", 1, &[]);
        let id = fetch_response(peer.call(11, incremental(0, 0, vec![from_offset("a", 0, 0)]))).session_id;
        let mut code = |version: i16, request: FetchRequest| {
            let response = fetch_response(peer.call(version, request));
            (response.error_code, response.session_id, response.topics.len())
        };
        assert_eq!(code(11, incremental(id, 2, Vec::new())), (ErrorCode::InvalidFetchSessionEpoch, 0, 0));
        assert_eq!(code(11, incremental(id ^ 1, 1, Vec::new())), (ErrorCode::FetchSessionIdNotFound, 0, 0));
        let mut by_id = from_offset("", 0, 0);
        by_id.topic_id = topic_id;
        assert_eq!(code(13, incremental(id, 1, vec![by_id])), (ErrorCode::FetchSessionTopicIdError, 0, 0));
        assert_eq!(code(11, incremental(id, 1, Vec::new())).0, ErrorCode::None);
        // Epoch -1 closes the session.
        assert_eq!(code(11, incremental(id, -1, vec![from_offset("a", 0, 0)])), (ErrorCode::None, 0, 1));
        assert_eq!(code(11, incremental(id, 2, Vec::new())).0, ErrorCode::FetchSessionIdNotFound);
    });
}

#[test]
fn a_partition_in_error_is_repeated_in_a_session_until_it_is_well() {
    on_each_target(&[], |peer| {
        let response = fetch_response(peer.call(11, incremental(0, 0, vec![from_offset("late", 0, 0)])));
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition);
        let id = response.session_id;
        assert_eq!(fetch_response(peer.call(11, incremental(id, 1, Vec::new()))).topics.len(), 1);
        peer.create_topic("late", 1, &[]);
        let response = fetch_response(peer.call(11, incremental(id, 2, Vec::new())));
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None);
        assert_eq!(fetch_response(peer.call(11, incremental(id, 3, Vec::new()))).topics.len(), 0);
    });
}

fn list_offsets_request(timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(name_of("t")).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// (error code, timestamp, offset)
fn listed(response: Response) -> (i16, i64, i64) {
    let Response::ListOffsets(response) = response else { panic!("{response:?}") };
    let answer = &response.topics[0].partitions[0];
    (answer.error_code, answer.timestamp, answer.offset)
}

fn list_offsets(peer: &mut Peer, version: i16, timestamp: i64) -> (i16, i64, i64) {
    listed(peer.call(version, list_offsets_request(timestamp)))
}

#[test]
fn offsets_are_listed_by_time_and_by_name() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        assert_eq!(list_offsets(peer, 7, -3), (0, -1, -1), "no greatest timestamp in an empty log");
        let base = 1_700_000_000_000;
        peer.produce("t", 0, -1, batch_at(base, &["a", "b"]));
        peer.produce("t", 0, -1, batch_at(base + 100, &["c"]));
        peer.produce("t", 0, -1, batch_at(base + 50, &["d"]));
        assert_eq!(list_offsets(peer, 7, -1), (0, -1, 4));
        assert_eq!(list_offsets(peer, 7, -2), (0, -1, 0));
        assert_eq!(list_offsets(peer, 7, -3), (0, base + 100, 2));
        assert_eq!(list_offsets(peer, 8, -4), (0, -1, 0));
        assert_eq!(list_offsets(peer, 9, -5), (0, -1, -1));
        assert_eq!(list_offsets(peer, 7, base + 1), (0, base + 1, 1));
        assert_eq!(list_offsets(peer, 7, base + 2), (0, base + 100, 2));
        assert_eq!(list_offsets(peer, 7, base + 101), (0, -1, -1));
        assert_eq!(list_offsets(peer, 6, -3).0, 35, "a special value below its version");
        assert_eq!(list_offsets(peer, 7, -9).0, 35);
    });
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        peer.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
        peer.produce("t", 0, -1, batch(&["a", "b", "c"]));
        let mut delete = |topic: &str, offset: i64| {
            let partition = DeleteRecordsPartition::default().with_offset(offset);
            let topic = DeleteRecordsTopic::default().with_name(name_of(topic)).with_partitions(vec![partition]);
            let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
            let Response::DeleteRecords(response) = peer.call(2, request) else { panic!() };
            let answer = &response.topics[0].partitions[0];
            (answer.error_code, answer.low_watermark)
        };
        assert_eq!(delete("t", 4), (1, -1));
        assert_eq!(delete("t", -2), (1, -1));
        assert_eq!(delete("no", 0), (3, -1));
        assert_eq!(delete("compacted", 0), (44, -1));
        assert_eq!(delete("t", 2), (0, 2));
        assert_eq!(delete("t", 1), (0, 2), "a lower offset changes nothing");
        assert_eq!(delete("t", -1), (0, 3));
        assert_eq!(peer.fetch("t", 0, 2).error_code, ErrorCode::OffsetOutOfRange);
        assert_eq!(list_offsets(peer, 7, -2), (0, -1, 3));
    });
}

#[test]
fn the_end_of_a_leader_epoch_is_known() {
    on_each_target(&[], |peer| {
        peer.create_topic("t", 1, &[]);
        peer.produce("t", 0, -1, batch(&["a", "b"]));
        let mut end_of = |known: i32, epoch: i32| {
            let partition =
                OffsetForLeaderPartition::default().with_current_leader_epoch(known).with_leader_epoch(epoch);
            let topic = OffsetForLeaderTopic::default().with_topic(name_of("t")).with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            let Response::OffsetForLeaderEpoch(response) = peer.call(4, request) else { panic!() };
            let answer = &response.topics[0].partitions[0];
            (answer.error_code, answer.leader_epoch, answer.end_offset)
        };
        assert_eq!(end_of(-1, 0), (0, 0, 2));
        assert_eq!(end_of(0, 5), (0, -1, -1), "an epoch that never was");
        assert_eq!(end_of(5, 0), (75, -1, -1));
    });
}
