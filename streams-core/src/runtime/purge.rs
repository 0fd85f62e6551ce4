//! Repartition topics are read once: what all their readers have committed is deleted, every `repartition.purge.interval.ms`, after a commit.

use std::collections::BTreeSet;
use std::task::Waker;

use base::{Now, Offset, TopicPartition};
use client::{Admin, Pending, Step};

use crate::topology::BuiltTopology;

/// Deletes what is behind the committed offsets of repartition topics.
pub(crate) struct Purge {
    admin: Admin,
    /// Repartition topics, by full name.
    topics: BTreeSet<String>,
    interval_ms: i64,
    last_ticks_ms: i64,
    call: Option<Pending<()>>,
}

impl Purge {
    pub(crate) fn new(admin: &Admin, built: &BuiltTopology) -> Self {
        let repartitions = built.subtopologies().iter().flat_map(|sub| &sub.repartition_sources);
        Self {
            admin: admin.clone(),
            topics: repartitions.map(|topic| topic.name.clone()).collect(),
            interval_ms: built.config().repartition_purge_interval_ms(),
            last_ticks_ms: admin.client().now().ticks_ms,
            call: None,
        }
    }

    /// A commit is done: deletes what it covers, if it is time.
    pub(crate) fn committed(&mut self, offsets: &[(TopicPartition, Offset)], now: Now) {
        if self.call.is_some() || now.ticks_ms - self.last_ticks_ms < self.interval_ms {
            return;
        }
        self.last_ticks_ms = now.ticks_ms;
        let targets: Vec<(TopicPartition, Offset)> =
            offsets.iter().filter(|(partition, _)| self.topics.contains(&*partition.topic)).cloned().collect();
        if targets.is_empty() {
            return;
        }
        let admin = self.admin.clone();
        let call = async move { admin.delete_records(&targets).await.map(|_| ()) };
        self.call = Some(Pending::new(self.admin.client().timers(), call));
    }

    /// Makes progress. A failure is not the application's: the records stay until the next time.
    pub(crate) fn step(&mut self, now: Now, waker: &Waker) -> Step {
        let Some(call) = &mut self.call else { return Step::IDLE };
        match call.poll(now, waker) {
            None => Step::IDLE,
            Some(result) => {
                self.call = None;
                if let Err(error) = result {
                    tracing::warn!(%error, "repartition topics could not be purged; it is tried again later");
                }
                Step { did_work: true, next_wake_ticks_ms: None }
            }
        }
    }
}
