//! Consumer groups on a whole broker, over TCP: what clients ask and are told, what is set for a group, and what a restart keeps.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod support;

use protocol::api::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::api::messages::*;
use protocol::api::{ErrorCode, Response, StrBytes};
use support::*;

const GROUP_RESOURCE: i8 = 32;

fn join(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(vec![name_of("t")]))
        .with_topic_partitions(Some(Vec::new()))
}

fn beat(peer: &mut Peer, version: i16, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    for _ in 0..100 {
        let Response::ConsumerGroupHeartbeat(response) = peer.call(version, request.clone()) else { panic!() };
        if response.error_code != ErrorCode::CoordinatorNotAvailable.code() {
            return response;
        }
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
        peer.call(4, find);
    }
    panic!("no coordinator");
}

fn describe(peer: &mut Peer) -> consumer_group_describe_response::DescribedGroup {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("g"))]);
    let Response::ConsumerGroupDescribe(response) = peer.call(1, request) else { panic!() };
    response.groups.into_iter().next().unwrap()
}

fn alter(peer: &mut Peer, name: &str, value: &str) -> incremental_alter_configs_response::AlterConfigsResourceResponse {
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default().with_resource_type(GROUP_RESOURCE).with_resource_name(text("g"));
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]);
    let Response::IncrementalAlterConfigs(response) = peer.call(1, request) else { panic!() };
    response.responses.into_iter().next().unwrap()
}

#[test]
fn a_consumer_group_is_listed_described_and_kept_over_a_restart() {
    let mut broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    let id = peer.create_topic("t", 2, &[]);
    assert_eq!(describe(&mut peer).error_code, ErrorCode::GroupIdNotFound.code());
    let joined = beat(&mut peer, 1, join("m"));
    assert_eq!((joined.error_code, joined.member_epoch, joined.heartbeat_interval_ms), (0, 2, 5_000));
    let assignment = joined.assignment.unwrap();
    assert_eq!(
        (assignment.topic_partitions[0].topic_id, &assignment.topic_partitions[0].partitions[..]),
        (id, &[0, 1][..])
    );

    drop(peer);
    broker.restart();
    let mut peer = broker.tcp();
    let group = describe(&mut peer);
    assert_eq!((group.group_state.as_str(), group.group_epoch, group.assignment_epoch), ("Stable", 2, 2));
    assert_eq!((group.assignor_name.as_str(), group.members.len()), ("uniform", 1));
    let member = &group.members[0];
    assert_eq!((member.member_type, member.assignment.topic_partitions[0].topic_name.as_str()), (1, "t"));
    assert_eq!(member.assignment, member.target_assignment);
    let on = beat(&mut peer, 1, join("m").with_member_epoch(2).with_topic_partitions(None));
    assert_eq!((on.error_code, on.member_epoch, on.assignment), (0, 2, None));

    let Response::ListGroups(listed) =
        peer.call(5, ListGroupsRequest::default().with_types_filter(vec![text("Consumer")]))
    else {
        panic!()
    };
    let listed = &listed.groups[0];
    assert_eq!(
        (listed.group_type.as_str(), listed.group_state.as_str(), listed.protocol_type.as_str()),
        ("consumer", "Stable", "consumer")
    );
    let Response::DescribeGroups(classic) =
        peer.call(6, DescribeGroupsRequest::default().with_groups(vec![GroupId(text("g"))]))
    else {
        panic!()
    };
    assert_eq!(classic.groups[0].error_code, ErrorCode::GroupIdNotFound.code(), "not a classic group");

    let made = beat(&mut peer, 0, join("").with_group_id(GroupId(text("other"))));
    assert_eq!(
        (made.error_code, made.member_id.map(|id| id.len())),
        (0, Some(36)),
        "version 0 leaves the id to the broker"
    );
    assert_eq!(beat(&mut peer, 1, join("")).error_code, ErrorCode::InvalidRequest.code());
    let unknown = join("m").with_server_assignor(Some(StrBytes::from_static_str("mine")));
    assert_eq!(beat(&mut peer, 1, unknown).error_code, ErrorCode::UnsupportedAssignor.code());
}

#[test]
fn what_is_set_for_a_group_takes_effect_within_the_brokers_bounds() {
    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    assert_eq!(alter(&mut peer, "consumer.heartbeat.interval.ms", "7000").error_code, 0);
    assert_eq!(beat(&mut peer, 1, join("m")).heartbeat_interval_ms, 7_000);
    let refused = alter(&mut peer, "consumer.heartbeat.interval.ms", "100");
    assert_eq!(refused.error_code, ErrorCode::InvalidConfig.code(), "{refused:?}");
}

#[test]
fn a_broker_without_the_protocol_says_so_and_members_that_cannot_be_read_keep_their_group_as_it_is() {
    let broker = TestBroker::start(&[("group.coordinator.rebalance.protocols", "classic")]);
    assert_eq!(beat(&mut broker.tcp(), 1, join("m")).error_code, ErrorCode::UnsupportedVersion.code());

    let broker = TestBroker::start(&[]);
    let mut peer = broker.tcp();
    peer.create_topic("t", 1, &[]);
    beat(&mut peer, 1, join("m"));
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let classic = JoinGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let Response::JoinGroup(refused) = peer.call(3, classic.clone()) else { panic!() };
    assert_eq!(refused.error_code, ErrorCode::UnknownServerError.code(), "its subscription is no subscription");
    let left = beat(&mut peer, 1, join("m").with_member_epoch(-1));
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    let Response::JoinGroup(taken) = peer.call(3, classic) else { panic!() };
    assert_eq!((taken.error_code, taken.generation_id), (0, 1), "an empty group becomes classic");
    let refused = beat(&mut peer, 1, join("m"));
    assert_eq!(refused.error_code, ErrorCode::GroupIdNotFound.code(), "its member's subscription cannot be taken over");
}
