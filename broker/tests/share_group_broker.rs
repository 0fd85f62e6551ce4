//! Share groups on a whole broker: members, acquired records, acknowledgements, sessions, offsets that an operator sets, and what a restart keeps.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod support;

use std::sync::Arc;

use protocol::api::describe_share_group_offsets::*;
use protocol::api::messages::alter_share_group_offsets_request::*;
use protocol::api::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use protocol::api::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::api::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::api::messages::{
    AlterShareGroupOffsetsRequest, DeleteGroupsRequest, DeleteShareGroupOffsetsRequest, FindCoordinatorRequest,
    GroupId, IncrementalAlterConfigsRequest, ListGroupsRequest, OffsetCommitRequest, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
};
use protocol::api::share_acknowledge::*;
use protocol::api::share_fetch::*;
use protocol::api::{ErrorCode, Response, Uuid};
use support::*;

const GROUP_RESOURCE: i8 = 32;
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

/// Offsets and delivery counts of what was acquired.
type Acquired = Vec<(i64, i64, i16)>;

fn beat(peer: &mut Peer, member: &str, epoch: i32) -> ShareGroupHeartbeatResponse {
    let request = ShareGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names((epoch == 0).then(|| vec![name_of("t")]));
    for _ in 0..100 {
        let Response::ShareGroupHeartbeat(response) = peer.call(1, request.clone()) else { panic!() };
        if response.error_code != ErrorCode::CoordinatorNotAvailable.code() {
            return response;
        }
        peer.call(4, FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    }
    panic!("no coordinator");
}

fn set(peer: &mut Peer, name: &str, value: &str) -> i16 {
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default().with_resource_type(GROUP_RESOURCE).with_resource_name(text("g"));
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]);
    let Response::IncrementalAlterConfigs(response) = peer.call(1, request) else { panic!() };
    response.responses[0].error_code
}

fn told(topic: Uuid, batches: &[(i64, i64, i8)]) -> Vec<ShareFetchTopic> {
    let batches = batches.iter().map(|(first, last, kind)| AcknowledgementBatch {
        first_offset: *first,
        last_offset: *last,
        acknowledge_types: vec![*kind],
    });
    let partition = ShareFetchPartition { partition_index: 0, acknowledgement_batches: batches.collect() };
    vec![ShareFetchTopic { topic_id: topic, partitions: vec![partition] }]
}

fn request(member: &str, epoch: i32, topics: Vec<ShareFetchTopic>) -> ShareFetchRequest {
    ShareFetchRequest {
        group_id: Some(Arc::from("g")),
        member_id: Some(Arc::from(member)),
        share_session_epoch: epoch,
        max_bytes: 1 << 20,
        max_records: 500,
        batch_size: 500,
        topics,
        ..Default::default()
    }
}

fn fetch(peer: &mut Peer, request: ShareFetchRequest) -> ShareFetchResponse {
    let Response::ShareFetch(response) = peer.call(2, request) else { panic!() };
    response
}

fn acquired(response: &ShareFetchResponse) -> Acquired {
    assert_eq!(response.error_code, 0);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let records = partitions
        .inspect(|partition| assert_eq!(partition.error_code, 0))
        .flat_map(|partition| &partition.acquired_records);
    records.map(|acquired| (acquired.first_offset, acquired.last_offset, acquired.delivery_count)).collect()
}

fn acknowledge(peer: &mut Peer, member: &str, epoch: i32, topics: Vec<ShareFetchTopic>) -> (i16, Vec<i16>) {
    let is_renew_ack = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .flat_map(|partition| &partition.acknowledgement_batches)
        .any(|batch| batch.acknowledge_types.contains(&RENEW));
    let request = ShareAcknowledgeRequest {
        group_id: Some(Arc::from("g")),
        member_id: Some(Arc::from(member)),
        share_session_epoch: epoch,
        is_renew_ack,
        topics,
    };
    let Response::ShareAcknowledge(response) = peer.call(2, request) else { panic!() };
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    (response.error_code, partitions.map(|partition| partition.error_code).collect())
}

