//! `durability=power` on a simulated disk, stepped by hand: what is acknowledged has been synced, and survives a crash.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says where it failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Clock, ManualClock, Rng};
use broker::{Broker, BrokerConfig, BrokerSeams};
use protocol::api::{ErrorCode, Response};
use storage::files::{Fault, SimFiles};
use support::*;

struct World {
    clock: Arc<ManualClock>,
    files: SimFiles,
    broker: Broker,
    lives: u64,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(1_700_000_000_000);
        let files = SimFiles::new(clock.clone());
        let broker = open(&clock, &files, 1);
        Self { clock, files, broker, lives: 1 }
    }

    fn peer(&self) -> Peer {
        Peer::InProcess { transport: self.broker.transport(), waiting: Default::default() }
    }

    fn step(&self) -> bool {
        self.broker.step(self.clock.now()).did_work
    }

    fn create_topic(&self, name: &str) {
        let mut peer = self.peer();
        let request = protocol::api::messages::CreateTopicsRequest::default().with_topics(vec![topic(name, 1, &[])]);
        peer.send(7, request);
        assert!(peer.try_take().is_none(), "not before the metadata is synced");
        self.step();
        assert!(matches!(peer.try_take(), Some(Response::CreateTopics(answer)) if answer.topics[0].error_code == 0));
    }

    fn crash(&mut self, rng: &mut Rng) {
        self.files.crash(rng);
        self.lives += 1;
        self.broker = open(&self.clock, &self.files, self.lives);
    }
}

fn open(clock: &Arc<ManualClock>, files: &SimFiles, seed: u64) -> Broker {
    let seams = BrokerSeams {
        clock: clock.clone(),
        rng: Rng::from_seed(seed),
        files: Arc::new(files.clone()),
        connector: None,
    };
    Broker::open(BrokerConfig::embedded("/data"), seams).unwrap()
}

#[test]
fn acks_all_is_answered_after_the_sync_and_acks_1_at_once() {
    let world = World::new();
    world.create_topic("t");
    let mut peer = world.peer();
    peer.send(9, produce_request("t", 0, 1, batch(&["a"])));
    assert_eq!(produced(peer.try_take().unwrap()).base_offset, 0);
    peer.send(9, produce_request("t", 0, -1, batch(&["b"])));
    assert!(peer.try_take().is_none());
    let before = fetched(peer_fetch(&world));
    assert_eq!((before.high_watermark, before.records.len_bytes()), (0, 0), "nobody sees what is not synced");
    assert!(world.step());
    assert_eq!(produced(peer.try_take().unwrap()).base_offset, 1);
    assert_eq!(values(&fetched(peer_fetch(&world)).records), ["a", "b"]);
    assert!(!world.step(), "nothing is left to do");
}

fn peer_fetch(world: &World) -> Response {
    world.peer().call(11, fetch_request("t", 0, 0, 0, 1))
}

#[test]
fn a_waiting_fetch_is_answered_by_the_sync_or_at_its_deadline() {
    let world = World::new();
    world.create_topic("t");
    let (mut waiting, mut producing) = (world.peer(), world.peer());
    waiting.send(11, fetch_request("t", 0, 0, 500, 1));
    producing.send(9, produce_request("t", 0, 1, batch(&["a"])));
    assert!(waiting.try_take().is_none());
    world.step();
    assert_eq!(values(&fetched(waiting.try_take().unwrap()).records), ["a"]);
    waiting.send(11, fetch_request("t", 0, 1, 500, 1));
    world.clock.advance_ms(499);
    world.step();
    assert!(waiting.try_take().is_none());
    world.clock.advance_ms(1);
    world.step();
    assert!(fetched(waiting.try_take().unwrap()).records.is_empty());
}

