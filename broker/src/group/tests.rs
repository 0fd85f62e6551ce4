//! The coordinator over a log in memory: requests as frames of the reference, durability, restart, answers and locks.

mod memory_log;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Now;
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::api::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::api::messages::leave_group_request::MemberIdentity;
use protocol::api::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::api::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::api::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::api::messages::*;
use protocol::api::{ErrorCode, Request, Response, StrBytes, Uuid, supported_versions};
use protocol::frame::{decode_request, encode_response};

use super::config::GroupConfig;
use super::coordinator::Coordinator;
use super::environment::GroupEnvironment;
use super::service::GroupAccess;
use crate::dispatch::{Endpoint, Outcome, RequestContext};
use crate::handlers;
use crate::replies::ReplySink;
use crate::transaction::coordinator::Coordinator as Transactions;
use crate::transaction::service::TransactionAccess;
use crate::transaction::shard::TransactionConfig;
use crate::transaction::tests::memory::memory_state;
use memory_log::MemoryLog;

#[derive(Default)]
struct Replies(Mutex<Vec<(u64, Result<Response, String>)>>);

impl ReplySink for Replies {
    fn reply(&self, sequence: u64, response: Result<Response, String>) {
        self.0.lock().push((sequence, response));
    }
}

struct World {
    log: Arc<MemoryLog>,
    access: GroupAccess,
    transactions: TransactionAccess,
    replies: Arc<Replies>,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        Self::over(MemoryLog::new())
    }

    /// A coordinator that has just started on this log.
    fn over(log: Arc<MemoryLog>) -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        let environment: Arc<dyn GroupEnvironment> = log.clone();
        let access = GroupAccess { coordinator: Coordinator::new(config), environment };
        let config = TransactionConfig {
            max_timeout_ms: 900_000,
            id_expiration_ms: i64::MAX,
            abort_interval_ms: 10_000,
            expiration_interval_ms: 3_600_000,
        };
        let transactions = TransactionAccess { coordinator: Transactions::new(config), environment: memory_state().1 };
        Self { log, access, transactions, replies: Arc::default(), sequence: 0 }
    }

    fn send(&mut self, version: i16, request: impl Into<Request>) -> u64 {
        self.sequence += 1;
        let sequence = self.sequence;
        let context = RequestContext {
            connection_id: 1,
            version,
            client_id: Some("vec".into()),
            client_host: "/127.0.0.1".into(),
            endpoint: Arc::new(Endpoint { host: "127.0.0.1".into(), port: 27_292 }),
            now: self.log.now(),
            reply_to: self.replies.clone(),
            sequence,
        };
        let (access, transactions) = (&self.access, &self.transactions);
        let outcome = match request.into() {
            Request::OffsetCommit(body) => handlers::offset_commit::serve(access, &context, body),
            Request::OffsetFetch(body) => handlers::offset_fetch::serve(access, &context, body),
            Request::FindCoordinator(body) => {
                handlers::find_coordinator::serve(access, &*transactions.environment, &context, 1, body)
            }
            Request::JoinGroup(body) => handlers::join_group::serve(access, &context, body),
            Request::Heartbeat(body) => handlers::heartbeat::serve(access, &context, body),
            Request::LeaveGroup(body) => handlers::leave_group::serve(access, &context, body),
            Request::SyncGroup(body) => handlers::sync_group::serve(access, &context, body),
            Request::DescribeGroups(body) => handlers::describe_groups::serve(access, &context, body),
            Request::ListGroups(body) => handlers::list_groups::serve(access, &context, body),
            Request::DeleteGroups(body) => handlers::delete_groups::serve(access, &context, body),
            Request::OffsetDelete(body) => handlers::offset_delete::serve(access, &context, body),
            Request::InitProducerId(body) => handlers::init_producer_id::serve(transactions, &context, body),
            other => panic!("{other:?}"),
        };
        match outcome {
            Outcome::Reply(response) => self.replies.reply(sequence, Ok(response)),
            Outcome::Deferred => {}
            Outcome::NoReply | Outcome::Close(_) => panic!("a group request is always answered"),
        }
        sequence
    }

    fn reply(&self, sequence: u64) -> Option<Response> {
        let mut replies = self.replies.0.lock();
        let at = replies.iter().position(|(known, _)| *known == sequence)?;
        Some(replies.remove(at).1.unwrap())
    }

    fn ask(&mut self, version: i16, request: impl Into<Request>) -> Response {
        let sequence = self.send(version, request);
        let response = self.reply(sequence).expect("answered at once");
        encode_response(version, 0, &response).expect("a response that its version can carry");
        response
    }

    fn step(&mut self, ms: i64) -> Option<i64> {
        let ticks_ms = self.log.ticks.fetch_add(ms, Ordering::SeqCst) + ms;
        let now = Now { wall_ms: 1_795_252_000_000 + ticks_ms, ticks_ms };
        loop {
            let (worked, next) = self.access.coordinator.step(&self.access.environment, now);
            if !worked {
                return next;
            }
        }
    }

    fn fetched(&mut self, group: &str) -> i64 {
        let Response::OffsetFetch(response) = self.ask(9, fetch_request(group)) else { panic!() };
        assert_eq!(response.groups[0].error_code, 0);
        response.groups[0].topics[0].partitions[0].committed_offset
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn commit_request(group: &str, offset: i64) -> OffsetCommitRequest {
    commit_partition(group, "t", 0, offset)
}

fn commit_partition(group: &str, topic: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(text(topic).into())
        .with_topic_id(Uuid::from_u128(7))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default().with_group_id(text(group).into()).with_topics(vec![topic])
}

fn fetch_request(group: &str) -> OffsetFetchRequest {
    let topics = vec![
        OffsetFetchRequestTopics::default()
            .with_name(text("t").into())
            .with_topic_id(Uuid::from_u128(7))
            .with_partition_indexes(vec![0]),
    ];
    let group = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(Some(topics));
    OffsetFetchRequest::default().with_groups(vec![group])
}

fn join_request(group: &str, member_id: &StrBytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
    JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(member_id.clone())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn joined(response: Option<Response>) -> JoinGroupResponse {
    let Some(Response::JoinGroup(response)) = response else { panic!("{response:?}") };
    response
}

fn sync_request(group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"all"));
    SyncGroupRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(vec![assignment])
}