/// Start offset and lag.
fn stands(peer: &mut Peer) -> (i64, i64) {
    let group = DescribeShareGroup { group_id: Arc::from("g"), topics: None };
    let request = DescribeShareGroupOffsetsRequest { groups: vec![group] };
    let Response::DescribeShareGroupOffsets(response) = peer.call(1, request) else { panic!() };
    assert_eq!(response.groups[0].error_code, 0, "{response:?}");
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.start_offset, partition.lag)
}

/// A broker with a topic of one partition and ten records, and a group that reads it from the beginning.
fn world() -> (TestBroker, Peer, Uuid) {
    let broker = TestBroker::start(&[("group.share.assignment.interval.ms", "0")]);
    let mut peer = broker.tcp();
    let id = peer.create_topic("t", 1, &[]);
    assert_eq!(set(&mut peer, "share.auto.offset.reset", "earliest"), 0);
    peer.produce("t", 0, 1, batch(&["0", "1", "2", "3", "4"]));
    peer.produce("t", 0, 1, batch(&["5", "6", "7", "8", "9"]));
    let joined = beat(&mut peer, "a", 0);
    assert_eq!((joined.error_code, joined.member_epoch, joined.heartbeat_interval_ms), (0, 2, 5_000));
    assert!(joined.assignment.unwrap().topic_partitions.is_empty(), "their state is made on the way");
    let told = beat(&mut peer, "a", 2);
    let assignment = told.assignment.unwrap();
    assert_eq!(
        (assignment.topic_partitions[0].topic_id, &assignment.topic_partitions[0].partitions[..]),
        (id, &[0][..])
    );
    (broker, peer, id)
}

#[test]
fn records_are_acquired_settled_and_kept_over_a_restart() {
    let (mut broker, mut peer, id) = world();
    let first = fetch(&mut peer, request("a", 0, told(id, &[])));
    assert_eq!((acquired(&first), first.acquisition_lock_timeout_ms), (vec![(0, 9, 1)], 30_000));
    assert_eq!(values(&first.responses[0].partitions[0].records).len(), 10);
    assert_eq!(acquired(&fetch(&mut peer, request("a", 1, vec![]))), [], "all of it is locked");
    let settled = acknowledge(&mut peer, "a", 2, told(id, &[(0, 2, ACCEPT), (3, 4, RELEASE), (5, 5, REJECT)]));
    assert_eq!(settled, (0, vec![0]));
    assert_eq!(stands(&mut peer), (0, 10 - 4), "persisted, though not moved yet");
    let again = fetch(&mut peer, request("a", 3, told(id, &[(6, 9, ACCEPT)])));
    assert_eq!(acquired(&again), [(3, 4, 2)]);
    assert_eq!(values(&again.responses[0].partitions[0].records).len(), 5, "the batch that holds them");
    let wrong = acknowledge(&mut peer, "a", 4, told(id, &[(0, 9, ACCEPT)]));
    assert_eq!(wrong, (0, vec![ErrorCode::InvalidRecordState.code()]));
    let past = acknowledge(&mut peer, "a", 5, told(id, &[(3, 99, ACCEPT)]));
    assert_eq!(past, (0, vec![ErrorCode::InvalidRequest.code()]));

    // Answered once the release is in the log. A connection that is only dropped releases too, but a shutdown does not wait for that.
    assert_eq!(acknowledge(&mut peer, "a", -1, vec![]), (0, vec![]));
    drop(peer);
    broker.restart();
    let mut peer = broker.tcp();
    let response = fetch(&mut peer, request("a", 0, told(id, &[])));
    assert_eq!(acquired(&response), [(3, 4, 3)], "what was not settled is handed out again");
    assert_eq!(acknowledge(&mut peer, "a", 1, told(id, &[(3, 4, ACCEPT)])), (0, vec![0]));
    peer.produce("t", 0, 1, batch(&["10"]));
    assert_eq!(acquired(&fetch(&mut peer, request("a", 2, vec![]))), [(10, 10, 1)]);
    assert_eq!(beat(&mut peer, "a", 3).error_code, 0, "the group is there still");
}

