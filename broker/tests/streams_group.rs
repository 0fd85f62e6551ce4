//! A streams group on a whole broker, over TCP: it comes to its tasks, its topics are made, its offsets are guarded, and all of it is there
//! after a restart.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod support;

use std::sync::Arc;

use protocol::api::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::api::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::api::messages::*;
use protocol::api::streams_group_describe::{DescribedStreamsGroup, StreamsGroupDescribeRequest};
use protocol::api::streams_group_heartbeat::{
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, StreamsKeyValue, StreamsSubtopology, StreamsTopicInfo,
    StreamsTopology,
};
use protocol::api::{ErrorCode, Response};
use support::*;

const GROUP: &str = "app";

fn joining(member: &str) -> StreamsGroupHeartbeatRequest {
    let setting = StreamsKeyValue { key: "cleanup.policy".into(), value: "compact".into() };
    let changelog = StreamsTopicInfo {
        name: "app-counts-changelog".into(),
        replication_factor: 1,
        topic_configs: vec![setting],
        ..StreamsTopicInfo::default()
    };
    let subtopology = StreamsSubtopology {
        subtopology_id: "0".into(),
        source_topics: vec!["in".into()],
        state_changelog_topics: vec![changelog],
        ..StreamsSubtopology::default()
    };
    StreamsGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member.into(),
        rebalance_timeout_ms: 10_000,
        topology: Some(StreamsTopology { epoch: 0, subtopologies: vec![subtopology] }),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some("p".into()),
        ..StreamsGroupHeartbeatRequest::default()
    }
}

fn at(member: &str, epoch: i32) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..StreamsGroupHeartbeatRequest::default()
    }
}

fn beat(peer: &mut Peer, request: StreamsGroupHeartbeatRequest) -> StreamsGroupHeartbeatResponse {
    match peer.call(0, request) {
        Response::StreamsGroupHeartbeat(response) => response,
        other => panic!("{other:?}"),
    }
}

/// Waits until the coordinator is there, as clients do.
fn find(peer: &mut Peer) {
    for _ in 0..1_000 {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
        let Response::FindCoordinator(found) = peer.call(4, request) else { panic!() };
        if found.coordinators[0].error_code == 0 {
            return;
        }
    }
    panic!("no coordinator");
}

fn describe(peer: &mut Peer) -> DescribedStreamsGroup {
    let request = StreamsGroupDescribeRequest { group_ids: vec![GROUP.into()], include_authorized_operations: true };
    let Response::StreamsGroupDescribe(mut response) = peer.call(0, request) else { panic!() };
    response.groups.remove(0)
}

fn commit(peer: &mut Peer, version: i16, member: &str, epoch: i32, offset: i64) -> ErrorCode {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name_of("in")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(epoch)
        .with_topics(vec![topic]);
    let Response::OffsetCommit(response) = peer.call(version, request) else { panic!() };
    ErrorCode::from_code(response.topics[0].partitions[0].error_code)
}

fn committed(peer: &mut Peer, member: Option<&str>, epoch: i32) -> Result<i64, ErrorCode> {
    let topic = OffsetFetchRequestTopics::default().with_name(name_of("in")).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_member_id(member.map(text))
        .with_member_epoch(epoch)
        .with_topics(Some(vec![topic]));
    let Response::OffsetFetch(response) = peer.call(9, OffsetFetchRequest::default().with_groups(vec![group])) else {
        panic!()
    };
    ErrorCode::from_code(response.groups[0].error_code).into_result()?;
    Ok(response.groups[0].topics[0].partitions[0].committed_offset)
}

fn statuses(response: &StreamsGroupHeartbeatResponse) -> Vec<i8> {
    response.status.iter().flatten().map(|status| status.status_code).collect()
}

/// A member that has all tasks; gives its epoch.
fn settled(peer: &mut Peer) -> i32 {
    let first = beat(peer, joining("m"));
    assert_eq!((first.error_code, first.member_epoch, statuses(&first)), (0, 2, vec![3]));
    // Its topic is made by now, but tasks are given out only so often.
    let mut last = first;
    for _ in 0..10_000 {
        last = beat(peer, at("m", last.member_epoch));
        if let Some(tasks) = &last.active_tasks {
            assert_eq!((&*tasks[0].subtopology_id, &*tasks[0].partitions), ("0", &[0, 1, 2][..]));
            return last.member_epoch;
        }
    }
    panic!("no tasks: {last:?}");
}

