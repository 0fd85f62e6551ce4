//! What is committed beside an offset: the partition's time and the processors' numbers, as Kafka Streams writes them.
//!
//! Base64 of: version (1 byte, 2), partition time (8), and, if there are any, count (4) and for each number key length
//! (4), key (UTF-8), value (8). Version 1 ends after the time.

use std::collections::BTreeMap;

use base::Timestamp;

const VERSION: u8 = 2;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Metadata of one committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMetadata {
    /// Greatest timestamp of the partition so far; -1 if unknown.
    pub partition_time: Timestamp,
    /// Numbers that processors keep, by name.
    pub processors: BTreeMap<String, i64>,
}

impl Default for CommitMetadata {
    fn default() -> Self {
        Self { partition_time: -1, processors: BTreeMap::new() }
    }
}

impl CommitMetadata {
    /// The text to commit.
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.partition_time.to_be_bytes());
        if !self.processors.is_empty() {
            bytes.extend_from_slice(&(self.processors.len() as i32).to_be_bytes());
            for (key, value) in &self.processors {
                bytes.extend_from_slice(&(key.len() as i32).to_be_bytes());
                bytes.extend_from_slice(key.as_bytes());
                bytes.extend_from_slice(&value.to_be_bytes());
            }
        }
        encode_base64(&bytes)
    }

    /// Reads committed text. What is unknown or broken reads as nothing known, as in Kafka Streams.
    pub fn decode(text: &str) -> Self {
        let known = decode_base64(text).and_then(|bytes| Self::read(&bytes));
        if known.is_none() && !text.is_empty() {
            tracing::warn!(metadata = text, "committed metadata is not understood and ignored");
        }
        known.unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (time, mut rest) = rest.split_first_chunk::<8>()?;
        let mut metadata = Self { partition_time: i64::from_be_bytes(*time), processors: BTreeMap::new() };
        match version {
            1 => return Some(metadata),
            VERSION if rest.is_empty() => return Some(metadata),
            VERSION => {}
            _ => return None,
        }
        let number = |rest: &mut &[u8]| {
            let (bytes, tail) = rest.split_first_chunk::<4>()?;
            *rest = tail;
            usize::try_from(i32::from_be_bytes(*bytes)).ok()
        };
        let count = number(&mut rest)?;
        for _ in 0..count {
            let length = number(&mut rest)?;
            let (key, tail) = rest.split_at_checked(length)?;
            let (value, tail) = tail.split_first_chunk::<8>()?;
            metadata.processors.insert(String::from_utf8(key.to_vec()).ok()?, i64::from_be_bytes(*value));
            rest = tail;
        }
        Some(metadata)
    }
}

fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let symbol = ALPHABET[(group >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { symbol as char } else { '=' });
        }
    }
    text
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let symbols = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(symbols.len() * 3 / 4);
    for chunk in symbols.chunks(4) {
        let mut group = 0u32;
        for &symbol in chunk {
            group = group << 6 | ALPHABET.iter().position(|&known| known == symbol)? as u32;
        }
        group <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&group.to_be_bytes()[1..chunk.len().max(1)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_that_of_kafka_streams() {
        let time = CommitMetadata { partition_time: 1_234_567_890_123, ..Default::default() };
        assert_eq!(time.encode(), "AgAAAR9x+wTL");
        assert_eq!(CommitMetadata::default().encode(), "Av//////////");
        let full = CommitMetadata {
            partition_time: 1_700_000_390_000,
            processors: BTreeMap::from([("winfinal".to_owned(), 1_700_000_250_000)]),
        };
        assert_eq!(full.encode(), "AgAAAYvP61twAAAAAQAAAAh3aW5maW5hbAAAAYvP6TiQ");
        for metadata in [time, full, CommitMetadata::default()] {
            assert_eq!(CommitMetadata::decode(&metadata.encode()), metadata);
        }
    }

    #[test]
    fn broken_text_reads_as_nothing_known() {
        for text in ["", "x", "!!!!", "AgAAAR9x", "AwAAAR9x+wTL", "AgAAAYvP61twAAAAAQAAAAh3aW5maW5h"] {
            assert_eq!(CommitMetadata::decode(text), CommitMetadata::default(), "{text}");
        }
    }
}
