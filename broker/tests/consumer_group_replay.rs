//! Whatever members of a consumer group do, in whatever order: no partition is read by two of them, replaying the log gives the
//! group's state, and in the end each has what it is to have.

#![allow(clippy::unwrap_used, reason = "a test says where it failed")]

mod consumer_world;
mod group_cluster;

use std::collections::BTreeSet;

use broker::group::consumer::heartbeat::Heartbeat;
use broker::group::consumer::records::Partitions;
use consumer_world::{Member, World, member, static_member};
use proptest::prelude::*;

const CLIENTS: usize = 4;
const TOPICS: [&str; 3] = ["a-1", "a-2", "b"];

#[derive(Clone, Debug)]
enum Step {
    /// A heartbeat that says everything; the answer may be lost on the way.
    Beat {
        client: usize,
        lost: bool,
    },
    /// A heartbeat that says only that the member is there.
    Short {
        client: usize,
    },
    Want {
        client: usize,
        topics: BTreeSet<usize>,
    },
    Match {
        client: usize,
    },
    Assignor {
        client: usize,
        range: bool,
    },
    Leave {
        client: usize,
        comes_back: bool,
    },
    Grow {
        topic: usize,
    },
    Delete {
        topic: usize,
    },
    Advance {
        ms: i64,
    },
    Restart {
        compacted: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let topics = proptest::collection::btree_set(0..TOPICS.len(), 0..3);
    prop_oneof![
        12 => (client.clone(), 0..8u8).prop_map(|(client, dice)| Step::Beat { client, lost: dice == 0 }),
        4 => client.clone().prop_map(|client| Step::Short { client }),
        2 => (client.clone(), topics).prop_map(|(client, topics)| Step::Want { client, topics }),
        1 => client.clone().prop_map(|client| Step::Match { client }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, range)| Step::Assignor { client, range }),
        2 => (client, any::<bool>()).prop_map(|(client, comes_back)| Step::Leave { client, comes_back }),
        1 => (0..TOPICS.len()).prop_map(|topic| Step::Grow { topic }),
        1 => (0..TOPICS.len()).prop_map(|topic| Step::Delete { topic }),
        3 => (100..20_000i64).prop_map(|ms| Step::Advance { ms }),
        1 => any::<bool>().prop_map(|compacted| Step::Restart { compacted }),
    ]
}

struct Clients {
    world: World,
    members: Vec<Member>,
    /// How often each has begun anew: static members get a new id each time.
    lives: Vec<usize>,
    sizes: [i32; 3],
}

impl Clients {
    fn new() -> Self {
        let world = World::new(&[("a-1", 2), ("b", 3)]);
        let mut clients = Self { world, members: Vec::new(), lives: vec![0; CLIENTS], sizes: [2, 0, 3] };
        clients.members = (0..CLIENTS).map(|client| clients.fresh(client)).collect();
        clients
    }

    /// Clients 0 and 1 are static members.
    fn fresh(&self, client: usize) -> Member {
        let id = format!("m{client}-{}", self.lives[client]);
        match client {
            0 | 1 => static_member(&id, &format!("i{client}"), &["a-1", "b"]),
            _ => member(&id, &["a-1", "b"]),
        }
    }

    /// Begins anew, without anything, wanting what it wanted.
    fn rejoin(&mut self, client: usize) {
        self.lives[client] += 1;
        let beat = self.members[client].beat.clone();
        let mut fresh = self.fresh(client);
        fresh.beat = Heartbeat { member_id: fresh.beat.member_id, epoch: 0, ..beat };
        self.members[client] = fresh;
    }

