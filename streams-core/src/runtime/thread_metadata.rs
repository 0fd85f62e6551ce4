//! What stream threads and their tasks do, as data.

use std::collections::BTreeMap;

use base::{Offset, Timestamp, TopicPartition};

use crate::task::TaskId;

pub use super::application::ThreadState;

/// One stream thread of this process, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadMetadata {
    /// Its name, which the names of its clients begin with.
    pub name: String,
    /// What it is doing.
    pub state: ThreadState,
    /// Its tasks, in order.
    pub active_tasks: Vec<TaskMetadata>,
    /// `client.id` of the consumer of the input topics.
    pub consumer_client_id: String,
    /// `client.id` of the consumer of the changelogs.
    pub restore_consumer_client_id: String,
    /// `client.id` of the producer of all its tasks.
    pub producer_client_id: String,
    /// `client.id` of the administration client that all threads share.
    pub admin_client_id: String,
}

/// One task, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskMetadata {
    /// Its id.
    pub id: TaskId,
    /// Its input partitions.
    pub topic_partitions: Vec<TopicPartition>,
    /// The offsets last committed, of partitions of which any was.
    pub committed_offsets: BTreeMap<TopicPartition, Offset>,
    /// The offset behind the last record, of partitions of which the broker has told.
    pub end_offsets: BTreeMap<TopicPartition, Offset>,
    /// Since when, on the wall clock in ms, it waits for records of empty input partitions (`max.task.idle.ms`); `None` if it does not.
    pub idling_since: Option<Timestamp>,
}
