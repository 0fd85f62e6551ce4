//! The transaction coordinator: transactional ids, their producers and their open transactions, kept in
//! `__transaction_state`.
//!
//! From the inside out: [`records`] is the layout on disk; [`entry`] one transactional id and [`shard`] all of one partition
//! of `__transaction_state`, still a pure state machine: (state, request, now) gives a record and an answer, replaying
//! the records gives the state. [`coordinator`] appends, locks, answers, and has the markers written that end a
//! transaction; what it needs of the broker is [`environment`], and [`service`] joins the two. [`admission`] lets the first
//! batch of a transaction into a partition only once the coordinator knows of it. [`producer_ids`] hands out producers'
//! identities.
//!
//! Both transaction protocols are served side by side: the older one, whose clients add partitions themselves and keep
//! their epoch, and that of KIP-890, where partitions are added on the way and every end raises the epoch.

pub mod admission;
pub mod coordinator;
pub mod entry;
pub mod environment;
mod log;
pub mod producer_ids;
pub mod records;
pub mod service;
pub mod shard;
#[cfg(test)]
pub(crate) mod tests;

pub use service::{SERVED, TransactionCoordinator, dispatch};
