//! Feeds lines into a topic, each exactly once, however often it is interrupted and started again.
//!
//! Each line is one record; its headers carry the source's name and the line's end position. Which partition a line goes to follows from its
//! position alone, and a partition keeps the order of what is sent to it. So the last record of a partition tells up to where the lines of that
//! source are in it, and feeding goes on behind the least complete partition, leaving out what the others have already.
//!
//! What a source had reached when another one is begun, or when it ends, is noted in a compacted topic beside, `<topic>-sources`: key is the
//! source's name, value the end position reached in each partition, as a JSON array.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millstream::base::TopicPartition;
use millstream::client::consumer::{Consumer, ConsumerConfig, ConsumerRecord};
use millstream::prelude::*;

use super::Failure;
use super::home::{DELIVERED_WITHIN_MS, Home, LINE_BYTES_MAX};
use super::screen::Screen;
use super::source::Source;

const SOURCE: &str = "source";
const END: &str = "end";
/// Lines that start in the same stretch of so many bytes go to the same partition: whole batches, and all partitions in turn.
const STRETCH: u64 = 16 * 1024;
/// Bytes sent and not yet acknowledged at which feeding waits; well below the producer's memory, so that it never refuses a line.
const UNDER_WAY_MAX: usize = 8 << 20;
/// How long the end of a partition may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// End positions reached, by partition.
type Ends = Vec<u64>;

/// Writes lines into one topic.
pub struct Feeder {
    producer: Producer,
    topic: String,
    notes: String,
    partitions: usize,
    reached: BTreeMap<String, Ends>,
    /// Source of the latest records.
    latest: Option<String>,
}

impl Feeder {
    /// Finds out what was fed into `topic` before. The topic must exist.
    pub fn open(home: &Home, topic: &str) -> Result<Self, Failure> {
        let notes = format!("{topic}-sources");
        home.create_topic(&notes, 1, &[("cleanup.policy", "compact")])?;
        let config = ProducerConfig::default()
            .max_request_size(LINE_BYTES_MAX + 1024)
            .buffer_memory(2 * LINE_BYTES_MAX)
            .delivery_timeout_ms(DELIVERED_WITHIN_MS);
        let producer = Producer::new(home.client(), config)?;
        let partitions = block_on(producer.partition_count(topic))?.max(1) as usize;
        let mut feeder =
            Self { producer, topic: topic.to_owned(), notes, partitions, reached: BTreeMap::new(), latest: None };
        feeder.read_notes(home)?;
        feeder.read_last_records(home)?;
        Ok(feeder)
    }

    fn read_notes(&mut self, home: &Home) -> Result<(), Failure> {
        let notes = [TopicPartition::new(self.notes.as_str(), 0)];
        read(
            home,
            &notes,
            |_, start, end| (start < end).then_some(start),
            |record| {
                let (Some(name), Some(ends)) = (record.key, record.value) else { return };
                if let Ok(ends) = serde_json::from_slice::<Ends>(&ends) {
                    self.reached.insert(String::from_utf8_lossy(&name).into_owned(), ends);
                }
            },
        )?;
        // Notes of a topic that had another number of partitions: only what is in all of them is sure.
        for ends in self.reached.values_mut().filter(|ends| ends.len() != self.partitions) {
            let least = ends.iter().min().copied().unwrap_or(0);
            *ends = vec![least; self.partitions];
        }
        Ok(())
    }

