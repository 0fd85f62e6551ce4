//! What the simulated world was promised, and what it may expect of it: the model that every run is checked against.
//!
//! Promised is each record that a broker acknowledged or a consumer was shown, with its offset, key and value; and each commit of the
//! application that was acknowledged. Both are heard on the wire (`network.rs`, `observer.rs`), so the model knows nothing of how the
//! system works inside. What the application processed is told by hooks in its topology; what of that lies behind the last commit when the
//! machine dies may be counted twice, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use base::{Offset, TopicPartition};
use bytes::Bytes;

use crate::topology::{COUNTS, Line, WORDS};
use crate::trace::Trace;

/// Key and value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Option<Bytes>,
}

impl Stored {
    fn text(&self) -> String {
        let text = |bytes: &Option<Bytes>| match bytes {
            Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            None => "null".to_owned(),
        };
        format!("{} = {}", text(&self.key), text(&self.value))
    }
}

/// What is known of one partition.
#[derive(Default)]
struct Log {
    records: BTreeMap<Offset, Stored>,
    /// Everything below may be gone: it was deleted on request.
    start: Offset,
}

impl Log {
    fn end(&self) -> Offset {
        self.records.last_key_value().map_or(0, |(offset, _)| offset + 1)
    }
}

/// What the application processed since the machine was switched on.
#[derive(Default)]
struct Processed {
    lines: Vec<Line>,
    /// By partition of the repartition topic, in order.
    words: BTreeMap<i32, Vec<(String, String)>>,
}

/// The model.
pub struct Ledger {
    /// Everything that happens is told here.
    pub trace: Trace,
    logs: BTreeMap<TopicPartition, Log>,
    committed: BTreeMap<TopicPartition, Offset>,
    /// Committed offsets at the start of this life.
    began_at: BTreeMap<TopicPartition, Offset>,
    topics: BTreeSet<String>,
    processed: Processed,
    /// How many more times than exact each word may be counted.
    allowance: BTreeMap<String, u64>,
    forgets_allowance: bool,
    violation: Option<String>,
    repartition_topic: String,
    input_topic: String,
}

/// Result of comparing counts with the exact figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Different words.
    pub words: usize,
    /// Sum of the exact counts.
    pub exact: u64,
    /// By how much the counts are above.
    pub repeated: u64,
    /// By how much they might have been.
    pub allowed: u64,
}

impl Ledger {
    /// An empty model of an application that reads `input_topic` through `repartition_topic`.
    pub fn new(trace: Trace, input_topic: &str, repartition_topic: &str, forgets_allowance: bool) -> Self {
        Self {
            trace,
            logs: BTreeMap::new(),
            committed: BTreeMap::new(),
            began_at: BTreeMap::new(),
            topics: BTreeSet::new(),
            processed: Processed::default(),
            allowance: BTreeMap::new(),
            forgets_allowance,
            violation: None,
            repartition_topic: repartition_topic.to_owned(),
            input_topic: input_topic.to_owned(),
        }
    }

    /// Notes that something is wrong; the first counts.
    pub fn violated(&mut self, message: String) {
        self.trace.tell(format_args!("VIOLATION {message}"));
        self.violation.get_or_insert(message);
    }

    /// What is wrong, if anything is.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    // --- What is heard ---

    /// A topic was created, and that was acknowledged.
    pub fn topic_created(&mut self, name: &str) {
        self.trace.tell(format_args!("topic {name} is there"));
        self.topics.insert(name.to_owned());
    }

    /// These are all topics there are.
    pub fn topics_found(&mut self, found: &BTreeSet<String>) {
        if let Some(missing) = self.topics.difference(found).next() {
            let message = format!("topic {missing} was created and acknowledged, and is gone");
            self.violated(message);
        }
    }

    /// A batch was acknowledged.
    pub fn acknowledged(&mut self, partition: &TopicPartition, base_offset: Offset, records: Vec<Stored>) {
        let count = records.len();
        self.trace.tell(format_args!("acknowledged: {count} record(s) in {partition} from {base_offset}"));
        for (offset, record) in (base_offset..).zip(records) {
            self.promise(partition, offset, record, "acknowledged");
        }
    }

