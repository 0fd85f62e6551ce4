//! Groups at work that change their kind: members of the classic and of the consumer protocol in one group, in any order. No
//! partition is read by two of them, replaying the log gives the group's state, and in the end all is shared out.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod consumer_world;
mod group_cluster;
mod migrating_member;

use std::collections::BTreeSet;

use broker::group::consumer::heartbeat::Heartbeat;
use broker::group::consumer::migration::MigrationPolicy;
use broker::group::consumer::records::Partitions;
use consumer_world::{GROUP, Member, World, member, static_member};
use migrating_member::{ClassicMember, Phase};
use proptest::prelude::*;
use protocol::api::ErrorCode;

fn kind(world: &World) -> &'static str {
    world.shard.group(GROUP).map_or("none", |group| group.kind.name())
}

/// Everybody goes on until all have what they are to have.
fn settle(world: &mut World, classic: &mut [&mut ClassicMember], members: &mut [&mut Member]) {
    for _ in 0..40 {
        world.advance(500);
        classic.iter_mut().for_each(|member| member.go_on(world));
        members.iter_mut().for_each(|member| {
            world.beat(member);
        });
        if world.state() == "Stable" && classic.iter().all(|member| member.phase == Phase::Stable) {
            return;
        }
    }
    panic!("not settled: {:?}", world.shard.group(GROUP));
}

/// The partitions of `t` that each has.
fn shares(classic: &[&ClassicMember], members: &[&Member]) -> Vec<Vec<i32>> {
    let classic = classic.iter().map(|member| member.owned.values().flatten().copied().collect());
    classic.chain(members.iter().map(|member| member.numbers())).collect()
}

#[test]
fn a_classic_group_at_work_becomes_a_consumer_group_and_a_classic_one_again() {
    for is_eager in [true, false] {
        let mut world = World::new(&[("t", 4)]);
        let (mut one, mut two) = (ClassicMember::new(is_eager), ClassicMember::new(is_eager));
        settle(&mut world, &mut [&mut one, &mut two], &mut []);
        assert_eq!((kind(&world), shares(&[&one, &two], &[])), ("classic", vec![vec![0, 2], vec![1, 3]]));
        assert_eq!(world.commit(&one.id, one.generation, "t", 0, 8), ErrorCode::None);

        let mut three = member("three", &["t"]);
        settle(&mut world, &mut [&mut one, &mut two], &mut [&mut three]);
        assert_eq!(kind(&world), "consumer");
        assert_eq!(shares(&[&one, &two], &[&three]).concat().len(), 4);
        assert_eq!(three.numbers().len(), 1);
        assert_eq!(one.generation, three.epoch(), "its epoch is its generation");
        assert_eq!(world.replayed().image(), world.shard.image());
        assert_eq!(world.commit(&one.id, one.generation, "t", 0, 8), ErrorCode::None);
        assert_eq!(world.commit(&one.id, one.generation - 1, "t", 0, 8), ErrorCode::IllegalGeneration);
        assert_eq!(world.shard.group(GROUP).unwrap().offsets.iter().count(), 1);

        world.leave(&three, -1).unwrap();
        assert_eq!(kind(&world), "classic");
        assert_eq!(world.replayed().image().keys().map(AsRef::as_ref).collect::<Vec<_>>(), [GROUP]);
        settle(&mut world, &mut [&mut one, &mut two], &mut []);
        assert_eq!(shares(&[&one, &two], &[]).concat().len(), 4);
        assert_eq!(world.replayed().image(), world.shard.image());
        assert_eq!(world.shard.group(GROUP).unwrap().offsets.iter().count(), 1, "its offsets stay through all of it");
    }
}

#[test]
fn a_classic_member_joins_a_consumer_group() {
    let mut world = World::new(&[("t", 4)]);
    let mut one = member("one", &["t"]);
    world.beat(&mut one);
    let mut two = ClassicMember::new(true);
    settle(&mut world, &mut [&mut two], &mut [&mut one]);
    assert_eq!((kind(&world), two.owned.values().flatten().count(), one.numbers().len()), ("consumer", 2, 2));
    let known = world.group().members().find(|member| *member.id == *two.id).unwrap();
    assert_eq!(known.metadata.classic.as_ref().unwrap().protocols.len(), 1);
    assert_eq!(two.leave(&mut world), [ErrorCode::None]);
    settle(&mut world, &mut [], &mut [&mut one]);
    assert_eq!(one.numbers(), [0, 1, 2, 3]);
    let mut stranger = ClassicMember { protocol_type: "connect", ..ClassicMember::new(true) };
    stranger.go_on(&mut world);
    stranger.go_on(&mut world);
    assert_eq!(stranger.refused, Some(ErrorCode::InconsistentGroupProtocol));
}

