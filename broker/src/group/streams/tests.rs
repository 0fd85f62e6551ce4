//! Whole streams groups: what heartbeats are answered, and that replaying the records gives the group back.

use std::collections::BTreeMap;

use base::Now;
use proptest::prelude::*;
use protocol::api::ErrorCode;
use protocol::api::streams_group_heartbeat::{
    StreamsEndpoint, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, StreamsSubtopology, StreamsTopicInfo,
    StreamsTopology, TaskIds,
};
use uuid::Uuid;

use super::StreamsGroup;
use super::config::StreamsConfig;
use super::group::State;
use super::heartbeat::{Answer, Beat, Refusal};
use super::tasks::to_wire;
use crate::group::records::GroupRecord;

/// A group whose records are replayed after every step.
struct World {
    group: StreamsGroup,
    replayed: StreamsGroup,
    topics: BTreeMap<&'static str, i32>,
    config: StreamsConfig,
    ticks: i64,
}

fn word_count() -> StreamsTopology {
    let info = |name: &str| StreamsTopicInfo { name: name.into(), ..StreamsTopicInfo::default() };
    let first = StreamsSubtopology {
        subtopology_id: "0".into(),
        source_topics: vec!["in".into()],
        repartition_sink_topics: vec!["words".into()],
        ..StreamsSubtopology::default()
    };
    let second = StreamsSubtopology {
        subtopology_id: "1".into(),
        repartition_source_topics: vec![info("words")],
        state_changelog_topics: vec![info("counts")],
        ..StreamsSubtopology::default()
    };
    StreamsTopology { epoch: 0, subtopologies: vec![first, second] }
}

fn joining(member: &str, process: &str) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        member_id: member.into(),
        rebalance_timeout_ms: 20_000,
        topology: Some(word_count()),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some(process.into()),
        ..StreamsGroupHeartbeatRequest::default()
    }
}

/// A heartbeat that says only that the member has come to `epoch`, and which active tasks it has if given.
fn at(member: &str, epoch: i32, active: Option<&[TaskIds]>) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        active_tasks: active.map(<[TaskIds]>::to_vec),
        standby_tasks: active.map(|_| Vec::new()),
        warmup_tasks: active.map(|_| Vec::new()),
        ..StreamsGroupHeartbeatRequest::default()
    }
}

