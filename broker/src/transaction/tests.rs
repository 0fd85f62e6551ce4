//! The coordinator over a log and partitions in memory: what waits for what, and how it goes on after a restart.

pub(crate) mod memory;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use protocol::api::ErrorCode;

use super::coordinator::{Coordinator, Held};
use super::entry::{EPOCH_BUMPS, EPOCH_MAX, Identity};
use super::environment::TransactionEnvironment;
use super::records::{TopicAndPartition, TransactionState, TransactionValue};
use super::shard::TransactionConfig;
use memory::{MemoryState, memory_state};

type Answers = Arc<Mutex<Vec<Result<Identity, ErrorCode>>>>;

struct World {
    state: Arc<MemoryState>,
    environment: Arc<dyn TransactionEnvironment>,
    coordinator: Coordinator,
    id: Arc<str>,
    answers: Answers,
}

impl World {
    fn new() -> Self {
        let (state, environment) = memory_state();
        Self { state, environment, coordinator: coordinator(), id: "id".into(), answers: Answers::default() }
    }

    /// A coordinator that knows only what is in the log.
    fn restart(&mut self) {
        self.coordinator = coordinator();
    }

    fn held(&self) -> Held {
        let answers = Arc::clone(&self.answers);
        Box::new(move |answer| answers.lock().push(answer))
    }

    fn answered(&self) -> Vec<Result<Identity, ErrorCode>> {
        std::mem::take(&mut *self.answers.lock())
    }