#[test]
fn a_groups_setting_holds_from_the_next_fetch_on() {
    let (_broker, mut peer, id) = world();
    let lock_ms = |peer: &mut Peer, epoch| fetch(peer, request("a", epoch, told(id, &[]))).acquisition_lock_timeout_ms;
    assert_eq!(lock_ms(&mut peer, 0), 30_000);
    assert_eq!(set(&mut peer, "share.record.lock.duration.ms", "20000"), 0);
    assert_eq!(lock_ms(&mut peer, 1), 20_000);
    assert_eq!(set(&mut peer, "share.record.lock.duration.ms", "40000"), 0);
    assert_eq!(lock_ms(&mut peer, 2), 40_000);
}

#[test]
fn the_end_of_a_session_releases_what_it_had() {
    let (_broker, mut peer, id) = world();
    fetch(&mut peer, request("a", 0, told(id, &[])));
    assert_eq!(acquired(&fetch(&mut peer, request("b", 0, told(id, &[])))), []);
    let closed = acknowledge(&mut peer, "a", -1, told(id, &[(0, 3, ACCEPT)]));
    assert_eq!(closed, (0, vec![0]));
    assert_eq!(acquired(&fetch(&mut peer, request("b", 1, vec![]))), [(4, 9, 2)]);
    let gone = acknowledge(&mut peer, "a", 1, vec![]);
    assert_eq!(gone.0, ErrorCode::ShareSessionNotFound.code());
    let skipped = fetch(&mut peer, request("b", 9, vec![]));
    assert_eq!(skipped.error_code, ErrorCode::InvalidShareSessionEpoch.code());
    let opening = fetch(&mut peer, request("c", 0, told(id, &[(0, 0, ACCEPT)])));
    assert_eq!(opening.error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn a_lost_connection_releases_too_and_wakes_who_waits() {
    let (broker, mut peer, id) = world();
    let mut lost = broker.tcp();
    assert_eq!(acquired(&fetch(&mut lost, request("a", 0, told(id, &[])))), [(0, 9, 1)]);
    fetch(&mut peer, request("b", 0, told(id, &[])));
    peer.send(2, ShareFetchRequest { max_wait_ms: 15_000, min_bytes: 1, ..request("b", 1, vec![]) });
    drop(lost);
    let Response::ShareFetch(woken) = peer.receive() else { panic!() };
    assert_eq!(acquired(&woken), [(0, 9, 2)]);
}

#[test]
fn a_fetch_waits_for_records_and_strict_mode_divides_batches() {
    let (broker, mut peer, id) = world();
    let strict = |epoch| ShareFetchRequest { max_records: 3, share_acquire_mode: 1, ..request("a", epoch, vec![]) };
    let first = fetch(&mut peer, ShareFetchRequest { topics: told(id, &[]), ..strict(0) });
    assert_eq!(acquired(&first), [(0, 2, 1)]);
    assert_eq!(acquired(&fetch(&mut peer, strict(1))), [(3, 5, 1)]);
    let whole = fetch(&mut peer, ShareFetchRequest { max_records: 1, ..request("a", 2, vec![]) });
    assert_eq!(acquired(&whole), [(6, 9, 1)]);
    peer.send(2, ShareFetchRequest { max_wait_ms: 15_000, min_bytes: 1, ..request("a", 3, vec![]) });
    broker.in_process().produce("t", 0, 1, batch(&["10"]));
    let Response::ShareFetch(woken) = peer.receive() else { panic!() };
    assert_eq!(acquired(&woken), [(10, 10, 1)]);
    let renewed = acknowledge(&mut peer, "a", 4, told(id, &[(0, 10, RENEW)]));
    assert_eq!(renewed, (0, vec![0]));
    assert_eq!(acknowledge(&mut peer, "a", 5, told(id, &[(0, 10, ACCEPT)])), (0, vec![0]));
}

#[test]
fn an_operator_sets_and_deletes_offsets_of_an_empty_group() {
    let (_broker, mut peer, id) = world();
    let alter = |peer: &mut Peer, start: i64| {
        let partition = AlterShareGroupOffsetsRequestPartition::default().with_start_offset(start);
        let topic = AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(name_of("t"))
            .with_partitions(vec![partition]);
        let request =
            AlterShareGroupOffsetsRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
        let Response::AlterShareGroupOffsets(response) = peer.call(0, request) else { panic!() };
        response.error_code
    };
    assert_eq!(alter(&mut peer, 7), ErrorCode::NonEmptyGroup.code());
    fetch(&mut peer, request("a", 0, told(id, &[])));
    assert_eq!(beat(&mut peer, "a", -1).error_code, 0);
    assert_eq!(alter(&mut peer, 7), 0);
    assert_eq!(stands(&mut peer), (7, 3));
    assert_eq!(beat(&mut peer, "a", 0).error_code, 0);
    assert_eq!(acquired(&fetch(&mut peer, request("a", 0, told(id, &[])))), [(7, 9, 1)]);
    assert_eq!(beat(&mut peer, "a", -1).error_code, 0);

    let topic = DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(name_of("t"));
    let delete = DeleteShareGroupOffsetsRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
    let Response::DeleteShareGroupOffsets(response) = peer.call(0, delete) else { panic!() };
    assert_eq!((response.error_code, response.responses[0].error_code), (0, 0));
    assert_eq!(beat(&mut peer, "a", 0).error_code, 0);
    assert_eq!(acquired(&fetch(&mut peer, request("a", 0, told(id, &[])))), [(0, 9, 1)], "from the beginning");
    assert_eq!(beat(&mut peer, "a", -1).error_code, 0);
    let Response::DeleteGroups(deleted) =
        peer.call(2, DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("g"))]))
    else {
        panic!()
    };
    assert_eq!(deleted.results[0].error_code, 0);
    let describe = ShareGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("g"))]);
    let Response::ShareGroupDescribe(gone) = peer.call(1, describe) else { panic!() };
    assert_eq!(gone.groups[0].error_code, ErrorCode::GroupIdNotFound.code());
}

