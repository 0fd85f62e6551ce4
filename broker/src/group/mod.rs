//! The group coordinator: groups, their members and their committed offsets, kept in `__consumer_offsets`.
//!
//! From the inside out: [`records`] (of `layout`'s fields, with [`target_epoch`]) is the layout on disk; [`classic`] (with `join`, `rebalance`, [`member`]),
//! [`consumer`], [`share`] and [`streams`] are one group each of their kind, [`kind`] is what all kinds have in common, [`offsets`] a group's offsets;
//! [`shard`] is all groups of one partition of `__consumer_offsets`, still a pure state machine:
//! (state, request, now) gives records and answers ([`output`]), replaying the records gives the state. Only
//! [`coordinator`] appends, reads, locks and answers requests, and what it needs of the broker is [`environment`];
//! [`service`] joins the two.
//!
//! What is served: the classic protocol (join, sync, heartbeat, leave; static members), committed offsets, describing,
//! listing and deleting groups, offsets in transactions, the consumer protocol (KIP-848), the share protocol (KIP-932) and the streams
//! protocol.

pub mod classic;
pub mod config;
pub mod consumer;
pub mod coordinator;
pub mod environment;
mod join;
pub mod kind;
pub mod layout;
pub mod member;
pub mod metadata_hash;
pub mod offsets;
pub mod output;
mod rebalance;
pub mod records;
pub mod service;
pub mod shard;
pub mod share;
pub mod streams;
pub mod subscription;
pub mod target_epoch;
#[cfg(test)]
mod tests;

pub use service::{GroupCoordinator, SERVED, dispatch};
