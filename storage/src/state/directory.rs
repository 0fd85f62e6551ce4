//! A store's directory: where it lies, and the marker file that says whose it is.
//!
//! The marker `millstream-store` is written before anything else enters the directory, so a directory with content but
//! without marker was made by somebody else: Kafka Streams, for one. Text, one `name=value` a line.

use std::io;
use std::path::{Path, PathBuf};

use base::Timestamp;

use crate::files::Files;

use super::error::{StateError, StateErrorKind};
use super::keys::KeyKind;
use super::scan::Layout;

/// Name of the marker file.
const MARKER: &str = "millstream-store";
/// First line of the marker; changed with every change of what lies beside it.
const VERSION: &str = "version=1";

/// Directory of a key-value store within its task's directory: `rocksdb/<store>`, as in Kafka Streams.
pub fn key_value_directory(task_directory: &Path, store: &str) -> PathBuf {
    task_directory.join("rocksdb").join(store)
}

/// Directory of a window or session store within its task's directory: `<store>`, as in Kafka Streams.
pub fn segmented_directory(task_directory: &Path, store: &str) -> PathBuf {
    task_directory.join(store)
}

/// Name of the segment that holds `time`: `<store>.<its start>`, as in Kafka Streams.
pub fn segment_name(store: &str, time: Timestamp, segment_interval_ms: i64) -> String {
    format!("{store}.{}", time.div_euclid(segment_interval_ms) * segment_interval_ms)
}

/// What is in a store's directory, as far as reading it wrongly would do harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    KeyValue,
    Segmented { kind: KeyKind, layout: Layout, segment_interval_ms: i64 },
}

impl Shape {
    fn describe(&self) -> String {
        match self {
            Self::KeyValue => "kind=key-value\n".to_owned(),
            Self::Segmented { kind, layout, segment_interval_ms } => {
                let kind = match kind {
                    KeyKind::Window => "window",
                    KeyKind::Session => "session",
                };
                let layout = match layout {
                    Layout::KeyFirst => "key-first",
                    Layout::TimeFirst { key_index: false } => "time-first",
                    Layout::TimeFirst { key_index: true } => "time-first-with-index",
                };
                format!("kind={kind}\nlayout={layout}\nsegment-interval-ms={segment_interval_ms}\n")
            }
        }
    }
}

/// Whose directory it is, where the store of a directory is about to be opened.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    directory: PathBuf,
    marker_text: String,
}

impl Claim {
    /// The claim that `directory` holds a store of that engine, format and shape.
    pub(super) fn new(directory: &Path, engine: &str, format: &str, shape: &Shape) -> Self {
        let marker_text = format!("{VERSION}\nengine={engine}\nformat={format}\n{}", shape.describe());
        Self { directory: directory.to_owned(), marker_text }
    }

    /// Whether the claim stands already; `false` if there is nothing yet that contradicts it. Changes nothing.
    ///
    /// # Errors
    /// `Foreign` if something else is there, with what is there and what was asked for; `Poisoned` if it cannot be read.
    pub(super) fn check(&self, files: &dyn Files) -> Result<bool, StateError> {
        let directory = &self.directory;
        let foreign = |reason: String| StateError::new(StateErrorKind::Foreign, directory.to_string_lossy(), reason);
        match files.metadata(directory) {
            Ok(metadata) if !metadata.is_dir => return Err(foreign("is a file, not a directory".into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StateError::io(directory, "look at the directory", &error)),
        }
        let marker = directory.join(MARKER);
        match files.read(&marker) {
            Ok(found) => match difference(&String::from_utf8_lossy(&found), &self.marker_text) {
                None => Ok(true),
                Some(difference) => Err(foreign(format!(
                    "{difference}; delete the directory, and the store is restored from its changelog"
                ))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let entries =
                    files.list(directory).map_err(|error| StateError::io(directory, "list the directory", &error))?;
                let own = |name: &str| name.strip_prefix(MARKER).is_some_and(|rest| rest == ".tmp");
                match entries.iter().find(|entry| !own(&entry.name)) {
                    None => Ok(false),
                    Some(entry) => Err(foreign(format!(
                        "holds {} but no {MARKER}: it was written by Kafka Streams or another program; use another \
                         state directory, or delete this one, and the store is restored from its changelog",
                        entry.name
                    ))),
                }
            }
            Err(error) => Err(StateError::io(&marker, "read the file", &error)),
        }
    }

    /// Makes the directory and its marker; to be called if [`Claim::check`] found nothing.
    ///
    /// # Errors
    /// `Poisoned` if they cannot be made.
    pub(super) fn stake(&self, files: &dyn Files) -> Result<(), StateError> {
        make_directory(files, &self.directory)
            .map_err(|error| StateError::io(&self.directory, "make the directory", &error))?;
        let marker = self.directory.join(MARKER);
        let written = files.replace(&marker, self.marker_text.as_bytes());
        written.map_err(|error| StateError::io(&marker, "write the file", &error))
    }

    /// Deletes the directory with all that is in it.
    ///
    /// # Errors
    /// `Poisoned` if it cannot be deleted.
    pub(super) fn clear(&self, files: &dyn Files) -> Result<(), StateError> {
        remove(files, &self.directory)
    }
}

/// Deletes the directory of a store, of whatever engine and shape; no error if there is none.
///
/// # Errors
/// `Foreign` if there is no marker in it, `Poisoned` if it cannot be deleted.
pub(super) fn delete(files: &dyn Files, directory: &Path) -> Result<(), StateError> {
    let look = |path: &Path| files.exists(path).map_err(|error| StateError::io(path, "look at it", &error));
    if !look(directory)? {
        return Ok(());
    }
    if !look(&directory.join(MARKER))? {
        let reason = format_args!("holds no {MARKER}, so it is not deleted");
        return Err(StateError::new(StateErrorKind::Foreign, directory.to_string_lossy(), reason));
    }
    remove(files, directory)
}

fn remove(files: &dyn Files, directory: &Path) -> Result<(), StateError> {
    match files.remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StateError::io(directory, "delete the directory", &error))
        }
        _ => Ok(()),
    }
}

/// Makes a directory and those above it, and makes each new name durable.
fn make_directory(files: &dyn Files, directory: &Path) -> io::Result<()> {
    let mut parents = Vec::new();
    let above = |path: &Path| path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let mut parent = above(directory);
    while !parent.as_os_str().is_empty() {
        let exists = files.exists(&parent)?;
        parents.push(parent.clone());
        if exists {
            break;
        }
        parent = above(&parent);
    }
    files.create_dir_all(directory)?;
    parents.iter().rev().try_for_each(|parent| files.sync_dir(parent))
}

/// The first line in which a marker differs from the one asked for, in words.
fn difference(found: &str, wanted: &str) -> Option<String> {
    let mut found = found.lines();
    for wanted in wanted.lines() {
        let line = found.next().unwrap_or("nothing");
        if line != wanted {
            return Some(format!("was written with {line:?}, {wanted:?} was asked for"));
        }
    }
    found.next().map(|line| format!("was written with {line:?}, nothing like it was asked for"))
}
