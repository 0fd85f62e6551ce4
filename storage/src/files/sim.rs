//! A disk in memory for tests and simulation: it keeps synced and unsynced data apart and can be crashed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::{Clock, Rng, Timestamp};

use super::{Entry, FileHandle, FileLock, Files, Metadata, OpenMode};

/// An operation that [`SimFiles::fail_next`] makes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reading from a file.
    Read,
    /// Writing to a file; half of the bytes may arrive.
    Write,
    /// Syncing a file or a folder.
    Sync,
    /// Opening, renaming or removing a name.
    Name,
}

/// A disk in memory. Clones share the disk.
#[derive(Clone)]
pub struct SimFiles {}

impl SimFiles {
    /// An empty disk.
    pub fn new(_clock: Arc<dyn Clock>) -> Self {
        unimplemented!()
    }

    /// Loses what was not synced, as a power cut would: of the unsynced writes any part survives, torn or not; of the
    /// unsynced changes to the names of a folder the first few. Open handles and locks are dead afterwards.
    pub fn crash(&self, _rng: &mut Rng) {
        unimplemented!()
    }

    /// Ends all open handles and locks as the death of the process would; nothing is lost.
    pub fn kill(&self) {
        unimplemented!()
    }

    /// Makes the next operation of that kind on a path that contains `path_part` fail with `error`.
    pub fn fail_next(&self, _fault: Fault, _path_part: &str, _error: io::ErrorKind) {
        unimplemented!()
    }

    /// Bounds the sum of all files' sizes; a write above it fails as `StorageFull`.
    pub fn set_capacity(&self, _bytes: Option<u64>) {
        unimplemented!()
    }
}

impl Files for SimFiles {
    fn open(&self, _path: &Path, _mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        unimplemented!()
    }
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn remove_dir_all(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn list(&self, _path: &Path) -> io::Result<Vec<Entry>> {
        unimplemented!()
    }
    fn metadata(&self, _path: &Path) -> io::Result<Metadata> {
        unimplemented!()
    }
    fn set_modified(&self, _path: &Path, _modified_ms: Timestamp) -> io::Result<()> {
        unimplemented!()
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn try_lock(&self, _path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        unimplemented!()
    }
}
