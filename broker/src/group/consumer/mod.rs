//! Consumer groups (KIP-848): the coordinator itself shares out the partitions, and members come to it heartbeat by heartbeat.
//!
//! From the inside out: [`records`] is the layout on disk; [`member`] one member; [`group`] one group as its records give it. A group is
//! changed only by records, whether they are read from the log or have just been made: so replaying them gives the state.

pub mod config;
pub mod group;
pub mod member;
pub mod records;

pub use group::ConsumerGroup;