/// Of one partition of a topic: the error, start offset and lag.
fn stand_of(peer: &mut Peer, group: &str, topic: &str, partition: i32) -> (i16, i64, i64) {
    let topic = DescribeShareTopic { topic_name: Arc::from(topic), partitions: vec![partition] };
    let group = DescribeShareGroup { group_id: Arc::from(group), topics: Some(vec![topic]) };
    let Response::DescribeShareGroupOffsets(response) =
        peer.call(1, DescribeShareGroupOffsetsRequest { groups: vec![group] })
    else {
        panic!()
    };
    assert_eq!(response.groups[0].error_code, 0);
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.start_offset, partition.lag)
}

/// As Apache Kafka 4.3.1 answers.
#[test]
fn offsets_of_groups_and_topics_that_are_not_there_are_answered_as_by_kafka() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    peer.create_topic("u", 1, &[]);
    peer.produce("t", 0, 1, batch(&["0", "1", "2"]));
    peer.call(4, FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(stand_of(&mut peer, "g", "t", 0), (0, -1, -1), "a group that is not there has come nowhere");
    let delete = |peer: &mut Peer, topic: &str| {
        let topic = DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(name_of(topic));
        let request =
            DeleteShareGroupOffsetsRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
        let Response::DeleteShareGroupOffsets(response) = peer.call(0, request) else { panic!() };
        (response.error_code, response.responses.first().map(|topic| topic.error_code))
    };
    assert_eq!(delete(&mut peer, "t"), (ErrorCode::GroupIdNotFound.code(), None));
    let alter = |peer: &mut Peer, start: i64| {
        let partition = AlterShareGroupOffsetsRequestPartition::default().with_start_offset(start);
        let topic = AlterShareGroupOffsetsRequestTopic::default().with_topic_name(name_of("t"));
        let request = AlterShareGroupOffsetsRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        let Response::AlterShareGroupOffsets(response) = peer.call(0, request) else { panic!() };
        (response.error_code, response.responses[0].partitions[0].error_code)
    };
    assert_eq!(alter(&mut peer, 1), (0, 0), "it makes the group");
    assert_eq!(stand_of(&mut peer, "g", "t", 0), (0, 1, 2));
    assert_eq!(stand_of(&mut peer, "g", "u", 0), (0, -1, -1));
    assert_eq!(stand_of(&mut peer, "g", "nope", 0), (0, -1, -1));
    assert_eq!(stand_of(&mut peer, "g", "t", 9), (unknown, -1, -1));
    assert_eq!(alter(&mut peer, 99), (0, 0));
    assert_eq!(stand_of(&mut peer, "g", "t", 0), (0, 99, -1), "the log has not come so far");
    assert_eq!(alter(&mut peer, -1), (0, 0), "from where `share.auto.offset.reset` says");
    assert_eq!(stand_of(&mut peer, "g", "t", 0), (0, -1, -1));
    assert_eq!(delete(&mut peer, "u"), (0, Some(unknown)), "nothing is known of it");
    assert_eq!(delete(&mut peer, "t"), (0, Some(0)));
    assert_eq!(delete(&mut peer, "t"), (0, Some(unknown)));
    assert_eq!(set(&mut peer, "share.isolation.level", "READ_COMMITTED"), ErrorCode::InvalidConfig.code());
    assert_eq!(set(&mut peer, "share.auto.offset.reset", "LATEST"), ErrorCode::InvalidConfig.code());
}

