//! Identity of a task.

use std::fmt;
use std::str::FromStr;

use base::PartitionId;

use crate::error::{ErrorKind, StreamsError};

/// One partition of one sub-topology; prints as `0_1`, the name of its state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Number of the sub-topology.
    pub subtopology: u32,
    /// Partition of its source topics.
    pub partition: PartitionId,
}

impl TaskId {
    /// The task of `partition` in `subtopology`.
    pub fn new(subtopology: u32, partition: PartitionId) -> Self {
        Self { subtopology, partition }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

impl FromStr for TaskId {
    type Err = StreamsError;

    fn from_str(text: &str) -> Result<Self, StreamsError> {
        text.split_once('_')
            .and_then(|(sub, partition)| Some(Self::new(sub.parse().ok()?, partition.parse().ok()?)))
            .ok_or_else(|| StreamsError::new(ErrorKind::IllegalState, format!("{text} is not a task id like 0_1")))
    }
}
