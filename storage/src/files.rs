//! The seam to the disk: [`RealFiles`], or [`SimFiles`], a disk in memory that keeps synced and unsynced data apart and
//! can be crashed.
//!
//! Knows bytes, names and durability; nothing of what is in the files. Contract of both: a write is readable at once
//! and durable only after [`FileHandle::sync_data`]; a new, renamed or removed name is durable only after
//! [`Files::sync_dir`] on its folder.

mod real;
mod sim;

use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use base::Timestamp;

pub use real::{RealFiles, raise_open_files_limit};
pub use sim::{Fault, SimFiles};

/// How [`Files::open`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; made if it is not there, its content kept if it is.
    Create,
    /// For reading and writing; made if it is not there, emptied if it is.
    Truncate,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name without its folder.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Size in bytes.
    pub len: u64,
    /// When it was last written.
    pub modified_ms: Timestamp,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// An exclusive lock on a file, held until dropped.
pub trait FileLock: Send + Sync {}

/// Size of a volume, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// All of it.
    pub total: u64,
    /// What this process may still use.
    pub usable: u64,
}

/// A file system.
pub trait Files: Send + Sync {
    /// Opens the file at `path`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>>;
    /// Makes a folder and those above it; no error if it is there. Durable after a sync of the folder above.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name, replacing a file of that name in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Handles that are open keep reading it.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in order.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Size and time of a file or folder; `NotFound` if there is none.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// Sets when a file was last written.
    fn set_modified(&self, path: &Path, modified_ms: Timestamp) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Locks the file at `path`, made if it is not there; `None` if somebody else holds it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>>;
    /// [`FileHandle::sync_data`] on every file, side by side where that is quicker; one result for each, in order.
    fn sync_all(&self, files: &[Arc<dyn FileHandle>]) -> Vec<io::Result<()>> {
        files.iter().map(|file| file.sync_data()).collect()
    }

    /// Makes everything below a folder durable, contents and names, and the folder's own names: for when there is much of it.
    ///
    /// # Errors
    /// Any of it could not be synced.
    fn sync_below(&self, folder: &Path) -> io::Result<()> {
        for entry in self.list(folder)? {
            let path = folder.join(&entry.name);
            if entry.is_dir {
                self.sync_below(&path)?;
            } else {
                self.open(&path, OpenMode::Read)?.sync_data()?;
            }
        }
        self.sync_dir(folder)
    }

    /// Size of the volume that holds `path`, where it is known.
    ///
    /// # Errors
    /// What the system says; `Unsupported` for disks that have no size.
    fn volume(&self, path: &Path) -> io::Result<Volume> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether there is a file or folder at `path`.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder and those above it, durably: each that was missing outlives a power cut.
    fn create_dir_all_durably(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for folder in path.ancestors().take_while(|folder| !folder.as_os_str().is_empty()) {
            if self.exists(folder)? {
                break;
            }
            missing.push(folder);
        }
        self.create_dir_all(path)?;
        // From the top: a name is of use only once the folder that holds it is found.
        for folder in missing.into_iter().rev() {
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    /// The whole content of the file at `path`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let mut filled = 0;
        while filled < content.len() {
            match file.read_at(&mut content[filled..], filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        content.truncate(filled);
        Ok(content)
    }

    /// Replaces the file at `path` in one durable step: writes `<path>.tmp`, syncs it, renames it, syncs the folder.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = Path::new(&temporary);
        let file = self.open(temporary, OpenMode::Truncate)?;
        file.write_at(content, 0)?;
        file.sync_data()?;
        self.rename(temporary, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

/// One open file. Reads and writes name their position, so a handle is shared freely.
pub trait FileHandle: Send + Sync {
    /// Reads at `position` into `buffer`; returns how many bytes, 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `position`, growing the file as needed.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Writes the slices one after another at `position`, in one system call where it can.
    fn write_slices_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and size durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The descriptor, for sendfile; `None` when there is none.
    fn raw_fd(&self) -> Option<RawFd>;

    /// Fills `buffer` from `position`; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], position + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(())
    }
}
