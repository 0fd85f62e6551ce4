//! Our own Produce and Fetch codecs against `kafka-protocol`'s, in every version and both directions; and the table of
//! APIs against its.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, StrBytes};
use uuid::Uuid;

use super::describe_share_group_offsets::DescribeShareGroupOffsetsResponse;
use super::pieces::PieceWriter;
use super::share_acknowledge::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use super::share_fetch::{ShareFetchRequest, ShareFetchResponse};
use super::wire::WireMessage;
use super::*;

fn written<T: WireMessage>(message: &T, version: i16) -> Bytes {
    let mut out = PieceWriter::default();
    message.encode_wire(&mut out, version).expect("encodable");
    out.finish().to_bytes().expect("in memory")
}

/// Their codec reads what ours wrote, and writes the same; ours reads that back to the same bytes.
fn assert_same<Ours: WireMessage, Theirs: Encodable + Decodable + HeaderVersion + Message>(ours: &Ours, version: i16) {
    assert!(version >= Theirs::VERSIONS.min && version <= Theirs::VERSIONS.max);
    assert_eq!(Ours::header_version_of(version), Theirs::header_version(version));
    let bytes = written(ours, version);
    let mut rest = bytes.clone();
    let read = Theirs::decode(&mut rest, version).expect("theirs reads ours");
    assert!(rest.is_empty(), "version {version}: {} bytes left", rest.len());
    let mut again = BytesMut::new();
    read.encode(&mut again, version).expect("theirs writes");
    assert_eq!(again, bytes, "version {version}");
    let back = Ours::decode_wire(again.freeze(), version).expect("ours reads theirs");
    assert_eq!(written(&back, version), bytes, "version {version}");
}

fn node() -> NodeEndpoint {
    NodeEndpoint { node_id: 3, host: "h3".into(), port: 9092, rack: Some("r".into()) }
}

#[test]
fn produce_is_the_same_in_every_version() {
    for version in 3..=13 {
        let long = Bytes::from(vec![7; 2000]);
        let request = ProduceRequest {
            transactional_id: (version % 2 == 0).then(|| "tx".into()),
            acks: -1,
            timeout_ms: 30_000,
            topics: vec![
                ProduceTopic {
                    name: if version < 13 { "orders".into() } else { "".into() },
                    topic_id: if version < 13 { Uuid::nil() } else { Uuid::from_u128(7) },
                    partitions: vec![
                        ProducePartition { index: 0, records: Some(Bytes::from_static(b"batch").into()) },
                        ProducePartition { index: 5, records: Some(long.clone().into()) },
                        ProducePartition { index: 6, records: None },
                    ],
                },
                ProduceTopic::default(),
            ],
        };
        assert_same::<_, theirs::ProduceRequest>(&request, version);
        let mut partition = ProducePartitionResponse {
            index: 5,
            error_code: ErrorCode::InvalidRecord,
            base_offset: 12,
            log_append_time_ms: 99,
            ..Default::default()
        };
        if version >= 5 {
            partition.log_start_offset = 4;
        }
        if version >= 8 {
            partition.record_errors = vec![(0, Some("bad".into())), (3, None)];
            partition.error_message = Some("all bad".into());
        }
        if version >= 10 {
            partition.current_leader = LeaderIdAndEpoch { leader_id: 3, leader_epoch: 8 };
        }
        let response = ProduceResponse {
            topics: vec![ProduceTopicResponse {
                name: if version < 13 { "orders".into() } else { "".into() },
                topic_id: if version < 13 { Uuid::nil() } else { Uuid::from_u128(7) },
                partitions: vec![partition, ProducePartitionResponse::default()],
            }],
            throttle_time_ms: 17,
            node_endpoints: if version >= 10 { vec![node()] } else { vec![] },
        };
        assert_same::<_, theirs::ProduceResponse>(&response, version);
        assert_same::<_, theirs::ProduceResponse>(&ProduceResponse::default(), version);
        assert_eq!(ProduceResponse::decode_wire(written(&response, version), version).expect("read"), response);
        assert_eq!(ProduceRequest::decode_wire(written(&request, version), version).expect("read"), request);
    }
}

#[test]
fn fetch_request_is_the_same_in_every_version() {
    for version in 4..=18 {
        let by_name = version < 13;
        let name = || if by_name { "orders".into() } else { "".into() };
        let topic_id = if by_name { Uuid::nil() } else { Uuid::from_u128(7) };
        let mut partition =
            FetchPartition { index: 2, fetch_offset: 77, partition_max_bytes: 1000, ..Default::default() };
        let mut request = FetchRequest {
            replica_id: 4,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50_000_000,
            isolation_level: 1,
            ..Default::default()
        };
        if version >= 5 {
            partition.log_start_offset = 3;
        }
        if version >= 7 {
            request.session_id = 9;
            request.session_epoch = 2;
            request.forgotten = vec![ForgottenTopic { name: name(), topic_id, partitions: vec![1, 2] }];
        }
        if version >= 9 {
            partition.current_leader_epoch = 6;
        }
        if version >= 11 {
            request.rack_id = "rack".into();
        }
        if version >= 12 {
            partition.last_fetched_epoch = 5;
            request.cluster_id = Some("cluster".into());
        }
        if version >= 15 {
            request.replica_epoch = 12;
        }
        if version >= 17 {
            partition.replica_directory_id = Uuid::from_u128(8);
        }
        if version >= 18 {
            partition.high_watermark = 70;
        }
        let partitions = vec![partition, FetchPartition::default()];
        request.topics = vec![FetchTopic { name: name(), topic_id, partitions }];
        assert_same::<_, theirs::FetchRequest>(&request, version);
        assert_same::<_, theirs::FetchRequest>(&FetchRequest::default(), version);
        assert_eq!(FetchRequest::decode_wire(written(&request, version), version).expect("read"), request);
    }
}

