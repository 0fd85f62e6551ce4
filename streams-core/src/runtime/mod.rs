//! Runs tasks against brokers: [`Streams`] is the handle of an application, [`StreamThread`] what each of its threads does.
//!
//! Comes in: a topology, a configuration, a client. Passes through: fetched batches into tasks, their output into a producer, offsets and store
//! positions at each commit. The only module of this crate that knows the client; only `streams.rs` starts threads.

pub mod application;
pub mod assignor;
mod balance;
mod client_settings;
mod commit;
mod global_thread;
mod held_records;
mod known_topology;
mod producer_collector;
mod purge;
mod restore;
mod setup;
mod stall;
mod state_check;
pub mod state_directory;
mod stream_thread;
mod streams;
mod subscription;
mod summary;
mod task_folders;
mod task_manager;
mod thread_metadata;

pub use application::{Application, Hooks, RestoreEvent, State, UncaughtErrorResponse};
pub(crate) use client_settings::check_client_setting;
pub use producer_collector::ProducerCollector;
pub use setup::set_up;
pub use state_directory::StateDirectory;
pub use stream_thread::StreamThread;
pub use streams::{Streams, StreamsBuilder};
pub use subscription::{AssignmentInfo, SubscriptionInfo};
pub use task_folders::{FolderInUse, TaskFolders};
pub use task_manager::TaskManager;
pub use thread_metadata::{TaskMetadata, ThreadMetadata, ThreadState};
