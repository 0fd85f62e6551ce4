//! Writes topics: [`ProducerCore`] for owners that step it, [`Producer`] for everyone else.
//!
//! ```text
//!  send -> open batch (accumulator.rs) -> queue -> Produce request (sender.rs) -> acknowledged
//!           batch.size, linger.ms           ^            |
//!                                           +-- retry ---+
//! ```
//!
//! A record is written once, into its batch, in the layout that goes over the wire and into the log. Everything that
//! waits is per partition and in order; retries keep the order, and with idempotence (the default) brokers keep each
//! record once. With a `transactional.id` records and offsets of several partitions are written all or none
//! (`transactions.rs`).

mod accumulator;
mod backlog;
mod config;
mod core;
mod identity;
mod record;
mod sender;
mod shell;
mod ticket;
mod transaction;
mod transactions;

pub use self::config::{Acks, ProducerConfig};
pub use self::core::{FlushMark, ProducerCore, SendStatus, TopicHandle};
pub use self::record::ProducerRecord;
pub use self::shell::Producer;
pub use self::ticket::{RecordMetadata, Ticket};