/// One member alone in a stable group.
fn stable(world: &mut World, group: &str) -> JoinGroupResponse {
    let first = joined(Some(world.ask(9, join_request(group, &StrBytes::new()))));
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired.code());
    let joined = joined(Some(world.ask(9, join_request(group, &first.member_id))));
    assert_eq!(joined.error_code, 0);
    let Response::SyncGroup(synced) = world.ask(5, sync_request(group, &joined)) else { panic!() };
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (0, &b"all"[..]));
    joined
}

fn error_of(response: &Response) -> i16 {
    match response {
        Response::OffsetCommit(response) => response.topics[0].partitions[0].error_code,
        Response::LeaveGroup(response) => response.error_code,
        Response::SyncGroup(response) => response.error_code,
        Response::Heartbeat(response) => response.error_code,
        other => panic!("{other:?}"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn frames_are_answered_as_by_the_reference() {
    let mut world = World::new();
    for (name, request, response) in [
        (
            "FindCoordinator v6",
            "000a000600001b6a0003766563000002067665632d6700",
            "00001b6a000000000002067665632d67000000010a3132372e302e302e3100006a9c0000010000",
        ),
        (
            "FindCoordinator v2",
            "000a000200001b6b000376656300057665632d6700",
            "00001b6b00000000000000044e4f4e450000000100093132372e302e302e3100006a9c",
        ),
        (
            "JoinGroup without id",
            "000b000900001b6c000376656300067665632d670000271000001388010009636f6e73756d6572020672616e6765030102000000",
            "00001b6c0000000000004fffffffff00000100297665632d63313332613730372d396438302d343261372d626139652d6364643561353934643435380100",
        ),
        (
            "OffsetCommit without group",
            "0008000900001b6d000376656300097665632d736f6c6fffffffff010002067665632d7402000000000000000000000003ffffffff026d000000",
            "00001b6d000000000002067665632d7402000000000000000000",
        ),
        (
            "OffsetFetch v9",
            "0009000900001b6e00037665630002097665632d736f6c6f00ffffffff02067665632d74020000000000000000",
            "00001b6e000000000002097665632d736f6c6f02067665632d7402000000000000000000000003ffffffff026d0000000000000000",
        ),
        (
            "OffsetFetch v7",
            "0009000700001b6f000376656300097665632d736f6c6f02067665632d740200000000000100",
            "00001b6f000000000002067665632d7402000000000000000000000003ffffffff026d00000000000000",
        ),
        (
            "Heartbeat of nobody",
            "000c000400001b70000376656300067665632d6700000001076e6f626f64790000",
            "00001b700000000000001900",
        ),
        (
            "InitProducerId",
            "0016000500001b7100037665630000000003e8ffffffffffffffffffff00",
            "00001b71000000000000000000000000000005000000",
        ),
    ] {
        let (header, body) = decode_request(hex(request).into()).unwrap();
        let answer = world.ask(header.api_version, body);
        let frame = encode_response(header.api_version, header.correlation_id, &answer).unwrap();
        let bytes = frame.to_bytes().unwrap();
        assert_eq!(bytes[4..], hex(response)[..], "{name}: {answer:?}");
    }
}

#[test]
fn the_first_lookup_makes_the_topic_and_requests_before_it_are_told_to_wait() {
    let mut world = World::new();
    world.log.exists.store(false, Ordering::SeqCst);
    assert_eq!(error_of(&world.ask(9, commit_request("g", 1))), ErrorCode::CoordinatorNotAvailable.code());
    let Response::ListGroups(listed) = world.ask(5, ListGroupsRequest::default()) else { panic!() };
    assert_eq!((listed.error_code, listed.groups.len()), (0, 0));
    let Response::FindCoordinator(found) =
        world.ask(4, FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]))
    else {
        panic!()
    };
    assert!(found.coordinators.iter().all(|found| found.error_code == 0 && found.node_id.0 == 1));
    assert_eq!(error_of(&world.ask(9, commit_request("g", 1))), 0);
    for (key_type, error) in [(1, ErrorCode::None), (2, ErrorCode::InvalidRequest)] {
        let request = FindCoordinatorRequest::default().with_key_type(key_type).with_key(text("x"));
        let Response::FindCoordinator(found) = world.ask(3, request) else { panic!() };
        assert_eq!(found.error_code, error.code());
    }
}

#[test]
fn a_commit_is_answered_and_read_when_it_is_durable() {
    let mut world = World::new();
    world.log.hold.store(true, Ordering::SeqCst);
    let (one, two) = (world.send(9, commit_request("g", 1)), world.send(9, commit_request("g", 2)));
    let asked = world.send(9, fetch_request("g"));
    assert!([one, two, asked].iter().all(|sequence| world.reply(*sequence).is_none()));
    assert_eq!(world.fetched("other"), -1, "another group's offsets wait for nothing");
    world.log.release();
    assert_eq!(error_of(&world.reply(one).unwrap()), 0);
    assert_eq!(error_of(&world.reply(two).unwrap()), 0);
    let Some(Response::OffsetFetch(response)) = world.reply(asked) else { panic!() };
    assert_eq!(response.groups[0].topics[0].partitions[0].committed_offset, 2, "what was asked after both commits");
}

#[test]
fn who_waits_for_appends_is_told_at_once_when_none_is_on_its_way() {
    let world = World::new();
    let GroupAccess { coordinator, environment } = &world.access;
    let (tell, told) = std::sync::mpsc::channel();
    let wait = || {
        let tell = tell.clone();
        let held = Box::new(move |result| tell.send(result).unwrap());
        coordinator.with_group(environment, "g", world.log.now(), |session| session.after_appends(held)).unwrap();
    };
    wait();
    assert_eq!(told.try_recv(), Ok(Ok(())));
    wait();
    assert_eq!(told.try_recv(), Ok(Ok(())), "again: the first leaves nothing behind");
}

#[test]
fn an_answer_is_given_up_in_time_but_the_offset_counts_once_it_is_durable() {
    let mut world = World::new();
    world.step(0);
    world.log.hold.store(true, Ordering::SeqCst);
    let (late, asked) = (world.send(9, commit_request("g", 4)), world.send(9, fetch_request("g")));
    assert_eq!(world.step(4_999), Some(5_000));
    assert!(world.reply(late).is_none() && world.reply(asked).is_none());
    world.step(1);
    assert_eq!(error_of(&world.reply(late).unwrap()), ErrorCode::CoordinatorNotAvailable.code());
    let Some(Response::OffsetFetch(response)) = world.reply(asked) else { panic!() };
    assert_eq!(response.groups[0].topics[0].partitions[0].committed_offset, -1);
    world.log.release();
    assert_eq!(world.fetched("g"), 4);
}

#[test]
fn an_assignment_that_is_not_durable_in_time_is_refused() {
    let mut world = World::new();
    let first = joined(Some(world.ask(9, join_request("g", &StrBytes::new()))));
    let one = joined(Some(world.ask(9, join_request("g", &first.member_id))));
    world.log.hold.store(true, Ordering::SeqCst);
    let sync = world.send(5, sync_request("g", &one));
    world.step(5_000);
    assert_eq!(error_of(&world.reply(sync).unwrap()), ErrorCode::CoordinatorNotAvailable.code());
    world.log.release();
    let again = joined(Some(world.ask(9, join_request("g", &first.member_id))));
    assert_eq!(again.generation_id, 2);
}

#[test]
fn after_a_restart_the_group_stands_and_the_dead_member_can_leave_at_once() {
    let mut world = World::new();
    let dead = stable(&mut world, "g");
    assert_eq!(
        error_of(
            &world.ask(
                9,
                commit_partition("g", "t", 0, 7)
                    .with_member_id(dead.member_id.clone())
                    .with_generation_id_or_member_epoch(1)
            )
        ),
        0
    );
    let mut world = World::over(world.log);
    assert_eq!(world.fetched("g"), 7);
    let describe = || DescribeGroupsRequest::default().with_groups(vec![text("g").into()]);
    let Response::DescribeGroups(described) = world.ask(6, describe()) else { panic!() };
    let group = &described.groups[0];
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str(), group.members.len()), ("Stable", "range", 1));
    assert_eq!(group.members[0].member_assignment.as_ref(), b"all");

    // The application started again: it knows its old member id and gets rid of it, then joins without waiting.
    let leaving = MemberIdentity::default().with_member_id(dead.member_id.clone());
    let request = LeaveGroupRequest::default().with_group_id(text("g").into()).with_members(vec![leaving]);
    let Response::LeaveGroup(left) = world.ask(5, request) else { panic!() };
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(stable(&mut world, "g").generation_id, 3);
}