#[test]
fn a_produce_that_is_not_synced_in_time_says_so() {
    let world = World::new();
    world.create_topic("t");
    let mut peer = world.peer();
    let mut request = produce_request("t", 0, -1, batch(&["a"]));
    request.timeout_ms = 100;
    peer.send(9, request);
    world.clock.advance_ms(100);
    world.broker.step_timers(world.clock.now());
    assert_eq!(produced(peer.try_take().unwrap()).error_code, ErrorCode::RequestTimedOut);
}

#[test]
fn a_failed_sync_fails_who_waits_and_refuses_what_comes() {
    let world = World::new();
    world.create_topic("t");
    let mut peer = world.peer();
    peer.send(9, produce_request("t", 0, -1, batch(&["a"])));
    world.files.fail_next(Fault::Sync, "t-0", std::io::ErrorKind::Other);
    world.step();
    assert_eq!(produced(peer.try_take().unwrap()).error_code, ErrorCode::KafkaStorageError);
    peer.send(9, produce_request("t", 0, -1, batch(&["b"])));
    assert_eq!(produced(peer.try_take().unwrap()).error_code, ErrorCode::KafkaStorageError);
}

#[test]
fn a_failed_write_fails_who_waits_for_earlier_ones_and_is_known_of_the_broker() {
    let world = World::new();
    world.create_topic("t");
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    world.broker.on_failure(move || tell.store(true, Ordering::SeqCst));
    let (mut waiting, mut failing) = (world.peer(), world.peer());
    waiting.send(9, produce_request("t", 0, -1, batch(&["a"])));
    world.files.fail_next(Fault::Write, "t-0", std::io::ErrorKind::StorageFull);
    assert!(world.broker.failure().is_none() && !told.load(Ordering::SeqCst));
    failing.send(9, produce_request("t", 0, -1, batch(&["b"])));
    assert_eq!(produced(failing.try_take().unwrap()).error_code, ErrorCode::KafkaStorageError);
    assert_eq!(produced(waiting.try_take().unwrap()).error_code, ErrorCode::KafkaStorageError);
    assert!(told.load(Ordering::SeqCst));
    let said = world.broker.failure().unwrap().to_string();
    assert!(said.contains("t-0") && said.contains("free some space and start again"), "{said}");
    assert!(world.broker.transport().failure().unwrap().contains("t-0"), "clients in this process are told");
}

#[test]
fn everything_acknowledged_survives_crashes() {
    for seed in 0..40 {
        let mut rng = Rng::from_seed(seed);
        let mut world = World::new();
        world.create_topic("t");
        let mut acknowledged: Vec<String> = Vec::new();
        for round in 0..6 {
            let mut peer = world.peer();
            let mut sent = Vec::new();
            for number in 0..rng.below(8) {
                let value = format!("{round}-{number}");
                peer.send(9, produce_request("t", 0, -1, batch(&[&value])));
                sent.push(value);
                if rng.chance(1, 3) {
                    world.step();
                }
            }
            for value in sent {
                match peer.try_take() {
                    Some(answer) => {
                        assert_eq!(produced(answer).error_code, ErrorCode::None);
                        acknowledged.push(value);
                    }
                    None => break,
                }
            }
            world.crash(&mut rng);
            let found = world.peer().values("t", 0, 0);
            let mut rest = found.iter();
            for value in &acknowledged {
                assert!(rest.any(|kept| kept == value), "seed {seed}: {value} was lost, found {found:?}");
            }
        }
    }
}

#[test]
fn the_cleaner_is_a_step_of_its_own_that_a_whole_step_includes() {
    let world = World::new();
    let now = world.clock.now();
    let cleaner = world.broker.step_cleaner(now).next_wake_ticks_ms.unwrap();
    assert_eq!(cleaner, now.ticks_ms + 15_000, "log.cleaner.backoff.ms");
    world.clock.advance_ms(15_000);
    world.broker.step_timers(world.clock.now());
    assert!(world.broker.step_cleaner(world.clock.now()).did_work, "the timer's part left it alone");
    world.clock.advance_ms(15_000);
    world.broker.step(world.clock.now());
    assert!(!world.broker.step_cleaner(world.clock.now()).did_work);
}
