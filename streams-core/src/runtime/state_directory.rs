//! The folder of an application's local state: `<state.dir>/<application.id>/`.
//!
//! Holds `.lock` (one process at a time), `kafka-streams-process-metadata` (the process id), `group-members` (the member ids
//! under which this directory's owner, and those before it until they are known to be gone, are in their group), `topology.json` (what was last
//! started here) and a folder for each task. Whoever has the lock knows that the
//! previous owner is dead, so it may make that owner's members leave the group at once instead of waiting out their session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Now, Rng};
use parking_lot::Mutex;
use storage::files::{FileLock, Files};
use storage::state::{key_value_directory, segmented_directory};

use super::task_folders::TaskFolders;
use crate::error::{ErrorKind, StreamsError};
use crate::task::TaskId;

const PROCESS_FILE: &str = "kafka-streams-process-metadata";
const MEMBERS_FILE: &str = "group-members";
/// Folder of the global stores.
const GLOBAL_FOLDER: &str = "global";

/// The locked state directory of one running application.
pub struct StateDirectory {
    files: Arc<dyn Files>,
    path: PathBuf,
    process_id: [u8; 16],
    /// Member ids of dead owners, kept in the file until the group is known to do without them.
    former: Mutex<Vec<String>>,
    /// Member ids by stream thread, written through on every change.
    members: Mutex<Vec<(usize, String)>>,
    folders: TaskFolders,
    _lock: Box<dyn FileLock>,
}

