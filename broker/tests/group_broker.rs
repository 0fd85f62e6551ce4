//! Groups, offsets and producer ids on a whole broker over a simulated disk: what was acknowledged survives a power cut.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

use std::sync::Arc;

use base::{Clock, ManualClock, Rng};
use broker::{Broker, BrokerConfig, BrokerSeams};
use bytes::Bytes;
use protocol::api::messages::create_topics_request::CreatableTopic;
use protocol::api::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::api::messages::leave_group_request::MemberIdentity;
use protocol::api::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::api::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::api::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::api::messages::*;
use protocol::api::{ErrorCode, Request, Response, StrBytes};
use protocol::transport::{Completion, RequestEnvelope, Transport};
use storage::files::SimFiles;

struct World {
    clock: Arc<ManualClock>,
    files: Arc<SimFiles>,
    rng: Rng,
    broker: Broker,
    connection: Arc<dyn Transport>,
}

fn open(clock: &Arc<ManualClock>, files: &Arc<SimFiles>, rng: &mut Rng) -> Broker {
    let config = BrokerConfig::embedded("/data").with("group.min.session.timeout.ms", 1_000).unwrap();
    let seams = BrokerSeams { clock: clock.clone(), rng: rng.fork(), files: files.clone(), connector: None };
    Broker::open(config, seams).unwrap()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = ManualClock::new(1_795_252_000_000);
        let files = Arc::new(SimFiles::new(clock.clone()));
        let mut rng = Rng::from_seed(seed);
        let broker = open(&clock, &files, &mut rng);
        let connection = broker.transport();
        let mut world = Self { clock, files, rng, broker, connection };
        let topic =
            CreatableTopic::default().with_name(text("t").into()).with_num_partitions(1).with_replication_factor(1);
        world.ask(7, CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1_000));
        world.find();
        world
    }

    fn find(&mut self) {
        for _ in 0..100 {
            let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
            let Response::FindCoordinator(found) = self.ask(4, request) else { panic!() };
            if found.coordinators[0].error_code == 0 {
                return;
            }
            self.broker.step(self.clock.now());
        }
        panic!("__consumer_offsets does not come");
    }

    fn ask(&mut self, version: i16, request: impl Into<Request>) -> Response {
        let envelope = RequestEnvelope { version, client_id: Some("c".into()), request: request.into() };
        let completion = self.connection.send(envelope);
        self.answer(completion)
    }

    fn answer(&mut self, mut completion: Completion) -> Response {
        for _ in 0..1_000 {
            if let Some(reply) = completion.try_take() {
                return reply.unwrap();
            }
            self.broker.step(self.clock.now());
        }
        panic!("no answer");
    }

    /// The power fails, and the broker starts again on what is left.
    fn power_cut(&mut self) {
        self.files.crash(&mut self.rng);
        let broker = open(&self.clock, &self.files, &mut self.rng);
        self.connection = broker.transport();
        self.broker = broker;
    }

    fn commit(&mut self, group: &str, member: &StrBytes, generation: i32, offset: i64) -> i16 {
        let Response::OffsetCommit(response) = self.ask(8, commit(group, member, generation, offset)) else { panic!() };
        response.topics[0].partitions[0].error_code
    }

    fn offset(&mut self, group: &str) -> i64 {
        let Response::OffsetFetch(response) = self.ask(8, offsets_of(group)) else { panic!() };
        response.groups[0].topics[0].partitions[0].committed_offset
    }

    fn producer_id(&mut self) -> i64 {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let Response::InitProducerId(response) = self.ask(4, request) else { panic!() };
        assert_eq!(response.error_code, 0);
        response.producer_id.0
    }

    fn join(&mut self) -> JoinGroupResponse {
        let join = |member: &StrBytes| {
            let protocol =
                JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
            JoinGroupRequest::default()
                .with_group_id(text("g").into())
                .with_member_id(member.clone())
                .with_session_timeout_ms(10_000)
                .with_rebalance_timeout_ms(60_000)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol])
        };
        let Response::JoinGroup(first) = self.ask(9, join(&StrBytes::new())) else { panic!() };
        assert_eq!(first.error_code, ErrorCode::MemberIdRequired.code());
        let Response::JoinGroup(joined) = self.ask(9, join(&first.member_id)) else { panic!() };
        assert_eq!(joined.error_code, 0);
        let assignment = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
        let sync = SyncGroupRequest::default()
            .with_group_id(text("g").into())
            .with_member_id(joined.member_id.clone())
            .with_generation_id(joined.generation_id)
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(vec![assignment]);
        let Response::SyncGroup(synced) = self.ask(5, sync) else { panic!() };
        assert_eq!(synced.error_code, 0);
        joined
    }

    fn heartbeat(&mut self, member: &JoinGroupResponse) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(text("g").into())
            .with_member_id(member.member_id.clone())
            .with_generation_id(member.generation_id);
        let Response::Heartbeat(response) = self.ask(4, request) else { panic!() };
        response.error_code
    }
}

