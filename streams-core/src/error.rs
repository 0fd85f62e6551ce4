//! The one error type of this crate: what went wrong, by what the caller can do about it, and where.

use std::fmt;

use base::{Offset, TopicPartition};

use crate::task::TaskId;

/// What user code returns and what travels along edges. A [`StreamsError`] inside it is passed on as it is; any other
/// error is attributed to the processor that returned it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What kind of failure, cut by what the caller does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The topology was built wrongly; fix the program.
    Topology,
    /// A setting is unknown or has a bad value; fix the configuration.
    Config,
    /// User code of a processor or punctuator failed; the uncaught-exception handler decides.
    Processing,
    /// Bytes of a topic could not be made typed.
    Deserialization,
    /// A typed value could not be made bytes.
    Serialization,
    /// A source record has no usable timestamp.
    Timestamp,
    /// A state store or its storage failed.
    Store,
    /// Output could not be handed over or was refused; the message says why.
    Send,
    /// The local state of a task cannot be trusted: wipe it and restore from the changelog.
    TaskCorrupted,
    /// The task belongs to another member now (fenced, or the commit was refused): close dirty and rejoin.
    TaskMigrated,
    /// A call that the present state does not allow; nothing has changed.
    IllegalState,
    /// An argument that is never right, such as a negative grace period; fix the program.
    InvalidArgument,
    /// A broker could not be reached or did not answer in time.
    Unavailable,
}

impl ErrorKind {
    /// The class of the exception that Kafka Streams throws for such an error, without its package.
    ///
    /// | kind | exception |
    /// |---|---|
    /// | `Topology` | `TopologyException` |
    /// | `Config` | `ConfigException` |
    /// | `Processing`, `Deserialization`, `Serialization`, `Timestamp`, `Send` | `StreamsException`, with the reason as its cause |
    /// | `Store` | `ProcessorStateException` |
    /// | `TaskCorrupted` | `TaskCorruptedException` |
    /// | `TaskMigrated` | `TaskMigratedException` |
    /// | `IllegalState` | `IllegalStateException` |
    /// | `InvalidArgument` | `IllegalArgumentException` |
    /// | `Unavailable` | `TimeoutException` |
    ///
    /// What is a `NullPointerException` or a `ClassCastException` there mostly does not compile here.
    ///
    /// ```
    /// use streams_core::{SourceOptions, Topology};
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("source", SourceOptions::<String, String>::default(), ["in"])?;
    /// let twice = topology.add_source("source", SourceOptions::<String, String>::default(), ["other"]);
    /// assert_eq!(twice.err().map(|error| error.kind().java_exception()), Some("TopologyException"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn java_exception(self) -> &'static str {
        match self {
            Self::Topology => "TopologyException",
            Self::Config => "ConfigException",
            Self::Processing | Self::Deserialization | Self::Serialization | Self::Timestamp | Self::Send => {
                "StreamsException"
            }
            Self::Store => "ProcessorStateException",
            Self::TaskCorrupted => "TaskCorruptedException",
            Self::TaskMigrated => "TaskMigratedException",
            Self::IllegalState => "IllegalStateException",
            Self::InvalidArgument => "IllegalArgumentException",
            Self::Unavailable => "TimeoutException",
        }
    }
}

#[derive(Debug)]
struct Repr {
    kind: ErrorKind,
    message: String,
    task: Option<TaskId>,
    processor: Option<String>,
    store: Option<String>,
    record: Option<(TopicPartition, Offset)>,
    source: Option<BoxError>,
}

/// A failure with its place: task, processor, store and source record, as far as they are known.
///
/// Prints like `processing failed in processor split (task 0_1, record lines-1 at offset 42): not a number`.
#[derive(Debug)]
pub struct StreamsError(Box<Repr>);

impl StreamsError {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Repr {
            kind,
            message: message.into(),
            task: None,
            processor: None,
            store: None,
            record: None,
            source: None,
        }))
    }

    /// An error of `kind` caused by `source`.
    pub fn caused_by(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        let mut error = Self::new(kind, String::new());
        error.0.source = Some(source.into());
        error
    }

    /// The [`StreamsError`] inside `error`, or `error` wrapped as `kind`.
    pub fn from_box(kind: ErrorKind, error: BoxError) -> Self {
        match error.downcast::<StreamsError>() {
            Ok(known) => *known,
            Err(other) => Self::caused_by(kind, other),
        }
    }

    /// Names the task, unless one is named already.
    #[must_use]
    pub fn in_task(mut self, task: TaskId) -> Self {
        self.0.task.get_or_insert(task);
        self
    }

    /// Names the processor, unless one is named already.
    #[must_use]
    pub fn in_processor(mut self, name: &str) -> Self {
        self.0.processor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Names the store, unless one is named already.
    #[must_use]
    pub fn in_store(mut self, name: &str) -> Self {
        self.0.store.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Names the source record, unless one is named already.
    #[must_use]
    pub fn at_record(mut self, partition: TopicPartition, offset: Offset) -> Self {
        self.0.record.get_or_insert((partition, offset));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The class of the exception that Kafka Streams throws for it, without its package: that of its [`ErrorKind`], but what is wrong about a
    /// call that a processor makes reaches the caller of a task as a `StreamsException`.
    pub fn java_exception(&self) -> &'static str {
        match self.0.kind {
            ErrorKind::IllegalState | ErrorKind::InvalidArgument if self.0.task.is_some() => "StreamsException",
            kind => kind.java_exception(),
        }
    }

    /// The task it happened in.
    pub fn task(&self) -> Option<&TaskId> {
        self.0.task.as_ref()
    }

    /// The processor, source or sink it happened in.
    pub fn processor(&self) -> Option<&str> {
        self.0.processor.as_deref()
    }

    /// The store it happened in.
    pub fn store(&self) -> Option<&str> {
        self.0.store.as_deref()
    }

    /// The source record that was being processed.
    pub fn record(&self) -> Option<&(TopicPartition, Offset)> {
        self.0.record.as_ref()
    }
}

impl fmt::Display for StreamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0.kind {
            ErrorKind::Topology => "invalid topology",
            ErrorKind::Config => "invalid configuration",
            ErrorKind::Processing => "processing failed",
            ErrorKind::Deserialization => "deserialisation failed",
            ErrorKind::Serialization => "serialisation failed",
            ErrorKind::Timestamp => "no usable timestamp",
            ErrorKind::Store => "state store failed",
            ErrorKind::Send => "sending failed",
            ErrorKind::TaskCorrupted => "local state is corrupted",
            ErrorKind::TaskMigrated => "the task has moved to another member",
            ErrorKind::IllegalState => "not allowed now",
            ErrorKind::InvalidArgument => "invalid argument",
            ErrorKind::Unavailable => "broker not available",
        };
        f.write_str(what)?;
        if let Some(name) = &self.0.processor {
            write!(f, " in processor {name}")?;
        }
        if let Some(name) = &self.0.store {
            write!(f, " in store {name}")?;
        }
        match (&self.0.task, &self.0.record) {
            (Some(task), Some((partition, offset))) => {
                write!(f, " (task {task}, record {partition} at offset {offset})")?
            }
            (Some(task), None) => write!(f, " (task {task})")?,
            (None, Some((partition, offset))) => write!(f, " (record {partition} at offset {offset})")?,
            (None, None) => {}
        }
        if !self.0.message.is_empty() {
            write!(f, ": {}", self.0.message)?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StreamsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
