//! The life of a task.

use std::fmt;

use crate::error::{ErrorKind, StreamsError};

/// Where a task is in its life.
///
/// ```text
///   Created -> Restoring -> Running
///      |          |           |
///      +----------+-----------+--> Suspended -> Closed -> Created (revived after corruption)
///                 ^                    |
///                 +--------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Known, nothing opened.
    Created,
    /// Stores are open and catch up with their changelogs.
    Restoring,
    /// Processes records.
    Running,
    /// Stopped, resources still held.
    Suspended,
    /// Everything released.
    Closed,
}

impl TaskState {
    /// The only way to change it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`], naming both states.
    pub(crate) fn transition(&mut self, to: Self) -> Result<(), StreamsError> {
        use TaskState::{Closed, Created, Restoring, Running, Suspended};
        let legal = matches!(
            (*self, to),
            (Created, Restoring | Suspended)
                | (Restoring, Running | Suspended)
                | (Running, Suspended)
                | (Suspended, Restoring | Closed)
                | (Closed, Created)
        );
        if !legal {
            return Err(StreamsError::new(ErrorKind::IllegalState, format!("a task cannot go from {self} to {to}")));
        }
        *self = to;
        Ok(())
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "CREATED",
            Self::Restoring => "RESTORING",
            Self::Running => "RUNNING",
            Self::Suspended => "SUSPENDED",
            Self::Closed => "CLOSED",
        })
    }
}
