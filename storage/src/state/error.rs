//! The error of byte stores, cut by what the caller can do about it. Its text starts with the store's path.

use std::fmt;
use std::path::Path;

/// What the caller can do about a [`StateError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateErrorKind {
    /// The call was wrong, or the store is closed; correct it, nothing has changed.
    Invalid,
    /// Another process or another store has the directory open; wait for it or use another directory.
    InUse,
    /// The directory holds something else: state of Kafka Streams, of another version or of another kind of store.
    /// Nothing was touched; delete the directory (state is restored from its changelog) or use another one.
    Foreign,
    /// Stored bytes are not what was written; wipe the store and restore it from its changelog.
    Corrupt,
    /// The medium failed or refused (space, permission, disk); no writes until the store is opened again.
    Poisoned,
}

/// A failed operation on a byte store: what kind, where, and why.
#[derive(Clone, Debug)]
pub struct StateError {
    kind: StateErrorKind,
    place: Box<str>,
    reason: Box<str>,
}

impl StateError {
    /// An error of `kind` about the store at `place`.
    pub fn new(kind: StateErrorKind, place: impl AsRef<str>, reason: impl fmt::Display) -> Self {
        Self { kind, place: place.as_ref().into(), reason: reason.to_string().into() }
    }

    /// A [`StateErrorKind::Poisoned`] from the file system, about `path`.
    pub fn io(path: &Path, action: &str, error: &std::io::Error) -> Self {
        Self::new(StateErrorKind::Poisoned, path.to_string_lossy(), format_args!("cannot {action}: {error}"))
    }

    pub(crate) fn invalid(place: impl AsRef<str>, reason: impl fmt::Display) -> Self {
        Self::new(StateErrorKind::Invalid, place, reason)
    }

    pub(crate) fn closed(place: impl AsRef<str>) -> Self {
        Self::new(StateErrorKind::Invalid, place, "the store is closed")
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> StateErrorKind {
        self.kind
    }

    /// Path of the store, or its name if it lives in memory.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state store {}: {}", self.place, self.reason)
    }
}

impl std::error::Error for StateError {}