#[test]
fn sessions_of_loaded_members_run_anew() {
    let mut world = World::new();
    let member = stable(&mut world, "g");
    let mut world = World::over(world.log);
    let beat = |generation| {
        HeartbeatRequest::default()
            .with_group_id(text("g").into())
            .with_member_id(member.member_id.clone())
            .with_generation_id(generation)
    };
    world.step(0);
    world.step(9_999);
    assert_eq!(error_of(&world.ask(4, beat(1))), 0);
    world.step(9_999);
    world.step(1);
    assert_eq!(error_of(&world.ask(4, beat(1))), ErrorCode::UnknownMemberId.code());
}

#[test]
fn the_coordinator_asks_to_be_woken_for_new_deadlines() {
    let mut world = World::new();
    world.step(0);
    world.log.woken_for.store(i64::MAX, Ordering::SeqCst);
    let response = joined(Some(world.ask(9, join_request("g", &StrBytes::new()))));
    assert_eq!(world.log.woken_for.load(Ordering::SeqCst), 10_000, "{response:?}");
}

#[test]
fn several_groups_are_listed_described_and_deleted() {
    let mut world = World::new();
    for group in ["a", "b", "c"] {
        assert_eq!(error_of(&world.ask(9, commit_request(group, 1))), 0);
    }
    stable(&mut world, "d");
    let list = |world: &mut World, state: &str| {
        let request =
            ListGroupsRequest::default().with_states_filter(vec![text(state)]).with_types_filter(vec![text("CLASSIC")]);
        let Response::ListGroups(listed) = world.ask(5, request) else { panic!() };
        listed.groups.iter().map(|group| group.group_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(&mut world, "EMPTY"), ["a", "b", "c"]);
    assert_eq!(list(&mut world, "stable"), ["d"]);
    world.log.hold.store(true, Ordering::SeqCst);
    let names = ["a", "d", "none", "b"].map(|name| GroupId::from(text(name))).to_vec();
    let pending = world.send(2, DeleteGroupsRequest::default().with_groups_names(names));
    assert!(world.reply(pending).is_none());
    world.log.release();
    let Some(Response::DeleteGroups(deleted)) = world.reply(pending) else { panic!() };
    assert_eq!(deleted.results.iter().map(|result| result.error_code).collect::<Vec<_>>(), [0, 68, 69, 0]);
    assert_eq!(list(&mut world, "empty"), ["c"]);
    let mut world = World::over(world.log);
    assert_eq!((list(&mut world, "empty"), list(&mut world, "stable")), (vec!["c".to_owned()], vec!["d".to_owned()]));
}

#[test]
fn unknown_topics_partitions_and_ids_are_refused_one_by_one() {
    let mut world = World::new();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(error_of(&world.ask(9, commit_partition("g", "missing", 0, 1))), unknown);
    assert_eq!(error_of(&world.ask(9, commit_partition("g", "t", 2, 1))), unknown);
    let mut long = commit_request("g", 1);
    long.topics[0].partitions[0].committed_metadata = Some(text(&"\u{e9}".repeat(4_096)));
    assert_eq!(error_of(&world.ask(9, long.clone())), 0, "4096 UTF-16 units are allowed");
    long.topics[0].partitions[0].committed_metadata = Some(text(&"m".repeat(4_097)));
    assert_eq!(error_of(&world.ask(9, long)), ErrorCode::OffsetMetadataTooLarge.code());
    if supported_versions(protocol::api::ApiKey::OffsetCommit).1 >= 10 {
        let mut by_id = commit_request("g", 9);
        by_id.topics[0].name = TopicName::default();
        assert_eq!(error_of(&world.ask(10, by_id.clone())), 0);
        assert_eq!(world.fetched("g"), 9);
        by_id.topics[0].topic_id = Uuid::from_u128(8);
        assert_eq!(error_of(&world.ask(10, by_id)), ErrorCode::UnknownTopicId.code());
    }
}

#[test]
fn every_version_of_every_answer_can_be_encoded() {
    let mut world = World::new();
    let member = stable(&mut world, "g");
    let groups = [text("g"), text("none"), text("")];
    for group in groups {
        let requests: Vec<Request> = vec![
            commit_request(&group, 1).into(),
            HeartbeatRequest::default().with_group_id(group.clone().into()).into(),
            join_request(&group, &text("nobody")).into(),
            join_request(&group, &member.member_id).with_protocols(Vec::new()).into(),
            SyncGroupRequest::default()
                .with_group_id(group.clone().into())
                .with_generation_id(1)
                .with_member_id(member.member_id.clone())
                .with_protocol_name(Some(text("range")))
                .with_protocol_type(Some(text("consumer")))
                .into(),
            LeaveGroupRequest::default()
                .with_group_id(group.clone().into())
                .with_member_id(text("nobody"))
                .with_members(vec![MemberIdentity::default()])
                .into(),
            DescribeGroupsRequest::default()
                .with_groups(vec![group.clone().into()])
                .with_include_authorized_operations(true)
                .into(),
            ListGroupsRequest::default().into(),
            DeleteGroupsRequest::default().with_groups_names(vec![text("other").into()]).into(),
            OffsetDeleteRequest::default().with_group_id(group.clone().into()).into(),
            FindCoordinatorRequest::default().with_key(group.clone()).with_coordinator_keys(vec![group.clone()]).into(),
        ];
        for request in requests {
            let (lowest, highest) = supported_versions(request.api_key());
            for version in lowest..=highest {
                world.ask(version, request.clone());
            }
        }
        for version in 1..=supported_versions(protocol::api::ApiKey::OffsetFetch).1 {
            let single = OffsetFetchRequest::default().with_group_id(group.clone().into()).with_topics(None);
            world.ask(version, if version >= 8 { fetch_request(&group) } else { single });
        }
    }
}

#[test]
fn threads_that_commit_while_others_make_durable_lose_no_answer() {
    let world = World::new();
    let log = world.log.clone();
    log.hold.store(true, Ordering::SeqCst);
    let stop = AtomicBool::new(false);
    let per_thread = 500;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let held = std::mem::take(&mut *log.held.lock());
                for (done, offset) in held {
                    done(Ok(offset));
                }
                std::thread::yield_now();
            }
            log.release();
        });
        let workers: Vec<_> = (0..3)
            .map(|index| {
                let mut own =
                    World { replies: Arc::default(), access: world.access.clone(), ..World::over(log.clone()) };
                scope.spawn(move || {
                    for offset in 0..per_thread {
                        own.send(9, commit_partition(&format!("g{}", index % 2), "t", 0, offset));
                    }
                    own
                })
            })
            .collect();
        let owns: Vec<World> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        stop.store(true, Ordering::SeqCst);
        for own in owns {
            while (own.replies.0.lock().len() as i64) < per_thread {
                std::thread::yield_now();
            }
        }
    });
    let mut world = world;
    assert_eq!(world.log.batch_count() as i64, 3 * per_thread);
    assert_eq!(world.fetched("g1"), per_thread - 1);
}