#[test]
fn fetch_response_is_the_same_in_every_version() {
    for version in 4..=18 {
        let by_name = version < 13;
        let mut records = Pieces::from(Bytes::from(vec![1; 700]));
        records.push_bytes(Bytes::from_static(b"tail"));
        let mut partition = FetchPartitionResponse {
            index: 2,
            error_code: ErrorCode::FencedLeaderEpoch,
            high_watermark: 10,
            last_stable_offset: 9,
            aborted: Some(vec![AbortedTransaction { producer_id: 5, first_offset: 6 }]),
            records,
            ..Default::default()
        };
        let mut response = FetchResponse { throttle_time_ms: 3, ..Default::default() };
        if version >= 5 {
            partition.log_start_offset = 1;
        }
        if version >= 7 {
            response.error_code = ErrorCode::FetchSessionIdNotFound;
            response.session_id = 8;
        }
        if version >= 11 {
            partition.preferred_read_replica = 2;
        }
        if version >= 12 {
            partition.diverging_epoch = EpochEndOffset { epoch: 1, end_offset: 2 };
            partition.current_leader = LeaderIdAndEpoch { leader_id: 3, leader_epoch: 4 };
            partition.snapshot_id = EpochEndOffset { epoch: 5, end_offset: 6 };
        }
        if version >= 16 {
            response.node_endpoints = vec![node()];
        }
        response.topics = vec![FetchTopicResponse {
            name: if by_name { "orders".into() } else { "".into() },
            topic_id: if by_name { Uuid::nil() } else { Uuid::from_u128(7) },
            partitions: vec![partition, FetchPartitionResponse::default()],
        }];
        assert_same::<_, theirs::FetchResponse>(&response, version);
        assert_same::<_, theirs::FetchResponse>(&FetchResponse::default(), version);
        assert_eq!(FetchResponse::decode_wire(written(&response, version), version).expect("read"), response);
    }
}

#[test]
fn null_records_of_a_fetch_read_as_empty() {
    let partition = theirs::fetch_response::PartitionData::default().with_records(None);
    let topic = theirs::fetch_response::FetchableTopicResponse::default().with_partitions(vec![partition]);
    let response = theirs::FetchResponse::default().with_responses(vec![topic]);
    for version in [4, 12, 18] {
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).expect("encodable");
        let read = FetchResponse::decode_wire(bytes.freeze(), version).expect("readable");
        assert!(read.topics[0].partitions[0].records.is_empty());
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let state = theirs::fetch_request::ReplicaState::default().with_unknown_tagged_field(9, Bytes::from_static(b"x"));
    let request = theirs::FetchRequest::default()
        .with_replica_state(state.with_replica_epoch(4))
        .with_cluster_id(Some(StrBytes::from_static_str("c")))
        .with_unknown_tagged_field(77, Bytes::from_static(b"later"));
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, 18).expect("encodable");
    let read = FetchRequest::decode_wire(bytes.freeze(), 18).expect("readable");
    assert_eq!((read.replica_epoch, read.cluster_id.as_deref()), (4, Some("c")));
}

