//! The error of this crate, cut by what the caller can do about it. The message says where: topic-partition, file,
//! byte.

use std::fmt;
use std::io;
use std::path::Path;

/// What the caller can do about a [`StorageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call was wrong (an argument, a configuration); correct it, nothing has changed.
    Invalid,
    /// The offset is below the log start or above the log end; ask for the offsets and choose another.
    OutOfRange,
    /// Stored bytes are not what was written; restore from a replica or a changelog.
    Corrupt,
    /// The medium failed earlier; no writes until the log is reopened.
    Poisoned,
    /// The medium failed now.
    Io,
    /// The device is full; make room, then reopen.
    Full,
    /// Another process holds the directory.
    InUse,
    /// The thing asked for is not there.
    NotFound,
    /// The log or store was closed or deleted.
    Closed,
}

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    kind: ErrorKind,
    message: String,
}

impl StorageError {
    /// An error of `kind`; `message` says where and what.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failed operation `what` (`"write"`, `"rename"`) on the file at `path`.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ErrorKind::Full,
            _ => ErrorKind::Io,
        };
        Self { kind, message: format!("{what} {}: {error}", path.display()) }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where and what.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `place` put before its message.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StorageError {}