    /// A consumer read these records; `next_offset` is behind them, and what lies between `from` and it is all there is.
    pub fn seen(
        &mut self,
        partition: &TopicPartition,
        from: Offset,
        next_offset: Offset,
        log_start: Offset,
        records: Vec<(Offset, Stored)>,
    ) {
        self.trace.note(b's', next_offset as u64);
        let may_be_deleted = *partition.topic == *self.repartition_topic;
        if log_start > 0 && !may_be_deleted {
            self.violated(format!("{partition} begins at {log_start}, though nobody deleted records of it"));
        }
        let present: BTreeSet<Offset> = records.iter().map(|(offset, _)| *offset).collect();
        let log = self.logs.entry(partition.clone()).or_default();
        log.start = log.start.max(log_start);
        let missing = log
            .records
            .range(from.max(log.start)..next_offset.max(from.max(log.start)))
            .find(|(offset, record)| !present.contains(offset) && !is_compacted_away(partition, log, **offset, record))
            .map(|(offset, record)| {
                format!("{partition} has no record at {offset} any more; it was {}", record.text())
            });
        if let Some(missing) = missing {
            self.violated(missing);
        }
        for (offset, record) in records {
            self.promise(partition, offset, record, "read");
        }
    }

    /// A consumer has read to the end of the partition, which is `end`.
    pub fn end_found(&mut self, partition: &TopicPartition, end: Offset) {
        let known = self.end(partition);
        if end < known {
            self.violated(format!("{partition} ends at {end}; acknowledged or shown was all up to {known}"));
        }
    }

    fn promise(&mut self, partition: &TopicPartition, offset: Offset, record: Stored, how: &str) {
        let log = self.logs.entry(partition.clone()).or_default();
        match log.records.get(&offset) {
            Some(known) if *known != record => {
                let message = format!("{partition} at {offset} was {}; now {how} is {}", known.text(), record.text());
                self.violated(message);
            }
            Some(_) => {}
            None => {
                log.records.insert(offset, record);
            }
        }
    }

    /// A commit of the application was acknowledged.
    pub fn committed(&mut self, partition: &TopicPartition, offset: Offset) {
        self.trace.tell(format_args!("committed: {partition} at {offset}"));
        if let Some(known) = self.committed.insert(partition.clone(), offset)
            && offset < known
        {
            self.violated(format!("the committed offset of {partition} went back from {known} to {offset}"));
        }
    }

    /// The application processes a line.
    pub fn processed_line(&mut self, line: Line) {
        self.trace.tell(format_args!("processed: line {}", line.id));
        self.processed.lines.push(line);
    }

    /// The application processes a word from the repartition topic's partition number `partition`.
    pub fn processed_word(&mut self, partition: i32, word: &str, value: &str) {
        self.trace.note(b'w', u64::from(partition.unsigned_abs()));
        self.processed.words.entry(partition).or_default().push((word.to_owned(), value.to_owned()));
    }

    // --- After a crash ---

    /// The machine has started again and everything was read anew; the group's committed offsets are these. Settles what the life before
    /// may have left to be counted twice.
    pub fn recovered(&mut self, found: &BTreeMap<TopicPartition, Offset>) {
        for (partition, known) in std::mem::take(&mut self.committed) {
            match found.get(&partition) {
                Some(offset) if *offset >= known => {}
                Some(offset) => {
                    self.violated(format!("the committed offset of {partition} went back from {known} to {offset}"));
                }
                None => self.violated(format!("the committed offset {known} of {partition} is gone")),
            }
        }
        let processed = std::mem::take(&mut self.processed);
        let began_at = std::mem::replace(&mut self.began_at, found.clone());
        self.committed = found.clone();
        let mut repeatable = self.repeatable_lines(&processed.lines, found);
        repeatable.extend(self.repeatable_words(&processed.words, &began_at, found));
        self.trace.tell(format_args!("recovered: {} word(s) may be counted again", repeatable.len()));
        if !self.forgets_allowance {
            for word in repeatable {
                *self.allowance.entry(word).or_default() += 1;
            }
        }
    }

    /// Words of the lines that were processed and not committed.
    fn repeatable_lines(&mut self, lines: &[Line], found: &BTreeMap<TopicPartition, Offset>) -> Vec<String> {
        let mut places: BTreeMap<u64, (TopicPartition, Offset)> = BTreeMap::new();
        for (partition, offset, line) in self.lines() {
            places.insert(line.id, (partition.clone(), offset));
        }
        let mut repeatable = Vec::new();
        for line in lines {
            match places.get(&line.id) {
                Some((partition, offset)) if found.get(partition).is_none_or(|committed| offset >= committed) => {
                    repeatable.extend(line.words.iter().cloned());
                }
                Some(_) => {}
                None => self.violated(format!("line {} was processed, and is in no partition of the input", line.id)),
            }
        }
        repeatable
    }

