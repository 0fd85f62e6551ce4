//! Files and folders that were given up and are removed a while later, so that whoever still reads them may finish.

use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;

use crate::files::Files;

struct Deferred {
    due_ticks_ms: i64,
    path: PathBuf,
    is_dir: bool,
}

/// What waits for its removal.
#[derive(Default)]
pub(super) struct DeferredDeletes {
    waiting: Mutex<Vec<Deferred>>,
}

impl DeferredDeletes {
    pub(super) fn add(&self, due_ticks_ms: i64, path: PathBuf, is_dir: bool) {
        self.waiting.lock().push(Deferred { due_ticks_ms, path, is_dir });
    }

    /// Removes what is due. What cannot be removed is found again at the next opening.
    pub(super) fn step(&self, files: &dyn Files, now_ticks_ms: i64) -> bool {
        let due: Vec<Deferred> = {
            let mut waiting = self.waiting.lock();
            waiting.extract_if(.., |deferred| deferred.due_ticks_ms <= now_ticks_ms).collect()
        };
        for deferred in &due {
            let removed =
                if deferred.is_dir { files.remove_dir_all(&deferred.path) } else { files.remove_file(&deferred.path) };
            // Gone already: its folder was removed, or a cleaned segment took its name.
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %deferred.path.display(), %error, "cannot remove a deleted file");
            }
        }
        !due.is_empty()
    }

    pub(super) fn next_ticks_ms(&self) -> Option<i64> {
        self.waiting.lock().iter().map(|deferred| deferred.due_ticks_ms).min()
    }
}