impl StateDirectory {
    /// Locks `<state_dir>/<application_id>`, made if it is not there, and reads or draws the process id.
    ///
    /// # Errors
    /// `IllegalState` when another process runs this application on this directory; `Store` when it cannot be used.
    pub fn open(
        files: Arc<dyn Files>,
        state_dir: &Path,
        application_id: &str,
        rng: &mut Rng,
    ) -> Result<Self, StreamsError> {
        let path = state_dir.join(application_id);
        let failed = |what: &str, error: std::io::Error| {
            let advice = "set state.dir to a folder that this user can write";
            StreamsError::new(ErrorKind::Store, format!("{what} {}: {error}; {advice}", path.display()))
        };
        // Durably, like what lies in it: the members of a dead process must be found after a power cut too.
        files.create_dir_all_durably(&path).map_err(|error| failed("cannot make the state directory", error))?;
        let lock =
            files.try_lock(&path.join(".lock")).map_err(|error| failed("cannot lock", error))?.ok_or_else(|| {
                let message = format!(
                    "{} is in use by another process: stop it, or give this one a state.dir of its own",
                    path.display()
                );
                StreamsError::new(ErrorKind::IllegalState, message)
            })?;
        let process_id = match read_process_id(&*files, &path.join(PROCESS_FILE)) {
            Some(known) => known,
            None => {
                let fresh = rng.uuid_bytes();
                let text = format!("{{\"processId\":\"{}\"}}", uuid::Uuid::from_bytes(fresh));
                files
                    .replace(&path.join(PROCESS_FILE), text.as_bytes())
                    .map_err(|error| failed("cannot write the process id in", error))?;
                fresh
            }
        };
        let text = files.read(&path.join(MEMBERS_FILE)).unwrap_or_default();
        let former =
            String::from_utf8_lossy(&text).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Self {
            files,
            path,
            process_id,
            former: Mutex::new(former),
            members: Mutex::default(),
            folders: TaskFolders::default(),
            _lock: lock,
        })
    }

    /// The identity of this process towards its group; the same for every start on this directory.
    pub fn process_id(&self) -> [u8; 16] {
        self.process_id
    }

    /// The application's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a task's stores; made when a store opens.
    pub fn task_path(&self, task: TaskId) -> PathBuf {
        self.path.join(task.to_string())
    }

    /// Tasks that have a folder here, in order.
    ///
    /// # Errors
    /// `Store` when the folder cannot be read.
    pub fn tasks_with_state(&self) -> Result<Vec<TaskId>, StreamsError> {
        let entries = self.files.list(&self.path).map_err(|error| {
            StreamsError::new(ErrorKind::Store, format!("cannot read {}: {error}", self.path.display()))
        })?;
        let mut tasks: Vec<TaskId> =
            entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.name.parse().ok()).collect();
        tasks.sort();
        Ok(tasks)
    }

    /// The use of the tasks' folders.
    pub fn folders(&self) -> &TaskFolders {
        &self.folders
    }

    /// Removes the folders of tasks that nobody in this process has used for `delay_ms`, as far as earlier calls know; the tasks
    /// that still have one.
    ///
    /// # Errors
    /// `Store` when the folder cannot be read; one that cannot be removed is only logged.
    pub fn remove_unused(&self, delay_ms: i64, now: Now) -> Result<Vec<TaskId>, StreamsError> {
        let present = self.tasks_with_state()?;
        Ok(self.folders.remove_unused(&*self.files, &self.path, present, delay_ms, now))
    }

    /// Removes the folders of tasks in which nothing was written since `age_ms` before `now`; at the start, when none is in use.
    ///
    /// # Errors
    /// `Store`, naming a folder that cannot be read or removed.
    pub(super) fn remove_older(&self, age_ms: i64, now: Now) -> Result<(), StreamsError> {
        for task in self.tasks_with_state()? {
            let folder = self.task_path(task);
            let failed = |error: std::io::Error| {
                StreamsError::new(ErrorKind::Store, format!("cannot remove old state in {}: {error}", folder.display()))
            };
            if now.wall_ms.saturating_sub(last_written(&*self.files, &folder).map_err(failed)?) <= age_ms {
                continue;
            }
            self.files.remove_dir_all(&folder).map_err(failed)?;
            tracing::info!(%task, "state that was not written for {age_ms} ms was removed");
        }
        Ok(())
    }

    /// Removes the folders of all tasks and of the global stores.
    ///
    /// # Errors
    /// `Store`, naming a folder that cannot be removed.
    pub(super) fn clear(&self) -> Result<(), StreamsError> {
        let tasks = self.tasks_with_state()?.into_iter().map(|task| self.task_path(task));
        let folders = tasks.chain([self.path.join(GLOBAL_FOLDER)]);
        for folder in folders.filter(|folder| self.files.exists(folder).unwrap_or(true)) {
            self.files.remove_dir_all(&folder).map_err(|error| {
                StreamsError::new(ErrorKind::Store, format!("cannot remove {}: {error}", folder.display()))
            })?;
        }
        Ok(())
    }

    /// Member ids that dead owners of this directory left behind.
    pub fn former_members(&self) -> Vec<String> {
        self.former.lock().clone()
    }

    /// The group has a new generation, which is as durable as its broker makes things, and dead members have no part in it. Until
    /// then their leaving may be taken back by a crash of the broker, and the next owner must make them leave again.
    ///
    /// # Errors
    /// `Store` when the note cannot be written.
    pub fn forget_former_members(&self) -> Result<(), StreamsError> {
        if std::mem::take(&mut *self.former.lock()).is_empty() {
            return Ok(());
        }
        self.write_members(&self.members.lock())
    }

    /// Notes that stream thread `thread` is in the group as `member`, or that it left (`None`).
    ///
    /// # Errors
    /// `Store` when the note cannot be written.
    pub fn note_member(&self, thread: usize, member: Option<&str>) -> Result<(), StreamsError> {
        let mut members = self.members.lock();
        let known = members.iter().find(|(index, _)| *index == thread).map(|(_, id)| id.as_str());
        if known == member {
            return Ok(());
        }
        members.retain(|(index, _)| *index != thread);
        members.extend(member.map(|id| (thread, id.to_owned())));
        self.write_members(&members)
    }

    /// The content of the file `name` of the application's folder, `None` if it is not there or cannot be read.
    pub(super) fn read_note(&self, name: &str) -> Option<Vec<u8>> {
        self.files.read(&self.path.join(name)).ok()
    }

    /// Replaces the file `name` of the application's folder.
    pub(super) fn write_note(&self, name: &str, content: &[u8]) -> Result<(), StreamsError> {
        self.files.replace(&self.path.join(name), content).map_err(|error| {
            let message = format!("cannot write {name} in {}: {error}", self.path.display());
            StreamsError::new(ErrorKind::Store, message)
        })
    }

    /// A folder of the store `store` here, of any task.
    pub(super) fn folder_of_store(&self, store: &str) -> Option<PathBuf> {
        let tasks = self.tasks_with_state().unwrap_or_default();
        let folders = tasks.into_iter().flat_map(|task| {
            let task = self.task_path(task);
            [key_value_directory(&task, store), segmented_directory(&task, store)]
        });
        folders.into_iter().find(|folder| self.files.exists(folder).unwrap_or(false))
    }

    fn write_members(&self, members: &[(usize, String)]) -> Result<(), StreamsError> {
        let former = self.former.lock();
        let ids = former.iter().chain(members.iter().map(|(_, id)| id));
        let text: String = ids.flat_map(|id| [id.as_str(), "\n"]).collect();
        self.files.replace(&self.path.join(MEMBERS_FILE), text.as_bytes()).map_err(|error| {
            StreamsError::new(
                ErrorKind::Store,
                format!("cannot write {MEMBERS_FILE} in {}: {error}", self.path.display()),
            )
        })
    }
}

