//! Open files under a limit: a [`LogFile`] opens on first use and is closed again when others need its place.
//!
//! Second chance: a file used since it was last looked at stays. Whoever holds an [`OpenFile`] keeps the descriptor
//! alive, so closing here never takes a file from a reader or from a sync that is still to come.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use protocol::api::ReadAt;

use crate::files::{FileHandle, Files, OpenMode};

/// The open files of one directory.
pub(super) struct FileCache {
    files: Arc<dyn Files>,
    open_max: usize,
    open: Mutex<VecDeque<Weak<LogFile>>>,
}

impl FileCache {
    pub(super) fn new(files: Arc<dyn Files>, open_max: usize) -> Arc<Self> {
        Arc::new(Self { files, open_max: open_max.max(8), open: Mutex::new(VecDeque::new()) })
    }

    pub(super) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// The file at `path`, not opened yet.
    pub(super) fn file(self: &Arc<Self>, path: PathBuf) -> Arc<LogFile> {
        Arc::new(LogFile {
            path,
            cache: Arc::clone(self),
            slot: Mutex::new(None),
            used: AtomicBool::new(true),
            retired: AtomicBool::new(false),
        })
    }

    fn register(&self, file: &Arc<LogFile>) {
        let mut open = self.open.lock();
        let mut looks = open.len() * 2;
        while open.len() >= self.open_max && looks > 0 {
            looks -= 1;
            let Some(candidate) = open.pop_front() else { break };
            let Some(candidate_file) = candidate.upgrade() else { continue };
            if candidate_file.used.swap(false, Ordering::Relaxed) {
                open.push_back(candidate);
                continue;
            }
            match candidate_file.slot.try_lock() {
                Some(mut slot) => *slot = None,
                None => open.push_back(candidate),
            }
        }
        open.push_back(Arc::downgrade(file));
    }
}

/// A file that is opened when it is used.
pub(super) struct LogFile {
    path: PathBuf,
    cache: Arc<FileCache>,
    slot: Mutex<Option<Arc<OpenFile>>>,
    used: AtomicBool,
    retired: AtomicBool,
}

impl LogFile {
    /// Never opens again: another file is about to get this one's name. Who has it open keeps it.
    pub(super) fn retire(&self) {
        // Under the slot's lock: an opening that is under way ends before the name changes.
        let _slot = self.slot.lock();
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file; opens it, or makes it if `create` and it is not there.
    pub(super) fn open(self: &Arc<Self>, mode: OpenMode) -> io::Result<Arc<OpenFile>> {
        self.used.store(true, Ordering::Relaxed);
        let opened = {
            let mut slot = self.slot.lock();
            if let Some(open) = &*slot {
                return Ok(Arc::clone(open));
            }
            if self.retired.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let opened = Arc::new(OpenFile(self.cache.files.open(&self.path, mode)?));
            *slot = Some(Arc::clone(&opened));
            opened
        };
        // The cache looks at other files' slots: never register while holding one's own.
        self.cache.register(self);
        Ok(opened)
    }

    /// [`LogFile::open`] of a file that must be there.
    pub(super) fn existing(self: &Arc<Self>) -> io::Result<Arc<OpenFile>> {
        self.open(OpenMode::Write)
    }
}

/// An open file; readers of the protocol and the log share it.
pub(super) struct OpenFile(pub(super) Arc<dyn FileHandle>);

impl ReadAt for OpenFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, position)
    }

    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        self.0.raw_fd()
    }
}
