//! Which tasks' folders of a state directory are in use, and the removal of those that nobody has used for long
//! (`state.cleanup.delay.ms`): their tasks have moved to other processes, or are of an older topology.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base::Now;
use parking_lot::Mutex;
use storage::files::Files;

use crate::task::TaskId;

/// What a folder is renamed to before its files go one by one: a power cut meanwhile must not leave half a task.
const OBSOLETE: &str = ".obsolete";

#[derive(Default)]
struct Folders {
    in_use: BTreeMap<TaskId, usize>,
    /// Tick at which a folder was first seen to be unused.
    unused_since: BTreeMap<TaskId, i64>,
}

/// The folders of tasks in one state directory.
#[derive(Clone, Default)]
pub struct TaskFolders(Arc<Mutex<Folders>>);

/// While it lives, the folder of its task is not removed.
pub struct FolderInUse {
    folders: TaskFolders,
    task: TaskId,
}

impl Drop for FolderInUse {
    fn drop(&mut self) {
        let mut folders = self.folders.0.lock();
        if let Some(count) = folders.in_use.get_mut(&self.task) {
            *count -= 1;
            if *count == 0 {
                folders.in_use.remove(&self.task);
            }
        }
    }
}

impl TaskFolders {
    /// Keeps the folder of `task`; waits while it is being removed.
    pub fn keep(&self, task: TaskId) -> FolderInUse {
        let mut folders = self.0.lock();
        *folders.in_use.entry(task).or_default() += 1;
        folders.unused_since.remove(&task);
        FolderInUse { folders: self.clone(), task }
    }

    /// Removes those folders among `present` in `path` that have been unused for `delay_ms`, as far as earlier calls know; what is left.
    pub(crate) fn remove_unused(
        &self,
        files: &dyn Files,
        path: &Path,
        mut present: Vec<TaskId>,
        delay_ms: i64,
        now: Now,
    ) -> Vec<TaskId> {
        let mut folders = self.0.lock();
        let Folders { in_use, unused_since } = &mut *folders;
        present.retain(|task| {
            if in_use.contains_key(task) {
                return true;
            }
            let since = *unused_since.entry(*task).or_insert(now.ticks_ms);
            if now.ticks_ms - since < delay_ms {
                return true;
            }
            unused_since.remove(task);
            match remove(files, path, *task) {
                Ok(()) => tracing::info!(%task, "state of a task that is not here was removed"),
                Err(error) => tracing::warn!(%error, %task, "state of a task that is not here could not be removed"),
            }
            false
        });
        if let Err(error) = remove_renamed(files, path) {
            tracing::warn!(%error, "state of a task that is not here could not be removed");
        }
        present
    }
}

fn remove(files: &dyn Files, path: &Path, task: TaskId) -> io::Result<()> {
    files.rename(&path.join(task.to_string()), &path.join(format!("{task}{OBSOLETE}")))?;
    files.sync_dir(path)
}

/// Also what a process that died left behind.
fn remove_renamed(files: &dyn Files, path: &Path) -> io::Result<()> {
    let entries = files.list(path)?;
    let mut renamed = entries.iter().filter(|entry| entry.is_dir && entry.name.ends_with(OBSOLETE));
    renamed.try_for_each(|entry| files.remove_dir_all(&path.join(&entry.name)))
}
