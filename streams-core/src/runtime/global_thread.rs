//! The keeper of the global stores of a process: applies all partitions of their topics, one thread for all.
//!
//! It reads to the end that the topics had at the start before stream threads begin, so that no record misses what was there, and goes on
//! reading beside them. There is no group; how far a store is stands in the store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use base::{Now, Offset, PartitionId, TopicPartition};
use client::Step;
use client::admin::OffsetSpec;
use client::consumer::ConsumerCore;

use super::application::Application;
use super::client_settings;
use crate::collector::{Collector, OutputRecord, TopicHandle};
use crate::error::{ErrorKind, StreamsError};
use crate::store::ThreadCache;
use crate::task::{GlobalTask, TaskSeams};

/// First offset and end of a partition when the application started.
pub(super) type Bounds = Vec<(TopicPartition, Offset, Offset)>;

fn unavailable(error: client::ClientError) -> StreamsError {
    StreamsError::caused_by(ErrorKind::Unavailable, error)
}

/// A processor of a global store has no one to send to.
struct NoOutput;

impl Collector for NoOutput {
    fn topic(&mut self, _: &str) -> TopicHandle {
        TopicHandle(0)
    }

    fn partition_count(&mut self, _: TopicHandle) -> Option<PartitionId> {
        None
    }

    fn send(&mut self, _: OutputRecord<'_>) -> Result<(), StreamsError> {
        Err(StreamsError::new(ErrorKind::IllegalState, "the processor of a global store cannot write topics"))
    }

    fn acked_offset(&self, _: TopicHandle, _: PartitionId) -> Option<Offset> {
        None
    }
}

/// All partitions of the topics of global stores with their bounds; nothing if there is no global store.
pub(super) async fn bounds(application: &Application) -> Result<Bounds, StreamsError> {
    let subs = application.built.subtopologies().iter().filter(|sub| sub.is_global);
    let topics: Vec<&str> = subs.flat_map(|sub| &sub.source_topics).map(String::as_str).collect();
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let admin = &application.admin;
    let mut partitions = Vec::new();
    for (name, topic) in admin.describe_topics(&topics).await.map_err(unavailable)? {
        let count = topic.map_err(unavailable)?.partitions.len() as PartitionId;
        partitions.extend((0..count).map(|partition| TopicPartition::new(Arc::clone(&name), partition)));
    }
    let of = |spec: OffsetSpec| partitions.iter().map(|partition| (partition.clone(), spec)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&of(OffsetSpec::Earliest)).await.map_err(unavailable)?;
    let ends = admin.list_offsets(&of(OffsetSpec::Latest)).await.map_err(unavailable)?;
    let mut bounds: BTreeMap<TopicPartition, (Offset, Offset)> = BTreeMap::new();
    for (partition, start) in starts {
        bounds.entry(partition).or_default().0 = start.map_err(unavailable)?.offset;
    }
    for (partition, end) in ends {
        bounds.entry(partition).or_default().1 = end.map_err(unavailable)?.offset;
    }
    Ok(bounds.into_iter().map(|(partition, (start, end))| (partition, start, end)).collect())
}

/// Keeps the global stores; see the module's documentation.
pub(super) struct GlobalThread {
    consumer: ConsumerCore,
    tasks: Vec<GlobalTask>,
    /// Partitions that have not reached the end that they had at the start.
    behind: BTreeMap<TopicPartition, Offset>,
    commit_interval_ms: i64,
    /// When what was applied since the last commit is to be committed.
    commit_at: Option<i64>,
}

