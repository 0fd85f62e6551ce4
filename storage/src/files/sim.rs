//! A disk in memory for tests and simulation: it keeps synced and unsynced data apart and can be crashed.
//!
//! Every file keeps its durable bytes and the writes since its last sync; every folder its durable names and the changes
//! since its last sync. A crash keeps of the former any part (none, a prefix with a torn last write, holes of zeros) and
//! of the latter the first few, since file systems journal names in order.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::hash::HashMap;
use base::{Clock, Rng, Timestamp};
use parking_lot::Mutex;

use super::{Entry, FileHandle, FileLock, Files, Metadata, OpenMode};

mod nodes;

use nodes::{Change, FileNode, FolderNode, Node, NodeId};

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

const ROOT: NodeId = 0;

struct InjectedFault {
    fault: Fault,
    path_part: String,
    error: io::ErrorKind,
}

struct Disk {
    nodes: HashMap<NodeId, Node>,
    next_node: NodeId,
    /// Handles of an earlier life are dead.
    life: u64,
    next_lock: u64,
    used: u64,
    capacity: Option<u64>,
    open: usize,
    open_max: Option<usize>,
    faults: Vec<InjectedFault>,
}

impl Disk {
    fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for name in names(path) {
            node = *self.folder(node)?.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn folder(&self, node: NodeId) -> io::Result<&FolderNode> {
        match self.nodes.get(&node) {
            Some(Node::Folder(folder)) => Ok(folder),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn folder_mut(&mut self, node: NodeId) -> io::Result<&mut FolderNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::Folder(folder)) => Ok(folder),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, node: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn file_mut(&mut self, node: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a str)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    fn check(&mut self, fault: Fault, path: &Path) -> io::Result<()> {
        let text = path.to_string_lossy();
        let found = self.faults.iter().position(|known| known.fault == fault && text.contains(&known.path_part));
        match found {
            Some(index) => Err(self.faults.remove(index).error.into()),
            None => Ok(()),
        }
    }

    /// Forgets nodes that no name, durable or not, leads to and no handle may still read: after a crash only.
    fn sweep(&mut self) {
        let mut reached = Vec::from([ROOT]);
        let mut kept = base::hash::HashSet::default();
        while let Some(id) = reached.pop() {
            if kept.insert(id)
                && let Some(Node::Folder(folder)) = self.nodes.get(&id)
            {
                reached.extend(folder.names.values());
            }
        }
        self.nodes.retain(|id, _| kept.contains(id));
        self.used = self
            .nodes
            .values()
            .map(|node| if let Node::File(file) = node { file.content.len() as u64 } else { 0 })
            .sum();
    }
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

/// A disk in memory. Clones share the disk.
#[derive(Clone)]
pub struct SimFiles {
    disk: Arc<Mutex<Disk>>,
    clock: Arc<dyn Clock>,
}

impl SimFiles {
    /// An empty disk.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut nodes = HashMap::default();
        nodes.insert(ROOT, Node::Folder(FolderNode::default()));
        let disk = Disk {
            nodes,
            next_node: ROOT + 1,
            life: 0,
            next_lock: 0,
            used: 0,
            capacity: None,
            open: 0,
            open_max: None,
            faults: Vec::new(),
        };
        Self { disk: Arc::new(Mutex::new(disk)), clock }
    }

    /// Loses what was not synced, as a power cut would: of the unsynced writes any part survives, torn or not; of the
    /// unsynced changes to the names of a folder the first few. Open handles and locks are dead afterwards.
    pub fn crash(&self, rng: &mut Rng) {
        let mut disk = self.disk.lock();
        // In the order of ids, so that a seed gives the same crash again.
        let mut ids: Vec<NodeId> = disk.nodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            match disk.nodes.get_mut(&id) {
                Some(Node::File(file)) => file.crash(rng),
                Some(Node::Folder(folder)) => folder.crash(rng),
                None => {}
            }
        }
        disk.life += 1;
        disk.faults.clear();
        disk.sweep();
    }

    /// Ends all open handles and locks as the death of the process would; nothing is lost.
    pub fn kill(&self) {
        let mut disk = self.disk.lock();
        for node in disk.nodes.values_mut() {
            if let Node::File(file) = node {
                file.locked_by = None;
            }
        }
        disk.life += 1;
        disk.faults.clear();
    }

    /// Makes the next operation of that kind on a path that contains `path_part` fail with `error`.
    pub fn fail_next(&self, fault: Fault, path_part: &str, error: io::ErrorKind) {
        self.disk.lock().faults.push(InjectedFault { fault, path_part: path_part.to_owned(), error });
    }

    /// Bounds the sum of all files' sizes; a write above it fails as `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity = bytes;
    }

