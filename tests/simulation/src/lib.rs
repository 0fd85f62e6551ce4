//! Seeded simulation of the whole system: embedded broker, clients and a word count, driven step by step from one thread on a simulated
//! clock, network and disk.
//!
//! One seed decides everything: settings, input, who steps next, how far time moves, when the machine loses its power (at a step, or in
//! the middle of one, at an operation on the disk), when its process is killed, when a write or a sync fails. The same seed gives the same
//! trace. The model (`ledger.rs`) hears what was acknowledged and holds the system to it:
//!
//! - no record that was acknowledged to a producer or shown to a consumer is missing or another, in any topic;
//! - committed offsets never go back;
//! - no word counts less than the exact figure, in the store and in the output topic;
//! - what it counts more comes only from records processed after the last commit before a crash; so a run without a crash is exact;
//! - each record is processed in turn and once between two crashes; everything is caught up with in the end.
//!
//! | file | job |
//! |---|---|
//! | `run.rs` | one run: the scheduler, the crashes, when to compare |
//! | `settings.rs` | what a seed decides beforehand |
//! | `machine.rs` | one life of the machine |
//! | `disk.rs` | when the power fails |
//! | `network.rs` | requests and responses, and what they promise |
//! | `ledger.rs` | the model and its checks |
//! | `feeder.rs`, `observer.rs`, `application.rs`, `topology.rs` | who uses the broker |
//! | `trace.rs` | what happened |
//!
//! Not covered: wake-ups (everyone is polled), RocksDB, several machines, connections that break while the machine lives.

mod application;
mod disk;
mod feeder;
mod ledger;
mod machine;
mod network;
mod observer;
mod run;
mod settings;
mod topology;
mod trace;

pub use ledger::Counted;
pub use run::{Report, run};
pub use settings::{Ending, Flaw, NetworkKind, Settings};
