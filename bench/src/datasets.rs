//! The inputs of the workloads, computed from their index alone: the same bytes as the JVM side's generator makes.
//!
//! Definitions: `bench/README.md`, "Datasets". Each topic has 4 partitions.

/// Base of all record timestamps, in ms.
pub const T0: i64 = 1_700_000_000_000;
/// Partitions of every topic of the workloads.
pub const PARTITIONS: i32 = 4;

const CUSTOMERS: u64 = 100_000;
const PRODUCTS: u64 = 20_000;
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
    /// Purchases of customers, one in eleven of somebody unknown.
    Purchases,
    /// Customers, all older than every purchase.
    Customers,
    /// Left side of a join in time.
    Left,
    /// Right side: up to 15 s after its left one; the first indexes have no record.
    Right,
    /// Visits of 5,000 users.
    Visits,
    /// Orders, each of one product.
    Orders,
    /// Products.
    Products,
}

impl Dataset {
    /// Name of the topic in a broker of our own.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Clicks => "clicks",
            Self::Pass => "pass",
            Self::Purchases => "purchases",
            Self::Customers => "customers",
            Self::Left => "left",
            Self::Right => "right",
            Self::Visits => "visits",
            Self::Orders => "orders",
            Self::Products => "products",
        }
    }

    /// How many indexes it has when the main input has `n`.
    pub fn indexes(self, n: u64) -> u64 {
        match self {
            Self::Customers => CUSTOMERS,
            Self::Products => PRODUCTS,
            _ => n,
        }
    }

    /// How many records that are.
    pub fn records(self, n: u64) -> u64 {
        match self {
            Self::Right => (0..n).filter(|index| left_of(*index).is_some()).count() as u64,
            _ => self.indexes(n),
        }
    }
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

/// The left index that right record `index` refers to; `None`: there is no such record.
fn left_of(index: u64) -> Option<u64> {
    index.checked_sub(draw(7, index, 0) % 15_000)
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

    /// Makes record `index` of `dataset` in `input`; false if that index has no record.
    pub fn fill(&self, dataset: Dataset, index: u64, input: &mut Input) -> bool {
        input.key.clear();
        input.value.clear();
        input.has_key = dataset != Dataset::Lines;
        input.partition = None;
        input.timestamp = T0 + index as i64;
        match dataset {
            Dataset::Lines => self.line(index, input),
            Dataset::Clicks => self.click(index, input),
            Dataset::Pass => {
                input.key.extend_from_slice(&index.to_be_bytes());
                body(&mut input.value, 100, index, &[draw(3, index, 0), draw(3, index, 1)]);
            }
            Dataset::Customers => {
                input.timestamp -= 1_000_000;
                tag(&mut input.key, b'c', 6, index);
                body(&mut input.value, 50, index, &[draw(4, index, 0)]);
            }
            Dataset::Purchases => {
                tag(&mut input.key, b'c', 6, draw(5, index, 0) % 110_000);
                body(&mut input.value, 32, index, &[index, draw(5, index, 1) % 100_000]);
            }
            Dataset::Left => {
                tag(&mut input.key, b'o', 8, index);
                body(&mut input.value, 40, index, &[index, draw(6, index, 0)]);
            }
            Dataset::Right => {
                let Some(left) = left_of(index) else { return false };
                tag(&mut input.key, b'o', 8, left);
                body(&mut input.value, 40, index, &[index, draw(7, index, 1)]);
            }
            Dataset::Visits => {
                tag(&mut input.key, b'u', 4, draw(8, index, 0) % 5_000);
                body(&mut input.value, 24, index, &[index]);
            }
            Dataset::Orders => {
                tag(&mut input.key, b'o', 8, index);
                body(&mut input.value, 32, index, &[draw(9, index, 0) % PRODUCTS, index]);
            }
            Dataset::Products => {
                input.key.extend_from_slice(&index.to_be_bytes());
                body(&mut input.value, 32, index, &[draw(10, index, 0)]);
            }
        }
        true
    }

    fn line(&self, index: u64, input: &mut Input) {
        input.partition = Some((index % PARTITIONS as u64) as i32);
        for lane in 0..8 {
            if lane > 0 {
                input.value.push(b' ');
            }
            input.value.extend_from_slice(&self.vocabulary[self.words.pick(draw(1, index, lane))]);
        }
    }

    fn click(&self, index: u64, input: &mut Input) {
        let late = if draw(2, index, 2).is_multiple_of(1000) { 120_000 } else { 0 };
        input.timestamp = T0 + 128_000 + index as i64 - (draw(2, index, 1) % 8000) as i64 - late;
        tag(&mut input.key, b'p', 4, self.pages.pick(draw(2, index, 0)) as u64);
        let words = [draw(2, index, 3) % 1_000_000, input.timestamp as u64, draw(2, index, 4)];
        body(&mut input.value, 24, index, &words);
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
            if !datasets.fill(dataset, index, &mut input) {
                return sum;
            }
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
        assert_eq!(checksum(Dataset::Purchases), 16_953_699_173_468_486_524);
        assert_eq!(checksum(Dataset::Customers), 2_729_859_682_138_698_799);
        assert_eq!(checksum(Dataset::Orders), 12_999_278_026_991_258_574);
        assert_eq!(checksum(Dataset::Products), 6_442_304_995_110_674_502);
        assert_eq!(checksum(Dataset::Visits), 11_892_174_279_098_844_326);
        assert_eq!(checksum(Dataset::Left), 13_776_910_899_212_333_332);
        assert_eq!(checksum(Dataset::Right), 2_840_207_626_921_870_161);
    }
}
