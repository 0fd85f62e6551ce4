//! The inputs of the workloads, computed from their index alone: the same bytes as the JVM side's generator makes.
//!
//! Definitions: `bench/README.md`, "Datasets". Each topic has 4 partitions.

/// Base of all record timestamps, in ms.
pub const T0: i64 = 1_700_000_000_000;
/// Partitions of every topic of the workloads.
pub const PARTITIONS: i32 = 4;

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// One record of a dataset; `key` and `value` are cleared and refilled by [`Datasets::fill`].
#[derive(Default)]
pub struct Input {
    /// Key bytes; meaningless when `has_key` is false.
    pub key: Vec<u8>,
    /// Whether the record has a key.
    pub has_key: bool,
    /// Value bytes.
    pub value: Vec<u8>,
    /// Record timestamp in ms.
    pub timestamp: i64,
    /// The partition, when it does not follow from the key.
    pub partition: Option<i32>,
}

/// The datasets that the built workloads read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dataset {
    /// Lines of eight words, Zipf-distributed.
    Lines,
    /// Clicks on pages, slightly out of order, one in a thousand two minutes late.
    Clicks,
    /// Records of 108 bytes.
    Pass,
}

/// The 64-bit finaliser that everything random here is made of.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn draw(seed: u64, index: u64, lane: u64) -> u64 {
    mix(mix(seed).wrapping_add(index.wrapping_mul(64).wrapping_add(lane + 1).wrapping_mul(GAMMA)))
}

/// Ranks with probability proportional to 1 / (rank + 1).
struct Zipf(Vec<u64>);

impl Zipf {
    fn new(ranks: u64) -> Self {
        let mut sum = 0;
        Self(
            (0..ranks)
                .map(|rank| {
                    sum += (1u64 << 40) / (rank + 1);
                    sum
                })
                .collect(),
        )
    }

    fn pick(&self, draw: u64) -> usize {
        let total = self.0.last().copied().unwrap_or(1);
        self.0.partition_point(|&cumulated| cumulated <= draw % total)
    }
}

fn word(rank: u64) -> Vec<u8> {
    let letter = |n: u64| b'a' + n as u8;
    let mut word = vec![letter(rank / 676), letter(rank / 26 % 26), letter(rank % 26)];
    word.extend((0..rank % 6).map(|k| letter((rank + 7 * k) % 26)));
    word
}

fn tag(into: &mut Vec<u8>, first: u8, width: usize, number: u64) {
    use std::io::Write;
    into.push(first);
    // Writing to a vector cannot fail.
    let _ = write!(into, "{number:0width$}");
}

fn body(into: &mut Vec<u8>, size: usize, index: u64, words: &[u64]) {
    for word in words {
        into.extend_from_slice(&word.to_be_bytes());
    }
    for k in into.len() as u64..size as u64 {
        into.push(b'a' + ((index + k) % 26) as u8);
    }
}

/// Tables that the generators share.
pub struct Datasets {
    words: Zipf,
    pages: Zipf,
    vocabulary: Vec<Vec<u8>>,
}

impl Datasets {
    /// Builds the tables, once.
    pub fn new() -> Self {
        Self { words: Zipf::new(10_000), pages: Zipf::new(1_000), vocabulary: (0..10_000).map(word).collect() }
    }

    /// Makes record `index` of `dataset` in `input`.
    pub fn fill(&self, dataset: Dataset, index: u64, input: &mut Input) {
        input.key.clear();
        input.value.clear();
        input.has_key = dataset != Dataset::Lines;
        input.partition = None;
        input.timestamp = T0 + index as i64;
        match dataset {
            Dataset::Lines => {
                input.partition = Some((index % PARTITIONS as u64) as i32);
                for lane in 0..8 {
                    if lane > 0 {
                        input.value.push(b' ');
                    }
                    input.value.extend_from_slice(&self.vocabulary[self.words.pick(draw(1, index, lane))]);
                }
            }
            Dataset::Clicks => {
                let late = if draw(2, index, 2).is_multiple_of(1000) { 120_000 } else { 0 };
                input.timestamp = T0 + 128_000 + index as i64 - (draw(2, index, 1) % 8000) as i64 - late;
                tag(&mut input.key, b'p', 4, self.pages.pick(draw(2, index, 0)) as u64);
                let words = [draw(2, index, 3) % 1_000_000, input.timestamp as u64, draw(2, index, 4)];
                body(&mut input.value, 24, index, &words);
            }
            Dataset::Pass => {
                input.key.extend_from_slice(&index.to_be_bytes());
                body(&mut input.value, 100, index, &[draw(3, index, 0), draw(3, index, 1)]);
            }
        }
    }
}

impl Default for Datasets {
    fn default() -> Self {
        Self::new()
    }
}

/// The order-free checksum of a record: FNV-1a over length-prefixed key and value, mixed; absent is length -1.
pub fn record_hash(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for field in [key, value] {
        let length = field.map_or(-1i32, |bytes| bytes.len() as i32);
        for byte in length.to_be_bytes().iter().chain(field.unwrap_or_default()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn murmur2_partition(key: &[u8]) -> i32 {
        millstream::protocol::record::partition_for_key(key, PARTITIONS)
    }

    fn checksum(dataset: Dataset) -> u64 {
        let datasets = Datasets::new();
        let mut input = Input::default();
        (0..1000).fold(0u64, |sum, index| {
            datasets.fill(dataset, index, &mut input);
            let key = input.has_key.then_some(&input.key[..]);
            let partition = input.partition.unwrap_or_else(|| murmur2_partition(&input.key));
            let hash = record_hash(key, Some(&input.value));
            sum.wrapping_add(mix(hash
                .wrapping_add((input.timestamp as u64).wrapping_mul(GAMMA))
                .wrapping_add(partition as u64)))
        })
    }

    #[test]
    fn datasets_have_the_checksums_of_the_jvm_generator() {
        assert_eq!(checksum(Dataset::Lines), 12_253_601_481_755_858_379);
        assert_eq!(checksum(Dataset::Clicks), 16_950_427_841_150_507_250);
        assert_eq!(checksum(Dataset::Pass), 12_101_574_819_784_421_558);
    }
}