    /// A heartbeat of one client, as its state says; a client that is refused gives everything up and begins anew.
    fn beat(&mut self, client: usize, full: bool, lost: bool) {
        let member = &self.members[client];
        let mut beat = member.beat.clone();
        beat.owned = Some(if beat.epoch == 0 { Partitions::new() } else { member.owned.clone() });
        if !full && beat.epoch > 0 {
            (beat.owned, beat.topic_names, beat.topic_regex, beat.rebalance_timeout_ms) = (None, None, None, None);
        }
        match self.world.send(&beat) {
            Ok(_) if lost => {}
            Ok(answer) => {
                let member = &mut self.members[client];
                member.beat.epoch = answer.epoch;
                if let Some(assignment) = answer.assignment {
                    let own = assignment.into_iter().map(|(topic, own)| (topic, own.into_keys().collect()));
                    member.owned = own.collect();
                }
            }
            // Another member of that instance is still there: it waits for its end.
            Err(refusal) if refusal.code == protocol::api::ErrorCode::UnreleasedInstanceId => {}
            Err(_) => self.rejoin(client),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Beat { client, lost } => self.beat(client, true, lost),
            Step::Short { client } => self.beat(client, false, false),
            Step::Want { client, topics } => {
                let beat = &mut self.members[client].beat;
                beat.topic_names = Some(topics.iter().map(|topic| TOPICS[*topic].into()).collect());
                beat.topic_regex = Some("".into());
            }
            Step::Match { client } => {
                let beat = &mut self.members[client].beat;
                (beat.topic_names, beat.topic_regex) = (Some(BTreeSet::new()), Some("a-.*".into()));
            }
            Step::Assignor { client, range } => {
                self.members[client].beat.assignor = Some(if range { "range" } else { "uniform" }.into());
            }
            Step::Leave { client, comes_back } => {
                let epoch = if comes_back && client < 2 { -2 } else { -1 };
                let beat = Heartbeat { epoch, ..self.members[client].beat.clone() };
                let _ = self.world.send(&beat);
                self.members[client].owned.clear();
                self.rejoin(client);
            }
            Step::Grow { topic } => {
                self.sizes[topic] += 1;
                self.world.cluster.put(TOPICS[topic], self.sizes[topic]);
            }
            Step::Delete { topic } => {
                self.sizes[topic] = 0;
                self.world.cluster.remove(TOPICS[topic]);
            }
            Step::Advance { ms } => self.world.advance(ms),
            Step::Restart { compacted } => {
                if compacted {
                    self.world.compact();
                }
                self.world.restart();
            }
        }
    }

    /// Partitions that two members read at once, both of which the coordinator still counts as members.
    fn read_twice(&self) -> Vec<String> {
        let Some(group) = self.world.shard.group(consumer_world::GROUP).and_then(|group| group.consumer()) else {
            return Vec::new();
        };
        let (mut seen, mut twice) = (BTreeSet::new(), Vec::new());
        for member in &self.members {
            let counts = group.members().any(|known| known.id == member.beat.member_id && !known.is_away());
            for (topic, partitions) in member.owned.iter().filter(|_| counts && member.beat.epoch > 0) {
                for partition in partitions {
                    if !seen.insert((*topic, *partition)) {
                        twice.push(format!("{topic}-{partition}"));
                    }
                }
            }
        }
        twice
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn members_share_and_the_log_knows(steps in proptest::collection::vec(step(), 1..120)) {
        let mut clients = Clients::new();
        for step in steps {
            clients.run(step.clone());
            prop_assert_eq!(clients.read_twice(), Vec::<String>::new(), "after {:?}", step);
            let (live, replayed) = (clients.world.shard.image(), clients.world.replayed().image());
            prop_assert_eq!(live, replayed, "after {:?}", step);
        }
        // Quiet: everybody comes regularly, until what is left of earlier lives is gone.
        for round in 0..60 {
            clients.world.advance(1_000);
            (0..CLIENTS).for_each(|client| clients.beat(client, round % 3 != 1, false));
        }
        prop_assert_eq!(clients.world.state(), "Stable");
        prop_assert_eq!(clients.read_twice(), Vec::<String>::new());
        let group = clients.world.group();
        prop_assert_eq!(group.members().count(), CLIENTS);
        for member in &clients.members {
            let target = group.target(&member.beat.member_id).cloned().unwrap_or_default();
            prop_assert_eq!(&member.owned, &target);
        }
        let shared: BTreeSet<_> =
            clients.members.iter().flat_map(|member| &member.owned).flat_map(|(topic, own)| own.iter().map(move |p| (*topic, *p))).collect();
        let wanted = |topic: &uuid::Uuid| clients.members.iter().any(|member| {
            let name = TOPICS.iter().find(|name| clients.world.cluster.id(name) == *topic).unwrap();
            let names = member.beat.topic_names.as_ref().unwrap();
            let regex = member.beat.topic_regex.as_ref().is_some_and(|regex| !regex.is_empty() && name.starts_with("a-"));
            names.contains(*name) || regex
        });
        let all: BTreeSet<_> = clients.world.cluster.partitions().filter(|(topic, _)| wanted(topic)).collect();
        prop_assert_eq!(shared, all);
    }
}
