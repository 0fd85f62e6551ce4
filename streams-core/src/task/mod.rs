//! Tasks: one partition of a sub-topology with its queues, nodes and stores, as a synchronous state machine ([`Task`]),
//! and the keeper of global stores ([`GlobalTask`]).

pub mod changelog;
pub(crate) mod dead_letters;
pub mod global;
mod id;
pub mod metadata;
pub(crate) mod nodes;
pub(crate) mod partition_group;
pub(crate) mod record_queue;
pub mod shared;
pub(crate) mod sink;
mod state;
#[expect(clippy::module_inception, reason = "the file is named after the one thing in it")]
pub mod task;

pub use changelog::{Changelog, Restored};
pub use global::GlobalTask;
pub use id::TaskId;
pub use metadata::CommitMetadata;
pub use state::TaskState;
pub use task::{CommitOffset, Task, TaskSeams};