#[test]
fn requests_and_answers_of_share_groups_are_laid_out_as_theirs() {
    use theirs::{
        share_acknowledge_request as acknowledge, share_fetch_request as fetch, share_fetch_response as fetched,
    };

    let id = uuid::Uuid::from_u128(0x1234_5678);
    let text = || Some(StrBytes::from_static_str("g"));
    let batch = fetch::AcknowledgementBatch::default().with_first_offset(3).with_last_offset(9);
    let partition = fetch::FetchPartition::default()
        .with_partition_index(7)
        .with_acknowledgement_batches(vec![batch.with_acknowledge_types(vec![1])]);
    let request = theirs::ShareFetchRequest::default()
        .with_group_id(text().map(Into::into))
        .with_member_id(text())
        .with_share_session_epoch(5)
        .with_max_records(11)
        .with_topics(vec![fetch::FetchTopic::default().with_topic_id(id).with_partitions(vec![partition])]);
    let ours = same_bytes::<_, ShareFetchRequest>(&request, 1);
    assert_eq!((ours.share_session_epoch, ours.max_records, ours.topics[0].topic_id), (5, 11, id));
    assert_eq!(ours.topics[0].partitions[0].acknowledgement_batches[0].acknowledge_types, [1]);

    let acquired = fetched::AcquiredRecords::default().with_first_offset(1).with_last_offset(2).with_delivery_count(3);
    let partition = fetched::PartitionData::default()
        .with_partition_index(7)
        .with_acknowledge_error_code(121)
        .with_records(Some(Bytes::from_static(b"records")))
        .with_acquired_records(vec![acquired]);
    let topic = fetched::ShareFetchableTopicResponse::default().with_topic_id(id).with_partitions(vec![partition]);
    let response =
        theirs::ShareFetchResponse::default().with_acquisition_lock_timeout_ms(30_000).with_responses(vec![topic]);
    let ours = same_bytes::<_, ShareFetchResponse>(&response, 1);
    assert_eq!(ours.responses[0].partitions[0].acquired_records[0].delivery_count, 3);

    let batch = acknowledge::AcknowledgementBatch::default().with_last_offset(4).with_acknowledge_types(vec![2]);
    let partition =
        acknowledge::AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]).with_partition_index(1);
    let topic = acknowledge::AcknowledgeTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    let request = theirs::ShareAcknowledgeRequest::default().with_member_id(text()).with_topics(vec![topic]);
    same_bytes::<_, ShareAcknowledgeRequest>(&request, 1);
    same_bytes::<_, ShareAcknowledgeResponse>(&theirs::ShareAcknowledgeResponse::default().with_error_code(122), 1);

    let group = theirs::describe_share_group_offsets_response::DescribeShareGroupOffsetsResponseGroup::default()
        .with_error_code(69)
        .with_error_message(text());
    let response = theirs::DescribeShareGroupOffsetsResponse::default().with_groups(vec![group]);
    same_bytes::<_, DescribeShareGroupOffsetsResponse>(&response, 0);
}

/// Reads `theirs` as our struct, and expects the same bytes when that is written.
fn same_bytes<T: Encodable, O: WireMessage>(theirs: &T, version: i16) -> O {
    let mut bytes = BytesMut::new();
    theirs.encode(&mut bytes, version).expect("encodable");
    let bytes = bytes.freeze();
    let ours = O::decode_wire(bytes.clone(), version).expect("readable");
    assert_eq!(written(&ours, version), bytes);
    ours
}

#[test]
fn the_table_of_apis_is_within_what_the_codec_has() {
    for key in ApiKey::ALL {
        let Ok(known) = theirs::ApiKey::try_from(*key as i16) else {
            assert!(matches!(key, ApiKey::StreamsGroupHeartbeat | ApiKey::StreamsGroupDescribe), "{key}");
            continue;
        };
        assert_eq!(format!("{known:?}"), key.name());
        let (min, max) = supported_versions(*key);
        let range = known.valid_versions();
        // Of these we have a version more: in a struct of our own, or in `newest.rs`.
        let has_newest = matches!(
            key,
            ApiKey::WriteTxnMarkers
                | ApiKey::ListOffsets
                | ApiKey::OffsetCommit
                | ApiKey::OffsetFetch
                | ApiKey::DescribeLogDirs
                | ApiKey::AddRaftVoter
                | ApiKey::ShareFetch
                | ApiKey::ShareAcknowledge
                | ApiKey::DescribeShareGroupOffsets
                | ApiKey::WriteShareGroupState
                | ApiKey::ReadShareGroupStateSummary
        );
        let theirs_max = range.max + i16::from(has_newest);
        assert!(range.min <= min && max <= theirs_max && min <= max, "{key}: {min} to {max}, codec {range}");
        assert_eq!(ApiKey::from_code(*key as i16), Some(*key));
        for version in min..=max {
            assert_eq!(key.request_header_version(version), known.request_header_version(version), "{key} {version}");
            assert_eq!(key.response_header_version(version), known.response_header_version(version), "{key} {version}");
        }
    }
    assert_eq!(ApiKey::ALL.len(), 89);
    assert_eq!(ApiKey::ALL.iter().filter(|key| is_client_api(**key)).count(), 75);
    assert_eq!(advertised_versions(ApiKey::Produce), (0, 13));
    assert_eq!(supported_versions(ApiKey::Produce), (3, 13));
    assert_eq!(ApiKey::from_code(4), None);
}

#[test]
fn error_codes_are_kafkas() {
    assert_eq!(ErrorCode::from_code(6), ErrorCode::NotLeaderOrFollower);
    assert_eq!(ErrorCode::NotLeaderOrFollower.name(), "NOT_LEADER_OR_FOLLOWER");
    assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
    assert!(!ErrorCode::InvalidRecord.is_retriable());
    assert_eq!(ErrorCode::from_code(-1), ErrorCode::UnknownServerError);
    assert_eq!(ErrorCode::from_code(12345), ErrorCode::UnknownServerError);
    assert_eq!(ErrorCode::from_code(0).into_result(), Ok(()));
    assert_eq!(ErrorCode::ALL.len(), 134);
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from(i16::from(*code)), *code);
        assert!(code.message().len() > 8, "{code}");
    }
}
