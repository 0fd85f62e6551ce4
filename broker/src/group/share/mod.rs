//! Share groups (KIP-932) at the side of their coordinator: members come heartbeat by heartbeat, and are told which partitions to read. What is
//! handed out of a partition, and to whom, is decided beside the log (`crate::share`).
//!
//! From the inside out: [`records`] is the layout on disk, [`group`] one group as its records give it, [`assignor`] who reads what,
//! [`heartbeat`] what members say and hear, [`state_partitions`] the partitions whose share state has been made.

pub mod assignor;
pub mod group;
pub mod heartbeat;
pub mod records;
pub mod state_partitions;
#[cfg(test)]
mod tests;

pub use group::ShareGroup;
