//! Group commit: one flusher for each data directory.
//!
//! Appends put their partition into a queue; a step takes the whole queue, syncs all its files together and then moves
//! every partition's high watermark. Whoever appends meanwhile is in the next step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::hash::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::partition::{PartitionLog, SyncJob};
use crate::error::StorageError;
use crate::files::{FileHandle, Files};

/// From how many partitions on they are synced with everything else in the directory: the files of all of them would be open at the
/// same time, and their folders are synced one by one.
pub(super) const SYNC_DIRECTORY_FROM: usize = 64;

/// Makes the names in a folder durable.
pub(super) fn sync_folder(files: &dyn Files, folder: &Path) -> Result<(), StorageError> {
    files.sync_dir(folder).map_err(|error| StorageError::io("sync", folder, &error))
}

/// What one step of the flusher did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushStep {
    /// How many partitions were synced.
    pub partitions: usize,
    /// How many partitions failed; they refuse appends now.
    pub failed: usize,
}

/// Collects the partitions with unsynced appends, syncs them together, then moves their high watermarks and calls
/// their listeners. Under `Process` only rolled segments pass through here, and nobody waits for it.
pub struct Flusher {
    files: Arc<dyn Files>,
    /// The data directory.
    folder: PathBuf,
    queue: Mutex<Vec<Arc<PartitionLog>>>,
    wake: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// Held during a step: a second one would vouch for data that the first is still syncing.
    stepping: Mutex<()>,
}

impl Flusher {
    pub(super) fn new(files: Arc<dyn Files>, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { files, folder, queue: Mutex::default(), wake: Mutex::new(None), stepping: Mutex::new(()) })
    }

    /// Adds a partition that is not in the queue.
    pub(super) fn queue(&self, partition: Arc<PartitionLog>) {
        let first = {
            let mut queue = self.queue.lock();
            queue.push(partition);
            queue.len() == 1
        };
        if first {
            let wake = self.wake.lock().clone();
            if let Some(wake) = wake {
                wake();
            }
        }
    }

    /// Keeps steps out while it is held.
    pub(super) fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.stepping.lock()
    }

    /// Syncs everything that is dirty now. Blocks for as long as the disk takes; appends go on meanwhile. Listeners are
    /// called on this thread and must not call it again.
    pub fn step(&self) -> FlushStep {
        let _alone = self.exclusive();
        let partitions = std::mem::take(&mut *self.queue.lock());
        if partitions.is_empty() {
            return FlushStep::default();
        }
        let jobs: Vec<(Arc<PartitionLog>, SyncJob)> = partitions
            .into_iter()
            .map(|partition| {
                // Before the job is made: an append from here on queues the partition again.
                partition.queued.store(false, Ordering::SeqCst);
                let job = partition.begin_sync();
                (partition, job)
            })
            .collect();
        let outcomes = if jobs.len() < SYNC_DIRECTORY_FROM {
            self.sync_each(&jobs)
        } else {
            // Their folders, each synced by itself, would take longer than all there is.
            let synced = self.files.sync_below(&self.folder);
            vec![synced.map_err(|error| StorageError::io("sync", &self.folder, &error)); jobs.len()]
        };
        let mut step = FlushStep { partitions: jobs.len(), failed: 0 };
        for ((partition, job), outcome) in jobs.iter().zip(outcomes) {
            step.failed += usize::from(partition.complete_sync(job, outcome));
        }
        step
    }

    /// Syncs the files and folders of these jobs; the outcome of each job.
    fn sync_each(&self, jobs: &[(Arc<PartitionLog>, SyncJob)]) -> Vec<Result<(), StorageError>> {
        let files: Vec<Arc<dyn FileHandle>> = jobs.iter().flat_map(|(_, job)| job.files.iter().cloned()).collect();
        let mut results = if files.is_empty() { Vec::new() } else { self.files.sync_all(&files) }.into_iter();
        // The data directory is named by every new partition and synced once.
        let mut synced_folders: HashMap<&Path, Result<(), StorageError>> = HashMap::default();
        let mut outcomes = Vec::with_capacity(jobs.len());
        for (partition, job) in jobs {
            let of_files: Vec<io::Result<()>> = results.by_ref().take(job.files.len()).collect();
            let of_files: io::Result<()> = of_files.into_iter().collect();
            let mut outcome = of_files.map_err(|error| StorageError::io("sync", partition.folder(), &error));
            for folder in &job.folders {
                let result = synced_folders.entry(folder).or_insert_with(|| sync_folder(self.files.as_ref(), folder));
                outcome = outcome.and(result.clone());
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Whether a step has something to do.
    pub fn has_work(&self) -> bool {
        !self.queue.lock().is_empty()
    }

    /// Sets what is called, from the appending thread, when there is work again after there was none: the driver's
    /// unpark.
    pub fn on_work(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        *self.wake.lock() = Some(wake);
    }
}