    fn answer(&self) -> Result<Identity, ErrorCode> {
        let mut answers = self.answered();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    fn init(&self, own: Option<Identity>) -> Result<Identity, ErrorCode> {
        self.coordinator.init(&self.environment, &self.id, 60_000, own, self.held());
        self.answer()
    }

    fn send_add(&self, identity: Identity, partition: i32, wait_ms: i64) {
        let partitions = BTreeSet::from([at(partition)]);
        let version = EPOCH_BUMPS;
        self.coordinator.add(&self.environment, &self.id, identity, partitions, version, wait_ms, self.held());
    }

    fn add(&self, identity: Identity, partition: i32) -> Result<Identity, ErrorCode> {
        self.send_add(identity, partition, 0);
        self.answer()
    }

    fn end(&self, identity: Identity, commit: bool) -> Result<Identity, ErrorCode> {
        self.coordinator.end(&self.environment, &self.id, identity, commit, true, self.held());
        self.answer()
    }

    fn value(&self) -> TransactionValue {
        let found = self
            .coordinator
            .read(&self.environment, &self.id, |shard| shard.entry("id").map(|entry| entry.value().clone()));
        found.unwrap().unwrap()
    }

    fn step(&self) {
        self.coordinator.step(&self.environment, self.state.now());
    }
}

fn at(partition: i32) -> TopicAndPartition {
    ("t".into(), partition)
}

fn coordinator() -> Coordinator {
    Coordinator::new(TransactionConfig {
        max_timeout_ms: 900_000,
        id_expiration_ms: 604_800_000,
        abort_interval_ms: 10_000,
        expiration_interval_ms: 3_600_000,
    })
}

#[test]
fn an_end_is_answered_when_it_is_durable_and_complete_once_all_markers_are() {
    let world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.add(producer, 1).unwrap();
    world.state.hold_markers.store(true, Ordering::SeqCst);
    world.state.hold_appends.store(true, Ordering::SeqCst);
    world.coordinator.end(&world.environment, &world.id, producer, true, true, world.held());
    assert_eq!(world.answered(), [], "not durable yet");
    assert!(world.state.held_markers.lock().is_empty(), "no marker before the decision is durable");
    assert_eq!(world.add(producer, 2), Err(ErrorCode::ConcurrentTransactions));
    world.state.release_appends();
    let next = world.answer().unwrap();
    assert_eq!(next.epoch, producer.epoch + 1);
    assert_eq!(world.value().state, TransactionState::PrepareCommit);
    assert_eq!(world.end(producer, true), Err(ErrorCode::ConcurrentTransactions), "the markers are on their way");
    world.state.release_markers(Ok(()));
    let markers = world.state.markers.lock().clone();
    assert_eq!(markers.len(), 2);
    for (marker, partition) in markers.iter().zip(0..) {
        assert_eq!((&marker.partition, marker.identity, marker.commit), (&at(partition), next, true));
        assert_eq!((marker.coordinator_epoch, marker.transaction_version), (3, 2));
    }
    assert_eq!(world.value().state, TransactionState::CompleteCommit);
    assert_eq!(world.end(producer, true), Ok(next), "asked again, answered as before");
    assert_eq!(world.add(next, 0), Ok(next));
}

#[test]
fn an_end_that_was_decided_before_a_restart_is_completed_after_it() {
    for commit in [true, false] {
        let mut world = World::new();
        let producer = world.init(None).unwrap();
        world.add(producer, 4).unwrap();
        world.state.hold_markers.store(true, Ordering::SeqCst);
        let next = world.end(producer, commit).unwrap();
        // Killed here: what it had begun to write does not come.
        world.state.held_markers.lock().clear();
        world.state.hold_markers.store(false, Ordering::SeqCst);
        world.restart();
        world.step();
        for _ in 0..4 {
            world.step();
        }
        let markers = world.state.markers.lock().clone();
        assert_eq!(markers.len(), 1);
        assert_eq!((markers[0].identity, markers[0].commit), (next, commit));
        let state = if commit { TransactionState::CompleteCommit } else { TransactionState::CompleteAbort };
        assert_eq!(world.value().state, state);
        assert_eq!(world.add(next, 0), Ok(next));
    }
}

#[test]
fn a_marker_that_fails_is_written_again() {
    let world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.state.hold_markers.store(true, Ordering::SeqCst);
    world.end(producer, true).unwrap();
    world.state.release_markers(Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(world.value().state, TransactionState::PrepareCommit);
    world.step();
    assert_eq!(world.state.markers.lock().len(), 0, "not at once");
    world.state.advance(100);
    world.step();
    assert_eq!(world.state.markers.lock().len(), 1);
    assert_eq!(world.value().state, TransactionState::CompleteCommit);
}

#[test]
fn a_deleted_partition_does_not_hold_up_the_end() {
    let world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.state.hold_markers.store(true, Ordering::SeqCst);
    world.end(producer, true).unwrap();
    world.state.release_markers(Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(world.value().state, TransactionState::CompleteCommit);
}

#[test]
fn partitions_wait_for_the_end_before_them_and_are_added_together() {
    let world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.state.hold_markers.store(true, Ordering::SeqCst);
    let next = world.end(producer, true).unwrap();
    for partition in 0..3 {
        world.send_add(next, partition, 100);
    }
    assert_eq!(world.answered(), []);
    let before = world.state.batch_count();
    world.state.release_markers(Ok(()));
    assert_eq!(world.answered(), [Ok(next); 3]);
    assert_eq!(world.value().partitions, (0..3).map(at).collect());
    assert_eq!(world.state.batch_count() - before, 2, "the end's completion, and one record for all three");
}

#[test]
fn partitions_do_not_wait_for_ever() {
    let world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.state.hold_markers.store(true, Ordering::SeqCst);
    let next = world.end(producer, true).unwrap();
    world.send_add(next, 0, 100);
    world.state.advance(99);
    world.step();
    assert_eq!(world.answered(), []);
    world.state.advance(1);
    world.step();
    assert_eq!(world.answered(), [Err(ErrorCode::ConcurrentTransactions)]);
}

#[test]
fn a_producer_whose_epochs_are_used_up_goes_on_under_another_id() {
    let world = World::new();
    let mut producer = world.init(None).unwrap();
    assert_eq!(producer, Identity { producer_id: 5, epoch: 0 });
    while producer.epoch < EPOCH_MAX {
        producer = world.end(producer, false).unwrap();
    }
    assert_eq!(producer, Identity { producer_id: 5, epoch: EPOCH_MAX });
    world.add(producer, 0).unwrap();
    let next = world.end(producer, true).unwrap();
    assert_eq!(next, Identity { producer_id: 6, epoch: 0 });
    let marker = world.state.markers.lock().last().cloned().unwrap();
    assert_eq!(marker.identity, Identity { producer_id: 5, epoch: i16::MAX }, "the marker still is the old one's");
    assert_eq!(world.end(producer, true), Ok(next), "asked again, answered as before");
    assert_eq!(world.add(next, 0), Ok(next));
    assert_eq!(world.add(producer, 0), Err(ErrorCode::InvalidProducerIdMapping));
}

#[test]
fn a_takeover_ends_the_open_transaction_first() {
    let world = World::new();
    let first = world.init(None).unwrap();
    world.add(first, 0).unwrap();
    assert_eq!(world.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(world.value().state, TransactionState::CompleteAbort);
    assert_eq!(world.state.markers.lock()[0].identity.epoch, 1);
    let second = world.init(None).unwrap();
    assert_eq!(second.epoch, 2);
    assert_eq!(world.add(first, 0), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.add(second, 0), Ok(second));
    assert_eq!(world.init(Some(first)), Err(ErrorCode::ProducerFenced), "a zombie");
    assert_eq!(world.value().state, TransactionState::Ongoing, "does not end what is not its own");
}

#[test]
fn transactions_are_ended_for_their_age_and_unused_ids_forgotten() {
    let world = World::new();
    let producer = world.init(None).unwrap();
    world.add(producer, 0).unwrap();
    world.state.advance(60_000);
    world.step();
    assert_eq!(world.value().state, TransactionState::Ongoing, "its time is just over");
    world.state.advance(1);
    world.step();
    assert_eq!(world.value().state, TransactionState::CompleteAbort);
    assert_eq!(world.add(producer, 0), Err(ErrorCode::ProducerFenced));
    world.state.advance(604_800_000 + 3_600_000);
    world.step();
    let known = world.coordinator.read(&world.environment, &world.id, |shard| shard.entry("id").is_some());
    assert_eq!(known, Ok(false));
    assert_eq!(world.add(producer, 0), Err(ErrorCode::InvalidProducerIdMapping));
}

#[test]
fn without_its_topic_nothing_is_answered_but_that() {
    let world = World::new();
    world.state.missing.store(true, Ordering::SeqCst);
    assert_eq!(world.init(None), Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(world.add(Identity { producer_id: 1, epoch: 0 }, 0), Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(world.coordinator.step(&world.environment, world.state.now()), (false, None));
}
