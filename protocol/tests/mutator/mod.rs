//! Damages bytes the way a hostile client might: flips, lying lengths, pieces cut out, doubled or taken from elsewhere. What
//! a decoder takes is kept as the start of further damage, so that a long run gets deeper than a short one.
//!
//! How long a run is comes from `MILLSTREAM_MUTATE_SECONDS`; without it a run is a few thousand rounds. A failure prints the
//! seed (`MILLSTREAM_MUTATE_SEED` repeats it) and the bytes.
#![allow(dead_code, reason = "each test file uses its part")]

use base::{Clock, Rng, SystemClock};

const KEPT_MAX: usize = 4096;
const LENGTH_MAX: usize = 64 << 10;
const NUMBERS: [i32; 12] = [0, 1, -1, -2, 2, 0x7f, 0xff, 0x7fff, 0x1_0000, 0x7fff_ffff, i32::MIN, 0x0100_0000];

/// Rounds, seed and the bytes to start from.
pub struct Mutator {
    rng: Rng,
    seed: u64,
    corpus: Vec<Vec<u8>>,
    original: usize,
    round: u64,
    rounds: u64,
    until_ms: Option<i64>,
    clock: std::sync::Arc<dyn Clock>,
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

impl Mutator {
    /// `rounds` is the length of a short run; `share` of the seconds of a long one is this run's.
    pub fn new(corpus: Vec<Vec<u8>>, rounds: u64, share: f64) -> Self {
        let seconds = setting("MILLSTREAM_MUTATE_SECONDS");
        let fresh = if seconds.is_some() { Rng::from_entropy().next_u64() } else { 1 };
        let seed = setting("MILLSTREAM_MUTATE_SEED").unwrap_or(fresh);
        let clock = SystemClock::shared();
        let until_ms = seconds.map(|seconds| clock.now().ticks_ms + (seconds as f64 * 1000.0 * share) as i64);
        println!("seed {seed}, {} inputs to start from", corpus.len());
        Self { rng: Rng::from_seed(seed), seed, original: corpus.len(), corpus, round: 0, rounds, until_ms, clock }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Randomness for what the test itself decides.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The next input; `None` when the run is over.
    pub fn next_input(&mut self) -> Option<Vec<u8>> {
        self.round += 1;
        let is_over = match self.until_ms {
            Some(until_ms) => self.round.is_multiple_of(64) && self.clock.now().ticks_ms >= until_ms,
            None => self.round > self.rounds,
        };
        if is_over {
            println!("{} rounds, {} inputs kept", self.round, self.corpus.len() - self.original);
            return None;
        }
        let start = self.below(self.corpus.len());
        let mut bytes = self.corpus[start].clone();
        for _ in 0..=self.below(4) {
            self.damage(&mut bytes);
        }
        bytes.truncate(LENGTH_MAX);
        Some(bytes)
    }

    /// `bytes` were taken by the decoder: worth damaging further.
    pub fn keep(&mut self, bytes: Vec<u8>) {
        if self.corpus.len() < self.original + KEPT_MAX {
            self.corpus.push(bytes);
        } else {
            let index = self.original + self.below(KEPT_MAX);
            self.corpus[index] = bytes;
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound.max(1) as u64) as usize
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(self.rng.next_u64() as u8);
        }
        let at = self.below(bytes.len());
        match self.below(10) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.rng.next_u64() as u8,
            2 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][self.below(6)],
            3 => self.overwrite_number(bytes, at),
            4 => {
                // An unsigned varint that claims much.
                let varint = [0xff, 0xff, 0xff, 0xff, [0x07, 0x0f, 0x7f][self.below(3)]];
                bytes.splice(at..at + 1, varint[self.below(4)..].iter().copied());
            }
            5 => bytes.truncate(at),
            6 => {
                let end = at + self.below((bytes.len() - at).min(32));
                bytes.drain(at..end);
            }
            7 => {
                let end = at + self.below((bytes.len() - at).min(64));
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            8 => {
                let other = self.below(self.corpus.len());
                let other = self.corpus[other].clone();
                let start = self.below(other.len());
                let end = start + self.below((other.len() - start).min(64));
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            _ => {
                let count = self.below(16);
                let noise: Vec<u8> = (0..count).map(|_| self.rng.next_u64() as u8).collect();
                bytes.splice(at..at, noise);
            }
        }
    }

    fn overwrite_number(&mut self, bytes: &mut [u8], at: usize) {
        let number = match self.below(NUMBERS.len() + 1) {
            index if index < NUMBERS.len() => NUMBERS[index],
            _ => bytes.len() as i32,
        };
        let number = number.to_be_bytes();
        let width = [1, 2, 4][self.below(3)];
        for (target, byte) in bytes[at..].iter_mut().zip(&number[4 - width..]) {
            *target = *byte;
        }
    }
}