/// When anything in `folder` was last written, on the wall clock.
fn last_written(files: &dyn Files, folder: &Path) -> std::io::Result<i64> {
    let mut latest = files.metadata(folder)?.modified_ms;
    for entry in files.list(folder)? {
        let path = folder.join(&entry.name);
        let written = if entry.is_dir { last_written(files, &path)? } else { files.metadata(&path)?.modified_ms };
        latest = latest.max(written);
    }
    Ok(latest)
}

fn read_process_id(files: &dyn Files, path: &Path) -> Option<[u8; 16]> {
    let text = files.read(path).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(value.get("processId")?.as_str()?.parse::<uuid::Uuid>().ok()?.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::files::RealFiles;

    fn open(path: &Path, seed: u64) -> Result<StateDirectory, StreamsError> {
        StateDirectory::open(Arc::new(RealFiles), path, "app", &mut Rng::from_seed(seed))
    }

    #[test]
    fn a_directory_has_one_owner_and_keeps_its_process_id_and_members() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 1).unwrap();
        let id = first.process_id();
        first.note_member(0, Some("m-0")).unwrap();
        first.note_member(1, Some("m-1")).unwrap();
        first.note_member(0, None).unwrap();
        let refused = open(folder.path(), 2).err().expect("the directory is in use").to_string();
        assert!(refused.contains("in use by another process"), "{refused}");
        drop(first);
        let second = open(folder.path(), 3).unwrap();
        assert_eq!(second.process_id(), id);
        assert_eq!(second.former_members(), ["m-1"]);
    }

    #[test]
    fn dead_members_are_kept_until_the_group_does_without_them() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), 1).unwrap().note_member(0, Some("first")).unwrap();
        // Dies before its group has a generation, and so does the broker, which takes back that the first has left.
        open(folder.path(), 1).unwrap().note_member(0, Some("second")).unwrap();
        let third = open(folder.path(), 1).unwrap();
        assert_eq!(third.former_members(), ["first", "second"]);
        third.note_member(0, Some("third")).unwrap();
        third.forget_former_members().unwrap();
        drop(third);
        assert_eq!(open(folder.path(), 1).unwrap().former_members(), ["third"]);
    }

    #[test]
    fn tasks_with_state_are_those_with_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path(), 1).unwrap();
        for name in ["1_0", "0_10", "0_2", "global"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let tasks: Vec<String> = directory.tasks_with_state().unwrap().iter().map(TaskId::to_string).collect();
        assert_eq!(tasks, ["0_2", "0_10", "1_0"]);
    }

    #[test]
    fn state_that_was_not_written_for_long_is_removed_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(directory.path(), 1).unwrap();
        for task in ["0_0", "0_1"] {
            std::fs::create_dir_all(state.path().join(task).join("rocksdb")).unwrap();
            std::fs::write(state.path().join(task).join("rocksdb/data"), "x").unwrap();
        }
        let written = last_written(&RealFiles, &state.path().join("0_0")).unwrap();
        let at = |wall_ms| Now { wall_ms, ticks_ms: 0 };
        state.remove_older(1_000, at(written + 1_000)).unwrap();
        assert_eq!(state.tasks_with_state().unwrap().len(), 2);
        // One of them is written later, below folders that are not.
        RealFiles.set_modified(&state.path().join("0_1/rocksdb/data"), written + 60_000).unwrap();
        state.remove_older(1_000, at(written + 60_500)).unwrap();
        assert_eq!(state.tasks_with_state().unwrap(), [TaskId::new(0, 1)]);
    }

    #[test]
    fn folders_that_nobody_used_for_the_delay_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path(), 1).unwrap();
        for name in ["0_0", "0_1", "7_7.obsolete", "global"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let at = |ticks_ms| Now { wall_ms: 0, ticks_ms };
        let names = || {
            let entries = directory.files.list(directory.path()).unwrap();
            entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect::<Vec<_>>()
        };
        let left =
            |at_ms| directory.remove_unused(100, at(at_ms)).unwrap().iter().map(TaskId::to_string).collect::<Vec<_>>();
        let used = directory.folders().keep("0_0".parse().unwrap());
        let again = directory.folders().keep("0_0".parse().unwrap());
        assert_eq!(left(0), ["0_0", "0_1"], "unused from here on, as far as is known");
        assert_eq!(names(), ["0_0", "0_1", "global"], "without the leavings of one that died while removing");
        assert_eq!(left(99), ["0_0", "0_1"]);
        assert_eq!(left(100), ["0_0"]);
        assert_eq!(names(), ["0_0", "global"]);
        drop(used);
        assert_eq!((left(200), left(300)), (vec!["0_0".to_owned()], vec!["0_0".to_owned()]), "still used once");
        drop(again);
        assert_eq!(left(400), ["0_0"]);
        let _ = directory.folders().keep("0_0".parse().unwrap());
        assert_eq!(left(500), ["0_0"], "used meanwhile");
        assert!(left(600).is_empty());
        assert_eq!(names(), ["global"]);
    }
}
