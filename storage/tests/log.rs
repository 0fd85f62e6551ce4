//! Behaviour of the segmented log: what goes in comes out, in Kafka's files, over restarts and crashes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod log {
    pub mod helper;

    mod append;
    mod bytes;
    mod cleaned;
    mod compaction;
    mod crash;
    mod damage;
    mod many;
    mod model;
    mod read;
    mod retention;
    mod sample;
}
