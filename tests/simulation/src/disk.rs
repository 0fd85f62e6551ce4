//! The disk as one life of the machine sees it: a view on the simulated disk whose power fails after a number of operations.
//!
//! What a power cut takes back is `SimFiles`' business. This view says when it happens: also in the middle of a step of the
//! system, between two writes or before a sync. From then on every operation of this view fails, so that nothing that is still
//! running, or dropped later, reaches the disk of the next life.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use base::Timestamp;
use storage::files::{Entry, FileHandle, FileLock, Files, Metadata, OpenMode, SimFiles};

/// Counts the operations of one life, and ends it.
pub struct Power {
    /// Operations until the cut; negative once it has happened.
    left: AtomicI64,
    is_off: AtomicBool,
    operations: AtomicU64,
}

impl Power {
    /// Power that fails at operation number `fuse` (from 1); never by itself without one.
    pub fn new(fuse: Option<u64>) -> Arc<Self> {
        let left = fuse.map_or(i64::MAX, |fuse| i64::try_from(fuse).unwrap_or(i64::MAX));
        Arc::new(Self { left: AtomicI64::new(left), is_off: AtomicBool::new(false), operations: AtomicU64::new(0) })
    }

    /// Whether it has failed.
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::SeqCst)
    }

    /// Makes it fail now.
    pub fn cut(&self) {
        self.is_off.store(true, Ordering::SeqCst);
    }

    /// Operations that changed or synced something so far.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    fn check(&self) -> io::Result<()> {
        if self.is_off() { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// An operation that changes or syncs something: one step nearer to the cut.
    fn spend(&self) -> io::Result<()> {
        self.check()?;
        self.operations.fetch_add(1, Ordering::SeqCst);
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 1 {
            self.cut();
        }
        self.check()
    }
}

/// The disk, as long as the power is on.
pub struct PoweredFiles {
    disk: SimFiles,
    power: Arc<Power>,
}

impl PoweredFiles {
    /// A view on `disk` that `power` ends.
    pub fn new(disk: SimFiles, power: Arc<Power>) -> Arc<Self> {
        Arc::new(Self { disk, power })
    }
}

struct PoweredHandle {
    file: Arc<dyn FileHandle>,
    power: Arc<Power>,
}

impl Files for PoweredFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        match mode {
            OpenMode::Read | OpenMode::Write => self.power.check()?,
            OpenMode::Create | OpenMode::Truncate => self.power.spend()?,
        }
        Ok(Arc::new(PoweredHandle { file: self.disk.open(path, mode)?, power: Arc::clone(&self.power) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.power.spend()?;
        self.disk.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.power.spend()?;
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.power.spend()?;
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.power.spend()?;
        self.disk.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.power.check()?;
        self.disk.list(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.power.check()?;
        self.disk.metadata(path)
    }

    fn set_modified(&self, path: &Path, modified_ms: Timestamp) -> io::Result<()> {
        self.power.spend()?;
        self.disk.set_modified(path, modified_ms)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.power.spend()?;
        self.disk.sync_dir(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        self.power.check()?;
        self.disk.try_lock(path)
    }
}

impl FileHandle for PoweredHandle {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.power.check()?;
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.power.spend()?;
        self.file.write_at(bytes, position)
    }

    fn write_slices_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.power.spend()?;
        self.file.write_slices_at(slices, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.power.check()?;
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.power.spend()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.power.spend()?;
        self.file.sync_data()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}