impl GlobalThread {
    pub(super) fn new(application: &Application, bounds: &Bounds) -> Result<Self, StreamsError> {
        let config = application.built.config();
        let name = format!("{}-GlobalStreamThread", application.client.config().client_id);
        let settings = client_settings::global_consumer(config, &name)?;
        let mut consumer = ConsumerCore::new(application.client.clone(), settings)
            .map_err(|error| StreamsError::caused_by(ErrorKind::Config, error))?;
        let seams = TaskSeams {
            collector: Rc::new(RefCell::new(NoOutput)),
            cache: ThreadCache::new(0),
            backend: application.backend.clone(),
            state_directory: application.directory.path().to_owned(),
            metrics: application.metrics.clone(),
            globals: application.globals.clone(),
        };
        consumer.assign(bounds.iter().map(|(partition, ..)| partition.clone())).map_err(unavailable)?;
        let (mut tasks, mut behind) = (Vec::new(), BTreeMap::new());
        let now = application.client.now();
        for sub in application.built.subtopologies().iter().filter(|sub| sub.is_global) {
            let own =
                bounds.iter().filter(|(partition, ..)| sub.source_topics.iter().any(|own| **own == *partition.topic));
            let own: Bounds = own.cloned().collect();
            let partitions = own.iter().map(|(partition, ..)| partition.clone()).collect();
            let task = GlobalTask::open(&application.built, sub.id, partitions, seams.clone(), now)?;
            for (partition, start, end) in resume(&task, &own)? {
                consumer.seek(&partition, start).map_err(unavailable)?;
                if start < end {
                    behind.insert(partition, end);
                }
            }
            tasks.push(task);
        }
        Ok(Self { consumer, tasks, behind, commit_interval_ms: config.commit_interval_ms(), commit_at: None })
    }

    /// Whether everything that was in the topics at the start has been applied.
    pub(super) fn has_caught_up(&self) -> bool {
        self.behind.is_empty()
    }

    /// Makes all the progress that is possible without waiting.
    ///
    /// # Errors
    /// A record could not be read or applied, a store failed, or a topic no longer has what was to be read next.
    pub(super) fn step(&mut self, now: Now, waker: &Waker) -> Result<Step, StreamsError> {
        let mut step = self.consumer.step(now, waker);
        if let Some(error) = self.consumer.take_error() {
            return Err(unavailable(error));
        }
        // There is no group, and positions are set by hand.
        let _ = self.consumer.take_events();
        while let Some(fetched) = self.consumer.take_fetched() {
            step.did_work = true;
            let Some(task) = self.tasks.iter_mut().find(|task| task.partitions().contains(&fetched.partition)) else {
                continue;
            };
            task.update(&fetched.partition, &fetched.batches, fetched.fetch_offset, now)?;
            self.commit_at.get_or_insert(now.ticks_ms + self.commit_interval_ms);
        }
        let consumer = &self.consumer;
        // The log may end in control records, which are never handed over: the position tells.
        self.behind.retain(|partition, end| consumer.position(partition).is_none_or(|position| position < *end));
        if let Some(at) = self.commit_at {
            if at <= now.ticks_ms {
                self.commit_at = None;
                self.tasks.iter_mut().try_for_each(GlobalTask::commit)?;
            } else {
                step.next_wake_ticks_ms = Some(step.next_wake_ticks_ms.map_or(at, |wake| wake.min(at)));
            }
        }
        Ok(step)
    }

    /// Commits and closes the stores.
    pub(super) fn close(self) -> Result<(), StreamsError> {
        self.tasks.into_iter().map(GlobalTask::close).fold(Ok(()), Result::and)
    }
}

/// Where to read on in each partition. Stores that are not of these topics as they are now (made anew, cut short) are wiped.
fn resume(task: &GlobalTask, bounds: &Bounds) -> Result<Bounds, StreamsError> {
    let mut positions = Vec::with_capacity(bounds.len());
    for (partition, start, end) in bounds {
        match task.start_offset(partition)? {
            Some(at) if at < *start || at > *end => {
                tracing::warn!(
                    "a global store is at offset {at} of {partition}, which holds {start} to {end}: it is wiped and read anew"
                );
                for store in task.stores() {
                    store.wipe()?;
                }
                return Ok(bounds.clone());
            }
            at => positions.push((partition.clone(), at.unwrap_or(*start), *end)),
        }
    }
    Ok(positions)
}