    /// Bounds how many handles are open at the same time; one more fails as it does for a process that may open no more.
    pub fn set_open_max(&self, files: Option<usize>) {
        self.disk.lock().open_max = files;
    }

    /// Sum of the sizes of all files, removed but open ones included.
    pub fn used_bytes(&self) -> u64 {
        self.disk.lock().used
    }
}

struct SimFile {
    files: SimFiles,
    node: NodeId,
    life: u64,
    path: PathBuf,
    writable: bool,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.files.disk.lock().open -= 1;
    }
}

struct SimLock {
    disk: Arc<Mutex<Disk>>,
    node: NodeId,
    lock: u64,
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Ok(file) = self.disk.lock().file_mut(self.node)
            && file.locked_by == Some(self.lock)
        {
            file.locked_by = None;
        }
    }
}

impl Files for SimFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        let now = self.clock.wall_ms();
        let mut disk = self.disk.lock();
        disk.check(Fault::Name, path)?;
        if disk.open_max.is_some_and(|most| disk.open >= most) {
            return Err(io::Error::other("too many open files"));
        }
        let node = match disk.find(path) {
            Ok(node) => {
                disk.file(node)?;
                node
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if matches!(mode, OpenMode::Read | OpenMode::Write) {
                    return Err(error);
                }
                let (parent, name) = disk.parent(path)?;
                let node = disk.add(Node::File(FileNode { modified_ms: now, ..FileNode::default() }));
                disk.folder_mut(parent)?.set(name, node);
                node
            }
            Err(error) => return Err(error),
        };
        let life = disk.life;
        disk.open += 1;
        drop(disk);
        let writable = mode != OpenMode::Read;
        let handle = SimFile { files: self.clone(), node, life, path: path.to_owned(), writable };
        if mode == OpenMode::Truncate {
            handle.set_len(0)?;
        }
        Ok(Arc::new(handle))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let now = self.clock.wall_ms();
        let mut disk = self.disk.lock();
        disk.check(Fault::Name, path)?;
        let mut node = ROOT;
        for name in names(path) {
            node = match disk.folder(node)?.names.get(name) {
                Some(next) => *next,
                None => {
                    let next = disk.add(Node::Folder(FolderNode { modified_ms: now, ..FolderNode::default() }));
                    disk.folder_mut(node)?.set(name, next);
                    next
                }
            };
        }
        disk.folder(node).map(|_| ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Fault::Name, from)?;
        disk.check(Fault::Name, to)?;
        let node = disk.find(from)?;
        let (from_parent, from_name) = disk.parent(from)?;
        let (to_parent, to_name) = disk.parent(to)?;
        if from_parent == to_parent {
            disk.folder_mut(from_parent)?.rename(from_name, to_name, node);
        } else {
            disk.folder_mut(to_parent)?.set(to_name, node);
            disk.folder_mut(from_parent)?.remove(from_name);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Fault::Name, path)?;
        let node = disk.find(path)?;
        let size = disk.file(node)?.content.len() as u64;
        let (parent, name) = disk.parent(path)?;
        disk.folder_mut(parent)?.remove(name);
        disk.used = disk.used.saturating_sub(size);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Fault::Name, path)?;
        let node = disk.find(path)?;
        disk.folder(node)?;
        let (parent, name) = disk.parent(path)?;
        let mut below = Vec::from([node]);
        while let Some(id) = below.pop() {
            match disk.nodes.get(&id) {
                Some(Node::Folder(folder)) => below.extend(folder.names.values()),
                Some(Node::File(file)) => disk.used = disk.used.saturating_sub(file.content.len() as u64),
                None => {}
            }
        }
        disk.folder_mut(parent)?.remove(name);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let disk = self.disk.lock();
        let folder = disk.folder(disk.find(path)?)?;
        let entry = |(name, node): (&String, &NodeId)| Entry {
            name: name.clone(),
            is_dir: matches!(disk.nodes.get(node), Some(Node::Folder(_))),
        };
        Ok(folder.names.iter().map(entry).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let disk = self.disk.lock();
        Ok(match disk.nodes.get(&disk.find(path)?) {
            Some(Node::File(file)) => {
                Metadata { len: file.content.len() as u64, modified_ms: file.modified_ms, is_dir: false }
            }
            Some(Node::Folder(folder)) => Metadata { len: 0, modified_ms: folder.modified_ms, is_dir: true },
            None => return Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn set_modified(&self, path: &Path, modified_ms: Timestamp) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let node = disk.find(path)?;
        disk.file_mut(node)?.modified_ms = modified_ms;
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Fault::Sync, path)?;
        let node = disk.find(path)?;
        let folder = disk.folder_mut(node)?;
        folder.changes.clear();
        folder.durable = folder.names.clone();
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        self.open(path, OpenMode::Create)?;
        let mut disk = self.disk.lock();
        let node = disk.find(path)?;
        disk.next_lock += 1;
        let lock = disk.next_lock;
        let file = disk.file_mut(node)?;
        if file.locked_by.is_some() {
            return Ok(None);
        }
        file.locked_by = Some(lock);
        Ok(Some(Box::new(SimLock { disk: Arc::clone(&self.disk), node, lock })))
    }
}