impl World {
    fn new(topics: &[(&'static str, i32)]) -> Self {
        let group = StreamsGroup::new("app".into());
        let config = StreamsConfig { initial_rebalance_delay_ms: 0, ..StreamsConfig::default() };
        Self { replayed: group.clone(), group, topics: topics.iter().copied().collect(), config, ticks: 10_000 }
    }

    fn now(&self) -> Now {
        Now { wall_ms: 1_795_252_000_000 + self.ticks, ticks_ms: self.ticks }
    }

    fn replay(&mut self, records: &[GroupRecord]) {
        for record in records {
            let GroupRecord::Streams { group, record } = record else { panic!("{record:?}") };
            assert_eq!(&**group, "app");
            self.replayed.apply(record);
        }
        assert_eq!(self.replayed.image(), self.group.image());
    }

    fn beat(&mut self, request: &StreamsGroupHeartbeatRequest) -> Result<Answer, Refusal> {
        let (topics, config) = (self.topics.clone(), self.config.clone());
        let beat = Beat {
            request,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            now: self.now(),
            config: &config,
            topic: &|name| topics.get(name).map(|count| (Uuid::from_u128(name.len() as u128), *count)),
        };
        let answer = self.group.heartbeat(&beat);
        let records = answer.as_ref().map(|answer| answer.records.clone()).unwrap_or_default();
        self.replay(&records);
        answer
    }

    fn ok(&mut self, request: &StreamsGroupHeartbeatRequest) -> StreamsGroupHeartbeatResponse {
        self.beat(request).unwrap().response
    }

    fn ready() -> Self {
        Self::new(&[("in", 2), ("words", 2), ("counts", 2)])
    }
}

/// Epoch, codes of what is wrong, and active tasks if they are told.
fn told(response: &StreamsGroupHeartbeatResponse) -> (i32, Vec<i8>, Option<String>) {
    let codes = response.status.iter().flatten().map(|status| status.status_code).collect();
    let tasks = response.active_tasks.as_ref().map(|lists| {
        let all =
            lists.iter().flat_map(|list| list.partitions.iter().map(move |at| format!("{}_{at}", list.subtopology_id)));
        all.collect::<Vec<_>>().join(" ")
    });
    (response.member_epoch, codes, tasks)
}

#[test]
fn a_group_waits_for_its_topics_and_asks_for_those_of_its_own() {
    let mut world = World::new(&[]);
    let first = world.beat(&joining("m", "p")).unwrap();
    assert_eq!((told(&first.response), first.to_create.len()), ((2, vec![1], Some(String::new())), 0));
    assert_eq!(world.group.state(), State::NotReady);
    world.topics.insert("in", 2);
    world.ticks += 5_000;
    let second = world.beat(&at("m", 2, None)).unwrap();
    assert_eq!(told(&second.response), (3, vec![3], None));
    let wanted: Vec<_> = second.to_create.iter().map(|topic| (&*topic.name, topic.partitions)).collect();
    assert_eq!(wanted, [("counts", 2), ("words", 2)]);
    world.group.note_creation_failures(vec![("words".into(), "no room".into())], world.ticks + 10_000);
    world.ticks += 5_000;
    let failed = world.ok(&at("m", 3, None));
    let detail = "Internal topics are missing: [counts, words]; Creation failed: words (no room).";
    assert_eq!(&*failed.status.unwrap()[0].status_detail, detail);
    world.topics.extend([("words", 2), ("counts", 2)]);
    world.ticks += 5_000;
    let third = world.ok(&at("m", 3, None));
    assert_eq!(told(&third), (4, vec![], Some("0_0 0_1 1_0 1_1".to_owned())));
    assert_eq!(world.group.state(), State::Stable);
    assert_eq!(told(&world.ok(&at("m", 4, None))), (4, vec![], None));
}

#[test]
fn a_second_member_gets_tasks_once_the_first_has_given_them_up() {
    let mut world = World::ready();
    assert_eq!(told(&world.ok(&joining("a", "p"))), (2, vec![], Some("0_0 0_1 1_0 1_1".to_owned())));
    // Within the interval the tasks stay where they are.
    assert_eq!(told(&world.ok(&joining("b", "q"))), (2, vec![5], Some(String::new())));
    world.ticks += 1_000;
    assert_eq!(told(&world.ok(&at("b", 2, None))), (3, vec![], None));
    let revoked = world.ok(&at("a", 2, None));
    let kept = revoked.active_tasks.clone().unwrap();
    assert_eq!((revoked.member_epoch, kept.iter().map(|list| list.partitions.len()).sum::<usize>()), (2, 2));
    assert_eq!(world.group.state(), State::Reconciling);
    assert_eq!(told(&world.ok(&at("b", 3, None))), (3, vec![], None));
    assert_eq!(told(&world.ok(&at("a", 2, Some(&kept)))), (3, vec![], None));
    let given = world.ok(&at("b", 3, None)).active_tasks.unwrap();
    assert_eq!(given.iter().map(|list| list.partitions.len()).sum::<usize>(), 2);
    assert_eq!(world.group.state(), State::Stable);
    // It goes, and the first gets all again.
    let gone = world.ok(&at("b", -1, None));
    assert_eq!((gone.member_epoch, gone.active_tasks), (-1, None));
    world.ticks += 1_000;
    assert_eq!(told(&world.ok(&at("a", 3, None))), (4, vec![], Some("0_0 0_1 1_0 1_1".to_owned())));
}

#[test]
fn silent_members_and_those_that_give_nothing_up_are_dropped() {
    let mut world = World::ready();
    world.ok(&joining("a", "p"));
    world.ticks += 1_000;
    world.ok(&joining("b", "q"));
    world.ok(&at("a", 2, None));
    assert_eq!(world.group.next_deadline(), Some(world.ticks + 20_000));
    world.ticks += 20_000;
    let records = world.group.expire(world.now());
    world.replay(&records);
    assert_eq!(world.group.members().map(|(id, _)| &**id).collect::<Vec<_>>(), ["b"]);
    assert_eq!(told(&world.ok(&at("b", 3, None))), (4, vec![], Some("0_0 0_1 1_0 1_1".to_owned())));
    world.ticks += 45_000;
    let records = world.group.expire(world.now());
    world.replay(&records);
    assert_eq!((world.group.state(), world.group.next_deadline()), (State::Empty, None));
    assert_eq!(world.beat(&at("b", 4, None)).unwrap_err().code, ErrorCode::UnknownMemberId);
}

#[test]
fn the_first_members_wait_for_others() {
    let mut world = World::ready();
    world.config.initial_rebalance_delay_ms = 3_000;
    assert_eq!(told(&world.ok(&joining("a", "p"))), (1, vec![5], Some(String::new())));
    world.ticks += 1_000;
    assert_eq!(told(&world.ok(&joining("b", "q"))), (1, vec![5], Some(String::new())));
    assert_eq!(world.group.next_deadline(), Some(13_000));
    world.ticks = 13_000;
    let records = world.group.expire(world.now());
    world.replay(&records);
    let tasks = told(&world.ok(&at("a", 1, None)));
    assert_eq!((tasks.0, tasks.1, tasks.2.unwrap().len()), (3, vec![], "0_0 1_0".len()));
}

#[test]
fn epochs_topologies_and_tasks_that_cannot_be_are_refused_and_change_nothing() {
    let mut world = World::ready();
    world.config.max_size = 1;
    world.ok(&joining("a", "p"));
    let before = world.group.image();
    let mut refused = |request: StreamsGroupHeartbeatRequest| {
        let refusal = world.beat(&request).unwrap_err();
        assert_eq!(world.group.image(), before);
        refusal.code
    };
    assert_eq!(refused(joining("b", "q")), ErrorCode::GroupMaxSizeReached);
    assert_eq!(refused(at("b", 2, None)), ErrorCode::UnknownMemberId);
    assert_eq!(refused(at("b", -1, None)), ErrorCode::UnknownMemberId);
    assert_eq!(refused(at("a", 3, None)), ErrorCode::FencedMemberEpoch);
    assert_eq!(refused(at("a", 1, None)), ErrorCode::FencedMemberEpoch);
    let mut other = joining("a", "p");
    other.topology.as_mut().unwrap().epoch = 1;
    assert_eq!(refused(other), ErrorCode::InvalidRequest);
    let wrong = TaskIds { subtopology_id: "1".into(), partitions: vec![2] };
    assert_eq!(refused(at("a", 2, Some(&[wrong]))), ErrorCode::InvalidRequest);
    let mut empty = World::ready();
    let mut unfed = joining("a", "p");
    unfed.topology.as_mut().unwrap().subtopologies.remove(0);
    assert_eq!(empty.beat(&unfed).unwrap_err().code, ErrorCode::StreamsInvalidTopology);
    // One whose answer was lost says the epoch before, and has nothing it should not have.
    assert_eq!(told(&world.ok(&at("a", 0, Some(&[])))).0, 2);
}

#[test]
fn offsets_are_taken_from_members_of_this_epoch_or_since_the_task_was_given() {
    let mut world = World::ready();
    world.ok(&joining("a", "p"));
    let check = |world: &World, member: &str, epoch, topic| world.group.check_commit(member, epoch, [(topic, 0)]);
    assert_eq!(check(&world, "a", 2, "in"), Ok(()));
    assert_eq!(check(&world, "a", 3, "in"), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(check(&world, "a", 1, "in"), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(check(&world, "b", 2, "in"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(check(&world, "", -1, "in"), Err(ErrorCode::UnknownMemberId));
    world.ticks += 1_000;
    world.topics.insert("in", 2);
    let tags = StreamsGroupHeartbeatRequest { rack_id: Some("r".into()), ..at("a", 2, None) };
    assert_eq!(told(&world.ok(&tags)).0, 3);
    assert_eq!(check(&world, "a", 2, "in"), Ok(()));
    assert_eq!(check(&world, "a", 2, "words"), Ok(()));
    assert_eq!(check(&world, "a", 2, "other"), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(world.group.check_fetch(Some("a"), 3), Ok(()));
    assert_eq!(world.group.check_fetch(Some("a"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(world.group.check_fetch(None, -1), Ok(()));
    world.ok(&at("a", -1, None));
    assert_eq!(check(&world, "", -1, "in"), Ok(()));
}

#[test]
fn endpoints_and_a_shutdown_are_told_to_all() {
    let mut world = World::ready();
    let endpoint = StreamsEndpoint { host: "h".into(), port: 80 };
    let with = StreamsGroupHeartbeatRequest { user_endpoint: Some(endpoint.clone()), ..joining("a", "p") };
    let first = world.ok(&with);
    let partitions = first.partitions_by_user_endpoint.unwrap();
    assert_eq!((first.endpoint_information_epoch, &partitions[0].user_endpoint), (1, &endpoint));
    let topics: Vec<_> =
        partitions[0].active_partitions.iter().map(|list| (&*list.topic, list.partitions.clone())).collect();
    assert_eq!(topics, [("in", vec![0, 1]), ("words", vec![0, 1])]);
    let known = StreamsGroupHeartbeatRequest { endpoint_information_epoch: 1, ..at("a", 2, None) };
    assert_eq!(world.ok(&known).partitions_by_user_endpoint, None);
    let down = StreamsGroupHeartbeatRequest { shutdown_application: true, ..known.clone() };
    assert_eq!(told(&world.ok(&down)).1, [4]);
    assert_eq!(told(&world.ok(&known)).1, [4]);
    world.ok(&at("a", -1, None));
    assert_eq!(told(&world.ok(&joining("a", "p"))).1, [5]);
}

/// What one member does.
#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Beat(usize, bool),
    Leave(usize),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..4).prop_map(Step::Join),
        (0usize..4, any::<bool>()).prop_map(|(member, says)| Step::Beat(member, says)),
        (0usize..4).prop_map(|member| Step::Beat(member, true)),
        (0usize..4).prop_map(Step::Leave),
        (0i64..30_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Members come, go and are silent: the records always give the group back, no task is active twice, and in the end
    /// those that stay have all tasks.
    #[test]
    fn members_come_and_go_and_the_tasks_are_theirs(steps in proptest::collection::vec(step(), 1..60), standbys in 0usize..3) {
        let mut world = World::ready();
        world.config.standby_replicas = standbys;
        let names = ["a", "b", "c", "d"];
        let mut epochs: [Option<i32>; 4] = [None; 4];
        let settle = (0..40).flat_map(|_| [Step::Wait(1_000), Step::Beat(0, true), Step::Beat(1, true), Step::Beat(2, true), Step::Beat(3, true)]);
        for step in steps.into_iter().chain([Step::Join(0)]).chain(settle) {
            match step {
                Step::Join(member) => {
                    let process = ["p", "p", "q", "r"][member];
                    epochs[member] = Some(world.ok(&joining(names[member], process)).member_epoch);
                }
                Step::Beat(member, says) => {
                    let Some(epoch) = epochs[member] else { continue };
                    let held = world.group.members().find(|(id, _)| &***id == names[member]).map(|(_, member)| member.current.assigned.tasks());
                    let held = held.unwrap_or_default();
                    let mut request = at(names[member], epoch, says.then_some(&to_wire(&held.active)));
                    request.standby_tasks = says.then(|| to_wire(&held.standby));
                    epochs[member] = world.beat(&request).ok().map(|answer| answer.response.member_epoch);
                }
                Step::Leave(member) => {
                    if epochs[member].take().is_some() {
                        let _ = world.beat(&at(names[member], -1, None));
                    }
                }
                Step::Wait(ms) => {
                    world.ticks += ms;
                    let records = world.group.expire(world.now());
                    world.replay(&records);
                }
            }
            let mut seen = std::collections::BTreeSet::new();
            for (_, member) in world.group.members() {
                for task in member.current.assigned.active.keys().chain(member.current.to_revoke.active.keys()) {
                    prop_assert!(seen.insert(task.clone()), "{task:?} is active twice");
                }
            }
        }
        prop_assert_eq!(world.group.state(), State::Stable);
        let active: usize = world.group.members().map(|(_, member)| member.current.assigned.active.len()).sum();
        prop_assert_eq!(active, 4);
    }
}