#[test]
fn a_group_that_must_not_renew_is_told_so_of_the_records() {
    let (_broker, mut peer, id) = world();
    assert_eq!(set(&mut peer, "share.renew.acknowledge.enable", "false"), 0);
    fetch(&mut peer, request("a", 0, told(id, &[])));
    let refused = acknowledge(&mut peer, "a", 1, told(id, &[(0, 3, RENEW)]));
    assert_eq!(refused, (0, vec![ErrorCode::InvalidRecordState.code()]));
    assert_eq!(acknowledge(&mut peer, "a", 2, told(id, &[(0, 3, ACCEPT)])), (0, vec![0]));
}

#[test]
fn a_group_with_offsets_of_another_kind_does_not_become_a_share_group() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let id = peer.create_topic("t", 1, &[]);
    peer.call(4, FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default().with_name(name_of("t")).with_topic_id(id);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic.with_partitions(vec![partition])]);
    let Response::OffsetCommit(committed) = peer.call(8, commit) else { panic!() };
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    assert_eq!(beat(&mut peer, "a", 0).error_code, ErrorCode::GroupIdNotFound.code());
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("g"))]);
    let Response::DeleteGroups(deleted) = peer.call(2, delete) else { panic!() };
    assert_eq!(deleted.results[0].error_code, 0);
    assert_eq!(beat(&mut peer, "a", 0).error_code, 0);
}

#[test]
fn a_share_group_is_listed_described_and_set() {
    let (_broker, mut peer, _) = world();
    let Response::ListGroups(listed) =
        peer.call(5, ListGroupsRequest::default().with_types_filter(vec![text("share")]))
    else {
        panic!()
    };
    let listed = &listed.groups[0];
    assert_eq!(
        (listed.group_type.as_str(), listed.group_state.as_str(), listed.protocol_type.as_str()),
        ("share", "Stable", "share")
    );
    let describe = ShareGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("g"))]);
    let Response::ShareGroupDescribe(described) = peer.call(1, describe) else { panic!() };
    let group = &described.groups[0];
    assert_eq!((group.group_state.as_str(), group.group_epoch, group.assignor_name.as_str()), ("Stable", 3, "simple"));
    assert_eq!(group.members[0].assignment.topic_partitions[0].topic_name.as_str(), "t");
    assert_eq!(set(&mut peer, "share.auto.offset.reset", "never"), ErrorCode::InvalidConfig.code());
    assert_eq!(set(&mut peer, "share.record.lock.duration.ms", "1"), ErrorCode::InvalidConfig.code());
    assert_eq!(set(&mut peer, "share.record.lock.duration.ms", "20000"), 0);
    let find = |version, key: &str| {
        let request = FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![text(key)]);
        (version, request)
    };
    for (version, key, error) in [
        (6, "g:zYq8g8WQQ9mN4oabrclFIw:0", ErrorCode::None),
        (6, "g:0", ErrorCode::InvalidRequest),
        (5, "g:zYq8g8WQQ9mN4oabrclFIw:0", ErrorCode::InvalidRequest),
    ] {
        let (version, request) = find(version, key);
        let Response::FindCoordinator(found) = peer.call(version, request) else { panic!() };
        assert_eq!(found.coordinators[0].error_code, error.code(), "{key} in version {version}");
    }
}
