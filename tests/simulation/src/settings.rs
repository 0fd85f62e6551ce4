//! What one seed decides before the first step.

use std::fmt;

use base::Rng;

/// A flaw put in on purpose, to show that the checks see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// None.
    #[default]
    None,
    /// The broker acknowledges before it syncs, and the power fails nevertheless.
    DurabilityOfProcess,
    /// Some words are not counted.
    DropsWords,
    /// What may be counted again after a crash is forgotten.
    NoAllowance,
}

/// How requests and responses travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkKind {
    /// As with the embedded broker: a request is served in the call that sends it.
    Direct,
    /// As over TCP: requests and responses wait until the network is stepped.
    Delayed,
}

/// How a life of the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the run.
    Never,
    /// By a power cut at that step.
    AtStep(u64),
    /// By a power cut at that operation on the disk; low numbers hit start-up and recovery.
    AtOperation(u64),
    /// By the death of the process at that step: nothing written is lost.
    Killed(u64),
    /// By a power cut some steps after an operation on the disk has failed.
    AfterFault {
        /// Step from which on the next write or sync fails.
        step: u64,
        /// Steps until the cut.
        then: u64,
    },
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Partitions of the input topic.
    pub input_partitions: i32,
    /// Partitions of the output topic.
    pub output_partitions: i32,
    /// Stream threads.
    pub threads: usize,
    /// `commit.interval.ms`.
    pub commit_interval_ms: i64,
    /// `statestore.cache.max.bytes`.
    pub cache_bytes: u64,
    /// `statestore.pending.max.bytes`.
    pub pending_bytes: u64,
    /// Whether the stores sync each write.
    pub stores_sync: bool,
    /// The network.
    pub network: NetworkKind,
    /// Words to choose from.
    pub vocabulary: u64,
    /// Lines fed in each round; after each, everything is processed and counted.
    pub rounds: Vec<u64>,
    /// How the lives end; after the last the machine runs on.
    pub endings: Vec<Ending>,
    /// Milliseconds that the clock moves by at most in a step of its own.
    pub longest_tick_ms: u64,
    /// `segment.bytes` of the topics.
    pub segment_bytes: u64,
    /// How much more often the system is stepped than the disk is flushed.
    pub slow_disk: u64,
    /// The flaw.
    pub flaw: Flaw,
}

impl Settings {
    /// `batch.size` of all producers: no batch may be larger than a segment.
    pub fn largest_batch_bytes(&self) -> u64 {
        (self.segment_bytes / 2).min(16_384)
    }

    /// Draws the settings of a run.
    pub fn draw(rng: &mut Rng, flaw: Flaw) -> Self {
        let crashes = match flaw {
            Flaw::None | Flaw::DropsWords if rng.chance(1, 5) => 0,
            _ => 1 + rng.below(5),
        };
        let endings = (0..crashes).map(|_| Self::draw_ending(rng, flaw)).collect();
        Self {
            input_partitions: 1 + rng.below(4) as i32,
            output_partitions: 1 + rng.below(3) as i32,
            threads: if rng.chance(1, 3) { 2 } else { 1 },
            commit_interval_ms: [0, 5, 20, 100, 1_000][rng.below(5) as usize],
            cache_bytes: [0, 500, 10_000, 10 << 20][rng.below(4) as usize],
            pending_bytes: [1, 2_000, 64 << 20][rng.below(3) as usize],
            stores_sync: rng.chance(1, 2),
            network: if rng.chance(1, 2) { NetworkKind::Direct } else { NetworkKind::Delayed },
            vocabulary: 1 + rng.below(40),
            rounds: (0..1 + rng.below(3)).map(|_| 1 + rng.below(60)).collect(),
            endings,
            longest_tick_ms: [1, 5, 50][rng.below(3) as usize],
            segment_bytes: [4_000, 20_000, 1 << 30][rng.below(3) as usize],
            slow_disk: [1, 4, 20][rng.below(3) as usize],
            flaw,
        }
    }

    fn draw_ending(rng: &mut Rng, flaw: Flaw) -> Ending {
        let step = match rng.below(3) {
            0 => rng.below(300),
            1 => rng.below(1_500),
            _ => rng.below(5_000),
        };
        match rng.below(if flaw == Flaw::None { 10 } else { 6 }) {
            0..3 => Ending::AtStep(step),
            3..5 => Ending::AtOperation(1 + rng.below(300)),
            5 => Ending::AtOperation(1 + rng.below(3_000)),
            6 | 7 => Ending::Killed(step),
            _ => Ending::AfterFault { step, then: rng.below(400) },
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