impl SimFile {
    /// Runs `change` on the file, unless its handle is of an earlier life.
    fn with<T>(&self, fault: Fault, change: impl FnOnce(&mut Disk, NodeId) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.files.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the simulated machine was restarted"));
        }
        if fault != Fault::Read && !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if fault != Fault::Write {
            disk.check(fault, &self.path)?;
        }
        change(&mut disk, self.node)
    }
}

impl FileHandle for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(Fault::Read, |disk, node| {
            let content = &disk.file(node)?.content;
            let start = content.len().min(position as usize);
            let len = buffer.len().min(content.len() - start);
            buffer[..len].copy_from_slice(&content[start..start + len]);
            Ok(len)
        })
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let now = self.files.clock.wall_ms();
        self.with(Fault::Write, |disk, node| {
            let mut result = disk.check(Fault::Write, &self.path);
            let position = position as usize;
            let len = disk.file(node)?.content.len();
            let mut fits = bytes.len();
            if result.is_err() {
                fits /= 2;
            } else if let Some(capacity) = disk.capacity {
                // What lies inside the file needs no room.
                let room = (capacity.saturating_sub(disk.used)) as usize + len.saturating_sub(position);
                if room < fits {
                    fits = room;
                    result = Err(io::ErrorKind::StorageFull.into());
                }
            }
            disk.used += (position + fits).saturating_sub(len) as u64;
            let file = disk.file_mut(node)?;
            file.modified_ms = now;
            let change = Change::Write { position, bytes: bytes[..fits].to_vec() };
            change.apply(&mut file.content);
            file.changes.push(change);
            result
        })
    }

    fn write_slices_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write_at(&bytes, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Fault::Read, |disk, node| Ok(disk.file(node)?.content.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let now = self.files.clock.wall_ms();
        self.with(Fault::Write, |disk, node| {
            disk.check(Fault::Write, &self.path)?;
            let before = disk.file(node)?.content.len() as u64;
            disk.used = (disk.used + len).saturating_sub(before);
            let file = disk.file_mut(node)?;
            file.modified_ms = now;
            let change = Change::SetLen(len as usize);
            change.apply(&mut file.content);
            file.changes.push(change);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.files.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the simulated machine was restarted"));
        }
        disk.check(Fault::Sync, &self.path)?;
        let file = disk.file_mut(self.node)?;
        // Replaying the changes is cheaper than copying the content when few bytes of a long file changed.
        let changes = std::mem::take(&mut file.changes);
        changes.iter().for_each(|change| change.apply(&mut file.durable));
        Ok(())
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

#[cfg(test)]
mod tests {
    use base::ManualClock;

    use super::*;

    fn disk() -> SimFiles {
        SimFiles::new(ManualClock::new(1_000))
    }

    #[test]
    fn synced_bytes_and_names_survive_every_crash() {
        for seed in 0..200 {
            let files = disk();
            let path = Path::new("/data/a");
            files.create_dir_all(Path::new("/data")).unwrap();
            let file = files.open(path, OpenMode::Create).unwrap();
            file.write_at(b"kept", 0).unwrap();
            file.sync_data().unwrap();
            files.sync_dir(Path::new("/data")).unwrap();
            files.sync_dir(Path::new("/")).unwrap();
            file.write_at(b"maybe", 4).unwrap();
            files.crash(&mut Rng::from_seed(seed));
            assert!(file.read_at(&mut [0; 4], 0).is_err(), "seed {seed}");
            let content = files.read(path).unwrap();
            assert!(content.starts_with(b"kept") && content.len() <= 9, "seed {seed}: {content:?}");
        }
    }

    #[test]
    fn folders_made_durably_survive_every_crash() {
        for seed in 0..100 {
            let files = disk();
            files.create_dir_all_durably(Path::new("/data/state/app")).unwrap();
            files.crash(&mut Rng::from_seed(seed));
            assert!(files.exists(Path::new("/data/state/app")).unwrap(), "seed {seed}");
        }
    }

    #[test]
    fn unsynced_names_are_lost_by_some_crash() {
        let lost = (0..50).filter(|seed| {
            let files = disk();
            files.create_dir_all(Path::new("/data")).unwrap();
            files.crash(&mut Rng::from_seed(*seed));
            !files.exists(Path::new("/data")).unwrap()
        });
        assert!((1..50).contains(&lost.count()));
    }

    #[test]
    fn replaced_file_is_the_old_or_the_new_one() {
        for seed in 0..200 {
            let files = disk();
            files.replace(Path::new("/checkpoint"), b"old").unwrap();
            let file = files.open(Path::new("/checkpoint.tmp"), OpenMode::Truncate).unwrap();
            file.write_at(b"newer", 0).unwrap();
            file.sync_data().unwrap();
            files.rename(Path::new("/checkpoint.tmp"), Path::new("/checkpoint")).unwrap();
            files.crash(&mut Rng::from_seed(seed));
            let content = files.read(Path::new("/checkpoint")).unwrap();
            assert!(content == b"old" || content == b"newer", "seed {seed}: {content:?}");
        }
    }

    #[test]
    fn full_disk_takes_what_fits() {
        let files = disk();
        files.set_capacity(Some(10));
        let file = files.open(Path::new("/a"), OpenMode::Create).unwrap();
        file.write_at(&[1; 8], 0).unwrap();
        let error = file.write_at(&[2; 8], 8).unwrap_err();
        assert_eq!((error.kind(), file.len().unwrap()), (io::ErrorKind::StorageFull, 10));
    }

    #[test]
    fn lock_is_exclusive_until_dropped_or_killed() {
        let files = disk();
        let first = files.try_lock(Path::new("/.lock")).unwrap();
        assert!(first.is_some() && files.try_lock(Path::new("/.lock")).unwrap().is_none());
        drop(first);
        let second = files.try_lock(Path::new("/.lock")).unwrap();
        assert!(second.is_some());
        files.kill();
        assert!(files.try_lock(Path::new("/.lock")).unwrap().is_some());
    }
}
