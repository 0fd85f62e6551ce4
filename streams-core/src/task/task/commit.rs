//! A task's commit: whether one is needed, what it covers, and writing the stores after it.

use super::{CommitOffset, Mark, Task};
use crate::error::{ErrorKind, StreamsError};
use crate::task::TaskState;
use crate::task::metadata::CommitMetadata;

impl Task {
    /// Whether a processor asked for a commit since the last one.
    pub fn commit_requested(&self) -> bool {
        self.shared.commit_requested()
    }

    /// Whether there is anything to commit.
    pub fn commit_needed(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Suspended)
            && (self.has_progress || (0..self.group.len()).any(|index| self.group.queue(index).needs_commit()))
    }

    /// Whether there is something to commit for the first time in this task's life.
    pub fn first_commit_needed(&self) -> bool {
        !self.has_committed && self.commit_needed()
    }

    /// Bytes of store changes that wait in memory for the commit.
    pub fn pending_bytes(&self) -> usize {
        self.stores.iter().map(|store| store.pending_bytes()).sum()
    }

    /// First half of a commit: flushes the caches, which may send more records, and returns the offsets to commit.
    ///
    /// # Errors
    /// As [`Task::process`].
    pub fn prepare_commit(&mut self) -> Result<Vec<CommitOffset>, StreamsError> {
        self.flush_caches()?;
        let processors = self.shared.all_processor_metadata();
        let mut offsets = Vec::new();
        for index in 0..self.group.len() {
            let queue = self.group.queue(index);
            let Some((offset, leader_epoch)) = queue.committable() else { continue };
            let metadata = CommitMetadata { partition_time: queue.partition_time(), processors: processors.clone() };
            offsets.push(CommitOffset {
                partition: queue.partition().clone(),
                offset,
                leader_epoch,
                metadata: metadata.encode(),
            });
        }
        Ok(offsets)
    }

    /// Flushes the stores' caches: writes them to the layers below and forwards what they hold back.
    ///
    /// # Errors
    /// As [`Task::process`].
    pub fn flush_caches(&mut self) -> Result<(), StreamsError> {
        for store in &self.stores {
            store.flush_cache().map_err(|error| failed_flush(error, store.name()).in_task(self.shared.id()))?;
        }
        Ok(())
    }

    /// Second half of a commit, when the changelog records are acknowledged and the offsets committed: writes the stores
    /// with the changelog positions they have reached.
    ///
    /// # Errors
    /// A store failed; its content is as of its last successful commit, and the task must be closed.
    pub fn post_commit(&mut self) -> Result<(), StreamsError> {
        self.post_commit_deferred()?;
        self.write_stores()
    }

    /// As [`Task::post_commit`], but stores that their changelog can restore are only written by the next
    /// [`Task::write_stores`]: until then their changes stay in memory, where further ones of the same keys join them.
    ///
    /// # Errors
    /// As [`Task::post_commit`].
    pub fn post_commit_deferred(&mut self) -> Result<(), StreamsError> {
        self.marks.resize(self.stores.len(), Mark::default());
        for (store, mark) in self.stores.iter().zip(&mut self.marks) {
            let offset = store.changelog().and_then(|changelog| {
                self.seams.collector.borrow().acked_offset(changelog.topic, changelog.partition.partition)
            });
            mark.committed = offset;
            // In memory nothing is saved by waiting, and its entries can be counted.
            if offset.is_none() || !store.is_persistent() {
                store.commit(offset).map_err(|error| error.in_store(store.name()).in_task(self.shared.id()))?;
                mark.written = offset;
            }
        }
        self.has_progress = false;
        self.has_committed = true;
        self.shared.clear_commit_request();
        for index in 0..self.group.len() {
            self.group.queue_mut(index).committed();
        }
        Ok(())
    }

    /// Changelog records that a crash now would have restored, besides those not committed.
    pub fn deferred_records(&self) -> u64 {
        let behind = |mark: &Mark| match (mark.committed, mark.written) {
            (Some(committed), Some(written)) => (committed - written).max(0) as u64,
            // Never written: how much that is in records is not known, so it counts as much.
            (Some(_), None) => u64::MAX,
            (None, _) => 0,
        };
        self.marks.iter().map(behind).fold(0, u64::saturating_add)
    }

    /// Writes what [`Task::post_commit_deferred`] left; nothing while there are changes that are not committed.
    ///
    /// # Errors
    /// As [`Task::post_commit`].
    pub fn write_stores(&mut self) -> Result<(), StreamsError> {
        if self.has_progress {
            return Ok(());
        }
        for (store, mark) in self.stores.iter().zip(&mut self.marks) {
            if mark.committed.is_some() && mark.committed != mark.written {
                store.commit(mark.committed).map_err(|error| error.in_store(store.name()).in_task(self.shared.id()))?;
                mark.written = mark.committed;
            }
        }
        Ok(())
    }
}

/// What downstream fails with while a cache is flushed is a failure of the store, as in Kafka Streams; whether the task can go on is not.
fn failed_flush(error: StreamsError, store: &str) -> StreamsError {
    match error.kind() {
        ErrorKind::Store | ErrorKind::TaskCorrupted | ErrorKind::TaskMigrated | ErrorKind::Unavailable => {
            error.in_store(store)
        }
        _ => StreamsError::caused_by(ErrorKind::Store, error).in_store(store),
    }
}