#[test]
fn the_policy_says_which_groups_change_their_kind() {
    let mut world = World::new(&[("t", 2)]);
    world.config.consumer.migration = MigrationPolicy::named("downgrade").unwrap();
    let mut one = ClassicMember::new(true);
    settle(&mut world, &mut [&mut one], &mut []);
    let mut two = member("two", &["t"]);
    let first = Heartbeat { owned: Some(Partitions::new()), ..two.beat.clone() };
    assert_eq!(world.send(&first).unwrap_err().code, ErrorCode::GroupIdNotFound);
    assert_eq!((kind(&world), world.state()), ("classic", "Stable"));

    world.config.consumer.migration = MigrationPolicy::named("Upgrade").unwrap();
    settle(&mut world, &mut [&mut one], &mut [&mut two]);
    world.leave(&two, -1).unwrap();
    assert_eq!(kind(&world), "consumer", "it does not go back");
    settle(&mut world, &mut [&mut one], &mut []);
    assert_eq!(shares(&[&one], &[]), [[0, 1]]);
    assert!(MigrationPolicy::named("both").is_none());
}

#[test]
fn a_classic_member_that_does_not_join_again_or_falls_silent_is_dropped() {
    let mut world = World::new(&[("t", 2)]);
    let mut one = member("one", &["t"]);
    world.beat(&mut one);
    let (mut two, mut three) = (ClassicMember::new(false), ClassicMember::new(false));
    settle(&mut world, &mut [&mut two, &mut three], &mut [&mut one]);
    world.cluster.put("t", 3);
    world.beat(&mut one);
    // It is told to join, and goes on with heartbeats instead; the other says nothing.
    for _ in 0..58 {
        world.advance(1_000);
        world.beat(&mut one);
        assert_eq!(two.heartbeat(&mut world), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(world.group().members().count(), 2);
    for _ in 0..4 {
        world.advance(1_000);
        world.beat(&mut one);
        two.heartbeat(&mut world);
    }
    assert_eq!(two.heartbeat(&mut world), ErrorCode::UnknownMemberId);
    assert_eq!((world.group().members().count(), one.numbers()), (1, vec![0, 1, 2]));
}

#[test]
fn a_static_member_comes_back_with_the_other_protocol_and_gets_its_place() {
    let mut world = World::new(&[("t", 4)]);
    let mut one = static_member("one", "i", &["t"]);
    let mut two = ClassicMember::new(true);
    world.beat(&mut one);
    settle(&mut world, &mut [&mut two], &mut [&mut one]);
    let place = one.numbers();

    let mut three = ClassicMember { instance: Some("i"), ..ClassicMember::new(true) };
    for _ in 0..3 {
        three.go_on(&mut world);
    }
    assert_eq!((kind(&world), world.state()), ("classic", "Stable"), "nobody of the newer protocol is left");
    assert_eq!((three.phase, shares(&[&three], &[])), (Phase::Stable, vec![place]));
    assert_eq!((two.heartbeat(&mut world), three.heartbeat(&mut world)), (ErrorCode::None, ErrorCode::None));
    assert_eq!(world.replayed().image(), world.shard.image());

    let mut four = static_member("four", "i", &["t"]);
    settle(&mut world, &mut [&mut two], &mut [&mut four]);
    assert_eq!((kind(&world), world.group().members().count()), ("consumer", 2));
    assert_eq!(three.heartbeat(&mut world), ErrorCode::FencedInstanceId);
    assert_eq!(shares(&[&two], &[&four]).concat().len(), 4);
    assert_eq!(world.replayed().image(), world.shard.image());
}

const CLASSIC: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Classic { client: usize },
    Beat { client: usize },
    LeaveClassic { client: usize },
    Leave { client: usize },
    Grow,
    Advance { ms: i64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..CLASSIC).prop_map(|client| Step::Classic { client }),
        10 => (0..2usize).prop_map(|client| Step::Beat { client }),
        1 => (0..CLASSIC).prop_map(|client| Step::LeaveClassic { client }),
        3 => (0..2usize).prop_map(|client| Step::Leave { client }),
        1 => Just(Step::Grow),
        3 => (100..9_000i64).prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Restart),
    ]
}

