//! What is on the wire, and on disk in the log: record batches ([`record`]), typed requests ([`api`]), frames
//! ([`frame`]) and the [`transport`] seam that carries them.
//!
//! Knows no files, sockets or partitions.

pub mod api;
pub mod frame;
pub mod record;
pub mod transport;