fn offsets_of(group: &str) -> Request {
    let topic = OffsetFetchRequestTopics::default().with_name(text("t").into()).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(Some(vec![topic]));
    OffsetFetchRequest::default().with_groups(vec![group]).into()
}

fn commit(group: &str, member: &StrBytes, generation: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

#[test]
fn acknowledged_offsets_survive_power_cuts() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let mut acknowledged = -1;
        for round in 0..5 {
            for offset in 0..10 {
                assert_eq!(world.commit("simple", &StrBytes::new(), -1, round * 100 + offset), 0);
                acknowledged = round * 100 + offset;
            }
            // One more that nobody has synced: it may or may not be there after.
            let request = commit("simple", &StrBytes::new(), -1, round * 100 + 50).into();
            let mut lost = world.connection.send(RequestEnvelope { version: 8, client_id: None, request });
            assert!(lost.try_take().is_none(), "seed {seed}");
            drop(lost);
            world.power_cut();
            let offset = world.offset("simple");
            assert!(
                offset == acknowledged || offset == round * 100 + 50,
                "seed {seed}: {acknowledged} became {offset}"
            );
        }
    }
}

#[test]
fn who_commits_and_asks_at_once_is_answered_when_the_commit_is_durable() {
    let mut world = World::new(1);
    assert_eq!(world.commit("simple", &StrBytes::new(), -1, 1), 0);
    let request = commit("simple", &StrBytes::new(), -1, 2).into();
    let mut committed = world.connection.send(RequestEnvelope { version: 8, client_id: None, request });
    let mut asked =
        world.connection.send(RequestEnvelope { version: 8, client_id: None, request: offsets_of("simple") });
    assert!(committed.try_take().is_none() && asked.try_take().is_none(), "neither before the sync");
    let Response::OffsetFetch(response) = world.answer(asked) else { panic!() };
    assert_eq!(response.groups[0].topics[0].partitions[0].committed_offset, 2);
    assert!(matches!(committed.try_take(), Some(Ok(Response::OffsetCommit(_)))));
}

#[test]
fn a_producer_id_is_never_given_twice() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let mut given = std::collections::BTreeSet::new();
        for _ in 0..4 {
            for _ in 0..3 {
                let id = world.producer_id();
                assert!(given.insert(id), "seed {seed}: {id} was given twice");
            }
            world.power_cut();
        }
    }
}

#[test]
fn a_dead_member_leaves_at_once_after_a_power_cut() {
    let mut world = World::new(1);
    let dead = world.join();
    assert_eq!(world.commit("g", &dead.member_id, dead.generation_id, 5), 0);
    world.power_cut();
    assert_eq!(world.heartbeat(&dead), 0, "the group stands with its member");
    let leaving = MemberIdentity::default().with_member_id(dead.member_id.clone());
    let request = LeaveGroupRequest::default().with_group_id(text("g").into()).with_members(vec![leaving]);
    let Response::LeaveGroup(left) = world.ask(5, request) else { panic!() };
    assert_eq!(left.members[0].error_code, 0);
    assert_eq!(world.join().members.len(), 1, "nobody waits for the dead one");
    assert_eq!(world.offset("g"), 5);
}

#[test]
fn the_brokers_own_steps_end_sessions() {
    let mut world = World::new(2);
    let member = world.join();
    world.clock.advance_ms(9_999);
    world.broker.step(world.clock.now());
    assert_eq!(world.heartbeat(&member), 0);
    world.clock.advance_ms(10_000);
    let mut wake = world.broker.step(world.clock.now());
    while wake.did_work {
        wake = world.broker.step(world.clock.now());
    }
    assert_eq!(world.heartbeat(&member), ErrorCode::UnknownMemberId.code());
}

#[test]
fn offsets_of_a_deleted_topic_go_with_it() {
    let mut world = World::new(3);
    assert_eq!(world.commit("simple", &StrBytes::new(), -1, 5), 0);
    world.ask(3, DeleteTopicsRequest::default().with_topic_names(vec![text("t").into()]).with_timeout_ms(1_000));
    for _ in 0..10 {
        world.broker.step(world.clock.now());
    }
    assert_eq!(world.offset("simple"), -1);
}
