//! What every crate's signatures use: names of things ([`ids`]), time ([`time`]), randomness ([`random`]), hash
//! containers with a fixed hasher ([`hash`]), counters ([`metrics`]) and what a misspelt name may have meant ([`nearest()`]).
//!
//! Admission rule: a type lives here only when at least three crates use it in public signatures, or when it is a
//! seam to the outside world (the clock, the source of randomness). Knows no I/O, no topics' contents, no protocol.

pub mod hash;
pub mod ids;
pub mod metrics;
mod nearest;
pub mod random;
pub mod time;

pub use ids::{
    LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicName, TopicPartition,
};
pub use nearest::nearest;
pub use random::Rng;
pub use time::{Clock, ManualClock, Now, SystemClock};
