//! The keeper of one global sub-topology: applies all partitions of its topics to global stores, which the tasks of all
//! threads read.

use std::rc::Rc;
use std::sync::Arc;

use base::{Now, Offset, TopicPartition};
use bytes::Bytes;

use crate::error::StreamsError;
use crate::store::StateStore;
use crate::task::{Task, TaskId, TaskSeams};
use crate::topology::BuiltTopology;

/// A global sub-topology at work, on the global thread.
///
/// Records go through its processors from the first offset that the stores do not contain; there is no group and no
/// committed offset. Deserialisation errors go to the handler, errors of processors are fatal.
pub struct GlobalTask {
    task: Task,
}

impl GlobalTask {
    /// The keeper of sub-topology `subtopology`, over all partitions of its topics. Opens its stores, publishes them to
    /// the seams' [`GlobalStores`](crate::store::GlobalStores) and initialises the processors.
    ///
    /// # Errors
    /// A store could not be opened, or a processor's `init` failed.
    pub fn open(
        built: &Arc<BuiltTopology>,
        subtopology: u32,
        partitions: Vec<TopicPartition>,
        seams: TaskSeams,
        now: Now,
    ) -> Result<Self, StreamsError> {
        let mut task = Task::new(built, TaskId::new(subtopology, 0), partitions, seams)?;
        task.initialize()?;
        task.complete_restoration(now)?;
        Ok(Self { task })
    }

    /// Its partitions.
    pub fn partitions(&self) -> &[TopicPartition] {
        self.task.input_partitions()
    }

    /// First offset of `partition` that the stores do not contain; `None` to read from the beginning.
    ///
    /// # Errors
    /// A store could not be read.
    pub fn start_offset(&self, partition: &TopicPartition) -> Result<Option<Offset>, StreamsError> {
        let mut start = None;
        for store in self.task.stores() {
            start = start.max(store.global_offset(partition)?);
        }
        Ok(start)
    }

    /// Applies fetched batches of one of its partitions; returns the number of records.
    ///
    /// # Errors
    /// As [`Task::process`].
    pub fn update(
        &mut self,
        partition: &TopicPartition,
        fetched: &Bytes,
        from: Offset,
        now: Now,
    ) -> Result<usize, StreamsError> {
        let count = self.task.add_records(partition, fetched, from, now)?;
        for input in self.task.input_partitions().to_vec() {
            self.task.set_lag(&input, 0)?;
        }
        while self.task.buffered_total() > 0 {
            if self.task.process(usize::MAX, now)? == 0 {
                break;
            }
        }
        Ok(count)
    }

    /// Writes what was applied, with the offsets reached, so that a restart goes on from there.
    ///
    /// # Errors
    /// A store failed.
    pub fn commit(&mut self) -> Result<(), StreamsError> {
        let offsets: Vec<(TopicPartition, Offset)> =
            self.task.prepare_commit()?.into_iter().map(|commit| (commit.partition, commit.offset)).collect();
        for store in self.task.stores() {
            store.commit_global(&offsets)?;
        }
        Ok(())
    }

    /// Its stores.
    pub fn stores(&self) -> &[Rc<dyn StateStore>] {
        self.task.stores()
    }

    /// Commits and closes.
    ///
    /// # Errors
    /// A store failed; everything is released all the same.
    pub fn close(mut self) -> Result<(), StreamsError> {
        let committed = self.commit();
        self.task.suspend()?;
        self.task.close_clean()?;
        committed
    }
}