    fn read_last_records(&mut self, home: &Home) -> Result<(), Failure> {
        let partitions: Vec<TopicPartition> =
            (0..self.partitions as i32).map(|index| TopicPartition::new(self.topic.as_str(), index)).collect();
        read(
            home,
            &partitions,
            |_, start, end| (start < end).then_some(end - 1),
            |record| {
                let text = |key: &str| {
                    let value = record.headers.last(key)?.value.as_ref()?;
                    std::str::from_utf8(value).ok().map(str::to_owned)
                };
                // A record of somebody else's says nothing about sources.
                let Some((source, end)) = text(SOURCE).zip(text(END).and_then(|end| end.parse::<u64>().ok())) else {
                    return;
                };
                let ends = self.reached.entry(source.clone()).or_insert_with(|| vec![0; self.partitions]);
                let reached = &mut ends[record.partition as usize];
                *reached = end.max(*reached);
                self.latest = Some(source);
            },
        )
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Where feeding `source` begins: behind its least complete line.
    pub fn position(&self, source: &Source) -> u64 {
        match self.reached.get(&source.name) {
            Some(ends) if source.is_resumable => ends.iter().min().copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// Writes what `source` has behind [`Feeder::position`]; returns when all of it is acknowledged. `inspect` sees each line first.
    pub fn feed(
        &mut self,
        source: &mut Source,
        screen: &Screen,
        inspect: impl Fn(&Source, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let position = self.position(source);
        screen.source(&source.name, position, source.end);
        if source.end.is_some_and(|end| end <= position) {
            return Ok(());
        }
        // Records of this source will hide where the one before has come to.
        if let Some(before) = self.latest.replace(source.name.clone()).filter(|before| *before != source.name) {
            self.note(&before)?;
        }
        let fresh = || vec![0; self.partitions];
        let had = if source.is_resumable { self.reached.remove(&source.name) } else { None }.unwrap_or_else(fresh);
        source.seek(position)?;
        let (mut start, mut line, mut under_way, mut bytes) = (position, Vec::new(), VecDeque::new(), 0);
        while let Some(end) = source.next(&mut line)? {
            let partition = (start / STRETCH) as usize % self.partitions;
            start = end;
            if end <= had[partition] {
                continue;
            }
            inspect(source, &line)?;
            let record = ProducerRecord::to(self.topic.as_str())
                .partition(partition as i32)
                .value(line.clone())
                .header(SOURCE, source.name.clone())
                .header(END, end.to_string());
            under_way.push_back((line.len(), self.producer.send(record)));
            bytes += line.len();
            while bytes > UNDER_WAY_MAX || under_way.len() > 100_000 {
                let Some((size, sent)) = under_way.pop_front() else { break };
                block_on(sent)?;
                bytes -= size;
            }
            screen.fed(end);
        }
        self.producer.flush_blocking();
        for (_, sent) in under_way {
            block_on(sent)?;
        }
        self.reached.insert(source.name.clone(), vec![start; self.partitions]);
        if source.is_resumable { self.note(&source.name.clone()) } else { Ok(()) }
    }

    fn note(&self, source: &str) -> Result<(), Failure> {
        let Some(ends) = self.reached.get(source) else { return Ok(()) };
        let ends = serde_json::to_vec(ends).map_err(|error| Failure::new(error.to_string()))?;
        let note = ProducerRecord::to(self.notes.as_str()).partition(0).key(source.to_owned()).value(ends);
        self.producer.send_blocking(note)?;
        Ok(())
    }
}

/// Reads partitions to their present ends, each from where `from` says, given its first offset and the one behind its last.
fn read(
    home: &Home,
    partitions: &[TopicPartition],
    from: impl Fn(&TopicPartition, i64, i64) -> Option<i64>,
    mut each: impl FnMut(ConsumerRecord),
) -> Result<(), Failure> {
    let config = ConsumerConfig::default().enable_auto_commit(false);
    let mut consumer = Consumer::new(home.client(), config)?;
    let starts = block_on(consumer.beginning_offsets(partitions.to_vec()))?;
    let ends: BTreeMap<_, _> = block_on(consumer.end_offsets(partitions.to_vec()))?.into_iter().collect();
    let mut open: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut begin = Vec::new();
    for (partition, start) in starts {
        let end = ends.get(&partition).copied().unwrap_or(start);
        if let Some(offset) = from(&partition, start, end) {
            begin.push((partition.clone(), offset));
            open.insert(partition, end);
        }
    }
    consumer.assign(open.keys().cloned())?;
    for (partition, offset) in begin {
        consumer.seek(&partition, offset)?;
    }
    while !open.is_empty() {
        let records = consumer.poll_blocking(PATIENCE)?;
        if records.is_empty() {
            return Err(Failure::new("the broker does not deliver what was fed before; try again"));
        }
        for record in records {
            each(record);
        }
        open.retain(|partition, end| consumer.position(partition).is_none_or(|position| position < *end));
    }
    Ok(())
}
