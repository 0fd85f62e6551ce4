//! Consumer groups (KIP-848): the coordinator itself shares out the partitions, and members come to it heartbeat by heartbeat.
//!
//! From the inside out: [`records`] is the layout on disk; [`member`] one member; [`group`] one group as its records give it, which
//! [`heartbeat`] drives: a group's epoch rises with what its members want (`topics`), a target assignment follows it (`target`, by an
//! [`assignor`]), and each member is led there (`reconcile`). [`commits`] says who may commit and fetch offsets. `classic_member` serves members that
//! speak the classic protocol; [`migration`] makes a consumer group of a classic one with members, and back.
//!
//! Invariant: a group is changed only by records, whether they are read from the log or have just been made: so replaying them gives
//! the state. A record that could not be written has the whole shard read anew.

pub mod assignor;
mod classic_member;
pub mod commits;
pub mod config;
pub mod group;
pub mod heartbeat;
pub mod member;
pub mod migration;
mod reconcile;
pub mod records;
mod target;
mod topics;

pub use group::ConsumerGroup;