    /// Words that were taken from the repartition topic, and not committed.
    fn repeatable_words(
        &mut self,
        words: &BTreeMap<i32, Vec<(String, String)>>,
        began_at: &BTreeMap<TopicPartition, Offset>,
        found: &BTreeMap<TopicPartition, Offset>,
    ) -> Vec<String> {
        let mut repeatable = Vec::new();
        for (partition, words) in words {
            let partition = TopicPartition::new(self.repartition_topic.as_str(), *partition);
            // The offsets of a repartition topic have no gaps.
            let begin = began_at.get(&partition).copied().unwrap_or(0);
            for (offset, (word, value)) in (begin..).zip(words) {
                let stored = self.logs.get(&partition).and_then(|log| log.records.get(&offset));
                let fits = stored.is_some_and(|stored| {
                    stored.key.as_deref() == Some(word.as_bytes()) && stored.value.as_deref() == Some(value.as_bytes())
                });
                if !fits {
                    let stored = stored.map_or("nothing".to_owned(), Stored::text);
                    self.violated(format!(
                        "{word} ({value}) was processed as the record at {offset} of {partition}, where there is {stored}"
                    ));
                    return repeatable;
                }
                if found.get(&partition).is_none_or(|committed| offset >= *committed) {
                    repeatable.push(word.clone());
                }
            }
        }
        repeatable
    }

    // --- What follows from it ---

    /// Behind the last known record.
    pub fn end(&self, partition: &TopicPartition) -> Offset {
        self.logs.get(partition).map_or(0, Log::end)
    }

    fn partitions_of<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = (&'a TopicPartition, &'a Log)> {
        self.logs.iter().filter(move |(partition, _)| *partition.topic == *topic)
    }

    fn lines(&self) -> impl Iterator<Item = (&TopicPartition, Offset, Line)> {
        self.partitions_of(&self.input_topic).flat_map(|(partition, log)| {
            log.records.iter().filter_map(move |(offset, record)| {
                let text = std::str::from_utf8(record.value.as_deref()?).ok()?;
                Some((partition, *offset, Line::parse(text)?))
            })
        })
    }

    /// Whether all that is known to be in the input and repartition topics is committed.
    pub fn is_caught_up(&self) -> bool {
        [&self.input_topic, &self.repartition_topic]
            .into_iter()
            .flat_map(|topic| self.partitions_of(topic))
            .all(|(partition, log)| log.end() == 0 || self.committed.get(partition).is_some_and(|at| *at >= log.end()))
    }

    /// Compares what the stores and the output topic say with the exact figures; to be called when all is processed and read.
    pub fn check_counts(&mut self, stores: &BTreeMap<String, i64>) -> Counted {
        let mut exact: BTreeMap<String, u64> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let mut twice = None;
        for (_, _, line) in self.lines() {
            if !ids.insert(line.id) {
                twice = Some(line.id);
            }
            for word in line.words {
                *exact.entry(word).or_default() += 1;
            }
        }
        if let Some(id) = twice {
            self.violated(format!("line {id} was sent once, and is in the input twice"));
        }
        let output = self.latest_output();
        let words: BTreeSet<&String> = exact.keys().chain(stores.keys()).chain(output.keys()).collect();
        let mut counted = Counted { words: words.len(), ..Counted::default() };
        let mut wrong = None;
        for word in words {
            let exact = exact.get(word).copied().unwrap_or(0);
            let allowed = self.allowance.get(word).copied().unwrap_or(0);
            for (place, counts) in [("store", stores), ("output topic", &output)] {
                let count = counts.get(word).copied().unwrap_or(0);
                let count = u64::try_from(count).unwrap_or(0);
                if count < exact {
                    wrong = Some(format!("the {place} counts {count} of {word}; it is in the input {exact} times"));
                } else if count > exact + allowed {
                    wrong = Some(format!(
                        "the {place} counts {count} of {word}; it is in the input {exact} times, and {allowed} more may have been \
                         counted after crashes"
                    ));
                }
            }
            counted.exact += exact;
            counted.allowed += allowed;
            counted.repeated +=
                u64::try_from(stores.get(word).copied().unwrap_or(0)).unwrap_or(0).saturating_sub(exact);
        }
        if let Some(wrong) = wrong {
            self.violated(wrong);
        }
        self.trace.tell(format_args!("counted: {counted:?}"));
        counted
    }

    /// The last count of each word in the output topic.
    fn latest_output(&self) -> BTreeMap<String, i64> {
        let mut latest = BTreeMap::new();
        for (_, log) in self.partitions_of(COUNTS) {
            for record in log.records.values() {
                let (Some(key), Some(value)) = (&record.key, &record.value) else { continue };
                let (Ok(word), Ok(count)) = (std::str::from_utf8(key), <[u8; 8]>::try_from(&value[..])) else {
                    continue;
                };
                latest.insert(word.to_owned(), i64::from_be_bytes(count));
            }
        }
        latest
    }
}

/// Whether a record may be missing because a later one has its key, in a topic that is compacted.
fn is_compacted_away(partition: &TopicPartition, log: &Log, offset: Offset, record: &Stored) -> bool {
    partition.topic.ends_with(&format!("{WORDS}-changelog"))
        && log.records.range(offset + 1..).any(|(_, later)| later.key == record.key)
}
