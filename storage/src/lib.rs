//! Bytes that survive: the segmented log ([`log`], Kafka's files to the byte) and the byte stores under state
//! stores ([`state`]), both over one seam to the disk ([`files`]).
//!
//! Knows no topics' configuration source, no leaders' election, no clients, no serdes and no windows' meaning. `log`
//! and `state` do not name each other.

pub mod error;
pub mod files;
pub mod log;
pub mod state;
