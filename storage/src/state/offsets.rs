//! How far a store has read its changelog, and the small values kept beside its data.
//!
//! As in Kafka Streams 4.3: name = UTF-8 `<topic>-<partition>`, value = big-endian i64; `status` (i64, 1 open, 0
//! closed) and `position` (position vector) lie beside them. The checkpoint file is for stores that do not keep their
//! own offsets.

use std::collections::BTreeMap;

use base::{Offset, PartitionId, TopicPartition};

use super::engine::Engine;
use super::error::{StateError, StateErrorKind};

/// Name of the position vector among a store's metadata.
pub const POSITION: &str = "position";
/// Name of the open/closed mark among a store's metadata.
pub const STATUS: &str = "status";
/// Name of the store's stream time (largest window start or session end seen) among its metadata.
pub const STREAM_TIME: &str = "stream-time";
/// The offset that stands for "unknown" in a checkpoint file.
pub const UNKNOWN: Offset = -4;

pub(super) fn stage<E: Engine + ?Sized>(
    engine: &mut E,
    offsets: &[(TopicPartition, Offset)],
) -> Result<(), StateError> {
    offsets
        .iter()
        .try_for_each(|(partition, offset)| engine.stage_metadata(name(partition).as_bytes(), &offset.to_be_bytes()))
}

pub(super) fn read<E: Engine + ?Sized>(engine: &E, partition: &TopicPartition) -> Result<Option<Offset>, StateError> {
    read_number(engine, &name(partition))
}

pub(super) fn read_all<E: Engine + ?Sized>(engine: &E) -> Result<Vec<(TopicPartition, Offset)>, StateError> {
    let mut offsets = Vec::new();
    for (name, value) in engine.all_metadata()? {
        // `stream-time` and its like do not end in a number.
        let Some(partition) = std::str::from_utf8(&name).ok().and_then(parse_name) else { continue };
        offsets.push((partition, number(engine.place(), &name, &value)?));
    }
    Ok(offsets)
}

/// The metadata value `name` as a number.
pub(super) fn read_number<E: Engine + ?Sized>(engine: &E, name: &str) -> Result<Option<i64>, StateError> {
    let value = engine.metadata(name.as_bytes())?;
    value.map(|value| number(engine.place(), name.as_bytes(), &value)).transpose()
}

fn name(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic, partition.partition)
}

fn parse_name(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

fn number(place: &str, name: &[u8], value: &[u8]) -> Result<i64, StateError> {
    <[u8; 8]>::try_from(value).map(i64::from_be_bytes).map_err(|_| {
        let name = String::from_utf8_lossy(name);
        StateError::new(
            StateErrorKind::Corrupt,
            place,
            format_args!("{name} holds {} bytes, an 8-byte number was expected", value.len()),
        )
    })
}

/// Which input offsets a store has seen, per topic and partition: answers whether a query's bound is met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(BTreeMap<String, BTreeMap<PartitionId, Offset>>);

impl Position {
    /// Notes that the record at `offset` of `topic`'s `partition` was seen; an older offset changes nothing.
    pub fn advance(&mut self, topic: &str, partition: PartitionId, offset: Offset) {
        if !self.0.contains_key(topic) {
            self.0.insert(topic.to_owned(), BTreeMap::new());
        }
        if let Some(partitions) = self.0.get_mut(topic) {
            let seen = partitions.entry(partition).or_insert(offset);
            *seen = offset.max(*seen);
        }
    }

    /// The offset seen last of `topic`'s `partition`.
    pub fn offset(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        self.0.get(topic)?.get(&partition).copied()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Topics with their partitions and offsets, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, PartitionId, Offset)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, offset)| (topic.as_str(), *partition, *offset))
        })
    }

    /// `version 0 (1) | topics (4) | {length (4) topic count (4) {partition (4) offset (8)}*}*`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0];
        out.extend((self.0.len() as i32).to_be_bytes());
        for (topic, partitions) in &self.0 {
            out.extend((topic.len() as i32).to_be_bytes());
            out.extend(topic.as_bytes());
            out.extend((partitions.len() as i32).to_be_bytes());
            for (partition, offset) in partitions {
                out.extend(partition.to_be_bytes());
                out.extend(offset.to_be_bytes());
            }
        }
        out
    }

    /// Reads an encoded position; bytes after its end are ignored, since the JVM writes its whole backing array.
    /// `None` if it is cut short, malformed or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [0] {
            return None;
        }
        let mut position = Self::default();
        for _ in 0..take_count(&mut rest)? {
            let length = take_count(&mut rest)?;
            let topic = std::str::from_utf8(rest.get(..length)?).ok()?;
            rest = &rest[length..];
            for _ in 0..take_count(&mut rest)? {
                let partition = i32::from_be_bytes(take(&mut rest)?);
                position.advance(topic, partition, i64::from_be_bytes(take(&mut rest)?));
            }
        }
        Some(position)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_count(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(i32::from_be_bytes(take(rest)?)).ok()
}

/// Text of a checkpoint file: `0\n<count>\n` and a line `<topic> <partition> <offset>` for each entry.
pub fn encode_checkpoint(offsets: &[(TopicPartition, Offset)]) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        text.push_str(&format!("{} {} {offset}\n", partition.topic, partition.partition));
    }
    text
}

/// Reads the text of a checkpoint file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode_checkpoint(text: &str) -> Result<Vec<(TopicPartition, Offset)>, String> {
    let mut lines = text.lines();
    if lines.next() != Some("0") {
        return Err("the version is not 0".into());
    }
    let count: usize = lines.next().and_then(|line| line.parse().ok()).ok_or("the entry count is not a number")?;
    let mut offsets = Vec::new();
    for line in lines {
        let mut words = line.split(' ');
        let entry = (|| {
            let partition = TopicPartition::new(words.next()?, words.next()?.parse().ok()?);
            Some((partition, words.next()?.parse().ok()?))
        })();
        match entry {
            Some(entry) if words.next().is_none() => offsets.push(entry),
            _ => return Err(format!("the line {line:?} is not <topic> <partition> <offset>")),
        }
    }
    if offsets.len() == count {
        Ok(offsets)
    } else {
        Err(format!("{count} entries announced, {} found", offsets.len()))
    }
}
