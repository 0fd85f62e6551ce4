//! The machine's own disk. A driver file: the only one of this crate that names `std::fs` and threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::Timestamp;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;

use super::{Entry, FileHandle, FileLock, Files, Metadata, OpenMode, Volume};

/// Above this many files one `syncfs` is taken instead of a `fdatasync` each: it walks the file system once.
const SYNCFS_FROM_FILES: usize = 64;
/// How many threads sync files side by side.
const SYNC_THREADS: usize = 8;

/// The machine's own disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl RealFiles {
    /// The machine's disk, ready to be shared.
    pub fn shared() -> Arc<dyn Files> {
        Arc::new(Self)
    }
}

/// Lets this process open as many files as the system allows it: a broker with many partitions has many that wait for their sync,
/// and sockets beside them. What is set up for interactive programs is often 1,024; the JVM raises it as well.
pub fn raise_open_files_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
            tracing::warn!(%error, current = ?limit.current, maximum = ?limit.maximum, "cannot raise the limit of open files");
        }
    }
}

struct RealFile(File);

struct RealLock(#[expect(dead_code, reason = "the lock lives as long as the descriptor")] File);

impl FileLock for RealLock {}

fn to_ms(time: SystemTime) -> Timestamp {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as Timestamp
}

impl Files for RealFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::Truncate => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let metadata = fs::metadata(path)?;
        Ok(Metadata { len: metadata.len(), modified_ms: to_ms(metadata.modified()?), is_dir: metadata.is_dir() })
    }

    fn set_modified(&self, path: &Path, modified_ms: Timestamp) -> io::Result<()> {
        let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(modified_ms).unwrap_or(0));
        OpenOptions::new().write(true).open(path)?.set_modified(time)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_below(&self, folder: &Path) -> io::Result<()> {
        // The whole file system at once: a sync of each of ten thousand files would take ten times as long.
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    }

    fn volume(&self, path: &Path) -> io::Result<Volume> {
        let volume = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok(Volume { total: bytes(volume.f_blocks), usable: bytes(volume.f_bavail) })
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        // `flock` keeps out a second log directory of this process, the record lock keeps out a Java broker.
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive));
        match locked {
            Ok(()) => Ok(Some(Box::new(RealLock(file)))),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_all(&self, files: &[Arc<dyn FileHandle>]) -> Vec<io::Result<()>> {
        if files.len() >= SYNCFS_FROM_FILES
            && let Some(fd) = files[0].raw_fd()
        {
            // SAFETY: the descriptor belongs to `files[0]`, which outlives the borrow.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            if rustix::fs::syncfs(fd).is_ok() {
                return files.iter().map(|_| Ok(())).collect();
            }
        }
        if files.len() < 2 {
            return files.iter().map(|file| file.sync_data()).collect();
        }
        let results: Mutex<Vec<Option<io::Result<()>>>> = Mutex::new(files.iter().map(|_| None).collect());
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(index) else { break };
                let result = file.sync_data();
                results.lock()[index] = Some(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..files.len().min(SYNC_THREADS) {
                scope.spawn(work);
            }
            work();
        });
        let lost = || Err(io::Error::other("the sync was not run"));
        results.into_inner().into_iter().map(|result| result.unwrap_or_else(lost)).collect()
    }
}

impl FileHandle for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn write_slices_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut written = loop {
            match rustix::io::pwritev(self.0.as_fd(), slices, position) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result?,
            }
        };
        if written == total {
            return Ok(());
        }
        // A short write is rare (a full disk, a signal): the rest goes slice by slice, and shows the error.
        let mut position = position;
        for slice in slices {
            let skipped = written.min(slice.len());
            written -= skipped;
            self.0.write_all_at(&slice[skipped..], position + skipped as u64)?;
            position += slice.len() as u64;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }
}