#[test]
fn a_group_and_its_offsets_are_there_after_a_restart() {
    let settings = [("group.streams.assignment.interval.ms", "0")];
    let mut broker = TestBroker::start(&settings);
    let mut peer = broker.tcp();
    peer.create_topic("in", 3, &[]);
    find(&mut peer);
    let epoch = settled(&mut peer);
    assert_eq!(commit(&mut peer, 9, "m", epoch, 7), ErrorCode::None);
    assert_eq!(commit(&mut peer, 9, "m", epoch + 1, 8), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut peer, 9, "other", epoch, 8), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut peer, 8, "m", epoch, 8), ErrorCode::UnsupportedVersion);
    let before = describe(&mut peer);
    assert_eq!((&*before.group_state, before.group_epoch, before.members.len()), ("Stable", epoch, 1));
    let topology = before.topology.clone().unwrap().subtopologies.unwrap();
    assert_eq!(topology[0].state_changelog_topics[0].partitions, 3);
    broker.restart();
    let mut peer = broker.tcp();
    assert_eq!(describe(&mut peer), before);
    assert_eq!(committed(&mut peer, Some("m"), epoch), Ok(7));
    assert_eq!(committed(&mut peer, Some("m"), epoch - 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(committed(&mut peer, Some("other"), epoch), Err(ErrorCode::UnknownMemberId));
    // The member goes on as if nothing had happened.
    let next = beat(&mut peer, at("m", epoch));
    assert_eq!((next.error_code, next.member_epoch, statuses(&next), next.active_tasks), (0, epoch, vec![], None));
    assert_eq!(beat(&mut peer, at("m", epoch + 5)).error_code, ErrorCode::FencedMemberEpoch.code());
}

#[test]
fn a_group_is_listed_has_settings_of_its_own_and_goes_when_it_is_empty() {
    let broker = TestBroker::start(&[("group.streams.min.heartbeat.interval.ms", "500")]);
    let mut peer = broker.tcp();
    peer.create_topic("in", 1, &[]);
    find(&mut peer);
    let mut classic = joining("m");
    classic.topology = None;
    assert_eq!(beat(&mut peer, classic).error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(beat(&mut peer, at("m", 1)).error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(describe(&mut peer).error_code, ErrorCode::GroupIdNotFound.code());
    // Offsets of a group without members stay when a member joins.
    assert_eq!(commit(&mut peer, 9, "", -1, 5), ErrorCode::None);
    let joined = beat(&mut peer, joining("m"));
    assert_eq!((joined.member_epoch, joined.heartbeat_interval_ms), (2, 5_000));
    assert_eq!(committed(&mut peer, None, -1), Ok(5));
    let Response::ListGroups(listed) =
        peer.call(5, ListGroupsRequest::default().with_types_filter(vec![text("Streams")]))
    else {
        panic!()
    };
    assert_eq!((listed.groups[0].group_type.as_str(), listed.groups[0].protocol_type.as_str()), ("streams", "streams"));
    set_interval(&mut peer);
    assert_eq!(beat(&mut peer, at("m", 2)).heartbeat_interval_ms, 700);
    let delete = || DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(GROUP))]);
    let deleted = |peer: &mut Peer| match peer.call(2, delete()) {
        Response::DeleteGroups(response) => ErrorCode::from_code(response.results[0].error_code),
        other => panic!("{other:?}"),
    };
    assert_eq!(deleted(&mut peer), ErrorCode::NonEmptyGroup);
    assert_eq!(beat(&mut peer, at("m", -1)).member_epoch, -1);
    assert_eq!(describe(&mut peer).group_state, Arc::from("Empty"));
    assert_eq!(deleted(&mut peer), ErrorCode::None);
    assert_eq!(describe(&mut peer).error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(committed(&mut peer, None, -1), Ok(-1));
}

fn set_interval(peer: &mut Peer) {
    use protocol::api::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config =
        AlterableConfig::default().with_name(text("streams.heartbeat.interval.ms")).with_value(Some(text("700")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(GROUP))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let Response::IncrementalAlterConfigs(response) = peer.call(1, request) else { panic!() };
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}