struct Clients {
    world: World,
    classic: Vec<ClassicMember>,
    members: Vec<Member>,
    lives: usize,
    partitions: i32,
}

impl Clients {
    fn fresh(&mut self) -> Member {
        self.lives += 1;
        member(&format!("m{}", self.lives), &["t"])
    }

    fn beat(&mut self, client: usize) {
        let mut beat = self.members[client].beat.clone();
        beat.owned = Some(if beat.epoch == 0 { Partitions::new() } else { self.members[client].owned.clone() });
        match self.world.send(&beat) {
            Ok(answer) => {
                let member = &mut self.members[client];
                member.beat.epoch = answer.epoch;
                if let Some(assignment) = answer.assignment {
                    member.owned =
                        assignment.into_iter().map(|(topic, own)| (topic, own.into_keys().collect())).collect();
                }
            }
            Err(_) => self.members[client] = self.fresh(),
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Classic { client } => self.classic[*client].go_on(&mut self.world),
            Step::Beat { client } => self.beat(*client),
            Step::LeaveClassic { client } => {
                self.classic[*client].leave(&mut self.world);
            }
            Step::Leave { client } => {
                let _ = self.world.leave(&self.members[*client], -1);
                self.members[*client] = self.fresh();
            }
            Step::Grow => {
                self.partitions += 1;
                self.world.cluster.put("t", self.partitions);
            }
            Step::Advance { ms } => self.world.advance(*ms),
            Step::Restart => {
                self.world.restart();
                // Connections are gone, and with them what was waited for.
                self.classic.iter_mut().for_each(ClassicMember::reconnect);
            }
        }
    }

    /// Partitions that two members read at once, both of which the coordinator counts as members of this epoch or generation.
    fn read_twice(&self) -> Vec<i32> {
        let Some(group) = self.world.shard.group(GROUP) else { return Vec::new() };
        let counts = |id: &str| match (group.consumer(), group.classic()) {
            (Some(group), _) => group.members().any(|known| &*known.id == id),
            (_, Some(group)) => group.members().any(|known| &*known.id == id),
            _ => false,
        };
        let classic = self.classic.iter().filter(|member| counts(&member.id));
        let modern = self.members.iter().filter(|member| member.epoch() > 0 && counts(&member.beat.member_id));
        let classic = classic.flat_map(|member| member.owned.values().flatten().copied());
        let all: Vec<i32> = classic.chain(modern.flat_map(|member| member.numbers())).collect();
        let mut seen = BTreeSet::new();
        all.into_iter().filter(|partition| !seen.insert(*partition)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn members_of_both_protocols_share_and_the_log_knows(
        eager in proptest::collection::vec(any::<bool>(), CLASSIC),
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        // Eager and cooperative members do not go together in a classic group.
        let classic = (0..CLASSIC).map(|_| ClassicMember::new(eager[0])).collect();
        let world = World::new(&[("t", 3)]);
        let mut clients = Clients { world, classic, members: Vec::new(), lives: 0, partitions: 3 };
        clients.members = (0..2).map(|_| clients.fresh()).collect();
        for step in steps {
            clients.run(&step);
            prop_assert_eq!(clients.read_twice(), Vec::<i32>::new(), "after {:?}", step);
            // A classic group between generations is read back as its last one.
            if !clients.world.state().ends_with("Rebalance") {
                prop_assert_eq!(clients.world.shard.image(), clients.world.replayed().image(), "after {:?}", step);
            }
        }
        for with_modern in [true, false] {
            if !with_modern {
                for client in 0..2 {
                    let _ = clients.world.leave(&clients.members[client], -1);
                }
            }
            for _ in 0..400 {
                clients.world.advance(500);
                (0..CLASSIC).for_each(|client| clients.classic[client].go_on(&mut clients.world));
                if with_modern {
                    (0..2).for_each(|client| clients.beat(client));
                }
            }
            prop_assert_eq!((kind(&clients.world), clients.world.state()), (if with_modern { "consumer" } else { "classic" }, "Stable"));
            prop_assert_eq!(clients.read_twice(), Vec::<i32>::new());
            let modern: usize = clients.members.iter().map(|member| member.numbers().len()).sum();
            let classic: usize = clients.classic.iter().map(|member| member.owned.values().flatten().count()).sum();
            prop_assert_eq!(classic + if with_modern { modern } else { 0 }, clients.partitions as usize);
        }
    }
}
