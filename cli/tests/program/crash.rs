//! `kill -9` at any moment, then a restart on the same directory: every acknowledged record is there, once and in its place, and no
//! committed offset has gone back. The same producer and committer go on through all crashes.
//!
//! The moments are a seed's: each kill follows a drawn number of acknowledgements, so most fall between a write and its
//! answer. The seed is printed; `MILLSTREAM_CRASH_SEED` repeats it (as far as the threads of two processes can).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use base::{Offset, Rng, TopicPartition};
use client::admin::{NewTopic, OffsetAndMetadata, OffsetSpec};
use client::consumer::{Consumer, ConsumerConfig, OffsetSpec as From};
use client::{Admin, Client, Producer, ProducerConfig, ProducerRecord, block_on};
use tempfile::TempDir;

use super::support::{BrokerProcess, client, directory};

const ROUNDS: usize = 10;
const PARTITIONS: i32 = 3;
const TOPIC: &str = "events";
const GROUP: &str = "readers";
/// Records that wait for their answer at once.
const IN_FLIGHT: usize = 300;
const ACKNOWLEDGED_MAX: u64 = 4_000;

/// What the broker has answered.
enum Answer {
    /// Record `number` is at `offset`; its partition is `number % PARTITIONS`.
    Written { number: u64, offset: Offset },
    /// The group has committed this offset in all partitions.
    Committed(Offset),
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_with_durability_power() {
    survive("power");
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_with_durability_process() {
    survive("process");
}

fn survive(durability: &str) {
    let seed = std::env::var("MILLSTREAM_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Rng::from_entropy().next_u64());
    println!("MILLSTREAM_CRASH_SEED={seed} durability={durability}");
    let mut rng = Rng::from_seed(seed);
    let mut world = World::new(durability);
    for round in 0..ROUNDS {
        let moment = rng.below(ACKNOWLEDGED_MAX);
        world.await_acknowledged(moment);
        world.crash();
        let (records, committed) = world.restart();
        println!("round {round}: {records} records, offsets committed up to {committed}");
    }
    world.end();
}

struct World {
    durability: String,
    data: TempDir,
    broker: Option<BrokerProcess>,
    address: String,
    answers: Receiver<Answer>,
    stop: Arc<AtomicBool>,
    producing: Option<JoinHandle<u64>>,
    committing: Option<JoinHandle<()>>,
    /// Offset of each acknowledged record.
    written: Vec<Option<Offset>>,
    committed: Offset,
}

impl World {
    fn new(durability: &str) -> Self {
        let data = directory();
        let broker = BrokerProcess::start(data.path(), &[&format!("durability={durability}")]);
        let address = broker.address.clone();
        block_on(broker.admin().create_topics(&[NewTopic::new(TOPIC, PARTITIONS)])).unwrap()[0].1.as_ref().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (told, answers) = channel();
        let producing = {
            let (client, stop, told) = (client(&address), Arc::clone(&stop), told.clone());
            spawn(move || produce(client, &stop, &told))
        };
        let committing = {
            let (client, stop) = (client(&address), Arc::clone(&stop));
            spawn(move || commit(&Admin::new(client), &stop, &told))
        };
        Self {
            durability: format!("durability={durability}"),
            data,
            broker: Some(broker),
            address,
            answers,
            stop,
            producing: Some(producing),
            committing: Some(committing),
            written: Vec::new(),
            committed: 0,
        }
    }

    fn note(&mut self, answer: Answer) {
        match answer {
            Answer::Written { number, offset } => {
                let index = usize::try_from(number).unwrap();
                self.written.resize(self.written.len().max(index + 1), None);
                assert_eq!(self.written[index].replace(offset), None, "record {number} was acknowledged twice");
            }
            Answer::Committed(offset) => self.committed = self.committed.max(offset),
        }
    }

    /// At least one record more, so that each round has seen the broker at work.
    fn await_acknowledged(&mut self, more: u64) {
        for _ in 0..=more {
            let answer = self.answers.recv_timeout(Duration::from_secs(60)).unwrap();
            self.note(answer);
        }
    }

    fn crash(&mut self) {
        self.broker.take().unwrap().kill();
        while let Ok(answer) = self.answers.try_recv() {
            self.note(answer);
        }
    }

    /// On the same address; then checks what must be there.
    fn restart(&mut self) -> (usize, Offset) {
        self.broker = Some(BrokerProcess::start_on(&self.address, self.data.path(), &[&self.durability]));
        let stored = read_all(&self.address);
        for (partition, records) in stored.iter().enumerate() {
            once_and_in_order(partition, records);
        }
        for (number, offset) in self.written.iter().enumerate() {
            let Some(offset) = offset else { continue };
            let number = number as u64;
            // Offsets are their indexes, as was checked above.
            let at = stored[partition_of(number) as usize].get(*offset as usize);
            assert_eq!(at.map(|(_, number)| *number), Some(number), "lost: record {number} at offset {offset}");
        }
        let committed = committed(&self.address);
        assert!(committed >= self.committed, "committed {committed}, but {} was acknowledged", self.committed);
        (stored.iter().map(Vec::len).sum(), committed)
    }

    /// Everything that was sent is there in the end.
    fn end(mut self) {
        self.stop.store(true, Ordering::Release);
        let sent = self.producing.take().unwrap().join().unwrap();
        self.committing.take().unwrap().join().unwrap();
        while let Ok(answer) = self.answers.try_recv() {
            self.note(answer);
        }
        assert_eq!(self.written.iter().filter(|offset| offset.is_some()).count() as u64, sent);
        let stored = read_all(&self.address);
        assert_eq!(stored.iter().map(Vec::len).sum::<usize>() as u64, sent);
        assert_eq!(committed(&self.address), self.committed);
        self.broker.take().unwrap().stop();
    }
}

fn partition_of(number: u64) -> i32 {
    (number % PARTITIONS as u64) as i32
}

/// Sends numbered records until it is told to stop, and tells what was acknowledged; returns how many it has sent.
fn produce(client: Client, stop: &AtomicBool, told: &Sender<Answer>) -> u64 {
    let producer = Producer::new(client, ProducerConfig::default().linger_ms(1)).unwrap();
    // Records of a topic that the producer does not know yet would wait for their future to be polled, and be overtaken.
    block_on(producer.partition_count(TOPIC)).unwrap();
    let mut waiting = VecDeque::new();
    let mut sent = 0;
    while !stop.load(Ordering::Acquire) {
        let record = ProducerRecord::to(TOPIC).partition(partition_of(sent)).value(sent.to_be_bytes().to_vec());
        waiting.push_back((sent, producer.send(record)));
        sent += 1;
        if waiting.len() > IN_FLIGHT {
            let (number, future) = waiting.pop_front().unwrap();
            let offset = block_on(future).unwrap().offset;
            told.send(Answer::Written { number, offset }).unwrap();
        }
    }
    for (number, future) in waiting {
        let offset = block_on(future).unwrap().offset;
        told.send(Answer::Written { number, offset }).unwrap();
    }
    producer.close_blocking().unwrap();
    sent
}

/// Commits 1, 2, 3 and so on in all partitions until it is told to stop.
fn commit(admin: &Admin, stop: &AtomicBool, told: &Sender<Answer>) {
    let mut offset = 0;
    while !stop.load(Ordering::Acquire) {
        offset += 1;
        let what = OffsetAndMetadata { offset, leader_epoch: -1, metadata: format!("{offset}") };
        let offsets: Vec<_> = partitions().into_iter().map(|partition| (partition, what.clone())).collect();
        for (partition, result) in block_on(admin.alter_group_offsets(GROUP, &offsets)).unwrap() {
            result.unwrap_or_else(|error| panic!("{partition}: {error}"));
        }
        told.send(Answer::Committed(offset)).unwrap();
    }
}

fn partitions() -> Vec<TopicPartition> {
    (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition)).collect()
}

/// Offset and number of each record, by partition.
fn read_all(address: &str) -> Vec<Vec<(Offset, u64)>> {
    let client = client(address);
    let asked: Vec<_> = partitions().into_iter().map(|partition| (partition, OffsetSpec::Latest)).collect();
    let ends = block_on(Admin::new(client.clone()).list_offsets(&asked)).unwrap();
    let ends: Vec<Offset> = ends.into_iter().map(|(_, end)| end.unwrap().offset).collect();
    let config = ConsumerConfig { max_poll_records: i32::MAX, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config).unwrap();
    consumer.assign(partitions()).unwrap();
    consumer.seek_to(&partitions(), From::Earliest).unwrap();
    let mut stored = vec![Vec::new(); ends.len()];
    let done = |stored: &[Vec<(Offset, u64)>]| {
        let next = |records: &Vec<(Offset, u64)>| records.last().map_or(0, |(offset, _)| offset + 1);
        stored.iter().zip(&ends).all(|(records, end)| next(records) >= *end)
    };
    while !done(&stored) {
        let records = consumer.poll_blocking(Duration::from_secs(20)).unwrap();
        assert!(!records.is_empty(), "nothing comes before {ends:?}");
        records.for_each(|partition, record| {
            let number = u64::from_be_bytes(record.value.unwrap().try_into().unwrap());
            stored[partition.partition as usize].push((record.offset, number));
        });
    }
    stored
}

/// The producer is idempotent: what it repeats after a crash is not written twice, and nothing overtakes.
fn once_and_in_order(partition: usize, records: &[(Offset, u64)]) {
    for (index, (offset, number)) in records.iter().enumerate() {
        let expected = (index as Offset, (index * PARTITIONS as usize + partition) as u64);
        assert_eq!((*offset, *number), expected, "partition {partition}");
    }
}

/// What all partitions have at least.
fn committed(address: &str) -> Offset {
    let offsets = block_on(Admin::new(client(address)).list_group_offsets(GROUP)).unwrap();
    for (partition, offset) in &offsets {
        assert_eq!(offset.metadata, offset.offset.to_string(), "{partition}");
    }
    offsets.iter().map(|(_, offset)| offset.offset).min().unwrap_or(0)
}
